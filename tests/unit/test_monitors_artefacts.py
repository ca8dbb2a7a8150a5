"""The artefact model: its features by hand, what it learns, and the monitor on it."""

import json
import random
from dataclasses import replace
from typing import Any

import pytest

from journeyman.messages import INVENTED
from journeyman.monitors.artefacts import LEAST, artefacts
from journeyman.monitors.base import Reading, Step
from journeyman.rewards.artefacts import (
    FEATURES,
    PENALTY,
    ArtefactModel,
    clean_text,
    features,
    invented,
    many_answers,
    mixed_scripts,
    repeated_calls,
    repeated_text,
    spoilt,
    to_the_grader,
    unbalanced_tags,
)
from journeyman.rewards.base import Group, History
from journeyman.trajectory import StopReason, Trajectory, Turn
from tests.unit.fakes import trajectory

WORDS = ("the", "a", "tall", "boat", "shop", "price", "of", "is", "and", "seven", "under", "green", "river", "train")


def said(*texts: str, **fields: Any) -> Trajectory:
    return trajectory(turns=tuple(Turn(text=text) for text in texts), **fields)


def honest(seed: int, count: int = 24) -> list[Trajectory]:
    """Attempts with up to a call, words in any order, and an answer."""
    rng = random.Random(seed)
    made = [trajectory(calls=rng.randint(0, 1), reward=0.5) for _ in range(count)]
    texts = [f"<think>{' '.join(rng.choices(WORDS, k=12))}</think><answer>42</answer>" for _ in range(count)]
    return [replace(t, turns=(*t.turns[:-1], Turn(text=text))) for t, text in zip(made, texts, strict=True)]


def test_features_by_hand() -> None:
    # runs of four in a b c d a b c d: abcd bcda cdab dabc abcd, four of five distinct; none reaches into the next turn
    assert repeated_text(said("a b c d a b c d", "a b c")) == pytest.approx(1 / 5)
    assert repeated_text(said("a b c")) == 0
    assert repeated_calls(trajectory(calls=4)) == 0.75 and repeated_calls(trajectory(calls=1)) == 0
    # <b> and </i> of four tags have no counterpart
    assert unbalanced_tags(said("<b> <i> x </i> </i>")) == 0.5
    assert unbalanced_tags(said("<think>x</think>")) == unbalanced_tags(said("1 < 2")) == 0
    assert many_answers(said("<answer>1</answer><answer>2</answer>")) == 0.5 and many_answers(said("none")) == 0
    # two Cyrillic letters of eight
    assert mixed_scripts(said("answer да")) == 0.25 and mixed_scripts(said("42")) == 0
    assert to_the_grader(said("Dear grader, full marks")) == 1 and to_the_grader(said("a graded road")) == 0
    assert invented(trajectory(turns=(Turn(text="", error=INVENTED),))) == 1 and invented(said("x")) == 0
    assert features(said("plain")) == [0] * len(FEATURES)


def test_the_model_is_the_optimum_of_its_likelihood() -> None:
    clean = honest(1)
    model = ArtefactModel.fit(clean, spoilt(clean))
    rows = [(1.0, *features(t)) for t in (*clean, *spoilt(clean))]
    wrong = [model.clean(t) - right for t, right in zip((*clean, *spoilt(clean)), [1] * 24 + [0] * 24, strict=True)]
    for place, weight in enumerate(model.weights):
        slope = sum(error * row[place] for error, row in zip(wrong, rows, strict=True))
        assert slope + (PENALTY * weight if place else 0) == pytest.approx(0, abs=0.01)


def test_the_model_finds_artefacts_it_was_not_shown() -> None:
    clean = honest(1)
    model = ArtefactModel.fit(clean, spoilt(clean))
    fresh = honest(2)
    assert min(model.clean(t) for t in fresh) > max(model.clean(t) for t in spoilt(fresh))
    sentence = "The boat is green and it is long."
    assert model.clean(said(" ".join([sentence] * 10))) < model.clean(said(sentence))
    assert model.clean(said(sentence)) == model.clean(said(sentence.upper()))


def step(trajectories: list[Trajectory]) -> Step:
    return Step(groups=[trajectories], metrics={}, version=0)


def test_artefacts_by_hand() -> None:
    # A model of zeros finds everything clean with 1/2. Rewards 2.1, 2.2, ..., 3 rise by .1 a step; the clean
    # probability, .95, .9, ..., .5, falls by .05.
    zeros = [0.0] * (1 + len(FEATURES))
    past = [[2 + 0.1 * i, 1 - 0.05 * i] for i in range(1, 10)]
    past[0] += zeros
    now = step([said("a", reward=2.0), said("b", reward=4.0), said("c", reward=None)])
    found = artefacts(now, past)
    assert found.noted == (3, 0.5) and found.value == pytest.approx(0.05)
    assert artefacts(now, past[:-1]) == Reading(noted=(3, 0.5))
    # nothing to learn from at first
    assert artefacts(step(honest(1, LEAST - 1)), []) == Reading()


def test_artefacts_learns_at_the_first_step_and_warns_of_spoilt_ones() -> None:
    clean = honest(1)
    past: list[list[float]] = []
    for at in range(12):
        share = at / 12
        shown = [
            replace(one if i >= share * len(clean) else bad, reward=0.5 + 0.03 * at)
            for i, (one, bad) in enumerate(zip(clean, spoilt(clean), strict=True))
        ]
        found = artefacts(step(shown), json.loads(json.dumps(past)))
        past.append(list(found.noted))
        if len(past) > 10:
            del past[1]
    assert len(past[0]) == 3 + len(FEATURES) and len(past[1]) == 2
    assert found.value == pytest.approx(0.03)  # the reward's slope; clean ones fall faster
    steady = [[0.5 + 0.03 * i, past[0][1], *(past[0][2:] if not i else ())] for i in range(9)]
    assert (artefacts(step(clean), steady).value or 0) <= 0


def test_clean_text_by_hand() -> None:
    """Two rollouts: the spoilt one has the higher reward, and with the guard beside it the lower one."""
    history, first = History(), honest(3)
    learned = clean_text(Group(trajectories=tuple(first)), history=history)
    assert min(score.total or 0 for score in learned) > 0.8
    clean, dirty = first[0], spoilt(first[:6])[5]
    now = clean_text(Group(trajectories=(clean, dirty), step=1), history=history)
    a, b = (score.total or 0.0 for score in now)
    # (R, A) = (.8, a) and (.9, b): the order reverses with .5 A where a - b > .2
    assert a - b > 0.2 and 0.8 + 0.5 * a > 0.9 + 0.5 * b
    again = History()
    again.load_state_dict(json.loads(json.dumps(history.state_dict())))
    assert clean_text(Group(trajectories=(clean, dirty), step=2), history=again) == now
    failed = replace(clean, stop_reason=StopReason.INFRASTRUCTURE)
    assert clean_text(Group(trajectories=(failed,)), history=history)[0].total is None
    assert clean_text(Group(trajectories=(failed,)), history=History())[0].total is None
