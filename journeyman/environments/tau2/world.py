"""The world of a desk: the desk's database and the user's own, and whoever acts on them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from journeyman.environments.tau2.bicycles import BicycleDesk
from journeyman.environments.tau2.database import Database, Tables
from journeyman.environments.tau2.mock import MockDesk, MockUser
from journeyman.environments.tau2.retail import RetailDesk
from journeyman.environments.tau2.task import Action, FunctionCall, Rejected, Side, Task, read_json, read_tasks
from journeyman.environments.tau2.toolkit import Toolkit
from journeyman.errors import DataError, UserError
from journeyman.tools.base import ToolError


@dataclass(frozen=True, slots=True, kw_only=True)
class Kits:
    """Whose tools a domain has."""

    desk: type[Toolkit]
    user: type[Toolkit] = Toolkit
    """Without tools of its own."""


KITS: dict[str, Kits] = {
    "bicycles": Kits(desk=BicycleDesk),
    "mock": Kits(desk=MockDesk, user=MockUser),
    "retail": Kits(desk=RetailDesk),
}
"""The domains that there are tools for. To add one: a `Toolkit` and a line here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """Everything about a desk but the attempt at hand. Shared by all attempts; none changes it."""

    name: str
    tables: Tables
    policy: str
    user_tables: Tables
    tasks: tuple[Task, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    """Rows of the task file that are no tasks."""

    @classmethod
    def of_folder(cls, folder: Path, name: str = "", split: str = "") -> "Domain":
        """A domain in tau2's files: `db.json`, `policy.md`, `tasks.json`, and `user_db.json` where users have tools.

        Raises `UserError` for an unknown domain, and `DataError` for files that are missing or broken.

        Args:
            folder: where the files are.
            name: which domain, a key of `KITS`; empty: the folder's name.
            split: a list in `split_tasks.json`; empty: all tasks.
        """
        name = name or folder.resolve().name
        if name not in KITS:
            known = ", ".join(KITS)
            raise UserError(f"there is no domain {name!r}; there are {known}", place=str(folder), remedy="name one")
        tasks, rejected = read_tasks(folder / "tasks.json") if (folder / "tasks.json").is_file() else ([], [])
        policy = folder / "policy.md"
        user_tables = folder / "user_db.json"
        return cls(
            name=name,
            tables=_tables(folder / "db.json"),
            policy=policy.read_text(encoding="utf-8") if policy.is_file() else "",
            user_tables=_tables(user_tables) if user_tables.is_file() else {},
            tasks=tuple(_of_split(tasks, folder / "split_tasks.json", split) if split else tasks),
            rejected=tuple(rejected),
        )

    def task(self, task_id: str) -> Task | None:
        return next((task for task in self.tasks if task.id == task_id), None)


def _tables(path: Path) -> Tables:
    tables = read_json(path)
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise DataError("not tables of records", place=str(path), remedy="give tau2's db.json")
    return tables


def _of_split(tasks: Sequence[Task], path: Path, split: str) -> list[Task]:
    splits = read_json(path)
    if not isinstance(splits, dict) or split not in splits:
        known = ", ".join(splits) if isinstance(splits, dict) else "none"
        raise UserError(f"there is no split {split!r}; there are {known}", place=str(path), remedy="name one")
    wanted = {str(task_id) for task_id in splits[split]}
    return [task for task in tasks if task.id in wanted]


class World:
    """One attempt's private view of a domain."""

    def __init__(self, domain: Domain, task: Task | None = None) -> None:
        """Raises `DataError` where the task's own set-up does not work."""
        kits = KITS[domain.name]
        self.desk = kits.desk(Database(domain.tables))
        self.user = kits.user(Database(domain.user_tables))
        if task is not None and task.initial_state is not None:
            self._begin(task)

    def kit(self, side: Side) -> Toolkit:
        return self.user if side == "user" else self.desk

    def run(self, action: Action) -> str:
        """What a tool gives. Raises `ToolError`, and then nothing has changed."""
        return self.kit(action.requestor).run(action.name, action.arguments)

    def attempt(self, actions: Sequence[Action]) -> list[str]:
        """Run actions one after another; those that fail, on purpose or not, change nothing. Returns their errors."""
        errors = []
        for action in actions:
            try:
                self.run(action)
            except ToolError as error:
                errors.append(f"{action.name}: {error}")
        return errors

    def holds(self, assertion: FunctionCall) -> bool:
        """Whether an assertion holds; one about a record that isn't there does not."""
        try:
            value = self.kit(assertion.env_type).function(assertion.func_name, assertion.arguments)
        except ToolError:
            return False
        return value == assertion.assert_value

    def hashes(self) -> tuple[str, str]:
        """Of the desk's database and the user's own, in full."""
        return self.desk.database.hash(), self.user.database.hash()

    def state_dict(self) -> dict[str, Any]:
        return {"desk": self.desk.database.state_dict(), "user": self.user.database.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.desk.database.load_state_dict(state["desk"])
        self.user.database.load_state_dict(state["user"])

    def _begin(self, task: Task) -> None:
        state = task.initial_state
        assert state is not None
        if state.initialization_data:
            self.desk.database.merge(state.initialization_data.agent_data or {})
            self.user.database.merge(state.initialization_data.user_data or {})
        try:
            for call in state.initialization_actions or ():
                self.kit(call.env_type).function(call.func_name, call.arguments)
        except ToolError as error:
            raise DataError(f"can't begin: {error}", place=f"task {task.id}", remedy="mend its initial_state") from None
        self.attempt(_made_before(state.message_history or ()))


def _made_before(history: Sequence[Mapping[str, Any]]) -> list[Action]:
    """Calls in the dialogue that a task begins with."""
    return [
        Action(name=call["name"], arguments=call["arguments"], requestor=message["role"])
        for message in history
        for call in message.get("tool_calls") or ()
    ]
