"""How tools are called: with a time limit, so many at once, results kept where that is safe."""

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

from journeyman.messages import Fault, ToolResult
from journeyman.tools.base import CallContext, Limits, Tool

_semaphores: "WeakKeyDictionary[Limits, dict[int, asyncio.Semaphore]]" = WeakKeyDictionary()
_caches: "WeakKeyDictionary[Tool, OrderedDict[str, ToolResult]]" = WeakKeyDictionary()


async def run_call(tool: Tool, arguments: Mapping[str, Any], context: CallContext = CallContext()) -> ToolResult:
    """Call a tool under its limits. Raises what `Tool.call` raises."""
    limits = tool.limits
    if limits.cache:
        return await _cached(tool, arguments, context)
    return await _limited(tool, arguments, context)


async def _cached(tool: Tool, arguments: Mapping[str, Any], context: CallContext) -> ToolResult:
    kept = _caches.setdefault(tool, OrderedDict())
    key = json.dumps(dict(arguments), sort_keys=True)
    if key in kept:
        kept.move_to_end(key)
        return replace(kept[key], seconds=0.0, cost=0.0)
    result = await _limited(tool, arguments, context)
    if result.fault in (None, Fault.POLICY):  # a tool that was slow once may not be again
        kept[key] = result
        if len(kept) > tool.limits.cache:
            kept.popitem(last=False)
    return result


async def _limited(tool: Tool, arguments: Mapping[str, Any], context: CallContext) -> ToolResult:
    limits = tool.limits
    if limits.concurrency is None:
        return await _timed(tool, arguments, context)
    loops = _semaphores.setdefault(limits, {})
    loop = id(asyncio.get_running_loop())
    if loop not in loops:
        loops.clear()  # those of loops that are over
        loops[loop] = asyncio.Semaphore(limits.concurrency)
    async with loops[loop]:
        return await _timed(tool, arguments, context)


async def _timed(tool: Tool, arguments: Mapping[str, Any], context: CallContext) -> ToolResult:
    seconds = tool.limits.seconds
    if seconds is None:
        return await tool.call(arguments, context)
    started = time.perf_counter()
    try:
        async with asyncio.timeout(seconds) as limit:
            return await tool.call(arguments, context)
    except TimeoutError:
        if not limit.expired():
            raise
        return ToolResult(
            name=tool.name,
            ok=False,
            output=f"error: {tool.name} took longer than {seconds:g} seconds",
            seconds=time.perf_counter() - started,
            cost=tool.limits.cost,
            fault=Fault.TOOL,
        )
