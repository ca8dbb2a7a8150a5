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
    synthesize: Annotated[SynthesizeConfig, Fitting("journeyman.synthesis.fit:misfits")] = SynthesizeConfig()
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
    def _blocks_hand_on(self) -> "PipelineConfig":
        for place, block in enumerate(self.rl):
            made = ["sft", *(f"rl-{earlier.name}" for earlier in self.rl[:place])]
            if block.reference and block.reference not in made:
                raise ValueError(
                    f"rl.{block.name}.reference: no stage before is called {block.reference}; there are {', '.join(made)}"
                )
            if block.inherits and (fault := _heir_fault(self.rl[place - 1] if place else None, block)):
                raise ValueError(f"rl.{block.name}.inherits: {fault}")
        return self

    @model_validator(mode="after")
    def _policy_can_teach(self) -> "PipelineConfig":
        teacher = self.synthesize.teacher
        if teacher.type == "policy" and not teacher.path and self.model.type == "scratch":
            raise ValueError(
                "a model from scratch can teach nothing yet: give synthesize.teacher.path, or model.path, or another teacher"
            )
        return self

    @model_validator(mode="after")
    def _policy_can_be_measured(self) -> "PipelineConfig":
        if self.curate.measure and not self.curate.measure.policy and self.model.type == "scratch":
            raise ValueError(
                "a model from scratch solves nothing before it is trained: give curate.measure.policy, or model.path"
            )
        return self


def _heir_fault(before: RlConfig | None, block: RlConfig) -> str:
    """Why a block cannot take over what it wants to; empty where it can."""
    if before is None:
        return "there is no rl block before it"
    same = {
        "optimizer": before.optimizer.type == block.optimizer.type and not (before.lora or block.lora),
        "curriculum": before.curriculum.type == block.curriculum.type,
        "replay": bool(before.replay.capacity and block.replay.capacity),
    }
    wanted = {
        "optimizer": "optimizers of the same type, without adapters",
        "curriculum": "curricula of the same type",
        "replay": "a replay capacity in both blocks",
    }
    return next((f"{name} needs {wanted[name]}" for name in block.inherits if not same.get(name, True)), "")
