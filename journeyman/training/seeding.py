"""Written demonstrations as the trajectories that a policy would have sampled."""

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

from journeyman.environments import specs_of
from journeyman.errors import DataError
from journeyman.rollout.chat import ChatFormat
from journeyman.training.lessons import turn_spans
from journeyman.trajectory import KIND, PLAIN, UNLEARNED, Trajectory


def seeds_of(
    demonstrations: Sequence[Trajectory],
    chat: ChatFormat,
    *,
    most: int | None,
    max_length: int,
    temperature: float,
    seed: int,
) -> list[Trajectory]:
    """The right ones that fit the model, `most` of them drawn by the seed, with tokens and verdict 1 as their reward.

    Lessons of another kind are left out. Raises `DataError` where none is left.
    """
    right = [t for t in demonstrations if t.correct and t.provenance.get(KIND, PLAIN) == PLAIN]
    found = [encoded(t, chat, temperature) for t in random.Random(seed).sample(right, len(right))]
    fitting = [t for t in found if sum(t.loss_mask) and max(s.stop - s.start for s in t.samples()) <= max_length]
    if not fitting:
        raise DataError("no demonstration is right and fits the model", remedy="look at the card of the curate stage")
    return fitting[:most]


def encoded(trajectory: Trajectory, chat: ChatFormat, temperature: float) -> Trajectory:
    """With token ids and mask under a chat template; log-probabilities are 0 until a policy has scored it."""
    contexts = chat.encode(trajectory, specs_of(trajectory))
    begins = [0, *accumulate(len(ids) for ids, _ in contexts)]
    mask = [m for _, own in contexts for m in own]
    unlearned, turns = set(trajectory.provenance.get(UNLEARNED, ())), list(trajectory.turns)
    for number, (context, span) in enumerate(turn_spans([own for _, own in contexts])):
        start, stop = begins[context] + span.start, begins[context] + span.stop
        turns[number] = replace(turns[number], start=start, stop=stop)
        if number in unlearned:
            mask[start:stop] = [0] * (stop - start)
    return replace(
        trajectory.scored(1.0, {}),
        turns=tuple(turns),
        token_ids=tuple(i for ids, _ in contexts for i in ids),
        cuts=tuple(begins[1:-1]),
        loss_mask=tuple(mask),
        logprobs=(0.0,) * len(mask),
        policy_versions=(0,) * len(mask),
        policy_version=0,
        temperature=temperature,
    )
