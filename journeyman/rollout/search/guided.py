"""ReST-MCTS*: attempts that go on from where values of unfinished ones point, with a value for each step."""

from collections.abc import Awaitable, Callable
from math import inf

from journeyman.config.rollout import ValueSearchRollouts
from journeyman.rollout.job import RolloutJob
from journeyman.rollout.loop import Agent
from journeyman.rollout.search.nodes import Node, expand, node_job, root_of, told
from journeyman.rollout.search.values import step_values, uct
from journeyman.rollout.tree import apart
from journeyman.trajectory import Trajectory

Value = Callable[[Trajectory], Awaitable[float]]
"""An unfinished attempt -> how good it is, in [0, 1]: a critic, or a process reward model."""


async def value_search(
    agent: Agent, job: RolloutJob, settings: ValueSearchRollouts, *, wanted: int, value: Value | None = None
) -> list[Trajectory]:
    """Up to `wanted` attempts, each with a value for each of its turns.

    Each goes on from the node that UCT leads to, adds its next turn as a node, up to `width` a node, and is played to its
    end. What is backed up is the verdict, so that a node's mean is a Monte-Carlo value, or what `value` says of the
    attempt up to the new turn. Step values are there where a right attempt was found. Tree and attempts end where no place
    is left to go on from.
    """
    root, made = await root_of(agent, job), list[tuple[Trajectory, list[int]]]()
    while len(made) < wanted and not closed(root, settings.width):
        path, number = descent(root, settings.width, settings.exploration), 2 * len(made) + 1
        [node] = await expand(agent, job, path[-1], [number])
        leaf = await _completed(agent, job, node, number + 1)
        # Turns behind the node are the attempt's own.
        own = [-number * job.max_turns - extra for extra in range(len(leaf.turns) - node.depth)]
        made.append((leaf, [*(one.number for one in node.path()), *own]))
        if leaf.correct is None:
            continue
        worth = float(leaf.correct) if value is None else await value(node.reached)
        for one in (*path, node):
            one.visits, one.value = one.visits + 1, one.value + worth
    return _valued(made)


def closed(node: Node, width: int) -> bool:
    """Whether there is no place left to go on from."""
    full = len(node.children) >= width
    return node.ended or (full and all(closed(child, width) for child in node.children))


def descent(root: Node, width: int, exploration: float) -> list[Node]:
    """From the root to the node that is grown next. The root is not closed."""
    path = [root]
    while len(path[-1].children) >= width:
        node = path[-1]
        left = [child for child in node.children if not closed(child, width)]
        path.append(
            max(left, key=lambda one: uct(one.value, one.visits, node.visits, exploration) if one.visits else inf)
        )
    return path


async def _completed(agent: Agent, job: RolloutJob, node: Node, number: int) -> Trajectory:
    if node.place is None:
        return node.reached
    return await agent.complete(agent.resume(apart(node.place), node_job(job, number)))


def _valued(made: list[tuple[Trajectory, list[int]]]) -> list[Trajectory]:
    right = [[turn.text for turn in leaf.turns] for leaf, _ in made if leaf.correct]
    return [
        told(
            leaf,
            nodes,
            step_values([turn.text for turn in leaf.turns], right) if right else [0.0] * len(leaf.turns),
            mean=None,
            learned=leaf.correct is not None,
        )
        for leaf, nodes in made
    ]
