"""The pictures of a data card, as SVG."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from journeyman.curation.card_data import Bin, CardData
from journeyman.pages.chart import Stack, histogram, row_chart

MOST_FAMILIES = 24
"""Families that have a bar of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One picture."""

    file: str
    """Its name in the folder `pictures`."""
    title: str
    svg: str


def pictures(data: CardData, funnel: Mapping[str, Any]) -> tuple[Picture, ...]:
    """Those that there is something to see in."""
    unit = "trajectory" if data.kind == "trajectory" else "question"
    drawn = [
        _picture("funnel", "Rows left after each rule, and dropped by it", row_chart, _rules(funnel)),
        _picture("families", "Rows by family", row_chart, _families(funnel["families"])),
        _picture("lengths", f"Length of a {unit} in {data.length_unit}", histogram, _stacks(data.lengths)),
        _picture("calls", "Tool calls of a trajectory", histogram, _stacks(data.calls)),
        _picture(
            "difficulty", "Problems, by how often they were solved when measured", histogram, _stacks(data.difficulty)
        ),
    ]
    return tuple(picture for picture in drawn if picture)


def _picture(name: str, title: str, chart: Any, stacks: Sequence[Stack]) -> Picture | None:
    return Picture(file=f"{name}.svg", title=title, svg=chart(stacks, title=title)) if stacks else None


def _stack(name: str, kept: int, dropped: int) -> Stack:
    return Stack(name=name, counts=(("kept", kept), ("dropped", dropped)))


def _stacks(bins: Sequence[Bin]) -> list[Stack]:
    return [_stack(bin.name, bin.kept, bin.dropped) for bin in bins]


def _rules(funnel: Mapping[str, Any]) -> list[Stack]:
    steps = [_stack(rule["rule"], rule["rows_in"] - rule["dropped"], rule["dropped"]) for rule in funnel["rules"]]
    return [_stack("read", funnel["rows_in"], 0), *steps]


def _families(families: Mapping[str, Mapping[str, int]]) -> list[Stack]:
    """The largest ones, and the others as one; nothing where there is but one."""
    if len(families) < 2:
        return []
    ordered = sorted(families.items(), key=lambda item: -item[1]["in"])
    stacks = [_stack(name, rows["kept"], rows["in"] - rows["kept"]) for name, rows in ordered[:MOST_FAMILIES]]
    if rest := [rows for _, rows in ordered[MOST_FAMILIES:]]:
        kept, read = (sum(rows[key] for rows in rest) for key in ("kept", "in"))
        stacks.append(_stack(f"{len(rest)} others", kept, read - kept))
    return stacks
