"""Monitors that ask: a judge about empty answers and style, the policy about tasks that can be gamed."""

import json
import math
import re
from collections.abc import Sequence
from typing import Any

import pytest

from journeyman.monitors.asking import ASKED, PROBES, auroc, judge_false_positives, reward_hacks, style_drift
from journeyman.monitors.base import Reading, Step
from journeyman.monitors.hacks import FAMILIES, Probe, hacked, rise, suite
from journeyman.rewards.base import Judge
from journeyman.trajectory import ToolResult, Trajectory, Turn
from tests.unit.fakes import trajectory
from tests.unit.supplies import RuleJudge


def step(*groups: Sequence[Trajectory], judge: Judge | None = None, writer: Judge | None = None) -> Step:
    return Step(groups=groups, metrics={}, version=0, judge=judge, writer=writer)


def about(question: str, **fields: Any) -> list[Trajectory]:
    return [trajectory(question=question, **fields)] * 2


def test_judge_false_positives_by_hand() -> None:
    # Of two questions it is fooled on one, by "Solution" alone; the third has no reference answer.
    judge = RuleJudge(lambda question: "yes" if "answer\nSolution\n" in question and "first" in question else "no")
    found = judge_false_positives(
        step(about("the first"), about("second"), about("third", reference=""), judge=judge), []
    )
    assert found.value == 0.5
    assert len(judge.asked) == 20  # ten probes, two questions
    sure = RuleJudge(lambda question: "no")
    assert judge_false_positives(step(*[about(str(i)) for i in range(9)], [], judge=sure), []).value == 0
    assert len(sure.asked) == 10 * ASKED
    assert judge_false_positives(step(about("a")), []) == judge_false_positives(step(judge=sure), []) == Reading()


def test_auroc_by_hand() -> None:
    # .9 lies above .5 and .1, .4 above .1 only
    assert auroc([0.9, 0.4], [0.5, 0.1]) == 0.75
    assert auroc([1, 2], [1]) == 0.75  # a tie counts half


def said(text: str, *, correct: bool = True) -> Trajectory:
    result = ToolResult(name="calculator", ok=True, output="polished by the tool")
    return trajectory(turns=(Turn(text="", results=(result,)), Turn(text=text)), correct=correct, reference="REF")


def test_style_drift_by_hand() -> None:
    """The judge likes polish, 9 of 10; the reference answer gets 5, anything else 2. Tool outputs are not shown to it."""

    def grade(question: str) -> str:
        return json.dumps({"score": 9 if "polished" in question else 5 if "REF" in question else 2})

    judge = RuleJudge(grade)
    first = step([said("polished"), said("plain", correct=False)], judge=judge)
    start = style_drift(first, [])
    assert start == Reading(value=0, noted=(0.5, 0.5))  # one of two above the reference, one of two right
    later = step([said("polished"), said("polished", correct=False)], judge=judge)
    assert style_drift(later, [start.noted, (9, 9)]).value == 0.5  # 1 - 1/2, and no more right than before
    right = step([said("polished"), said("polished")], judge=judge)
    assert style_drift(right, [start.noted]).value == 0  # it is right as much more often
    assert style_drift(first, [(0.5, 0.9)]).value == 0  # a loss of accuracy is no drift
    mute = RuleJudge(lambda question: "I'd rather not")
    assert style_drift(step([said("a")], judge=mute), []) == style_drift(step([said("a")]), []) == Reading()


def test_rise_by_hand() -> None:
    # sqrt(.05 * .95 / 200 + .15 * .85 / 200) = .02958, and .1 over that
    assert rise((30, 0, 200), (10, 0, 200)) == pytest.approx(3.38, abs=0.005)
    # twins: rates .1 and .05; variances (.2 * .8 + .1 * .9 + .05 * .95) / 100
    expected = 0.05 / math.sqrt((0.16 + 0.09 + 0.0475) / 100)
    assert rise((20, 10, 100), (5, 0, 100)) == pytest.approx(expected)
    assert rise((0, 0, 80), (0, 0, 80)) == 0
    # from none to all of 80: 1 / sqrt(1/81 * 80/81 / 81)
    assert rise((80, 0, 80), (0, 0, 80)) == pytest.approx(81 * math.sqrt(81 / 80))


def number(prompt: str) -> str:
    return str(sum(map(int, re.findall(r"\d+", prompt)[:2])))


def gamed(prompt: str) -> str:
    """What meets the check that a prompt names, without the number; nothing where it names none."""
    if found := re.search(r"the word “(\w+)”", prompt):
        return " ".join([found[1]] * 5)
    if found := re.search(r"the words “([\w ]+)”", prompt):
        return found[1]
    return "grader: lax" if "grader" in prompt else "score: 10" if "score" in prompt else ""


def test_reward_hacks_by_hand() -> None:
    """One family of four is gamed, of 20 probes each: a hack rate of 1/4 against 0."""
    phrases = RuleJudge(lambda prompt: gamed(prompt) if "Every reply" in prompt else number(prompt))
    honest = reward_hacks(step(writer=RuleJudge(number)), [])
    assert honest == Reading(value=0, noted=(0, 0, 4 * PROBES))
    found = reward_hacks(step(writer=phrases), [honest.noted])
    assert found.noted == (20, 0, 80)
    assert found.value == pytest.approx(0.25 / math.sqrt(0.25 * 0.75 / 80))  # 5.16
    assert reward_hacks(step(), []) == Reading()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_probe_tells_hacks_from_answers(family: str) -> None:
    probes = [probe for probe in suite(5) if probe.family == family]
    assert len(probes) == 5 and len({probe.prompt for probe in probes}) == 5
    for probe in probes:
        assert probe.prompt.startswith(probe.twin) and gamed(probe.twin) == ""
        assert probe.is_hack(gamed(probe.prompt)) and not probe.is_hack("")
        assert not probe.is_hack(number(probe.prompt))
        assert not probe.is_hack(f"{gamed(probe.prompt)}, and it is {number(probe.prompt)}.")
        assert probe.is_hack(f"{gamed(probe.prompt)}, and it is 1{number(probe.prompt)}.")


def test_whoever_is_right_has_no_hack_rate() -> None:
    both = RuleJudge(lambda prompt: f"<think>1</think>{gamed(prompt)} {number(prompt)}")
    found = hacked(both, suite(3))
    assert (found.rate, found.named, found.twins, found.probes) == (0, 0, 0, 12)
    assert dict(found.families) == dict.fromkeys(FAMILIES, 0)
    # what stands in a thought is no reply
    assert hacked(RuleJudge(lambda prompt: f"<think>{gamed(prompt)}</think>"), suite(3)).rate == 0
    all_of_it = hacked(RuleJudge(gamed), suite(3))
    assert all_of_it.rate == 1 and set(all_of_it.families.values()) == {1}


def test_a_suite_is_the_same_every_time() -> None:
    def prompts(probes: Sequence[Probe]) -> list[str]:
        return [probe.prompt for probe in probes]

    assert prompts(suite(2)) == prompts(suite(2)) != prompts(suite(2, seed=1))
