"""Rewards for exploring: novelty, curiosity that ignores noise, annotations that come later; kept over a kill."""

import asyncio
import json
import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.config import RlConfig
from journeyman.llm import Scripted
from journeyman.rewards.annotations import oni_classification, oni_ranking, oni_retrieval
from journeyman.rewards.base import Group, History, Score
from journeyman.rewards.curiosity import curiosity
from journeyman.rewards.encoders import build_encoder
from journeyman.rewards.judge import ChatJudge
from journeyman.rewards.novelty import mean_nearest, novelty
from journeyman.rewards.observations import array_from_json, array_to_json, embedded, running, slotted
from journeyman.training.fit import misfits
from journeyman.training.scoring import Scorer
from journeyman.trajectory import StopReason, ToolCall, ToolResult, Trajectory, Turn
from tests.unit.fakes import problem, trajectory
from tests.unit.supplies import RuleJudge, WordEncoder, group

BROKEN = trajectory(correct=None, stop_reason=StopReason.TOOL)


def called(output: str, argument: str = "x", tool: str = "look") -> Turn:
    return Turn(
        text="",
        calls=(ToolCall(name=tool, arguments={"of": argument}),),
        results=(ToolResult(name=tool, ok=True, output=output),),
    )


def attempt(*outputs: str, id: str = "t", **fields: Any) -> Trajectory:
    """A call for each output, then an answer."""
    return trajectory(id=id, turns=(*map(called, outputs), Turn(text="<answer>42</answer>")), **fields)


class Vectors:
    """An Encoder by table; what is not in it lies at 0."""

    def __init__(self, **table: Sequence[float]) -> None:
        self._table = table

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        width = len(next(iter(self._table.values())))
        return np.array([self._table.get(text, [0.0] * width) for text in texts], float)


def again(history: History) -> History:
    """A history that went through a checkpoint."""
    other = History()
    other.load_state_dict(json.loads(json.dumps(history.state_dict())))
    return other


def totals(scores: Sequence[Score]) -> list[Any]:
    return [pytest.approx(score.total, abs=1e-6) if score.total is not None else None for score in scores]


# ---- what is looked at


@pytest.mark.parametrize(
    ("text", "slots"),
    [
        ("order #A12-93 of 2024-05-01T10:22:07Z, total  12.50", "order #<id> of <time>, total <number>"),
        ("at 9:15 on 2024-05-01: -3, 1,200 and 1e-5", "at <time> on <time>: <number>, <number> and <number>"),
        ("5-3 kites 550e8400-e29b-41d4-a716-446655440000", "<id> kites <id>"),
        ("no such tool", "no such tool"),
        ("", ""),
    ],
)
def test_slots_by_hand(text: str, slots: str) -> None:
    assert slotted(text) == slots


@given(st.text(max_size=300))
def test_slots_are_filled_once(text: str) -> None:
    once = slotted(text)
    assert not any(one.isdigit() and one.isascii() for one in once) and slotted(once) == once


def test_long_vectors_are_thrown_onto_few_dimensions_that_keep_distances() -> None:
    texts = [f"word{i} word{i + 1}" for i in range(40)]
    long, short = (embedded(texts, WordEncoder(), most) for most in (None, 32))
    pairs = [(a, b) for a in texts[:10] for b in texts[20:30]]
    ratios = [
        np.linalg.norm(short[a] - short[b]) / np.linalg.norm(long[a] - long[b])
        for a, b in pairs
        if np.linalg.norm(long[a] - long[b]) > 0.1
    ]
    assert short[texts[0]].shape == (32,) and abs(float(np.mean(ratios)) - 1) < 0.15
    assert embedded([], WordEncoder()) == {}
    assert all(short[t] == pytest.approx(embedded([t], WordEncoder(), 32)[t]) for t in texts)


def test_arrays_are_kept_bit_for_bit() -> None:
    array = np.array([[0.1, -0.0], [math.pi, 1e-310]])
    back = array_from_json(json.loads(json.dumps(array_to_json(array))))
    assert back.tobytes() == array.tobytes() and back.shape == (2, 2) and back.flags.writeable


def test_running_numbers_by_hand() -> None:
    note: dict[str, Any] = {}
    assert running(note, "a", [2.0, 2.0]) == (2.0, 1.0)  # no deviation counts as 1
    assert running(note, "a", [4.0, 0.0]) == (2.0, pytest.approx(math.sqrt(2)))  # 2, 2, 4, 0: (0 + 0 + 4 + 4) / 4


def test_a_history_does_a_steps_work_once_and_refuses_what_it_does_not_know() -> None:
    history, done = History(), []

    def work() -> list[int]:
        done.append(1)
        return [10, 20]

    first, second = attempt("a", id="1"), attempt("b", id="2")
    batch = ((first,), (second,))
    both = [Group(trajectories=one, batch=tuple(batch)) for one in batch]
    assert [history.once("x", one, work) for one in (*both, both[0])] == [10, 20, 10] and len(done) == 1
    assert history.once("x", Group(trajectories=(second,)), lambda: [30]) == 30
    history.note("x")["seen"] = [1]
    copied = history.state_dict()
    history.note("x")["seen"].append(2)
    assert copied["notes"] == {"x": {"seen": [1]}}
    with pytest.raises(ValueError, match="no odd"):
        history.load_state_dict({**copied, "odd": 1})


# ---- novelty


def test_mean_nearest_by_hand() -> None:
    archive = np.array([[0.0], [1.0], [3.0]])
    # at 2: 1 away from 1 and from 3; at 0: 0 and 1
    assert mean_nearest(np.array([[2.0]]), archive, 2) == [1.0]
    assert mean_nearest(np.array([[0.0]]), archive, 2) == [0.5]
    # the same twice lowers both: at 2 then 0 and 1
    assert list(mean_nearest(np.array([[2.0], [2.0]]), archive, 2)) == [0.5, 0.5]
    assert mean_nearest(np.array([[5.0]]), np.empty((0, 1)), 2) == [0.0]


LINE = Vectors(zero=[0.0], one=[1.0], three=[3.0], ten=[10.0])


def test_novelty_by_hand() -> None:
    made = [attempt(word, id=word) for word in ("zero", "one", "three")]
    history = History()
    scores = novelty(group(*made, BROKEN), neighbours=2, kept=1, encoder=LINE, history=history)
    # On a line at 0, 1, 3 (the last observation stands in the mean, too: all times sqrt 2): mean distances 2, 1.5, 2.5;
    # mean 2, std sqrt(.5 / 3) = .40825
    assert totals(scores) == [0.0, -1.224745, 1.224745, None]
    assert [s.parts["novelty_distance"] / math.sqrt(2) for s in scores[:3]] == pytest.approx([2, 1.5, 2.5])
    # `three` was the most novel and is archived: now at 0 it is 1 and 3 away, at 1 1 and 2, at 3 0 and 2
    more = novelty(group(*made, step=1), neighbours=2, kept=1, encoder=LINE, history=history)
    assert [s.parts["novelty_distance"] / math.sqrt(2) for s in more] == pytest.approx([2, 1.5, 1], abs=1e-6)


def test_novelty_is_paid_in_every_other_phase() -> None:
    made = [attempt("zero"), attempt("one", id="u")]
    for step, paid in ((0, True), (9, True), (10, False), (19, False), (20, True)):
        scores = novelty(group(*made, attempt("ten", id="v"), step=step), encoder=LINE, history=History())
        assert any(s.total for s in scores) is paid and scores[2].parts["novelty_distance"] > 0
    always = novelty(group(*made, attempt("ten", id="v"), step=10), phase=None, encoder=LINE, history=History())
    assert always[2].total


def test_novelty_does_not_hang_on_how_the_axes_lie() -> None:
    rng = np.random.default_rng(0)
    rows = dict(zip("abcdefgh", rng.normal(size=(8, 3)), strict=True))
    turned = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    tables = [Vectors(**rows), Vectors(**{name: row @ turned for name, row in rows.items()})]
    histories = [History(), History()]
    for step in range(4):  # the axes are taken anew at every other step
        made = [attempt(*"abcdefgh"[step : step + 4 - i], id=str(i)) for i in range(4)]
        one, other = (
            novelty(group(*made, step=step), neighbours=3, refit=2, kept=2, encoder=table, history=history)
            for table, history in zip(tables, histories, strict=True)
        )
        assert totals(one) == [pytest.approx(s.total, abs=1e-4) for s in other]


def test_novelty_of_what_is_all_the_same_is_nothing() -> None:
    scores = novelty(group(*[trajectory(turns=(Turn(text="hm"),))] * 3), encoder=LINE, history=History())
    assert [score.total for score in scores] == [0.0] * 3
    assert novelty(group(BROKEN), encoder=LINE, history=History())[0].total is None


# ---- curiosity

NOISE = Vectors(left=[1.0, 0.0], right=[-1.0, 0.0], up=[1.0, 0.5], far=[0.3, 0.0])
"""Direction 1 is noise; what is new lies in direction 2."""


def curious(*made: Trajectory, history: History, **options: Any) -> list[list[float]]:
    scores = curiosity(group(*made), encoder=NOISE, history=history, **{"most": 100, **options})
    return [list(score.turns) for score in scores]


def test_curiosity_by_hand() -> None:
    history = History()
    # Nothing is known: |u|^2 = 1 for both, and no spread.
    assert curious(attempt("left", id="1"), attempt("right", id="2"), history=history) == [[1, 0], [1, 0]]
    # The same call has given left and right: they scatter along direction 1, which nobody could have foreseen, so that any
    # other draw along it earns nothing; .5 in direction 2 earns .25. (The regression knows the mean of both, which is 0.)
    # Over the spread of 1, 1, 0, .25: mean .5625, variance (2 .19141 + .31641 + .09766) / 4 = .19922
    news = curious(attempt("far", id="3"), attempt("up", id="4"), history=history, directions=1)
    assert news == [[pytest.approx(0, abs=1e-12), 0], [pytest.approx(0.25 / 0.446339, abs=1e-5), 0]]


def test_what_is_learned_earns_less_and_less() -> None:
    history, table = History(), Vectors(news=[0.0, 1.0])
    earned = []
    for step in range(60):
        made = group(attempt("news", id=str(step)), step=step)
        scores = curiosity(made, encoder=table, history=history, most=100)
        earned.append(scores[0].turns[0])
    assert earned[0] == 1 and all(0 <= one < 0.05 for one in earned[40:])


def test_a_tool_that_was_never_called_twice_alike_is_held_against_its_own_mean() -> None:
    history, table = History(), Vectors(far=[0.6], big=[1.0])
    turns = [trajectory(id=a, turns=(called(o, argument=a),)) for a, o in (("a", "far"), ("b", "big"))]
    first = curiosity(group(turns[0]), encoder=table, history=history, most=100)
    assert first[0].turns == (pytest.approx(0.36),)  # its mean so far is 0
    # The bias has learned from one row, x = 1: w = .6 / (1 + ridge) = .3, so u = .7 and .49 - .36 = .13; the spread of .36
    # and .13 is .115
    second = curiosity(group(turns[1]), encoder=table, history=history, most=100)
    assert second[0].turns == (pytest.approx(0.13 / 0.115),)


def test_curiosity_is_cut_and_left_out_where_nothing_can_be_said() -> None:
    scores = curiosity(group(attempt("left"), BROKEN), encoder=NOISE, history=History(), most=0.4)
    assert scores[0].turns == (0.4, 0.0) and scores[1].total is None


# ---- annotations


def helpful(*words: str) -> RuleJudge:
    """Says yes to results with one of the words."""

    def rule(question: str) -> str:
        return "yes" if any(word in question.rpartition("<<< ")[2] for word in words) else "no"

    return RuleJudge(rule)


def test_oni_retrieval_by_hand() -> None:
    history, judge = History(), helpful("key")
    made = attempt("a key 12", "a key 7", "a wall", "a key 3")
    assert totals(oni_retrieval(group(made), judge=judge, history=history)) == [0]  # nothing is labelled yet
    assert len(judge.asked) == 2  # `a key <number>` and `a wall`
    [score] = oni_retrieval(group(made, step=1), judge=judge, history=history)
    # the first, second, third time: 1, 1/8, 1/27
    assert score.turns == (1, 1 / 8, 0, pytest.approx(1 / 27), 0) and score.parts["known"] == 1
    # in a new attempt it counts from 1 again
    [other] = oni_retrieval(group(attempt("a key 1", id="u"), step=2), judge=judge, history=history)
    assert other.total == 1 and len(judge.asked) == 2
    [flat] = oni_retrieval(group(made, step=3), beta=0, judge=judge, history=history)
    assert flat.total == 3


def test_many_of_the_same_earn_less_than_zeta_of_three() -> None:
    history, judge = History(), helpful("key")
    for step in (0, 1):
        [score] = oni_retrieval(group(attempt(*["key"] * 60), step=step), judge=judge, history=history)
    assert score.total is not None and 1.2 < score.total < 1.2021


def test_the_newest_are_asked_first_and_no_label_is_a_no() -> None:
    history, judge = History(), RuleJudge(lambda _: "who knows")
    oni_retrieval(group(attempt("one", "two", "six")), batch=2, judge=judge, history=history)
    assert ["six" in judge.asked[0], "two" in judge.asked[1], len(judge.asked)] == [True, True, 2]
    [score] = oni_retrieval(group(attempt("one", "two", "ten"), step=1), batch=2, judge=judge, history=history)
    # unreadable answers are a no; `one` came again and is asked after `ten`
    assert score.total == 0 and score.parts["known"] == pytest.approx(1 / 3)
    assert "ten" in judge.asked[2] and "one" in judge.asked[3]


def test_labels_belong_to_a_family() -> None:
    history, judge = History(), helpful("key")
    oni_retrieval(group(attempt("key")), judge=judge, history=history)
    here, there = attempt("key"), attempt("key", id="u", family="lookup")
    assert totals(oni_retrieval(group(here, there, BROKEN, step=1), judge=judge, history=history)) == [1, 0, None]


TWO = Vectors(key=[1.0, 0.0], gem=[1.0, 0.0], wall=[0.0, 1.0])


def test_oni_classification_by_hand() -> None:
    history, judge = History(), helpful("key")
    first = oni_classification(group(attempt("key", "wall")), judge=judge, encoder=TWO, history=history)
    assert totals(first) == [0]  # the model says .5, which is not above .5
    # Labels `wall` 0 (asked first, for it came last), then `key` 1, with x = (1, 0, 1) and (0, 1, 1): after `wall` w =
    # (0, -.5, -.5); for `key` sigmoid(-.5) = .37754, so w = (.62246, -.5, .12246). key: .745, wall: -.378; `gem`, of which
    # nobody was asked, has the vector of `key`.
    [score] = oni_classification(
        group(attempt("key", "wall", "gem"), step=1), judge=judge, encoder=TWO, history=history
    )
    assert score.turns == (1, 0, 1, 0) and score.parts["known"] == pytest.approx(2 / 3)
    kept = array_from_json(history.note("oni_classification")["weights"])
    assert kept == pytest.approx([0.622459, -0.5, 0.122459], abs=1e-6)


def test_oni_ranking_by_hand() -> None:
    def rule(question: str) -> str:
        return "A" if "key" in question.split("<<< A\n")[1].split(">>>")[0] else "B"

    history, judge = History(), RuleJudge(rule)
    assert totals(oni_ranking(group(attempt("wall", "key")), judge=judge, encoder=TWO, history=history)) == [0]
    assert len(judge.asked) == 2  # one pair in both orders
    # key is preferred in both: w = (1 - .5) (x_key - x_wall) = (.5, -.5, 0). Scores .5 and -.5; with the two 0 of the first
    # step mean 0 and std sqrt(.5 / 4) = .353553: 1.414214 and -1.414214
    [score] = oni_ranking(group(attempt("key", "wall"), step=1), judge=judge, encoder=TWO, history=history)
    assert score.turns == (pytest.approx(math.sqrt(2)), pytest.approx(-math.sqrt(2)), 0)


def test_a_judge_that_goes_by_the_order_moves_no_rank() -> None:
    history, judge = History(), RuleJudge(lambda _: "A")
    for step in (0, 1):
        scores = oni_ranking(group(attempt("key", "wall"), step=step), judge=judge, encoder=TWO, history=history)
    assert totals(scores) == [0]


def test_a_step_does_not_wait_for_a_judge_that_can_answer_later() -> None:
    may_answer = threading.Event()

    def say(messages: Any) -> str:
        assert may_answer.wait(20)
        return "yes"

    chat, history = Scripted(say), History()
    judge = ChatJudge(chat)
    assert totals(oni_retrieval(group(attempt("key")), judge=judge, history=history)) == [0]  # comes back at once
    may_answer.set()
    # A kill between the two steps: what was asked is asked again, and the next step is the same.
    killed = again(history)
    for one in (history, killed):
        assert totals(oni_retrieval(group(attempt("key"), step=1), judge=judge, history=one)) == [1]
    assert again(history).state_dict() == again(killed).state_dict() and len(chat.asked) == 2
    judge.close()


def test_a_judge_that_is_closed_leaves_nothing_behind() -> None:
    class Never:
        async def complete(self, messages: Any, **how: Any) -> str:
            await asyncio.sleep(60)
            return "yes"

    judge = ChatJudge(Never())
    assert totals(oni_retrieval(group(attempt("key", "wall")), judge=judge, history=History())) == [0]
    waiting = judge.ask_later(["a question"])
    judge.close()
    with pytest.raises(CancelledError):
        waiting()


def test_what_is_scored_twice_in_a_step_waits_for_nobody() -> None:
    history, judge = History(), helpful("key")
    for word in ("key", "wall"):  # greedy attempts, then the others
        oni_retrieval(group(attempt(word)), judge=judge, history=history)
    assert len(judge.asked) == 1
    [score] = oni_retrieval(group(attempt("key", "wall"), step=1), judge=judge, history=history)
    assert score.turns == (1, 0, 0) and len(judge.asked) == 2 and "wall" in judge.asked[1]


# ---- all of them

ALL: dict[str, Callable[[History], Callable[[Group], list[Score]]]] = {
    "novelty": lambda h: lambda g: novelty(g, refit=2, kept=2, encoder=WordEncoder(), history=h),
    "curiosity": lambda h: lambda g: curiosity(g, dimensions=8, encoder=WordEncoder(), history=h),
    "oni_retrieval": lambda h: lambda g: oni_retrieval(g, batch=2, judge=helpful("up"), history=h),
    "oni_classification": lambda h: (
        lambda g: oni_classification(g, batch=2, judge=helpful("up"), encoder=WordEncoder(), history=h)
    ),
    "oni_ranking": lambda h: (
        lambda g: oni_ranking(
            g, batch=2, judge=RuleJudge(lambda q: "A" if hash_of(q) else "B"), encoder=WordEncoder(), history=h
        )
    ),
}
WORDS = ("up 1", "down 2", "left", "right 7", "in", "out")


def hash_of(text: str) -> int:
    return sum(map(ord, text)) % 2


def steps(count: int) -> list[list[Group]]:
    """Two groups a step."""
    made = []
    for step in range(count):
        both = tuple(
            tuple(
                attempt(*(WORDS[(step * g + i * k) % 6] for k in range(1, 4)), id=f"{step} {g} {i}") for i in range(3)
            )
            for g in (1, 2)
        )
        made.append([Group(trajectories=one, batch=both, step=step, steps=count) for one in both])
    return made


@pytest.mark.parametrize("name", ALL)
def test_a_killed_stage_goes_on_bit_for_bit_and_the_order_of_groups_does_not_matter(name: str) -> None:
    whole, killed, other_way = History(), History(), History()
    for number, both in enumerate(steps(6)):
        killed = again(killed) if number in (2, 4, 5) else killed
        scores = [ALL[name](whole)(one) for one in both]
        assert [ALL[name](killed)(one) for one in both] == scores
        assert [ALL[name](other_way)(one) for one in reversed(both)] == scores[::-1]
    assert again(whole).state_dict() == again(killed).state_dict() == again(other_way).state_dict()


def test_a_stage_scores_with_all_of_them_at_once() -> None:
    reward = "correct + 0.1 * novelty + 0.01 * curiosity + 0.4 * oni_retrieval + 0.4 * oni_classification + 0.1 * oni_ranking"
    block = RlConfig.model_validate(
        {"name": "x", "reward": reward, "credit": "turn_group", "judge": {"type": "sampler"}, "steps": 9}
    )
    supplied = {"encoder": build_encoder(block.encoder), "judge": helpful("up")}
    whole, killed = Scorer(block, supplied), Scorer(block, supplied)
    for number, both in enumerate(steps(4)):
        groups = [one.trajectories for one in both]
        scored = whole.score(groups, [problem(), problem("2?")], step=number)
        assert killed.score(groups, [problem(), problem("2?")], step=number) == scored
        assert all(t.reward is not None and len(t.turn_rewards) == 4 for part in scored for t in part)
        fresh = Scorer(block, supplied)
        fresh.history.load_state_dict(json.loads(json.dumps(killed.history.state_dict())))
        killed = fresh
    parts = scored[0][0].reward_parts
    assert {"novelty", "curiosity", "annotations", "known"} <= {name.split(".")[-1] for name in parts}


def test_what_a_block_lacks_is_said_when_it_is_loaded() -> None:
    def lacks(**block: Any) -> list[str]:
        return [f"{fault} {remedy}" for _, fault, remedy in misfits({"credit": "group", **block})]

    [fault] = lacks(reward="correct + oni_retrieval")
    assert "judge" in fault
    [fault] = lacks(reward="correct", credit="recurring")
    assert "turn by turn" in fault
    assert lacks(reward="world + 0.1 * novelty", credit="recurring(gamma_ep=0.9)") == []
