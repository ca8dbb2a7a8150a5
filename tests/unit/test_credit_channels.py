"""Credit channel by channel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.credit import VOCABULARY
from journeyman.credit.base import Floats, ScoredBatch
from journeyman.credit.channels import per_channel, slim
from journeyman.credit.group import group_normalized
from journeyman.credit.readings import channels
from journeyman.expressions import ExpressionError, check
from tests.unit import naive_credit as naive
from tests.unit.batches import NUMBERS, attempt, each, rewarded

NONE = np.nan


def group(**columns: list[float]) -> tuple[ScoredBatch, dict[str, Floats]]:
    """One group, and its channels."""
    size = len(next(iter(columns.values())))
    return rewarded([0.0] * size), {name: np.array(values, np.float64) for name, values in columns.items()}


def test_per_channel_by_hand() -> None:
    # right, right, wrong, wrong; those that are right made 0 and 3 calls: 1 / (T + 1)
    batch, read = group(accuracy=[1, 1, 0, 0], calls=[1, 0.25, NONE, NONE])
    # accuracy: +-1; calls: (1 - .625) / .375 = 1 and -1 among the two
    found = each(batch, per_channel(batch, weights={"accuracy": 1.0, "calls": 0.15}, channels=read))
    assert found == pytest.approx([1.15, 0.85, -1, -1], abs=1e-5)
    # one alone is not compared
    batch, read = group(accuracy=[1, 0], calls=[1, NONE])
    assert each(batch, per_channel(batch, channels=read)) == pytest.approx([1, -1], abs=1e-5)


def test_slim_by_hand() -> None:
    # z of (0, 0, 0, 1): -.57735 and 1.73205, and so of (0, 100, 0, 0): the sum is -1.1547, 1.1547, -1.1547, 1.1547
    batch, read = group(one=[0, 0, 0, 1], other=[0, 100, 0, 0])
    assert each(batch, slim(batch, channels=read)) == pytest.approx([-1, 1, -1, 1], abs=1e-5)
    assert each(batch, per_channel(batch, channels=read)) == pytest.approx([-1.1547, 1.1547, -1.1547, 1.1547], abs=1e-4)
    # weights 2, 1: 2 * -.57735 - .57735 = -1.73205; -1.1547 + 1.73205 = .57735; 3.4641 - .57735 = 2.88675; std 1.914854
    weighed = each(batch, slim(batch, weights={"one": 2.0}, channels=read))
    assert weighed == pytest.approx([v / 1.914854 for v in (-1.73205, 0.57735, -1.73205, 2.88675)], abs=1e-4)


def test_a_channel_that_is_nearly_constant_has_no_say_in_slim() -> None:
    # in the first group it moves by .01 of the range 10 that it has in the second: std .05 < .1
    batch = rewarded([0, 0], [0, 0])
    read = {"flat": np.array([0.0, 0.1, 0.0, 10.0]), "other": np.array([1.0, 0.0, 1.0, 0.0])}
    flat_dropped = each(batch, slim(batch, channels=read))
    # z: first group 1, -1 of the other alone; second -1 + 1 = 0: whitened by sqrt(1/2)
    assert flat_dropped == pytest.approx([2**0.5, -(2**0.5), 0, 0], abs=1e-5)
    assert each(batch, per_channel(batch, channels=read)) == pytest.approx([0, 0, 0, 0], abs=1e-4)


def test_one_channel_is_plain_grpo() -> None:
    batch = rewarded([1, 0, 0, 1], [1, 2, 3])
    read = {"reward": batch.rewards_B}
    assert per_channel(batch, channels=read) == pytest.approx(group_normalized(batch))
    assert slim(batch, channels=read) == pytest.approx(group_normalized(batch), abs=1e-5)


@pytest.mark.parametrize("credit", [per_channel, slim])
def test_nothing_to_compare_gives_nothing(credit) -> None:
    batch, read = group(equal=[3, 3, 3], unknown=[NONE, NONE, NONE], alone=[NONE, 1, NONE])
    assert each(batch, credit(batch, channels=read)) == [0, 0, 0]
    assert each(batch, credit(batch, channels={})) == [0, 0, 0]
    assert credit(ScoredBatch.of([]), channels={}).shape == (0,)


@pytest.mark.parametrize("credit", [per_channel, slim])
@given(values=st.lists(NUMBERS, min_size=2, max_size=6), scale=st.sampled_from([0.5, 2.0, 100.0]))
@settings(max_examples=25)
def test_the_scale_of_a_channel_changes_nothing(credit, values: list[float], scale: float) -> None:
    batch, read = group(one=values, other=list(range(len(values))))
    scaled = {**read, "one": scale * read["one"]}
    assert credit(batch, channels=scaled) == pytest.approx(credit(batch, channels=read), abs=1e-2)


CHANNELS = st.fixed_dictionaries({"a": st.none() | NUMBERS}, optional={"b": st.none() | NUMBERS})


@given(rows=st.lists(st.lists(CHANNELS, min_size=1, max_size=5), min_size=1, max_size=3))
@settings(max_examples=40)
def test_per_channel_is_what_a_plain_loop_makes(rows: list[list[dict[str, float | None]]]) -> None:
    groups = [[attempt(0.0, reward_channels=row) for row in group] for group in rows]
    batch, weights = ScoredBatch.of(groups), {"a": 1.0, "b": 0.15}
    read = {"b": np.full(len(batch.rewards_B), NONE), **channels(batch)}
    expected = np.concatenate(naive.per_channel(groups, weights))
    assert per_channel(batch, weights=weights, channels=read) == pytest.approx(expected, abs=1e-6)


def test_weights_of_unknown_channels_are_refused() -> None:
    batch, read = group(accuracy=[1, 0])
    with pytest.raises(ValueError, match="no channel `calls`; the reward's are accuracy"):
        per_channel(batch, weights={"calls": 0.15}, channels=read)
    with pytest.raises(ExpressionError, match="weights"):
        check("per_channel(weights=3)", VOCABULARY)
