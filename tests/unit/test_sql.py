"""SQL on files: read-only, bounded in rows, characters, time and memory, in both engines."""

import asyncio
import os
import sqlite3
import time
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.errors import DataError, InfrastructureError
from journeyman.tools import Sql
from journeyman.tools.base import ToolError
from journeyman.tools.schema import Schema, describe, read_schema
from journeyman.tools.sql import Bounds
from journeyman.tools.sql_process import Running, SqlProcess, close_idle
from tests.unit.fakes import call

MAKE = (
    "create table city (id integer primary key, name varchar)",
    "create table person (id integer primary key, name varchar, city_id integer, foreign key (city_id) references city(id))",
    "insert into city values (1, 'Alder'), (2, 'Birch')",
    "insert into person values (1, 'Ada', 1), (2, 'Bo', 2), (3, null, 1)",
)


@pytest.fixture(scope="module", params=["sqlite", "duckdb"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp(request.param) / "a db?.file"
    make(path, request.param)
    return path


def make(path: Path, engine: str) -> None:
    database = sqlite3.connect(path) if engine == "sqlite" else duckdb.connect(str(path))
    for statement in MAKE:
        database.execute(statement)
    if isinstance(database, sqlite3.Connection):
        database.commit()
    database.close()


def test_a_file_is_queried_as_text_and_as_values(path: Path) -> None:
    tool = Sql.of_file(path)
    joined = "select p.name, c.name from person p join city c on p.city_id = c.id order by p.id"
    assert call(tool, query=joined).output == "Ada | Alder\nBo | Birch\nnull | Alder"
    found = tool.rows("select count(*) as n, 'x' as t, null as z, 0.5e0 as f from person")
    assert found.columns == ("n", "t", "z", "f") and found.rows == ((3, "x", None, 0.5),)
    assert tool.rows("select id from person order by id", 2).rows == ((1,), (2,))
    assert call(tool, query="select * from person where id > 9").output == "no rows"


def test_the_schema_tells_columns_keys_and_links(path: Path) -> None:
    city, person = read_schema(Sql.of_file(path))
    assert (city.key, city.links, [column.name for column in city.columns]) == (("id",), (), ["id", "name"])
    [link] = person.links
    assert (link.columns, link.table, link.targets) == (("city_id",), "city", ("id",))
    tool = Schema(Sql.of_file(path))
    text = call(tool).output
    assert text == describe((city, person)) and text.count("\n") == 1
    assert text.casefold() in (
        "city(id integer, name varchar; key id)\n"
        "person(id integer, name varchar, city_id integer; key id; city_id -> city.id)",
    )
    assert call(tool, table="CITY").output == city.describe()
    assert call(tool, table="river").output == "error: there is no table river; there are city, person"


REFUSED = [
    *("", "select", "select 1; select 2", "select 1; drop table city", "explain select 1", "vacuum"),
    *("insert into city values (9, 'x')", "update city set name = 'x'", "delete from city", "drop table city"),
    *("create table x (a int)", "create temp table x (a int)", "create view x as select 1", "begin", "commit"),
    "with x as (select 1) insert into city values (9, 'x')",
    *("attach 'other.db' as other", "detach main", "pragma writable_schema = on", "pragma journal_mode"),
    *("vacuum into 'stolen.db'", "copy city to 'stolen.csv'", "export database 'stolen'", "install httpfs"),
    *("select load_extension('x')", "select readfile('a db?.file')", "select writefile('stolen', 'x')"),
    *("select * from read_text('secret.txt')", "select * from 'secret.csv'", "select * from glob('*')"),
    *("select * from pragma_journal_mode", "select fts3_tokenizer('simple')", "select edit('x')"),
]


def test_what_is_not_one_select_on_the_tables_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    (path.parent / "secret.txt").write_text("the secret")
    (path.parent / "secret.csv").write_text("the secret")
    before, folder = path.read_bytes(), sorted(path.parent.iterdir())
    tool = Sql.of_file(path)
    for query in REFUSED:
        result = call(tool, query=query)
        assert not result.ok and result.output.startswith("error: "), query
        assert "the secret" not in result.output and "\n" not in result.output
    assert path.read_bytes() == before and sorted(path.parent.iterdir()) == folder


DOUBLING = "with recursive t as (select 'aaaaaaaa' s, 1 n union all select s || s, n + 1 from t where n < 30)"
NESTED = "select length(s) from {}(select 'aaaaaaaa' s){}".format("(select s || s as s from " * 32, ")" * 32)
STARS = "select 1 from {}(select 1 a){}".format("(select *, * from " * 30, ")" * 30)
MANY = "with recursive t(n, s) as (select 1, {0} union all select n + 1, {0} from t where n < 9000) select * from t order by s"


def test_a_query_that_swells_is_an_observation_and_the_next_one_works(path: Path) -> None:
    tool = Sql.of_file(path)
    large = "randomblob(900000)" if tool.engine == "sqlite" else "repeat('ab', 400000) || n"
    first = "randomblob(900000)" if tool.engine == "sqlite" else "''"
    many = MANY.replace("select 1, {0}", f"select 1, {first}").format(large)
    for query in (f"{DOUBLING} select max(length(s)) from t", NESTED, STARS, many):
        result = call(tool, query=query)
        assert not result.ok and result.output.startswith("error: "), query
        assert call(tool, query=f"select count(*) from city -- after {hash(query)}").output == "2"


def test_an_endless_query_ends_with_its_time_and_takes_no_process_with_it(path: Path) -> None:
    tool = Sql.of_file(path, bounds=Bounds(seconds=0.3))
    endless = "with recursive t(a) as (select 1 union all select a + 1 from t) select max(a) from t"
    assert call(tool, query=endless).output == "error: the query takes longer than 0.3 seconds"
    assert call(tool, query="select count(*) from city").output == "2"


def test_queries_that_take_their_time_run_side_by_side(path: Path) -> None:
    tool = Sql.of_file(path, bounds=Bounds(seconds=0.6))
    endless = "with recursive t(a) as (select {} union all select a + 1 from t) select max(a) from t"

    async def three() -> list[str]:
        return [r.output for r in await asyncio.gather(*(tool.call({"query": endless.format(i)}) for i in range(3)))]

    assert asyncio.run(three()) == ["error: the query takes longer than 0.6 seconds"] * 3


def test_rows_characters_and_the_query_itself_are_bounded(path: Path) -> None:
    tool = Sql.of_file(path, bounds=Bounds(query=60, rows=2, characters=7))
    assert call(tool, query="select id from person order by id").output == "1\n2"
    assert call(tool, query="select 'abcdefghij'").output == "abcdefg"
    assert call(tool, query=f"select '{'a' * 60}'").output == "error: a query has at most 60 characters"


@given(st.text(max_size=60) | st.text(st.sampled_from("select ()*,'\";-from cityd1"), max_size=60))
def test_any_text_is_an_observation(query: str) -> None:
    if LITE:
        assert call(LITE[0], query=query).output


LITE: list[Sql] = []


@pytest.fixture(scope="module", autouse=True)
def _lite(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("lite") / "x.db"
    make(path, "sqlite")
    LITE.append(Sql.of_file(path))


def test_virtual_tables_and_json_can_be_read(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "fts.db")
    database.execute("create virtual table note using fts5(text)")
    database.execute("insert into note values ('a green lamp'), ('a red lamp')")
    database.commit()
    database.close()
    tool = Sql.of_file(tmp_path / "fts.db")
    assert call(tool, query="select text from note where note match 'red'").output == "a red lamp"
    assert call(tool, query="select value from json_each('[3, 4]')").output == "3\n4"


def test_what_is_no_database_is_the_users_mistake(tmp_path: Path) -> None:
    for wrong in ({}, {"tables": {}, "path": "x.db"}):
        with pytest.raises(TypeError, match="either tables or the path"):
            Sql(**wrong)
    with pytest.raises(DataError, match="there is no such database"):
        Sql.of_file(tmp_path / "none.db")
    (tmp_path / "text.db").write_text("no database at all")
    with pytest.raises(DataError, match="neither a SQLite nor a DuckDB file"):
        Sql.of_file(tmp_path / "text.db")
    (tmp_path / "broken.db").write_bytes(b"SQLite format 3\x00" + b"\xff" * 200)
    with pytest.raises(InfrastructureError, match="does not open"):
        Sql.of_file(tmp_path / "broken.db").rows("select 1")


def test_a_process_ends_with_its_input_and_sees_nothing_of_the_environment() -> None:
    process = SqlProcess()
    pid = process._process.pid
    environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    assert {line.split(b"=")[0] for line in environment if line} <= {
        b"LANG",
        b"LC_ALL",
        b"LC_CTYPE",
        b"LD_LIBRARY_PATH",
    }
    limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
    assert next(line for line in limits if line.startswith("Max file size")).split()[3:5] == ["0", "0"]
    process.close()
    assert not Path(f"/proc/{pid}").exists()


def test_a_process_that_dies_is_replaced(path: Path) -> None:
    close_idle()
    tool = Sql.of_file(path)
    endless = "with recursive t(a) as (select 1 union all select a + 1 from t) select max(a) from t"
    running = Running({"path": str(path), "engine": tool.engine, "query": endless, "seconds": 5.0, "rows": 1})
    assert running.wait(0.1) is None
    os.kill(running._process._process.pid, 9)
    started = time.monotonic()
    assert running.wait() == {} and time.monotonic() - started < 5
    with pytest.raises(ToolError, match="too much memory"):
        tool._read({})
    assert call(tool, query="select count(*) from person").output == "3"
