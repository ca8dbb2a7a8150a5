"""The flows as Prefect sees them before they run: deployments, forms, imports. No server is needed."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import Flow
from prefect.utilities.callables import parameter_schema

from infra.deployments import pipelines
from journeyman.config import PipelineConfig, RlConfig, SftConfig

ROOT = Path(__file__).resolve().parents[2]
FLOWS = ("pipeline", "synthesize", "curate", "sft", "rl", "evaluate")
HEAVY = ("torch", "ray", "vllm", "duckdb", "mlflow", "datasets", "transformers", "pyarrow", "numpy", "pandas")

DOCUMENT = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
DEPLOYMENTS: list[dict[str, Any]] = DOCUMENT["deployments"]


def load(entrypoint: str) -> Flow:
    module, _, name = entrypoint.rpartition(".")
    return vars(import_module(module))[name]


def schema(name: str) -> dict[str, Any]:
    return parameter_schema(load(f"flows.{name}.{name}").fn).model_dump()


def test_every_flow_has_a_deployment_in_the_pool() -> None:
    found = {load(deployment["entrypoint"]).name for deployment in DEPLOYMENTS}
    assert found == set(FLOWS)
    assert {deployment["work_pool"]["name"] for deployment in DEPLOYMENTS} == {"journeyman"}


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: deployment["entrypoint"])
def test_entrypoints_are_modules_and_parameters_are_the_flows(deployment: dict[str, Any]) -> None:
    assert ":" not in deployment["entrypoint"], "a path-style entrypoint puts flows/ at the head of sys.path"
    flow = load(deployment["entrypoint"])
    assert isinstance(flow, Flow)
    assert set(deployment["parameters"]) <= set(schema(flow.name)["properties"])


def test_the_end_to_end_flow_is_scheduled_but_off_and_runs_queue_up() -> None:
    whole = [deployment for deployment in DEPLOYMENTS if deployment["entrypoint"] == "flows.pipeline.pipeline"]
    assert {deployment["name"] for deployment in whole} == {"quickstart", "gsm8k"}
    for deployment in whole:
        assert deployment["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}
        (schedule,) = deployment["schedules"]
        assert len(schedule["cron"].split()) == 5
        assert schedule["active"] is False
    assert not any("schedules" in deployment for deployment in DEPLOYMENTS if deployment not in whole)


def test_the_forms_are_prefilled_with_pipelines_that_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    known = pipelines()
    assert DOCUMENT["build"] == [{"infra.deployments.pipelines": {"id": "pipelines"}}]
    for deployment in DEPLOYMENTS:
        assert deployment["name"] in known
        for value in deployment["parameters"].values():
            assert value in known or value.startswith("{{ pipelines." + deployment["name"])
    assert PipelineConfig.model_validate(known["quickstart"]).name == "quickstart"
    assert known["quickstart"]["rl"], "the form of rl shows the first block"


@pytest.mark.parametrize("name", FLOWS)
def test_forms_have_titles_and_refuse_what_they_do_not_know(name: str) -> None:
    form = schema(name)
    assert all(field["title"] and field["description"] for field in form["properties"].values())
    models = [definition for definition in form["definitions"].values() if definition.get("type") == "object"]
    assert models
    for model in models:
        assert model["title"]
        assert model["additionalProperties"] is False
        assert all("title" in field or "$ref" in field for field in model["properties"].values())


def test_parameters_from_a_form_become_models() -> None:
    rl = load("flows.rl.rl")
    block = rl.validate_parameters({"from_run": "latest", "block": {"name": "accuracy", "steps": 3}})["block"]
    assert block == RlConfig(name="accuracy", steps=3)
    assert rl.validate_parameters({"block": "accuracy"})["block"] == "accuracy"
    sft = load("flows.sft.sft")
    assert sft.validate_parameters({"options": {"steps": 5}})["options"] == SftConfig(steps=5)
    assert sft.validate_parameters({})["options"] is None


@pytest.mark.parametrize("name", FLOWS)
def test_the_end_of_a_flow_is_recorded_however_it_comes(name: str) -> None:
    flow = load(f"flows.{name}.{name}")
    assert [hook.__name__ for hook in flow.on_cancellation_hooks] == ["mark_cancelled"]
    assert [hook.__name__ for hook in flow.on_crashed_hooks] == ["mark_crashed"]


def test_flows_import_nothing_heavy() -> None:
    program = f"import sys, flows.pipeline; print(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []


def test_importing_the_tasks_sets_nothing() -> None:
    program = (
        "import os, signal, prefect; before = dict(os.environ), signal.getsignal(signal.SIGTERM);"
        "import tasks.data, tasks.training, tasks.evaluation;"
        "print((dict(os.environ), signal.getsignal(signal.SIGTERM)) == before)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["True"]
