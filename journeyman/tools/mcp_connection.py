"""A connection to an MCP server, kept in a thread of its own: usable from any event loop, and from none."""

import asyncio
import atexit
import os
import tempfile
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from journeyman.errors import InfrastructureError

if TYPE_CHECKING:
    from mcp import Client
    from mcp.types import CallToolResult, Tool

_T = TypeVar("_T")
PAGES = 1000
"""Most pages of a list of tools: a server whose list never ends does not hang a run."""
CLOSE_SECONDS = 15.0
"""Longest that closing a connection may take; a server that doesn't end by itself is killed well before."""
READ_SECONDS = 300.0
"""Longest that an HTTP server may be silent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """How a server is reached: a command that speaks over its standard input and output, or a URL."""

    command: tuple[str, ...] = ()
    url: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables for the command, besides few harmless ones of ours."""
    folder: Path | None = None
    """Where the command runs."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Of every HTTP request."""
    protocol: Literal["legacy", "auto"] = "legacy"
    """`legacy`: the handshake that servers know since 2024, with sessions; `auto`: the newest that the server knows."""

    def __str__(self) -> str:
        return self.url or " ".join(self.command)


class Background:
    """An event loop in a daemon thread."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.connections: set[Connection] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="mcp", daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """Close every connection, then the loop."""
        for connection in list(self.connections):
            self.submit(connection.close()).result(CLOSE_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_SECONDS)
        self._loop.close()


_background: Background | None = None
_starting = threading.Lock()


def background() -> Background:
    """The loop of this process, started when first asked for."""
    global _background
    with _starting:
        if _background is None or _background.owner != os.getpid():  # a fork has the object, not the thread
            _background = Background()
        return _background


@atexit.register
def shut_down() -> None:
    """Close all connections of this process; what is used later connects anew."""
    global _background
    with _starting:
        if _background is not None and _background.owner == os.getpid():
            _background.close()
        _background = None


class Connection:
    """One session with a server. All coroutines run in the background loop.

    Connects when first used, and again after the server went away. Raises `InfrastructureError` where it can't.
    """

    def __init__(self, address: Address, *, start_seconds: float, on_change: Callable[[], None]) -> None:
        self._address, self._start_seconds, self._on_change = address, start_seconds, on_change
        self._home = background()
        self._connecting = asyncio.Lock()
        self._client: Client | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()

    @property
    def usable(self) -> bool:
        """Whether the loop that it lives in is still there."""
        return self._home is _background

    async def tools(self) -> "list[Tool]":
        """All pages of the server's tools."""
        client, found, cursor = await self._connected(), [], None
        for _ in range(PAGES):
            page = await self._guarded(client, client.list_tools(cursor=cursor, cache_mode="refresh"))
            found += page.tools
            cursor = page.next_cursor
            if cursor is None:
                break
        return found

    async def call(self, tool: str, arguments: dict[str, Any]) -> "CallToolResult":
        """Raises `mcp.MCPError` where the server refuses the call."""
        client = await self._connected()
        return await self._guarded(client, client.call_tool(tool, arguments))

    async def close(self) -> None:
        """End the session, and the command's process with it."""
        self._stop.set()
        self._home.connections.discard(self)
        self._client = None
        if self._keeper is not None:
            await asyncio.wait([self._keeper], timeout=CLOSE_SECONDS)

    async def _guarded(self, client: "Client", work: Coroutine[Any, Any, _T]) -> _T:
        """What a request gives; where the connection is gone it is forgotten and the failure is ours."""
        from anyio import BrokenResourceError, ClosedResourceError
        from mcp import MCPError
        from mcp.types import CONNECTION_CLOSED, REQUEST_TIMEOUT

        try:
            return await work
        except MCPError as error:
            if error.code not in (CONNECTION_CLOSED, REQUEST_TIMEOUT) and self._client is client:
                raise
            reason = error.message
        except (OSError, ClosedResourceError, BrokenResourceError) as error:
            reason = type(error).__name__
        if self._client is client:
            self._client = None
            self._stop.set()
        raise InfrastructureError(f"the MCP server {self._address} is gone: {reason}")

    async def _connected(self) -> "Client":
        async with self._connecting:
            if self._client is None:
                self._stop = asyncio.Event()
                ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
                self._keeper = asyncio.create_task(self._keep(ready, self._stop))
                self._home.connections.add(self)
                try:
                    client = await asyncio.wait_for(asyncio.shield(ready), self._start_seconds)
                except TimeoutError:
                    self._keeper.cancel()
                    await asyncio.wait([self._keeper], timeout=CLOSE_SECONDS)
                    raise InfrastructureError(f"the MCP server {self._address} does not answer") from None
                self._client = client
            return self._client

    async def _keep(self, ready: "asyncio.Future[Client]", stop: asyncio.Event) -> None:
        """Hold the connection open until told otherwise: the task that opens it must be the one that closes it."""
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
            try:
                async with AsyncExitStack() as stack:
                    client = await self._open(stack, log)
                    if not ready.cancelled():
                        ready.set_result(client)
                    await stop.wait()
            except Exception as error:  # the boundary: whatever a transport raises, the server can't be reached
                self._client = None
                if not ready.done():
                    ready.set_exception(InfrastructureError(f"{self._address}: {_told(error, log)}"))

    async def _open(self, stack: AsyncExitStack, log: Any) -> "Client":
        from mcp import Client, StdioServerParameters, stdio_client
        from mcp.client.streamable_http import streamable_http_client

        address = self._address
        if address.url:
            import httpx2

            timeout = httpx2.Timeout(30.0, read=READ_SECONDS)
            http = await stack.enter_async_context(httpx2.AsyncClient(headers=dict(address.headers), timeout=timeout))
            transport = streamable_http_client(address.url, http_client=http)
        else:
            program, *arguments = address.command
            environment = dict(address.environment)
            server = StdioServerParameters(command=program, args=arguments, env=environment, cwd=address.folder)
            transport = stdio_client(server, errlog=log)
        return await stack.enter_async_context(
            Client(transport, mode=address.protocol, message_handler=self._message, cache=None)
        )

    async def _message(self, message: Any) -> None:
        from mcp.types import ToolListChangedNotification

        if isinstance(message, ToolListChangedNotification):
            self._on_change()


def _told(error: BaseException, log: Any) -> str:
    """The innermost of grouped exceptions, and the last line that the command wrote on its standard error."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    log.seek(0)
    lines: Sequence[str] = [line for line in log.read()[-4000:].splitlines() if line.strip()]
    said = f" ({lines[-1].strip()[:300]})" if lines else ""
    return f"the MCP server does not start: {error or type(error).__name__}{said}"
