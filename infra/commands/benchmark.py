"""`journeyman benchmark`: a policy on public problems, or on any environment's."""

import inspect
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from journeyman.errors import ConfigError, DataError, nearest

if TYPE_CHECKING:
    from journeyman.config import PipelineConfig
    from journeyman.training.workers import Workers

MAX_TURNS, MAX_NEW_TOKENS, MAX_LENGTH = 12, 512, 4096
"""Of a model that no run of ours has made. Ours; `--set evaluate.max_turns=...` and `--max-length` say otherwise."""


def benchmark(
    name: Annotated[str, typer.Argument(help="bfcl, tau2, gsm8k, math, search_qa or environment.")],
    path: Annotated[Path | None, typer.Option(help="The benchmark's own file or folder.")] = None,
    model: Annotated[
        list[Path] | None, typer.Option(help="A model folder (Hugging Face). Repeated: compared, in this order.")
    ] = None,
    from_run: Annotated[str, typer.Option(help="Policies of a run: its id, a pipeline's name, or latest.")] = "",
    policy: Annotated[
        list[str] | None, typer.Option(help="With --from-run: base, sft, rl-NAME. May be repeated. [the last]")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="A seeded sample of so many problems. [all]", min=1)] = None,
    samples: Annotated[int, typer.Option(help="Sampled attempts a problem, beside a greedy one.", min=1)] = 1,
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="Of the benchmark: documents=pages.jsonl. Repeatable.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", help="evaluate.* and compute.*: evaluate.max_turns=20. May be repeated."),
    ] = None,
    max_length: Annotated[int | None, typer.Option(help="Longest attempt in tokens. [4096 or the model's]")] = None,
    seed: Annotated[int, typer.Option(help="Every random draw follows from it.", min=0)] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for the report. [benchmarks/NAME]", metavar="DIR")] = None,
    tracking_uri: Annotated[
        str, typer.Option(help="MLflow server or store that the report goes to.", envvar="MLFLOW_TRACKING_URI")
    ] = "",
) -> None:
    """Ask policies a benchmark: report.json, report.md, report.html and trajectories.parquet."""
    from infra.commands.steps import Steps
    from infra.tables import report_table
    from journeyman.evaluation.benchmarks import BENCHMARKS, load
    from journeyman.evaluation.benchmarks.base import drawn
    from journeyman.evaluation.benchmarks.run import run

    if name not in BENCHMARKS:
        raise ConfigError(f"there is no benchmark `{name}`", place="NAME", remedy=nearest(name, list(BENCHMARKS)))
    folder = out or Path("benchmarks") / name
    if folder.exists() and not folder.is_dir():
        raise ConfigError("not a folder", place=str(folder), remedy="give another --out")
    policies, config = _policies(model or [], from_run, policy or [])
    length = max_length or longest(policies.values(), config.model.max_length if from_run else MAX_LENGTH)
    config = _settled(config, overrides or [], name=name, samples=samples, seed=seed)
    options = _options(option or [])
    if "seed" in inspect.signature(BENCHMARKS[name]).parameters:
        options = {"seed": str(seed), **options}
    questions = load(BENCHMARKS[name], path, options)
    asked = drawn(questions.problems, limit, seed=seed)
    chosen = type(questions)(problems=asked, counts={**questions.counts, "asked": len(asked)}, parts=questions.parts)
    about = " ".join((inspect.getdoc(BENCHMARKS[name]) or "").split("\n\n")[0].split())
    with Steps() as steps, _workers(config, length, name) as workers:
        report = run(config, policies, chosen, out=folder, workers=workers, observer=steps, about=about)
    report_table(folder / "report.json")
    print(f"in {folder}: report.html, report.md, report.json, trajectories.parquet")
    if tracking_uri:
        _track(tracking_uri, config, folder, report["stages"])


def _policies(models: Sequence[Path], from_run: str, names: Sequence[str]) -> "tuple[dict[str, Path], PipelineConfig]":
    """Name to model folder, and the config that they were made with. Raises `UserError`."""
    if bool(models) == bool(from_run):
        raise ConfigError("one of --model and --from-run", place="--model", remedy="say whose policy is asked, once")
    if from_run:
        return _of_run(from_run, names)
    from journeyman.config import EvaluateConfig, PipelineConfig

    for folder in models:
        if not (folder / "config.json").is_file():
            raise DataError("there is no model", place=str(folder), remedy="give a folder in Hugging Face format")
    labels = [folder.resolve().name for folder in models]
    labels = labels if len(set(labels)) == len(labels) else [str(folder) for folder in models]
    limits = EvaluateConfig(max_turns=MAX_TURNS, max_new_tokens=MAX_NEW_TOKENS)
    return dict(zip(labels, models, strict=True)), PipelineConfig(evaluate=limits)


def _of_run(word: str, names: Sequence[str]) -> "tuple[dict[str, Path], PipelineConfig]":
    from journeyman.artifacts import ArtifactStore, home
    from journeyman.runs import RunStore

    record, store = RunStore(home()).find(word), ArtifactStore(home())
    made = {
        stage: store.path(stage, one.key) / "policy"
        for stage, one in record.stages.items()
        if one.key and (stage == "sft" or stage.startswith("rl"))
    }
    if "sft" in made:
        made = {"base": made["sft"].parent / "base", **made}
    there = {stage: folder for stage, folder in made.items() if folder.is_dir()}
    if not there:
        raise DataError(
            f"run {record.id} has no policy", place=str(home()), remedy="let it run to the end of stage sft"
        )
    for name in names:
        if name not in there:
            raise ConfigError(
                f"no policy `{name}` in run {record.id}", place="--policy", remedy=nearest(name, [*there])
            )
    wanted = names or [list(there)[-1]]
    return {name: there[name] for name in wanted}, record.pipeline_config()


def longest(models: Iterable[Path], most: int) -> int:
    """Tokens that an attempt may have: no more than any of the models was made for."""
    for folder in models:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        most = min(most, config.get("max_position_embeddings") or most)
    return most


def _settled(
    config: "PipelineConfig", overrides: Sequence[str], *, name: str, samples: int, seed: int
) -> "PipelineConfig":
    from infra.rerun import overridden

    changed = overridden(config, overrides) if overrides else config
    kept = {part: getattr(changed, part) for part in ("evaluate", "compute")}
    if config.model_copy(update=kept) != changed:
        raise ConfigError("only evaluate.* and compute.* count here", place="--set", remedy="leave the others away")
    doubling = [2**n for n in range(samples.bit_length())]
    evaluate = changed.evaluate.model_copy(update={"samples": samples, "k": sorted({*doubling, samples})})
    return changed.model_copy(update={"name": f"benchmark-{name}", "seed": seed, "evaluate": evaluate})


def _options(given: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    for key, sign, _ in pairs:
        if not sign or not key:
            raise ConfigError("not KEY=VALUE", place=f"--option {key}", remedy="write it like count=100")
    return {key: value for key, _, value in pairs}


@contextmanager
def _workers(config: "PipelineConfig", max_length: int, name: str) -> "Iterator[Workers]":
    """In this process, or on Ray where the config asks for what only that can give."""
    compute = config.compute
    if compute.address or compute.samplers > 1 or compute.sampler_gpus or compute.sampler.type == "vllm":
        from journeyman.actors import RayWorkers

        with RayWorkers(compute, max_length=max_length, run=f"benchmark-{name}") as ray_workers:
            yield ray_workers
        return
    from journeyman.actors import InlineWorkers

    with InlineWorkers(compute, max_length=max_length) as workers:
        yield workers


def _track(uri: str, config: "PipelineConfig", folder: Path, rows: list[Mapping[str, object]]) -> None:
    """The figures on a run of its own, the files on its child, as a pipeline's evaluation has them."""
    from journeyman.artifacts import home
    from journeyman.tracking import Tracker
    from tasks.evaluation import headlines

    tracker = Tracker(uri, home())
    tags = {"kind": "benchmark"}
    params = {"seed": config.seed, "evaluate": config.evaluate.model_dump(mode="json")}
    whole = tracker.start_run(config.name, config.name, params, tags)
    try:
        whole.headline(headlines(rows))
        part = whole.start_stage("benchmark", folder, {}, tags)
        part.log_artifacts(folder)
        part.finish()
        whole.finish()
        if whole.url:
            print(f"in MLflow: {whole.url}")
    finally:
        tracker.close()
