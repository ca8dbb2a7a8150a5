"""Runs, caching, retries, records and cancellation on a real Prefect server."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.filters import FlowRunFilterParentFlowRunId as Parent

from flows.curate import curate
from flows.rl import rl
from flows.synthesize import synthesize
from journeyman.artifacts import ArtifactStore
from journeyman.config import CurateConfig, PipelineConfig, RlConfig
from journeyman.errors import ArtifactError, ConfigError, DataError, InfrastructureError, UserError
from journeyman.runs import RunRecord, RunStore, Status
from tasks.recipes import ladder
from tests.integration.toy_flows import CONFIG, failing, toy_failing, toy_ladder

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("prefect_server")]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def client(prefect_server: str) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


def task_states(client: SyncPrefectClient, record: RunRecord, *, settled: bool = True) -> dict[str, str]:
    """Name to state of the task runs in a run's subflows; waits for the server, which hears of states by and by."""
    deadline = time.monotonic() + 30
    parent = FlowRunFilter(parent_flow_run_id=Parent(any_=[UUID(record.flow_run_id)]))
    while True:
        runs = client.read_task_runs(flow_run_filter=parent)
        states = {run.name: run.state_name or "" for run in runs}
        done = states and all(state not in ("Pending", "Running") for state in states.values())
        if done or not settled or time.monotonic() > deadline:
            return states
        time.sleep(0.2)


def with_rl(config: PipelineConfig, name: str, **changes: Any) -> PipelineConfig:
    blocks = [block.model_copy(update=changes) if block.name == name else block for block in config.rl]
    return config.model_copy(update={"rl": blocks})


def statuses(record: RunRecord) -> dict[str, Status]:
    return {name: stage.status for name, stage in record.stages.items()}


def test_a_second_run_is_cached_throughout(journeyman_home: Path, client: SyncPrefectClient) -> None:
    made: list[str] = []
    pipeline, runs = toy_ladder(made), RunStore(journeyman_home)
    first = runs.load(pipeline(CONFIG))
    assert made == ladder(CONFIG)
    assert set(statuses(first).values()) == {Status.COMPLETED}
    second = runs.load(pipeline(CONFIG))
    assert made == ladder(CONFIG), "nothing is made twice"
    assert set(statuses(second).values()) == {Status.CACHED}
    assert {name: stage.key for name, stage in first.stages.items()} == {
        name: stage.key for name, stage in second.stages.items()
    }
    assert set(task_states(client, first).values()) == {"Completed"}
    assert set(task_states(client, second).values()) == {"Cached"}
    assert client.read_flow_run(UUID(second.flow_run_id)).name == second.id


def test_the_page_has_tables_links_and_progress(journeyman_home: Path, client: SyncPrefectClient) -> None:
    record = RunStore(journeyman_home).load(toy_ladder([])(CONFIG))
    children = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(parent_flow_run_id=Parent(any_=[UUID(record.flow_run_id)]))
    )
    assert len(children) == len(ladder(CONFIG))
    found = client.read_artifacts(
        artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id for run in children]))
    )
    by_key = {artifact.key: artifact for artifact in found}
    bar = by_key["rl-accuracy-progress"]
    assert (bar.type, bar.data) == ("progress", 50.0)
    rows = {row["what"]: row["value"] for row in json.loads(str(by_key["rl-accuracy-summary"].data))}
    assert rows["loss"] == 0.25
    assert rows["counts.rows"] == 1
    assert record.prefect_url.endswith(f"/v2/runs/flow-run/{record.flow_run_id}")


def test_the_progress_file_ends_with_every_stage_done(journeyman_home: Path) -> None:
    run = toy_ladder([])(CONFIG)
    progress = json.loads((RunStore(journeyman_home).folder(run) / "progress.json").read_text())
    assert (progress["pipeline"], progress["status"], progress["pid"]) == ("toy", "completed", os.getpid())
    assert [stage["name"] for stage in progress["stages"]] == ladder(CONFIG)
    for stage in progress["stages"]:
        assert stage["state"] == "completed"
        assert stage["done"] == stage["total"] == 2
        assert stage["seconds"] >= 0


def test_a_deleted_artifact_is_made_again_though_prefect_has_it_cached(journeyman_home: Path) -> None:
    made: list[str] = []
    pipeline, runs = toy_ladder(made), RunStore(journeyman_home)
    first = runs.load(pipeline(CONFIG))
    made.clear()
    shutil.rmtree(ArtifactStore(journeyman_home).path("sft", first.stages["sft"].key))
    second = runs.load(pipeline(CONFIG))
    assert made == ["sft"]
    assert statuses(second)["sft"] == Status.COMPLETED
    assert statuses(second)["rl-accuracy"] == Status.CACHED, "the same sft again has the same key"


def test_an_altered_artifact_is_made_again(journeyman_home: Path) -> None:
    made: list[str] = []
    pipeline, runs = toy_ladder(made), RunStore(journeyman_home)
    first = runs.load(pipeline(CONFIG))
    made.clear()
    path = ArtifactStore(journeyman_home).path("curate", first.stages["curate"].key) / "data.txt"
    right = path.read_text()
    path.write_text(right[:-1])
    pipeline(CONFIG)
    assert made == ["curate"]
    assert path.read_text() == right


def test_an_artifact_is_reused_though_prefect_forgot_it(
    journeyman_home: Path, client: SyncPrefectClient, tmp_path: Path
) -> None:
    from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings

    made: list[str] = []
    pipeline, runs = toy_ladder(made), RunStore(journeyman_home)
    pipeline(CONFIG)
    made.clear()
    with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: str(tmp_path / "other")}):
        second = runs.load(pipeline(CONFIG))
    assert made == []
    assert set(statuses(second).values()) == {Status.CACHED}
    assert set(task_states(client, second).values()) == {"Completed"}


def test_a_changed_rl_option_reruns_from_there_on(journeyman_home: Path) -> None:
    made: list[str] = []
    pipeline = toy_ladder(made)
    pipeline(CONFIG)
    made.clear()
    pipeline(with_rl(CONFIG, "efficiency", steps=3))
    assert made == ["rl-efficiency", "evaluate"]
    made.clear()
    pipeline(with_rl(CONFIG, "accuracy", steps=3))
    assert made == ["rl-accuracy", "rl-efficiency", "evaluate"]


def test_where_it_runs_is_no_reason_to_rerun_but_another_seed_is(journeyman_home: Path) -> None:
    made: list[str] = []
    pipeline = toy_ladder(made)
    pipeline(CONFIG)
    made.clear()
    pipeline(CONFIG.model_copy(update={"compute": CONFIG.compute.model_copy(update={"samplers": 4})}))
    assert made == []
    pipeline(CONFIG.model_copy(update={"seed": 1}))
    assert made == ladder(CONFIG)


def test_a_user_error_reaches_the_caller_and_is_not_retried(journeyman_home: Path) -> None:
    tries: list[int] = []
    error = DataError("line 3 is not JSON", place="rows.jsonl:3", remedy="mend it")
    with pytest.raises(DataError) as caught:
        toy_failing(failing(error, tries))
    assert str(caught.value) == "rows.jsonl:3: line 3 is not JSON\n  remedy: mend it"
    assert tries == [0]
    record = RunStore(journeyman_home).find("toy")
    assert (record.status, record.stages["synthesize"].status) == (Status.FAILED, Status.FAILED)
    assert "line 3 is not JSON" in record.error
    assert list((journeyman_home / "artifacts" / "synthesize").iterdir()) == [], "nothing half-done is left"


def test_failed_machinery_is_retried_once(journeyman_home: Path) -> None:
    tries: list[int] = []
    with pytest.raises(InfrastructureError):
        toy_failing(failing(InfrastructureError("an actor died"), tries))
    assert tries == [0, 1]


def test_a_fault_in_the_code_is_not_retried(journeyman_home: Path) -> None:
    tries: list[int] = []
    with pytest.raises(ZeroDivisionError):
        toy_failing(failing(ZeroDivisionError("one"), tries))
    assert tries == [0]


def test_real_stages_one_by_one_from_an_earlier_run(journeyman_home: Path) -> None:
    runs, store = RunStore(journeyman_home), ArtifactStore(journeyman_home)
    first = runs.load(synthesize(CONFIG))
    manifest = store.require("synthesize", first.stages["synthesize"].key).manifest
    assert manifest.files["problems/heldout.parquet"].rows == 6
    second = runs.load(curate(from_run="latest"))
    assert second.from_run == first.id
    assert second.stages["synthesize"].key == first.stages["synthesize"].key
    assert second.stages["synthesize"].inherited and not second.stages["curate"].inherited
    assert store.require("curate", second.stages["curate"].key).manifest.summary["counts"]["rows_in"] >= 30
    third = runs.load(curate(from_run=first.id, options=CurateConfig(rules=["format"])))
    assert third.stages["curate"].key != second.stages["curate"].key
    assert third.pipeline_config().curate.rules == ["format"]
    assert third.pipeline_config().synthesize == CONFIG.synthesize
    again = runs.load(synthesize(from_run="toy"))
    assert again.stages["synthesize"].status == Status.CACHED


def test_a_stage_without_its_input_says_which_and_what_to_do(journeyman_home: Path) -> None:
    run = synthesize(CONFIG)
    with pytest.raises(ArtifactError, match="reads the artifact of stage sft") as caught:
        rl(from_run=run)
    assert "journeyman stage sft" in caught.value.remedy
    with pytest.raises(ConfigError, match="no rl block `speed`"):
        rl(from_run=run, block=RlConfig(name="speed"))
    with pytest.raises(DataError, match="there is no run `nowhere`"):
        curate(from_run="nowhere")


def test_a_name_that_no_registry_has_is_told_before_a_run_begins(journeyman_home: Path) -> None:
    with pytest.raises(UserError, match="kindness"):
        synthesize(with_rl(CONFIG, "accuracy", reward="kindness"))
    assert RunStore(journeyman_home).all() == []


def test_too_little_disk_is_told_before_a_run_begins(journeyman_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNEYMAN_MIN_FREE_GB", "1e9")
    with pytest.raises(UserError, match="too little disk"):
        synthesize(CONFIG)
    assert RunStore(journeyman_home).all() == []


def start(program: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, start_new_session=True)


def wait_for(path: Path, pattern: str, *, process: subprocess.Popen) -> Path:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if found := list(path.glob(pattern)):
            return found[0]
        assert process.poll() is None, "it ended early"
        time.sleep(0.1)
    raise AssertionError(f"no {pattern}")


SLOW = "from tests.integration.toy_flows import slow; slow()"


def test_a_killed_run_is_marked_and_the_next_one_goes_on_from_its_checkpoint(
    journeyman_home: Path, client: SyncPrefectClient
) -> None:
    from tests.integration.toy_flows import slow

    process = start(SLOW)
    wait_for(journeyman_home, "work/*/checkpoint", process=process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    runs = RunStore(journeyman_home)
    killed = runs.find()
    assert (killed.status, runs.alive(killed.id)) == (Status.RUNNING, False)
    second = runs.load(slow())
    crashed = runs.load(killed.id)
    assert (crashed.status, crashed.stages["synthesize"].status) == (Status.CRASHED, Status.CRASHED)
    assert second.stages["synthesize"].key == crashed.stages["synthesize"].key
    artifact = ArtifactStore(journeyman_home).require("synthesize", second.stages["synthesize"].key)
    assert (artifact.path / "resumed").read_text() == "step 5"
    assert list((journeyman_home / "work").iterdir()) == [], "checkpoints go when the artifact is there"
    own = FlowRunFilter(id=FlowRunFilterId(any_=[UUID(crashed.flow_run_id)]))
    children = FlowRunFilter(parent_flow_run_id=Parent(any_=[UUID(crashed.flow_run_id)]))
    flows = [*client.read_flow_runs(flow_run_filter=own), *client.read_flow_runs(flow_run_filter=children)]
    assert [run.state_name for run in flows] == ["Crashed", "Crashed"]
    assert set(task_states(client, crashed).values()) == {"Crashed"}


def test_a_run_that_is_interrupted_ends_cancelled(journeyman_home: Path) -> None:
    process = start(SLOW)
    checkpoint = wait_for(journeyman_home, "work/*/checkpoint", process=process)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=30)
    record = RunStore(journeyman_home).find()
    assert (record.status, record.stages["synthesize"].status) == (Status.CANCELLED, Status.CANCELLED)
    assert (checkpoint.parent / "closed").read_text() == str(process.pid), "the stage cleaned up"
