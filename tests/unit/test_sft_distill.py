"""Weighted tokens and a teacher's distributions in the loss of supervised learning."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from journeyman.actors import InlineWorkers
from journeyman.config import NllObjective, OptimizerConfig
from journeyman.config.objective import DistillObjective
from journeyman.errors import ConfigError
from journeyman.progress import Silent
from journeyman.training.handle import LearnerSpec, Row
from journeyman.training.learner import Learner
from journeyman.training.objectives import TokenBatch, distill, nll
from journeyman.training.sft import run_sft
from journeyman.trajectory import write_trajectories
from tests.unit.fakes import COMPUTE, MAX_LENGTH, World
from tests.unit.test_sft import settings
from tests.unit.token_batches import Token, f64, token_batch

ADAMW = OptimizerConfig(learning_rate=1e-2, warmup_steps=0, decay_fraction=0)


def test_tokens_weigh_in_nll_what_the_row_says() -> None:
    row = [Token(now=-1, weight=3), Token(now=-2, weight=0.5), Token(now=-5, weight=9, mask=0)]
    # 3 * 1 + .5 * 2
    assert nll(token_batch([row]), NllObjective())[0].item() == 4


def logs(*probabilities: float) -> torch.Tensor:
    """Places at which the first of two tokens has a probability: 1 x S x 2."""
    return torch.log(f64([[[p, 1 - p] for p in probabilities]]))


def batch_of(learner: torch.Tensor, teacher: torch.Tensor, row: list[Token]) -> TokenBatch:
    return token_batch([row], logs_BSV=learner, reference_logs_BSV=teacher)


def test_distill_by_hand() -> None:
    row = [Token(now=math.log(0.5)), Token(now=math.log(0.25), weight=2), Token(mask=0)]
    made = batch_of(logs(0.5, 0.25, 0.5, 0.5), logs(0.75, 0.75, 0.9, 0.5), row)
    # KL((3/4, 1/4) || (1/2, 1/2)) = .75 ln 1.5 + .25 ln .5 = .130812; || (1/4, 3/4): .75 ln 3 - .25 ln 3 = .549306.
    loss, sums = distill(made, DistillObjective(weight=0.4))
    expected = 0.6 * (math.log(2) + 2 * math.log(4)) + 0.4 * (0.130812 + 2 * 0.549306)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert sums["policy/reference_kl_nats"].item() == pytest.approx(0.130812 + 0.549306, rel=1e-5)
    # At temperature 1/2 probabilities are squared: (9/10, 1/10) against (1/2, 1/2) is .9 ln 1.8 + .1 ln .2 = .368064.
    one = batch_of(logs(0.5, 0.5), logs(0.75, 0.5), [Token(now=math.log(0.5))])
    loss, _ = distill(one, DistillObjective(weight=1.0, temperature=0.5))
    assert loss.item() == pytest.approx(0.25 * 0.368064, rel=1e-5)


@given(st.floats(0.05, 0.95), st.floats(0.05, 0.95), st.floats(0.3, 4))
def test_the_divergence_is_zero_at_the_teacher_and_positive_elsewhere(p: float, q: float, temperature: float) -> None:
    config = DistillObjective(weight=1.0, temperature=temperature)
    apart, _ = distill(batch_of(logs(p, 0.5), logs(q, 0.5), [Token()]), config)
    same, _ = distill(batch_of(logs(q, 0.5), logs(q, 0.5), [Token()]), config)
    assert same.item() == pytest.approx(0, abs=1e-12) and apart.item() >= -1e-12


ROWS = [Row(token_ids=tuple(range(9 + i, 30 + 3 * i)), mask=(0, *(1,) * (20 + 2 * i))) for i in range(4)]


def moved(model: Path, folder: Path) -> Path:
    """A teacher: the same model, of other weights."""
    teacher = Learner(LearnerSpec(model=model, optimizer=ADAMW, total_steps=9, microbatch_tokens=999, seed=1), COMPUTE)
    for _ in range(3):
        teacher.step(ROWS, NllObjective())
    teacher.save_model(folder)
    return folder


@pytest.mark.parametrize("packing", [False, True])
def test_the_learner_asks_its_teacher_and_comes_near_it(world: World, packing: bool, tmp_path: Path) -> None:
    teacher = moved(world.model, tmp_path / "teacher")
    spec = LearnerSpec(
        model=world.model,
        optimizer=ADAMW,
        total_steps=99,
        microbatch_tokens=60,
        seed=1,
        reference=teacher,
        packing=packing,
    )
    ours, objective = Learner(spec, COMPUTE), DistillObjective(weight=1.0)
    first = ours.step(ROWS, objective)
    with torch.no_grad():
        networks = [AutoModelForCausalLM.from_pretrained(folder) for folder in (teacher, world.model)]
        expected = 0.0
        for row in ROWS:
            p, q = (torch.log_softmax(n(torch.tensor([row.token_ids])).logits[0, :-1], -1) for n in networks)
            expected += float((p.exp() * (p - q)).sum())
    learned = sum(sum(row.mask) for row in ROWS)
    assert first["loss/total"] == pytest.approx(expected / learned, rel=1e-4)
    for _ in range(10):
        last = ours.step(ROWS, objective)
    assert last["policy/reference_kl_nats"] < 0.5 * first["policy/reference_kl_nats"]
    # Without its teacher it is held against what it began as.
    alone = Learner(replace(spec, reference=None), COMPUTE)
    assert alone.step(ROWS, objective)["loss/total"] == pytest.approx(0, abs=1e-6)


def test_a_teacher_of_other_tokens_is_refused_before_the_first_step(world: World, tmp_path: Path) -> None:
    other = AutoModelForCausalLM.from_pretrained(world.model)
    other.resize_token_embeddings(300)
    other.save_pretrained(tmp_path)
    world.chat.tokenizer.save_pretrained(tmp_path)
    spec = LearnerSpec(
        model=world.model, optimizer=ADAMW, total_steps=9, microbatch_tokens=99, seed=1, reference=tmp_path
    )
    with pytest.raises(ConfigError, match=r"(?s)distill.teacher.*other tokens \(300 of them\)"):
        Learner(spec, COMPUTE)


def test_a_stage_learns_from_a_teacher(world: World, tmp_path: Path) -> None:
    write_trajectories(world.demonstrations, tmp_path / "kept.parquet")

    def run(name: str, **extra: object) -> float:
        with InlineWorkers(COMPUTE, max_length=MAX_LENGTH) as workers:
            return run_sft(
                settings(world, steps=2, **extra),
                tmp_path,
                out=tmp_path / name,
                work=tmp_path / f"{name}-work",
                workers=workers,
                observer=Silent(),
            )["loss"]

    plain = run("plain")
    # Its own base as the teacher, without likelihood: the first divergence is 0, the second that of one step.
    assert run("distilled", distill={"teacher": str(tmp_path / "plain" / "base"), "weight": 1.0}) < 0.2 * plain
