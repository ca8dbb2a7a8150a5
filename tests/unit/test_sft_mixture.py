"""Mixtures and phases: shares of kinds in every batch, each kind in epochs of its own."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.config import PhaseConfig, SftConfig
from journeyman.errors import DataError
from journeyman.training.handle import Row
from journeyman.training.mixture import Batches, batch_at, rounded, spread, sqrt_weights

KINDS = ["trajectory"] * 20 + ["world_model"] * 5 + ["signal/calls"] * 3 + ["signal/answers"] * 2
ROWS = [Row(token_ids=(number,) * (number % 7 + 1), mask=(1,) * (number % 7 + 1)) for number in range(len(KINDS))]


def batches(*phases: dict, steps: int = 12, size: int = 8, seed: int = 0) -> Batches:
    return Batches(ROWS, KINDS, [PhaseConfig(**phase) for phase in phases], steps=steps, size=size, seed=seed)


def kinds(batch: list[Row]) -> Counter[str]:
    return Counter(KINDS[row.token_ids[0]] for row in batch)


def test_shares_are_rounded_by_hand() -> None:
    assert rounded({"a": 3, "b": 1}, 8) == {"a": 6, "b": 2}
    # 3.5, 3.5, 1 of 8: the first of two equal remainders.
    assert rounded({"a": 3.5, "b": 3.5, "c": 1}, 8) == {"a": 4, "b": 3, "c": 1}
    # .08 of 8 is less than a row, which it has all the same; 7.92 then has 7.
    assert rounded({"a": 99, "b": 1}, 8) == {"a": 7, "b": 1}
    assert rounded({"a": 1, "b": 1}, 2) == {"a": 1, "b": 1}


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=8), st.integers(0, 40))
def test_rounded_shares_fill_the_batch_and_are_off_by_less_than_the_rows_that_all_have(
    shares: list[float], more: int
) -> None:
    size = len(shares) + more
    counts = rounded({str(i): share for i, share in enumerate(shares)}, size)
    assert sum(counts.values()) == size and min(counts.values()) >= 1
    for i, share in enumerate(shares):
        assert counts[str(i)] <= max(1, size * share / sum(shares)) + 1


def test_without_a_mixture_batches_are_those_of_all_rows_alike() -> None:
    ours = batches({})
    assert all(ours[step] == batch_at(ROWS, step, 8, 0) for step in range(12))
    assert ours.phases == [12]


def test_a_mixture_by_hand() -> None:
    ours = batches({"mixture": {"trajectory": 5, "world_model": 2, "signal": 1}})
    for step in range(12):
        found = kinds(ours[step])
        assert (found["trajectory"], found["world_model"]) == (5, 2)
        assert found["signal/calls"] + found["signal/answers"] == 1
    # Epochs of a kind: 4 batches hold each of 20 trajectories once, 5 hold each of 5 world models twice.
    drawn = [[row for row in ours[step] if KINDS[row.token_ids[0]] == "trajectory"] for step in range(8)]
    for begun in (0, 4):
        assert Counter(r.token_ids for rows in drawn[begun : begun + 4] for r in rows) == Counter(
            r.token_ids for r in ROWS[:20]
        )
    worlds = Counter(r.token_ids for step in range(5) for r in ours[step] if KINDS[r.token_ids[0]] == "world_model")
    assert set(worlds.values()) == {2}


def test_the_longest_name_takes_a_kind() -> None:
    ours = batches({"mixture": {"signal": 1, "signal/calls": 1}}, size=4)
    assert kinds(ours[0]) == {"signal/answers": 2, "signal/calls": 2}


def test_a_batch_is_a_function_of_the_step_and_the_seed() -> None:
    mixture = {"mixture": {"trajectory": 1, "world_model": 1}}
    ours, same, other = batches(mixture), batches(mixture), batches(mixture, seed=1)
    assert [ours[step] for step in range(12)] == [same[step] for step in reversed(range(12))][::-1]
    assert [ours[step] for step in range(12)] != [other[step] for step in range(12)]


def test_world_models_first_and_then_trajectories() -> None:
    ours = batches(
        {"share": 1, "mixture": {"world_model": 1}}, {"share": 2, "mixture": {"trajectory": 3, "world_model": 1}}
    )
    assert ours.phases == [4, 8]
    assert [kinds(ours[step]) for step in (0, 3)] == [{"world_model": 8}] * 2
    assert [kinds(ours[step]) for step in (4, 11)] == [{"trajectory": 6, "world_model": 2}] * 2


def test_a_phase_without_a_mixture_begins_its_own_epochs() -> None:
    ours = batches({"mixture": {"world_model": 1}}, {})
    assert [ours[step] for step in range(6, 12)] == [batch_at(ROWS, step, 8, 0) for step in range(6)]


@given(st.lists(st.floats(0.1, 9), min_size=1, max_size=5), st.integers(5, 60))
def test_phases_fill_the_steps(shares: list[float], steps: int) -> None:
    ours = batches(*({"share": share} for share in shares), steps=steps)
    assert sum(ours.phases) == steps and all(count >= 0 for count in ours.phases)
    for count, share in zip(ours.phases, shares, strict=True):
        assert abs(count - steps * share / sum(shares)) <= 1


def test_a_kind_that_no_row_has_is_told() -> None:
    with pytest.raises(DataError, match=r"(?s)asks for reflection.*there is signal/answers, signal/calls, trajectory"):
        batches({"mixture": {"reflection": 1, "trajectory": 1}})


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"steps": 7, "epochs": 2}, "given twice"),
        ({"dev_problems": 7}, "has no effect without evaluate_every"),
        ({"mixture": {"a": 1}, "phases": [{"share": 1}]}, "have mixtures of their own"),
        ({"batch": 1, "mixture": {"a": 1, "b": 1}}, "no row for each of 2 kinds"),
        ({"batch": 1, "phases": [{"mixture": {"a": 1, "b": 1}}]}, "no row for each of 2 kinds"),
        ({"mixture": {"a": 0}}, "greater than 0"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(fields: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        SftConfig.model_validate(fields)


def test_sqrt_weights_by_hand() -> None:
    # sqrt of 100, 400, 900: 10 + 20 + 30 = 60.
    weights = sqrt_weights({"a": 100, "b": 400, "c": 900})
    assert weights == {"a": pytest.approx(1 / 6), "b": pytest.approx(1 / 3), "c": pytest.approx(1 / 2)}
    assert sqrt_weights({"a": 0}) == {"a": 0.0} and sqrt_weights({}) == {}


def test_a_kind_that_stands_for_several_is_parted_by_square_roots() -> None:
    counts = {"trajectory": 50, "signal/a": 100, "signal/b": 400, "signal/c": 900}
    # sqrt: 10, 20, 30 of 60, so a sixth, a third, a half of the share of .6.
    found = spread({"trajectory": 0.4, "signal": 0.6}, counts, 32)
    assert found == pytest.approx({"trajectory": 0.4, "signal/a": 0.1, "signal/b": 0.2, "signal/c": 0.3})
    # Of four rows 2.4 are signals: no room for three types.
    assert spread({"trajectory": 0.4, "signal": 0.6}, counts, 4) == {"trajectory": 0.4, "signal": 0.6}
    assert "signal/a" in spread({"trajectory": 0.4, "signal": 0.6}, counts, 5)
    assert spread({"signal": 1, "signal/a": 1}, counts, 32).keys() == {"signal/a", "signal/b", "signal/c"}
