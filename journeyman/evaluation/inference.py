"""Strategies of inference: which of a problem's attempts is the answer, and attempts that are made in another way.

Bag of Tricks (#209, verified) compares such strategies over one extractor of answers. Those that select are functions
`select(trajectories, scores, key)` of the N attempts at one problem that share a budget:

- `scores`: N numbers, the larger the better; None where there is none, which is below all others.
- `key`: what an attempt answers, the same for answers that are the same; None: no answer.

They return N chances that add up to 1: with which each attempt is the answer. A tie is split evenly (ours), so that
nothing is drawn and an expected verdict is a sum. With one attempt all of them are the same. To add one: a function
here, a line in `SELECT`, a test. Those that make attempts are in `MAKE`. NOT covered: tree search with PUCT, and the
depth-first search of the release, whose stack takes the worst child that it keeps first.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from math import fsum, inf
from typing import Any, TypeAlias

from journeyman.config.evaluate import EvaluateConfig
from journeyman.evaluation.measures import voted
from journeyman.problem import Problem
from journeyman.rewards.calibration import stated_confidence
from journeyman.rollout.beam import SPENT
from journeyman.rollout.job import Beam, RolloutJob, SamplerPool, attempt_all
from journeyman.seeds import derive
from journeyman.trajectory import Trajectory

Scores: TypeAlias = Sequence[float | None]
Key: TypeAlias = Callable[[Trajectory], Hashable | None]
Select: TypeAlias = Callable[[Sequence[Trajectory], Scores, Key], list[float]]
Make: TypeAlias = Callable[..., list[Trajectory]]
"""(pool, problems, first attempt of each, settings, seed=) -> one trajectory a problem, that says what it took: `SPENT`."""
LONGEST_QUOTE = 400
"""Characters of an earlier answer that are shown again."""
AGAIN = (
    "{question}\n\nAn earlier attempt at this answered: {answer}\nLook for an error in it. If there is none give the "
    "same answer again, else the right one."
)


def random(trajectories: Sequence[Trajectory], scores: Scores, key: Key) -> list[float]:
    """Any attempt is the answer, all of them as likely: the floor that strategies are held against (#209, verified)."""
    return [1 / len(trajectories)] * len(trajectories)


def best_of_n(trajectories: Sequence[Trajectory], scores: Scores, key: Key) -> list[float]:
    """The attempt with the highest score is the answer: best-of-N (#209, verified)."""
    values = _values(scores)
    return _spread([[place for place, value in enumerate(values) if value == max(values)]], len(values))


def majority(trajectories: Sequence[Trajectory], scores: Scores, key: Key) -> list[float]:
    """The most frequent answer wins, attempts without an answer don't vote (#209, verified).

    Among the attempts with that answer all are as likely. Where none has an answer the paper samples anew; here any of
    them is taken (ours).
    """
    return _spread(_winners(trajectories, [1.0] * len(trajectories), key), len(trajectories))


def weighted_vote(trajectories: Sequence[Trajectory], scores: Scores, key: Key) -> list[float]:
    """Answers are voted for with scores scaled to [0, 1], and the winner's best attempt is taken (#209, verified).

    Scaled from the lowest to the highest score of the attempts with an answer, all 1 where they are equal: the worst
    attempt's vote then weighs nothing, and so does one without a score.
    """
    values = _values(scores)
    voters = [v for t, v in zip(trajectories, values, strict=True) if v > -inf and key(t) is not None]
    low, high = min(voters, default=0.0), max(voters, default=0.0)
    weights = [max(0.0, value - low) / (high - low) if high > low else float(value > -inf) for value in values]
    won = _winners(trajectories, weights, key)
    best = [max(values[place] for place in places) for places in won]
    kept = [[place for place in places if values[place] == top] for places, top in zip(won, best, strict=True)]
    return _spread(kept, len(trajectories))


def beam(
    pool: SamplerPool,
    problems: Sequence[Problem],
    first: Mapping[str, Trajectory],
    settings: EvaluateConfig,
    *,
    seed: int,
) -> list[Trajectory]:
    """Beam search over turns: the attempts kept so far are each continued in several ways, and the best of all
    continuations are kept (#209, verified), by the likelihood of what the policy wrote (ours).

    Width, continuations and criterion are `evaluate.strategies.beam`. The release overwrites its criterion with `min`
    and ranks by the largest step score under that name; here `min` is the least. Only worlds whose state can be taken
    and put back can be searched. See `journeyman.rollout.beam`.
    """
    options = _options(settings, "beam")
    search = Beam(width=options.width, continuations=options.continuations, criterion=options.criterion)
    return attempt_all(pool, [replace(_job(p, settings, seed, "beam"), beam=search) for p in problems])


def refinement(
    pool: SamplerPool,
    problems: Sequence[Problem],
    first: Mapping[str, Trajectory],
    settings: EvaluateConfig,
    *,
    seed: int,
) -> list[Trajectory]:
    """Self-refinement: an attempt's answer is shown to the policy, which looks for an error and answers again, up to a
    number of rounds or until it finds none (#209, verified: at most 3 rounds).

    In the paper a critique says so; here the same answer again means that none was found (ours). An answer stands where
    the next round gives none. Worlds that open with words of their own don't show the earlier answer: NOT covered.
    """
    standing = {problem.id: first[problem.id] for problem in problems if problem.id in first}
    spent = {name: tokens(trajectory) for name, trajectory in standing.items()}
    open_ones = [problem for problem in problems if problem.id in standing]
    for number in range(_options(settings, "refinement").rounds):
        asked = [_again(problem, standing[problem.id]) for problem in open_ones]
        if not asked:
            break
        made = attempt_all(pool, [_job(problem, settings, seed, f"refinement {number}") for problem in asked])
        changed = []
        for problem, trajectory in zip(open_ones, made, strict=True):
            spent[problem.id] += tokens(trajectory)
            before = standing[problem.id]
            if trajectory.answer is not None and trajectory.correct is not None:
                standing[problem.id] = trajectory
            if voted(standing[problem.id]) != voted(before) or voted(before) is None:
                changed.append(problem)
        open_ones = changed
    return [replace(t, provenance={**t.provenance, SPENT: spent[name]}) for name, t in standing.items()]


def tokens(trajectory: Trajectory) -> int:
    """What an attempt costs: tokens that the policy wrote and tools returned; the prompt is not counted."""
    prompt = trajectory.turns[0].start if trajectory.turns else 0
    return int(trajectory.provenance.get(SPENT, max(0, len(trajectory.token_ids) - prompt)))


def likelihood(trajectory: Trajectory) -> float | None:
    """Mean log-probability, in nats, of the tokens that the policy wrote; None where it wrote none."""
    written = [logp for logp, own in zip(trajectory.logprobs, trajectory.loss_mask, strict=True) if own]
    return fsum(written) / len(written) if written else None


def shortest(trajectory: Trajectory) -> float | None:
    """Minus the tokens that the policy wrote."""
    return -float(sum(trajectory.loss_mask))


SCORES: Mapping[str, Callable[[Trajectory], float | None]] = {
    "likelihood": likelihood,
    "confidence": stated_confidence,
    "shortest": shortest,
}
"""What `evaluate.strategies.score` can be: nothing that knows the verdict."""
SELECT: Mapping[str, Select] = {
    "random": random,
    "best_of_n": best_of_n,
    "majority": majority,
    "weighted_vote": weighted_vote,
}
MAKE: Mapping[str, Make] = {"beam": beam, "refinement": refinement}
INFERENCE: Mapping[str, Callable[..., Any]] = {**SELECT, **MAKE}


def _values(scores: Scores) -> list[float]:
    """-inf for what has no score; all 0 where nothing has one."""
    floor = -inf if any(score is not None for score in scores) else 0.0
    return [floor if score is None else score for score in scores]


def _winners(trajectories: Sequence[Trajectory], weights: Sequence[float], key: Key) -> list[list[int]]:
    """Of each answer whose weights sum to the most, the places of its attempts; all places where there is no answer."""
    places: dict[Hashable, list[int]] = defaultdict(list)
    for place, trajectory in enumerate(trajectories):
        if (answer := key(trajectory)) is not None:
            places[answer].append(place)
    sums = {answer: fsum(weights[place] for place in found) for answer, found in places.items()}
    most = max(sums.values(), default=0.0)
    won = [found for answer, found in places.items() if sums[answer] == most]
    return won or [list(range(len(trajectories)))]


def _spread(groups: Sequence[Sequence[int]], count: int) -> list[float]:
    """Chances of `count` attempts: groups of places as likely as each other, and so within them."""
    chances = [0.0] * count
    for group in groups:
        for place in group:
            chances[place] = 1 / len(groups) / len(group)
    return chances


def _options(settings: EvaluateConfig, name: str) -> Any:
    found = settings.strategies and getattr(settings.strategies, name)
    assert found is not None, f"called where evaluate.strategies.{name} is set"
    return found


def _job(problem: Problem, settings: EvaluateConfig, seed: int, strategy: str) -> RolloutJob:
    return RolloutJob(
        problem=problem,
        seed=derive(seed, "evaluate", strategy, problem.id),
        temperature=settings.temperature,
        **settings.limits(),
    )


def _again(problem: Problem, before: Trajectory) -> Problem:
    answer = (before.answer or "nothing")[:LONGEST_QUOTE]
    return replace(problem, question=AGAIN.format(question=problem.question, answer=answer))
