"""Stage sft: the base model learns from the kept trajectories, on the tokens that a model would have written."""

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from journeyman.config import NllObjective, PipelineConfig
from journeyman.environments import environment, specs_of
from journeyman.errors import DataError
from journeyman.progress import Observer
from journeyman.rollout.chat import ChatFormat
from journeyman.seeds import derive
from journeyman.training.checkpoints import Checkpoints
from journeyman.training.handle import LearnerHandle, LearnerSpec, Row
from journeyman.training.model import load_tokenizer, make_base
from journeyman.training.workers import Workers
from journeyman.trajectory import Trajectory, read_trajectories

OBJECTIVE = NllObjective()
REPORT_EVERY = 10
"""Steps between reports of metrics and progress."""
BUCKET = 16
"""Batches that are sorted by length together: little padding, batches still mixed."""


def run_sft(
    config: PipelineConfig, curated: Path, *, out: Path, work: Path, workers: Workers, observer: Observer
) -> dict[str, Any]:
    """Write `out/base` and `out/policy`, model folders. A next try with the same `work` goes on from its checkpoint."""
    started = time.perf_counter()
    demonstrations = read_trajectories(curated / "kept.parquet")
    base = out / "base"
    observer.progress(0, config.sft.steps, "tokenizer and base model")
    make_base(
        config.model,
        base,
        texts=[text for t in demonstrations for text in _texts(t)],
        specs=_specs(demonstrations),
        phrases=_phrases(demonstrations),
        seed=derive(config.seed, "base"),
    )
    rows, too_long = encode_rows(demonstrations, base, config.model.max_length)
    learner = workers.learner(_spec(config, base))
    metrics = _train(config, rows, learner, Checkpoints(work), observer)
    learner.save_model(out / "policy")
    return {
        "steps": config.sft.steps,
        "demonstrations": len(rows),
        "too_long": too_long,
        "learned_tokens": sum(sum(row.mask) for row in rows),
        "loss": metrics.get("loss/total"),
        "seconds": time.perf_counter() - started,
    }


def _spec(config: PipelineConfig, base: Path) -> LearnerSpec:
    return LearnerSpec(
        model=base,
        optimizer=config.sft.optimizer,
        total_steps=config.sft.steps,
        microbatch_tokens=config.sft.microbatch_tokens,
        seed=derive(config.seed, "sft"),
    )


def _train(
    config: PipelineConfig, rows: Sequence[Row], learner: LearnerHandle, checkpoints: Checkpoints, observer: Observer
) -> dict[str, float]:
    settings, done, metrics = config.sft, 0, {}
    if found := checkpoints.last():
        folder, state = found
        learner.load_checkpoint(folder)
        done = state["step"]
    for step in range(done, settings.steps):
        batch = batch_at(rows, step, settings.batch, derive(config.seed, "sft", "batches"))
        metrics = learner.step(batch, OBJECTIVE)
        if (step + 1) % REPORT_EVERY == 0 or step + 1 == settings.steps:
            observer.metrics(metrics, step=step + 1)
            observer.progress(step + 1, settings.steps, f"loss {metrics['loss/total']:.3f}")
        if (step + 1) % settings.checkpoint_every == 0:
            checkpoints.save(step + 1, learner.save_checkpoint, {})
    return metrics


def encode_rows(demonstrations: Sequence[Trajectory], model: Path, max_length: int) -> tuple[list[Row], int]:
    """(rows to learn from, how many trajectories are longer than the model)."""
    chat = ChatFormat(load_tokenizer(model))
    rows, too_long = list[Row](), 0
    for trajectory in demonstrations:
        contexts = chat.encode(trajectory, specs_of(trajectory))
        if max(len(ids) for ids, _ in contexts) <= max_length:
            rows += [Row(token_ids=tuple(ids), mask=tuple(mask)) for ids, mask in contexts]
        else:
            too_long += 1
    if not rows:
        raise DataError("no trajectory is left to learn from", remedy="look at dropped.parquet of the curate stage")
    return rows, too_long


def batch_at(rows: Sequence[Row], step: int, size: int, seed: int) -> list[Row]:
    """The batch of a step: epochs in a seeded order, rows of like length together. A function of its arguments alone."""
    per_epoch = -(-len(rows) // size)
    epoch, place = divmod(step, per_epoch)
    rng = random.Random(derive(seed, epoch))
    order = rng.sample(range(len(rows)), len(rows))
    chunk = size * BUCKET
    buckets = [sorted(order[i : i + chunk], key=lambda j: len(rows[j].token_ids)) for i in range(0, len(order), chunk)]
    batches = [bucket[i : i + size] for bucket in buckets for i in range(0, len(bucket), size)]
    rng.shuffle(batches)
    return [rows[i] for i in batches[place]]


def _texts(trajectory: Trajectory) -> list[str]:
    seen = [text for turn in trajectory.turns for text in turn.outputs()]
    shown = [message.content for message in trajectory.opening] or [trajectory.question]
    return [*shown, *(turn.text for turn in trajectory.turns), *seen]


def _phrases(demonstrations: Sequence[Trajectory]) -> list[str]:
    families = sorted({t.family for t in demonstrations})
    return list(dict.fromkeys(phrase for family in families for phrase in environment(family).phrases))


def _specs(demonstrations: Sequence[Trajectory]) -> list[dict[str, Any]]:
    """The tools of the first demonstration, whose boilerplate a new tokenizer takes in."""
    return [spec for trajectory in demonstrations[:1] for spec in specs_of(trajectory)]
