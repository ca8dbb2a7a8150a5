"""What a curation rule is: of rows, which to drop and why.

A rule is a function `name(rows, *, option=...)`. It returns `Each`, an SQL expression over one row, where a row can be
judged by itself (those also run block by block, in any engine); or `Found`, a query over all rows, where rows are
compared with each other or with other tables. In pipelines.yaml the rules stand in a list and work one after another.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    import duckdb

Kind = Literal["problem", "trajectory"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What a rule looks at."""

    kind: Kind
    columns: frozenset[str]
    """Of the view `rows`: those of a problem or trajectory, and `position`, the row's place in the input (from 0)."""
    database: "duckdb.DuckDBPyConnection"
    """Views and tables of it:

    - `rows`: what the rules before have left;
    - `evaluation(source, id, question, answer)`: what must not be learned: `source` is dev, heldout or a file's name;
    - `attempts(problem_id, tools, correct, score, confidence)`: a policy's attempts, where there are any: `tools` says
      whether it was offered any, `confidence` is its mean log-probability a token.
    """
    seed: int = 0
    has_attempts: bool = False
    has_evaluation: bool = False
    """Whether anything was named that must not be learned."""

    @property
    def text(self) -> str:
        """An SQL expression: what of a row is compared with others."""
        if self.kind == "problem":
            return "question"
        return "(question || ' ' || array_to_string([turn.text FOR turn IN turns], ' '))"

    @property
    def problem(self) -> str:
        """An SQL expression: the id of the problem that a row is, or is an attempt at."""
        return "id" if self.kind == "problem" else "problem_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Each:
    """A rule that judges a row by itself."""

    reason: str
    """An SQL expression over the columns of `rows`: why the row is dropped, or NULL. It is one of few fixed phrases; what
    belongs to the row alone stands in brackets at its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A rule that judges rows by other rows."""

    query: str
    """SQL that yields `position`, `reason` and perhaps `match`: at most one line a position. `match`: what the row was
    held against: an id, a text. Ties are broken by position, so that the same input gives the same output."""
    order: str = ""
    """An SQL expression over `rows`: by which the kept rows are put in order; empty: they stay as they are."""
    tables: tuple[str, ...] = field(default=())
    """Tables that the rule has made for its query: they are dropped after it."""


Rule: TypeAlias = Callable[[Rows], Each | Found]
