"""The wire format of OpenAI's chat completions: requests read and checked, replies and errors written."""

import base64
import binascii
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from journeyman.messages import Image, Message, ToolCall

MODEL = "policy"
"""The name under which the endpoint lists what it serves; requests may name any other."""
_THOUGHT = re.compile(r"^\s*<think>.*?(?:</think>|\Z)", re.DOTALL)
_DATA_URL = re.compile(r"^data:(image/(?:png|jpeg));base64,(.*)$", re.DOTALL)
_PIECE = 48
"""Characters of one streamed delta."""


class RequestError(ValueError):
    """A request that gets an error for a reply."""

    def __init__(self, message: str, *, status: int = 400, code: str = "invalid_request", param: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code, param

    def body(self) -> dict[str, Any]:
        """As OpenAI's clients read it."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": str(self), "type": kind, "param": self.param or None, "code": self.code}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One message of a request."""

    message: Message
    call_ids: tuple[str, ...] = ()
    """Ids of an assistant's calls; of a tool's message the one that it answers."""

    def key(self) -> tuple[Any, ...]:
        """Equal for messages that mean the same, whatever a client has dropped or written in other words of JSON.

        Ids, thoughts, space around an assistant's text and the order and spacing of arguments don't count.
        """
        message = self.message
        text = message.content
        if message.role == "assistant":
            text = _THOUGHT.sub("", text, count=1).strip()
        calls = tuple((call.name, json.dumps(dict(call.arguments), sort_keys=True)) for call in message.calls)
        return (message.role, text, calls, tuple(image.data for image in message.images))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """What a program asks for."""

    said: tuple[Said, ...]
    specs: tuple[Mapping[str, Any], ...] = ()
    """Tools on offer."""
    calls_allowed: bool = True
    """False: a call in the reply is passed on as text (`tool_choice="none"`)."""
    max_tokens: int | None = None
    temperature: float | None = None
    stop: tuple[str, ...] = ()
    stream: bool = False
    usage_at_end: bool = False
    """Whether a stream ends with a chunk that has the usage."""
    logprobs: bool = False
    token_ids: bool = False
    """Whether ids of prompt and completion are wanted, as vLLM's `return_token_ids`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the model said to a request."""

    id: str
    content: str
    thought: str
    calls: tuple[ToolCall, ...]
    call_ids: tuple[str, ...]
    finish: Literal["stop", "length", "tool_calls"]
    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    pieces: tuple[str, ...]
    """Text of each token."""

    def said(self) -> Said:
        """As a client repeats it in its next request."""
        return Said(message=Message(role="assistant", content=self.content, calls=self.calls), call_ids=self.call_ids)


class _Function(BaseModel):
    name: str
    arguments: str | dict[str, Any]


class _Call(BaseModel):
    id: str = ""
    function: _Function


class _Url(BaseModel):
    url: str


class _Part(BaseModel):
    type: str
    text: str | None = None
    image_url: _Url | None = None


class _Message(BaseModel):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[_Part] | None = None
    name: str | None = None
    tool_calls: list[_Call] | None = None
    tool_call_id: str | None = None


class _SpecFunction(BaseModel):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class _Spec(BaseModel):
    type: Literal["function"]
    function: _SpecFunction


class _StreamOptions(BaseModel):
    include_usage: bool | None = None


class _Body(BaseModel):
    messages: Annotated[list[_Message], Field(min_length=1)]
    tools: list[_Spec] | None = None
    tool_choice: str | dict[str, Any] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    stop: str | list[str] | None = None
    n: int | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    logprobs: bool | None = None
    response_format: dict[str, Any] | None = None
    logit_bias: dict[str, float] | None = None
    return_token_ids: bool | None = None


def read_request(body: bytes) -> ChatRequest:
    """A request from its body. Raises `RequestError` for what is malformed, and for what cannot be done."""
    try:
        asked = _Body.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = ".".join(str(part) for part in first["loc"])
        raise RequestError(f"{path}: {first['msg']}" if path else first["msg"], param=path) from None
    _refuse(asked)
    stop = (asked.stop,) if isinstance(asked.stop, str) else tuple(asked.stop or ())
    return ChatRequest(
        said=tuple(_said(message) for message in asked.messages),
        specs=tuple(_spec(tool) for tool in asked.tools or ()),
        calls_allowed=asked.tool_choice != "none" and bool(asked.tools),
        max_tokens=asked.max_completion_tokens or asked.max_tokens,
        temperature=asked.temperature,
        stop=tuple(text for text in stop if text),
        stream=bool(asked.stream),
        usage_at_end=bool(asked.stream_options and asked.stream_options.include_usage),
        logprobs=bool(asked.logprobs),
        token_ids=bool(asked.return_token_ids),
    )


def _refuse(asked: _Body) -> None:
    """What would have to be passed over in silence is refused; which distribution is sampled is the trainer's to say."""
    if asked.n not in (None, 1):
        raise RequestError("n must be 1: ask several times", param="n")
    if asked.tool_choice not in (None, "auto", "none"):
        raise RequestError("a tool call can't be forced: tool_choice is auto or none", param="tool_choice")
    if asked.response_format and asked.response_format.get("type") != "text":
        raise RequestError("only text can be asked for", param="response_format")
    if asked.logit_bias:
        raise RequestError("logit_bias is not supported", param="logit_bias")
    if asked.messages[-1].role == "assistant":
        raise RequestError("the last message must not be the assistant's", param="messages")


def _spec(tool: _Spec) -> dict[str, Any]:
    return {"type": "function", "function": tool.function.model_dump(exclude_none=True)}


def _said(message: _Message) -> Said:
    text, images = _content(message.content)
    role = "system" if message.role == "developer" else message.role
    calls = tuple(_call(call) for call in message.tool_calls or ())
    ids = tuple(call.id for call in message.tool_calls or ())
    if message.role == "tool":
        ids = (message.tool_call_id or "",)
    made = Message(role=role, content=text, images=images, calls=calls, name=message.name or "")
    return Said(message=made, call_ids=ids)


def _content(content: str | list[_Part] | None) -> tuple[str, tuple[Image, ...]]:
    if content is None or isinstance(content, str):
        return content or "", ()
    texts, images = [], []
    for part in content:
        if part.image_url is not None:
            images.append(_image(part.image_url.url))
        elif part.text is not None:
            texts.append(part.text)
        else:
            raise RequestError(f"content parts of type {part.type} are not supported", param="messages")
    return "".join(texts), tuple(images)


def _image(url: str) -> Image:
    found = _DATA_URL.match(url)
    if not found:
        raise RequestError("images must be data URLs of PNG or JPEG files", param="messages")
    try:
        return Image(data=base64.b64decode(found[2], validate=True), media_type=found[1])
    except binascii.Error:
        raise RequestError("an image is not base64", param="messages") from None


def _call(call: _Call) -> ToolCall:
    arguments = call.function.arguments
    try:
        read = json.loads(arguments or "{}") if isinstance(arguments, str) else arguments
    except ValueError:
        read = None
    if not isinstance(read, dict):
        raise RequestError("the arguments of a call are no JSON object", param="messages")
    return ToolCall(name=call.function.name, arguments=read)


def write_reply(reply: Reply, request: ChatRequest) -> dict[str, Any]:
    """The reply as one JSON object."""
    message: dict[str, Any] = {
        "role": "assistant",
        "content": reply.content if reply.content or not reply.calls else None,
    }
    if reply.thought:
        message["reasoning_content"] = reply.thought
    if reply.calls:
        message["tool_calls"] = _calls(reply)
    choice = {"index": 0, "message": message, "finish_reason": reply.finish, "logprobs": _logprobs(reply, request)}
    made = {**_head(reply, "chat.completion"), "choices": [choice], "usage": usage(reply)}
    if request.token_ids:
        choice["token_ids"] = list(reply.token_ids)
        made["prompt_token_ids"] = list(reply.prompt_ids)
    return made


def write_chunks(reply: Reply, request: ChatRequest) -> Iterator[dict[str, Any]]:
    """The reply as deltas, after the one that `opening_chunk` gives."""
    for field, text in (("reasoning_content", reply.thought), ("content", reply.content)):
        for start in range(0, len(text), _PIECE):
            yield _chunk(reply, {field: text[start : start + _PIECE]})
    for index, call in enumerate(_calls(reply)):
        function = call["function"]
        yield _chunk(reply, {"tool_calls": [{**call, "index": index, "function": {**function, "arguments": ""}}]})
        for start in range(0, len(function["arguments"]), _PIECE):
            piece = {"arguments": function["arguments"][start : start + _PIECE]}
            yield _chunk(reply, {"tool_calls": [{"index": index, "function": piece}]})
    last = _chunk(reply, {}, finish=reply.finish)
    last["choices"][0]["logprobs"] = _logprobs(reply, request)
    if request.token_ids:
        last["choices"][0]["token_ids"] = list(reply.token_ids)
        last["prompt_token_ids"] = list(reply.prompt_ids)
    yield last
    if request.usage_at_end:
        yield {**_head(reply, "chat.completion.chunk"), "choices": [], "usage": usage(reply)}


def opening_chunk(reply_id: str) -> dict[str, Any]:
    """The first delta, which can be sent before there is a reply."""
    choice = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
    return {**_named(reply_id, "chat.completion.chunk"), "choices": [choice]}


def usage(reply: Reply) -> dict[str, int]:
    """Tokens of the prompt and of what was sampled."""
    prompt, completion = len(reply.prompt_ids), len(reply.token_ids)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _chunk(reply: Reply, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {**_head(reply, "chat.completion.chunk"), "choices": [choice]}


def _head(reply: Reply, kind: str) -> dict[str, Any]:
    return _named(reply.id, kind)


def _named(reply_id: str, kind: str) -> dict[str, Any]:
    return {"id": reply_id, "object": kind, "created": int(time.time()), "model": MODEL}


def _calls(reply: Reply) -> list[dict[str, Any]]:
    return [
        {
            "id": call_id,
            "type": "function",
            "function": {"name": call.name, "arguments": json.dumps(dict(call.arguments), ensure_ascii=False)},
        }
        for call, call_id in zip(reply.calls, reply.call_ids, strict=True)
    ]


def _logprobs(reply: Reply, request: ChatRequest) -> dict[str, Any] | None:
    if not request.logprobs:
        return None
    content = [
        {"token": piece, "logprob": logprob, "bytes": list(piece.encode("utf-8", "replace")), "top_logprobs": []}
        for piece, logprob in zip(reply.pieces, reply.logprobs, strict=True)
    ]
    return {"content": content, "refusal": None}
