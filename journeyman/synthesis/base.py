"""What a strategy of synthesis is given and gives: lessons, a teacher, a studio."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias, runtime_checkable

from journeyman.llm import Chat
from journeyman.messages import Message
from journeyman.problem import Problem
from journeyman.seeds import derive
from journeyman.trajectory import KIND, StopReason, Trajectory, Turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """A problem, and what has been made of it so far."""

    problem: Problem
    trajectories: tuple[Trajectory, ...] = ()
    refused: tuple[Trajectory, ...] = ()
    """What was made and not taken, each with `provenance["refused"]`: why. It is stored apart, and never learned from."""

    def taking(self, made: Sequence[Trajectory], refused: Sequence[Trajectory] = ()) -> "Lesson":
        """With these in place of its trajectories; what is refused comes to what was refused before."""
        return replace(self, trajectories=tuple(made), refused=(*self.refused, *refused))


class Teacher(Protocol):
    """Who makes attempts: a scripted expert, a model behind an endpoint, a model here, the policy itself."""

    name: str
    """What provenance calls it: `scripted`, a model's name."""

    async def attempt(
        self,
        problem: Problem,
        *,
        seed: int,
        temperature: float = 1.0,
        hint: str = "",
        tools: Sequence[str] | None = None,
        start: Sequence[Turn] = (),
    ) -> Trajectory:
        """One attempt, verified by its environment; failures are recorded as its stop reason.

        Args:
            seed: same seed, same attempt.
            hint: what only the teacher is told, behind the question; it is not in the trajectory.
            tools: those on offer, of the problem's; None: all of them, (): none.
            start: turns that are taken as they are (their calls run again) before the teacher goes on.
        """
        ...


@runtime_checkable
class Logged(Protocol):
    """A teacher whose work was logged: a log may have several rows of a problem, rows of others, or none."""

    async def logged(self, problem: Problem) -> Sequence[Trajectory]:
        """The rows that came of a problem."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Studio:
    """What all lessons of a stage share."""

    teacher: Teacher
    chat: Chat | None = None
    """Who writes texts: rewrites, reflections, guidance. None: the teacher is scripted."""
    seed: int = 0
    problems: Sequence[Problem] = ()
    """All problems that are taught, in their order: for retrieval. A lesson's own problem is among them."""
    apart: Sequence[Problem] = ()
    """Dev and held-out problems: what must not be taught."""
    parallel: int = 8
    """Requests of one lesson that may be under way at once."""

    def seed_of(self, *parts: str | int) -> int:
        """A seed for one draw; give it the strategy's name, the problem's id, a number."""
        return derive(self.seed, *parts)

    def writer(self, strategy: str) -> Chat:
        """The model that writes texts. Raises `ConfigError` where there is none."""
        from journeyman.errors import ConfigError

        if self.chat is None:
            raise ConfigError(
                f"{strategy} needs a model that writes",
                place="synthesize.teacher",
                remedy="set synthesize.writer, or a teacher of type endpoint, model or policy",
            )
        return self.chat


Strategy: TypeAlias = Callable[[Lesson, Studio], Awaitable[Sequence[Lesson]]]
"""A lesson to lessons: of the same problem with other trajectories, or of problems made from it.

In pipelines.yaml the strategies of a stage stand in a list and work one after another. A strategy is an async function
`name(lesson, studio, *, option=...)`; what it draws follows from `studio.seed_of`, so that a rerun makes the same.
"""


def signed(trajectory: Trajectory, strategy: str, **more: Any) -> Trajectory:
    """With the strategy and what else is to be known of how it was made in its provenance; earlier strategies stay."""
    before = trajectory.provenance.get("strategies", [])
    return replace(trajectory, provenance={**trajectory.provenance, "strategies": [*before, strategy], **more})


def refusal(trajectory: Trajectory, reason: str) -> Trajectory:
    """As it is kept among what was not taken."""
    return replace(trajectory, provenance={**trajectory.provenance, "refused": reason})


def not_right(trajectory: Trajectory) -> str:
    """Why an attempt isn't taken as right: wrong, or what kept it from a verdict; empty where it is right."""
    if trajectory.correct is None:
        return f"not verified ({trajectory.stop_reason})"
    if trajectory.correct:
        return ""
    ended = trajectory.stop_reason in ("answer", "done")
    return "wrong" if ended else f"wrong ({trajectory.stop_reason})"


def unread(problem: Problem, reply: str, reason: str, *, strategy: str) -> Trajectory:
    """A writer's reply that can't be used, as it is kept among what was not taken."""
    kept = Trajectory.at(
        problem,
        id=f"{derive(problem.id, strategy, reason, reply):016x}",
        turns=(Turn(text=reply, error=reason),),
        stop_reason=StopReason.FORMAT_ERROR,
        source="writer",
    )
    return refusal(signed(kept, strategy), reason)


async def asked(chat: Chat, prompt: str, *, seed: int, system: str = "", temperature: float = 0.0, **more: Any) -> str:
    """A model's reply to one message."""
    opening = [Message(role="system", content=system)] if system else []
    return await chat.complete(
        [*opening, Message(role="user", content=prompt)], seed=seed, temperature=temperature, **more
    )


def tagged_text(reply: str, tag: str) -> str | None:
    """What a reply has between `<tag>` and `</tag>`, the last of them; None where it has none."""
    found = re.findall(rf"<{tag}>(.*?)</{tag}>", reply, re.DOTALL)
    return found[-1].strip() if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Something to learn that is no attempt: what the next state is, why an action is right, what follows an error."""

    kind: str
    """`world_model`, `reflection`, `signal/<type>`: sft mixes by it."""
    prompt: str
    target: str
    """What is learned: no format is asked of it."""
    provenance: Mapping[str, Any] = field(default_factory=dict)


def trajectory_of(sample: Sample, of: Trajectory) -> Trajectory:
    """A sample as a trajectory of one turn without tools; `of`: the attempt that it was taken from."""
    return Trajectory(
        id=f"{derive(of.id, sample.kind, sample.prompt, sample.target):016x}",
        problem_id=of.problem_id,
        family=of.family,
        question=sample.prompt,
        reference=sample.target,
        tools=(),
        min_calls=0,
        turns=(Turn(text=sample.target),),
        stop_reason=StopReason.ANSWER,
        answer=sample.target,
        source=of.source,
        seed=of.seed,
        correct=of.correct,
        provenance={**of.provenance, KIND: sample.kind, "from": [of.id], **sample.provenance},
    )
