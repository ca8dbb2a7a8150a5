"""What curation costs, finds and survives: the whole rule set on made-up trajectories with planted faults.

    python -m bench.curation --rows 1000000 --against-datasets 100000

Rules: complete, format, errors, exact, near, decontaminate, looked_up, unique_ids, through `curate_file` in a fresh
process, at 10^4, 10^5, ... rows up to those asked for. Told of each size: seconds of the wall clock and of all threads
(CPU), by step; the most memory and disk; recall of each planted fault; false removals of the rules that compare rows;
whether a run that is killed (-9) in the middle of `near` and goes on ends with the same bytes, and, but for the largest
size, a second run too. Slopes are of log seconds over log rows between the last two sizes (1 is linear).
`--against-datasets`: the same rules with `datasets`, by hand, on so many rows, the two one after the other.

Wall seconds follow the load of the machine, which is told; CPU seconds hardly do.
Prints a table; writes every figure to bench/results/curation-DATE.json.
"""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import duckdb

from bench.curation.rows import make
from bench.curation.runs import ROOT, curated, measured, placed

RESULTS = ROOT / "bench" / "results"
SMALLEST = 10_000
TARGETS = {"peak_bytes": 2 * 10**9, "rows_per_s": 5000, "exact": 1.0, "near": 0.99, "false_removal_share": 1e-4}


def sized(most: int, folder: Path) -> list[dict[str, Any]]:
    """Every size measured, the largest last."""
    sizes = [SMALLEST * 10**power for power in range(10) if SMALLEST * 10**power < most] + [most]
    found = []
    for size in sizes:
        made = make(size, folder / f"{size}" / "made")
        load = os.getloadavg()[0]
        one = measured(made, size, folder / f"{size}", again=size < most or len(sizes) == 1)
        found.append({**one, "load_average": [load, os.getloadavg()[0]]})
        print(line(found[-1]), flush=True)
    return found


def line(one: Mapping[str, Any]) -> str:
    recalls = ", ".join(f"{kind} {fault['recall']:.4f}" for kind, fault in one["faults"].items())
    same = ", ".join(f"{name} {'yes' if same else 'NO'}" for name, same in one["same_output"].items())
    steps = ", ".join(f"{step} {1e6 * s['cpu_s'] / one['rows']:.1f}" for step, s in one["by_step"].items())
    return (
        f"{one['rows']:>9,} rows: {one['wall_s']:.1f} s ({one['rows_per_s']:,.0f} rows/s), CPU {one['cpu_s']:.1f} s "
        f"({one['rows_per_cpu_s']:,.0f} rows/s), memory {one['peak_bytes'] / 1e6:,.0f} MB, "
        f"disk {one['disk_bytes'] / one['rows']:,.0f} bytes a row, load {one['load_average'][0]:.1f}\n"
        f"  recall: {recalls}; false removals {one['false_removals']}; same output: {same}\n"
        f"  CPU microseconds a row: {steps}"
    )


def slopes(found: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Of log seconds over log rows, from the last two sizes."""
    if len(found) < 2:
        return {}
    one, two = found[-2:]
    rows = math.log(two["rows"] / one["rows"])
    whole = {clock: math.log(two[clock] / one[clock]) / rows for clock in ("wall_s", "cpu_s")}
    steps = {
        f"cpu_s of {step}": math.log(seconds["cpu_s"] / one["by_step"][step]["cpu_s"]) / rows
        for step, seconds in two["by_step"].items()
    }
    return whole | steps


def against_datasets(rows: int, folder: Path) -> dict[str, Any]:
    """Ours, then theirs, on the same rows: seconds, their ratios, and rows that the two judge differently."""
    made = make(rows, folder / "made")
    ours = curated(made, folder / "ours")
    command = [sys.executable, "-m", "bench.curation.with_datasets", str(made.rows), str(made.evaluated)]
    done = subprocess.run([*command, str(folder / "theirs")], cwd=ROOT, capture_output=True, text=True, check=True)
    theirs = json.loads(done.stdout.splitlines()[-1])
    [(differ,)] = duckdb.sql(f"""
        WITH placed AS ({placed(made)}),
        ours AS (SELECT position, split_part(rule, '(', 1) AS rule FROM placed
            JOIN '{folder / "ours" / "dropped.parquet"}' USING (id, question, problem_id))
        SELECT count(*) FROM ours FULL JOIN '{folder / "theirs" / "dropped.parquet"}' AS theirs USING (position)
        WHERE ours.rule IS DISTINCT FROM theirs.rule
    """).fetchall()
    cpu_s = sum(ours.by_step("cpu_s").values())
    return {
        "rows": rows,
        "ours": {"wall_s": ours.wall_s, "cpu_s": cpu_s},
        "datasets": theirs,
        "wall_ratio": theirs["wall_s"] / ours.wall_s,
        "cpu_ratio": theirs["cpu_s"] / cpu_s,
        "judged_differently": differ,
        "load_average": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000, help="of the largest set; 0: none")
    parser.add_argument("--against-datasets", type=int, default=0, metavar="ROWS")
    parser.add_argument("--out", type=Path, default=RESULTS / f"curation-{date.today()}.json")
    options = parser.parse_args()
    whole: dict[str, Any] = {
        "machine": {"python": platform.python_version(), "cpus": os.cpu_count()}
        | {name: version(name) for name in ("duckdb", "pyarrow", "numpy", "rensa", "datasets")},
        "targets": TARGETS,
    }
    with tempfile.TemporaryDirectory() as name:
        if options.rows:
            whole["sizes"] = sized(options.rows, Path(name))
            whole["slopes"] = slopes(whole["sizes"])
            print("slopes:", {name: round(value, 2) for name, value in whole["slopes"].items()})
        if options.against_datasets:
            whole["against_datasets"] = against_datasets(options.against_datasets, Path(name) / "datasets")
            print("against datasets:", json.dumps(whole["against_datasets"], indent=1))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(rounded(whole), indent=1) + "\n", encoding="utf-8")


def rounded(value: Any) -> Any:
    """Every number to five digits."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
