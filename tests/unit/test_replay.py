"""The replay buffer: bounded, no older than allowed, and the same after a restart."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from journeyman.config import ReplayConfig
from journeyman.errors import DataError
from journeyman.replay import ReplayBuffer, Replayed, export
from journeyman.trajectory import Trajectory
from tests.unit.fakes import trajectory


def config(capacity: int = 9, **fields: Any) -> ReplayConfig:
    return ReplayConfig.model_validate({"capacity": capacity, "fraction": 0.5 if capacity else 0.0, **fields})


def buffer_of(*found: Replayed, version: int = 0, **fields: Any) -> ReplayBuffer:
    made = ReplayBuffer(config(**fields), seed=4)
    made.add(found, version=version)
    return made


def found(name: str, advantage: float = 1.0, version: int = 0, reward: float = 1.0, **fields: Any) -> Replayed:
    made = trajectory(**{"id": name, "problem_id": name, "policy_version": version, **fields})
    return Replayed(trajectory=made.scored(reward, {"correct": 1.0}), advantage=advantage)


def drawn(buffer: ReplayBuffer, count: int = 99, step: int = 0, **how: Any) -> list[str]:
    return [r.trajectory.id for r in buffer.sample(count, step=step, **how)]


def names(buffer: ReplayBuffer) -> set[str]:
    return set(drawn(buffer))


def segments(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.parquet"))


def test_only_successes_are_kept_and_the_oldest_make_room() -> None:
    buffer = buffer_of(found("a"), found("b", 0.0), found("c", -1.0), found("d"), capacity=3)
    assert names(buffer) == {"a", "d"}
    buffer.add([found("e"), found("f")], version=0)
    assert names(buffer) == {"d", "e", "f"} and len(buffer) == 3


def test_what_is_older_than_allowed_is_dropped() -> None:
    buffer = buffer_of(found("a", version=0), max_age=2)
    buffer.add([found("b", version=1)], version=2)
    assert names(buffer) == {"a", "b"}  # a is 2 versions old: just young enough
    buffer.add([], version=3)
    assert names(buffer) == {"b"}


def test_a_buffer_without_room_keeps_nothing(tmp_path: Path) -> None:
    buffer = ReplayBuffer(config(0), seed=0, folder=tmp_path / "replayed")
    buffer.add([found("a")], version=0)
    assert len(buffer) == 0 and buffer.sample(5, step=0) == [] and segments(tmp_path / "replayed") == []


@pytest.mark.parametrize("priority", ["uniform", "advantage", "newest"])
def test_what_is_replayed_is_what_was_put_in(priority: str) -> None:
    put_in = [found(str(i), 0.1 + i, tokens=3 + i) for i in range(6)]
    buffer = buffer_of(*put_in[:4], priority=priority)
    buffer.add(put_in[4:], version=1)
    assert sorted(buffer.sample(6, step=0), key=lambda r: r.trajectory.id) == put_in


@given(st.integers(0, 12), st.integers(0, 99))
def test_a_sample_is_seeded_by_step_and_repeats_nothing(count: int, step: int) -> None:
    buffer = buffer_of(*(found(str(i)) for i in range(8)), capacity=8)
    ids = drawn(buffer, count, step)
    assert len(ids) == len(set(ids)) == min(count, 8)
    assert ids == drawn(buffer, count, step)


def test_different_steps_and_seeds_draw_differently() -> None:
    one, other = (ReplayBuffer(config(99), seed=seed) for seed in (1, 2))
    for buffer in (one, other):
        buffer.add([found(str(i)) for i in range(50)], version=0)
    assert len({tuple(drawn(b, 5, s)) for b in (one, other) for s in (0, 1)}) == 4


def test_what_was_used_often_enough_is_dropped(tmp_path: Path) -> None:
    buffer = ReplayBuffer(config(max_uses=2, priority="newest"), seed=0, folder=tmp_path / "replayed")
    buffer.add([found("a")], version=0)
    buffer.add([found("b")], version=1)
    assert [drawn(buffer, 1) for _ in range(3)] == [["b"], ["b"], ["a"]]
    buffer.add([], version=1)
    assert len(buffer) == 1 and segments(tmp_path / "replayed") == ["segment-00000000.parquet"]
    assert [drawn(buffer, 1) for _ in range(2)] == [["a"], []]


def test_successes_without_calls_stay_out() -> None:
    both = found("talks", calls=0), found("calls", calls=1)
    assert names(buffer_of(*both, only_with_calls=True)) == {"calls"}
    assert names(buffer_of(*both)) == {"talks", "calls"}


def test_of_a_problem_the_newest_success_stands_and_of_a_step_the_best() -> None:
    buffer = buffer_of(
        *(found("a", 0.9, problem_id="p"), found("b", 0.2, problem_id="p"), found("c", problem_id="q")),
        one_a_problem=True,
    )
    assert names(buffer) == {"a", "c"}
    buffer.add([found("d", 0.1, problem_id="p")], version=1)
    assert names(buffer) == {"c", "d"}


def test_what_the_policy_finds_strange_or_knows_by_heart_is_passed_over() -> None:
    asked: list[str] = []
    logprob = {"strange": -2.0, "known": -0.01, "fit": -0.3, "fits too": -0.4}  # .14, .99, .74, .67

    def score(trajectories: Sequence[Trajectory]) -> list[list[float]]:
        asked.extend(t.id for t in trajectories)
        return [[logprob[t.id]] * 3 for t in trajectories]

    buffer = buffer_of(*map(found, logprob), probability=[0.5, 0.95], priority="newest", max_uses=1)
    assert drawn(buffer, 1, score=score) == ["fits too"] and asked == ["fits too"]
    # Of the three left one at a time: known and strange are looked at in vain, and are not used up.
    assert drawn(buffer, 2, score=score) == ["fit"] and len(buffer) == 4
    buffer.add([], version=0)
    assert len(buffer) == 2
    with pytest.raises(ValueError, match="needs `score`"):
        buffer.sample(1, step=0)
    assert buffer.sample(0, step=0, score=score) == []


def test_advantages_are_what_the_reward_is_worth_now() -> None:
    buffer = buffer_of(
        found("all", 0.3, reward=1.0), found("half", 0.7, reward=0.5), recalibration={"history": 3, "scale": True}
    )
    assert sorted(r.advantage for r in buffer.sample(9, step=0)) == [0.3, 0.7]  # nothing to compare with yet
    buffer.observe([[0.0, 0.0], [0.0, 1.0], [], [0.5, 1.0], [0.0, 1.0]])
    # The last three groups: means .5, .75, .5 with median .5; deviations .5, .25, .5 with median .5.
    [again] = buffer.sample(9, step=0)  # (1 - .5) / .5 = 1, and (.5 - .5) / .5 = 0 is no success any more
    assert (again.trajectory.id, again.advantage) == ("all", 1.0) and len(buffer) == 2


def test_nothing_is_replayed_until_the_buffer_is_full_where_that_is_asked_for() -> None:
    buffer = buffer_of(found("a"), capacity=2, when_full=True)
    assert drawn(buffer) == []
    buffer.add([found("b")], version=0)
    assert names(buffer) == {"a", "b"}


def everything(folder: Path | None = None) -> ReplayBuffer:
    options = {"priority": "advantage", "max_uses": 2, "max_age": 3, "recalibration": {"history": 2}}
    return ReplayBuffer(config(8, **options), seed=4, folder=folder)


@pytest.mark.parametrize("saved_at", range(6))
def test_a_buffer_that_was_saved_at_any_step_goes_on_alike(saved_at: int, tmp_path: Path) -> None:
    unbroken, broken = everything(tmp_path / "unbroken"), everything(tmp_path / "broken")
    for step in range(6):
        if step == saved_at:
            (tmp_path / "saved").mkdir()
            broken.save(tmp_path / "saved")
            broken.add([found("lost")], version=step)  # what the killed process did afterwards
            broken = everything(tmp_path / "broken")
            broken.load(tmp_path / "saved")
        seen = []
        for buffer in (unbroken, broken):
            buffer.observe([[0.0, step / 8], [0.5, 0.1 * step]])
            seen.append(buffer.sample(3, step=step))
            buffer.add([found(f"{step}.{i}", 0.1 + i, version=step) for i in range(3)], version=step)
        assert seen[0] == seen[1]
    ends = tmp_path / "end-unbroken", tmp_path / "end-broken"
    for buffer, end in zip((unbroken, broken), ends, strict=True):
        end.mkdir()
        buffer.save(end)
    for name in ("replay.parquet", "replay.json", *(f"replay/{n}" for n in segments(ends[0] / "replay"))):
        assert (ends[0] / name).read_bytes() == (ends[1] / name).read_bytes()


def test_a_checkpoint_outlives_what_happens_to_the_buffer(tmp_path: Path) -> None:
    buffer = ReplayBuffer(config(max_age=1), seed=4, folder=tmp_path / "replayed")
    buffer.add([found("a")], version=0)
    (tmp_path / "saved").mkdir()
    buffer.save(tmp_path / "saved")
    buffer.add([found("b", version=9)], version=9)
    assert segments(tmp_path / "replayed") == ["segment-00000001.parquet"]  # a's file went with it
    again = ReplayBuffer(config(max_age=1), seed=4, folder=tmp_path / "replayed")
    again.load(tmp_path / "saved")
    assert names(again) == {"a"}


def test_an_empty_buffer_can_be_saved_and_asked_too(tmp_path: Path) -> None:
    buffer_of().save(tmp_path)
    restored = buffer_of(found("gone"))
    restored.load(tmp_path)
    assert len(restored) == 0
    export({"success": restored}, tmp_path / "asked.parquet")
    assert duckdb.execute(f"SELECT count(*) FROM '{tmp_path}/asked.parquet'").fetchall() == [(0,)]


def test_a_buffer_of_another_config_or_shape_is_refused(tmp_path: Path) -> None:
    buffer_of(found("a"), found("b")).save(tmp_path / "saved")
    with pytest.raises(DataError, match=r"kept with other options: max_age, priority(.|\n)*start the stage anew"):
        buffer_of(max_age=3, priority="newest").load(tmp_path / "saved")
    heir = buffer_of(max_age=3, priority="newest", capacity=1)
    heir.take_over(tmp_path / "saved", 2)  # the next block may have other options
    assert drawn(heir) == ["b"]
    index = pq.read_table(tmp_path / "saved" / "replay.parquet")
    pq.write_table(
        index.drop_columns(["calls"]).append_column("cost", index["calls"]), tmp_path / "saved/replay.parquet"
    )
    with pytest.raises(DataError, match="another shape: calls, cost"):
        buffer_of().load(tmp_path / "saved")
    pq.write_table(index, tmp_path / "saved" / "replay.parquet")
    (tmp_path / "saved" / "replay" / "segment-00000000.parquet").unlink()
    with pytest.raises(DataError, match=r"segment-00000000\.parquet is missing"):
        buffer_of().load(tmp_path / "saved")
    (tmp_path / "saved" / "replay.json").write_text('{"segments": 1, "groups": []}')
    for folder in (tmp_path / "saved", tmp_path / "nowhere"):
        with pytest.raises(DataError, match="no replay buffer of this version"):
            buffer_of().load(folder)


def test_a_refused_load_leaves_the_buffer_as_it_was(tmp_path: Path) -> None:
    buffer_of(found("a")).save(tmp_path)
    (tmp_path / "replay" / "segment-00000000.parquet").unlink()
    buffer = buffer_of(found("mine"))
    with pytest.raises(DataError):
        buffer.load(tmp_path)
    assert names(buffer) == {"mine"}


Action = tuple[str, int]
ACTIONS = st.lists(st.tuples(st.sampled_from(["add", "sample", "observe", "kill"]), st.integers(0, 4)), max_size=14)


@settings(max_examples=40)
@given(
    actions=ACTIONS,
    options=st.fixed_dictionaries(
        {"priority": st.sampled_from(["uniform", "advantage", "newest"])},
        optional={
            **{"max_uses": st.just(2), "max_age": st.just(2), "one_a_problem": st.just(True)},
            **{"recalibration": st.just({"history": 2}), "when_full": st.just(True)},
        },
    ),
)
def test_no_kill_changes_what_is_kept_used_or_drawn(actions: list[Action], options: dict[str, Any]) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        unbroken, broken = (ReplayBuffer(config(5, **options), 4, folder / which) for which in ("unbroken", "broken"))
        for step, (action, count) in enumerate(actions):
            if action == "kill":
                broken.save(folder / f"saved-{step}")
                broken.add([found("lost", version=step)], version=step)
                broken.sample(2, step=step)
                broken = ReplayBuffer(config(5, **options), 4, folder / "broken")
                broken.load(folder / f"saved-{step}")
            seen = [acted(buffer, action, count, step) for buffer in (unbroken, broken)]
            assert seen[0] == seen[1]
        for which, buffer in (("a", unbroken), ("b", broken)):
            buffer.save(folder / which)
        kept = sorted(path.relative_to(folder / "a") for path in (folder / "a").rglob("*.*"))
        assert kept == sorted(path.relative_to(folder / "b") for path in (folder / "b").rglob("*.*"))
        assert all((folder / "a" / path).read_bytes() == (folder / "b" / path).read_bytes() for path in kept)


def acted(buffer: ReplayBuffer, action: str, count: int, step: int) -> list[Replayed]:
    if action == "add":
        made = [found(f"{step}.{i}", 0.1 + i, version=step, problem_id=str(i % 3)) for i in range(count)]
        buffer.add(made, version=step)
    elif action == "observe":
        buffer.observe([[0.0, count / 8], [0.5, 0.1 * step]])
    return buffer.sample(count, step=step) if action == "sample" else []


def test_advantages_fade_with_age_and_what_faded_is_drawn_less() -> None:
    buffer = buffer_of(found("old", 4.0), found("new", 1.0, version=3), decay=0.5, priority="newest")
    # Three steps old: 4 / 2^3; new: 1 / 2^0.
    assert [(r.trajectory.id, r.advantage, r.age) for r in buffer.sample(2, step=3)] == [
        ("new", 1.0, 0),
        ("old", 0.5, 3),
    ]
    assert [r.advantage for r in buffer.sample(2, step=4)] == [0.5, 0.25]


def test_what_was_kept_last_of_a_problem_is_found() -> None:
    buffer = buffer_of(found("a", problem_id="p"), found("b", problem_id="q"), found("c", problem_id="p"))
    assert {id: t.id for id, t in buffer.newest_of(["p", "r", "p", "q"]).items()} == {"p": "c", "q": "b"}
    assert buffer.newest_of([]) == {} and buffer_of().newest_of(["p"]) == {}
    assert buffer.table()["uses"].to_pylist() == [0, 1, 1]


def test_sql_can_ask_the_buffer(tmp_path: Path) -> None:
    buffer = buffer_of(found("a", 0.5), found("b", 0.25, calls=3, problem_id="p"), priority="newest")
    buffer.add([found("c", 2.0, version=3)], version=4)
    assert drawn(buffer, 2) == ["c", "b"]
    export({"success": buffer}, tmp_path / "replay.parquet")
    asked = "SELECT kept_as, source, id, problem_id, policy_version, step, advantage, reward, perplexity, calls, uses"
    rows = duckdb.execute(f"{asked} FROM '{tmp_path}/replay.parquet'").fetchall()
    e = 2.718281828459045  # three tokens of -1 nat
    assert rows == [
        ("success", "policy", "a", "a", 0, 0, 0.5, 1.0, e, 1, 0),
        ("success", "policy", "b", "p", 0, 0, 0.25, 1.0, e, 3, 1),
        ("success", "policy", "c", "c", 3, 4, 2.0, 1.0, e, 1, 1),
    ]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"max_uses": 3}, "max_uses.*no effect with capacity 0"),
        ({"one_a_problem": True}, "one_a_problem.*no effect with capacity 0"),
        ({"warmup": 9}, "warmup.*no effect with capacity 0"),
        ({"capacity": 3, "fraction": 0.5, "exponent": 2.0}, "no effect with priority uniform"),
        ({"capacity": 3, "fraction": 0.5, "probability": [0.9, 0.5]}, "nothing between its bounds"),
        ({"decay": 0.9}, "decay.*no effect with capacity 0"),
        ({"capacity": 3, "fraction": 0.5, "decay": 0.9, "recalibration": {}}, "no effect with recalibration"),
        ({"selection": {"by": "consistent", "keep": 3}}, "part.*is needed with by `consistent`"),
        ({"selection": {"by": "best", "keep": 3, "part": "steps"}}, "no effect with by best"),
        ({"capacity": 3, "fraction": 0.5, "probability": [0.9, 1.5]}, "less than or equal to 1"),
    ],
)
def test_options_that_do_nothing_are_told_of(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=f"(?s){told}"):
        ReplayConfig.model_validate(fields)
