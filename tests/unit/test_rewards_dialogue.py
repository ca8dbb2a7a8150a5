"""What user and model get out of a dialogue, and what questions are worth, worked out by hand."""

import asyncio
import json
import math
import random
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.environments.ambiguous import Ambiguous, AmbiguousEpisode, questions
from journeyman.errors import DataError
from journeyman.messages import ParsedTurn, ToolCall, ToolResult
from journeyman.rewards.dialogue import fitting_length, gtalign, information_asked, payoff_share, welfare
from journeyman.tools.base import CallContext
from journeyman.trajectory import StopReason, Trajectory, Turn
from tests.unit.fakes import trajectory
from tests.unit.supplies import group

BROKEN = trajectory(stop_reason=StopReason.ENVIRONMENT, correct=None)


# ---- GTAlign


def test_welfare_by_hand() -> None:
    assert welfare(0.8, 0.2) == pytest.approx(0.4)
    assert welfare(0.5, 0.5) == pytest.approx(0.5)  # both sum to 1
    assert welfare(0.8, 0.2, mean="arithmetic") == pytest.approx(0.5)
    assert welfare(1.0, 0.0) == 0


@given(st.floats(0, 1), st.floats(0, 1))
def test_welfare_is_symmetric_and_at_most_the_mean(user: float, model: float) -> None:
    assert welfare(user, model) == pytest.approx(welfare(model, user))
    assert welfare(user, model) <= welfare(user, model, mean="arithmetic") + 1e-12


def test_fitting_lengths_peak_below_one() -> None:
    assert fitting_length(260, 20, 500) == pytest.approx(0.591, abs=5e-4)  # sigmoid(1.2)^2
    assert fitting_length(750, 500, 1000) == pytest.approx(0.604, abs=5e-4)  # sigmoid(1.25)^2
    assert fitting_length(10, 20, 500) == pytest.approx(fitting_length(510, 20, 500))
    assert fitting_length(10**9, 20, 500) == pytest.approx(0)


def test_payoffs_by_hand() -> None:
    cells = {"direct": {"both": [5, 3], "clarify": [2, 2], "answer": [100, 95]}, "vague": [[0, 1], [0, 0], [-1, 1]]}
    # 2 + 0 + 1 (under a tenth) + 2 + 0 + 2 = 7 of 12
    assert payoff_share([f"<payoff>{json.dumps(cells)}</payoff>"]) == pytest.approx(7 / 12)
    for text in ("", "<payoff>[", "<payoff>" + "[" * 3000 + "</payoff>", f"<payoff>[[1{'0' * 400}, 1]]</payoff>"):
        assert payoff_share([text]) == 0


def test_gtalign_by_hand() -> None:
    t = trajectory(turns=(Turn(text="<think>hmm</think><answer>It is 42</answer>"),), answer="It is 42")
    # words: 3 of the answer; 3 of all: "<think>hmm</think><answer>It", "is", "42</answer>"
    user = 1e-4 + 0.5 + 0.2 * fitting_length(3, 20, 500) + 0.3 * math.exp(-3 / 500)
    model = 1e-4 + 0.2 + 0.4 + 0.2 * fitting_length(3, 500, 1000)
    found = gtalign([t, BROKEN])
    assert found[0].total == pytest.approx(math.sqrt(user * model)) and found[1].total is None
    assert found[0].parts["user_utility"] == pytest.approx(user)
    assert gtalign([t], mean="arithmetic")[0].total == pytest.approx((user + model) / 2)


def test_gtalign_pays_nothing_without_the_format_and_less_for_questions() -> None:
    assert gtalign([trajectory(answer=None)])[0].total == 0
    asking = trajectory(turns=(Turn(text="Which?", reply="That."), Turn(text="<answer>42</answer>")))
    free, dear = gtalign([asking])[0], gtalign([asking], question_cost=0.1)[0]
    assert free.parts["user_utility"] - dear.parts["user_utility"] == pytest.approx(0.1)
    assert gtalign([asking], question_cost=9)[0].parts["user_utility"] == pytest.approx(1e-4)
    graded = trajectory(score=0.5)
    assert gtalign([trajectory()])[0].parts["user_utility"] - gtalign([graded])[0].parts[
        "user_utility"
    ] == pytest.approx(0.25)


# ---- Nous

RECORDS = [
    {"id": f"mug-{number}", "colour": colour, "size": size}
    for number, (colour, size) in enumerate(
        [("red", "small"), ("red", "large"), ("blue", "small"), ("green", "small")], 1
    )
]
JOINT = {"candidates": RECORDS, "target": "mug-2"}
FACTORED = {
    "attributes": {"colour": ["red", "blue", "green", "white"], "size": ["small", "large"]},
    "intent": {"colour": "red", "size": "large"},
}


def asks(*said: tuple[str, str] | str, ok: bool = True) -> Trajectory:
    """A turn each: calls of `ask_user`, or (words, reply)."""
    made = []
    for one in said:
        if isinstance(one, tuple):
            made.append(Turn(text=one[0], reply=one[1]))
            continue
        attribute, _, value = one.partition("=")
        arguments = {"attribute": attribute} | ({"value": value} if value else {})
        result = ToolResult(name="ask_user", ok=ok, output="")
        made.append(Turn(text="", calls=(ToolCall(name="ask_user", arguments=arguments),), results=(result,)))
    return trajectory(turns=tuple(made))


def test_information_asked_by_hand() -> None:
    # four candidates, 2 bits; red leaves two, 1 bit; large leaves one
    found = information_asked(group(asks("colour", "size"), data=JOINT))[0]
    assert found.turns == pytest.approx((1.0, 1.0)) and found.total == pytest.approx(2.0)
    assert found.parts == pytest.approx({"information": 2, "entropy_before": 2, "entropy_after": 0})
    # is it blue? no: three are left, 2 - log2 3; asked again it tells nothing
    found = information_asked(group(asks("colour=blue", "colour=blue"), data=JOINT))[0]
    assert found.turns == pytest.approx((2 - math.log2(3), 0.0))


def test_information_asked_of_attributes_by_hand() -> None:
    # log2 4 + log2 2 = 3 bits; not blue: log2 3 + 1; which colour: 0 + 1
    found = information_asked(group(asks("colour=blue", "colour"), data=FACTORED))[0]
    assert found.turns == pytest.approx((2 - math.log2(3), math.log2(3)))
    assert found.parts["entropy_after"] == pytest.approx(1)
    yes = information_asked(group(asks("colour=red"), data=FACTORED))[0]
    assert yes.turns == pytest.approx((2.0,))


def test_questions_in_words_count_like_calls() -> None:
    said = asks(("What colour is it?", "The colour is red."), ("Is it small?", "No."), ("Is it nice?", "I can't say."))
    found = information_asked(group(said, data=JOINT), turn_cost=0.1)[0]
    assert found.turns == pytest.approx((0.9, 0.9, -0.1))
    vague = asks(("Is it small or large?", "No."), ("<think>colour</think>Well?", "It is red."))
    assert information_asked(group(vague, data=JOINT))[0].turns == (0.0, 0.0)


def test_what_was_not_answered_tells_nothing() -> None:
    assert information_asked(group(asks("colour", ok=False), data=JOINT))[0].total == 0
    assert information_asked(group(asks("weight"), data=JOINT))[0].total == 0
    assert information_asked(group(asks("colour")))[0].total is None
    assert information_asked(group(BROKEN, data=JOINT))[0].total is None
    assert information_asked(group(asks("colour"), data=JOINT), tool="ask")[0].total == 0
    with pytest.raises(DataError, match="target"):
        information_asked(group(asks("colour"), data={**JOINT, "target": "mug-9"}))
    with pytest.raises(DataError, match="intent"):
        information_asked(group(asks("colour"), data={**FACTORED, "intent": {"colour": "red"}}))


@given(
    st.permutations(["colour", "colour=blue", "size=small", "size", "colour=red"]), st.sampled_from([JOINT, FACTORED])
)
def test_gains_add_up_to_what_is_known_in_the_end(said: list[str], data: dict[str, object]) -> None:
    found = information_asked(group(asks(*said), data=data))[0]
    assert found.total == pytest.approx(found.parts["entropy_before"] - found.parts["entropy_after"])
    assert all(gain >= -1e-12 for gain in found.turns)
    assert found.parts["entropy_after"] == pytest.approx(0)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000))
def test_the_ambiguous_world_says_the_same(seed: int) -> None:
    world = Ambiguous()
    problem = next(islice(world.generate(random.Random(seed)), 1))
    episode = world.reset(problem, CallContext(trajectory="t", seed=0))
    assert isinstance(episode, AmbiguousEpisode)
    turns = []
    for arguments in questions(problem):
        call = ToolCall(name="ask_user", arguments=arguments)
        reaction = asyncio.run(episode.step(ParsedTurn(calls=(call,))))
        turns.append(Turn(text="", calls=(call,), results=reaction.results))
    words = "Is it blue?"
    reaction = asyncio.run(episode.step(ParsedTurn(text=words)))
    assert reaction.reply is not None
    turns.append(Turn(text=words, reply=reaction.reply.content))
    found = information_asked(group(trajectory(turns=tuple(turns)), problem=problem))[0]
    assert found.total == pytest.approx(episode.room.ledger.bits())
