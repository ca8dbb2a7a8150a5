"""SQL that rules share: of the parts of a row, of what a user wrote, of seeded draws."""

import glob
from pathlib import Path
from typing import Literal

from journeyman.curation.base import Rows
from journeyman.errors import ConfigError

Unknown = Literal["drop", "keep"]
"""What becomes of rows that a rule can't judge: they fall with a reason of their own, or stay."""

CALLS = "flatten([turn.calls FOR turn IN turns])"
RESULTS = "flatten([turn.results FOR turn IN turns])"
CONFIDENCE = "list_avg([logprob FOR logprob, i IN logprobs IF loss_mask[i] = 1])"
"""Mean log-probability of the policy's own tokens, nats; NULL for an attempt that was written, not sampled."""


def attempts_only(rows: Rows, rule: str) -> None:
    """Raises `ConfigError` where the rows are problems."""
    if rows.kind != "trajectory":
        raise ConfigError(
            f"{rule} judges attempts, and the rows are {rows.kind}s",
            place="curate.rules",
            remedy=f"take {rule} out, or curate trajectories",
        )


def is_attempt(rows: Rows) -> str:
    """Whether a row is an attempt at its problem: samples of another kind have no format and no verdict of their own."""
    if "provenance" not in rows.columns:
        return "true"
    return "coalesce(TRY(json_extract_string(provenance, '$.kind')), 'trajectory') = 'trajectory'"


def blank(text: str) -> str:
    """Whether a text is missing or holds nothing but white space."""
    return rf"NOT regexp_matches(coalesce({text}, ''), '\S')"


def quoted(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def named(path: Path | str) -> str:
    """A file's name as an SQL literal: to DuckDB it is a pattern, and brackets and stars in a folder's name are none."""
    return quoted(glob.escape(str(path)))


def parquet(path: Path) -> str:
    """A Parquet file as an SQL table."""
    return f"read_parquet({named(path)})"


def column(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def number(value: float) -> str:
    """A number as an SQL double: a bare 0.25 would be a decimal."""
    return f"CAST('{float(value)!r}' AS DOUBLE)"


def reason(phrase: str, detail: str, *values: str) -> str:
    """A reason with what belongs to the row alone in brackets: each `{}` of the detail is an SQL expression's value."""
    # `concat` and not `||`: a value that is NULL must not make the reason NULL, and the row pass.
    start, *rest = detail.split("{}")
    parts = [quoted(f"{phrase} ({start}")]
    for value, text in zip(values, rest, strict=True):
        parts += [value, quoted(text)]
    return f"concat({', '.join(parts)}, ')')"


def drawn(rows: Rows, rule: str, key: str) -> str:
    """A number in [0, 1) that follows from the seed, the rule and a key, an SQL expression, alone.

    MD5, because `hash()` may differ between versions of the database.
    """
    return f"((md5_number_lower(concat('{rows.seed} {rule} ', {key})) >> 11) / 9007199254740992e0)"
