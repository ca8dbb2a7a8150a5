"""Stage curate: rules over the demonstrations, one after another; every dropped row keeps its rule and its reason."""

import glob
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from journeyman.config import PipelineConfig
from journeyman.curation import RULES
from journeyman.curation.card import card
from journeyman.errors import ConfigError, DataError
from journeyman.progress import Observer

if TYPE_CHECKING:
    import duckdb

EVALUATED = ("dev", "heldout")
MEMORY = "1GB"
"""What DuckDB may hold; beyond it spills to disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Funnel:
    """How many rows each rule dropped."""

    rows_in: int
    rows_kept: int
    rows_dropped: int
    tokens: int
    """Token ids in the kept rows; 0 for rows that were written and not sampled."""
    rules: tuple["Drops", ...]
    """In the order applied."""
    families: dict[str, dict[str, int]]
    """Family to `in`, `kept` and each rule's drops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drops:
    """One rule of a funnel."""

    rule: str
    rows_in: int
    """Rows that the rules before have left."""
    dropped: int
    families: dict[str, int]
    reasons: dict[str, int]
    """Reason, without what belongs to the row alone, to rows."""


def curate(config: PipelineConfig, demonstrations: Path, out: Path, observer: Observer) -> dict[str, Any]:
    """Apply `config.curate.rules` to the demonstrations of a synthesize artifact.

    Writes kept.parquet, dropped.parquet (all columns of a trajectory, `rule` and `reason`), funnel.json and card.md.
    Raises `ConfigError` for a rule that isn't there, `DataError` for files that can't be read or where no row is left.
    """
    started = time.perf_counter()
    names = _checked(config.curate.rules)
    out.mkdir(parents=True, exist_ok=True)
    with _database(demonstrations, out) as database:
        for done, name in enumerate(names):
            observer.progress(done, len(names) + 1, f"rule {name}")
            _apply(database, name)
        observer.progress(len(names), len(names) + 1, "writing")
        funnel = _funnel(database, names)
        if funnel.rows_kept == 0:
            drops = ", ".join(f"{rule.rule} dropped {rule.dropped}" for rule in funnel.rules)
            raise DataError(
                f"no demonstration is left of {funnel.rows_in}: {drops or 'there was none'}",
                place=str(demonstrations),
                remedy="take a rule out of curate.rules, or look at how the demonstrations are made",
            )
        _write(database, out)
    (out / "funnel.json").write_text(json.dumps(asdict(funnel), indent=2, ensure_ascii=False) + "\n")
    (out / "card.md").write_text(card(config, asdict(funnel)))
    seconds = time.perf_counter() - started
    observer.metrics(_metrics(funnel) | {"time/stage_s": seconds}, step=0)
    observer.progress(len(names) + 1, len(names) + 1, f"{funnel.rows_kept} of {funnel.rows_in} rows kept")
    counts = {"rows_in": funnel.rows_in, "rows_kept": funnel.rows_kept, "rows_dropped": funnel.rows_dropped}
    dropped = {rule.rule: rule.dropped for rule in funnel.rules}
    return {"counts": counts, "dropped": dropped, "families": funnel.families, "seconds": round(seconds, 3)}


def _checked(names: Sequence[str]) -> list[str]:
    for name in names:
        if name not in RULES:
            near = get_close_matches(name, RULES, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ConfigError(
                f"no curation rule is called {name!r}",
                place="curate.rules",
                remedy=f"{hint}the rules are {', '.join(RULES)}",
            )
    return list(dict.fromkeys(names))


@contextmanager
def _database(demonstrations: Path, out: Path) -> Iterator["duckdb.DuckDBPyConnection"]:
    """A database that reads the artifact where it lies and spills beside `out`."""
    import duckdb

    with tempfile.TemporaryDirectory(dir=out, prefix=".spill-") as spill:
        database = duckdb.connect(":memory:", config={"memory_limit": MEMORY, "temp_directory": spill})
        with database:
            _trajectories(database, demonstrations / "demonstrations.parquet")
            _evaluation(database, demonstrations / "problems")
            yield database


def _trajectories(database: "duckdb.DuckDBPyConnection", path: Path) -> None:
    """Views `demonstrations` and `trajectories` (those not dropped yet), and the table `dropped`."""
    columns = "* EXCLUDE (file_row_number), file_row_number AS position"
    _parquet(database, path, file_row_number=True).project(columns).create_view("demonstrations")
    database.execute("CREATE TABLE dropped (position BIGINT PRIMARY KEY, rule VARCHAR, reason VARCHAR)")
    database.execute(
        "CREATE VIEW trajectories AS SELECT * FROM demonstrations ANTI JOIN dropped USING (position)",
    )


def _evaluation(database: "duckdb.DuckDBPyConnection", folder: Path) -> None:
    database.execute("CREATE TABLE evaluation (split VARCHAR, question VARCHAR)")
    for split in EVALUATED:
        _parquet(database, folder / f"{split}.parquet").create_view(split)
        database.execute(f"INSERT INTO evaluation SELECT '{split}', question FROM {split}")


def _parquet(
    database: "duckdb.DuckDBPyConnection", path: Path, file_row_number: bool = False
) -> "duckdb.DuckDBPyRelation":
    import duckdb

    try:
        # The name is a pattern to DuckDB: brackets and stars in a folder's name are not.
        return database.read_parquet(glob.escape(str(path)), file_row_number=file_row_number)
    except duckdb.Error as error:
        raise DataError(
            f"can't be read: {str(error).strip().splitlines()[0]}",
            place=str(path),
            remedy="run stage synthesize again",
        ) from None


def _apply(database: "duckdb.DuckDBPyConnection", name: str) -> None:
    RULES[name](database).create_view("found")
    database.execute("INSERT INTO dropped SELECT position, ?, reason FROM found", [name])
    database.execute("DROP VIEW found")


def _funnel(database: "duckdb.DuckDBPyConnection", names: Sequence[str]) -> Funnel:
    rows_in = dict(_rows(database, "SELECT family, count(*) FROM demonstrations GROUP BY family ORDER BY family"))
    drops = _rows(
        database,
        r"""SELECT rule, family, regexp_replace(reason, ' \(.*\)$', '', 's') AS kind, count(*)
        FROM dropped JOIN demonstrations USING (position) GROUP BY ALL ORDER BY ALL""",
    )
    families = {family: {"in": rows, "kept": rows} | dict.fromkeys(names, 0) for family, rows in rows_in.items()}
    for rule, family, _, rows in drops:
        families[family][rule] += rows
        families[family]["kept"] -= rows
    rules, left = [], sum(rows_in.values())
    for name in names:
        mine = [(family, kind, rows) for rule, family, kind, rows in drops if rule == name]
        dropped = sum(rows for *_, rows in mine)
        by_family = {family: families[family][name] for family in families if families[family][name]}
        reasons: dict[str, int] = {}
        for _, kind, rows in mine:
            reasons[kind] = reasons.get(kind, 0) + rows
        rules.append(Drops(rule=name, rows_in=left, dropped=dropped, families=by_family, reasons=reasons))
        left -= dropped
    total = sum(rows_in.values())
    [(tokens,)] = _rows(database, "SELECT coalesce(sum(len(token_ids)), 0)::BIGINT FROM trajectories")
    return Funnel(
        rows_in=total,
        rows_kept=left,
        rows_dropped=total - left,
        tokens=tokens,
        rules=tuple(rules),
        families=families,
    )


def _rows(database: "duckdb.DuckDBPyConnection", query: str) -> list[tuple[Any, ...]]:
    return database.sql(query).fetchall()


def _write(database: "duckdb.DuckDBPyConnection", out: Path) -> None:
    kept = database.sql("SELECT * EXCLUDE (position) FROM trajectories ORDER BY position")
    kept.write_parquet(str(out / "kept.parquet"), compression="zstd")
    dropped = database.sql("""
        SELECT demonstrations.* EXCLUDE (position), rule, reason
        FROM demonstrations JOIN dropped USING (position) ORDER BY position
    """)
    dropped.write_parquet(str(out / "dropped.parquet"), compression="zstd")


def _metrics(funnel: Funnel) -> dict[str, float]:
    values: dict[str, float] = {
        "data/rows_in": funnel.rows_in,
        "data/rows_kept": funnel.rows_kept,
        "data/rows_dropped": funnel.rows_dropped,
    }
    values |= {f"data/rows_dropped/{rule.rule}": rule.dropped for rule in funnel.rules}
    return values | ({"data/tokens": funnel.tokens} if funnel.tokens else {})
