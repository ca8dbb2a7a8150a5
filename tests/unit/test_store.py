"""The store as tables: what is in them, whose it is, and that nothing else can be read or changed."""

import re
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from journeyman.artifacts import ArtifactStore, Recipe
from journeyman.config import PipelineConfig
from journeyman.errors import DataError, UserError
from journeyman.runs import RunStore, StageRecord, Status, ended
from journeyman.store import committed, opened
from journeyman.synthesis.problems import write_problems
from journeyman.trajectory import write_trajectories
from tests.unit.fakes import problem, trajectory

README = Path(__file__).resolve().parents[2] / "README.md"


def make_run(home: Path, name: str, seed: int) -> str:
    """A run with a synthesize and an rl artifact; returns its id."""
    config = PipelineConfig(name=name, seed=seed)
    runs, store, stages = RunStore(home), ArtifactStore(home), {}
    record, lock = runs.create(config)
    lock.close()
    for stage in ("synthesize", "rl-accuracy", "evaluate"):
        recipe = Recipe(stage=stage, code_version="1", config={}, seed=seed, inputs={})
        with store.build(recipe) as draft:
            draft.made_by = {"run": record.id}
            if stage == "synthesize":
                write_problems([problem(f"{seed}?")], draft.out / "problems" / "train.parquet")
                write_problems([problem(f"{seed}!"), problem("both")], draft.out / "problems" / "dev.parquet")
                write_trajectories([trajectory(id=f"demo {seed}", calls=2)], draft.out / "demonstrations.parquet")
            else:
                rows = [trajectory(id=f"{stage} {seed} {n}", correct=bool(n)) for n in range(2)]
                write_trajectories(rows, draft.out / "trajectories.parquet")
            if stage == "evaluate":
                (draft.out / "report.json").write_text('{"stages": [{"name": "sft", "accuracy_greedy": 0.5}]}')
        stages[stage] = StageRecord(status=Status.COMPLETED, key=recipe.key, seconds=1.5)
    runs.save(ended(replace(record, stages=stages), Status.COMPLETED))
    return record.id


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home [1]'s")
    make_run(folder, "first", 1)
    make_run(folder, "second", 2)
    return folder


def asked(home: Path, query: str, run: str = "") -> list[tuple]:
    with opened(home, run=run) as store:
        return store.ask(query).fetchall()


def refused(home: Path, query: str) -> UserError:
    with opened(home) as store, pytest.raises(UserError) as error:
        store.ask(query).fetchall()
    return error.value


def test_views_by_hand(home: Path) -> None:
    with opened(home) as store:
        rows = {view.name: view.rows for view in store.views()}
    assert rows == {
        "trajectories": 10,  # of each run a demonstration, two of rl, two of evaluate
        "demonstrations": 2,
        "rollouts": 4,
        "evaluations": 4,
        "problems": 6,
        "runs": 2,
        "stages": 6,
        "reports": 2,
    }
    found = asked(home, "SELECT stage, file, count(*), sum(len(turns)) FROM trajectories GROUP BY ALL ORDER BY ALL")
    assert found == [
        ("evaluate", "trajectories", 4, 8),
        ("rl-accuracy", "trajectories", 4, 8),
        ("synthesize", "demonstrations", 2, 6),  # two calls and an answer each
    ]
    assert asked(home, "SELECT split, count(*) FROM problems GROUP BY ALL ORDER BY ALL") == [("dev", 4), ("train", 2)]
    assert asked(home, "SELECT DISTINCT policy, accuracy_greedy FROM reports") == [("sft", 0.5)]


def test_rows_name_the_run_that_made_them(home: Path) -> None:
    query = """SELECT pipeline, trajectories.id FROM trajectories JOIN runs USING (run)
        WHERE trajectories.stage = 'synthesize' ORDER BY 1"""
    assert asked(home, query) == [("first", "demo 1"), ("second", "demo 2")]
    joined = "SELECT count(*) FROM trajectories JOIN stages USING (run, stage, artifact)"
    assert asked(home, joined) == [(10,)]


def test_one_run_alone(home: Path) -> None:
    assert asked(home, "SELECT id FROM demonstrations", run="first") == [("demo 1",)]
    assert asked(home, "SELECT id FROM demonstrations", run="latest") == [("demo 2",)]
    assert asked(home, "SELECT pipeline FROM runs", run="first") == [("first",)]
    with pytest.raises(DataError, match="there is no run"), opened(home, run="third"):
        pass


def test_a_run_has_what_another_one_made_for_it(home: Path, tmp_path: Path) -> None:
    """A cached stage: the artifact is the run's, and `run` says who made it."""
    runs, first = RunStore(tmp_path), make_run(tmp_path, "first", 1)
    record, lock = runs.create(PipelineConfig(name="third"))
    lock.close()
    cached = {"synthesize": replace(runs.load(first).stages["synthesize"], status=Status.CACHED)}
    runs.save(ended(replace(record, stages=cached), Status.COMPLETED))
    assert asked(tmp_path, "SELECT run, file FROM trajectories", run="third") == [(first, "demonstrations")]


def test_columns_that_only_some_files_have(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    for seed, query in ((1, "SELECT 1 AS a, 'x' AS stage"), (2, "SELECT 2 AS b, 'y' AS stage")):
        with store.build(Recipe(stage="other", code_version="1", config={}, seed=seed, inputs={})) as draft:
            duckdb.execute(f"COPY ({query}) TO '{draft.out / 'Odd-Name.parquet'}'")
    # a column that the file itself has is not covered by ours
    assert asked(tmp_path, "SELECT a, b, stage FROM odd_name ORDER BY stage") == [(1, None, "x"), (None, 2, "y")]


def test_what_curation_dropped_of_problems_is_no_problem(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    with store.build(Recipe(stage="curate", code_version="1", config={}, seed=1, inputs={})) as draft:
        for name in ("train", "dropped"):
            write_problems([problem(name)], draft.out / "problems" / f"{name}.parquet")
    assert asked(tmp_path, "SELECT split, question FROM problems") == [("train", "train")]
    assert asked(tmp_path, "SELECT question FROM dropped_problems") == [("dropped",)]


def test_only_what_is_committed_is_read(home: Path, tmp_path: Path) -> None:
    make_run(tmp_path, "first", 1)
    (half,) = (tmp_path / "artifacts" / "synthesize").iterdir()
    (half / "COMMITTED").unlink()
    assert {artifact.stage for artifact in committed(tmp_path)} == {"rl-accuracy", "evaluate"}
    with opened(tmp_path) as store:
        assert "demonstrations" not in {view.name for view in store.views()}
    (altered,) = (tmp_path / "artifacts" / "evaluate").iterdir()
    (altered / "manifest.json").write_text("{}")
    assert {artifact.stage for artifact in committed(tmp_path)} == {"rl-accuracy"}


def test_an_empty_store_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no artifact with rows") as error, opened(tmp_path):
        pass
    assert "journeyman run" in error.value.remedy


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    make_run(tmp_path, "first", 1)
    (file,) = (tmp_path / "artifacts" / "rl-accuracy").glob("*/trajectories.parquet")
    file.write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="can't be read"), opened(tmp_path):
        pass


@pytest.mark.parametrize(
    "query",
    [
        "COPY (SELECT 1) TO '{0}/x.csv'",
        "COPY (SELECT 1) TO '{0}/x.parquet' (FORMAT parquet)",
        "CREATE TABLE t AS SELECT 1",
        "DROP VIEW problems",
        "SET memory_limit = '90GB'",
        "ATTACH '{0}/x.db'",
        "INSTALL httpfs",
        "PRAGMA version",
        "SELECT 1; DROP VIEW problems",
        "",
    ],
)
def test_nothing_can_be_changed(home: Path, tmp_path: Path, query: str) -> None:
    assert "ask one SELECT" in refused(home, query.format(tmp_path)).remedy
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_text('{0}')",
        "SELECT * FROM read_csv('{0}')",
        "SELECT * FROM '{0}'",
        "SELECT * FROM glob('/*')",
    ],
)
def test_nothing_outside_of_the_store_can_be_read(home: Path, tmp_path: Path, query: str) -> None:
    (tmp_path / "secret.csv").write_text("a,b\n1,2\n")
    assert "disabled" in refused(home, query.format(tmp_path / "secret.csv")).message


def test_what_python_holds_is_no_table(home: Path) -> None:
    secret = pa.table({"a": [1]})
    assert secret.num_rows == 1
    assert "there is no view `secret`" in refused(home, "SELECT * FROM secret").message


def test_the_nearest_view_and_column_are_told(home: Path) -> None:
    error = refused(home, "SELECT * FROM trajectoris")
    assert (error.message, error.remedy) == ("there is no view `trajectoris`", "did you mean `trajectories`?")
    error = refused(home, "SELECT famly FROM problems")
    assert error.message.startswith("there is no column `famly`")
    assert error.remedy.startswith("did you mean `family`? It is in ") and "problems" in error.remedy
    assert "lists the views" in refused(home, "SELECT zzzzqqq FROM problems").remedy
    assert "lists the views" in refused(home, "SELEC 1").remedy


def test_what_fails_while_it_runs_is_a_user_error_too(home: Path) -> None:
    with opened(home) as store:
        relation = store.ask("SELECT question::INTEGER FROM problems")
        with pytest.raises(duckdb.Error) as error:
            relation.fetchall()
        assert "Could not convert" in store.told(error.value).message


def test_the_examples_of_the_readme_can_be_asked(tmp_path: Path) -> None:
    make_run(tmp_path, "first", 1)
    with ArtifactStore(tmp_path).build(Recipe(stage="curate", code_version="1", config={}, seed=1, inputs={})) as draft:
        dropped = draft.out / "dropped.parquet"
        duckdb.execute(f"COPY (SELECT 'exact' AS rule, 'same' AS reason, 'How many?' AS question) TO '{dropped}'")
    section = README.read_text().split("## Ask the store")[1].split("\n## ")[0]
    by_file, of_dropped, of_turns = (
        asked(tmp_path, query) for query in re.findall('journeyman sql "([^"]+)"', section)
    )
    assert [row[:2] for row in by_file] == [("demonstrations", "arithmetic"), ("trajectories", "arithmetic")]
    assert of_dropped == [("exact", "same", "How many?")]
    assert of_turns == [], "no turn has two calls"


def test_describe_and_summarize_are_questions(home: Path) -> None:
    assert ("run", "VARCHAR") in [row[:2] for row in asked(home, "DESCRIBE runs")]
    assert len(asked(home, "SUMMARIZE runs")) == 8
    assert asked(home, "FROM runs SELECT count(*)") == [(2,)]
