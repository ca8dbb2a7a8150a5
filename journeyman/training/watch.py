"""Who watches a training run: it is shown every step and may have the run paused or ended."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

from journeyman.trajectory import Trajectory


class Watch(Protocol):
    """Watches an rl stage. Its state goes into the stage's checkpoints."""

    @property
    def paused(self) -> str:
        """Why the last step it looked at has to be the last for now; empty where it hasn't."""
        ...

    @property
    def stopped(self) -> str:
        """Why the stage ends early; empty where it doesn't."""
        ...

    @property
    def warnings(self) -> Mapping[str, int]:
        """How many steps so far gave cause for a warning, by what was watched; nothing where there was none."""
        ...

    def meet(self, supplies: Mapping[str, Any]) -> None:
        """Be told, before the first step, of what the block has: `learner`, `problems`, `reward` (groups scored by
        another expression), `writer` (the policy, asked in words), and `judge` and `encoder` where its reward needs them."""
        ...

    def look(
        self, groups: Sequence[Sequence[Trajectory]], metrics: Mapping[str, float], *, step: int
    ) -> dict[str, float]:
        """Look at a step, the `step`-th of the stage from 1 on: its scored groups and its metrics. Returns more metrics."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """JSON."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class Unwatched:
    """A Watch that looks away."""

    paused = stopped = ""
    warnings: Mapping[str, int] = MappingProxyType({})

    def meet(self, supplies: Mapping[str, Any]) -> None: ...

    def look(
        self, groups: Sequence[Sequence[Trajectory]], metrics: Mapping[str, float], *, step: int
    ) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...
