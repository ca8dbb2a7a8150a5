"""Rewards for short thoughts, and for saving more of them on easy problems than on hard ones.

Length is counted in learned tokens: those that the policy sampled, whatever its tools answered.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean, pstdev
from typing import Literal

from journeyman.expressions import Count, NotNegative, Share
from journeyman.rewards.base import UNSCORED, Group, History, Score, Scores, scorable
from journeyman.rewards.outcome import accuracy_of, is_well_formed, plain, told
from journeyman.trajectory import StopReason, Trajectory


def tokens(group: Sequence[Trajectory]) -> Scores:
    """How many tokens the policy sampled, its own thoughts, calls and answer; to be subtracted."""
    return [plain("tokens", float(length_of(t))) if told(t) else UNSCORED for t in group]


def length_of(trajectory: Trajectory) -> int:
    """Learned tokens."""
    return sum(trajectory.loss_mask)


def overlong(group: Sequence[Trajectory], *, longest: Count = 20480, cushion: Count = 4096) -> Scores:
    """DAPO's soft overlong punishment (arXiv 2503.14476, verified): 0, falling to -1 over the last `cushion` tokens.

    0 up to `longest` - `cushion` tokens, then ((longest - cushion) - tokens) / cushion, and -1 from `longest` on. To
    be added: `correct + overlong`. The authors count the whole response; here tool outputs are not counted.
    """
    return [plain("overlong", _overlong(length_of(t), longest, cushion)) if told(t) else UNSCORED for t in group]


def _overlong(length: int, longest: int, cushion: int) -> float:
    return max(-1.0, min(0.0, (longest - cushion - length) / cushion))


def grpo_lambda(
    group: Group,
    *,
    share: Share = 0.2,
    strength: Share = 0.6,
    gate: bool = True,
    measure: Literal["tokens", "calls"] = "tokens",
) -> Scores:
    """GRPO-lambda (#92, secondary): a length penalty only for the `share` of the step's groups that are most accurate.

    There a right answer earns 1 - `strength` sigmoid((L - mean) / std), mean and std over the group's right answers,
    and a wrong one 0; everywhere else it is 1 or 0. ceil(share P) of P groups are chosen, and those that are as
    accurate as the last of them (ours). `gate=False` penalises in every group: the comparison that the paper draws.
    Where std = 0, as with one right answer, the sigmoid is 1/2. strength is of others' code, the authors' is not
    known. `calls` counts calls instead of tokens (ours).
    """
    lengths = [float(length_of(t) if measure == "tokens" else len(t.calls)) for t in group]
    right = [length for length, t in zip(lengths, group, strict=True) if scorable(t) and t.correct]
    penalised = bool(right) and (not gate or _among_best(group, share))
    mean, spread = (fmean(right), pstdev(right)) if right else (0.0, 0.0)
    scores = []
    for t, length in zip(group, lengths, strict=True):
        if not scorable(t):
            scores.append(UNSCORED)
            continue
        verdict = float(bool(t.correct))
        penalty = strength * _sigmoid((length - mean) / spread if spread else 0.0) * penalised * verdict
        scores.append(Score(total=verdict - penalty, parts={"correct": verdict, "length_penalty": penalty}))
    return scores


def _among_best(group: Group, share: float) -> bool:
    """Whether fewer than the wanted number of the step's groups are more accurate than this one."""
    rated = [accuracy_of(one) for one in group.groups]
    known = [accuracy for accuracy in rated if accuracy is not None]
    own = accuracy_of(group)
    return own is not None and sum(accuracy > own for accuracy in known) < math.ceil(share * len(known))


def _sigmoid(x: float) -> float:
    return 0.5 * (1 + math.tanh(x / 2))  # never overflows


Step = Literal["reward", "penalty", "hybrid"]
Difficulty = Literal["easy", "middling", "hard"]


def laser(
    group: Sequence[Trajectory],
    *,
    target: Count = 8192,
    bonus: NotNegative = 0.5,
    form: Step = "reward",
    wrong: float = -0.5,
    unreadable: float = -1.0,
) -> Scores:
    """LASER (#146, verified): 1 and `bonus` for a right answer of at most `target` tokens, 1 for a longer one.

    A wrong answer earns `wrong`, one that was cut off or has no answer to be read `unreadable`. `penalty` takes
    `bonus` off longer ones instead, `hybrid` does both. A step: inside the band length has no gradient. The authors
    trained with targets of 2048, 4096 and 8192.
    """
    return [_stepped(t, target, bonus, form, wrong, unreadable) for t in group]


def _stepped(
    trajectory: Trajectory, target: int, bonus: float, form: Step, wrong: float, unreadable: float, longer: float = 0.0
) -> Score:
    """`longer` is what a wrong answer beyond the target earns besides."""
    if not scorable(trajectory):
        return UNSCORED
    base = _base(trajectory, wrong, unreadable)
    within = length_of(trajectory) <= target
    earned = 0.0
    if base == 1.0:
        earned = {"reward": bonus * within, "penalty": -bonus * (not within), "hybrid": bonus if within else -bonus}[
            form
        ]
    elif base == wrong and not within and longer and not repeats(trajectory):
        earned = longer
    return Score(total=base + earned, parts={"base": base, "length": earned, "target_length": float(target)})


def _base(trajectory: Trajectory, wrong: float, unreadable: float) -> float:
    if trajectory.correct:
        return 1.0
    read = is_well_formed(trajectory) and trajectory.stop_reason is not StopReason.MAX_TOKENS
    return wrong if read and trajectory.answer is not None else unreadable


def laser_d(
    group: Sequence[Trajectory],
    *,
    explore: bool = False,
    bonus: NotNegative = 0.5,
    form: Step = "reward",
    wrong: float = -0.5,
    unreadable: float = -1.0,
    shortest: Count = 4096,
    interval: Count = 1024,
    longest: Count = 16384,
    window: Count = 4000,
    history: History,
) -> Scores:
    """LASER-D (#146, verified): LASER with an adaptive target length each for easy, middling and hard problems.

    A group is easy from an accuracy of 2/3, middling from 1/3, else hard. The target of a class is the least L of the
    grid `shortest`, + `interval`, ... up to `longest` for which int(n times the share of the class's attempts of at
    most L tokens) >= 1, with n = int(2G/3), int(G/3) and 1, at least 1; where there is none, `longest`. `explore` is
    LASER-DE: a wrong answer longer than its target that doesn't repeat itself earns `bonus`, too.

    The authors measure the shares every 20 steps on a set of 500 problems; here they are those of the last `window`
    attempts of the class in training, this group's with them (ours). Their rule for repetition is simplified: see
    `repeats`.
    """
    known = [t for t in group if scorable(t)]
    accuracy = accuracy_of(known)
    if accuracy is None:
        return [UNSCORED for _ in group]
    level = difficulty(accuracy)
    tries = max(1, {"easy": int(2 * len(known) / 3), "middling": int(len(known) / 3), "hard": 1}[level])
    seen = history.window(f"laser_d {level}", [float(length_of(t)) for t in known], window)
    target = _target(seen, tries, range(shortest, longest + 1, interval), longest)
    longer = bonus if explore else 0.0
    return [_stepped(t, target, bonus, form, wrong, unreadable, longer) for t in group]


def difficulty(accuracy: float) -> Difficulty:
    """The class of a problem with this share of right attempts."""
    if accuracy >= 2 / 3:
        return "easy"
    return "middling" if accuracy >= 1 / 3 else "hard"


def _target(lengths: Sequence[float], tries: int, grid: Sequence[int], longest: int) -> int:
    for target in grid:
        if int(sum(length <= target for length in lengths) / len(lengths) * tries) >= 1:
            return target
    return longest


def repeats(trajectory: Trajectory, size: int = 4, times: int = 3) -> bool:
    """Whether a run of `size` learned tokens comes `times` times, two of them closer than a third of the length.

    After the check of LASER-DE (#146); runs of one and the same token don't count. Its shorter runs for texts under
    100 tokens and its second pass for longer patterns are not covered.
    """
    ids = [token for token, learned in zip(trajectory.token_ids, trajectory.loss_mask, strict=True) if learned]
    places: dict[tuple[int, ...], list[int]] = {}
    for place in range(len(ids) - size + 1):
        run = tuple(ids[place : place + size])
        if len(set(run)) > 1:
            places.setdefault(run, []).append(place)
    near = len(ids) // 3
    return any(len(found) >= times and any(b - a < near for a, b in pairwise(found)) for found in places.values())


def traac(
    group: Sequence[Trajectory],
    *,
    strengths: dict[Difficulty, NotNegative] | None = None,
    form: NotNegative = 0.1,
) -> Scores:
    """TRAAC's adaptive length reward (#153, derived): shortness pays for right answers, most on easy problems.

    R = correct + `form` well_formed + strength times shortness; shortness is (longest - L) / (longest - shortest)
    among the group's right answers, 0 where they are equal. A group is easy from an accuracy of 2/3, middling from
    1/3, else hard; strengths 0.5, 0.25 and 0. A reading of the abstract: all constants and the shape are ours. Pruning
    by attention is not covered: what attention a step receives can't be had from sampled tokens.
    """
    strength = {"easy": 0.5, "middling": 0.25, "hard": 0.0, **(strengths or {})}
    accuracy = accuracy_of(group)
    weight = strength[difficulty(accuracy)] if accuracy is not None else 0.0
    right = [length_of(t) for t in group if scorable(t) and t.correct]
    low, high = min(right, default=0), max(right, default=0)
    scores = []
    for t in group:
        if not scorable(t):
            scores.append(UNSCORED)
            continue
        verdict, good = float(bool(t.correct)), form * is_well_formed(t)
        short = weight * (high - length_of(t)) / (high - low) if t.correct and high > low else 0.0
        scores.append(Score(total=verdict + good + short, parts={"correct": verdict, "format": good, "short": short}))
    return scores
