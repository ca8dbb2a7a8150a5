"""A monitor on text that was written for the reward and not for anybody."""

from statistics import fmean

from journeyman.monitors.base import WINDOW, Past, Reading, Step, slope
from journeyman.rewards.artefacts import ArtefactModel, spoilt

LEAST = 16
"""Attempts that a model needs at least, to be trained on a step's own (ours)."""


def artefacts(step: Step, past: Past) -> Reading:
    """How fast the reward rises while attempts look less and less clean: the sign of hacking by artefacts
    (reward hacking guard, #123, derived).

    The lesser of the mean reward's slope and the mean clean probability's downward slope over the last ten steps that
    it looked at. The model (`ArtefactModel`; features and training are ours) learns, at the first one, to tell the
    attempts of that step from copies that were spoilt on purpose. Not covered: labels by people, learning again
    from what the policy writes later.
    """
    scored = [t for t in step.trajectories if t.reward is not None and t.turns]
    if len(scored) < (1 if past else LEAST):
        return Reading()
    model = ArtefactModel(weights=tuple(past[0][2:])) if past else ArtefactModel.fit(scored, spoilt(scored))
    means = fmean(t.reward or 0.0 for t in scored), fmean(model.clean(t) for t in scored)
    if len(past) < WINDOW - 1:
        return Reading(noted=means if past else (*means, *model.weights))
    rewards, clean = zip(*(point[:2] for point in (*past[1 - WINDOW :], means)), strict=True)
    return Reading(value=min(slope(rewards), -slope(clean)), noted=means)
