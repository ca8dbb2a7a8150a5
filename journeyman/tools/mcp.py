"""The tools of any MCP server, over standard input and output or streamable HTTP, by the official SDK.

    server = McpServer(command=["python", "my_server.py"], name="files")
    tools = server.tools()                         # files_read, files_write, ...

A server is started when first used and ends with the process, or with `close`. With `per_attempt` every attempt has a
session of its own, and a process of its own where the server is a command: for servers that keep a state.
"""

import asyncio
import json
import re
import time
from base64 import b64decode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from journeyman.errors import InfrastructureError, UserError
from journeyman.messages import Fault, Image, ToolResult
from journeyman.tools.base import CallContext, FunctionTool, Limits, Tool, ToolError, ToolOutput
from journeyman.tools.calls import run_call
from journeyman.tools.mcp_connection import CLOSE_SECONDS, Address, Connection, background

if TYPE_CHECKING:
    from mcp.types import CallToolResult, ContentBlock
    from mcp.types import Tool as Listed

MAX_NAME = 64
"""Characters of a tool's name that models' formats take."""


class McpServer:
    """A server and its tools.

    Args:
        command: program and arguments of a server that speaks over its standard input and output; or
        url: of a server that speaks streamable HTTP.
        name: stands before the names of its tools, `NAME_TOOL`; without one the tools have the server's names.
        environment, folder: for a command. It sees few harmless variables of ours besides.
        headers: of every HTTP request.
        seconds: longest that a call may take; beyond, the model reads that it took too long.
        start_seconds: longest that the server may take to start.
        concurrency: most calls at once; None: any number.
        per_attempt: a session for each attempt; else all share one.
        protocol: `legacy` is the handshake that all servers know, `auto` the newest that the server knows.
    """

    def __init__(
        self,
        *,
        command: Sequence[str] = (),
        url: str = "",
        name: str = "",
        environment: Mapping[str, str] | None = None,
        folder: Path | str | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float = 60.0,
        start_seconds: float = 30.0,
        concurrency: int | None = None,
        per_attempt: bool = False,
        protocol: Literal["legacy", "auto"] = "legacy",
    ) -> None:
        if bool(command) == bool(url) or isinstance(command, str):
            raise UserError("an MCP server has either a command, a list of words, or a url", place=name or "mcp")
        self.name, self.per_attempt, self._start_seconds = name, per_attempt, start_seconds
        self.limits = Limits(seconds=seconds, concurrency=concurrency)
        self._address = Address(
            command=tuple(command),
            url=url,
            environment=dict(environment or {}),
            folder=None if folder is None else Path(folder),
            headers=dict(headers or {}),
            protocol=protocol,
        )
        self._shared: Connection | None = None
        self._tools: dict[str, Tool] | None = None
        self._sessions: dict[tuple[str, int], Session] = {}

    def tools(self) -> dict[str, Tool]:
        """The server's tools by name; asked for again after the server said that they changed.

        Waits for the server. Raises `InfrastructureError` where it can't be reached.
        """
        if self._tools is None:
            work = _with_connection(self, lambda connection: connection.tools())
            listed = background().submit(work).result()
            made: dict[str, Tool] = {}
            for one in listed:
                name = self._unused(one.name, made)
                made[name] = McpTool(self, one, name)
            self._tools = made
        return self._tools

    def close(self) -> None:
        """End its sessions; what is called later starts anew."""
        connections = [self._shared, *(session.connection for session in self._sessions.values())]
        self._shared, self._tools, self._sessions = None, None, {}
        for connection in connections:
            if connection is not None and connection.usable:
                background().submit(connection.close()).result(CLOSE_SECONDS)

    def __enter__(self) -> "McpServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def connection(self) -> Connection:
        """The shared one. Made in the background loop."""
        if self._shared is None or not self._shared.usable:
            self._shared = self.connect()
        return self._shared

    def connect(self) -> Connection:
        return Connection(self._address, start_seconds=self._start_seconds, on_change=self._forget)

    def session(self, context: CallContext) -> "Session":
        """The session of an attempt, which all its tools share."""
        key = (context.trajectory, context.seed)
        if key not in self._sessions:
            self._sessions[key] = Session(self)
        self._sessions[key].users += 1
        return self._sessions[key]

    def leave(self, session: "Session") -> bool:
        """One user less; whether it was the last, and the session is to be closed."""
        session.users -= 1
        if session.users == 0:
            self._sessions = {key: other for key, other in self._sessions.items() if other is not session}
        return session.users == 0

    def _forget(self) -> None:
        self._tools = None

    def _unused(self, name: str, taken: Mapping[str, Tool]) -> str:
        """A name that models' formats take and that no other tool of this server has."""
        wanted = re.sub(r"[^a-zA-Z0-9_-]", "_", f"{self.name}_{name}" if self.name else name)[:MAX_NAME]
        numbered = (f"{wanted[: MAX_NAME - len(str(i)) - 1]}_{i}" for i in range(2, len(taken) + 3))
        return wanted if wanted not in taken else next(one for one in numbered if one not in taken)


class Session:
    """What an attempt says to a server with a state: a connection of its own, and the calls so far.

    A state is the list of calls: loaded into another session they are made again, before its first own one. That is
    the same state where the server's answers follow from its calls alone.
    """

    def __init__(self, server: McpServer) -> None:
        self._server = server
        self.users = 0
        self.connection: Connection | None = None
        self.calls: list[dict[str, Any]] = []
        self._made = 0
        """How many of `calls` the connection has seen."""
        self._in_order: asyncio.Lock | None = None

    async def call(self, tool: str, arguments: dict[str, Any]) -> "CallToolResult":
        """In the background loop."""
        if self.connection is None:
            self.connection, self._in_order = self._server.connect(), asyncio.Lock()
        assert self._in_order is not None
        async with self._in_order:
            while self._made < len(self.calls):
                earlier = self.calls[self._made]
                await self.connection.call(earlier["tool"], earlier["arguments"])
                self._made += 1
            self.calls.append({"tool": tool, "arguments": arguments})
            self._made += 1
            return await self.connection.call(tool, arguments)


class McpTool(Tool):
    """A server's tool; its schema is passed on as the server wrote it."""

    def __init__(self, server: McpServer, listed: "Listed", name: str, session: Session | None = None) -> None:
        self.name, self.limits = name, server.limits
        self._server, self._listed, self._session = server, listed, session

    def spec(self) -> dict[str, Any]:
        listed = self._listed
        schema = {"type": "object", "properties": {}, **listed.input_schema}
        description = listed.description or listed.title or ""
        return {
            "type": "function",
            "function": {"name": self.name, "description": description, "parameters": schema},
        }

    def open(self, context: CallContext) -> "Tool":
        if not self._server.per_attempt:
            return self
        return McpTool(self._server, self._listed, self.name, self._server.session(context))

    async def close(self) -> None:
        session = self._session
        if session is None or not self._server.leave(session) or session.connection is None:
            return
        if session.connection.usable:
            await asyncio.wrap_future(background().submit(session.connection.close()))

    def state_dict(self) -> dict[str, Any]:
        return {"calls": list(self._session.calls)} if self._session and self._session.calls else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self._session is None:
            super().load_state_dict(state)
        elif state and not self._session.calls:  # each tool of the session brings the same list
            self._session.calls = list(state["calls"])

    async def call(self, arguments: Mapping[str, Any], context: CallContext = CallContext()) -> ToolResult:
        """Raises `InfrastructureError` where the server is gone."""
        from mcp import MCPError

        started = time.perf_counter()
        try:
            sent = json.loads(json.dumps(dict(arguments), ensure_ascii=False).encode())
            found = await asyncio.wrap_future(background().submit(self._sent(sent)))
            text, images = _read(found)
            ok = not found.is_error
        except (UnicodeEncodeError, TypeError):
            text, images, ok = "error: the arguments are not JSON", (), False
        except MCPError as error:
            text, images, ok = f"error: {error.message}", (), False
        return ToolResult(
            name=self.name,
            ok=ok,
            output=text if ok or text.startswith("error: ") else f"error: {text}",
            seconds=time.perf_counter() - started,
            images=images,
            fault=None if ok else Fault.POLICY,
        )

    async def _sent(self, arguments: dict[str, Any]) -> "CallToolResult":
        """In the background loop."""
        if self._session is not None:
            return await self._session.call(self._listed.name, arguments)
        return await self._server.connection().call(self._listed.name, arguments)


class CallMcp(FunctionTool):
    """Any tool of one server, by its name: for calls by hand. Takes what `McpServer` takes."""

    name = "mcp"

    def __init__(self, **server: Any) -> None:
        self._server = McpServer(**server)

    async def run(self, tool: str = "", arguments: dict[str, Any] = {}) -> ToolOutput:  # noqa: B006  # never changed
        """Call a tool of an MCP server. Without a tool, tells which there are.

        Args:
            tool: its name.
            arguments: its arguments by name.
        """
        tools = await asyncio.to_thread(self._server.tools)
        if not tool:
            return ToolOutput(text=json.dumps([one.spec()["function"] for one in tools.values()], ensure_ascii=False))
        if tool not in tools:
            raise ToolError(f"the server has no tool {tool}; it has {', '.join(tools)}")
        result = await run_call(tools[tool], arguments)
        if not result.ok:
            raise ToolError(result.output.removeprefix("error: "))
        return ToolOutput(text=result.output, images=result.images)

    async def close(self) -> None:
        await asyncio.to_thread(self._server.close)


async def _with_connection(server: McpServer, work: Any) -> Any:
    return await work(server.connection())


def tools_of(*servers: McpServer) -> dict[str, Tool]:
    """The tools of several servers. Raises `UserError` where two have a tool of the same name."""
    found: dict[str, Tool] = {}
    for server in servers:
        for name, tool in server.tools().items():
            if name in found:
                raise UserError(f"two MCP servers have a tool {name}", remedy="give the servers names of their own")
            found[name] = tool
    return found


def _read(result: "CallToolResult") -> tuple[str, tuple[Image, ...]]:
    """(text, images) of what a server answered; structured content where there is nothing else."""
    texts, images = [], []
    for block in result.content:
        part = _read_block(block)
        if isinstance(part, Image):
            images.append(part)
        else:
            texts.append(part)
    if not texts and not images and result.structured_content is not None:
        texts.append(json.dumps(result.structured_content, ensure_ascii=False))
    return "\n".join(texts), tuple(images)


def _read_block(block: "ContentBlock") -> str | Image:
    from mcp import types

    match block:
        case types.TextContent(text=text):
            return text
        case types.ImageContent(data=data, mime_type=kind):
            return Image(data=b64decode(data), media_type=kind)
        case types.EmbeddedResource(resource=types.TextResourceContents(text=text)):
            return text
        case types.EmbeddedResource(resource=types.BlobResourceContents(blob=data, mime_type=kind)):
            picture = kind in ("image/png", "image/jpeg")
            return Image(data=b64decode(data), media_type=kind or "") if picture else f"[{kind or 'binary data'}]"
        case types.ResourceLink(name=name, uri=uri):
            return f"{name}: {uri}"
        case types.AudioContent(mime_type=kind):
            return f"[{kind}]"
    raise InfrastructureError(f"a content of MCP that is not known here: {type(block).__name__}")
