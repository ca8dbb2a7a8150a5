"""Files of JSON lines that outlive a kill: appended and flushed line by line, a torn last line is no line."""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from journeyman.artifacts import write_atomically


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a file."""

    value: dict[str, Any]
    end: int
    """Byte offset behind the line: where reading goes on."""


def read_lines(path: Path, start: int = 0) -> Iterator[Line]:
    """The complete lines from a byte offset on; none where the file is missing. Unreadable lines are passed over."""
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(start)
        end = start
        for raw in file:
            end += len(raw)
            if not raw.endswith(b"\n"):
                return
            value = _parse(raw)
            if value is not None:
                yield Line(value=value, end=end)


def append_line(path: Path, value: dict[str, Any]) -> None:
    """Add a line; it is with the operating system when this returns, so that a killed process loses nothing."""
    with path.open("ab") as file:
        if file.tell() and not _ends_whole(path):
            file.write(b"\n")  # a line torn by a kill becomes a line of its own, which readers pass over
        file.write(_dump(value).encode())


def write_lines(path: Path, values: Iterable[dict[str, Any]]) -> None:
    """Replace a file whole: a kill leaves the old one or the new one."""
    write_atomically(path, "".join(_dump(value) for value in values))


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _dump(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n"


def _parse(raw: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(raw)
    except ValueError:  # half of a line that a kill tore
        return None
    return value if isinstance(value, dict) else None
