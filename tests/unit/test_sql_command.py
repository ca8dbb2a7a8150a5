"""`journeyman sql`: what it prints and writes."""

import csv
import io
import json
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from infra.cli import main
from tests.unit.test_store import make_run

IDS = "SELECT id FROM trajectories ORDER BY id"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    make_run(folder, "first", 1)
    return folder


@pytest.fixture
def ask(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """What `journeyman sql` prints and its exit code."""

    def run(*arguments: str, home: Path = home) -> tuple[str, str, int]:
        monkeypatch.setenv("JOURNEYMAN_HOME", str(home))
        monkeypatch.setattr(sys, "argv", ["journeyman", "sql", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        printed = capsys.readouterr()
        return printed.out, printed.err, end.value.code if isinstance(end.value.code, int) else 0

    return run


def test_without_a_query_the_views_are_listed(ask) -> None:
    out, _, code = ask()
    assert code == 0
    assert [line.split()[0] for line in out.splitlines() if line[0] != " "][:2] == ["view", "trajectories"]
    listed = {view["view"]: view for view in json.loads(ask("--json")[0])}
    assert listed["rollouts"]["rows"] == 2 and listed["problems"]["columns"]["split"] == "VARCHAR"


def test_a_table_of_the_first_rows(ask) -> None:
    out, _, code = ask(IDS, "--rows", "2")
    assert code == 0
    assert [line.strip() for line in out.splitlines()] == [
        "id",
        "demo 1",
        "evaluate 1 0",
        "the first 2 rows; more by --rows, all by --json, --csv or --out",
    ]
    assert "the first" not in ask(IDS)[0]


def test_cells_are_short_and_printable(ask) -> None:
    out, _, _ = ask("SELECT 'a' || chr(27) || '[31m' || chr(10) || repeat('x', 100) AS t, NULL AS n, 0.1 + 0.2 AS f")
    shown = out.splitlines()[1].split()
    assert "\x1b" not in out and shown[0:2] == ["a", "[31m"] and shown[2].endswith("x…") and len(shown[2]) < 60
    assert shown[3:] == ["-", "0.3"]


def test_json_and_csv_have_all_rows_and_nested_values(ask) -> None:
    query = "SELECT id, turns[1].calls[1] AS call, sum(1) OVER () AS n FROM demonstrations"
    expected = {"id": "demo 1", "call": {"name": "calculator", "arguments": '{"expression": "6*7"}'}, "n": 1}
    assert json.loads(ask(query, "--json")[0]) == [expected]
    head, row = csv.reader(io.StringIO(ask(query, "--csv")[0]))
    assert head == ["id", "call", "n"] and json.loads(row[1]) == expected["call"]
    assert len(json.loads(ask("SELECT * FROM range(100)", "--json")[0])) == 100
    assert json.loads(ask("SELECT * FROM range(0)", "--json")[0]) == []
    assert len(json.loads(ask("SELECT * FROM range(100)", "--json", "--rows", "7")[0])) == 7


def test_out_writes_parquet(ask, tmp_path: Path) -> None:
    out, _, code = ask("SELECT * FROM range(25000)", "--out", str(tmp_path / "x.parquet"))
    assert (code, out) == (0, f"25000 rows written to {tmp_path / 'x.parquet'}\n")
    assert pq.read_table(tmp_path / "x.parquet")["range"].to_pylist() == list(range(25000))
    assert [path.name for path in tmp_path.iterdir()] == ["x.parquet"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["SELECT * FROM trajectoris"], "did you mean `trajectories`?"),
        (["SELECT famly FROM trajectories"], "did you mean `family`?"),
        (["DROP VIEW trajectories"], "ask one SELECT"),
        (["SELECT question::INTEGER FROM trajectories"], "Could not convert"),
        (["SELECT question::INTEGER FROM trajectories", "--json"], "Could not convert"),
        (["SELECT 1", "--json", "--csv"], "choose one of"),
        (["SELECT 1", "--out", "x.csv"], "end with .parquet"),
        (["SELECT 1", "--out", "/no/such/folder/x.parquet"], "can be written"),
        (["SELECT 1", "--run", "other"], "there is no run `other`"),
    ],
)
def test_wrong_input_is_one_message_and_exit_code_2(ask, arguments: list[str], told: str) -> None:
    _, error, code = ask(*arguments)
    assert (code, error.startswith("journeyman: "), told in error) == (2, True, True), error
    assert "Traceback" not in error


def test_an_empty_store_is_exit_code_2(ask, tmp_path: Path) -> None:
    _, error, code = ask("SELECT 1", home=tmp_path / "none")
    assert code == 2 and "no artifact with rows" in error
    assert not (tmp_path / "none").exists(), "a question makes nothing"
