import json
from dataclasses import replace
from pathlib import Path

import pytest

from journeyman.config import PipelineConfig
from journeyman.errors import DataError
from journeyman.runs import RunRecord, RunStore, StageRecord, Status, ended

CONFIG = PipelineConfig(name="tiny", seed=3)


@pytest.fixture
def runs(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path)


def finished(runs: RunStore, *, started: str = "", **changes: object) -> RunRecord:
    record, lock = runs.create(CONFIG)
    lock.close()
    record = replace(record, status=Status.COMPLETED, started=started or record.started, **changes)
    runs.save(record)
    return record


def test_a_record_comes_back_as_it_was_saved(runs: RunStore) -> None:
    record, lock = runs.create(CONFIG, from_run="earlier")
    stages = {"synthesize": StageRecord(status=Status.CACHED, key="k", seconds=0.5), "curate": StageRecord()}
    record = replace(record, stages=stages, flow_run_id="f", mlflow_url="http://m")
    runs.save(record)
    lock.close()
    assert runs.load(record.id) == record
    assert record.pipeline_config() == CONFIG
    assert (record.pipeline, record.seed, record.from_run) == ("tiny", 3, "earlier")
    assert list(runs.load(record.id).stages) == ["synthesize", "curate"]


def test_a_run_is_found_by_id_by_pipeline_and_as_the_latest(runs: RunStore) -> None:
    old = finished(runs, started="2026-01-01T00:00:00.000+00:00")
    other = finished(runs, started="2026-01-02T00:00:00.000+00:00", pipeline="gsm8k")
    new = finished(runs, started="2026-01-03T00:00:00.000+00:00", flow_run_id="f1", pid=77)
    assert [record.id for record in runs.all()] == [new.id, other.id, old.id]
    assert runs.find(old.id) == old
    assert runs.find("tiny") == new
    assert runs.find("gsm8k") == other
    assert runs.find() == new
    assert runs.of_flow_run("f1") == runs.of_process(77) == new
    assert runs.of_flow_run("f2") is None


def test_an_unknown_run_is_told_with_those_there_are(runs: RunStore) -> None:
    with pytest.raises(DataError, match="there is no run `latest`") as caught:
        runs.find()
    assert "run a pipeline first" in caught.value.remedy
    known = finished(runs)
    with pytest.raises(DataError, match="there is no run `nowhere`") as caught:
        runs.find("nowhere")
    assert known.id in caught.value.remedy


@pytest.mark.parametrize("text", ["", "{}", '{"id": 3'])
def test_a_damaged_record_is_told_with_its_place(runs: RunStore, text: str) -> None:
    path = runs.folder(finished(runs).id) / "run.json"
    path.write_text(text)
    with pytest.raises(DataError, match="not the record of a run") as caught:
        runs.find()
    assert caught.value.place == str(path)


def test_a_running_record_without_a_process_is_marked_crashed(runs: RunStore) -> None:
    dead, lock = runs.create(CONFIG)
    stages = {"sft": StageRecord(status=Status.RUNNING, started=dead.started), "evaluate": StageRecord()}
    runs.save(replace(dead, stages=stages))
    alive, alive_lock = runs.create(CONFIG)
    done = finished(runs)
    lock.close()  # what the kernel does when the process dies
    assert runs.alive(alive.id) and not runs.alive(dead.id)
    assert [record.id for record in runs.reap()] == [dead.id]
    crashed = runs.load(dead.id)
    assert crashed.status == Status.CRASHED
    assert {name: stage.status for name, stage in crashed.stages.items()} == {
        "sft": Status.CRASHED,
        "evaluate": Status.PENDING,
    }
    assert runs.load(alive.id).status == Status.RUNNING
    assert runs.load(done.id) == done
    assert runs.reap() == []
    alive_lock.close()


def test_the_end_of_a_run_is_that_of_the_stage_that_was_running(runs: RunStore) -> None:
    stages = {
        "curate": StageRecord(status=Status.COMPLETED, seconds=2.0),
        "sft": StageRecord(status=Status.RUNNING, started="2026-01-01T00:00:00.000+00:00"),
    }
    record = ended(replace(finished(runs), stages=stages), Status.FAILED, error="ValueError: no")
    assert (record.status, record.error) == (Status.FAILED, "ValueError: no")
    assert record.stages["curate"] == stages["curate"]
    assert record.stages["sft"].status == Status.FAILED
    assert record.stages["sft"].seconds > 0


def test_a_record_is_plain_json(runs: RunStore) -> None:
    record = finished(runs)
    data = json.loads((runs.folder(record.id) / "run.json").read_text())
    assert data["status"] == "completed"
    assert data["config"]["name"] == "tiny"
    assert record.id.startswith("tiny-")
