"""Documents to search in: a folder of text, Markdown, JSONL and Parquet files, or a data set of the Hub."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from journeyman.errors import DataError

TEXT_COLUMNS = ("text", "contents", "content", "passage", "body", "document")
"""Where a row's text is looked for, in this order, unless it is said."""
TITLE_COLUMNS = ("title", "name", "headline", "url", "id", "_id")
KINDS = (".txt", ".md", ".jsonl", ".parquet")
_BATCH = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One text."""

    title: str
    text: str


def read_corpus(path: Path | str, *, text: str = "", title: str = "") -> Iterator[Document]:
    """The documents of a file, or of all files in a folder, in the order of their paths.

    A text or Markdown file is one document, a JSONL or Parquet file one a row; `text` and `title` name their columns.
    Raises `DataError` with file and line where there is nothing, or a row without text.
    """
    path = Path(path)
    files = sorted(one for one in path.rglob("*") if one.suffix in KINDS) if path.is_dir() else [path]
    if not files or not path.exists():
        raise DataError(
            "there is nothing to search here",
            place=str(path),
            remedy=f"name a folder or a file that ends in {', '.join(KINDS)}",
        )
    for file in files:
        if file.suffix in (".txt", ".md"):
            yield _of_file(file)
        else:
            for place, row in _rows(file):
                yield _of_row(row, place, text, title)


def read_dataset(
    name: str, *, config: str | None = None, split: str = "train", text: str = "", title: str = ""
) -> Iterator[Document]:
    """The documents of a data set that `datasets` loads: a Hub name or a local folder."""
    import datasets

    rows = datasets.load_dataset(name, config, split=split)
    for number, row in enumerate(rows):
        yield _of_row(dict(row), f"{name}, row {number}", text, title)


def _of_file(path: Path) -> Document:
    """The title is a Markdown file's first heading, else the file's name."""
    try:
        content = path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise DataError(f"the file is not UTF-8: {error.reason}", place=str(path)) from None
    first, _, rest = content.partition("\n")
    if path.suffix == ".md" and first.startswith("#"):
        return Document(title=first.lstrip("#").strip(), text=rest.strip())
    return Document(title=path.stem, text=content)


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(place, row) of each row of a JSONL or Parquet file."""
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        number = 0
        for batch in pq.ParquetFile(path).iter_batches(batch_size=_BATCH):
            for row in batch.to_pylist():
                yield f"{path}, row {number}", row
                number += 1
        return
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield f"{path}:{number}", _parsed(line, f"{path}:{number}")


def _parsed(line: str, place: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"not JSON: {error}", place=place) from None
    if not isinstance(row, dict):
        raise DataError("a row is a JSON object", place=place)
    return row


def _of_row(row: Mapping[str, Any], place: str, text: str, title: str) -> Document:
    found = _first(row, (text,) if text else TEXT_COLUMNS)
    if found is None:
        raise DataError(
            f"a row without text; it has {', '.join(row)}", place=place, remedy="say which column has the text"
        )
    named = _first(row, (title,) if title else TITLE_COLUMNS[:3])
    first, newline, rest = found.partition("\n")
    if named is None and newline and "contents" in row:  # the form of retrieval corpora: the title on the first line
        return Document(title=first.strip().strip('"'), text=rest.strip())
    return Document(title=named or _first(row, TITLE_COLUMNS) or "", text=found)


def _first(row: Mapping[str, Any], names: Iterable[str]) -> str | None:
    """The first of some columns that has something, as text."""
    return next((str(row[name]) for name in names if row.get(name) not in (None, "")), None)
