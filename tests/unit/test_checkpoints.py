"""Checkpoints: whole or not at all, and the newest whole one counts."""

from pathlib import Path

import pytest

from journeyman.training.checkpoints import Checkpoints


def writer(text: str):
    def write(folder: Path) -> None:
        (folder / "deep").mkdir()
        (folder / "deep" / "weights").write_text(text)

    return write


def test_the_newest_checkpoint_comes_back_with_its_state(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "not" / "there yet")
    assert checkpoints.last() is None
    checkpoints.save(5, writer("five"), {"taken": 3})
    checkpoints.save(10, writer("ten"), {"taken": [1, {"a": None}]})
    found = Checkpoints(tmp_path / "not" / "there yet").last()
    assert found is not None
    folder, state = found
    assert (folder / "deep" / "weights").read_text() == "ten"
    assert state == {"step": 10, "taken": [1, {"a": None}]}


def test_only_the_newest_and_the_one_before_are_kept(tmp_path: Path) -> None:
    for step in (2, 4, 6, 100):
        Checkpoints(tmp_path).save(step, writer(str(step)), {})
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step-000006", "step-000100"]


def test_a_checkpoint_of_the_same_step_is_replaced(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, writer("old"), {})
    checkpoints.save(1, writer("new"), {})
    folder, _ = checkpoints.last() or (Path(), {})
    assert (folder / "deep" / "weights").read_text() == "new"


def test_what_was_interrupted_is_never_seen_and_cleared_away(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, writer("one"), {})

    def dies(folder: Path) -> None:
        writer("half")(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(2, dies, {})
    (tmp_path / "checkpoints" / ".step-000003-99999").mkdir()  # of another process, killed
    (tmp_path / "checkpoints" / "step-000004").mkdir()  # has no state
    found = Checkpoints(tmp_path).last()
    assert found is not None and found[1] == {"step": 1}
    Checkpoints(tmp_path).save(3, writer("three"), {})
    left = {p.name for p in (tmp_path / "checkpoints").iterdir()}
    assert left == {"step-000001", "step-000003", "step-000004"}


def test_a_state_that_is_not_json_leaves_the_earlier_checkpoint(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, writer("one"), {})
    with pytest.raises(TypeError):
        checkpoints.save(2, writer("two"), {"bad": object()})
    found = checkpoints.last()
    assert found is not None and found[1]["step"] == 1
