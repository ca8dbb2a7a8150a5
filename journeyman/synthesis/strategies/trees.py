"""Search over turns: attempts that go on from the most promising beginnings of earlier ones."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from journeyman.expressions import Count, Positive
from journeyman.problem import Problem
from journeyman.rollout.search.values import step_values, uct
from journeyman.synthesis.base import Lesson, Studio, asked, not_right, refusal, signed, tagged_text, unread
from journeyman.synthesis.written import transcript
from journeyman.trajectory import Trajectory, Turn

VALUE = """How likely is it that this unfinished attempt ends in a right answer? The task and what was done so far:

{shown}

Reply with a number from 0 (it can't) to 1 (it is sure to): <value>...</value>"""
_NUMBER = re.compile(r"0|1|[01]?\.\d{1,6}")


async def tree_search(
    lesson: Lesson,
    studio: Studio,
    *,
    budget: Count = 8,
    width: Count = 3,
    exploration: Positive = 1.4,
    value: Literal["rollouts", "writer"] = "rollouts",
    keep: Count = 1,
) -> Sequence[Lesson]:
    """Tree search over turns, guided by values of unfinished attempts; right traces are learned, with a value a turn.
    ReST-MCTS* (#45, derived): w_k = (1 - v_{k-1}) / (m_k + 1) (1 - 2 r_k), v_k = max(v_{k-1} + w_k, 0).

    Each of `budget` attempts goes on from the node that UCT leads to and adds its next turn as a node, up to `width` a
    node. What is backed up is the verdict of the attempt (`rollouts`) or a writer's value of it up to the new turn
    (`writer`; where that can't be read, the verdict). The `keep` right traces with the fewest turns are added to what
    the lesson has, the other attempts refused. `step_values` in the provenance of all of them, where any is right, are
    the v_k, one a turn: m_k is the fewest turns that a right trace still takes from there, r_k = 1 where no right
    trace goes through it, whose m is that of the turn before. Both readings, and all numbers, are ours. Training a
    value model on them is not covered.
    """
    problem, root = lesson.problem, _Node()
    made, faults = list[Trajectory](), list[Trajectory]()
    for number in range(budget):
        if root.closed(width):
            break
        path = _descent(root, width, exploration)
        seed = studio.seed_of("tree_search", problem.id, number)
        attempt = await studio.teacher.attempt(problem, seed=seed, start=path[-1].turns)
        origin = {"from": [path[-1].origin]} if path[-1].origin else {}
        made.append(signed(attempt, "tree_search", attempt=number, forked_at=len(path[-1].turns), **origin))
        if attempt.correct is None or not (child := path[-1].child(attempt)):
            continue
        worth = float(attempt.correct)
        if value == "writer":
            worth, fault = await _worth(problem, child, studio, seed, otherwise=worth)
            faults += fault
        for node in (*path, child):
            node.visits, node.total = node.visits + 1, node.total + worth
    taken, refused = _sorted(made, keep)
    return [lesson.taking((*lesson.trajectories, *taken), [*refused, *faults])]


@dataclass(slots=True, kw_only=True)
class _Node:
    """Turns from the beginning of an attempt, as a place to go on from."""

    turns: tuple[Turn, ...] = ()
    origin: str = ""
    """Id of the attempt that they were first written in."""
    ended: bool = False
    """Whether the last of them ended it."""
    children: dict[str, "_Node"] = field(default_factory=dict)
    """By the text of the next turn."""
    visits: int = 0
    total: float = 0.0

    def closed(self, width: int) -> bool:
        """Whether there is no place left to go on from."""
        full = len(self.children) >= width
        return self.ended or (full and all(child.closed(width) for child in self.children.values()))

    def child(self, attempt: Trajectory) -> "_Node | None":
        """The node of an attempt's next turn; None where it has none."""
        depth = len(self.turns)
        if len(attempt.turns) <= depth:
            return None
        reached, ended = attempt.turns[: depth + 1], len(attempt.turns) == depth + 1
        new = _Node(turns=reached, origin=attempt.id, ended=ended)
        return self.children.setdefault(attempt.turns[depth].text, new)


def _descent(root: _Node, width: int, exploration: float) -> list[_Node]:
    """From the root to the node that is grown next. The root is not closed."""
    path = [root]
    while len(path[-1].children) >= width:
        node = path[-1]
        left = [child for child in node.children.values() if not child.closed(width)]
        path.append(max(left, key=lambda child: uct(child.total, child.visits, node.visits, exploration)))
    return path


async def _worth(
    problem: Problem, node: _Node, studio: Studio, seed: int, *, otherwise: float
) -> tuple[float, list[Trajectory]]:
    """(a writer's value of a node, what it said where that can't be read)."""
    shown = f"[user]\n{problem.question}\n{transcript((), node.turns)}"
    reply = await asked(studio.writer("tree_search"), VALUE.format(shown=shown), seed=seed)
    said = tagged_text(reply, "value") or ""
    if not _NUMBER.fullmatch(said) or float(said) > 1:
        return otherwise, [unread(problem, reply, "a value that can't be read", strategy="tree_search")]
    return float(said), []


def _sorted(made: Sequence[Trajectory], keep: int) -> tuple[list[Trajectory], list[Trajectory]]:
    """(the right traces that are kept, the others), all with their step values."""
    right = [[turn.text for turn in one.turns] for one in made if one.correct]
    valued = [with_step_values(one, right) for one in made]
    kept: dict[tuple[str, ...], Trajectory] = {}
    for one in sorted((one for one in valued if one.correct), key=lambda one: len(one.turns)):
        if len(kept) < keep:
            kept.setdefault(tuple(turn.text for turn in one.turns), one)
    taken = {id(one) for one in kept.values()}
    others = [one for one in valued if id(one) not in taken]
    return list(kept.values()), [refusal(one, not_right(one) or "another right trace is kept") for one in others]


def with_step_values(trajectory: Trajectory, right: Sequence[Sequence[str]]) -> Trajectory:
    """With its step values, given the texts of the right traces; as it is where there are none."""
    if not right or trajectory.correct is None:
        return trajectory
    values = step_values([turn.text for turn in trajectory.turns], right)
    return replace(trajectory, provenance={**trajectory.provenance, "step_values": values})
