"""Curation of a file by itself, as `journeyman curate` does it."""

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from journeyman.curation.base import Kind
from journeyman.curation.blocks import drops_by_blocks, leading
from journeyman.curation.card import Origin, licence_beside
from journeyman.curation.engine import Curation, Funnel, check_rules
from journeyman.curation.reading import read_rows
from journeyman.curation.stage import finish
from journeyman.errors import ConfigError, DataError
from journeyman.progress import Observer

DEFAULT: dict[Kind, tuple[str, ...]] = {
    "problem": ("exact", "near", "decontaminate"),
    "trajectory": ("format", "errors", "exact", "decontaminate"),
}
"""Rules where none are named; decontaminate only where there is something to hold the rows against."""
RESULTS = ("kept.parquet", "dropped.parquet", "funnel.json", "card.md")
READING, FIRST, LAST = "input", ("complete(answer=False)",), ("unique_ids",)
"""The rule that lines which can't be read fall to; what is applied before and after the rules that were chosen."""


def curate_file(
    path: Path,
    out: Path,
    *,
    rules: Sequence[str] = (),
    against: Sequence[Path] = (),
    attempts: Path | None = None,
    seed: int = 0,
    engine: Literal["duckdb", "ray"] = "duckdb",
    observer: Observer,
) -> Funnel:
    """Curate a file of problems or trajectories into the folder `out`, which appears as a whole or not at all.

    A killed run goes on after the last rule that was done. Lines that can't be read, rows without a question, and rows
    whose id an earlier row has, are among the dropped ones, as of the rules `input` and `unique_ids`. With engine `ray`
    the rules before the first that compares rows are applied by the cluster that Ray is connected to; the result is the same.
    Raises `UserError` before anything is begun where a rule or a file is wrong.
    """
    check_rules(rules, "--rules")
    with _finished_whole(out, [path, *against, *([attempts] if attempts else [])], [*rules, str(seed)]) as (
        draft,
        work,
    ):
        rows = read_rows(path, work)
        chosen = list(rules) or [rule for rule in DEFAULT[rows.source.kind] if against or rule != "decontaminate"]
        with Curation(rows.source, work, seed=seed) as curation:
            for number, file in enumerate(against):
                curation.hold_against(file.name, read_rows(file, work / f"against-{number}").source)
            if attempts is not None:
                curation.take_attempts(attempts)
            if rows.faults:
                curation.drop(READING, rows.faults)
            applied = [*FIRST, *chosen, *LAST]
            if engine == "ray" and curation.rows_in:
                first = leading(applied)
                observer.progress(0, 1, f"{len(first)} rules in blocks")
                drops_by_blocks(rows.source, first, work / "blocks")
                curation.take(applied, len(first), work / "blocks")
            curation.apply(applied, observer)
            observer.progress(1, 1, "writing")
            origin = Origin(name=path.name, problems=f"file {path.name}", licence=licence_beside(path), seed=seed)
            return finish(curation, draft, origin)


@contextmanager
def _finished_whole(out: Path, files: Sequence[Path], settings: Sequence[str]) -> Iterator[tuple[Path, Path]]:
    """(folder to write to, folder to work in); `out` is replaced at the end, and as it was where there is an error.

    The work folder bears the digest of all that the result follows from, so that another try finds just its own.
    """
    _check_place(out)
    known = [(str(file.absolute()), file.stat().st_mtime_ns, file.stat().st_size) for file in files if file.exists()]
    key = hashlib.sha256(repr((known, settings)).encode()).hexdigest()[:12]
    work = out.absolute().parent / f".{out.name}.unfinished-{key}"
    draft, old = work / "out", work / "old"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        yield draft, work
    except (ConfigError, DataError):
        shutil.rmtree(work, ignore_errors=True)  # another try would end the same
        raise
    if out.exists():
        out.rename(old)
    draft.rename(out)
    shutil.rmtree(work)


def _check_place(out: Path) -> None:
    """Raises `ConfigError` where `out` holds something else than an earlier result."""
    if out.exists() and not out.is_dir():
        raise ConfigError("not a folder", place=f"--out {out}", remedy="give another")
    present = {path.name for path in out.iterdir()} if out.exists() else set()
    if present and not present >= set(RESULTS):
        raise ConfigError(
            "the folder holds something else", place=f"--out {out}", remedy="give a new or an empty folder"
        )
