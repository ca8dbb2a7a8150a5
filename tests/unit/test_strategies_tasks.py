"""Strategies that make tasks: constraints, schemas, masks, trees, demonstrations; what is taken is played and verified."""

import asyncio
import json
import math
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.environments import environment
from journeyman.environments.base import validate
from journeyman.environments.call_drafts import SPECS
from journeyman.environments.call_problems import as_call, call_problem, spec
from journeyman.errors import ConfigError
from journeyman.formats import import_path
from journeyman.llm import Scripted
from journeyman.problem import Problem
from journeyman.rollout.parse import render_call
from journeyman.rollout.search.values import quality_values, uct
from journeyman.synthesis.base import Lesson, Studio, Teacher
from journeyman.synthesis.courses import play
from journeyman.synthesis.strategies import build_strategy
from journeyman.synthesis.strategies.constraints import Constraint, constrained, constrained_problem, constraints_of
from journeyman.synthesis.strategies.masked import masked_spans
from journeyman.synthesis.strategies.privileged import (
    FACTS,
    milestone_reward,
    milestones_of,
    privileged,
    progress_of,
    told_ahead,
)
from journeyman.synthesis.strategies.schemas import (
    Pair,
    Template,
    from_schemas,
    instances,
    nearest,
    only_calls,
    readable,
    templates_of,
    values_of,
)
from journeyman.synthesis.strategies.trees import tree_search
from journeyman.synthesis.written import retold
from journeyman.trajectory import StopReason, ToolCall, Trajectory, to_row
from tests.unit.fakes import problem, some
from tests.unit.teachers import Asked, StubTeacher

PROBLEM = problem()  # What is 6 times 7?


def calls(name: str, **arguments: Any) -> str:
    return f"<think>I call it.</think>\n{render_call(ToolCall(name=name, arguments=arguments))}"


def computes(expression: str = "6*7") -> str:
    return calls("calculator", expression=expression)


def says(answer: str = "42") -> str:
    return f"<think>That is it.</think>\n<answer>{answer}</answer>"


def made_by(
    strategy: Callable[..., Awaitable[Sequence[Lesson]]],
    teacher: Teacher,
    chat: Scripted | None = None,
    *,
    of: Problem = PROBLEM,
    given: Sequence[Trajectory] = (),
    apart: Sequence[Problem] = (),
    **options: Any,
) -> list[Lesson]:
    studio = Studio(teacher=teacher, chat=chat, seed=3, problems=(of,), apart=apart)

    async def run() -> Sequence[Lesson]:
        return await strategy(Lesson(problem=of, trajectories=tuple(given)), studio, **options)

    return list(asyncio.run(run()))


def course_of(problem: Problem, mistake: str = "") -> list[str]:
    """The texts of one of the family's courses, whose answer doesn't come from what a tool says."""
    courses = environment(problem.family).courses(problem)
    course = next(one for one in courses if one.mistake == mistake)
    turns = [
        f"<think>{step.thought}</think>\n{render_call(step.call) if step.call else step.say}" for step in course.steps
    ]
    return turns if course.answer is None else [*turns, says(course.answer)]


def golden(request: Asked) -> list[str]:
    return course_of(request.problem)


def reasons(lesson: Lesson) -> list[str]:
    return [one.provenance["refused"] for one in lesson.refused]


def timeless(lessons: Iterable[Lesson]) -> list[Any]:
    """What two runs must have in common: all but how long a call took."""
    rows = [(one.problem, [to_row(t) for t in (*one.trajectories, *one.refused)]) for one in lessons]
    return [
        (of, [{**row, "turns": [{**turn, "results": [r["output"] for r in turn["results"]]} for turn in row["turns"]]}])
        for of, made in rows
        for row in made
    ]


# ---- constrained


def desk(tool: str, requests: int = 1) -> Problem:
    """The first problem of the bicycle desk with so many calls that change something, the first of them of this tool."""

    def changing(one: Problem) -> list[str]:
        names = [action["name"] for action in one.data["task"]["evaluation_criteria"]["actions"]]
        return [name for name in names if name.split("_")[0] in ("book", "cancel", "swap", "extend")]

    return next(one for one in some("desk", 60) if len(found := changing(one)) == requests and found[0] == tool)


def test_constrained_by_hand() -> None:
    [untouched, lesson] = made_by(constrained, StubTeacher(golden), of=desk("cancel_rental"))
    assert untouched == Lesson(problem=desk("cancel_rental"))
    rental, reason = constraints_of(lesson.problem)
    assert (rental.tool, rental.argument, reason.argument) == ("cancel_rental", "rental_id", "reason")
    # Exact to the checker, vague to the user: no id stands in anything that the user says or is told.
    assert re.fullmatch(r"R\d+", rental.value)
    assert not re.search(r"\b[RBC]\d", json.dumps(lesson.problem.data["task"]["user_scenario"]))
    assert re.search(r"my rental of a \w+ bicycle that I have booked", lesson.problem.question)
    [made] = lesson.trajectories
    assert (made.correct, made.score, made.stop_reason) == (True, 1.0, StopReason.DONE)
    assert made.provenance["strategies"] == ["constrained"]
    assert made.provenance["from"] == [untouched.problem.id]
    assert lesson.refused == ()


@pytest.mark.parametrize(
    ("mistake", "share", "db"),
    [
        ("changes nothing", 0.0, 0.0),
        # The reason is the right one, the rental is not: 1 of 2.
        ("changes the wrong record", 0.5, 0.0),
        # Both hold, and a booking that nobody asked for.
        ("changes more than was asked", 1.0, 0.0),
        # Both hold, and nothing else is changed; the customer isn't told what is paid back.
        ("never says the amount", 1.0, 1.0),
    ],
)
def test_a_dialogue_that_misses_a_constraint_or_does_more_is_refused(mistake: str, share: float, db: float) -> None:
    teacher = StubTeacher(lambda request: course_of(request.problem, mistake))
    _, lesson = made_by(constrained, teacher, of=desk("cancel_rental"), tries=2)
    assert (lesson.trajectories, reasons(lesson)) == ((), ["wrong", "wrong"])
    assert [(one.score, one.score_parts["constraints"], one.score_parts["db"]) for one in lesson.refused] == [
        (share, share, db)
    ] * 2


def test_constrained_problems_are_problems_of_the_desk_like_any_other() -> None:
    made = [constrained_problem(one) for one in some("desk", 150)]
    validate(environment("desk"), made)
    assert not any(re.search(r"\b[RBC]\d", json.dumps(one.data["task"]["user_scenario"])) for one in made)
    assert len({one.id for one in made}) == len(made)
    handed_over = [one for one in made if not constraints_of(one)]
    assert handed_over and all("tandem" in one.question for one in handed_over)


def test_an_extension_counts_once_in_the_state_that_is_wanted() -> None:
    """Constraints stand among the actions that make that state; alone they must change nothing."""
    of = constrained_problem(desk("extend_rental"))
    one, days = constraints_of(of)
    assert (one.argument, days.argument) == ("rental_id", "days")
    made = asyncio.run(play(of, environment("desk").courses(of)[0], source="test", provenance={}))
    assert (made.correct, made.score_parts["db"], made.score_parts["action"]) == (True, 1.0, 1.0)


def test_constrained_passes_over_other_families_and_repeats_itself() -> None:
    assert made_by(constrained, StubTeacher(()), of=PROBLEM) == [Lesson(problem=PROBLEM)]
    one, again = (made_by(constrained, StubTeacher(golden), of=desk("swap_bicycle")) for _ in range(2))
    assert timeless(one) == timeless(again)
    assert build_strategy("constrained(tries=2, reword=True)")


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("Cancel it, please.", "no request of a fitting length"),
        ("<request></request>", "no request of a fitting length"),
        ("<request>I'd like to cancel R7.</request>", "a request that names an id"),
        ("<request>I'd like to drop 2 bookings.</request>", "a request with other numbers: 2"),
    ],
)
def test_a_writers_request_that_cannot_stand_is_refused_and_ours_is_kept(reply: str, reason: str) -> None:
    _, plain = made_by(constrained, StubTeacher(golden), of=desk("cancel_rental"))
    _, lesson = made_by(constrained, StubTeacher(golden), Scripted([reply]), of=desk("cancel_rental"), reword=True)
    assert lesson.problem == plain.problem and len(lesson.trajectories) == 1
    assert (reasons(lesson), lesson.refused[0].turns[0].text) == ([reason], reply)


def test_a_writers_request_takes_the_place_of_ours() -> None:
    chat = Scripted(["<request>That thing I booked? I don't need it any more.</request>"])
    _, lesson = made_by(constrained, StubTeacher(golden), chat, of=desk("cancel_rental"), reword=True)
    assert re.fullmatch(r"Hello, this is .+ at branch \d+\. That thing I booked\? .+", lesson.problem.question)
    assert lesson.trajectories[0].opening[-1].content == lesson.problem.question
    with pytest.raises(ConfigError, match="constrained needs a model that writes"):
        made_by(constrained, StubTeacher(golden), of=desk("cancel_rental"), reword=True)


def test_constraints_are_the_arguments_of_all_calls_that_change_something() -> None:
    made = constraints_of(constrained_problem(desk("book_bicycle", requests=2)))
    assert [(one.tool, one.argument) for one in made] == [
        *(("book_bicycle", name) for name in ("customer_id", "bicycle_id", "days")),
        *(("extend_rental", name) for name in ("rental_id", "days")),
    ]
    assert all(isinstance(one, Constraint) and one.value for one in made)


# ---- from_schemas

CONVERT = call_problem([SPECS["convert"]], [{"user": "Sing a song.", "accepted": []}])
TEMPLATES = [
    {
        "goal": goal,
        "calls": [{"name": "convert", "arguments": {"amount": "{amount}", "source": "{source}", "target": "EUR"}}],
        "values": {"source": ["USD", "JPY", "KES", "GBP"], "amount": [1, 2.5, 30, 400, 5000]},
    }
    for goal in (
        "How much are {amount} {source} in EUR?",
        "Turn {amount} {source} into EUR.",
        "{source} {amount} in EUR",
    )
]


def gold_calls(request: Asked) -> list[str]:
    """All right calls in one turn."""
    accepted = request.problem.data["turns"][0]["accepted"]
    return ["\n".join(render_call(ToolCall(**as_call(one))) for one in accepted)]


def test_from_schemas_by_hand() -> None:
    teacher = StubTeacher(gold_calls)
    # 3 templates x 4 x 5 values = 60 tasks; the schema itself gives none: two texts are required that it names no values of.
    first, *made = made_by(from_schemas, teacher, of=CONVERT, templates=TEMPLATES, problems=100, held_out=0.0)
    assert first == Lesson(problem=CONVERT)
    assert len(made) == len({one.problem.question for one in made}) == 60
    assert all(len(one.trajectories) == 1 and one.trajectories[0].correct and not one.refused for one in made)
    assert len({one.problem.data["template"] for one in made}) == 3
    assert len({one.problem.data["key"] for one in made}) == 20  # wordings of one call stay on one side of a split
    for request, lesson in zip(teacher.asked, made, strict=True):
        goals = re.findall(r"^Goal: (.+)$", request.hint, re.MULTILINE)
        assert len(goals) == 3 and lesson.problem.question not in goals
        own = gold_calls(request)[0]
        assert own not in request.hint  # no twin in other words
        [trajectory] = lesson.trajectories
        assert "Goal:" not in json.dumps(to_row(trajectory))
        assert trajectory.provenance["template"] == lesson.problem.data["template"]
        assert trajectory.provenance["from"] == [CONVERT.id]


def test_retrieval_leaves_out_the_goal_itself_and_its_twins() -> None:
    template = Template(
        goal="Weather in {city}?",
        calls=(ToolCall(name="get_weather", arguments={"city": "{city}"}),),
        values={"city": ["Cork", "Ghent", "Haifa"]},
    )
    bank = list(instances(template))
    twin = Pair(goal="Is it raining in Cork?", calls=bank[0].calls)
    assert {one.goal for one in nearest(bank[0], [*bank, twin], 3)} == {one.goal for one in bank[1:]}
    assert nearest(twin, [bank[0], twin], 3) == []
    # By words: "rain" stands in one goal alone.
    rain = Pair(goal="Will rain come to Ghent?", calls=bank[1].calls)
    assert nearest(Pair(goal="rain", calls=()), [*bank, rain], 1) == [rain]


def test_the_style_gate_takes_calls_alone() -> None:
    call = render_call(ToolCall(name="convert", arguments={}))
    assert only_calls(call) and only_calls(f"<think>Now.</think>\n{call}\n{call}")
    for text in ("Sure! convert(1)", f"Sure! {call}", "<answer>1</answer>", "<tool_call>{}</tool_call>", ""):
        assert not only_calls(text)
    teacher = StubTeacher(lambda request: [f"Sure! {gold_calls(request)[0]}"])
    _, lesson = made_by(from_schemas, teacher, of=CONVERT, templates=TEMPLATES, problems=1, held_out=0.0)
    assert lesson.refused[0].correct and reasons(lesson) == ["says more than calls"]


def test_a_wrong_call_is_refused_and_tried_again() -> None:
    teacher = StubTeacher(
        lambda request: [calls("convert", amount=1)] if len(teacher.asked) == 1 else gold_calls(request)
    )
    _, lesson = made_by(from_schemas, teacher, of=CONVERT, templates=TEMPLATES, problems=1, tries=3, held_out=0.0)
    assert reasons(lesson) == ["wrong (done)"] or reasons(lesson) == ["wrong"]
    assert [one.provenance["attempt"] for one in lesson.trajectories] == [1]


def test_templates_that_are_held_out_are_never_taught() -> None:
    digests = [Template(goal=row["goal"], calls=(), values={}) for row in TEMPLATES]
    assert not any(one.held_out(0.0) for one in digests) and all(one.held_out(1.0) for one in digests)
    taught = {
        share: {
            one.problem.data["template"]
            for one in made_by(
                from_schemas, StubTeacher(gold_calls), of=CONVERT, templates=TEMPLATES, problems=60, held_out=share
            )[1:]
        }
        for share in (0.0, 0.5, 1.0)
    }
    assert taught[1.0] == set() and taught[0.5] <= taught[0.0]
    # The digest as a share of all digests, in hexadecimal: 0.5 is 8000...
    assert taught[0.5] == {digest for digest in taught[0.0] if digest >= "8"}


def test_problems_that_are_kept_apart_are_not_made() -> None:
    everything = made_by(
        from_schemas, StubTeacher(gold_calls), of=CONVERT, templates=TEMPLATES, problems=60, held_out=0.0
    )
    kept = everything[1].problem
    shouted = replace(kept, question=kept.question.upper())
    fewer = made_by(
        from_schemas,
        StubTeacher(gold_calls),
        of=CONVERT,
        templates=TEMPLATES,
        problems=60,
        held_out=0.0,
        apart=[shouted],
    )
    assert {one.problem.question for one in everything[1:]} - {one.problem.question for one in fewer} == {kept.question}


def test_values_come_from_the_schema() -> None:
    assert values_of({"type": "string", "enum": ["a", "b"]}) == ["a", "b"]
    assert values_of({"type": "string", "default": "x", "examples": ["y"]}, ["z"]) == ["z", "y", "x"]
    assert values_of({"type": "string"}) == []
    assert values_of({"type": "integer", "minimum": 10, "maximum": 15}) == [12, 10, 15]
    assert values_of({"type": "boolean"}) == [True, False]
    assert values_of({"type": "array", "items": {"enum": ["a", "b"]}}) == [["a"], ["a", "b"]]
    assert values_of({"type": "integer"}, ["seven"]) == [2, 3, 5, 8, 12, 20]
    tool = spec("rain", "How much it rains. In mm.", {
        "type": "object", "required": ["day"],
        "properties": {"day": {"enum": ["Monday"]}, "hour": {"enum": [1]}, "place": {"type": "string"}},
    })  # fmt: skip
    goals = [next(instances(one)).goal for one in templates_of(tool)]
    assert goals[0] == "How much it rains: day Monday."
    assert goals[3] == "How much it rains: day Monday, hour 1."
    assert len(goals) == 6
    assert not readable(spec("a", "b", {"type": "object", "properties": {"c": {"$ref": "https://example.org/x"}}}))


WRITTEN = {
    "goals": ["Is it nice in {city}?", "No slot here.", "What of {city} in {country}?", 7, "x" * 400],
    "values": {"city": ["Cork", 5, ""]},
}
WEATHER = call_problem([SPECS["get_weather"]], [{"user": "Sing a song.", "accepted": []}])


def test_a_writers_templates_are_held_against_the_schema() -> None:
    chat = Scripted([f"Here you are: {json.dumps(WRITTEN)}"])
    lessons = made_by(from_schemas, StubTeacher(gold_calls), chat, of=WEATHER, problems=9, held_out=0.0, writer=True)
    # Of the five goals one names all that is required and nothing that isn't there; of the values one is a text.
    assert [one.problem.question for one in lessons[1:]] == ["Is it nice in Cork?"]
    [call] = lessons[1].trajectories[0].calls
    assert dict(call.arguments) == {"city": "Cork"}
    # What is optional and wasn't asked for may be there by its default only; `unit` has none, and may be left out.
    assert lessons[1].problem.data["turns"][0]["accepted"][0]["arguments"]["unit"] == [""]


@pytest.mark.parametrize("reply", ["", "no", "[]", '{"goals": 3}', '{"goals": ["{city}"], "values": {"city": "Cork"}}'])
def test_a_writers_reply_that_gives_no_template_is_refused(reply: str) -> None:
    [lesson] = made_by(from_schemas, StubTeacher(()), Scripted([reply]), of=WEATHER, writer=True)
    assert reasons(lesson) == ["no template that can be used"]
    assert (lesson.refused[0].turns[0].text, lesson.refused[0].correct) == (reply, None)


def test_from_schemas_makes_problems_of_other_families_tools_and_repeats_itself() -> None:
    [of] = some("lookup", 1)
    assert len(made_by(from_schemas, StubTeacher(gold_calls), of=of)) == 1  # a search's query has no values
    [of] = [one for one in some("calls", 40) if "Start a timer" in one.question and one.min_calls == 1][:1]
    one, again = (made_by(from_schemas, StubTeacher(gold_calls), of=of) for _ in range(2))
    assert timeless(one) == timeless(again) and len(one) == 5
    assert {call.name for lesson in one[1:] for t in lesson.trajectories for call in t.calls} <= {
        "set_timer",
        "convert",
    }


def test_schemas_of_bfcl_give_problems_whose_gold_calls_are_right(shared_data: Path) -> None:
    problems = import_path("bfcl", shared_data / "bfcl").problems[::40]
    made = [made_by(from_schemas, StubTeacher(gold_calls), of=one, problems=2)[1:] for one in problems]
    assert sum(map(len, made)) >= len(problems)  # two of most tools; none where texts are required
    assert all(lesson.trajectories and not lesson.refused for lessons in made for lesson in lessons)


@pytest.mark.parametrize("row", [{}, {"goal": "a", "calls": [], "values": {"b": []}}, {**TEMPLATES[0], "values": {}}])
def test_an_option_that_is_no_template_is_refused(row: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="not a template"):
        made_by(from_schemas, StubTeacher(()), of=CONVERT, templates=[row])


# ---- masked_spans

PAGES = [
    "The engineer Ada Byron met Charles Babbage in Paris in 1833.",
    "Later on Charles Babbage went to Paris.",
    "In the year 1833 she was called Ada Byron by all.",
]
TEXT = problem(data={"corpus": PAGES})


def fills(*spans: str) -> Callable[[Asked], list[str]]:
    return lambda request: [calls("search", query="who met whom"), f"<answer>{json.dumps(list(spans))}</answer>"]


def test_masked_spans_by_hand() -> None:
    first, *made = made_by(masked_spans, StubTeacher(golden), of=TEXT)
    assert first == Lesson(problem=TEXT)
    # The first page has four spans that another page has, the others two and three at most: k = 1 .. 4 of the first.
    assert [one.problem.data["masks"] for one in made] == [1, 2, 3, 4]
    hardest = made[-1].problem
    assert json.loads(hardest.answer) == ["Ada Byron", "Charles Babbage", "Paris", "1833"]
    assert hardest.question.endswith("The engineer [MASK 1] met [MASK 2] in [MASK 3] in [MASK 4].")
    assert hardest.data["corpus"] == PAGES[1:]
    for lesson in made:
        [trajectory] = lesson.trajectories
        assert (trajectory.correct, trajectory.family, lesson.refused) == (True, "masksearch", ())
        assert trajectory.provenance["masks"] == lesson.problem.data["masks"] == len(trajectory.calls)
        shown = "".join(result.output for turn in trajectory.turns for result in turn.results)
        assert PAGES[0] not in shown and (PAGES[1] in shown or PAGES[2] in shown)


def test_a_span_that_is_missing_and_a_guess_are_refused() -> None:
    teacher = StubTeacher(fills("Ada Byron", "Charles Babbage", "Rome", "1833"))
    *_, hardest = made_by(masked_spans, teacher, of=TEXT, tries=2)
    assert (hardest.trajectories, reasons(hardest)) == ((), ["wrong", "wrong"])
    assert [one.score_parts["fill"] for one in hardest.refused] == [0.75, 0.75]
    guesser = StubTeacher(lambda request: [f"<answer>{request.problem.answer}</answer>"])
    *_, hardest = made_by(masked_spans, guesser, of=TEXT, tries=1)
    assert hardest.refused[0].correct and reasons(hardest) == ["filled without a search"]


def test_pages_are_those_that_the_lessons_calls_showed() -> None:
    [of] = [one for one in some("lookup", 20) if one.min_calls == 2][:1]
    shown = asyncio.run(play(of, environment("lookup").courses(of)[0], source="log", provenance={}))
    first, *made = made_by(masked_spans, StubTeacher(golden), of=of, given=[shown])
    assert first.trajectories == (shown,) and made
    assert made[0].trajectories[0].provenance["from"] == [shown.id]
    assert "[MASK 1]" in made[0].problem.question
    assert made_by(masked_spans, StubTeacher(golden), of=of) == [Lesson(problem=of)]


def test_masked_spans_attempts_problems_of_the_family_and_repeats_itself() -> None:
    [of] = some("masksearch", 1)
    [lesson] = made_by(masked_spans, StubTeacher(golden), of=of)
    assert lesson.problem == of and lesson.trajectories[0].correct
    one, again = (made_by(masked_spans, StubTeacher(golden), of=TEXT, masks=2) for _ in range(2))
    assert timeless(one) == timeless(again) and len(one) == 3


def test_a_writer_chooses_the_spans() -> None:
    chat = Scripted(["- Paris\n- Ada Byron\n- Berlin"])
    _, *made = made_by(masked_spans, StubTeacher(golden), chat, of=TEXT, choose="writer")
    assert [json.loads(one.problem.answer) for one in made][-1] == ["Ada Byron", "Paris"]
    [lesson] = made_by(masked_spans, StubTeacher(()), Scripted(["I'd rather not."]), of=TEXT, choose="writer")
    assert reasons(lesson) == ["no span is named that stands in the page and in another"]


# ---- tree_search


def test_tree_search_by_hand() -> None:
    plan = [
        [computes("6+7"), says("13")],
        [computes("6*7"), says()],
        [says()],
        [computes("42"), says()],
    ]
    teacher = StubTeacher(plan)
    [lesson] = made_by(tree_search, teacher, budget=4, width=2)
    # Attempts 1 and 2 fill the root's two places. Then UCT: 0 + 1.4 sqrt(ln 2) = 1.17 against 1 + 1.17; then
    # 0 + 1.4 sqrt(ln 3) = 1.47 against 1 + 1.4 sqrt(ln 3 / 2) = 2.04: both go on behind 6*7.
    assert [[turn.text for turn in one.start] for one in teacher.asked] == [[], [], [computes()], [computes()]]
    [made] = lesson.trajectories
    assert [turn.text for turn in made.turns] == [computes(), says()]
    # One turn is left after the first, none after the second: 1/2, then 1/2 + (1/2) / 1.
    assert made.provenance["step_values"] == [0.5, 1.0]
    assert (made.provenance["strategies"], made.provenance["forked_at"]) == (["tree_search"], 0)
    wrong, same, longer = lesson.refused
    assert reasons(lesson) == ["wrong", "another right trace is kept", "another right trace is kept"]
    # No right trace goes on from 6+7, and two turns are needed at the beginning: max(0 - 1/3, 0) = 0, and again.
    assert wrong.provenance["step_values"] == [0.0, 0.0]
    # 1/2; one turn is left still: 1/2 + (1/2) / 2; 3/4 + (1/4) / 1.
    assert longer.provenance["step_values"] == [0.5, 0.75, 1.0]
    assert (longer.provenance["from"], same.provenance["forked_at"]) == ([made.id], 1)


def test_quality_values_by_hand() -> None:
    # v_1 = 0 + 1 / 3; v_2 = 1/3 + (2/3) / 2; v_3 = 2/3 + (1/3) / 1.
    assert quality_values([2, 1, 0], [False] * 3) == pytest.approx([1 / 3, 2 / 3, 1.0])
    # A wrong step takes (2/3) / 3 off: 1/9; then 1/9 + (8/9) / 2 = 5/9.
    assert quality_values([2, 2, 1], [False, True, False]) == pytest.approx([1 / 3, 1 / 9, 5 / 9])
    assert uct(1.0, 2, 3, 1.4) == pytest.approx(0.5 + 1.4 * math.sqrt(math.log(3) / 2))


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=12))
def test_quality_values_stay_within_0_and_1(steps: list[tuple[int, bool]]) -> None:
    values = quality_values([m for m, _ in steps], [r for _, r in steps])
    assert all(-1e-9 <= one <= 1 + 1e-9 for one in values)
    for before, (_, wrong), after in zip([0.0, *values], steps, values, strict=False):
        assert after <= before if wrong else after >= before - 1e-9


def test_a_tree_without_a_place_to_go_on_from_is_over() -> None:
    teacher = StubTeacher(lambda request: [says()])
    [lesson] = made_by(tree_search, teacher, budget=9, width=1)
    assert len(teacher.asked) == len(lesson.trajectories) == 1


def test_without_a_right_trace_nothing_is_taken_and_nothing_is_valued() -> None:
    [lesson] = made_by(tree_search, StubTeacher(lambda request: [computes("6+7"), says("13")]), budget=3)
    assert (lesson.trajectories, reasons(lesson)) == ((), ["wrong"] * 3)
    assert not any("step_values" in one.provenance for one in lesson.refused)


def test_a_writers_value_leads_the_search() -> None:
    def graded(reply_of: Callable[[str], str]) -> tuple[StubTeacher, Lesson]:
        plan = StubTeacher([[computes("6+7"), says("13")], [computes("6*7"), says()], [says()]])
        chat = Scripted(lambda messages: reply_of(messages[0].content))
        return plan, made_by(tree_search, plan, chat, budget=3, width=2, value="writer")[0]

    teacher, lesson = graded(lambda shown: f"<value>{0.9 if '6+7' in shown else 0.1}</value>")
    assert [turn.text for turn in teacher.asked[2].start] == [computes("6+7")]  # it is led astray, and still verified
    assert [one.correct for one in lesson.trajectories] == [True]
    teacher, lesson = graded(lambda shown: "quite likely")
    assert [turn.text for turn in teacher.asked[2].start] == [computes("6*7")]  # by the verdicts
    assert reasons(lesson).count("a value that can't be read") == 3 and len(lesson.trajectories) == 1
    _, lesson = graded(lambda shown: "<value>1.5</value>")
    assert "a value that can't be read" in reasons(lesson)


def test_tree_search_repeats_itself_and_says_no_word_of_it() -> None:
    def run() -> list[Lesson]:
        said = iter([[computes("6+7"), says("13")], [computes(), says()], [says()]])
        return made_by(tree_search, StubTeacher(lambda request: next(said)), budget=3, width=2)

    assert timeless(run()) == timeless(run())
    assert build_strategy("tree_search(budget=4, value='rollouts')")


# ---- privileged

[HOPS] = [one for one in some("lookup", 20) if one.min_calls == 2][:1]
SHOWN = asyncio.run(play(HOPS, environment("lookup").courses(HOPS)[0], source="log", provenance={}))
GOLD = [turn.text for turn in SHOWN.turns]


def led(request: Asked) -> list[str]:
    """The teacher knows the way; the student looks up something that isn't there and gives up."""
    if request.hint:
        done = [turn.text for turn in request.start]
        return GOLD[len([text for text in done if text in GOLD]) :]
    return [calls("search", query="nothing of the kind"), says("a cat")][len(request.start) :]


def test_privileged_by_hand() -> None:
    teacher = StubTeacher(led)
    untouched, lesson = made_by(privileged, teacher, of=HOPS, given=[SHOWN], rounds=1, first=0.0)
    assert untouched.trajectories == (SHOWN,)
    milestones = lesson.problem.data["goals"]
    assert [one["tool"] for one in milestones] == ["search", "search"] and milestones == milestones_of(SHOWN)
    # With a share of 0 all states come from the student: the beginning, and behind its useless search.
    assert [len(one.start) for one in teacher.asked] == [0, 0, 1, 1]
    assert [bool(one.hint) for one in teacher.asked] == [True, False, True, False]
    at_start, astray = lesson.trajectories
    assert [turn.text for turn in at_start.turns] == GOLD
    assert [turn.text for turn in astray.turns] == [calls("search", query="nothing of the kind"), *GOLD]
    assert (at_start.correct, astray.correct) == (True, True)
    assert (at_start.provenance["unlearned_turns"], astray.provenance["unlearned_turns"]) == ([], [0])
    assert (astray.provenance["actors"], astray.provenance["from"]) == (["student"], [SHOWN.id])
    assert at_start.provenance["milestone_reward"] == 1.0
    assert reasons(lesson) == ["the student's attempt: only its states are visited"] * 2
    # No row holds what only the teacher was told.
    header = FACTS.split("{")[0].strip()
    rows = json.dumps([to_row(one) for one in (*lesson.trajectories, *lesson.refused)], default=str)
    assert header in teacher.asked[0].hint and header not in rows and "milestones" not in rows


def test_milestone_reward_by_hand() -> None:
    assert milestone_reward(False, 3, 4) == 0.0  # nothing without the preconditions
    assert milestone_reward(True, 2, 4) == 0.75  # 0.5 + 0.5 * 2/4
    assert milestone_reward(True, 4, 4) == 1.0
    goals = milestones_of(SHOWN)
    first_only = replace(SHOWN, turns=SHOWN.turns[:1])
    assert progress_of(first_only, goals) == 0.75
    assert progress_of(first_only, goals[::-1]) == 0.5  # reached in order only
    assert progress_of(replace(SHOWN, turns=()), goals) == 0.0


def test_a_label_that_says_what_no_tool_has_shown_is_refused() -> None:
    [first, second] = [call.arguments["query"] for call in SHOWN.calls]
    ahead = [calls("search", query=second), calls("search", query=first), GOLD[-1]]
    telling = [f"<think>The milestones say so.</think>{GOLD[0].partition('</think>')[2]}", *GOLD[1:]]
    for texts in (ahead, telling):
        teacher = StubTeacher(lambda request, texts=texts: texts[len(request.start) :])
        _, lesson = made_by(privileged, teacher, of=HOPS, given=[SHOWN], rounds=1, states=1)
        assert lesson.trajectories == () and lesson.refused[0].correct
        assert reasons(lesson)[0].startswith("says what no tool has shown yet: ")


def test_what_was_shown_before_may_be_said() -> None:
    text = [{"tool": "search", "answer": "Easthaven is a town of 1,200. The port: Westhaven."}]
    told = {
        "Then it is.": "",
        "I ask about Easthaven.": "Easthaven",  # at the head of a sentence, too
        "1200 people": "1,200",
        "to WESTHAVEN": "Westhaven",
        "120 people": "",
    }
    for words, ahead in told.items():
        one = replace(SHOWN, turns=(replace(SHOWN.turns[-1], text=words),))
        assert told_ahead(one, text) == ahead
        assert told_ahead(one, text, start=1) == ""  # the student's turns are not learned
        assert told_ahead(replace(one, question=text[0]["answer"]), text) == ""


def test_a_wrong_label_is_refused() -> None:
    teacher = StubTeacher(lambda request: [*GOLD[:-1], says("a cat")][len(request.start) :])
    _, lesson = made_by(privileged, teacher, of=HOPS, given=[SHOWN], rounds=1, states=1)
    assert (lesson.trajectories, reasons(lesson)) == ((), ["wrong"])


def test_in_the_first_round_all_turns_are_the_teachers_by_default() -> None:
    teacher = StubTeacher(led)
    _, lesson = made_by(privileged, teacher, of=HOPS, given=[SHOWN], rounds=1)
    assert all(one.hint for one in teacher.asked) and [len(one.start) for one in teacher.asked] == [0, 1, 2]
    assert len(lesson.trajectories) == 1  # the later labels say the same
    _, lesson = made_by(privileged, StubTeacher(led), of=HOPS, given=[SHOWN], rounds=3)
    shares = {
        one.provenance["round"]: one.provenance["teacher_share"] for one in (*lesson.trajectories, *lesson.refused)
    }
    assert all(share == 0.5**number for number, share in shares.items())


def test_only_right_demonstrations_with_results_become_tasks_each_once() -> None:
    wrong = asyncio.run(retold(HOPS, [GOLD[0], says("a cat")], source="log"))
    idle = asyncio.run(retold(HOPS, [GOLD[-1]], source="log"))
    assert idle.correct and not wrong.correct
    made = made_by(privileged, StubTeacher(led), of=HOPS, given=[wrong, idle, SHOWN, SHOWN], rounds=1)
    assert len(made) == 2


def test_privileged_repeats_itself() -> None:
    one, again = (made_by(privileged, StubTeacher(led), of=HOPS, given=[SHOWN], rounds=3) for _ in range(2))
    assert timeless(one) == timeless(again)
    assert build_strategy("privileged(rounds=1, first=0.5)")
