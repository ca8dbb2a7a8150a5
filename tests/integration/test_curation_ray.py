"""Curation with Ray Data: the files that one machine makes, block by block on a cluster."""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from bench.curation.rows import Made, make
from journeyman.actors.cluster import Connection
from journeyman.config import ComputeConfig
from journeyman.curation.alone import curate_file
from journeyman.curation.blocks import blocks_of, drops_by_blocks, drops_of, judging
from journeyman.curation.engine import Source
from journeyman.progress import Silent

# Ray Data warns of settings of its own when it is imported.
pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")]

RULES = ("complete", "format", "errors", "exact", "length(most=900)", "decontaminate")


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    connection = Connection(ComputeConfig(address="local"), namespace="test")
    try:
        connection.open()
        yield
    finally:
        connection.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(3000, tmp_path_factory.mktemp("made"))


def in_files(made: Made, folder: Path) -> Source:
    """The rows in two files of several row groups each."""
    folder.mkdir()
    table = pq.read_table(made.rows)
    for name, part in (("a", table[:1700]), ("b", table[1700:])):
        pq.write_table(part, folder / f"{name}.parquet", row_group_size=300)
    return Source.of(folder)


@pytest.mark.usefixtures("cluster")
def test_ray_finds_what_one_process_finds(made: Made, tmp_path: Path) -> None:
    source, rules = in_files(made, tmp_path / "rows"), RULES[:3]
    drops_by_blocks(source, rules, tmp_path / "drops", block=500)
    # Row groups of the files: 5 * 300 + 200 rows and 4 * 300 + 100; two make a block.
    assert len(list((tmp_path / "drops").iterdir())) == len(list(blocks_of(source, 500))) == 6
    query = judging(source, rules)
    expected = [row for block in blocks_of(source, 1) for row in drops_of(block, query).to_pylist()]
    assert expected and pq.read_table(tmp_path / "drops").to_pylist() == expected


@pytest.mark.usefixtures("cluster")
def test_blocks_that_are_there_are_not_judged_again(made: Made, tmp_path: Path) -> None:
    source, drops = in_files(made, tmp_path / "rows"), tmp_path / "drops"
    drops_by_blocks(source, RULES[:3], drops, block=500)
    files = sorted(drops.iterdir())
    before = {file: file.stat().st_mtime_ns for file in files}
    lost = files[1].read_bytes()
    files[1].unlink()
    drops_by_blocks(source, RULES[:3], drops, block=500)
    assert files[1].read_bytes() == lost
    assert {file for file in files if file.stat().st_mtime_ns != before[file]} == {files[1]}


@pytest.mark.usefixtures("cluster")
def test_both_engines_make_the_same_files(made: Made, tmp_path: Path) -> None:
    def digests(engine: str) -> dict[str, str]:
        out = tmp_path / engine
        curate_file(made.rows, out, rules=RULES, against=[made.evaluated], engine=engine, observer=Silent())  # type: ignore[arg-type]
        return {file: sha256((out / file).read_bytes()).hexdigest() for file in NAMES}

    assert digests("ray") == digests("duckdb")


NAMES = ("kept.parquet", "dropped.parquet", "funnel.json", "card.md")
