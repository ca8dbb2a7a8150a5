"""One attempt at a Problem, all turns of it: the row that every stage reads and writes."""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from journeyman.messages import Fault, Image, Message, ToolCall, ToolResult
from journeyman.problem import Problem

if TYPE_CHECKING:
    import pyarrow as pa

KIND = "kind"
"""Key of a trajectory's provenance: what sort of lesson it is, such as `world_model`."""
PLAIN = "trajectory"
"""The kind of those that don't say."""
UNLEARNED = "unlearned_turns"
"""Key of a trajectory's provenance: numbers of turns that are shown but not learned from, such as erroneous ones (#7)."""

SEARCH = "search"
"""Key of a searched trajectory's provenance: its turns' nodes and values, the mean of its tree, whether it is learned from."""
SOLUTION = "solution"
"""Key of a trajectory's provenance: true where a search has found it, and it is worth keeping (#168)."""


class StopReason(StrEnum):
    """Why a trajectory ended."""

    ANSWER = "answer"
    """The model gave an answer, or ended its turn without a call."""
    DONE = "done"
    """The world ended it: its user said goodbye, a game is over."""
    MAX_TURNS = "max_turns"
    MAX_TOKENS = "max_tokens"
    """The turn or the trajectory ran into its token limit."""
    MAX_CALLS = "max_calls"
    MAX_SECONDS = "max_seconds"
    MAX_COST = "max_cost"
    """What its calls cost reached the limit."""
    FORMAT_ERROR = "format_error"
    """A turn that no parser accepts; recorded data, never a crash."""
    TOOL = "tool"
    """A tool broke: not scored."""
    ENVIRONMENT = "environment"
    """The world broke: not scored."""
    INFRASTRUCTURE = "infrastructure"
    """A server or a machine failed: not scored."""

    @property
    def fault(self) -> Fault | None:
        """Through whose fault the trajectory ended; None where it came to an end or to a limit."""
        return _FAULTS.get(self)

    @property
    def scorable(self) -> bool:
        """Whether the attempt says anything about the policy."""
        return self.fault in (None, Fault.POLICY)


_FAULTS = {
    StopReason.FORMAT_ERROR: Fault.POLICY,
    StopReason.TOOL: Fault.TOOL,
    StopReason.ENVIRONMENT: Fault.ENVIRONMENT,
    StopReason.INFRASTRUCTURE: Fault.INFRASTRUCTURE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One model message with the tool results that it led to."""

    text: str
    """What the policy wrote, decoded, without the end-of-turn token."""
    calls: tuple[ToolCall, ...] = ()
    results: tuple[ToolResult, ...] = ()
    """One result for each call, in order."""
    reply: str = ""
    """What the user said next; empty where there was no user or the dialogue ended."""
    reward: float = 0.0
    """What the world paid for this turn."""
    restart: tuple[Message, ...] = ()
    """With what the model's context began anew after this turn; empty: it went on."""
    policy: str = ""
    """Who sampled it where that is not the trajectory's own policy; its tokens are then not in the mask."""
    start: int = 0
    stop: int = 0
    """The turn's policy tokens are `token_ids[start:stop]`; 0, 0 for text that was never sampled."""
    error: str = ""
    """Why the turn's format was rejected; empty where it was accepted."""

    def outputs(self) -> list[str]:
        """What the model was shown next, message by message: each result, then the user's words."""
        return [result.output for result in self.results] + ([self.reply] if self.reply else [])


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A stretch of a turn's text that earned something by itself: a call, a sentence, an item of a list."""

    turn: int
    """Index of the turn."""
    start: int
    stop: int
    """`Turn.text[start:stop]`, in characters."""
    reward: float
    kind: str = ""
    """What it is: `call`, `sentence`, `item`."""


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
    """Names of the tools on offer."""
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
    """Version of the oldest weights that sampled a token of it."""
    token_ids: tuple[int, ...] = ()
    """T ids: prompt, completions and tool responses as the model saw them; never re-encoded."""
    cuts: tuple[int, ...] = ()
    """Where in `token_ids` the model's context began anew: folded, cleared, or another thread of the conversation."""
    loss_mask: tuple[int, ...] = ()
    """T entries: 1 where the policy sampled the token, else 0."""
    logprobs: tuple[float, ...] = ()
    """T entries, nats, under the sampling distribution; 0.0 where `loss_mask` is 0."""
    policy_versions: tuple[int, ...] = ()
    """T entries: version of the weights that sampled the token, 0 where `loss_mask` is 0."""
    opening: tuple[Message, ...] = ()
    """What the model was shown first; empty: the question alone."""
    specs: tuple[Mapping[str, Any], ...] = ()
    """Specs of the tools on offer; empty: those that the family has under the names in `tools`."""
    correct: bool | None = None
    """The environment's verdict; None where it could not be verified."""
    score: float | None = None
    """The environment's graded verdict in [0, 1]: partial credit where the family has it."""
    score_parts: Mapping[str, float] = field(default_factory=dict)
    """What the graded verdict is made of, by name."""
    reward: float | None = None
    """None: could not be scored (never 0)."""
    reward_parts: Mapping[str, float] = field(default_factory=dict)
    turn_rewards: tuple[float, ...] = ()
    """U entries: what of `reward` each turn earned; empty: all of it was earned by the whole."""
    turn_parts: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """What the turn rewards are made of, by name."""
    reward_spans: tuple[Span, ...] = ()
    """What of `reward` stretches of text earned."""
    reward_channels: Mapping[str, float | None] = field(default_factory=dict)
    """Rewards with an advantage each, by name; None: it takes no part in that comparison."""
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

    def samples(self) -> list[slice]:
        """The token sequences that the model saw, as slices of `token_ids`: one, and one more for each cut."""
        return [slice(*ends) for ends in pairwise((0, *self.cuts, len(self.token_ids)))]

    def scored(self, reward: float | None, parts: Mapping[str, float], **more: Any) -> "Trajectory":
        """With a score written in; `more`: `turn_rewards` and the other fields that a score has."""
        unpaid = {"turn_rewards": (), "turn_parts": {}, "reward_spans": (), "reward_channels": {}}
        return replace(self, reward=reward, reward_parts=dict(parts), **{**unpaid, **more})


def oldest_version(versions: Sequence[int], mask: Sequence[int]) -> int:
    """Of the weights that sampled a token: T versions and their loss mask; 0 where none was sampled."""
    return min((version for version, learned in zip(versions, mask, strict=True) if learned), default=0)


def schema() -> "pa.Schema":
    """The Arrow schema of stored trajectories. JSON stands in text columns."""
    import pyarrow as pa

    text = pa.string()
    call = pa.struct([("name", text), ("arguments", text)])
    result = pa.struct(
        [
            ("name", text),
            ("ok", pa.bool_()),
            ("output", text),
            ("seconds", pa.float64()),
            ("cost", pa.float64()),
            ("images", pa.list_(pa.struct([("data", pa.binary()), ("media_type", text)]))),
            ("fault", text),
        ]
    )
    turn = pa.struct(
        [
            ("text", text),
            ("calls", pa.list_(call)),
            ("results", pa.list_(result)),
            ("reply", text),
            ("reward", pa.float64()),
            ("restart", text),
            ("policy", text),
            ("start", pa.int32()),
            ("stop", pa.int32()),
            ("error", text),
        ]
    )
    return pa.schema(
        [
            ("id", text),
            ("problem_id", text),
            ("family", text),
            ("question", text),
            ("reference", text),
            ("tools", pa.list_(text)),
            ("min_calls", pa.int32()),
            ("turns", pa.list_(turn)),
            ("stop_reason", text),
            ("answer", text),
            ("source", text),
            ("seed", pa.int64()),
            ("sample", pa.int32()),
            ("temperature", pa.float64()),
            ("policy_version", pa.int32()),
            ("token_ids", pa.list_(pa.int32())),
            ("cuts", pa.list_(pa.int32())),
            ("loss_mask", pa.list_(pa.int8())),
            ("logprobs", pa.list_(pa.float32())),
            ("policy_versions", pa.list_(pa.int32())),
            ("opening", text),
            ("specs", text),
            ("correct", pa.bool_()),
            ("score", pa.float64()),
            ("score_parts", text),
            ("reward", pa.float64()),
            ("reward_parts", text),
            ("turn_rewards", pa.list_(pa.float64())),
            ("turn_parts", text),
            ("reward_spans", text),
            ("reward_channels", text),
            ("provenance", text),
        ]
    )


_JSON = ("score_parts", "reward_parts", "turn_parts", "reward_channels", "provenance")
_ADDED = {"turn_rewards": (), "turn_parts": "{}", "reward_spans": "[]", "reward_channels": "{}"}
"""Columns that older files don't have -> what their rows hold in them."""
_SEQUENCES = ("tools", "token_ids", "cuts", "loss_mask", "logprobs", "policy_versions", "turn_rewards")


def to_row(trajectory: Trajectory) -> dict[str, Any]:
    """A trajectory as plain values that fit `schema()`; free-form values become JSON text."""
    row = {name: getattr(trajectory, name) for name in schema().names}
    row["turns"] = [_turn_row(turn) for turn in trajectory.turns]
    row["stop_reason"] = str(trajectory.stop_reason)
    row["opening"] = _dump([message_to_json(message) for message in trajectory.opening])
    row["specs"] = _dump([dict(spec) for spec in trajectory.specs])
    row["reward_spans"] = _dump([asdict(span) for span in trajectory.reward_spans])
    return row | {name: _dump(dict(row[name])) for name in _JSON}


def _turn_row(turn: Turn) -> dict[str, Any]:
    return {
        "text": turn.text,
        "calls": [{"name": call.name, "arguments": _dump(dict(call.arguments))} for call in turn.calls],
        "results": [_result_row(result) for result in turn.results],
        "reply": turn.reply,
        "reward": turn.reward,
        "restart": _dump([message_to_json(message) for message in turn.restart]),
        "policy": turn.policy,
        "start": turn.start,
        "stop": turn.stop,
        "error": turn.error,
    }


def _result_row(result: ToolResult) -> dict[str, Any]:
    plain = {name: getattr(result, name) for name in ("name", "ok", "output", "seconds", "cost")}
    images = [{"data": image.data, "media_type": image.media_type} for image in result.images]
    return {**plain, "images": images, "fault": None if result.fault is None else str(result.fault)}


def from_row(row: Mapping[str, Any]) -> Trajectory:
    """The inverse of `to_row`; rows from before a column was added are read, too."""
    row = {**row, **{name: empty for name, empty in _ADDED.items() if row.get(name) is None}}
    plain = {name: value for name, value in row.items() if name in Trajectory.__dataclass_fields__}
    return Trajectory(
        **{
            **plain,
            **{name: tuple(plain[name]) for name in _SEQUENCES},
            **{name: json.loads(plain[name]) for name in _JSON},
            "turns": tuple(_turn_from(turn) for turn in row["turns"]),
            "stop_reason": StopReason(row["stop_reason"]),
            "opening": tuple(message_from_json(message) for message in json.loads(row["opening"])),
            "specs": tuple(json.loads(row["specs"])),
            "reward_spans": tuple(Span(**span) for span in json.loads(row["reward_spans"])),
            "turn_parts": {name: tuple(values) for name, values in json.loads(row["turn_parts"]).items()},
        }
    )


def _turn_from(row: Mapping[str, Any]) -> Turn:
    calls = tuple(ToolCall(name=c["name"], arguments=json.loads(c["arguments"])) for c in row["calls"])
    results = tuple(_result_from(result) for result in row["results"])
    restart = tuple(message_from_json(message) for message in json.loads(row["restart"]))
    return Turn(**{**row, "calls": calls, "results": results, "restart": restart})


def _result_from(row: Mapping[str, Any]) -> ToolResult:
    images = tuple(Image(**image) for image in row["images"])
    fault = None if row["fault"] is None else Fault(row["fault"])
    return ToolResult(**{**row, "images": images, "fault": fault})


def message_to_json(message: Message) -> dict[str, Any]:
    """A message as JSON, without what is empty; images in base64."""
    images = [
        {"data": base64.b64encode(image.data).decode(), "media_type": image.media_type} for image in message.images
    ]
    calls = [{"name": call.name, "arguments": dict(call.arguments)} for call in message.calls]
    rest = {"images": images, "calls": calls, "name": message.name}
    return {"role": message.role, "content": message.content, **{name: value for name, value in rest.items() if value}}


def message_from_json(row: Mapping[str, Any]) -> Message:
    """The inverse of `message_to_json`."""
    images = tuple(
        Image(data=base64.b64decode(image["data"]), media_type=image["media_type"]) for image in row.get("images", ())
    )
    calls = tuple(ToolCall(name=call["name"], arguments=call["arguments"]) for call in row.get("calls", ()))
    return Message(**{**row, "images": images, "calls": calls})


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


__all__ = [
    "KIND",
    "PLAIN",
    "SEARCH",
    "SOLUTION",
    "UNLEARNED",
    "Fault",
    "Image",
    "Message",
    "Span",
    "StopReason",
    "ToolCall",
    "ToolResult",
    "Trajectory",
    "Turn",
    "from_row",
    "message_from_json",
    "message_to_json",
    "oldest_version",
    "read_trajectories",
    "schema",
    "to_row",
    "write_trajectories",
]


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
