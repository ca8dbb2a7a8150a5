"""`journeyman benchmark` and `journeyman judge`: what is printed, written and refused, with which exit code."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from infra.cli import main
from journeyman.artifacts import HOME_VARIABLE
from journeyman.config import PipelineConfig
from journeyman.runs import RunStore, StageRecord, Status
from tests.unit.fakes import World


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path / "home"


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit code."""
    monkeypatch.setattr(sys, "argv", ["journeyman", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code if isinstance(end.value.code, int) else 0


SMALL = ("-s", "evaluate.max_turns=1", "-s", "evaluate.max_new_tokens=4", "-s", "evaluate.bootstrap=100")
ASKED = ("-o", "family=arithmetic", "-o", "count=3")


def test_a_models_report_is_written(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("environment", "--model", world.model, *ASKED, "--samples", 2, "--limit", 2, "--out", "out", *SMALL)
    assert command(monkeypatch, "benchmark", *arguments) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    [row] = report["stages"]
    assert (report["pipeline"], row["name"], row["problems"], row["samples"]) == (
        "benchmark-environment",
        "model",
        2,
        2,
    )
    assert set(row["measures"]) >= {"pass@1", "pass@2"} and report["counts"] == {"generated": 3, "asked": 2}
    assert "report.html" in capsys.readouterr().out


def test_a_runs_policies_are_found(
    world: World, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = RunStore(home)
    config = PipelineConfig(model=world.config.model, compute=world.config.compute)
    record, lock = store.create(config)
    lock.close()
    done = StageRecord(status=Status.COMPLETED, key="k")
    store.save(replace(record, stages={"sft": done, "rl-x": replace(done, key="gone")}))
    for name in ("base", "policy"):
        (home / "artifacts" / "sft" / "k").mkdir(parents=True, exist_ok=True)
        (home / "artifacts" / "sft" / "k" / name).symlink_to(world.model)
    arguments = ("benchmark", "environment", "--from-run", record.id, *ASKED, "--out", "out", *SMALL)
    assert command(monkeypatch, *arguments, "--policy", "base", "--policy", "sft") == 0
    assert [row["name"] for row in json.loads((tmp_path / "out" / "report.json").read_text())["stages"]] == [
        "base",
        "sft",
    ]
    assert command(monkeypatch, *arguments, "--policy", "rl-x") == 2
    assert "no policy `rl-x`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("gsm", "--model", "m"), "there is no benchmark `gsm`"),
        (("gsm8k",), "one of --model and --from-run"),
        (("gsm8k", "--model", "m", "--from-run", "r"), "one of --model and --from-run"),
        (("gsm8k", "--model", "nowhere"), "there is no model"),
        (("gsm8k", "--from-run", "latest"), "there is no run"),
        (("gsm8k", "--model", "m", "--out", "file"), "not a folder"),
        (("gsm8k", "--model", "m"), "this benchmark reads a file"),
        (("gsm8k", "--model", "m", "--path", "nowhere.jsonl"), "no such file"),
        (("gsm8k", "--model", "m", "-o", "count"), "not KEY=VALUE"),
        (("gsm8k", "--model", "m", "-o", "count=3"), "not an option"),
        (("gsm8k", "--model", "m", "-s", "sft.steps=3"), "only evaluate.* and compute.*"),
        (("gsm8k", "--model", "m", "-s", "evaluate.max_turn=3"), "max_turn"),
    ],
)
def test_what_is_wrong_is_said_before_a_model_is_loaded(
    arguments: tuple[str, ...],
    fault: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text("{}")
    (tmp_path / "file").write_text("")
    assert command(monkeypatch, "benchmark", *arguments) == 2
    told = capsys.readouterr().err
    assert fault in told and "remedy" in told


# ---- judge


@pytest.fixture
def items(tmp_path: Path) -> Path:
    rows = [
        {"prompt": f"{n} and 1?", "chosen": f"It is surely {n + 1}", "rejected": ["no", "0"], "reference": str(n + 1)}
        for n in range(4)
    ]
    file = tmp_path / "items.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def test_a_reward_is_judged(
    items: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Words of the reference: the right answers have it, the others don't."""
    arguments = ("--reward", "f1", "--out", "out", "--limit", 3, "--measures", "pairwise,swap")
    assert command(monkeypatch, "judge", items, *arguments) == 0
    report = json.loads((tmp_path / "out" / "judge.json").read_text())
    assert (report["judge"], report["items"], report["source"]) == ("f1", 3, "items.jsonl")
    assert report["measures"]["pairwise"]["macro"]["value"] == report["measures"]["swap"]["consistency"]["value"] == 1
    assert (tmp_path / "out" / "judge.html").is_file() and "pairwise" in capsys.readouterr().out


def test_the_gate_refuses_a_judge_that_falls_for_probes(
    items: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A reward that pays 1 whatever is said is fooled by all ten; words of the reference by none."""
    assert command(monkeypatch, "judge", items, "--reward", "f1", "--gate", "--measures", "pairwise") == 0
    assert command(monkeypatch, "judge", items, "--reward", "f1 + 1", "--gate") == 2
    assert "can be fooled" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("nowhere.jsonl", "--reward", "correct"), "no such file"),
        (("items.jsonl", "--reward", "corretc"), "there is no reward `corretc`"),
        (("items.jsonl", "--reward", "judged"), "--model"),
        (("items.jsonl", "--reward", "correct", "--compare"), "one of --reward and --compare"),
        (("items.jsonl",), "one of --reward and --compare"),
        (("items.jsonl", "--compare"), "nobody to ask"),
        (("items.jsonl", "--compare", "--url", "http://x/v1"), "which model"),
        (("items.jsonl", "--compare", "--model", "nowhere"), "there is no model"),
        (("items.jsonl", "--reward", "correct", "--measures", "pair"), "there is no `pair`"),
        (("items.jsonl", "--reward", "correct", "--format", "x"), "there is no `x`"),
        (("items.jsonl", "--reward", "correct", "--reduce", "x"), "there is no `x`"),
        (("items.jsonl", "--reward", "correct"), "--with-verdicts"),
        (("items.jsonl", "--reward", "correct", "--out", "items.jsonl"), "not a folder"),
    ],
)
def test_what_is_wrong_with_a_judge_is_said(
    arguments: tuple[str, ...],
    fault: str,
    items: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command(monkeypatch, "judge", *arguments) == 2
    told = capsys.readouterr().err
    assert fault in told and "remedy" in told
