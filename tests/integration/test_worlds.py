"""Every stage on worlds of all kinds: dialogues, code, tools of a problem's own, contexts that begin anew."""

import json
from pathlib import Path

import pytest

from journeyman.actors.inline import InlineWorkers
from journeyman.config import ComputeConfig, GeneratedProblems, PipelineConfig, RlConfig, ScratchModel, TorchSampler
from journeyman.config.evaluate import EvaluateConfig
from journeyman.config.sft import SftConfig
from journeyman.config.synthesize import SynthesizeConfig
from journeyman.curation.stage import curate
from journeyman.environments import ENVIRONMENTS
from journeyman.errors import UserError
from journeyman.evaluation.stage import evaluate
from journeyman.progress import Silent
from journeyman.synthesis.stage import synthesize
from journeyman.tools.sandbox import require_sandbox
from journeyman.training.reinforce import Inputs, run_rl
from journeyman.training.sft import run_sft
from journeyman.trajectory import read_trajectories

pytestmark = pytest.mark.integration
WITHOUT = {"openenv", "verifiers", "gymnasium", "reasoning-gym", "pictures"}
"""A server, packages that need not be there, images: they have tests of their own."""
LENGTH = 6144


def families() -> list[str]:
    made = [name for name, make in ENVIRONMENTS.items() if hasattr(make, "generate") and name not in WITHOUT]
    try:
        require_sandbox()
    except UserError:
        made.remove("code")
    return made


def config() -> PipelineConfig:
    names = families()
    return PipelineConfig(
        model=ScratchModel(
            hidden_size=32,
            layers=1,
            heads=2,
            kv_heads=1,
            head_dim=16,
            feed_forward=64,
            max_length=LENGTH,
            vocabulary=3000,
        ),
        problems=GeneratedProblems(
            families=dict.fromkeys(names, 1.0), train=2 * len(names), dev=len(names), heldout=len(names)
        ),
        compute=ComputeConfig(device="cpu", dtype="float32", sampler=TorchSampler(slots=32)),
        synthesize=SynthesizeConfig(demonstrations=4 * len(names)),
        sft=SftConfig(steps=2, batch=8),
        rl=[RlConfig(name="all", steps=1, problems=len(names), group=2, max_turns=2, max_new_tokens=12)],
        evaluate=EvaluateConfig(samples=1, bootstrap=100, max_turns=2, max_new_tokens=12),
    )


def test_all_stages_run_on_worlds_of_all_kinds(tmp_path: Path) -> None:
    settings = config()
    made, curated, tuned, policy = (tmp_path / name for name in ("made", "curated", "sft", "rl"))
    synthesize(settings, made, Silent())
    demonstrations = read_trajectories(made / "demonstrations.parquet")
    assert {d.family for d in demonstrations} == set(families())
    assert all(d.opening and d.turns[0].reply for d in demonstrations if d.family == "desk" and len(d.turns) > 1)
    curate(settings, made, curated, Silent())
    with InlineWorkers(settings.compute, max_length=LENGTH) as workers:
        run_sft(settings, curated, out=tuned, work=tmp_path / "sft-work", workers=workers, observer=Silent())
        run_rl(
            settings,
            settings.rl[0],
            Inputs(policy=tuned / "policy", problems=made),
            out=policy,
            work=tmp_path / "rl-work",
            workers=workers,
            observer=Silent(),
        )
        report = evaluate(
            settings,
            {"base": tuned / "base", "rl-all": policy / "policy"},
            problems=made,
            out=tmp_path / "report",
            workers=workers,
            observer=Silent(),
            seconds={},
        )
    sampled = read_trajectories(policy / "trajectories.parquet")
    assert all(t.stop_reason.scorable for t in sampled), {t.provenance.get("failure") for t in sampled}
    assert {t.family for t in sampled} <= set(families())
    assert json.loads(json.dumps(report))
