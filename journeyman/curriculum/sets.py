"""A curriculum of named sets of problems, one after another."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from journeyman.config.curriculum import SetsCurriculum
from journeyman.curriculum.base import check_keys, in_data, share_of
from journeyman.curriculum.families import Uniform
from journeyman.errors import ConfigError, nearest
from journeyman.problem import Problem
from journeyman.seeds import derive
from journeyman.trajectory import Trajectory


class Sets:
    """One set of problems after another, each until its steps are over or its pass rate is high enough.

    TAPO (#6, derived) trains on an easy set, then on a hard one; RewardMap (#188, verified) on yes/no perception, then
    counting, then planning. That a pass rate ends a stage is ours. Within a stage its problems in seeded order.
    """

    def __init__(self, problems: Sequence[Problem], seed: int, config: SetsCurriculum) -> None:
        self._seed, self._config = seed, config
        sets: dict[str, list[Problem]] = {}
        for problem in problems:
            sets.setdefault(_set_of(problem, config.by), []).append(problem)
        _check_names([name for stage in config.stages for name in stage.sets], sets)
        members = [[p for name in dict.fromkeys(stage.sets) for p in sets[name]] for stage in config.stages]
        self._ids = [{problem.id for problem in one} for one in members]
        self._pools = [Uniform(one, derive(seed, "stage", number)) for number, one in enumerate(members)]
        self._stage, self._begun, self._verdicts = 0, 0, ""

    @property
    def stage(self) -> int:
        """The number of the stage that the last step was in."""
        return self._stage

    def choose(self, count: int, *, step: int) -> list[Problem]:
        if self._over(step):
            self._stage, self._begun, self._verdicts = self._stage + 1, step, ""
        rng = random.Random(derive(self._seed, "step", step))
        earlier = share_of(count, self._config.earlier, rng) if self._stage else 0
        stages = [*(rng.randrange(self._stage) for _ in range(earlier)), *[self._stage] * (count - earlier)]
        return [problem for stage in stages for problem in self._pools[stage].choose(1, step=step)]

    def _over(self, step: int) -> bool:
        if self._stage == len(self._pools) - 1:
            return False
        stage = self._config.stages[self._stage]
        learned = (
            stage.above is not None
            and len(self._verdicts) == self._config.window
            and self._verdicts.count("1") > stage.above * self._config.window
        )
        return learned or (stage.steps is not None and step - self._begun >= stage.steps)

    def update(self, trajectories: Sequence[Trajectory]) -> None:
        own = self._ids[self._stage]
        found = "".join(
            str(int(bool(t.correct))) for t in trajectories if t.correct is not None and t.problem_id in own
        )
        self._verdicts = (self._verdicts + found)[-self._config.window :]

    def state_dict(self) -> dict[str, Any]:
        pools = [pool.state_dict() for pool in self._pools]
        return {"stage": self._stage, "begun": self._begun, "verdicts": self._verdicts, "pools": pools}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_keys(state, {"stage", "begun", "verdicts", "pools"})
        if len(state["pools"]) != len(self._pools):
            raise KeyError(f"the state has {len(state['pools'])} stages, expected {len(self._pools)}")
        self._stage, self._begun, self._verdicts = state["stage"], state["begun"], state["verdicts"]
        for pool, saved in zip(self._pools, state["pools"], strict=True):
            pool.load_state_dict(saved)


def _set_of(problem: Problem, by: str) -> str:
    return problem.family if by == "family" else str(in_data(problem, by))


def _check_names(names: Sequence[str], sets: Mapping[str, Sequence[Problem]]) -> None:
    for name in names:
        if name not in sets:
            raise ConfigError(
                f"there are no problems of the set {name!r}",
                place="curriculum.stages",
                remedy=nearest(name, sorted(sets)),
            )
