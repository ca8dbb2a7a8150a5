"""Hostile queries and expressions: each is refused, and the database, its folder and the host are as before."""

import asyncio
import hashlib
import os
import secrets
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest

from journeyman.tools.base import Tool
from journeyman.tools.calculator import Calculator
from journeyman.tools.calls import run_call
from journeyman.tools.sql import Bounds, Sql

pytestmark = pytest.mark.integration
BRIEF = Bounds(seconds=0.4)

BOTH = {
    "insert": "INSERT INTO stock VALUES ('x', 1)",
    "update": "UPDATE stock SET price = 0",
    "delete": "DELETE FROM stock",
    "drop": "DROP TABLE stock",
    "alter": "ALTER TABLE stock ADD COLUMN evil TEXT",
    "create": "CREATE TABLE evil AS SELECT * FROM stock",
    "create a view": "CREATE VIEW evil AS SELECT * FROM stock",
    "create an index": "CREATE INDEX evil ON stock (price)",
    "insert behind a select": "SELECT 1; INSERT INTO stock VALUES ('x', 1)",
    "drop behind a comment": "SELECT 1 /* ; */; DROP TABLE stock --",
    "two selects": "SELECT 1; SELECT 2",
    "insert in a with": "WITH x AS (INSERT INTO stock VALUES ('x', 1) RETURNING *) SELECT * FROM x",
    "delete in a with": "WITH x AS (SELECT 1) DELETE FROM stock",
    "transaction": "BEGIN; DELETE FROM stock; COMMIT",
    "pragma": "PRAGMA database_list",
    "pragma that writes": "PRAGMA user_version = 7",
    "vacuum into a file": "VACUUM INTO '{folder}/evil'",
    "attach a new file": "ATTACH '{folder}/evil' AS evil",
    "attach the host's file": "ATTACH '{canary}' AS evil",
    "detach": "DETACH main",
    "prepare": "PREPARE p AS SELECT 1",
    "explain analyze a delete": "EXPLAIN ANALYZE DELETE FROM stock",
    "a product of rows": "SELECT count(*) FROM {crossed}",
    "counting without end": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n",
    "text without end": "WITH RECURSIVE n(t) AS (SELECT 'xxxxxxxx' UNION ALL SELECT t || t FROM n) SELECT max(length(t)) FROM n",
    "a long query": "SELECT " + "1 + " * 2000 + "1",
    "nested brackets": "SELECT " + "(" * 450 + "1" + ")" * 450 + " FROM no_such_table",
    "null byte": "SELECT 1 \0; DROP TABLE stock",
    "no Unicode": "SELECT '\ud800'",
    "nothing": "",
    "only a comment": "-- x",
}
OF_DUCKDB = {
    "read a text": "SELECT * FROM read_text('{canary}')",
    "read a blob": "SELECT * FROM read_blob('{canary}')",
    "read csv": "SELECT * FROM read_csv('{canary}', header = false)",
    "read csv by name": "SELECT * FROM '{canary}.csv'",
    "read json": "SELECT * FROM read_json_auto('{canary}')",
    "read parquet": "SELECT * FROM read_parquet('{canary}')",
    "read /etc/passwd": "SELECT * FROM read_csv('/etc/passwd', sep = ':', header = false)",
    "list files": "SELECT * FROM glob('{folder}/*')",
    "sniff a file": "SELECT * FROM sniff_csv('{canary}')",
    "copy to a file": "COPY stock TO '{folder}/evil'",
    "copy a query to a file": "COPY (SELECT 1) TO '{folder}/evil'",
    "copy from a file": "COPY stock FROM '{canary}'",
    "export": "EXPORT DATABASE '{folder}/evil'",
    "import": "IMPORT DATABASE '{folder}'",
    "install an extension": "INSTALL httpfs",
    "load an extension": "LOAD httpfs",
    "load a library": "LOAD '{folder}/evil.duckdb_extension'",
    "read over http": "SELECT * FROM read_csv('http://127.0.0.1:9/x')",
    "read from s3": "SELECT * FROM read_parquet('s3://bucket/x')",
    "allow the outside": "SET enable_external_access = true",
    "unlock": "SET lock_configuration = false",
    "more memory": "SET memory_limit = '100GB'",
    "spill to a folder": "SET temp_directory = '{folder}/evil'",
    "pragma for the outside": "PRAGMA enable_external_access = true",
    "secrets": "CREATE SECRET s (TYPE s3, KEY_ID 'x', SECRET 'y')",
    "environment": "SELECT getenv('JOURNEYMAN_CANARY')",
    "macro": "CREATE MACRO evil() AS TABLE SELECT 1",
    "call a function": "CALL pragma_version()",
    "query in a text": "SELECT * FROM query('DROP TABLE stock')",
    "range": "SELECT max(i) FROM range(100000000000) t(i)",
    "generate series": "SELECT list(i) FROM generate_series(1, 10000000000) t(i)",
    "a swollen text": "SELECT length(repeat('x', 10000000000))",
    "a swollen pad": "SELECT length(lpad('x', 2000000000, 'y'))",
    "a scanner for sqlite": "SELECT * FROM sqlite_scan('{canary}', 'x')",
    "a scanner for postgres": "SELECT * FROM postgres_scan('host=127.0.0.1', 'public', 'x')",
    "replacement scan of this program": "SELECT * FROM os",
    "checkpoint": "FORCE CHECKPOINT",
}
OF_SQLITE = {
    "load an extension": "SELECT load_extension('{folder}/evil')",
    "read a file": "SELECT readfile('{canary}')",
    "write a file": "SELECT writefile('{folder}/evil', 'x')",
    "editor": "SELECT edit('x', 'touch {folder}/evil')",
    "file system table": "SELECT * FROM fsdir('{folder}')",
    "zip file": "SELECT * FROM zipfile('{canary}')",
    "virtual table": "CREATE VIRTUAL TABLE evil USING fts5(x)",
    "write the schema": "PRAGMA writable_schema = 1",
    "pragma function that writes": "SELECT * FROM pragma_journal_mode('wal')",
    "a trigger": "CREATE TRIGGER evil AFTER INSERT ON stock BEGIN DELETE FROM stock; END",
    "a temporary table": "CREATE TEMP TABLE evil (x)",
    "the tokenizer's pointer": "SELECT fts3_tokenizer('simple', x'4141414141414141')",
    "a blob of zeros": "SELECT length(zeroblob(2000000000)), hex(zeroblob(1000000000))",
    "a swollen text": "SELECT length(printf('%.*c', 2000000000, 'x'))",
    "a swollen replacement": "SELECT length(replace(hex(zeroblob(200000)), '0', hex(zeroblob(200000))))",
}


@dataclass
class Place:
    folder: Path
    secret: str
    databases: dict[str, tuple[Path, Sql]]
    listing: list[str]
    digests: dict[str, str]

    def fill(self, query: str) -> str:
        crossed = ", ".join(f"stock {letter}" for letter in "abcdefghij")
        return query.replace("{folder}", str(self.folder)).replace("{canary}", str(self.folder / "canary")).replace(
            "{crossed}", crossed
        )  # fmt: skip

    def unchanged(self) -> None:
        assert sorted(os.listdir(self.folder)) == self.listing
        assert {name: digest(path) for name, (path, _) in self.databases.items()} == self.digests


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder, secret = tmp_path_factory.mktemp("data"), secrets.token_hex(8)
    for name in ("canary", "canary.csv"):
        (folder / name).write_text(secret)
    rows = [(f"shop {i}", i) for i in range(100)]
    with duckdb.connect(str(folder / "duck.db")) as duck:
        duck.execute("CREATE TABLE stock (shop TEXT, price INTEGER)")
        duck.executemany("INSERT INTO stock VALUES (?, ?)", rows)
    lite = sqlite3.connect(folder / "lite.db")
    lite.execute("CREATE TABLE stock (shop TEXT, price INTEGER)")
    lite.executemany("INSERT INTO stock VALUES (?, ?)", rows)
    lite.commit()
    lite.close()
    os.environ["JOURNEYMAN_CANARY"] = secret
    paths = {name: folder / f"{name}.db" for name in ("duck", "lite")}
    databases = {name: (path, Sql.of_file(path, bounds=BRIEF)) for name, path in paths.items()}
    digests = {name: digest(path) for name, path in paths.items()}
    yield Place(folder, secret, databases, sorted(os.listdir(folder)), digests)
    del os.environ["JOURNEYMAN_CANARY"]


def refused(tool: Tool, arguments: dict, secret: str = "nothing secret") -> None:
    result = asyncio.run(run_call(tool, arguments))
    assert not result.ok, result
    assert result.output.startswith("error: ")
    assert len(result.output) < 2500
    assert secret not in result.output


@pytest.mark.parametrize("name", [*BOTH, *OF_DUCKDB])
def test_duckdb_refuses(name: str, place: Place) -> None:
    tool = place.databases["duck"][1]
    refused(tool, {"query": place.fill({**BOTH, **OF_DUCKDB}[name])}, place.secret)
    assert asyncio.run(run_call(tool, {"query": "SELECT sum(price) FROM stock"})).output == "4950"  # 99 * 100 / 2
    place.unchanged()


@pytest.mark.parametrize("name", [*BOTH, *OF_SQLITE])
def test_sqlite_refuses(name: str, place: Place) -> None:
    tool = place.databases["lite"][1]
    refused(tool, {"query": place.fill({**BOTH, **OF_SQLITE}[name])}, place.secret)
    assert asyncio.run(run_call(tool, {"query": "SELECT sum(price) FROM stock"})).output == "4950"
    place.unchanged()


EXPRESSIONS = {
    "a tower of powers": "9**9**9",
    "a tower in brackets": "(9**9)**(9**9)",
    "a shift": "1<<1000000000",
    "a factorial": "factorial(100000)",
    "many digits": "9" * 201,
    "a long sum": "1+" * 5000 + "1",
    "deep nesting": "(" * 10_000 + "1" + ")" * 10_000,
    "deep signs": "-" * 100_000 + "1",
    "a large exponent": "1e999999999*1e999999999",
    "a name": "os",
    "a call": "__import__('os').system('id')",
    "an attribute": "(1).__class__",
    "attributes by brackets": "().__class__.__bases__[0].__subclasses__()",
    "a lambda": "(lambda: 9)()",
    "a comprehension": "[x for x in range(10**9)]",
    "an assignment": "(x:=10)",
    "a text": "'x'*1000000000",
    "a formatted text": "f'{9:999999999}'",
    "an index": "[1,2][0]",
    "a statement": "import os",
    "a line behind": "1\nimport os",
    "a null": "1\x00+1",
    "half a surrogate pair": "1+\ud800",
    "other digits": "１+１",
    "an await": "await x",
    "a comparison chain": "1<2<3",
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_the_calculator_refuses(name: str) -> None:
    refused(Calculator(), {"expression": EXPRESSIONS[name]})


@pytest.mark.parametrize("value", [None, 7, True, ["1+1"], {"a": 1}], ids=repr)
def test_the_calculator_takes_text_alone(value: object) -> None:
    refused(Calculator(), {"expression": value})
