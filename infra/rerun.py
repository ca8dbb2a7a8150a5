"""One stage of an earlier run again, with other options of that stage if wanted."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from journeyman.config import PipelineConfig
from journeyman.config.load import load_pipeline, render
from journeyman.errors import ConfigError
from journeyman.runs import RunStore

PARTS = ("synthesize", "curate", "sft", "rl", "evaluate")


def stage_call(home: Path, stage: str, *, block: str, from_run: str, overrides: Sequence[str]) -> Callable[[], str]:
    """What runs the flow of a stage on an earlier run's inputs; it returns the new run's id. Raises `UserError`.

    Args:
        stage: one of `PARTS`, or `rl-NAME`.
        block: the rl block; empty: that of `rl-NAME`, else the first.
        from_run: a run's id, a pipeline's name (its latest run) or `latest`.
        overrides: dotted, as for a pipeline, of this stage only.
    """
    part, _, named = stage.partition("-")
    if part not in PARTS or (named and part != "rl"):
        raise ConfigError(f"no stage `{stage}`", place="stage", remedy=f"one of {', '.join(PARTS)}, rl-NAME")
    if block and part != "rl":
        raise ConfigError(f"stage {stage} has no blocks", place="--name", remedy="leave --name away")
    source = RunStore(home).find(from_run)
    config = source.pipeline_config()
    wanted = _block(config, named or block) if part == "rl" else ""
    changed = overridden(config, overrides)
    _require_own(config, changed, part, wanted, overrides)
    return lambda: _call(part, wanted, source.id, changed if overrides else None)


def _call(part: str, block: str, from_run: str, changed: PipelineConfig | None) -> str:
    if part == "rl":
        from flows.rl import rl

        options = {one.name: one for one in changed.rl} if changed else {}
        return rl(from_run=from_run, block=options.get(block, block))
    if part == "synthesize":
        from flows.synthesize import synthesize

        return synthesize(config=changed, from_run=from_run)
    if part == "curate":
        from flows.curate import curate

        return curate(from_run=from_run, options=changed.curate if changed else None)
    if part == "sft":
        from flows.sft import sft

        return sft(from_run=from_run, options=changed.sft if changed else None)
    from flows.evaluate import evaluate

    return evaluate(from_run=from_run, options=changed.evaluate if changed else None)


def _block(config: PipelineConfig, name: str) -> str:
    names = [block.name for block in config.rl]
    if not names:
        raise ConfigError(f"pipeline {config.name} has no rl stage", place=config.name, remedy="choose another run")
    if name and name not in names:
        raise ConfigError(f"no rl block `{name}`", place=config.name, remedy=f"one of {', '.join(names)}")
    return name or names[0]


def overridden(config: PipelineConfig, overrides: Sequence[str]) -> PipelineConfig:
    """A config with some options changed, checked as a pipeline of a file is. Raises `ConfigError`."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pipelines.yaml"
        file.write_text(render(config), encoding="utf-8")
        return load_pipeline(config.name, file, overrides)


def _require_own(
    config: PipelineConfig, changed: PipelineConfig, part: str, block: str, overrides: Sequence[str]
) -> None:
    """Raise where an override changes what the stage doesn't read: it would be ignored."""
    if part == "rl":
        own = {one.name: one for one in changed.rl}
        restored = [own.get(one.name, one) if one.name == block else one for one in config.rl]
        allowed = config.model_copy(update={"rl": restored})
    else:
        allowed = config.model_copy(update={part: getattr(changed, part)})
    if allowed != changed:
        prefix = f"rl.{block}." if part == "rl" else f"{part}."
        remedy = f"set only {prefix}...; for anything else run the pipeline: what is unchanged is not made again"
        raise ConfigError(f"stage {part} alone can't use all of this", place=" ".join(overrides), remedy=remedy)
