"""GSM8K: annotations become calls, odd rows are kept apart with a reason, answers are compared as numbers."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from journeyman.config import (
    AnnotationsTeacherConfig,
    DatasetProblems,
    PipelineConfig,
    ScriptedTeacherConfig,
    SynthesizeConfig,
)
from journeyman.environments.base import Environment
from journeyman.environments.gsm8k import EXAMPLES, Gsm8k, agrees, known_wrong, number, read_steps
from journeyman.environments.rows import RowReader
from journeyman.errors import ConfigError, DataError
from journeyman.progress import Silent
from journeyman.rollout.parse import parse_turn
from journeyman.synthesis.sources import problems_of
from journeyman.synthesis.stage import synthesize
from journeyman.trajectory import StopReason, Trajectory, read_trajectories

ROOT = Path(__file__).resolve().parents[2]
REAL = Path(os.environ.get("JOURNEYMAN_GSM8K", ROOT / "../shared/data/gsm8k_train/train.jsonl"))

TRAMS = {
    "question": "A tram has 3 cars of 40 seats. Half of the seats are taken and 5 more get lost. How many are free?",
    "answer": (
        "There are 3*40 = <<3*40=120>>120 seats.\n"
        "Half of them is 120/2 = <<120/2=60>>60 and without the lost 60-5 = <<60-5=55>>55.\n"
        "Nobody stands.\n"
        "Again, 3*40 = <<3*40=120>>120.\n"
        "#### 55"
    ),
}


def row(answer: str, question: str = "How many?") -> dict[str, str]:
    return {"question": question, "answer": answer}


def test_a_row_becomes_a_problem_with_its_steps() -> None:
    [problem] = Gsm8k().read([TRAMS]).problems
    assert (problem.answer, problem.tools, problem.family) == ("55", ("calculator",), "gsm8k")
    assert problem.min_calls == 3  # the repeated 3*40 is no new step
    assert problem.data["steps"] == [
        {"thought": "There are 3*40", "expression": "3*40", "result": "120"},
        {"thought": "Half of them is 120/2", "expression": "120/2", "result": "60"},
        {"thought": "60 and without the lost 60-5", "expression": "60-5", "result": "55"},
    ]


def test_equal_rows_have_equal_ids_and_the_environment_is_what_the_protocols_ask_for() -> None:
    reader: RowReader = Gsm8k()
    environment: Environment = Gsm8k()
    first, second = reader.read([TRAMS, dict(TRAMS)]).problems
    assert first == second and isinstance(environment, RowReader)


def test_the_gold_course_is_the_annotations_and_the_final_answer() -> None:
    [problem] = Gsm8k().read([TRAMS]).problems
    [gold] = Gsm8k().courses(problem)
    assert [step.call.arguments["expression"] for step in gold.steps] == ["3*40", "120/2", "60-5"]
    assert (gold.answer, gold.mistake) == ("55", "")


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (row("It is 5.\n#### 5"), "no calculator annotation"),
        (row("<<2+2=5>>5\n#### 5"), "an annotation that doesn't compute what it says"),
        (row("<<9//2=4>>4\n#### 4"), "an annotation that the calculator can't read"),
        (row("<<1/0=0>>0\n#### 0"), "an annotation that the calculator can't read"),
        (row("<<4>>4\n#### 4"), "an annotation that is not EXPRESSION=NUMBER"),
        (row("<<2+2=four>>4\n#### 4"), "an annotation that is not EXPRESSION=NUMBER"),
        (row("<<2+2=4>>4"), "not exactly one #### before the final answer"),
        (row("<<2+2=4>>4\n#### four"), "a final answer that is not a number"),
        (row("<<2+2=4>>4\n#### 4", question=" "), "no question"),
        ({"question": None, "answer": None}, "no question"),
    ],
)
def test_an_odd_row_is_kept_apart_with_its_reason(bad: dict, reason: str) -> None:
    reading = Gsm8k().read([TRAMS, bad])
    assert [(apart.row, apart.reason) for apart in reading.apart] == [(1, reason)]
    assert reading.counts() == {"rows": 2, "problems": 1, "apart": 1, f"apart: {reason}": 1}


def test_an_annotation_may_round_to_the_decimals_it_says() -> None:
    # 10/3 = 3.333...: 3.33 is within half a hundredth, 3.3 within half a tenth, 3.34 is not
    assert agrees("3.3333333333", "3.33") and agrees("3.3333333333", "3.3")
    assert not agrees("3.3333333333", "3.34")
    assert not agrees("3.3333333333", "3")  # without decimals it must be exact
    assert agrees("1500", "1,500") and agrees("20", "20.00")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("42", 42),
        (" -3 ", -3),
        ("$1,200.50", 1200.5),
        ("-$5", -5),
        ("1,234,567", 1234567),
        ("15%", 15),
        (".5", 0.5),
        ("5.", 5),
        ("7.0", 7),
    ],
)
def test_numbers_are_read_as_people_write_them(text: str, value: float) -> None:
    assert float(number(text)) == value  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["", "-", ".", "nan", "inf", "1e999999999", "1_000", "1,2", "4 2", "five", "5 apples", "٣"]
)
def test_what_is_no_number_is_none(text: str) -> None:
    assert number(text) is None


def test_answers_are_compared_as_numbers() -> None:
    [problem] = Gsm8k().read([row("<<1000*1.5=1500>>\n#### $1,500.00")]).problems
    assert problem.answer == "1500"
    environment = Gsm8k()
    assert all(environment.verify(problem, right) for right in ("1500", "1,500", "$1500.0", "1500.", "1500%"))
    assert not any(environment.verify(problem, wrong) for wrong in known_wrong(problem))


def test_validate_accepts_its_own_examples_and_rejects_a_loose_environment() -> None:
    Gsm8k().validate()
    assert len(Gsm8k().read(EXAMPLES).problems) == len(EXAMPLES)

    class Loose(Gsm8k):
        def verify(self, problem, answer) -> bool:
            return True

    with pytest.raises(ValueError, match="wrong answer"):
        Loose().validate()


def test_a_thought_is_never_empty_and_never_has_the_annotation() -> None:
    steps = read_steps("<<1+1=2>>2 and then $<<2+1=3>>3")
    assert [step["thought"] for step in steps] == ["I calculate.", "2 and then"]


def dataset_config(path: Path, *, format: str = "gsm8k", **synthesize: Any) -> PipelineConfig:
    return PipelineConfig(
        name="gsm8k",
        problems=DatasetProblems(path=str(path), format=format, dev=2, heldout=3),
        synthesize=SynthesizeConfig(**{"teacher": AnnotationsTeacherConfig(), "demonstrations": 20000, **synthesize}),
    )


def made_up(folder: Path, count: int = 12) -> Path:
    rows = [
        row(f"Think: {n}+1 = <<{n}+1={n + 1}>>{n + 1}\n#### {n + 1}", f"What comes after {n}?") for n in range(count)
    ]
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in [*rows, row("no idea\n#### 4", "What else?")]))
    return path


def made(config: PipelineConfig, folder: Path) -> tuple[dict[str, Any], list[Trajectory]]:
    summary = synthesize(config, folder, Silent())
    return summary, read_trajectories(folder / "demonstrations.parquet")


def test_rows_become_splits_and_played_demonstrations(tmp_path: Path) -> None:
    config = dataset_config(made_up(tmp_path))
    sources = problems_of(config, Silent())
    assert {name: len(part) for name, part in sources.splits.items()} == {"train": 7, "dev": 2, "heldout": 3}
    summary, demonstrations = made(config, tmp_path / "made")
    assert summary["rows"] == {"rows": 13, "problems": 12, "apart": 1, "apart: no calculator annotation": 1}
    assert [d.problem_id for d in demonstrations] == [p.id for p in sources.splits["train"]]
    first = demonstrations[0]
    call, last = first.turns
    assert call.results[0].ok and call.results[0].output == first.reference == first.answer
    assert parse_turn(call.text).calls == call.calls and parse_turn(last.text).answer == first.answer
    assert (first.correct, first.stop_reason, first.source) == (True, StopReason.ANSWER, "annotations")


def test_demonstrations_can_be_fewer_and_are_the_same_again(tmp_path: Path) -> None:
    config = dataset_config(made_up(tmp_path), demonstrations=4)
    first, again = (made(config, tmp_path / name)[1] for name in ("one", "two"))
    assert len(first) == 4 and [d.id for d in first] == [d.id for d in again]
    assert [d.turns[0].text for d in first] == [d.turns[0].text for d in again]


def test_a_format_that_nothing_reads_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="gsm8k"):
        problems_of(dataset_config(made_up(tmp_path), format="arithmetic"), Silent())


def test_the_scripted_teacher_works_on_rows_too(tmp_path: Path) -> None:
    config = dataset_config(made_up(tmp_path), teacher=ScriptedTeacherConfig(mistakes=0, repeats=1, broken=0))
    _, demonstrations = made(config, tmp_path / "made")
    assert [(d.source, d.correct, d.needless_calls) for d in demonstrations] == [("scripted", True, 1)] * 7


def test_rows_that_are_all_kept_apart_are_an_error_with_the_reasons(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row("no idea\n#### 4")) + "\n")
    with pytest.raises(DataError, match=r"no calculator annotation \(1\)"):
        problems_of(dataset_config(path), Silent())


@pytest.mark.skipif(not REAL.is_file(), reason=f"no GSM8K at {REAL}; set JOURNEYMAN_GSM8K")
def test_the_real_data_set_is_read_whole() -> None:
    rows = [json.loads(line) for line in REAL.read_text().splitlines()]
    environment = Gsm8k()
    assert environment.read(rows).counts() == {
        "rows": 7473,
        "problems": 7376,
        "apart": 97,
        "apart: an annotation that the calculator can't read": 2,  # both use // for a division
        "apart: no calculator annotation": 95,
    }
    environment.validate(rows[:500])
