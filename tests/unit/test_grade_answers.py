"""Final answers: math-verify's own cases, numbers with units, lists, choices, words, and what tries to break it."""

import json
import os
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from infra.cli import app
from journeyman.graders import Grade, GradeError, grade_answers
from journeyman.graders.maths import WORKER, MathsWorker
from journeyman.graders.quantities import quantity


def graded(reference: Any, prediction: Any) -> Grade:
    return grade_answers({"id": 1, "prediction": prediction, "reference": reference})


RIGHT = [
    # formulas
    ("\\frac{1}{2}", "0.5"),
    ("$x^2+2x+1$", "$(x+1)^2$"),
    ("$(x+1)^2$", "(x+1)**2"),
    ("$\\{1,2\\}$", "{2,1}"),
    ("$10^{10}$", "10000000000"),
    ("$\\sqrt{2}$", "sqrt(2)"),
    ("x=5", "5"),
    ("2", "1+1"),
    ("840", "I get 840 first.\n\nSo the answer is \\boxed{840}."),
    ("$\\text{even}$", "even"),
    # numbers
    ("1,000", "1000"),
    ("1.2e3", "1200"),
    ("30000", "3 x 10^4"),
    ("1/3", "0.333333"),
    ("07", "7"),
    ("3.0", "3"),
    ("72", "Natalia sold 48+24 = <<48+24=72>>72 clips.\n#### 72"),
    ("72", "So she sold 72 clips altogether in April and May."),
    ("18", "Every day she makes $18."),
    (42, 42.0),
    ("-5", "−5"),
    # units
    ("5 km", "5"),
    ("5 km", "5000 m"),
    ("5", "5 km"),
    ("12 apples", "12 apples left"),
    ("$12\\text{ cm}$", "0.12 m"),
    ("50%", "0.5"),
    ("50%", "50 percent"),
    ("$5", "5 dollars"),
    ("$1,234.50", "1234.5 USD"),
    ("20 °C", "20°C"),
    # lists
    ("1, 2, 3", "3, 1 and 2"),
    ("[1,2,3]", "1, 2, 3"),
    ("[1, [2, 3]]", "[1,[2,3]]"),
    (["a", "b"], '["a", "b"]'),
    ("red, green", "green and red"),
    # choices and truths
    ("B", "(B)"),
    ("(B)", "b) Rome".replace("b", "B")),
    ("B) Rome", "Rome"),
    ("C", "The answer is C."),
    ("yes", "Yes, it is."),
    ("no", "False"),
    # words
    ("Paris", "The Paris."),
    ("Paris", "<think>London?</think> <answer>paris</answer>"),
    ("the United States", "United States!"),
    ("Zürich", "zu\u0308rich"),
]
WRONG = [
    ("5", ""),
    ("5", "   "),
    ("5", None),
    ("5", "4 or 5"),
    ("5", "5 or 4"),
    ("4", "The answer is 4 or 5."),
    ("5", "between 4 and 5"),
    ("$4$", "$4$ or $5$"),
    ("x=5", "x=4 or x=5"),
    ("5", "x=4 or x=5"),
    ("42", "It is not 42"),
    ("42", "42 is too much, it is 43"),
    ("5", "NaN"),
    ("inf", "nan"),
    ("nan", "5"),
    ("Paris", "Paris or London"),
    ("Paris", "It could be London, Paris, Rome"),
    ("Paris", "The capital of France is certainly Paris"),  # without a mark the whole text is the answer
    ("1.5", "15"),
    ("-5", "5"),
    ("1e-7", "2e-7"),
    ("1000001", "1000000"),
    ("1/3", "0.33"),
    ("5 km", "5 m"),
    ("12 apples", "12 pears"),
    ("$5", "€5"),
    ("50%", "0.05"),
    ("50%", "50 km"),
    ("(1,2)", "(2,1)"),
    ("[1, 2]", "[1, 2, 3]"),
    ("1, 2", "1, 1"),
    ("B", "A"),
    ("B", "B or C"),
    ("B", "A bear"),
    ("yes", "Yes and no"),
    ("yes", "No."),
    ("x+1", "x-1"),
    ("minus 5 degrees", "5 degrees"),
    ("it was -5 degrees cold", "it was 5 degrees cold"),
    ("2023-01-02", "2023-01-03"),
    ("3", "three of them"),
]


@pytest.mark.parametrize(("reference", "prediction"), RIGHT)
def test_what_is_the_same_is_right(reference: Any, prediction: Any) -> None:
    grade = graded(reference, prediction)
    assert grade.correct, grade.reason


@pytest.mark.parametrize(("reference", "prediction"), WRONG)
def test_what_is_not_the_same_is_wrong(reference: Any, prediction: Any) -> None:
    grade = graded(reference, prediction)
    assert not grade.correct, grade.reason
    assert grade.reason


def test_all_cases_of_math_verify_come_out_as_they_should(shared_data: Path) -> None:
    rows = (shared_data / "math_verify_cases" / "cases.jsonl").read_text(encoding="utf-8").splitlines()
    verdicts = Counter()
    for number, row in enumerate(map(json.loads, rows)):
        grade = grade_answers({"id": number, "prediction": row["pred"], "reference": row["gold"]})
        assert grade.correct == row["equivalent"], (row, grade.reason)
        verdicts[row["equivalent"]] += 1
    assert verdicts == {True: 59, False: 3}


@pytest.fixture
def hasty() -> Any:
    """A worker with little patience."""
    worker = MathsWorker(seconds=0.5)
    yield worker
    worker.close()


def test_a_formula_that_never_ends_is_given_up_and_the_next_one_is_compared(hasty: MathsWorker) -> None:
    assert hasty.equal("$2$", "$1+1$") is True
    assert hasty.equal("$5$", "$9^{9^{9^9}}$") is None
    assert hasty.equal("$2$", "$3$") is False
    assert hasty.equal("$\\frac{1}{2}$", "$" + "\\frac{" * 400 + "1" + "}{2}" * 400 + "$") is not True
    assert hasty.equal("$1$", "$" + "(" * 5_000 + "1" + ")" * 5_000 + "$") is not True


def test_it_works_off_the_main_thread() -> None:
    grades: list[Grade] = []
    threads = [threading.Thread(target=lambda: grades.append(graded("$\\frac{2}{4}$", "$1/2$"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [grade.correct for grade in grades] == [True] * 4


def test_a_forked_child_has_a_worker_of_its_own() -> None:
    assert graded("$\\frac{2}{4}$", "$1/2$").correct
    child = os.fork()
    if child == 0:  # no exit handlers of pytest's here
        os._exit(0 if graded("$\\frac{2}{4}$", "$1/2$").correct and WORKER.close() is None else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert graded("$\\frac{3}{6}$", "$1/2$").correct


@settings(max_examples=100)
@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_gets_a_verdict(reference: str, prediction: str) -> None:
    try:
        assert isinstance(graded(reference, prediction), Grade)
    except GradeError:
        assert not reference.strip()


@settings(max_examples=100)
@given(
    st.text("0123456789.,/-+%$()[]{}x=\\ ekmandor", max_size=30),
    st.text("0123456789.,/-+%$()[]{}x ekmandor", max_size=30),
)
def test_any_near_number_gets_a_verdict(reference: str, prediction: str) -> None:
    if reference.strip():
        assert isinstance(graded(reference, prediction), Grade)


@pytest.mark.parametrize(
    "prediction",
    [
        "[" * 20_000,
        "answer: " * 5_000,
        "<answer>" * 5_000,
        "\\boxed{" * 5_000,
        "1," * 10_000,
        "$1$ " * 5_000,
        "9" * 20_000,
    ],
)
def test_long_predictions_end(prediction: str) -> None:
    assert not graded("5", prediction).correct


@settings(max_examples=100)
@given(st.integers(-(10**12), 10**12))
def test_a_whole_number_is_itself_in_every_writing(value: int) -> None:
    for writing in (
        str(value),
        f"{value:,}",
        f"${value}$",
        f"\\boxed{{{value}}}",
        f"The answer is {value}.",
        f"{value}.0",
    ):
        assert graded(str(value), writing).correct, writing
    assert not graded(str(value), str(value + 1)).correct


@pytest.mark.parametrize("text", ["5x", "x", "5 + 3", "", "4 5 6", "1e9999", "1/0", "five", "5 6/7/8"])
def test_what_is_no_quantity(text: str) -> None:
    assert quantity(text) is None


def test_a_missing_reference_is_a_typed_error() -> None:
    for item in ({"id": 1, "prediction": "5"}, {"id": 1, "prediction": "5", "reference": " "}, {"reference": "5"}, 5):
        with pytest.raises(GradeError):
            grade_answers(item)  # type: ignore[arg-type]


def test_the_command_prints_a_verdict_a_line_and_a_summary(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    file.write_text(
        '{"id": "a", "prediction": "5 km", "reference": "5000 m"}\n{"id": 2, "prediction": "", "reference": "5"}\n'
    )
    done = CliRunner().invoke(app, ["grade", "answers", str(file)])
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"id": "a", "correct": True, "reason": "the same quantity"},
        {"id": 2, "correct": False, "reason": "empty prediction"},
        {"summary": {"items": 2, "correct": 1, "accuracy": 0.5}},
    ]
