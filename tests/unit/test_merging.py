"""Merging: scales by depth and means of weights, by hand and at their limits."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from journeyman.actors import InlineWorkers
from journeyman.config import LinesConfig
from journeyman.errors import DataError
from journeyman.progress import Silent
from journeyman.training.merging import MERGES, average, lines, scale_by_depth
from journeyman.training.sft import run_sft
from journeyman.trajectory import write_trajectories
from tests.unit.fakes import COMPUTE, MAX_LENGTH, World
from tests.unit.test_sft import settings

NAMES = ["model.embed_tokens.weight", *(f"model.layers.{i}.mlp.weight" for i in range(3)), "model.norm.weight"]


def state(value: float, names: list[str] = NAMES) -> dict[str, torch.Tensor]:
    return {name: torch.full((2, 2), float(value)) for name in names}


def scales(found: dict[str, torch.Tensor]) -> list[float]:
    return [float(value[0, 0]) for value in found.values()]


def test_lines_by_hand() -> None:
    # Three blocks, alpha 0, beta 1, an update of 1: 0, 1/2, 1; the embedding and the norm are in no block.
    assert scales(lines(state(0), [state(1)], alpha=0, beta=1)) == [0, 0, 0.5, 1, 0]
    # alpha .1, beta .9, twelve blocks: .1 + .9 / 11 = .181818 for the second.
    names = [f"transformer.h.{i}.w" for i in range(12)]
    found = scales(lines(state(0, names), [state(1, names)], alpha=0.1, beta=0.9))
    assert found[:2] == pytest.approx([0.1, 0.181818], abs=1e-6) and found[-1] == 1
    # The head is the last block's.
    names = [*NAMES, "lm_head.weight"]
    assert scales(lines(state(0, names), [state(1, names)], alpha=0.25, beta=0.5))[-1] == 0.75
    # Two models whose updates are 1 and 3: the sum is 4, alpha 1/2; 4 * (.5, .5 + .1 l).
    assert scales(lines(state(1), [state(2), state(4)], beta=0.2)) == pytest.approx([3, 3, 3.4, 3.8, 3])


def test_average_by_hand() -> None:
    # Updates of 1 and 3 on 1: the mean of 2 and 4.
    assert scales(average(state(1), [state(2), state(4)])) == [3] * 5
    assert scales(average(state(1), [state(2)])) == [2] * 5


@given(st.integers(0, 99))
def test_lines_at_their_limits(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    base, tuned = ({name: torch.randn(3, 2, generator=draw) for name in NAMES} for _ in range(2))
    assert all(torch.equal(value, tuned[name]) for name, value in lines(base, [tuned], alpha=1, beta=0).items())
    assert all(torch.equal(value, base[name]) for name, value in lines(base, [tuned], alpha=0, beta=0).items())
    # N times the same model at 1/N is that model; so is the mean.
    for merged in (lines(base, [tuned] * 4, beta=0), average(base, [tuned] * 4)):
        for name, value in merged.items():
            torch.testing.assert_close(value, tuned[name])


def test_updates_grow_with_depth_and_do_not_depend_on_the_order_of_models() -> None:
    draw = torch.Generator().manual_seed(0)
    base, *tuned = ({name: torch.randn(3, 2, generator=draw) for name in NAMES} for _ in range(4))
    forth, back = lines(base, tuned, beta=0.5), lines(base, tuned[::-1], beta=0.5)
    for name in NAMES:
        torch.testing.assert_close(forth[name], back[name])
    norms = [float((forth[n] - base[n]).norm() / sum(s[n] - base[n] for s in tuned).norm()) for n in NAMES[1:4]]  # type: ignore
    assert norms == pytest.approx([1 / 3, 1 / 3 + 0.25, 1 / 3 + 0.5], rel=1e-5)


def test_models_that_do_not_go_together_are_told() -> None:
    for merge in MERGES.values():
        with pytest.raises(DataError, match="there is no model to merge"):
            merge(state(0), [])
        with pytest.raises(DataError, match=r"differ in model\.norm\.weight"):
            merge(state(0), [state(1, NAMES[:-1])])
        with pytest.raises(DataError, match="differ in"):
            merge(state(0), [{name: torch.zeros(2) for name in NAMES}])
    with pytest.raises(DataError, match="in a block"):
        lines({"w": torch.zeros(1)}, [{"w": torch.ones(1)}], alpha=0, beta=1)


@pytest.mark.parametrize("tied", [True, False])
def test_of_folders_a_tied_head_is_an_embedding_and_another_the_last_block(tied: bool, tmp_path: Path) -> None:
    shape = LlamaConfig(
        vocab_size=12,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=2,
        num_attention_heads=1,
        num_key_value_heads=1,
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=1,
    )
    model = LlamaForCausalLM(shape)
    model.save_pretrained(tmp_path / "base")
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    model.save_pretrained(tmp_path / "policy")
    scale_by_depth(tmp_path / "base", tmp_path / "policy", tmp_path / "out", LinesConfig(alpha=0.0, beta=1.0))
    after = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    moved = {name: float((p - before[name]).detach().mean()) for name, p in after.named_parameters()}
    assert moved["model.embed_tokens.weight"] == moved["model.norm.weight"] == 0
    assert moved["model.layers.0.mlp.up_proj.weight"] == 0
    assert moved["model.layers.1.mlp.up_proj.weight"] == pytest.approx(1)
    assert tied or moved["lm_head.weight"] == pytest.approx(1)
    assert (after.lm_head.weight is after.model.embed_tokens.weight) == tied


def test_a_stage_scales_its_policy(world: World, tmp_path: Path) -> None:
    write_trajectories(world.demonstrations, tmp_path / "kept.parquet")
    found = {}
    for name, extra in {"plain": {}, "scaled": {"lines": {"alpha": 0.0, "beta": 1.0}}}.items():
        with InlineWorkers(COMPUTE, max_length=MAX_LENGTH) as workers:
            run_sft(
                settings(world, steps=3, **extra),
                tmp_path,
                out=tmp_path / name,
                work=tmp_path / f"{name}-work",
                workers=workers,
                observer=Silent(),
            )
        found[name] = dict(AutoModelForCausalLM.from_pretrained(tmp_path / name / "policy").named_parameters())
    base = dict(AutoModelForCausalLM.from_pretrained(tmp_path / "scaled" / "base").named_parameters())
    for name, value in found["scaled"].items():
        same_as = found["plain"] if "layers.1." in name else base  # two blocks: all of it and none of it
        assert torch.equal(value, same_as[name]), name
    tokenizer = tmp_path / "scaled" / "policy" / "tokenizer.json"
    assert tokenizer.read_bytes() == (tmp_path / "plain" / "policy" / "tokenizer.json").read_bytes()
