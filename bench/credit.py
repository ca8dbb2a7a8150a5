"""What credit costs: every credit on up to 100,000 trajectories, against plain loops, and against a step of training.

    python -m bench.credit                      # all of it, a few minutes; needs 8 GB
    python -m bench.credit --most 10000 --only group gae

Per credit: CPU seconds at 10^2, 10^3, ... trajectories of about 8 turns of 40 tokens, in groups of 8; the slope of log
seconds over log trajectories from the last two sizes (1 is linear; a little more where arrays outgrow the cache); how
many times longer a plain Python loop takes, where tests/unit/naive_credit.py has one; and its share of a step's time in
the learner. That share takes the quickstart's model and one thread: a step is timed on few rows, and taken to be linear in
tokens. Sampling is not counted, so that the share is of less than a whole step. Reading the arrays from trajectories is
timed by itself.

Prints a table; writes every figure to bench/results/credit-DATE.json.
"""

import argparse
import json
import math
import os
import platform
import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from transformers import logging

from journeyman.config import ComputeConfig, OptimizerConfig, RlConfig, ScratchModel
from journeyman.credit import COMBINATORS, CREDITS, VOCABULARY, ScoredBatch, build_credit
from journeyman.credit.base import places
from journeyman.credit.graphs import Moves
from journeyman.credit.readings import READINGS
from journeyman.credit.spans import Spans
from journeyman.credit.trees import Prefixes
from journeyman.environments import environment, tools_named
from journeyman.expressions import needs
from journeyman.training.handle import LearnerSpec, Row
from journeyman.training.learner import Learner
from journeyman.training.model import make_base
from journeyman.trajectory import Trajectory
from tests.unit import naive_credit as naive
from tests.unit.batches import attempt

RESULTS = Path(__file__).resolve().parent / "results"
GROUP, TURNS, TOKENS, RESULT = 8, (4, 12), (20, 60), 10
"""Trajectories of a problem; turns of one, and learned tokens of a turn, from and to; tokens of a tool's result."""
TEMPLATES = 64
"""Shapes of the trajectories that arrays are read from: tokens are shared, so that 100,000 of them fit."""
ROWS = 32
"""Rows of the learner's step."""
LOOPS: Mapping[str, Callable[..., Any]] = {
    "group": naive.by_group(naive.z),
    "rloo": naive.by_group(naive.rloo),
    "batch_normalized": naive.batch_normalized,
    "stratified": naive.stratified,
    "per_channel": partial(naive.per_channel, weights={"first": 1.0, "second": 1.0}),
    "gae": partial(naive.gae, gamma=1.0, lambda_=0.95),
    "oprl": naive.oprl,
    "prime": naive.prime,
}
OF_TOKENS = {"gae": "values_T", "oprl": "process_T", "prime": "process_T"}
"""What these loops are given besides, row by row."""


def batch_of(count: int, seed: int = 0) -> ScoredBatch:
    """A batch of made-up arrays."""
    rng = np.random.default_rng(seed)
    turns_B = rng.integers(TURNS[0], TURNS[1], count, endpoint=True)
    tokens_U = rng.integers(TOKENS[0], TOKENS[1], int(turns_B.sum()), endpoint=True)
    ends_U = np.cumsum(tokens_U + RESULT)
    turn_T = np.full(int(ends_U[-1]), -1)
    turn_T[places(ends_U - RESULT - tokens_U, tokens_U)] = np.repeat(np.arange(len(tokens_U)), tokens_U)
    return ScoredBatch(
        rewards_B=rng.integers(0, 5, count) / 4,
        group_B=np.arange(count) // GROUP,
        turns_B=turns_B,
        calls_U=rng.integers(0, 2, len(tokens_U)),
        tokens_U=tokens_U,
        mask_T=turn_T >= 0,
        turn_T=turn_T,
    )


def supplies(batch: ScoredBatch, seed: int = 1) -> dict[str, Callable[[], Any]]:
    """Numbers for what credits need, made when they are asked for."""
    rng = np.random.default_rng(seed)
    count, turns, tokens = len(batch.turns_B), len(batch.row_U), len(batch.mask_T)
    return {
        "turn_rewards_U": lambda: rng.random(turns),
        "channels": lambda: {
            "first": batch.rewards_B,
            "second": np.where(rng.random(count) < 0.5, np.nan, rng.random(count)),
        },
        # half of the turns start where another trajectory's turn at the same place does
        "forks_U": lambda: np.where(
            rng.random(turns) < 0.5, batch.group_U * (TURNS[1] + 1) + batch.index_U, count * TURNS[1] + np.arange(turns)
        ),
        "spans": lambda: _calls(batch, rng),
        "prefixes": lambda: _tree(batch),
        "moves": lambda: Moves(state_U=rng.integers(0, 3, turns), action_U=rng.integers(0, 3, turns)),
        "values_T": lambda: rng.random(tokens),
        "values_U": lambda: rng.random(turns),
        "q_values_U": lambda: rng.random(turns),
        "process_T": lambda: rng.normal(size=tokens),
        "ranks_B": lambda: rng.random((count, 3)),
        "mean_ranks": lambda: np.array([0.5, 0.5, 0.5]),
        "greedy_rewards_P": lambda: rng.random(batch.groups),
    }


def _calls(batch: ScoredBatch, rng: np.random.Generator) -> Spans:
    """Every turn with a call earned something by it."""
    turns = np.flatnonzero((batch.calls_U > 0) & (batch.tokens_U > 0))
    learned = np.flatnonzero(batch.mask_T)
    last = np.cumsum(batch.tokens_U)[turns] - 1
    return Spans(
        row_S=batch.row_U[turns],
        first_S=learned[last - np.minimum(batch.tokens_U[turns], 10) + 1],
        last_S=learned[last],
        reward_S=rng.random(len(turns)),
        rank_S=batch.index_U[turns] + 1,
        kind_S=np.full(len(turns), "call"),
    )


def _tree(batch: ScoredBatch) -> Prefixes:
    """The first 100 tokens are the group's own, what comes after is the trajectory's."""
    row_T = np.repeat(
        np.arange(len(batch.turns_B)), batch.sum_turns((batch.tokens_U + RESULT).astype(np.float64)).astype(int)
    )
    place_T = np.arange(len(row_T)) - np.searchsorted(row_T, np.arange(len(batch.turns_B)))[row_T]
    after_T = np.where(place_T < 100, -1 - (batch.group_B[row_T] * 100 + place_T), np.arange(len(row_T)))
    before_T = np.where(place_T > 0, np.append(0, after_T[:-1]), -len(row_T) * 100 - batch.group_B[row_T])
    return Prefixes(before_T=before_T.astype(np.uint64), after_T=after_T.astype(np.uint64))


def supplied(text: str, batch: ScoredBatch) -> Callable[[ScoredBatch], Any]:
    """The credit of an expression with what it needs."""
    have = supplies(batch)
    return build_credit(text, **{need: have[need]() for need in needs(text, VOCABULARY)})


def seconds(run: Callable[[], Any], budget: float = 1.0) -> float:
    """CPU seconds of the best of several runs, of one where it takes longer than the budget."""
    found: list[float] = []
    while not found or (sum(found) < budget and len(found) < 20):
        begun = time.process_time()
        run()
        found.append(time.process_time() - begun)
    return min(found)


def fresh(batch: ScoredBatch) -> ScoredBatch:
    """Without what earlier credits left in its cached properties."""
    return replace(batch)


def slope(times: Mapping[int, float]) -> float | None:
    """Of log seconds over log trajectories, from the last two sizes."""
    sizes = sorted(times)[-2:]
    if len(sizes) < 2:
        return None
    return math.log(times[sizes[1]] / times[sizes[0]]) / math.log(sizes[1] / sizes[0])


def credits_at(sizes: Sequence[int], texts: Sequence[str]) -> dict[str, dict[int, float]]:
    """Expression -> seconds by number of trajectories."""
    found: dict[str, dict[int, float]] = {text: {} for text in texts}
    for size in sizes:
        batch = batch_of(size)
        for text in texts:
            credit = supplied(text, batch)
            found[text][size] = seconds(lambda credit=credit, batch=batch: credit(fresh(batch)))
    return found


def attempts(count: int, seed: int = 0) -> list[list[Trajectory]]:
    """Scored groups of trajectories, of a few shapes."""
    rng = random.Random(seed)
    shapes = [
        attempt(0.0, turns=[rng.randint(*TOKENS) for _ in range(rng.randint(*TURNS))], results=RESULT)
        for _ in range(TEMPLATES)
    ]
    made = []
    for _ in range(count):
        shape, reward = rng.choice(shapes), rng.randrange(5) / 4
        earned = tuple(rng.random() for _ in shape.turns)
        second = None if rng.random() < 0.5 else rng.random()
        channels = {"first": reward, "second": second}
        made.append(shape.scored(reward, {}, turn_rewards=earned, reward_channels=channels))
    return [made[i : i + GROUP] for i in range(0, count, GROUP)]


def loops(size: int, texts: Sequence[str]) -> dict[str, dict[str, float]]:
    """Credit -> seconds of the plain loop and of the array code, on the same trajectories, reading them left out."""
    groups = attempts(size)
    batch, found = ScoredBatch.of(groups), {}
    for text in texts:
        if text not in LOOPS:
            continue
        more = [row.tolist() for row in batch.split(supplies(batch)[OF_TOKENS[text]]())] if text in OF_TOKENS else None
        run = partial(LOOPS[text], groups, *([] if more is None else [more]))
        credit = supplied(text, batch)
        plain = seconds(run)
        ours = seconds(lambda credit=credit: credit(fresh(batch)))
        found[text] = {"loop_s": plain, "arrays_s": ours, "ratio": plain / ours}
    return found


def reading(sizes: Sequence[int]) -> dict[str, dict[int, float]]:
    """What is read from trajectories -> seconds by number of trajectories."""
    found: dict[str, dict[int, float]] = {}
    for size in sizes:
        groups = attempts(size)
        batch = ScoredBatch.of(groups)
        found.setdefault("ScoredBatch.of", {})[size] = seconds(lambda groups=groups: ScoredBatch.of(groups))
        for name, read in READINGS.items():
            found.setdefault(name, {})[size] = seconds(lambda read=read, batch=batch: read(fresh(batch)))
    return found


def learner_step() -> dict[str, float]:
    """One optimizer step of the quickstart's model on a few rows, on one thread."""
    rng = random.Random(0)
    families = ("arithmetic", "lookup", "tables")
    asked = [p.question for name in families for p in islice(environment(name).generate(random.Random(0)), 400)]  # type: ignore[attr-defined]
    specs = [tool.spec() for name in families for tool in tools_named(name, tuple(environment(name).tools())).values()]
    with tempfile.TemporaryDirectory() as folder:
        phrases = [phrase for name in families for phrase in environment(name).phrases]
        make_base(ScratchModel(), Path(folder), texts=asked * 3, specs=specs, phrases=phrases, seed=0)
        spec = LearnerSpec(
            model=Path(folder), optimizer=OptimizerConfig(), total_steps=100, microbatch_tokens=16384, seed=0
        )
        learner = Learner(spec, ComputeConfig(device="cpu", threads=1))
        length = (TURNS[0] + TURNS[1]) // 2 * ((TOKENS[0] + TOKENS[1]) // 2 + RESULT)
        rows, objective = [_row(length, rng) for _ in range(ROWS)], RlConfig(name="bench").objective
        learner.step(rows, objective)
        taken = min(seconds(lambda: learner.step(rows, objective), budget=0.0) for _ in range(3))
    tokens = sum(len(row.token_ids) for row in rows)
    return {"rows": ROWS, "tokens": tokens, "seconds": taken, "seconds_per_token": taken / tokens}


def _row(length: int, rng: random.Random) -> Row:
    mask = (0, *(int(rng.random() < 0.8) for _ in range(length - 1)))
    logprobs = tuple(-6.0 * m for m in mask)
    ids = tuple(rng.randrange(300) for _ in range(length))
    return Row(token_ids=ids, mask=mask, advantages=tuple(map(float, mask)), logprobs=logprobs, old_logprobs=logprobs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=100_000, help="trajectories of the largest batch")
    parser.add_argument("--loop", type=int, default=1000, help="trajectories that plain loops are given")
    parser.add_argument("--only", nargs="+", help="these credits; none: all")
    parser.add_argument("--out", type=Path, default=RESULTS / f"credit-{date.today()}.json")
    options = parser.parse_args()
    logging.disable_progress_bar()
    sizes = [size for size in (100, 1000, 10_000, 100_000) if size <= options.most]
    texts = options.only or [*CREDITS, *(f"{name}(group)" for name in COMBINATORS)]
    learner = learner_step()
    timed, against, read = credits_at(sizes, texts), loops(options.loop, texts), reading(sizes)
    shared = max(size for size in sizes if size <= 10_000)
    step_s = learner["seconds_per_token"] * len(batch_of(shared).mask_T)
    whole = {
        "machine": {"python": platform.python_version(), "numpy": np.__version__, "cpus": os.cpu_count()},
        "tokens_per_trajectory": round(len(batch_of(1000).mask_T) / 1000, 1),
        "learner_step": learner,
        "share_at_trajectories": shared,
        "learner_step_s_there": step_s,
        "credits": {
            text: {"seconds": times, "slope": slope(times), "share": times[shared] / step_s, **against.get(text, {})}
            for text, times in timed.items()
        },
        "reading": {
            name: {"seconds": times, "slope": slope(times), "share": times[shared] / step_s}
            for name, times in read.items()
        },
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(rounded(whole), indent=1) + "\n", encoding="utf-8")
    print(table(whole, sizes))


def rounded(value: Any) -> Any:
    """Every number to four digits."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def table(whole: Mapping[str, Any], sizes: Sequence[int]) -> str:
    learner = whole["learner_step"]
    lines = [
        f"A step of the learner: {learner['seconds']:.2f} s for {learner['tokens']:,} tokens, taken as linear: "
        f"{whole['learner_step_s_there']:,.0f} s for {whole['share_at_trajectories']:,} trajectories.",
        f"{'CPU seconds at':<24}"
        + "".join(f"{size:>10,}" for size in sizes)
        + f"{'slope':>8}{'loop':>8}{'of a step':>12}",
    ]
    for name, row in {**whole["credits"], **whole["reading"]}.items():
        times = "".join(f"{row['seconds'][size]:>10.4f}" for size in sizes)
        ratio = f"{row['ratio']:.0f}x" if "ratio" in row else ""
        steep = "" if row["slope"] is None else f"{row['slope']:.2f}"
        lines.append(f"{name:<24}{times}{steep:>8}{ratio:>8}{row['share']:>12.4%}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
