"""The replay buffer: bounded, no older than allowed, and the same after a restart."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from journeyman.replay import ReplayBuffer
from journeyman.replay.buffer import Replayed
from tests.unit.fakes import trajectory


def found(name: str, advantage: float = 1.0, version: int = 0) -> Replayed:
    made = trajectory(id=name, policy_version=version).scored(1.0, {"correct": 1.0})
    return Replayed(trajectory=made, advantage=advantage)


def names(buffer: ReplayBuffer) -> set[str]:
    return {r.trajectory.id for r in buffer.sample(len(buffer), step=0)}


def test_only_successes_are_kept_and_the_oldest_make_room() -> None:
    buffer = ReplayBuffer(3, max_age=10, seed=0)
    buffer.add([found("a"), found("b", advantage=0.0), found("c", advantage=-1.0), found("d")], version=0)
    assert names(buffer) == {"a", "d"}
    buffer.add([found("e"), found("f")], version=0)
    assert names(buffer) == {"d", "e", "f"} and len(buffer) == 3


def test_what_is_older_than_allowed_is_dropped() -> None:
    buffer = ReplayBuffer(9, max_age=2, seed=0)
    buffer.add([found("a", version=0)], version=0)
    buffer.add([found("b", version=1)], version=2)
    assert names(buffer) == {"a", "b"}  # a is 2 versions old: just young enough
    buffer.add([], version=3)
    assert names(buffer) == {"b"}


def test_a_buffer_without_room_keeps_nothing() -> None:
    buffer = ReplayBuffer(0, max_age=10, seed=0)
    buffer.add([found("a")], version=0)
    assert len(buffer) == 0 and buffer.sample(5, step=0) == []


@given(st.integers(0, 12), st.integers(0, 99))
def test_a_sample_is_seeded_by_step_and_repeats_nothing(count: int, step: int) -> None:
    buffer = ReplayBuffer(8, max_age=10, seed=4)
    buffer.add([found(str(i)) for i in range(8)], version=0)
    drawn = [r.trajectory.id for r in buffer.sample(count, step=step)]
    assert len(drawn) == len(set(drawn)) == min(count, 8)
    assert drawn == [r.trajectory.id for r in buffer.sample(count, step=step)]


def test_different_steps_and_seeds_draw_differently() -> None:
    one, other = ReplayBuffer(99, max_age=10, seed=1), ReplayBuffer(99, max_age=10, seed=2)
    for buffer in (one, other):
        buffer.add([found(str(i)) for i in range(50)], version=0)
    drawn = [tuple(r.trajectory.id for r in b.sample(5, step=s)) for b in (one, other) for s in (0, 1)]
    assert len(set(drawn)) == 4


def test_a_saved_buffer_comes_back_whole(tmp_path: Path) -> None:
    buffer = ReplayBuffer(8, max_age=3, seed=4)
    buffer.add([found("a", 0.3), found("b", 1 / 3, version=2)], version=2)
    buffer.save(tmp_path)
    restored = ReplayBuffer(8, max_age=3, seed=4)
    restored.add([found("gone")], version=2)
    restored.load(tmp_path)
    assert restored.sample(9, step=1) == buffer.sample(9, step=1)
    assert "replay_advantage" not in restored.sample(1, step=1)[0].trajectory.reward_parts
    for one in (buffer, restored):
        one.add([found("c", version=4)], version=4)
    assert names(restored) == names(buffer) == {"b", "c"}


def test_an_empty_buffer_can_be_saved_too(tmp_path: Path) -> None:
    ReplayBuffer(8, max_age=3, seed=4).save(tmp_path)
    restored = ReplayBuffer(8, max_age=3, seed=4)
    restored.load(tmp_path)
    assert len(restored) == 0
