"""Run tool actions on a desk's world and write what each gave and what changed, so that final states can be compared."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from journeyman.environments.tau2.task import Action
from journeyman.environments.tau2.world import Domain, World
from journeyman.errors import DataError
from journeyman.tools.base import ToolError


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Actions that are run one after another on a world of their own."""

    actions: tuple[Action, ...]
    task_id: str = ""
    """The task whose set-up the world begins with; empty: the domain as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What an action gave."""

    action: Action
    ok: bool
    output: str
    """The result; empty where it failed."""
    error: str
    """Why it failed; empty where it did not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What came of a run."""

    run: Run
    observations: tuple[Observation, ...]
    world: World


def replay(domain: Domain, runs: Sequence[Run]) -> Iterator[Replayed]:
    """Each run on a fresh world. Actions that fail are observations and change nothing.

    Raises `DataError` where the set-up of a run's task does not work, or the database is not the domain's.
    """
    for run in runs:
        world = World(domain, domain.task(run.task_id) if run.task_id else None)
        yield Replayed(run=run, observations=tuple(_observe(world, action) for action in run.actions), world=world)


def gold_runs(domain: Domain) -> list[Run]:
    """The gold actions of all tasks of a domain."""
    return [Run(actions=tuple(task.actions), task_id=task.id) for task in domain.tasks]


def _observe(world: World, action: Action) -> Observation:
    try:
        return Observation(action=action, ok=True, output=world.run(action), error="")
    except ToolError as error:
        return Observation(action=action, ok=False, output="", error=str(error))
    except (KeyError, TypeError, AttributeError) as error:  # a tool found no field where its domain has one
        what = f"the records are not those of the domain: {action.name}: {type(error).__name__}: {error}"
        raise DataError(what, place="db.json", remedy="check the folder, or name the domain") from error


def read_runs(path: Path, domain: Domain) -> list[Run]:
    """Runs of a JSON Lines file.

    A line is one action, `{"name", "arguments", "requestor"?, "task_id"?}`: those of one task, or of none, are a run;
    or a run, `{"task_id"?, "actions": [...]}` or the bare list; or a task of tau2, whose gold actions are the run.
    Raises `DataError` with file and line.
    """
    runs: list[Run] = []
    single: dict[str, int] = {}  # by task: which run collects its single actions
    for place, value in _lines(path):
        if isinstance(value, dict) and "name" in value:
            task_id = _task_id(value.get("task_id"), domain, place)
            action = _action(value, place)
            if task_id not in single:
                single[task_id] = len(runs)
                runs.append(Run(actions=(), task_id=task_id))
            number = single[task_id]
            runs[number] = Run(actions=(*runs[number].actions, action), task_id=task_id)
        else:
            runs.append(_run(value, domain, place))
    if not runs:
        raise DataError("there are no actions", place=str(path), remedy='give lines of {"name", "arguments"}')
    return runs


def _run(value: Any, domain: Domain, place: str) -> Run:
    """A run of a line."""
    task_id, actions = "", value
    if isinstance(value, dict) and "evaluation_criteria" in value:
        criteria = value["evaluation_criteria"]
        task_id, actions = value.get("id"), criteria.get("actions") if isinstance(criteria, dict) else None
        actions = [] if actions is None else actions
    elif isinstance(value, dict):
        task_id, actions = value.get("task_id"), value.get("actions")
    if not isinstance(actions, list):
        remedy = 'write {"name", "arguments"} or {"task_id", "actions": [...]}'
        raise DataError("neither an action nor a list of actions", place=place, remedy=remedy)
    made = tuple(_action(action, place) for action in actions)
    return Run(actions=made, task_id=_task_id(task_id, domain, place))


def _action(value: Any, place: str) -> Action:
    try:
        return Action.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "the line"
        message = f"not an action: {field}: {first['msg']}"
        raise DataError(message, place=place, remedy='write {"name", "arguments", "requestor"?}') from None


def _task_id(value: Any, domain: Domain, place: str) -> str:
    if value is None or value == "":
        return ""
    if domain.task(str(value)) is None:
        remedy = "name one of tasks.json, or leave task_id out"
        raise DataError(f"the domain {domain.name} has no task {value!r}", place=place, remedy=remedy)
    return str(value)


def _lines(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = "is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else f"can't be read: {error.strerror}"
        raise DataError(reason, place=str(path), remedy="give a JSON Lines file") from None
    for number, line in enumerate(lines, start=1):
        if line.strip():
            place = f"{path}:{number}"
            try:
                yield place, json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"not JSON: {error}", place=place, remedy="mend or remove the line") from None


def write_replay(domain: Domain, runs: Sequence[Run], out: Path, *, full: bool = False) -> dict[str, Any]:
    """Replay and write `observations.jsonl`, `changes.jsonl` and `final.json`; returns the latter's summary.

    Args:
        domain: where the runs take place.
        runs: each on a fresh world.
        out: a folder; it is made, and what an earlier replay wrote there is replaced.
        full: write the final databases of several runs too, each as `final-RUN.json`. A single run's are always in
            `final.json`, under `db` and `user_db`.
    """
    out.mkdir(parents=True, exist_ok=True)
    finals, databases = [], {}
    with (
        (out / "observations.jsonl").open("w", encoding="utf-8") as observations,
        (out / "changes.jsonl").open("w", encoding="utf-8") as changes,
    ):
        for number, replayed in enumerate(replay(domain, runs)):
            named = {"run": number, "task_id": replayed.run.task_id or None}
            for index, observation in enumerate(replayed.observations):
                observations.write(_line({**named, "index": index, **_observation(observation)}))
            changed = [{**named, **change} for change in _changes(replayed.world)]
            changes.writelines(map(_line, changed))
            finals.append({**named, **_final(replayed), "changed": len(changed)})
            databases = _databases(replayed.world)
            if full and len(runs) > 1:
                (out / f"final-{number}.json").write_text(_line(databases), encoding="utf-8")
    summary = {"domain": domain.name, "runs": finals}
    whole = {**summary, **databases} if len(runs) == 1 else summary
    (out / "final.json").write_text(json.dumps(whole, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return summary


def _observation(observation: Observation) -> dict[str, Any]:
    action = observation.action
    return {
        "requestor": action.requestor,
        "name": action.name,
        "arguments": action.arguments,
        "ok": observation.ok,
        "output": observation.output,
        "error": observation.error or None,
    }


def _changes(world: World) -> Iterator[Mapping[str, Any]]:
    for name, kit in (("db", world.desk), ("user_db", world.user)):
        for change in kit.database.changes():
            yield {"database": name, **change.to_json()}


def _final(replayed: Replayed) -> dict[str, Any]:
    """Counts, and SHA-256 of the final databases as JSON with sorted keys."""
    ok = sum(observation.ok for observation in replayed.observations)
    db_hash, user_db_hash = replayed.world.hashes()
    return {
        "actions": len(replayed.observations),
        "ok": ok,
        "failed": len(replayed.observations) - ok,
        "db_hash": db_hash,
        "user_db_hash": user_db_hash,
    }


def _databases(world: World) -> dict[str, Any]:
    return {"db": world.desk.database.tables(), "user_db": world.user.database.tables()}


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"
