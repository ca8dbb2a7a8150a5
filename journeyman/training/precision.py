"""Tokens that have to be exact: those that write the values of a call's arguments (CAD-RL, #71, secondary)."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from journeyman.credit.base import Floats
from journeyman.credit.readings import Edges
from journeyman.trajectory import Trajectory, Turn


def precision_weights(trajectory: Trajectory, edges: Edges, weight: float) -> Floats:
    """T weights: `weight` for learned tokens that wrote a part of an argument's value, 1 for all others.

    There it is numbers and geometric operations of a program; here numbers, names and texts that a call is given (ours).
    """
    weights_T = np.ones(len(trajectory.token_ids))
    for number, turn in enumerate(trajectory.turns):
        values = list(argument_spans(turn))
        for place, (start, stop) in enumerate(edges(trajectory, number) if values else ()):
            at = turn.start + place
            if trajectory.loss_mask[at] and any(start < end and stop > begin for begin, end in values):
                weights_T[at] = weight
    return weights_T


def argument_spans(turn: Turn) -> Iterator[tuple[int, int]]:
    """(start, stop) in the turn's text of each argument's value, in the order of the calls.

    A value that doesn't stand there as it was read is passed over.
    """
    after = 0
    for call in turn.calls:
        after = max(after, turn.text.find(call.name, after))
        for value in _leaves(dict(call.arguments)):
            forms = (json.dumps(value, ensure_ascii=False), json.dumps(value), str(value))
            found = [(turn.text.find(form, after), len(form)) for form in forms]
            begin, length = next(((begin, length) for begin, length in found if begin >= 0), (-1, 0))
            if begin >= 0:
                yield begin, begin + length
                after = begin + length


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _leaves(inner)
    else:
        yield value
