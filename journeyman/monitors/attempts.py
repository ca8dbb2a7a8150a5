"""Monitors of what the policy does: rewards against outcomes, lengths, repetition, calls."""

from itertools import pairwise
from statistics import StatisticsError, correlation, fmean

from journeyman.messages import INVENTED
from journeyman.monitors.base import WINDOW, Past, Reading, Step, of_first, slope
from journeyman.rollout.formats.base import THOUGHT
from journeyman.trajectory import Turn


def length_of_wrong(step: Step, past: Past) -> Reading:
    """Mean length of the wrong attempts over that of the right ones, in sampled tokens."""
    lengths = {
        verdict: [sum(t.loss_mask) for t in step.trajectories if t.correct is verdict] for verdict in (True, False)
    }
    if not lengths[False] or not sum(lengths[True]):
        return Reading()
    return Reading(value=fmean(lengths[False]) / fmean(lengths[True]))


def length_collapse(step: Step, past: Past) -> Reading:
    """Mean length of the attempts, in sampled tokens, as a share of that at the first step.

    The sign of a judge that pays for empty answers (One Token to Fool, #60, derived): there answers shrank below 30
    tokens while the judge's reward soared.
    """
    lengths = [sum(t.loss_mask) for t in step.trajectories if any(t.loss_mask)]
    return of_first(fmean(lengths), past) if lengths else Reading()


def turn_weighting(step: Step, past: Past) -> Reading:
    """How far the mean reward over turns is from the mean over attempts: what pooling turns would make of long attempts.

    Without a sign. Attempts without a reward or a turn are left out.
    """
    found = [(len(t.turns), t.reward) for t in step.trajectories if t.reward is not None and t.turns]
    if not found:
        return Reading()
    by_turns = sum(turns * reward for turns, reward in found) / sum(turns for turns, _ in found)
    return Reading(value=abs(by_turns - fmean(reward for _, reward in found)))


def repetition(step: Step, past: Past) -> Reading:
    """Distinct share of the thoughts' pairs of words, as a share of that at the first step (GTR, #88, secondary).

    Over the whole step, so that the same thought everywhere counts; of a turn without a thought its text is taken.
    The alarm below one half is ours. Thoughts that grow longer lower it, too.
    """
    pairs = [pair for t in step.trajectories for turn in t.turns for pair in pairwise(_thought(turn).split())]
    return of_first(len(set(pairs)) / len(pairs), past) if pairs else Reading()


def _thought(turn: Turn) -> str:
    opening, closing = THOUGHT
    text = turn.text.lstrip()
    return text.removeprefix(opening).partition(closing)[0] if text.startswith(opening) else text


def reward_without_outcome(step: Step, past: Past) -> Reading:
    """How fast the reward rises while the outcome falls: the sign of rewards that pay for something else (G-RA, #67, secondary).

    The lesser of the mean reward's slope and the accuracy's downward slope, a step; above 0 only where both are. Over
    the last `WINDOW` steps (ours); nothing before there are so many.
    """
    noted = step.means()
    if noted is None:
        return Reading()
    if len(past) < WINDOW - 1:
        return Reading(noted=noted)
    totals, outcomes = zip(*past[1 - WINDOW :], noted, strict=True)
    return Reading(value=min(slope(totals), -slope(outcomes)), noted=noted)


def reward_outcome_correlation(step: Step, past: Past) -> Reading:
    """Correlation of the reward with the gold reward over the step's attempts: how good a proxy it still is (#78, derived).

    Gold is the world's verdict unless the block says otherwise. Nothing where all of one of them are equal.
    """
    pairs = [pair for group in step.pairs() for pair in group]
    try:
        return Reading(value=correlation([reward for reward, _ in pairs], [outcome for _, outcome in pairs]))
    except StatisticsError:
        return Reading()


def call_share(step: Step, past: Past) -> Reading:
    """Share of the attempts with tools on offer that call one, as a share of that at the first step."""
    called = [bool(t.calls) for t in step.trajectories if t.tools]
    return of_first(sum(called) / len(called), past) if called else Reading()


def tool_errors(step: Step, past: Past) -> Reading:
    """Share of the calls whose result is an error."""
    results = [result.ok for t in step.trajectories for turn in t.turns for result in turn.results]
    return Reading(value=results.count(False) / len(results) if results else None)


def invented_results(step: Step, past: Past) -> Reading:
    """Share of the attempts in which the policy writes a tool's response itself.

    Where the call format has marks for responses; within thoughts they aren't looked for.
    """
    invented = [any(turn.error == INVENTED for turn in t.turns) for t in step.trajectories]
    return Reading(value=sum(invented) / len(invented) if invented else None)
