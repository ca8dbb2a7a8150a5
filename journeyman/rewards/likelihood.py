"""Rewards that the policy's own log-probabilities give: how likely it finds the reference, its answer, a follow-up.

The scorer is the policy under the weights that sampled the step, at temperature 1. Contexts are the ids as they were
sampled, from the last cut on; what is put in the policy's mouth is encoded by itself and follows them.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean
from typing import Literal

from journeyman.messages import Message
from journeyman.rewards.base import UNSCORED, Policy, Score, Scores, TurnScores, per_turn
from journeyman.rewards.outcome import answer_f1, is_well_formed, plain, told
from journeyman.trajectory import Trajectory

ANSWER = "<answer>"
Row = tuple[Sequence[int], Sequence[int]]
"""(prompt ids, continuation ids)."""


def context(trajectory: Trajectory, stop: int) -> tuple[int, ...]:
    """The ids that the policy saw before `token_ids[stop]`: they begin at the last cut that is not behind it."""
    begin = max((cut for cut in trajectory.cuts if cut <= stop), default=0)
    return trajectory.token_ids[begin:stop]


def _sampled(trajectory: Trajectory) -> bool:
    """Whether there are turns and all stand in the ids, so that there is something to condition on."""
    return bool(trajectory.turns) and all(0 < turn.start < turn.stop for turn in trajectory.turns)


def likelihood(
    group: Sequence[Trajectory],
    *,
    variant: Literal["log", "mean_log", "prob", "mean_prob", "jepo"] = "log",
    opening: str = ANSWER,
    policy: Policy,
) -> Scores:
    """Likelihood of the reference answer a after the policy's own thought z (#138, secondary): log p(a | q, z).

    `log` is the sum over a's tokens, `mean_log` their mean, `prob` exp of the sum (VeriFree), `mean_prob` the mean of
    the tokens' probabilities (RLPR). `jepo` is what an attempt adds to log mean_i p_i of the group: that minus the same
    without it (the split among attempts is ours; alone it has its log p). No verifier is asked.

    z is all that was sampled before the last turn's `opening` mark. Where the mark is missing it is what came before
    the last turn. None for written trajectories and problems without a reference. The paper's second gradient term,
    which is supervised learning of a, is not covered.
    """
    usable = [i for i, t in enumerate(group) if told(t) and _sampled(t) and t.reference]
    mark = policy.encode(opening)
    rows = [((*_thought(group[i], opening, policy), *mark), policy.encode(group[i].reference)) for i in usable]
    logs = dict(zip(usable, _asked(policy, rows), strict=True))
    values = _joint(logs) if variant == "jepo" else {i: _likely(own, variant) for i, own in logs.items()}
    return [
        Score(total=values[i], parts={"mean_log_likelihood": fmean(logs[i])}) if i in values else UNSCORED
        for i in range(len(group))
    ]


def _asked(policy: Policy, rows: Sequence[Row]) -> list[list[float]]:
    return policy.logprobs(rows) if rows else []


def _thought(trajectory: Trajectory, opening: str, policy: Policy) -> tuple[int, ...]:
    """The policy's context up to where its answer opens, token for token as it was sampled.

    The place is found from behind: the ids of what follows the thought, with or without an end-of-turn token. Where
    they were sampled in other pieces than the tokenizer makes, their number decides.
    """
    last = trajectory.turns[-1]
    place = last.text.rfind(opening)
    if place < 0:
        return context(trajectory, last.start)
    tail = tuple(policy.encode(last.text[place:]))
    ends = [
        end - len(tail)
        for end in (last.stop - 1, last.stop)
        if end - len(tail) >= last.start and trajectory.token_ids[end - len(tail) : end] == tail
    ]
    stop = ends[0] if ends else max(last.start, last.stop - 1 - len(tail))
    return context(trajectory, last.start) + trajectory.token_ids[last.start : stop]


def _likely(logs: Sequence[float], variant: str) -> float:
    match variant:
        case "mean_log":
            return fmean(logs)
        case "prob":
            return math.exp(math.fsum(logs))
        case "mean_prob":
            return fmean(map(math.exp, logs))
    return math.fsum(logs)


def _joint(logs: dict[int, list[float]]) -> dict[int, float]:
    sums = {i: math.fsum(own) for i, own in logs.items()}
    if len(sums) < 2:
        return sums
    whole = _log_mean_exp(list(sums.values()))
    return {i: whole - _log_mean_exp([value for j, value in sums.items() if j != i]) for i in sums}


def _log_mean_exp(values: Sequence[float]) -> float:
    highest = max(values)
    return highest + math.log(fmean(math.exp(value - highest) for value in values))


def self_aligned(group: Sequence[Trajectory], *, policy: Policy) -> Scores:
    """SAR (#111, verified): clip((ppl(a) - ppl(a | q)) / ppl(a), -1, 1), how much the question explains the answer.

    ppl = exp(-mean log p) over a's tokens, with the question and without. To be added with a small weight:
    `correct + 0.2 * self_aligned` (0.2 is ours; wrong answers are paid as well). With tools a is everything that the
    policy sampled before its context first began anew, its tools' outputs standing in both contexts (ours: the paper
    has one turn). Without the question means an empty user's message in the policy's own template.
    """
    usable = [i for i, t in enumerate(group) if told(t) and _sampled(t)]
    empty = policy.prompt([Message(role="user", content="")])
    rows: list[Row] = []
    for i in usable:
        ids, start = group[i].token_ids[group[i].samples()[0]], group[i].turns[0].start
        rows += [(ids[:start], ids[start:]), (empty, ids[start:])]
    asked = _asked(policy, rows)
    scores = {i: _aligned(group[i], *asked[2 * k : 2 * k + 2]) for k, i in enumerate(usable)}
    return [scores.get(i, UNSCORED) for i in range(len(group))]


def _aligned(trajectory: Trajectory, given: Sequence[float], alone: Sequence[float]) -> Score:
    start = trajectory.turns[0].start
    learned = trajectory.loss_mask[start : start + len(given)]
    kept = [(one, other) for one, other, m in zip(given, alone, learned, strict=True) if m]
    if not kept:
        return UNSCORED
    # 1 - ppl(a | q) / ppl(a); below -1 everything is -1, so that the exponent may be bounded
    gap = fmean(other for _, other in kept) - fmean(one for one, _ in kept)
    return plain("self_aligned", max(-1.0, 1 - math.exp(min(gap, 1.0))))


def information_gain(
    group: Sequence[Trajectory],
    *,
    suffix: str = "I know enough to answer now.\n<answer>",
    malformed: float = -2.0,
    weight: float = 1.0,
    policy: Policy,
) -> TurnScores:
    """IGPO (#79, verified): each turn is paid what it adds to the probability of the true answer; the last one, F1.

    p_t = exp(mean log p(reference | context before turn t, `suffix`)), so that turn t earns `weight` (p_{t+1} - p_t),
    the telescoping gain of its calls' results. The last turn earns the answer's F1, of bags of words where the authors'
    is of sets, or `malformed` where a turn's format was rejected or there is no answer. The wording of `suffix` is
    ours; it has to suit the model's template, as one that opens a thought. One row a turn. Discount and normalisation
    of turn rewards are the credit's business. The policy can raise p by restating guesses.

    None for written trajectories and problems without a reference.
    """
    usable = [i for i, t in enumerate(group) if told(t) and _sampled(t) and t.reference]
    forced = policy.encode(suffix)
    rows = [
        ((*context(group[i], turn.start), *forced), policy.encode(group[i].reference))
        for i in usable
        for turn in group[i].turns
    ]
    beliefs = iter([math.exp(fmean(logs)) for logs in _asked(policy, rows)])
    scores = {
        i: _gained(group[i], [weight * next(beliefs) for _ in group[i].turns], answer_f1(group[i], group), malformed)
        for i in usable
    }
    return [scores.get(i, UNSCORED) for i in range(len(group))]


def _gained(trajectory: Trajectory, beliefs: Sequence[float], f1: float, malformed: float) -> Score:
    gains = [after - before for before, after in pairwise(beliefs)]
    answered = is_well_formed(trajectory) and trajectory.answer is not None
    outcome = f1 if answered else malformed
    return Score(
        total=math.fsum(gains) + outcome,
        parts={"information_gain": math.fsum(gains), "outcome": outcome},
        turns=(*gains, outcome),
        turn_parts={"information_gain": (*gains, 0.0)},
    )


CONTENT = ("Thanks, that is just what I needed.", "Great, that answers my question.")
DISCONTENT = ("No, that is not what I asked for.", "You forgot part of what I asked.")
"""What a user may say next (ours); both sets have much the same length."""


def follow_up(
    group: Sequence[Trajectory],
    *,
    content: tuple[str, ...] = CONTENT,
    discontent: tuple[str, ...] = DISCONTENT,
    calibrated: bool = False,
    policy: Policy,
) -> TurnScores:
    """FLR (#81, secondary): mean l(f) over follow-ups of a content user minus that over those of a discontent one.

    l is the mean log-probability of a follow-up's tokens as the user's next message. It is asked at every turn that
    hands over to the user and at the last, and each such turn is paid its share of the mean (ours: the paper scores
    one response). `calibrated` subtracts the same for an empty response, so that politeness alone gains nothing.

    The conversation is as the user sees it: without tools, thoughts and system message. The scorer is the policy
    itself; the authors' is a frozen model, trained on feedback in its better form. The follow-ups are ours and general:
    those of a task tell more.
    """
    asked = [*content, *discontent]
    places = {i: _hand_overs(t) for i, t in enumerate(group) if told(t) and t.turns}
    rows = [
        _heard(policy, talk, said)
        for i, turns in places.items()
        for turn in turns
        for talk in _talks(group[i], turn, calibrated)
        for said in asked
    ]
    levels = iter([fmean(logs) for logs in _asked(policy, rows)])
    scores = {}
    for i, turns in places.items():
        paid = [0.0] * len(group[i].turns)
        for turn in turns:
            found = [
                _preference([next(levels) for _ in asked], len(content)) for _ in _talks(group[i], turn, calibrated)
            ]
            paid[turn] = (found[0] - (found[1] if calibrated else 0.0)) / len(turns)
        scores[i] = per_turn(group[i], paid, name="follow_up")
    return [scores.get(i, UNSCORED) for i in range(len(group))]


def _preference(levels: Sequence[float], content: int) -> float:
    return fmean(levels[:content]) - fmean(levels[content:])


def _hand_overs(trajectory: Trajectory) -> list[int]:
    last = len(trajectory.turns) - 1
    return [number for number, turn in enumerate(trajectory.turns) if turn.reply or number == last]


def _talks(trajectory: Trajectory, turn: int, calibrated: bool) -> list[list[Message]]:
    """What the user has seen when a turn hands over, and the same with an empty response."""
    talk = [message for message in trajectory.opening if message.role in ("user", "assistant") and not message.calls]
    talk = talk or [Message(role="user", content=trajectory.question)]
    for number in _hand_overs(trajectory):
        one = trajectory.turns[number]
        said = one.text.rsplit("</think>", 1)[-1].strip()
        if number == turn:
            shown = [*talk, Message(role="assistant", content=said)]
            return [shown, [*talk, Message(role="assistant", content="")]] if calibrated else [shown]
        talk += [Message(role="assistant", content=said), Message(role="user", content=one.reply)]
    raise AssertionError("only turns that hand over are asked")


def _heard(policy: Policy, talk: Sequence[Message], said: str) -> Row:
    """The conversation up to the user's next message, and that message; its ids stand in the prompt as they are."""
    ids, words = policy.prompt([*talk, Message(role="user", content=said)]), policy.encode(said)
    for start in range(len(ids) - len(words), 0, -1):
        if ids[start : start + len(words)] == words:
            return ids[:start], words
    return ids, words
