"""A curriculum that goes backwards along demonstrations."""

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from journeyman.config.curriculum import ReverseCurriculum
from journeyman.curriculum.base import check_keys, share_of
from journeyman.curriculum.families import Uniform
from journeyman.errors import DataError
from journeyman.problem import BEGUN, Problem, variant
from journeyman.seeds import derive
from journeyman.trajectory import Trajectory

Shown = tuple[Problem, tuple[str, ...]]
"""A problem and the texts of the turns that solve it."""


class Reverse:
    """Attempts begin near the end of a demonstration, later further ahead, at last at its beginning.

    B2-DiffuRL (#164, verified): trained are the last w of H steps, w growing from a share of H to H in equal stages; a
    group shares what comes before. Here a step is a turn: those before the window are played into the world and are
    not learned from. A share of .3 (theirs .7), right demonstrations alone, each as often as any other, and a share
    `pool` for the block's own problems are ours. An attempt that begins with n turns is at the problem `ID~begunN`.
    Their selection of a group's best and worst is the credit `best_and_worst`.
    """

    def __init__(self, problems: Sequence[Problem], seed: int, config: ReverseCurriculum) -> None:
        assert config.steps, "a block gives its own: `within`"
        self._config, self._seed, self._steps = config, seed, config.steps
        self._pool = Uniform(problems, derive(seed, "pool"))
        self._shown: list[Shown] = []
        self._taken = 0

    def show(self, demonstrations: Sequence[Trajectory], problems: Sequence[Problem]) -> None:
        """Raises `DataError` where none of them can be gone back along."""
        known = {problem.id: problem for problem in problems}
        right = [t for t in demonstrations if t.correct and t.problem_id in known and len(t.turns) > 1]
        self._shown = [(known[t.problem_id], tuple(turn.text for turn in t.turns)) for t in right]
        if not right:
            raise DataError(
                f"of {len(demonstrations)} demonstrations none is right and has two turns or more",
                place="curriculum",
                remedy="take another curriculum, or demonstrations that call tools",
            )

    def choose(self, count: int, *, step: int) -> list[Problem]:
        rng = random.Random(derive(self._seed, "step", step))
        own = count if not self._shown else share_of(count, self._config.pool, rng)
        begun = [self._begun(self._taken + place, step) for place in range(count - own)]
        self._taken += len(begun)
        return [*begun, *self._pool.choose(own, step=step)]

    def _begun(self, index: int, step: int) -> Problem:
        epoch, place = divmod(index, len(self._shown))
        order = random.Random(derive(self._seed, "epoch", epoch)).sample(range(len(self._shown)), len(self._shown))
        problem, texts = self._shown[order[place]]
        before = len(texts) - window(step, len(texts), share=self._config.share, steps=self._steps)
        return variant(problem, f"{BEGUN}{before}", {BEGUN: list(texts[:before])}) if before else problem

    def update(self, trajectories: Sequence[Trajectory]) -> None:
        """Nothing to learn from: the pace goes by steps."""

    def state_dict(self) -> dict[str, Any]:
        return {"taken": self._taken, "pool": self._pool.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_keys(state, {"taken", "pool"})
        self._taken = state["taken"]
        self._pool.load_state_dict(state["pool"])


def window(step: int, turns: int, *, share: float, steps: int) -> int:
    """How many turns of the last ones are left to the policy: from ceil(share * turns) to all of them."""
    first = math.ceil(share * turns - 1e-9)  # 0.7 * 10 is a little more than 7
    return min(turns, first + step * (turns - first + 1) // steps)
