"""The adapter of reasoning-gym, against the real package."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest

from journeyman.environments.reasoning_gym import MAX_ANSWER, ReasoningGym, evaluates, is_expression
from journeyman.errors import ConfigError, DataError, UserError
from journeyman.problem import Problem
from journeyman.tools.base import CallContext
from journeyman.tools.sandbox import require_sandbox

pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed")

GYM = ReasoningGym()
SLOW = ("arc_agi", "rearc", "group_anagrams")
"""They read large files first."""


def boxes_work() -> bool:
    try:
        require_sandbox()
    except UserError:
        return False
    return True


def score(problem: Problem, answer: str | None) -> float:
    return asyncio.run(GYM.score(problem, answer))


def test_every_data_set_makes_problems_whose_own_answer_scores_full() -> None:
    scored = 0
    for name in GYM.datasets():
        if name in SLOW:
            continue
        problem = GYM.problem(name, 3)
        assert problem.question and problem.data["dataset"] == name
        assert Problem.from_json(problem.to_json()) == problem
        if not problem.answer:  # many solutions, none written out
            assert GYM.courses(problem) == ()
            continue
        assert is_expression(problem.answer) or not evaluates(name)
        if not evaluates(name):
            scored += 1
            assert score(problem, problem.answer) == 1.0, name
            assert score(problem, None) == score(problem, "x" * (MAX_ANSWER + 1)) == 0.0
            assert score(problem, "") < 1.0, name
    assert scored > 80


def test_problems_follow_from_the_seed_and_only_from_chosen_data_sets() -> None:
    few = ReasoningGym(datasets=["leg_counting", "caesar_cipher"])
    made, again = (list(islice(few.generate(random.Random(1)), 8)) for _ in range(2))
    assert made == again and {problem.data["dataset"] for problem in made} == {"leg_counting", "caesar_cipher"}
    assert len({problem.id for problem in made}) == len({problem.data["key"] for problem in made}) == 8
    assert made[0].world == {"datasets": ["leg_counting", "caesar_cipher"]}
    assert ReasoningGym(**made[0].world).problem("leg_counting", made[0].data["seed"]).family == "reasoning-gym"


def test_part_of_an_answer_is_part_of_the_score() -> None:
    # Sentences of n words: word_sorting gives partial credit for right words in a wrong order, see its score_answer.
    problem = GYM.problem("word_sorting", 3)
    words = problem.answer.split(", ")
    swapped = ", ".join([words[1], words[0], *words[2:]])
    episode = GYM.reset(problem, CallContext())
    whole, part = (asyncio.run(episode.verify(answer)) for answer in (problem.answer, swapped))
    assert (whole.correct, whole.score) == (True, 1.0)
    assert part.correct is False and part.score is not None and 0 < part.score < 1
    lenient = ReasoningGym(correct_at=part.score)
    assert lenient.verify(problem, swapped) and not GYM.verify(problem, swapped)


@pytest.mark.parametrize(
    ("level", "options", "config"),
    [
        (None, {}, {}),
        (None, {"min_animals": 2, "max_animals": 2}, {"min_animals": 2, "max_animals": 2}),
    ],
)
def test_options_reach_the_data_set(level: int | None, options: dict[str, Any], config: dict[str, Any]) -> None:
    made = ReasoningGym(datasets=["leg_counting"], config={"leg_counting": options} if options else None, level=level)
    problem = made.problem("leg_counting", 5)
    assert problem.data["config"] == config
    if options:
        assert made.verify(problem, problem.answer) and problem.question.count(",") <= 2


def test_levels_make_problems_harder() -> None:
    low, high = (ReasoningGym(datasets=["chain_sum"], level=level).problem("chain_sum", 5) for level in (0, 3))
    assert len(high.question) > len(low.question)
    assert high.data["config"]["max_terms"] > low.data["config"].get("max_terms", 0)
    assert ReasoningGym(level=3).verify(high, high.answer)


def test_what_the_package_does_not_have_is_a_users_error() -> None:
    with pytest.raises(ConfigError, match="no data set chess"):
        ReasoningGym(datasets=["chess"]).datasets()
    with pytest.raises(ConfigError, match="leg_counting can't be made"):
        ReasoningGym(config={"leg_counting": {"wings": 2}}).problem("leg_counting", 1)


def test_a_problem_of_another_version_is_told_from_a_wrong_answer() -> None:
    problem = GYM.problem("knights_knaves", 3)  # its entries hold objects: they are made anew for the score
    assert "entry" not in problem.data
    with pytest.raises(DataError, match="makes another"):
        score(replace(problem, question="Who lies?"), problem.answer)


@pytest.mark.parametrize(
    ("answer", "plain"),
    [
        ("(3 + 4) * 6", True),
        ("x**3/3 + C", True),
        ("['A', 'B', 'CD']", True),
        ("[[0, 1], [1, 0]]", True),
        ("1.5e3*exp(2*x)", True),
        ("__import__('os').system('id')", False),
        ("open('/etc/passwd')", False),
        ("print('42')", False),
        ("[].append", False),
        ("(lambda: 6)()", False),
        ("getattr(1, 'real')", False),
        ("S('1')", False),
        ("'\\x5f'", False),
    ],
)
def test_what_is_evaluated_looks_like_an_expression(answer: str, plain: bool) -> None:
    assert is_expression(answer) is plain


def test_data_sets_that_evaluate_answers_are_known() -> None:
    dangerous = {name for name in GYM.datasets() if evaluates(name)}
    assert {"countdown", "puzzle24", "simple_integration", "string_insertion", "n_queens"} <= dangerous
    assert not dangerous & {"leg_counting", "caesar_cipher", "codeio"}


@pytest.mark.skipif(not boxes_work(), reason="no sandbox on this machine")
@pytest.mark.parametrize(
    ("dataset", "answers"),
    [("countdown", ["1 + 1", "__import__('os')._exit(0)"])],
)
def test_evaluated_answers_are_scored_in_a_box(dataset: str, answers: Sequence[str]) -> None:
    problem = GYM.problem(dataset, 3)
    assert score(problem, problem.answer) == 1.0
    assert all(score(problem, answer) < 0.5 for answer in answers)
