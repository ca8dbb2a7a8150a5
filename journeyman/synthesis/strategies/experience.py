"""Samples from the states that an expert came through: what other actions lead to, why the expert's is better."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from journeyman.expressions import Count, Positive
from journeyman.messages import ParsedTurn
from journeyman.rollout.formats.base import split_thought
from journeyman.rollout.parse import parse_turn
from journeyman.synthesis.base import Lesson, Sample, Studio, asked, refusal, signed, trajectory_of
from journeyman.synthesis.strategies.replays import is_attempt, parted
from journeyman.synthesis.strategies.rewrites import protected
from journeyman.trajectory import Trajectory, Turn

NAME = "early_experience"
WHAT_HAPPENS = "What does this action lead to? Write what comes back, word for word."
WHAT_NEXT = "What do you do next? Think in <think></think>, then act."
REFLECT = (
    "At this point several actions were tried. Explain, as the one who is about to act, why the first is better than "
    "the others. What they led to is for your eyes only: write no number, name or result that is known only from there. "
    "Give your reasons in <think></think>, and behind it the first action exactly as it stands here."
)
REPLY_TOKENS = 1024
_CAPITAL = re.compile(r"(?<=[^\W_] )[A-Z]\w+")
"""A word with a capital that doesn't begin a sentence: a name, most likely."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A point of an expert's attempt, before a turn that the world answers."""

    expert: Trajectory
    at: int
    """Index of the turn."""

    @property
    def text(self) -> str:
        return told(self.expert, self.expert.turns[: self.at])

    def sample(self, kind: str, prompt: str, target: str, **provenance: Any) -> Trajectory:
        made = Sample(kind=kind, prompt=prompt, target=target, provenance={**provenance, "turn": self.at})
        return signed(trajectory_of(made, self.expert), NAME)


def told(trajectory: Trajectory, turns: Sequence[Turn]) -> str:
    """A conversation as compact text: the tools' names, what is asked, the turns with what came back.

    NOT covered: images.
    """
    said = [f"{message.role}: {message.content}" for message in trajectory.opening]
    said = said or [f"user: {trajectory.question}"]
    for turn in turns:
        said.append(f"assistant: {turn.text}")
        if turn.restart:
            said = [f"{message.role}: {message.content}" for message in turn.restart]
        else:
            said += [f"tool: {result.output}" for result in turn.results]
            said += [f"user: {turn.reply}"] if turn.reply else []
    tools = [f"tools: {', '.join(trajectory.tools)}"] if trajectory.tools else []
    return "\n".join([*tools, *said])


async def early_experience(
    lesson: Lesson,
    studio: Studio,
    *,
    alternatives: Count = 3,
    world_model: bool = True,
    reflection: bool = False,
    temperature: Positive = 1.0,
) -> Sequence[Lesson]:
    """At each state of a right attempt other actions are tried; what they lead to is learned, without a reward.
    Early Experience (#3, derived): implicit world modelling and self-reflection.

    Adds samples to the lesson's trajectories. `world_model`: state and action -> what came back, for the expert's action
    and the others. `reflection`: state -> a thought that the writer wrote knowing what all of them led to, and the
    expert's action. A thought that tells numbers, names or the answer that are known only from there is refused (string
    check, ours). States are those whose action the world answers. Each of the `alternatives` costs the teacher an
    attempt, of which only the first action counts; it is refused where it was tried before or nothing comes back.
    """
    made: list[Trajectory] = []
    for state in _states(lesson):
        others = await _tried(lesson, studio, state, count=alternatives, temperature=temperature)
        tried, useless = parted(others)
        made += useless
        if world_model:
            made += [_observed(state, attempt) for attempt in (state.expert, *tried)]
        if reflection and tried:
            made.append(await _reflected(studio, state, tried))
    taken, refused = parted(made)
    return [lesson.taking((*lesson.trajectories, *taken), refused)]


def _states(lesson: Lesson) -> list[State]:
    """Of well-formed attempts: from a malformed turn nobody goes on."""
    experts = [t for t in lesson.trajectories if is_attempt(t) and t.correct]
    return [
        State(expert=expert, at=at)
        for expert in experts
        if not any(parse_turn(turn.text).error for turn in expert.turns)
        for at, turn in enumerate(expert.turns)
        if turn.outputs()
    ]


async def _tried(lesson: Lesson, studio: Studio, state: State, *, count: int, temperature: float) -> list[Trajectory]:
    """Attempts of the teacher that go on from a state; those whose action teaches nothing new are refused."""
    places = asyncio.Semaphore(studio.parallel)
    start = state.expert.turns[: state.at]

    async def attempt(number: int) -> Trajectory:
        seed = studio.seed_of(NAME, state.expert.id, state.at, number)
        async with places:
            return await studio.teacher.attempt(lesson.problem, seed=seed, temperature=temperature, start=start)

    known, made = [parse_turn(state.expert.turns[state.at].text)], []
    for one in await asyncio.gather(*map(attempt, range(count))):
        one = signed(one, NAME, **{"from": [state.expert.id]}, turn=state.at)
        reason = _useless(one, state, known)
        made.append(refusal(one, reason) if reason else one)
        if not reason:
            known.append(parse_turn(one.turns[state.at].text))
    return made


def _useless(attempt: Trajectory, state: State, known: Sequence[ParsedTurn]) -> str:
    """Why an alternative's action teaches nothing; empty where it does."""
    if len(attempt.turns) <= state.at:
        return f"no action ({attempt.stop_reason})"
    turn = attempt.turns[state.at]
    if turn.error:
        return "a malformed action"
    if not turn.outputs():
        return "an action that nothing comes back from"
    return "an action that was tried before" if parse_turn(turn.text) in known else ""


def _observed(state: State, attempt: Trajectory) -> Trajectory:
    """The sample of what an attempt's action leads to."""
    turn = attempt.turns[state.at]
    return state.sample(
        "world_model",
        f"{state.text}\nassistant: {acted(turn.text)}\n\n{WHAT_HAPPENS}",
        "\n".join(turn.outputs()),
        verified="environment",
        **{"from": list(dict.fromkeys([state.expert.id, attempt.id]))},
    )


def acted(text: str) -> str:
    """A well-formed turn's text without its thought."""
    return split_thought(text)[1].strip()


async def _reflected(studio: Studio, state: State, others: Sequence[Trajectory]) -> Trajectory:
    """The sample of the writer's reasons and the expert's action; refused where it is not that."""
    turns = [attempt.turns[state.at] for attempt in (state.expert, *others)]
    tried = "\n\n".join(
        f"Action {number}: {acted(turn.text)}\nIt led to: {' / '.join(turn.outputs())}"
        for number, turn in enumerate(turns, 1)
    )
    seed = studio.seed_of(NAME, state.expert.id, state.at, "reflection")
    prompt = f"{state.text}\n\n{tried}\n\n{REFLECT}"
    reply = await asked(studio.writer(NAME), prompt, seed=seed, max_tokens=REPLY_TOKENS)
    made = state.sample(
        "reflection",
        f"{state.text}\n\n{WHAT_NEXT}",
        reply.strip(),
        verified="action",
        **{"from": [state.expert.id, *(other.id for other in others)]},
    )
    reason = _unfit(reply, state, turns)
    return refusal(made, reason) if reason else made


def _unfit(reply: str, state: State, turns: Sequence[Turn]) -> str:
    """Why a reflection can't be learned; empty where it can. `turns`: the expert's first, then the others'."""
    action = parse_turn(reply)
    if action.error:
        return f"a reflection that can't be read: {action.error}"
    thought = split_thought(reply)[0].strip()
    if not thought:
        return "a reflection without a thought"
    if action != parse_turn(turns[0].text):
        return "a reflection that doesn't end in the expert's action"
    known = "\n".join([state.text, *(acted(turn.text) for turn in turns)])
    led_to = [output for turn in turns for output in turn.outputs()]
    return (
        "a reflection that tells what isn't known yet" if tells(thought, led_to, state.expert.reference, known) else ""
    )


def tells(text: str, later: Sequence[str], reference: str, known: str) -> set[str]:
    """Numbers, ids and names of `later` outputs, whole outputs, and the reference, that a text has and `known` has not."""
    names = [name for output in later for name in _CAPITAL.findall(output)]
    secret = protected("\n".join([*later, reference]), [*names, *later, reference])
    return (protected(text, secret) & secret) - protected(known, secret)
