"""What each stage is made from: the sources it runs, its part of the config, the stages and files it reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from journeyman.artifacts import Recipe
from journeyman.config import (
    DatasetProblems,
    ModelTeacherConfig,
    PipelineConfig,
    PolicyTeacherConfig,
    PretrainedModel,
    RlConfig,
)
from journeyman.errors import ConfigError
from journeyman.provenance import code_version, content_digest

WORKERS = ("journeyman.rollout.worker", "journeyman.training.learner")
"""What the actors run; no stage body imports it."""
_UNSEEN = {"key_variable", "timeout_s", "tries", "price_per_million_input_tokens", "price_per_million_output_tokens"}
BESIDE_THE_DATA: Any = {
    **dict.fromkeys(("budget", "concurrency", "requests_per_minute", "cache"), True),
    **dict.fromkeys(("teacher", "writer"), _UNSEEN),
}
"""What of `synthesize` does not change what is made: with a larger budget, the stage goes on where it stopped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A stage of a pipeline, before its inputs are known."""

    stage: str
    modules: Sequence[str]
    """Their sources, with all that they import, are the stage's code."""
    config: Mapping[str, Any]
    """The part that the stage's output depends on (JSON)."""
    inputs: Mapping[str, str]
    """Role to the stage whose artifact it is."""
    tables: Mapping[str, str] = field(default_factory=dict)
    """Role to the Parquet file of that artifact which the stage learns from or asks."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """Role to a file or folder of the user's that it reads: its content counts, not its name."""

    def recipe(self, config: PipelineConfig, keys: Mapping[str, str]) -> Recipe:
        """`keys`: stage to the key of its artifact."""
        inputs = {role: keys[stage] for role, stage in self.inputs.items()}
        return Recipe(
            stage=self.stage,
            code_version=code_version(*self.modules),
            config=self.config,
            seed=config.seed,
            inputs=inputs | {role: content_digest(path) for role, path in self.files.items()},
        )


def ladder(config: PipelineConfig) -> list[str]:
    """The stages of a pipeline, in order."""
    return ["synthesize", "curate", "sft", *(f"rl-{block.name}" for block in config.rl), "evaluate"]


def block_named(config: PipelineConfig, name: str) -> RlConfig:
    """A block of `config.rl`. Raises `ConfigError`."""
    for block in config.rl:
        if block.name == name:
            return block
    blocks = ", ".join(block.name for block in config.rl) or "none"
    raise ConfigError(f"pipeline {config.name} has no rl block `{name}`", place="rl", remedy=f"it has {blocks}")


def chosen_block(config: PipelineConfig, block: RlConfig | str) -> tuple[str, list[RlConfig] | None]:
    """The name of a block, and the config's blocks where it differs from the one of its name; empty: the first.

    Raises `ConfigError` where there is none.
    """
    if isinstance(block, str):
        if not block and config.rl:
            return config.rl[0].name, None
        return block_named(config, block).name, None
    block_named(config, block.name)
    return block.name, [block if block.name == other.name else other for other in config.rl]


def plan(config: PipelineConfig, stage: str, made: Sequence[str]) -> Plan:
    """The plan of a stage. `made`: the stages whose artifacts the run has; only `evaluate` takes what there is."""
    kind, _, name = stage.partition("-")
    match kind:
        case "synthesize":
            return _synthesize(config)
        case "curate":
            return _curate(config)
        case "sft":
            return _sft(config)
        case "rl":
            return _rl(config, block_named(config, name))
        case "evaluate":
            return _evaluate(config, [policy for policy in ladder(config)[2:-1] if policy in made])
    raise ValueError(f"no stage is called {stage}")


def _synthesize(config: PipelineConfig) -> Plan:
    block = config.synthesize
    teaching = block.model_dump(mode="json", exclude=BESIDE_THE_DATA)
    problems = config.problems.model_dump(mode="json", exclude={"licence"})
    part: dict[str, Any] = {"problems": problems, "synthesize": teaching}
    modules, files = ["journeyman.synthesis.stage"], dict[str, Path]()
    if isinstance(config.problems, DatasetProblems):
        files |= _local("dataset", config.problems.path)
    for role, model in (("teacher", block.teacher), ("writer", block.writer)):
        if isinstance(model, ModelTeacherConfig | PolicyTeacherConfig):
            files |= _local(role, model.path) if model.path else {}
            modules, part["compute"] = [*dict.fromkeys([*modules, *WORKERS])], _numerics(config)
    if isinstance(block.teacher, PolicyTeacherConfig):
        part["model"] = _plain(config.model)
        if isinstance(config.model, PretrainedModel) and not block.teacher.path:
            files |= _local("model", config.model.path)
    return Plan(stage="synthesize", modules=modules, config=part, inputs={}, files=files)


def _curate(config: PipelineConfig) -> Plan:
    part = {"curate": _plain(config.curate), "licence": config.problems.licence}
    modules, files = ["journeyman.curation.stage"], dict[str, Path]()
    if measure := config.curate.measure:
        modules += ["journeyman.evaluation.measure", *WORKERS]
        part |= {"model": _plain(config.model), "compute": _numerics(config)}
        own = config.model.path if isinstance(config.model, PretrainedModel) else ""
        files |= _local("policy", measure.policy or own)
    for path in config.curate.against:
        files |= _local(f"against {path}", path)
    return Plan(
        stage="curate",
        modules=modules,
        config=part,
        inputs={"demonstrations": "synthesize"},
        tables={"demonstrations": "demonstrations.parquet"},
        files=files,
    )


def _sft(config: PipelineConfig) -> Plan:
    part = {"model": _plain(config.model), "sft": _plain(config.sft), "compute": _numerics(config)}
    files = _local("model", config.model.path) if isinstance(config.model, PretrainedModel) else {}
    if config.sft.distill:
        files |= _local("teacher", config.sft.distill.teacher)
    inputs = {"curated": "curate"}
    if config.sft.evaluate_every:
        inputs["problems"], part["attempts"] = "synthesize", config.evaluate.limits()
    return Plan(
        stage="sft",
        modules=["journeyman.training.sft", *WORKERS],
        config=part,
        inputs=inputs,
        tables={"curated": "kept.parquet"},
        files=files,
    )


def handed_on(config: PipelineConfig, block: RlConfig) -> list[str]:
    """What the block behind inherits of a block's state besides its policy."""
    place = [other.name for other in config.rl].index(block.name) + 1
    return sorted(config.rl[place].inherits) if place < len(config.rl) else []


def _rl(config: PipelineConfig, block: RlConfig) -> Plan:
    stage, hands_on = f"rl-{block.name}", handed_on(config, block)
    before = ladder(config)[ladder(config).index(stage) - 1]
    return Plan(
        stage=stage,
        modules=["journeyman.training.reinforce", "journeyman.monitors", *WORKERS],
        config={
            "rl": _plain(block),
            "compute": _numerics(config),
            **({"hands_on": hands_on} if hands_on else {}),
        },
        inputs={
            "policy": before,
            "problems": "curate" if config.curate.problems else "synthesize",
            **({"reference": block.reference} if block.reference else {}),
            **({"demonstrations": "curate"} if block.uses_demonstrations else {}),
            **({"taught": "synthesize"} if block.uses_taught else {}),
        },
        tables={"problems": "problems/train.parquet"},
    )


def _evaluate(config: PipelineConfig, policies: Sequence[str]) -> Plan:
    return Plan(
        stage="evaluate",
        modules=["journeyman.evaluation.stage", *WORKERS],
        config={"name": config.name, "evaluate": _plain(config.evaluate), "compute": _numerics(config)},
        inputs={"problems": "synthesize", "curated": "curate", **{policy: policy for policy in policies}},
        tables={"problems": "problems/heldout.parquet"},
    )


def _numerics(config: PipelineConfig) -> dict[str, Any]:
    """What of `compute` changes numbers; where the work runs, and on how many actors, does not."""
    compute = config.compute
    return {"device": compute.device, "dtype": compute.dtype, "sampler": compute.sampler.type}


def _local(role: str, path: str) -> dict[str, Path]:
    """A path of the user's; nothing for a Hub name, whose content is its revision's."""
    local = Path(path).expanduser()
    return {role: local} if local.exists() else {}


def _plain(model: Any) -> dict[str, Any]:
    return model.model_dump(mode="json")
