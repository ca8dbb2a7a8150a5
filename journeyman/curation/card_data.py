"""What a data card shows of kept and dropped rows, asked of the files by SQL: rows are never all in memory."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from journeyman.curation.base import Kind, Rows
from journeyman.curation.rules.sql import parquet
from journeyman.pages.chart import compact, rounded_up

if TYPE_CHECKING:
    import duckdb

MOST_HITS = 50
"""Contaminated rows that are shown; all are counted."""
MOST_SOURCES = 20
MOST_CALLS = 15
"""Bin of a histogram that holds all that have more."""
BINS = 20
AROUND = 200
"""Characters shown before and behind what two texts share."""
_LONGEST = 20_000
"""Characters of a text that are searched for what it shares."""
_WORDS = re.compile(r"\S+")
_RATES = ("never", "to 20 %", "to 40 %", "to 60 %", "to 80 %", "to 99 %", "always")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """A bar of a histogram."""

    name: str
    kept: int
    dropped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Rows that were made in one way."""

    made_by: str
    """Teacher or source, then the strategies."""
    read: int
    kept: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """A text around what it shares with another one."""

    before: str
    shared: str
    after: str

    @property
    def text(self) -> str:
        return self.before + self.shared + self.after


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A dropped row that has an evaluated question in it."""

    id: str
    reason: str
    source: str
    """What the question is from: dev, heldout, a file's name."""
    row: Excerpt
    question: Excerpt


@dataclass(frozen=True, slots=True, kw_only=True)
class CardData:
    """What is shown of a curated set besides its funnel."""

    kind: Kind
    sources: tuple[Source, ...]
    """The most frequent ones, and the rest as one."""
    hits: tuple[Hit, ...]
    hits_in_all: int
    length_unit: Literal["tokens", "characters"]
    """Characters, of what was asked, written and returned, where a row has no token ids."""
    lengths: tuple[Bin, ...]
    calls: tuple[Bin, ...]
    """By tool calls of a trajectory; empty for problems."""
    difficulty: tuple[Bin, ...]
    """Problems by the share of right attempts; empty where none were made. Kept: a row of the problem was."""


def measures(
    database: "duckdb.DuckDBPyConnection", out: Path, *, kind: Kind = "trajectory", has_attempts: bool = False
) -> CardData:
    """Of `out/kept.parquet` and `out/dropped.parquet`, and of the database's table `attempts` where there is one."""
    asking = _Asking(database, out, kind)
    unit, lengths = asking.lengths()
    hits, hits_in_all = asking.hits()
    return CardData(
        kind=kind,
        sources=asking.sources(),
        hits=hits,
        hits_in_all=hits_in_all,
        length_unit=unit,
        lengths=binned(lengths),
        calls=_exact(asking.calls(), MOST_CALLS),
        difficulty=_rated(asking.rates()) if has_attempts else (),
    )


Counted = tuple[Any, bool, int]
"""(value, whether kept, rows)."""


class _Asking:
    """Queries over the two files."""

    def __init__(self, database: "duckdb.DuckDBPyConnection", out: Path, kind: Kind) -> None:
        self._database = database
        self._files = {name: parquet(out / f"{name}.parquet") for name in ("kept", "dropped")}
        described = database.execute(f"DESCRIBE SELECT * FROM {self._files['dropped']}").fetchall()
        self._columns = frozenset(name for name, *_ in described)
        self._rows = Rows(kind=kind, columns=self._columns, database=database)

    def _counted(self, expression: str) -> list[Counted]:
        """How many rows have a value of an SQL expression."""
        parts = " UNION ALL ".join(
            f"SELECT {expression} AS value, {name == 'kept'} AS kept FROM {file}" for name, file in self._files.items()
        )
        return self._ask(f"SELECT value, kept, count(*) FROM ({parts}) GROUP BY ALL ORDER BY ALL")

    def _ask(self, query: str) -> list[tuple[Any, ...]]:
        return self._database.execute(query).fetchall()

    def sources(self) -> tuple[Source, ...]:
        found: dict[str, list[int]] = {}
        for name, kept, rows in self._counted(self._made_by()):
            counts = found.setdefault(name or "not stated", [0, 0])
            counts[0] += rows
            counts[1] += rows * kept
        ordered = sorted(found.items(), key=lambda item: (-item[1][0], item[0]))
        shown = [Source(made_by=name, read=read, kept=kept) for name, (read, kept) in ordered[:MOST_SOURCES]]
        if rest := ordered[MOST_SOURCES:]:
            read, kept = (sum(counts[place] for _, counts in rest) for place in (0, 1))
            shown.append(Source(made_by=f"{len(rest)} others", read=read, kept=kept))
        return tuple(shown)

    def _made_by(self) -> str:
        """An SQL expression: teacher or source, and strategies."""
        source = "source" if "source" in self._columns else "NULL"
        if "provenance" not in self._columns:
            return source
        made = "CASE WHEN json_valid(provenance) THEN provenance END"
        strategies = f"array_to_string(json_extract_string({made}, '$.strategies[*]'), ', ')"
        teacher = f"coalesce(json_extract_string({made}, '$.teacher'), {source})"
        return f"concat_ws(': ', nullif({teacher}, ''), nullif({strategies}, ''))"

    def hits(self) -> tuple[tuple[Hit, ...], int]:
        if "match" not in self._columns:
            return (), 0
        found = rf"FROM {self._files['dropped']} WHERE regexp_matches(rule, '^decontaminate\b')"
        [(total,)] = self._ask(f"SELECT count(*) {found}")
        rows = self._ask(f"SELECT {self._id()}, reason, {self._rows.text}, match {found} LIMIT {MOST_HITS}")
        return tuple(_hit(*row) for row in rows), total

    def _id(self) -> str:
        return "id::VARCHAR" if "id" in self._columns else "''"

    def lengths(self) -> tuple[Literal["tokens", "characters"], list[Counted]]:
        if self._rows.kind == "problem":
            return "characters", self._counted("len(question)")
        missing = self._counted("len(token_ids) = 0" if "token_ids" in self._columns else "true")
        if any(value is not False for value, _, _ in missing):
            outputs = "coalesce(list_sum([len(result.output) FOR result IN turn.results]), 0)"
            turns = f"coalesce(list_sum([len(turn.text) + {outputs} FOR turn IN turns]), 0)"
            return "characters", self._counted(f"(len(question) + {turns})::BIGINT")
        return "tokens", self._counted("len(token_ids)")

    def calls(self) -> list[Counted]:
        if self._rows.kind == "problem":
            return []
        return self._counted("coalesce(list_sum([len(turn.calls) FOR turn IN turns]), 0)::BIGINT")

    def rates(self) -> list[Counted]:
        """Of problems: with tools on offer, where there are such attempts."""
        problems = " UNION ALL ".join(
            f"SELECT {self._rows.problem} AS problem_id, {name == 'kept'} AS kept FROM {file}"
            for name, file in self._files.items()
        )
        return self._ask(f"""
            WITH rates AS (
                SELECT problem_id, coalesce(avg(correct::INT) FILTER (tools), avg(correct::INT)) AS rate
                FROM attempts GROUP BY problem_id
            ), problems AS (SELECT problem_id, bool_or(kept) AS kept FROM ({problems}) GROUP BY problem_id)
            SELECT rate, kept, count(*) FROM problems JOIN rates USING (problem_id)
            WHERE rate IS NOT NULL GROUP BY ALL ORDER BY ALL
        """)


def binned(counts: Sequence[Counted]) -> tuple[Bin, ...]:
    """Lengths in about `BINS` bins of one round width; what is beyond 99 % of the rows stands in the last one."""
    values = [(int(value or 0), kept, rows) for value, kept, rows in counts]
    if not values:
        return ()
    width = int(rounded_up(_quantile(values, 0.99) / BINS, least=1))
    last = _quantile(values, 0.99) // width
    folded = _folded((min(value // width, last), kept, rows) for value, kept, rows in values)
    open_end = any(value // width > last for value, *_ in values)
    return tuple(
        Bin(name=compact(place * width) + "+" * (open_end and place == last), **folded.get(place, _NONE))
        for place in range(last + 1)
    )


def _quantile(values: Sequence[tuple[int, bool, int]], share: float) -> int:
    """The smallest value that a share of the rows doesn't exceed."""
    ordered = sorted(values)
    reached = accumulate(rows for *_, rows in ordered)
    enough = share * sum(rows for *_, rows in ordered)
    return next(value for (value, *_), rows in zip(ordered, reached, strict=True) if rows >= enough)


def _exact(counts: Sequence[Counted], most: int) -> tuple[Bin, ...]:
    """Small numbers, a bin each; those from `most` on share one."""
    folded = _folded((min(value, most), kept, rows) for value, kept, rows in counts)
    return tuple(
        Bin(name=f"{place}{'+' * (place == most)}", **folded.get(place, _NONE))
        for place in range(max(folded, default=-1) + 1)
    )


def _rated(counts: Sequence[Counted]) -> tuple[Bin, ...]:
    """Shares in 0..1: none, fifths, all."""
    folded = _folded((_fifth(rate), kept, rows) for rate, kept, rows in counts)
    return tuple(Bin(name=name, **folded.get(place, _NONE)) for place, name in enumerate(_RATES)) if folded else ()


def _fifth(rate: float) -> int:
    if rate >= 1:
        return 6
    return next(place for place, top in enumerate((0, 0.2, 0.4, 0.6, 0.8, 1)) if rate <= top)


_NONE = {"kept": 0, "dropped": 0}


def _folded(counts: Iterable[tuple[int, bool, int]]) -> dict[int, dict[str, int]]:
    folded: dict[int, dict[str, int]] = {}
    for place, kept, rows in counts:
        folded.setdefault(place, dict(_NONE))["kept" if kept else "dropped"] += rows
    return folded


def _hit(row_id: str, reason: str, text: str, match: str | None) -> Hit:
    found = _object(match)
    question = str(found.get("text", match or ""))
    row, asked = excerpts(text, question)
    return Hit(id=row_id, reason=reason, source=str(found.get("source", "")), row=row, question=asked)


def _object(text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def excerpts(first: str, second: str) -> tuple[Excerpt, Excerpt]:
    """Two texts around the longest run of words that both have, in any case of letters."""
    texts = [first[:_LONGEST], second[:_LONGEST]]
    places = [list(_WORDS.finditer(text)) for text in texts]
    words = [[place[0].casefold() for place in found] for found in places]
    same = SequenceMatcher(None, *words, autojunk=False).find_longest_match()
    if not same.size:
        return Excerpt(before="", shared="", after=_clipped(first)), Excerpt(
            before="", shared="", after=_clipped(second)
        )
    shown = []
    for text, found, at in zip(texts, places, (same.a, same.b), strict=True):
        start, stop = found[at].start(), found[at + same.size - 1].end()
        before = ("… " if start > AROUND else "") + text[max(0, start - AROUND) : start]
        shown.append(Excerpt(before=before, shared=text[start:stop], after=_clipped(text[stop:])))
    return shown[0], shown[1]


def _clipped(text: str) -> str:
    return text if len(text) <= AROUND else f"{text[:AROUND]} …"
