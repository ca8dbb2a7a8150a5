"""Noisy verdicts: put in on purpose, taken out by their rates, and a reward that looks at no verdict at all."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Literal

from journeyman.expressions import Share
from journeyman.rewards.algebra import name_of
from journeyman.rewards.base import UNSCORED, Group, History, Judge, Reward, Score, Scores
from journeyman.rewards.outcome import told
from journeyman.seeds import derive
from journeyman.trajectory import Trajectory

SMALLEST = 0.1
"""What 1 - rho0 - rho1 is kept above (#197)."""
_COUNTING = Lock()


def flipped(reward: Reward, *, rate: Share = 0.4, seed: int = 0) -> Reward:
    """Flips a reward in [0, 1], r to 1 - r, for `rate` of the trajectories, as in a study of noise (#53, verified).

    Which ones depends on `seed` and the attempt alone. For studies: 0.4 is the paper's strongest noise.
    """

    def flipped_(group: Group) -> Scores:
        return [
            _flipped(score, _draw("flipped", seed, t) < rate) for t, score in zip(group, reward(group), strict=True)
        ]

    flipped_.__name__ = f"flipped_{name_of(reward)}"
    return flipped_


def _draw(name: str, seed: int, trajectory: Trajectory) -> float:
    """In [0, 1), the same whenever it is asked for the same attempt."""
    return derive(name, seed, trajectory.id, trajectory.problem_id, trajectory.seed, trajectory.sample) / 2**63


def _flipped(score: Score, flip: bool) -> Score:
    if score.total is None:
        return score
    total = 1 - score.total if flip else score.total
    return Score(total=total, parts={**score.parts, "flipped": float(flip)})


def backward(reward: Reward, *, false_positive: Share, false_negative: Share) -> Reward:
    """Backward correction (#197, derived): (r - rho0) / (1 - rho0 - rho1), an unbiased estimate of the clean reward.

    rho0 = `false_positive` = P(1 | wrong), rho1 = `false_negative` = P(0 | right). An affine map: a credit that divides
    by the group's spread undoes it, and centring undoes its shift. Its variance grows as the rates do. Raises
    `ValueError` where 1 - rho0 - rho1 is not above 0.1.
    """
    left = 1 - false_positive - false_negative
    if left <= SMALLEST:
        raise ValueError(f"1 - false_positive - false_negative has to be above {SMALLEST}, is {left:.3g}")
    return _mapped(reward, "backward", lambda r: (r - false_positive) / left)


def forward(reward: Reward, *, false_negative: Share) -> Reward:
    """Forward correction (#197, derived): the weight w of the score function, w(1) = rho1 and w(0) = rho1 - 1.

    With it the expected gradient is the clean one times 1 - rho0 - rho1, up to a baseline: w is 0 on average for a
    right answer and -(1 - rho0 - rho1) for a wrong one, and rho0 need not be known. It is a weight in place of an
    advantage, so that it needs a credit without a baseline: subtracting the group's mean undoes it.
    """
    return _mapped(reward, "forward", lambda r: r - 1 + false_negative)


def _mapped(reward: Reward, name: str, of: Callable[[float], float]) -> Reward:
    def mapped_(group: Group) -> Scores:
        return [
            score
            if score.total is None
            else Score(total=of(score.total), parts={**score.parts, name_of(reward): score.total})
            for score in reward(group)
        ]

    mapped_.__name__ = f"{name}_{name_of(reward)}"
    return mapped_


_APPEAL = """A strict checker compared an answer with the reference and found that they differ. It may be wrong about \
form: another notation, unit or wording of the same answer is right. Decide whether the answer means the same.

Question: {question}

Reference: {reference}

Answer: {answer}

Reply with one word, yes or no."""


def appealed(
    reward: Reward,
    *,
    share: Share = 0.1,
    correction: Literal["forward", "backward"] = "forward",
    false_positive: Share = 0.0,
    judge: Judge,
    history: History,
) -> Reward:
    """Appeals (#197, derived): a judge re-checks a seeded `share` of the negatives, and rho1 is estimated from that.

    rho1 = o / (o + p), p positives and o the negatives times the share of appeals that the judge sustained, over all
    earlier steps; 0 before there are any. The reward is then corrected by `forward` or `backward`, 1 - rho0 - rho1
    being kept at 0.1 or more. Totals of 0 or less are negatives. Answers that the judge can't decide are not counted;
    a sustained appeal doesn't change its own attempt's reward. Share and wording are ours.
    """
    most = 1 - SMALLEST - false_positive
    if most <= 0:
        raise ValueError(f"false_positive has to be below {1 - SMALLEST}, is {false_positive:.3g}")

    def appealed_(group: Group) -> Scores:
        scores = reward(group)
        rho1 = min(_estimate(history, group.step), most)
        _count(history, group, scores, _appeal(group, scores, share, judge))
        left = 1 - false_positive - rho1
        return [_corrected(score, rho1, false_positive, left if correction == "backward" else None) for score in scores]

    appealed_.__name__ = f"appealed_{name_of(reward)}"
    return appealed_


def _appeal(group: Group, scores: Sequence[Score], share: float, judge: Judge) -> list[bool]:
    """What the judge said of those whose turn it is: whether the answer was right after all."""
    negatives = [t for t, s in zip(group, scores, strict=True) if s.total is not None and s.total <= 0 and t.answer]
    chosen = [t for t in negatives if _draw("appealed", 0, t) < share]
    asked = [_APPEAL.format(question=t.question, reference=t.reference, answer=(t.answer or "")[:2000]) for t in chosen]
    replies = [_YES_OR_NO.match(reply) for [reply] in judge.ask(asked)] if asked else []
    return [reply[1].lower() == "yes" for reply in replies if reply]


_YES_OR_NO = re.compile(r"\W{0,9}(yes|no)\b", re.IGNORECASE)


def _count(history: History, group: Group, scores: Sequence[Score], upheld: Sequence[bool]) -> None:
    totals = [score.total for score in scores if score.total is not None]
    counted = {
        "positives": sum(total > 0 for total in totals),
        "negatives": sum(total <= 0 for total in totals),
        "appeals": len(upheld),
        "sustained": sum(upheld),
    }
    with _COUNTING:  # groups are scored in several threads
        if history.get("appealed", "step", -1) < group.step:  # this step's own counts wait until the next
            for key in counted:
                waiting = history.get("appealed", f"{key}_new", 0)
                history.set("appealed", key, history.get("appealed", key, 0) + waiting)
                history.set("appealed", f"{key}_new", 0)
            history.set("appealed", "step", group.step)
        for key, count in counted.items():
            history.set("appealed", f"{key}_new", history.get("appealed", f"{key}_new", 0) + count)


def _estimate(history: History, step: int) -> float:
    """rho1 as the earlier steps have it."""
    with _COUNTING:
        late = history.get("appealed", "step", -1) < step
        known = {
            key: history.get("appealed", key, 0) + (history.get("appealed", f"{key}_new", 0) if late else 0)
            for key in ("positives", "negatives", "appeals", "sustained")
        }
    if not known["appeals"]:
        return 0.0
    overturned = known["negatives"] * known["sustained"] / known["appeals"]
    return overturned / (overturned + known["positives"]) if overturned else 0.0


def _corrected(score: Score, rho1: float, rho0: float, left: float | None) -> Score:
    if score.total is None:
        return score
    total = score.total - 1 + rho1 if left is None else (score.total - rho0) / left
    return Score(total=total, parts={**score.parts, "observed": score.total, "false_negative_rate": rho1})


PHRASES = (
    "first,", "first of all", "to begin with", "second,", "then,", "next,", "after that", "finally,", "lastly,",
    "step by step", "i need to", "i should", "we need to", "we have to", "let me think", "let me check", "let's see",
    "let's check", "let us consider", "wait,", "hold on", "actually,", "hmm", "on second thought", "alternatively",
    "another way", "on the other hand", "double-check", "to verify", "makes sense", "that is wrong", "try again",
    "because", "since", "therefore", "hence", "it follows that", "which means", "for example", "in summary",
)  # fmt: skip
"""Forty phrases of reasoning (ours: the authors' own list is not carried over)."""


def reasoning_patterns(group: Sequence[Trajectory], *, enough: int = 20, phrases: tuple[str, ...] = PHRASES) -> Scores:
    """RPR, the reasoning-pattern reward (#53, verified): how many phrases of reasoning there are, whatever the answer.

    max(0, min(1, distinct phrases / `enough`) - share of 20-word runs that come more than once - "user: " made up);
    0 without an answer. The paper adds it to a noisy reward model where that is low. The list of 40 phrases is ours.
    Stuffing phrases games it: a baseline, not a target.
    """
    return [_patterns(t, enough, phrases) if told(t) else UNSCORED for t in group]


def _patterns(trajectory: Trajectory, enough: int, phrases: Sequence[str]) -> Score:
    text = "\n".join(turn.text for turn in trajectory.turns).lower()
    found = min(1.0, sum(phrase in text for phrase in phrases) / enough)
    repeated, invented = _repeated(text.split()), text.count("user: ")
    total = max(0.0, found - repeated - invented) if trajectory.answer is not None else 0.0
    return Score(total=total, parts={"patterns": found, "repeated": repeated})


def _repeated(words: Sequence[str], size: int = 20) -> float:
    """Distinct runs of words that come more than once, as a share of all runs."""
    runs = Counter(tuple(words[i : i + size]) for i in range(len(words) - size + 1))
    return sum(count > 1 for count in runs.values()) / runs.total() if runs else 0.0
