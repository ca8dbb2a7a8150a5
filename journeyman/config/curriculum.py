"""Which problems of an rl block come next: a part of `journeyman.curriculum`, chosen by `type`, with its own options."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from journeyman.config.base import Config


class BaseCurriculum(Config):
    """What curricula have in common."""

    @property
    def uses_demonstrations(self) -> bool:
        """Whether it reads what the cold start learned from (`journeyman.curriculum.base.Shown`)."""
        return False


class UniformCurriculum(BaseCurriculum):
    """Every problem as often as any other."""

    type: Literal["uniform"] = "uniform"


class WeakestCurriculum(BaseCurriculum):
    """Families with a low running pass rate come more often."""

    type: Literal["weakest"] = "weakest"


class RatedCurriculum(BaseCurriculum):
    """What curricula have in common that go by each problem's own pass rate. The defaults are ours."""

    window: int = Field(default=16, ge=1, description="Attempts at a problem, the last ones, that its pass rate is of")
    unseen: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Share for problems not attempted yet, while there are any; 1: they come first",
    )
    retry: float = Field(
        default=0.1, ge=0, le=1, description="Share for problems that are not wanted now, so that a change is noticed"
    )


class BandsCurriculum(RatedCurriculum):
    """Problems whose pass rate lies in a band."""

    type: Literal["bands"] = "bands"
    low: float = Field(default=0.1, ge=0, le=1)
    high: float = Field(default=0.8, ge=0, le=1)
    open: bool = Field(default=False, description="The ends are outside; with a band from 0 to 1 as DAPO has it")
    prior: float = Field(
        default=0.0, ge=0, description="Solved attempts that every problem is credited with: a few failures tell little"
    )

    @field_validator("high")
    @classmethod
    def _above_low(cls, high: float, info: ValidationInfo) -> float:
        if high <= info.data.get("low", high - 1):
            raise ValueError("should be above `low`")
        return high


class EdgeCurriculum(RatedCurriculum):
    """Problems that are seldom solved but not never."""

    type: Literal["edge"] = "edge"
    most: float = Field(default=0.25, gt=0, le=1, description="Largest pass rate that is seldom (ours)")


class BalanceCurriculum(RatedCurriculum):
    """Problems with many right attempts and a high share of them."""

    type: Literal["balance"] = "balance"
    target: int = Field(default=8, ge=1, description="Right attempts that are enough, n* (#86)")
    solved: bool = Field(
        default=False,
        description="Problems that never fail are wanted too: where right attempts are imitated. "
        "Credits that compare attempts learn nothing from those",
    )


class OrderedCurriculum(BaseCurriculum):
    """From easy to hard."""

    type: Literal["ordered"] = "ordered"
    by: str = Field(
        default="file",
        pattern=r"^(file|min_calls|data\..+)$",
        description="How hard a problem is: `file`, its place in the problem file; `min_calls`; `data.KEY`, a number there",
    )
    steps: int = Field(default=30, ge=1, description="Steps from the easiest to the hardest")
    width: float | None = Field(
        default=0.3,
        gt=0,
        le=1,
        description="Share of the problems that are in turn; empty: one level of `by` at a time, each as many steps",
    )
    earlier: float = Field(default=0.2, ge=0, le=1, description="Share of a step's problems that were in turn before")

    @field_validator("width")
    @classmethod
    def _levels_of_something(cls, width: float | None, info: ValidationInfo) -> float | None:
        if width is None and info.data.get("by") == "file":
            raise ValueError("is needed with by `file`: places in a file are no levels")
        return width


class CurriculumStage(Config):
    """Some sets, and how long they last."""

    sets: list[str] = Field(min_length=1, description="Values of `by`")
    steps: int | None = Field(default=None, ge=1, description="Most steps that it lasts; empty: no limit")
    above: float | None = Field(
        default=None, ge=0, lt=1, description="It ends when its pass rate is above; empty: however high that is"
    )


class SetsCurriculum(BaseCurriculum):
    """One set of problems after another."""

    type: Literal["sets"] = "sets"
    by: str = Field(
        default="family",
        pattern=r"^(family|data\..+)$",
        description="What sorts problems into sets: `family`, `data.KEY`",
    )
    stages: list[CurriculumStage] = Field(min_length=1, description="In order; the last one lasts until the block ends")
    window: int = Field(default=256, ge=1, description="Attempts of a stage, the last ones, that its pass rate is of")
    earlier: float = Field(default=0.0, ge=0, le=1, description="Share of a step's problems from stages before")

    @field_validator("stages")
    @classmethod
    def _every_one_ends(cls, stages: list[CurriculumStage]) -> list[CurriculumStage]:
        for number, stage in enumerate(stages[:-1]):
            if stage.steps is None and stage.above is None:
                raise ValueError(f"stage {number} never ends: give it `steps` or `above`")
        return stages


CurriculumConfig = Annotated[
    UniformCurriculum
    | WeakestCurriculum
    | BandsCurriculum
    | EdgeCurriculum
    | BalanceCurriculum
    | OrderedCurriculum
    | SetsCurriculum,
    Field(discriminator="type"),
]
