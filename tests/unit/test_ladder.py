"""The whole ladder in this process, without Ray and at tiny size: each stage reads what the one before wrote."""

import json
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from journeyman.actors import InlineWorkers
from journeyman.config import (
    EvaluateConfig,
    GeneratedProblems,
    PipelineConfig,
    RlConfig,
    ScriptedTeacherConfig,
    SftConfig,
    SynthesizeConfig,
)
from journeyman.curation.stage import curate
from journeyman.evaluation.stage import evaluate
from journeyman.progress import Silent
from journeyman.synthesis.problems import read_problems
from journeyman.synthesis.stage import synthesize
from journeyman.training.reinforce import Inputs, run_rl
from journeyman.training.sft import run_sft
from journeyman.trajectory import read_trajectories
from tests.unit.fakes import COMPUTE, MAX_LENGTH, SMALL

SMALL_TURNS = {"max_turns": 2, "max_new_tokens": 24}


@pytest.fixture(scope="module")
def config() -> PipelineConfig:
    tiny = {"steps": 2, "problems": 3, "group": 2, "minibatch": 4, "dynamic_sampling": False, **SMALL_TURNS}
    return PipelineConfig(
        model=SMALL,
        problems=GeneratedProblems(train=12, dev=3, heldout=6),
        compute=COMPUTE,
        synthesize=SynthesizeConfig(demonstrations=60, teacher=ScriptedTeacherConfig(broken=0.2)),
        sft=SftConfig(steps=3, batch=8),
        rl=[
            RlConfig.model_validate({"name": "accuracy", **tiny}),
            RlConfig.model_validate({"name": "efficiency", "reward": "otc", "credit": "best", **tiny}),
        ],
        evaluate=EvaluateConfig.model_validate({"samples": 2, "bootstrap": 100, **SMALL_TURNS}),
    )


def test_the_ladder_from_synthesis_to_the_report(config: PipelineConfig, tmp_path: Path) -> None:
    folders = {
        name: tmp_path / name for name in ("synthesize", "curate", "sft", "rl-accuracy", "rl-efficiency", "evaluate")
    }
    for folder in folders.values():
        folder.mkdir()
    made = synthesize(config, folders["synthesize"], Silent())
    kept = curate(config, folders["synthesize"], folders["curate"], Silent())
    assert 0 < kept["counts"]["rows_dropped"] < kept["counts"]["rows_in"] == made["demonstrations"]
    policies = {}
    with InlineWorkers(COMPUTE, max_length=MAX_LENGTH) as workers:
        supervised = run_sft(
            config,
            folders["curate"],
            out=folders["sft"],
            work=tmp_path / "work" / "sft",
            workers=workers,
            observer=Silent(),
        )
        assert supervised["demonstrations"] == kept["counts"]["rows_kept"]
        policies = {"base": folders["sft"] / "base", "sft": folders["sft"] / "policy"}
        for stage in config.rl:
            name = f"rl-{stage.name}"
            run_rl(
                config,
                stage,
                Inputs(policy=list(policies.values())[-1], problems=folders["synthesize"]),
                out=folders[name],
                work=tmp_path / "work" / name,
                workers=workers,
                observer=Silent(),
            )
            policies[name] = folders[name] / "policy"
        report = evaluate(
            config,
            policies,
            problems=folders["synthesize"],
            out=folders["evaluate"],
            workers=workers,
            observer=Silent(),
            seconds=dict.fromkeys(policies, 1.0),
        )
    assert [stage["name"] for stage in report["stages"]] == ["base", "sft", "rl-accuracy", "rl-efficiency"]
    assert all(stage["problems"] == 6 and 0 <= stage["accuracy_sampled"] <= 1 for stage in report["stages"])
    written = json.loads((folders["evaluate"] / "report.json").read_text())
    assert written["stages"] == json.loads(json.dumps(report["stages"]))
    attempts = read_trajectories(folders["evaluate"] / "trajectories.parquet")
    assert len(attempts) == 4 * 6 * (2 + 1)  # policies, problems, two samples and a greedy one
    heldout = {p.id for p in read_problems(folders["synthesize"] / "problems" / "heldout.parquet")}
    assert {t.problem_id for t in attempts} == heldout
    assert {t.provenance["policy"] for t in attempts} == set(policies)
    for name in policies:
        greedy = [t for t in attempts if t.provenance["policy"] == name and t.temperature == 0]
        assert len(greedy) == 6
        AutoModelForCausalLM.from_pretrained(policies[name])
    learned_from = read_trajectories(folders["rl-accuracy"] / "trajectories.parquet")
    assert not heldout & {t.problem_id for t in learned_from}


def test_evaluating_again_gives_the_same_attempts(config: PipelineConfig, world, tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        with InlineWorkers(COMPUTE, max_length=MAX_LENGTH) as workers:
            evaluate(
                config,
                {"base": world.model},
                problems=world.synthesized,
                out=tmp_path / name,
                workers=workers,
                observer=Silent(),
                seconds={"base": 1.0},
            )
        attempts = read_trajectories(tmp_path / name / "trajectories.parquet")
        found.append([(t.problem_id, t.sample, t.temperature, t.token_ids, t.logprobs) for t in attempts])
    assert found[0] == found[1]
    sampled = [t for t in found[0] if t[2] == 1]
    assert len({t[3] for t in sampled}) == len(sampled) == 24
