"""Credit turn by turn: worked-out advantages, plain loops beside the arrays, invariances, groups with nothing to compare."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.credit.base import Floats, ScoredBatch
from journeyman.credit.group import group_normalized
from journeyman.credit.minform import pure
from journeyman.credit.readings import turn_rewards_U
from journeyman.credit.turns import capo, flow_grpo, igpo, matchtir, returns, toolpo, tp_grpo, turn_group
from journeyman.trajectory import Trajectory, Turn
from tests.unit.credit_batches import GROUPS, Earned, by_turn, paid, scored, to_go, z
from tests.unit.fakes import trajectory

A, B, C = (2.0, [1.0, 0.0]), (0.0, [0.0, 0.0]), (1.0, [1.0])
"""Paid turn by turn: A 1, 1 (the whole earned 1 more), B 0, 0, C 1."""
ALL = (flow_grpo, turn_group, returns, igpo, matchtir, toolpo, capo, tp_grpo, pure)


def credit(function: Callable[..., Floats], *groups: Earned, tokens: Any = None, **options: Any) -> list[list[float]]:
    batch, turn_rewards = scored(*groups, tokens=tokens, calls=options.pop("calls", None))
    if "turn_rewards_U" in inspect.signature(function).parameters:
        options["turn_rewards_U"] = turn_rewards
    return by_turn(batch, function(batch, **options))


def near(values: list[list[float]]) -> list[Any]:
    return [pytest.approx(row, abs=1e-4) for row in values]


def test_flow_grpo_by_hand() -> None:
    long, short = (1.0, [0.0] * 3), (0.0, [0.0])
    # over trajectories: mean 1/2, std 1/2
    assert credit(flow_grpo, [long, short]) == near([[1, 1, 1], [-1]])
    # over turns 1, 1, 1, 0: mean 3/4, std sqrt(3/16) = .4330: .25 / .4330 and -.75 / .4330
    assert credit(flow_grpo, [long, short], over="turns") == near([[0.57735] * 3, [-1.73205]])


@given(GROUPS)
def test_flow_grpo_over_trajectories_is_grpo(groups: list[Any]) -> None:
    batch, _ = scored(*groups)
    assert flow_grpo(batch) == pytest.approx(group_normalized(batch), abs=1e-9)


def test_turn_group_by_hand() -> None:
    # returns at the first index 2, 0, 1: mean 1, std sqrt(2/3) = .8165; at the second 1, 0: mean 1/2, std 1/2
    assert credit(turn_group, [A, B, C]) == near([[1.22474, 1], [-1.22474, -1], [0]])
    # rewards at the first index 1, 0, 1: mean 2/3, std .4714: 1/3 / .4714 and -2/3 / .4714
    assert credit(turn_group, [A, B, C], of="reward") == near([[0.70711, 1], [-1.41421, -1], [0.70711]])
    # gamma 1/2: first index 1.5, 0, 1: mean .8333, std sqrt((.4444 + .6944 + .0278) / 3) = .62361
    assert credit(turn_group, [A, B, C], gamma=0.5) == near([[1.06904, 1], [-1.33631, -1], [0.26726]])


def test_returns_by_hand() -> None:
    far = (3.0, [0.0, 0.0, 3.0])
    # to go: A 2, 1; B 0, 0; C 1; the far one 3, 3, 3
    assert credit(returns, [A, B, C, far]) == [[2, 1], [0, 0], [1], [3, 3, 3]]
    assert credit(returns, [A], gamma=0.5) == [[1.5, 1]]
    # first index: mean 6/4; second: 4/3; third: the far one alone
    assert credit(returns, [A, B, C, far], baseline="mean") == near(
        [[0.5, -1 / 3], [-1.5, -4 / 3], [-0.5], [1.5, 5 / 3, 0]]
    )
    # first index without the own one: 4/3, 2, 5/3, 1; second: 3/2, 2, 1/2; third: nobody
    assert credit(returns, [A, B, C, far], baseline="leave_one_out") == near(
        [[2 / 3, -0.5], [-2, -2], [-2 / 3], [2, 2.5, 3]]
    )


def test_returns_is_the_sum_form_of_pure() -> None:
    steps = [1.0, 0.5, -1.0]
    assert credit(returns, [(0.5, steps)]) == [[0.5, -0.5, -1]]
    # the least form sees the worst step alone: weights e^-20, e^-15 and nearly 1
    assert credit(pure, [(0.5, steps)], baseline="none") == near([[-1, -1, -1]])


def test_igpo_by_hand() -> None:
    # paid 1, 1, 0, 0, 1: mean .6, std sqrt(.24) = .4899: z .81650 and -1.22474; then summed from each turn on
    assert credit(igpo, [A, B, C]) == near([[1.63299, 0.81650], [-2.44949, -1.22474], [0.81650]])
    # gamma 1/2: .81650 + .40825
    assert credit(igpo, [A, B, C], gamma=0.5)[0] == pytest.approx([1.22474, 0.81650], abs=1e-4)


def placed(reward: float, turn_rewards: tuple[float, ...], mask: tuple[int, ...]) -> Trajectory:
    """A trajectory whose turns are the runs of learned tokens."""
    edges = [i for i in range(1, len(mask) + 1) if i == len(mask) or mask[i] != mask[i - 1]]
    runs = [(start, stop) for start, stop in zip([0, *edges], edges, strict=False) if mask[start]]
    turns = tuple(Turn(text="", start=start, stop=stop) for start, stop in runs)
    made = trajectory(tokens=len(mask), loss_mask=mask, turns=turns)
    return made.scored(reward, {}, turn_rewards=turn_rewards)


def test_igpo_as_released_differs() -> None:
    one = placed(2.0, (1.0, 0.0), (0, 1, 0, 1))
    other = placed(1.0, (0.0, 0.0), (0, 1, 1, 0, 1))
    batch = ScoredBatch.of([[one, other]])
    first, second = batch.split(igpo(batch, turn_rewards_U=turn_rewards_U(batch), form="released"))
    # to go by token: 2 2 1 1 and 1 1 1 1 1; means 1.5 1.5 1 1 .5, where the one that has ended counts as 0
    assert first == pytest.approx([0, 0.5, 0, 0])
    assert second == pytest.approx([0, -0.5, 0, 0, 0.5])
    paper = igpo(batch, turn_rewards_U=turn_rewards_U(batch))
    # paid 1, 1, 0, 1: mean 3/4, std .4330: .57735, -1.73205
    assert paper[batch.mask_T] == pytest.approx([1.15470, 0.57735, -1.15470, -1.15470, 0.57735], abs=1e-4)


def test_matchtir_by_hand() -> None:
    # trajectories 2, 0, 1: z 1.22474, -1.22474, 0; to go with .9 at the first index 1.9, 0, 1: mean .96667, std .77603:
    # z 1.20270, -1.24566, .04295; at the second 1, 0: +-1; then halves
    assert credit(matchtir, [A, B, C]) == near([[1.21372, 1.11237], [-1.23520, -1.11237], [0.02148]])


def test_toolpo_by_hand() -> None:
    # A: calls earn 1, the rest 1; B: 0 and 0. A call turn then an answer: .5 + .5 and .5
    assert credit(toolpo, [A, B], calls=[1, 0, 1, 0]) == [[1, 0.5], [-1, -0.5]]
    assert credit(toolpo, [A, B], calls=[1, 0, 1, 0], weight=0.5) == [[0.75, 0.5], [-0.75, -0.5]]
    assert credit(toolpo, [A, B], calls=[0, 0, 0, 0]) == [[0.5, 0.5], [-0.5, -0.5]]


def test_capo_by_hand() -> None:
    right, wrong = (0.0, [-1.0, 0.0]), (-1.0, [0.0, -1.0])
    # 2 - 1, 2, 0, -1: mean 1/2, std sqrt(1.25) = 1.11803
    assert credit(capo, [right, wrong]) == near([[0.44721, 1.34164], [-0.44721, -1.34164]])
    # the last turn has 3 tokens, so 1, 2, 0, -1, -1, -1: mean 0, std sqrt(8/6) = 1.15470
    assert credit(capo, [right, wrong], tokens=[1, 1, 1, 3]) == near([[0.86603, 1.73205], [0, -0.86603]])
    # how wrong a step is makes no difference
    assert credit(capo, [(-4.0, [-5.0, 0.0]), wrong]) == credit(capo, [right, wrong])


def test_tp_grpo_by_hand() -> None:
    right, wrong = (1.5, [1.0, 0.5, -1.0]), (-3.0, [-1.0, -2.0])
    # outcomes 1, 0: z +-1; thoughts (1, .5) -> .75, (-1), (-1, -2) -> -1.5; half of the group is right
    assert credit(tp_grpo, [right, wrong]) == near([[1.75, 1.75, 0], [-2.5, -2.5]])
    assert credit(tp_grpo, [right, wrong], threshold=0.6) == near([[1.75, 1.75, 1], [-1, -1]])
    assert credit(tp_grpo, [right, wrong], weight=2.0)[0] == pytest.approx([2.5, 2.5, -1], abs=1e-4)
    # the same label in the next trajectory is another thought
    assert credit(tp_grpo, [(2.0, [1.0]), (4.0, [3.0])]) == near([[1], [3]])


@settings(max_examples=60)
@given(groups=GROUPS, gamma=st.sampled_from([1.0, 0.9, 0.0]))
def test_turns_against_plain_loops(groups: list[Any], gamma: float) -> None:
    made: dict[str, list[list[float]]] = {name: [] for name in ("turn", "none", "mean", "others", "igpo", "matchtir")}
    for group in groups:
        gone = [to_go(paid(*one), gamma) for one in group]
        at = [[own[k] for own in gone if len(own) > k] for k in range(4)]
        pooled = z([r for one in group for r in paid(*one)])
        whole = z([reward for reward, _ in group])
        for i, own in enumerate(gone):
            places = [sum(len(other) > k for other in gone[:i]) for k in range(len(own))]
            turn = [z(at[k])[places[k]] for k in range(len(own))]
            before = sum(map(len, gone[:i]))
            made["turn"].append(turn)
            made["none"].append(own)
            made["mean"].append([r - sum(at[k]) / len(at[k]) for k, r in enumerate(own)])
            made["others"].append([r - (sum(at[k]) - r) / max(1, len(at[k]) - 1) for k, r in enumerate(own)])
            made["igpo"].append(to_go(pooled[before : before + len(own)], gamma))
            made["matchtir"].append([(whole[i] + t) / 2 for t in turn])
    assert credit(turn_group, *groups, gamma=gamma) == near(made["turn"])
    assert credit(returns, *groups, gamma=gamma) == near(made["none"])
    assert credit(returns, *groups, gamma=gamma, baseline="mean") == near(made["mean"])
    assert credit(returns, *groups, gamma=gamma, baseline="leave_one_out") == near(made["others"])
    assert credit(igpo, *groups, gamma=gamma) == near(made["igpo"])
    assert credit(matchtir, *groups, gamma=gamma) == near(made["matchtir"])


@pytest.mark.parametrize("function", ALL)
@settings(max_examples=25)
@given(groups=GROUPS, order=st.randoms())
def test_it_goes_with_the_trajectory_and_stays_in_its_group(function: Any, groups: list[Any], order: Any) -> None:
    whole = credit(function, *groups)
    assert [row for group in groups for row in credit(function, group)] == near(whole)
    last = groups[-1]
    shuffled = list(range(len(last)))
    order.shuffle(shuffled)
    alone = credit(function, last)
    assert credit(function, [last[i] for i in shuffled]) == near([alone[i] for i in shuffled])


@pytest.mark.parametrize("function", [flow_grpo, turn_group, toolpo])
@settings(max_examples=25)
@given(groups=GROUPS, shift=st.integers(-3, 3))
def test_a_constant_added_to_all_outcomes_makes_no_difference(function: Any, groups: list[Any], shift: int) -> None:
    shifted = [[(reward + shift, turns) for reward, turns in group] for group in groups]
    assert credit(function, *shifted) == near(credit(function, *groups))


@pytest.mark.parametrize("function", [flow_grpo, turn_group, igpo, matchtir, toolpo, capo])
@pytest.mark.parametrize("size", [1, 3])
def test_equals_have_nothing_to_compare(function: Any, size: int) -> None:
    assert credit(function, [(0.1, [0.0])] * size) == near([[0]] * size)


def test_turns_without_tokens_take_part_but_get_nothing() -> None:
    batch, turn_rewards = scored([A, B], tokens=[0, 2, 1, 0])
    values = returns(batch, turn_rewards_U=turn_rewards)
    assert values[batch.mask_T] == pytest.approx([1, 1, 0])
    nobody, none = scored([A, B], tokens=[0] * 4)
    for function in (capo, pure, returns):
        assert not function(nobody, turn_rewards_U=none).any()


def test_trajectories_without_turns_or_turn_rewards() -> None:
    made = [trajectory(tokens=3, turns=()).scored(1.0, {}), trajectory(calls=1).scored(0.0, {})]
    batch = ScoredBatch.of([made])
    assert turn_rewards_U(batch) == pytest.approx([0, 0, 0])
    values = igpo(batch, turn_rewards_U=turn_rewards_U(batch))
    assert np.isfinite(values).all() and len(values) == 7
