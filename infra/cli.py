"""The command line. Heavy imports stand inside the commands: `--help` has to be quick."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from infra.commands import grade
from infra.commands.benchmark import benchmark
from infra.commands.convert import export, import_
from infra.commands.curate import curate
from infra.commands.judge import judge
from infra.commands.replay import replay
from infra.commands.report import report
from infra.commands.sql import sql
from infra.commands.tool import tool
from journeyman.errors import InfrastructureError, UserError

INTERRUPTED = 130
app = typer.Typer(
    name="journeyman",
    help="Teach a language model to use tools: synthesize, curate, sft, rl, evaluate.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

File = Annotated[Path, typer.Option("--file", "-f", help="Where the pipelines are.", metavar="FILE")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", help="An option, dotted: sft.steps=10, rl.accuracy.steps=3. May be repeated."),
]
PrefectPort = Annotated[
    int | None,
    typer.Option(help="Port of the Prefect server. [4200]", envvar="JOURNEYMAN_PREFECT_PORT", min=1, max=65535),
]
MlflowPort = Annotated[
    int | None,
    typer.Option(help="Port of the MLflow server. [5000]", envvar="JOURNEYMAN_MLFLOW_PORT", min=1, max=65535),
]
RayPort = Annotated[
    int | None,
    typer.Option(help="Port of the Ray head. [6379]", envvar="JOURNEYMAN_RAY_PORT", min=1, max=65535),
]


@app.command()
def run(
    pipeline: Annotated[str, typer.Argument(help="A name in the file.")] = "quickstart",
    overrides: Overrides = None,
    seed: Annotated[int | None, typer.Option(help="Every random draw follows from it.", min=0)] = None,
    file: File = Path("pipelines.yaml"),
    prefect_port: PrefectPort = None,
    mlflow_port: MlflowPort = None,
) -> None:
    """Run a pipeline from end to end. What an earlier run has made of the same is used again."""
    from journeyman.config.load import load_pipeline

    more = [f"seed={seed}"] if seed is not None else []
    config = load_pipeline(pipeline, file, [*(overrides or []), *more])

    def start() -> str:
        from flows.pipeline import pipeline as flow

        return flow(config)

    _follow(start, prefect=prefect_port, mlflow=mlflow_port)


@app.command()
def stage(
    name: Annotated[str, typer.Argument(help="synthesize, curate, sft, rl, rl-NAME or evaluate.")],
    from_run: Annotated[
        str, typer.Option(help="Whose inputs: a run's id, a pipeline's name (its latest run), or latest.")
    ] = "latest",
    block: Annotated[str, typer.Option("--name", help="The rl block. [the first]")] = "",
    overrides: Overrides = None,
    prefect_port: PrefectPort = None,
    mlflow_port: MlflowPort = None,
) -> None:
    """Run one stage on the inputs of an earlier run."""
    from infra.rerun import stage_call
    from journeyman.artifacts import home

    start = stage_call(home(), name, block=block, from_run=from_run, overrides=overrides or [])
    _follow(start, prefect=prefect_port, mlflow=mlflow_port)


@app.command()
def up(prefect_port: PrefectPort = None, mlflow_port: MlflowPort = None, ray_port: RayPort = None) -> None:
    """Start Prefect, MLflow, Ray and a worker, register the deployments, print the addresses."""
    from infra.definitions import MLFLOW, PREFECT, RAY, WORKER, Ports
    from infra.services import Services, register_deployments
    from journeyman.artifacts import home

    services = Services(home(), announce=lambda text: print(f"{text} ...", flush=True))
    ports = Ports.chosen_by(prefect=prefect_port, mlflow=mlflow_port, ray=ray_port)
    with _interruptible(), services.hold() as hold:
        services.start([PREFECT, MLFLOW, RAY, WORKER], ports)
        print("registering the deployments ...", flush=True)
        register_deployments(services.environment())
        hold.keep(services.up())
    for record in services.up().values():
        print(f"  {record.name:8} {record.address}")
    print(f"logs in {services.folder}; `journeyman down` ends all of it")


@app.command()
def down() -> None:
    """End just what was started here."""
    from infra.services import Services
    from journeyman.artifacts import home

    ended = Services(home()).stop()
    print(f"ended: {', '.join(ended)}" if ended else "nothing was up")


@app.command()
def show(
    pipeline: Annotated[str, typer.Argument(help="A name in the file.")] = "quickstart",
    overrides: Overrides = None,
    file: File = Path("pipelines.yaml"),
) -> None:
    """Print a pipeline with everything resolved: defaults, file, overrides."""
    from journeyman.config.load import load_pipeline, render

    print(render(load_pipeline(pipeline, file, overrides or [])), end="")


@app.command()
def catalog(
    kind: Annotated[str, typer.Option(help="One kind of part: reward, credit, objective, tool, ...")] = "",
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="As docs/catalog.md.")] = False,
) -> None:
    """List every registered part: tools, environments, rewards, credits and so on."""
    from infra.tables import catalog_json, catalog_tables, entries_of
    from journeyman.catalog import page

    entries = entries_of(kind)
    if markdown:
        print(page(entries), end="")
    elif json:
        print(catalog_json(entries))
    else:
        catalog_tables(entries)


@app.command()
def runs() -> None:
    """List the runs, the newest first."""
    from infra.tables import runs_table
    from journeyman.artifacts import home
    from journeyman.runs import RunStore

    runs_table(RunStore(home()).all())


app.command()(report)
app.command()(tool)
app.command()(replay)
app.command()(sql)
app.command()(curate)
app.command()(benchmark)
app.command()(judge)
app.command("import")(import_)
app.command()(export)
app.add_typer(grade.app, name="grade")


def _follow(start: Callable[[], str], **ports: int | None) -> None:
    """Run a flow with the display, then print what came of it and where to look."""
    from infra.definitions import Ports
    from infra.launch import RunFailed, launch
    from infra.tables import summary
    from journeyman.artifacts import HOME_VARIABLE, home

    os.environ[HOME_VARIABLE] = str(home())  # absolute, for every process that is started
    with _interruptible():
        try:
            summary(home(), launch(home(), Ports.chosen_by(**ports), start))
        except RunFailed as error:
            _fail(str(error), 1)


@contextmanager
def _interruptible() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        _fail("interrupted: what was started is ended again", INTERRUPTED)


def _fail(message: str, code: int) -> None:
    print(f"journeyman: {message}", file=sys.stderr)
    raise typer.Exit(code)


def main() -> None:
    """The console script. A `UserError` is one message and exit code 2."""
    try:
        app()
    except UserError as error:
        print(f"journeyman: {error}", file=sys.stderr)
        sys.exit(2)
    except InfrastructureError as error:
        print(f"journeyman: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
