"""A pipeline: one entry of pipelines.yaml."""

from typing import Annotated

from pydantic import Field, model_validator

from journeyman.config.base import Config
from journeyman.config.checks import Fitting
from journeyman.config.compute import ComputeConfig
from journeyman.config.curate import CurateConfig
from journeyman.config.evaluate import EvaluateConfig
from journeyman.config.model import ModelConfig, ScratchModel
from journeyman.config.problems import GeneratedProblems, ProblemsConfig
from journeyman.config.rl import RlConfig
from journeyman.config.sft import SftConfig
from journeyman.config.synthesize import SynthesizeConfig


class PipelineConfig(Config):
    """synthesize -> curate -> sft -> rl (several) -> evaluate."""

    name: str = Field(default="quickstart", description="The pipeline's name in pipelines.yaml")
    description: str = ""
    seed: int = Field(default=0, ge=0, description="Every random draw follows from it")
    model: ModelConfig = Field(default_factory=ScratchModel)
    problems: ProblemsConfig = Field(default_factory=GeneratedProblems)
    compute: ComputeConfig = ComputeConfig()
    synthesize: SynthesizeConfig = SynthesizeConfig()
    curate: CurateConfig = CurateConfig()
    sft: SftConfig = SftConfig()
    rl: list[Annotated[RlConfig, Fitting("journeyman.training.fit:misfits")]] = Field(
        default_factory=list, description="The rl stages, in order"
    )
    evaluate: EvaluateConfig = EvaluateConfig()

    @model_validator(mode="after")
    def _names_differ(self) -> "PipelineConfig":
        names = [stage.name for stage in self.rl]
        if len(set(names)) < len(names):
            raise ValueError(f"rl stages need different names, found {names}")
        return self

    @model_validator(mode="after")
    def _teacher_fits_problems(self) -> "PipelineConfig":
        fitting = "annotations" if self.problems.type == "dataset" else "scripted"
        if self.synthesize.teacher != fitting:
            raise ValueError(f"problems of type {self.problems.type} need synthesize.teacher: {fitting}")
        return self
