"""`journeyman curate`: the curation rules on a file, without a pipeline."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from journeyman.errors import ConfigError


def curate(
    input_: Annotated[
        Path, typer.Option("--input", "-i", help="Problems or trajectories: JSON Lines, Parquet or a folder of it.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for what comes of it.", metavar="DIR")],
    rules: Annotated[
        str,
        typer.Option(
            help="In order, with their options: exact,near(threshold=0.9),decontaminate. [by what the rows are]"
        ),
    ] = "",
    against: Annotated[
        list[Path] | None, typer.Option(help="Evaluated questions that must not be learned. May be repeated.")
    ] = None,
    attempts: Annotated[
        Path | None, typer.Option(help="A policy's attempts (trajectories in Parquet), for rules about difficulty.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of rules that draw.", min=0)] = 0,
    engine: Annotated[
        Literal["duckdb", "ray"],
        typer.Option(help="ray: rules that judge a row by itself run on the cluster (RAY_ADDRESS, else a local one)."),
    ] = "duckdb",
) -> None:
    """Choose among rows: kept.parquet, dropped.parquet with each row's reason, a funnel and a data card."""
    from infra.commands.steps import Steps
    from infra.tables import funnel_table
    from journeyman.curation.alone import curate_file

    chosen = split_rules(rules)
    more: dict[str, Any] = {"against": against or [], "attempts": attempts, "seed": seed, "engine": engine}
    with Steps() as steps, _ray() if engine == "ray" else nullcontext():
        funnel = curate_file(input_, out, rules=chosen, **more, observer=steps)
    funnel_table(funnel)
    print(f"in {out}: kept.parquet, dropped.parquet, card.md, card.html")


@contextmanager
def _ray() -> Iterator[None]:
    from journeyman.actors.cluster import Connection
    from journeyman.config import ComputeConfig

    connection = Connection(ComputeConfig(), namespace="curate")
    try:
        connection.open()
        import ray.data

        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        yield
    finally:
        connection.close()


def split_rules(text: str) -> list[str]:
    """`exact,near(threshold=0.9, shingle=5)` -> its two rules. Raises `ConfigError`."""
    rules = [rule.strip() for rule in re.split(r",(?![^(\[{]*[)\]}])", text)] if text.strip() else []
    if "" in rules:
        raise ConfigError("an empty rule between commas", place="--rules", remedy="write them like exact,near")
    return rules
