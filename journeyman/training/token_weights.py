"""Tokens that decide which tool is called, and with what (TL-Training, #7, verified)."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from journeyman.config import KeyTokensConfig
from journeyman.training.precision import argument_spans
from journeyman.trajectory import Turn

Edges = Sequence[tuple[int, int]]
"""(start, stop) of the characters that each token of a turn wrote."""
THOUGHT_ENDS = "</think>"
"""Names before it call nothing."""


def key_tokens(turn: Turn, text: str, edges: Edges, *, tools: Sequence[str], arguments: bool) -> set[int]:
    """Places of a turn's key tokens. `text`: the turn as its tokens write it; `tools`: names of all tools on offer.

    A tool's name has its first token, and for each other tool whose name begins alike the token where the two part.
    With `arguments` the first token of each argument's name and value counts, too.
    """
    thought = max(0, text.find(THOUGHT_ENDS))
    places = set(_name_places(turn, text[thought:], tools))
    if arguments:
        places |= set(_argument_places(turn, text[thought:]))
    return {i for i, (start, stop) in enumerate(edges) if any(start <= thought + place < stop for place in places)}


def _name_places(turn: Turn, text: str, tools: Sequence[str]) -> Iterator[int]:
    """Characters at which the choice of a tool is made, in the order of the calls."""
    after = 0
    for call in turn.calls:
        begin = _written(call.name, text, after)
        if begin < 0:
            continue
        alike = {_shared(call.name, other) for other in tools if other != call.name}
        yield from (begin + length for length in {0, *alike})
        after = begin + len(call.name)


def _argument_places(turn: Turn, text: str) -> Iterator[int]:
    """Characters at which names and values of arguments begin, within their quotes."""
    for begin, stop in argument_spans(replace(turn, text=text)):
        yield begin + (text[begin] == '"' and stop > begin + 2)
    after = 0
    for call in turn.calls:
        for name in (call.name, *call.arguments):  # the first to get past it: it is a key token anyway
            begin = _written(name, text, after)
            if begin >= 0:
                yield begin
                after = begin + len(name)


def _written(name: str, text: str, after: int) -> int:
    """Where a name stands: as call formats write names, else anywhere; -1 where it doesn't."""
    forms = (f'"{name}"', f"{name}(", f"{name}=", f"={name}>")
    found = [at + form.index(name) for form in forms if (at := text.find(form, after)) >= 0]
    return min(found) if found else text.find(name, after)


def _shared(name: str, other: str) -> int:
    """Characters that two names have in common from their beginning."""
    pairs = zip(name, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(name), len(other)))


def balanced(keys: Sequence[bool], mask: Sequence[int], config: KeyTokensConfig) -> tuple[float, ...]:
    """T weights of a row: key tokens together weigh as much as the others, each at most `max_weight` and at least 1.

    As there, the weighted sum is divided by the sum of the weights: they are scaled to a mean of 1 over learned tokens.
    There a row is one reply, only tokens of tools' names are raised, and the last tokens of arguments are in neither
    count; here a row is all replies of a context, and all learned tokens are counted (ours).
    """
    learned = sum(map(bool, mask[1:]))
    count = sum(key and bool(m) for key, m in zip(keys[1:], mask[1:], strict=True))
    if not count:
        return (1.0,) * len(mask)
    raised = max(1.0, min((learned - count) / count, config.max_weight))
    scale = learned / (learned + count * (raised - 1))
    return tuple(scale * (raised if key else 1.0) for key in keys)
