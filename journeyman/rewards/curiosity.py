"""Curiosity that noise does not satisfy: turns are paid for results that could have been known and were not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from journeyman.expressions import Count, Positive
from journeyman.rewards.base import UNSCORED, Encoder, Group, History, Score, TurnScores, per_turn
from journeyman.rewards.observations import (
    array_from_json,
    array_to_json,
    call_text,
    embedded,
    forget,
    running,
    slotted,
)
from journeyman.rewards.outcome import told
from journeyman.seeds import derive
from journeyman.trajectory import Trajectory

if TYPE_CHECKING:
    import numpy as np

CALLS, TOOLS = 1000, 64
"""Different calls whose mean result is known, and tools whose noise is; beyond, the oldest go (ours)."""
LEAST_NOISE = 1e-12
"""Smallest variance along a direction of noise."""


def curiosity(
    group: Group,
    *,
    dimensions: Count = 64,
    directions: Count = 4,
    ridge: Positive = 1.0,
    most: Positive = 5.0,
    encoder: Encoder,
    history: History,
) -> TurnScores:
    """BYOL-Hindsight, linear (#84, derived): a turn earns what of its calls' results was neither foreseen nor noise.

    A bonus: `correct + 0.01 * curiosity`. y = e(result) is foreseen by ridge regression on x = (e(what was shown last),
    e(call), 1) over earlier steps. Of the residual u what lies along the tool's `directions` of noise is taken off:
    the principal ones in which results of the same call after the same observation have differed so far. A tool that was
    never called twice alike earns max(0, |u|^2 - its mean |u|^2 so far). It is divided by the standard deviation of all
    such rewards so far and cut at `most`; a turn with several calls earns their mean.

    The linear form, all numbers and the weight are ours. Observations are compared with slots for ids, numbers and times;
    vectors of more than `dimensions` are thrown onto so many, which bounds the memory. What is learned at a step counts
    from the next on. Not covered: the paper's networks and their contrastive penalty. A reward has one `curiosity`.
    """

    def step() -> list[list[Score]]:
        made = [_Transition.of(t, turn) for one in group.groups for t in one if told(t) for turn in range(len(t.turns))]
        flat = [one for turn in made for one in turn]
        vectors = embedded([text for one in flat for text in one.texts], encoder, dimensions)
        earned = iter(_earned(history.note("curiosity"), flat, vectors, (directions, ridge, most)))
        paid = iter([_mean([next(earned) for _ in turn]) for turn in made])
        return [
            [per_turn(t, [next(paid) for _ in t.turns], name="curiosity") if told(t) else UNSCORED for t in one]
            for one in group.groups
        ]

    return history.once("curiosity", group, step)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Transition:
    """A call, what was seen before it, and what came of it."""

    tool: str
    before: str
    call: str
    after: str

    @classmethod
    def of(cls, trajectory: Trajectory, turn: int) -> "list[_Transition]":
        """Those of a turn, one a call."""
        shown = trajectory.turns[turn - 1].outputs() if turn else [trajectory.question]
        before, now = slotted("\n".join(shown)), trajectory.turns[turn]
        return [
            cls(tool=call.name, before=before, call=call_text(call.name, call.arguments), after=slotted(result.output))
            for call, result in zip(now.calls, now.results, strict=False)
        ]

    @property
    def texts(self) -> tuple[str, str, str]:
        return self.before, self.call, self.after

    @property
    def key(self) -> str:
        """The same for the same call after the same observation."""
        return f"{derive(self.before, self.call):016x}"


def _earned(
    note: dict[str, Any],
    transitions: Sequence[_Transition],
    vectors: "Mapping[str, np.ndarray]",
    options: tuple[int, float, float],
) -> list[float]:
    """What each transition earns; then the note has learned from them."""
    if not transitions:
        return []
    directions, ridge, most = options
    foresight, noise = _Foresight(note, len(vectors[transitions[0].before])), _Noise(note)
    known = [(vectors[one.before], vectors[one.call], vectors[one.after]) for one in transitions]
    residuals = [y - guess for (_, _, y), guess in zip(known, foresight.guesses(known, ridge), strict=True)]
    raw = [noise.unexplained(one.tool, u, directions) for one, u in zip(transitions, residuals, strict=True)]
    for one, (_, _, y), u in zip(transitions, known, residuals, strict=True):
        noise.see(one.tool, one.key, y)
        noise.missed(one.tool, float(u @ u))
    foresight.learn(known)
    noise.keep()
    _, spread = running(note, "rewards", raw)
    return [min(value / spread, most) for value in raw]


class _Foresight:
    """Ridge regression by its sums, which are all that is kept."""

    def __init__(self, note: dict[str, Any], dimensions: int) -> None:
        import numpy as np

        self._note, wide = note, 2 * dimensions + 1
        self._xx = array_from_json(note["xx"]) if "xx" in note else np.zeros((wide, wide))
        self._xy = array_from_json(note["xy"]) if "xy" in note else np.zeros((wide, dimensions))

    def guesses(self, known: "Sequence[_Vectors]", ridge: float) -> "np.ndarray":
        import numpy as np

        weights = np.linalg.solve(self._xx + ridge * np.eye(len(self._xx)), self._xy)
        return _inputs(known) @ weights

    def learn(self, known: "Sequence[_Vectors]") -> None:
        import numpy as np

        x, y = _inputs(known), np.array([y for _, _, y in known])
        self._note["xx"] = array_to_json(self._xx + x.T @ x)
        self._note["xy"] = array_to_json(self._xy + x.T @ y)


_Vectors = tuple["np.ndarray", "np.ndarray", "np.ndarray"]
"""Of what was seen before, of the call, of the result."""


def _inputs(known: Sequence[_Vectors]) -> "np.ndarray":
    import numpy as np

    return np.array([np.concatenate([before, call, [1.0]]) for before, call, _ in known])


class _Noise:
    """How results of the same call differ: tool by tool their scatter, call by call their mean.

    A step's residuals are all looked at before it counts a result.
    """

    def __init__(self, note: dict[str, Any]) -> None:
        self._note, self._axes = note, dict[str, "np.ndarray"]()
        self._tools = {name: _Tool.from_json(row) for name, row in note.get("tools", {}).items()}
        self._calls = {key: (count, array_from_json(mean)) for key, (count, mean) in note.get("calls", {}).items()}

    def see(self, tool: str, key: str, y: "np.ndarray") -> None:
        """Count a result of the call `key`: the scatter around the call's own mean grows (Welford)."""
        import numpy as np

        own = self._tools.setdefault(tool, _Tool())
        if key not in self._calls:
            self._calls[key] = (1, y)
            return
        count, mean = self._calls[key]
        moved = mean + (y - mean) / (count + 1)
        self._calls[key] = (count + 1, moved)
        own.scatter = (0.0 if own.scatter is None else own.scatter) + np.outer(y - mean, y - moved)

    def unexplained(self, tool: str, residual: "np.ndarray", directions: int) -> float:
        """|(I - ZZ') u|^2, or without repeated calls what |u|^2 is above its mean."""
        own = self._tools.get(tool, _Tool())
        if own.scatter is None:
            return max(0.0, float(residual @ residual) - own.error)
        if tool not in self._axes:
            self._axes[tool] = own.axes(directions)
        axes = self._axes[tool]
        left = residual - axes.T @ (axes @ residual)
        return float(left @ left)

    def missed(self, tool: str, error: float) -> None:
        """Count a squared residual."""
        own = self._tools.setdefault(tool, _Tool())
        own.count += 1
        own.error += (error - own.error) / own.count

    def keep(self) -> None:
        """Write it all into the note."""
        forget(self._calls, CALLS)
        forget(self._tools, TOOLS)
        self._note["calls"] = {key: [count, array_to_json(mean)] for key, (count, mean) in self._calls.items()}
        self._note["tools"] = {name: tool.to_json() for name, tool in self._tools.items()}


@dataclass(slots=True, kw_only=True)
class _Tool:
    """What is known of a tool's results."""

    count: int = 0
    error: float = 0.0
    """Mean squared residual of `count` results."""
    scatter: "np.ndarray | None" = None
    """Of results around their calls' means, d x d; None: no call was repeated."""

    def axes(self, directions: int) -> "np.ndarray":
        """Its principal directions, the strongest first: rows of length 1; none where repeated calls never differed."""
        import numpy as np

        assert self.scatter is not None
        strengths, columns = np.linalg.eigh((self.scatter + self.scatter.T) / 2)
        strongest = [i for i in range(len(strengths) - 1, -1, -1) if strengths[i] > LEAST_NOISE][:directions]
        return columns[:, strongest].T

    def to_json(self) -> dict[str, Any]:
        scatter = None if self.scatter is None else array_to_json(self.scatter)
        return {"count": self.count, "error": self.error, "scatter": scatter}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "_Tool":
        scatter = None if row["scatter"] is None else array_from_json(row["scatter"])
        return cls(count=row["count"], error=row["error"], scatter=scatter)
