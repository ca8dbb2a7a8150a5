"""`journeyman tool`: any tool, called by hand."""

import asyncio
import base64
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from journeyman.errors import UserError

if TYPE_CHECKING:
    from journeyman.tools.base import Tool
    from journeyman.trajectory import ToolResult


def tool(
    name: Annotated[str, typer.Argument(help="A tool's name, as in `journeyman catalog`.")],
    args: Annotated[str, typer.Option("--args", help="Its arguments as a JSON object; - reads standard input.")] = "{}",
    state: Annotated[
        Path | None, typer.Option("--state", help="Where the tool's state is kept from call to call.")
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", help="What the tool is made with: path=FILE, results=3. May be repeated."),
    ] = None,
    seed: Annotated[int, typer.Option(help="What the tool draws at random follows from it.", min=0)] = 0,
    spec: Annotated[
        bool, typer.Option("--spec", help="Print what the model is told of the tool, and call nothing.")
    ] = (False),
) -> None:
    """Call a tool by hand and print its observation as JSON: ok, output, error, seconds."""
    made = _make(name, _options(options or []))
    if spec:
        print(json.dumps(made.spec(), ensure_ascii=False))
        return
    arguments = _object(sys.stdin.read() if args == "-" else args, "--args")
    before = _object(_read(state), str(state)) if state and state.exists() else {}
    result, after = asyncio.run(_call(made, arguments, before, seed, place=str(state)))
    if state:
        _write(state, json.dumps(after, ensure_ascii=False))
    print(json.dumps(_observation(result), ensure_ascii=False))


def _make(name: str, options: Mapping[str, Any]) -> "Tool":
    from difflib import get_close_matches

    from journeyman.environments import tool_of_any
    from journeyman.tools import TOOLS

    if name not in TOOLS:
        near = get_close_matches(name, TOOLS, n=1)
        remedy = f"did you mean `{near[0]}`?" if near else f"there are {', '.join(TOOLS)}"
        raise UserError(f"no tool `{name}`", place="journeyman tool", remedy=remedy)
    try:
        return TOOLS[name](**options)
    except TypeError as error:
        if not options:
            return tool_of_any(name)  # it wants a corpus or tables: those of the family that has it
        raise UserError(f"can't be made like this: {error}", place="--set", remedy="see `journeyman catalog`") from None


def _options(pairs: list[str]) -> dict[str, Any]:
    """`name=value` pairs; a value is JSON, or else text."""
    made: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            raise UserError(f"`{pair}` is not name=value", place="--set", remedy="write --set results=3")
        try:
            made[name] = json.loads(value)
        except json.JSONDecodeError:
            made[name] = value
    return made


def _object(text: str, place: str) -> dict[str, Any]:
    remedy = 'give an object, such as {"expression": "6*7"}'
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"not JSON: {error}", place=place, remedy=remedy) from None
    if not isinstance(value, dict):
        raise UserError("not a JSON object", place=place, remedy=remedy)
    return value


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot be read: {error}", place=str(path), remedy="name another file") from None


def _write(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise UserError(f"cannot be written: {error}", place=str(path), remedy="name another file") from None


async def _call(
    made: "Tool", arguments: Mapping[str, Any], before: Mapping[str, Any], seed: int, *, place: str
) -> "tuple[ToolResult, dict[str, Any]]":
    from journeyman.tools.base import CallContext
    from journeyman.tools.calls import run_call

    context = CallContext(trajectory="by hand", seed=seed)
    opened = made.open(context)
    try:
        if before:
            try:
                opened.load_state_dict(before)
            except (ValueError, KeyError, TypeError) as error:
                remedy = f"remove the file, or give the one that {made.name} wrote"
                raise UserError(f"not a state of {made.name}: {error}", place=place, remedy=remedy) from None
        return await run_call(opened, arguments, context), opened.state_dict()
    finally:
        await opened.close()


def _observation(result: "ToolResult") -> dict[str, Any]:
    images = [
        {"media_type": image.media_type, "data": base64.b64encode(image.data).decode()} for image in result.images
    ]
    return {
        "name": result.name,
        "ok": result.ok,
        "output": result.output if result.ok else "",
        "error": None if result.ok else result.output.removeprefix("error: "),
        "seconds": round(result.seconds, 6),
        "cost": result.cost,
        **({"images": images} if images else {}),
    }
