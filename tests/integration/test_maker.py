"""Made tools in the real sandbox."""

import asyncio
from pathlib import Path

import pytest

from journeyman.environments.arithmetic import Arithmetic
from journeyman.environments.lending import Lending
from journeyman.messages import ToolCall, ToolResult
from journeyman.problem import Problem
from journeyman.tools.base import CallContext
from journeyman.tools.library import ToolLibrary
from journeyman.tools.maker import MakeTool, Workshop
from journeyman.tools.runner import Boxed, run_calls

pytestmark = pytest.mark.integration
ASKED = Problem(id="p", family="arithmetic", question="?", answer="42", tools=("make_tool",))
GCD = '''
def gcd(a: int, b: int) -> int:
    """Greatest common divisor of two whole numbers."""
    while b:
        a, b = b, a % b
    return a
'''


def test_a_tool_is_made_kept_and_used_in_boxes(tmp_path: Path) -> None:
    async def attempt() -> list[ToolResult]:
        maker = MakeTool(library=ToolLibrary(tmp_path))
        episode = Lending(Arithmetic(), {"make_tool": maker}).reset(ASKED, CallContext(trajectory="t"))
        tests = "assert gcd(12, 18) == 6\nassert gcd(7, 5) == 1"
        make = {"name": "gcd", "code": GCD, "tests": tests}
        calls = [
            ToolCall(name="make_tool", arguments={**make, "tests": "assert gcd(12, 18) == 5"}),
            ToolCall(name="make_tool", arguments=make),
            ToolCall(name="gcd", arguments={"a": 84, "b": 126}),
            ToolCall(name="gcd", arguments={"a": "84", "b": 126}),
        ]
        return [await episode.call(call) for call in calls]

    wrong, made, used, refused = asyncio.run(attempt())
    assert not wrong.ok and "the tests fail: AssertionError" in wrong.output
    assert made.ok and (used.ok, used.output) == (True, "42") and not refused.ok
    later = ToolLibrary(tmp_path).tools(Workshop(Boxed()))["gcd"]
    assert asyncio.run(later.call({"a": 9, "b": 6})).output == "3"


def test_a_tool_sees_nothing_of_this_machine_and_comes_to_an_end(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hidden")
    code = f'''
import os, socket

def read() -> str:
    """Read a file of the host."""
    return open({str(secret)!r}).read()

def variables() -> int:
    """Count secrets."""
    return sum(name.startswith("JOURNEYMAN") for name in os.environ)

def connect() -> str:
    """Open a connection."""
    socket.create_connection(("127.0.0.1", 9), timeout=1)
    return "connected"
'''
    read, variables, connect = asyncio.run(run_calls(Boxed(), code, [("read", {}), ("variables", {}), ("connect", {})]))
    assert read.error.startswith("FileNotFoundError") and variables.value == 0 and connect.error
    endless = asyncio.run(Boxed().run("while True: pass", seconds=0.5))
    assert not endless.ok and endless.error == "it was ended for its time"
