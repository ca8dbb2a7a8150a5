"""Curricula over families of problems."""

import random
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from journeyman.config.curriculum import UniformCurriculum, WeakestCurriculum
from journeyman.curriculum.base import check_keys
from journeyman.problem import Problem
from journeyman.seeds import derive
from journeyman.trajectory import Trajectory

MEMORY = 0.8
"""Share of a family's running pass rate that stays at each step."""
FLOOR = 0.25
"""Least weight of a family, where a never-solved one has 1."""


class Uniform:
    """The pool in seeded order, epoch after epoch: every problem comes once before any comes twice."""

    def __init__(self, problems: Sequence[Problem], seed: int, config: UniformCurriculum | None = None) -> None:
        """`config` has no options."""
        self._problems, self._seed = list(problems), seed
        self._taken = 0
        self._order = lru_cache(maxsize=2)(self._draw_order)

    def choose(self, count: int, *, step: int) -> list[Problem]:
        chosen = [self._at(self._taken + i) for i in range(count)]
        self._taken += count
        return chosen

    def _at(self, index: int) -> Problem:
        epoch, place = divmod(index, len(self._problems))
        return self._problems[self._order(epoch)[place]]

    def _draw_order(self, epoch: int) -> list[int]:
        return random.Random(derive(self._seed, epoch)).sample(range(len(self._problems)), len(self._problems))

    def update(self, trajectories: Sequence[Trajectory]) -> None:
        """Nothing to learn from."""

    def state_dict(self) -> dict[str, Any]:
        return {"taken": self._taken}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_keys(state, {"taken"})
        self._taken = state["taken"]


class Weakest:
    """Families with a low running pass rate come more often; within a family the pool in seeded order."""

    def __init__(self, problems: Sequence[Problem], seed: int, config: WeakestCurriculum | None = None) -> None:
        """`config` has no options."""
        families = sorted({problem.family for problem in problems})
        self._seed = seed
        self._pools = {f: Uniform([p for p in problems if p.family == f], derive(seed, f)) for f in families}
        self._pass_rates = dict.fromkeys(families, 0.0)

    def choose(self, count: int, *, step: int) -> list[Problem]:
        rng = random.Random(derive(self._seed, "step", step))
        weights = [max(FLOOR, 1 - rate) for rate in self._pass_rates.values()]
        families = rng.choices(list(self._pass_rates), weights, k=count)
        return [problem for family in families for problem in self._pools[family].choose(1, step=step)]

    def update(self, trajectories: Sequence[Trajectory]) -> None:
        for family, rate in self._pass_rates.items():
            verdicts = [float(t.correct) for t in trajectories if t.family == family and t.correct is not None]
            if verdicts:
                self._pass_rates[family] = MEMORY * rate + (1 - MEMORY) * sum(verdicts) / len(verdicts)

    def state_dict(self) -> dict[str, Any]:
        pools = {family: pool.state_dict() for family, pool in self._pools.items()}
        return {"pass_rates": dict(self._pass_rates), "pools": pools}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_keys(state, {"pass_rates", "pools"})
        check_keys(state["pools"], self._pools.keys())
        check_keys(state["pass_rates"], self._pools.keys())
        self._pass_rates = dict(state["pass_rates"])
        for family, pool in self._pools.items():
            pool.load_state_dict(state["pools"][family])
