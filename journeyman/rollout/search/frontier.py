"""DeepSearch: a tree over turns that grows from the most promising of all open places."""

from dataclasses import dataclass, field
from math import fsum, inf

from journeyman.config.rollout import SearchRollouts
from journeyman.rollout.job import RolloutJob
from journeyman.rollout.loop import Agent
from journeyman.rollout.search.nodes import Node, expand, root_of, told
from journeyman.rollout.search.values import frontier_score, soft_clip, surprise, uct
from journeyman.trajectory import Trajectory


@dataclass(slots=True)
class Tree:
    """What has grown so far."""

    root: Node
    size: int = 1
    learned: set[int] = field(default_factory=set)
    """Numbers of the leaves that were backed up."""

    @property
    def frontier(self) -> list[Node]:
        """Places that nothing has grown from yet."""
        return [node for node in self.root.below() if not node.ended and not node.children]

    @property
    def leaves(self) -> list[Node]:
        return [node for node in self.root.below() if node.ended and node.parent]


async def frontier_search(
    agent: Agent, job: RolloutJob, settings: SearchRollouts, *, wanted: int, direct: list[Trajectory]
) -> list[Trajectory]:
    """Up to `wanted` leaves of a tree, with the value of each of their turns.

    A round begins at the open place with the largest F, adds `width` next turns, goes on from the one that UCT takes
    until one of those added ends an attempt, and backs up: every right leaf it has found, else the wrong one with
    the lowest mean entropy. Rounds go on until there are `wanted` leaves and one of them is right, or `rounds` are over
    and there are enough, or nothing is open. Of more leaves than wanted those that were backed up are taken first, right ones
    before wrong ones, sure ones before unsure ones. `direct`: attempts made besides, which count in the tree's mean.
    """
    tree, rounds = Tree(await root_of(agent, job)), 0
    while tree.frontier and (len(tree.leaves) < wanted or (rounds < settings.rounds and not tree.root.right)):
        await _round(agent, job, settings, tree)
        rounds += 1
    return _taken(tree, settings, wanted, direct)


async def _round(agent: Agent, job: RolloutJob, settings: SearchRollouts, tree: Tree) -> None:
    node, deepest = promising(tree, settings, job.max_turns), list[Node]()
    while not deepest:
        made = await expand(agent, job, node, range(tree.size, tree.size + settings.width))
        tree.size += len(made)
        deepest = [child for child in made if child.ended]
        node = sibling(made, node, settings.exploration)
    for leaf in chosen(deepest):
        back_up(leaf)
        tree.learned.add(leaf.number)


def promising(tree: Tree, settings: SearchRollouts, deepest: int) -> Node:
    """The open place with the largest F; of equals the one that grew first."""
    weights = (settings.quality, settings.uncertainty, settings.depth)

    def score(node: Node) -> float:
        above = node.parent.value if node.parent else 0.0
        return frontier_score(above, node.entropy, node.depth / deepest, weights=weights)

    return max(sorted(tree.frontier, key=lambda node: node.number), key=score)


def sibling(children: list[Node], parent: Node, exploration: float) -> Node:
    """The child to go on from by UCT: the first that was never visited, else the best of mean value and bonus."""

    def score(node: Node) -> float:
        return uct(node.value, node.visits, max(1, parent.visits), exploration) if node.visits else inf

    return max(children, key=score)


def chosen(leaves: list[Node]) -> list[Node]:
    """What a round backs up: its right leaves, else of the wrong ones the one with the lowest mean entropy of its path."""
    scored = [leaf for leaf in leaves if leaf.reached.correct is not None]
    right = [leaf for leaf in scored if leaf.reached.correct]
    return right or sorted(scored, key=lambda leaf: surprise(leaf.reached))[:1]


def back_up(leaf: Node) -> None:
    """+1 or -1 on the way from a leaf to the root, at depth d of l times d / l; what leads to a right leaf stays >= 0.

    That it decays, and the bound, are the authors'; the decay's form is ours.
    """
    outcome = 1.0 if leaf.reached.correct else -1.0
    path = leaf.path()
    for node in path:
        node.value += outcome * node.depth / max(1, leaf.depth)
    root = path[0].parent if path else None
    for node in (*path, *([root] if root else [])):
        node.visits += 1
        node.right = node.right or outcome > 0
        if node.right:
            node.value = max(node.value, 0.0)


def _taken(tree: Tree, settings: SearchRollouts, wanted: int, direct: list[Trajectory]) -> list[Trajectory]:
    mean, learned = _mean(tree, direct), tree.learned
    if not tree.root.right:
        wrong = [leaf for leaf in tree.leaves if leaf.number in learned]
        learned = {leaf.number for leaf in chosen(wrong)}

    def rank(leaf: Node) -> tuple[bool, bool, float]:
        return (leaf.number not in learned, not leaf.right, surprise(leaf.reached))

    return [
        told(
            leaf.reached,
            [node.number for node in leaf.path()],
            [_value(node, settings) for node in leaf.path()],
            mean=mean,
            learned=leaf.number in learned,
        )
        for leaf in sorted(tree.leaves, key=rank)[:wanted]
    ]


def _value(node: Node, settings: SearchRollouts) -> float:
    """q of a turn: bounded between the turns, the outcome itself at the end."""
    if node.ended:
        return 1.0 if node.reached.correct else -1.0
    return soft_clip(node.value, settings.clip, settings.most)


def _mean(tree: Tree, direct: list[Trajectory]) -> float | None:
    """Mean of the outcomes +-1 of all leaves, and of the attempts besides; None where none has a verdict."""
    verdicts = [one.correct for one in (*direct, *(leaf.reached for leaf in tree.leaves)) if one.correct is not None]
    return fsum(1.0 if right else -1.0 for right in verdicts) / len(verdicts) if verdicts else None
