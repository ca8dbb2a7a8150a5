"""How a stage tells the outside what it does: progress, metrics, sampled trajectories."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from journeyman.trajectory import Trajectory


class Observer(Protocol):
    """Receives what a running stage reports. Calls are cheap and never raise for a server that is down."""

    def progress(self, done: float, total: float, note: str = "") -> None:
        """`done` of `total` units of the stage's work; `note` is a short phrase for people."""
        ...

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        """Named values (names from `journeyman.metrics`) at a step of this stage."""
        ...

    def trajectories(self, batch: Sequence[Trajectory], *, step: int) -> None:
        """A few sampled trajectories worth keeping as traces."""
        ...


class Silent:
    """An Observer that listens to nothing: for tests and scripts."""

    def progress(self, done: float, total: float, note: str = "") -> None: ...

    def metrics(self, values: Mapping[str, float], *, step: int) -> None: ...

    def trajectories(self, batch: Sequence[Trajectory], *, step: int) -> None: ...
