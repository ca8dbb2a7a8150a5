"""Trajectories as token ids under a model's chat template: append-only, tool and user text never special."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from journeyman.errors import UserError
from journeyman.messages import Image, Message, ParsedTurn, ToolResult
from journeyman.rollout.formats import CallFormat, format_of
from journeyman.rollout.formats.hermes import Hermes
from journeyman.rollout.formats.translate import translated
from journeyman.rollout.template import Mark, Pieces, Template
from journeyman.rollout.vision import Vision
from journeyman.trajectory import Trajectory

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Shape = tuple[tuple[str, bool], ...]
"""(role, whether it has a name) of each message."""

CALLS = "journeyman_calls"
"""Key of a tokenizer's config that names the call format."""
SYSTEM = Hermes.instructions
"""How calls are written in the default format."""


class ChatFormat:
    """Encodes prompts, observations and written turns for one tokenizer.

    The template is asked once per set of tools; questions and observations are put in between its pieces and
    encoded by themselves, so that no text from outside becomes a control token.

    Args:
        tokenizer: with a chat template.
        calls: how the model writes calls; None: as its chat template has it.
        vision: how many tokens an image takes; None: the model takes no images.
    """

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", calls: CallFormat | None = None, vision: Vision | None = None
    ) -> None:
        self.tokenizer, self._vision = tokenizer, vision
        self._template = Template(tokenizer)
        self.calls = calls or format_of(tokenizer.init_kwargs.get(CALLS) or self._template.source)
        self._prompt_pieces = lru_cache(maxsize=256)(self._render_prompt_pieces)
        self._observation_pieces = lru_cache(maxsize=64)(self._render_observation_pieces)
        self.end_id = self._template.end_of_turn()
        self.stop_ids = (self.end_id, *self._other_ends())
        self._begun = self._template.begun()
        self._placeholder = self._template.image() if vision else ()

    @classmethod
    def of_folder(cls, model: Path, calls: CallFormat | None = None) -> "ChatFormat":
        """That of a model in Hugging Face format, with its image processor where it has one."""
        from transformers import AutoTokenizer

        return cls(AutoTokenizer.from_pretrained(model), calls, Vision.of_folder(model))

    def prompt(self, opening: str | Sequence[Message], specs: Sequence[Mapping[str, Any]]) -> list[int]:
        """Ids of the first prompt, up to where the model writes.

        `opening` is the question, or the messages so far; how calls are written is added to the system message.
        """
        messages = (Message(role="user", content=opening),) if isinstance(opening, str) else opening
        shape = tuple((message.role, bool(message.name)) for message in messages)
        contents = [(self._content(message), message.images) for message in messages]
        names = [(message.name, ()) for message in messages]
        return self._filled(self._prompt_pieces(shape, _Specs(specs)), [*contents, *names])

    def _content(self, message: Message) -> str:
        """Text of a message as the model would have written it, calls included."""
        called = self.calls.render("", message.calls) if message.calls else ""
        return "\n".join(part for part in (message.content, called) if part)

    def observation(self, results: Sequence[str | ToolResult], reply: str = "") -> list[int]:
        """Ids that follow the end-of-turn token: every result, the user's words, then the next generation prompt."""
        shown = [one if isinstance(one, ToolResult) else ToolResult(name="t", ok=True, output=one) for one in results]
        contents = [(result.output, result.images) for result in shown]
        names = [(result.name, ()) for result in shown]
        pieces = self._observation_pieces(len(shown), bool(reply))
        return self._filled(pieces, [*contents, *([(reply, ())] if reply else []), *names])

    def parse(self, text: str, specs: Sequence[Mapping[str, Any]] = ()) -> ParsedTurn:
        """What a turn asks for; `specs` are the tools on offer. An image that the model made up is an offence."""
        if self._placeholder and self._vision and str(self.tokenizer.decode([self._vision.pad_id])) in text:
            return ParsedTurn(error="an image that no tool gave")
        return self.calls.parse(text, specs)

    def _filled(self, pieces: Pieces, contents: Sequence[tuple[str, Sequence[Image]]]) -> list[int]:
        """Contents between the template's pieces, the images of each before its text."""
        ids = list(pieces.before)
        for slot in pieces.slots:
            text, images = contents[slot.content]
            ids += [*self._images(images), *self.outside(slot.shown(text)), *slot.after]
        return ids

    def _images(self, images: Sequence[Image]) -> list[int]:
        """Placeholders of images, as many tokens each as the model will see."""
        if not images:
            return []
        if self._vision is None:
            raise UserError("this model takes no images", remedy="use a model with an image processor in its folder")
        vision = self._vision
        return [
            token
            for image in images
            for part in self._placeholder
            for token in ([part] * vision.tokens(image) if part == vision.pad_id else [part])
        ]

    def outside(self, text: str) -> list[int]:
        """Encode text that neither the template nor the model wrote: control tokens in it stay plain text."""
        return self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)

    def turn(self, text: str) -> list[int]:
        """Ids of a written turn with its end."""
        if self._begun and text.startswith("<think>"):
            text = text.removeprefix("<think>").removeprefix("\n")
        elif self._begun:  # the template has opened a thought: it stays empty
            text = f"\n</think>\n\n{text}"
        return [*self.outside(text), self.end_id]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a sampled turn, without its end-of-turn token."""
        body = ids[:-1] if ids and ids[-1] in self.stop_ids else ids
        text = self.tokenizer.decode(list(body), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        assert isinstance(text, str), "one row of ids gives one text"
        return self._begun + text

    def encode(self, trajectory: Trajectory, specs: Sequence[Mapping[str, Any]]) -> list[tuple[list[int], list[int]]]:
        """(T ids, T mask) of each context of a written trajectory; the mask is 1 on what a model would have sampled."""
        ids = self.prompt(trajectory.opening or trajectory.question, specs)
        mask, done = [0] * len(ids), []
        for number, turn in enumerate(trajectory.turns):
            written = self.turn(translated(turn.text, self.calls))
            ids, mask = ids + written, mask + [1] * len(written)
            if number + 1 == len(trajectory.turns):
                break
            if turn.restart:
                done.append((ids, mask))
                ids = self.prompt(turn.restart, specs)
                mask = [0] * len(ids)
            else:
                seen = self.observation(turn.results, reply=turn.reply)
                ids, mask = ids + seen, mask + [0] * len(seen)
        return [*done, (ids, mask)]

    def _other_ends(self) -> list[int]:
        """Ids of the format's own ends of a turn, where the tokenizer has them."""
        known = self.tokenizer.get_vocab()
        return [known[stop] for stop in self.calls.stops if stop in known and known[stop] != self.end_id]

    def _render_prompt_pieces(self, shape: Shape, specs: "_Specs") -> Pieces:
        marks, names = [Mark() for _ in shape], [Mark() for _ in shape]
        messages = [
            {"role": role, "content": mark.text, **({"name": name.text} if named else {})}
            for (role, named), mark, name in zip(shape, marks, names, strict=True)
        ]
        if not shape or shape[0][0] != "system":
            messages.insert(0, {"role": "system", "content": ""})
        tools = specs.without(self.tokenizer.all_special_tokens)
        silent = tools is not None and not self._template.shows_tools(messages, tools)
        said = [messages[0]["content"], self.calls.instructions, _listed(tools) if tools and silent else ""]
        messages[0]["content"] = "\n\n".join(part for part in said if part)
        text = self._template.render(messages, tools)
        pieces = self._template.cut(text, [*marks, *names])
        _require_all(pieces, len(marks))
        if self.calls.instructions not in text:
            raise UserError("the chat template leaves the system message out", remedy="use a model made for tools")
        return pieces

    def _render_observation_pieces(self, count: int, replied: bool) -> Pieces:
        said, marks, names = Mark(), [Mark() for _ in range(count + replied)], [Mark() for _ in range(count)]
        ids = [f"call{number:05}" for number in range(count)]  # nine characters: Mistral wants them so
        calls = [{"id": id, "type": "function", "function": {"name": "t", "arguments": {}}} for id in ids]
        shown: list[dict[str, Any]] = [
            {"role": "tool", "name": name.text, "content": mark.text, "tool_call_id": id}
            for mark, name, id in zip(marks, names, ids, strict=False)
        ]
        shown += [{"role": "user", "content": mark.text} for mark in marks[count:]]
        text = self._exchange(said, shown, calls, marks)
        end = self.tokenizer.decode([self.end_id])
        after = said.pattern.split(text, maxsplit=1)[-1].split(str(end), 1)[1]
        pieces = self._template.cut(after, [*marks, *names])
        _require_all(pieces, len(marks))
        return pieces

    def _exchange(
        self, said: Mark, shown: list[dict[str, Any]], calls: list[dict[str, Any]], marks: Sequence[Mark]
    ) -> str:
        """A conversation in which the model has called tools and `shown` follows. Raises `UserError`.

        A tokenizer with several templates takes the one for tools where there are tools, and some templates refuse a
        tool message without a call before it, or more than one call.
        """
        refusal: UserError | None = None
        for asked in ({}, {"tool_calls": calls}):
            for tools in ([_TOOL], None):
                messages = [_ASKED, {"role": "assistant", "content": said.text, **asked}, *shown]
                try:
                    text = self._template.render(messages, tools)
                except UserError as error:
                    refusal = error
                    continue
                if said.pattern.search(text) and all(mark.pattern.search(text) for mark in marks):
                    return text
        raise UserError(
            "the chat template does not render tool messages", remedy="use a model made for tools"
        ) from refusal


_ASKED = {"role": "user", "content": "q"}
_TOOL = {
    "type": "function",
    "function": {"name": "t", "description": "t", "parameters": {"type": "object", "properties": {}}},
}


def _require_all(pieces: Pieces, count: int) -> None:
    """Every content must stand in the prompt once. Raises `UserError`."""
    slots = [slot.content for slot in pieces.slots if slot.content < count]
    if sorted(slots) != list(range(count)):
        raise UserError(
            "the chat template leaves a message out, or shows one twice", remedy="use a model made for tools"
        )


def _listed(tools: Sequence[Mapping[str, Any]]) -> str:
    """The tools for a system message, for templates that pass over them."""
    return "\n".join(["Tools:", *(json.dumps(tool, ensure_ascii=False) for tool in tools)])


class _Specs:
    """Tool specs as a cache key: equal when the names and specs are."""

    def __init__(self, specs: Sequence[Mapping[str, Any]]) -> None:
        self.specs = [dict(spec) for spec in specs] or None
        self._key = repr(self.specs)

    def without(self, tokens: Sequence[str]) -> list[dict[str, Any]] | None:
        """The specs with a gap in every control token: descriptions may come from a stranger's server."""
        text = json.dumps(self.specs, ensure_ascii=False)
        for token in tokens:
            inside = json.dumps(token, ensure_ascii=False)[1:-1]
            text = text.replace(inside, f"{token[:1]} {inside[1:]}") if inside in text else text
        return json.loads(text)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Specs) and self._key == other._key
