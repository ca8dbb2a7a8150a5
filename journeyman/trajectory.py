"""One attempt at a Problem, all turns of it: the row that every stage reads and writes."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from journeyman.problem import Problem

if TYPE_CHECKING:
    import pyarrow as pa


class StopReason(StrEnum):
    """Why a trajectory ended."""

    ANSWER = "answer"
    """The model gave an answer, or ended its turn without a call."""
    MAX_TURNS = "max_turns"
    MAX_TOKENS = "max_tokens"
    """The turn or the trajectory ran into its token limit."""
    FORMAT_ERROR = "format_error"
    """A turn that no parser accepts; recorded data, never a crash."""
    INFRASTRUCTURE = "infrastructure"
    """A tool failed through no fault of the model: not scored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call that the model asked for."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """What a call led to: an observation, errors included."""

    name: str
    ok: bool
    output: str
    """The text that the model reads; the error's text where `ok` is false."""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One model message with the tool results that it led to."""

    text: str
    """What the policy wrote, decoded, without the end-of-turn token."""
    calls: tuple[ToolCall, ...] = ()
    results: tuple[ToolResult, ...] = ()
    """One result for each call, in order."""
    start: int = 0
    stop: int = 0
    """The turn's policy tokens are `token_ids[start:stop]`; 0, 0 for text that was never sampled."""
    error: str = ""
    """Why the turn's format was rejected; empty where it was accepted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """One attempt. Token fields are empty for trajectories that were written, not sampled."""

    id: str
    problem_id: str
    family: str
    question: str
    reference: str
    """The problem's reference answer."""
    tools: tuple[str, ...]
    min_calls: int
    turns: tuple[Turn, ...]
    stop_reason: StopReason
    answer: str | None = None
    """What stood between the policy's own answer tags; None where it gave none."""
    source: str = ""
    """Who made it: `policy`, `scripted`, a file."""
    seed: int = 0
    sample: int = 0
    """Index in its group, 0..G-1."""
    temperature: float = 1.0
    """0 means greedy."""
    policy_version: int = 0
    """Version of the weights that sampled the first turn."""
    token_ids: tuple[int, ...] = ()
    """T ids: prompt, completions and tool responses as the model saw them; never re-encoded."""
    loss_mask: tuple[int, ...] = ()
    """T entries: 1 where the policy sampled the token, else 0."""
    logprobs: tuple[float, ...] = ()
    """T entries, nats, under the sampling distribution; 0.0 where `loss_mask` is 0."""
    correct: bool | None = None
    """The environment's verdict; None where it could not be verified."""
    reward: float | None = None
    """None: could not be scored (never 0)."""
    reward_parts: Mapping[str, float] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """JSON: how it was made, from what, at what cost."""

    @classmethod
    def at(cls, problem: Problem, **fields: Any) -> "Trajectory":
        """An attempt at a problem, with what it takes from there filled in; `fields` are the others."""
        return cls(
            problem_id=problem.id,
            family=problem.family,
            question=problem.question,
            reference=problem.answer,
            tools=problem.tools,
            min_calls=problem.min_calls,
            **fields,
        )

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        return tuple(call for turn in self.turns for call in turn.calls)

    @property
    def needless_calls(self) -> int:
        """Calls beyond those that the shortest correct course needs."""
        return max(0, len(self.calls) - self.min_calls)

    def scored(self, reward: float | None, parts: Mapping[str, float]) -> "Trajectory":
        return replace(self, reward=reward, reward_parts=dict(parts))


def schema() -> "pa.Schema":
    """The Arrow schema of stored trajectories."""
    import pyarrow as pa

    call = pa.struct([("name", pa.string()), ("arguments", pa.string())])
    result = pa.struct([("name", pa.string()), ("ok", pa.bool_()), ("output", pa.string()), ("seconds", pa.float64())])
    turn = pa.struct(
        [
            ("text", pa.string()),
            ("calls", pa.list_(call)),
            ("results", pa.list_(result)),
            ("start", pa.int32()),
            ("stop", pa.int32()),
            ("error", pa.string()),
        ]
    )
    return pa.schema(
        [
            ("id", pa.string()),
            ("problem_id", pa.string()),
            ("family", pa.string()),
            ("question", pa.string()),
            ("reference", pa.string()),
            ("tools", pa.list_(pa.string())),
            ("min_calls", pa.int32()),
            ("turns", pa.list_(turn)),
            ("stop_reason", pa.string()),
            ("answer", pa.string()),
            ("source", pa.string()),
            ("seed", pa.int64()),
            ("sample", pa.int32()),
            ("temperature", pa.float64()),
            ("policy_version", pa.int32()),
            ("token_ids", pa.list_(pa.int32())),
            ("loss_mask", pa.list_(pa.int8())),
            ("logprobs", pa.list_(pa.float32())),
            ("correct", pa.bool_()),
            ("reward", pa.float64()),
            ("reward_parts", pa.string()),
            ("provenance", pa.string()),
        ]
    )


def to_row(trajectory: Trajectory) -> dict[str, Any]:
    """A trajectory as plain values that fit `schema()`; free-form mappings become JSON text."""
    row = {name: getattr(trajectory, name) for name in schema().names}
    row["turns"] = [
        {
            "text": turn.text,
            "calls": [{"name": call.name, "arguments": _dump(call.arguments)} for call in turn.calls],
            "results": [{"name": r.name, "ok": r.ok, "output": r.output, "seconds": r.seconds} for r in turn.results],
            "start": turn.start,
            "stop": turn.stop,
            "error": turn.error,
        }
        for turn in trajectory.turns
    ]
    row["stop_reason"] = str(trajectory.stop_reason)
    row["reward_parts"], row["provenance"] = _dump(trajectory.reward_parts), _dump(trajectory.provenance)
    return row


def from_row(row: Mapping[str, Any]) -> Trajectory:
    """The inverse of `to_row`."""
    turns = tuple(
        Turn(
            text=turn["text"],
            calls=tuple(ToolCall(name=c["name"], arguments=json.loads(c["arguments"])) for c in turn["calls"]),
            results=tuple(ToolResult(**r) for r in turn["results"]),
            start=turn["start"],
            stop=turn["stop"],
            error=turn["error"],
        )
        for turn in row["turns"]
    )
    plain = {name: value for name, value in row.items() if name in Trajectory.__dataclass_fields__}
    sequences = {name: tuple(plain[name]) for name in ("tools", "token_ids", "loss_mask", "logprobs")}
    return Trajectory(
        **{
            **plain,
            **sequences,
            "turns": turns,
            "stop_reason": StopReason(row["stop_reason"]),
            "reward_parts": json.loads(row["reward_parts"]),
            "provenance": json.loads(row["provenance"]),
        }
    )


def write_trajectories(trajectories: Iterable[Trajectory], path: Path) -> int:
    """Write a Parquet file of trajectories; returns how many."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [to_row(trajectory) for trajectory in trajectories]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema()), path, compression="zstd")
    return len(rows)


def read_trajectories(path: Path) -> list[Trajectory]:
    """Read what `write_trajectories` wrote."""
    import pyarrow.parquet as pq

    return [from_row(row) for row in pq.read_table(path, schema=schema()).to_pylist()]


def _dump(value: Mapping[str, Any]) -> str:
    return json.dumps(dict(value), ensure_ascii=False, sort_keys=True)
