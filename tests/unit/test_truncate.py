"""Truncation: the result never measures more than its limit, and says where something is missing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.rollout.truncate import Side, truncate
from tests.unit.fakes import World

LOG = "".join(f"line {i}\n" for i in range(100))  # 10 * 7 + 90 * 8 = 790 characters


def test_the_marker_stands_where_something_is_missing() -> None:
    assert len(LOG) == 790
    marker = "\n[... 725 characters left out ...]\n"  # 35 long: 100 - 35 = 65 are kept, 790 - 65 missing
    assert truncate(LOG, 100, Side.RIGHT) == LOG[:65] + marker
    assert truncate(LOG, 100, Side.LEFT) == marker + LOG[-65:]
    assert truncate(LOG, 100, Side.MIDDLE) == LOG[:33] + marker + LOG[-32:]


def test_what_fits_is_left_alone() -> None:
    assert truncate(LOG, 790) is LOG and truncate("", 0) == ""


def test_a_marker_that_does_not_fit_gets_shorter() -> None:
    assert truncate("abcdefghijklmnopqrst", 8, Side.RIGHT) == "abc[...]"
    assert truncate("abcdefghijklmnopqrst", 3, Side.LEFT) == "rst"
    assert truncate("abc", 0) == ""
    with pytest.raises(ValueError, match="must not be negative"):
        truncate("abc", -1)


def test_tokens_can_be_the_measure(world: World) -> None:
    def tokens(text: str) -> int:
        return len(world.chat.outside(text))

    for side in Side:
        short = truncate(LOG, 60, side, tokens)
        assert "left out" in short and 55 <= tokens(short) <= 60


@given(st.text(max_size=80), st.integers(0, 90), st.sampled_from(Side))
def test_no_result_is_longer_than_its_limit(text: str, limit: int, side: Side) -> None:
    short = truncate(text, limit, side)
    assert len(short) <= limit or short == text
    if len(text) <= limit:
        assert short == text
    elif side is not Side.LEFT and limit > 40:
        assert short[0] == text[0]
    if len(text) > limit > 40 and side is not Side.RIGHT:
        assert short[-1] == text[-1]


@given(st.text("aé😀", max_size=60), st.integers(0, 80), st.sampled_from(Side))
def test_bytes_can_be_the_measure(text: str, limit: int, side: Side) -> None:
    def size(text: str) -> int:
        return len(text.encode())

    assert size(truncate(text, limit, side, size)) <= limit
