"""Trajectories as token ids under a model's chat template: append-only, tool and user text never special."""

import uuid
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from journeyman.errors import UserError
from journeyman.messages import Message, ParsedTurn
from journeyman.rollout.parse import parse_turn, render_call
from journeyman.trajectory import Trajectory

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Shape = tuple[tuple[str, str], ...]
"""(role, name) of each message."""

SYSTEM = (
    "Think in <think></think>. Call tools with <tool_call></tool_call>. "
    "When you know the answer, give it in <answer></answer>."
)


class ChatFormat:
    """Encodes prompts, observations and written turns for one tokenizer.

    The template is asked once per set of tools; questions and observations are put in between its pieces and
    encoded by themselves, so that no text from outside becomes a control token.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self.tokenizer = tokenizer
        if not tokenizer.chat_template:
            raise UserError("the tokenizer has no chat template", remedy="use an instruction-tuned model")
        self._prompt_pieces = lru_cache(maxsize=256)(self._render_prompt_pieces)
        self._observation_pieces = lru_cache(maxsize=64)(self._render_observation_pieces)
        self.end_id = self._end_of_turn()

    def prompt(self, opening: str | Sequence[Message], specs: Sequence[Mapping[str, Any]]) -> list[int]:
        """Ids of the first prompt, up to where the model writes.

        `opening` is the question, or the messages so far; how calls are written is added to the system message.
        """
        messages = (Message(role="user", content=opening),) if isinstance(opening, str) else opening
        contents = [self._content(message) for message in messages]
        shape = tuple((message.role, message.name) for message in messages)
        return self._filled(self._prompt_pieces(shape, _Specs(specs)), contents)

    def _content(self, message: Message) -> str:
        """Text of a message as the model would have written it, calls included."""
        return "\n".join([*([message.content] if message.content else []), *map(render_call, message.calls)])

    def observation(self, outputs: Sequence[str], reply: str = "") -> list[int]:
        """Ids that follow the end-of-turn token: every output, the user's words, then the next generation prompt."""
        pieces = self._observation_pieces(len(outputs), bool(reply))
        return self._filled(pieces, [*outputs, *([reply] if reply else [])])

    def parse(self, text: str) -> ParsedTurn:
        """What a turn asks for."""
        return parse_turn(text)

    def _filled(self, pieces: Sequence[list[int]], contents: Sequence[str]) -> list[int]:
        """Contents between the template's pieces."""
        ids = list(pieces[0])
        for content, piece in zip(contents, pieces[1:], strict=True):
            ids += [*self.outside(content), *piece]
        return ids

    def outside(self, text: str) -> list[int]:
        """Encode text that neither the template nor the model wrote: control tokens in it stay plain text."""
        return self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)

    def turn(self, text: str) -> list[int]:
        """Ids of a written turn with its end."""
        return [*self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True), self.end_id]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a sampled turn, without its end-of-turn token."""
        body = ids[:-1] if ids and ids[-1] == self.end_id else ids
        text = self.tokenizer.decode(list(body), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        assert isinstance(text, str), "one row of ids gives one text"
        return text

    def encode(self, trajectory: Trajectory, specs: Sequence[Mapping[str, Any]]) -> tuple[list[int], list[int]]:
        """(T ids, T mask) of a written trajectory; the mask is 1 on what a model would have sampled."""
        ids = self.prompt(trajectory.opening or trajectory.question, specs)
        mask = [0] * len(ids)
        for number, turn in enumerate(trajectory.turns):
            written = self.turn(turn.text)
            ids, mask = ids + written, mask + [1] * len(written)
            if number + 1 < len(trajectory.turns):
                seen = self.observation([result.output for result in turn.results], reply=turn.reply)
                ids, mask = ids + seen, mask + [0] * len(seen)
        return ids, mask

    def _render_prompt_pieces(self, shape: "Shape", specs: "_Specs") -> list[list[int]]:
        marks = [uuid.uuid4().hex for _ in shape]
        messages = [
            {"role": role, "content": mark, **({"name": name} if name else {})}
            for (role, name), mark in zip(shape, marks, strict=True)
        ]
        if shape and shape[0][0] == "system":
            messages[0]["content"] = f"{marks[0]}\n\n{SYSTEM}"
        else:
            messages.insert(0, {"role": "system", "content": SYSTEM})
        return self._cut(self._template(messages, specs.specs), marks)

    def _render_observation_pieces(self, count: int, replied: bool) -> list[list[int]]:
        said, marks = uuid.uuid4().hex, [uuid.uuid4().hex for _ in range(count + replied)]
        calls = [{"type": "function", "function": {"name": "t", "arguments": {}}} for _ in range(count)]
        shown = [{"role": "tool", "name": "t", "content": mark} for mark in marks[:count]]
        shown += [{"role": "user", "content": mark} for mark in marks[count:]]
        for asked in ({}, {"tool_calls": calls}):  # some templates refuse a tool message without a call before it
            messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": said, **asked}, *shown]
            try:
                text = self._template(messages, None)
            except UserError:
                continue
            if said in text and all(mark in text for mark in marks):
                break
        else:
            raise UserError("the chat template does not render tool messages", remedy="use a model made for tools")
        end = self.decode([self.end_id, self.end_id])  # one of the two is taken for the end of the turn
        after = text.split(said, 1)[1].split(end, 1)[1]
        return self._cut(after, marks)

    def _template(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None) -> str:
        from jinja2 import TemplateError

        render = self.tokenizer.apply_chat_template
        try:
            return render(messages, tools=tools, tokenize=False, add_generation_prompt=True)  # type: ignore
        except TemplateError as error:
            raise UserError(
                f"the chat template can't render a conversation with tools: {error}",
                remedy="use a model made for tools",
            ) from error

    def _cut(self, text: str, marks: Sequence[str]) -> list[list[int]]:
        """Ids of what stands around the marks."""
        pieces = []
        for mark in marks:
            piece, text = text.split(mark, 1)
            pieces.append(piece)
        return [self.tokenizer.encode(piece, add_special_tokens=False) for piece in (*pieces, text)]

    def _end_of_turn(self) -> int:
        """The token that the template puts behind a message of the assistant."""
        mark = uuid.uuid4().hex
        messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": mark}]
        text: str = self.tokenizer.apply_chat_template(messages, tokenize=False)  # type: ignore[assignment]
        ids = self.tokenizer.encode(text.split(mark, 1)[1], add_special_tokens=False)
        if not ids or ids[0] not in self.tokenizer.all_special_ids:
            raise UserError("the chat template does not end a turn with a special token", remedy="use another model")
        return ids[0]


class _Specs:
    """Tool specs as a cache key: equal when the names and specs are."""

    def __init__(self, specs: Sequence[Mapping[str, Any]]) -> None:
        self.specs = [dict(spec) for spec in specs] or None
        self._key = repr(self.specs)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Specs) and self._key == other._key
