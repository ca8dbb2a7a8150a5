"""Texts that are alike: words, sequences, vectors, paraphrases, changes of files."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.graders.partial import jaccard
from journeyman.rewards.changes import change_similarity, changed_files, swe_rl
from journeyman.rewards.similarity import (
    bertscore,
    contrastive,
    exact_match,
    f1,
    group_similarity,
    rouge_l,
    similarity,
    soft_f1,
    text_ratio,
)
from journeyman.trajectory import Trajectory
from tests.unit.calling import LOST, attempt, call, of, rejected, totals, turn
from tests.unit.fakes import problem
from tests.unit.supplies import WordEncoder, group

WORDS = st.lists(st.sampled_from(["cat", "the", "sat", "down", "Mat!"]), max_size=6).map(" ".join)


def said(answer: str | None, reference: str = "42", **fields) -> Trajectory:
    return attempt(answer=answer, reference=reference, **fields)


def test_f1_by_hand() -> None:
    # {cat, sat} and {cat, sat, down}: 2 * 2 / (2 + 3)
    attempts = (said("The cat sat.", "cat sat down"), said("dog", "cat"), said(None, "cat"), LOST)
    assert totals(f1(group(*attempts))) == [0.8, 0.0, 0.0, None]
    named = problem(answer="New York", data={"aliases": ["the Big Apple"]})
    assert totals(f1(of(named, said("big apple", "New York")))) == [1.0]


def test_exact_match_by_hand() -> None:
    attempts = (said("The Cat!", "cat"), said("cats", "cat"), said("", "cat"), said(None, "cat"), LOST)
    assert totals(exact_match(group(*attempts))) == [1.0, 0.0, 0.0, 0.0, None]


def test_similarity_by_hand() -> None:
    one = said("abcd", "bcde")  # bcd of both: 2 * 3 / 8
    assert totals(similarity(group(one, said(None), LOST))) == [0.75, 0.0, None]
    words = said("a b c d", "a c d e")  # a c d: 2 * 3 / 8
    assert totals(similarity(group(words), measure="rouge_l")) == [0.75]
    assert totals(similarity(group(words), measure="f1")) == [pytest.approx(2 * 2 / (3 + 3))]  # without the article
    assert totals(similarity(group(said("a b c d", "a b c d")), measure="bleu")) == [1.0]


def test_long_texts_are_compared_line_by_line() -> None:
    line = "x" * 6000
    assert text_ratio(f"{line}\n{line}", f"{line}\n{line[:-1]}") == 0.5


def test_bags_in_common() -> None:
    assert jaccard(["f", "f", "g"], ["f", "g", "g"]) == 0.5 and jaccard([], []) == 1.0 and jaccard("a", "") == 0.0
    assert jaccard({"a": 5}, {"a": 7}) == 1.0


@settings(max_examples=50)
@given(one=WORDS, other=WORDS)
def test_rouge_l_agrees_with_a_table_of_common_sequences(one: str, other: str) -> None:
    first, second = (text.lower().replace("!", "").split() for text in (one, other))
    table = np.zeros((len(first) + 1, len(second) + 1), int)
    for i, j in product(range(len(first)), range(len(second))):
        table[i + 1, j + 1] = table[i, j] + 1 if first[i] == second[j] else max(table[i, j + 1], table[i + 1, j])
    longest, both = int(table[-1, -1]), len(first) + len(second)
    assert rouge_l(one, other) == pytest.approx(2 * longest / both if both else 1.0)


# --- paraphrases ------------------------------------------------------------------------------------------------------


def test_group_similarity_by_hand() -> None:
    own = (said("red cat", correct=True), said("dog", correct=False), said(None, correct=False), LOST)
    other = (said("red cat", problem_id="q"), said("red dog", problem_id="q"))
    elsewhere = (said("red cat", reference="7", problem_id="r"),)
    asked = group(*own, batch=(own, other, elsewhere))
    # f1 of "red cat": 1 and 1/2; of "dog": 0 and 2/3
    expected = [0.75, pytest.approx(1 / 3), 0.0, None]
    assert totals(group_similarity(asked, measure="f1")) == expected
    assert totals(group_similarity(asked, measure="f1", accuracy=2.0))[:2] == [2.75, pytest.approx(1 / 3)]
    assert totals(group_similarity(group(*own))) == [None] * 4
    assert totals(group_similarity(asked))[0] == pytest.approx((1 + _bleu("red cat", "red dog")) / 2)


def _bleu(one: str, other: str) -> float:
    from journeyman.tools.similarity import bleu

    return bleu(other, one)


# --- vectors ----------------------------------------------------------------------------------------------------------


class Pointed:
    """An Encoder of given directions."""

    def __init__(self, directions: Mapping[str, Sequence[float]]) -> None:
        self._directions = directions

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        rows = np.array([self._directions[text] for text in texts], float)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_contrastive_by_hand() -> None:
    # cosines .8 to its own question and .4 to another, T = .1: 1 / (1 + e^-4)
    rest = math.sqrt(1 - 0.8**2 - 0.4**2)
    encoder = Pointed({"own": (1, 0, 0), "other": (0, 1, 0), "f a 1": (0.8, 0.4, rest)})
    made = attempt(turn(call("f", a=1)), question="own")
    failed = attempt(turn(call("f", a=1), ok=False), question="own")
    other = attempt(turn(call("f", a=1)), question="other", problem_id="q")
    asked = group(
        made, failed, attempt(question="own"), replace(LOST, question="own"), batch=((made,), (other,), (other,))
    )
    assert totals(contrastive(asked, encoder=encoder)) == [pytest.approx(1 / (1 + math.exp(-4))), 0.0, 0.0, None]
    assert totals(contrastive(group(made), encoder=encoder)) == [1.0]  # one question alone
    assert totals(contrastive(group(failed), encoder=encoder)) == [0.0]


def test_contrastive_gives_calls_that_fit_every_question_an_equal_share() -> None:
    questions = [f"q{i}" for i in range(4)]
    encoder = Pointed({**{q: (*np.eye(4)[i], 0) for i, q in enumerate(questions)}, "f": (1, 1, 1, 1, 0)})
    batch = tuple((attempt(turn(call("f")), question=q),) for q in questions)
    assert totals(contrastive(group(*batch[2], batch=batch), encoder=encoder)) == [pytest.approx(0.25)]


def test_bertscore_by_hand() -> None:
    # P: (1 + .8) / 2, R: (1 + .8) / 2
    assert soft_f1(np.array([[1, 0.2], [0.4, 0.8]])) == pytest.approx(0.9)
    encoder = Pointed({"a": (1, 0), "b": (0, 1), "c": (0.6, 0.8)})
    # a c against a b: P (1 + .8) / 2, R (1 + .8) / 2; with b = .8: (.9 - .8) / .2
    asked = group(said("a c", "a b"), said(None, "a b"), said("a b", "a b"), said("a", ""), LOST)
    assert totals(bertscore(asked, encoder=encoder)) == pytest.approx([0.9, 0.0, 1.0, None, None])
    assert totals(bertscore(asked, baseline=0.8, encoder=encoder))[:3] == pytest.approx([0.5, 0.0, 1.0])
    told = group(said("a b", "z"), data={"reference_explanation": "b a"})
    assert totals(bertscore(told, encoder=encoder)) == pytest.approx([1.0])


@settings(max_examples=30)
@given(one=WORDS.filter(bool), other=WORDS.filter(bool))
def test_bertscore_is_the_same_the_other_way_round(one: str, other: str) -> None:
    there, back = (
        totals(bertscore(group(said(*pair)), encoder=WordEncoder()))[0] for pair in ((one, other), (other, one))
    )
    assert there == pytest.approx(back)


# --- changes ----------------------------------------------------------------------------------------------------------

FILES = {"a.py": "x = 1\ny = 2\n", "b.py": "z = 0\n"}
TRUE = {"a.py": "x = 1\ny = 3\n"}


def block(path: str, search: str, replacement: str) -> str:
    return f"```python\n### {path}\n<<<<<<< SEARCH\n{search}\n=======\n{replacement}\n>>>>>>> REPLACE\n```\n"


def changed(*answers: str | None) -> list[float | None]:
    return totals(swe_rl(group(*(said(a) for a in answers), data={"files": FILES, "reference_files": TRUE})))


def test_swe_rl_by_hand() -> None:
    true, near = block("a.py", "y = 2", "y = 3"), block("a.py", "y = 2", "y = 4")
    # the diffs are 36 characters long each, one differs: 2 * 35 / 72; a file besides halves it
    assert changed(true, near, true + block("b.py", "z = 0", "z = 9"), block("b.py", "z = 0", "z = 9")) == [
        *(1.0, pytest.approx(70 / 72), 0.5, 0.0)
    ]
    assert totals(swe_rl(group(rejected(), LOST, data={"files": FILES, "reference_files": TRUE}))) == [-1.0, None]
    assert totals(swe_rl(group(said(true)))) == [None]


def test_swe_rl_takes_off_1_for_what_is_no_change() -> None:
    assert (
        changed(
            None,
            "y = 3",
            block("a.py", "y = 2", "y = 2"),
            block("a.py", "= 2", "= 3"),  # not from the start of a line
            block("a.py", "", "y = 3"),  # an empty text is everywhere
            block("c.py", "y = 2", "y = 3"),
            '{"a.py": 3}',
            "{" * 5000,
        )
        == [-1.0] * 8
    )


def test_whole_files_and_new_ones_are_changes_too() -> None:
    assert changed(json.dumps(TRUE), json.dumps(FILES)) == [1.0, 0.0]
    assert changed_files(block("c.py", "", "new = 1"), FILES) == {"c.py": "new = 1"}
    assert changed_files(block("a.py", "x = 1", "x = 5") + block("a.py", "x = 5", "x = 6"), FILES) == {
        "a.py": "x = 6\ny = 2\n"
    }
    assert change_similarity(FILES, {}, {}) == 0.0


def test_a_change_that_grows_without_end_is_none() -> None:
    doubling = "".join(block("c.py", "a", "a\na") for _ in range(40))
    assert changed(block("c.py", "", "a") + doubling) == [-1.0]
    assert changed("### a.py\n<<<<<<< SEARCH\n" * 5000) == [-1.0]


@pytest.mark.parametrize("reward", [f1, exact_match, similarity])
@settings(max_examples=25)
@given(answers=st.lists(st.tuples(st.none() | WORDS, WORDS), min_size=1, max_size=4), order=st.randoms())
def test_rewards_of_answers_are_shares_blind_to_the_order(reward, answers: list, order) -> None:
    attempts = [said(answer, reference) for answer, reference in answers]
    found = totals(reward(group(*attempts)))
    assert all(value is not None and 0 <= value <= 1 for value in found)
    shuffled = list(range(len(attempts)))
    order.shuffle(shuffled)
    assert totals(reward(group(*(attempts[i] for i in shuffled)))) == [found[i] for i in shuffled]
