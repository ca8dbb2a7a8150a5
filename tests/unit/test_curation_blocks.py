"""Rules over blocks of rows: whatever the blocks are, the verdicts are the engine's."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.curation.rows import make
from journeyman.curation.blocks import Block, _judge, blocks_of, drops_of, judging, leading
from journeyman.curation.engine import Curation, Funnel, Source
from journeyman.curation.rules import RULES
from journeyman.errors import ConfigError
from journeyman.progress import Silent
from tests.unit.curated import questions

Drops = list[tuple[int, str, str]]
COUNT = 300
BY_ROW = (
    "complete",
    "format",
    "errors",
    "verified",
    "verified(by='answer')",
    "scored(least=0.5)",
    "confident(least=-1)",
    "length(fewest=400, most=700)",
    "calls(fewest=1, most=2)",
    "repeated_calls",
    "printable",
    "script(of=['Greek'])",
)
CHAIN = ("complete(answer=False)", "complete", "format", "errors", "length(most=800)", "length(fewest=420)")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    return pq.read_table(make(COUNT, tmp_path_factory.mktemp("made")).rows)


def source(folder: Path, rows: pa.Table, *, files: Sequence[int] = (), row_group: int = 64) -> Source:
    """The rows in several files; `files`: where they are cut."""
    folder.mkdir(exist_ok=True)
    ends = [0, *sorted(files), len(rows)]
    for number, (start, stop) in enumerate(pairwise(ends)):
        pq.write_table(rows[start:stop], folder / f"{number}.parquet", row_group_size=row_group)
    return Source.of(folder)


def in_blocks(source: Source, rules: Sequence[str], block: int) -> Drops:
    query = judging(source, rules)
    found = pa.concat_tables([drops_of(each, query) for each in blocks_of(source, block)]).to_pylist()
    return [(row["position"], row["rule"], row["reason"]) for row in found]


def at_once(source: Source, rules: Sequence[str], work: Path) -> Drops:
    with Curation(source, work) as curation:
        curation.apply(rules, Silent())
        return curation.database.sql("SELECT position, rule, reason FROM dropped ORDER BY position").fetchall()


def test_every_rule_that_judges_a_row_is_tried() -> None:
    assert [rule for rule in RULES if leading([rule])] == list(dict.fromkeys(rule.split("(")[0] for rule in BY_ROW))


@pytest.mark.parametrize("rule", BY_ROW)
def test_a_rule_says_the_same_of_blocks(tmp_path: Path, rows: pa.Table, rule: str) -> None:
    read = source(tmp_path / "rows", rows, files=[130])
    expected = at_once(read, [rule], tmp_path / "work")
    assert in_blocks(read, [rule], 100) == expected
    assert expected or rule in ("printable", "repeated_calls")


def test_blocks_of_any_size_say_the_same(tmp_path: Path, rows: pa.Table) -> None:
    expected = at_once(source(tmp_path / "whole", rows), CHAIN, tmp_path / "work")
    assert {rule for _, rule, _ in expected} >= {*CHAIN[2:]}

    @settings(max_examples=6, deadline=None)
    @given(
        files=st.lists(st.integers(0, COUNT), max_size=3, unique=True),
        row_group=st.integers(COUNT // 5, COUNT),
        block=st.integers(1, 2 * COUNT),
    )
    def check(files: list[int], row_group: int, block: int) -> None:
        folder = tmp_path / f"{files}-{row_group}"
        assert in_blocks(source(folder, rows, files=files, row_group=row_group), CHAIN, block) == expected

    check()


def test_blocks_by_hand(tmp_path: Path) -> None:
    table = pa.table({"id": list("abcdefg"), "question": ["Q"] * 7, "answer": ["1"] * 7})
    read = source(tmp_path / "rows", table, files=[5], row_group=2)
    # Row groups of the first file: 2 + 2 + 1 rows; of the second: 2. Two groups are the fewest with 3 rows.
    found = [(Path(b.file).name, b.first, b.stop, b.start) for b in blocks_of(read, 3)]
    assert found == [("0.parquet", 0, 4, 0), ("0.parquet", 4, 5, 0), ("1.parquet", 0, 2, 5)]
    assert [b.name for b in blocks_of(read, 3)][-1] == "000000000000005-000000000000007.parquet"


def test_a_row_falls_to_the_first_rule_that_finds_it(tmp_path: Path) -> None:
    path = questions(tmp_path / "p.parquet", ["What is 2 + 2?", " ", "Why?", ""])
    query = judging(Source.of(path), ["length(fewest=2)", "complete", "length(fewest=9)"])
    assert drops_of(Block(file=str(path), first=0, stop=4, start=0), query).to_pylist() == [
        {"position": 1, "number": 1, "rule": "length(fewest=2)", "reason": "too short (1 characters)"},
        {"position": 2, "number": 3, "rule": "length(fewest=9)", "reason": "too short (4 characters)"},
        {"position": 3, "number": 1, "rule": "length(fewest=2)", "reason": "too short (0 characters)"},
    ]


def test_leading_rules_are_those_before_the_first_that_compares_rows() -> None:
    assert leading(["complete", "format(tags=False)", "exact", "errors"]) == ["complete", "format(tags=False)"]
    assert leading(["near", "complete"]) == []


def test_rules_that_compare_rows_are_refused(tmp_path: Path) -> None:
    read = Source.of(questions(tmp_path / "p.parquet", ["Why?"]))
    with pytest.raises(ConfigError, match=r"near\(threshold=0.9\) compares rows"):
        judging(read, ["complete", "near(threshold=0.9)"])
    with pytest.raises(ConfigError, match="errors judges attempts"):
        judging(read, ["errors"])
    with pytest.raises(ConfigError, match="there is no curation rule `complet`"):
        judging(read, ["complet"])


def test_what_blocks_found_is_taken_up_where_the_other_rules_go_on(tmp_path: Path, rows: pa.Table) -> None:
    read = source(tmp_path / "rows", rows)
    drops, faults = tmp_path / "drops", tmp_path / "faults.parquet"
    drops.mkdir()
    pq.write_table(pa.table({"position": [7, 8], "reason": ["broken", "broken"], "match": ["", ""]}), faults)
    rules = [*CHAIN, "exact", "length(most=700)"]
    first = leading(rules)
    assert first == list(CHAIN)
    batch = pa.Table.from_pylist([asdict(block) for block in blocks_of(read, 100)])
    _judge(batch, query=judging(read, first), out=str(drops))
    assert len(list(drops.iterdir())) == len(batch) == 3  # row groups of 64 rows: 128, 128 and 44

    def curated(name: str, judged: int) -> tuple[list[tuple], Funnel]:
        with Curation(read, tmp_path / name) as curation:
            curation.drop("input", faults)
            curation.take(rules, judged, drops)
            curation.apply(rules, Silent())
            return curation.database.sql("FROM dropped ORDER BY position").fetchall(), curation.funnel()

    assert curated("with", len(first)) == curated("without", 0)
