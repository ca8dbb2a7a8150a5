"""The made-up rows of bench.curation: seeded, valid, and planted as the truth says."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from bench.curation.rows import Made, altered, jaccard, leaked, make
from bench.curation.runs import found
from journeyman.curation.alone import curate_file
from journeyman.progress import Silent
from journeyman.trajectory import read_trajectories


def test_jaccard_by_hand() -> None:
    # a b, b c, c d against a b, b x, x d: 1 of 5
    assert jaccard("A b, c d.", "a b x d") == 1 / 5


def test_altered_and_leaked_texts() -> None:
    rng = np.random.default_rng(0)
    question, said = " ".join(f"w{i}" for i in range(40)), " ".join(f"s{i}" for i in range(40))
    for _ in range(20):
        text, similarity = altered(rng, question, said)
        assert similarity == jaccard(f"{question} {said}", f"{text} {said}")
        assert 0.85 <= similarity < 1
    leaks = [leaked(rng, "how many eggs are in 3 of the 7 boxes now", question) for _ in range(20)]
    assert all("EGGS" in leak.upper() for leak in leaks) and len(set(leaks)) == 3


def test_the_same_seed_makes_the_same_rows_and_the_truth_holds(tmp_path: Path) -> None:
    made, again = make(2000, tmp_path / "one", seed=3), make(2000, tmp_path / "two", seed=3)
    assert [pq.read_table(path) for path in _files(made)] == [pq.read_table(path) for path in _files(again)]
    rows, truth = read_trajectories(made.rows), pq.read_table(made.truth).to_pylist()
    assert [line["position"] for line in truth] == list(range(2000))
    for line in truth:
        if line["kind"] == "exact":
            copy, original = rows[line["position"]], rows[line["original"]]
            assert line["original"] < line["position"] and copy.id != original.id
            assert (copy.question, copy.turns, copy.problem_id) == (
                original.question,
                original.turns,
                original.problem_id,
            )
        if line["kind"] == "near":
            assert line["similarity"] >= 0.85


def test_what_was_planted_is_found(tmp_path: Path) -> None:
    made = make(1000, tmp_path)
    rules = ("complete", "format", "errors", "exact", "near", "decontaminate", "looked_up")
    curate_file(made.rows, tmp_path / "out", rules=rules, against=[made.evaluated], observer=Silent())
    told = found(made, tmp_path / "out")
    assert {fault["recall"] for fault in told["faults"].values()} == {1.0}
    assert told["false_removals"] == 0


def _files(made: Made) -> tuple[Path, ...]:
    return made.rows, made.evaluated, made.truth
