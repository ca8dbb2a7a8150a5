"""Samples the groups of an rl stage: when the learner needs them, or up to so many steps ahead of it."""

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from journeyman.config import RlConfig
from journeyman.problem import Problem
from journeyman.rollout.job import RolloutJob, SamplerPool, attempt_all
from journeyman.seeds import derive
from journeyman.trajectory import Trajectory, read_trajectories, write_trajectories

AHEAD = "ahead"
"""Folder of a checkpoint with what was sampled and not yet learned from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """What a step learns from."""

    problems: list[Problem]
    groups: list[list[Trajectory]]
    """Of each problem its attempts."""
    greedy: list[Trajectory] = field(default_factory=list)
    """Of each problem one at temperature 0; empty where nobody asked for them."""


@dataclass(slots=True)
class _Lot:
    """Problems whose attempts are sampled together."""

    number: int
    """Of its first problem, counted from the stage's first step on."""
    problems: list[Problem]
    temperature: float
    version: int = 0
    """Of the oldest weights that can have sampled it."""
    made: "Future[list[Trajectory]] | None" = None
    """None: not begun."""

    @property
    def done(self) -> bool:
        return self.made is not None and self.made.done()


class Sampling:
    """The attempts of a stage, in steps of `stage.problems` groups.

    Step s learns from what weights of version s - `staleness` or newer have sampled, also after a resume. Whole steps
    are sampled by weights of one version, so that everything follows from the seed; where `partial`, attempts go on
    while new weights come in, and a step takes the groups that are done first, those first that are as old as may be.
    At a staleness of 0 both are the same: nothing is sampled ahead.
    """

    def __init__(
        self,
        stage: RlConfig,
        pool: SamplerPool,
        seed: int,
        *,
        choose: Callable[[int], list[Problem]],
        temperature: Callable[[int], float | None] = lambda step: None,
        greedy: bool = False,
    ) -> None:
        """`choose`: step -> its problems, asked in order; `temperature`: of a step, asked behind, None: the stage's.

        `greedy`: whether each group has an attempt at temperature 0.
        """
        self._stage, self._pool, self._seed, self._choose, self._greedy = stage, pool, seed, choose, greedy
        self._temperature = temperature
        self._staleness = stage.asynchrony.staleness
        self._partial = stage.asynchrony.partial
        self._lots: list[_Lot] = []
        self._chosen = 0
        """Steps whose problems are chosen."""
        self._threads: ThreadPoolExecutor | None = None

    def take(self, step: int) -> Sampled:
        """The groups of a step. Those of later steps are begun, as far as their weights are there."""
        while self._chosen <= min(step + self._staleness, self._stage.steps - 1) or self._chosen <= step:
            self._lots += self._lots_of(self._chosen)
            self._chosen += 1
        for lot in self._lots:
            if lot.made is None:
                lot.version, lot.made = step, self._begin(lot)
        ripe = self._ripe(step)
        self._lots = [lot for lot in self._lots if lot not in ripe]
        found = [self._split(lot) for lot in ripe]
        return Sampled(
            problems=[problem for one in found for problem in one.problems],
            groups=[group for one in found for group in one.groups],
            greedy=[attempt for one in found for attempt in one.greedy],
        )

    def settle(self) -> None:
        """Wait until no attempt is under way that new weights would change; with `partial` they may.

        Raises what has failed meanwhile: later on, others would be made in its place by newer weights.
        """
        if not self._partial:
            wait([lot.made for lot in self._lots if lot.made is not None])
        self._raise_failed()

    def _raise_failed(self) -> None:
        for lot in self._lots:
            if lot.done and lot.made is not None:
                lot.made.result()

    def close(self) -> None:
        """Begin nothing more. What is under way ends with the pool."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _lots_of(self, step: int) -> list[_Lot]:
        first, problems = step * self._stage.problems, self._choose(step)
        temperature = self._temperature(step) or self._stage.temperature
        if not self._partial:
            return [_Lot(first, problems, temperature)]
        return [_Lot(first + place, [problem], temperature) for place, problem in enumerate(problems)]

    def _begin(self, lot: _Lot) -> "Future[list[Trajectory]]":
        if self._staleness or self._partial:
            self._threads = self._threads or ThreadPoolExecutor(
                (self._staleness + 1) * self._stage.problems if self._partial else 1, "sampling"
            )
            return self._threads.submit(attempt_all, self._pool, self._jobs(lot))
        done: Future[list[Trajectory]] = Future()
        done.set_result(attempt_all(self._pool, self._jobs(lot)))
        return done

    def _ripe(self, step: int) -> list[_Lot]:
        """The lots that a step learns from, once they are done, in order."""
        if not self._partial:
            return self._lots[:1]
        self._raise_failed()
        ripe = [lot for lot in self._lots if lot.version <= step - self._staleness]
        others = [lot for lot in self._lots if lot not in ripe]
        wait([lot.made for lot in ripe if lot.made is not None], return_when=FIRST_EXCEPTION)
        self._raise_failed()
        while len(ripe) < self._stage.problems:
            candidates = self._next(others, self._stage.problems - len(ripe), step)
            wait([lot.made for lot in candidates if lot.made is not None], return_when=FIRST_COMPLETED)
            done = next(lot for lot in candidates if lot.done)
            others.remove(done)
            ripe.append(done)
        return sorted(ripe, key=lambda lot: lot.number)

    def _next(self, lots: list[_Lot], left: int, step: int) -> list[_Lot]:
        """Those of which one may be taken, where a step still takes `left`: no later step may be left with more than it
        takes that are as old as may be."""
        for ahead in range(1, self._staleness):
            old = [lot for lot in lots if lot.version <= step + ahead - self._staleness]
            if len(old) - ahead * self._stage.problems >= left:
                return old
        return lots

    def _jobs(self, lot: _Lot) -> list[RolloutJob]:
        """A group of attempts at each problem. Where credit compares with it, a greedy one besides."""
        stage, places = self._stage, list(enumerate(lot.problems, lot.number))
        jobs = [
            replace(self._job(problem, number, sample, lot.temperature), **how)
            for number, problem in places
            for sample, how in stage.rollout.begun(stage.group)
        ]
        if self._greedy:
            jobs += [self._job(problem, number, stage.group, 0.0) for number, problem in places]
        return jobs

    def _job(self, problem: Problem, number: int, sample: int, temperature: float) -> RolloutJob:
        step, place = divmod(number, self._stage.problems)
        return RolloutJob(
            problem=problem,
            sample=sample,
            seed=derive(self._seed, step, place, sample),
            temperature=temperature,
            **self._stage.limits(),
        )

    def _split(self, lot: _Lot) -> Sampled:
        assert lot.made is not None
        made, size = lot.made.result(), self._stage.group
        whole = len(lot.problems) * size
        groups = [made[i : i + size] for i in range(0, whole, size)]
        return Sampled(problems=lot.problems, groups=groups, greedy=made[whole:])

    def state_dict(self) -> dict[str, Any]:
        """JSON; what is sampled already goes into files by `save`."""
        lots = [
            {
                "number": lot.number,
                "version": lot.version,
                "temperature": lot.temperature,
                "problems": [p.to_json() for p in lot.problems],
            }
            for lot in self._lots
        ]
        return {"chosen": self._chosen, "lots": lots}

    def save(self, folder: Path) -> None:
        """Write what was sampled ahead; what is under way is not waited for, and begins again after a resume."""
        for lot in self._lots:
            if lot.done and lot.made is not None and lot.made.exception() is None:
                write_trajectories(lot.made.result(), _file(folder, lot))

    def load(self, state: dict[str, Any], folder: Path) -> None:
        """The inverse of `state_dict` and `save`."""
        self._chosen, self._lots = state["chosen"], []
        for row in state["lots"]:
            problems = [Problem.from_json(one) for one in row["problems"]]
            lot = _Lot(row["number"], problems, row["temperature"], row["version"])
            if _file(folder, lot).is_file():
                lot.made = Future()
                lot.made.set_result(read_trajectories(_file(folder, lot)))
            self._lots.append(lot)


def _file(folder: Path, lot: _Lot) -> Path:
    return folder / AHEAD / f"lot-{lot.number:08d}.parquet"
