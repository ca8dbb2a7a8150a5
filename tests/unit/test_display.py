"""How long still, and how it is told."""

import io
import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.display import Display, Stage, clock, line, read_progress, whole
from infra.estimate import TYPICAL_S, Rates, expected_seconds, remaining
from journeyman.config import PipelineConfig
from journeyman.config.load import load_pipeline
from journeyman.runs import RunRecord, RunStore, StageRecord, Status
from tasks.recipes import ladder

ROOT = Path(__file__).resolve().parents[2]


def a_stage(name: str, state: Status, *, done: float = 0, started: float = 0, seconds: float | None = None) -> Stage:
    """Of 100 units."""
    return Stage(name=name, state=state, done=done, total=100, note="", started=started, seconds=seconds)


def a_run(pipeline: str = "small", **seconds: float) -> RunRecord:
    stages = {name: StageRecord(status=Status.COMPLETED, seconds=took) for name, took in seconds.items()}
    return RunRecord(id="r", pipeline=pipeline, config={}, seed=0, stages=stages)


@pytest.mark.parametrize(
    ("seconds", "told"), [(0, "0:00"), (59.6, "1:00"), (750, "12:30"), (3723, "1:02:03"), (-3, "0:00")]
)
def test_clock(seconds: float, told: str) -> None:
    assert clock(seconds) == told


def test_a_running_stage_goes_by_its_own_rate() -> None:
    rates = Rates()
    # Its first work shows at second 30 with 20 done; at second 50 it has 60. 40 units in 20 s, so 40 more take 20 s.
    rates.watch([a_stage("sft", Status.RUNNING, done=20)], 30)
    stage = a_stage("sft", Status.RUNNING, done=60)
    rates.watch([stage], 50)
    assert remaining([stage], {"sft": 1000.0}, rates, 50) == {"sft": pytest.approx(20.0)}


def test_before_its_rate_is_known_a_stage_goes_by_earlier_runs() -> None:
    stage = a_stage("sft", Status.RUNNING)
    assert remaining([stage], {"sft": 90.0}, Rates(), 30) == {"sft": 60.0}
    assert remaining([stage], {"sft": 90.0}, Rates(), 100) == {"sft": None}, "late: who knows"
    assert remaining([stage], {}, Rates(), 30) == {"sft": None}


def test_pending_stages_follow_the_pace_of_this_run() -> None:
    stages = [
        a_stage("synthesize", Status.COMPLETED, seconds=40),  # twice as long as expected
        a_stage("curate", Status.CACHED, seconds=0),  # says nothing of the pace
        a_stage("sft", Status.PENDING),
    ]
    expected = {"synthesize": 20.0, "curate": 5.0, "sft": 90.0}
    assert remaining(stages, expected, Rates(), 40) == {"synthesize": 0.0, "curate": 0.0, "sft": 180.0}


def test_expected_seconds_are_those_of_the_newest_run_that_made_the_stage() -> None:
    cached = RunRecord(
        id="c", pipeline="small", config={}, seed=0, stages={"sft": StageRecord(status=Status.CACHED, seconds=0.1)}
    )
    runs = [cached, a_run(sft=80), a_run(sft=50, evaluate=30), a_run("other", curate=9)]
    assert expected_seconds(runs, "small", ["curate", "sft", "evaluate"]) == {"sft": 80, "evaluate": 30}


def test_the_first_quickstart_has_something_to_go_by() -> None:
    stages = ladder(load_pipeline("quickstart", ROOT / "pipelines.yaml"))
    assert expected_seconds([], "quickstart", stages) == {stage: TYPICAL_S[stage] for stage in stages}


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 1000)), max_size=8))
def test_nothing_is_ever_left_negative(seen: list[tuple[float, float]]) -> None:
    rates = Rates()
    for done, now in sorted(seen, key=lambda pair: pair[1]):
        stage = a_stage("sft", Status.RUNNING, done=done)
        rates.watch([stage], now)
        left = remaining([stage], {"sft": 90.0}, rates, now)["sft"]
        assert left is None or left >= 0


def test_what_is_unknown_makes_the_sum_a_lower_bound() -> None:
    stages = [a_stage("sft", Status.RUNNING, done=50), a_stage("evaluate", Status.PENDING)]
    assert whole(stages, {"sft": 60.0, "evaluate": 30.0}, 10) == "0:10 passed, about 1:30 left"
    assert whole(stages, {"sft": 60.0, "evaluate": None}, 10) == "0:10 passed, at least 1:00 left"
    assert whole(stages, {"sft": None, "evaluate": None}, 10) == "0:10 passed"
    ended = [a_stage("sft", Status.COMPLETED, done=100, seconds=9)]
    assert whole(ended, {"sft": 0.0}, 10) == "0:10 in all"


def test_a_line_tells_share_and_time_left() -> None:
    assert line(a_stage("sft", Status.RUNNING, done=43), 61, 30) == "sft: running, 43 %, about 1:01 left"
    assert line(a_stage("sft", Status.CACHED, seconds=0.2), 0, 30) == "sft: cached, 0:00"


def test_where_there_is_no_terminal_the_display_prints_lines(tmp_path: Path) -> None:
    terminal = io.StringIO()
    runs = RunStore(tmp_path)
    with Display(tmp_path, pid=os.getpid(), terminal=terminal) as display:
        record, lock = runs.create(PipelineConfig(name="small"))
        rows = [
            {"name": "synthesize", "state": "completed", "done": 9, "total": 9, "note": "", "started": 1, "seconds": 5},
            {"name": "sft", "state": "running", "done": 1, "total": 4, "note": "loss 2.1", "started": 6},
            {"name": "evaluate", "state": "pending", "done": 0, "total": 0, "note": "", "started": None},
        ]
        text = json.dumps({"stages": [{"seconds": None, **row} for row in rows]})
        (runs.folder(record.id) / "progress.json").write_text(text)
        time.sleep(0.1)
    lock.close()
    assert display.run == record.id
    assert [text.partition(" | ")[0] for text in terminal.getvalue().splitlines()] == [
        "synthesize: completed, 0:05",
        "sft: running, 25 %, loss 2.1",
    ]


def test_a_terminal_gets_a_picture(tmp_path: Path) -> None:
    display = Display(tmp_path, pid=1, terminal=io.StringIO())
    display.console.width = 100
    stages = [a_stage("sft", Status.RUNNING, done=50), a_stage("evaluate", Status.PENDING)]
    with display.console.capture() as shown:
        display.console.print(display.picture(stages, 30))
    first, second, last = shown.get().splitlines()
    assert "sft" in first and "50 %" in first and "0:30" in first
    assert "evaluate" in second
    assert last.strip() == "0:30 passed"


def test_progress_that_is_not_there_yet_is_empty(tmp_path: Path) -> None:
    assert read_progress(tmp_path / "progress.json") == []
