import json
import threading
from pathlib import Path

import pytest

from journeyman.runs import Status
from tasks.board import Beat, Board
from tasks.pages import summary_rows


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "progress.json"


def lines(path: Path) -> list[dict]:
    return json.loads(path.read_text())["stages"]


def test_every_stage_is_there_from_the_start(path: Path) -> None:
    Board(path, run="r", pipeline="p", stages=["curate", "sft"])
    data = json.loads(path.read_text())
    assert {name: data[name] for name in ("run", "pipeline", "status")} == {
        "run": "r",
        "pipeline": "p",
        "status": "running",
    }
    assert data["pid"] > 0
    assert lines(path) == [
        {"name": name, "state": "pending", "done": 0.0, "total": 0.0, "note": "", "started": None, "seconds": None}
        for name in ("curate", "sft")
    ]


def test_a_stage_from_start_to_end(path: Path) -> None:
    board = Board(path, run="r", pipeline="p", stages=["sft"])
    board.start("sft")
    assert lines(path)[0]["state"] == "running" and lines(path)[0]["started"] > 0
    board.progress("sft", 3, 10, "loss 0.5")
    board.end("sft", Status.COMPLETED, 2.5)
    (line,) = lines(path)
    assert (line["state"], line["done"], line["total"], line["note"], line["seconds"]) == (
        "completed",
        10,
        10,
        "loss 0.5",
        2.5,
    )


def test_a_cached_stage_is_done_at_once(path: Path) -> None:
    board = Board(path, run="r", pipeline="p", stages=["sft"])
    board.start("sft")
    board.end("sft", Status.CACHED, 0.1)
    assert (lines(path)[0]["state"], lines(path)[0]["done"], lines(path)[0]["total"]) == ("cached", 1.0, 1.0)


def test_the_end_of_the_run_ends_the_stage_that_was_running(path: Path) -> None:
    board = Board(path, run="r", pipeline="p", stages=["curate", "sft", "evaluate"])
    board.end("curate", Status.COMPLETED, 1.0)
    board.start("sft")
    board.close(Status.FAILED)
    assert [line["state"] for line in lines(path)] == ["completed", "failed", "pending"]
    assert json.loads(path.read_text())["status"] == "failed"


def test_a_beat_publishes_the_newest_and_in_the_end_the_last() -> None:
    told: list[tuple[float, str]] = []
    published = threading.Event()

    def publish(percent: float, note: str) -> None:
        told.append((percent, note))
        published.set()

    with Beat(publish, every_s=0.01) as beat:
        beat.offer(1.0, "a")
        assert published.wait(10)
    with Beat(publish, every_s=1000.0) as beat:
        for percent in range(100):
            beat.offer(float(percent), "b")
    assert told == [(1.0, "a"), (99.0, "b")]


def test_a_beat_without_news_publishes_nothing() -> None:
    told: list[tuple[float, str]] = []
    with Beat(lambda percent, note: told.append((percent, note)), every_s=0.001):
        pass
    assert told == []


def test_a_summary_as_a_table() -> None:
    summary = {"counts": {"rows": 3, "by": {"a": 1}}, "loss": 0.123456, "ci95": [0.1, 0.2], "dev": None}
    assert summary_rows(summary) == [
        {"what": "counts.rows", "value": 3},
        {"what": "counts.by.a", "value": 1},
        {"what": "loss", "value": 0.1235},
        {"what": "dev", "value": ""},
    ]
