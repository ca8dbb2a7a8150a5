"""Replay in a stage rl: which past successes are kept, and which of them are learned from again."""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from journeyman.config.base import Config, only_with

Probability = Annotated[float, Field(ge=0, le=1)]


class RecalibrationConfig(Config):
    """Advantages of old trajectories by what groups earn now: reward minus the median of recent group means (#12)."""

    history: int = Field(default=10240, ge=1, description="Recent groups that count; 10240 in #12")
    scale: bool = Field(default=False, description="Divided by the median of their standard deviations, too")


class SeedsConfig(Config):
    """Demonstrations that are learned from beside a step's own attempts. The defaults are ours."""

    steps: int = Field(
        default=100, ge=1, description="Steps over which their share of a batch falls from .5 to .05, where it stays"
    )
    most: int | None = Field(default=None, ge=1, description="Demonstrations, drawn once; empty: all that are right")


class SolutionsConfig(Config):
    """Right trajectories of problems that are seldom solved, each compared with a later group of its problem."""

    below: float = Field(
        default=0.25, gt=0, le=1, description="A group's share of right attempts that is seldom; 0.25 in #168"
    )
    direct: int | None = Field(
        default=None,
        ge=1,
        description="Attempts of the group that it is compared with; empty: all but the one whose place it takes",
    )
    capacity: int = Field(default=4096, ge=1, description="Solutions kept, one a problem (ours)")


class SelectionConfig(Config):
    """Of each group some trajectories are compared and learned from, the others only counted."""

    by: Literal["contrastive", "best", "best_random", "best_worst", "consistent"] = Field(
        description="Which: `journeyman catalog --kind replay`"
    )
    keep: int = Field(ge=2, description="Trajectories of a group that are left")
    part: str | None = Field(
        default=None,
        description="For `consistent`: the part of the reward that rates the steps; with `0 *` before it in the "
        "expression, it counts for nothing else",
    )

    @field_validator("part")
    @classmethod
    def _of_what_it_goes_by(cls, part: str | None, info: ValidationInfo) -> str | None:
        if part is None and info.data.get("by") == "consistent":
            raise ValueError("is needed with by `consistent`: the part of the reward that rates the steps")
        return only_with(cls, part, info, other="by", is_in=("consistent",))


class ReplayConfig(Config):
    """What is learned from besides a step's own attempts, and which of those."""

    seeds: SeedsConfig | None = Field(
        default=None, title="Seeds", description="Demonstrations in a buffer of their own; empty: none"
    )
    solutions: SolutionsConfig | None = Field(
        default=None, title="Solutions", description="Kept for problems that are seldom solved; empty: none"
    )
    selection: SelectionConfig | None = Field(
        default=None, title="Selection", description="What of a group is compared; empty: all"
    )
    capacity: int = Field(default=0, ge=0, description="Past successes kept; 0: none")
    fraction: float = Field(
        default=0.0, ge=0, le=2, description="Rows from the buffer for each of a step's own; at most 2 in #223"
    )
    max_age: int = Field(default=10, ge=1, description="Steps after which a trajectory is dropped")
    max_uses: int | None = Field(
        default=None, ge=1, description="Replays after which a trajectory is dropped; empty: any number"
    )
    priority: Literal["uniform", "advantage", "newest"] = Field(
        default="uniform", description="Which come first: any, those of large advantage more often, the newest"
    )
    exponent: float = Field(default=1.0, ge=0, description="Of the advantage, as a weight in the draw; 0: uniform")
    only_with_calls: bool = Field(default=False, description="Only trajectories that call a tool are kept (#12)")
    one_a_problem: bool = Field(default=False, description="Of a problem the newest success alone is kept (#223)")
    probability: tuple[Probability, Probability] | None = Field(
        default=None,
        description="Above and up to: geometric mean of a replayed trajectory's token probabilities under the policy "
        "as it is now; [0.5, 0.95] in #223; empty: any",
    )
    recalibration: RecalibrationConfig | None = Field(
        default=None, title="Recalibration", description="Advantages of replayed trajectories anew; empty: as they were"
    )
    decay: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Factor of the advantage for each step of age, where it is not recalibrated; 1: as it was",
    )
    when_full: bool = Field(default=False, description="Nothing is replayed until the buffer is full (#12)")
    warmup: int = Field(
        default=0, ge=0, description="Steps over which replayed rows grow from no weight to a whole one; 200 in #12"
    )

    @field_validator("fraction")
    @classmethod
    def _buffer_and_share(cls, fraction: float, info: ValidationInfo) -> float:
        if fraction and not info.data.get("capacity", 1):
            raise ValueError("has no effect with capacity 0; set capacity too")
        if info.data.get("capacity") and not fraction:
            raise ValueError("is needed with a capacity above 0: nothing would be replayed")
        return fraction

    @field_validator(
        *("max_age", "max_uses", "priority", "exponent", "only_with_calls", "one_a_problem", "probability"),
        *("recalibration", "decay", "when_full", "warmup"),
    )
    @classmethod
    def _of_something(cls, value: Any, info: ValidationInfo) -> Any:
        if not info.data.get("capacity", 1) and value != cls.model_fields[info.field_name or ""].default:
            raise ValueError("has no effect with capacity 0; set capacity too")
        return value

    @field_validator("exponent")
    @classmethod
    def _of_a_weight(cls, exponent: float, info: ValidationInfo) -> float:
        return only_with(cls, exponent, info, other="priority", is_in=("advantage",))

    @field_validator("decay")
    @classmethod
    def _of_what_was(cls, decay: float, info: ValidationInfo) -> float:
        return only_with(cls, decay, info, other="recalibration", is_in=(None,))

    @field_validator("probability")
    @classmethod
    def _some_between(cls, band: tuple[float, float] | None) -> tuple[float, float] | None:
        if band is not None and band[0] >= band[1]:
            raise ValueError("has nothing between its bounds; give the lower one first")
        return band

    @property
    def keeps(self) -> bool:
        """Whether it keeps trajectories beyond a step."""
        return bool(self.capacity or self.seeds or self.solutions)
