"""Progress: CaRL's route, a judge's hops, relative gain; numbers by hand, and sums that telescope."""

import math
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.messages import Fault, ToolCall, ToolResult
from journeyman.rewards.base import Group
from journeyman.rewards.bounds import shaped
from journeyman.rewards.progress import FINISHED, NOTHING, carl, fused, gains, hopped, progress, relative_gain
from journeyman.trajectory import StopReason, Trajectory, Turn
from tests.unit.fakes import trajectory
from tests.unit.supplies import RuleJudge, group

GOALS = {"goals": [{"tool": "find", "answer": "7"}, {"tool": "count", "answer": "3"}]}


def turn(name: str = "", output: str = "", *, ok: bool = True, text: str = "", **arguments) -> Turn:
    if not name:
        return Turn(text=text)
    fault = None if ok else Fault.POLICY
    result = ToolResult(name=name, ok=ok, output=output, fault=fault)
    return Turn(text=text, calls=(ToolCall(name=name, arguments=arguments),), results=(result,))


def driven(reward, *turns: Turn, data: dict | None = None, **options):
    fields = {"stop_reason": options.pop("stop_reason", StopReason.ANSWER)}
    return reward(group(trajectory(turns=turns, **fields), data=GOALS if data is None else data), **options)[0]


def test_carl_by_hand() -> None:
    # half the route in each turn, the second with a malformed call beside it: 0.5 + 0.5 * 0.5
    first, second = turn("find", "it is 7"), turn("count", "3")
    broken = Turn(text="", calls=second.calls, results=second.results, error="unreadable")
    assert driven(carl, first, second).turns == (0.5, 0.5)
    assert driven(carl, first, broken).total == 0.75
    # a hard violation in turn 2: 0.5, and nothing after
    wipe = turn("wipe", "gone")
    assert driven(carl, first, wipe, second, forbidden=("wipe",)).turns == (0.5, 0.0, 0.0)
    assert driven(carl, first, wipe, second, forbidden=("wi*",), terminal_penalty=0.25).turns == (0.5, -0.25, 0.0)


def test_soft_factors_scale_only_their_own_turn() -> None:
    first, again = turn("find", "none", word="a"), turn("find", "7", word="a")
    assert driven(carl, first, again, turn("count", "3")).turns == (0.0, pytest.approx(0.4), 0.5)
    # a write that no goal asks for, next to a result: 0.5 * 0.5
    found = turn("find", "7")
    both = Turn(
        text="",
        calls=(*found.calls, ToolCall(name="save", arguments={})),
        results=(*found.results, turn("save").results[0]),
    )
    assert driven(carl, both, writes=("save",)).turns == (0.25,)
    assert driven(carl, both, writes=("save", "find"), unneeded_write=0.1).turns == (pytest.approx(0.05),)


def test_a_result_reaches_one_goal_once() -> None:
    data = {"goals": [{"tool": "find", "answer": "7"}, {"tool": "find", "answer": "7"}]}
    assert driven(carl, turn("find", "7"), data=data).total == 0.5
    assert driven(carl, turn("find", "77"), data=data).total == 0.0
    assert driven(carl, turn("find", "7", ok=False), data=data).total == 0.0
    assert driven(carl, turn("find", "whatever"), data={"goals": [{"tool": "find"}]}).total == 1.0


def test_carl_without_goals_or_through_nobodys_fault() -> None:
    assert driven(carl, turn("find", "7"), data={}).total is None
    assert driven(carl, turn("find", "7"), stop_reason=StopReason.TOOL).total is None
    assert driven(carl).total == 0.0


def test_carl_by_what_the_world_paid() -> None:
    turns = [Turn(text="", reward=0.5), Turn(text="", reward=-0.25), Turn(text="", reward=0.5)]
    # 0.5, 0.25, 0.75: the high-water mark
    assert driven(carl, *turns, data={}, progress="world").turns == (0.5, 0.0, 0.25)
    assert driven(carl, Turn(text="", reward=3.0), data={}, progress="world").total == 1.0


@given(st.lists(st.tuples(st.sampled_from(["find", "count", "wipe"]), st.sampled_from(["7", "3", "x"])), max_size=6))
def test_carl_stays_between_nothing_and_the_route(made: list[tuple[str, str]]) -> None:
    score = driven(carl, *[turn(name, output) for name, output in made], forbidden=("wipe",))
    assert score.total is not None
    assert 0 <= score.total <= score.parts["route"] <= 1
    assert score.total == pytest.approx(sum(score.turns))


def test_hops_by_hand() -> None:
    assert hopped(0.6, 0.5) == pytest.approx(0.8)
    assert hopped(0.6, -0.5) == pytest.approx(0.3)


@given(st.floats(0, 1), st.lists(st.floats(-1, 1), min_size=1, max_size=9))
def test_progress_stays_a_share(phi: float, hops: list[float]) -> None:
    for h in hops:
        phi = hopped(phi, h)
        assert 0 <= phi <= 1
    three = [*hops, 0.0, 0.0][:3]
    for views in ("incremental", "mean", "consistent"):
        assert -1e-9 <= fused(phi, three, views, 1.0) <= 1 + 1e-9


def test_views_are_fused_by_hand() -> None:
    # from 0.2: step 0.2 + 0.8 * 0.5 = 0.6; from the start 0.5; back from the end 1 - 0.3 = 0.7
    assert fused(0.2, [0.5, 0.5, -0.3], "mean", 1.0) == pytest.approx((0.6 + 0.5 + 0.7) / 3)
    # anchored mean 0.6, D = 0.2 / 0.6 = 1/3, w = exp(-1/9) = 0.894839; 0.2 + w/2 (0.6 - 0.2 + 0.4)
    assert fused(0.2, [0.5, 0.5, -0.3], "consistent", 1.0) == pytest.approx(0.2 + 0.894839 / 2 * 0.8, abs=1e-5)
    # D = 0: w = 1
    assert fused(0.2, [0.5, 0.6, -0.4], "consistent", 1.0) == pytest.approx(0.6)


def watched(reward, answer, *trajectories: Trajectory, **options):
    judge = RuleJudge(answer)
    found = reward(group(*trajectories), judge=judge, **options)
    return found, judge


def test_progress_by_hand() -> None:
    # +50 each time: 0.5, 0.75
    [score], judge = watched(progress, lambda q: "It is 50", trajectory(calls=1), views="incremental")
    assert score.turns == (0.5, 0.75)
    assert score.parts == {"progress": 0.75}
    assert len(judge.asked) == 2 and NOTHING in judge.asked[0]
    [score], _ = watched(progress, lambda q: "50", trajectory(calls=1), views="incremental", pays="gain")
    assert score.turns == (0.5, 0.25) and score.total == 0.75


def test_progress_asks_for_three_views() -> None:
    # incremental 50, from the start 40, from the end -60: (0.5 + 0.4 + 0.4) / 3
    [score], judge = watched(
        progress, lambda q: "-60" if FINISHED in q else "40" if NOTHING in q else "50", trajectory(calls=0)
    )
    # the first turn's state before is nothing, too: (0.4 + 0.4 + 0.4) / 3
    assert len(judge.asked) == 3
    assert score.turns == pytest.approx((0.4,))


def test_progress_composes_with_shaping() -> None:
    reward = shaped(lambda g: progress(g, views="incremental", judge=RuleJudge(lambda q: "50")), gamma=0.9)
    [score] = reward(group(trajectory(calls=1)))
    # 0.9 * 0.5, 0.9 * 0.75 - 0.5
    assert score.turns == pytest.approx((0.45, 0.175))


@pytest.mark.parametrize("answer", ["", "half", "150", "-101", "0.5", "a50"])
def test_an_answer_that_cannot_be_read_leaves_progress_unscored(answer: str) -> None:
    [score], _ = watched(progress, lambda q: answer, trajectory(calls=0))
    assert score.total is None


def test_progress_of_trajectories_without_turns_or_verdict() -> None:
    found, _ = watched(
        progress, lambda q: "50", trajectory(turns=()), trajectory(stop_reason=StopReason.INFRASTRUCTURE)
    )
    assert [(score.total, score.turns) for score in found] == [(0.0, ()), (None, ())]


def test_gains_by_hand() -> None:
    # -log .5 + log .8 = .470; -log .8 + log .8 = 0; back: -.470
    assert gains([[0.5], [0.8], [0.8], [0.5]], [1.0]) == pytest.approx([0.4700036, 0.0, -0.4700036])
    # two items, weights 2 and 1: (2 * .470 + 0) / 3
    assert gains([[0.5, 0.5], [0.8, 0.5]], [2.0, 1.0]) == pytest.approx([0.3133358])
    # at least 0.01
    assert gains([[0.0], [1.0]], [1.0]) == pytest.approx([math.log(100)])


@given(st.lists(st.lists(st.floats(0, 1), min_size=2, max_size=2), min_size=2, max_size=6), st.floats(0.5, 3))
def test_gains_telescope(path: list[list[float]], weight: float) -> None:
    whole = gains([path[0], path[-1]], [weight, 1.0])[0]
    assert sum(gains(path, [weight, 1.0])) == pytest.approx(whole, abs=1e-9)
    assert sum(gains([*path, path[0]], [weight, 1.0])) == pytest.approx(0, abs=1e-9)


def drafted(*texts: str, **fields) -> Trajectory:
    return trajectory(turns=tuple(Turn(text=text) for text in texts), **fields)


def judged(reward, *trajectories: Trajectory, items=("has a", "has b"), samples: int = 3) -> list:
    def rule(question: str) -> str:
        draft, item = re.findall(r"Draft:\n(.*)\n\nDoes this hold of the draft: has (\w)", question)[0]
        return "Yes." if item in draft else "No."

    data = {"checklist": list(items)}
    return reward(group(*trajectories, data=data), samples=samples, judge=RuleJudge(rule))


def test_relative_gain_by_hand() -> None:
    # three answers: yes (3 + 1) / 5 = .8, no 1/5 = .2; one trajectory, so no boundary: item a .5 -> .8 -> .8, b .5 -> .2 -> .8
    [score] = judged(relative_gain, drafted("a", "a b"))
    first = (math.log(0.8 / 0.5) + math.log(0.2 / 0.5)) / 2
    second = math.log(0.8 / 0.2) / 2
    assert score.turns == pytest.approx((first, second))
    assert score.parts["items_held"] == 1.0
    assert score.total == pytest.approx(math.log(0.8 / 0.5))


def test_the_boundary_counts_twice() -> None:
    # b is had by one of two last drafts: weight 2 of 3
    _, other = judged(relative_gain, drafted("a b"), drafted("a"))
    assert other.total == pytest.approx((math.log(0.8 / 0.5) + 2 * math.log(0.2 / 0.5)) / 3)


def test_turns_without_words_gain_nothing() -> None:
    [score] = judged(relative_gain, drafted("", "a b", " "))
    assert score.turns[0] == score.turns[2] == 0.0


def test_relative_gain_that_cannot_be_had() -> None:
    assert [s.total for s in judged(relative_gain, drafted("a"), items=())] == [None]
    assert [s.total for s in judged(relative_gain, drafted("a"), drafted("a", stop_reason=StopReason.TOOL))][1] is None
    unread = relative_gain(group(drafted("a"), data={"checklist": ["x"]}), judge=RuleJudge(lambda q: "perhaps"))
    assert unread[0].total is None
    assert judged(relative_gain, trajectory(turns=()))[0].total == 0.0


def test_the_group_may_come_without_a_problem() -> None:
    alone = Group(trajectories=(trajectory(),))
    assert carl(alone)[0].total is None
    assert relative_gain(alone, judge=RuleJudge())[0].total is None
    assert progress(alone, judge=RuleJudge(lambda q: "0"))[0].total == pytest.approx(
        sum(b for _, b in pairwise([0.0, 1 / 3, (1 / 3 + 0 + 1) / 3]))
    )
