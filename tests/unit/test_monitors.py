"""Monitors: what each measures, worked out by hand; when they warn, pause and stop; that a resumed run watches on."""

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from journeyman.actors import InlineWorkers
from journeyman.config import MonitorsConfig, RlConfig
from journeyman.config.monitors import Highest, Lowest
from journeyman.errors import InfrastructureError, PausedError
from journeyman.metrics import known
from journeyman.monitors import MONITORS, Monitors
from journeyman.monitors.attempts import (
    call_share,
    invented_results,
    length_collapse,
    length_of_wrong,
    repetition,
    reward_outcome_correlation,
    reward_without_outcome,
    tool_errors,
    turn_weighting,
)
from journeyman.monitors.base import WINDOW, Reading, Step, slope
from journeyman.monitors.policy import (
    entropy_collapse,
    masked_share,
    sampler_chi_square,
    sampler_kl,
    staleness,
    truncated_share,
    zero_variance_groups,
)
from journeyman.problem import Problem
from journeyman.progress import Silent
from journeyman.rewards import REWARDS, Score
from journeyman.rollout.formats.hermes import Hermes
from journeyman.training.handle import Row
from journeyman.training.mismatch import CAP, mismatch
from journeyman.training.reinforce import Inputs, run_rl
from journeyman.training.scoring import Scorer
from journeyman.trajectory import StopReason, ToolResult, Trajectory, Turn
from tests.unit.fakes import COMPUTE, MAX_LENGTH, World, problem, trajectory


def step(*groups: Sequence[Trajectory], version: int = 0, **metrics: float) -> Step:
    return Step(groups=groups, metrics={f"policy/{name}": value for name, value in metrics.items()}, version=version)


def paid(reward: float | None, correct: bool | None = True, **fields: Any) -> Trajectory:
    return trajectory(**{"correct": correct, "reward": reward, **fields})


def said(*texts: str) -> Trajectory:
    return trajectory(turns=tuple(Turn(text=text) for text in texts))


def row(old: Sequence[float], sampled: Sequence[float], mask: Sequence[int]) -> Row:
    return Row(token_ids=(7,) * len(mask), mask=tuple(mask), logprobs=tuple(sampled), old_logprobs=tuple(old))


def test_mismatch_is_worked_out_over_learned_tokens() -> None:
    log2 = math.log(2)
    # d = log 2 and -log 2 in one row, log 2 in the other; what is masked is left out.
    rows = [row((0, log2, 9, -log2), (0, 0, 0, 0), (0, 1, 0, 1)), row((0, log2), (0, 0), (0, 1))]
    found = mismatch(rows)
    # 2 - 1 - log 2, 1/2 - 1 + log 2, 2 - 1 - log 2: together 3/2 - log 2
    assert found["policy/sampler_kl_nats"] == pytest.approx((1.5 - log2) / 3)
    # whole rows: ratios 1 and 2, so (0 + 1) / 2
    assert found["policy/sampler_chi_square"] == pytest.approx(0.5)
    assert mismatch([row((0, -1), (0, -1), (0, 1))]) == {
        "policy/sampler_kl_nats": 0,
        "policy/sampler_chi_square": 0,
    }
    assert mismatch([]) == mismatch([row((), (0, -1), (0, 1))]) == {}
    far = mismatch([row((0, 0), (0, -1e9), (0, 1))])
    assert far["policy/sampler_chi_square"] == pytest.approx(math.expm1(CAP) ** 2)


def test_sampler_kl_by_hand() -> None:
    assert sampler_kl(step(sampler_kl_nats=0.25), []).value == 0.25
    assert sampler_kl(step(), []) == Reading()


def test_sampler_chi_square_by_hand() -> None:
    assert sampler_chi_square(step(sampler_chi_square=0.5), []).value == 0.5
    assert sampler_chi_square(step(), []) == Reading()


def test_masked_share_by_hand() -> None:
    assert masked_share(step(rejected_fraction=0.125), []).value == 0.125
    assert masked_share(step(), []) == Reading()


def test_entropy_collapse_by_hand() -> None:
    assert entropy_collapse(step(entropy_nats=2.0), []) == Reading(value=1, noted=(2,))
    # 0.5 of 2, whatever lay between
    assert entropy_collapse(step(entropy_nats=0.5), [[2], [9]]) == Reading(value=0.25, noted=(0.5,))
    assert entropy_collapse(step(entropy_nats=0.5), [[0]]) == Reading(noted=(0.5,))
    assert entropy_collapse(step(), [[2]]) == Reading()


def test_zero_variance_groups_by_hand() -> None:
    groups = [
        [paid(1), paid(1)],
        [paid(0), paid(1)],
        [paid(0), paid(0), paid(None)],
        [paid(1), paid(None)],  # nothing to compare
    ]
    assert zero_variance_groups(step(*groups), []).value == pytest.approx(2 / 3)
    assert zero_variance_groups(step(groups[3]), []) == Reading()


def test_truncated_share_by_hand() -> None:
    reasons = (StopReason.MAX_TOKENS, StopReason.ANSWER, StopReason.MAX_TURNS, StopReason.MAX_TOKENS)
    assert truncated_share(step([trajectory(stop_reason=reason) for reason in reasons]), []).value == 0.5
    assert truncated_share(step(), []) == Reading()


def test_staleness_by_hand() -> None:
    unsampled = replace(trajectory(tokens=1), loss_mask=(0,), policy_version=0)
    group = [replace(trajectory(), policy_version=version) for version in (7, 4, 6)]
    assert staleness(step([*group, unsampled], version=7), []).value == 3  # 7 - 4
    assert staleness(step([unsampled], version=7), []) == Reading()


def test_length_of_wrong_by_hand() -> None:
    # sampled tokens: all but the first. Wrong (10 + 20) / 2 = 15, right 5.
    group = [
        trajectory(correct=False, tokens=11),
        trajectory(correct=False, tokens=21),
        trajectory(correct=True, tokens=6),
        trajectory(correct=None, tokens=99),
    ]
    assert length_of_wrong(step(group), []).value == 3
    assert length_of_wrong(step(group[:2]), []) == length_of_wrong(step(group[2:]), []) == Reading()


def test_length_collapse_by_hand() -> None:
    # sampled tokens: all but the first. (2 + 4) / 2 = 3, of 12; what wasn't sampled is left out
    group = [trajectory(tokens=3), trajectory(tokens=5), replace(trajectory(), loss_mask=(0, 0, 0, 0))]
    assert length_collapse(step(group), [[12], [99]]) == Reading(value=0.25, noted=(3,))
    assert length_collapse(step(group), []) == Reading(value=1, noted=(3,))
    assert length_collapse(step(group[2:]), []) == Reading()


def test_turn_weighting_by_hand() -> None:
    # two turns with 1 and six turns with 0: over turns (2 * 1 + 6 * 0) / 8, over attempts 1/2
    group = [paid(1, calls=1), paid(0, calls=5), paid(None, calls=9), paid(7, turns=())]
    assert turn_weighting(step(group), []).value == 0.25
    assert turn_weighting(step([paid(1, calls=2), paid(0, calls=2)]), []).value == 0
    assert turn_weighting(step(group[2:]), []) == Reading()


def test_repetition_by_hand() -> None:
    # pairs: a b, b a, a b of one thought and a b of the other; what stands behind a thought is left out
    group = [said("<think>a b a b</think>x y z"), said("<think>a b")]
    assert repetition(step(group), []) == Reading(value=1, noted=(0.5,))  # 2 distinct ones of 4
    assert repetition(step([said("a a a a a")]), [[0.5]]) == Reading(value=0.5, noted=(0.25,))  # 1 of 4, of 1/2
    # a pair does not reach from one turn into the next
    assert repetition(step([said("a", "b")]), [[0.5]]) == Reading()


def test_slope_by_hand() -> None:
    assert slope([1, 3, 5]) == 2
    # around the middle: -1.5*1 - .5*2 + .5*2 + 1.5*5 = 6, over 2 * (2.25 + .25) = 5
    assert slope([1, 2, 2, 5]) == pytest.approx(1.2)
    assert slope([4, 4]) == 0


def test_reward_without_outcome_by_hand() -> None:
    assert WINDOW == 10
    now = step([paid(2, True), paid(4, False), paid(None), paid(9, None)])
    assert reward_without_outcome(now, []) == Reading(noted=(3, 0.5))
    # rewards 2.1, 2.2, ..., 2.9, 3: up by 0.1 a step; outcomes 0.95, 0.9, ..., 0.55, 0.5: down by 0.05
    past = [[2 + 0.1 * i, 1 - 0.05 * i] for i in range(1, 10)]
    assert reward_without_outcome(now, past).value == pytest.approx(0.05)
    assert reward_without_outcome(now, past[1:]).value is None
    # what was before the window doesn't matter
    assert reward_without_outcome(now, [[100, 100], *past]).value == pytest.approx(0.05)
    # both rise: the outcome's downward slope is -0.05
    both = [[2 + 0.1 * i, 0.05 * i] for i in range(1, 10)]
    assert reward_without_outcome(now, both).value == pytest.approx(-0.05)
    assert reward_without_outcome(step([paid(None)]), past) == Reading()


def test_reward_outcome_correlation_by_hand() -> None:
    # rewards 0, 1, 2, 3 around 1.5 and outcomes 0, 0, 0, 1 around 1/4: 1.5 / sqrt(5 * 3/4)
    group = [paid(reward, reward == 3) for reward in range(4)]
    unknown = [paid(None), paid(50, None)]
    expected = 1.5 / math.sqrt(5 * 0.75)
    assert reward_outcome_correlation(step(group, unknown), []).value == pytest.approx(expected)
    scaled = [paid(5 - 2 * (t.reward or 0), t.correct) for t in group]
    assert reward_outcome_correlation(step(scaled), []).value == pytest.approx(-expected)
    assert reward_outcome_correlation(step([paid(1, True), paid(1, False)]), []) == Reading()
    assert reward_outcome_correlation(step(), []) == Reading()


def test_call_share_by_hand() -> None:
    group = [trajectory(calls=2), trajectory(calls=0), trajectory(calls=0), trajectory(calls=0)]
    without = trajectory(calls=0, tools=())
    assert call_share(step([*group, without]), [[0.5]]) == Reading(value=0.5, noted=(0.25,))  # 1 of 4, of 1/2
    assert call_share(step([without]), [[0.5]]) == Reading()


def test_tool_errors_by_hand() -> None:
    failed = ToolResult(name="calculator", ok=False, output="error")
    broken = trajectory(turns=(Turn(text="", results=(failed,)),))
    assert tool_errors(step([trajectory(calls=3), broken]), []).value == 0.25  # 1 of 4
    assert tool_errors(step([trajectory(calls=0)]), []) == Reading()


def test_invented_results_by_hand() -> None:
    """What the parser says of such a turn is what is counted."""
    text = "<tool_response>42</tool_response>"
    error = Hermes().parse(text).error
    invented = trajectory(turns=(Turn(text=text, error=error),), stop_reason=StopReason.FORMAT_ERROR)
    other = trajectory(turns=(Turn(text="", error="a call that is not JSON"),))
    assert invented_results(step([invented, other, trajectory(), trajectory()]), []).value == 0.25
    assert invented_results(step(), []) == Reading()


def test_the_config_has_thresholds_for_every_monitor_and_only_warns() -> None:
    assert list(MonitorsConfig.model_fields) == ["gold", *MONITORS]
    for name in MONITORS:
        thresholds = getattr(RlConfig(name="a").monitors, name)
        assert thresholds.pause is None and thresholds.stop is None


def test_what_costs_something_is_off_and_not_done_at_every_step() -> None:
    default = RlConfig(name="a").monitors
    costly = [name for name in MONITORS if getattr(default, name).every > 1]
    assert costly == [
        *("reference_kl", "reference_chi_square", "over_optimisation"),
        *("judge_false_positives", "style_drift", "reward_hacks"),
    ]
    assert not any(getattr(default, name).watched for name in costly)
    on = RlConfig.model_validate({"name": "a", "monitors": {"reference_kl": {"warn": 30}}}).monitors.reference_kl
    assert on.watched and on.every == 5


def test_a_block_lies_over_the_default_thresholds() -> None:
    stage = RlConfig.model_validate(
        {"name": "a", "monitors": {"repetition": {"stop": 0.2}, "staleness": {"warn": None}}}
    )
    assert stage.monitors.repetition == Lowest(warn=0.5, stop=0.2)
    assert not stage.monitors.staleness.watched
    with pytest.raises(ValidationError, match="repetitions"):
        RlConfig.model_validate({"name": "a", "monitors": {"repetitions": {"stop": 0.2}}})


def test_the_gravest_threshold_counts() -> None:
    high, low = Highest(warn=1, pause=2, stop=3), Lowest(warn=3, stop=1)
    assert [high.level(value) for value in (1, 1.5, 2.5, 3.5)] == ["", "warn", "pause", "stop"]
    assert [low.level(value) for value in (3, 2, 0)] == ["", "warn", "stop"]
    assert high.level(math.nan) == low.level(math.nan) == "stop"
    assert Highest().level(9) == ""


def monitors(**thresholds: Any) -> Monitors:
    """With no thresholds but those given."""
    none = {name: {"warn": None} for name in MONITORS}
    return Monitors(MonitorsConfig.model_validate({**none, **thresholds}))


def look(made: Monitors, kl: float, at: int) -> dict[str, float]:
    return made.look([], {"policy/sampler_kl_nats": kl}, step=at)


def test_warnings_are_counted_every_step_and_logged_when_they_begin(caplog: pytest.LogCaptureFixture) -> None:
    made = monitors(sampler_kl={"warn": 1})
    with caplog.at_level(logging.WARNING):
        found = [look(made, kl, at) for at, kl in enumerate((0.5, 2, 3, 1, 2), 1)]
    assert found[0] == {"monitor/value/sampler_kl": 0.5}
    assert [one.get("monitor/warnings/sampler_kl") for one in found] == [None, 1, 2, 2, 3]
    assert [record.message for record in caplog.records] == [
        f"sampler_kl is 2 at step {at}, beyond its threshold `warn: 1`" for at in (2, 5)
    ]
    assert made.paused == made.stopped == "" and all(known(name) for one in found for name in one)


def test_what_says_nothing_is_not_judged() -> None:
    made = monitors(sampler_kl={"warn": 1}, entropy_collapse={"stop": 1})
    assert made.look([], {}, step=1) == {} and made.stopped == ""


def test_a_pause_comes_once_until_the_value_has_been_back() -> None:
    made = monitors(sampler_kl={"pause": 1})
    paused = []
    for at, kl in enumerate((2, 2, 0, 2), 1):
        look(made, kl, at)
        paused.append(bool(made.paused))
    assert paused == [True, False, False, True]
    assert made.paused == "sampler_kl is 2 at step 4, beyond its threshold `pause: 1`"


def test_it_looks_at_the_first_step_and_at_every_so_many_after_it() -> None:
    made = monitors(sampler_kl={"warn": 1, "every": 3, "patience": 2})
    found = [look(made, 2, at) for at in range(1, 8)]
    assert [at for at, one in enumerate(found, 1) if "monitor/value/sampler_kl" in one] == [1, 4, 7]
    # patience counts the steps that were looked at
    assert [one.get("monitor/warnings/sampler_kl") for one in found] == [None, None, None, 1, 1, 1, 2]


def test_patience_waits_for_steps_in_a_row() -> None:
    made = monitors(sampler_kl={"warn": 1, "stop": 2, "patience": 2})
    found = [look(made, kl, at) for at, kl in enumerate((3, 1, 3, 2, 3), 1)]
    # 2 is beyond `warn` only: twice in a row from step 4 on, and never twice beyond `stop`
    assert [one.get("monitor/warnings/sampler_kl") for one in found] == [None, None, None, 1, 2]
    assert made.stopped == ""
    look(made, 3, 6)
    assert made.stopped == "sampler_kl is 3 at step 6, beyond its threshold `stop: 2`"


def test_state_goes_through_json_and_the_watch_goes_on_equally() -> None:
    def make() -> Monitors:
        return monitors(
            entropy_collapse={"warn": 0.5, "stop": 0.01, "patience": 3}, reward_without_outcome={"warn": 0.01}
        )

    def shown(made: Monitors, at: int) -> dict[str, float]:
        group = [paid(0.1 * at, at < 8), paid(0.3, False)]
        return made.look([group], {"policy/entropy_nats": 2 / (3 * at)}, step=at)

    unbroken, broken = make(), make()
    expected = [shown(unbroken, at) for at in range(1, 15)]
    found = []
    for at in range(1, 15):
        found.append(shown(broken, at))
        state = json.loads(json.dumps(broken.state_dict()))
        broken = make()
        broken.load_state_dict(state)
    assert found == expected and broken.state_dict() == unbroken.state_dict()
    assert expected[-1]["monitor/value/entropy_collapse"] == pytest.approx(1 / 14)
    assert len(unbroken.state_dict()["past"]["entropy_collapse"]) == WINDOW
    assert expected[-1]["monitor/value/reward_without_outcome"] > 0


class Noting(Silent):
    def __init__(self) -> None:
        self.seen: dict[int, dict[str, float]] = {}

    def metrics(self, values: Any, *, step: int) -> None:
        self.seen[step] = dict(values)


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch) -> None:
    def oddness(group: Sequence[Trajectory]) -> list[Score]:
        return [Score(total=sum(i % 2 for i in t.token_ids) / len(t.token_ids)) for t in group]

    monkeypatch.setitem(REWARDS, "odd", oddness)


def run(world: World, folder: Path, watch: Monitors | None, observer: Silent) -> dict[str, Any]:
    fields = {"reward": "odd", "steps": 3, "problems": 2, "group": 3, "checkpoint_every": 9}
    limits = {"max_turns": 1, "max_new_tokens": 8}
    with InlineWorkers(COMPUTE, max_length=MAX_LENGTH) as workers:
        return run_rl(
            world.config,
            RlConfig.model_validate({"name": "test", **fields, **limits}),
            Inputs(policy=world.model, problems=world.synthesized),
            out=folder / "out",
            work=folder / "work",
            workers=workers,
            observer=observer,
            watch=watch,
        )


def timeless(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name.split("/")[0] not in ("time", "throughput")}


@pytest.mark.usefixtures("odd")
def test_a_paused_stage_goes_on_and_a_stopped_one_ends_with_its_policy(world: World, tmp_path: Path) -> None:
    plain = Noting()
    assert "stopped" not in run(world, tmp_path / "plain", None, plain)
    watched = {"entropy_collapse": {"pause": 2, "stop": 0}}  # beyond `pause` from the first step on: 1 < 2

    broken = Noting()
    with pytest.raises(PausedError, match=r"rl-test: entropy_collapse is 1 at step 1, beyond .*`pause: 2`"):
        run(world, tmp_path / "paused", monitors(**watched), broken)
    assert list(broken.seen) == [1] and not (tmp_path / "paused" / "out").exists()
    summary = run(world, tmp_path / "paused", monitors(**watched), broken)
    assert (summary["steps"], summary["resumed_at_step"]) == (3, 1)
    assert broken.seen[3]["monitor/warnings/entropy_collapse"] == 3
    for at, metrics in plain.seen.items():  # looking changes nothing
        assert timeless(metrics) == {name: broken.seen[at][name] for name in timeless(metrics)}
    policies = [(tmp_path / name / "out" / "policy" / "model.safetensors") for name in ("plain", "paused")]
    assert policies[0].read_bytes() == policies[1].read_bytes()

    for tries in range(2):  # a try after the end, as when the machine failed then, ends there, too
        summary = run(world, tmp_path / "stopped", monitors(entropy_collapse={"stop": 2}), Noting())
        assert summary["stopped"] == "entropy_collapse is 1 at step 1, beyond its threshold `stop: 2`"
        assert (summary["steps"], summary["resumed_at_step"], summary["trajectories"]) == (1, tries, 6)
        assert summary["warnings"] == {"entropy_collapse": 1}
    assert (tmp_path / "stopped" / "out" / "policy" / "model.safetensors").is_file()


@pytest.mark.usefixtures("odd")
def test_what_asks_the_reference_and_another_reward_changes_nothing(world: World, tmp_path: Path) -> None:
    names = ("reference_kl", "reference_chi_square", "over_optimisation", "reward_distance", "reward_hacking")
    watched = monitors(gold="2 * odd", **{name: {"warn": 1e9, "every": 1} for name in names})
    plain, seen = Noting(), Noting()
    run(world, tmp_path / "plain", None, plain)
    run(world, tmp_path / "watched", watched, seen)
    for at, metrics in plain.seen.items():
        assert timeless(metrics) == {name: seen.seen[at][name] for name in timeless(metrics)}
    policies = [(tmp_path / name / "out" / "policy" / "model.safetensors") for name in ("plain", "watched")]
    assert policies[0].read_bytes() == policies[1].read_bytes()
    # what sampled the first step is the reference; gold is a multiple of the reward
    assert seen.seen[1]["monitor/value/reference_kl"] == pytest.approx(0, abs=1e-3)
    assert all(seen.seen[at]["monitor/value/reward_distance"] == pytest.approx(0, abs=1e-9) for at in (1, 2, 3))
    reward, gold = watched.state_dict()["past"]["reward_hacking"][0]
    assert gold == pytest.approx(2 * reward)
    assert len(watched.state_dict()["past"]["over_optimisation"]) == 3


def test_a_law_is_fitted_to_all_points_and_not_to_the_latest() -> None:
    class Flat:
        def score_reference(self, rows: Sequence[Sequence[int]], temperature: float = 1.0) -> list[list[float]]:
            return [[-2.0] * (len(row) - 1) for row in rows]

    made = monitors(over_optimisation={"warn": 1, "every": 1}, reference_kl={"warn": 9, "every": 1})
    made.meet({"learner": Flat()})
    found = [made.look([[paid(1)]], {}, step=at) for at in range(1, WINDOW + 4)]
    assert [one["monitor/value/reference_kl"] for one in found] == [3] * (WINDOW + 3)  # three tokens, -1 + 2 each
    assert len(made.state_dict()["past"]["over_optimisation"]) == WINDOW + 3


def test_gold_that_the_block_cannot_build_is_told_before_the_first_step() -> None:
    def rescored(groups: object, problems: object, expression: str) -> list[list[Trajectory]]:
        Scorer(RlConfig(name="a", reward=expression), {})
        return []

    with pytest.raises(ValueError, match="judge"):
        monitors(gold="judged").meet({"reward": rescored})


def test_a_judge_that_fails_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Gone:
        def ask(self, questions: Sequence[str], *, samples: int = 1, temperature: float = 0.0) -> list[list[str]]:
            raise InfrastructureError("nobody answers")

    made = monitors(judge_false_positives={"warn": 0.01})
    made.meet({"judge": Gone()})
    assert made.look([[trajectory()]], {}, step=1) == {}
    assert caplog.messages == ["judge_false_positives could not look: nobody answers"]


def test_gold_of_problems_that_were_made_on_the_way_is_not_known() -> None:
    known, made_later = paid(1, problem_id="p"), paid(1, problem_id="q")

    def rescored(groups: Sequence[Sequence[Trajectory]], problems: Sequence[Problem], _: str) -> list[list[Trajectory]]:
        assert [problem.id for problem in problems] == [group[0].problem_id for group in groups]
        return [[replace(t, reward=0.25) for t in group] for group in groups]

    made = monitors(gold="graded", reward_hacking={"warn": 1})
    made.meet({"reward": rescored, "problems": [problem(id="p")]})
    made.look([[made_later, made_later], [known], []], {}, step=1)
    assert made.state_dict()["past"]["reward_hacking"] == [[1, 0.25]]
