"""`journeyman judge`: how good a reward, or a model that judges, is."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from journeyman.errors import ConfigError, DataError, nearest

if TYPE_CHECKING:
    from journeyman.evaluation.judging.scores import Asking, Judged
    from journeyman.rewards.base import Judge

UNREAD = "take a model that writes A, B or tie when it is asked which of two is better"
UNSCORED = (
    "rewards that go by the world's verdict need --with-verdicts, those that compare need several answers, and a model "
    "has to answer as it is asked"
)


def judge(
    items: Annotated[
        Path, typer.Argument(help="Right and wrong answers: JSON Lines, or a trajectories.parquet.", show_default=False)
    ],
    reward: Annotated[
        str, typer.Option(help="An expression, as in pipelines.yaml: judged, judged_correct(votes=3).")
    ] = "",
    compare: Annotated[bool, typer.Option("--compare", help="Ask the model which of two is better instead.")] = False,
    layout: Annotated[
        str, typer.Option("--format", help="items, plan-rewardbench or trajectories. [by the file]")
    ] = "",
    url: Annotated[str, typer.Option(help="An OpenAI-compatible server that judges, up to /v1.")] = "",
    model: Annotated[str, typer.Option(help="The server's name for the model; without --url a model folder.")] = "",
    key_variable: Annotated[str, typer.Option(help="Environment variable with the server's key.")] = "OPENAI_API_KEY",
    cache: Annotated[str, typer.Option(help="Folder where the model's answers are kept by content.")] = "",
    measures: Annotated[str, typer.Option(help="Which, with commas between. [all that the items allow]")] = "",
    reduce: Annotated[
        str, typer.Option(help="Scores of turns to one: min, product, mean, last, ... [the reward's own total]")
    ] = "",
    with_verdicts: Annotated[
        bool, typer.Option("--with-verdicts", help="Show the reward whether an attempt was right, as its world said.")
    ] = False,
    gate: Annotated[bool, typer.Option("--gate", help="Exit 2 unless every probe is below 1 %.")] = False,
    limit: Annotated[int | None, typer.Option(help="The first so many items.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Of the orders in which answers are shown.", min=0)] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for judge.json, .md and .html.", metavar="DIR")] = None,
) -> None:
    """Try a judge on pairs, on one right answer among many, and on answers that say nothing."""
    from infra.commands.steps import Steps
    from infra.tables import figures_table
    from journeyman.evaluation.judging.items import LAYOUTS, read_items
    from journeyman.evaluation.judging.measures import JUDGE_MEASURES
    from journeyman.evaluation.judging.report import judge_report, write_judge_report
    from journeyman.evaluation.judging.scores import REDUCERS, ask_all

    chosen = [name.strip() for name in measures.split(",") if name.strip()] or list(JUDGE_MEASURES)
    chosen += ["probes"] if gate and "probes" not in chosen else []
    for given, known, place in (
        (chosen, JUDGE_MEASURES, "--measures"),
        ([layout] if layout else [], LAYOUTS, "--format"),
        ([reduce] if reduce else [], REDUCERS, "--reduce"),
    ):
        for name in given:
            if name not in known:
                raise ConfigError(f"there is no `{name}`", place=place, remedy=nearest(name, list(known)))
    if out is not None and out.exists() and not out.is_dir():
        raise ConfigError("not a folder", place=str(out), remedy="give another --out")
    if bool(reward) == compare:
        raise ConfigError("one of --reward and --compare", place="--reward", remedy="say what judges, once")
    asked = read_items(items, layout)[:limit]
    speaker = _speaker(url, model, key_variable=key_variable, cache=cache, seed=seed)
    with Steps() as steps:
        wanted = {"swaps": "swap" in chosen, "probes": "probes" in chosen and not compare}
        if compare:
            asking = _comparison(speaker, seed)
        else:
            asking = _of_reward(reward, speaker, reduce=reduce, verdicts=with_verdicts, seed=seed)
        judged = ask_all(asking, asked, steps, **wanted, at_once=16 if speaker else 1)
    name = f"{model}, comparing" if compare else reward
    report = judge_report(judged, chosen, judge=name, source=items.name)
    if not report.measures:
        raise DataError(
            f"nothing of {report.items} items could be scored",
            place=str(items),
            remedy=UNREAD if compare else UNSCORED,
        )
    figures_table(report.measures)
    print(f"{report.items} items, {report.unscored} could not be scored")
    if out is not None:
        write_judge_report(report, out)
        print(f"in {out}: judge.html, judge.md, judge.json")
    if gate:
        _gate(judged)


def _speaker(url: str, model: str, *, key_variable: str, cache: str, seed: int) -> "Judge | None":
    """The model that is asked; None where none is named. Nothing is asked or loaded yet."""
    from journeyman.config.judge import EndpointJudge, ModelJudge
    from journeyman.rewards.judge import ChatJudge

    if not model:
        if url:
            raise ConfigError("which model", place="--model", remedy="give the server's name for it")
        return None
    if url:
        config = EndpointJudge(base_url=url, model=model, key_variable=key_variable, cache=cache)
        return ChatJudge.of(config, seed=seed)
    if not (Path(model) / "config.json").is_file():
        raise DataError("there is no model", place=model, remedy="give a folder in Hugging Face format, or --url")
    from infra.commands.benchmark import MAX_LENGTH, longest
    from journeyman.config import ComputeConfig
    from journeyman.rollout.sampler_judge import LazyJudge, model_judge

    own = ModelJudge(path=model, cache=cache, max_length=longest([Path(model)], MAX_LENGTH))
    return LazyJudge(lambda: model_judge(own, ComputeConfig(), seed=seed))


def _comparison(speaker: "Judge | None", seed: int) -> "Asking":
    from journeyman.evaluation.judging.scores import ByComparison

    if speaker is None:
        raise ConfigError("nobody to ask", place="--compare", remedy="give --model, and --url for a server")
    return ByComparison(speaker, seed=seed)


def _of_reward(expression: str, speaker: "Judge | None", *, reduce: str, verdicts: bool, seed: int) -> "Asking":
    from journeyman.config.judge import HashedEncoding
    from journeyman.evaluation.judging.scores import ByReward
    from journeyman.expressions import ExpressionError
    from journeyman.rewards import History, build_reward
    from journeyman.rewards.encoders import build_encoder

    supplied: dict[str, Any] = {"history": History(), "encoder": build_encoder(HashedEncoding())}
    try:
        built = build_reward(expression, **supplied, **({"judge": speaker} if speaker else {}))
    except ExpressionError as error:
        remedy = "give --model, and --url for a server" if "needs judge" in error.fault else error.remedy
        raise ConfigError(error.fault, place=f"--reward {expression}", remedy=remedy) from None
    return ByReward(built, reduce=reduce, verdicts=verdicts, seed=seed)


def _gate(judged: "Judged") -> None:
    """Raise `UserError` where a judge falls for a probe, or where nothing is known of it."""
    from journeyman.evaluation.judging.measures import worst_rates
    from journeyman.rewards.probes import gate

    rates = worst_rates(judged)
    if not rates:
        raise ConfigError("no probe could be scored", place="--gate", remedy="probe a reward that judges answers")
    gate(rates)
