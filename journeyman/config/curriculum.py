"""Which problems of an rl block come next: a part of `journeyman.curriculum`, chosen by `type`, with its own options."""

from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator

from journeyman.config.base import Config, above_low


class BaseCurriculum(Config):
    """What curricula have in common."""

    @property
    def uses_demonstrations(self) -> bool:
        """Whether it reads what the cold start learned from (`journeyman.curriculum.base.Shown`)."""
        return False

    def within(self, steps: int) -> Self:
        """As it is in a block of so many steps."""
        return self


class PacedCurriculum(BaseCurriculum):
    """What curricula have in common that move on with the steps."""

    steps: int | None = Field(
        default=None, ge=1, description="Steps from the first problems to the last ones; empty: those of the block"
    )

    def within(self, steps: int) -> Self:
        return self if self.steps else self.model_copy(update={"steps": steps})


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

    _ordered = field_validator("high")(above_low)


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
    temperatures: list[Annotated[float, Field(gt=0)]] = Field(
        default=[],
        description="Temperatures to try, a step each; the one with the best mean score is then kept for `hold` steps. "
        "Empty: the block's",
    )
    hold: int = Field(default=10, ge=1, description="Steps between two trials of the temperatures (ours)")


class OrderedCurriculum(PacedCurriculum):
    """From easy to hard."""

    type: Literal["ordered"] = "ordered"
    by: str = Field(
        default="file",
        pattern=r"^(file|min_calls|data\..+)$",
        description="How hard a problem is: `file`, its place in the problem file; `min_calls`; `data.KEY`, a number there",
    )
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


class ReverseCurriculum(PacedCurriculum):
    """Begins near the end of demonstrations."""

    type: Literal["reverse"] = "reverse"
    share: float = Field(
        default=0.3,
        gt=0,
        le=1,
        description="Of a demonstration's turns, the last ones, that are left to the policy first",
    )
    pool: float = Field(default=0.0, ge=0, le=1, description="Share of a step's problems from the block's own")

    @property
    def uses_demonstrations(self) -> bool:
        return True


Guidance = Literal["errors", "tools", "plan"]
"""What can be told: errors that failed attempts met, names of the tools that the gold course calls, its calls."""


class GuidedCurriculum(BaseCurriculum):
    """Problems that a whole group failed come back with guidance, then without."""

    type: Literal["guided"] = "guided"
    share: float = Field(default=0.25, gt=0, le=1, description="Most of a step's problems that come back (ours)")
    tells: list[Guidance] = Field(
        default=["errors", "tools"],
        min_length=1,
        description="`errors` of the failed attempts; `tools` of the gold course; `plan`, its calls with their arguments",
    )


class ControlledCurriculum(RatedCurriculum):
    """Problems that are neither mastered nor solved as often by the policy that the block began with."""

    type: Literal["controlled"] = "controlled"
    window: int = Field(default=10, ge=1, description="Attempts at a problem, the last ones, that its pass rate is of")
    low: float = Field(default=0.1, ge=0, le=1, description="Least pass rate")
    high: float = Field(default=0.8, ge=0, le=1, description="Largest pass rate: above, it is mastered")
    margin: float = Field(default=0.1, ge=0, le=1, description="How far the control's pass rate lies below, at least")
    control: str = Field(
        default="start",
        pattern=r"^(start|data\..+)$",
        description="The control's pass rate: `start`, of the first step's attempts; `data.KEY`, a number there",
    )
    least: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Where a smaller share of the attempted problems is accepted, mastered ones are, too",
    )


CurriculumConfig = Annotated[
    UniformCurriculum
    | WeakestCurriculum
    | BandsCurriculum
    | EdgeCurriculum
    | BalanceCurriculum
    | OrderedCurriculum
    | SetsCurriculum
    | ReverseCurriculum
    | GuidedCurriculum
    | ControlledCurriculum,
    Field(discriminator="type"),
]
