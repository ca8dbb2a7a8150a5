"""A tokenizer's chat template, asked with marks in place of the contents: what it puts around them, as token ids."""

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from journeyman.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TODAY = date(2024, 7, 26)
"""What templates that write the date are told: prompts must not change over night. Llama's own default."""


_EDGE = "\v"
"""White space that no template writes itself."""


class Mark:
    """Stands for text that neither the template nor the model wrote; shows what the template does to such text.

    Its quote shows whether it is written as JSON, its edges whether white space is cut off.
    """

    def __init__(self) -> None:
        one, other = uuid.uuid4().hex, uuid.uuid4().hex
        self.text = f'{_EDGE}{one}"{other}{_EDGE}'
        edge = r"(\v|\\u000b)?"
        self.pattern = re.compile(rf'{edge}{one}(\\?)"{other}{edge}')


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """Where a content goes."""

    content: int
    """Index of the mark."""
    escaped: bool
    """Whether the template writes the content as JSON text."""
    trimmed: tuple[bool, bool]
    """Whether white space is cut off at its beginning, and at its end."""
    after: tuple[int, ...]
    """Ids of what the template writes behind it, up to the next slot or the end."""

    def shown(self, content: str) -> str:
        """The content as the template would show it."""
        left, right = self.trimmed
        content = content.lstrip() if left else content
        content = content.rstrip() if right else content
        return json.dumps(content, ensure_ascii=False)[1:-1] if self.escaped else content


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """A rendered conversation without its contents."""

    before: tuple[int, ...]
    """Ids up to the first slot."""
    slots: tuple[Slot, ...]


class Template:
    """Renders conversations and cuts them at the marks."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self.tokenizer = tokenizer
        if not tokenizer.chat_template:
            raise UserError("the tokenizer has no chat template", remedy="use an instruction-tuned model")

    @property
    def source(self) -> str:
        """The template's text; of several, the one for tools."""
        template = self.tokenizer.chat_template
        return template if isinstance(template, str) else "\n".join(map(str, template.values()))

    def render(
        self, messages: Sequence[Mapping[str, Any]], specs: list[dict[str, Any]] | None = None, *, prompt: bool = True
    ) -> str:
        """The conversation as text; with `prompt`, up to where the model writes. Raises `UserError`."""
        from jinja2 import TemplateError

        pinned = {"date_string": TODAY.strftime("%d %b %Y"), "strftime_now": TODAY.strftime}
        apply = self.tokenizer.apply_chat_template
        try:
            return apply(list(messages), tools=specs, tokenize=False, add_generation_prompt=prompt, **pinned)  # type: ignore
        except TemplateError as error:
            raise UserError(
                f"the chat template can't render a conversation with tools: {error}",
                remedy="use a model made for tools",
            ) from error

    def shows_tools(self, messages: Sequence[Mapping[str, Any]], specs: list[dict[str, Any]]) -> bool:
        """Whether the template writes the tools down at all: Llama 3's first one passes over them."""
        return self.render(messages, specs) != self.render(messages)

    def cut(self, text: str, marks: Sequence[Mark]) -> Pieces:
        """The pieces around the marks, in the order in which they stand in the text."""
        found = [(match, index) for index, mark in enumerate(marks) for match in mark.pattern.finditer(text)]
        found.sort(key=lambda one: one[0].start())
        ends = [match.start() for match, _ in found[1:]] + [len(text)]
        slots = tuple(
            Slot(
                content=index,
                escaped=bool(match[2]),
                trimmed=(match[1] is None, match[3] is None),
                after=self.encode(text[match.end() : end]),
            )
            for (match, index), end in zip(found, ends, strict=True)
        )
        start = found[0][0].start() if found else len(text)
        return Pieces(before=self.encode(text[:start]), slots=slots)

    def encode(self, text: str) -> tuple[int, ...]:
        """Ids of what the template wrote: control tokens count."""
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def end_of_turn(self) -> int:
        """The token that the template puts behind a message of the assistant. Raises `UserError`."""
        mark = uuid.uuid4().hex
        messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": mark}]
        ids = self.encode(self.render(messages, prompt=False).partition(mark)[2])
        if not ids or ids[0] not in self.tokenizer.all_special_ids:
            raise UserError("the chat template does not end a turn with a special token", remedy="use another model")
        return ids[0]

    def begun(self) -> str:
        """What of the model's turn the template writes itself: `<think>` and a line break, for some thinking models."""
        text = self.render([{"role": "user", "content": "q"}])
        return text[text.rindex("<think>") :] if text.rstrip().endswith("<think>") else ""

    def image(self) -> tuple[int, ...]:
        """Ids that the template puts where an image stands, one placeholder among them. Raises `UserError`."""
        one, other = uuid.uuid4().hex, uuid.uuid4().hex
        parts = [{"type": "text", "text": one}, {"type": "image"}, {"type": "text", "text": other}]
        refusal = UserError("the chat template has no place for images", remedy="use a model that takes images")
        try:
            text = self.render([{"role": "user", "content": parts}])
        except (UserError, TypeError) as error:  # many add text to the content: a list is a TypeError
            raise refusal from error
        _, found, rest = text.partition(one)
        placeholder, closed, _ = rest.partition(other)
        if not (found and closed and placeholder):
            raise refusal
        return self.encode(placeholder)
