"""Made tools on disk: kept from one attempt to the next, merged where they are one, dropped where they fail (#133)."""

import fcntl
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from journeyman.errors import ArtifactError
from journeyman.tools.base import Tool
from journeyman.tools.made import MadeTool, ToolState, renamed
from journeyman.tools.maker import Made, Workshop
from journeyman.tools.similarity import hashed

if TYPE_CHECKING:
    from journeyman.tools.similarity import Embed

SIMILAR = 0.9
"""Cosine of two docstrings from which their tools may be one (ours)."""
ENOUGH_USES, POOR, UNUSED = 5, 0.3, 200
"""A tool is retired after so many uses with a bound under `POOR`, or when so many tasks passed without a use (ours)."""
_Z = 1.959964
"""Two-sided 95% of the normal distribution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Consolidation:
    """What `ToolLibrary.consolidate` did."""

    merged: Mapping[str, str]
    """Name -> the tool that took its place."""
    retired: tuple[str, ...]


class ToolLibrary:
    """A folder: `tools.jsonl`, one line a tool, and each one's code in `code/`. Safe for several processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self) -> dict[str, MadeTool]:
        """Every tool by name, the retired ones too. Raises `ArtifactError` for a damaged library."""
        path = self.folder / "tools.jsonl"
        if not path.is_file():
            return {}
        lines = path.read_text(encoding="utf-8").splitlines()
        tools = [self._tool(number, line) for number, line in enumerate(lines, start=1)]
        return {tool.name: tool for tool in tools}

    def kept(self) -> dict[str, MadeTool]:
        """The tools that are on offer."""
        return {name: tool for name, tool in self.read().items() if tool.state is ToolState.KEPT}

    def tools(self, workshop: Workshop) -> dict[str, Tool]:
        """What is on offer as tools; put many of them in a `Toolbox`."""
        return {name: Made(made, workshop) for name, made in self.kept().items()}

    def add(self, tool: MadeTool) -> str:
        """Keep a verified tool; returns its name, which gets a suffix where another tool has it. Raises `ValueError`."""
        if tool.state is not ToolState.VERIFIED:
            raise ValueError(f"{tool.name} is {tool.state}, not verified")
        with self._changing() as tools:
            other = tools.get(tool.name)
            if other is not None and other.digest == tool.digest:
                return tool.name
            named = tool if other is None else renamed(tool, f"{tool.name}_{tool.digest[:6]}")
            tools[named.name] = replace(named, state=ToolState.KEPT, made_at=self.tasks, used_at=self.tasks)
            return named.name

    def finish(self, used: Sequence[str], *, won: bool) -> int:
        """Count a task, and a use of each of these tools in it; names that aren't kept don't count. Returns the count."""
        with self._changing() as tools:
            now = self.tasks + 1
            _write_atomic(self.folder / "tasks", str(now))
            for name in used:
                if (tool := tools.get(name)) is not None:
                    tools[name] = replace(tool, uses=tool.uses + 1, wins=tool.wins + won, used_at=now)
        return now

    @property
    def tasks(self) -> int:
        """How many tasks have been finished with this library."""
        path = self.folder / "tasks"
        return int(path.read_text(encoding="utf-8")) if path.is_file() else 0

    async def consolidate(self, workshop: Workshop, *, embed: "Embed | None" = None) -> Consolidation:
        """Merge tools that do the same, retire those that fail or lie idle.

        Of tools with like docstrings and as many parameters, the one with the highest Wilson bound that passes all of
        their tests stays, and keeps those tests; where none passes them all, all stay. Every test that passed before
        passes after, of the tools that are still on offer.
        """
        before = self.kept()
        merged: dict[str, str] = {}
        keepers: dict[str, MadeTool] = {}
        for cluster in _clusters(list(before.values()), embed or hashed):
            if (keeper := await _keeper(cluster, workshop)) is not None:
                keepers[keeper.name] = keeper
                merged |= {tool.name: keeper.name for tool in cluster if tool.name != keeper.name}
        retired = tuple(name for name, tool in before.items() if name not in merged and _is_spent(tool, self.tasks))
        with self._changing() as tools:
            for name, into in merged.items():
                tools[name] = replace(tools[name], state=ToolState.RETIRED, merged_into=into)
            for name, keeper in keepers.items():
                tools[name] = replace(tools[name], asserts=keeper.asserts)
            for name in retired:
                tools[name] = replace(tools[name], state=ToolState.RETIRED)
        return Consolidation(merged=merged, retired=retired)

    @contextmanager
    def _changing(self) -> Iterator[dict[str, MadeTool]]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            tools = self.read()
            before = dict(tools)
            yield tools
            if tools != before:
                self._write(tools)

    def _write(self, tools: Mapping[str, MadeTool]) -> None:
        lines = []
        for tool in tools.values():
            row = tool.to_json()
            code = row.pop("code")
            path = self.folder / "code" / f"{tool.name}-{hashlib.sha256(code.encode()).hexdigest()[:16]}.py"
            if not path.is_file():
                path.parent.mkdir(exist_ok=True)
                _write_atomic(path, code)
            lines.append(json.dumps({**row, "code": path.name, "digest": tool.digest}, ensure_ascii=False))
        _write_atomic(self.folder / "tools.jsonl", "".join(line + "\n" for line in lines))

    def _tool(self, number: int, line: str) -> MadeTool:
        place = f"{self.folder / 'tools.jsonl'}:{number}"
        try:
            row = json.loads(line)
            digest = row.pop("digest")
            row["code"] = (self.folder / "code" / Path(row["code"]).name).read_text(encoding="utf-8")
            tool = MadeTool.from_json(row)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"not a tool: {error}", place=place, remedy="take the line out") from error
        if tool.digest != digest:
            raise ArtifactError(f"{tool.name} is not as it was kept", place=place, remedy="take the line out")
        return tool


def _write_atomic(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")  # under the library's lock: one writer
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def wilson(wins: int, uses: int) -> float:
    """Lower end of the 95% Wilson interval of a share, in [0, 1]; 0 without a use."""
    if uses == 0:
        return 0.0
    share, z2 = wins / uses, _Z * _Z
    spread = _Z * math.sqrt(share * (1 - share) / uses + z2 / (4 * uses * uses))
    return (share + z2 / (2 * uses) - spread) / (1 + z2 / uses)


def _is_spent(tool: MadeTool, now: int) -> bool:
    return (tool.uses >= ENOUGH_USES and wilson(tool.wins, tool.uses) < POOR) or now - tool.used_at > UNUSED


def _clusters(tools: Sequence[MadeTool], embed: "Embed") -> list[list[MadeTool]]:
    """Groups of two or more: each is as like the group's first as it must be."""
    ranked = sorted(tools, key=lambda tool: (-wilson(tool.wins, tool.uses), -tool.uses, tool.name))
    vectors = embed([tool.spec["function"]["description"] for tool in ranked]) if ranked else []
    groups: list[list[int]] = []
    for i, tool in enumerate(ranked):
        for group in groups:
            if ranked[group[0]].arity == tool.arity and float(vectors[group[0]] @ vectors[i]) >= SIMILAR:
                group.append(i)
                break
        else:
            groups.append([i])
    return [[ranked[i] for i in group] for group in groups if len(group) > 1]


async def _keeper(cluster: Sequence[MadeTool], workshop: Workshop) -> MadeTool | None:
    """The best that passes every member's tests, with all of them; None where there is none."""
    union = tuple(dict.fromkeys(asserts for tool in cluster for asserts in tool.asserts))
    for tool in cluster:
        if not await workshop.failing(tool, union):
            return replace(tool, asserts=union)
    return None
