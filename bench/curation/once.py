"""One curation in a process of its own: `python -m bench.curation.once INPUT AGAINST OUT`, one JSON line a step."""

import json
import sys
import time
from pathlib import Path

from journeyman.curation.alone import curate_file
from journeyman.progress import Silent

RULES = ("complete", "format", "errors", "exact", "near", "decontaminate", "looked_up", "unique_ids")


class Told(Silent):
    """Prints when each step begins."""

    def progress(self, done: float, total: float, note: str = "") -> None:
        tell(note.removeprefix("rule "))


def tell(step: str) -> None:
    """A line: seconds of the wall clock, and of all threads of this process."""
    print(json.dumps({"step": step, "wall_s": time.perf_counter(), "cpu_s": time.process_time()}), flush=True)


if __name__ == "__main__":
    source, against, out = map(Path, sys.argv[1:])
    tell("reading")
    # unique_ids comes by itself, at the end
    curate_file(source, out, rules=RULES[:-1], against=[against], observer=Told())
    tell("end")
