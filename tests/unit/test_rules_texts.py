"""Rules that compare texts: exact and near duplicates, what is evaluated on."""

import json
import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.curation.rules import build_rule
from journeyman.curation.rules.contamination import decontaminate, looked_up
from journeyman.curation.rules.duplicates import exact, near, unique_ids
from journeyman.curation.tokens import Words, words_of
from journeyman.errors import ConfigError
from journeyman.expressions import ExpressionError
from journeyman.trajectory import Turn
from tests.unit.curated import verdicts
from tests.unit.fakes import trajectory

STORY = (
    "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. "
    "How many clips did Natalia sell altogether in April and May?"
)


def test_exact_by_hand(tmp_path: Path) -> None:
    assert build_rule("exact") is exact
    rows = ["What is 3 + 5?", "what IS  3 + 5", "What is 3 - 5?", "What is 1,200 + 5?", "What is 1200 + 5"]
    found = verdicts(tmp_path, rows, "exact")
    assert found == {
        1: ("same question as an earlier row (row 0)", "q0"),
        4: ("same question as an earlier row (row 3)", "q3"),
    }


def test_exact_says_where_answers_differ(tmp_path: Path) -> None:
    from journeyman.curation.engine import Curation, Source
    from journeyman.progress import Silent
    from tests.unit.curated import questions

    path = questions(tmp_path / "rows.parquet", ["a b", "A b"], answer=["1", "2"])
    with Curation(Source.of(path), tmp_path / "work") as curation:
        curation.apply(["exact"], Silent())
        reasons = curation.database.execute("SELECT reason FROM dropped").fetchall()
    assert reasons == [("same question as an earlier row, with another answer (row 0)",)]


def test_exact_keeps_other_prompts_with_the_same_words(tmp_path: Path) -> None:
    first = trajectory(turns=(Turn(text="42"),))
    rows = [first, replace(first, question="Another prompt"), replace(first, id="again")]
    assert list(verdicts(tmp_path, rows, "exact")) == [2]


def test_unique_ids_by_hand(tmp_path: Path) -> None:
    assert build_rule("unique_ids") is unique_ids
    rows = [trajectory(), trajectory(question="Else?"), trajectory(id="other")]
    found = verdicts(tmp_path, rows, "unique_ids")
    assert found == {1: ("the id of an earlier row, with other content (row 0)", "t")}


def test_near_by_hand(tmp_path: Path) -> None:
    # 10 words, 9 runs of two. The second row has another last word: 8 of 10 different runs are shared, .8 >= .8. The
    # third has two other words in the middle, which stand in 3 runs: 6 shared of 12, .5. The fourth is the first's.
    one = "one two three four five six seven eight nine ten"
    rows = [one, one.replace("ten", "end"), one.replace("five six", "5 6"), one.upper() + "!"]
    assert build_rule("near") is near
    assert verdicts(tmp_path, rows, "near") == {
        1: ("nearly the words of an earlier row (row 0, similarity 0.80)", "q0"),
        3: ("nearly the words of an earlier row (row 0, similarity 1.00)", "q0"),
    }


def test_near_takes_its_threshold_and_its_runs(tmp_path: Path) -> None:
    one = "one two three four five six seven eight nine ten"
    rows = [one, one.replace("ten", "end")]
    assert verdicts(tmp_path / "a", rows, "near(threshold=0.81)") == {}
    assert verdicts(tmp_path / "b", rows, "near(shingle=3)") == {}  # 7 of 9, .78
    assert list(verdicts(tmp_path / "c", rows, "near(threshold=0.77, shingle=3)")) == [1]


def test_near_tells_numbers_apart_where_it_is_asked_to(tmp_path: Path) -> None:
    rows = [STORY, STORY.replace("48", "52"), STORY.replace("clips to", "clips, to")]
    assert list(verdicts(tmp_path / "any", rows, "near")) == [1, 2]
    assert list(verdicts(tmp_path / "same", rows, "near(same_numbers=True)")) == [2]


@pytest.mark.parametrize("rows", [[""], ["", ""], ["?", "?!"], ["word"], ["word", "word word"]])
def test_near_and_decontaminate_take_texts_without_words(tmp_path: Path, rows: list[str]) -> None:
    assert verdicts(tmp_path, rows, "near", "decontaminate", against=["", "?", "What is it?"]) == {}


def test_near_agrees_with_a_plain_loop(tmp_path: Path) -> None:
    rng = random.Random(5)
    words = [f"w{n}" for n in range(400)]
    rows: list[str] = []
    for _ in range(120):
        text = rng.choices(words, k=rng.randint(4, 40))
        rows.append(" ".join(text))
        for _ in range(rng.randint(0, 2)):  # copies with some words changed: similarities all over
            copy = [word if rng.random() < rng.choice((0.9, 0.97)) else rng.choice(words) for word in text]
            rows.append(" ".join(copy))
    sets = [set(zip(text.split(), text.split()[1:], strict=False)) for text in rows]
    expected = {
        j for j in range(len(rows)) if any(len(sets[i] & sets[j]) / len(sets[i] | sets[j]) >= 0.8 for i in range(j))
    }
    assert 10 < len(expected) < 200
    assert set(verdicts(tmp_path, rows, "near")) == expected


def test_decontaminate_by_hand(tmp_path: Path) -> None:
    assert build_rule("decontaminate") is decontaminate
    # The story has 30 words, 26 runs of five. One word changed in the middle breaks five of them: 21 of 26 is 81 %.
    rows = [
        STORY,
        f"solve THIS:  {STORY.lower()}   think step by step",
        STORY.replace("friends", "neighbours"),
        STORY.replace("48 of", "52 of").replace("half", "twice").replace("clips did", "pins did"),
        "Natalia sold clips to 48 of her friends. How much is a clip?",
    ]
    found = verdicts(
        tmp_path, rows, "decontaminate", against=["Something else altogether, with words of its own.", STORY]
    )
    assert {position: reason for position, (reason, _) in found.items()} == {
        0: "the question is evaluated on (exam)",
        1: "holds a question that is evaluated on (exam, 100 % of its words)",
        2: "holds a question that is evaluated on (exam, 81 % of its words)",
    }
    assert json.loads(found[2][1]) == {"id": "q1", "source": "exam", "text": STORY}


def test_decontaminate_catches_short_questions_and_no_others(tmp_path: Path) -> None:
    rows = [
        "what is 17 + 25",
        "Please tell me: what is 17 + 25?",
        "What is 17 + 26?",
        "What is 17 - 25?",
        "What is the capital of the country whose king lost the war of 1815?",
        "How many?",
        "How many apples does Ann have?",
    ]
    exam = ["What is 17 + 25?", "What is the capital?", "How many?"]
    assert sorted(verdicts(tmp_path, rows, "decontaminate", against=exam)) == [0, 1, 5]


def test_boilerplate_condemns_nobody(tmp_path: Path) -> None:
    shared = "You are given a table of sales by region and by month; answer with one number only and no other words."
    rows = [f"{shared} How much was sold in {town} during the year {n}?" for n, town in enumerate(["Rome"] * 40)]
    exam = [f"{shared} What did the {thing} weigh that left harbour {n}?" for n, thing in enumerate(["ship"] * 30)]
    assert verdicts(tmp_path, rows, "decontaminate", against=exam) == {}
    # As soon as few have it, it is no boilerplate: then this much of a question is most of it.
    assert verdicts(tmp_path / "few", [*rows[:1], exam[3]], "decontaminate", against=exam)[1][0].startswith(
        "the question"
    )


def test_a_question_inside_of_turns_is_found(tmp_path: Path) -> None:
    said = trajectory(turns=(Turn(text=f"<think>I recall: {STORY}</think>"), Turn(text="<answer>72</answer>")))
    assert list(verdicts(tmp_path, [trajectory(), said], "decontaminate", against=[STORY])) == [1]


def test_decontaminate_needs_something_to_hold_rows_against(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--against"):
        verdicts(tmp_path, ["a"], "decontaminate")


def test_looked_up_by_hand(tmp_path: Path) -> None:
    assert build_rule("looked_up") is looked_up
    # The reference 42 stands in the first turn, before the call's result shows it; the second row waits for it.
    early = Turn(text="<think>It is 42.</think>")
    rows = [trajectory(turns=(early, *trajectory().turns)), trajectory()]
    assert verdicts(tmp_path, rows, "looked_up") == {
        0: ("the answer is stated before a tool result shows it (turn 1)", None)
    }
    with pytest.raises(ConfigError, match="judges attempts"):
        verdicts(tmp_path / "problems", ["a"], "looked_up")


@pytest.mark.parametrize(
    "text", ["near(threshold=1.2)", "near(shingle=0)", "decontaminate(share=0)", "exact + near", "decontaminate(run=1)"]
)
def test_what_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError):
        build_rule(text)


@given(st.lists(st.lists(st.integers(0, 3), max_size=7), min_size=1, max_size=5), st.integers(1, 4), st.booleans())
@settings(max_examples=60, deadline=None)
def test_runs_are_those_of_a_plain_loop(texts: list[list[int]], length: int, shorter: bool) -> None:
    offsets = np.cumsum([0, *map(len, texts)])
    words = Words(
        positions_B=np.arange(len(texts)),
        offsets=offsets,
        hashes_W=np.array([word for text in texts for word in text], dtype=np.uint64),
    )
    runs, ends = words.runs(length, shorter=shorter)
    found = [runs[a:b].tolist() for a, b in pairwise(ends)]
    plain = [
        [tuple(text[i : i + length]) for i in range(len(text) - length + 1)]
        or ([tuple(text)] if text and shorter else [])
        for text in texts
    ]
    assert [len(one) for one in found] == [len(one) for one in plain]
    # Equal runs have equal numbers, and different runs of full length different ones.
    pairs = {
        (run, number)
        for ours, theirs in zip(plain, found, strict=True)
        for run, number in zip(ours, theirs, strict=True)
    }
    assert len({run for run, _ in pairs}) == len(pairs)
    full = {(run, number) for run, number in pairs if len(run) == length}
    assert len({number for _, number in full}) == len(full)


def test_words_are_read_in_batches_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("journeyman.curation.tokens.BATCH", 2)
    with duckdb.connect() as database:
        database.execute(
            "CREATE TABLE t AS SELECT i AS position, repeat('Word, ', i::INT) AS text FROM range(5000) AS r(i) WHERE i < 6"
        )
        batches = list(words_of(database, "t", "text"))
    assert [count for words in batches for count in words.counts_B.tolist()] == [0, 1, 2, 3, 4, 5]
    assert len({number for words in batches for number in words.hashes_W.tolist()}) == 1


def test_a_template_with_other_words_in_it_is_another_question(tmp_path: Path) -> None:
    exam = [
        "What is the total price where colour is brown and item is shelf?",
        "What is the total amount where shop is harbour?",
    ]
    rows = [
        "What is the total price where colour is brown and item is table?",
        "What is the total amount where shop is harbour and colour is brown?",
        "Look at the table! What is the total amount where shop is harbour? Answer with a number.",
        "Look at the table, then tell me what is the total amount where shop is harbour.",
        "The shop is harbour; what is the total amount?",
    ]
    assert sorted(verdicts(tmp_path, rows, "decontaminate", against=exam)) == [2, 3]
