"""Made-up trajectories with planted faults, and what was planted where: seeded, array by array, streamed to Parquet."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from journeyman.curation.normal_form import question_form
from journeyman.trajectory import schema

PLANTED = {
    "exact": 0.05,
    "near": 0.01,
    "leak": 0.001,
    "blank": 0.001,
    "format": 0.02,
    "errors": 0.03,
    "looked_up": 0.005,
    "same_id": 0.0005,
}
"""Share of the rows by what is wrong with them: each row has one fault at most."""
RULE = {name: name for name in PLANTED} | {"blank": "complete", "leak": "decontaminate", "same_id": "unique_ids"}
"""The rule that a fault is for."""
CHUNK, ROW_GROUP = 50_000, 20_000
ORIGINALS = 2000
"""Rows of a chunk that later rows may be copies of."""
LEAST_SIMILAR = 0.85
EVALUATED = 1000
"""Evaluated questions."""
WORDS, NUMBERS, OPENINGS, ENDINGS = 20_000, 999, 200, 20
"""Words and numbers that texts are made of, most of them rare; boilerplate that many questions begin or end with."""
KINDS = np.array(["clean", *PLANTED])


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """Files of one set."""

    rows: Path
    evaluated: Path
    truth: Path
    """A line a row: `position`, `kind` (clean or a key of `PLANTED`), `original` (a position), `similarity`."""


def make(count: int, folder: Path, seed: int = 0) -> Made:
    """Write `count` trajectories, the questions that they are held against, and what was planted."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Made(rows=folder / "rows.parquet", evaluated=folder / "evaluated.parquet", truth=folder / "truth.parquet")
    writing = Language(seed)
    asked = writing.questions(np.random.default_rng([seed, 1]), EVALUATED).to_pylist()
    evaluated = {"id": [f"e{i}" for i in range(EVALUATED)], "question": asked, "answer": ["1"] * EVALUATED}
    pq.write_table(pa.table(evaluated), made.evaluated)
    with (
        pq.ParquetWriter(made.rows, schema(), compression="zstd") as rows,
        pq.ParquetWriter(made.truth, TRUTH) as truth,
    ):
        for table, planted in chunks(count, writing, asked, seed):
            rows.write_table(table, row_group_size=ROW_GROUP)
            truth.write_table(planted)
    return made


TRUTH = pa.schema(
    [("position", pa.int64()), ("kind", pa.string()), ("original", pa.int64()), ("similarity", pa.float64())]
)


def chunks(count: int, writing: "Language", asked: Sequence[str], seed: int) -> Iterator[tuple[pa.Table, pa.Table]]:
    """(rows, what was planted), some at a time."""
    pool, places = schema().empty_table(), np.zeros(0, dtype=np.int64)
    for start in range(0, count, CHUNK):
        rng = np.random.default_rng([seed, 2, start])
        size = min(CHUNK, count - start)
        head = max(1, size // 10)
        kinds = rng.choice(KINDS, size, p=[1 - sum(PLANTED.values()), *PLANTED.values()])
        kinds[:head] = "clean"  # of which copies may be made
        base = writing.rows(rng, start, kinds)
        pool = pa.concat_tables([pool, base[: min(head, ORIGINALS)]])
        places = np.append(places, start + np.arange(min(head, ORIGINALS)))
        yield _planted(rng, base, kinds, pool=pool, places=places, asked=asked, start=start)


def _planted(
    rng: np.random.Generator,
    base: pa.Table,
    kinds: npt.NDArray,
    *,
    pool: pa.Table,
    places: npt.NDArray[np.int64],
    asked: Sequence[str],
    start: int,
) -> tuple[pa.Table, pa.Table]:
    """Put copies, leaks and repeated ids into rows."""
    size = len(base)
    chosen = rng.integers(len(pool), size=size)
    copied = np.isin(kinds, ["exact", "near"])
    table = pa.concat_tables([base, pool]).take(np.where(copied, size + chosen, np.arange(size)))
    ids = np.array(base["id"].to_pylist(), dtype=object)
    again = kinds == "same_id"
    ids[again] = pool["id"].take(chosen[again]).to_pylist()
    questions = np.array(table["question"].to_pylist(), dtype=object)
    similarity = np.full(size, np.nan)
    similarity[kinds == "exact"] = 1.0
    turns = table["turns"]
    for row in np.flatnonzero(kinds == "near"):
        said = " ".join(turn["text"] for turn in turns[int(row)].as_py())
        questions[row], similarity[row] = altered(rng, questions[row], said)
    for row in np.flatnonzero(kinds == "leak"):
        questions[row] = leaked(rng, asked[rng.integers(len(asked))], questions[row])
    questions[kinds == "blank"] = " "
    problems = np.where(kinds == "exact", table["problem_id"].to_numpy(zero_copy_only=False), base["problem_id"])
    for name, values in (("id", ids), ("question", questions), ("problem_id", problems)):
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(values, pa.string()))
    original = pa.array(places[chosen], mask=~(copied | again))
    planted = [np.arange(start, start + size), kinds, original, pa.array(similarity, from_pandas=True)]
    return table, pa.table([pa.array(column) for column in planted], names=TRUTH.names).cast(TRUTH)


def altered(rng: np.random.Generator, question: str, said: str) -> tuple[str, float]:
    """(the question with a few words put for others, similarity of question and turns before and after, at least .85)."""
    words = question.split(" ")
    places = list(rng.permutation(len(words))[: rng.integers(1, 8)])
    while True:
        changed = [f"other{rng.integers(10**6)}" if i in places else word for i, word in enumerate(words)]
        similarity = jaccard(f"{question} {said}", f"{' '.join(changed)} {said}")
        if similarity >= LEAST_SIMILAR:
            return " ".join(changed), similarity
        places.pop()


def jaccard(one: str, two: str) -> float:
    """Of the sets of pairs of neighbouring words, in normal form."""
    a, b = (set(pairwise(words)) for words in (question_form(t).split(" ") for t in (one, two)))
    return len(a & b) / len(a | b)


def leaked(rng: np.random.Generator, asked: str, other: str) -> str:
    """An evaluated question as it is, in other case and marks, or within another question."""
    way = rng.integers(3)
    if way == 0:
        return asked
    if way == 1:
        return "  ".join(word.upper() + ("," if i % 7 == 3 else "") for i, word in enumerate(asked.split(" "))) + " !"
    words = other.split(" ")
    return " ".join([*words[:8], asked, *words[8:16]])


class Language:
    """Writes texts: words by Zipf's law with a number in twenty, between boilerplate."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([seed, 0])
        syllables = np.array([c + v for c in "bcdfghklmnprstvwz" for v in "aeiou"])
        drawn = syllables[rng.integers(len(syllables), size=(WORDS * 2, 4))]
        made = ["".join(row[: 2 + i % 3]) for i, row in enumerate(drawn)]
        words = list(dict.fromkeys(made))[:WORDS]
        self._known = pa.array([*words, *map(str, range(1, NUMBERS + 1))])
        self._words = len(words)
        self._chance = np.cumsum(1 / (np.arange(len(words)) + 2.7))
        self._openings = self._texts(rng, rng.integers(6, 13, OPENINGS))
        self._endings = self._texts(rng, rng.integers(4, 9, ENDINGS))

    def _texts(self, rng: np.random.Generator, lengths: npt.NDArray[np.int64]) -> pa.Array:
        count = int(lengths.sum())
        words = np.searchsorted(self._chance, rng.random(count) * self._chance[-1])
        numbers = self._words + rng.integers(NUMBERS, size=count)
        drawn = self._known.take(pa.array(np.where(rng.random(count) < 0.05, numbers, words)))
        return pc.binary_join(pa.ListArray.from_arrays(_offsets(lengths), drawn), " ")

    def questions(self, rng: np.random.Generator, count: int) -> pa.Array:
        """Of 20 to 60 words."""
        opening = self._openings.take(pa.array(np.minimum(rng.zipf(1.5, count) - 1, OPENINGS - 1)))
        ending = self._endings.take(pa.array(rng.integers(ENDINGS, size=count)))
        body = self._texts(rng, rng.integers(10, 41, count))
        return pc.binary_join_element_wise(opening, ". ", body, ", ", ending, "?", "")

    def rows(self, rng: np.random.Generator, start: int, kinds: npt.NDArray) -> pa.Table:
        """Trajectories at the positions from `start` on, with those of the faults that lie within a row by itself."""
        count = len(kinds)
        calls = rng.choice(4, count, p=[0.05, 0.35, 0.35, 0.25])
        calls[np.isin(kinds, ["errors", "looked_up"])] |= 1
        numbers = _texts_of(rng.integers(100_000, 1_000_000, (2, count)))
        right = (rng.random(count) < 0.9) | (calls == 0)
        given = np.where(right, numbers[0], numbers[1])
        way = np.where(kinds == "format", rng.integers(3, size=count), -1)  # rejected, outside of blocks, no end
        places = np.char.add("p", np.arange(start, start + count).astype(str))
        columns = {
            "id": pa.array(np.char.add("t", np.arange(start, start + count).astype(str))),
            "problem_id": pa.array(places),
            "family": pa.array(np.array(["arithmetic", "lookup", "tables", "code"])[rng.integers(4, size=count)]),
            "question": self.questions(rng, count),
            "reference": pa.array(numbers[0]),
            "tools": pa.ListArray.from_arrays(np.arange(count + 1, dtype=np.int32), pa.array(["calculator"] * count)),
            "min_calls": pa.array(np.minimum(calls, 1)),
            "turns": self._turns(rng, calls, reference=numbers[0], given=given, kinds=kinds, way=way),
            "stop_reason": pa.array(np.where(way == 2, "max_turns", "answer")),
            "answer": pa.array(given, mask=way == 2),
            "source": pa.array(["scripted"] * count),
            "correct": pa.array(right),
            "score": pa.array(right.astype(float)),
        }
        return pa.table([_filled(columns, field, count) for field in schema()], schema=schema())

    def _turns(
        self,
        rng: np.random.Generator,
        calls: npt.NDArray,
        *,
        reference: npt.NDArray,
        given: npt.NDArray,
        kinds: npt.NDArray,
        way: npt.NDArray,
    ) -> pa.ListArray:
        turns_B = calls + 1
        row_U = np.repeat(np.arange(len(calls)), turns_B)
        offsets = _offsets(turns_B)
        first_U = np.isin(np.arange(len(row_U)), offsets[:-1])
        last_U = np.isin(np.arange(len(row_U)), offsets[1:] - 1)
        a, b, c = (pa.array(_texts_of(rng.integers(2, 1000, len(row_U)))) for _ in range(3))
        sums = pc.binary_join_element_wise(a, "*", b, "+", c, "")
        outputs = _texts_of(rng.integers(1000, 1_000_000, len(row_U)))
        before_last = np.append(last_U[1:], False)
        outputs[before_last] = given[row_U[before_last]]
        early = np.where(first_U & (kinds[row_U] == "looked_up"), np.char.add(" so ", reference[row_U]), "")
        thoughts = pc.binary_join_element_wise(
            "<think>", self._texts(rng, rng.integers(8, 26, len(row_U))), pa.array(early), "</think>\n", ""
        )
        arguments = pc.binary_join_element_wise('{"expression": "', sums, '"}', "")
        call = pc.binary_join_element_wise(
            '<tool_call>\n{"name": "calculator", "arguments": ', arguments, "}\n</tool_call>", ""
        )
        answer = pc.binary_join_element_wise("<answer>", pa.array(given[row_U]), "</answer>", "")
        outside = pa.array(np.where(first_U & (way[row_U] == 1), "Well then. ", ""))
        ending = pc.if_else(pa.array(last_U), answer, call)
        failed = first_U & (kinds[row_U] == "errors")
        names = pa.array(["calculator"] * len(row_U))
        columns = {
            "text": pc.binary_join_element_wise(outside, thoughts, ending, ""),
            "calls": _each_of(~last_U, {"name": names, "arguments": arguments}, "calls"),
            "results": _each_of(
                ~last_U, {"name": names, "ok": pa.array(~failed), "output": pa.array(outputs)}, "results"
            ),
            "error": pa.array(np.where(first_U & (way[row_U] == 0), "the call can't be read", "")),
        }
        fields = list(schema().field("turns").type.value_type)
        turns = pa.StructArray.from_arrays([_filled(columns, field, len(row_U)) for field in fields], fields=fields)
        return pa.ListArray.from_arrays(offsets, turns)


def _each_of(there: npt.NDArray[np.bool_], columns: dict[str, pa.Array], name: str) -> pa.ListArray:
    """A list of one struct for each turn that has it, and an empty one for the others."""
    fields = list(schema().field("turns").type.value_type.field(name).type.value_type)
    made = pa.StructArray.from_arrays([_filled(columns, field, len(there)) for field in fields], fields=fields)
    return pa.ListArray.from_arrays(_offsets(there), made.filter(pa.array(there)))


def _filled(columns: dict[str, pa.Array], field: pa.Field, count: int) -> pa.Array:
    """A column that is given, else one of what is stored where there is nothing."""
    if field.name in columns:
        return columns[field.name].cast(field.type)
    if pa.types.is_list(field.type):
        empty = np.zeros(count + 1, dtype=np.int32)
        return pa.ListArray.from_arrays(empty, pa.array([], field.type.value_type))
    if pa.types.is_string(field.type):
        text = {"restart": "[]", "opening": "[]", "specs": "[]", "reward_spans": "[]", "fault": None}
        empty_text = "{}" if field.name.endswith(("_parts", "_channels", "provenance")) else ""
        return pa.array([text.get(field.name, empty_text)] * count, pa.string())
    if field.name == "reward" and count and "text" not in columns:
        return pa.nulls(count, field.type)
    return pa.array(np.zeros(count)).cast(field.type)


def _offsets(counts: npt.NDArray) -> npt.NDArray[np.int32]:
    return np.concatenate(([0], np.cumsum(counts))).astype(np.int32)


def _texts_of(numbers: npt.NDArray[np.int64]) -> npt.NDArray:
    return numbers.astype(str)
