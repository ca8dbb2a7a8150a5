"""A pipeline: one entry of pipelines.yaml."""

from typing import Annotated

from pydantic import Field, model_validator

from journeyman.config.base import Config
from journeyman.config.checks import Fitting, PlacedError
from journeyman.config.compute import ComputeConfig
from journeyman.config.curate import CurateConfig
from journeyman.config.evaluate import EvaluateConfig
from journeyman.config.model import ModelConfig, ScratchModel
from journeyman.config.problems import GeneratedProblems, ProblemsConfig
from journeyman.config.rl import RlConfig
from journeyman.config.sft import SftConfig
from journeyman.config.synthesize import SynthesizeConfig
from journeyman.errors import nearest


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
            second = next(place for place, name in enumerate(names) if name in names[:place])
            raise PlacedError(
                ("rl", second, "name"), f"`{names[second]}` is the name of a block before", "give another"
            )
        return self

    @model_validator(mode="after")
    def _blocks_hand_on(self) -> "PipelineConfig":
        for place, block in enumerate(self.rl):
            made = ["sft", *(f"rl-{earlier.name}" for earlier in self.rl[:place])]
            if block.reference and block.reference not in made:
                fault = f"no stage before is called `{block.reference}`"
                raise PlacedError(("rl", place, "reference"), fault, nearest(block.reference, made))
            if block.inherits and (fault := _heir_fault(self.rl[place - 1] if place else None, block)):
                raise PlacedError(("rl", place, "inherits"), *fault)
        return self

    @model_validator(mode="after")
    def _policy_can_teach(self) -> "PipelineConfig":
        teacher = self.synthesize.teacher
        if teacher.type == "policy" and not teacher.path and self.model.type == "scratch":
            remedy = "give its `path`, or model.path, or take another teacher"
            raise PlacedError(("synthesize", "teacher"), "a model from scratch can teach nothing yet", remedy)
        return self

    @model_validator(mode="after")
    def _policy_can_be_measured(self) -> "PipelineConfig":
        if self.curate.measure and not self.curate.measure.policy and self.model.type == "scratch":
            remedy = "give its `policy`, or model.path"
            raise PlacedError(("curate", "measure"), "a model from scratch solves nothing before it is trained", remedy)
        return self


def _heir_fault(before: RlConfig | None, block: RlConfig) -> tuple[str, str] | None:
    """Why a block cannot take over what it wants to, and the remedy; None where it can."""
    if before is None:
        return (
            "there is no rl block before it",
            "remove `inherits`: the first block begins with the policy of sft alone",
        )
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
    unfit = [name for name in block.inherits if not same.get(name, True)]
    return (f"{unfit[0]} needs {wanted[unfit[0]]}", f"let both have them, or leave `{unfit[0]}` out") if unfit else None
