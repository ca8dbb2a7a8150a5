"""Function-calling problems by program: goal templates and values from the schemas of tools, demonstrations beside them."""

import hashlib
import json
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product
from typing import Any

from journeyman.curation.normal_form import question_form
from journeyman.environments import environment_of, tools_named
from journeyman.environments.call_problems import FAMILY, as_accepted, call_problem
from journeyman.environments.rows import BadRow
from journeyman.errors import ConfigError
from journeyman.expressions import Count, Share
from journeyman.messages import ToolCall
from journeyman.problem import Problem, problem_id
from journeyman.rollout.parse import parse_turn, render_call
from journeyman.synthesis.base import Lesson, Studio, asked, not_right, refusal, signed, unread
from journeyman.tools.arguments import schema_error, spec_error
from journeyman.tools.documents import json_object
from journeyman.tools.search_index import SearchIndex
from journeyman.trajectory import Trajectory

FORMS = ("{what}: {slots}.", "I need this: {what}, with {slots}.", "Can you do this for me ({slots})? {what}.")
"""Hand-written goals for any tool: what it does, and its arguments."""
BARE = "Please do this: {what}."
"""For a tool that takes nothing."""
WRITE = """Think of users who want what this tool does, and don't know that it exists.
Tool: {spec}
Reply with a JSON object. Its "goals" are up to {most} sentences of such users, each different, in which values are left
open as {{parameter}}; all of {required} stand in each. Its "values" are up to {most} values for each parameter.
{{"goals": ["..."], "values": {{"parameter": [...]}}}}"""
SHOWN = """Reply with the calls alone, without a word to the user. This is how such goals are met:
{examples}"""
MOST_WRITTEN, LONGEST, MOST_INSTANCES, MOST_TOOLS = 8, 300, 60, 8
"""Goals and values of a writer's, characters of a goal, instances of a template, tools of a lesson (all ours)."""
NUMBERS = (2, 3, 5, 8, 12, 20)
"""For integers and numbers that a schema says nothing of (ours)."""
_SLOT = re.compile(r"\{(\w+)\}")
_SENTENCE = re.compile(r"(?<=\w)\.(?:\s|$)|\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A goal and the calls that meet it, with slots `{name}` in both."""

    goal: str
    calls: tuple[ToolCall, ...]
    """An argument that is a slot alone takes its value as it is, other texts take it as text."""
    values: Mapping[str, Sequence[Any]]
    """What each slot may be."""

    @property
    def digest(self) -> str:
        """Of goal and calls, whatever the values."""
        return hashlib.sha256(json.dumps([self.goal, list(map(_plain, self.calls))]).encode()).hexdigest()[:16]

    def held_out(self, share: float) -> bool:
        """Whether it is among the share of all templates that is never taught, whatever the seed."""
        return int(self.digest, 16) / 16**16 < share


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A goal and the calls that meet it."""

    goal: str
    calls: tuple[ToolCall, ...]
    template: str = ""
    """Digest of the template that it was made of."""


async def from_schemas(
    lesson: Lesson,
    studio: Studio,
    *,
    problems: Count = 4,
    demonstrations: Count = 3,
    tries: Count = 1,
    held_out: Share = 0.1,
    templates: list[dict[str, Any]] | None = None,
    writer: bool = False,
) -> Sequence[Lesson]:
    """Goal templates x value pools x call templates give verified problems; the nearest of them are demonstrations.
    ToolBench (#32, derived): data by program, a retriever of demonstrations (3, their own number), calls alone.

    Templates come from the schemas of the lesson's tools (values: enums, examples, defaults, ranges, and what the
    lesson's own accepted calls have), from `templates`, `{"goal": "Weather in {city}?", "calls": [{"name",
    "arguments": {"city": "{city}"}}], "values": {"city": [...]}}` for tools that the lesson has, and with `writer` from
    a writer, tool by tool. A required parameter without values makes no template. The problems are of the family
    `calls`, come behind the lesson, which stays, and carry the digest of their `template`; the share `held_out` of all
    templates is never taught, and wordings of one call share their key. The teacher is shown the nearest pairs by
    BM25, none with the goal or the calls asked for. Attempts that are wrong, or say anything beside calls and thoughts,
    are refused. Forms, values and bounds are ours.
    """
    specs = specs_of(lesson.problem)
    plain = [spec for spec in specs if readable(spec)][:MOST_TOOLS]
    known = [one for spec in plain for one in templates_of(spec, _known_values(lesson.problem))]
    known += [one for row in templates or () if (one := _template(row)) and _offered(one, specs)]
    faults = list[Trajectory]()
    for spec in plain if writer else ():
        written, fault = await _written(spec, lesson.problem, studio)
        known += written
        faults += fault
    rng = random.Random(studio.seed_of("from_schemas", lesson.problem.id))
    taught = [one for one in known if not one.held_out(held_out)]
    bank = [pair for one in taught for pair in islice(instances(one, rng), MOST_INSTANCES)]
    made = [lesson.taking(lesson.trajectories, faults)]
    for pair, problem in islice(_problems(bank, specs, studio, rng), problems):
        hint = SHOWN.format(examples="\n".join(map(_told, nearest(pair, bank, demonstrations))))
        made.append(await _attempted(problem, studio, hint, tries, **{"from": [lesson.problem.id]}))
    return made


def readable(spec: Mapping[str, Any]) -> bool:
    """Whether a spec is one by the book; what it refers to elsewhere is never fetched."""
    return not spec_error(spec) and '"$ref"' not in json.dumps(spec)


def templates_of(spec: Mapping[str, Any], values: Mapping[str, Sequence[Any]] | None = None) -> list[Template]:
    """Templates of a tool by its (readable) schema: with the required parameters, and with all that have values."""
    function = spec["function"]
    schema = function.get("parameters") or {}
    required = list(schema.get("required") or ())
    pools = {
        name: values_of(about, (values or {}).get(name, ()))
        for name, about in _properties(schema).items()
        if re.fullmatch(r"\w+", name)  # others can't stand in a slot
    }
    if any(not pools.get(name) for name in required):
        return []
    what = _SENTENCE.split(function["description"].strip())[0]
    chosen = dict.fromkeys((tuple(required), tuple(name for name in pools if pools[name])))
    return [
        _by_form(form, what, function["name"], {name: pools[name] for name in names})
        for names in chosen
        for form in (FORMS if names else (BARE,))
    ]


def _by_form(form: str, what: str, tool: str, pools: Mapping[str, Sequence[Any]]) -> Template:
    slots = ", ".join(f"{name.replace('_', ' ').strip()} {{{name}}}" for name in pools)
    goal = form.replace("{what}", what.replace("{", "(").replace("}", ")")).replace("{slots}", slots)
    return Template(goal=goal, calls=(_slotted(tool, pools),), values=pools)


def _slotted(tool: str, names: Iterable[str]) -> ToolCall:
    return ToolCall(name=tool, arguments={name: f"{{{name}}}" for name in names})


def values_of(schema: Mapping[str, Any], known: Sequence[Any] = ()) -> list[Any]:
    """Values that a parameter's schema names or allows, those that are known first; none for texts without any."""
    listed = [schema[key] for key in ("enum", "examples") if isinstance(schema.get(key), list)]
    alone = [schema[key] for key in ("const", "default") if key in schema]
    named = [*known, *(value for values in listed for value in values), *alone]
    kind = schema.get("type")
    if kind == "boolean":
        named += [True, False]
    elif kind in ("integer", "number") and not listed:
        ends = [schema.get(key) for key in ("minimum", "maximum")]
        named = [*NUMBERS, *(end for end in ends if end not in NUMBERS)]
    elif kind == "array" and not named:
        items = values_of(schema.get("items") or {})
        named = [items[:1], items[:2]]
    return _fitting(named, schema)


def _fitting(values: Iterable[Any], schema: Mapping[str, Any]) -> list[Any]:
    """Those that fit a schema and say something, each once."""
    said = {json.dumps(value, sort_keys=True): value for value in values if value not in ("", None, [])}
    return [value for value in said.values() if not schema_error(schema, value)]


def instances(template: Template, rng: random.Random | None = None) -> Iterator[Pair]:
    """Every combination of values, filled in; with `rng` the pools are shuffled."""
    pools = [list(template.values[slot]) for slot in template.values]
    if rng:
        for pool in pools:
            rng.shuffle(pool)
    for chosen in product(*pools):
        values = dict(zip(template.values, chosen, strict=True))
        calls = tuple(
            ToolCall(name=call.name, arguments={key: _filled(one, values) for key, one in call.arguments.items()})
            for call in template.calls
        )
        yield Pair(goal=_text(template.goal, values), calls=calls, template=template.digest)


def _filled(argument: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(argument, Mapping):
        return {key: _filled(one, values) for key, one in argument.items()}
    if isinstance(argument, list):
        return [_filled(one, values) for one in argument]
    if not isinstance(argument, str):
        return argument
    whole = _SLOT.fullmatch(argument)
    return values[whole[1]] if whole else _text(argument, values)


def _text(text: str, values: Mapping[str, Any]) -> str:
    return _SLOT.sub(lambda found: _said(values[found[1]]), text)


def _said(value: Any) -> str:
    """A value in a sentence."""
    if isinstance(value, list):
        return " and ".join(map(_said, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def nearest(pair: Pair, bank: Sequence[Pair], count: int) -> list[Pair]:
    """The pairs whose goals fit best by BM25, best first; none with the same goal or the same calls, its twins."""
    goal, calls = question_form(pair.goal), list(map(_plain, pair.calls))
    others = [one for one in bank if question_form(one.goal) != goal and list(map(_plain, one.calls)) != calls]
    if not others:
        return []
    return [others[i] for i in SearchIndex([one.goal for one in others]).search(pair.goal, count)]


def only_calls(text: str) -> bool:
    """The style gate: calls that can be read, thoughts, and not a word besides."""
    parsed = parse_turn(text)
    return bool(parsed.calls) and not parsed.text


def _problems(
    bank: Sequence[Pair], specs: Sequence[Mapping[str, Any]], studio: Studio, rng: random.Random
) -> Iterator[tuple[Pair, Problem]]:
    """Problems of pairs in a random order, each goal once and none that is kept apart."""
    seen = {question_form(one.question) for one in studio.apart}
    for pair in rng.sample(bank, len(bank)):
        if (form := question_form(pair.goal)) in seen:
            continue
        seen.add(form)
        accepted = [_accepted(call, specs) for call in pair.calls]
        try:
            problem = call_problem(specs, [{"user": pair.goal, "accepted": accepted}])
        except BadRow:  # a schema that no grader can read
            continue
        key = problem_id(FAMILY, "", {"calls": list(map(_plain, pair.calls))})
        yield pair, replace(problem, data={**problem.data, "template": pair.template, "key": key})


def _accepted(call: ToolCall, specs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The call as the one that is right; what is optional and not said may be left out or have its default."""
    schema = next(s["function"].get("parameters") or {} for s in specs if s["function"]["name"] == call.name)
    left = {name: about for name, about in _properties(schema).items() if name not in call.arguments}
    free = {
        name: [*([as_accepted(about["default"])] if "default" in about else []), ""]
        for name, about in left.items()
        if name not in (schema.get("required") or ())
    }
    return {"name": call.name, "arguments": {key: [as_accepted(one)] for key, one in call.arguments.items()} | free}


async def _attempted(problem: Problem, studio: Studio, hint: str, tries: int, **more: Any) -> Lesson:
    """With the first attempt that is right and says no more than calls, if one is."""
    refused = list[Trajectory]()
    for number in range(tries):
        seed = studio.seed_of("from_schemas", problem.id, number)
        attempt = await studio.teacher.attempt(problem, seed=seed, hint=hint)
        made = signed(attempt, "from_schemas", attempt=number, template=problem.data["template"], **more)
        prose = "" if all(only_calls(turn.text) for turn in made.turns) else "says more than calls"
        if not (reason := not_right(made) or prose):
            return Lesson(problem=problem).taking([made], refused)
        refused.append(refusal(made, reason))
    return Lesson(problem=problem).taking([], refused)


async def _written(
    spec: Mapping[str, Any], problem: Problem, studio: Studio
) -> tuple[list[Template], list[Trajectory]]:
    """(templates that a writer makes for a tool, its reply where none of it can be used)."""
    function = spec["function"]
    schema = function.get("parameters") or {}
    slots = [f"{{{name}}}" for name in schema.get("required") or ()]
    asking = WRITE.format(spec=json.dumps(function), most=MOST_WRITTEN, required=", ".join(slots) or "none")
    seed = studio.seed_of("from_schemas", problem.id, function["name"])
    reply = await asked(studio.writer("from_schemas"), asking, seed=seed)
    made = read_written(json_object(reply), function["name"], schema, _known_values(problem))
    return made, [] if made else [unread(problem, reply, "no template that can be used", strategy="from_schemas")]


def read_written(
    reply: Mapping[str, Any], tool: str, schema: Mapping[str, Any], known: Mapping[str, Sequence[Any]]
) -> list[Template]:
    """The templates of a writer's reply that name all required parameters, and have values for all that they name."""
    goals, values = reply.get("goals"), reply.get("values")
    values = values if isinstance(values, dict) else {}
    pools = {}
    for name, about in _properties(schema).items():
        own = values.get(name)
        own = own[:MOST_WRITTEN] if isinstance(own, list) else []
        pools[name] = _fitting([*own, *values_of(about, known.get(name, ()))], about)
    made = []
    for goal in goals[:MOST_WRITTEN] if isinstance(goals, list) else ():
        if not isinstance(goal, str) or not goal.strip() or len(goal) > LONGEST:
            continue
        named = list(dict.fromkeys(_SLOT.findall(goal)))
        if set(schema.get("required") or ()) <= set(named) and all(pools.get(name) for name in named):
            used = {name: pools[name] for name in named}
            made.append(Template(goal=goal.strip(), calls=(_slotted(tool, used),), values=used))
    return made


def _template(row: Mapping[str, Any]) -> Template:
    """An option's template. Raises `ConfigError`."""
    try:
        calls = tuple(ToolCall(name=str(one["name"]), arguments=dict(one["arguments"])) for one in row["calls"])
        made = Template(
            goal=str(row["goal"]), calls=calls, values={key: list(one) for key, one in row["values"].items()}
        )
        next(instances(made))
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration) as error:
        raise ConfigError(
            f"not a template: {type(error).__name__}: {error}",
            place="synthesize.strategies: from_schemas",
            remedy='write {"goal", "calls": [{"name", "arguments"}], "values": {slot: [...]}}, a value for every slot',
        ) from None
    return made


def _offered(template: Template, specs: Sequence[Mapping[str, Any]]) -> bool:
    return {call.name for call in template.calls} <= {spec["function"]["name"] for spec in specs}


def specs_of(problem: Problem) -> list[Mapping[str, Any]]:
    """Of the tools that a problem offers."""
    if "specs" in problem.data:
        return list(problem.data["specs"])
    return [tool.spec() for tool in tools_named(problem.family, problem.tools, environment_of(problem)).values()]


def _known_values(problem: Problem) -> dict[str, list[Any]]:
    """Parameter -> the plain values that a `calls` problem accepts for it."""
    found: dict[str, list[Any]] = {}
    for turn in problem.data.get("turns", ()) if problem.family == FAMILY else ():
        for call in turn["accepted"]:
            for name, values in call["arguments"].items():
                found.setdefault(name, []).extend(v for v in values if v != "" and not isinstance(v, dict | list))
    return found


def _properties(schema: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    return {name: one for name, one in (schema.get("properties") or {}).items() if isinstance(one, Mapping)}


def _plain(call: ToolCall) -> dict[str, Any]:
    return {"name": call.name, "arguments": dict(call.arguments)}


def _told(pair: Pair) -> str:
    return "\n".join([f"Goal: {pair.goal}", *map(render_call, pair.calls)])
