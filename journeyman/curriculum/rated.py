"""Curricula that go by each problem's own pass rate."""

import random
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from journeyman.config.curriculum import BalanceCurriculum, BandsCurriculum, EdgeCurriculum, RatedCurriculum
from journeyman.curriculum.base import check_keys, check_known, share_of
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
        worth = {id: self.worth(seen.count("1"), len(seen)) for id, seen in self._verdicts.items()}
        wanted = sorted((p for p in shuffled if worth.get(p.id, 0.0) > 0), key=lambda p: -worth[p.id])
        unseen = [p for p in shuffled if p.id not in worth]
        return wanted, unseen, [p for p in shuffled if worth.get(p.id, 1.0) <= 0]

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
    """Problems whose balance score is best. B-STaR (#86, verified): min(n'/n*, 1) * n'/n for n' right of n attempts.

    The score is theirs, with n* = 8; they set temperature and threshold by its mean, that it chooses problems is ours.
    """

    def worth(self, right: int, tried: int) -> float:
        if right == tried and not self._config.solved:
            return 0.0
        return min(right / self._config.target, 1.0) * right / tried
