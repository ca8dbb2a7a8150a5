"""`journeyman tool`: observations as JSON and exit code 0, bad usage and exit code 2."""

import json
from pathlib import Path
from typing import Any

import pytest

from infra.cli import main


@pytest.fixture
def journeyman(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["journeyman", "tool", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


@pytest.mark.parametrize(
    ("name", "arguments", "ok", "output", "error"),
    [
        ("calculator", {"expression": "6*7"}, True, "42", None),
        ("calculator", {"expression": "6*"}, False, "", "not an arithmetic expression"),
        ("calculator", {}, False, "", "calculator takes expression"),
        ("sql", {"query": "select 1 + 1"}, True, "2", None),
        ("search", {"query": "xyzzy"}, True, "nothing found", None),
    ],
)
def test_an_observation_is_json_and_never_a_failure(
    journeyman: Any, name: str, arguments: dict[str, Any], ok: bool, output: str, error: str | None
) -> None:
    code, out, err = journeyman(name, "--args", json.dumps(arguments))
    said = json.loads(out)
    assert (code, err, out.count("\n")) == (0, "", 1)
    assert (said["name"], said["ok"], said["output"], said["error"]) == (name, ok, output, error)
    assert said["seconds"] >= 0


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("calculatr",), "no tool `calculatr`\n  remedy: did you mean `calculator`?"),
        (("calculator", "--args", "{"), "--args: not JSON"),
        (("calculator", "--args", "[1]"), "--args: not a JSON object"),
        (("calculator", "--set", "precision=3"), "--set: can't be made like this"),
        (("calculator", "--set", "3"), "--set: `3` is not name=value"),
        (("calculator", "--args", "{}", "--state", "STATE"), "STATE: not a state of calculator"),
        (("calculator", "--args", "{}", "--state", "BROKEN"), "BROKEN: not JSON"),
        (("--nonsense",), "No such option"),
        ((), "Missing argument"),
    ],
)
def test_bad_usage_is_exit_code_2_and_loses_nothing(
    journeyman: Any, tmp_path: Path, words: tuple[str, ...], complaint: str
) -> None:
    kept = {"STATE": '{"count": 1}', "BROKEN": "{"}
    for name, text in kept.items():
        (tmp_path / name).write_text(text)
    code, out, err = journeyman(*(str(tmp_path / word) if word in kept else word for word in words))
    assert (code, out) == (2, "") and complaint in err
    assert {name: (tmp_path / name).read_text() for name in kept} == kept


def test_what_the_model_is_told_of_a_tool(journeyman: Any) -> None:
    code, out, _ = journeyman("calculator", "--spec")
    function = json.loads(out)["function"]
    assert code == 0 and (function["name"], list(function["parameters"]["properties"])) == (
        "calculator",
        ["expression"],
    )
