"""MCP: real servers, written with the SDK, over standard input and output and over HTTP."""

import asyncio
import os
import random
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from journeyman.environments.gsm8k import EXAMPLES
from journeyman.environments.mcp import Mcp
from journeyman.errors import InfrastructureError, UserError
from journeyman.messages import Fault, ParsedTurn, ToolCall, ToolResult
from journeyman.tools.base import CallContext, Tool
from journeyman.tools.calls import run_call
from journeyman.tools.mcp import CallMcp, McpServer, tools_of
from journeyman.tools.mcp_connection import shut_down

pytestmark = pytest.mark.integration

SERVER = Path(__file__).with_name("mcp_server.py")
STDIO = (sys.executable, str(SERVER), "stdio")


@pytest.fixture(scope="module", autouse=True)
def _no_connection_is_left() -> Iterator[None]:
    yield
    shut_down()


@pytest.fixture(scope="module")
def stdio() -> Iterator[McpServer]:
    with McpServer(command=STDIO, name="test") as server:
        yield server


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(SERVER), "http", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/mcp"
        process.terminate()


@pytest.fixture(params=["stdio", "http", "http-auto"])
def server(request: pytest.FixtureRequest) -> Iterator[McpServer]:
    if request.param == "stdio":
        yield request.getfixturevalue("stdio")
        return
    protocol = "auto" if request.param == "http-auto" else "legacy"
    with McpServer(url=request.getfixturevalue("url"), name="test", protocol=protocol) as made:
        yield made


def call(tool: Tool, /, **arguments: object) -> ToolResult:
    return asyncio.run(run_call(tool, arguments))


def process_of(tool: Tool) -> int:
    return int(call(tool).output)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_every_tool_of_a_server_is_a_tool(server: McpServer) -> None:
    tools = server.tools()
    assert {"test_add", "test_picture", "test_fail", "test_count_up", "test_wait"} <= set(tools)
    function = tools["test_add"].spec()["function"]
    assert (function["name"], function["description"]) == ("test_add", "Add two numbers.")
    assert function["parameters"]["required"] == ["a", "b"]
    assert function["parameters"]["properties"]["a"]["type"] == "integer"


def test_results_are_text_structures_and_images(server: McpServer) -> None:
    tools = server.tools()
    added = call(tools["test_add"], a=2, b=40)
    assert (added.ok, added.name, added.output, added.fault) == (True, "test_add", "42", None) and added.seconds > 0
    seen = call(tools["test_picture"], label="a pixel")
    assert seen.output == "a pixel" and [image.media_type for image in seen.images] == ["image/png"]
    assert seen.images[0].data.startswith(b"\x89PNG")
    mixed = call(tools["test_mixed"])
    assert mixed.output == "first\na resource\n[application/zip]\na file: file:///b.txt\n[audio/wav]"
    assert len(mixed.images) == 1


def test_what_a_tool_refuses_is_an_observation(server: McpServer) -> None:
    tools = server.tools()
    failed = call(tools["test_fail"], reason="no such thing")
    assert not failed.ok and failed.fault is Fault.POLICY
    assert failed.output.startswith("error: ") and "no such thing" in failed.output
    for wrong in ({"a": 1}, {"a": "x", "b": 2}, {"a": "\ud83d", "b": 1}):
        result = call(tools["test_add"], **wrong)
        assert not result.ok and result.output.startswith("error: ")
    assert call(tools["test_add"], a=1, b=1).output == "2"


def test_a_call_that_takes_too_long_is_an_observation_and_the_next_one_works(url: str) -> None:
    for made in (McpServer(command=STDIO, seconds=0.5), McpServer(url=url, seconds=0.5)):
        with made as server:
            tools = server.tools()
            call(tools["add"], a=1, b=1)
            late = call(tools["wait"], seconds=20)
            assert (late.ok, late.output, late.fault) == (False, "error: wait took longer than 0.5 seconds", Fault.TOOL)
            assert call(tools["add"], a=1, b=1).output == "2"


def test_calls_run_side_by_side_and_from_one_loop_after_another(server: McpServer) -> None:
    tools = server.tools()

    async def several() -> list[str]:
        slow = asyncio.create_task(run_call(tools["test_wait"], {"seconds": 30}))
        results = await asyncio.gather(*(run_call(tools["test_add"], {"a": i, "b": 1}) for i in range(20)))
        assert not slow.done()
        slow.cancel()
        return [result.output for result in results]

    for _ in range(2):
        assert asyncio.run(several()) == [str(i + 1) for i in range(20)]


def test_a_server_is_shared_and_ends_when_it_is_closed() -> None:
    server = McpServer(command=STDIO)
    first = process_of(server.tools()["process"])
    assert process_of(server.tools()["process"].open(CallContext(trajectory="a"))) == first and alive(first)
    server.close()
    assert not alive(first)
    second = process_of(server.tools()["process"])  # used again, it starts again
    assert second != first
    server.close()
    assert not alive(second)


def test_a_dead_server_is_a_failure_of_infrastructure_and_the_next_call_starts_another(url: str) -> None:
    with McpServer(command=STDIO) as server:
        tools = server.tools()
        with pytest.raises(InfrastructureError, match="is gone"):
            call(tools["die"])
        assert call(tools["add"], a=1, b=1).output == "2"
    with McpServer(url="http://127.0.0.1:9/mcp", start_seconds=10) as nobody, pytest.raises(InfrastructureError):
        nobody.tools()
    with McpServer(command=["/no/such/program"]) as none, pytest.raises(InfrastructureError, match="No such file"):
        none.tools()
    broken = [sys.executable, "-c", "raise SystemExit('the key is missing')"]
    with McpServer(command=broken) as failing, pytest.raises(InfrastructureError, match="the key is missing"):
        failing.tools()
    mute = [sys.executable, "-c", "import time; time.sleep(60)"]
    with McpServer(command=mute, start_seconds=0.5) as silent, pytest.raises(InfrastructureError, match="not answer"):
        silent.tools()


def test_tools_that_change_are_listed_anew() -> None:
    with McpServer(command=STDIO) as server:
        before = server.tools()
        assert server.tools() is before and "plus" not in before
        assert call(before["grow"]).output == "grown"
        for _ in range(50):
            if server.tools() is not before:
                break
            time.sleep(0.05)
        assert call(server.tools()["plus"], a=1, b=2).output == "3"


def test_each_attempt_can_have_a_server_of_its_own() -> None:
    async def attempts(tools: dict[str, Tool]) -> tuple[list[str], int]:
        first, second = CallContext(trajectory="1"), CallContext(trajectory="2")
        one = {name: tools[name].open(first) for name in ("count_up", "process")}
        other = {name: tools[name].open(second) for name in ("count_up", "process")}
        counts = [(await made["count_up"].call({})).output for made in (one, one, other)]
        pids = [int((await made["process"].call({})).output) for made in (one, other)]
        third = {name: tools[name].open(CallContext(trajectory="3")) for name in ("count_up", "process")}
        for name, tool in third.items():
            tool.load_state_dict(one[name].state_dict())  # goes on where the first one stands
        counts.append((await third["count_up"].call({})).output)
        for made in (one, other, third):
            for tool in made.values():
                await tool.close()
        assert len(set(pids)) == 2 and not any(alive(pid) for pid in pids)
        return counts, len(pids)

    with McpServer(command=STDIO, per_attempt=True) as server:
        assert asyncio.run(attempts(server.tools())) == (["1", "2", "1", "3"], 2)
        with pytest.raises(ValueError, match="has no state"):
            server.tools()["add"].load_state_dict({"calls": []} | {"x": 1})


PAGED = """
    import asyncio, sys
    from mcp import types
    from mcp.server import Server
    from mcp.server.stdio import stdio_server

    async def tools(context, params):
        page = int((params and params.cursor) or 0)
        names = ["same name", "same/name", f"only-{page}"]
        listed = [types.Tool(name=name, input_schema={"type": "object"}) for name in names[page > 0 and 2 :]]
        return types.ListToolsResult(tools=listed, next_cursor=str(page + 1) if page < 3 else None)

    async def call(context, params):
        return types.CallToolResult(content=[types.TextContent(text=params.name)])

    async def main():
        server = Server("paged", on_list_tools=tools, on_call_tool=call)
        async with stdio_server() as (read, write):
            await server.run(read, write, server.create_initialization_options())

    asyncio.run(main())
"""


def test_all_pages_are_read_and_names_are_made_to_fit(tmp_path: Path) -> None:
    (tmp_path / "paged.py").write_text(textwrap.dedent(PAGED))
    with McpServer(command=[sys.executable, "paged.py"], folder=tmp_path, name="p") as server:
        tools = server.tools()
        assert list(tools) == ["p_same_name", "p_same_name_2", "p_only-0", "p_only-1", "p_only-2", "p_only-3"]
        assert call(tools["p_same_name_2"]).output == "same/name"
        assert tools["p_only-3"].spec()["function"]["parameters"] == {"type": "object", "properties": {}}
        with pytest.raises(UserError, match="two MCP servers have a tool p_same_name"):
            tools_of(server, server)
        with McpServer(command=STDIO, name="t") as other:
            assert {"p_only-0", "t_add"} <= set(tools_of(server, other))


def test_a_server_has_a_command_or_a_url() -> None:
    for wrong in ({}, {"command": ["a"], "url": "http://x"}, {"command": "python server.py"}):
        with pytest.raises(UserError, match="either a command"):
            McpServer(**wrong)


def test_a_program_that_ends_leaves_no_server_behind(tmp_path: Path) -> None:
    program = f"""
        import asyncio
        from journeyman.tools.mcp import McpServer
        server = McpServer(command={STDIO!r})
        print(asyncio.run(server.tools()["process"].call({{}})).output)
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True
    )
    assert done.stderr == "" and not alive(int(done.stdout))


def test_a_server_can_be_called_by_hand() -> None:
    tool = CallMcp(command=STDIO)
    assert call(tool, tool="add", arguments={"a": 1, "b": 2}).output == "3"
    assert "Add two numbers." in call(tool).output
    assert call(tool, tool="sub").output.startswith("error: the server has no tool sub; it has add, ")
    assert "nothing there" in call(tool, tool="fail", arguments={"reason": "nothing there"}).output
    asyncio.run(tool.close())


def test_a_family_offers_the_tools_of_a_server_beside_its_own(stdio: McpServer) -> None:
    world = Mcp(family="arithmetic", servers=[stdio])
    [problem] = islice(world.generate(random.Random(0)), 1)
    assert problem.family == "mcp" and {"calculator", "test_add"} <= set(world.tools())
    world.validate()

    async def attempt() -> tuple[list[str], bool | None]:
        offered = replace(problem, tools=("calculator", "test_add"))
        episode = world.reset(offered, CallContext(trajectory="t"))
        forked = episode.fork(CallContext(trajectory="u"))
        turn = ParsedTurn(calls=(ToolCall(name="test_add", arguments={"a": 1, "b": 2}),))
        outputs = [(await one.step(turn)).results[0].output for one in (episode, forked)]
        return outputs, (await forked.verify(problem.answer)).correct

    assert asyncio.run(attempt()) == (["3", "3"], True)


def test_rows_of_a_family_come_with_the_servers_tools_and_what_does_not_fit_is_said(stdio: McpServer) -> None:
    world = Mcp(family="gsm8k", servers=[{"command": STDIO, "name": "x"}])
    assert list(world.columns) == ["question", "answer"]
    [problem, *_] = world.read(EXAMPLES).problems
    assert problem.family == "mcp" and world.verify(problem, "42") and problem.tools[:2] == ("calculator", "x_add")
    with pytest.raises(UserError, match="gsm8k does not generate problems"):
        world.generate(random.Random(0))
    with pytest.raises(UserError, match="arithmetic does not read rows"):
        Mcp().read([])
    with pytest.raises(UserError, match="nonsense is no family"):
        Mcp(family="nonsense")
