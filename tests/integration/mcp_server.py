"""A server of the tests, written with the SDK: `python mcp_server.py stdio`, or `http PORT`."""

import asyncio
import base64
import os
import sys

from mcp import types
from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
server = MCPServer("test")
count = 0


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool(structured_output=False)
def picture(label: str) -> list:
    """A picture and its label."""
    return [label, Image(data=PIXEL, format="png")]


@server.tool()
def fail(reason: str) -> str:
    """Always fails."""
    raise ToolError(reason)


@server.tool(name="count.up")
def count_up() -> int:
    """Counts its calls."""
    global count
    count += 1
    return count


@server.tool()
def process() -> int:
    """The process that serves."""
    return os.getpid()


@server.tool()
async def wait(seconds: float) -> str:
    """Takes its time."""
    await asyncio.sleep(seconds)
    return "done"


@server.tool()
def die() -> str:
    """Ends the server."""
    os._exit(1)


@server.tool()
async def grow(context: Context) -> str:
    """Gets one more tool."""
    server.add_tool(add, name="plus")
    await context.session.send_tool_list_changed()
    return "grown"


@server.tool(structured_output=False)
def mixed() -> types.CallToolResult:
    """All kinds of contents."""
    picture = base64.b64encode(PIXEL).decode()
    text = types.TextResourceContents(uri="file:///a.txt", text="a resource")
    blob = types.BlobResourceContents(uri="file:///a.png", blob=picture, mime_type="image/png")
    other = types.BlobResourceContents(uri="file:///a.zip", blob="AAAA", mime_type="application/zip")
    return types.CallToolResult(
        content=[
            types.TextContent(text="first"),
            types.EmbeddedResource(resource=text),
            types.EmbeddedResource(resource=blob),
            types.EmbeddedResource(resource=other),
            types.ResourceLink(name="a file", uri="file:///b.txt"),
            types.AudioContent(data="AAAA", mime_type="audio/wav"),
        ]
    )


if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        server.run("stdio")
    else:
        server.run("streamable-http", port=int(sys.argv[2]))
