"""Curricula that go by each problem's own pass rate."""

import random
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, Generic, TypeVar

from journeyman.config.curriculum import (
    BalanceCurriculum,
    BandsCurriculum,
    ControlledCurriculum,
    EdgeCurriculum,
    RatedCurriculum,
)
from journeyman.curriculum.base import check_keys, check_known, in_data, share_of
from journeyman.problem import Problem
from journeyman.seeds import derive
from journeyman.trajectory import Trajectory

C = TypeVar("C", bound=RatedCurriculum)


class Rated(Generic[C]):
    """Wanted problems by their worth, ties in seeded order, with a share for unseen and for unwanted ones.

    Where there are too few of a sort, the batch is filled up: wanted ones, unseen ones, the others, then all again.
    A step takes time in proportion to the number of problems; the state holds those that were attempted.
    """

    def __init__(self, problems: Sequence[Problem], seed: int, config: C) -> None:
        self._problems, self._seed, self._config = list(problems), seed, config
        self._ids = {problem.id for problem in problems}
        self._verdicts: dict[str, str] = {}
        """Of each attempted problem its last verdicts, oldest first: `0110`."""

    def worth(self, right: int, tried: int) -> float:
        """Of a problem with so many right attempts; 0: not wanted."""
        raise NotImplementedError

    def worths(self) -> dict[str, float]:
        """Of each attempted problem."""
        return {id: self.worth(seen.count("1"), len(seen)) for id, seen in self._verdicts.items()}

    def choose(self, count: int, *, step: int) -> list[Problem]:
        rng = random.Random(derive(self._seed, "step", step))
        retries, unseens = (share_of(count, share, rng) for share in (self._config.retry, self._config.unseen))
        wanted, unseen, others = self._sorted(rng)
        retries = min(retries, len(others))
        unseens = min(unseens, len(unseen), count - retries)
        order = [*others[:retries], *unseen[:unseens], *wanted, *unseen[unseens:], *others[retries:]]
        return [order[place % len(order)] for place in range(count)]

    def _sorted(self, rng: random.Random) -> tuple[list[Problem], list[Problem], list[Problem]]:
        """(wanted, the best first; unseen; the others)"""
        shuffled = rng.sample(self._problems, len(self._problems))
        worth = self.worths()
        wanted = sorted((p for p in shuffled if worth.get(p.id, 0.0) > 0), key=lambda p: -worth[p.id])
        unseen = [p for p in shuffled if p.id not in worth]
        return wanted, unseen, [p for p in shuffled if worth.get(p.id, 1.0) <= 0]

    def add(self, problems: Sequence[Problem]) -> None:
        """As `journeyman.curriculum.base.Growing`: they are unseen ones from now on."""
        self._problems += problems
        self._ids |= {problem.id for problem in problems}

    def update(self, trajectories: Sequence[Trajectory]) -> None:
        for t in trajectories:
            if t.correct is not None and t.problem_id in self._ids:
                seen = self._verdicts.get(t.problem_id, "") + str(int(bool(t.correct)))
                self._verdicts[t.problem_id] = seen[-self._config.window :]

    def state_dict(self) -> dict[str, Any]:
        return {"verdicts": dict(self._verdicts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_keys(state, {"verdicts"})
        check_known(state["verdicts"].keys(), self._ids)
        self._verdicts = dict(state["verdicts"])


class Bands(Rated[BandsCurriculum]):
    """Problems whose running pass rate lies in a band: neither mastered nor out of reach.

    XLand (#87, secondary) accepts tasks that the agent neither masters nor always fails; the band from 0.1 to 0.8 is
    ours. Open and from 0 to 1 it is the condition of DAPO's dynamic sampling in TAPO (#6, derived), asked before the
    attempts instead of after. Not covered: XLand's control policy, and thresholds that evolve.
    """

    def worth(self, right: int, tried: int) -> float:
        config = self._config
        rate = (right + config.prior) / (tried + config.prior)
        return float(config.low < rate < config.high if config.open else config.low <= rate <= config.high)


class Edge(Rated[EdgeCurriculum]):
    """Problems at the edge of competence come first. Interplay (#170, secondary): pass@1 is low, pass@k above 0.

    That low is a quarter is ours, and so is k: all attempts in the window.
    """

    def worth(self, right: int, tried: int) -> float:
        return float(0 < right <= self._config.most * tried)


class Balance(Rated[BalanceCurriculum]):
    """Problems whose balance score is best; temperatures, too, where some are to be tried.

    B-STaR (#86, verified): min(n'/n*, 1) * n'/n for n' right of n attempts, with n* = 8. They set temperature and
    threshold by its mean over queries; that it chooses problems is ours, and so is the rhythm: each temperature a step,
    then the best one for `hold` steps. Not covered: their threshold on rewards.
    """

    def __init__(self, problems: Sequence[Problem], seed: int, config: BalanceCurriculum) -> None:
        super().__init__(problems, seed, config)
        self._scores: list[float | None] = [None] * len(config.temperatures)
        """Of each temperature in its last trial."""

    def worth(self, right: int, tried: int) -> float:
        if right == tried and not self._config.solved:
            return 0.0
        return self.score(right, tried)

    def score(self, right: int, tried: int) -> float:
        """The balance score."""
        return min(right / self._config.target, 1.0) * right / tried

    def temperature(self, step: int) -> float | None:
        """As `journeyman.curriculum.base.Tempered`. Without a score of any, the first one."""
        grid = self._config.temperatures
        if not grid:
            return None
        place = step % (len(grid) + self._config.hold)
        if place < len(grid):
            return grid[place]
        return grid[max(range(len(grid)), key=lambda i: -1.0 if (score := self._scores[i]) is None else score)]

    def update(self, trajectories: Sequence[Trajectory]) -> None:
        super().update(trajectories)
        verdicts: dict[tuple[float, str], list[bool]] = {}
        for t in trajectories:
            if t.correct is not None:
                verdicts.setdefault((t.temperature, t.problem_id), []).append(bool(t.correct))
        for place, temperature in enumerate(self._config.temperatures):
            scores = [self.score(sum(seen), len(seen)) for (at, _), seen in verdicts.items() if at == temperature]
            if scores:
                self._scores[place] = fmean(scores)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), **({"scores": list(self._scores)} if self._scores else {})}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        rest = dict(state)
        scores = rest.pop("scores", [])
        if len(scores) != len(self._scores):
            raise KeyError(f"the state has scores of {len(scores)} temperatures, expected {len(self._scores)}")
        super().load_state_dict(rest)
        self._scores = list(scores)


class Controlled(Rated[ControlledCurriculum]):
    """Problems that are not mastered, not hopeless, and solved more often than by a control policy.

    XLand (#87, secondary) accepts a task where the agent is below a cap, is well above a control policy, and the control
    rarely succeeds. .1 <= p <= .8, control <= p - .1 and 10 attempts are ours. The control is the policy that the block
    began with, here ours: a number of the problem's data, else its attempts of version 0 at the problem, at the family
    where it has none there, and 0 where that was not attempted. Where less than `least` of the attempted problems is
    accepted the cap falls. Not covered: thresholds that evolve in a population, generations, self reward-play.
    """

    def __init__(self, problems: Sequence[Problem], seed: int, config: ControlledCurriculum) -> None:
        super().__init__(problems, seed, config)
        self._start: dict[str, list[int]] = {}
        """(right, tried) of the first policy, by problem id and by family."""
        self._families, self._given = dict[str, str](), dict[str, float]()
        self._note(problems)

    def _note(self, problems: Sequence[Problem]) -> None:
        self._families |= {problem.id: problem.family for problem in problems}
        if self._config.control != "start":
            self._given |= {problem.id: float(in_data(problem, self._config.control)) for problem in problems}

    def add(self, problems: Sequence[Problem]) -> None:
        super().add(problems)
        self._note(problems)

    def worths(self) -> dict[str, float]:
        accepted = self._accepted(self._config.high)
        if sum(accepted.values()) < self._config.least * len(accepted):
            return self._accepted(1.0)
        return accepted

    def _accepted(self, high: float) -> dict[str, float]:
        rates = {id: seen.count("1") / len(seen) for id, seen in self._verdicts.items()}
        low, margin = self._config.low, self._config.margin
        return {
            id: float(low <= rate <= high and self.control(id) <= rate - margin + 1e-9) for id, rate in rates.items()
        }

    def control(self, id: str) -> float:
        """The control's pass rate on a problem."""
        if id in self._given:
            return self._given[id]
        right, tried = self._start.get(id) or self._start.get(_of(self._families[id])) or (0, 0)
        return right / tried if tried else 0.0

    def update(self, trajectories: Sequence[Trajectory]) -> None:
        super().update(trajectories)
        for t in trajectories:
            if t.correct is not None and t.policy_version == 0 and t.problem_id in self._ids:
                for key in (t.problem_id, _of(t.family)):
                    right, tried = self._start.get(key, (0, 0))
                    self._start[key] = [right + bool(t.correct), tried + 1]

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "start": {key: list(counts) for key, counts in self._start.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_keys(state, {"verdicts", "start"})
        super().load_state_dict({"verdicts": state["verdicts"]})
        self._start = {key: list(counts) for key, counts in state["start"].items()}


def _of(family: str) -> str:
    """Key of a family among ids of problems."""
    return f"family {family}"
