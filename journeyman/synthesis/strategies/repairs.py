"""Malformed turns mended without a model, where there is one way to."""

import json
import re
from ast import literal_eval
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from journeyman.messages import ParsedTurn
from journeyman.rollout.formats.base import ANSWER, THOUGHT, as_call, split_thought, storable
from journeyman.rollout.formats.hermes import CALL
from journeyman.rollout.parse import parse_turn
from journeyman.synthesis.base import Lesson, Studio, refusal, signed
from journeyman.synthesis.strategies.replays import fault_of, replayed, reworked
from journeyman.trajectory import Trajectory, Turn

MOST_CHARACTERS, MOST_TAGS = 20_000, 64
"""Of a turn that is mended (ours)."""
TAGS = (*THOUGHT, *CALL, *ANSWER)
LIKENESS = 0.75
"""Of a misspelt tag to the right one, by difflib (ours)."""
_TAG = re.compile(r"<\s{0,2}/?\s{0,2}[A-Za-z_ -]{3,14}\s{0,2}/?>")
_DECODER = json.JSONDecoder()


async def repaired(lesson: Lesson, studio: Studio) -> Sequence[Lesson]:
    """Malformed turns are mended where there is one way to: a tag that was lost or misspelt, words behind a call's JSON,
    single quotes. No model is asked.

    Replaces the attempts. A repair is one edit after which the turn parses; where the attempt knows what the turn called,
    it has to call that. Two edits that give different turns, or none, and the attempt is refused. What is called and
    answered is never changed. The mended attempt is replayed, and has to be right where it was.

    NOT covered: two faults in a turn, an answer of several lines without one of its tags.
    """

    async def change(old: Trajectory) -> list[Trajectory]:
        broken = [at for at, turn in enumerate(old.turns) if parse_turn(turn.text).error]
        if not broken:
            return [old]
        texts, told = [turn.text for turn in old.turns], {}
        for at in broken:
            repairs = repairs_of(old.turns[at])
            if len(repairs) != 1:
                why = "more than one repair" if repairs else "no repair"
                error = parse_turn(texts[at]).error
                return [refusal(signed(old, "repaired"), f"{why} of a malformed turn: {error}")]
            texts[at], told[str(at)] = repairs[0].text, repairs[0].what
        made = await replayed(lesson.problem, texts, old, strategy="repaired", repairs=told)
        reason = fault_of(made, old)
        return [refusal(made, reason) if reason else made]

    return [await reworked(lesson, change)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """A malformed turn after one edit."""

    what: str
    """Key of `EDITS`."""
    text: str


def repairs_of(turn: Turn) -> list[Repair]:
    """The edits after which a turn parses, one for each turn that they give."""
    found: list[tuple[tuple[str, ParsedTurn], Repair]] = []
    if len(turn.text) > MOST_CHARACTERS or len(_TAG.findall(turn.text)) > MOST_TAGS:
        return []
    for repair in _edits(turn.text):
        parsed = parse_turn(repair.text)
        if parsed.error or (turn.calls and parsed.calls != turn.calls):
            continue
        thought = split_thought(repair.text)[0].strip()
        whole = not any(map(_has_tag, (thought, parsed.text, parsed.answer or "")))
        if whole and all((thought, parsed) != other for other, _ in found):
            found.append(((thought, parsed), repair))
    return [repair for _, repair in found]


def _has_tag(text: str) -> bool:
    """Whether a tag, or what may be meant as one, stands in a text: then the fault is still there."""
    return any(written in TAGS or _meant(written) for written in _TAG.findall(text))


def _edits(text: str) -> Iterator[Repair]:
    """Texts that differ from a turn by one edit that may mend it."""
    for what, edits in EDITS.items():
        for edited in edits(text):
            yield Repair(what=what, text=edited)


def _respelt(text: str) -> Iterator[str]:
    """With one thing that looks like a tag replaced by the tag that it is nearest to, or by that one's partner."""
    for found in _TAG.finditer(text):
        for tag in _meant(found[0]):
            yield text[: found.start()] + tag + text[found.end() :]


def _meant(written: str) -> list[str]:
    """The tags that something like a tag may have been meant as."""
    if written in TAGS:  # a slash too few or too many
        partner = written.replace("</", "<") if written.startswith("</") else written.replace("<", "</")
        return [partner]
    plain = re.sub(r"[\s-]", lambda gap: "_" if gap[0] == "-" else "", written.casefold())
    return get_close_matches(plain, TAGS, n=1, cutoff=LIKENESS)


def _retagged(text: str) -> Iterator[str]:
    """With one tag put where it may have been lost."""
    for found in re.finditer(r"<tool_call>|<answer>", text):  # a thought ends before what it leads to
        yield text[: found.start()].rstrip() + THOUGHT[1] + "\n" + text[found.start() :]
    yield THOUGHT[0] + text.lstrip()
    for found in re.finditer(r"<tool_call>", text):
        if (end := _json_end(text, found.end())) is not None:
            yield f"{text[:end]}\n{CALL[1]}{text[end:]}"
    for found in re.finditer(r"\{\s*[\"']name[\"']", text):
        yield f"{text[: found.start()]}{CALL[0]}\n{text[found.start() :]}"
    thought, closed, said = text.rpartition(THOUGHT[1])
    if "\n" not in said.strip():  # where several lines stand, which of them is the answer?
        yield f"{text.rstrip()}{ANSWER[1]}"
        yield f"{thought}{closed}\n{ANSWER[0]}{said.lstrip()}".lstrip()


def _json_end(text: str, at: int) -> int | None:
    """Where the JSON value that begins behind a place ends; None where there is none."""
    at += len(text[at:]) - len(text[at:].lstrip())
    try:
        return _DECODER.raw_decode(text, at)[1]
    except (ValueError, RecursionError):
        return None


def _bodies(text: str) -> Iterator[tuple[int, int]]:
    """Where the bodies of calls stand."""
    for found in re.finditer(r"<tool_call>", text):
        end = text.find(CALL[1], found.end())
        if end >= 0:
            yield found.end(), end


def _without_tails(text: str) -> Iterator[str]:
    """Without the words between a call's JSON and its closing tag."""
    for start, stop in _bodies(text):
        end = _json_end(text, start)
        if end is not None and not re.search(r"[{}\[\]\"]", text[end:stop]):
            yield f"{text[:end]}\n{text[stop:]}"


def _requoted(text: str) -> Iterator[str]:
    """With a call that is written as Python's literal as JSON."""
    for start, stop in _bodies(text):
        try:
            call = as_call(storable(literal_eval(text[start:stop].strip())))
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            continue
        body = json.dumps({"name": call.name, "arguments": call.arguments}, ensure_ascii=False)
        yield f"{text[:start]}\n{body}\n{text[stop:]}"


EDITS: dict[str, Callable[[str], Iterator[str]]] = {
    "misspelt tag": _respelt,
    "lost tag": _retagged,
    "words behind a call": _without_tails,
    "quotes": _requoted,
}
"""What a repair is called -> the texts that one such edit gives."""
