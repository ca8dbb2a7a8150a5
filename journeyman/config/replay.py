"""Replay in a stage rl: which past successes are kept, and which of them are learned from again."""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from journeyman.config.base import Config, only_with

Probability = Annotated[float, Field(ge=0, le=1)]


class RecalibrationConfig(Config):
    """Advantages of old trajectories by what groups earn now: reward minus the median of recent group means (#12)."""

    history: int = Field(default=10240, ge=1, description="Recent groups that count; 10240 in #12")
    scale: bool = Field(default=False, description="Divided by the median of their standard deviations, too")


class ReplayConfig(Config):
    """Past successes that are learned from again."""

    capacity: int = Field(default=0, ge=0, description="Trajectories kept; 0: no replay")
    fraction: float = Field(default=0.0, ge=0, le=1, description="Share of a batch that comes from the buffer")
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
        *("recalibration", "when_full", "warmup"),
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

    @field_validator("probability")
    @classmethod
    def _some_between(cls, band: tuple[float, float] | None) -> tuple[float, float] | None:
        if band is not None and band[0] >= band[1]:
            raise ValueError("has nothing between its bounds; give the lower one first")
        return band
