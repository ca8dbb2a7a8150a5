"""What the arms of a claim are measured by, on held-out problems and along the training."""

import re
from collections.abc import Callable, Sequence
from statistics import fmean

from journeyman.config import RlConfig
from journeyman.trajectory import StopReason, Trajectory

CONFIDENCE = re.compile(r"<confidence>\s*([01](?:\.\d+)?)\s*</confidence>")
BINS = 10


def accuracy(found: Sequence[Trajectory]) -> float:
    return fmean(bool(t.correct) for t in found)


def accuracy_lookup(found: Sequence[Trajectory]) -> float | None:
    """On look-ups alone: the family with the longest courses."""
    return _mean([bool(t.correct) for t in found if t.family == "lookup"])


def calls(found: Sequence[Trajectory]) -> float:
    return fmean(len(t.calls) for t in found)


def needless_calls(found: Sequence[Trajectory]) -> float | None:
    """Beyond the shortest course, a solved problem."""
    return _mean([t.needless_calls for t in found if t.correct])


def tokens(found: Sequence[Trajectory]) -> float:
    """Sampled, an attempt."""
    return fmean(sum(t.loss_mask) for t in found)


def unanswered(found: Sequence[Trajectory]) -> float:
    """Share that never came to an answer."""
    return fmean(t.stop_reason is not StopReason.ANSWER for t in found)


def brier(found: Sequence[Trajectory]) -> float | None:
    """(confidence - right)^2; attempts without a readable confidence count as fully sure of themselves."""
    said = [confidence(t) for t in found]
    if not any(c is not None for c in said):
        return None
    return fmean(((1.0 if c is None else c) - bool(t.correct)) ** 2 for c, t in zip(said, found, strict=True))


def calibration_error(found: Sequence[Trajectory]) -> float | None:
    """Expected calibration error over ten bins, of the attempts that state a confidence."""
    said = [(c, float(bool(t.correct))) for t in found if (c := confidence(t)) is not None]
    bins: list[list[tuple[float, float]]] = [[] for _ in range(BINS)]
    for c, right in said:
        bins[min(int(c * BINS), BINS - 1)].append((c, right))
    gaps = [len(b) * abs(fmean(c for c, _ in b) - fmean(r for _, r in b)) for b in bins if b]
    return sum(gaps) / len(said) if said else None


def confidence(trajectory: Trajectory) -> float | None:
    """What the last turn says of itself."""
    stated = CONFIDENCE.search(trajectory.turns[-1].text) if trajectory.turns else None
    return float(stated[1]) if stated else None


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


MEASURES: dict[str, Callable[[Sequence[Trajectory]], float | None]] = {
    "accuracy": accuracy,
    "accuracy_lookup": accuracy_lookup,
    "calls": calls,
    "needless_calls": needless_calls,
    "tokens": tokens,
    "unanswered": unanswered,
    "brier": brier,
    "calibration_error": calibration_error,
}


def curves(sampled: Sequence[Trajectory], block: RlConfig) -> dict[str, list[float]]:
    """Accuracy, calls and reward of each step of the training."""
    size = block.problems * block.group
    steps = [sampled[i : i + size] for i in range(0, len(sampled), size)]
    return {
        "accuracy": [round(accuracy(step), 4) for step in steps],
        "calls": [round(calls(step), 4) for step in steps],
        "reward": [round(_mean([t.reward for t in step if t.reward is not None]) or 0.0, 4) for step in steps],
    }
