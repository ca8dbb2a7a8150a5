"""Who plays an attempt and how far it may go: what rl and evaluate share."""

from typing import Any

from pydantic import Field

from journeyman.config.base import Config


class AttemptLimits(Config):
    max_turns: int = Field(default=6, ge=1)
    max_new_tokens: int = Field(default=96, ge=1, description="Most tokens in one turn")
    max_calls: int | None = Field(default=None, ge=0, description="Most tool calls of an attempt; empty: any number")
    max_seconds: float | None = Field(default=None, gt=0, description="Longest that an attempt may take")
    max_cost: float | None = Field(default=None, gt=0, description="What the calls of an attempt may cost")
    max_observation_tokens: int | None = Field(
        default=None, ge=8, description="Longer observations are cut in the middle; empty: never"
    )

    program: str | list[str] | None = Field(
        default=None,
        description="An agent from outside that plays the loop: module:function, or a command line; it is given a "
        "base URL. Empty: the built-in loop",
    )

    def limits(self) -> dict[str, Any]:
        """As a rollout job takes them."""
        return {name: getattr(self, name) for name in AttemptLimits.model_fields}
