"""When a block ends before its steps are done."""

import json

import pytest

from journeyman.config.rl import EndsConfig
from journeyman.training.endings import Endings


def ended(config: dict, values: list[float], *, tokens: int = 10, seconds: float = 1.0) -> list[str]:
    """The reason after each step whose accuracy is given."""
    made = Endings(EndsConfig.model_validate(config))
    found = []
    for value in values:
        made.look({"rollout/accuracy": value}, tokens=tokens, seconds=seconds)
        found.append(made.reason)
    return found


def test_a_block_without_ends_goes_on() -> None:
    assert ended({}, [0.0, 1.0, 1.0]) == ["", "", ""]


def test_tokens_and_seconds_are_summed() -> None:
    assert ended({"tokens": 25}, [0, 0, 0]) == ["", "", "30 of 25 tokens are sampled"]  # 10, 20, 30
    assert ended({"seconds": 2}, [0, 0, 0])[1] == "2 of 2 seconds are over"


def test_a_target_is_a_mean_over_the_last_steps() -> None:
    target = {"target": {"above": 0.8, "steps": 2}}
    found = ended(target, [1.0, 0.6, 0.9, 0.75])  # means .8 (not above), .75, .825
    assert found[:3] == ["", "", ""] and found[3] == "rollout/accuracy is 0.825, above 0.8"


def test_a_single_step_is_no_mean_of_two() -> None:
    assert ended({"target": {"above": 0.5, "steps": 2}}, [1.0]) == [""]


def test_a_plateau_compares_two_windows() -> None:
    plateau = {"plateau": {"steps": 2, "gain": 0.05}}
    # means of (.2, .4) and (.5, .5): a gain of .2; of (.4, .5) and (.5, .5): .05, not more than .05
    found = ended(plateau, [0.2, 0.4, 0.5, 0.5, 0.5])
    assert found[:4] == [""] * 4 and found[4] == "rollout/accuracy gained 0.05 in 2 steps, not more than 0.05"


def test_a_metric_that_a_step_does_not_have_is_passed_over() -> None:
    made = Endings(EndsConfig.model_validate({"target": {"metric": "rollout/score_mean", "above": 0.5, "steps": 1}}))
    made.look({"rollout/accuracy": 1.0}, tokens=1, seconds=1.0)
    assert not made.reason


def test_the_first_reason_stays() -> None:
    found = ended({"target": {"above": 0.5, "steps": 1}}, [1.0, 0.0])
    assert found[0] == found[1] != ""


@pytest.mark.parametrize("step", range(5))
def test_counts_survive_a_checkpoint(step: int) -> None:
    config = EndsConfig.model_validate({"tokens": 35, "plateau": {"steps": 2, "gain": 0.0}})
    values = [0.1, 0.2, 0.3, 0.4, 0.5]
    whole, first = Endings(config), Endings(config)
    for value in values:
        whole.look({"rollout/accuracy": value}, tokens=10, seconds=0.5)
    for value in values[:step]:
        first.look({"rollout/accuracy": value}, tokens=10, seconds=0.5)
    second = Endings(config)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for value in values[step:]:
        second.look({"rollout/accuracy": value}, tokens=10, seconds=0.5)
    assert second.state_dict() == whole.state_dict()
    assert whole.reason == "40 of 35 tokens are sampled"
