"""A task of tau2's `tasks.json`: what the user wants, how the world begins, what counts as done."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from journeyman.errors import DataError

Side = Literal["assistant", "user"]
"""Whose tools: the desk's or the user's own."""


class Basis(StrEnum):
    """What the verdict of a task rests on."""

    DB = "DB"
    """The database at the end is that after the gold actions."""
    COMMUNICATE = "COMMUNICATE"
    """What had to be said was said."""
    ACTION = "ACTION"
    """Each gold action was taken."""
    ENV_ASSERTION = "ENV_ASSERTION"
    """What must hold in the world holds."""
    NL_ASSERTION = "NL_ASSERTION"
    """Statements about the dialogue, which only a judge can check."""


_MODEL = ConfigDict(extra="ignore", frozen=True)


class Action(BaseModel):
    """A call that someone makes."""

    model_config = _MODEL
    name: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    requestor: Side = "assistant"
    compare_args: list[str] | None = None
    """Arguments that count when a call is compared with this one; None: all."""


class FunctionCall(BaseModel):
    """A function of the world, called to set it up or to check it."""

    model_config = _MODEL
    env_type: Side = "assistant"
    func_name: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    assert_value: bool = True
    """What an assertion must give."""


class InitialData(BaseModel):
    """Values laid over the databases."""

    model_config = _MODEL
    agent_data: dict[str, dict[str, Any]] | None = None
    user_data: dict[str, dict[str, Any]] | None = None


class InitialState(BaseModel):
    """How the world differs from the domain's at the start."""

    model_config = _MODEL
    initialization_data: InitialData | None = None
    initialization_actions: list[FunctionCall] | None = None
    message_history: list[dict[str, Any]] | None = None


class Instructions(BaseModel):
    """What the user knows and wants, in the second person."""

    model_config = _MODEL
    reason_for_call: str = ""
    known_info: str | None = None
    unknown_info: str | None = None
    task_instructions: str | None = None


class Script(BaseModel):
    """Ours: what a scripted user says."""

    model_config = _MODEL
    parts: list[str]
    """The request, part by part; the first opens the dialogue."""
    slots: dict[str, str] = Field(default_factory=dict)
    """Answer by keyword of the question."""


class Scenario(BaseModel):
    """The user's side."""

    model_config = _MODEL
    persona: str | None = None
    instructions: Instructions | str
    script: Script | None = None

    def text(self) -> str:
        """All that a simulated user is told."""
        if isinstance(self.instructions, str):
            return self.instructions
        told = self.instructions
        parts = {
            "Why you call": told.reason_for_call,
            "What you know": told.known_info,
            "What you don't know": told.unknown_info,
            "How you behave": told.task_instructions,
        }
        return "\n\n".join(f"{head}:\n{text}" for head, text in parts.items() if text)


class Criteria(BaseModel):
    """What counts as done."""

    model_config = _MODEL
    actions: list[Action] | None = None
    """None: nothing is said of the database; empty: it must stay as it was."""
    env_assertions: list[FunctionCall] | None = None
    communicate_info: list[str] | None = None
    nl_assertions: list[str] | None = None
    reward_basis: list[Basis] = Field(default_factory=lambda: [Basis.DB, Basis.COMMUNICATE])


class Task(BaseModel):
    """One task."""

    model_config = _MODEL
    id: Annotated[str, Field(coerce_numbers_to_str=True)]
    user_scenario: Scenario
    ticket: str | None = None
    initial_state: InitialState | None = None
    evaluation_criteria: Criteria = Field(default_factory=Criteria)

    @property
    def actions(self) -> Sequence[Action]:
        return self.evaluation_criteria.actions or ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A row that is no task: kept and said, never dropped in silence."""

    row: int
    """Position in the file, from 0."""
    reason: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def task_of(row: Mapping[str, Any]) -> Task:
    """A task of its JSON. Raises `ValueError` that says which field is wrong."""
    try:
        return Task.model_validate(row)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from None


def read_tasks(path: Path) -> tuple[list[Task], list[Rejected]]:
    """Tasks of a `tasks.json`, and the rows that are none. Raises `DataError` where the file itself is broken."""
    rows = read_json(path)
    if not isinstance(rows, list):
        raise DataError("not a list of tasks", place=str(path), remedy="give tau2's tasks.json")
    tasks, rejected = [], []
    for number, row in enumerate(rows):
        try:
            tasks.append(task_of(row))
        except ValueError as error:
            rejected.append(Rejected(row=number, reason=str(error)))
    return tasks, rejected


def read_json(path: Path) -> Any:
    """Raises `DataError` with file and line."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"can't be read: {error.strerror}", place=str(path), remedy="check the path") from None
    except UnicodeDecodeError:
        raise DataError("is not UTF-8 text", place=str(path), remedy="save it as UTF-8") from None
    except json.JSONDecodeError as error:
        raise DataError(f"is not JSON: {error.msg}", place=f"{path}:{error.lineno}", remedy="mend the file") from None
