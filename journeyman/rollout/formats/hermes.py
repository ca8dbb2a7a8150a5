"""Qwen and Hermes: `<tool_call>` around a JSON object with `name` and `arguments`. The default."""

from collections.abc import Mapping, Sequence
from typing import Any

from journeyman.messages import ParsedTurn, ToolCall
from journeyman.rollout.formats import base

CALL = ("<tool_call>", "</tool_call>")
TAGS = (*CALL, *base.ANSWER, *base.THOUGHT, *base.RESPONSE)


class Hermes(base.CallFormat):
    """`<think>` first and optional, then calls, or one `<answer>`."""

    name = "hermes"
    instructions = (
        "Think in <think></think>. Call tools with <tool_call></tool_call>. "
        "When you know the answer, give it in <answer></answer>."
    )
    stops = ()

    def parse(self, text: str, specs: Sequence[Mapping[str, Any]] = ()) -> ParsedTurn:
        try:
            _, visible = base.split_thought(text)
            base.check_visible(visible)
            return self._visible(visible)
        except base.TurnError as error:
            return ParsedTurn(error=str(error))

    def _visible(self, visible: str) -> ParsedTurn:
        answers, without = base.between(visible, base.ANSWER)
        bodies, _ = base.between(visible, CALL)
        _, rest = base.between(without, CALL)
        if any(tag in rest for tag in (*CALL, *base.ANSWER)):
            raise base.TurnError("a tag without its partner")
        if answers and bodies:
            raise base.TurnError("an answer and a call in one turn")
        if len(answers) > 1:
            raise base.TurnError("more than one answer")
        base.few(bodies)
        if answers:
            return ParsedTurn(answer=answers[0].strip(), text=rest.strip())
        calls = tuple(base.as_call(base.read_json(body)) for body in bodies)
        return ParsedTurn(calls=calls, text=rest.strip())

    def render(self, thought: str, calls: Sequence[ToolCall] = (), answer: str | None = None) -> str:
        base.one_of(calls, answer)
        said = "" if answer is None else base.tagged(answer, base.ANSWER, TAGS)
        return base.opened(thought) + (said or "\n".join(map(render_call, calls)))


def render_call(call: ToolCall) -> str:
    """A call as the model writes it; the inverse of parsing."""
    body = base.dumped({"name": call.name, "arguments": dict(call.arguments)}, TAGS)
    return f"{CALL[0]}\n{body}\n{CALL[1]}"
