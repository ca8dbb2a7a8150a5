"""A trajectory as an MLflow trace: an agent span, below it a span for each turn and for each tool call."""

import base64
import hashlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from journeyman.trajectory import Trajectory, Turn

if TYPE_CHECKING:
    from mlflow.entities import Trace

TURN_NS = 1_000_000
"""Length drawn for a turn: spans show the order; only tool spans show time that was measured."""
PREVIEW = 200


def trace_of(trajectory: Trajectory, *, step: int, time_ns: int, key: str, run_id: str, experiment_id: str) -> "Trace":
    """The trace of one attempt. `key` makes its id: sent twice, it is there once."""
    from mlflow.entities import Trace, TraceData, TraceInfo
    from mlflow.entities.span import Span
    from mlflow.entities.trace_location import TraceLocation
    from mlflow.entities.trace_state import TraceState

    digest = hashlib.sha256(key.encode()).hexdigest()[:32]
    spans = list(_Spans(trajectory, digest, time_ns).all())
    info = TraceInfo(
        trace_id=f"tr-{digest}",
        trace_location=TraceLocation.from_experiment_id(experiment_id),
        request_time=time_ns // 1_000_000,
        state=TraceState.OK,
        execution_duration=(spans[0]["end_time_unix_nano"] - time_ns) // 1_000_000,
        request_preview=trajectory.question[:PREVIEW],
        response_preview=(trajectory.answer or "")[:PREVIEW],
        trace_metadata={"mlflow.sourceRun": run_id, "mlflow.trace_schema.version": "3"},
        tags={"mlflow.traceName": trajectory.family, **_tags(trajectory, step)},
    )
    return Trace(info=info, data=TraceData(spans=[Span.from_dict(span) for span in spans]))


def _tags(trajectory: Trajectory, step: int) -> dict[str, str]:
    """What traces are searched by, such as `tags.correct = 'false'`."""
    return {
        "family": trajectory.family,
        "step": str(step),
        "correct": _word(trajectory.correct),
        "reward": _word(trajectory.reward),
        "calls": str(len(trajectory.calls)),
        "needless_calls": str(trajectory.needless_calls),
        "stop_reason": str(trajectory.stop_reason),
        "policy_version": str(trajectory.policy_version),
        "problem": trajectory.problem_id,
    }


def _word(value: bool | float | None) -> str:
    if value is None:
        return "unknown"
    return str(value).lower() if isinstance(value, bool) else f"{value:.4g}"


class _Spans:
    """Lays out the spans of one trajectory in time."""

    def __init__(self, trajectory: Trajectory, digest: str, time_ns: int) -> None:
        self._trajectory, self._digest = trajectory, digest
        self._start = self._now = time_ns
        self._count = 0
        self._messages: list[dict[str, str]] = [{"role": "user", "content": trajectory.question}]

    def all(self) -> Iterator[dict[str, Any]]:
        """The agent's span first."""
        root = self._identity()
        below = [span for number, turn in enumerate(self._trajectory.turns) for span in self._turn(number, turn, root)]
        yield self._span(
            root,
            parent=None,
            name=self._trajectory.family,
            start_ns=self._start,
            attributes={"mlflow.spanType": "AGENT", **_agent_attributes(self._trajectory)},
        )
        yield from below

    def _turn(self, number: int, turn: Turn, root: str) -> Iterator[dict[str, Any]]:
        start, self._now = self._now, self._now + TURN_NS
        attributes: dict[str, Any] = {
            "mlflow.spanType": "LLM",
            "mlflow.spanInputs": {"messages": list(self._messages)},
            "mlflow.spanOutputs": {"role": "assistant", "content": turn.text},
        }
        if turn.stop:
            tokens = {"input_tokens": turn.start, "output_tokens": turn.stop - turn.start, "total_tokens": turn.stop}
            attributes["mlflow.chat.tokenUsage"] = tokens
        name, identity = f"turn {number + 1}", self._identity()
        yield self._span(
            identity,
            parent=root,
            name=name,
            start_ns=start,
            attributes=attributes,
            error=turn.error,
        )
        self._messages.append({"role": "assistant", "content": turn.text})
        for call, result in zip(turn.calls, turn.results, strict=False):  # a turn may end before its calls are run
            start, self._now = self._now, self._now + max(1000, int(result.seconds * 1e9))
            yield self._span(
                self._identity(),
                parent=root,
                name=call.name,
                start_ns=start,
                attributes={
                    "mlflow.spanType": "TOOL",
                    "mlflow.spanInputs": dict(call.arguments),
                    "mlflow.spanOutputs": result.output,
                },
                error="" if result.ok else result.output,
            )
            self._messages.append({"role": "tool", "content": result.output})

    def _identity(self) -> str:
        self._count += 1
        return hashlib.sha256(f"{self._digest}/{self._count}".encode()).hexdigest()[:16]

    def _span(
        self,
        identity: str,
        *,
        parent: str | None,
        name: str,
        start_ns: int,
        attributes: dict[str, Any],
        error: str = "",
    ) -> dict[str, Any]:
        """A span that ends now, in the form of `mlflow.entities.Span.to_dict`."""
        known = {"mlflow.traceRequestId": f"tr-{self._digest}", **attributes}
        return {
            "trace_id": _base64(self._digest),
            "span_id": _base64(identity),
            "parent_span_id": _base64(parent) if parent else None,
            "name": name,
            "start_time_unix_nano": start_ns,
            "end_time_unix_nano": self._now,
            "status": {"code": "ERROR" if error else "OK", "message": error},
            "attributes": {key: json.dumps(value, ensure_ascii=False) for key, value in known.items()},
            "events": [],
        }


def _base64(hexadecimal: str) -> str:
    return base64.b64encode(bytes.fromhex(hexadecimal)).decode()


def _agent_attributes(trajectory: Trajectory) -> dict[str, Any]:
    return {
        "mlflow.spanInputs": {"question": trajectory.question, "tools": list(trajectory.tools)},
        "mlflow.spanOutputs": {"answer": trajectory.answer},
        "reference": trajectory.reference,
        "correct": trajectory.correct,
        "reward": trajectory.reward,
        "reward_parts": dict(trajectory.reward_parts),
        "min_calls": trajectory.min_calls,
        "calls": len(trajectory.calls),
        "stop_reason": str(trajectory.stop_reason),
        "policy_version": trajectory.policy_version,
        "temperature": trajectory.temperature,
        "source": trajectory.source,
    }
