"""What came of the claims, as Markdown."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from bench.claims.definitions import CLAIMS
from bench.claims.study import compare

HEAD = """# What papers claim, in the small

Made by `python -m bench.claims --table` from `bench/results/claims`, whatever came out. `#N` is a number in the ledger of papers.

A claim is tried with the quickstart's model (0.9 million parameters) and worlds: arms that differ in what the claim is
about and in nothing else, from the same cold start of each seed, measured on 402 held-out problems, two samples each at
temperature 1. Shown are means over the seeds (lowest to highest), and paired differences with their 95 % t interval over the
seeds, which three seeds make wide. That a claim doesn't hold here says nothing about the setting that it was made in.
"""


def summary(result: Mapping[str, Any]) -> str:
    """An arm a line, then a line for each thing that was expected."""
    measured = {arm: row["seeds"] for arm, row in result["arms"].items()}
    expected = CLAIMS[result["claim"]].expected
    found, shown = [compare(one, measured) for one in expected], list(dict.fromkeys(one.measure for one in expected))
    lines = [f"| arm | {' | '.join(shown)} |", f"|---|{'---|' * len(shown)}"]
    for arm, row in result["arms"].items():
        values = [_spread([seed[name] for seed in row["seeds"].values()]) for name in shown]
        lines.append(f"| {arm} | {' | '.join(values)} |")
    lines += ["", *(f"- {one['what']}: {_difference(one)} **{one['verdict']}**" for one in found)]
    return "\n".join(lines)


def table(folder: Path) -> str:
    """All claims that have results, in the order of their definitions."""
    parts = []
    for name, claim in CLAIMS.items():
        path = folder / f"{name}.json"
        if path.exists():
            result = json.loads(path.read_text(encoding="utf-8"))
            seeds = len(next(iter(result["arms"].values()))["seeds"])
            arms = "\n".join(f"- `{arm}`: {_options(row['options'])}" for arm, row in result["arms"].items())
            head = f"## {name} ({claim.papers})\n\n{claim.says} Start: `{claim.start}`, {seeds} seeds{_common(result)}."
            parts.append(f"{head}\n\n{arms}\n\n{summary(result)}\n")
    return "\n".join([HEAD, *parts])


def _common(result: Mapping[str, Any]) -> str:
    return f"; all arms: {_options(result['common'])}" if result["common"] else ""


def _options(options: Mapping[str, Any]) -> str:
    return ", ".join(f"`{key}: {value}`" for key, value in options.items())


def _spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    return f"{fmean(known):.3f} ({min(known):.3f} to {max(known):.3f})"


def _difference(found: Mapping[str, Any]) -> str:
    """The mean over the seeds with its interval, and in how many of them the sign is that of the mean."""
    if found["mean"] is None:
        return ""
    alike = sum(difference * found["mean"] > 0 for difference in found["differences"])
    seeds = f"{alike} of {len(found['differences'])} seeds"
    return f"{found['mean']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}], {seeds}:"
