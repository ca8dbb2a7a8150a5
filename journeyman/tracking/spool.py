"""A stage's metrics on disk: in order, whole, and cut where a resumed stage takes up again."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from journeyman.tracking.lines import append_line, read_lines, write_lines


class Spool:
    """Writes every row twice: beside the checkpoints, to resume from, and where the sender reads.

    The copy beside the checkpoints outlives the try; the sender's copy outlives the checkpoints, which are removed when
    the stage is done, whether or not a server could be reached by then.
    """

    def __init__(self, kept: Path, sent: Path | None) -> None:
        self._kept, self._sent = kept, sent
        self._earlier: list[dict[str, Any]] | None = [line.value for line in read_lines(kept)]

    def add(self, values: Mapping[str, float], *, step: int, time_ms: int) -> None:
        """Append a row. The first one, where nobody rewound before, cuts an earlier try's rows from its step on."""
        if self._earlier is not None:
            self.rewind(step - 1)
        row = {"step": step, "time_ms": time_ms, "values": {name: float(value) for name, value in values.items()}}
        for path in self._paths():
            append_line(path, row)

    def rewind(self, step: float = math.inf) -> None:
        """Keep the earlier try's rows up to and with `step`; they go out again with this try's own.

        To be called before this try's first row.
        """
        assert self._earlier is not None, "rewind comes before the first row of a try"
        rows = [row for row in self._earlier if row["step"] <= step]
        for path in self._paths():
            write_lines(path, rows)
        self._earlier = None

    def settle(self) -> None:
        """Keep all of an earlier try where this one had nothing to add."""
        if self._earlier:
            self.rewind()

    def _paths(self) -> list[Path]:
        return [self._kept, self._sent] if self._sent else [self._kept]
