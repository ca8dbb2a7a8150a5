"""The same rules with `datasets`, as one writes them by hand: `python -m bench.curation.with_datasets ROWS EVALUATED OUT`.

Row functions in `filter`, sets and dictionaries in memory, one process: what compares rows can't be spread over several.
Decontamination is that of questions of 20 words and more, which are all that the made-up rows are held against.
"""

import json
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from rensa import RMinHash  # pyright: ignore[reportAttributeAccessIssue]

from journeyman.curation.normal_form import question_form
from journeyman.curation.rules.contamination import FEW
from journeyman.curation.signatures import BANDS, ROWS, SEED

RUN, SHARE, COMMON, SIMILAR = 5, 0.7, 0.01, 0.8
SHAPE = re.compile(r"\s*(<think>.*?</think>)?\s*((<tool_call>.*?</tool_call>\s*)+|<answer>.*?</answer>\s*)", re.DOTALL)
CALL = re.compile(r"<tool_call>.*?</tool_call>", re.DOTALL)
Turns = Sequence[dict[str, Any]]


def complete(question: str, answer: str | None) -> bool:
    return bool(question.strip() and answer and answer.strip())


def well_formed(turns: Turns, stop_reason: str) -> bool:
    shaped = all(not turn["error"] and SHAPE.fullmatch(turn["text"]) for turn in turns)
    return bool(turns) and shaped and stop_reason in ("answer", "done")


def without_errors(turns: Turns) -> bool:
    return all(result["ok"] for turn in turns for result in turn["results"])


class Exact:
    """Whether no earlier row has the same problem, question and turns."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, ...]] = set()

    def __call__(self, problem_id: str, question: str, turns: Turns) -> bool:
        key = (problem_id, question, *(turn["text"] for turn in turns))
        new = key not in self._seen
        self._seen.add(key)
        return new


class Near:
    """Whether no earlier row has nearly the same words: MinHash in bands, then the similarity itself."""

    def __init__(self) -> None:
        self._bands: list[dict[tuple[int, ...], tuple[int, int]]] = [{} for _ in range(BANDS)]
        self._words: list[list[str]] = []

    def __call__(self, question: str, turns: Turns) -> bool:
        words = words_of(question, turns)
        number, runs = len(self._words), pairs(words)
        self._words.append(words)
        hashed = RMinHash(BANDS * ROWS, SEED)
        hashed.update([f"{a} {b}" for a, b in runs])
        digest, met = hashed.digest(), set()
        for band, places in enumerate(self._bands):
            key = tuple(digest[band * ROWS : (band + 1) * ROWS])
            if key in places:
                met.update(places[key])
            places[key] = (places.get(key, (number,))[0], number)
        return all(similarity(runs, pairs(self._words[one])) < SIMILAR for one in met)


def words_of(question: str, turns: Turns) -> list[str]:
    return question_form(" ".join([question, *(turn["text"] for turn in turns)])).split(" ")


def pairs(words: Sequence[str]) -> set[tuple[str, str]]:
    return set(pairwise(words))


def similarity(one: set[Any], two: set[Any]) -> float:
    common = len(one & two)
    return common / (len(one) + len(two) - common)


def grams(words: Sequence[str]) -> set[tuple[str, ...]]:
    return {tuple(words[i : i + RUN]) for i in range(len(words) - RUN + 1)}


class Evaluated:
    """Evaluated questions by their runs of words; rows are looked at twice, because what is common shows at the end."""

    def __init__(self, questions: Sequence[str]) -> None:
        forms = dict.fromkeys(map(question_form, questions))
        self._grams = [grams(form.split(" ")) for form in forms]
        self._asked: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for number, own in enumerate(self._grams):
            for gram in own:
                self._asked[gram].append(number)
        self._rows: Counter[tuple[str, ...]] = Counter()
        self._count = 0
        self._hits: list[set[tuple[str, ...]]] = []

    def count(self, question: str, turns: Turns) -> bool:
        """First pass; keeps every row."""
        found = grams(words_of(question, turns)) & self._asked.keys()
        self._rows.update(found)
        self._hits.append(found)
        return True

    def clean(self) -> Callable[..., bool]:
        """Second pass: whether a row holds no question."""
        most = max(FEW, COMMON * len(self._hits)), max(FEW, COMMON * len(self._grams))
        rare = {g for g, asked in self._asked.items() if self._rows[g] <= most[0] and len(asked) <= most[1]}
        hits = iter(self._hits)

        def judge(_: str) -> bool:
            found = next(hits)
            likely = {number for gram in found & rare for number in self._asked[gram]}
            return not any(self._holds(found, self._grams[number], rare) for number in likely)

        return judge

    def _holds(self, found: set[Any], asked: set[Any], rare: set[Any]) -> bool:
        return len(found & asked) >= SHARE * len(asked) and len(found & asked & rare) >= SHARE * len(asked & rare)


def worked_out(question: str, reference: str, min_calls: int, turns: Turns) -> bool:
    wanted = answer_form(reference)
    if not min_calls or not wanted.strip():
        return True
    number = re.fullmatch(r"\s*[+-]?[\d.]+\s*", reference.replace(",", ""))
    seen = question
    for turn in turns:
        said = CALL.sub(" ", turn["text"]) if number else turn["text"]
        if wanted in answer_form(said) and wanted not in answer_form(seen):
            return False
        seen = " ".join([seen, *(result["output"] for result in turn["results"])])
    return True


def answer_form(text: str) -> str:
    text = re.sub(r"([0-9]),([0-9])", r"\1\2", text.lower())
    text = re.sub(r"\.([^0-9]|$)", r" \1", text)
    text = re.sub(r"(?:[^\w.]|_)+", " ", text)
    return f" {text.strip()} "


class UniqueIds:
    """Whether no earlier row has the id."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def __call__(self, id: str) -> bool:
        new = id not in self._seen
        self._seen.add(id)
        return new


def curate(rows: Path, evaluated: Path, out: Path) -> dict[str, float]:
    """Write kept.parquet and dropped.parquet (`position`, `rule`); returns CPU seconds by step."""
    datasets.disable_progress_bars()
    data: Any = datasets.Dataset.from_parquet(str(rows), cache_dir=str(out / "cache"))
    data = data.add_column("position", list(range(len(data))))
    held = Evaluated(pq.read_table(evaluated)["question"].to_pylist())
    steps: list[tuple[str, Callable[..., bool] | None, list[str]]] = [
        ("complete", complete, ["question", "answer"]),
        ("format", well_formed, ["turns", "stop_reason"]),
        ("errors", without_errors, ["turns"]),
        ("exact", Exact(), ["problem_id", "question", "turns"]),
        ("near", Near(), ["question", "turns"]),
        ("decontaminate", held.count, ["question", "turns"]),
        ("decontaminate", None, ["id"]),
        ("looked_up", worked_out, ["question", "reference", "min_calls", "turns"]),
        ("unique_ids", UniqueIds(), ["id"]),
    ]
    seconds, dropped = defaultdict(float), {}
    for number, (name, keeps, columns) in enumerate(steps):
        begun, before = time.process_time(), data["position"][:]
        data = data.filter(keeps or held.clean(), input_columns=columns, new_fingerprint=f"{name}-{number}")
        dropped |= dict.fromkeys(sorted(set(before) - set(data["position"][:])), name)
        seconds[name] += time.process_time() - begun
    begun = time.process_time()
    data.to_parquet(str(out / "kept.parquet"))
    pq.write_table(pa.table({"position": list(dropped), "rule": list(dropped.values())}), out / "dropped.parquet")
    seconds["writing"] += time.process_time() - begun
    return dict(seconds)


if __name__ == "__main__":
    source, against, folder = map(Path, sys.argv[1:])
    folder.mkdir(parents=True)
    start = time.perf_counter(), time.process_time()
    by_step = curate(source, against, folder)
    told = {"wall_s": time.perf_counter() - start[0], "cpu_s": time.process_time() - start[1], "by_step": by_step}
    print(json.dumps(told))
