"""The command line: what it imports, what it says to wrong input, what it prints."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from infra.cli import main
from infra.rerun import stage_call
from infra.tables import early_ends
from journeyman.artifacts import ArtifactStore, Recipe
from journeyman.config import PipelineConfig, RlConfig
from journeyman.errors import ConfigError
from journeyman.evaluation.report import write_report
from journeyman.runs import RunRecord, RunStore, StageRecord, Status, ended

HEAVY = ("torch", "ray", "prefect", "mlflow", "duckdb", "transformers")
PIPELINES = """
pipelines:
  small:
    sft: {steps: 3}
    rl:
      - {name: accuracy, steps: 2}
      - {name: efficiency, steps: 2}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a pipelines.yaml and an empty home; commands are given there."""
    (tmp_path / "pipelines.yaml").write_text(PIPELINES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JOURNEYMAN_HOME", str(tmp_path / "home"))
    for name in ("PREFECT", "MLFLOW", "RAY"):
        monkeypatch.delenv(f"JOURNEYMAN_{name}_PORT", raising=False)
    return tmp_path


def journeyman(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of a command, run in this process."""
    monkeypatch.setattr(sys, "argv", ["journeyman", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code if isinstance(end.value.code, int) else 0


def a_run(home: Path, *, evaluate_key: str = "") -> RunRecord:
    """A finished run on disk; it has a report where a key is given."""
    config = PipelineConfig(name="small", rl=[RlConfig(name="accuracy"), RlConfig(name="efficiency")])
    runs = RunStore(home)
    record, lock = runs.create(config)
    lock.close()
    stages = {"sft": StageRecord(status=Status.COMPLETED, key="a", seconds=75.0)}
    if evaluate_key:
        stages["evaluate"] = StageRecord(status=Status.CACHED, key=evaluate_key)
    record = ended(replace(record, stages=stages), Status.COMPLETED)
    runs.save(record)
    return record


def test_the_command_line_imports_nothing_heavy() -> None:
    code = f"import sys, infra.cli; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_names_every_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert journeyman(monkeypatch, "--help") == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("run", "stage", "up", "down", "catalog", "show", "runs", "report"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "smal"], "no pipeline `smal`"),
        (["run", "small", "--set", "sft.stepz=3"], "unknown key"),
        (["run", "small", "--set", "rl.acuracy.steps=3"], "acuracy"),
        (["run", "small", "--set", "model.path=no/such/folder"], "no/such/folder"),
        (["run", "--file", "elsewhere.yaml"], "elsewhere.yaml: cannot be read"),
        (["show", "other"], "no pipeline `other`"),
        (["stage", "sft"], "there is no run `latest`"),
        (["stage", "trian"], "no stage `trian`"),
        (["stage", "sft", "--name", "accuracy"], "stage sft has no blocks"),
        (["report"], "no run has a report yet"),
        (["report", "small-1"], "there is no run `small-1`"),
    ],
)
def test_wrong_input_is_one_message_and_exit_code_2(
    arguments: list[str],
    told: str,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert journeyman(monkeypatch, *arguments) == 2
    shown = capsys.readouterr()
    assert told in shown.err
    assert "remedy: " in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""
    assert not (project / "home").exists(), "wrong input leaves nothing behind"


def test_an_option_out_of_range_is_exit_code_2(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert journeyman(monkeypatch, "up", "--prefect-port", "70000") == 2


def test_show_prints_the_resolved_pipeline(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert journeyman(monkeypatch, "show", "small", "--set", "rl.accuracy.steps=7") == 0
    shown = yaml.safe_load(capsys.readouterr().out)["pipelines"]["small"]
    assert shown["sft"]["steps"] == 3
    assert [block["steps"] for block in shown["rl"]] == [7, 2]
    assert shown["evaluate"] == PipelineConfig().evaluate.model_dump(mode="json")


def test_catalog_lists_the_registered_parts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert journeyman(monkeypatch, "catalog") == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("calculator", "arithmetic", "correct", "grpo", "decontaminate", "vllm"))


def test_runs_lists_a_line_a_run(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = a_run(project / "home")
    assert journeyman(monkeypatch, "runs") == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if record.id in line)
    assert "completed" in line and "sft completed" in line


def test_report_is_that_of_the_latest_run_with_one(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = Recipe(stage="evaluate", code_version="1", config={}, seed=0, inputs={})
    with ArtifactStore(project / "home").build(recipe) as draft:
        write_report(PipelineConfig(), sampled={"base": []}, greedy={}, seconds={"base": 2.0}, out=draft.out)
    a_run(project / "home", evaluate_key=recipe.key)
    without = a_run(project / "home")
    assert journeyman(monkeypatch, "report", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert [(stage["name"], stage["seconds"]) for stage in shown["stages"]] == [("base", 2.0)]
    assert journeyman(monkeypatch, "report") == 0
    assert "base" in capsys.readouterr().out
    assert journeyman(monkeypatch, "report", without.id) == 2
    assert "has no report" in capsys.readouterr().err


def test_a_run_tells_why_a_block_ended_early(project: Path) -> None:
    why = {"accuracy": {"ended": "rollout/accuracy is 0.9, above 0.8"}, "efficiency": {}}
    store, stages = ArtifactStore(project / "home"), {}
    for name, told in why.items():
        recipe = Recipe(stage=f"rl-{name}", code_version="1", config={}, seed=0, inputs={})
        with store.build(recipe) as draft:
            draft.summary = {"steps": 4, **told}
        stages[recipe.stage] = StageRecord(status=Status.COMPLETED, key=recipe.key)
    record = replace(a_run(project / "home"), stages={"sft": StageRecord(key="a"), **stages})
    found = early_ends(project / "home", record)
    assert found == ["rl-accuracy ended after 4 steps: rollout/accuracy is 0.9, above 0.8"]


def test_a_damaged_report_is_not_shown(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = Recipe(stage="evaluate", code_version="1", config={}, seed=0, inputs={})
    with ArtifactStore(project / "home").build(recipe) as draft:
        (draft.out / "report.json").write_text("{}")
    record = a_run(project / "home", evaluate_key=recipe.key)
    assert draft.artifact is not None
    (draft.artifact.path / "report.json").write_text('{"stages": []}')
    assert journeyman(monkeypatch, "report", record.id) == 2
    assert "was altered" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stage", "override"),
    [("sft", "curate.rules=[]"), ("rl", "rl.efficiency.steps=9"), ("rl-efficiency", "seed=4"), ("evaluate", "seed=1")],
)
def test_a_stage_refuses_options_that_it_would_ignore(stage: str, override: str, project: Path) -> None:
    record = a_run(project / "home")
    with pytest.raises(ConfigError, match="alone can't use") as told:
        stage_call(project / "home", stage, block="", from_run=record.id, overrides=[override])
    assert override in told.value.place


def test_a_stage_takes_its_own_options(project: Path) -> None:
    record = a_run(project / "home")
    for stage, override in [("sft", "sft.steps=9"), ("rl-efficiency", "rl.efficiency.steps=9")]:
        assert callable(stage_call(project / "home", stage, block="", from_run=record.id, overrides=[override]))


def test_an_unknown_block_is_told_with_the_known_ones(project: Path) -> None:
    a_run(project / "home")
    with pytest.raises(ConfigError, match="no rl block `speed`") as told:
        stage_call(project / "home", "rl", block="speed", from_run="small", overrides=[])
    assert told.value.remedy == "one of accuracy, efficiency"


def test_a_server_that_the_environment_names_must_answer(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    assert journeyman(monkeypatch, "run", "small") == 2
    assert "PREFECT_API_URL: no server answers at http://127.0.0.1:1/api" in capsys.readouterr().err
