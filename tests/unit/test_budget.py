"""What a budget of demonstrations and episodes is best spent on."""

import pytest

from journeyman.evaluation.budget import Split, best_split, splits


def split(demonstrations: int, episodes: int) -> Split:
    return Split(demonstrations=demonstrations, episodes=episodes)


def test_splits_by_hand() -> None:
    # 60 demonstrations at 10 leave 400 for episodes at 1; 101 would cost 1010
    assert splits(1000, [0, 60, 100, 101], demonstration=10, episode=1) == [
        split(0, 1000),
        split(60, 400),
        split(100, 0),
    ]


def test_best_split_by_hand() -> None:
    # 0.5 - (n - 60)^2 / 10000 at 0, 50 and 100: the vertex is at 60
    trials = {split(0, 1000): 0.14, split(50, 500): 0.49, split(100, 0): 0.34}
    assert best_split(trials) == pytest.approx(60)


def test_best_split_stays_within_what_was_tried() -> None:
    rising = {split(0, 30): 0.0, split(10, 20): 0.2, split(20, 10): 0.3}  # the vertex is at 25
    assert best_split(rising) == 20
    upwards = {split(0, 30): 0.4, split(10, 20): 0.1, split(20, 10): 0.5}
    assert best_split(upwards) == 20
    with pytest.raises(ValueError, match="three or more"):
        best_split({split(0, 30): 0.4, split(10, 20): 0.1})
