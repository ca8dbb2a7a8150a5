"""What a reader can make of a text: questions answered from a report, calls told from what they led to."""

import json
import re

import pytest

from journeyman.rewards.recovery import inverse, masked, recovered, usefulness
from tests.unit.calling import LOST, attempt, call, rejected, totals, turn, turns
from tests.unit.supplies import RuleJudge, group

COLOURS = ("red", "blue", "green", "grey", "pink", "gold", "black", "white")
QUESTIONS = [
    {
        "question": f"which colour has item {i}?",
        "options": [colour, *(c for c in COLOURS if c != colour)][:4],
        "answer": colour,
    }
    for i, colour in enumerate(COLOURS)
]


def reads(question: str) -> str:
    """A reader who names the option that the text has for the item, and nothing where it has none."""
    item = re.search(r"which colour has (item \d)", question)
    found = re.search(rf"{item[1] if item else ''} is (\w+)", question)
    option = re.search(rf"([A-Z])\) {found[1]}\b", question) if found else None
    return f" {option[1]}) it is " if option else "I can't tell"


def note(count: int) -> str:
    return ", ".join(f"item {i} is {colour}" for i, colour in enumerate(COLOURS[:count]))


def test_usefulness_by_hand() -> None:
    judge = RuleJudge(reads)
    asked = group(
        attempt(answer=note(6)), attempt(answer=""), attempt(answer=None), LOST, data={"questions": QUESTIONS}
    )
    assert totals(usefulness(asked, judge=judge)) == [0.75, 0.0, 0.0, None] and len(judge.asked) == 8
    # (3/4 - 1/4) / (1 - 1/4)
    assert totals(usefulness(asked, above_chance=True, judge=judge))[0] == pytest.approx(2 / 3)
    assert totals(usefulness(group(attempt()), judge=judge)) == [None]


def test_usefulness_is_the_same_in_whatever_order_options_stand() -> None:
    judge = RuleJudge(reads)
    attempts = [attempt(answer=note(6), id=f"t{i}") for i in range(5)]
    assert totals(usefulness(group(*attempts, data={"questions": QUESTIONS}), judge=judge)) == [0.75] * 5
    assert len(set(judge.asked)) > 20  # the orders differ
    again = RuleJudge(reads)
    usefulness(group(*attempts, data={"questions": QUESTIONS}), judge=again)
    assert again.asked == judge.asked


def test_usefulness_asks_again_where_there_are_few_questions() -> None:
    judge = RuleJudge(reads)
    asked = group(attempt(answer=note(1)), data={"questions": QUESTIONS[:2]})
    assert totals(usefulness(asked, questions=4, judge=judge)) == [0.5] and len(judge.asked) == 4


@pytest.mark.parametrize(
    ("said", "share"), [("A", 1), ("(A)", 1), ("A.", 1), ("A) red", 1), ("A reader can't tell", 0), ("a", 0), ("", 0)]
)
def test_a_reader_names_one_letter(said: str, share: int) -> None:
    one = [{"question": "which?", "options": ["red"], "answer": "red"}]
    assert totals(usefulness(group(attempt(), data={"questions": one}), judge=RuleJudge(lambda _: said))) == [share]


# --- RLIR -------------------------------------------------------------------------------------------------------------


def guesses(question: str) -> str:
    """A judge who knows the sea from the weather, and nothing else."""
    name = "f" if "sea" in question else "g"
    return f"It was {json.dumps({'name': name, 'arguments': {'a': 1}})}."


def test_inverse_by_hand() -> None:
    wet, dry = turn(call("f", a=1), outputs=("the sea",)), turn(call("f", a=1), outputs=("sand",))
    assert totals(inverse(group(attempt(wet, wet, wet, dry, answer=None)), judge=RuleJudge(guesses))) == [0.75]
    # the tool and 1 of 3 arguments: (1 + 1) / (1 + 3)
    made = call("f", a=1, b=2, c=3)
    assert recovered(made, guesses("sea")) == 0.5
    both = turn(made, call("g"), outputs=("the sea", "rain"))
    (score,) = inverse(group(attempt(both, wet)), judge=RuleJudge(guesses))
    # (1/2 + 1) / 3 and 1 / 3 of three calls
    assert score.turns == pytest.approx((0.5, 1 / 3, 0)) and score.total == pytest.approx(5 / 6)
    assert totals(inverse(group(attempt(), rejected(), LOST), judge=RuleJudge(guesses))) == [0.0, 0.0, None]


def test_an_observation_that_quotes_its_call_scores_as_if_it_didnt() -> None:
    made = call("find", what="sea", many=3)
    assert masked('find(what="sea", many=3): 33 seas', made) == '[...](what="[...]", many=[...]): 33 seas'
    quoting, plain = (turn(made, outputs=(text,)) for text in ("find sea 3: water", "[...] [...] [...]: water"))
    asked: list[RuleJudge] = [RuleJudge(guesses), RuleJudge(guesses)]
    one, other = (inverse(group(attempt(t)), judge=judge) for t, judge in zip((quoting, plain), asked, strict=True))
    assert one == other and asked[0].asked == asked[1].asked


def test_the_policy_can_play_the_tools() -> None:
    commands = [{"name": "f", "arguments": {"a": 1}}, {"name": "g", "arguments": {}}, {"name": "g", "arguments": {}}]
    played = attempt(turn(text="the sea"), turn(text="rain"), answer=None)
    # both are recovered, the third was never played
    (score,) = inverse(group(played, data={"commands": commands}), judge=RuleJudge(guesses))
    assert score.turns == pytest.approx((1 / 3, 1 / 3))


@pytest.mark.parametrize(
    "said", ["", "f", "{", '{"name": "f"', '["f"]', '{"name": "g", "arguments": {"a": 1}}', "{" * 900]
)
def test_what_names_no_call_recovers_none(said: str) -> None:
    assert recovered(call("f", a=1), said) == 0.0


def test_arguments_that_are_none_count_as_not_given() -> None:
    assert recovered(call("f", a=1), '{"name": "f", "arguments": [1]}') == 0.5
    assert turns(inverse(group(attempt(turn(call("f", a=1)))), judge=RuleJudge(lambda _: '{"name": "f"}'))) == [
        (0.5, 0.0)
    ]
