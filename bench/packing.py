"""Padded against packed: tokens a second of the learner, on short rows of the quickstart and on rows with a long tail.

    python -m bench.packing                     # a few minutes
    python -m bench.packing --rounds 1 --steps 2

Rows: demonstrations of the quickstart; and made-up ones, lognormal in length. Batches: those of the sft stage, in which
rows of like length stand together, and shuffled ones, as reinforcement learning and mixtures have them. Each is learned
from by two learners of the quickstart's model in turn, one padding and one packing, so that both meet the same load of the
machine; told is the median over rounds. `computed` is tokens that go through the layers by tokens that are there.

Prints a table; writes every figure to bench/results/packing-DATE.json.
"""

import argparse
import json
import os
import platform
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import logging

from journeyman.config import NllObjective, PipelineConfig
from journeyman.config.load import load_pipeline
from journeyman.environments import environment, specs_of
from journeyman.progress import Silent
from journeyman.synthesis.stage import synthesize
from journeyman.training.handle import LearnerSpec, Row
from journeyman.training.learner import Learner
from journeyman.training.lessons import encode_lessons
from journeyman.training.mixture import batch_at
from journeyman.training.model import make_base
from journeyman.training.packing import bins
from journeyman.trajectory import read_trajectories

ROOT = Path(__file__).resolve().parents[1]
MEDIAN_LENGTH, SPREAD, SHORTEST = 90, 0.9, 16
"""Of the rows with a long tail: tokens, standard deviation of their logarithm, fewest tokens."""
COUNT = 640
"""Made-up rows."""


def quickstart_rows(config: PipelineConfig, folder: Path) -> tuple[list[Row], Path]:
    """(rows, model folder)."""
    synthesize(config, folder / "synthesized", Silent())
    demonstrations = read_trajectories(folder / "synthesized" / "demonstrations.parquet")
    make_base(
        config.model,
        folder / "model",
        texts=[text for t in demonstrations for text in (t.question, *(turn.text for turn in t.turns))],
        specs=specs_of(demonstrations[0]),
        phrases=[phrase for family in {t.family for t in demonstrations} for phrase in environment(family).phrases],
        seed=0,
    )
    return encode_lessons(demonstrations, folder / "model", config.model.max_length).rows, folder / "model"


def tailed_rows(longest: int, seed: int = 0) -> list[Row]:
    rng = random.Random(seed)
    rows = []
    for _ in range(COUNT):
        length = min(longest, max(SHORTEST, round(MEDIAN_LENGTH * rng.lognormvariate(0, SPREAD))))
        ids = tuple(rng.randrange(300) for _ in range(length))
        rows.append(Row(token_ids=ids, mask=(0, *(1,) * (length - 1))))
    return rows


def shuffled(rows: Sequence[Row], step: int, size: int) -> list[Row]:
    return random.Random(step).sample(list(rows), size)


def computed(batches: Sequence[Sequence[Row]]) -> dict[str, float]:
    """Tokens that go through the layers by tokens that are there, where a batch fits a micro-batch."""
    lengths = [[len(row.token_ids) for row in batch] for batch in batches]
    there = sum(map(sum, lengths))
    return {
        "padded": sum(max(own) * len(own) for own in lengths) / there,
        "packed": sum(max(own) * len(bins(own)) for own in lengths) / there,
    }


def compared(model: Path, config: PipelineConfig, batches: Sequence[Sequence[Row]], rounds: int) -> dict[str, Any]:
    """Tokens a second of both, in turn; without a GPU a CPU second, for others may be at work."""
    learners = {name: _learner(model, config, packing=name == "packed") for name in ("padded", "packed")}
    tokens = sum(len(row.token_ids) for batch in batches for row in batch)
    seconds: dict[str, list[float]] = {name: [] for name in learners}
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    for round_ in range(rounds + 1):  # the first warms up
        for name, learner in list(learners.items())[:: 1 if round_ % 2 else -1]:
            started = clock()
            for batch in batches:
                learner.step(batch, NllObjective())
            if round_:
                seconds[name].append(clock() - started)
    speeds = {name: tokens / median(own) for name, own in seconds.items()}
    ratios = [a / b for a, b in zip(seconds["padded"], seconds["packed"], strict=True)]
    return {
        "tokens_per_s": {name: round(speed) for name, speed in speeds.items()},
        "speed_up": round(median(ratios), 3),
        "speed_ups": [round(ratio, 3) for ratio in ratios],
        "computed": {name: round(value, 3) for name, value in computed(batches).items()},
    }


def _learner(model: Path, config: PipelineConfig, *, packing: bool) -> Learner:
    spec = LearnerSpec(
        model=model,
        optimizer=config.sft.optimizer,
        total_steps=10**6,
        microbatch_tokens=config.sft.microbatch_tokens,
        seed=0,
        packing=packing,
    )
    return Learner(spec, config.compute)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6, help="batches a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--demonstrations", type=int, default=600)
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    config = load_pipeline(
        "quickstart", ROOT / "pipelines.yaml", [f"synthesize.demonstrations={arguments.demonstrations}"]
    )
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        short, model = quickstart_rows(config, Path(folder))
        sets: Mapping[str, Sequence[Row]] = {"quickstart": short, "long tail": tailed_rows(config.model.max_length)}
        size, steps = config.sft.batch, range(arguments.steps)
        for name, rows in sets.items():
            for how, batches in {
                "by length": [batch_at(rows, step, size, 0) for step in steps],
                "shuffled": [shuffled(rows, step, size) for step in steps],
            }.items():
                found[f"{name}, {how}"] = told = compared(model, config, batches, arguments.rounds)
                print(f"{name + ', ' + how:24}", *(f"{k} {v}" for k, v in told.items() if k != "speed_ups"), flush=True)
    result = {
        "machine": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "cpus": os.cpu_count(),
            "threads": config.compute.threads,
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "batch": config.sft.batch,
        "microbatch_tokens": config.sft.microbatch_tokens,
        "vocabulary": config.model.vocabulary if config.model.type == "scratch" else None,
        "cases": found,
    }
    path = ROOT / "bench" / "results" / f"packing-{date.today()}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(path)


if __name__ == "__main__":
    main()
