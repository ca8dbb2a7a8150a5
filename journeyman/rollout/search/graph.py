"""Monte-Carlo graph search: plans of clauses, in which equal clauses are one node whatever came before."""

import math
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

VETO = -1.0
"""What a plan that breaks a rule scores, among plans in [0, 1]. Ours: the authors' is -15."""


@dataclass(frozen=True, slots=True)
class Clause:
    """A decision of a plan."""

    slot: str
    """What is decided."""
    value: str


Plan = tuple[Clause, ...]


class Grammar(Protocol):
    """Which plans there are."""

    def legal(self, plan: Plan) -> Sequence[Clause]:
        """What may come next; nothing where the plan is complete, and at a dead end."""
        ...

    def complete(self, plan: Plan) -> bool: ...

    def open(self, plan: Plan) -> float:
        """Share of the slots that nothing has been decided about, in [0, 1]."""
        ...


Judge = Callable[[Plan], Awaitable[float | None]]
"""A complete plan -> what it is worth, in [0, 1]; None: vetoed."""


@dataclass(slots=True)
class Edge:
    visits: int = 0
    value: float = 0.0


@dataclass(slots=True)
class Node:
    """A clause in all plans that have it."""

    visits: int = 0
    edges: dict[Clause, Edge] = field(default_factory=dict)


def ucb(edge: Edge, above: int, exploration: float = 1.5) -> float:
    """value / visits + 1.5 sqrt(2 ln N / visits), N being the visits of the node above; unvisited edges come first."""
    if not edge.visits:
        return math.inf
    return edge.value / edge.visits + exploration * math.sqrt(2 * math.log(max(above, 1)) / edge.visits)


def random_share(open_slots: float) -> float:
    """How often a move is drawn instead of chosen: exp(-.8 (1 - share of open slots)), always at the root."""
    return math.exp(-0.8 * (1 - open_slots))


class GraphSearch:
    """HAIChart's search (#41, verified): nodes are shared by (slot, value) over all plans, statistics stand on edges.

    A simulation goes down by `ucb`, or at random with `random_share`, adds one untried legal clause, is completed at random,
    and adds its score to every edge on its way down. Scores of plans are kept. What its nodes share mixes plans that begin
    otherwise. Dead ends score 0, vetoed plans `VETO`. All draws follow from the seed.
    """

    def __init__(self, grammar: Grammar, judge: Judge, *, seed: int, exploration: float = 1.5) -> None:
        self._grammar, self._judge, self._exploration = grammar, judge, exploration
        self._rng = random.Random(seed)
        self._fixed: dict[str, str] = {}
        self.root = Node()
        self.nodes: dict[Clause, Node] = {}
        self.scores: dict[Plan, float] = {}
        """Of all plans that were completed."""

    async def simulate(self) -> float:
        """One simulation; returns its plan's score."""
        way, plan = self._down()
        while legal := self._legal(plan):
            plan = (*plan, self._rng.choice(legal))
        score = await self._score(plan)
        for node, clause in way:
            node.visits += 1
            edge = node.edges[clause]
            edge.visits, edge.value = edge.visits + 1, edge.value + score
        return score

    def _down(self) -> tuple[list[tuple[Node, Clause]], Plan]:
        """(the edges down to what was never tried, that included; the plan that they make)."""
        node, plan, way = self.root, (), list[tuple[Node, Clause]]()
        while legal := self._legal(plan):
            untried = [clause for clause in legal if clause not in node.edges]
            clause = self._rng.choice(untried) if untried else self._select(node, legal, plan)
            node.edges.setdefault(clause, Edge())
            way.append((node, clause))
            plan = (*plan, clause)
            node = self.nodes.setdefault(clause, Node())
            if untried:
                break
        return way, plan

    def _select(self, node: Node, legal: Sequence[Clause], plan: Plan) -> Clause:
        if self._rng.random() < random_share(self._grammar.open(plan)):
            return self._rng.choice(legal)
        return max(legal, key=lambda clause: ucb(node.edges[clause], node.visits, self._exploration))

    def _legal(self, plan: Plan) -> Sequence[Clause]:
        return [one for one in self._grammar.legal(plan) if self._fixed.get(one.slot, one.value) == one.value]

    async def _score(self, plan: Plan) -> float:
        if plan not in self.scores:
            if not self._grammar.complete(plan):
                return 0.0
            score = await self._judge(plan)
            self.scores[plan] = VETO if score is None else score
        return self.scores[plan]

    def constrain(self, clause: Clause) -> None:
        """From now on the slot has this value: what a user has answered to a hint. Statistics are kept."""
        self._fixed[clause.slot] = clause.value

    def best(self, count: int) -> list[tuple[Plan, float]]:
        """The plans with the highest scores that were found and keep to the constraints; of equals the first found."""
        fitting = [
            (plan, score)
            for plan, score in self.scores.items()
            if all(self._fixed.get(clause.slot, clause.value) == clause.value for clause in plan)
        ]
        return sorted(fitting, key=lambda found: -found[1])[:count]


def hints(plans: Mapping[Plan, float], count: int) -> list[Clause]:
    """The clauses that a user had best be asked about: greedily those that cover most of what is not yet covered.

    HAIChart's hints (#41, derived): plans weigh what they score, above 0. What all plans have is no question.
    """
    left = {plan: score for plan, score in plans.items() if score > 0}
    common = set.intersection(*map(set, left)) if left else set()
    found = list[Clause]()
    while left and len(found) < count:
        gains: dict[Clause, float] = {}
        for plan, score in left.items():
            for clause in dict.fromkeys(plan):
                if clause not in common:
                    gains[clause] = gains.get(clause, 0.0) + score
        if not gains:
            break
        found.append(max(gains, key=lambda clause: gains[clause]))
        left = {plan: score for plan, score in left.items() if found[-1] not in plan}
    return found
