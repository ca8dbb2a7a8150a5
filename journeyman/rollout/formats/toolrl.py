"""ToolRL (#4): a thought, then `<tool_call>` with one JSON object a line, then `<response>`, each at most once."""

from collections.abc import Mapping, Sequence
from typing import Any

from journeyman.messages import ParsedTurn, ToolCall
from journeyman.rollout.formats import base

CALL = ("<tool_call>", "</tool_call>")
ANSWER = ("<response>", "</response>")
OBSERVATION = ("<obs>", "</obs>", *base.RESPONSE)
TAGS = (*CALL, *ANSWER, *base.THOUGHT, *OBSERVATION)


class ToolRL(base.CallFormat):
    """The sections in this order and nothing in between; a thought always, and calls or a response or both.

    A response beside calls is what the user reads meanwhile, not the answer.
    """

    name = "toolrl"
    instructions = (
        "Think in <think></think> first, always. To call tools, write <tool_call></tool_call> with one JSON object a "
        'line: {"name": tool, "parameters": {parameter: value}}. What the user reads goes into '
        "<response></response>, behind the calls. Write at least one of the two."
    )
    stops = ()

    def parse(self, text: str, specs: Sequence[Mapping[str, Any]] = ()) -> ParsedTurn:
        try:
            if not text.lstrip().startswith(base.THOUGHT[0]):
                raise base.TurnError("a turn without a thought")
            _, visible = base.split_thought(text)
            base.check_visible(visible, OBSERVATION)
            return self._sections(visible.strip())
        except base.TurnError as error:
            return ParsedTurn(error=str(error))

    def _sections(self, visible: str) -> ParsedTurn:
        body, rest = _section(visible, CALL)
        response, rest = _section(rest, ANSWER)
        if any(tag in part for tag in (*CALL, *ANSWER) for part in (rest, body or "", response or "")):
            raise base.TurnError("a section twice, in the wrong order, or without its end")
        if rest:
            raise base.TurnError("words outside the sections")
        if body is None and response is None:
            raise base.TurnError("neither a call nor a response")
        said = (response or "").strip()
        if body is None:
            return ParsedTurn(answer=said, text=said)
        lines = [line for line in body.split("\n") if line.strip()]
        if not lines:
            raise base.TurnError("a call that is not JSON")
        base.few(lines)
        calls = tuple(base.as_call(base.read_json(line), "parameters") for line in lines)
        return ParsedTurn(calls=calls, text=said)

    def render(self, thought: str, calls: Sequence[ToolCall] = (), answer: str | None = None) -> str:
        sections = [base.opened(thought).rstrip("\n") or "".join(base.THOUGHT)]
        if calls:
            sections.append("\n".join([CALL[0], *map(_render, calls), CALL[1]]))
        if answer is not None:
            sections.append(base.tagged(answer, ANSWER, TAGS))
        return "\n".join(sections)


def _section(text: str, tags: tuple[str, str]) -> tuple[str | None, str]:
    """(a section's body, what follows it); None where the text does not begin with it."""
    if not text.startswith(tags[0]):
        return None, text
    body, closed, rest = text.removeprefix(tags[0]).partition(tags[1])
    if not closed:
        raise base.TurnError("a section twice, in the wrong order, or without its end")
    return body, rest.lstrip()


def _render(call: ToolCall) -> str:
    return base.dumped({"name": call.name, "parameters": dict(call.arguments)}, TAGS)
