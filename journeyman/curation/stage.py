"""Stage curate: rules over the demonstrations, and over the problems of rl; every dropped row keeps its reason."""

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from journeyman.config import PipelineConfig
from journeyman.curation.card import Origin, origin_of, write_card
from journeyman.curation.engine import Curation, Funnel, Source, check_rules
from journeyman.curation.measure import ATTEMPTS
from journeyman.curation.reading import read_rows
from journeyman.errors import DataError
from journeyman.problem import EVALUATED, train_files
from journeyman.progress import Observer

PROBLEMS, TRAIN = "problems", "problems/train.parquet"
"""Folder of the curated problems, and those that are kept: where rl finds them in the artifact of stage synthesize, too."""


def curate(
    config: PipelineConfig,
    demonstrations: Path,
    out: Path,
    observer: Observer,
    *,
    work: Path | None = None,
) -> dict[str, Any]:
    """Apply `config.curate.rules` to the demonstrations of a synthesize artifact, `config.curate.problems` to its problems.

    Writes kept.parquet, dropped.parquet (all columns of a trajectory, `rule`, `reason` and `match`), funnel.json, card.md
    and card.html; the same for the train problems under problems/, where the kept ones are train.parquet. Where `out` has
    attempts.parquet, rules see it. A next try with the same `work` goes on after the last rule that was done.
    Raises `DataError` for files that can't be read or where no row is left.
    """
    started = time.perf_counter()
    check_rules(config.curate.rules, "curate.rules")
    check_rules(config.curate.problems, "curate.problems")
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as ending:
        work = work or Path(ending.enter_context(tempfile.TemporaryDirectory(dir=out.parent, prefix=".curate-")))
        rows = Source.of(demonstrations / "demonstrations.parquet")
        rules, more = config.curate.rules, config.curate.problems
        total = len(rules) + 1 + (len(more) + 1 if more else 0)
        with _against(config, demonstrations, rows, work / "rows", out) as curation:
            curation.apply(rules, observer, total=total)
            observer.progress(len(rules), total, "writing")
            funnel = finish(curation, out, origin_of(config))
        summary = _summary(funnel)
        if more:
            source = Source(files=train_files(demonstrations), kind="problem")
            (out / PROBLEMS).mkdir(exist_ok=True)
            with _against(config, demonstrations, source, work / PROBLEMS, out) as curation:
                curation.apply(more, observer, done=len(rules) + 1, total=total)
                summary[PROBLEMS] = _summary(finish(curation, out / PROBLEMS, origin_of(config)))
            (out / PROBLEMS / "kept.parquet").rename(out / TRAIN)
    seconds = time.perf_counter() - started
    observer.metrics(_metrics(funnel) | {"time/stage_s": seconds}, step=0)
    observer.progress(total, total, f"{funnel.rows_kept} of {funnel.rows_in} rows kept")
    return {**summary, "seconds": round(seconds, 3)}


def finish(curation: Curation, out: Path, origin: Origin) -> Funnel:
    """Write what the rules have left and what they have dropped. Raises `DataError` where nothing is left."""
    funnel = curation.funnel()
    if funnel.rows_kept == 0:
        drops = ", ".join(f"{rule.rule} dropped {rule.dropped}" for rule in funnel.rules if rule.dropped)
        raise DataError(
            f"no row is left of {funnel.rows_in}: {drops or 'there was none'}",
            place=curation.source.place,
            remedy="take a rule out, or look at how the rows are made",
        )
    curation.write(out)
    (out / "funnel.json").write_text(json.dumps(asdict(funnel), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    write_card(curation.database, out, origin, kind=curation.source.kind, has_attempts=curation.has_attempts)
    return funnel


@contextmanager
def _against(config: PipelineConfig, artifact: Path, source: Source, work: Path, out: Path) -> Iterator[Curation]:
    """The source, held against the problems that are evaluated on; with a policy's attempts where `out` has some."""
    with Curation(source, work, seed=config.seed) as curation:
        for split in EVALUATED:
            curation.hold_against(split, Source.of(artifact / "problems" / f"{split}.parquet"))
        if (out / ATTEMPTS).is_file():
            curation.take_attempts(out / ATTEMPTS)
        for path in config.curate.against:
            file = Path(path).expanduser()
            curation.hold_against(file.name, read_rows(file, work / f"against-{file.name}").source)
        yield curation


def _summary(funnel: Funnel) -> dict[str, Any]:
    counts = {"rows_in": funnel.rows_in, "rows_kept": funnel.rows_kept, "rows_dropped": funnel.rows_dropped}
    return {
        "counts": counts,
        "dropped": {rule.rule: rule.dropped for rule in funnel.rules},
        "families": funnel.families,
    }


def _metrics(funnel: Funnel) -> dict[str, float]:
    values: dict[str, float] = {
        "data/rows_in": funnel.rows_in,
        "data/rows_kept": funnel.rows_kept,
        "data/rows_dropped": funnel.rows_dropped,
    }
    values |= {f"data/rows_dropped/{rule.rule}": rule.dropped for rule in funnel.rules}
    return values | ({"data/tokens": funnel.tokens} if funnel.tokens else {})
