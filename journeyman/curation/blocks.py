"""Rules that judge a row by itself, block by block in Ray Data: the same verdicts on many machines as on one.

    ray.init(address="auto")
    source = Source.of(Path("/shared/attempts"))                # a folder of Parquet that all machines see
    drops_by_blocks(source, ["complete", "format", "errors"], Path("/shared/drops"))

`Curation.take` reads what this wrote, and the rules that compare rows go on from there.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, get_type_hints

from journeyman.curation.base import Each, Rows
from journeyman.curation.engine import TEXTS, Source, check_rules, columns_of, labels_of, shaped
from journeyman.curation.rules import RULES, VOCABULARY, build_rule
from journeyman.curation.rules.sql import named, quoted
from journeyman.errors import ConfigError
from journeyman.expressions import names

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK = 100_000
"""Rows of a block at least: row groups are put together until there are so many. A row group is never split."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Rows that are judged together."""

    file: str
    first: int
    """Row of the file that the block begins with."""
    stop: int
    """Row of the file that the block ends before."""
    start: int
    """Position of the file's first row among the source's rows."""

    @property
    def name(self) -> str:
        """Of the file with its drops: in the order of positions."""
        return f"{self.start + self.first:015d}-{self.start + self.stop:015d}.parquet"


def leading(rules: Sequence[str]) -> list[str]:
    """The first of the rules, up to one that compares rows: those that can be applied block by block."""
    return list(takewhile(_by_row, rules))


def _by_row(rule: str) -> bool:
    [name] = names(rule, VOCABULARY)
    return get_type_hints(RULES[name])["return"] is Each


def drops_by_blocks(source: Source, rules: Sequence[str], out: Path, *, block: int = BLOCK) -> None:
    """Write to the folder `out`, a Parquet file a block, the `position`, `number`, `rule` and `reason` of each dropped row.

    `number`: which of the rules, from 1. A row falls to the first rule that finds it. `source` and `out` lie where all
    machines of the cluster see them under the same path; Ray's connection is the caller's. Blocks whose file is there
    already are not judged again, so `out` is for these rules alone. Raises `ConfigError` for rules that compare rows.
    """
    import ray.data

    query = judging(source, rules)
    out.mkdir(parents=True, exist_ok=True)
    waiting = [asdict(each) for each in blocks_of(source, block) if not (out / each.name).exists()]
    if not waiting:
        return
    judge = partial(_judge, query=query, out=str(out.absolute()))  # workers have folders of their own
    judged = ray.data.from_items(waiting, override_num_blocks=len(waiting)).map_batches(
        judge, batch_size=1, batch_format="pyarrow"
    )
    for _ in judged.iter_batches(batch_size=None):
        pass


def _judge(batch: "pa.Table", *, query: str, out: str) -> "pa.Table":
    """Write the drops of blocks; on any machine, twice where Ray tries again."""
    import pyarrow.parquet as pq

    for block in (Block(**row) for row in batch.to_pylist()):
        part = Path(out, f".{block.name}.{os.getpid()}.part")
        pq.write_table(drops_of(block, query), part)
        part.replace(Path(out, block.name))
    return batch.select(["start"])


def blocks_of(source: Source, rows: int = BLOCK) -> Iterator[Block]:
    """All rows of a source in blocks of at least so many rows, but for the last one of a file."""
    import pyarrow.parquet as pq

    start = 0
    for file in source.files:
        metadata = pq.read_metadata(file)
        first = stop = 0
        for group in range(metadata.num_row_groups):
            stop += metadata.row_group(group).num_rows
            if stop - first >= rows or (stop == metadata.num_rows and stop > first):
                yield Block(file=str(file.absolute()), first=first, stop=stop, start=start)
                first = stop
        start += metadata.num_rows


def judging(source: Source, rules: Sequence[str]) -> str:
    """SQL over `rows`: position, number, rule and reason of those that a rule drops. Raises `ConfigError`."""
    import duckdb

    check_rules(rules, "rules")
    if other := [rule for rule in rules if not _by_row(rule)]:
        raise ConfigError(
            f"{other[0]} compares rows, and can't be applied block by block",
            place="rules",
            remedy="apply it afterwards, with Curation.apply",
        )
    with duckdb.connect() as database:
        rows = Rows(
            kind=source.kind,
            columns=frozenset([*columns_of(source.files[0]), *TEXTS, "position"]),
            database=database,
        )
        each = [build_rule(rule)(rows) for rule in rules]
    # `||` keeps NULL, and `coalesce` leaves what a rule has dropped unread by the next.
    found = ", ".join(
        f"'{number} ' || ({judge.reason})" for number, judge in enumerate(each, start=1) if isinstance(judge, Each)
    )
    labels = ", ".join(map(quoted, labels_of(rules)))
    return f"""
        SELECT position, number, [{labels}][number] AS rule, reason FROM (
            SELECT position, split_part(found, ' ', 1)::INTEGER AS number, substr(found, strpos(found, ' ') + 1) AS reason
            FROM (SELECT position, coalesce({found}, NULL) AS found FROM rows) WHERE found IS NOT NULL
        ) ORDER BY position
    """


def drops_of(block: Block, query: str) -> "pa.Table":
    """What a query made by `judging` finds in a block."""
    import duckdb

    path = named(block.file)
    with duckdb.connect(config={"threads": "1"}) as database:
        position = f"{block.start} + file_row_number"
        database.execute(f"""
            CREATE VIEW rows AS SELECT {shaped(Path(block.file), position, "file_row_number")}
            FROM read_parquet({path}, file_row_number = true)
            WHERE file_row_number >= {block.first} AND file_row_number < {block.stop}
        """)
        return database.sql(query).to_arrow_table()
