"""A curriculum from easy to hard."""

import random
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from journeyman.config.curriculum import OrderedCurriculum
from journeyman.curriculum.base import check_keys, check_known, in_data, share_of
from journeyman.errors import DataError
from journeyman.problem import Problem
from journeyman.seeds import derive
from journeyman.trajectory import Trajectory


class Ordered:
    """From easy to hard: a window moves over the sorted problems, with a share of earlier ones.

    Tool-Star (#19, derived) goes from easy to hard; MaskSearch (#196, derived) by levels, k = 1 .. 4 masked spans. The
    pace and the share are ours. Within the window, and among the earlier ones, those come first that came least often.
    """

    def __init__(self, problems: Sequence[Problem], seed: int, config: OrderedCurriculum) -> None:
        hard = [_difficulty(problem, place, config.by) for place, problem in enumerate(problems)]
        order = sorted(range(len(problems)), key=hard.__getitem__)
        self._problems, self._hard = [problems[i] for i in order], [hard[i] for i in order]
        assert config.steps, "a block gives its own: `within`"
        self._seed, self._config, self._steps = seed, config, config.steps
        self._taken: Counter[str] = Counter()

    def choose(self, count: int, *, step: int) -> list[Problem]:
        rng = random.Random(derive(self._seed, "step", step))
        start, stop = self.window(step)
        earlier = share_of(count, self._config.earlier, rng) if start else 0
        return [
            *self._least_taken(self._problems[:start], earlier, rng),
            *self._least_taken(self._problems[start:stop], count - earlier, rng),
        ]

    def window(self, step: int) -> tuple[int, int]:
        """First and last but one place, in the sorted problems, of those that are in turn."""
        steps, width = self._steps, self._config.width
        if width is None:
            levels = sorted(set(self._hard))
            level = levels[min(step * len(levels) // steps, len(levels) - 1)]
            return bisect_left(self._hard, level), bisect_right(self._hard, level)
        size = max(1, round(width * len(self._problems)))
        start = (len(self._problems) - size) * min(step, steps) // steps
        return start, start + size

    def _least_taken(self, problems: Sequence[Problem], count: int, rng: random.Random) -> list[Problem]:
        shuffled = rng.sample(problems, len(problems))
        order = sorted(shuffled, key=lambda problem: self._taken[problem.id])
        chosen = [order[place % len(order)] for place in range(count)]
        self._taken.update(problem.id for problem in chosen)
        return chosen

    def update(self, trajectories: Sequence[Trajectory]) -> None:
        """Nothing to learn from: the pace goes by steps."""

    def state_dict(self) -> dict[str, Any]:
        return {"taken": dict(self._taken)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_keys(state, {"taken"})
        check_known(state["taken"].keys(), {problem.id for problem in self._problems})
        self._taken = Counter(state["taken"])


def _difficulty(problem: Problem, place: int, by: str) -> float:
    if by == "file":
        return place
    if by == "min_calls":
        return problem.min_calls
    value = in_data(problem, by)
    if not isinstance(value, int | float):
        raise DataError(
            f"problem {problem.id} has no number in {by}: {value!r}",
            place="curriculum.by",
            remedy="take a key with numbers, or `file` with problems that curation has put in order",
        )
    return value
