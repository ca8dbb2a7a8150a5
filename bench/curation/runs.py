"""Curations in fresh processes: how long, how much memory and disk, what was found, and the same again after a kill."""

import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb

from bench.curation.rows import RULE, Made

ROOT = Path(__file__).resolve().parents[2]
POLL_S = 0.02
KILLED_IN, KILLED_AT = "near", 0.5
"""The rule in the middle of which a run is killed, and after which share of the time that it took before."""
CONDEMNING = ("exact", "near", "decontaminate")
"""Rules whose false removals are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One curation."""

    steps: Sequence[Mapping[str, Any]]
    """When each began: `step`, `wall_s`, `cpu_s`; the last is the end."""
    peak_bytes: int
    """Resident memory of the process and those that it started, at most."""
    disk_bytes: int
    """Of its work folder at most: the database, what spilled, the output."""

    @property
    def wall_s(self) -> float:
        return self.steps[-1]["wall_s"] - self.steps[0]["wall_s"]

    def by_step(self, clock: str) -> dict[str, float]:
        """Seconds of each step."""
        return {this["step"]: after[clock] - this[clock] for this, after in pairwise(self.steps)}


def curated(made: Made, out: Path, *, kill: tuple[str, float] | None = None) -> Run:
    """Curate into `out`. `kill`: a step, and seconds after its beginning: the process is killed there (-9)."""
    command = [sys.executable, "-m", "bench.curation.once", str(made.rows), str(made.evaluated), str(out)]
    log = out.with_suffix(".steps")
    peak = disk = 0
    with log.open("w") as stdout, subprocess.Popen(command, cwd=ROOT, stdout=stdout) as process:
        while process.poll() is None:
            peak, disk = max(peak, _resident(process.pid)), max(disk, _stored(out))
            if kill and _begun(log, kill[0]):
                time.sleep(kill[1])
                process.send_signal(signal.SIGKILL)
                process.wait()
            time.sleep(POLL_S)
    if process.returncode != (-signal.SIGKILL if kill else 0):
        raise RuntimeError(f"the run ended with {process.returncode}")
    return Run(steps=_steps(log), peak_bytes=peak, disk_bytes=disk)


def _steps(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def _begun(log: Path, step: str) -> bool:
    return f'"step": "{step}"' in log.read_text()


def _resident(pid: int) -> int:
    """Bytes of a process, the most it has had, and of its descendants now."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it has just ended
        return 0
    sizes = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")]
    return sum(sizes) * 1024 + sum(map(_resident, map(int, children)))


def _stored(out: Path) -> int:
    """Bytes in the work folder of a run."""
    total = 0
    for file in out.parent.glob(f".{out.name}.unfinished-*/**/*"):
        try:
            total += file.stat().st_size
        except OSError:  # spilled files come and go
            continue
    return total


def digests(out: Path) -> dict[str, str]:
    """SHA-256 of the rows kept and dropped."""
    return {name: hashlib.sha256((out / f"{name}.parquet").read_bytes()).hexdigest() for name in ("kept", "dropped")}


def found(made: Made, out: Path) -> dict[str, Any]:
    """Recall by fault, and what rules that compare rows have dropped without being asked to."""
    kinds = " ".join(f"WHEN '{kind}' THEN '{rule}'" for kind, rule in RULE.items())
    database = duckdb.connect()
    database.execute(f"""
        CREATE TABLE judged AS SELECT kind, similarity, rule, CASE kind {kinds} END AS meant FROM '{made.truth}'
        JOIN ({placed(made)}) USING (position)
        LEFT JOIN (SELECT id, question, problem_id, rule FROM '{out / "dropped.parquet"}')
            USING (id, question, problem_id)
    """)
    recalls = database.execute("""
        SELECT kind, count(*) AS planted, avg((rule IS NOT NULL)::INT), avg((coalesce(rule, '') LIKE meant || '%')::INT)
        FROM judged WHERE kind <> 'clean' GROUP BY kind ORDER BY kind
    """).fetchall()
    [(rows, wrong)] = database.execute(
        f"SELECT count(*), count(*) FILTER (WHERE rule IN {CONDEMNING} AND kind NOT IN ('exact', 'near', 'leak')) FROM judged"
    ).fetchall()
    others = database.execute(
        "SELECT kind, rule, count(*) FROM judged WHERE rule IS NOT NULL AND rule NOT LIKE coalesce(meant, '-') || '%'"
        " GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    return {
        "faults": {
            kind: {"planted": planted, "recall": recall, "by_its_rule": own} for kind, planted, recall, own in recalls
        },
        "false_removals": wrong,
        "false_removal_share": wrong / rows,
        "dropped_by_another_rule": [{"kind": kind, "rule": rule, "rows": count} for kind, rule, count in others],
    }


def placed(made: Made) -> str:
    """SQL: the rows' positions with what tells them apart, as an id alone does not."""
    rows = f"read_parquet('{made.rows}', file_row_number = true)"
    return f"SELECT id, question, problem_id, file_row_number AS position FROM {rows}"


def measured(made: Made, rows: int, folder: Path, *, again: bool) -> dict[str, Any]:
    """A run, the same once more where `again`, and one that is killed in the middle and goes on."""
    out, killed = folder / "first", folder / "killed"
    run = curated(made, out)
    same: dict[str, bool] = {}
    if again:
        curated(made, folder / "second")
        same["again"] = digests(folder / "second") == digests(out)
    curated(made, killed, kill=(KILLED_IN, KILLED_AT * run.by_step("wall_s")[KILLED_IN]))
    rest = curated(made, killed)
    same["after_kill"] = digests(killed) == digests(out)
    cpu = run.by_step("cpu_s")
    return {
        "rows": rows,
        "wall_s": run.wall_s,
        "rows_per_s": rows / run.wall_s,
        "cpu_s": sum(cpu.values()),
        "rows_per_cpu_s": rows / sum(cpu.values()),
        "peak_bytes": run.peak_bytes,
        "disk_bytes": run.disk_bytes,
        "input_bytes": made.rows.stat().st_size,
        "by_step": {step: {"wall_s": wall, "cpu_s": cpu[step]} for step, wall in run.by_step("wall_s").items()},
        "resumed_s": rest.wall_s,
        "same_output": same,
        **found(made, out),
    }
