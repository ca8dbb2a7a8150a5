"""What exploration looks at: the observations of attempts as texts, and vectors that fit into a checkpoint."""

import base64
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from journeyman.rewards.base import Encoder
from journeyman.rewards.judge import LONGEST_RESULT, shortened
from journeyman.seeds import derive

if TYPE_CHECKING:
    import numpy as np

_PIECE = re.compile(
    r"(?P<time>\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?)?\b|\b\d{1,2}:\d\d(?::\d\d)?\b)"
    r"|(?P<number>[-+]?\d+(?:,\d{3})*(?:\.\d+)?(?:[eE][-+]?\d+)?(?!\w)(?!-\w))"
    r"|(?P<word>\w+(?:-\w+)*)"
)


def slotted(text: str) -> str:
    """An observation with slots for what differs from call to call: `<time>`, `<number>`, `<id>` (#72, #84; form ours).

    An id is a word with a digit in it. Kinds of space don't count; long texts lose their middle first.
    """
    return " ".join(_PIECE.sub(_slot, shortened(text, LONGEST_RESULT)).split())


def _slot(found: re.Match[str]) -> str:
    if found.lastgroup != "word":
        return f"<{found.lastgroup}>"
    return "<id>" if any(map(str.isdigit, found[0])) else found[0]


def embedded(texts: Sequence[str], encoder: Encoder, most: int | None = None) -> "Mapping[str, np.ndarray]":
    """Each distinct text's vector; one with more than `most` dimensions is thrown onto so many.

    The throw is a Gaussian matrix of fixed seed (Johnson and Lindenstrauss): distances stay, by and large.
    """
    import numpy as np

    distinct = list(dict.fromkeys(texts))
    if not distinct:
        return {}
    rows = np.asarray(encoder.embed(distinct), np.float64)
    if most is not None and rows.shape[1] > most:
        rng = np.random.default_rng(derive("embedded", rows.shape[1], most))
        rows = rows @ rng.standard_normal((rows.shape[1], most)) / np.sqrt(most)
    return dict(zip(distinct, rows, strict=True))


def call_text(name: str, arguments: Mapping[str, Any]) -> str:
    return f"{name} {json.dumps(dict(arguments), sort_keys=True, ensure_ascii=False, default=str)}"


def array_to_json(array: "np.ndarray") -> dict[str, Any]:
    """An array bit for bit, for a `History`'s note."""
    data = base64.b64encode(array.tobytes()).decode()
    return {"type": array.dtype.str, "shape": list(array.shape), "data": data}


def array_from_json(row: Mapping[str, Any]) -> "np.ndarray":
    """The inverse of `array_to_json`."""
    import numpy as np

    return np.frombuffer(base64.b64decode(row["data"]), row["type"]).reshape(row["shape"]).copy()


def forget(known: dict[str, Any], most: int) -> None:
    """The oldest entries go until so many are left."""
    for key in list(known)[: max(0, len(known) - most)]:
        del known[key]


def running(note: dict[str, Any], name: str, values: Sequence[float]) -> tuple[float, float]:
    """(mean, standard deviation) of all values ever given under a name of the note, these included.

    A deviation of 0 counts as 1, so that it can be divided by.
    """
    count, total, squares = note.get(name, (0, 0.0, 0.0))
    count, total = count + len(values), total + math.fsum(values)
    squares += math.fsum(value * value for value in values)
    note[name] = [count, total, squares]
    mean = total / max(1, count)
    variance = squares / max(1, count) - mean**2
    return mean, variance**0.5 if variance > 1e-12 else 1.0
