"""Worlds made by a model: scenario, tool documents, functions, harder variants, a folder that can be trained in (#5).

Nothing a model says is taken as it is: documents are checked as schemas, functions by tests in the sandbox, problems by
running their gold calls there. What fails three times is dropped, and told.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from journeyman.environments.built import Built, write_world
from journeyman.environments.solve_score import shows
from journeyman.messages import Message
from journeyman.seeds import derive
from journeyman.synthesis import world_prompts as prompts
from journeyman.tools.arguments import arguments_error, spec_error
from journeyman.tools.base import ToolError
from journeyman.tools.documents import json_object
from journeyman.tools.made import Asserts, MadeTool, spec_of, top_level_names
from journeyman.tools.maker import TRIES, Workshop
from journeyman.tools.making import fenced, until_accepted
from journeyman.tools.runner import Runner, run_calls
from journeyman.tools.similarity import cosine

if TYPE_CHECKING:
    from journeyman.llm import Chat

Value = TypeVar("Value")
SAME_TOOL, SAME_QUESTION = 0.9, 0.95
"""Cosine from which two tools, or two questions, are one (ours)."""
MAX_CALLS = 8
"""Most gold calls of a problem (ours)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """Something that a step of the construction could not use."""

    step: str
    """`decompose`, `document`, `integrate`, `scale`, `deploy`, `ground`."""
    what: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildReport:
    """What came of a construction."""

    folder: Path
    tools: tuple[str, ...]
    problems: int
    harder: tuple[str, ...]
    """Tools whose documents were made harder."""
    dropped: tuple[Dropped, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A question with the sub-questions that it takes."""

    question: str
    steps: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class _State:
    """What the steps hand on."""

    seed: int
    plans: list[Plan] = field(default_factory=list)
    specs: dict[str, dict[str, Any]] = field(default_factory=dict)
    tools: dict[str, MadeTool] = field(default_factory=dict)
    harder: list[str] = field(default_factory=list)
    problems: list[dict[str, Any]] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)

    def drop(self, step: str, what: str, reason: str) -> None:
        self.dropped.append(Dropped(step=step, what=what, reason=reason))


def build_world(
    scenario: str,
    folder: Path,
    chat: "Chat",
    runner: Runner,
    *,
    seed: int,
    questions: int = 8,
    distractors: int = 4,
) -> BuildReport:
    """Make a world and validate it. Raises `ValueError` where nothing usable came out.

    Args:
        scenario: a sentence or two on what the world is about.
        folder: where it is put; `Built(folder)` loads it.
        chat: writes everything.
        runner: runs what it wrote.
        seed: of every reply.
        questions: how many to ask for; some will be dropped.
        distractors: tools besides that no question needs.
    """
    builder = WorldBuilder(chat, runner)
    report = asyncio.run(builder.build(scenario, folder, seed=seed, questions=questions, distractors=distractors))
    Built(folder, runner=runner).validate()
    return report


class WorldBuilder:
    """The steps of a construction, in order."""

    def __init__(self, chat: "Chat", runner: Runner, tries: int = TRIES) -> None:
        self._chat, self._workshop, self._tries = chat, Workshop(runner), tries

    async def build(self, scenario: str, folder: Path, *, seed: int, questions: int, distractors: int) -> BuildReport:
        state = _State(seed=seed)
        await self._decompose(state, scenario, questions)
        await self._document(state)
        await self._scale(state, distractors)
        await self._deploy(state)
        await self._ground(state)
        if not state.problems:
            reasons = "; ".join(f"{d.step} {d.what}: {d.reason}" for d in state.dropped[:5])
            raise ValueError(f"no problem of the world can be used: {reasons}")
        specs = [state.specs[name] for name in state.tools]
        code = "\n\n\n".join(tool.code.strip() for tool in state.tools.values()) + "\n"
        world = {"name": folder.name, "scenario": scenario, "specs": specs}
        provenance = {"seed": seed, "dropped": len(state.dropped), "harder": state.harder}
        write_world(folder, {**world, "provenance": provenance}, state.problems, code)
        return BuildReport(
            folder=folder,
            tools=tuple(state.tools),
            problems=len(state.problems),
            harder=tuple(state.harder),
            dropped=tuple(state.dropped),
        )

    async def _decompose(self, state: _State, scenario: str, count: int) -> None:
        """Scenario -> questions with their sub-questions."""
        prompt = prompts.DECOMPOSE.format(scenario=scenario, count=count)
        plans = await self._asked(state, "decompose", scenario[:60], prompt, _plans)
        for plan in plans or ():
            if any(cosine(plan.question, other.question) >= SAME_QUESTION for other in state.plans):
                state.drop("decompose", plan.question, "like another question")
            else:
                state.plans.append(plan)

    async def _document(self, state: _State) -> None:
        """Sub-questions -> tool documents, those that say the same joined."""
        for plan in state.plans:
            known = json.dumps([spec["function"] for spec in state.specs.values()], ensure_ascii=False)
            prompt = prompts.DOCUMENT.format(question=plan.question, steps="\n".join(plan.steps), known=known)
            for spec in await self._asked(state, "document", plan.question, prompt, _specs) or ():
                self._integrate(state, spec)

    def _integrate(self, state: _State, spec: dict[str, Any]) -> None:
        name = spec["function"]["name"]
        if name in state.specs:
            return
        text = _told(spec)
        if like := next((other for other in state.specs.values() if cosine(text, _told(other)) >= SAME_TOOL), None):
            state.drop("integrate", name, f"does what {like['function']['name']} does")
        else:
            state.specs[name] = spec

    async def _scale(self, state: _State, distractors: int) -> None:
        """Documents with more parameters, and neighbours that no question needs."""
        for name, spec in list(state.specs.items()):
            prompt = prompts.SCALE.format(spec=json.dumps(spec["function"], ensure_ascii=False))
            harder = await self._asked(state, "scale", name, prompt, lambda text, spec=spec: _harder(text, spec))
            if harder is not None:
                state.specs[name] = harder
                state.harder.append(name)
        if distractors:
            known = json.dumps([spec["function"] for spec in state.specs.values()], ensure_ascii=False)
            prompt = prompts.DISTRACT.format(known=known, count=distractors)
            for spec in (await self._asked(state, "scale", "distractors", prompt, _specs) or ())[:distractors]:
                self._integrate(state, spec)

    async def _deploy(self, state: _State) -> None:
        """Documents -> functions that pass their tests; names of one don't clash with another's."""
        for name, spec in state.specs.items():
            taken = {each for tool in state.tools.values() for each in top_level_names(tool.code)}

            async def check(text: str, spec: dict[str, Any] = spec, taken: set[str] = taken) -> MadeTool:
                tool = _tool(text, spec)
                if clash := taken & top_level_names(tool.code):
                    raise ToolError(f"{', '.join(sorted(clash))} is defined elsewhere; take other names")
                return await self._workshop.verified(await self._workshop.executable(tool))

            prompt = prompts.DEPLOY.format(spec=json.dumps(spec["function"], ensure_ascii=False))
            tool = await self._tried(state, "deploy", name, prompt, check)
            if tool is not None:
                state.tools[name] = tool

    async def _ground(self, state: _State) -> None:
        """Questions -> gold calls that run, whose outputs show the answer: the answer is the world's, not the model's."""
        code = "\n\n\n".join(tool.code.strip() for tool in state.tools.values())
        specs = {name: state.specs[name] for name in state.tools}
        for plan in state.plans:
            shown = json.dumps([spec["function"] for spec in specs.values()], ensure_ascii=False)
            prompt = prompts.GROUND.format(question=plan.question, steps="\n".join(plan.steps), specs=shown)

            async def check(text: str, plan: Plan = plan) -> dict[str, Any]:
                return await self._grounded(plan, json_object(text), specs, code)

            problem = await self._tried(state, "ground", plan.question, prompt, check)
            if problem is not None:
                state.problems.append(problem)

    async def _grounded(
        self, plan: Plan, made: Mapping[str, Any], specs: Mapping[str, Mapping[str, Any]], code: str
    ) -> dict[str, Any]:
        calls, answer = _calls(made, specs), str(made.get("answer", "")).strip()
        given = [(call["name"], call["arguments"]) for call in calls]
        returned = await run_calls(self._workshop.runner, code, given)
        for call, result in zip(calls, returned, strict=True):
            if result.error:
                raise ToolError(f"{call['name']}({json.dumps(call['arguments'])}) fails: {result.error}")
        told = "; ".join(
            f"{call['name']} returns {result.text[:200]}" for call, result in zip(calls, returned, strict=True)
        )
        if answer not in returned[-1].text or not shows(returned[-1].text, answer):
            raise ToolError(f"the last call does not show the answer {answer!r}: {told}")
        if shows(plan.question, answer):
            raise ToolError("the answer stands in the question")
        goals = [{"tool": call["name"], "answer": result.text} for call, result in zip(calls, returned, strict=True)]
        return {"question": plan.question, "answer": answer, "calls": calls, "goals": goals}

    async def _asked(
        self, state: _State, step: str, what: str, prompt: str, check: Callable[[str], Value]
    ) -> Value | None:
        async def checked(text: str) -> Value:
            return check(text)

        return await self._tried(state, step, what, prompt, checked)

    async def _tried(
        self, state: _State, step: str, what: str, prompt: str, check: Callable[[str], Awaitable[Value]]
    ) -> Value | None:
        """The first reply that a check takes; None, and an entry among the dropped, after too many."""

        async def write(errors: Sequence[str]) -> str:
            told = "".join(f"\n\nAn earlier reply was refused: {error}" for error in errors)
            seed = derive(state.seed, step, what, len(errors))
            messages = [Message(role="user", content=prompt + told)]
            return await self._chat.complete(messages, seed=seed, temperature=0.7, max_tokens=2048)

        tried = await until_accepted(write, check, self._tries)
        if tried.value is None:
            state.drop(step, what, tried.errors[-1])
        return tried.value


def _rows(text: str, key: str) -> list[Any]:
    rows = json_object(text).get(key)
    if not isinstance(rows, list) or not rows:
        raise ToolError(f"reply with a JSON object that has a list `{key}`")
    return rows


def _plans(text: str) -> list[Plan]:
    plans = []
    for row in _rows(text, "questions"):
        steps = row.get("steps") if isinstance(row, dict) else None
        if not isinstance(steps, list) or not steps or not str(row.get("question", "")).strip():
            raise ToolError("every entry has a `question` and a list of `steps`")
        plans.append(Plan(question=str(row["question"]).strip(), steps=tuple(str(step) for step in steps)))
    return plans


def _specs(text: str) -> list[dict[str, Any]]:
    specs = []
    for row in _rows(text, "tools"):
        spec = {"type": "function", "function": row}
        if error := spec_error(spec):
            raise ToolError(error)
        if not row["name"].isidentifier():
            raise ToolError(f"{row['name']} must be a Python name")
        specs.append(spec)
    return specs


def _harder(text: str, old: Mapping[str, Any]) -> dict[str, Any]:
    """The document of a reply, if it asks for more than the old one and for all that it asked."""
    (spec,) = _specs(json.dumps({"tools": [json_object(text)]}))
    before, after = old["function"]["parameters"], spec["function"]["parameters"]
    had, has = before.get("properties", {}), after.get("properties", {})
    if spec["function"]["name"] != old["function"]["name"]:
        raise ToolError("the tool must keep its name")
    if not had.keys() < has.keys() or not set(before.get("required", ())) <= set(after.get("required", ())):
        raise ToolError("all parameters must stay, and at least one must be new")
    return spec


def _tool(text: str, spec: Mapping[str, Any]) -> MadeTool:
    """Function and tests of a reply. Raises `ToolError` where it is not what the document says."""
    name = spec["function"]["name"]
    code, mark, tests = fenced(text).partition(prompts.TESTS_BELOW)
    if not mark:
        raise ToolError(f"the line `{prompts.TESTS_BELOW}` must stand between function and tests")
    written = spec_of(name, code)["function"]["parameters"]
    wanted = spec["function"]["parameters"]
    for side in ("properties", "required"):
        if set(written.get(side, ())) != set(wanted.get(side, ())):
            raise ToolError(f"{name} must take {', '.join(wanted.get('properties', {}))}, as its document says")
    return MadeTool(name=name, code=code, asserts=(Asserts(name=name, source=tests),))


def _calls(made: Mapping[str, Any], specs: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    rows = made.get("calls")
    if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_CALLS:
        raise ToolError(f"reply with a JSON object that has 1 to {MAX_CALLS} `calls`")
    calls: list[dict[str, Any]] = []
    for row in rows:
        name = row.get("name") if isinstance(row, dict) else None
        if not isinstance(name, str) or name not in specs or not isinstance(row.get("arguments"), dict):
            raise ToolError(f"a call has `arguments` and a `name` among {', '.join(specs)}")
        if error := arguments_error(specs[name], row["arguments"]):
            raise ToolError(error)
        call = {"name": name, "arguments": row["arguments"]}
        if call in calls:
            raise ToolError(f"{name} is called twice with the same arguments")
        calls.append(call)
    return calls


def _told(spec: Mapping[str, Any]) -> str:
    function = spec["function"]
    return f"{function['name']} {function['description']} {' '.join(function['parameters'].get('properties', {}))}"
