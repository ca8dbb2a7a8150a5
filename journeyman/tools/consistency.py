"""Which of several simulated outputs is most like a real one: a filter learned from logged calls (#113)."""

import json
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from journeyman.tools.arguments import schema_error
from journeyman.tools.similarity import hashed

if TYPE_CHECKING:
    import numpy as np

    from journeyman.tools.similarity import Embed

TEMPERATURE = 0.1
"""Of the draw among candidates by their score."""
ENOUGH = 0.6
"""Below this the best candidate is not good enough: the attempt is cut off, without a reward."""
FEATURES = ("likeness", "valid", "overlap", "length", "length_off")
_RIDGE = 1.0
_STEPS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedCall:
    """A call with the output that it had, of a real tool or of a simulated one."""

    tool: str
    arguments: Mapping[str, Any]
    output: str


def weights(scores: Sequence[float], temperature: float = TEMPERATURE) -> list[float]:
    """softmax(score / temperature)."""
    top = max(scores)
    raised = [math.exp((score - top) / temperature) for score in scores]
    return [value / sum(raised) for value in raised]


def choose(scores: Sequence[float], rng: random.Random, *, enough: float = ENOUGH) -> int | None:
    """Index of the candidate to take, drawn by `weights`; None where the best scores below `enough`.

    The release draws first and tests what it drew; here the best is tested (ours): a bad draw costs no attempt.
    """
    if not scores or max(scores) < enough:
        return None
    return rng.choices(range(len(scores)), weights=weights(scores))[0]


class Judge:
    """r_D: how real an output looks, in [0, 1]. The mean of one logistic classifier a round of training.

    Every round learns real calls against the simulated ones of all rounds so far: the earlier classifiers stay, for one
    that has seen only the last simulator forgets the errors of those before.
    """

    def __init__(self, outputs: Mapping[str, Mapping[str, Any]] | None = None, embed: "Embed | None" = None) -> None:
        """`outputs`: JSON Schema of a tool's output by its name; without one an output is valid where it is JSON."""
        self._schemas, self._embed = dict(outputs or {}), embed or hashed
        self._lengths: dict[str, tuple[float, float]] = {}
        self._rounds: list[list[float]] = []
        self._simulated: list[LoggedCall] = []

    def fit_round(self, real: Sequence[LoggedCall], simulated: Sequence[LoggedCall]) -> None:
        """Add a classifier. Raises `ValueError` where there are no real calls or no simulated ones at all."""
        import numpy as np

        self._simulated += simulated
        if not real or not self._simulated:
            raise ValueError("a round needs real calls and simulated ones")
        self._lengths = _lengths(real)
        rows = self.features([*real, *self._simulated])
        labels = np.array([1.0] * len(real) + [0.0] * len(self._simulated))
        self._rounds.append(_logistic(rows, labels).tolist())

    def score(self, calls: Sequence[LoggedCall]) -> list[float]:
        """One a call. Raises `ValueError` before the first round."""
        import numpy as np

        if not self._rounds:
            raise ValueError("the judge has not been trained")
        rows = _with_one(self.features(calls))
        return _sigmoid(rows @ np.array(self._rounds).T).mean(axis=1).tolist()

    def features(self, calls: Sequence[LoggedCall]) -> "np.ndarray":
        """(N, 5): cosine of call and output, valid, share of the arguments seen in the output, length's z and |z|."""
        import numpy as np

        asked = self._embed([f"{call.tool} {json.dumps(dict(call.arguments), sort_keys=True)}" for call in calls])
        told = self._embed([call.output for call in calls])
        z = [self._z(call) for call in calls]
        columns = [
            (asked * told).sum(axis=1),
            [float(self._valid(call)) for call in calls],
            [overlap(call.arguments, call.output) for call in calls],
            z,
            [abs(value) for value in z],
        ]
        return np.stack([np.asarray(column, dtype=float) for column in columns], axis=1)

    def _valid(self, call: LoggedCall) -> bool:
        try:
            value = json.loads(call.output)
        except (json.JSONDecodeError, RecursionError):
            return False
        schema = self._schemas.get(call.tool)
        return schema is None or not schema_error(schema, value)

    def _z(self, call: LoggedCall) -> float:
        mean, deviation = self._lengths.get(call.tool, self._lengths.get("", (0.0, 1.0)))
        return max(-5.0, min(5.0, (math.log1p(len(call.output)) - mean) / deviation))

    def state_dict(self) -> dict[str, Any]:
        simulated = [[call.tool, dict(call.arguments), call.output] for call in self._simulated]
        return {
            "rounds": self._rounds,
            "lengths": {k: list(v) for k, v in self._lengths.items()},
            "simulated": simulated,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._rounds = [list(row) for row in state["rounds"]]
        self._lengths = {name: (mean, deviation) for name, (mean, deviation) in state["lengths"].items()}
        self._simulated = [LoggedCall(tool=t, arguments=a, output=o) for t, a, o in state["simulated"]]


Score = Callable[[Sequence[LoggedCall]], list[float]]
"""How real each of some candidates looks, in [0, 1]: `Judge.score`, or any other."""


def overlap(arguments: Mapping[str, Any], output: str) -> float:
    """Share of the values in the arguments that the output repeats, in [0, 1]; 0.5 without any (ours)."""
    values = [str(value).casefold() for value in _leaves(dict(arguments))]
    return sum(value in output.casefold() for value in values) / len(values) if values else 0.5


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from _leaves(part)
    elif value is not None and not isinstance(value, bool) and str(value):
        yield value


def _lengths(calls: Sequence[LoggedCall]) -> dict[str, tuple[float, float]]:
    """Mean and deviation of the log length by tool, and of all under the empty name; a deviation is at least 0.1."""
    lengths: dict[str, list[float]] = {"": []}
    for call in calls:
        for name in ("", call.tool):
            lengths.setdefault(name, []).append(math.log1p(len(call.output)))
    means = {name: sum(values) / len(values) for name, values in lengths.items()}
    return {
        name: (means[name], max(0.1, math.sqrt(sum((v - means[name]) ** 2 for v in values) / len(values))))
        for name, values in lengths.items()
    }


def _logistic(rows: "np.ndarray", labels: "np.ndarray") -> "np.ndarray":
    """Weights, the last for the constant, by Newton's method with a ridge; both classes weigh the same."""
    import numpy as np

    rows = _with_one(rows)
    share = labels.mean()
    balance = np.where(labels == 1, 0.5 / share, 0.5 / (1 - share))
    ridge = _RIDGE * np.eye(rows.shape[1])
    ridge[-1, -1] = 1e-6
    made = np.zeros(rows.shape[1])
    for _ in range(_STEPS):
        guess = _sigmoid(rows @ made)
        slope = rows.T @ (balance * (guess - labels)) + ridge @ made
        bend = rows.T @ (rows * (balance * guess * (1 - guess))[:, None]) + ridge
        made = made - np.linalg.solve(bend, slope)
    return made


def _with_one(rows: "np.ndarray") -> "np.ndarray":
    import numpy as np

    return np.hstack([rows, np.ones((len(rows), 1))])


def _sigmoid(values: "np.ndarray") -> "np.ndarray":
    import numpy as np

    return 1 / (1 + np.exp(-np.clip(values, -30, 30)))
