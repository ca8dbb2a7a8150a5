"""Attempts that grow by texts instead of tokens: of teachers behind a chat endpoint, and of courses that are rewritten."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from journeyman.environments import environment_of
from journeyman.environments.episode import Episode, Reaction, Verdict
from journeyman.messages import Message, ParsedTurn
from journeyman.problem import Problem
from journeyman.rollout.attempt import failure_of
from journeyman.rollout.formats.base import THOUGHT, check_visible, split_thought
from journeyman.rollout.formats.hermes import Hermes
from journeyman.rollout.parse import parse_turn
from journeyman.seeds import derive
from journeyman.tools.base import CallContext
from journeyman.trajectory import StopReason, Trajectory, Turn

SHOWN = 2000
"""Characters of an observation in a transcript. Ours."""


class WrittenAttempt:
    """One attempt at a problem, turn by turn, in the default wire format. What fails in it is its stop reason."""

    def __init__(
        self, problem: Problem, *, seed: int = 0, tools: Sequence[str] | None = None, max_turns: int = 8
    ) -> None:
        """Only `begin` calls it."""
        self.problem = problem
        self._seed, self._most = seed, max_turns
        offered = replace(problem, tools=tuple(problem.tools if tools is None else tools))
        context = CallContext(trajectory=f"{derive(problem.id, seed):016x}", seed=derive(seed, "world"))
        self._episode: Episode = environment_of(problem).reset(offered, context)
        self._shown: tuple[tuple[Message, ...], tuple[dict[str, Any], ...]] = ((), ())
        self.turns: list[Turn] = []
        self.stop_reason: StopReason | None = None
        self._answer: str | None = None
        self._why = ""

    @classmethod
    async def begin(
        cls,
        problem: Problem,
        *,
        seed: int = 0,
        tools: Sequence[str] | None = None,
        max_turns: int = 8,
        start: Sequence[Turn] = (),
    ) -> "WrittenAttempt":
        """An attempt before its first turn, or after those of `start`, whose calls are run again.

        `tools`: those on offer, of the problem's; None: all of them.
        """
        made = cls(problem, seed=seed, tools=tools, max_turns=max_turns)
        try:
            await made._episode.begin()
            made._shown = made._episode.shown()
        except Exception as error:  # the boundary: a world that can't begin is recorded
            made.stop_reason, made._why = failure_of(error)
        for turn in start:
            if made.stop_reason is not None:
                break
            await made.say(turn.text)
        return made

    @property
    def opening(self) -> tuple[Message, ...]:
        """What the model is shown first."""
        return self._shown[0] or (Message(role="user", content=self.problem.question),)

    @property
    def specs(self) -> list[dict[str, Any]]:
        """Of the tools on offer."""
        return [tool.spec() for tool in self._episode.tools.values()]

    def messages(self, hint: str = "") -> list[Message]:
        """The conversation so far as plain texts, for a model that knows no tool calls of its own.

        `hint`: what is told behind the question and is not in the trajectory.
        """
        system = [message.content for message in self.opening if message.role == "system"]
        shown = [Message(role="system", content="\n\n".join([*system, instructions(self.specs)]))]
        rest = [message for message in self.opening if message.role != "system"]
        if hint and rest:
            rest[-1] = replace(rest[-1], content=f"{rest[-1].content}\n\n{hint}")
        shown += rest
        for turn in self.turns:
            shown.append(Message(role="assistant", content=turn.text))
            if turn.restart:
                shown = [shown[0], *turn.restart]
            elif seen := turn.outputs():
                shown.append(Message(role="user", content="\n".join(_observed(turn, seen))))
        return shown

    async def say(self, text: str) -> Turn:
        """Append a turn and what the world answers."""
        assert self.stop_reason is None, "an attempt that has ended has no next turn"
        parsed = parse_turn(text)
        reaction = Reaction()
        if parsed.error:
            self.stop_reason = StopReason.FORMAT_ERROR
        else:
            reaction = await self._react(replace(parsed, written=text))
        turn = Turn(
            text=text,
            calls=parsed.calls if reaction.results else (),
            results=reaction.results,
            reply=reaction.reply.content if reaction.reply else "",
            reward=reaction.reward,
            restart=reaction.restart or (),
            error=parsed.error,
        )
        self.turns.append(turn)
        if self.stop_reason is None and len(self.turns) >= self._most:
            self.stop_reason = StopReason.MAX_TURNS
        return turn

    async def _react(self, parsed: ParsedTurn) -> Reaction:
        try:
            reaction = await self._episode.step(parsed)
        except Exception as error:  # the boundary: a broken tool or world ends this attempt alone
            self.stop_reason, self._why = failure_of(error)
            return Reaction()
        if reaction.done:
            answered = not parsed.calls and reaction.reply is None
            self.stop_reason = StopReason.ANSWER if answered else StopReason.DONE
        if not parsed.calls:
            self._answer = parsed.answer
        return reaction

    async def abandon(self) -> None:
        """Close the world without a verdict."""
        await self._episode.close()

    async def finish(self, *, source: str, provenance: Mapping[str, Any] | None = None) -> Trajectory:
        """The verdict and the trajectory; the world is closed. An attempt without an end has run into its limit."""
        verdict, stop = Verdict(correct=None), self.stop_reason or StopReason.MAX_TURNS
        try:
            if stop.scorable:
                verdict = await self._episode.verify(self._answer)
        except Exception as error:  # the boundary, as in `say`
            stop, self._why = failure_of(error)
        finally:
            await self._episode.close()
        texts = [turn.text for turn in self.turns]
        return Trajectory.at(
            self.problem,
            id=f"{derive(self.problem.id, source, self._seed, *texts):016x}",
            opening=self._shown[0],
            specs=self._shown[1],
            turns=tuple(self.turns),
            stop_reason=stop,
            answer=self._answer,
            source=source,
            seed=self._seed,
            correct=verdict.correct,
            score=verdict.score,
            score_parts=dict(verdict.parts),
            provenance={**(provenance or {}), **({"failure": self._why} if self._why else {})},
        )


async def retold(
    problem: Problem, texts: Sequence[str], *, source: str, seed: int = 0, provenance: Mapping[str, Any] | None = None
) -> Trajectory:
    """Turns that someone has written, played in the real world: their calls are run and the verdict is taken."""
    attempt = await WrittenAttempt.begin(problem, seed=seed, max_turns=len(texts) + 1)
    for text in texts:
        if attempt.stop_reason is not None:
            break
        await attempt.say(text)
    return await attempt.finish(source=source, provenance=provenance)


def instructions(specs: Sequence[Mapping[str, Any]]) -> str:
    """What a model is told that knows no chat template of ours: the tools, and how calls and answers are written."""
    if not specs:
        return "Think in <think></think>. When you know the answer, give it in <answer></answer>."
    listed = "\n".join(json.dumps(spec, ensure_ascii=False) for spec in specs)
    call = '<tool_call>\n{"name": "NAME", "arguments": {...}}\n</tool_call>'
    return f"Tools, one a line:\n{listed}\n\n{Hermes.instructions} A call is written like this:\n{call}\nAfter a call, wait."


def rethought(text: str, thought: str) -> str:
    """A turn's text with another thought in it; what is called, answered and said stays byte by byte.

    Raises `ValueError` for a turn or a thought that the format can't hold.
    """
    if THOUGHT[1] in thought:
        raise ValueError("a thought with its own end in it can't be written")
    _, rest = split_thought(text)
    check_visible(rest)
    gap = "" if text.lstrip().startswith(THOUGHT[0]) else "\n"
    return f"{THOUGHT[0]}{thought}{THOUGHT[1]}{gap}{rest}"


def transcript(opening: Sequence[Message], turns: Sequence[Turn]) -> str:
    """What was shown and done, as plain text for a model that reads about it; long observations are cut."""
    lines = [f"[{message.role}]\n{message.content}" for message in opening]
    for turn in turns:
        lines.append(f"[assistant]\n{turn.text}")
        outputs = [output if len(output) <= SHOWN else f"{output[:SHOWN]} ..." for output in turn.outputs()]
        lines += [f"[{'tool' if i < len(turn.results) else 'user'}]\n{text}" for i, text in enumerate(outputs)]
    return "\n".join(lines)


def _observed(turn: Turn, outputs: Sequence[str]) -> list[str]:
    results = [f"<tool_response>\n{text}\n</tool_response>" for text in outputs[: len(turn.results)]]
    return [*results, *outputs[len(turn.results) :]]
