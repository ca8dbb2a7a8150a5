"""How long still: a running stage by its own rate, the others by how long they took in earlier runs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from journeyman.runs import RunRecord, Status

TYPICAL_S = {
    **{"synthesize": 7.0, "curate": 2.0, "sft": 200.0, "evaluate": 65.0},
    **{"rl-accuracy": 110.0, "rl-efficiency": 70.0},
}
"""Of pipeline quickstart on 2 cores: for a first run, which knows no better."""
TRUSTED_SHARE = 0.03
"""A stage's own rate counts once this share of it was watched."""
TOLD_BY = 5.0
"""Seconds of finished stages from which on this machine's pace is known."""


class Timed(Protocol):
    """What a stage's line must tell."""

    @property
    def name(self) -> str: ...
    @property
    def state(self) -> Status: ...
    @property
    def share(self) -> float: ...
    def elapsed(self, now: float) -> float: ...


def expected_seconds(runs: Iterable[RunRecord], pipeline: str, stages: Sequence[str]) -> dict[str, float]:
    """Stage to its seconds in the newest run of the pipeline that made it; typical ones for quickstart.

    `runs` come newest first. Stages that nobody knows anything about are left out.
    """
    expected: dict[str, float] = {}
    for run in runs:
        for name, stage in run.stages.items():
            if run.pipeline == pipeline and stage.status == Status.COMPLETED and not stage.inherited:
                expected.setdefault(name, stage.seconds)
    if pipeline == "quickstart":
        return {name: TYPICAL_S[name] for name in stages if name in TYPICAL_S} | expected
    return expected


class Rates:
    """The rates of running stages, each from its first sign of work on: what comes before (the model, actors, a
    checkpoint that is taken up) says nothing of the rest."""

    def __init__(self) -> None:
        self._first: dict[str, tuple[float, float]] = {}

    def watch(self, stages: Iterable[Timed], now: float) -> None:
        for stage in stages:
            if stage.state == Status.RUNNING and stage.share > 0:
                self._first.setdefault(stage.name, (stage.share, now))

    def left(self, stage: Timed, now: float) -> float | None:
        """Seconds left of a running stage; None until its rate is known."""
        share, since = self._first.get(stage.name, (1.0, now))
        watched = stage.share - share
        return (1 - stage.share) * (now - since) / watched if watched >= TRUSTED_SHARE else None


def remaining(
    stages: Sequence[Timed], expected: Mapping[str, float], rates: Rates, now: float
) -> dict[str, float | None]:
    """Stage to its seconds left; None where there is nothing to tell it from (no more, if it is late), 0 where it has ended."""
    pace = _pace(stages, expected, now)
    left: dict[str, float | None] = {}
    for stage in stages:
        planned = expected.get(stage.name)
        if stage.state == Status.PENDING:
            left[stage.name] = None if planned is None else planned * pace
        elif stage.state == Status.RUNNING:
            rest = 0.0 if planned is None else planned * pace - stage.elapsed(now)
            own = rates.left(stage, now)
            left[stage.name] = own if own is not None else rest if rest > 0 else None
        else:
            left[stage.name] = 0.0
    return left


def _pace(stages: Sequence[Timed], expected: Mapping[str, float], now: float) -> float:
    """This run's seconds for one expected second, by the stages that it has made."""
    made = [stage for stage in stages if stage.state == Status.COMPLETED and stage.name in expected]
    planned = sum(expected[stage.name] for stage in made)
    return sum(stage.elapsed(now) for stage in made) / planned if planned > TOLD_BY else 1.0
