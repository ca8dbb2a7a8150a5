"""A table of text, as Markdown and as HTML."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from journeyman.pages.text import code

_WORDS = re.compile(r"[a-z]{4}")
"""What no figure has, with its unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Something to print: the first column is text, the others are figures, or words."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def as_markdown(shown: Table, *, names: bool = False) -> str:
    """`names`: the first column has names, which are shown as code."""
    head = [tuple(map(_cell, shown.columns)), ("---", *("---:" for _ in shown.columns[1:]))]
    rows = [(_name(first) if names else _cell(first), *map(_cell, others)) for first, *others in shown.rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in [*head, *rows])


def _name(text: str) -> str:
    return code(text).replace("|", "\\|")


def _cell(text: str) -> str:
    for mark in "\\`|<>*_":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())


def as_html(shown: Table) -> str:
    """Columns of words begin at their left edge, those of figures end at their right one."""
    words = [any(map(_WORDS.search, column)) for column in zip(*shown.rows, strict=True)] or [False] * len(
        shown.columns
    )
    marks = [' class="words"' if wordy else "" for wordy in words]
    head = "".join(
        f'<th scope="col"{mark}>{escape(name)}</th>' for name, mark in zip(shown.columns, marks, strict=True)
    )
    rows = []
    for first, *others in shown.rows:
        cells = "".join(f"<td{mark}>{escape(cell)}</td>" for cell, mark in zip(others, marks[1:], strict=True))
        rows.append(f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>')
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def count_rows(counts: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    """Nested counts as lines of (path, value)."""
    rows: list[tuple[str, str]] = []
    for name, value in counts.items():
        path = f"{above} · {name}" if above else str(name)
        if isinstance(value, Mapping):
            rows += count_rows(value, path)
        else:
            rows.append((path, f"{value:,.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)))
    return rows
