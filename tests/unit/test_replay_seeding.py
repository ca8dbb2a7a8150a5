"""Demonstrations as seeds of replay: as a policy would have sampled them, their share, and what they weigh."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from journeyman.actors import InlineWorkers
from journeyman.environments import specs_of
from journeyman.errors import DataError
from journeyman.messages import Message
from journeyman.rollout.job import RolloutJob
from journeyman.training.reinforce import Inputs, run_rl
from journeyman.training.seeding import encoded, seeds_of
from journeyman.trajectory import KIND, UNLEARNED, Trajectory, write_trajectories
from tasks.recipes import plan
from tests.unit.fakes import COMPUTE, MAX_LENGTH, World
from tests.unit.test_inheritance import pipeline
from tests.unit.test_reinforce import TINY, Dying, attempt, half_right, loop, stage


def some(world: World, count: int = 8, **fields: Any) -> list[Trajectory]:
    return [replace(t, **fields) for t in world.demonstrations if t.correct][:count]


def seeds(demonstrations: list[Trajectory], world: World, **how: Any) -> list[Trajectory]:
    options: dict[str, Any] = {"most": None, "max_length": MAX_LENGTH, "temperature": 0.7, "seed": 3, **how}
    return seeds_of(demonstrations, world.chat, **options)


def test_a_demonstration_has_the_tokens_that_a_policy_would_have_sampled(world: World) -> None:
    [written] = [t for t in world.demonstrations if t.correct and len(t.turns) > 1][:1]
    made = encoded(written, world.chat, 0.7)
    [(ids, mask)] = world.chat.encode(written, specs_of(written))
    assert (made.token_ids, made.loss_mask, made.cuts) == (tuple(ids), tuple(mask), ())
    # Each turn's tokens are its text, and together they are all that is learned from.
    for turn, before in zip(made.turns, written.turns, strict=True):
        assert world.chat.decode(made.token_ids[turn.start : turn.stop]) == before.text
    assert sum(turn.stop - turn.start for turn in made.turns) == sum(mask)
    assert (made.temperature, made.reward, made.source) == (0.7, 1.0, written.source)


def test_contexts_that_begin_anew_are_cut(world: World) -> None:
    [written] = [t for t in world.demonstrations if t.correct and len(t.turns) > 1][:1]
    first = replace(written.turns[0], restart=(Message(role="user", content="Again?"),))
    folded = replace(written, turns=(first, *written.turns[1:]))
    made = encoded(folded, world.chat, 1.0)
    contexts = world.chat.encode(folded, specs_of(folded))
    assert [made.token_ids[s] for s in made.samples()] == [tuple(ids) for ids, _ in contexts]
    assert made.cuts == (len(contexts[0][0]),)
    assert world.chat.decode(made.token_ids[made.turns[1].start : made.turns[1].stop]) == written.turns[1].text


def test_turns_that_are_not_learned_from_stay_so(world: World) -> None:
    [written] = [t for t in world.demonstrations if t.correct and len(t.turns) > 1][:1]
    made = encoded(replace(written, provenance={UNLEARNED: [0]}), world.chat, 1.0)
    first = made.turns[0]
    assert first.stop > first.start and not any(made.loss_mask[first.start : first.stop])
    assert sum(made.loss_mask) == sum(turn.stop - turn.start for turn in made.turns[1:])


def test_only_right_ones_that_fit_are_seeds(world: World) -> None:
    good = some(world, 4)
    wrong, other = (
        replace(good[0], id="wrong", correct=False),
        replace(good[1], id="other", provenance={KIND: "critique"}),
    )
    assert {t.id for t in seeds([*good, wrong, other], world)} == {t.id for t in good}
    assert [t.id for t in seeds(good, world, most=2)] == [t.id for t in seeds(good, world)][:2]
    assert [t.id for t in seeds(good, world)] != [t.id for t in seeds(good, world, seed=4)]
    with pytest.raises(DataError, match="no demonstration is right and fits the model"):
        seeds(good, world, max_length=9)


def test_what_the_teacher_knew_is_not_in_a_seed(world: World) -> None:
    for t in seeds(some(world, 20), world):
        shown = world.chat.decode([i for i, m in zip(t.token_ids, t.loss_mask, strict=True) if not m])
        prompt = shown[: shown.index(t.question) + len(t.question)]
        assert "reference" not in prompt and "<answer>" not in prompt.replace("<answer></answer>", "")


def seeded(world: World, make: Any = half_right, **fields: Any) -> Any:
    made, learner, _ = loop(make, credit="group_mean", temperature=0.7, replay={"seeds": {"steps": 4}, **fields})
    made.replaying.begin(some(world), world.model, MAX_LENGTH)
    return made, learner


def test_seeds_are_a_share_of_the_batch_and_weigh_what_the_policy_lacks(world: World) -> None:
    made, learner = seeded(world)
    told = [made.advance()["replay/seeds"] for _ in range(5)]
    # Shares .5, .375, .25, .125, .05 beside 8 fresh rows: 8, 4.8, 2.67, 1.14, .42.
    assert told == [8, 5, 3, 1, 0]
    assert [len(rows) for rows in learner.steps] == [16, 13, 11, 9, 8]
    own = [row for row in learner.steps[0] if len(row.token_ids) > 4]
    assert len({row.group for row in own}) == 8 and min(row.group for row in own) == 2
    for row in own:
        # Half of the step's attempts are right: 1 - 1/2 on every learned token.
        assert row.advantages == tuple(0.5 * m for m in row.mask)
        # The policy's own log-probabilities, so that no ratio is left before the first update.
        assert row.logprobs == tuple(-2.0 * m for m in row.mask) and row.temperature == 0.7
        assert [o for o, m in zip(row.old_logprobs, row.mask, strict=True) if m] == [-2.0] * sum(row.mask)


def test_without_a_row_of_its_own_a_step_has_seeds_all_the_same(world: World) -> None:
    made, learner = seeded(world, lambda job: attempt(job, correct=False))
    assert made.advance()["replay/seeds"] == 8  # as many as attempts, at a share of .5
    assert [row.advantages[-1] for row in learner.steps[0]] == [row.mask[-1] for row in learner.steps[0]]
    made, learner = seeded(world, lambda job: attempt(job, correct=True))
    assert made.advance()["replay/seeds"] == 0 and learner.steps == []  # nothing to learn from them


def test_a_block_with_seeds_reads_the_demonstrations() -> None:
    made = pipeline({"name": "a", "replay": {"seeds": {}}}, {"name": "b"})
    assert plan(made, "rl-a", []).inputs["demonstrations"] == "curate"
    assert "demonstrations" not in plan(made, "rl-b", []).inputs


@pytest.mark.usefixtures("odd")
def test_a_killed_run_with_seeds_and_solutions_ends_where_the_unbroken_one_ends(world: World, tmp_path: Path) -> None:
    (tmp_path / "curated").mkdir()
    write_trajectories(world.demonstrations, tmp_path / "curated" / "kept.parquet")
    inputs = Inputs(policy=world.model, problems=world.synthesized, demonstrations=tmp_path / "curated")
    options = {"seeds": {"steps": 4, "most": 9}, "solutions": {}, "selection": {"by": "contrastive", "keep": 3}}

    def begun(folder: Path, observer: Dying) -> dict[str, Any]:
        with InlineWorkers(COMPUTE, max_length=MAX_LENGTH) as workers:
            return run_rl(
                world.config,
                stage(**{**TINY, "replay": options}),
                inputs,
                out=folder / "out",
                work=folder / "work",
                workers=workers,
                observer=observer,
            )

    seen = Dying()
    begun(tmp_path / "unbroken", seen)
    with pytest.raises(KeyboardInterrupt):
        begun(tmp_path / "broken", Dying(step=4))
    assert begun(tmp_path / "broken", Dying())["resumed_at_step"] == 2
    for name in ("policy/model.safetensors", "replay.parquet"):
        ours, theirs = (tmp_path / which / "out" / name for which in ("unbroken", "broken"))
        assert ours.read_bytes() == theirs.read_bytes()
    # Nobody is right yet: as many seeds as rows, at most three groups of three; then .375 / .625 of those.
    assert 7 <= seen.seen[1]["replay/seeds"] <= 9 and 4 <= seen.seen[2]["replay/seeds"] <= 5
    assert {seen.seen[step]["replay/selected_fraction"] for step in seen.seen} == {0.75}
    asked = f"SELECT kept_as, source, count(*), sum(uses) FROM '{tmp_path}/broken/out/replay.parquet' GROUP BY ALL"
    [(kept_as, source, rows, uses)] = duckdb.execute(asked).fetchall()
    assert (kept_as, source, rows) == ("seed", "scripted", 9) and uses >= 11


def test_a_seed_is_scored_by_the_policy_that_begins(world: World, tmp_path: Path) -> None:
    made, _ = seeded(world)
    made.replaying.export(tmp_path / "replay.parquet")
    asked = f"SELECT kept_as, perplexity FROM '{tmp_path}/replay.parquet'"
    # -2 nats a token: perplexity e^2.
    assert duckdb.execute(asked).fetchall() == [("seed", pytest.approx(7.38905609893065))] * 8


def test_jobs_do_not_change_because_of_seeds(world: World) -> None:
    jobs: list[list[RolloutJob]] = []
    for replay in ({}, {"seeds": {}}):
        made, _, pool = loop(half_right, replay=replay)
        made.replaying.begin(some(world), world.model, MAX_LENGTH)
        made.advance()
        jobs += pool.jobs
    assert jobs[0] == jobs[1]
