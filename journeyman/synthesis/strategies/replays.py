"""What strategies that rework attempts share: which trajectories are attempts, how they are played again."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from journeyman.problem import Problem
from journeyman.synthesis.base import Lesson, Sample, refusal, signed, trajectory_of
from journeyman.synthesis.written import retold
from journeyman.trajectory import KIND, PLAIN, Trajectory


def is_attempt(trajectory: Trajectory) -> bool:
    """Whether it is one at its problem, and not a sample that was taken from one."""
    return trajectory.provenance.get(KIND, PLAIN) == PLAIN


async def reworked(lesson: Lesson, change: Callable[[Trajectory], Awaitable[Sequence[Trajectory]]]) -> Lesson:
    """The lesson with what `change` makes of each attempt in its place; samples stay.

    What of it carries `provenance["refused"]` goes to what is refused.
    """
    made: list[Trajectory] = []
    for trajectory in lesson.trajectories:
        made += await change(trajectory) if is_attempt(trajectory) else [trajectory]
    return lesson.taking(*parted(made))


def parted(made: Sequence[Trajectory]) -> tuple[list[Trajectory], list[Trajectory]]:
    """(what is taken, what is refused)."""
    refused = [one for one in made if "refused" in one.provenance]
    return [one for one in made if "refused" not in one.provenance], refused


async def replayed(problem: Problem, texts: Sequence[str], of: Trajectory, *, strategy: str, **more: Any) -> Trajectory:
    """An attempt's turns in other words, played in the real world; signed, with the attempt that it comes from."""
    before = {key: value for key, value in of.provenance.items() if key != "failure"}
    made = await retold(problem, texts, source=of.source, seed=of.seed, provenance=before)
    return signed(made, strategy, **{"from": [of.id]}, verified="environment", **more)


def fault_of(made: Trajectory, of: Trajectory) -> str:
    """Why an attempt that was played again can't take the old one's place; empty where it can.

    It has to be right where that was, and well formed everywhere.
    """
    malformed = next((turn.error for turn in made.turns if turn.error), "")
    if malformed:
        return f"malformed when it is replayed: {malformed}"
    if not made.stop_reason.scorable:
        return f"not verified when it is replayed ({made.stop_reason})"
    return "no longer right when it is replayed" if of.correct and not made.correct else ""


def unread(of: Trajectory, reply: str, reason: str, *, strategy: str, kind: str) -> Trajectory:
    """A writer's reply that nothing could be made of, as it is kept among what was not taken."""
    sample = trajectory_of(Sample(kind=kind, prompt=of.question, target=reply), of)
    return refusal(signed(sample, strategy), reason)
