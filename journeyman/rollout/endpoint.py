"""An OpenAI-compatible server in front of a Sampler: one base URL per trajectory, on this machine only.

`/t/<key>/v1/chat/completions` and `/v1/models` are OpenAI's; `POST /t/<key>/result` takes `{"score", "answer"}` from a
program that measures itself.
"""

import asyncio
import contextlib
import json
import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Self

import uvicorn
from pydantic import BaseModel, Field, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from journeyman.errors import InfrastructureError
from journeyman.rollout.openai_wire import (
    MODEL,
    RequestError,
    opening_chunk,
    read_request,
    write_chunks,
    write_reply,
)
from journeyman.rollout.recorder import Recorder, Slot
from journeyman.rollout.sampler import Completion

MAX_BODY = 16 * 2**20
"""Bytes of one request. Ours."""
BODY_SECONDS = 30.0
"""Longest that a request's body may take to arrive. Ours."""
KEEP_ALIVE_SECONDS = 10.0
"""A stream that has nothing to say yet sends a comment so often. Ours."""


class _Result(BaseModel):
    score: Annotated[float, Field(ge=0, le=1)] | None = None
    answer: str | None = None


class Endpoint:
    """The server. It runs in the event loop that `start` is called in, beside the sampler."""

    def __init__(self) -> None:
        self._recorders: dict[str, Recorder] = {}
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._port = 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Listen on a free port of 127.0.0.1. Raises `InfrastructureError`."""
        routes = [
            Route("/t/{key}/v1/models", self._models),
            Route("/t/{key}/v1/chat/completions", self._chat, methods=["POST"]),
            Route("/t/{key}/result", self._result, methods=["POST"]),
        ]
        app = Starlette(routes=routes, exception_handlers={RequestError: _refused, HTTPException: _no_route})
        listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._port = listening.getsockname()[1]
        config = uvicorn.Config(
            app, log_level="critical", access_log=False, lifespan="off", ws="none", http="h11", server_header=False
        )
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listening]))
        while not self._server.started:
            if self._serving.done():
                raise InfrastructureError("the endpoint for agents from outside did not start")
            await asyncio.sleep(0.005)

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None and self._serving is not None:
            self._server.should_exit = self._server.force_exit = True
            await self._serving
        self._server = self._serving = None

    def open(self, recorder: Recorder) -> str:
        """A new key that leads to a recorder: 192 random bits."""
        key = secrets.token_urlsafe(24)
        self._recorders[key] = recorder
        return key

    def shut(self, key: str) -> None:
        """Forget a key: what is asked under it from now on is refused."""
        del self._recorders[key]

    def base_url(self, key: str) -> str:
        """What an OpenAI client is given as `base_url`."""
        return f"http://127.0.0.1:{self._port}/t/{key}/v1"

    def _recorder(self, request: Request) -> Recorder:
        try:
            return self._recorders[request.path_params["key"]]
        except KeyError:
            raise RequestError("no trajectory has this key, or it is over", status=404, code="not_found") from None

    async def _models(self, request: Request) -> Response:
        self._recorder(request)
        listed = {"id": MODEL, "object": "model", "created": 0, "owned_by": "journeyman"}
        return JSONResponse({"object": "list", "data": [listed]})

    async def _result(self, request: Request) -> Response:
        recorder = self._recorder(request)
        try:
            told = _Result.model_validate_json(await _body(request))
        except ValidationError as error:
            raise RequestError(str(error.errors(include_url=False)[0]["msg"])) from None
        recorder.score, recorder.answer = told.score, told.answer
        return JSONResponse({"ok": True})

    async def _chat(self, request: Request) -> Response:
        recorder = self._recorder(request)
        asked = read_request(await _body(request))
        slot = recorder.prepare(asked)
        if asked.stream:
            return StreamingResponse(_events(recorder, slot), media_type="text/event-stream")
        try:
            pieces = await _sampled(recorder, slot)
            if await request.is_disconnected():
                return Response(status_code=499)
            return JSONResponse(write_reply(recorder.commit(slot, pieces), asked))
        finally:
            recorder.release(slot)


async def _body(request: Request) -> bytes:
    """The body, within bounds of size and time. Raises `RequestError`."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for piece in request.stream():
                body += piece
                if len(body) > MAX_BODY:
                    raise RequestError(f"the body has more than {MAX_BODY} bytes", status=413, code="too_large")
    except TimeoutError:
        raise RequestError("the body took too long to arrive", status=408, code="timeout") from None
    return bytes(body)


async def _sampled(recorder: Recorder, slot: Slot) -> list[Completion]:
    """A turn. Raises `RequestError` where time is up, or the sampler failed."""
    try:
        async with asyncio.timeout(recorder.seconds_left):
            return await recorder.sample(slot)
    except TimeoutError:
        raise recorder.out_of_time() from None
    except (InfrastructureError, ValueError) as error:
        raise RequestError(f"the sampler failed: {error}", status=500, code="sampler_failed") from error


async def _events(recorder: Recorder, slot: Slot) -> AsyncIterator[str]:
    """The reply as server-sent events. What fails after the first is an event too, as OpenAI's clients expect."""
    yield _event(opening_chunk(slot.reply_id))
    sampling = asyncio.create_task(_sampled(recorder, slot))
    try:
        while not (await asyncio.wait({sampling}, timeout=KEEP_ALIVE_SECONDS))[0]:
            yield ": still writing\n\n"
        for event in _told(recorder, slot, sampling):
            yield event
    finally:
        sampling.cancel()
        recorder.release(slot)


def _told(recorder: Recorder, slot: Slot, sampling: asyncio.Task[list[Completion]]) -> Iterator[str]:
    try:
        reply = recorder.commit(slot, sampling.result())
    except RequestError as error:
        yield _event(error.body())
        return
    for chunk in write_chunks(reply, slot.request):
        yield _event(chunk)
    yield "data: [DONE]\n\n"


def _event(content: dict[str, object]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return JSONResponse(error.body(), status_code=error.status)


def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    told = RequestError(f"{request.method} is not served here: {error.detail}", status=error.status_code)
    return _refused(request, told)


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: ending the process is not this server's business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
