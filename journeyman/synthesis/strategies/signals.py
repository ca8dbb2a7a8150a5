"""Logs taken apart into typed samples: what follows from what, told by a prompt of its own kind."""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from journeyman.environments import specs_of
from journeyman.expressions import Count
from journeyman.messages import ToolCall, ToolResult
from journeyman.rollout.formats.base import split_thought
from journeyman.rollout.parse import parse_turn
from journeyman.synthesis.base import Lesson, Sample, Studio, refusal, signed, trajectory_of
from journeyman.synthesis.strategies.experience import told
from journeyman.synthesis.strategies.replays import is_attempt, parted
from journeyman.trajectory import Trajectory

NAME = "signals"
PREFIX = "signal/"
Type = Literal[
    "goal_tool", "call_output", "output_call", "error_fix", "trace_outcome", "goal_plan", "doc_call", "question_answer"
]
PROMPTS: Mapping[str, Sequence[str]] = {
    "goal_tool": ("Which tools does this goal take?", "Name the tools that are needed here, in order."),
    "call_output": ("What does this call return?", "Write the output of the call."),
    "output_call": ("Which call comes next?", "What do you call after this output?"),
    "error_fix": ("Mend the failed call.", "This call failed. Which one works?"),
    "trace_outcome": ("Does this attempt end right or wrong?", "Judge the attempt: right or wrong?"),
    "goal_plan": ("Plan the steps towards this goal.", "How do you proceed, step by step?"),
    "doc_call": ("Write a call of this tool for the goal.", "How is the tool that is described here called for this?"),
    "question_answer": ("What does the user answer?", "Write the user's reply."),
}
"""What is asked for each type; no text stands twice, so that it tells the type."""
RIGHT_ONLY = ("goal_tool", "output_call", "goal_plan", "doc_call")
"""Types whose target is what somebody chose to do: of right attempts only. The others are what the world did."""
_HEAD = "### "


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One thing that follows from others."""

    type: str
    given: Mapping[str, str]
    """By name, in order."""
    target: str


async def signals(
    lesson: Lesson, studio: Studio, *, types: list[Type] | None = None, each: Count = 1
) -> Sequence[Lesson]:
    """Attempts are taken apart into typed samples of what follows from what. reStructured Pre-training (#199, secondary):
    signals that are in the data already are stored as prompt and target; these types are ours, made for tool use.

    Adds samples of kind `signal/<type>`: goal_tool, call_output, output_call, error_fix (a failed call, then one of the
    same tool that works), trace_outcome, goal_plan, doc_call, question_answer (a question to the user). At most `each`
    of a type and attempt, drawn by seed, as is the wording. What somebody chose is taken of right attempts only; what
    the world did of all. Sft's mixture mixes the types by the square roots of their numbers. `types`: those wanted; none: all.
    """
    made: list[Trajectory] = []
    for attempt in filter(is_attempt, lesson.trajectories):
        every = list(mined(attempt))
        for kind in types or PROMPTS:
            found = [one for one in every if one.type == kind and _allowed(kind, attempt)]
            rng = random.Random(studio.seed_of(NAME, attempt.id, kind))
            drawn = sorted(rng.sample(range(len(found)), min(each, len(found))))
            made += [_sample(found[at], attempt, rng) for at in drawn]
    taken, refused = parted(made)
    return [lesson.taking((*lesson.trajectories, *taken), refused)]


def _allowed(kind: str, attempt: Trajectory) -> bool:
    return bool(attempt.correct) or kind not in RIGHT_ONLY


def _sample(signal: Signal, attempt: Trajectory, rng: random.Random) -> Trajectory:
    sample = render(signal, rng.randrange(len(PROMPTS[signal.type])))
    # What the world did is true whatever became of the attempt.
    made = signed(replace(trajectory_of(sample, attempt), correct=True), NAME)
    return made if parse(sample) == signal else refusal(made, "a signal that can't be read back")


def render(signal: Signal, wording: int = 0) -> Sample:
    """A signal as it is stored: what is asked, then each part under its name. `parse` gives it back."""
    parts = [f"{_HEAD}{name}\n{_escaped(text)}" for name, text in signal.given.items()]
    verified = "attempt" if signal.type in RIGHT_ONLY else "environment"
    return Sample(
        kind=f"{PREFIX}{signal.type}",
        prompt="\n".join([PROMPTS[signal.type][wording], *parts]),
        target=signal.target,
        provenance={"verified": verified},
    )


def parse(sample: Sample) -> Signal:
    """The inverse of `render`. Raises `ValueError` for what it didn't make."""
    first, *lines = sample.prompt.split("\n")
    kind = next((kind for kind, wordings in PROMPTS.items() if first in wordings), None)
    if kind is None or sample.kind != f"{PREFIX}{kind}" or (lines and not lines[0].startswith(_HEAD)):
        raise ValueError("no signal")
    given: dict[str, list[str]] = {}
    body: list[str] = []
    for line in lines:
        if line.startswith(_HEAD):
            body = given.setdefault(line.removeprefix(_HEAD), [])
        else:
            body.append(line.removeprefix("\\") if line.lstrip("\\").startswith(_HEAD) else line)
    return Signal(type=kind, given={name: "\n".join(text) for name, text in given.items()}, target=sample.target)


def _escaped(text: str) -> str:
    """With a backslash before lines that look like a part's name."""
    return "\n".join(f"\\{line}" if line.lstrip("\\").startswith(_HEAD) else line for line in text.split("\n"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """A call with its result, and where it stands."""

    call: ToolCall
    result: ToolResult
    turn: int

    @property
    def text(self) -> str:
        return call_text(self.call)


def call_text(call: ToolCall) -> str:
    return json.dumps({"name": call.name, "arguments": dict(call.arguments)}, ensure_ascii=False)


def mined(attempt: Trajectory) -> Iterator[Signal]:
    """All signals of an attempt."""
    made = [
        _Made(call=call, result=result, turn=at)
        for at, turn in enumerate(attempt.turns)
        for call, result in zip(turn.calls, turn.results, strict=False)
    ]
    yield from _of_goal(attempt, made)
    yield from _of_calls(attempt, made)
    yield from _of_fixes(attempt, made)
    yield from _of_words(attempt)


def _of_goal(attempt: Trajectory, made: Sequence[_Made]) -> Iterator[Signal]:
    goal = attempt.question
    used = list(dict.fromkeys(one.call.name for one in made))
    offered = {"goal": goal, "tools": ", ".join(attempt.tools)}
    if made:
        yield Signal(type="goal_tool", given=offered, target=", ".join(used))
        yield Signal(type="goal_plan", given=offered, target="\n".join(_plan(attempt)))
    for doc in (spec.get("function", spec) for spec in specs_of(attempt)):
        first = next((one for one in made if one.call.name == doc["name"] and one.result.ok), None)
        if first:
            given = {"goal": goal, "doc": json.dumps(doc, ensure_ascii=False)}
            yield Signal(type="doc_call", given=given, target=first.text)


def _plan(attempt: Trajectory) -> Iterator[str]:
    """A line for each turn that calls: its tools, and the thought, on one line."""
    turns = [turn for turn in attempt.turns if turn.calls and not parse_turn(turn.text).error]
    for number, turn in enumerate(turns, 1):
        thought = " ".join(split_thought(turn.text)[0].split())
        names = ", ".join(call.name for call in turn.calls)
        yield f"{number}. {names}: {thought}" if thought else f"{number}. {names}"


def _of_calls(attempt: Trajectory, made: Sequence[_Made]) -> Iterator[Signal]:
    for one in made:
        if one.result.ok:
            yield Signal(type="call_output", given={"call": one.text}, target=one.result.output)
    for at, one in enumerate(made):
        after = next((other for other in made[at + 1 :] if other.turn > one.turn), None)
        if after and one.result.ok:
            given = {"goal": attempt.question, "call": one.text, "output": one.result.output}
            yield Signal(type="output_call", given=given, target=after.text)


def _of_fixes(attempt: Trajectory, made: Sequence[_Made]) -> Iterator[Signal]:
    for at, one in enumerate(made):
        again = next((other for other in made[at + 1 :] if other.call.name == one.call.name), None)
        if not one.result.ok and again and again.result.ok and again.call != one.call:
            given = {"goal": attempt.question, "call": one.text, "error": one.result.output}
            yield Signal(type="error_fix", given=given, target=again.text)


def _of_words(attempt: Trajectory) -> Iterator[Signal]:
    if attempt.correct is not None and attempt.turns:
        given = {"trace": told(attempt, attempt.turns)}
        yield Signal(type="trace_outcome", given=given, target="right" if attempt.correct else "wrong")
    for turn in attempt.turns:
        said = parse_turn(turn.text)
        if turn.reply and said.text and not said.calls:
            yield Signal(type="question_answer", given={"question": said.text}, target=turn.reply)
