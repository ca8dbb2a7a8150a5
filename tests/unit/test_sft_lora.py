"""Adapters: nothing at first, merged in all that leaves the learner, and a base that stays as it is."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from journeyman.actors import InlineWorkers
from journeyman.config import LoraConfig, NllObjective, OptimizerConfig, RlConfig
from journeyman.errors import ConfigError
from journeyman.progress import Silent
from journeyman.training.adapters import add_adapters, merged
from journeyman.training.handle import LearnerSpec, Row
from journeyman.training.learner import Learner
from journeyman.training.sft import run_sft
from journeyman.trajectory import write_trajectories
from tests.unit.fakes import COMPUTE, MAX_LENGTH, World
from tests.unit.test_sft import settings

ADAMW = OptimizerConfig(learning_rate=1e-2, warmup_steps=0, decay_fraction=0)
MUON = OptimizerConfig(type="muon", learning_rate=1e-2, muon_learning_rate=0.02, warmup_steps=0)
LORA = LoraConfig(rank=4, alpha=8)
BATCH = [tuple(range(10 + i, 30 + 2 * i)) for i in range(4)]
ROWS = [Row(token_ids=ids, mask=(0, *(1,) * (len(ids) - 1))) for ids in BATCH]
NLL = NllObjective()


def learner(world: World, lora: LoraConfig | None = LORA, optimizer: OptimizerConfig = ADAMW) -> Learner:
    return Learner(
        LearnerSpec(model=world.model, optimizer=optimizer, total_steps=9, microbatch_tokens=4096, seed=1, lora=lora),
        COMPUTE,
    )


def test_the_merged_weight_by_hand() -> None:
    """W + alpha / rank * B A, entry by entry."""
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=8,
            hidden_size=2,
            intermediate_size=4,
            num_hidden_layers=1,
            num_attention_heads=1,
            num_key_value_heads=1,
            bos_token_id=None,
            eos_token_id=1,
        )
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    add_adapters(model, LoraConfig(rank=1, alpha=3, targets=["q_proj"]))
    layer: Any = model.get_submodule("model.layers.0.self_attn.q_proj")
    with torch.no_grad():
        layer.lora_A.default.weight.copy_(torch.tensor([[1.0, 2.0]]))
        layer.lora_B.default.weight.copy_(torch.tensor([[3.0], [4.0]]))
    after = merged(model)
    # 3 / 1 * [[3], [4]] [[1, 2]] = 3 * [[3, 6], [4, 8]]
    name = "model.layers.0.self_attn.q_proj.weight"
    torch.testing.assert_close(after[name] - before[name], torch.tensor([[9.0, 18.0], [12.0, 24.0]]))
    assert after.keys() == before.keys()
    assert all(torch.equal(after[other], before[other]) for other in before.keys() - {name})


def test_fresh_adapters_change_nothing_and_the_base_gets_no_gradient(world: World) -> None:
    ours, plain = learner(world), learner(world, None)
    assert ours.score(BATCH) == [pytest.approx(row, abs=1e-6) for row in plain.score(BATCH)]
    before = {n: p.detach().clone() for n, p in ours._model.named_parameters() if "lora_" not in n}
    seen: dict[str, torch.Tensor | None] = {}
    update = ours._update
    ours._update = lambda o: seen.update({n: p.grad for n, p in ours._model.named_parameters()}) or update(o)  # type: ignore
    ours.step(ROWS, NLL)
    assert all((seen[name] is None) == ("lora_" not in name) for name in seen)
    assert sum("lora_B" in name for name in seen) == 14  # q k v o gate up down of two layers
    for name, parameter in ours._model.named_parameters():
        assert "lora_" in name or torch.equal(parameter, before[name]), name
    assert ours.score_reference(BATCH) == [pytest.approx(row, abs=1e-6) for row in plain.score(BATCH)]


@pytest.mark.parametrize("optimizer", [ADAMW, MUON], ids=["adamw", "muon"])
def test_what_leaves_the_learner_is_a_plain_model_that_computes_the_same(
    world: World, optimizer: OptimizerConfig, tmp_path: Path
) -> None:
    ours, plain = learner(world, optimizer=optimizer), learner(world, None)
    for _ in range(4):
        ours.step(ROWS, NLL)
    ours.save_model(tmp_path / "model")
    saved = Learner(
        LearnerSpec(model=tmp_path / "model", optimizer=ADAMW, total_steps=1, microbatch_tokens=99, seed=1), COMPUTE
    )
    weights = ours.weights()
    assert weights.keys() == plain.weights().keys()
    assert {n: v.shape for n, v in weights.items()} == {n: v.shape for n, v in plain.weights().items()}
    for name, value in saved.weights().items():
        assert torch.equal(weights[name], value), name
    for found, expected, first in zip(saved.score(BATCH), ours.score(BATCH), plain.score(BATCH), strict=True):
        assert found == pytest.approx(expected, abs=1e-5)
        assert found != pytest.approx(first, abs=1e-2)
    assert not list((tmp_path / "model").glob("adapter*"))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_checkpoint_holds_the_adapters_and_goes_on_exactly(world: World, dropout: float, tmp_path: Path) -> None:
    lora = LoraConfig(rank=4, alpha=8, dropout=dropout)
    ours, theirs = learner(world, lora), learner(world, lora)
    ours.step(ROWS, NLL)
    ours.save_checkpoint(tmp_path)
    assert all("lora_" in name for name in torch.load(tmp_path / "model.pt", weights_only=True))
    expected = [ours.step(ROWS, NLL)["loss/total"] for _ in range(3)]
    torch.rand(7)  # what others draw meanwhile is of no account
    theirs.load_checkpoint(tmp_path)
    assert [theirs.step(ROWS, NLL)["loss/total"] for _ in range(3)] == expected
    assert all(torch.equal(value, theirs.weights()[name]) for name, value in ours.weights().items())
    with pytest.raises(RuntimeError, match="not the adapters of this model"):
        learner(world, LoraConfig(rank=4, targets=["q_proj"])).load_checkpoint(tmp_path)


def test_dropout_is_drawn_in_a_step_and_never_in_a_score(world: World) -> None:
    ours = learner(world, LoraConfig(rank=4, alpha=8, dropout=0.5))
    for _ in range(3):
        ours.step(ROWS, NLL)
    assert ours.score(BATCH) == ours.score(BATCH)
    state = torch.get_rng_state()
    loss = ours.step(ROWS, NLL)["loss/total"]
    assert torch.equal(torch.get_rng_state(), state)
    learned = sum(len(ids) - 1 for ids in BATCH)
    assert loss != pytest.approx(-sum(map(sum, ours.score(BATCH))) / learned, rel=1e-6)


def test_targets_that_are_not_there_or_are_tied_are_told(world: World) -> None:
    with pytest.raises(ConfigError, match=r"(?s)lora.targets.*not found.*this model has down_proj, gate_proj"):
        learner(world, LoraConfig(targets=["c_attn"]))
    with pytest.raises(ConfigError, match="embedding is its head"):
        learner(world, LoraConfig(targets=["q_proj", "lm_head"]))


def test_an_anchor_of_all_weights_does_not_go_with_adapters() -> None:
    block = {"name": "a", "lora": {"rank": 2}}
    assert RlConfig.model_validate(block).lora == LoraConfig(rank=2)
    with pytest.raises(ValueError, match="weight_anchor"):
        RlConfig.model_validate({**block, "objective": {"type": "r0"}})


def test_a_stage_with_adapters_leaves_two_plain_models(world: World, tmp_path: Path) -> None:
    write_trajectories(world.demonstrations, tmp_path / "kept.parquet")
    config = settings(world, steps=3, lora={"rank": 2}, packing=True)
    with InlineWorkers(COMPUTE, max_length=MAX_LENGTH) as workers:
        run_sft(config, tmp_path, out=tmp_path / "out", work=tmp_path / "work", workers=workers, observer=Silent())
        models = [
            workers.learner(
                LearnerSpec(
                    model=tmp_path / "out" / name, optimizer=ADAMW, total_steps=1, microbatch_tokens=999, seed=1
                )
            ).weights()
            for name in ("base", "policy")
        ]
    base, policy = models
    moved = {name for name in base if not torch.equal(base[name], policy[name])}
    assert moved == {name for name in base if "_proj" in name}
