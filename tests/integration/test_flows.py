"""Runs, caching, retries, records and cancellation on a real Prefect server."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.filters import FlowRunFilterParentFlowRunId as Parent
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings
from prefect.states import Cancelling

from flows.curate import curate
from flows.rl import rl
from flows.synthesize import synthesize
from infra.deployments import pipelines
from journeyman.artifacts import ArtifactStore
from journeyman.config import CurateConfig, PipelineConfig, RlConfig
from journeyman.errors import ArtifactError, ConfigError, DataError, InfrastructureError, UserError
from journeyman.runs import RunRecord, RunStore, Status
from tasks.recipes import ladder, plan
from tests.integration.conftest import stop
from tests.integration.toy_flows import CONFIG, failing, slow, toy_failing, toy_ladder

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("prefect_server")]
ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 120.0


@pytest.fixture
def client(prefect_server: str) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


def task_states(client: SyncPrefectClient, record: RunRecord) -> dict[str, str]:
    """Name to state of the task runs in a run's subflows; waits for the server, which hears of states by and by."""
    states: dict[str, str] = {}

    def settled() -> bool:
        runs = client.read_task_runs(flow_run_filter=children_of(record))
        states.update({run.name: run.state_name or "" for run in runs})
        return bool(states) and not {"Pending", "Running"} & set(states.values())

    wait_until(settled)
    return states


def with_rl(config: PipelineConfig, name: str, **changes: Any) -> PipelineConfig:
    blocks = [block.model_copy(update=changes) if block.name == name else block for block in config.rl]
    return config.model_copy(update={"rl": blocks})


def keys_of(config: PipelineConfig) -> dict[str, str]:
    """Stage to key, where each stage is made from what the stages before it make."""
    keys: dict[str, str] = {}
    for stage in ladder(config):
        keys[stage] = plan(config, stage, list(keys)).recipe(config, keys).key
    return keys


def changed_keys(config: PipelineConfig) -> list[str]:
    before, after = keys_of(CONFIG), keys_of(config)
    return [stage for stage in after if after[stage] != before[stage]]


def children_of(record: RunRecord) -> FlowRunFilter:
    return FlowRunFilter(parent_flow_run_id=Parent(any_=[UUID(record.flow_run_id)]))


def keys(record: RunRecord) -> dict[str, str]:
    return {name: stage.key for name, stage in record.stages.items()}


def statuses(record: RunRecord) -> dict[str, Status]:
    return {name: stage.status for name, stage in record.stages.items()}


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """A home folder with one run of the toy pipeline in it."""

    home: Path
    first: RunRecord
    made: list[str]
    """The stages whose bodies ran; empty after the first run."""
    pipeline: Callable[[PipelineConfig], str]

    def run(self, config: PipelineConfig = CONFIG) -> RunRecord:
        self.made.clear()
        return RunStore(self.home).load(self.pipeline(config))


@pytest.fixture(scope="module")
def first_ladder(prefect_server: str, tmp_path_factory: pytest.TempPathFactory) -> Ladder:
    made: list[str] = []
    pipeline, folder = toy_ladder(made), tmp_path_factory.mktemp("ladder") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JOURNEYMAN_HOME", str(folder))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        first = RunStore(folder).load(pipeline(CONFIG))
    assert made == ladder(CONFIG)
    return Ladder(home=folder, first=first, made=made, pipeline=pipeline)


@pytest.fixture
def toy(first_ladder: Ladder, journeyman_home: Path) -> Ladder:
    """A copy, for the test to change."""
    shutil.copytree(first_ladder.home, journeyman_home)
    return replace(first_ladder, home=journeyman_home)


def test_the_record_of_a_run(toy: Ladder, client: SyncPrefectClient) -> None:
    first = toy.first
    assert (first.status, first.pipeline, first.from_run) == (Status.COMPLETED, "toy", "")
    assert list(first.stages) == ladder(CONFIG)
    assert set(statuses(first).values()) == {Status.COMPLETED}
    assert first.pipeline_config() == CONFIG
    assert first.prefect_url.endswith(f"/v2/runs/flow-run/{first.flow_run_id}")
    assert client.read_flow_run(UUID(first.flow_run_id)).name == first.id
    assert set(task_states(client, first).values()) == {"Completed"}


def test_a_second_run_is_cached_throughout(toy: Ladder, client: SyncPrefectClient) -> None:
    second = toy.run()
    assert toy.made == []
    assert set(statuses(second).values()) == {Status.CACHED}
    assert keys(second) == keys(toy.first)
    assert set(task_states(client, second).values()) == {"Cached"}
    children = client.read_flow_runs(flow_run_filter=children_of(second))
    assert [run.state_name for run in children] == ["Cached"] * len(ladder(CONFIG))


def test_the_page_has_tables_and_progress(toy: Ladder, client: SyncPrefectClient) -> None:
    children = client.read_flow_runs(flow_run_filter=children_of(toy.first))
    assert sorted(run.name for run in children) == sorted(f"{name} of {toy.first.id}" for name in ladder(CONFIG))
    pages = [UUID(toy.first.flow_run_id), *(run.id for run in children)]
    own = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=pages))
    by_key = {artifact.key: artifact for artifact in client.read_artifacts(artifact_filter=own)}
    stages = json.loads(str(by_key["stages"].data))
    assert [(row["stage"], row["status"]) for row in stages] == [(name, "completed") for name in ladder(CONFIG)]
    bar = by_key["rl-accuracy-progress"]
    assert (bar.type, bar.data) == ("progress", 50.0)
    rows = {row["what"]: row["value"] for row in json.loads(str(by_key["rl-accuracy-summary"].data))}
    assert (rows["status"], rows["loss"], rows["counts.rows"]) == ("completed", 0.25, 1)


def test_the_progress_file_ends_with_every_stage_done(toy: Ladder) -> None:
    progress = json.loads((RunStore(toy.home).folder(toy.first.id) / "progress.json").read_text())
    assert (progress["pipeline"], progress["status"], progress["pid"]) == ("toy", "completed", os.getpid())
    assert [stage["name"] for stage in progress["stages"]] == ladder(CONFIG)
    for stage in progress["stages"]:
        assert stage["state"] == "completed"
        assert stage["done"] == stage["total"] == 2
        assert stage["seconds"] >= 0


def test_what_was_deleted_or_altered_is_made_again_though_prefect_has_it_cached(toy: Ladder) -> None:
    store = ArtifactStore(toy.home)
    shutil.rmtree(store.path("sft", toy.first.stages["sft"].key))
    altered = store.path("curate", toy.first.stages["curate"].key) / "data.txt"
    right = altered.read_text()
    altered.write_text(right[:-1])
    second = toy.run()
    assert toy.made == ["curate", "sft"]
    assert altered.read_text() == right
    assert statuses(second)["sft"] == Status.COMPLETED
    assert statuses(second)["rl-accuracy"] == Status.CACHED, "the same sft again has the same key"


def test_an_artifact_is_reused_though_prefect_forgot_it(toy: Ladder, client: SyncPrefectClient, tmp_path: Path) -> None:
    with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: str(tmp_path / "other")}):
        second = toy.run()
    assert toy.made == []
    assert set(statuses(second).values()) == {Status.CACHED}
    assert set(task_states(client, second).values()) == {"Completed"}


def test_a_changed_rl_option_reruns_from_there_on(toy: Ladder) -> None:
    toy.run(with_rl(CONFIG, "efficiency", steps=3))
    assert toy.made == ["rl-efficiency", "evaluate"]


def test_changes_change_the_keys_that_they_should() -> None:
    assert changed_keys(with_rl(CONFIG, "accuracy", steps=3)) == ["rl-accuracy", "rl-efficiency", "evaluate"]
    assert changed_keys(CONFIG.model_copy(update={"curate": CurateConfig(rules=["format"])})) == ladder(CONFIG)[1:]
    assert changed_keys(CONFIG.model_copy(update={"seed": 1})) == ladder(CONFIG)
    assert changed_keys(CONFIG.model_copy(update={"description": "the same in other words"})) == []
    compute = CONFIG.compute.model_copy(update={"samplers": 4, "threads": 2, "address": "head:6379"})
    assert changed_keys(CONFIG.model_copy(update={"compute": compute})) == [], "where it runs is no reason"


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


def test_the_data_card_is_on_the_page(journeyman_home: Path, client: SyncPrefectClient) -> None:
    record = RunStore(journeyman_home).load(curate(from_run=synthesize(CONFIG)))
    own = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[UUID(record.flow_run_id)]))
    (card,) = [one for one in client.read_artifacts(artifact_filter=own) if one.key == "curate-card"]
    made = ArtifactStore(journeyman_home).require("curate", record.stages["curate"].key)
    assert card.type == "markdown"
    assert str(card.data) == (made.path / "card.md").read_text()
    assert {"card.md", "card.html", "pictures/funnel.svg", "pictures/lengths.svg"} <= made.manifest.files.keys()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of MLflow's store, which here is in this process
def test_runs_in_mlflow_name_their_place_in_prefect(
    journeyman_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.chdir(tmp_path)  # where such a store puts its artifacts
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    record = RunStore(journeyman_home).load(curate(from_run=synthesize(CONFIG)))
    with pytest.raises(DataError):
        toy_failing(failing(DataError("no"), []), CONFIG.model_copy(update={"seed": 1}))
    client = MlflowClient(uri)
    (experiment,) = [one for one in client.search_experiments() if one.name == "journeyman"]
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    parent, child = runs[record.id], runs["curate"]
    assert (parent.info.run_id, parent.info.status) == (record.mlflow_run_id, "FINISHED")
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.data.tags["stage.key"] == record.stages["curate"].key
    assert parent.data.params["problems.heldout"] == "6"
    assert child.data.params["curate.rules"] == str(CONFIG.curate.rules)
    for run in (parent, child):
        assert run.data.tags["prefect.url"] == record.prefect_url
        assert "/v2/runs/flow-run/" in run.data.tags["mlflow.note.content"]
    assert child.inputs is not None
    assert [(one.dataset.name, one.dataset.digest) for one in child.inputs.dataset_inputs] == [
        ("demonstrations", demonstrations_digest(journeyman_home, record)[:36])
    ]
    failed = RunStore(journeyman_home).find()
    assert runs[failed.id].info.status == "FAILED"


def demonstrations_digest(home: Path, record: RunRecord) -> str:
    made = ArtifactStore(home).require("synthesize", record.stages["synthesize"].key)
    return made.manifest.files["demonstrations.parquet"].sha256


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


def wait_for(path: Path, pattern: str) -> Path:
    """The first file that matches, as soon as there is one."""
    wait_until(lambda: any(path.glob(pattern)))
    return next(path.glob(pattern))


def wait_until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)


# Whoever starts the tests in the background has SIGINT ignored, which is inherited.
SLOW = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    " from tests.integration.toy_flows import slow; slow()"
)


def test_a_killed_run_is_marked_and_the_next_one_goes_on_from_its_checkpoint(
    journeyman_home: Path, client: SyncPrefectClient
) -> None:
    process = start(SLOW)
    wait_for(journeyman_home, "work/*/checkpoint")
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
    children = client.read_flow_runs(flow_run_filter=children_of(crashed))
    flows = [*client.read_flow_runs(flow_run_filter=own), *children]
    assert [run.state_name for run in flows] == ["Crashed", "Crashed"]
    assert set(task_states(client, crashed).values()) == {"Crashed"}


def test_a_run_that_is_interrupted_ends_cancelled(journeyman_home: Path) -> None:
    process = start(SLOW)
    checkpoint = wait_for(journeyman_home, "work/*/checkpoint")
    process.send_signal(signal.SIGINT)
    process.wait(timeout=120)
    record = RunStore(journeyman_home).find()
    assert (record.status, record.stages["synthesize"].status) == (Status.CANCELLED, Status.CANCELLED)
    assert (checkpoint.parent / "closed").read_text() == str(process.pid), "the stage cleaned up"


@pytest.fixture
def worker(prefect_server: str, journeyman_home: Path, client: SyncPrefectClient) -> Iterator[None]:
    """A real worker, that has the test's home."""
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "toys", "--type", "process"]
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    yield
    stop(process)


def test_a_run_that_is_cancelled_in_the_browser_ends_cancelled(
    worker: None, journeyman_home: Path, client: SyncPrefectClient
) -> None:
    client.create_work_pool(WorkPoolCreate(name="toys", type="process"), overwrite=True)
    deployment = client.create_deployment(
        flow_id=client.create_flow(slow),
        name="toy",
        entrypoint="tests.integration.toy_flows.slow",
        work_pool_name="toys",
        pull_steps=[{"prefect.deployments.steps.set_working_directory": {"directory": str(ROOT)}}],
    )
    flow_run = client.create_flow_run_from_deployment(deployment, parameters={"on_ray": True})
    checkpoint = wait_for(journeyman_home, "work/*/checkpoint")
    client.set_flow_run_state(flow_run.id, Cancelling(), force=True)
    wait_until(lambda: client.read_flow_run(flow_run.id).state_name == "Cancelled")
    record = RunStore(journeyman_home).find()
    assert record.flow_run_id == str(flow_run.id)
    wait_until(lambda: RunStore(journeyman_home).find().status == Status.CANCELLED)
    assert (checkpoint.parent / "closed").exists(), "the stage cleaned up"
    raylet = int((checkpoint.parent / "raylet").read_text())
    wait_until(lambda: not Path(f"/proc/{raylet}").exists())
    wait_until(lambda: not RunStore(journeyman_home).alive(record.id))
    assert task_states(client, record), "none is left running"


def test_the_deployments_register_and_refuse_unknown_keys(
    prefect_server: str, client: SyncPrefectClient, journeyman_home: Path
) -> None:
    client.create_work_pool(WorkPoolCreate(name="journeyman", type="process"), overwrite=True)
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=240)
    whole = client.read_deployment_by_name("pipeline/quickstart")
    assert whole.parameters == {"config": pipelines()["quickstart"]}
    assert [schedule.active for schedule in whole.schedules] == [False]
    assert whole.global_concurrency_limit is not None and whole.global_concurrency_limit.limit == 1
    block = client.read_deployment_by_name("rl/quickstart").parameters["block"]
    assert block == pipelines()["quickstart"]["rl"][0]
    with pytest.raises(PrefectHTTPStatusError, match="stepz"):
        client.create_flow_run_from_deployment(
            client.read_deployment_by_name("rl/quickstart").id,
            parameters={"block": {"name": "accuracy", "stepz": 3}},
        )
