"""Rewards for stretches of the policy's own text: calls, sentences, parts of sentences, the whole answer."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean

from journeyman.expressions import NotNegative, Positive, Share
from journeyman.rewards.base import Group, Judge, Score, SpanScores
from journeyman.rewards.judge import (
    Ask,
    asked,
    judgeable,
    question,
    quoted,
    read_booleans,
    read_number,
    readings,
    shortened,
)
from journeyman.trajectory import Span, Trajectory, Turn

Stretch = tuple[int, int]
"""Characters of a turn's text, from and up to."""
HIGH = 10
"""Grades of completeness go from 0 to 10."""
FEWEST_WORDS = 5
"""Of a part of a sentence (#165)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prices:
    """What a good segment of a kind earns; a bad one costs as much."""

    calls: float
    relevance: float = 0.0
    factuality: float
    shared: bool
    """Whether a kind's price is divided by how many segments there are of it."""


def fine_grained(
    group: Group | Sequence[Trajectory],
    *,
    calls: NotNegative = 0.3,
    relevance: NotNegative = 0.3,
    factuality: NotNegative = 0.5,
    completeness: NotNegative = 0.3,
    mean: Share = 0.5,
    std: Positive = 0.5,
    shared: bool = False,
    judge: Judge,
) -> SpanScores:
    """Fine-Grained RLHF (#165, verified): +-0.3 for each part of a sentence of the answer that is relevant or not, +-0.5
    for each sentence that is true or not, and once 0.3 (grade - mean) / std for completeness.

    Parts end at , ; ! ? and have at least five words. Instead of three trained reward models a judge says so, one answer
    for each kind, and sentences are true if the tools' outputs bear them out; mean and std are of its grade in [0, 1]
    (ours). +-0.3 for each call that worked and repeats no other is ours. Every good segment pays, so longer answers do:
    `shared` divides each price by the number of segments (ours). Without an answer the grade is 0, earned by the whole.
    Unscorable where an answer of the judge can't be read.
    """
    prices = _Prices(calls=calls, relevance=relevance, factuality=factuality, shared=shared)
    places = judgeable(group)
    stretches = [answer_stretch(group[i]) for i in places]
    told = [i for i, stretch in zip(places, stretches, strict=True) if stretch]
    asks: list[Ask] = [ask for i in told for ask in _asks(group[i])]
    found = iter(readings(judge, asks))
    said = {i: [answers[0] if answers else None for answers in (next(found), next(found), next(found))] for i in told}
    scores = []
    for i, t in enumerate(group):
        relevant, true, grade = said.get(i, [[], [], 0.0])
        if i not in places or relevant is None or true is None or grade is None:
            scores.append(Score(total=None))
            continue
        z = completeness * (grade / HIGH - mean) / std
        scores.append(_paid(t, prices, relevant, true, z))
    return scores


def fine_grained_by_rule(
    group: Group | Sequence[Trajectory],
    *,
    calls: NotNegative = 0.3,
    factuality: NotNegative = 0.5,
    least: Share = 0.6,
    shared: bool = False,
) -> SpanScores:
    """Fine-Grained RLHF without a judge (#165, derived: only segments and prices are the authors'): +-0.5 for each
    sentence of the answer that the tools' outputs bear out or not, +-0.3 for each call that worked and repeats no other.

    A sentence is borne out if all of its numbers and a share of at least `least` of its longer words stand in an output;
    that rule and the calls are ours. NOT covered: relevance and completeness.
    """
    prices = _Prices(calls=calls, factuality=factuality, shared=shared)
    scores = []
    for t in group:
        if not t.stop_reason.scorable:
            scores.append(Score(total=None))
            continue
        seen = " ".join(result.output for turn in t.turns for result in turn.results)
        scores.append(_paid(t, prices, [], [borne_out(one, seen, least=least) for one in _texts(t, sentences)], None))
    return scores


def borne_out(sentence: str, seen: str, *, least: float = 0.6) -> bool:
    """Whether all numbers of a sentence, and that share of its words of over three letters, stand in what was seen."""
    known = set(_WORD.findall(seen.casefold()))
    words = _WORD.findall(sentence.casefold())
    numbers = [word for word in words if word[0].isdigit()]
    longer = [word for word in words if not word[0].isdigit() and len(word) > 3]
    common = sum(word in known for word in longer)
    return bool(words) and set(numbers) <= known and common >= least * len(longer)


# ---- segments


def answer_stretch(trajectory: Trajectory) -> Stretch | None:
    """Where the final answer stands in the last turn: what was marked, or all that is no thought. None for none."""
    if not trajectory.turns or trajectory.turns[-1].calls:
        return None
    text = trajectory.turns[-1].text
    if trajectory.answer:
        start = text.rfind(trajectory.answer)
        return (start, start + len(trajectory.answer)) if start >= 0 else None
    return visible(text)


def visible(text: str) -> Stretch | None:
    """What of a turn stands behind its thoughts, without space around it. None where that is nothing."""
    start = text.rfind("</think>")
    start = start + len("</think>") if start >= 0 else 0
    if "<think>" in text[start:]:
        return None
    return _stripped(text, start, len(text))


def sentences(text: str, stretch: Stretch) -> list[Stretch]:
    """Those of a stretch, by their stops and line breaks."""
    return _between(text, stretch, _SENTENCE_END)


def sub_sentences(text: str, stretch: Stretch) -> list[Stretch]:
    """Parts of the sentences of a stretch: they end at , ; ! ? and have at least five words (#165).

    A rest that is shorter belongs to the part before it (ours).
    """
    found: list[Stretch] = []
    for sentence in sentences(text, stretch):
        parts: list[Stretch] = []
        for start, stop in _between(text, sentence, _PART_END):
            if parts and len(text[slice(*parts[-1])].split()) < FEWEST_WORDS:
                parts[-1] = (parts[-1][0], stop)
            else:
                parts.append((start, stop))
        if len(parts) > 1 and len(text[slice(*parts[-1])].split()) < FEWEST_WORDS:
            parts[-2:] = [(parts[-2][0], parts[-1][1])]
        found += parts
    return found


def call_stretches(turn: Turn) -> list[Stretch]:
    """Where each call of a turn is written: between its tags, or, in formats without, all that is no thought."""
    start = max(0, turn.text.rfind("</think>"))
    found = []
    while (at := turn.text.find(_CALL[0], start)) >= 0 and (end := turn.text.find(_CALL[1], at)) >= 0:
        start = end + len(_CALL[1])
        found.append((at, start))
    if len(found) == len(turn.calls):
        return found
    whole = visible(turn.text)
    return [whole] * len(turn.calls) if whole else []


def _between(text: str, stretch: Stretch, ends: re.Pattern[str]) -> list[Stretch]:
    start, stop = stretch
    cuts = [found.end() for found in ends.finditer(text, start, stop)]
    pieces = [_stripped(text, a, b) for a, b in zip([start, *cuts], [*cuts, stop], strict=True)]
    return [piece for piece in pieces if piece]


def _stripped(text: str, start: int, stop: int) -> Stretch | None:
    inner = text[start:stop]
    begins = start + len(inner) - len(inner.lstrip())
    return (begins, begins + len(inner.strip())) if inner.strip() else None


_CALL = ("<tool_call>", "</tool_call>")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n")
_PART_END = re.compile(r"(?<=[,;!?])\s+")
_WORD = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d]+")


# ---- prices


def _paid(
    trajectory: Trajectory, prices: _Prices, relevant: Sequence[bool], true: Sequence[bool], completeness: float | None
) -> Score:
    """Spans with a sign each; `completeness`: what the answer as a whole earns."""
    last = len(trajectory.turns) - 1
    answer = answer_stretch(trajectory)
    rows = [
        ("call", prices.calls, list(_calls(trajectory))),
        (
            "part",
            prices.relevance,
            [(last, *s, ok) for s, ok in zip(_found(trajectory, sub_sentences), relevant, strict=False)],
        ),
        (
            "sentence",
            prices.factuality,
            [(last, *s, ok) for s, ok in zip(_found(trajectory, sentences), true, strict=False)],
        ),
    ]
    spans, parts, whole = [], {}, 0.0
    for kind, price, segments in rows:
        each = price / len(segments) if prices.shared and segments else price
        own = [Span(turn=u, start=a, stop=b, reward=each if ok else -each, kind=kind) for u, a, b, ok in segments]
        spans += own
        parts |= (
            {f"{kind}s": sum(span.reward for span in own), f"{kind}s_good": fmean([ok for *_, ok in segments])}
            if own
            else {}
        )
    if completeness is not None:
        parts["completeness"] = completeness
        if answer:
            spans.append(Span(turn=last, start=answer[0], stop=answer[1], reward=completeness, kind="answer"))
        else:
            whole = completeness
    return Score(total=whole + sum(span.reward for span in spans), parts=parts, spans=tuple(spans))


def _calls(trajectory: Trajectory) -> Iterator[tuple[int, int, int, bool]]:
    """(turn, from, up to, whether it worked and repeats none) of each call that is written somewhere."""
    made = []
    for number, turn in enumerate(trajectory.turns):
        for call, result, stretch in zip(turn.calls, turn.results, call_stretches(turn), strict=False):
            key = (call.name, dict(call.arguments))
            yield number, *stretch, result.ok and key not in made
            made.append(key)


def _found(trajectory: Trajectory, cut: Callable[[str, Stretch], list[Stretch]]) -> list[Stretch]:
    stretch = answer_stretch(trajectory)
    return cut(trajectory.turns[-1].text, stretch) if stretch else []


def _texts(trajectory: Trajectory, cut: Callable[[str, Stretch], list[Stretch]]) -> list[str]:
    return [trajectory.turns[-1].text[start:stop] for start, stop in _found(trajectory, cut)]


# ---- questions


def _asks(trajectory: Trajectory) -> tuple[Ask, Ask, Ask]:
    """For relevance, factuality and completeness."""
    parts, whole = _texts(trajectory, sub_sentences), _texts(trajectory, sentences)
    outputs = [
        quoted(f"result of {result.name}", shortened(result.output))
        for turn in trajectory.turns
        for result in turn.results
    ]
    relevance = _of_each(trajectory, "Is each of these parts of an answer relevant to the request?", parts)
    task = "Is each of these sentences of an answer borne out by what the tools gave, or else plainly true?"
    factuality = _of_each(trajectory, task, whole, *outputs)
    shown = quoted("answer", "\n".join(whole))
    reply = f'Write JSON, {{"score": n}} with n from 0 (nothing) to {HIGH} (everything), and nothing else.'
    completeness = question(
        "How much of what was asked for does the answer give?", asked(trajectory), shown, reply=reply
    )
    return (
        Ask(relevance, partial(read_booleans, count=len(parts))),
        Ask(factuality, partial(read_booleans, count=len(whole))),
        Ask(completeness, partial(read_number, low=0, high=HIGH)),
    )


def _of_each(trajectory: Trajectory, task: str, pieces: Sequence[str], *more: str) -> str:
    shown = [quoted(str(number), piece) for number, piece in enumerate(pieces, 1)]
    reply = f"Write a JSON list of {len(pieces)} times true or false, in order, and nothing else."
    return question(task, asked(trajectory), *more, *shown, reply=reply)
