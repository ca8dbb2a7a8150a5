"""Pieces of an rl stage on a GPU: the sampler follows the learner, and ratios are 1 where they have to be."""

from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from journeyman.actors import InlineWorkers
from journeyman.config import ComputeConfig
from journeyman.rewards import REWARDS
from journeyman.training.reinforce import Inputs, run_rl
from journeyman.trajectory import read_trajectories
from tests.unit.fakes import MAX_LENGTH, World, make_world, oddness
from tests.unit.test_reinforce import TINY, Dying, stage

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "packing": {"packing": True},
    "adapters": {"lora": {"rank": 4}},
    "one step off": {"asynchrony": {"staleness": 1}},
    "partial": {"asynchrony": {"staleness": 2, "partial": True}},
    "replay": {"curriculum": {"type": "weakest"}, "replay": {"capacity": 8, "fraction": 0.5, "max_age": 3}},
    "reference": {"objective": {"type": "grpo", "kl": {"coefficient": 0.01}}},
    "tree": {"rollout": {"type": "tree", "roots": 2}},
}
STALENESS = {"one step off": 1, "partial": 2}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", VARIANTS)
def test_a_stage_learns_on_a_gpu(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, dtype: Literal["float32", "bfloat16"]
) -> None:
    monkeypatch.setitem(REWARDS, "odd", oddness)
    seen, compute = Dying(), ComputeConfig(device="cuda", dtype=dtype)
    with InlineWorkers(compute, max_length=MAX_LENGTH) as workers:
        run_rl(
            world.config,
            stage(**{**TINY, "steps": 4, "minibatch": 100, **VARIANTS[name]}),
            Inputs(policy=world.model, problems=world.synthesized),
            out=tmp_path / "out",
            work=tmp_path / "work",
            workers=workers,
            observer=seen,
        )
    apart = 1e-3 if dtype == "float32" else 0.05
    for metrics in seen.seen.values():
        assert metrics["sync/logprob_difference_max"] < apart
        if name not in ("replay", *STALENESS):  # what was sampled by other weights has other ratios
            assert metrics["policy/importance_ratio_mean"] == pytest.approx(1, abs=apart)
    made = read_trajectories(tmp_path / "out" / "trajectories.parquet")
    assert all(0 <= place // 12 - t.policy_version <= STALENESS.get(name, 0) for place, t in enumerate(made))
