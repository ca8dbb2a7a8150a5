"""Problem families: gold courses are right, mistakes are wrong, and splits share no question."""

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.config import GeneratedProblems
from journeyman.environments import ENVIRONMENTS, Course, Environment, Step, environment, tools_named
from journeyman.environments.arithmetic import Arithmetic
from journeyman.environments.base import same_answer, validate
from journeyman.environments.lookup import Lookup
from journeyman.environments.tables import Tables
from journeyman.errors import ConfigError, UserError
from journeyman.problem import Problem, problem_id
from journeyman.synthesis.stage import generate_splits
from journeyman.trajectory import ToolCall
from tests.unit.fakes import call, some

QUICKSTART = ("arithmetic", "lookup", "tables")
GENERATED = [name for name, make in ENVIRONMENTS.items() if hasattr(make, "generate") and name != "openenv"]
"""Those that make problems by themselves: OpenEnv needs a server."""


@pytest.mark.parametrize("family", ENVIRONMENTS)
def test_every_family_is_valid(family: str) -> None:
    made: Environment = environment(family)
    assert made.name == family and made is environment(family)
    try:
        made.validate()
    except UserError as error:
        if "bubblewrap" in str(error):
            pytest.skip(str(error))
        raise


@pytest.mark.parametrize("family", QUICKSTART)
def test_a_familys_gold_courses_are_right_whatever_the_seed(family: str) -> None:
    validate(environment(family), some(family, 100, seed=1))


def test_answers_worked_out_by_hand() -> None:
    by_operator = {p.data["operator"]: p for p in some("arithmetic", 50)}
    for operator, problem in by_operator.items():
        a, b = problem.data["a"], problem.data["b"]
        assert problem.answer == str({"+": a + b, "-": a - b, "*": a * b}[operator])
        assert a >= b >= 10 and str(a) in problem.question and str(b) in problem.question
    assert set(by_operator) == {"+", "-", "*"}


def test_two_hops_end_where_the_second_search_says() -> None:
    [problem] = islice((p for p in some("lookup", 99) if len(p.data["hops"]) == 2), 1)
    first, second = problem.data["hops"]
    search = environment("lookup").tools()["search"]
    seen = call(search, query=f"{first} of {problem.data['entity']}").output
    assert seen.startswith(f"The {first} of {problem.data['entity']} is ")
    between = seen.removesuffix(".").rsplit(" ", 1)[1]
    assert call(search, query=f"{second} of {between}").output == f"The {second} of {between} is {problem.answer}."
    assert problem.min_calls == 2 and f"the {second} of the {first} of" in problem.question


class WrongMinimum(Arithmetic):
    def generate(self, rng: random.Random):
        return (replace(p, min_calls=2) for p in super().generate(rng))


class WrongReference(Arithmetic):
    def generate(self, rng: random.Random):
        return (replace(p, answer="0.5") for p in super().generate(rng))


class Lenient(Arithmetic):
    def verify(self, problem: Problem, answer: str) -> bool:
        return bool(answer)


class VeryLenient(Arithmetic):
    def verify(self, problem: Problem, answer: str) -> bool:
        return True


class NoMistake(Arithmetic):
    def courses(self, problem: Problem) -> Sequence[Course]:
        gold, _ = super().courses(problem)
        return gold, replace(gold, mistake="none at all")


class MistakenGold(Arithmetic):
    def courses(self, problem: Problem) -> Sequence[Course]:
        return super().courses(problem)[::-1]


class BrokenCall(Arithmetic):
    def courses(self, problem: Problem) -> Sequence[Course]:
        step = Step(thought="", call=ToolCall(name="calculator", arguments={"expression": "1/0"}))
        return (Course(steps=(step,)),)


class OutOfThinAir(Lookup):
    def courses(self, problem: Problem) -> Sequence[Course]:
        gold, *_ = super().courses(problem)
        useless = Step(thought="", call=ToolCall(name="search", arguments={"query": "zzz"}))
        return (replace(gold, steps=tuple(useless for _ in gold.steps)),)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (WrongMinimum(), "min_calls is not 1"),
        (WrongReference(), "is not accepted"),
        (Lenient(), "wrong operator: .* is accepted"),
        (VeryLenient(), "an empty answer is accepted"),
        (NoMistake(), "no mistake in any of 60 problems: none at all"),
        (MistakenGold(), "the first course contains a mistake"),
        (BrokenCall(), "fails.*error: division by zero"),
        (OutOfThinAir(), "no tool shows the gold answer"),
    ],
)
def test_validate_finds_what_is_off(broken: Environment, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        broken.validate()


def test_a_wrong_aggregate_of_one_number_is_right_by_chance() -> None:
    tables = Tables()
    alone = [p for p in some("tables", 400) if p.data["aggregate"] == "max" and "item" in p.data["filters"]]
    answers = {}
    for problem in alone:
        wrong = tables.courses(problem)[1]
        answers[call(tables.tools()["sql"], **wrong.steps[0].call.arguments).output == problem.answer] = problem
    assert set(answers) == {True, False}
    validate(tables, answers.values())


@pytest.mark.parametrize("family", GENERATED)
def test_problems_follow_their_seed_and_equal_keys_mean_equal_answers(family: str) -> None:
    problems, again, others = some(family, 40, seed=3), some(family, 40, seed=3), some(family, 40, seed=4)
    assert problems == again != others
    answers: dict[str, str] = {}
    for problem in problems:
        assert problem.family == family and problem.question
        assert answers.setdefault(problem.data["key"], problem.answer) == problem.answer
        assert Problem.from_json(json.loads(json.dumps(problem.to_json()))) == problem
    ids = {problem.id: (problem.question, problem.data) for problem in problems}
    assert all(ids[problem.id] == (problem.question, problem.data) for problem in problems)


@pytest.mark.parametrize("family", QUICKSTART)
def test_equal_keys_mean_equal_answers_and_ids_follow_the_question(family: str) -> None:
    problems = some(family, 2000)
    answers: dict[str, str] = {}
    for problem in problems:
        assert answers.setdefault(problem.data["key"], problem.answer) == problem.answer
        assert problem.id == problem_id(family, problem.question)
    assert len({p.question for p in problems}) == len({p.id for p in problems})
    assert len({p.data["key"] for p in problems}) > len(problems) // 4


@pytest.mark.parametrize("family", GENERATED)
def test_a_stream_follows_its_seed(family: str) -> None:
    assert some(family, 50, seed=3) == some(family, 50, seed=3) != some(family, 50, seed=4)


SIZES = GeneratedProblems(train=600, dev=60, heldout=90)


@settings(max_examples=20)
@given(st.integers(0, 2**31))
def test_dev_and_heldout_share_no_question_with_anything_else(seed: int) -> None:
    splits, demonstrated = generate_splits(GeneratedProblems(train=60, dev=30, heldout=60), 60, seed)
    parts = {**splits, "demonstrated": demonstrated}
    for apart in ("dev", "heldout"):
        others = [problem for name, problems in parts.items() if name != apart for problem in problems]
        for one in ("question", "id"):
            assert not {getattr(p, one) for p in parts[apart]} & {getattr(p, one) for p in others}
        assert not {p.data["key"] for p in parts[apart]} & {p.data["key"] for p in others}


def test_splits_have_the_sizes_and_shares_that_were_asked_for() -> None:
    splits, demonstrated = generate_splits(SIZES, 300, 0)
    assert {name: len(problems) for name, problems in splits.items()} == {"train": 600, "dev": 60, "heldout": 90}
    assert len(demonstrated) == 300
    for problems in (*splits.values(), demonstrated):
        families = [p.family for p in problems]
        assert {f: families.count(f) for f in families} == dict.fromkeys(QUICKSTART, len(problems) // 3)
        assert len({p.question for p in problems}) == len(problems)
        assert {p.tools for p in problems} == {("calculator", "search", "sql")}  # all tools, whatever the family
    uneven = GeneratedProblems(families={"arithmetic": 3, "tables": 1}, train=80, dev=4, heldout=8)
    families = [p.family for p in generate_splits(uneven, 4, 0)[0]["train"]]
    assert (families.count("arithmetic"), families.count("tables")) == (60, 20)


def test_the_same_seed_gives_the_same_splits_and_another_seed_others() -> None:
    assert generate_splits(SIZES, 30, 5) == generate_splits(SIZES, 30, 5)
    ours, _ = generate_splits(SIZES, 30, 5)
    theirs, _ = generate_splits(SIZES, 30, 6)
    shared = {p.question for p in ours["heldout"]} & {p.question for p in theirs["heldout"]}
    assert len(shared) < len(ours["heldout"]) // 4


def test_more_train_problems_leave_the_heldout_ones_as_they_are() -> None:
    fewer, _ = generate_splits(SIZES, 30, 5)
    more, _ = generate_splits(SIZES.model_copy(update={"train": 900}), 60, 5)
    assert fewer["heldout"] == more["heldout"] and fewer["dev"] == more["dev"]


def test_a_family_that_runs_out_of_problems_is_a_config_error() -> None:
    endless = GeneratedProblems(families={"lookup": 1}, train=100_000, dev=1, heldout=1)
    with pytest.raises(ConfigError, match=r"lookup has only .* different problems where 100000 are asked for"):
        generate_splits(endless, 1, 0)
    with pytest.raises(ConfigError, match="gsm8k does not generate problems"):
        generate_splits(GeneratedProblems.model_construct(families={"gsm8k": 1.0}, train=1, dev=1, heldout=1), 1, 0)


@pytest.mark.parametrize(
    ("reference", "answer", "same"),
    [
        *(("42", "42", True), ("42", " 42\n", True), ("42", "42.0", True), ("42", "42.0000001", True)),
        *(("42", "43", False), ("42", "42.001", False), ("42", "-42", False), ("42", "", False), ("42", "4 2", False)),
        *(("1200", "1,200", True), ("Cor", "cor", True), ("Cor", " COR ", True), ("Cor", "Cord", False)),
        *(("Cor", "", False), ("nan", "1", False), ("1", "nan", False), ("1", "inf", False), ("42", "42 or 43", False)),
    ],
)
def test_same_answer(reference: str, answer: str, same: bool) -> None:
    assert same_answer(reference, answer) is same


@given(st.text(), st.text())
def test_any_two_texts_can_be_compared_and_a_text_is_itself(one: str, other: str) -> None:
    assert same_answer(one, other) is same_answer(other, one)
    if one.strip().casefold() not in ("nan", "+nan", "-nan", "inf", "+inf", "-inf", "infinity"):
        assert same_answer(one, one) or "inf" in one.casefold() or "nan" in one.casefold()


def test_the_tools_on_offer_are_the_familys_own_and_then_those_of_the_others() -> None:
    offered = tools_named("arithmetic", ("sql", "calculator"))
    assert list(offered) == ["sql", "calculator"]
    assert offered["calculator"] is environment("arithmetic").tools()["calculator"]
    assert offered["sql"] is environment("tables").tools()["sql"]
    with pytest.raises(KeyError):
        tools_named("arithmetic", ("teleport",))
