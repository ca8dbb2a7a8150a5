"""Rewards for short thoughts: by hand, with the group gate on and off."""

import math
from itertools import pairwise
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.rewards.base import Group, History
from journeyman.rewards.length import difficulty, grpo_lambda, laser, laser_d, overlong, repeats, tokens, traac
from journeyman.trajectory import StopReason, Trajectory
from tests.unit.fakes import trajectory
from tests.unit.supplies import group

BROKEN = trajectory(stop_reason=StopReason.INFRASTRUCTURE, correct=None)
UP, DOWN = 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(1))


def long(tokens: int, correct: bool = True, **fields) -> Trajectory:
    """A trajectory of so many learned tokens."""
    return trajectory(tokens=tokens + 1, correct=correct, **fields)


def totals(scores) -> list[float | None]:
    return [score.total for score in scores]


def test_tokens_by_hand() -> None:
    assert totals(tokens([long(3), trajectory(token_ids=(), loss_mask=(), logprobs=()), BROKEN])) == [3.0, 0.0, None]


def test_overlong_by_hand() -> None:
    made = [long(n) for n in (1, 16384, 16385, 18432, 20480, 30000)]
    # 0 up to 20480 - 4096; then down to -1: 1/4096, 2048/4096
    assert totals(overlong([*made, BROKEN])) == pytest.approx([0, 0, -1 / 4096, -0.5, -1, -1, None])
    assert totals(overlong([long(9)], longest=10, cushion=4)) == [-0.75]
    assert totals(overlong([long(9)], longest=8, cushion=4)) == [-1.0]


def test_grpo_lambda_by_hand() -> None:
    # right ones of 2 and 4 tokens: mean 3, std 1, so z = -1 and 1
    best = [long(2), long(4), long(9, correct=False)]
    made = grpo_lambda(group(*best, BROKEN))
    assert totals(made) == pytest.approx([1 - 0.6 * DOWN, 1 - 0.6 * UP, 0.0, None])
    assert made[0].parts == pytest.approx({"correct": 1.0, "length_penalty": 0.6 * DOWN})
    # one right answer has no spread: sigmoid(0) = 1/2
    assert totals(grpo_lambda(group(long(2), long(4, correct=False)))) == pytest.approx([0.7, 0.0])
    assert totals(grpo_lambda(group(long(2, correct=False), BROKEN))) == [0.0, None]
    # calls 1 and 3 instead of tokens, with a = 1
    calls = grpo_lambda(group(trajectory(calls=1), trajectory(calls=3)), measure="calls", strength=1.0)
    assert totals(calls) == pytest.approx([1 - DOWN, 1 - UP])


def of_batch(*accuracies: int, share: float = 0.2, gate: bool = True) -> list[bool]:
    """Whether each group's lengths are penalised; groups of four with so many right ones."""
    batch = tuple(tuple(long(2 + i, correct=i < right) for i in range(4)) for right in accuracies)
    groups = [Group(trajectories=one, batch=batch) for one in batch]
    return [totals(grpo_lambda(one, share=share, gate=gate)) != [float(bool(t.correct)) for t in one] for one in groups]


def test_grpo_lambda_penalises_only_the_most_accurate_groups_of_the_step() -> None:
    assert of_batch(1, 4, 2, 3, 0) == [False, True, False, False, False]  # ceil(0.2 * 5) = 1
    assert of_batch(1, 4, 2, 3, 0, share=0.4) == [False, True, False, True, False]
    assert of_batch(4, 4, 2, 3, 0) == [True, True, False, False, False]  # equals go together
    assert of_batch(1, 4, 2, 3, 0, share=0.0) == [False] * 5
    # without the gate every group with a right answer is
    assert of_batch(1, 4, 2, 3, 0, gate=False) == [True, True, True, True, False]


@given(st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=2, max_size=6), st.integers(2, 5))
def test_grpo_lambda_is_blind_to_the_scale_of_lengths_and_against_a_loop(
    made: list[tuple[int, bool]], scale: int
) -> None:
    found = totals(grpo_lambda(group(*(long(n, correct=right) for n, right in made))))
    assert totals(grpo_lambda(group(*(long(n * scale, correct=r) for n, r in made)))) == pytest.approx(found)
    lengths = [n for n, right in made if right]
    for (n, right), total in zip(made, found, strict=True):
        if not right:
            assert total == 0
            continue
        mean = fmean(lengths)
        std = math.sqrt(fmean((length - mean) ** 2 for length in lengths))
        z = (n - mean) / std if std > 1e-9 else 0.0
        assert total == pytest.approx(1 - 0.6 / (1 + math.exp(-z)))


def test_laser_by_hand() -> None:
    made = [
        long(4),
        long(5),
        long(4, correct=False),  # readable, wrong
        long(4, correct=False, answer=None),
        long(4, correct=False, stop_reason=StopReason.MAX_TOKENS),
        BROKEN,
    ]
    assert totals(laser(made, target=4)) == [1.5, 1.0, -0.5, -1.0, -1.0, None]
    assert totals(laser(made, target=4, form="penalty")) == [1.0, 0.5, -0.5, -1.0, -1.0, None]
    assert totals(laser(made, target=4, form="hybrid")) == [1.5, 0.5, -0.5, -1.0, -1.0, None]
    assert totals(laser(made, target=4, bonus=0.2, wrong=0, unreadable=0))[:3] == pytest.approx([1.2, 1.0, 0.0])


GRID = {"shortest": 4, "interval": 2, "longest": 10}


def adapted(made: list[Trajectory], history: History | None = None, **options) -> list[tuple[float, float] | None]:
    """(total, target) of each."""
    scores = laser_d(made, history=history or History(), **{**GRID, **options})
    return [None if s.total is None else (s.total, s.parts["target_length"]) for s in scores]


def test_laser_d_by_hand() -> None:
    # easy: 3 of 3 right, n = int(2 * 3 / 3) = 2: half of the lengths 5, 7, 9 must fit, and 2 of 3 do at 8
    easy = laser_d([long(5), long(7), long(9)], shortest=4, interval=2, longest=10, history=History())
    assert totals(easy) == [1.5, 1.5, 1.0] and easy[2].parts == {"base": 1.0, "length": 0.0, "target_length": 8.0}
    # middling: 2 of 6, n = int(6 / 3) = 2: 3 of 6 fit at 6
    middling = [long(5), long(6), *(long(n, correct=False) for n in (5, 9, 9, 9))]
    assert adapted(middling)[:3] == [(1.5, 6.0), (1.5, 6.0), (-0.5, 6.0)]
    # hard: 1 of 4, n = 1: all of them must fit, and none of the grid holds 11: the longest
    hard = [long(9), *(long(n, correct=False) for n in (5, 5, 11))]
    assert adapted([*hard, BROKEN]) == [(1.5, 10.0), (-0.5, 10.0), (-0.5, 10.0), (-0.5, 10.0), None]
    assert adapted([BROKEN]) == [None] and adapted([]) == []


def test_laser_d_adapts_to_what_it_saw_class_by_class() -> None:
    history = History()
    assert adapted([long(9), long(9), long(9)], history)[0] == (1.5, 10.0)
    # easy lengths 9, 9, 9, 3, 3, 3 now: half fit at 4
    assert adapted([long(3), long(3), long(3)], history)[0] == (1.5, 4.0)
    # a hard group has its own
    assert adapted([long(7), *[long(7, correct=False)] * 3], history)[0] == (1.5, 8.0)
    # a window of three forgets the first group
    assert adapted([long(9), long(9), long(9)], history, window=3)[0] == (1.5, 10.0)


def test_laser_de_pays_for_exploring_where_it_does_not_repeat_itself() -> None:
    fresh = long(12, correct=False)
    stuck = long(12, correct=False, token_ids=(0, *(1, 2) * 6))
    made = [long(3), long(3), fresh, stuck]
    # middling, n = int(4 / 3) = 1: all four must fit, so that the target is the longest, 10
    assert [total for total, _ in filter(None, adapted(made))] == [1.5, 1.5, -0.5, -0.5]
    assert [total for total, _ in filter(None, adapted(made, explore=True))] == [1.5, 1.5, 0.0, -0.5]


def test_repeats() -> None:
    once = list(range(40))
    stuck = [*range(20), *[50, 51, 52, 53] * 5]

    def sampled(ids: list[int]) -> Trajectory:
        return trajectory(token_ids=tuple(ids), loss_mask=(1,) * len(ids))

    assert not repeats(sampled(once)) and repeats(sampled(stuck))
    assert not repeats(sampled([7] * 40))  # one and the same token
    assert not repeats(sampled([*stuck[:28]]))  # twice only
    assert not repeats(trajectory(token_ids=(), loss_mask=()))


@pytest.mark.parametrize(
    ("accuracy", "name"),
    [(1.0, "easy"), (2 / 3, "easy"), (0.6, "middling"), (1 / 3, "middling"), (0.3, "hard"), (0.0, "hard")],
)
def test_classes_of_difficulty(accuracy: float, name: str) -> None:
    assert difficulty(accuracy) == name


def test_traac_by_hand() -> None:
    # easy (3 of 4): right lengths 2, 4, 6: shortness 1, 1/2, 0 at 0.5, on 1 + 0.1
    easy = [long(2), long(4), long(6), long(1, correct=False), BROKEN]
    assert totals(traac(easy)) == pytest.approx([1.6, 1.35, 1.1, 0.1, None])
    # middling (2 of 4) at 0.25, hard (2 of 7) at 0
    middling = [long(2), long(6), *[long(1, correct=False)] * 2]
    assert totals(traac(middling))[:2] == pytest.approx([1.35, 1.1])
    hard = [long(2), long(6), *[long(1, correct=False)] * 5]
    assert totals(traac(hard))[:2] == pytest.approx([1.1, 1.1])
    assert totals(traac(hard, strengths={"hard": 1.0}, form=0.0))[:2] == pytest.approx([2.0, 1.0])
    # nothing to compare
    assert totals(traac([long(2)])) == pytest.approx([1.1]) and totals(traac([BROKEN])) == [None]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_shorter_right_answers_never_earn_less(lengths: list[int]) -> None:
    made = [long(n) for n in sorted(lengths)]
    for reward in (
        overlong,
        traac,
        laser,
        lambda g: grpo_lambda(group(*g)),
        lambda g: laser_d(g, history=History(), **GRID),
    ):
        found = [score.total for score in reward(made)]
        assert all(a >= b - 1e-12 for a, b in pairwise(found))
