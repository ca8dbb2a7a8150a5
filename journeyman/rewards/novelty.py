"""Novelty search over trajectories: a bonus for behaviour that is far from what was seen."""

import zlib
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from journeyman.expressions import Count
from journeyman.rewards.base import UNSCORED, Encoder, Group, History, Score, Scores
from journeyman.rewards.observations import array_from_json, array_to_json, embedded
from journeyman.rewards.outcome import told
from journeyman.trajectory import Trajectory

if TYPE_CHECKING:
    import numpy as np

CAPACITY = 1000
"""Descriptors in the archive, after which the oldest go (ours)."""
BINS = 32
"""Of the histogram of tools: names are hashed into them (ours)."""


def novelty(
    group: Group,
    *,
    neighbours: Count = 15,
    dimensions: Count = 16,
    phase: Count | None = 10,
    refit: Count = 50,
    kept: Count = 5,
    encoder: Encoder,
    history: History,
) -> Scores:
    """STAX's novelty (#69, derived): mean distance to the nearest descriptors of archive and step, standardised over the step.

    A bonus: `correct + 0.1 * novelty`. It is paid in every other `phase` of steps, beginning with the first; in those
    between it is 0 (None: always paid). The `kept` most novel of a step enter the archive. 15 neighbours are the
    authors'; the other numbers are ours, and so is the descriptor: mean embedding of the observations, that of the last
    one, shares of the tools called, all on the `dimensions` principal axes of archive and step. The axes are taken anew
    every `refit` steps; the archive holds raw descriptors, at most 1000, so that it moves with them exactly.

    Steps are those of the stage. Not covered: surprise as the criterion, emitters, and which problems an exploiting phase
    would draw. Keep the weight small: nonsense is novel, too. A reward has one `novelty`.
    """
    exploring = phase is None or group.step // phase % 2 == 0

    def step() -> list[list[Score]]:
        telling = [t for one in group.groups for t in one if told(t)]
        if not telling:
            return [[UNSCORED for _ in one] for one in group.groups]
        raw = _described(telling, encoder)
        archive = _Archive.of(history.note("novelty"))
        if group.step % refit == 0 or not len(archive.axes):
            archive.fit(raw, dimensions)
        distances = archive.distances(raw, neighbours)
        archive.keep(raw[_most(distances, kept)])
        bonuses = iter(zip(_standardised(distances), distances, strict=True))
        return [[_scored(*next(bonuses), exploring) if told(t) else UNSCORED for t in one] for one in group.groups]

    return history.once("novelty", group, step)


def _scored(bonus: float, distance: float, exploring: bool) -> Score:
    paid = float(bonus) if exploring else 0.0
    return Score(total=paid, parts={"novelty": paid, "novelty_distance": float(distance)})


def _described(trajectories: Sequence[Trajectory], encoder: Encoder) -> "np.ndarray":
    """N x R raw descriptors. Float32: what a checkpoint holds of them is what they are."""
    import numpy as np

    seen = [[output for turn in t.turns for output in turn.outputs()] for t in trajectories]
    questions = [t.question for t in trajectories]  # they tell how long a vector is where nothing was seen
    known = embedded([*questions, *(text for texts in seen for text in texts)], encoder)
    rows = []
    for t, texts in zip(trajectories, seen, strict=True):
        own = [known[text] for text in texts] or [np.zeros_like(known[t.question])]
        rows.append(np.concatenate([np.mean(own, axis=0), own[-1], _tools(t)]))
    return np.array(rows, np.float32)


def _tools(trajectory: Trajectory) -> "np.ndarray":
    """Shares of the calls by tool."""
    import numpy as np

    shares = np.zeros(BINS)
    for name, count in Counter(call.name for call in trajectory.calls).items():
        shares[zlib.crc32(name.encode("utf-8", "surrogatepass")) % BINS] += count / len(trajectory.calls)
    return shares


def mean_nearest(points: "np.ndarray", archive: "np.ndarray", neighbours: int) -> "np.ndarray":
    """Of each of N points the mean distance to the nearest others, archived ones and points; 0 where there is no other."""
    import numpy as np

    others = np.concatenate([archive, points])
    found = np.zeros(len(points))
    for i, point in enumerate(points):
        distances = np.linalg.norm(others - point, axis=1)
        distances[len(archive) + i] = np.inf
        found[i] = np.sort(distances)[: min(neighbours, len(others) - 1)].mean() if len(others) > 1 else 0.0
    return found


def _standardised(values: "np.ndarray") -> "np.ndarray":
    spread = values.std()
    return (values - values.mean()) / spread if spread > 1e-12 else values * 0.0


def _most(values: "np.ndarray", count: int) -> "np.ndarray":
    """Places of the largest, those before among equals."""
    import numpy as np

    return np.argsort(-values, kind="stable")[:count]


class _Archive:
    """Raw descriptors, and the axes on which they are compared; written back to the note that it was read from."""

    def __init__(self, note: dict[str, Any], raw: "np.ndarray", mean: "np.ndarray", axes: "np.ndarray") -> None:
        self._note, self.raw, self.mean, self.axes = note, raw, mean, axes

    @classmethod
    def of(cls, note: dict[str, Any]) -> "_Archive":
        import numpy as np

        known = {name: array_from_json(note[name]) if name in note else np.empty((0, 0)) for name in _ARRAYS}
        return cls(note, **known)

    def fit(self, raw: "np.ndarray", dimensions: int) -> None:
        """Take the principal axes of all that is known."""
        import numpy as np

        rows = (np.concatenate([self.raw, raw]) if len(self.raw) else raw).astype(np.float64)
        self.mean = rows.mean(axis=0)
        _, lengths, axes = np.linalg.svd(rows - self.mean, full_matrices=False)
        # Laid out as they are read from a checkpoint, or the last bits of products would differ.
        self.axes = np.ascontiguousarray(axes[:dimensions][lengths[:dimensions] > 1e-9])
        self._write(mean=self.mean, axes=self.axes)

    def distances(self, raw: "np.ndarray", neighbours: int) -> "np.ndarray":
        return mean_nearest(self._placed(raw), self._placed(self.raw), neighbours)

    def keep(self, raw: "np.ndarray") -> None:
        import numpy as np

        self.raw = (np.concatenate([self.raw, raw]) if len(self.raw) else raw)[-CAPACITY:]
        self._write(raw=self.raw)

    def _placed(self, raw: "np.ndarray") -> "np.ndarray":
        import numpy as np

        if not len(raw) or not len(self.axes):  # nothing is archived, or all are the same
            return np.zeros((len(raw), len(self.axes)))
        return (raw - self.mean) @ self.axes.T

    def _write(self, **arrays: "np.ndarray") -> None:
        self._note.update({name: array_to_json(array) for name, array in arrays.items()})


_ARRAYS = ("raw", "mean", "axes")
