"""What credits read from scored trajectories beyond the rewards: the needs that no pipeline has to be asked for."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np

from journeyman.credit.base import Floats, Ints, ScoredBatch
from journeyman.credit.graphs import Moves
from journeyman.credit.search import Searched
from journeyman.credit.spans import Spans
from journeyman.credit.trees import Names, Prefixes
from journeyman.trajectory import SEARCH, Span, Trajectory, Turn


def turn_rewards_U(batch: ScoredBatch) -> Floats:
    """What of the reward each turn earned; 0 where nothing was earned turn by turn."""
    return np.array(
        [r for t in batch.trajectories for r in (t.turn_rewards or (0.0,) * max(1, len(t.turns)))], np.float64
    )


def channels(batch: ScoredBatch) -> dict[str, Floats]:
    """Each channel's reward, B numbers; NaN where a trajectory takes no part."""
    names = dict.fromkeys(name for t in batch.trajectories for name in t.reward_channels)
    rows = [t.reward_channels for t in batch.trajectories]
    return {
        name: np.array([np.nan if (value := row.get(name)) is None else value for row in rows], np.float64)
        for name in names
    }


def prefixes_T(batch: ScoredBatch) -> Names:
    """A 64-bit name for all tokens of its trajectory up to and including each token: equal prefixes, equal names.

    The sum of a mix of (place, token), so that it can be had by one cumulative sum; taken modulo 2^64.
    """
    lengths = _lengths_B(batch)
    ids = np.fromiter(chain.from_iterable(t.token_ids for t in batch.trajectories), np.uint64, int(lengths.sum()))
    return prefix_names(ids, lengths)


def prefix_names(ids_T: Names, lengths_B: Ints) -> Names:
    """`prefixes_T` of bare arrays."""
    first_B = np.cumsum(lengths_B) - lengths_B
    place_T = np.arange(len(ids_T)) - np.repeat(first_B, lengths_B)
    with np.errstate(over="ignore"):
        mixed = _mixed(ids_T.astype(np.uint64) + _mixed(place_T.astype(np.uint64) + np.uint64(1)))
        summed = np.cumsum(mixed, dtype=np.uint64)
        before = np.append(np.uint64(0), summed)[first_B]
        return summed - np.repeat(before, lengths_B)


def _mixed(x: Names) -> Names:
    """splitmix64."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def forks_U(batch: ScoredBatch) -> Ints:
    """A number for the place that each turn starts from: turns of one problem with the same tokens before them share it."""
    names, lengths = prefixes_T(batch), _lengths_B(batch)
    begins = np.repeat(np.cumsum(lengths) - lengths, batch.turns_B)
    starts = np.array(
        [start for t in batch.trajectories for start in [turn.start for turn in t.turns] or [0]], np.int64
    )
    before = np.where(starts > 0, np.append(names, np.uint64(0))[begins + np.maximum(starts, 1) - 1], np.uint64(0))
    keys = _mixed(before + _mixed(batch.group_U.astype(np.uint64)))
    return np.unique(keys, return_inverse=True)[1].reshape(-1).astype(np.int64)


def prefixes(batch: ScoredBatch) -> Prefixes:
    """What stands before and after each token, the group included."""
    after, lengths = prefixes_T(batch), _lengths_B(batch)
    before = np.append(np.uint64(0), after)[: len(after)]
    before[(np.cumsum(lengths) - lengths)[lengths > 0]] = 0
    group = _mixed(np.repeat(batch.group_B, lengths).astype(np.uint64))
    return Prefixes(before_T=_mixed(before + group), after_T=_mixed(after + group))


def moves(batch: ScoredBatch) -> Moves:
    """A turn's state is what it was shown last, its action its calls, else its answer, else its words."""
    turns = [pair for t in batch.trajectories for pair in _moves(t)]
    return Moves(state_U=_numbered(state for state, _ in turns), action_U=_numbered(action for _, action in turns))


def _moves(trajectory: Trajectory) -> Iterator[tuple[str, str]]:
    """(state, action) of each turn, as text."""
    shown: Any = "the opening"
    for number, turn in enumerate(trajectory.turns):
        answer = trajectory.answer if number + 1 == len(trajectory.turns) else None
        yield json.dumps(shown), _action(turn, answer)
        shown = [turn.outputs(), [message.content for message in turn.restart]]
    if not trajectory.turns:
        yield json.dumps(shown), ""


def _action(turn: Turn, answer: str | None) -> str:
    calls = [[call.name, dict(call.arguments)] for call in turn.calls]
    return json.dumps(calls or [turn.text.strip() if answer is None else answer.strip()], sort_keys=True, default=str)


def _numbered(texts: Iterable[str]) -> Ints:
    known: dict[str, int] = {}
    return np.array([known.setdefault(text, len(known)) for text in texts], np.int64)


Edges = Callable[[Trajectory, int], Sequence[tuple[int, int]]]
"""(trajectory, index of a turn) -> for each of the turn's tokens the stretch of `Turn.text` that it wrote a part of."""


def spans(batch: ScoredBatch, edges: Edges) -> Spans:
    """The rewarded stretches of the trajectories, from characters to learned tokens."""
    begins = np.cumsum(_lengths_B(batch)) - _lengths_B(batch)
    found = [(row, *placed) for row, t in enumerate(batch.trajectories) for placed in _placed(t, edges)]
    rows, firsts, lasts, ranks, rewarded = zip(*found, strict=True) if found else ((), (), (), (), ())
    row_S, first_S, last_S = (np.array(column, np.int64) for column in (rows, firsts, lasts))
    return Spans(
        row_S=row_S,
        first_S=np.where(first_S >= 0, first_S + begins[row_S], -1),
        last_S=np.where(last_S >= 0, last_S + begins[row_S], -1),
        reward_S=np.array([span.reward for span in rewarded], np.float64),
        rank_S=np.array(ranks, np.int64),
        kind_S=np.array([span.kind for span in rewarded], np.str_),
    )


def _placed(trajectory: Trajectory, edges: Edges) -> Iterator[tuple[int, int, int, Span]]:
    """(first token, last token, rank, span) of each span in order; -1 where the policy wrote none of it."""
    ranks: Counter[str] = Counter()
    known = {number: edges(trajectory, number) for number in {span.turn for span in trajectory.reward_spans}}
    for span in sorted(trajectory.reward_spans, key=lambda span: (span.turn, span.start, span.stop)):
        ranks[span.kind] += 1
        at = trajectory.turns[span.turn].start
        tokens = [
            at + place
            for place, (start, stop) in enumerate(known[span.turn])
            if start < span.stop and stop > span.start and trajectory.loss_mask[at + place]
        ]
        yield (tokens[0], tokens[-1], ranks[span.kind], span) if tokens else (-1, -1, ranks[span.kind], span)


def searched(batch: ScoredBatch) -> Searched:
    """What searches have left in the trajectories' provenance."""
    records = [t.provenance.get(SEARCH) or {} for t in batch.trajectories]
    turns = list(zip(records, batch.turns_B.tolist(), strict=True))
    means = {
        group: one["mean"]
        for group, one in zip(batch.group_B.tolist(), records, strict=True)
        if one.get("mean") is not None
    }
    return Searched(
        values_U=np.array([v for one, size in turns for v in one.get("values") or [np.nan] * size], np.float64),
        node_U=np.array([n for one, size in turns for n in one.get("nodes") or [-1] * size], np.int64),
        mean_B=np.array([means.get(group, np.nan) for group in batch.group_B.tolist()], np.float64),
        learned_B=np.array([float(one.get("learned", True)) for one in records], np.float64),
    )


def _lengths_B(batch: ScoredBatch) -> Ints:
    """Tokens of each trajectory."""
    return np.array([len(t.token_ids) for t in batch.trajectories], np.int64)


READINGS: dict[str, Callable[[ScoredBatch], Any]] = {
    "turn_rewards_U": turn_rewards_U,
    "channels": channels,
    "forks_U": forks_U,
    "prefixes": prefixes,
    "moves": moves,
    "searched": searched,
}
"""Need -> how it is read from a batch's trajectories."""
