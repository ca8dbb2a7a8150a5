"""`journeyman replay`: tool actions on the world of a service desk."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Format(StrEnum):
    """Whose files the domain has."""

    TAU2 = "tau2"


def replay(
    domain: Annotated[
        Path, typer.Option(help="Folder with db.json, and policy.md, tasks.json, user_db.json.", show_default=False)
    ],
    actions: Annotated[
        Path,
        typer.Option(
            help='JSON Lines: {"name", "arguments", "requestor"?, "task_id"?}, or {"task_id"?, "actions": [...]}.',
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for what came of it.", show_default=False)],
    format: Annotated[Format, typer.Option("--format", help="Of the domain's files.")] = Format.TAU2,
    name: Annotated[str, typer.Option(help="Which domain it is: mock, retail. [the folder's name]")] = "",
    full: Annotated[bool, typer.Option("--full", help="Final databases of several runs too.")] = False,
) -> None:
    """Run tool actions on a desk's world: observations.jsonl, changes.jsonl and final.json, to compare final states.

    Each task's actions run on a fresh world that begins as the task says; those without a task, on the domain as it
    is. Actions that fail are observations and change nothing.
    """
    from journeyman.environments.tau2.replay import read_runs, write_replay
    from journeyman.environments.tau2.world import Domain
    from journeyman.errors import UserError

    if not domain.is_dir():
        raise UserError("not a folder", place=str(domain), remedy="give one with db.json and policy.md")
    if out.exists() and not out.is_dir():
        raise UserError("not a folder", place=str(out), remedy="give a folder, there or not")
    world = Domain.of_folder(domain, name)
    summary = write_replay(world, read_runs(actions, world), out, full=full)
    for run in summary["runs"]:
        task = f"task {run['task_id']}" if run["task_id"] else "no task"
        print(
            f"{task}: {run['ok']} of {run['actions']} actions worked, {run['changed']} records changed, {run['db_hash']}"
        )
    total, ok = (sum(run[key] for run in summary["runs"]) for key in ("actions", "ok"))
    print(f"{len(summary['runs'])} runs, {total} actions: {ok} worked, {total - ok} failed; written to {out}")
