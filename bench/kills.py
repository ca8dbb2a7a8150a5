"""A small rl block with everything stateful is killed at random moments, goes on, and is held against an unbroken run.

    python -m bench.kills --kills 20          # some minutes

Each try is a process that SIGKILL ends at a moment drawn by the seed, between its start and the time that an unbroken
run takes; the last try is left alone. A run that ends before its share of kills begins anew in another folder. Then
policy, buffers, curriculum, what was sampled ahead, and metrics of every step must be those of the unbroken run, byte
for byte (times aside). Prints the differences; there should be none.
"""

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from tests.unit.fakes import COMPUTE, MAX_LENGTH, SMALL, make_world, oddness

BLOCK: Mapping[str, Any] = {
    **{"name": "killed", "reward": "odd", "credit": "group_mean", "temperature": 0.7, "checkpoint_every": 2},
    **{"problems": 3, "group": 4, "minibatch": 7, "max_turns": 2, "max_new_tokens": 12},
    "optimizer": {"learning_rate": 3e-3, "warmup_steps": 0},
    "curriculum": {"type": "weakest"},
    "asynchrony": {"staleness": 1},
    "monitors": {"entropy_collapse": {"warn": 100.0}},
    "replay": {
        **{"capacity": 12, "fraction": 0.5, "max_age": 4, "max_uses": 2, "priority": "advantage"},
        **{"recalibration": {"history": 6}, "selection": {"by": "contrastive", "keep": 3}, "solutions": {}},
        "seeds": {"steps": 6, "most": 9},
    },
}
BEFOREHAND = (
    *(
        "tests.unit.fakes",
        "journeyman.training.reinforce",
        "journeyman.training.learner",
        "journeyman.rollout.torch_sampler",
    ),
    *("journeyman.monitors", "pyarrow.parquet", "transformers.models.qwen3.modeling_qwen3"),
)
"""What the processes would import one by one."""
TIMED = ("time/", "throughput/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What every try reads."""

    model: Path
    synthesized: Path
    curated: Path
    steps: int


def given(folder: Path, steps: int) -> Given:
    world = make_world(folder)
    (folder / "curated").mkdir()
    shutil.copyfile(world.synthesized / "demonstrations.parquet", folder / "curated" / "kept.parquet")
    return Given(model=world.model, synthesized=world.synthesized, curated=folder / "curated", steps=steps)


def one_try(what: Given, folder: Path) -> None:
    """A process's life: the block from its last checkpoint to its end."""
    import torch

    from journeyman.actors import InlineWorkers
    from journeyman.config import PipelineConfig, RlConfig
    from journeyman.monitors import Monitors
    from journeyman.progress import Silent
    from journeyman.rewards import REWARDS
    from journeyman.training.reinforce import Inputs, run_rl

    class Noting(Silent):
        def metrics(self, values: Mapping[str, float], *, step: int) -> None:
            known = {name: value for name, value in values.items() if not name.startswith(TIMED)}
            (folder / f"metrics-{step}.json").write_text(json.dumps(known, sort_keys=True))

    torch.set_num_threads(1)
    REWARDS["odd"] = oddness  # pyright: ignore[reportIndexIssue]
    folder.mkdir(exist_ok=True)
    shutil.rmtree(folder / "out", ignore_errors=True)  # as the store of artifacts does before each try
    stage = RlConfig.model_validate({**BLOCK, "steps": what.steps})
    with InlineWorkers(COMPUTE, max_length=MAX_LENGTH) as workers:
        run_rl(
            PipelineConfig(model=SMALL, compute=COMPUTE),
            stage,
            Inputs(
                policy=what.model,
                problems=what.synthesized,
                demonstrations=what.curated,
                taught=what.synthesized,
            ),
            out=folder / "out",
            work=folder / "work",
            workers=workers,
            observer=Noting(),
            watch=Monitors(stage.monitors),
        )
    (folder / "done").touch()


def context() -> ForkServerContext:
    """Processes that begin with everything imported."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(list(BEFOREHAND))
    return made


def tried(what: Given, folder: Path, processes: ForkServerContext, seconds: float | None = None) -> bool:
    """Whether a try came to its end; after so many seconds it is killed. Raises where it failed by itself."""
    child = processes.Process(target=one_try, args=(what, folder))
    child.start()
    child.join(seconds)
    if child.is_alive() and child.pid is not None:
        os.kill(child.pid, signal.SIGKILL)
    child.join()
    if child.exitcode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"a try in {folder} failed with exit code {child.exitcode}")
    return child.exitcode == 0


def ending(folder: Path) -> dict[str, Any]:
    """What a run has come to, by the name of what it is."""
    [*_, last] = sorted((folder / "work" / "checkpoints").glob("step-*"))
    state = json.loads((last / "state.json").read_text())
    files = [folder / "out" / "policy" / "model.safetensors", folder / "out" / "replay.parquet"]
    files += [*folder.glob("metrics-*.json"), *(p for p in (last / "replayed").rglob("*") if p.suffix == ".json")]
    found = {str(path.relative_to(folder)): path.read_bytes() for path in files}
    kept = ("curriculum", "sampling", "history", "supplies", "watch", "step")
    return {**found, **{f"state of {name}": state[name] for name in kept}}


def differences(what: Given, folder: Path, *, kills: int, seed: int) -> tuple[list[str], int]:
    """(what differs between killed runs and an unbroken one, how many runs took the kills)"""
    rng, processes = random.Random(seed), context()
    first = processes.Process(target=os.getpid)  # it waits for the imports
    first.start()
    first.join()
    started = time.perf_counter()
    tried(what, folder / "unbroken", processes)
    longest, expected = time.perf_counter() - started, ending(folder / "unbroken")
    found, runs = [], 0
    while kills:
        runs += 1
        run = folder / f"killed-{runs}"
        while not tried(what, run, processes, rng.uniform(0, longest) if kills else None):
            kills -= 1
        now = ending(run)
        found += [f"{run.name}: {name}" for name in {*expected, *now} if expected.get(name) != now.get(name)]
    return found, runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        what = given(folder / "given", arguments.steps)
        found, runs = differences(what, folder, kills=arguments.kills, seed=arguments.seed)
    print(
        f"{arguments.kills} kills in {runs} runs of {arguments.steps} steps: {len(found)} differences", *found, sep="\n"
    )


if __name__ == "__main__":
    main()
