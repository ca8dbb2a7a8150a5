"""Written trajectories as the rows that a learner takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from journeyman.config import KeyTokensConfig
from journeyman.environments import specs_of
from journeyman.errors import DataError
from journeyman.rollout.chat import ChatFormat
from journeyman.rollout.token_text import token_edges
from journeyman.training.handle import Row
from journeyman.training.model import load_tokenizer
from journeyman.training.token_weights import balanced, key_tokens
from journeyman.trajectory import KIND, PLAIN, UNLEARNED, Trajectory


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """What is learned from."""

    rows: list[Row]
    kinds: list[str]
    """Of each row."""
    too_long: int
    """Trajectories that are longer than the model."""


def encode_lessons(
    demonstrations: Sequence[Trajectory], model: Path, max_length: int, *, weighing: KeyTokensConfig | None = None
) -> Lessons:
    """A row for each context with a token to learn from. `weighing`: key tokens weigh more.

    Raises `DataError` where none is left.
    """
    chat = ChatFormat(load_tokenizer(model))
    rows, kinds, too_long = list[Row](), list[str](), 0
    for trajectory in demonstrations:
        contexts = chat.encode(trajectory, specs_of(trajectory))
        if max(len(ids) for ids, _ in contexts) > max_length:
            too_long += 1
            continue
        made = [row for row in _rows(contexts, trajectory, chat, weighing) if any(row.mask)]
        rows += made
        kinds += [str(trajectory.provenance.get(KIND, PLAIN))] * len(made)
    if not rows:
        raise DataError("no trajectory is left to learn from", remedy="look at dropped.parquet of the curate stage")
    return Lessons(rows=rows, kinds=kinds, too_long=too_long)


def _rows(
    contexts: Sequence[tuple[list[int], list[int]]],
    trajectory: Trajectory,
    chat: ChatFormat,
    weighing: KeyTokensConfig | None,
) -> list[Row]:
    """A row a context; turns that are not to be learned from stay in it."""
    masks = [list(mask) for _, mask in contexts]
    keys = [[False] * len(mask) for mask in masks]
    left_out = set(trajectory.provenance.get(UNLEARNED, ()))
    for number, (context, span) in enumerate(turn_spans(masks)):
        if number in left_out:
            masks[context][span] = [0] * (span.stop - span.start)
        elif weighing and trajectory.turns[number].calls:
            ids = contexts[context][0][span]
            named = key_tokens(
                trajectory.turns[number],
                chat.decode(ids),
                token_edges(ids, chat.decode),
                tools=trajectory.tools,
                arguments=weighing.arguments,
            )
            keys[context][span] = [place in named for place in range(len(ids))]
    return [
        Row(token_ids=tuple(ids), mask=tuple(mask), weights=balanced(own, mask, weighing) if weighing else ())
        for (ids, _), mask, own in zip(contexts, masks, keys, strict=True)
    ]


def turn_spans(masks: Sequence[Sequence[int]]) -> list[tuple[int, slice]]:
    """(context, its tokens) of each turn: what follows a turn always holds a token that no model wrote."""
    spans = []
    for number, mask in enumerate(masks):
        stop = 0
        for learned, run in groupby(mask):
            start, stop = stop, stop + len(list(run))
            if learned:
                spans.append((number, slice(start, stop)))
    return spans
