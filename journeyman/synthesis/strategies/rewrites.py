"""Traces and questions in better words: what they state stays, to the letter."""

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

from journeyman.expressions import Positive, Share
from journeyman.problem import problem_id
from journeyman.rollout.formats.base import TurnError, read_json, split_thought
from journeyman.rollout.formats.hermes import TAGS
from journeyman.rollout.parse import parse_turn
from journeyman.synthesis.base import Lesson, Studio, asked, refusal, tagged_text
from journeyman.synthesis.strategies.replays import fault_of, is_attempt, replayed, reworked, unread
from journeyman.synthesis.written import rethought
from journeyman.tools.similarity import cosine, words
from journeyman.trajectory import Trajectory

NAME = "rewritten"
THOUGHTS = """These are the thoughts of one attempt at a problem, in order, as a JSON list:
{texts}
Rewrite each so that it is clear and fluent. Say the same at about the same length: keep every number, name, id and \
link as it is, add none, and tell nothing earlier than it is told here."""
QUESTION = """This is a question, as a JSON list of one text:
{texts}
Ask the same in clear and natural words at about the same length: keep every number, name, id and link as it is, and \
add none."""
AS_LIST = "\nReply with {count} texts as a JSON list in <texts></texts>."
QUALITY = """How good is this text: is it clear, fluent, to the point, without slips and repetition?
{text}
Reply with a number from 0 (useless) to 5 (excellent) in <quality></quality>."""
COPY = 3.0
"""What a copy earns: faithful in every way, no better."""
BEST = 5.0
FRAGMENT = 5
"""Words from which the heuristic takes a text for no fragment (ours)."""
REPLY_TOKENS, REPLY_CHARACTERS = 2048, 100_000
_SPAN = re.compile(
    r"https?://[^\s<>\"']+|(?<!\w)[-−]?\w*\d\w*(?:[.,:/-]\w+)*%?|(?<!\w)[^\W_]+(?:_[^\W_]+)+",  # links, numbers, ids
)
_SCORE = re.compile(r"[0-5](?:\.[0-9]{1,3})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Faithfulness:
    """How a text x' compares with the x that it was made from."""

    spans: bool
    """Every protected span of x stands in x', and no other does."""
    cosine: float
    structure: bool
    """Whether turns and calls are as many and in the same order."""
    ratio: float
    """Length of x' by the length of x, in characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """What a rewrite is measured by."""

    quality: Literal["judged", "heuristic"] = "judged"
    similar: float = 0.85
    shortest: float = 0.75
    longest: float = 1.25

    def earned(self, gain: float, kept: Faithfulness) -> float:
        """The score r of a rewrite whose quality rose by `gain`."""
        if not kept.spans:
            return 0.0
        fits = self.shortest <= kept.ratio <= self.longest
        return gain + (kept.cosine >= self.similar) + kept.structure + fits


async def rewritten(
    lesson: Lesson,
    studio: Studio,
    *,
    questions: bool = False,
    quality: Literal["judged", "heuristic"] = "judged",
    similar: Share = 0.85,
    shortest: Positive = 0.75,
    longest: Positive = 1.25,
) -> Sequence[Lesson]:
    """Right attempts with their thoughts in better words, kept only where nothing they state is lost or added.
    RePro (#181, secondary): it trains a rewriter by this score; here the score decides what is taken.

    r = gate * (q(x') - q(x) + [cosine >= similar] + [structure kept] + [shortest <= length ratio <= longest]); taken if
    r > 3, more than a copy has. Ours: the gate (in each thought the same numbers, ids, links, tool names, arguments,
    results and answers), the thresholds, and a cosine of hashed words, which knows no meaning. q: what the writer says,
    0 to 5, or a heuristic of repetition (ours). Calls and answers stay byte by byte. A rewrite is replayed and takes the
    attempt's place; where it is refused the attempt stays.

    `questions`: also a lesson of a new problem that asks the same in better words, with the attempts replayed there. The
    environment verifies them by the problem's data: that the new question means the same rests on the score alone.
    """
    bar = Bar(quality=quality, similar=similar, shortest=shortest, longest=longest)
    made = await reworked(lesson, lambda one: _better_thoughts(lesson, studio, one, bar))
    return await _better_question(made, studio, bar) if questions else [made]


async def _better_thoughts(lesson: Lesson, studio: Studio, old: Trajectory, bar: Bar) -> list[Trajectory]:
    """The rewrite, or the attempt as it is and the refused rewrite, if any."""
    if not old.correct or any(parse_turn(turn.text).error for turn in old.turns):
        return [old]
    thoughts = {at: thought for at, turn in enumerate(old.turns) if (thought := split_thought(turn.text)[0].strip())}
    if not thoughts:
        return [old]
    seed = studio.seed_of(NAME, old.id, "thoughts")
    reply = await _reply(studio, THOUGHTS, list(thoughts.values()), seed)
    try:
        new = dict(zip(thoughts, _texts(reply, len(thoughts)), strict=True))
    except TurnError as error:
        return [old, unread(old, reply, str(error), strategy=NAME, kind="rewrite")]
    texts = [rethought(turn.text, new[at]) if at in new else turn.text for at, turn in enumerate(old.turns)]
    kept = compared(list(thoughts.values()), list(new.values()), literals(old))
    kept = replace(kept, structure=[parse_turn(text).calls for text in texts] == [turn.calls for turn in old.turns])
    told, reason = await _judged(studio, bar, thoughts.values(), new.values(), kept, seed)
    made = await replayed(lesson.problem, texts, old, strategy=NAME, rewrite=told)
    reason = reason or fault_of(made, old)
    return [old, refusal(made, reason)] if reason else [made]


async def _better_question(lesson: Lesson, studio: Studio, bar: Bar) -> list[Lesson]:
    """The lesson, and one of the problem in other words where these are taken."""
    problem = lesson.problem
    right = [one for one in lesson.trajectories if is_attempt(one) and one.correct]
    if not right:
        return [lesson]
    seed = studio.seed_of(NAME, problem.id, "question")
    reply = await _reply(studio, QUESTION, [problem.question], seed)
    try:
        [question] = _texts(reply, 1)
    except TurnError as error:
        failed = unread(right[0], reply, str(error), strategy=NAME, kind="rewrite")
        return [lesson.taking(lesson.trajectories, [failed])]
    stated = {text for one in right for text in literals(one)}
    kept = compared([problem.question], [question], stated)
    told, reason = await _judged(studio, bar, [problem.question], [question], kept, seed)
    told["question_of"] = problem.id
    asked_anew = replace(problem, question=question, id=problem_id(problem.family, question, problem.data))
    made = [
        await replayed(asked_anew, [turn.text for turn in one.turns], one, strategy=NAME, rewrite=told) for one in right
    ]
    reasons = [
        reason or _unasked(one, question) or ("" if one.correct else "not right when it is replayed") for one in made
    ]
    refused = [refusal(one, why) for one, why in zip(made, reasons, strict=True) if why]
    taken = [one for one, why in zip(made, reasons, strict=True) if not why]
    other = [Lesson(problem=asked_anew, trajectories=tuple(taken))] if taken else []
    return [lesson.taking(lesson.trajectories, refused), *other]


def _unasked(made: Trajectory, question: str) -> str:
    shown = not made.opening or any(question in message.content for message in made.opening)
    return "" if shown else "the world doesn't show the problem's question"


async def _reply(studio: Studio, prompt: str, texts: Sequence[str], seed: int) -> str:
    listed = json.dumps(list(texts), ensure_ascii=False)
    request = prompt.format(texts=listed) + AS_LIST.format(count=len(texts))
    return await asked(studio.writer(NAME), request, seed=seed, max_tokens=REPLY_TOKENS)


def _texts(reply: str, count: int) -> list[str]:
    """The texts of a reply. Raises `TurnError` where it doesn't have so many, or one that can't be a thought."""
    body = tagged_text(reply[:REPLY_CHARACTERS], "texts")
    if body is None:
        raise TurnError("a rewrite that can't be read")
    value = read_json(body)
    if not isinstance(value, list) or len(value) != count:
        raise TurnError(f"a rewrite that is no list of {count}")
    if not all(isinstance(text, str) and text.strip() for text in value):
        raise TurnError("a rewrite with an empty text")
    if any(tag in text for text in value for tag in TAGS):
        raise TurnError("a rewrite with a tag in it")
    return [text.strip() for text in value]


async def _judged(
    studio: Studio, bar: Bar, old: Collection[str], new: Collection[str], kept: Faithfulness, seed: int
) -> tuple[dict[str, Any], str]:
    """(what provenance tells of a rewrite, why it isn't taken: empty where it is)."""
    told: dict[str, Any] = {"cosine": round(kept.cosine, 6), "length_ratio": round(kept.ratio, 6)}
    if not kept.spans:
        return {**told, "score": 0.0}, "a rewrite that loses or adds something stated"
    qualities = [await _quality(studio, bar, "\n".join(texts), seed) for texts in (old, new)]
    before, after = qualities
    if before is None or after is None:
        return told, "a quality that can't be read"
    score = bar.earned(after - before, kept)
    told |= {"quality": qualities, "score": score}
    return told, "" if score > COPY else "a rewrite that is no better than a copy"


async def _quality(studio: Studio, bar: Bar, text: str, seed: int) -> float | None:
    if bar.quality == "heuristic":
        return heuristic_quality(text)
    reply = await asked(studio.writer(NAME), QUALITY.format(text=text), seed=seed)
    said = tagged_text(reply, "quality")
    if said is None or not _SCORE.fullmatch(said):
        return None
    return float(said) if float(said) <= BEST else None


def heuristic_quality(text: str) -> float:
    """From 0 to 5: the share of word pairs that are not there twice; less for a text of under five words (ours)."""
    said = words(text)
    pairs = list(pairwise(said))
    distinct = len(set(pairs)) / len(pairs) if pairs else float(bool(said))
    return BEST * distinct * min(1.0, len(said) / FRAGMENT)


def compared(old: Sequence[str], new: Sequence[str], stated: Collection[str]) -> Faithfulness:
    """Texts with those made from them, one by one; the structure is that there are as many, of as many lines."""
    before, after = "\n".join(old), "\n".join(new)
    return Faithfulness(
        spans=[protected(text, stated) for text in old] == [protected(text, stated) for text in new],
        cosine=cosine(before, after),
        structure=before.count("\n") == after.count("\n"),
        ratio=len(after) / max(1, len(before)),
    )


def protected(text: str, stated: Collection[str]) -> set[str]:
    """What must not change in a text: its numbers, ids and links, and of what is `stated` elsewhere what stands in it."""
    spans = {span.rstrip(".,;:!?)") for span in _SPAN.findall(text)}
    return spans | {one for one in stated if one and re.search(rf"(?<!\w){re.escape(one)}(?!\w)", text)}


def literals(trajectory: Trajectory) -> set[str]:
    """The texts that an attempt works with: tools, arguments, results, the answer and the reference."""
    called = [value for call in trajectory.calls for value in call.arguments.values()]
    shown = [output for turn in trajectory.turns for output in turn.outputs()]
    names = [*trajectory.tools, *(call.name for call in trajectory.calls)]
    stated = [*names, *(str(value) for value in called), *shown, trajectory.reference, trajectory.answer or ""]
    return {text.strip() for text in stated if text.strip()}
