"""Packing: rows share sequences, and nothing that comes out shows it."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen3NextConfig,
    Qwen3NextForCausalLM,
)

from journeyman.config import ComputeConfig, GrpoObjective, NllObjective, ObjectiveConfig, OptimizerConfig
from journeyman.config.objective import (
    ChiSquarePenalty,
    FlowObjective,
    ImplicitRewardObjective,
    KlCovariance,
    KlPenalty,
    Rejection,
    SuperHfObjective,
    WeightedMean,
)
from journeyman.errors import ConfigError
from journeyman.training.handle import LearnerSpec, Row
from journeyman.training.learner import Learner
from journeyman.training.network import Network
from journeyman.training.packing import bins, packed
from tests.unit.fakes import COMPUTE, World

CPU = torch.device("cpu")
SPEED = "throughput/learned_tokens_per_s"
LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=20)


def test_bins_by_hand() -> None:
    # Longest 6: first itself, then 4 + 2, then 3 + 3; the 1 fits nowhere else but behind... 6 and 4 + 2 and 3 + 3 are full.
    assert bins([3, 6, 2, 4, 3, 1]) == [[1], [3, 2], [0, 4], [5]]
    assert bins([5]) == [[0]] and bins([]) == []


@given(LENGTHS)
def test_every_row_has_one_place_and_no_sequence_is_longer_than_the_longest_row(lengths: list[int]) -> None:
    made = bins(lengths)
    assert sorted(row for rows in made for row in rows) == list(range(len(lengths)))
    filled = [sum(lengths[row] for row in rows) for rows in made]
    assert max(filled) == max(lengths)
    # First fit leaves at most one sequence half empty.
    assert sum(2 * tokens <= max(lengths) for tokens in filled) <= 1


@given(LENGTHS)
def test_what_is_packed_is_found_again_and_positions_count_in_the_row(lengths: list[int]) -> None:
    width = max(lengths)
    ids_BT = torch.zeros(len(lengths), width, dtype=torch.int64)
    for row, length in enumerate(lengths):
        ids_BT[row, :length] = 100 * (row + 1) + torch.arange(length)
    made = packed(lengths, CPU)
    if made is None:
        assert len(bins(lengths)) == len(lengths)
        return
    ids_PL = made.pack(ids_BT)
    back_BT, positions_BT = made.unpack(ids_PL), made.unpack(made.positions_PL)
    for row, length in enumerate(lengths):
        assert back_BT[row, :length].tolist() == ids_BT[row, :length].tolist()
        assert positions_BT[row, :length].tolist() == list(range(length))
    rows_PL = ids_PL // 100
    for sequence, positions in zip(rows_PL.tolist(), made.positions_PL.tolist(), strict=True):
        begins = [0, *(i for i in range(1, width) if sequence[i] != sequence[i - 1])]
        assert all(positions[i] == 0 for i in begins)


def test_rows_that_fit_nowhere_are_not_packed() -> None:
    assert packed([4, 4, 3], CPU) is None


def rows(count: int = 14, seed: int = 0) -> list[Row]:
    """Rows of long-tailed length with everything that an objective may ask for."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        length = rng.choice([2, 3, 5, 8, 13, 40])
        mask = (0, *(int(rng.random() < 0.7) for _ in range(length - 1)))
        logprobs = tuple(m * -rng.uniform(4, 7) for m in mask)
        made.append(
            Row(
                token_ids=tuple(rng.randrange(300) for _ in range(length)),
                mask=mask,
                advantages=tuple(m * rng.uniform(-2, 2) for m in mask),
                logprobs=logprobs,
                old_logprobs=tuple(p * rng.uniform(0.95, 1.05) for p in logprobs),
                temperature=rng.choice([0.7, 1.0]),
                weights=tuple(rng.choice([0.5, 1.0, 3.0]) for _ in range(length)),
                turns=tuple(t // 4 for t in range(length)),
                group=number % 3,
                reward=rng.choice([0.0, 1.0, None]),
                truncated=rng.random() < 0.2,
                weight=rng.choice([0.5, 1.0]),
            )
        )
    return made


def learner(model: Path, *, packing: bool, tokens: int = 4096) -> Learner:
    optimizer = OptimizerConfig(learning_rate=1e-3, warmup_steps=0, decay_fraction=0)
    return Learner(
        LearnerSpec(model=model, optimizer=optimizer, total_steps=9, microbatch_tokens=tokens, seed=1, packing=packing),
        COMPUTE,
    )


def gradients(made: Learner, batch: Sequence[Row], objective: ObjectiveConfig) -> tuple[dict, dict[str, torch.Tensor]]:
    """(metrics, gradient by name) of a step that moves nothing."""
    found = {}
    made._update = lambda _: found.update({n: p.grad.clone() for n, p in made._model.named_parameters()}) or 1.0  # type: ignore
    return made.step(batch, objective), found


OBJECTIVES: dict[str, ObjectiveConfig] = {
    "nll": NllObjective(),
    "grpo": GrpoObjective(),
    "parts": GrpoObjective(
        ratio="turn",
        normalisation=WeightedMean(),
        reject=Rejection(token=(0.9, 1.5)),
        overlong_filter=True,
        kl=KlPenalty(coefficient=0.1),
        chi_square=ChiSquarePenalty(coefficient=0.01),
        entropy=0.01,
        covariance=KlCovariance(share=0.1),
    ),
    "superhf": SuperHfObjective(),
    "flow": FlowObjective(to_reference=True),
    "implicit_reward": ImplicitRewardObjective(),
}


@pytest.mark.parametrize("case", OBJECTIVES)
@pytest.mark.parametrize("tokens", [4096, 120])
def test_loss_and_gradient_are_those_of_padded_rows(world: World, case: str, tokens: int) -> None:
    batch = rows()
    assert packed([len(row.token_ids) for row in batch], CPU) is not None
    expected, slopes = gradients(learner(world.model, packing=False), batch, OBJECTIVES[case])
    found, packed_slopes = gradients(learner(world.model, packing=True, tokens=tokens), batch, OBJECTIVES[case])
    for name in expected.keys() - {SPEED}:
        assert found[name] == pytest.approx(expected[name], rel=1e-5, abs=1e-7), name
    for name, slope in slopes.items():
        torch.testing.assert_close(packed_slopes[name], slope, rtol=1e-4, atol=1e-6, msg=name)


def test_in_double_precision_packed_logits_are_the_padded_ones_to_the_last_digits(world: World) -> None:
    network = Network(world.model, COMPUTE, packing=True)
    network.model.double()
    lengths = (17, 9, 8, 3, 2, 1)
    ids_BT = torch.randint(300, (6, 17), generator=torch.Generator().manual_seed(0))

    def logits(lengths: Sequence[int]) -> torch.Tensor:
        found, rows = network._forward(network.model, ids_BT, lengths)
        return rows(found.logits)

    alone, together = logits(()), logits(lengths)
    for row, length in enumerate(lengths):
        torch.testing.assert_close(together[row, :length], alone[row, :length], rtol=0, atol=1e-13)


def test_a_row_sees_nothing_of_its_neighbours(world: World) -> None:
    ours = learner(world.model, packing=True)
    first, long = (7, 8, 9), tuple(range(20))
    batches = [[long, first, (1, 2, 3, 4)], [long, first, (250, 251, 9, 1, 2, 3, 4, 5)], [first, first, long]]
    scores = [ours.score(batch)[batch.index(first)] for batch in batches]
    assert all(score == pytest.approx(scores[0], abs=1e-6) for score in scores)
    assert scores[0] == pytest.approx(learner(world.model, packing=False).score([first])[0], abs=1e-6)


def test_values_and_ranks_come_from_the_same_states(world: World) -> None:
    ours, theirs = (learner(world.model, packing=packing) for packing in (True, False))
    batch = [replace(row, mask=(1,) * len(row.mask)) for row in rows(8, seed=2)]
    for one in (ours, theirs):
        one.fit_values(
            [r.token_ids for r in batch], {"value": [[1.0] * (len(r.mask) + 1) for r in batch]}, learning_rate=0.1
        )
    values, expected = (one.values([r.token_ids for r in batch])["value"] for one in (ours, theirs))
    for found, wanted in zip(values, expected, strict=True):
        assert found == pytest.approx(wanted, abs=1e-4)
    for found, wanted in zip(ours.hidden_ranks(batch, 2), theirs.hidden_ranks(batch, 2), strict=True):
        assert found == pytest.approx(wanted, rel=1e-3, abs=1e-5)


SHAPE = {"vocab_size": 300, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
SMALL = {
    **SHAPE,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
}


def saved(model: PreTrainedModel, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_other_families_are_packed_too(dtype: str, tmp_path: Path) -> None:
    llama = LlamaForCausalLM(LlamaConfig(**SMALL, num_hidden_layers=2))
    gpt = GPT2LMHeadModel(GPT2Config(**SHAPE, n_embd=32, n_layer=2, n_head=2))
    compute = ComputeConfig.model_validate({**COMPUTE.model_dump(), "dtype": dtype})
    ids_BT = torch.randint(300, (3, 9), generator=torch.Generator().manual_seed(0))
    for name, model in (("llama", llama), ("gpt", gpt)):
        network = Network(saved(model, tmp_path / name), compute, packing=True)
        network.model.eval()
        with torch.no_grad():
            alone, together = network.logits(ids_BT), network.logits(ids_BT, (9, 5, 3))
        for row, length in enumerate((9, 5, 3)):
            tolerance = 1e-6 if dtype == "float32" else 0.01
            torch.testing.assert_close(together[row, :length], alone[row, :length], rtol=0, atol=tolerance)


@pytest.mark.filterwarnings("ignore")
def test_a_model_whose_rows_would_see_each_other_is_refused(tmp_path: Path) -> None:
    """Its linear attention carries a state over, whatever the positions say."""
    shape = Qwen3NextConfig(
        **SMALL,
        num_hidden_layers=4,
        num_experts=2,
        num_experts_per_tok=1,
        linear_num_value_heads=2,
        linear_num_key_heads=2,
        linear_key_head_dim=16,
        linear_value_head_dim=16,
        moe_intermediate_size=16,
        shared_expert_intermediate_size=16,
    )
    folder = saved(Qwen3NextForCausalLM(shape), tmp_path / "hybrid")
    with pytest.raises(ConfigError, match="hybrid can't be packed: its rows see each other"):
        Network(folder, COMPUTE, packing=True)
    assert Network(folder, COMPUTE).logits(torch.tensor([[1, 2, 3]])).shape == (1, 3, 300)
