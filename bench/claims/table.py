"""What came of the claims, as Markdown."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from bench.claims.definitions import CLAIMS


def summary(result: Mapping[str, Any]) -> str:
    """An arm a line, then a line for each thing that was expected."""
    shown = list(dict.fromkeys(one["what"].split(":")[0] for one in result["found"]))
    lines = [f"| arm | {' | '.join(shown)} |", f"|---|{'---|' * len(shown)}"]
    for arm, row in result["arms"].items():
        values = [_spread([seed[name] for seed in row["seeds"].values()]) for name in shown]
        lines.append(f"| {arm} | {' | '.join(values)} |")
    lines += ["", *(f"- {one['what']}: {_difference(one)} **{one['verdict']}**" for one in result["found"])]
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
            head = f"## {name} ({claim.papers})\n\n{claim.says} Start: `{claim.start}`, {seeds} seeds."
            parts.append(f"{head}\n\n{arms}\n\n{summary(result)}\n")
    return "\n".join(parts)


def _options(options: Mapping[str, Any]) -> str:
    return ", ".join(f"`{key}: {value}`" for key, value in options.items())


def _spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    return f"{fmean(known):.3f} ({min(known):.3f} to {max(known):.3f})"


def _difference(found: Mapping[str, Any]) -> str:
    if found["mean"] is None:
        return ""
    return f"{found['mean']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}],"
