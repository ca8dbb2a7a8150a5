"""Attempts that fork: what leaves share, what they don't, and that a tree follows its seed whatever else runs."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from journeyman.actors.inline import InlinePool
from journeyman.credit.base import ScoredBatch
from journeyman.credit.readings import forks_U, turn_rewards_U
from journeyman.credit.trees import portool
from journeyman.environments import ENVIRONMENTS, environment
from journeyman.environments.base import Environment
from journeyman.environments.episode import Episode, Reaction
from journeyman.errors import InfrastructureError, UserError
from journeyman.messages import ParsedTurn
from journeyman.rollout.job import RolloutJob, attempt_all
from journeyman.rollout.loop import Agent
from journeyman.rollout.sampler import Completion, SampleRequest
from journeyman.rollout.tree import grow
from journeyman.rollout.worker import RolloutWorker
from journeyman.tools.base import CallContext
from journeyman.trajectory import StopReason, Trajectory
from tests.unit.fakes import COMPUTE, MAX_LENGTH, ScriptedSampler, World, problem

LENGTH = 4000
JOB = RolloutJob(problem=problem(), seed=7, max_new_tokens=200, max_turns=6)


class SeededSampler(ScriptedSampler):
    """Calls or answers as the seed of a request has it, sooner or later."""

    def __init__(self, world: World, calls: float = 0.7) -> None:
        super().__init__(world.chat, [])
        self._turn, self._calls = world.chat.turn, calls

    async def generate(self, request: SampleRequest) -> Completion:
        self.requests.append(request)
        draw = random.Random(request.seed)
        for _ in range(draw.randrange(4) + len(self.requests) % 3):
            await asyncio.sleep(0)
        expression = f'{{"expression": "{draw.randrange(90)}+1"}}'
        call = f'<tool_call>\n{{"name": "calculator", "arguments": {expression}}}\n</tool_call>'
        ids = self._turn(call if draw.random() < self._calls else f"<answer>{draw.randrange(90)}</answer>")
        return Completion(
            token_ids=tuple(ids), logprobs=(-0.5,) * len(ids), stopped=True, policy_version=len(self.requests)
        )


def agent(world: World, calls: float = 0.7) -> Agent:
    return Agent(SeededSampler(world, calls), world.chat, LENGTH)


def plain(trajectory: Trajectory) -> Trajectory:
    """Without what is measured: seconds, and how many requests came before."""
    turns = tuple(
        replace(turn, results=tuple(replace(result, seconds=0.0) for result in turn.results))
        for turn in trajectory.turns
    )
    return replace(trajectory, turns=turns, policy_version=0, policy_versions=())


def trees(world: World, *jobs: RolloutJob, calls: float = 0.7) -> list[list[Trajectory]]:
    one = agent(world, calls)

    async def all_at_once() -> list[list[Trajectory]]:
        return await asyncio.gather(*(grow(one, job) for job in jobs))

    return [[plain(leaf) for leaf in tree] for tree in asyncio.run(all_at_once())]


def test_leaves_share_a_beginning_and_nothing_else(world: World) -> None:
    [tree] = trees(world, replace(JOB, branches=7, sample=8), calls=0.9)
    assert len(tree) == 8 and [leaf.sample for leaf in tree] == list(range(8, 16))
    by_id = {leaf.id: leaf for leaf in tree}
    assert len(by_id) == 8 and len({leaf.seed for leaf in tree}) == 8
    forked = tree[1:]
    assert all(leaf.provenance["forked_from"] in by_id for leaf in forked)
    for leaf in forked:
        parent, turns = by_id[leaf.provenance["forked_from"]], leaf.provenance["forked_at_turn"]
        assert 0 < turns < len(parent.turns) and tree.index(parent) < tree.index(leaf)
        at = parent.turns[turns].start
        assert leaf.turns[:turns] == parent.turns[:turns] and leaf.turns[turns].start == at
        assert leaf.token_ids[:at] == parent.token_ids[:at] and leaf.logprobs[:at] == parent.logprobs[:at]
        assert leaf.loss_mask[:at] == parent.loss_mask[:at] and sum(leaf.loss_mask[:at]) > 0  # learned in each leaf
        assert leaf.stop_reason in (StopReason.ANSWER, StopReason.MAX_TURNS) and leaf.correct is not None
    # Not only from the first one.
    assert any(leaf.provenance["forked_from"] != tree[0].id for leaf in forked)
    assert len({leaf.token_ids for leaf in tree}) > 4


def test_the_first_leaf_is_the_attempt_without_branches(world: World) -> None:
    alone = plain(asyncio.run(agent(world).attempt(JOB)))
    for branches in (0, 1, 5):
        [tree] = trees(world, replace(JOB, branches=branches))
        assert tree[0] == alone and len(tree) == 1 + branches


def test_a_smaller_tree_is_the_beginning_of_a_larger_one(world: World) -> None:
    [large] = trees(world, replace(JOB, branches=12))
    for branches in (1, 2, 3, 6, 11):
        [small] = trees(world, replace(JOB, branches=branches))
        assert small == large[: 1 + branches]


def test_a_tree_follows_its_seed_whatever_else_runs(world: World) -> None:
    jobs = [replace(JOB, seed=seed, branches=4) for seed in range(5)]
    together = trees(world, *jobs)
    assert trees(world, *reversed(jobs)) == together[::-1]
    assert [trees(world, job)[0] for job in jobs] == together
    assert len({tree[0].token_ids for tree in together}) == 5


def test_where_no_attempt_has_a_second_turn_others_begin_anew(world: World) -> None:
    [tree] = trees(world, replace(JOB, branches=5), calls=0.0)
    assert [len(leaf.turns) for leaf in tree] == [1] * 6
    assert all("forked_from" not in leaf.provenance for leaf in tree)
    assert len({leaf.id for leaf in tree}) == 6 and len({leaf.answer for leaf in tree}) > 1


def test_credit_finds_the_forks(world: World) -> None:
    [tree] = trees(world, replace(JOB, branches=5), calls=0.9)
    batch = ScoredBatch.of([[leaf.scored(float(i % 2), {}) for i, leaf in enumerate(tree)]])
    forks = forks_U(batch)
    for leaf, first in zip(tree, batch.first_B, strict=True):
        if turns := leaf.provenance.get("forked_at_turn"):
            parent = next(i for i, other in enumerate(tree) if other.id == leaf.provenance["forked_from"])
            assert forks[first : first + turns + 1].tolist() == (
                forks[batch.first_B[parent] : batch.first_B[parent] + turns + 1].tolist()
            )
    values = portool(batch, forks_U=forks, turn_rewards_U=turn_rewards_U(batch))
    assert np.isfinite(values).all() and values.any()


class TallyEpisode(Episode):
    """Counts in a list that it hands out as its state, and takes as it comes."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.tally: list[int] = []

    async def step(self, turn: ParsedTurn) -> Reaction:
        if not turn.calls:
            return Reaction(done=True)
        self.tally.append(len(self.tally))
        results = await self.run(turn.calls)
        return Reaction(results=tuple(replace(r, output=str(self.tally)) for r in results))

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "tally": self.tally}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self.problem.answer == "unforkable":
            raise InfrastructureError("no second session")
        super().load_state_dict(state)
        self.tally = state["tally"]


class Tally(Environment):
    name = "tally"

    def tools(self) -> Mapping[str, Any]:
        return environment("arithmetic").tools()

    def reset(self, problem: Any, context: CallContext) -> Episode:
        return TallyEpisode(self, problem, context)

    def verify(self, problem: Any, answer: str) -> bool:
        return False


@pytest.fixture
def _tally(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENVIRONMENTS, "tally", Tally)
    environment.cache_clear()


@pytest.mark.usefixtures("_tally")
def test_leaves_do_not_write_in_each_others_worlds(world: World) -> None:
    [tree] = trees(world, replace(JOB, problem=problem(family="tally"), branches=9), calls=0.9)
    for leaf in tree:
        outputs = [result.output for turn in leaf.turns for result in turn.results]
        assert outputs == [str(list(range(i + 1))) for i in range(len(outputs))]


@pytest.mark.usefixtures("_tally")
def test_a_world_that_cannot_go_on_from_a_place_ends_that_leaf_alone(world: World) -> None:
    [tree] = trees(world, replace(JOB, problem=problem(answer="unforkable", family="tally"), branches=3), calls=0.9)
    assert tree[0].stop_reason.scorable
    for leaf in tree[1:]:
        assert leaf.stop_reason is StopReason.INFRASTRUCTURE and leaf.correct is None
        assert leaf.provenance["failure"] == "no second session" and "forked_from" in leaf.provenance


class Pool:
    """Makes what it is asked for from a list of stop reasons, leaf by leaf."""

    def __init__(self, world: World, *reasons: StopReason) -> None:
        self._made = trees(world, replace(JOB, branches=3))[0]
        self._reasons = list(reasons)
        self.asked: list[list[int]] = []

    def rollout(self, jobs: Sequence[RolloutJob]) -> list[Trajectory]:
        self.asked.append([job.seed for job in jobs])
        return [
            replace(self._made[0], id=f"{job.seed}.{leaf}.{len(self.asked)}", stop_reason=self._reasons.pop(0))
            for job in jobs
            for leaf in range(1 + job.branches)
        ]


def test_a_tree_with_a_lost_leaf_is_made_again(world: World) -> None:
    fine, lost = StopReason.ANSWER, StopReason.INFRASTRUCTURE
    pool = Pool(world, fine, fine, fine, lost, fine, fine, fine, fine, fine)
    jobs = [replace(JOB, seed=0), replace(JOB, seed=1, branches=2), replace(JOB, seed=2, branches=1)]
    made = attempt_all(pool, jobs)  # type: ignore[arg-type]
    assert pool.asked == [[0, 1, 2], [1]]
    assert [t.id for t in made] == ["0.0.1", "1.0.2", "1.1.2", "1.2.2", "2.0.1", "2.1.1"]


def test_a_worker_keeps_the_order_of_jobs_and_leaves(world: World) -> None:
    jobs = [
        replace(JOB, seed=seed, branches=branches, max_new_tokens=12) for seed, branches in ((1, 2), (2, 0), (3, 1))
    ]
    worker = RolloutWorker(world.model, COMPUTE, MAX_LENGTH)
    pool = InlinePool(worker)
    try:
        assert [t.sample for t in pool.rollout(jobs)] == [0, 1, 2, 0, 0, 1]
        worker._agent = agent(world)
        made = [plain(t) for t in pool.rollout(jobs)]
        assert made == [leaf for tree in trees(world, *jobs) for leaf in tree]
        with pytest.raises(UserError, match="can't be forked"):
            pool.rollout([replace(JOB, branches=1, program="tests.unit.outside_programs:loop_of_a_program")])
    finally:
        pool.close()
