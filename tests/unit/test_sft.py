"""Stage sft: each row once an epoch, and a killed run ends where the unbroken one ends."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.actors import InlineWorkers
from journeyman.config import PipelineConfig, PretrainedModel, SftConfig
from journeyman.environments import specs_of
from journeyman.errors import DataError
from journeyman.metrics import known
from journeyman.progress import Silent
from journeyman.training.handle import Row
from journeyman.training.lessons import encode_lessons
from journeyman.training.mixture import batch_at
from journeyman.training.sft import run_sft
from journeyman.trajectory import write_trajectories
from tests.unit.fakes import COMPUTE, MAX_LENGTH, World

ROWS = [Row(token_ids=(i,) * (i * 7 % 11 + 1), mask=(1,) * (i * 7 % 11 + 1)) for i in range(100)]


@given(st.integers(1, 100), st.integers(1, 40), st.integers(0, 3), st.integers(0, 99))
def test_every_row_comes_once_in_an_epoch(count: int, size: int, epoch: int, seed: int) -> None:
    rows = ROWS[:count]
    steps = -(-count // size)
    batches = [batch_at(rows, epoch * steps + place, size, seed) for place in range(steps)]
    assert Counter(row.token_ids for batch in batches for row in batch) == Counter(row.token_ids for row in rows)
    assert all(1 <= len(batch) <= size for batch in batches)
    assert sum(len(batch) < size for batch in batches) <= 1


@given(st.integers(0, 500), st.integers(1, 20), st.integers(0, 9))
def test_a_batch_is_a_function_of_its_arguments(step: int, size: int, seed: int) -> None:
    assert batch_at(ROWS, step, size, seed) == batch_at(list(ROWS), step, size, seed)


def test_epochs_and_seeds_differ_and_rows_of_like_length_stand_together() -> None:
    first, second = ([r.token_ids for p in range(10) for r in batch_at(ROWS, e * 10 + p, 10, 0)] for e in (0, 1))
    assert first != second and first != [r.token_ids for p in range(10) for r in batch_at(ROWS, p, 10, 1)]
    spreads = [
        max(lengths) - min(lengths)
        for p in range(10)
        if (lengths := [len(row.token_ids) for row in batch_at(ROWS, p, 10, 0)])
    ]
    assert sum(spreads) / len(spreads) < 3  # of 10 in a batch that is not sorted


def test_rows_are_what_the_chat_format_encodes(world: World) -> None:
    found = encode_lessons(world.demonstrations, world.model, MAX_LENGTH)
    assert (len(found.rows), found.too_long) == (len(world.demonstrations), 0)
    assert set(found.kinds) == {"trajectory"}
    for row, one in zip(found.rows, world.demonstrations, strict=True):
        [(ids, mask)] = world.chat.encode(one, specs_of(one))
        assert row == Row(token_ids=tuple(ids), mask=tuple(mask))


def test_rows_longer_than_the_model_are_left_out_and_counted(world: World) -> None:
    whole = encode_lessons(world.demonstrations, world.model, MAX_LENGTH)
    lengths = sorted(len(row.token_ids) for row in whole.rows)
    limit = lengths[len(lengths) // 2]
    found = encode_lessons(world.demonstrations, world.model, limit)
    assert max(len(row.token_ids) for row in found.rows) == limit
    assert found.too_long == sum(n > limit for n in lengths) > 0
    with pytest.raises(DataError, match="no trajectory is left"):
        encode_lessons(world.demonstrations, world.model, 3)


def settings(world: World, **sft: object) -> PipelineConfig:
    fields = {"steps": 14, "batch": 8, "checkpoint_every": 4, **sft}
    return world.config.model_copy(update={"sft": SftConfig.model_validate(fields)})


class Dying(Silent):
    """Notes the metrics, and dies at a step."""

    def __init__(self, step: int | None = None) -> None:
        self._step = step
        self.seen: dict[int, Mapping[str, float]] = {}

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        if step == self._step:
            raise KeyboardInterrupt
        self.seen[step] = values


def test_a_killed_run_goes_on_and_ends_where_the_unbroken_one_ends(world: World, tmp_path: Path) -> None:
    config = settings(world)
    write_trajectories(world.demonstrations, tmp_path / "kept.parquet")

    def run(name: str, observer: Dying, out: str = "") -> dict:
        with InlineWorkers(COMPUTE, max_length=MAX_LENGTH) as workers:
            return run_sft(
                config,
                tmp_path,
                out=tmp_path / name / (out or "out"),
                work=tmp_path / name / "work",
                workers=workers,
                observer=observer,
            )

    unbroken = Dying()
    summary = run("unbroken", unbroken)
    with pytest.raises(KeyboardInterrupt):
        run("broken", Dying(step=10), out="first try")
    assert not (tmp_path / "broken" / "first try" / "policy").exists()
    resumed = Dying()
    again = run("broken", resumed)  # goes on from step 8
    assert list(resumed.seen) == [10, 14] == list(unbroken.seen)
    for step, values in unbroken.seen.items():
        assert all(known(name) for name in values)
        ours = {name: value for name, value in values.items() if not name.startswith("throughput")}
        assert ours == {name: resumed.seen[step][name] for name in ours}
    for name in ("policy/model.safetensors", "base/model.safetensors", "policy/tokenizer.json"):
        ours, theirs = (tmp_path / run / "out" / name for run in ("unbroken", "broken"))
        assert ours.read_bytes() == theirs.read_bytes(), name
    assert summary | {"seconds": 0} == again | {"seconds": 0}
    assert (
        summary["steps"] == 14 and summary["demonstrations"] == len(world.demonstrations) and summary["too_long"] == 0
    )
    assert 0 < summary["loss"] < 5.9  # log(392) = 5.97 before the first step


def test_a_finished_run_that_is_tried_again_only_writes_its_model(world: World, tmp_path: Path) -> None:
    config = settings(world, steps=4)
    write_trajectories([replace(t) for t in world.demonstrations], tmp_path / "kept.parquet")
    for name in ("one", "two"):
        with InlineWorkers(COMPUTE, max_length=MAX_LENGTH) as workers:
            run_sft(
                config,
                tmp_path,
                out=tmp_path / name,
                work=tmp_path / "work",
                workers=workers,
                observer=(observer := Dying()),
            )
        assert list(observer.seen) == ([4] if name == "one" else [])
    ours, theirs = (tmp_path / name / "policy" / "model.safetensors" for name in ("one", "two"))
    assert ours.read_bytes() == theirs.read_bytes()


def test_epochs_become_steps(world: World, tmp_path: Path) -> None:
    write_trajectories(world.demonstrations[:20], tmp_path / "kept.parquet")
    with InlineWorkers(COMPUTE, max_length=MAX_LENGTH) as workers:
        summary = run_sft(
            world.config.model_copy(update={"sft": SftConfig(epochs=2, batch=8)}),
            tmp_path,
            out=tmp_path / "out",
            work=tmp_path / "work",
            workers=workers,
            observer=Dying(),
        )
    assert summary["steps"] == 6  # twice ceil(20 / 8)
    assert (summary["kinds"], summary["phases"]) == ({"trajectory": 20}, [6])


def test_a_stage_with_everything_resumes_where_it_was(world: World, tmp_path: Path) -> None:
    """Packing, adapters with dropout, key tokens, phases and a teacher together."""
    kinds = ["world_model", "trajectory"]
    lessons = [
        replace(t, provenance={**t.provenance, "kind": kinds[i % 2]}) for i, t in enumerate(world.demonstrations)
    ]
    write_trajectories(lessons, tmp_path / "kept.parquet")
    config = settings(
        world,
        steps=9,
        packing=True,
        lora={"rank": 2, "dropout": 0.2},
        key_tokens={},
        phases=[
            {"share": 1, "mixture": {"world_model": 1}},
            {"share": 2, "mixture": {"trajectory": 3, "world_model": 1}},
        ],
        distill={"teacher": str(world.model)},
    )
    config = config.model_copy(update={"model": PretrainedModel(path=str(world.model), max_length=MAX_LENGTH)})

    def run(name: str, observer: Dying, out: str) -> dict:
        with InlineWorkers(COMPUTE, max_length=MAX_LENGTH) as workers:
            return run_sft(
                config,
                tmp_path,
                out=tmp_path / name / out,
                work=tmp_path / name / "work",
                workers=workers,
                observer=observer,
            )

    summary = run("unbroken", Dying(), "out")
    with pytest.raises(KeyboardInterrupt):
        run("broken", Dying(step=9), "first")
    assert run("broken", Dying(), "out") | {"seconds": 0} == summary | {"seconds": 0}
    ours, theirs = (tmp_path / name / "out/policy/model.safetensors" for name in ("unbroken", "broken"))
    assert ours.read_bytes() == theirs.read_bytes()
    assert summary["phases"] == [3, 6]


def test_without_steps_the_base_model_is_handed_on(world: World, tmp_path: Path) -> None:
    config = settings(world, steps=0)
    write_trajectories(world.demonstrations, tmp_path / "kept.parquet")
    with InlineWorkers(COMPUTE, max_length=MAX_LENGTH) as workers:
        summary = run_sft(
            config,
            tmp_path,
            out=tmp_path / "out",
            work=tmp_path / "work",
            workers=workers,
            observer=Silent(),
        )
    base, policy = (tmp_path / "out" / name / "model.safetensors" for name in ("base", "policy"))
    assert summary["steps"] == 0 and base.read_bytes() == policy.read_bytes()
    with pytest.raises(ValueError, match="has no effect with steps 0"):
        SftConfig(steps=0, evaluate_every=10)
