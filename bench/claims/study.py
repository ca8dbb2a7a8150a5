"""Arms of a claim, trained side by side: same cold start, same problems, same steps; only what the claim is about differs."""

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any

from bench.claims.measures import MEASURES, curves
from journeyman.actors import InlineWorkers
from journeyman.config import EvaluateConfig, PipelineConfig, RlConfig
from journeyman.config.load import load_pipeline
from journeyman.curation.stage import curate
from journeyman.evaluation.stage import attempts
from journeyman.progress import Silent
from journeyman.seeds import derive
from journeyman.synthesis.problems import read_problems
from journeyman.synthesis.stage import synthesize
from journeyman.training.reinforce import Inputs, run_rl
from journeyman.training.sft import run_sft
from journeyman.trajectory import Trajectory, read_trajectories, write_trajectories

HOME = Path(".journeyman/claims")
"""Cold starts are kept here: all claims share them."""
CONFIDENCES = (0.1, 0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """One thing that the claim says: on this measure the first arm is above (`+`) or below (`-`) the second, or `=`."""

    measure: str
    first: str
    sign: str
    second: str
    within: float = 0.03
    """For `=`: the largest mean difference that still counts as equal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a paper says, and how it is tried here."""

    papers: str
    says: str
    start: str
    """The cold start: `sft`, `sft-confidence` or `rl-accuracy`."""
    common: Mapping[str, Any] = field(default_factory=dict)
    """Options of the rl block that all arms share."""
    arms: Mapping[str, Mapping[str, Any]]
    """Arm -> its own options."""
    expected: tuple[Expected, ...]


def run_claim(name: str, claim: Claim, seeds: Sequence[int], *, jobs: int, steps: int | None) -> dict[str, Any]:
    """Train and measure every arm on every seed; returns all figures and what they say of the claim."""
    work = [(name, claim, arm, seed, steps) for seed in seeds for arm in claim.arms]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        for seed in seeds:
            pool.submit(cold_start, claim.start, seed).result()
        found = list(pool.map(_train_and_measure, work))
    measured = {
        arm: {seed: row for (_, _, a, seed, _), row in zip(work, found, strict=True) if a == arm} for arm in claim.arms
    }
    return {
        "claim": name,
        "papers": claim.papers,
        "says": claim.says,
        "start": claim.start,
        "common": dict(claim.common),
        "arms": {arm: {"options": dict(claim.arms[arm]), "seeds": rows} for arm, rows in measured.items()},
    }


def compare(expected: Expected, measured: Mapping[str, Mapping[Any, Mapping[str, Any]]]) -> dict[str, Any]:
    """The paired differences over the seeds, their mean with a 95 % t interval, and whether the claim holds."""
    pairs = [
        (rows[expected.measure], measured[expected.second][seed][expected.measure])
        for seed, rows in measured[expected.first].items()
    ]
    differences = [a - b for a, b in pairs if a is not None and b is not None]
    if not differences:
        return {"what": _told(expected), "mean": None, "verdict": "not measured"}
    mean, half = fmean(differences), _half_width(differences)
    return {
        "what": _told(expected),
        "differences": differences,
        "mean": mean,
        "low": mean - half,
        "high": mean + half,
        "verdict": _verdict(expected, differences, mean, half),
    }


def _verdict(expected: Expected, differences: Sequence[float], mean: float, half: float) -> str:
    if expected.sign == "=":
        return "holds" if abs(mean) <= expected.within else "does not hold"
    sign = 1 if expected.sign == "+" else -1
    if sign * mean <= 0:
        return "does not hold"
    if sign * mean > half:
        return "holds"
    return f"points that way on {'every seed' if all(sign * d > 0 for d in differences) else 'average'}"


def _told(expected: Expected) -> str:
    sign = {"+": ">", "-": "<", "=": "="}[expected.sign]
    return f"{expected.measure}: {expected.first} {sign} {expected.second}"


def _half_width(values: Sequence[float]) -> float:
    """Of the 95 % t interval of a mean; infinite for one value."""
    from scipy.stats import t

    if len(values) < 2:
        return float("inf")
    mean = fmean(values)
    spread = (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5
    return float(t.ppf(0.975, len(values) - 1)) * spread / len(values) ** 0.5


def settings(seed: int) -> PipelineConfig:
    return load_pipeline("quickstart", overrides=[f"seed={seed}", "compute.threads=1"])


def cold_start(kind: str, seed: int) -> Path:
    """The folder of the policy that every arm of a seed starts from; made where it isn't there."""
    config, root = settings(seed), HOME / f"seed-{seed}"
    made(root / "synthesize", lambda out: synthesize(config, out, Silent()))
    made(root / "curate", lambda out: curate(config, root / "synthesize", out, Silent()))
    if kind == "sft-confidence":
        made(root / "curate-confidence", lambda out: _with_confidence(root / "curate", out, seed))
    suffix = kind.removeprefix("sft") if kind.startswith("sft") else ""
    made(root / f"sft{suffix}", lambda out: _sft(config, root / f"curate{suffix}", out))
    if kind == "rl-accuracy":
        made(root / kind, lambda out: train(config, config.rl[0], root / "sft" / "policy", out))
    return root / kind / "policy"


def made(out: Path, make: Callable[[Path], object]) -> Path:
    """A folder and its content, made once; the mark of its being whole is written last."""
    if not (out / "done").exists():
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        make(out)
        (out / "done").write_text("")
    return out


def _sft(config: PipelineConfig, curated: Path, out: Path) -> None:
    with InlineWorkers(config.compute, max_length=config.model.max_length) as workers:
        run_sft(config, curated, out=out, work=out / "work", workers=workers, observer=Silent())


def train(config: PipelineConfig, block: RlConfig, policy: Path, out: Path) -> None:
    """One rl block from a policy's folder."""
    problems = HOME / f"seed-{config.seed}" / "synthesize"
    with InlineWorkers(config.compute, max_length=config.model.max_length) as workers:
        run_rl(
            config,
            block,
            Inputs(policy=policy, problems=problems),
            out=out,
            work=out / "work",
            workers=workers,
            observer=Silent(),
        )


def _train_and_measure(work: tuple[str, Claim, str, int, int | None]) -> dict[str, Any]:
    """One arm on one seed; what was measured before under the same options is not trained again."""
    name, claim, arm, seed, steps = work
    config, started = settings(seed), time.perf_counter()
    options = {**config.rl[0].model_dump(exclude_unset=True), **claim.common, **claim.arms[arm], "name": "arm"}
    block = RlConfig.model_validate({**options, **({"steps": steps} if steps else {})})
    out, kept = HOME / name / f"{arm}-seed-{seed}", HOME / name / f"{arm}-seed-{seed}.json"
    asked = {"start": claim.start, "block": block.model_dump(mode="json")}
    if kept.exists() and (known := json.loads(kept.read_text(encoding="utf-8")))["asked"] == asked:
        return known["rows"]
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    train(config, block, cold_start(claim.start, seed), out)
    rows = measure(config, out / "policy")
    rows["curve"] = curves(read_trajectories(out / "trajectories.parquet"), block)
    rows["seconds"] = time.perf_counter() - started
    shutil.rmtree(out)
    kept.write_text(json.dumps({"asked": asked, "rows": rows}), encoding="utf-8")
    print(f"  {name}: {arm}, seed {seed}: accuracy {rows['accuracy']:.3f} ({rows['seconds']:.0f} s)", flush=True)
    return rows


def measure(config: PipelineConfig, policy: Path) -> dict[str, Any]:
    """Every measure on the held-out problems, two samples each at temperature 1."""
    heldout = read_problems(HOME / f"seed-{config.seed}" / "synthesize" / "problems" / "heldout.parquet")
    evaluation = EvaluateConfig.model_validate({**config.evaluate.model_dump(), "samples": 2})
    with InlineWorkers(config.compute, max_length=config.model.max_length) as workers:
        found = attempts(workers.samplers(policy), heldout, evaluation, seed=config.seed, greedy=False)
    return {name: of(found) for name, of in MEASURES.items()}


def _with_confidence(curated: Path, out: Path, seed: int) -> None:
    """The same demonstrations, each answer with a confidence that says nothing: drawn at random, right or wrong."""

    def said(number: int, t: Trajectory) -> Trajectory:
        share = CONFIDENCES[derive(seed, "confidence", number) % len(CONFIDENCES)]
        last = replace(t.turns[-1], text=f"<confidence>{share}</confidence>{t.turns[-1].text}")
        return replace(t, turns=(*t.turns[:-1], last))

    kept = read_trajectories(curated / "kept.parquet")
    write_trajectories([said(number, t) for number, t in enumerate(kept)], out / "kept.parquet")


def save(result: Mapping[str, Any], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result['claim']}.json"
    path.write_text(json.dumps(result, indent=1), encoding="utf-8")
    return path
