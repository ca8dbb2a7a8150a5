"""`journeyman replay`: what is written, what is refused, and tau2's gold actions in full."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.cli import main
from journeyman.environments.tau2.database import state_hash
from journeyman.environments.tau2.replay import gold_runs, read_runs, replay, write_replay
from journeyman.environments.tau2.world import Domain
from journeyman.errors import DataError

TASK = {
    "id": "7",
    "user_scenario": {"instructions": "You want to see it done."},
    "initial_state": {
        "initialization_actions": [
            {"env_type": "assistant", "func_name": "create_task", "arguments": {"user_id": "u", "title": "Two"}}
        ]
    },
    "evaluation_criteria": {"actions": [{"name": "update_task_status", "arguments": {}}]},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "mock"
    made.mkdir()
    task = {"task_id": "task_1", "title": "One", "description": "", "status": "pending"}
    tables = {"tasks": {"task_1": task}, "users": {"u": {"user_id": "u", "name": "U", "tasks": ["task_1"]}}}
    (made / "db.json").write_text(json.dumps(tables))
    (made / "tasks.json").write_text(json.dumps([TASK]))
    return made


def command(monkeypatch: pytest.MonkeyPatch, folder: Path, *more: str, actions: str = "a.jsonl") -> int:
    """The exit code."""
    arguments = ["--format", "tau2", "--domain", str(folder), "--actions", str(folder.parent / actions)]
    out = ["--out", str(folder.parent / "out")]
    monkeypatch.setattr(sys, "argv", ["journeyman", "replay", *arguments, *out, *more])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code if isinstance(end.value.code, int) else 0


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


DONE = {"name": "update_task_status", "arguments": {"task_id": "task_1", "status": "completed"}}
MORE = {"name": "create_task", "arguments": {"user_id": "u", "title": "New"}}
WRONG = {"name": "update_task_status", "arguments": {"task_id": "task_9", "status": "completed"}}


def test_actions_line_by_line_are_one_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder.parent / "a.jsonl").write_text("\n".join(map(json.dumps, (DONE, WRONG, MORE))) + "\n\n")
    assert command(monkeypatch, folder) == 0
    assert "1 runs, 3 actions: 2 worked, 1 failed" in capsys.readouterr().out
    out = folder.parent / "out"
    seen = lines(out / "observations.jsonl")
    assert [(one["index"], one["name"], one["ok"]) for one in seen] == [
        *((0, "update_task_status", True), (1, "update_task_status", False), (2, "create_task", True)),
    ]
    assert json.loads(seen[0]["output"])["status"] == "completed" and seen[0]["error"] is None
    assert (seen[1]["output"], seen[1]["error"], seen[1]["arguments"]) == (
        "",
        "Task task_9 not found",
        WRONG["arguments"],
    )
    changed = {one["path"]: one for one in lines(out / "changes.jsonl")}
    assert set(changed) == {"tasks/task_1", "tasks/task_2", "users/u"}
    assert changed["tasks/task_1"]["before"]["status"] == "pending"
    assert changed["tasks/task_1"]["after"]["status"] == "completed"
    assert changed["tasks/task_2"]["before"] is None
    final = json.loads((out / "final.json").read_text())
    [run] = final["runs"]
    assert (run["actions"], run["ok"], run["failed"], run["changed"]) == (3, 2, 1, 3)
    assert run["db_hash"] == state_hash(final["db"]) and final["db"]["users"]["u"]["tasks"] == ["task_1", "task_2"]


def test_runs_of_a_task_begin_as_the_task_says_and_know_nothing_of_each_other(folder: Path) -> None:
    path = folder.parent / "b.jsonl"
    rows = [
        {"task_id": "7", "actions": [{**DONE, "arguments": {"task_id": "task_2", "status": "completed"}}]},
        [DONE, {"name": "check_notifications", "requestor": "user"}],
        TASK,
        {**DONE, "task_id": "7"},
        {**MORE, "task_id": "7"},
        DONE,
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    domain = Domain.of_folder(folder)
    runs = read_runs(path, domain)
    assert [(run.task_id, len(run.actions)) for run in runs] == [("7", 1), ("", 2), ("7", 1), ("7", 2), ("", 1)]
    summary = write_replay(domain, runs, folder.parent / "out", full=True)
    assert [(run["ok"], run["changed"]) for run in summary["runs"]] == [(1, 2), (2, 1), (0, 2), (2, 4), (1, 1)]
    assert summary["runs"][1]["db_hash"] == summary["runs"][4]["db_hash"] != summary["runs"][0]["db_hash"]
    assert "db" not in json.loads((folder.parent / "out" / "final.json").read_text())
    first = json.loads((folder.parent / "out" / "final-0.json").read_text())["db"]["tasks"]
    assert (first["task_1"]["status"], first["task_2"]["status"]) == ("pending", "completed")


BROKEN = (
    ('{"name": "x"}\n{', r"a\.jsonl:2: not JSON"),
    ("7", r"a\.jsonl:1: neither an action nor a list of actions"),
    ('\n{"actions": [{"arguments": {}}]}', r"a\.jsonl:2: not an action: name"),
    ('{"name": "x", "arguments": []}', r"a\.jsonl:1: not an action: arguments"),
    ('{"name": "x", "requestor": "cat"}', r"a\.jsonl:1: not an action: requestor"),
    ('{"task_id": "99", "actions": []}', r"a\.jsonl:1: the domain mock has no task '99'"),
    ('{"task_id": "7"}', r"a\.jsonl:1: neither"),
    ("", "there are no actions"),
)


@pytest.mark.parametrize(("text", "message"), BROKEN)
def test_a_broken_file_is_told_by_line(folder: Path, text: str, message: str) -> None:
    path = folder.parent / "a.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_runs(path, Domain.of_folder(folder))


def test_bad_usage_is_exit_code_two(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, folder, actions="none.jsonl") == 2
    assert "none.jsonl: can't be read" in capsys.readouterr().err
    (folder.parent / "a.jsonl").write_text("{")
    assert command(monkeypatch, folder) == 2
    assert "a.jsonl:1: not JSON" in capsys.readouterr().err
    assert command(monkeypatch, folder, "--name", "airline") == 2
    assert "no domain 'airline'; there are" in capsys.readouterr().err
    assert command(monkeypatch, folder, "--format", "tau3") == 2
    assert command(monkeypatch, folder.parent / "nowhere") == 2
    (folder / "db.json").write_text('{"tasks": []}')
    assert command(monkeypatch, folder) == 2
    assert "not tables of records" in capsys.readouterr().err
    (folder / "db.json").write_text('{"tasks": {}, "users": {"u": {}}}')
    (folder.parent / "a.jsonl").write_text(json.dumps(MORE))
    assert command(monkeypatch, folder) == 2
    assert "the records are not those of the domain: create_task" in capsys.readouterr().err


def test_a_task_that_can_not_begin_is_told(folder: Path) -> None:
    wrong = {**TASK, "initial_state": {"initialization_actions": [{"func_name": "nothing", "arguments": {}}]}}
    (folder / "tasks.json").write_text(json.dumps([wrong]))
    domain = Domain.of_folder(folder)
    with pytest.raises(DataError, match=r"task 7: can't begin: there is no function nothing"):
        list(replay(domain, gold_runs(domain)))


FAIL_ON_PURPOSE = {
    **{"2": 1, "3": 1, "4": 1, "35": 1, "37": 1, "38": 1, "39": 1, "46": 2, "47": 2, "54": 1, "55": 1},
    **{"64": 1, "67": 2, "68": 1, "105": 1},
}
"""Gold actions of retail that look for what isn't there, or try what the shop refuses, by task."""


def test_all_gold_actions_of_tau2_replay(shared_data: Path) -> None:
    folder = shared_data / "tau2_retail_mock"
    if not folder.is_dir():
        pytest.skip("tau2_retail_mock is not among the data sets")
    counts = {}
    for name in ("mock", "retail"):
        domain = Domain.of_folder(folder / name)
        replayed = list(replay(domain, gold_runs(domain)))
        failed = {
            one.run.task_id: sum(not observation.ok for observation in one.observations)
            for one in replayed
            if not all(observation.ok for observation in one.observations)
        }
        counts[name] = (len(replayed), sum(len(one.observations) for one in replayed), sum(failed.values()))
        if name == "retail":
            assert failed == FAIL_ON_PURPOSE
    assert counts == {"mock": (10, 8, 0), "retail": (114, 550, 18)}
