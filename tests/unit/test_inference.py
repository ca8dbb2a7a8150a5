"""Strategies of inference: selections by hand, their invariances, beams over turns, and equal tokens."""

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from journeyman.actors.inline import InlineWorkers
from journeyman.config import EvaluateConfig
from journeyman.config.evaluate import BeamConfig, RefinementConfig, RobustnessConfig, StrategiesConfig
from journeyman.environments.episode import Episode
from journeyman.errors import InfrastructureError
from journeyman.evaluation.inference import (
    INFERENCE,
    SELECT,
    beam,
    best_of_n,
    likelihood,
    majority,
    random,
    refinement,
    shortest,
    tokens,
    weighted_vote,
)
from journeyman.evaluation.measures import voted
from journeyman.evaluation.stage import evaluate
from journeyman.evaluation.strategies import strategy_rows
from journeyman.problem import Problem
from journeyman.progress import Silent
from journeyman.rollout.beam import SPENT, search, value
from journeyman.rollout.job import Beam, RolloutJob
from journeyman.rollout.sampler import Completion, SampleRequest
from journeyman.rollout.worker import RolloutWorker
from journeyman.trajectory import Trajectory, Turn, read_trajectories
from tests.unit.fakes import COMPUTE, MAX_LENGTH, World, problem, trajectory
from tests.unit.test_tree_rollouts import SeededSampler, agent

JOB = RolloutJob(problem=problem(), seed=7, max_new_tokens=200, max_turns=4)


def answers(*given: str | None, right: str = "B") -> list[Trajectory]:
    return [trajectory(answer=answer, correct=answer == right, sample=n) for n, answer in enumerate(given)]


def test_random_by_hand() -> None:
    assert random(answers("A", "B", None, "A"), [1, 2, 3, 4], voted) == [0.25] * 4


def test_best_of_n_by_hand() -> None:
    assert best_of_n(answers("A", "A", "B"), [0.1, 0.2, 0.9], voted) == [0, 0, 1]
    assert best_of_n(answers("A", "A", "B"), [0.9, None, 0.9], voted) == [0.5, 0, 0.5]
    assert best_of_n(answers("A", "B"), [None, None], voted) == [0.5, 0.5]


def test_majority_by_hand() -> None:
    assert majority(answers("A", "A", "B"), [0.1, 0.2, 0.9], voted) == [0.5, 0.5, 0]
    assert majority(answers(None, "B", None, "A"), [0] * 4, voted) == [0, 0.5, 0, 0.5]  # no answer has no vote
    # Two answers with two votes each: half for each, a quarter for each attempt.
    assert majority(answers("A", "B", "B", "A", "C"), [0] * 5, voted) == [0.25, 0.25, 0.25, 0.25, 0]
    assert majority(answers(None, None), [1, 2], voted) == [0.5, 0.5]


def test_weighted_vote_by_hand() -> None:
    # Scaled: 0, .125, 1. A has 0 + .125, B has 1.
    assert weighted_vote(answers("A", "A", "B"), [0.1, 0.2, 0.9], voted) == [0, 0, 1]
    # Scaled: 1, 0, .75, .5. A has 1, B has 0 + .75 + .5, and its best attempt is the third.
    assert weighted_vote(answers("A", "B", "B", "B"), [5, 1, 4, 3], voted) == [0, 0, 1, 0]
    # Equal scores: a majority, and among its attempts a tie.
    assert weighted_vote(answers("A", "A", "B"), [3, 3, 3], voted) == [0.5, 0.5, 0]
    # What doesn't vote doesn't scale: A 0, B 1.
    assert weighted_vote(answers(None, "A", "B"), [-9, 1, 2], voted) == [0, 0, 1]


ATTEMPTS = st.lists(
    st.tuples(st.sampled_from(["A", "B", "C", None]), st.sampled_from([0.0, 1.0, 2.5, None])), min_size=1, max_size=6
)


@pytest.mark.parametrize("name", SELECT)
@given(made=ATTEMPTS, data=st.data())
def test_a_selection_is_a_distribution_that_follows_the_attempts(
    name: str, made: list[tuple[str | None, float | None]], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(made))))
    trajectories, scores = answers(*(answer for answer, _ in made)), [score for _, score in made]
    chances = SELECT[name](trajectories, scores, voted)
    assert min(chances) >= 0 and math.isclose(sum(chances), 1)
    moved = SELECT[name]([trajectories[i] for i in order], [scores[i] for i in order], voted)
    assert moved == pytest.approx([chances[i] for i in order])
    scaled = [None if score is None else 4 * score - 3 for score in scores]
    assert SELECT[name](trajectories, scaled, voted) == pytest.approx(chances)
    if len(made) == 1:
        assert chances == [1]


def test_scores_and_costs_by_hand() -> None:
    one = trajectory(tokens=6, logprobs=(0, -1, -2, -3, -4, 0), loss_mask=(0, 1, 1, 0, 1, 0))
    assert likelihood(one) == pytest.approx(-7 / 3) and shortest(one) == -3
    assert likelihood(trajectory(tokens=1, logprobs=(0.0,), loss_mask=(0,))) is None
    assert tokens(replace(one, turns=(Turn(text="", start=2, stop=5),))) == 4  # six less the prompt's two
    assert tokens(replace(one, provenance={SPENT: 90})) == 90


def test_a_beams_criterion_by_hand() -> None:
    # Two turns of means -2 and -1: over all three tokens -5/3, the least -2, the last -1.
    turns = (Turn(text="", start=1, stop=3), Turn(text="", start=4, stop=5))
    one = trajectory(tokens=5, logprobs=(0, -1, -3, 0, -1), turns=turns)
    assert value(one, Beam(criterion="mean")) == pytest.approx(-5 / 3)
    assert (value(one, Beam(criterion="min")), value(one, Beam(criterion="last"))) == (-2, -1)
    assert value(replace(one, turns=()), Beam()) == 0


class Rated(SeededSampler):
    """As likely as the seed of a request has it."""

    async def generate(self, request: SampleRequest) -> Completion:
        made = await super().generate(request)
        return replace(made, logprobs=(-(request.seed % 97) / 97,) * len(made.token_ids))


def rated(world: World, calls: float = 0.7) -> RolloutWorker:
    """A worker with that sampler, whose other parts are real."""
    worker = RolloutWorker.__new__(RolloutWorker)
    one = agent(world, calls)
    one._sampler = Rated(world, calls)
    worker._agent, worker._outside = one, {}
    return worker


def test_a_beam_of_one_way_is_an_attempt_and_wider_ones_find_likelier_ones(world: World) -> None:
    found = {}
    for width, ways in ((1, 1), (1, 4), (3, 4)):
        worker = rated(world)
        searched = replace(JOB, beam=Beam(width=width, continuations=ways), sample=3)
        [made] = asyncio.run(worker.rollout([searched]))
        [again] = asyncio.run(rated(world).rollout([searched]))
        assert (made.token_ids, made.provenance[SPENT]) == (again.token_ids, again.provenance[SPENT])
        assert made.sample == 3 and made.correct is not None and 1 <= len(made.turns) <= 4
        found[width, ways] = made
    alone = found[1, 1]
    assert alone.provenance[SPENT] == len(alone.token_ids) - alone.turns[0].start
    wide = found[1, 4]  # what was dropped is counted, too
    assert wide.provenance[SPENT] > len(wide.token_ids) - wide.turns[0].start
    assert value(found[3, 4], Beam()) >= value(alone, Beam())


def test_a_beam_closes_every_world_that_it_opens(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, closed = [], []
    make, close = Episode.__init__, Episode.close

    def counted(self: Episode, *args: object) -> None:
        opened.append(self)
        make(self, *args)  # pyright: ignore[reportArgumentType]

    async def ended(self: Episode) -> None:
        closed.append(self)
        await close(self)

    monkeypatch.setattr(Episode, "__init__", counted)
    monkeypatch.setattr(Episode, "close", ended)
    asyncio.run(search(rated(world)._agent, replace(JOB, beam=Beam(width=2, continuations=3))))
    assert len(opened) == len(closed) == len({id(one) for one in closed}) > 6

    class Broken(Rated):
        async def generate(self, request: SampleRequest) -> Completion:
            if len(self.requests) > 4:
                raise InfrastructureError("gone")
            return await super().generate(request)

    broken = agent(world)
    broken._sampler = Broken(world, 1.0)
    opened.clear()
    closed.clear()
    with pytest.raises(InfrastructureError):
        asyncio.run(search(broken, replace(JOB, beam=Beam(width=2, continuations=3))))
    assert {id(one) for one in opened} == {id(one) for one in closed}


def test_a_beam_that_fails_leaves_nothing_going_on(world: World) -> None:
    ended = []

    class Half(Rated):
        async def generate(self, request: SampleRequest) -> Completion:
            if not self.requests:
                self.requests.append(request)
                raise InfrastructureError("gone")
            await asyncio.sleep(0.05)
            ended.append(request)
            return await super().generate(request)

    broken = agent(world)
    broken._sampler = Half(world, 1.0)
    left: set[asyncio.Task[Any]] = set()

    async def searching() -> None:
        with pytest.raises(InfrastructureError):
            await search(broken, replace(JOB, beam=Beam(width=1, continuations=3)))
        left.update(asyncio.all_tasks() - {asyncio.current_task()})

    asyncio.run(searching())
    assert len(ended) == 2 and not left


class Pool:
    """A SamplerPool of one worker, or of answers to give round by round."""

    def __init__(self, worker: RolloutWorker | None = None, rounds: Sequence[Sequence[str | None]] = ()) -> None:
        self.worker, self.rounds, self.asked = worker, list(rounds), list[list[RolloutJob]]()

    def rollout(self, jobs: Sequence[RolloutJob]) -> list[Trajectory]:
        self.asked.append(list(jobs))
        if self.worker:
            return asyncio.run(self.worker.rollout(jobs))
        given = self.rounds.pop(0)
        return [
            trajectory(problem_id=job.problem.id, answer=answer, correct=answer == "B", tokens=10)
            for job, answer in zip(jobs, given, strict=True)
        ]

    def load_weights(self, weights: object, version: int) -> None: ...

    def score(self, rows: Sequence[Sequence[int]]) -> list[list[float]]:
        return []


def asked(*names: str) -> list[Problem]:
    return [problem(question=f"{name}?", id=name) for name in names]


def test_refinement_by_hand() -> None:
    # p: A, then B, then B again, which ends it. q: A again at once. r: nothing, then B, B. 10 tokens a round.
    first = {
        n: trajectory(problem_id=n, answer=a, correct=False, tokens=10)
        for n, a in (("p", "A"), ("q", "A"), ("r", None))
    }
    pool = Pool(rounds=[["B", "A", "B"], ["B", "B"]])
    config = EvaluateConfig(strategies=StrategiesConfig(refinement=RefinementConfig(rounds=3)))
    made = {t.problem_id: t for t in refinement(pool, asked("p", "q", "r"), first, config, seed=0)}
    assert {name: t.answer for name, t in made.items()} == {"p": "B", "q": "A", "r": "B"}
    assert {name: t.provenance[SPENT] for name, t in made.items()} == {"p": 30, "q": 20, "r": 30}
    assert [[job.problem.id for job in jobs] for jobs in pool.asked] == [["p", "q", "r"], ["p", "r"]]
    assert "p?" in pool.asked[0][0].problem.question and "answered: A" in pool.asked[0][0].problem.question


def test_an_answer_stands_where_refinement_gives_none_and_rounds_end() -> None:
    first = {"p": trajectory(problem_id="p", answer="B", tokens=10)}
    config = EvaluateConfig(strategies=StrategiesConfig(refinement=RefinementConfig(rounds=1)))
    [made] = refinement(Pool(rounds=[[None]]), asked("p"), first, config, seed=0)
    assert (made.answer, made.provenance[SPENT]) == ("B", 20)
    [made] = refinement(Pool(rounds=[["C"]]), asked("p"), first, config, seed=0)
    assert made.answer == "C"


def test_beam_by_hand(world: World) -> None:
    # Two problems, one trajectory each, as `search` finds them with the evaluation's own limits.
    config = EvaluateConfig(max_turns=3, strategies=StrategiesConfig(beam=BeamConfig(width=1, continuations=2)))
    pool = Pool(rated(world))
    made = beam(pool, [problem(), problem("What is 1 plus 2?", "3")], {}, config, seed=5)
    assert [job.beam for job in pool.asked[0]] == [Beam(width=1, continuations=2)] * 2
    again = [asyncio.run(search(rated(world)._agent, job)) for job in pool.asked[0]]
    assert [t.token_ids for t in made] == [t.token_ids for t in again]
    # Of two ways the likelier is taken in every turn: no other first turn is likelier.
    job = replace(pool.asked[0][0], beam=Beam(width=9, continuations=2), max_turns=1)
    firsts = asyncio.run(search(rated(world)._agent, job))
    assert made[0].logprobs[made[0].turns[0].start] == firsts.logprobs[firsts.turns[0].start]


def test_strategies_at_equal_tokens_by_hand() -> None:
    # Two problems, three attempts of four tokens each (turns begin at 0). p: A B B, q: A A B; right is B.
    sampled = [replace(t, problem_id=p) for p, given in (("p", "ABB"), ("q", "AAB")) for t in answers(*given)]
    config = EvaluateConfig(k=[1, 3], strategies=StrategiesConfig(budgets=[11, 12, 3]), bootstrap=100)
    rows = {(row.budget, row.strategy): row for row in strategy_rows(sampled, {}, config)}
    # 11 tokens pay for two attempts, 12 for three, 3 for none. random of two: (1/2 + 0) / 2, of three: (2/3 + 1/3) / 2
    right = {key: row.accuracy.value for key, row in rows.items() if row.accuracy}
    assert {key[0] for key in right} == {11, 12}
    assert (right[11, "random"], right[12, "random"]) == (0.25, 0.5)
    assert (right[12, "majority"], right[12, "pass@3"], right[11, "pass@2"]) == (0.5, 1, 0.5)
    assert (rows[11, "majority"].samples, rows[11, "majority"].tokens) == (2, 8)
    vote = rows[12, "majority"].accuracy
    assert vote is not None and vote.paired is not None and vote.paired.value == 0  # 1/3 up, 1/3 down
    floor = rows[12, "random"].accuracy
    assert floor is not None and floor.paired is None


def test_what_a_strategy_makes_is_shown_at_what_it_took() -> None:
    sampled = [replace(t, problem_id=p) for p in "pq" for t in answers("A", "B")]
    made = [replace(t, problem_id=p, provenance={SPENT: 9 + n}) for n, p in enumerate("pq") for t in answers("B")]
    config = EvaluateConfig(k=[1], strategies=StrategiesConfig(refinement=RefinementConfig()), bootstrap=100)
    rows = strategy_rows(sampled, {"refinement": made}, config)
    assert [(row.budget, row.samples) for row in rows if row.strategy == "majority"] == [(4, 1), (9.5, 2)]
    [row] = [row for row in rows if row.strategy == "refinement"]
    assert (row.budget, row.tokens, row.samples) == (9.5, 9.5, None)
    assert row.accuracy is not None and row.accuracy.paired is not None
    assert (row.accuracy.value, row.accuracy.paired.value) == (1, 0.5)
    assert (
        len({row.accuracy and row.accuracy.value for row in rows if row.budget == 4}) == 1
    )  # one attempt: all the same
    assert strategy_rows(sampled, {}, EvaluateConfig()) == ()


@settings(max_examples=15)
@given(st.lists(st.lists(st.sampled_from("AB"), min_size=3, max_size=3), min_size=1, max_size=4))
def test_selections_lie_below_the_ceiling(problems: list[list[str]]) -> None:
    sampled = [replace(t, problem_id=str(p)) for p, given in enumerate(problems) for t in answers(*given)]
    asked = EvaluateConfig(k=[1, 3], strategies=StrategiesConfig(), bootstrap=100)
    for budget in (4, 12):
        rows = {
            r.strategy: r.accuracy.value for r in strategy_rows(sampled, {}, asked) if r.budget == budget and r.accuracy
        }
        assert max(rows.values()) == rows[f"pass@{budget // 4}"]


def test_an_agent_from_outside_cannot_be_searched() -> None:
    with pytest.raises(ValidationError, match="forked"):
        EvaluateConfig(program="my:agent", strategies=StrategiesConfig(beam=BeamConfig()))


def test_the_stage_makes_and_compares_what_is_asked_for(world: World, tmp_path: Path) -> None:
    strategies = StrategiesConfig(beam=BeamConfig(), refinement=RefinementConfig(rounds=1))
    hard = RobustnessConfig(paraphrases=["Please: {question}"])
    settings = EvaluateConfig(samples=2, k=[1, 2], max_turns=2, strategies=strategies, robustness=hard, bootstrap=100)
    with InlineWorkers(COMPUTE, max_length=MAX_LENGTH) as workers:
        report = evaluate(
            world.config.model_copy(update={"evaluate": settings}),
            {"base": world.model},
            problems=world.synthesized,
            out=tmp_path,
            workers=workers,
            observer=Silent(),
            seconds={"base": 1.0},
        )
    [stage] = report["stages"]
    assert {row["strategy"] for row in stage["strategies"]} == {*INFERENCE, "pass@1", "pass@2"}
    assert len(read_trajectories(tmp_path / "trajectories.parquet")) == 12 * 3
    made = read_trajectories(tmp_path / "strategies.parquet")
    assert Counter(t.provenance["strategy"] for t in made) == {"beam": 12, "refinement": 12}
    under = read_trajectories(tmp_path / "robustness.parquet")
    tried = ("paraphrase 1", "noise", "attack", "control", "renamed")
    assert Counter(t.provenance["condition"] for t in under) == dict.fromkeys(tried, 12)
    assert {t.provenance["policy"] for t in (*made, *under)} == {"base"}
    assert [row["condition"] for row in stage["robustness"]["rows"]] == list(tried)
    assert all(t.correct is not None for t in under)
    assert "Strategies of inference" in (tmp_path / "report.html").read_text()
