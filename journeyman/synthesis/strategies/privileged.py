"""A teacher that knows more than the student, and labels what it would do where the student came."""

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from journeyman.environments.solve_score import shows
from journeyman.expressions import Count, Share
from journeyman.problem import Problem, problem_id
from journeyman.synthesis.base import Lesson, Studio, not_right, refusal, signed
from journeyman.trajectory import UNLEARNED, Trajectory, Turn

FACTS = """Known to you alone; never speak of it. A solution of this task saw these milestones, one after the other:
{milestones}
Take the steps that reach those that are left. State nothing that no tool has shown yet."""
TELLTALES = ("milestone", "milestones")
"""Words by which an attempt speaks of what only the teacher knows (ours)."""
COMMON = frozenset(
    {
        *("after", "all", "and", "any", "are", "but", "each", "error", "for", "found", "from", "has", "her"),
        *("his", "its", "not", "now", "one", "she", "some", "that", "the", "then", "there", "these", "they", "this"),
        *("those", "was", "what", "when", "where", "which", "who", "with", "you", "your"),
    }
)
"""Words that begin a sentence and name nothing (ours)."""
_SALIENT = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?!\w)|\b[A-Z][\w'-]{2,}")
"""Numbers and capitalised words."""


async def privileged(
    lesson: Lesson,
    studio: Studio,
    *,
    rounds: Count = 2,
    states: Count = 6,
    first: Share = 1.0,
    decay: Share = 0.5,
) -> Sequence[Lesson]:
    """Demonstrations become tasks; a teacher with privileged facts labels the states that a student comes to (DAgger).
    BiDexHD (#76, derived): task by demonstration, a two-stage reward, privileged teacher, student without.

    A right demonstration of the lesson gives a task: its question and verdict, with the tool outputs in order as
    milestones (`goals` in the problem's data, unless it has some). In round i the next turn is taken from the teacher
    with probability first * decay^i, else from an attempt without facts, the student's. At each of up to `states`
    states the teacher, who is told the milestones, goes on from there: a label is its turn and how it ends, which is
    how it is known to be right. The turns up to the state are `unlearned_turns`. The lesson stays, and one comes behind
    it for each task. Refused are wrong labels, those that say a milestone's numbers or names before they were shown,
    and the student's own attempts. All numbers are ours. Not covered: what a teacher is led to without saying it.
    """
    made = [lesson]
    known = set[str]()
    for demonstration in lesson.trajectories:
        milestones = milestones_of(demonstration)
        task = task_of(lesson.problem, milestones)
        if not demonstration.correct or not milestones or task.id in known:
            continue
        known.add(task.id)
        labelled = _Labelled(task=task, milestones=milestones, demonstration=demonstration.id)
        for number in range(rounds):
            await _round(labelled, studio, number=number, share=first * decay**number, states=states)
        made.append(Lesson(problem=task).taking(labelled.taken, labelled.refused))
    return made


def milestones_of(demonstration: Trajectory) -> list[dict[str, str]]:
    """What its tools gave, in order, as `{"tool", "answer"}`; failed and empty results are none."""
    results = [result for turn in demonstration.turns for result in turn.results]
    return [{"tool": one.name, "answer": one.output} for one in results if one.ok and one.output.strip()]


def task_of(problem: Problem, milestones: Sequence[Mapping[str, str]]) -> Problem:
    """The problem with the milestones in its data, where rewards for progress find them."""
    data = {"goals": list(milestones), **problem.data}
    return replace(problem, data=data, id=problem_id(problem.family, problem.question, data))


def milestone_reward(met: bool, reached: int, count: int) -> float:
    """0.5 [met] + [met] 0.5 reached / count (#76, derived, ours): nothing without the preconditions."""
    return 0.5 * met + 0.5 * met * reached / count


def progress_of(trajectory: Trajectory, milestones: Sequence[Mapping[str, str]]) -> float:
    """The reward of an attempt. Preconditions are met (ours) where its first result that is one is of the first tool."""
    outputs = milestones_of(trajectory)
    met = bool(outputs) and outputs[0]["tool"] == milestones[0]["tool"]
    reached = 0
    for output in outputs:
        reached += reached < len(milestones) and output == dict(milestones[reached])
    return milestone_reward(met, reached, len(milestones))


def told_ahead(trajectory: Trajectory, milestones: Sequence[Mapping[str, str]], start: int = 0) -> str:
    """What of the milestones a turn from `start` on says before it was shown; empty where none does."""
    outputs = [one["answer"].strip() for one in milestones]
    named = [fact for text in outputs for fact in _SALIENT.findall(text) if fact.casefold() not in COMMON]
    facts = dict.fromkeys([*outputs, *named, *TELLTALES])
    opening = "\n".join(message.content for message in trajectory.opening)
    shown = f"{trajectory.question}\n{opening}\n{json.dumps(list(trajectory.specs), default=str)}"
    for number, turn in enumerate(trajectory.turns):
        if number >= start:
            said = (fact for fact in facts if shows(turn.text, fact) and not shows(shown, fact))
            if ahead := next(said, ""):
                return ahead
        shown = "\n".join([shown, turn.text, *turn.outputs()])
    return ""


@dataclass(slots=True, kw_only=True)
class _Labelled:
    """A task, and the labels so far."""

    task: Problem
    milestones: list[dict[str, str]]
    demonstration: str
    """Id of the trajectory that it was made of."""
    taken: list[Trajectory] = field(default_factory=list)
    refused: list[Trajectory] = field(default_factory=list)
    texts: set[tuple[str, ...]] = field(default_factory=set)
    """Of the labels that are taken: one that only repeats another says nothing new."""

    def add(self, made: Trajectory, start: int, reason: str = "", **more: Any) -> None:
        """Sort an attempt that goes on from turn `start`."""
        texts = tuple(turn.text for turn in made.turns)
        if not reason and texts in self.texts:
            return
        more |= {"from": [self.demonstration], UNLEARNED: list(range(start))}
        known = signed(made, "privileged", milestone_reward=progress_of(made, self.milestones), **more)
        reason = reason or not_right(known)
        if not reason and (said := told_ahead(known, self.milestones, start)):
            reason = f"says what no tool has shown yet: {said[:80]}"
        if reason:
            self.refused.append(refusal(known, reason))
        else:
            self.texts.add(texts)
            self.taken.append(known)


async def _round(labelled: _Labelled, studio: Studio, *, number: int, share: float, states: int) -> None:
    """Walk through a task once: a label at every state, the next turn from the teacher with probability `share`."""
    task, turns, actors = labelled.task, tuple[Turn, ...](), list[str]()
    listed = "\n".join(f"{one['tool']}: {one['answer']}" for one in labelled.milestones)
    for state in range(states):
        seed = studio.seed_of("privileged", task.id, number, state)
        label = await studio.teacher.attempt(task, seed=seed, hint=FACTS.format(milestones=listed), start=turns)
        known = {"round": number, "state": state, "teacher_share": share, "actors": list(actors)}
        labelled.add(label, len(turns), **known)
        taught = random.Random(seed).random() < share
        attempt = label
        if not taught:
            attempt = await studio.teacher.attempt(task, seed=studio.seed_of("student", str(seed)), start=turns)
            labelled.add(attempt, len(turns), "the student's attempt: only its states are visited", **known)
        if len(attempt.turns) <= len(turns) + 1:  # it ended here, or could not go on
            break
        actors.append("teacher" if taught else "student")
        turns = attempt.turns[: len(turns) + 1]
