"""What a draw from a replay buffer costs: 10^4 trajectories from an index of 10^7, by priority.

    python -m bench.replay                    # half a minute; needs 4 GB

The index alone is timed: which trajectories come next, not reading these from their segments. `draws_a_read` is how
many draws fit into reading the whole index from its Parquet file once, which is the least that a buffer without one in
memory would do. Prints a table; writes every figure to bench/results/replay-DATE.json.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from journeyman.config import ReplayConfig
from journeyman.replay import PRIORITIES, ReplayBuffer
from journeyman.replay.buffer import INDEX, SEGMENTS
from journeyman.replay.index import COLUMNS, Index

RESULTS = Path(__file__).resolve().parent / "results"


def index_of(count: int) -> Index:
    """Made-up trajectories, 384 a step, all said to lie in one segment."""
    rng = np.random.default_rng(0)
    made = {name: np.zeros(count, dtype=kind) for name, kind in COLUMNS.items()}
    step = (np.arange(count) // 384).astype(np.int32)
    made |= {"step": step, "policy_version": step, "row": np.arange(count).astype(np.int32)}
    made |= {"advantage": rng.exponential(size=count), "reward": rng.random(count)}
    return Index(made)


def seconds_of(buffer: ReplayBuffer, count: int, rounds: int) -> tuple[float, float]:
    """(by the clock, of the processor), medians."""
    taken, busy = [], []
    for step in range(rounds):
        started, working = time.perf_counter(), time.process_time()
        assert len(buffer.places(count, step=step)) == count
        taken.append(time.perf_counter() - started)
        busy.append(time.process_time() - working)
    return median(taken), median(busy)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kept", type=int, default=10**7, help="trajectories in the buffer")
    parser.add_argument("--drawn", type=int, default=10**4)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measured(Path(folder), arguments.kept, arguments.drawn, arguments.rounds)
    path = RESULTS / f"replay-{date.today()}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(path)


def buffer_of(folder: Path, index: Path, options: dict[str, Any]) -> ReplayBuffer:
    """A buffer with that index and an empty segment, which is never read."""
    buffer = ReplayBuffer(ReplayConfig.model_validate(options), seed=0)
    buffer.save(folder)
    (folder / INDEX).unlink()
    os.link(index, folder / INDEX)
    (folder / SEGMENTS / "segment-00000000.parquet").touch()
    buffer.load(folder)
    buffer.observe([[0.0, 0.5]])
    return buffer


def measured(folder: Path, kept: int, drawn: int, rounds: int) -> dict[str, Any]:
    index = folder / INDEX
    index_of(kept).write(index)
    started = time.perf_counter()
    Index.read(index)
    reading = time.perf_counter() - started
    print(f"{'reading all':16} {reading:8.4f} s by the clock")
    found = {}
    for case, options in {
        **{priority: {"priority": priority} for priority in PRIORITIES},
        "recalibrated": {"priority": "advantage", "recalibration": {}, "max_uses": 3},
        "faded": {"priority": "advantage", "decay": 0.9999},
    }.items():
        buffer = buffer_of(folder / case, index, {"capacity": kept, "fraction": 0.5, **options})
        seconds, busy = seconds_of(buffer, drawn, rounds)
        found[case] = {"seconds": seconds, "processor_seconds": busy, "draws_a_read": reading / seconds}
        print(
            f"{case:16} {seconds:8.4f} s, {busy:8.4f} of the processor, {reading / seconds:8.2f} draws a read",
            flush=True,
        )
    return {
        "machine": {"python": platform.python_version(), "numpy": np.__version__, "cpus": os.cpu_count()},
        "kept": kept,
        "drawn": drawn,
        "bytes_a_trajectory": sum(np.dtype(kind).itemsize for kind in COLUMNS.values()),
        "reading_seconds": reading,
        "cases": found,
    }


if __name__ == "__main__":
    main()
