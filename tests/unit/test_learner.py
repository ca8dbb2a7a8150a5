"""The learner: the same step under any micro-batching, honest log-probabilities, and checkpoints that go on exactly."""

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from journeyman.config import ComputeConfig, ObjectiveConfig, OptimizerConfig
from journeyman.training.batching import collate, microbatches
from journeyman.training.handle import LearnerHandle, LearnerSpec, Row
from journeyman.training.learner import Learner, pick_device, pick_dtype
from journeyman.training.optimizers import build_optimizers, rate_factor
from tests.unit.fakes import COMPUTE, World

NLL, GRPO = ObjectiveConfig(type="nll"), ObjectiveConfig()
ADAMW = OptimizerConfig(learning_rate=1e-3, warmup_steps=0, decay_fraction=0)
MUON = OptimizerConfig(type="muon", learning_rate=1e-3, muon_learning_rate=0.01, warmup_steps=2, decay_fraction=0.5)
CPU = torch.device("cpu")
SPEED = "throughput/learned_tokens_per_s"


def learner(world: World, *, optimizer: OptimizerConfig = ADAMW, tokens: int = 4096, dtype: str = "float32") -> Learner:
    spec = LearnerSpec(model=world.model, optimizer=optimizer, total_steps=10, microbatch_tokens=tokens, seed=1)
    return Learner(spec, ComputeConfig.model_validate({**COMPUTE.model_dump(), "dtype": dtype}))


def rows(count: int, *, seed: int = 0, longest: int = 30) -> list[Row]:
    """Rows of different lengths with some of everything that a row can have."""
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        length = rng.randint(2, longest)
        mask = (0, *(rng.randint(0, 1) for _ in range(length - 1)))
        logprobs = tuple(m * -rng.uniform(4, 7) for m in mask)
        made.append(
            Row(
                token_ids=tuple(rng.randrange(300) for _ in range(length)),
                mask=mask,
                advantages=tuple(m * rng.uniform(-2, 2) for m in mask),
                logprobs=logprobs,
                old_logprobs=tuple(p * rng.uniform(0.95, 1.05) for p in logprobs),
                temperature=rng.choice([0.7, 1.0]),
            )
        )
    return made


@cache
def opened(model: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(model)


def plain_logprobs(model: Path, ids: Sequence[int], temperature: float = 1.0) -> torch.Tensor:
    """By a forward pass of the one row, without padding."""
    network = opened(model)
    with torch.no_grad():
        logits = network(torch.tensor([ids])).logits[0, :-1] / temperature
    return torch.log_softmax(logits, -1).gather(-1, torch.tensor(ids[1:])[:, None]).squeeze(-1)


def difference(one: LearnerHandle, other: LearnerHandle) -> float:
    ours, theirs = one.weights(), other.weights()
    assert ours.keys() == theirs.keys()
    return max((ours[name] - theirs[name]).abs().max().item() for name in ours)


@pytest.mark.parametrize("objective", [NLL, GRPO], ids=["nll", "grpo"])
@pytest.mark.parametrize("tokens", [1, 40, 100])
def test_a_step_is_the_same_under_any_micro_batching(world: World, objective: ObjectiveConfig, tokens: int) -> None:
    batch = rows(12)
    whole, parts = learner(world, tokens=10**6), learner(world, tokens=tokens)
    expected = whole.step(batch, objective)
    found = parts.step(random.Random(3).sample(batch, len(batch)), objective)
    for name in set(expected) - {SPEED}:
        assert found[name] == pytest.approx(expected[name], rel=1e-4, abs=1e-7), name
    # AdamW's first step is the rate times the gradient's sign, where the gradient is not tiny.
    assert difference(whole, parts) < 2e-5


def test_a_rows_padding_changes_nothing_for_it(world: World) -> None:
    short, long = Row(token_ids=(5, 6, 7), mask=(0, 1, 1)), Row(token_ids=(9,) * 40, mask=(0,) * 40)
    alone, padded = learner(world), learner(world)
    assert padded.step([short, long], NLL)["loss/total"] == pytest.approx(
        alone.step([short], NLL)["loss/total"], rel=1e-5
    )
    assert difference(alone, padded) < 2e-5


def test_the_loss_is_the_mean_over_all_learned_tokens(world: World) -> None:
    batch = [
        Row(token_ids=(5, 6, 7, 8), mask=(1, 0, 1, 1)),  # entry 0 has nothing before it: never learned
        Row(token_ids=(9, 10), mask=(0, 1)),
    ]
    first, second = (plain_logprobs(world.model, row.token_ids) for row in batch)
    # Three learned tokens in all: 7 and 8 of the first row, 10 of the second.
    expected = -(first[1] + first[2] + second[0]) / 3
    assert learner(world).step(batch, NLL)["loss/total"] == pytest.approx(expected.item(), rel=1e-5)


def test_sampling_temperature_divides_the_logits(world: World) -> None:
    row = Row(token_ids=(5, 6, 7), mask=(0, 1, 1), temperature=0.5)
    expected = -plain_logprobs(world.model, row.token_ids, 0.5).mean()
    assert learner(world).step([row], NLL)["loss/total"] == pytest.approx(expected.item(), rel=1e-5)


def test_policy_metrics_by_hand(world: World) -> None:
    ids = (5, 6, 7)
    now = plain_logprobs(world.model, ids)
    # The sampler's probabilities were a third of the learner's, the old ones two thirds: importance 2, ratio 1.5.
    row = Row(
        token_ids=ids,
        mask=(0, 1, 1),
        advantages=(0.0, 1.0, 1.0),
        logprobs=(0.0, *(now - math.log(3)).tolist()),
        old_logprobs=(0.0, *(now - math.log(1.5)).tolist()),
    )
    metrics = learner(world).step([row], ObjectiveConfig(importance_cap=1.9))
    assert metrics["policy/importance_ratio_mean"] == pytest.approx(3, rel=1e-4)
    assert (metrics["policy/clip_fraction"], metrics["policy/truncated_fraction"]) == (1, 1)
    assert metrics["loss/total"] == pytest.approx(-1.9 * 1.28, rel=1e-4)  # clipped, so no gradient either
    assert metrics["loss/gradient_norm"] == 0
    entropy = metrics["policy/entropy_nats"]
    assert 5 < entropy <= math.log(world.chat.tokenizer.vocab_size + 99)  # untrained: nearly uniform


def test_a_batch_without_anything_to_learn_changes_nothing(world: World) -> None:
    ours = learner(world)
    assert ours.step([Row(token_ids=(1, 2, 3), mask=(1, 0, 0))], NLL) == {} == ours.step([], NLL)
    assert difference(ours, learner(world)) == 0


def test_nll_makes_the_learned_tokens_likelier_and_zero_weights_do_nothing(world: World) -> None:
    ours = learner(world)
    row = Row(token_ids=(5, 6, 7), mask=(0, 0, 1))
    before = ours.score([row.token_ids])[0]
    for _ in range(3):
        ours.step([row], NLL)
    after = ours.score([row.token_ids])[0]
    assert after[1] > before[1] + 0.05
    idle = learner(world)
    idle.step([replace(row, advantages=(0.0, 0.0, 0.0))], NLL)
    assert difference(idle, learner(world)) == 0


def test_scores_are_those_of_a_plain_forward_pass(world: World) -> None:
    ours = learner(world, tokens=64)
    batch = [row.token_ids for row in rows(9, seed=1)]
    for temperature in (1.0, 0.5):
        for ids, scores in zip(batch, ours.score(batch, temperature), strict=True):
            expected = plain_logprobs(world.model, ids, temperature).tolist()
            assert scores == pytest.approx(expected, abs=1e-5) and len(scores) == len(ids) - 1
    assert ours.score([]) == [] and ours.score([(3,)]) == [[]]
    assert ours.score([(3,), (3, 4)])[1] == pytest.approx(ours.score([(3, 4)])[0])


def test_bfloat16_is_near_and_exact_scores_are_float32(world: World) -> None:
    half, full = learner(world, dtype="bfloat16"), learner(world)
    batch = [row.token_ids for row in rows(4)]
    exact, near, expected = half.score(batch, exact=True), half.score(batch), full.score(batch)
    assert [x for row in exact for x in row] == pytest.approx([x for row in expected for x in row], abs=1e-5)
    assert near != exact
    assert [x for row in near for x in row] == pytest.approx([x for row in expected for x in row], abs=0.1)
    assert half.step(rows(4), NLL)["loss/total"] == pytest.approx(full.step(rows(4), NLL)["loss/total"], rel=0.01)
    assert {p.dtype for p in half.weights().values()} == {torch.float32}  # masters
    assert half.sampler_precision() == full.sampler_precision() == "float32"


@pytest.mark.parametrize("optimizer", [ADAMW, MUON], ids=["adamw", "muon"])
def test_a_restored_learner_takes_the_same_steps(world: World, tmp_path: Path, optimizer: OptimizerConfig) -> None:
    unbroken, restored = learner(world, optimizer=optimizer), learner(world, optimizer=optimizer)
    for step in range(3):
        unbroken.step(rows(4, seed=step), NLL)
    unbroken.save_checkpoint(tmp_path / "a" / "b")
    restored.load_checkpoint(tmp_path / "a" / "b")
    assert difference(unbroken, restored) == 0
    for step in range(3, 7):
        ours, theirs = (one.step(rows(4, seed=step), GRPO) for one in (unbroken, restored))
        assert {**ours, SPEED: 0} == {**theirs, SPEED: 0}
    assert difference(unbroken, restored) == 0


def test_a_checkpoint_of_another_optimizer_or_model_is_refused(world: World, tmp_path: Path) -> None:
    ours = learner(world)
    ours.step(rows(2), NLL)
    ours.save_checkpoint(tmp_path)
    with pytest.raises(ValueError):
        learner(world, optimizer=MUON).load_checkpoint(tmp_path)
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    torch.save({name: value for name, value in state.items() if "norm" not in name}, tmp_path / "model.pt")
    with pytest.raises(RuntimeError, match="Missing key"):
        learner(world).load_checkpoint(tmp_path)


def test_a_saved_model_opens_with_the_auto_classes_and_computes_the_same(world: World, tmp_path: Path) -> None:
    ours = learner(world)
    ours.step(rows(4), NLL)
    ours.save_model(tmp_path)
    ids = tuple(range(20))
    assert ours.score([ids])[0] == pytest.approx(plain_logprobs(tmp_path, ids).tolist(), abs=1e-5)
    assert ours.score([ids])[0] != pytest.approx(plain_logprobs(world.model, ids).tolist(), abs=1e-3)
    saved = opened(tmp_path).state_dict()
    for name, value in ours.weights().items():
        torch.testing.assert_close(saved[name], value, rtol=0, atol=0)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.encode("6*7 <answer>") == world.chat.tokenizer.encode("6*7 <answer>")
    assert tokenizer.chat_template == world.chat.tokenizer.chat_template


def test_weights_are_copies_and_tied_ones_come_once(world: World) -> None:
    ours = learner(world)
    weights = ours.weights()
    assert "lm_head.weight" not in weights and "model.embed_tokens.weight" in weights
    before = {name: value.clone() for name, value in weights.items()}
    ours.step(rows(4), NLL)
    assert all(torch.equal(weights[name], before[name]) for name in before)
    assert difference(ours, learner(world)) > 0


def test_muon_has_the_layers_matrices_and_adamw_the_rest(world: World) -> None:
    model = AutoModelForCausalLM.from_pretrained(world.model)
    names = {id(p): name for name, p in model.named_parameters()}
    muon, adamw = build_optimizers(model, MUON)
    ours, rest = ([names[id(p)] for g in o.param_groups for p in g["params"]] for o in (muon, adamw))
    assert len(ours) == 14 and all(name.endswith("_proj.weight") for name in ours)  # 2 layers of q k v o gate up down
    assert "model.embed_tokens.weight" in rest and all("norm" in name or "embed" in name for name in rest)
    assert sorted(ours + rest) == sorted(names.values())
    [alone] = build_optimizers(model, ADAMW)
    assert sum(len(group["params"]) for group in alone.param_groups) == len(names)
    assert (muon.param_groups[0]["lr"], adamw.param_groups[0]["lr"]) == (0.01, 1e-3)


SCHEDULE = OptimizerConfig(warmup_steps=4, decay_fraction=0.5, final_fraction=0.1)


@pytest.mark.parametrize(
    ("step", "factor"),
    [
        *((0, 0.25), (1, 0.5), (2, 0.75), (3, 1.0), (4, 1.0), (10, 1.0)),
        (15, 0.55),  # 5 of the last 10 steps are left: .1 + .9 * 5/10
        (19, 0.19),  # .1 + .9 * 1/10
        *((20, 0.1), (99, 0.1)),
    ],
)
def test_the_schedule_by_hand(step: int, factor: float) -> None:
    assert rate_factor(step, 20, SCHEDULE) == pytest.approx(factor)


@given(
    st.integers(0, 300),
    st.integers(1, 200),
    st.builds(
        OptimizerConfig,
        warmup_steps=st.integers(0, 50),
        decay_fraction=st.floats(0, 1),
        final_fraction=st.floats(0, 1),
    ),
)
def test_the_rate_stays_between_its_ends(step: int, total: int, config: OptimizerConfig) -> None:
    factor = rate_factor(step, total, config)
    lowest = min(config.final_fraction, 1 / max(1, config.warmup_steps))
    assert lowest - 1e-9 <= factor <= 1
    if step >= config.warmup_steps:
        assert rate_factor(step + 1, total, config) <= factor + 1e-9


def test_the_schedule_drives_every_optimizer(world: World) -> None:
    ours = learner(world, optimizer=MUON)
    rates = [ours.step(rows(2), NLL)["optimizer/learning_rate"] for _ in range(10)]
    # Two steps of warm-up, flat until half of ten, then a tenth of the rate at the end: .1 + .9 * left/5.
    expected = [0.5, 1, 1, 1, 1, 1, 0.82, 0.64, 0.46, 0.28]
    assert rates == pytest.approx([1e-3 * factor for factor in expected])


def test_the_gradient_norm_is_that_before_clipping(world: World) -> None:
    loose, tight = (learner(world, optimizer=ADAMW.model_copy(update={"clip_norm": c})) for c in (1e9, 1e-3))
    ours, theirs = (one.step(rows(4), NLL)["loss/gradient_norm"] for one in (loose, tight))
    assert ours == theirs > 1e-3


LENGTHS = st.lists(st.integers(1, 40), max_size=20)


@given(LENGTHS, st.integers(1, 200))
@settings(max_examples=50)
def test_micro_batches_hold_every_row_once_within_their_bound(lengths: list[int], most: int) -> None:
    made = [Row(token_ids=(i + 1,) * length, mask=(1,) * length) for i, length in enumerate(lengths)]
    batches = microbatches(made, most, CPU)
    seen = [int(ids[0]) for batch in batches for ids in batch.ids_BT]
    assert sorted(seen) == list(range(1, len(lengths) + 1))
    for batch in batches:
        assert batch.ids_BT.numel() <= most or len(batch.ids_BT) == 1
    widths = [batch.ids_BT.shape[1] for batch in batches]
    assert widths == sorted(widths)


def test_columns_are_about_the_next_token() -> None:
    long = Row(
        token_ids=(7, 8, 9),
        mask=(0, 1, 1),
        advantages=(0.0, 2.0, 3.0),
        logprobs=(0.0, -1.0, -2.0),
        old_logprobs=(0.0, -1.5, -2.5),
        temperature=0.5,
    )
    short = Row(token_ids=(5, 6), mask=(0, 1))
    made = collate([long, short], CPU)
    assert made.ids_BT.tolist() == [[7, 8, 9], [5, 6, 0]]
    assert made.mask_BT.tolist() == [[1, 1], [1, 0]]
    assert made.advantages_BT.tolist() == [[2, 3], [1, 0]]  # supervised rows: 1 each
    assert made.sampler_logprobs_BT.tolist() == [[-1, -2], [0, 0]]
    assert made.old_logprobs_BT.tolist() == [[-1.5, -2.5], [0, 0]]
    assert made.temperature_B.tolist() == [0.5, 1.0]
    assert collate([replace(long, old_logprobs=())], CPU).old_logprobs_BT.tolist() == [[-1, -2]]  # the sampler's


def test_devices_and_arithmetic_follow_the_config() -> None:
    assert pick_device(ComputeConfig(device="cpu")) == CPU
    assert pick_device(ComputeConfig()).type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert pick_dtype(ComputeConfig(dtype="float32"), CPU) is torch.float32
    assert pick_dtype(ComputeConfig(dtype="bfloat16"), CPU) is torch.bfloat16
    assert pick_dtype(ComputeConfig(), CPU) in (torch.float32, torch.bfloat16)
