"""One thing to solve: what is asked, which tools are on offer, how the answer is verified."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

EVALUATED = ("dev", "heldout")
"""Splits that are evaluated on: nothing is learned from them."""
BEGUN = "begun"
"""Key of a problem's data: texts of turns that attempts begin with. They are played, not learned from."""
GUIDANCE = "guidance"
"""Key of a problem's data: what the policy is told behind the question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A question with a checkable answer."""

    id: str
    """Digest of family, question and data: equal problems have equal ids."""
    family: str
    """Key of `journeyman.environments.ENVIRONMENTS`: the environment that the problem lives in."""
    question: str
    """What the user asks, as shown to the model."""
    answer: str
    """Reference answer; never shown to the model."""
    tools: tuple[str, ...] = ()
    """Names of the tools on offer, keys of `journeyman.tools.TOOLS`."""
    min_calls: int = 0
    """Tool calls that the shortest correct course needs; calls beyond are needless."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """What the environment needs besides (JSON): gold steps, a table's name, the source row."""
    world: Mapping[str, Any] = field(default_factory=dict)
    """Options of the environment (JSON), as its class takes them; empty: its defaults."""

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "tools": list(self.tools), "data": dict(self.data), "world": dict(self.world)}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "Problem":
        return cls(**{**row, "tools": tuple(row["tools"])})


def problem_id(family: str, question: str, data: Mapping[str, Any] | None = None) -> str:
    """A stable 16-digit name for a problem."""
    text = json.dumps([family, question, dict(data or {})], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def variant(problem: Problem, mark: str, data: Mapping[str, Any]) -> Problem:
    """A problem with more data. Its id tells, `ID~MARK`: what is remembered of one is not mixed with the other's."""
    return replace(problem, id=f"{problem.id}~{mark}", data={**problem.data, **data})


def train_files(artifact: Path) -> list[Path]:
    """Where an artifact has the problems that rl learns from: the train split, and what strategies have made."""
    made = artifact / "problems" / "made.parquet"
    return [artifact / "problems" / "train.parquet", *([made] if made.is_file() else [])]
