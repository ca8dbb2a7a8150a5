"""Rewards for knowing what one knows: stated confidence, abstention, agreement where nothing is labelled."""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from statistics import fmean, pstdev
from typing import Annotated, Literal

from pydantic import Field

from journeyman.expressions import NotNegative, Share
from journeyman.graders.quantities import quantity
from journeyman.graders.values import normal_string
from journeyman.rewards.base import UNSCORED, Score, Scores, scorable
from journeyman.rewards.outcome import is_well_formed, told
from journeyman.trajectory import Trajectory

Floor = Annotated[float, Field(gt=0, lt=0.5)]
_CONFIDENCE = re.compile(
    r"<confidence>\s{0,9}([0-9]{1,3}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})\s{0,9}(%?)\s{0,9}</confidence>"
)
_NUMBER = re.compile(r"[-−]?(?:[0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})")


def rlcr(
    group: Sequence[Trajectory],
    *,
    rule: Literal["brier", "log"] = "brier",
    floor: Floor = 0.01,
    form: NotNegative = 0.0,
) -> Scores:
    """RLCR (#156, derived): the verdict y plus a proper score of the confidence c that the policy itself stated.

    `brier` -(c - y)^2, as in the paper. `log` is the logarithm of the probability that c gave to what came out, bounded
    below by log(`floor`) and scaled to [-1, 0]; it is proper only between `floor` and 1 - `floor` (ours: the plain
    logarithm is unbounded, and then being wrong can pay more than being right). c is the last
    `<confidence>0.7</confidence>`, or 70%, of the policy's last turn; one that is missing, beyond [0, 1] or no number
    scores the worst, -1. `form` is added for a readable confidence in a well-formed attempt.
    """
    return [_calibrated(t, rule, floor, form) if scorable(t) else UNSCORED for t in group]


def _calibrated(trajectory: Trajectory, rule: str, floor: float, form: float) -> Score:
    verdict, confidence = float(bool(trajectory.correct)), stated_confidence(trajectory)
    good = form * (confidence is not None and is_well_formed(trajectory))
    if confidence is None:
        calibration = -1.0
    elif rule == "brier":
        calibration = -((confidence - verdict) ** 2)
    else:
        calibration = -math.log(max(floor, confidence if verdict else 1 - confidence)) / math.log(floor)
    told_parts = {} if confidence is None else {"confidence": confidence}
    parts = {"correct": verdict, "calibration": calibration, "format": good, **told_parts}
    return Score(total=verdict + calibration + good, parts=parts)


def stated_confidence(trajectory: Trajectory) -> float | None:
    """The confidence in [0, 1] that its last turn states; None where it states none that can be read."""
    found = _CONFIDENCE.findall(trajectory.turns[-1].text) if trajectory.turns else []
    if not found:
        return None
    said, per_cent = found[-1]
    confidence = float(said) / (100 if per_cent else 1)
    return confidence if confidence <= 1 else None


UNKNOWN = ("i don't know", "i do not know", "don't know", "unknown", "not sure", "i am not sure", "i'm not sure")
"""Answers that are an abstention (ours)."""


def abstain(group: Sequence[Trajectory], *, value: Share = 0.3, phrases: tuple[str, ...] = UNKNOWN) -> Scores:
    """Abstention: right 1, abstained `value`, wrong 0. The idea is MASH's (#11, verified), this reward is ours.

    An answer is an abstention where nothing else stands in it than one of `phrases`, whatever the case and punctuation;
    "I don't know, 42" is none. With `value` = v it pays to answer from a probability of v of being right. An abstention
    that the environment calls right, where there is no answer, earns 1. In the paper nothing is paid for abstaining: a
    model trained by `mash` abstains by asking for a search that it can't have.
    """
    return [_abstained(t, value, phrases) if scorable(t) else UNSCORED for t in group]


def _abstained(trajectory: Trajectory, value: float, phrases: tuple[str, ...]) -> Score:
    verdict, abstained = float(bool(trajectory.correct)), abstains(trajectory, phrases=phrases)
    total = value if abstained and not verdict else verdict
    return Score(total=total, parts={"correct": verdict, "abstained": float(abstained)})


def abstains(trajectory: Trajectory, *, phrases: tuple[str, ...] = UNKNOWN) -> bool:
    """Whether its answer is one of `phrases`, whatever the case and punctuation, and nothing else."""
    answer = normal_string((trajectory.answer or "").strip(" .!\n"))
    return answer in _normal_forms(tuple(phrases))


@cache
def _normal_forms(phrases: tuple[str, ...]) -> frozenset[str]:
    return frozenset(map(normal_string, phrases))


Answer = float | str | tuple[float, float]
Consensus = tuple[float, Callable[[Answer], float]]
"""How unsure the answers are together, and how well one of them agrees with the consensus."""


def urpa(
    group: Sequence[Trajectory],
    *,
    kind: Literal["text", "number", "interval"] = "text",
    gamma: NotNegative = 1.0,
    form: Share = 0.5,
    least: Share = 0.0,
) -> Scores:
    """URPA (#152, secondary): agreement with the group's own consensus, weighted by how sure it is; no label is needed.

    R = `form` well_formed + (1 - form) c agreement, c = exp(-`gamma` u). `interval`, the paper's: answers of two
    numbers, pseudo-label the mean start and end, u the sum of their standard deviations, agreement the overlap IoU.
    Ours: `number`, with the mean, u = std / |mean| and 1 - |a - mean| / |mean|; `text`, with the most frequent answer,
    u = entropy / log G and equality in normal form. gamma is ours. Groups with c < `least` can't be scored.

    c is the same for all of a group, so that dividing by the spread cancels it: use a credit that doesn't. The verdict
    is never looked at: for prompts without a verifier only. A wrong consensus is rewarded like a right one.
    """
    answers = {i: _read(t.answer, kind) for i, t in enumerate(group) if told(t)}
    readable = [answer for answer in answers.values() if answer is not None]
    if not readable:
        return [UNSCORED for _ in group]
    unsure, agrees = _CONSENSUS[kind](readable)
    sure = math.exp(-gamma * unsure)
    scores = []
    for i, t in enumerate(group):
        answer = answers.get(i)
        if i not in answers or sure < least:
            scores.append(UNSCORED)
            continue
        agreement = 0.0 if answer is None else agrees(answer)
        good = float(is_well_formed(t))
        total = form * good + (1 - form) * sure * agreement
        scores.append(Score(total=total, parts={"format": good, "agreement": agreement, "consensus": sure}))
    return scores


def _read(answer: str | None, kind: str) -> Answer | None:
    if answer is None:
        return None
    if kind == "text":
        return normal_string(answer) or None
    if kind == "number":
        read = quantity(answer.strip())
        return None if read is None else float(read.value)
    numbers = [float(number.replace("−", "-")) for number in _NUMBER.findall(answer[:200])]
    return (numbers[0], numbers[1]) if len(numbers) == 2 and numbers[0] <= numbers[1] else None


def _text_consensus(answers: Sequence[Answer]) -> Consensus:
    counts = Counter(answers)
    most = max(counts.values())
    common = min((answer for answer, count in counts.items() if count == most), key=str)
    shares = [count / len(answers) for count in counts.values()]
    entropy = -math.fsum(share * math.log(share) for share in shares)
    return entropy / math.log(len(answers)) if len(answers) > 1 else 0.0, lambda answer: float(answer == common)


def _number_consensus(answers: Sequence[Answer]) -> Consensus:
    numbers = [number for number in answers if isinstance(number, float)]
    mean, scale = fmean(numbers), abs(fmean(numbers)) or 1.0

    def agrees(answer: Answer) -> float:
        return max(0.0, 1 - abs(answer - mean) / scale) if isinstance(answer, float) else 0.0

    return pstdev(numbers) / scale, agrees


def _interval_consensus(answers: Sequence[Answer]) -> Consensus:
    pairs = [pair for pair in answers if isinstance(pair, tuple)]
    starts, ends = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    start, end = fmean(starts), fmean(ends)

    def agrees(answer: Answer) -> float:
        return _overlap(answer, (start, end)) if isinstance(answer, tuple) else 0.0

    return pstdev(starts) + pstdev(ends), agrees


def _overlap(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Intersection over union of two intervals; 1 for equal points."""
    union = max(one[1], other[1]) - min(one[0], other[0])
    common = max(0.0, min(one[1], other[1]) - max(one[0], other[0]))
    return common / union if union > 0 else 1.0


_CONSENSUS: dict[str, Callable[[Sequence[Answer]], Consensus]] = {
    "text": _text_consensus,
    "number": _number_consensus,
    "interval": _interval_consensus,
}
