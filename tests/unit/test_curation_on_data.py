"""Curation on public data sets: planted copies, near copies and leaks are found, and hardly anything else."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from journeyman.curation.alone import curate_file
from journeyman.formats import import_path
from journeyman.progress import Silent
from journeyman.synthesis.problems import write_problems
from journeyman.trajectory import write_trajectories
from tests.unit.curated import dropped_rows, json_lines, kept_ids

FILLERS = ("roughly", "indeed", "then", "maybe", "however")


def shaken(text: str, rng: random.Random) -> str:
    """With one word in forty replaced, at least one."""
    words = text.split()
    for at in rng.sample(range(len(words)), max(1, len(words) // 40)):
        words[at] = rng.choice(FILLERS)
    return " ".join(words)


def planted(questions: Sequence[str], exam: Sequence[str], rng: random.Random) -> dict[str, tuple[str, str]]:
    """Id to (which rule is for it, question)."""
    rows: dict[str, tuple[str, str]] = {}
    for number in range(len(questions) // 20):
        copy = rng.choice(questions)
        rows[f"copy{number}"] = ("exact", copy.upper() if number % 2 else f"  {copy.rstrip('?.')} ")
    for number in range(len(questions) // 100):
        rows[f"near{number}"] = ("near", shaken(rng.choice([q for q in questions if len(q.split()) >= 25]), rng))
    for number, question in enumerate(rng.sample(list(exam), min(len(exam), 60))):
        wrapped = f"Solve this problem. {question} Think step by step, and give the number."
        forms = (question, question.lower(), wrapped, shaken(question, rng) if len(question.split()) > 25 else question)
        rows[f"leak{number}"] = ("decontaminate", forms[number % 4])
    return rows


def curated(
    folder: Path, questions: Sequence[str], exam: Sequence[str], rules: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(id to what was planted, id to the dropped row)."""
    rows = planted(questions, exam, random.Random(3))
    asked = [{"id": f"q{n}", "question": text, "answer": ""} for n, text in enumerate(questions)]
    asked += [{"id": name, "question": text, "answer": ""} for name, (_, text) in rows.items()]
    held = [{"id": f"e{n}", "question": text, "answer": ""} for n, text in enumerate(exam)]
    out = folder / "out"
    curate_file(
        json_lines(folder / "in.jsonl", asked),
        out,
        rules=rules.split(","),
        against=[json_lines(folder / "exam.jsonl", held)],
        observer=Silent(),
    )
    dropped = {row["id"]: row for row in dropped_rows(out)}
    assert sorted([*kept_ids(out), *dropped]) == sorted(row["id"] for row in asked)
    return rows, dropped


def test_gsm8k_against_its_own_other_half(shared_data: Path, tmp_path: Path) -> None:
    lines = (shared_data / "gsm8k_train" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [json.loads(line)["question"] for line in lines]
    random.Random(0).shuffle(questions)
    rows, dropped = curated(tmp_path, questions[1000:], questions[:1000], "decontaminate,exact,near")
    missed = {name for name in rows if name not in dropped}
    assert not missed
    of_rule = [name for name, (rule, _) in rows.items() if dropped[name]["rule"] == rule]
    assert len(of_rule) >= 0.99 * len(rows)  # a near copy of a leak falls to the other rule
    others = {name: row for name, row in dropped.items() if name not in rows}
    assert len(others) <= 3, others  # the set has a few near copies of its own: one is told with another name
    for name, (rule, _) in rows.items():
        if rule == "decontaminate":
            match = json.loads(dropped[name]["match"])
            assert match["source"] == "exam.jsonl" and questions[int(match["id"][1:])] == match["text"]


def test_metatool_queries_with_planted_variants(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "metatool_multi" / "dataset" / "data" / "multi_tool_query_golden.json"
    queries = list(dict.fromkeys(row["query"] for row in json.loads(path.read_text(encoding="utf-8"))))
    rows, dropped = curated(tmp_path, queries[100:], queries[:100], "decontaminate,exact,near")
    assert not {name for name in rows if name not in dropped}
    assert len({name for name in dropped if name not in rows}) <= 2


@pytest.mark.parametrize(
    ("name", "folder", "most"), [("seal-tools", "seal_tools_dev", 0), ("plan-rewardbench", "plan_rewardbench_easy", 20)]
)
def test_imported_sets_are_curated_whole(shared_data: Path, tmp_path: Path, name: str, folder: str, most: int) -> None:
    imported = import_path(name, shared_data / folder)
    if imported.problems:
        count = write_problems(imported.problems, tmp_path / "rows.parquet")
    else:
        count = write_trajectories(imported.trajectories, tmp_path / "rows.parquet")
    funnel = curate_file(tmp_path / "rows.parquet", tmp_path / "out", rules=["exact", "near"], observer=Silent())
    assert funnel.rows_in == count == funnel.rows_kept + funnel.rows_dropped and funnel.rows_dropped <= most
    for row in dropped_rows(tmp_path / "out"):
        assert row["match"] and row["reason"] and row["rule"] in ("exact", "near")
    card = (tmp_path / "out" / "card.md").read_text(encoding="utf-8")
    assert f"{funnel.rows_kept} of {count}" in card
