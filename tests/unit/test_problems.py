"""Problems on disk, rows of data sets, splits: what is broken is named by place, what is set aside stays apart."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.config import DatasetProblems
from journeyman.curation.normal_form import question_form
from journeyman.errors import DataError
from journeyman.problem import Problem
from journeyman.synthesis.problems import load_rows, read_problems, split_problems, write_problems

ROWS = [{"question": f"What is {n}?", "answer": str(n)} for n in range(3)]


def problem(question: str, number: int = 0) -> Problem:
    return Problem(id=str(number), family="toy", question=question, answer="1")


def json_lines(path: Path, rows: list[dict] = ROWS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows_of(path: Path | str, split: str = "train") -> list[dict]:
    return load_rows(DatasetProblems(path=str(path), split=split), columns=("question", "answer")).to_list()


def test_problems_come_back_as_they_were(tmp_path: Path) -> None:
    problems = [
        Problem(
            id="a",
            family="gsm8k",
            question='Quote " and\nnewline ü',
            answer="42",
            tools=("calculator", "sql"),
            min_calls=2,
            data={"steps": [{"thought": "t", "expression": "6*7"}], "row": 3, "none": None},
        ),
        Problem(id="b", family="toy", question="", answer=""),
    ]
    assert write_problems(problems, tmp_path / "deep" / "problems.parquet") == 2
    assert read_problems(tmp_path / "deep" / "problems.parquet") == problems


def test_no_problems_are_a_file_too(tmp_path: Path) -> None:
    assert write_problems([], tmp_path / "none.parquet") == 0
    assert read_problems(tmp_path / "none.parquet") == []


def test_the_same_problems_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_problems([problem("q", n) for n in range(50)], tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def _as_json_lines(folder: Path) -> Path:
    return json_lines(folder / "rows.jsonl")


def _as_parquet(folder: Path) -> Path:
    datasets.Dataset.from_list(ROWS).to_parquet(str(folder / "rows.parquet"))
    return folder / "rows.parquet"


def _as_folder(folder: Path) -> Path:
    (folder / "LICENSE").write_text("text")
    (folder / "SOURCE.txt").write_text("text")
    json_lines(folder / "train.jsonl", ROWS[:2])
    json_lines(folder / "data" / "train-00001.jsonl", ROWS[2:])
    json_lines(folder / "trained.jsonl", [{"question": "other split", "answer": ""}])
    return folder


def _as_saved(folder: Path) -> Path:
    datasets.Dataset.from_list(ROWS).save_to_disk(folder / "saved")
    return folder / "saved"


def _as_saved_splits(folder: Path) -> Path:
    datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)}).save_to_disk(folder / "saved")
    return folder / "saved"


@pytest.mark.parametrize("make", [_as_json_lines, _as_parquet, _as_folder, _as_saved, _as_saved_splits])
def test_rows_are_read_from_every_kind_of_place(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    datasets.disable_progress_bars()
    assert sorted(rows_of(make(tmp_path)), key=str) == ROWS


def test_json_lines_may_have_empty_lines_nulls_and_missing_values(tmp_path: Path) -> None:
    text = '\n{"question": "a", "answer": null, "n": 1}\r\n\n{"question": "b", "answer": "x", "n": 2.5, "more": [1]}'
    (tmp_path / "rows.jsonl").write_text(text)
    assert rows_of(tmp_path / "rows.jsonl") == [
        {"question": "a", "answer": None, "n": 1.0, "more": None},
        {"question": "b", "answer": "x", "n": 2.5, "more": [1]},
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"question": "a", "answer": ', "not JSON: Expecting value at column 29"),
        ('{"question": "a" "answer": "b"}', "not JSON: Expecting ',' delimiter at column 18"),
        ('["question", "answer"]', "a list, where each line must be an object"),
        ("42", "a number, where each line must be an object"),
        ('{"question": 7, "answer": "b"}', "'question' is a number here and a string in line 1"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    good = json.dumps(ROWS[0])
    (tmp_path / "rows.jsonl").write_text(f"{good}\n\n{line}\n{good}\n")
    with pytest.raises(DataError) as error:
        rows_of(tmp_path / "rows.jsonl")
    assert error.value.place == f"{tmp_path / 'rows.jsonl'}:3"
    assert said in error.value.message and error.value.remedy


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"question": "\xff\xfe"}\n')
    with pytest.raises(DataError, match=r"rows\.jsonl:1: not JSON"):
        rows_of(tmp_path / "rows.jsonl")


def test_a_file_cut_off_in_its_last_line_is_named(tmp_path: Path) -> None:
    path = json_lines(tmp_path / "rows.jsonl")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match=r"rows\.jsonl:3: not JSON"):
        rows_of(path)


def test_nested_values_that_differ_are_an_error(tmp_path: Path) -> None:
    path = json_lines(tmp_path / "rows.jsonl", [{"x": [1]}, {"x": ["a"]}])
    with pytest.raises(DataError, match="one type"):
        rows_of(path)


@pytest.mark.parametrize("name", ["missing.jsonl", "missing.parquet", "./missing", "/nowhere/at/all", "data/x/y"])
def test_a_missing_file_is_an_error_with_place_and_remedy(name: str) -> None:
    with pytest.raises(DataError, match="no such file or folder") as error:
        rows_of(name)
    assert Path(name).name in error.value.place and "problems.path=FILE" in error.value.remedy


def test_missing_columns_are_named(tmp_path: Path) -> None:
    path = json_lines(tmp_path / "rows.jsonl", [{"prompt": "a", "answer": "b"}])
    with pytest.raises(DataError, match=r"no column 'question'; there are 'prompt', 'answer'"):
        rows_of(path)


def test_a_file_without_rows_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        rows_of(json_lines(tmp_path / "rows.jsonl", []))


def test_a_file_of_another_kind_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("question,answer")
    with pytest.raises(DataError, match=r"\.jsonl"):
        rows_of(tmp_path / "rows.csv")


def test_a_broken_parquet_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 nothing more")
    with pytest.raises(DataError, match="not a Parquet file"):
        rows_of(tmp_path / "rows.parquet")


def test_a_folder_without_the_split_says_what_it_has(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"split 'test'.*trained\.jsonl"):
        rows_of(_as_folder(tmp_path), split="test")


def test_a_hub_that_cannot_be_reached_is_an_error_that_offers_a_local_path(tmp_path: Path) -> None:
    """In a process of its own, because `datasets` decides on import whether it is offline."""
    program = (
        "from journeyman.config import DatasetProblems\n"
        "from journeyman.errors import DataError\n"
        "from journeyman.synthesis.problems import load_rows\n"
        "try: load_rows(DatasetProblems(path='openai/gsm8k', name='main'))\n"
        "except DataError as error: print(error)\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert "data set openai/gsm8k: the Hub can't be reached" in done.stdout
    assert "problems.path=FILE" in done.stdout


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.sampled_from([f"What is {n}?" for n in range(12)] + ["what IS 1"]), min_size=1, max_size=30),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(0, 5),
    st.randoms(),
)
def test_splits_share_no_question_and_lose_no_problem(questions, dev, heldout, seed, rng) -> None:
    problems = [problem(question, number) for number, question in enumerate(questions)]
    forms = {question_form(question) for question in questions}
    if len(forms) <= dev + heldout:
        with pytest.raises(DataError, match="too few"):
            split_problems(problems, dev=dev, heldout=heldout, seed=seed)
        return
    splits = split_problems(problems, dev=dev, heldout=heldout, seed=seed)
    parts = [splits.train, splits.dev, splits.heldout]
    asked = [{question_form(p.question) for p in part} for part in parts]
    assert (len(asked[1]), len(asked[2])) == (dev, heldout)
    assert not (asked[0] & asked[1] or asked[0] & asked[2] or asked[1] & asked[2])
    assert Counter(p.id for part in parts for p in part) == Counter(p.id for p in problems)
    rng.shuffle(problems)
    again = split_problems(problems, dev=dev, heldout=heldout, seed=seed)
    assert {p.id for p in again.heldout} == {p.id for p in splits.heldout}


def test_another_seed_sets_other_questions_aside() -> None:
    problems = [problem(f"What is {n}?", n) for n in range(200)]
    first, second = (split_problems(problems, dev=10, heldout=50, seed=seed) for seed in (0, 1))
    assert {p.id for p in first.heldout} != {p.id for p in second.heldout}
