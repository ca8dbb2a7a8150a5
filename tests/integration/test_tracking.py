"""Tracking with a real MLflow server: what is logged arrives in order and whole, whatever dies on the way."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from journeyman.tracking import StageTracker, Tracker
from journeyman.tracking.outbox import Outbox
from journeyman.tracking.server import Refused, Server
from journeyman.trajectory import StopReason, ToolCall, ToolResult, Trajectory, Turn

pytestmark = pytest.mark.integration


class MlflowServer:
    """A server with a store of its own, which can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        options = {
            "--host": "127.0.0.1",
            "--port": str(self.port),
            "--workers": "1",
            "--backend-store-uri": f"sqlite:///{self._folder / 'mlflow.db'}",
            "--artifacts-destination": str(self._folder / "artifacts"),
        }
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *(word for pair in options.items() for word in pair)],
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self.is_up, 120)

    def is_up(self) -> bool:
        try:
            with urlopen(f"{self.url}/health", timeout=5) as answer:
                return answer.status == 200
        except (URLError, ConnectionError, TimeoutError):
            return False

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()


def wait_until(done: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def tracker(server: MlflowServer, tmp_path: Path) -> Iterator[Tracker]:
    tracker = Tracker(server.url, tmp_path / "home")
    yield tracker
    tracker.close()


def client(server: MlflowServer) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(server.url)


def runs_named(server: MlflowServer, name: str) -> list[Any]:
    """Runs in the order of their start."""
    found = client(server).get_experiment_by_name("journeyman")
    condition = f"attributes.run_name = '{name}'"
    return client(server).search_runs([found.experiment_id], condition, order_by=["attributes.start_time ASC"])


def series(server: MlflowServer, run_id: str, name: str = "loss/total") -> list[tuple[int, float]]:
    history = client(server).get_metric_history(run_id, name)
    return [(point.step, point.value) for point in sorted(history, key=lambda point: point.step)]


def log(stage: StageTracker, first: int, last: int) -> None:
    for step in range(first, last + 1):
        stage.metrics({"loss/total": 1 / step, "optimizer/learning_rate": 0.001 * step}, step=step)


def expected(last: int) -> list[tuple[int, float]]:
    return [(step, 1 / step) for step in range(1, last + 1)]


def attempt(*, correct: bool) -> Trajectory:
    call = ToolCall(name="calculator", arguments={"expression": "2*3"})
    result = ToolResult(name="calculator", ok=correct, output="6" if correct else "no such tool", seconds=0.25)
    return Trajectory(
        id="t",
        problem_id="p",
        family="arithmetic",
        question="What is 2 times 3?",
        reference="6",
        tools=("calculator",),
        min_calls=1,
        turns=(
            Turn(text="<think>I multiply.</think>", calls=(call,), results=(result,), start=10, stop=30),
            Turn(text="<answer>6</answer>", start=35, stop=40),
        ),
        stop_reason=StopReason.ANSWER,
        answer="6",
        correct=correct,
        reward=float(correct),
        token_ids=tuple(range(40)),
        loss_mask=(1,) * 40,
        logprobs=(0.0,) * 40,
    )


def test_a_run_has_a_child_for_each_stage(server: MlflowServer, tracker: Tracker, tmp_path: Path) -> None:
    params = {"seed": 3, "sft": {"optimizer": {"type": "muon"}}, "rl": [{"name": "accuracy", "steps": 2}]}
    run = tracker.start_run("quickstart", "whole", params, {"git.sha": "abc"})
    stage = run.start_stage("sft", tmp_path / "work", {"steps": 700}, {"stage.key": "k1", "prefect.url": "http://p"})
    log(stage, 1, 700)
    assert run.url == f"{server.url}/#/experiments/{run.url.split('/')[-3]}/runs/{run.run_id}"
    stage.set_note("[Prefect run](http://p)")
    stage.finish()
    run.headline({"eval/accuracy_sampled": 0.5, "eval/accuracy_sampled/sft": 0.25})
    run.finish("FAILED")

    parent, child = (client(server).get_run(one.run_id) for one in (run, stage))
    assert (parent.info.status, child.info.status) == ("FAILED", "FINISHED")
    assert child.data.tags["mlflow.parentRunId"] == run.run_id
    assert (
        child.data.tags.items()
        >= {
            "kind": "stage",
            "stage": "sft",
            "pipeline": "quickstart",
            "stage.key": "k1",
            "prefect.url": "http://p",
            "mlflow.note.content": "[Prefect run](http://p)",
        }.items()
    )
    assert parent.data.tags.items() >= {"kind": "pipeline", "pipeline": "quickstart", "git.sha": "abc"}.items()
    assert parent.data.params == {
        "seed": "3",
        "sft.optimizer.type": "muon",
        "rl.accuracy.name": "accuracy",
        "rl.accuracy.steps": "2",
    }
    assert child.data.params == {"steps": "700"}
    assert parent.data.metrics == {"eval/accuracy_sampled": 0.5, "eval/accuracy_sampled/sft": 0.25}
    assert series(server, stage.run_id) == expected(700)
    stamps = [point.timestamp for point in client(server).get_metric_history(stage.run_id, "loss/total")]
    assert stamps == sorted(stamps)


def test_a_trajectory_is_a_trace_with_a_span_a_turn_and_a_span_a_call(
    server: MlflowServer, tracker: Tracker, tmp_path: Path
) -> None:
    run = tracker.start_run("quickstart", "traces", {}, {})
    stage = run.start_stage("rl-accuracy", tmp_path / "work", {}, {})
    stage.trajectories([attempt(correct=True), attempt(correct=False)], step=7)
    stage.finish()
    run.finish()

    experiment = client(server).get_run(run.run_id).info.experiment_id

    def search(condition: str) -> list[Any]:
        return client(server).search_traces(locations=[experiment], filter_string=condition, run_id=stage.run_id)

    found = search("tags.correct = 'true'")
    assert [(trace.info.tags["step"], trace.info.tags["reward"]) for trace in found] == [("7", "1")]
    spans = found[0].data.spans
    assert [(span.span_type, span.name) for span in spans] == [
        ("AGENT", "arithmetic"),
        ("LLM", "turn 1"),
        ("TOOL", "calculator"),
        ("LLM", "turn 2"),
    ]
    agent, first, call, second = spans
    assert {span.parent_id for span in spans[1:]} == {agent.span_id}
    assert (call.inputs, call.outputs) == ({"expression": "2*3"}, "6")
    assert call.end_time_ns - call.start_time_ns == 250_000_000
    assert first.outputs["content"] == "<think>I multiply.</think>"
    assert [message["role"] for message in second.inputs["messages"]] == ["user", "assistant", "tool"]
    assert (agent.attributes["reward"], agent.outputs) == (1.0, {"answer": "6"})
    wrong = search("tags.correct = 'false'")
    assert str(wrong[0].data.spans[2].status.status_code) == "SpanStatusCode.ERROR"


def test_inputs_artifacts_and_models_are_logged(server: MlflowServer, tracker: Tracker, tmp_path: Path) -> None:
    model = tmp_path / "policy"
    model.mkdir()
    (model / "config.json").write_text("{}")
    run = tracker.start_run("quickstart", "files", {}, {})
    stage = run.start_stage("sft", tmp_path / "work", {}, {})
    stage.log_input("curated", tmp_path / "kept.parquet", "5" * 64, 2400)
    stage.log_artifacts(model, "checkpoint")
    stage.log_model(model, "policy")
    stage.finish()
    run.finish()

    child = client(server).get_run(stage.run_id)
    [data] = child.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("curated", "5" * 36)
    assert [file.path for file in client(server).list_artifacts(stage.run_id, "checkpoint")] == [
        "checkpoint/config.json"
    ]
    [output] = child.outputs.model_outputs
    logged = client(server).get_logged_model(output.model_id)
    assert (logged.name, str(logged.status), logged.source_run_id) == ("policy", "READY", stage.run_id)


def test_a_comparison_reads_curves_and_keeps_its_page(server: MlflowServer, tracker: Tracker, tmp_path: Path) -> None:
    run = tracker.start_run("p", "compared", {}, {})
    stage = run.start_stage("rl-x", tmp_path / "work", {}, {})
    log(stage, 1, 3)
    stage.finish()
    run.finish()
    page = tmp_path / "page.html"
    page.write_text("<p>so</p>")
    found = Server(server.url, "journeyman")
    assert found.series(stage.run_id, ["loss/total", "rollout/accuracy"]) == {"loss/total": expected(3)}
    found.attach(run.run_id, page, "comparison")
    assert [file.path for file in client(server).list_artifacts(run.run_id, "comparison")] == ["comparison/page.html"]
    with pytest.raises(Refused):
        found.series("0" * 32, ["loss/total"])


def test_what_the_server_refuses_is_put_aside_and_the_rest_goes_on(
    server: MlflowServer, tracker: Tracker, tmp_path: Path
) -> None:
    run = tracker.start_run("quickstart", "refused", {}, {})
    stage = run.start_stage("sft", tmp_path / "work", {}, {})
    stage.log_artifacts(tmp_path / "nowhere", "checkpoint")
    log(stage, 1, 3)
    stage.finish()
    run.finish()
    [kept] = (tmp_path / "home" / "tracking" / "rejected").iterdir()
    assert "nowhere" in kept.read_text()
    assert client(server).get_run(stage.run_id).info.status == "FINISHED"
    assert series(server, stage.run_id) == expected(3)


def test_metric_names_are_those_of_the_list(tmp_path: Path) -> None:
    run = Tracker(None, tmp_path).start_run("quickstart", "names", {}, {})
    with pytest.raises(ValueError, match="loss/totl"):
        run.start_stage("sft", tmp_path / "work", {}, {}).metrics({"loss/totl": 1.0}, step=1)
    with pytest.raises(ValueError, match="accuracy"):
        run.headline({"accuracy": 1.0})


def test_without_a_server_only_the_spool_is_written(tmp_path: Path) -> None:
    tracker = Tracker(None, tmp_path / "home")
    run = tracker.start_run("quickstart", "none", {}, {})
    stage = run.start_stage("sft", tmp_path / "work", {}, {})
    seen: list[tuple[float, float, str]] = []
    told = run.start_stage("rl-a", tmp_path / "work2", {}, {}, on_progress=lambda *call: seen.append(call))
    told.progress(1, 2, "half")
    log(stage, 1, 3)
    stage.trajectories([attempt(correct=True)], step=1)
    stage.finish()
    run.finish()
    assert (run.run_id, run.url, tracker.resend(), tracker.reap()) == ("", "", 0, 0)
    assert len((tmp_path / "work" / "metrics.jsonl").read_text().splitlines()) == 3
    assert not (tmp_path / "home").exists()
    assert seen == [(1, 2, "half")]


DYING = """
import os, signal, sys
from pathlib import Path
from journeyman.tracking import Tracker
home, work, url, name = sys.argv[1:]
run = Tracker(url, Path(home)).start_run("quickstart", name, {"seed": 1}, {})
stage = run.start_stage("rl-accuracy", Path(work), {}, {})
for step in range(1, 26):
    stage.metrics({"loss/total": 1 / step, "optimizer/learning_rate": 0.001 * step}, step=step)
run.headline({"dev/accuracy_greedy": 0.5})
os.kill(os.getpid(), signal.SIGKILL)
"""


def track_and_die(home: Path, work: Path, url: str, name: str) -> None:
    done = subprocess.run([sys.executable, "-c", DYING, str(home), str(work), url, name])
    assert done.returncode == -signal.SIGKILL


def test_a_killed_run_is_reaped_and_its_resumed_stage_has_the_whole_series(
    server: MlflowServer, tracker: Tracker, tmp_path: Path
) -> None:
    track_and_die(tmp_path / "home", tmp_path / "work", server.url, "killed")
    [parent] = runs_named(server, "killed")
    assert parent.info.status == "RUNNING"
    assert tracker.reap() == 2
    [child] = [
        run for run in runs_named(server, "rl-accuracy") if run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    ]
    dead = client(server).get_run(parent.info.run_id)
    assert (dead.info.status, child.info.status) == ("KILLED", "KILLED")
    assert dead.data.metrics == {"dev/accuracy_greedy": 0.5}
    assert series(server, child.info.run_id) == expected(25), "what it had not sent is there"

    run = tracker.start_run("quickstart", "resumed", {}, {})
    stage = run.start_stage("rl-accuracy", tmp_path / "work", {}, {})
    stage.rewind(20)
    log(stage, 21, 40)
    stage.finish()
    run.finish()
    assert series(server, stage.run_id) == expected(40)
    assert series(server, child.info.run_id) == expected(25)


def test_runs_of_dead_processes_are_reaped_without_their_folders(
    server: MlflowServer, tracker: Tracker, tmp_path: Path
) -> None:
    track_and_die(tmp_path / "lost", tmp_path / "work", server.url, "orphan")
    alive = tracker.start_run("quickstart", "alive", {}, {})
    assert tracker.reap() == 2
    assert runs_named(server, "orphan")[0].info.status == "KILLED"
    assert client(server).get_run(alive.run_id).info.status == "RUNNING"
    alive.finish()


def test_a_server_that_hangs_delays_nothing(server: MlflowServer, tmp_path: Path) -> None:
    tracker = Tracker(server.url, tmp_path / "home", patience_s=1.0)
    run = tracker.start_run("quickstart", "hanging", {}, {})
    wait_until(lambda: run.run_id != "", 20)
    stage = run.start_stage("sft", tmp_path / "work", {}, {})
    server.signal(signal.SIGSTOP)
    try:
        log(stage, 1, 50)
        stage.finish()
        assert Outbox(tmp_path / "home" / "tracking").uids(), "the end could not be sent"
    finally:
        server.signal(signal.SIGCONT)
    run.finish()
    wait_until(lambda: not Outbox(tmp_path / "home" / "tracking").uids(), 60)
    tracker.close()
    assert series(server, stage.run_id) == expected(50)


def test_a_server_that_is_killed_and_started_again_has_everything(server: MlflowServer, tmp_path: Path) -> None:
    home = tmp_path / "home"
    tracker = Tracker(server.url, home, patience_s=5.0)
    run = tracker.start_run("quickstart", "cut", {}, {})
    stage = run.start_stage("sft", tmp_path / "work", {}, {})
    log(stage, 1, 100)
    server.kill()
    log(stage, 101, 200)
    stage.trajectories([attempt(correct=True)], step=200)
    stage.finish()
    late = run.start_stage("rl-accuracy", tmp_path / "work-rl", {"steps": 1}, {})
    log(late, 1, 10)
    assert (late.run_id, late.url) == ("", ""), "it was begun while nobody was there"
    late.finish()
    run.finish()
    tracker.close()
    track_and_die(home, tmp_path / "work-dead", server.url, "begun in the dark")
    assert len(Outbox(home / "tracking").uids()) == 5

    server.start()
    second = Tracker(server.url, home)
    assert second.resend() == 5
    second.close()
    assert Outbox(home / "tracking").uids() == set()
    assert series(server, stage.run_id) == expected(200)
    [cut] = runs_named(server, "cut")
    [dark] = runs_named(server, "begun in the dark")
    assert (cut.info.status, dark.info.status) == ("FINISHED", "KILLED")
    children = {run.data.tags["mlflow.parentRunId"]: run for run in runs_named(server, "rl-accuracy")}
    assert series(server, children[cut.info.run_id].info.run_id) == expected(10)
    assert series(server, children[dark.info.run_id].info.run_id) == expected(25)
    traces = client(server).search_traces(locations=[cut.info.experiment_id], run_id=stage.run_id)
    assert len(traces) == 1
