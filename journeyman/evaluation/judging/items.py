"""What a judge is tried on: answers of which it is known which are right, or which is better."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from journeyman.errors import DataError
from journeyman.formats import FORMATS, read_row
from journeyman.formats.base import BadRow, Row, object_of, text_of
from journeyman.formats.files import rows_of
from journeyman.formats.openai import read_openai
from journeyman.graders.finals import final
from journeyman.seeds import derive
from journeyman.trajectory import StopReason, Trajectory, Turn, read_trajectories

FAMILY = "all"
"""Of items that name none."""


class Kind(StrEnum):
    """What is asked of an item's scores."""

    ANSWER = "answer"
    """A right one is above all wrong ones."""
    TIED = "tied"
    """Several right ones: all above the wrong ones, and closer to each other than to those (#58)."""
    TWIN = "twin"
    """The same request with a single right one, which a tied item names."""
    STEP = "step"
    """Attempts up to a step: as a human corrected it, and as it was (#9)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Item:
    """A request with answers to it, or whole attempts. Two items are the same if they are one object."""

    id: str
    family: str
    chosen: tuple[Trajectory, ...]
    """The right ones; in a pair the better one."""
    rejected: tuple[Trajectory, ...]
    kind: Kind = Kind.ANSWER
    twin: str = ""
    """Of a tied item: the id of its twin."""

    def shuffled(self, seed: int) -> list[tuple[bool, int, Trajectory]]:
        """(whether it is chosen, its place on that side, it) in an order that the seed and the item draw."""
        every = [(True, i, t) for i, t in enumerate(self.chosen)] + [(False, i, t) for i, t in enumerate(self.rejected)]
        random.Random(derive(seed, "judge", self.id)).shuffle(every)
        return every


def read_items(path: Path, layout: str = "") -> list[Item]:
    """The items of a file in one of `LAYOUTS`; empty: trajectories for a Parquet file of them, else items.

    Raises `DataError` with file and line.
    """
    layout = layout or ("trajectories" if path.suffix == ".parquet" else "items")
    items = list(LAYOUTS[layout](path))
    if not items:
        raise DataError("no item has both sides", place=str(path), remedy="give right and wrong answers to a request")
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise DataError(f"two items are called {item.id!r}", place=str(path), remedy="give each an id of its own")
        seen.add(item.id)
    return items


def _own(path: Path) -> Iterator[Item]:
    """Lines of `{"prompt", "chosen", "rejected"}`, with `id`, `family`, `reference`, `kind`, `twin` where they apply."""
    return _each(path, _item)


def _plans(path: Path) -> Iterator[Item]:
    """Plan-RewardBench's files: a pair of attempts a row; the family is the file's name (#124)."""
    reader = FORMATS["plan-rewardbench"].open(path)[1]

    def read(row: Row) -> Item:
        chosen, rejected = read_row(row, reader).trajectories
        return Item(id=_name(row), family=row.file.stem, chosen=(chosen,), rejected=(rejected,))

    return _each(path, read)


def _trajectories(path: Path) -> Iterator[Item]:
    """A trajectories.parquet: right and wrong attempts at a problem; problems with one side only are left out."""
    import pyarrow as pa

    file = path / "trajectories.parquet" if path.is_dir() else path
    try:
        made = read_trajectories(file)
    except (OSError, pa.ArrowException, ValueError, KeyError) as error:
        message = str(error).splitlines()[0]
        raise DataError(f"no trajectories: {message}", place=str(file), remedy="give a trajectories.parquet") from None
    problems: dict[str, list[Trajectory]] = {}
    for trajectory in made:
        problems.setdefault(trajectory.problem_id, []).append(trajectory)
    for name, group in problems.items():
        chosen, rejected = (tuple(t for t in group if t.correct is side) for side in (True, False))
        if chosen and rejected:
            yield Item(id=name, family=group[0].family, chosen=chosen, rejected=rejected)


LAYOUTS: dict[str, Callable[[Path], Iterator[Item]]] = {
    "items": _own,
    "plan-rewardbench": _plans,
    "trajectories": _trajectories,
}


def _each(path: Path, read: Callable[[Row], Item]) -> Iterator[Item]:
    for row in rows_of(path):
        try:
            if row.error:
                raise BadRow(row.error)
            yield read(row)
        except BadRow as bad:
            message = f"{bad.reason}: {bad.detail}" if bad.detail else bad.reason
            raise DataError(message, place=f"{row.file}:{row.line}", remedy="mend or remove the row") from None


def _item(row: Row) -> Item:
    """An item of a line. Raises `BadRow`."""
    value = object_of(row)
    kind = str(value.get("kind", Kind.ANSWER))
    if kind not in list(Kind):
        raise BadRow(f"a kind that is none of {', '.join(Kind)}", kind)
    family = str(value.get("family") or FAMILY)
    sides = [_side(row, value, side, family) for side in ("chosen", "rejected")]
    twin = str(value.get("twin") or "")
    if (kind == Kind.TIED) != bool(twin):
        raise BadRow("`twin` belongs to items of kind tied, and to all of them")
    name = str(value.get("id") or _name(row))
    return Item(id=name, family=family, chosen=sides[0], rejected=sides[1], kind=Kind(kind), twin=twin)


def _side(row: Row, value: Mapping[str, Any], side: str, family: str) -> tuple[Trajectory, ...]:
    """One answer or several: texts, or conversations in OpenAI's form."""
    given = value.get(side)
    answers = given if isinstance(given, list) else [given]
    if not answers:
        raise BadRow(f"no answers under {side!r}")
    made = [_answer(row, value, answer, side) for answer in answers]
    reference = str(value.get("reference") or "")
    fields: dict[str, Any] = {
        "problem_id": _name(row),
        "family": family,
        **({"reference": reference} if reference else {}),
    }
    return tuple(replace(one, id=f"{_name(row)} {side} {i}", **fields) for i, one in enumerate(made))


def _answer(row: Row, value: Mapping[str, Any], answer: Any, side: str) -> Trajectory:
    """An answer to the row's prompt, or a conversation in OpenAI's form. Raises `BadRow`."""
    if isinstance(answer, dict):
        return read_openai(Row(file=row.file, line=row.line, value=answer)).trajectories[0]
    if not isinstance(answer, str):
        raise BadRow(f"an answer under {side!r} that is neither a text nor an object with messages")
    return Trajectory(
        id="",
        problem_id="",
        family="",
        question=text_of(value, "prompt"),
        reference="",
        tools=(),
        min_calls=0,
        turns=(Turn(text=answer),),
        stop_reason=StopReason.ANSWER,
        answer=final(answer).text,
    )


def _name(row: Row) -> str:
    return f"{row.file.name}:{row.line}"


def blind(trajectories: Sequence[Trajectory]) -> tuple[Trajectory, ...]:
    """Attempts without the world's verdict and what else tells the sides apart."""
    hidden: dict[str, Any] = {"correct": None, "score": None, "score_parts": {}, "reward": None, "reward_parts": {}}
    return tuple(
        replace(t, **hidden, source="", provenance={}, sample=i, id=str(i)) for i, t in enumerate(trajectories)
    )
