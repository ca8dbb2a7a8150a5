"""Rewards for what a reader can make of a text: the facts of a report, the call behind an observation."""

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from string import ascii_uppercase
from typing import Any

from journeyman.expressions import Count
from journeyman.messages import ToolCall
from journeyman.rewards.base import UNSCORED, Group, Judge, Score, Scores, TurnScores, per_turn
from journeyman.rewards.outcome import plain, told
from journeyman.rewards.reference import schemas_of
from journeyman.seeds import derive
from journeyman.trajectory import Trajectory

MASKED = "[...]"
LONGEST = 4000
"""Characters of a text that a reader is shown (ours)."""
_LETTER = re.compile(r"\W*([A-Z])(?:[).:].*|\W*)", re.DOTALL)
_OBJECT = re.compile(r"\{.*\}", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Put:
    """A question put to the reader."""

    attempt: int
    text: str
    right: str
    """The letter of the right option."""


def usefulness(group: Group, *, questions: Count = 8, above_chance: bool = False, judge: Judge) -> Scores:
    """CapRL (#226, secondary): the share of questions about the sources that a reader gets right from the answer alone.

    `questions` of data["questions"], [{"question", "options", "answer"}], are drawn, over again where there are fewer,
    with the options in a new order each time; both follow from the attempt's id. The judge is the reader and names a
    letter; what it says without one is wrong. `above_chance` takes guessing off (ours): max(0, (share - g) / (1 - g)),
    g the mean of 1 / options. 0 without an answer. The writer must not know the questions; to copy the sources earns
    most, so price length beside it. Making and filtering questions is not covered.
    """
    asked: Sequence[Mapping[str, Any]] = group.data.get("questions") or ()
    if not asked:
        return [UNSCORED for _ in group]
    put = [one for i, t in enumerate(group) if told(t) and t.answer for one in _put(i, t, asked, questions)]
    replies = judge.ask([one.text for one in put]) if put else []
    right = [0] * len(group)
    for one, (said, *_) in zip(put, replies, strict=True):
        letter = _LETTER.fullmatch(said[:LONGEST])
        right[one.attempt] += letter is not None and letter[1] == one.right
    chance = sum(1 / len(one["options"]) for one in asked) / len(asked) if above_chance else 0.0
    shares = [max(0.0, (count / questions - chance) / (1 - chance)) if chance < 1 else 0.0 for count in right]
    return [plain("usefulness", share) if told(t) else UNSCORED for t, share in zip(group, shares, strict=True)]


def _put(attempt: int, t: Trajectory, asked: Sequence[Mapping[str, Any]], count: int) -> list[_Put]:
    rng = random.Random(derive("usefulness", t.id))
    drawn = [one for _ in range(-(-count // len(asked))) for one in rng.sample(list(asked), len(asked))][:count]
    put = []
    for one in drawn:
        options = rng.sample(list(one["options"]), len(one["options"]))
        listed = "\n".join(f"{letter}) {option}" for letter, option in zip(ascii_uppercase, options, strict=False))
        text = (
            f"Read this text:\n{(t.answer or '')[:LONGEST]}\n\nBy the text alone, {one['question']}\n{listed}\n\n"
            "Answer with one letter and nothing else."
        )
        put.append(_Put(attempt=attempt, text=text, right=ascii_uppercase[options.index(one["answer"])]))
    return put


def inverse(group: Group, *, judge: Judge) -> TurnScores:
    """RLIR (#160, secondary): whether a judge can tell from an observation alone which call led to it.

    A call whose tool is named rightly earns (1 + equal arguments) / (1 + arguments), else 0; an attempt earns the mean
    over its calls, each turn its part of that. The tool's name and the arguments' values are masked in the observation
    first, so that it can't quote them. With data["commands"], [{"name", "arguments"}], the policy plays the tools: the
    text of its k-th turn is the observation that the k-th command led to, as in the paper's world models; else the calls
    and observations are the attempt's own (ours). 0 for an attempt without calls; a command without its turn counts as
    not recovered. What the judge says unreadably names no call. Its own share on true observations is the ceiling.
    """
    commands = group.data.get("commands")
    seen = [_observed(t, commands) if told(t) else [] for t in group]
    put = [(call, _inverse_question(text, t)) for t, own in zip(group, seen, strict=True) for _, call, text in own]
    replies = iter(judge.ask([question for _, question in put]) if put else [])
    scores: list[Score] = []
    for t, own in zip(group, seen, strict=True):
        turns = [0.0] * len(t.turns)
        count = len(commands) if commands else len(own)
        for turn, found in groupby(own, key=lambda one: one[0]):
            turns[turn] = sum(recovered(call, next(replies)[0]) for _, call, _ in found) / count
        scores.append(per_turn(t, turns, name="inverse") if told(t) else UNSCORED)
    return scores


def _observed(t: Trajectory, commands: Sequence[Mapping[str, Any]] | None) -> list[tuple[int, ToolCall, str]]:
    """(turn, call, what it led to without the call's own words)."""
    if commands:
        given = (ToolCall(name=one["name"], arguments=one["arguments"]) for one in commands)
        pairs = [(i, call, turn.text) for i, (call, turn) in enumerate(zip(given, t.turns, strict=False))]
    else:
        made = ((i, zip(turn.calls, turn.results, strict=False)) for i, turn in enumerate(t.turns))
        pairs = [(i, call, result.output) for i, both in made for call, result in both]
    return [(i, call, masked(text, call)) for i, call, text in pairs]


def masked(text: str, call: ToolCall) -> str:
    """A text without the name and the arguments of a call, wherever they stand as a whole."""
    quoted = [call.name, *(v if isinstance(v, str) else json.dumps(v) for v in call.arguments.values())]
    for words in sorted((w for w in quoted if w.strip()), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(words)}(?!\w)", MASKED, text)
    return text


def _inverse_question(text: str, t: Trajectory) -> str:
    tools = [f"{name}({', '.join(schema.get('properties') or {})})" for name, schema in schemas_of(t).items()]
    return (
        f"One of these tools was called: {', '.join(tools)}. It answered:\n{text[:LONGEST]}\n\n"
        'Which call was it? Answer with JSON, {"name": ..., "arguments": {...}}, and nothing else.'
    )


def recovered(call: ToolCall, said: str) -> float:
    """How much of a call a judge names, in [0, 1]."""
    found = _OBJECT.search(said[:LONGEST])
    try:
        named = json.loads(found[0]) if found else {}
    except (ValueError, RecursionError):
        return 0.0
    if not isinstance(named, dict) or named.get("name") != call.name:
        return 0.0
    guessed = named.get("arguments")
    guessed = guessed if isinstance(guessed, dict) else {}
    equal = sum(key in guessed and guessed[key] == value for key, value in call.arguments.items())
    return (1 + equal) / (1 + len(call.arguments))
