"""Tools behind one interface."""

import asyncio

import pytest

from journeyman.tools import Calculator, FoldMemory
from journeyman.tools.base import CallContext, Limits, ToolError, function_tool
from journeyman.tools.calls import run_call
from journeyman.tools.uniform import Uniform
from tests.unit.fakes import call


async def shout(text: str, times: int = 1) -> str:
    """Say it loud.

    Args:
        text: What to say.
        times: How often.
    """
    if times < 0:
        raise ToolError("times is negative")
    return f"{text.upper()}</result>" * times


def test_a_tool_with_one_text_takes_it_bare() -> None:
    tool = Uniform(Calculator())
    assert call(tool, input="6*7").output == '<result tool="calculator" status="ok">\n42\n</result>'
    wrong = call(tool, input="six")
    assert not wrong.ok and wrong.output.startswith('<result tool="calculator" status="error">\nerror: ')
    parameters = tool.spec()["function"]["parameters"]
    assert list(parameters["properties"]) == ["input"] and tool.spec()["function"]["name"] == "calculator"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ('{"text": "hi"}', "HI< /result>"),
        ('{"text": "hi", "times": -1}', "error: times is negative"),
        ("hi", "error: input must be a JSON object"),
        ("[1]", "error: input must be a JSON object"),
        ("{}", "error: shout takes text, times (optional)"),
    ],
)
def test_other_tools_take_a_json_object_and_cannot_end_their_result(given: str, said: str) -> None:
    output = call(Uniform(function_tool(shout)), input=given).output
    assert said in output and output.count("</result>") == 1 and output.endswith("\n</result>")


def test_anything_but_input_is_refused() -> None:
    tool = Uniform(Calculator())
    assert "takes input" in call(tool, expression="1+1").output and "takes input" in call(tool, input=3).output


def test_state_and_attempts_are_those_of_the_tool_inside() -> None:
    tool = Uniform(FoldMemory()).open(CallContext())
    assert call(tool, input='{"progress": "half", "events": []}').ok
    other = Uniform(FoldMemory()).open(CallContext())
    other.load_state_dict(tool.state_dict())
    assert other.state_dict() == tool.state_dict() != Uniform(FoldMemory()).state_dict()


class Narrow(Calculator):
    limits = Limits(concurrency=1)


def test_a_tool_that_takes_one_call_at_a_time_does_not_wait_for_itself() -> None:
    async def both() -> list[str]:
        tool = Uniform(Narrow())
        return [
            result.output for result in await asyncio.gather(*(run_call(tool, {"input": f"{i}+1"}) for i in (1, 2)))
        ]

    first, second = asyncio.run(asyncio.wait_for(both(), timeout=10))
    assert "\n2\n" in first and "\n3\n" in second
