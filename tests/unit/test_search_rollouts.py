"""Search over turns: the numbers of DeepSearch and ReST-MCTS*, and trees that follow their seed."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from journeyman.actors.inline import InlinePool
from journeyman.config.rollout import SearchRollouts, ValueSearchRollouts
from journeyman.errors import UserError
from journeyman.rollout.job import RolloutJob
from journeyman.rollout.loop import Agent
from journeyman.rollout.sampler import Completion, SampleRequest
from journeyman.rollout.search import frontier_search, searched, value_search
from journeyman.rollout.search.frontier import Tree, back_up, chosen, promising, sibling
from journeyman.rollout.search.guided import closed, descent
from journeyman.rollout.search.nodes import Node
from journeyman.rollout.search.values import frontier_score, soft_clip, step_values, surprise
from journeyman.rollout.worker import RolloutWorker
from journeyman.trajectory import Trajectory, Turn, from_row, to_row
from tests.unit.fakes import COMPUTE, MAX_LENGTH, ScriptedSampler, World, problem, trajectory
from tests.unit.test_tree_rollouts import SeededSampler, plain

LENGTH = 4000
EASY, NEVER = problem(), problem(answer="no answer is this")
JOB = RolloutJob(problem=NEVER, seed=7, max_new_tokens=200, max_turns=5, branches=7)
SEARCH, VALUE = SearchRollouts(width=3, direct=2), ValueSearchRollouts(width=2, direct=2)


class SureSampler(SeededSampler):
    """Log-probabilities, too, follow from the seed; answers are right as often as they are asked to be."""

    def __init__(self, world: World, calls: float = 0.7, right: float = 0.0) -> None:
        super().__init__(world, calls)
        self._right = right

    async def generate(self, request: SampleRequest) -> Completion:
        made = await super().generate(request)
        if request.seed % 1000 < 1000 * self._right:
            made = replace(
                made, token_ids=(ids := tuple(self._turn("<answer>42</answer>"))), logprobs=(0.0,) * len(ids)
            )
        return replace(made, logprobs=(-(request.seed % 97) / 50,) * len(made.token_ids))


def groups(world: World, *jobs: RolloutJob, calls: float = 0.7, right: float = 0.0) -> list[list[Trajectory]]:
    agent = Agent(SureSampler(world, calls, right), world.chat, LENGTH)

    async def all_at_once() -> list[list[Trajectory]]:
        return await asyncio.gather(*(searched(agent, job) for job in jobs))

    return [[plain(one) for one in group] for group in asyncio.run(all_at_once())]


def record(one: Trajectory) -> dict:
    return one.provenance["search"]


def solved_by_search(world: World, settings: SearchRollouts | ValueSearchRollouts) -> list[Trajectory]:
    """The searched leaves of the first problem whose direct attempts fail and whose search finds something, and its group."""
    jobs = [replace(JOB, search=settings, problem=EASY, seed=seed) for seed in range(12)]
    made = groups(world, *jobs, calls=0.9, right=0.15)
    return next(g for g in made if not any(t.correct for t in g[:2]) and any(t.correct for t in g[2:]))


def node(*logprobs: float, correct: bool | None = None, parent: Node | None = None, number: int = 0) -> Node:
    """A node whose path has a turn of one token for each of these."""
    ids = tuple(range(len(logprobs) + 1))
    reached = trajectory(
        tokens=len(ids),
        logprobs=(0.0, *logprobs),
        turns=tuple(Turn(text=str(i), start=i + 1, stop=i + 2) for i in range(len(logprobs))),
        correct=correct,
    )
    place = None if correct is not None else object()
    made = Node(number=number, reached=reached, place=place, parent=parent)  # type: ignore[arg-type]
    if parent:
        parent.children.append(made)
    return made


def test_surprise_by_hand() -> None:
    one = node(-0.5, -1.5).reached
    assert surprise(one) == 1.0 and surprise(one, -1) == 1.5 and surprise(node().reached) == 0.0
    # What another policy wrote is not the policy's: off the mask.
    assert surprise(replace(one, loss_mask=(0, 1, 0))) == 0.5


def test_frontier_score_by_hand() -> None:
    # .4 tanh(.5) + .4 x 1.5 + .01 sqrt(4 / 16) = .18485 + .6 + .005
    assert frontier_score(0.5, 1.5, 0.25) == pytest.approx(0.78985, abs=1e-5)
    assert soft_clip(2.0) == pytest.approx(0.96403, abs=1e-5)  # tanh 2
    assert soft_clip(-1.0, temperature=2.0, most=3.0) == pytest.approx(-1.38635, abs=1e-5)  # 3 tanh(-.5)


def test_frontier_search_backs_up_by_hand() -> None:
    root = node()
    a = node(-1.0, parent=root, number=1)
    b = node(-1.0, -1.0, parent=a, number=2)
    wrong = node(-1.0, -1.0, -1.0, correct=False, parent=b, number=3)
    back_up(wrong)  # -1 x 1/3, 2/3, 1
    assert [a.value, b.value, wrong.value] == pytest.approx([-1 / 3, -2 / 3, -1.0])
    right = node(-1.0, -1.0, correct=True, parent=a, number=4)
    back_up(right)  # +1 x 1/2, 1: a is then on a right path: 1/6
    assert [a.value, b.value, right.value] == pytest.approx([1 / 6, -2 / 3, 1.0])
    back_up(wrong)  # 1/6 - 1/3 is below 0
    assert [a.value, b.value] == pytest.approx([0.0, -4 / 3])
    assert (root.visits, a.visits, b.visits, right.visits) == (3, 3, 2, 1) and root.right and not b.right


def test_local_uct_among_siblings_by_hand() -> None:
    root = node()
    root.visits = 4
    first, second = node(-1.0, parent=root, number=1), node(-1.0, parent=root, number=2)
    first.visits, first.value, second.visits, second.value = 3, 2.4, 1, 0.2
    # .8 + 2 sqrt(ln 4 / 3) = 2.1596; .2 + 2 sqrt(ln 4) = 2.5548
    assert sibling(root.children, root, 2.0) is second
    assert sibling(root.children, root, 0.0) is first
    fresh = node(-1.0, parent=root, number=3)
    assert sibling(root.children, root, 2.0) is fresh


def test_the_most_promising_open_place_by_hand() -> None:
    root = node()
    a, b = node(-0.5, parent=root, number=1), node(-0.9, parent=root, number=2)
    a.value = 2.0
    under = node(-0.5, -0.1, parent=a, number=3)
    node(-0.5, -3.0, correct=False, parent=a, number=4)  # ended: not open
    # b: .4 x .9 + .01 sqrt(1/4) = .365; under: .4 tanh 2 + .4 x .1 + .01 sqrt(2/4) = .4327
    assert promising(Tree(root), SEARCH, 4) is under
    assert promising(Tree(root), SearchRollouts(quality=0.0), 4) is b
    assert Tree(root).frontier == [under, b]


def test_without_a_right_leaf_the_surest_wrong_one_counts() -> None:
    root = node()
    unsure, sure = node(-2.0, correct=False, parent=root), node(-0.1, correct=False, parent=root)
    assert chosen([unsure, sure]) == [sure]
    right = node(-5.0, correct=True, parent=root)
    assert chosen([unsure, sure, right]) == [right] and chosen([]) == []


def test_step_values_by_hand() -> None:
    right = [["a", "b", "c"], ["a", "d"]]
    # After "a" one more turn is needed: 1/2; after "d" none: 1/2 + 1/2
    assert step_values(["a", "d"], right) == [0.5, 1.0]
    # a: 1/2; x is astray with m = 1: 1/2 - 1/4
    assert step_values(["a", "x"], right) == [0.5, 0.25]
    assert step_values(["x"], right) == [0.0]


def test_descent_of_value_search_by_hand() -> None:
    root = node()
    a, b = node(-1.0, parent=root, number=1), node(-1.0, parent=root, number=2)
    root.visits, a.visits, a.value, b.visits, b.value = 4, 3, 3.0, 1, 0.0
    # 1 + 1.4 sqrt(ln 4 / 3) = 1.952; 0 + 1.4 sqrt(ln 4) = 1.648
    assert descent(root, 2, 1.4) == [root, a] and descent(root, 3, 1.4) == [root]
    ended = node(-1.0, -1.0, correct=False, parent=b, number=3)
    assert not closed(b, 2) and closed(b, 1) and closed(ended, 1)


def says(what: int) -> str:
    return f"<answer>{what}</answer>"


CALL = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "6*7"}}\n</tool_call>'


def test_search_by_hand(world: World) -> None:
    # Round 1: a call and a wrong answer (node 2), which ends it. Round 2 goes on from the call (1): right (3), wrong (4).
    agent = Agent(ScriptedSampler(world.chat, [CALL, says(1), says(42), says(7)]), world.chat, LENGTH)
    job = replace(JOB, problem=EASY)
    right, first, last = asyncio.run(frontier_search(agent, job, SearchRollouts(width=2), wanted=3, direct=[]))
    # 3 backs up 1/2 to the call; outcomes -1, 1, -1. In round 2 a right leaf was found, so that 4 is not backed up.
    assert record(right) == {
        "nodes": [1, 3],
        "values": pytest.approx([math.tanh(0.5), 1.0]),
        "mean": -1 / 3,
        "learned": True,
    }
    assert record(first) == {"nodes": [2], "values": [-1.0], "mean": -1 / 3, "learned": True}
    assert record(last) == {
        "nodes": [1, 4],
        "values": [*record(right)["values"][:1], -1.0],
        "mean": -1 / 3,
        "learned": False,
    }
    # Fewer leaves than there are: what was backed up comes first; a direct attempt counts in the mean: (-1 + 1 - 1 + 1) / 4.
    agent = Agent(ScriptedSampler(world.chat, [CALL, says(1), says(42), says(7)]), world.chat, LENGTH)
    two = asyncio.run(frontier_search(agent, job, SearchRollouts(width=2), wanted=2, direct=[replace(right)]))
    assert [one.answer for one in two] == ["42", "1"] and record(two[0])["mean"] == 0.0


def test_value_search_by_hand(world: World) -> None:
    # The first attempt adds its call as a node and is right; the second begins anew and is wrong; the third goes on from
    # the call, whose mean is 1.
    agent = Agent(ScriptedSampler(world.chat, [CALL, says(42), says(1), says(7)]), world.chat, LENGTH)
    made = asyncio.run(value_search(agent, replace(JOB, problem=EASY), VALUE, wanted=3))
    assert [(one.answer, len(one.turns)) for one in made] == [("42", 2), ("1", 1), ("7", 2)]
    # After the call one more turn is needed, 1/2, after the answer none; from the call astray with m = 1: 1/2 - 1/4.
    assert [record(one)["values"] for one in made] == [[0.5, 1.0], [0.0], [0.5, 0.25]]
    assert [record(one)["nodes"] for one in made] == [[1, -5], [3], [1, 5]]


@pytest.mark.parametrize("settings", [SEARCH, VALUE], ids=["search", "value_search"])
def test_a_search_follows_its_seed_whatever_else_runs(world: World, settings: SearchRollouts) -> None:
    jobs = [replace(JOB, seed=seed, search=settings) for seed in range(4)]
    together = groups(world, *jobs)
    assert groups(world, *reversed(jobs)) == together[::-1]
    for group in together:
        assert [one.sample for one in group] == list(range(8)) and len({one.id for one in group}) == 8
        assert all(one.correct is False for one in group) and "search" not in group[0].provenance


def test_frontier_search_returns_whole_attempts_with_the_values_of_their_turns(world: World) -> None:
    leaves = [one for one in solved_by_search(world, SEARCH) if "search" in one.provenance]
    known: dict[int, tuple[tuple[int, ...], float]] = {}
    for one in leaves:
        said = record(one)
        assert len(said["nodes"]) == len(said["values"]) == len(one.turns)
        assert said["values"][-1] == (1.0 if one.correct else -1.0)
        assert said["mean"] == record(leaves[0])["mean"]
        assert one.provenance.get("solution", False) is one.correct
        assert "forked_from" not in one.provenance and from_row(to_row(one)).provenance == one.provenance
        if one.correct:
            assert min(said["values"]) >= 0 and said["learned"]
        for turn, number, value in zip(one.turns, said["nodes"], said["values"], strict=True):
            found = (one.token_ids[: turn.stop], value)
            assert known.setdefault(number, found) == found  # the same node is the same turn
        own = [one.logprobs[i] for turn in one.turns for i in range(turn.start, turn.stop)]
        assert len(own) == sum(one.loss_mask) and all(value <= 0 for value in own)
    assert len(known) < sum(len(one.turns) for one in leaves), "leaves share turns"


def test_in_a_tree_without_a_right_leaf_one_leaf_is_learned(world: World) -> None:
    [group] = groups(world, replace(JOB, search=SEARCH))
    learned = [one for one in group[2:] if record(one)["learned"]]
    assert len(learned) == 1 and group.index(learned[0]) == 2 and record(learned[0])["mean"] == -1.0
    assert all(value <= 0 for value in record(learned[0])["values"])


@pytest.mark.parametrize(("below", "found"), [(0.5, 0), (1.0, 6)])
def test_a_problem_that_direct_attempts_solve_is_not_searched(world: World, below: float, found: int) -> None:
    settings = SearchRollouts(width=3, direct=2, below=below)
    jobs = [replace(JOB, problem=EASY, seed=seed, search=settings) for seed in range(8)]
    half = [
        group for group in groups(world, *jobs, calls=0.5, right=0.3) if [t.correct for t in group[:2]].count(True) == 1
    ]
    assert half and all(sum("search" in one.provenance for one in group) == found for group in half)


def test_the_first_direct_attempt_is_the_one_without_a_search(world: World) -> None:
    agent = Agent(SureSampler(world), world.chat, LENGTH)
    alone = plain(asyncio.run(agent.attempt(replace(JOB, branches=0))))
    assert groups(world, replace(JOB, search=SEARCH))[0][0] == alone


@pytest.mark.parametrize("settings", [SEARCH, VALUE], ids=["search", "value_search"])
def test_where_nothing_is_open_others_begin_anew(world: World, settings: SearchRollouts) -> None:
    [group] = groups(world, replace(JOB, search=settings), calls=0.0)
    assert len(group) == 8 and sum("search" in one.provenance for one in group) == settings.width


def test_value_search_has_step_values(world: World) -> None:
    leaves = [one for one in solved_by_search(world, VALUE) if "search" in one.provenance]
    right = [[turn.text for turn in one.turns] for one in leaves if one.correct]
    assert right and len(leaves) > 3
    for one in leaves:
        assert record(one)["values"] == step_values([turn.text for turn in one.turns], right)
        if one.correct:
            assert record(one)["values"][-1] == pytest.approx(1.0)
    numbers = [number for one in leaves for number in record(one)["nodes"]]
    assert len(set(numbers)) < len(numbers), "leaves share turns"


def test_value_search_by_another_value(world: World) -> None:
    asked: list[int] = []

    async def value(unfinished: Trajectory) -> float:
        asked.append(len(unfinished.turns))
        return 1.0 / len(unfinished.turns)

    agent = Agent(SureSampler(world, calls=1.0), world.chat, LENGTH)
    made = asyncio.run(value_search(agent, JOB, VALUE, wanted=6, value=value))
    assert len(made) == len(asked) == 6 and asked[:2] == [1, 1]


def test_rounds_end_a_search(world: World) -> None:
    agent = Agent(SureSampler(world, calls=0.9), world.chat, LENGTH)
    for rounds in (1, 6):
        settings = SearchRollouts(width=2, rounds=rounds)
        made = asyncio.run(frontier_search(agent, JOB, settings, wanted=1, direct=[]))
        assert len(made) == 1
    assert math.isclose(record(made[0])["mean"], -1.0)


def test_a_worker_searches(world: World) -> None:
    jobs: Sequence[RolloutJob] = [replace(JOB, search=SEARCH, branches=3, max_new_tokens=12), replace(JOB, branches=0)]
    pool = InlinePool(RolloutWorker(world.model, COMPUTE, MAX_LENGTH))
    try:
        assert [one.sample for one in pool.rollout(jobs)] == [0, 1, 2, 3, 0]
        with pytest.raises(UserError, match="can't be forked"):
            pool.rollout([replace(jobs[0], program="tests.unit.outside_programs:loop_of_a_program")])
    finally:
        pool.close()
