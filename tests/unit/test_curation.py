"""Curation: each rule finds what it is for and nothing else; the funnel adds up; every dropped row keeps its reason."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.config import CurateConfig, PipelineConfig, RlConfig
from journeyman.curation import RULES
from journeyman.curation.normal_form import question_form, question_sql
from journeyman.curation.stage import curate
from journeyman.errors import ConfigError, DataError
from journeyman.metrics import known
from journeyman.problem import Problem
from journeyman.progress import Silent
from journeyman.synthesis.problems import read_problems, write_problems
from journeyman.trajectory import (
    StopReason,
    ToolCall,
    ToolResult,
    Trajectory,
    Turn,
    read_trajectories,
    write_trajectories,
)
from tasks.recipes import plan
from tests.unit.curated import dropped_rows, json_lines

CALL = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "48/2"}}\n</tool_call>'


def turn(text: str, output: str | None = None, *, ok: bool = True, error: str = "") -> Turn:
    if output is None:
        return Turn(text=text, error=error)
    call = ToolCall(name="calculator", arguments={"expression": "48/2"})
    return Turn(text=text, calls=(call,), results=(ToolResult(name="calculator", ok=ok, output=output),), error=error)


CLEAN = Trajectory(
    id="clean",
    problem_id="p1",
    family="arithmetic",
    question="What is half of 48?",
    reference="24",
    tools=("calculator",),
    min_calls=1,
    turns=(turn(f"<think>I divide.</think>\n{CALL}", "24"), turn("<answer>24</answer>")),
    stop_reason=StopReason.ANSWER,
    answer="24",
    source="scripted",
    provenance={"mistake": "none", "umlaut": "ü"},
)


class Recorder(Silent):
    """Keeps what a stage reports."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}
        self.shares: list[float] = []

    def progress(self, done: float, total: float, note: str = "") -> None:
        self.shares.append(done / total)

    def metrics(self, values, *, step: int) -> None:
        assert step == 0
        self.values |= values


def artifact(folder: Path, rows: Sequence[Trajectory], dev: Sequence[str] = (), heldout: Sequence[str] = ()) -> Path:
    """A synthesize artifact with these demonstrations and evaluated questions."""
    write_trajectories(rows, folder / "demonstrations.parquet")
    for split, questions in (("dev", dev), ("heldout", heldout)):
        problems = [Problem(id=q, family="arithmetic", question=q, answer="1") for q in questions]
        write_problems(problems, folder / "problems" / f"{split}.parquet")
    return folder


def config(*rules: str) -> PipelineConfig:
    return PipelineConfig(curate=CurateConfig(rules=list(rules)))


def dropped(folder: Path, rule: str, rows: Sequence[Trajectory], **splits: Sequence[str]) -> dict[str, str]:
    """Trajectory id to reason, of one rule; a clean row of another problem keeps the set from being empty."""
    other = replace(CLEAN, id="other", problem_id="p0", question="What is half of 50?")
    curate(config(rule), artifact(folder / "in", [*rows, other], **splits), folder / "out", Silent())
    table = duckdb.read_parquet(str(folder / "out" / "dropped.parquet")).project("id, rule, reason").fetchall()
    assert {row[1] for row in table} <= {rule}
    return {row[0]: row[2] for row in table}


def test_clean_rows_pass_every_default_rule_unchanged(tmp_path: Path) -> None:
    rows = [CLEAN, replace(CLEAN, id="second", problem_id="p2", question="Half of 48, please.")]
    curate(PipelineConfig(), artifact(tmp_path / "in", rows), tmp_path / "out", Silent())
    assert read_trajectories(tmp_path / "out" / "kept.parquet") == rows
    assert read_trajectories(tmp_path / "out" / "dropped.parquet") == []


def test_exact_keeps_the_first(tmp_path: Path) -> None:
    same = replace(CLEAN, id="same", seed=1)
    elsewhere = replace(CLEAN, id="elsewhere", problem_id="p2")
    otherwise = replace(CLEAN, id="otherwise", turns=(turn(CALL, "24"), CLEAN.turns[1]))
    found = dropped(tmp_path, "exact", [CLEAN, elsewhere, same, otherwise, replace(CLEAN, id="third")])
    assert found == {
        "same": "same problem and turns as an earlier row (row 0)",
        "third": "same problem and turns as an earlier row (row 0)",
    }


def test_a_repeated_id_drops_only_the_later_row(tmp_path: Path) -> None:
    summary = curate(config("exact"), artifact(tmp_path / "in", [CLEAN, CLEAN]), tmp_path / "out", Silent())
    assert summary["counts"] == {"rows_in": 2, "rows_kept": 1, "rows_dropped": 1}


def test_decontaminate_finds_questions_that_are_evaluated_on(tmp_path: Path) -> None:
    rows = [CLEAN, replace(CLEAN, id="safe", question="What is half of 4.8?")]
    found = dropped(tmp_path, "decontaminate", rows, dev=["  what IS  half of 48"], heldout=["What is 3 - 5?"])
    assert found == {"clean": "the question is evaluated on (dev)"}


@pytest.mark.parametrize(
    ("texts", "leaks"),
    [
        (("<answer>24</answer>",), True),  # no call at all
        ((f"<think>It is 24.</think>{CALL}", "<answer>24</answer>"), True),
        ((f"<think>I divide 48 by 2, not 2.4 or 240</think>{CALL}", "<answer>24</answer>"), False),
        ((CALL, "<think>So 24.</think><answer>24</answer>"), False),
        (('<tool_call>{"name": "calculator", "arguments": {"expression": "24*1"}}</tool_call>', "24"), False),
        (("<answer>25</answer>",), False),  # wrong, but not looked up
    ],
)
def test_looked_up_finds_an_answer_before_a_result_shows_it(tmp_path: Path, texts: Sequence[str], leaks: bool) -> None:
    turns = tuple(turn(text, "24" if "tool_call" in text else None) for text in texts)
    found = dropped(tmp_path, "looked_up", [replace(CLEAN, turns=turns)])
    assert found == ({"clean": "the answer is stated before a tool result shows it (turn 1)"} if leaks else {})


def test_looked_up_lets_pass_what_the_question_says_and_what_needs_no_call(tmp_path: Path) -> None:
    early = replace(CLEAN, turns=(turn("<answer>24</answer>"),))
    rows = [
        replace(early, id="given", question="Is it 24 or 23?"),
        replace(early, id="known", min_calls=0),
        replace(early, id="no reference", reference=""),
    ]
    assert dropped(tmp_path, "looked_up", rows) == {}


def test_looked_up_reads_arguments_where_the_answer_is_a_word(tmp_path: Path) -> None:
    search = '<tool_call>{"name": "search", "arguments": {"query": "pet of New Lin"}}</tool_call>'
    row = replace(CLEAN, question="Who is mayor?", reference="new lin", turns=(turn(search, "cat"), CLEAN.turns[1]))
    assert dropped(tmp_path, "looked_up", [row]) == {
        "clean": "the answer is stated before a tool result shows it (turn 1)"
    }


def test_verified_is_an_entry_that_the_default_leaves_out(tmp_path: Path) -> None:
    assert "verified" not in CurateConfig().rules
    rows = [replace(CLEAN, id=str(verdict), correct=verdict) for verdict in (True, False, None)]
    found = dropped(tmp_path, "verified", rows)
    assert found == {"False": "wrong", "None": "not verified", "other": "not verified"}


def test_the_funnel_adds_up_and_each_row_falls_to_the_first_rule(tmp_path: Path) -> None:
    broken = replace(CLEAN, id="both", turns=(turn("no shape"), turn(CALL, "e", ok=False)))
    failed = replace(CLEAN, id="failed", family="tables", turns=(turn(CALL, "e", ok=False), CLEAN.turns[1]))
    recorder = Recorder()
    folder = artifact(tmp_path / "in", [CLEAN, broken, failed, replace(CLEAN, id="again")])
    summary = curate(PipelineConfig(), folder, tmp_path / "out", recorder)
    funnel = json.loads((tmp_path / "out" / "funnel.json").read_text())
    assert [(rule["rule"], rule["rows_in"], rule["dropped"]) for rule in funnel["rules"]] == [
        ("format", 4, 1),
        ("errors", 3, 1),
        ("exact", 2, 1),
        ("decontaminate", 1, 0),
        ("looked_up", 1, 0),
    ]
    assert funnel["rules"][2]["reasons"] == {"same problem and turns as an earlier row": 1}
    none = {"format": 0, "exact": 0, "decontaminate": 0, "looked_up": 0}
    assert funnel["families"]["tables"] == {"in": 1, "kept": 0, **none, "errors": 1}
    assert (funnel["rows_in"], funnel["rows_kept"], funnel["rows_dropped"]) == (4, 1, 3)
    assert summary["counts"] == {"rows_in": 4, "rows_kept": 1, "rows_dropped": 3}
    assert summary["dropped"] == {**none, "format": 1, "errors": 1, "exact": 1}
    assert recorder.values["data/rows_dropped/errors"] == 1 and recorder.values["data/rows_in"] == 4
    assert all(known(name) for name in recorder.values)
    assert recorder.shares == sorted(recorder.shares) and recorder.shares[-1] == 1
    card = (tmp_path / "out" / "card.md").read_text()
    assert "1 of 4 trajectories kept" in card and "| `errors` | 3 | 1 | a tool call failed: 1 |" in card
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "card.html",
        "card.md",
        "dropped.parquet",
        "funnel.json",
        "kept.parquet",
        "pictures",
    ]


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    rows = [replace(CLEAN, id=str(n), problem_id=str(n // 2), seed=n) for n in range(200)]
    folder = artifact(tmp_path / "in", rows)
    for name in ("a", "b"):
        curate(PipelineConfig(), folder, tmp_path / name, Silent())
    for file in ("kept.parquet", "dropped.parquet", "funnel.json", "card.md"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_order_of_rows_is_kept(tmp_path: Path) -> None:
    rows = [replace(CLEAN, id=str(n), problem_id=str(n)) for n in (5, 3, 9, 1)]
    curate(PipelineConfig(), artifact(tmp_path / "in", rows), tmp_path / "out", Silent())
    assert [row.id for row in read_trajectories(tmp_path / "out" / "kept.parquet")] == ["5", "3", "9", "1"]


def test_an_unknown_rule_is_an_error_that_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean `near`"):
        curate(config("neer"), artifact(tmp_path / "in", [CLEAN]), tmp_path / "out", Silent())
    assert not (tmp_path / "out").exists()


def test_nothing_left_is_an_error_that_says_which_rule(tmp_path: Path) -> None:
    folder = artifact(tmp_path / "in", [replace(CLEAN, answer=None)])
    with pytest.raises(DataError, match="format dropped 1"):
        curate(PipelineConfig(), folder, tmp_path / "out", Silent())


@pytest.mark.parametrize("damage", ["missing", "broken"])
def test_an_unreadable_artifact_is_an_error_that_names_the_file(tmp_path: Path, damage: str) -> None:
    folder = artifact(tmp_path / "in [1]", [CLEAN])
    file = folder / "demonstrations.parquet"
    file.unlink() if damage == "missing" else file.write_bytes(b"PAR1 no")
    with pytest.raises(DataError) as error:
        curate(PipelineConfig(), folder, tmp_path / "out", Silent())
    assert error.value.place == str(file) and error.value.remedy


def test_brackets_in_a_folder_are_not_a_pattern(tmp_path: Path) -> None:
    summary = curate(PipelineConfig(), artifact(tmp_path / "in [1]*", [CLEAN]), tmp_path / "out", Silent())
    assert summary["counts"]["rows_kept"] == 1


def test_every_default_rule_is_registered() -> None:
    assert set(CurateConfig().rules) <= set(RULES)


@settings(deadline=None, max_examples=200)
@given(st.text(st.characters(max_codepoint=0x24F, exclude_characters="\x00İ"), max_size=40))
def test_the_normal_form_is_the_same_in_sql_and_python(text: str) -> None:
    [(form,)] = duckdb.execute(f"SELECT {question_sql('x')} FROM (SELECT ? AS x)", [text]).fetchall()
    assert form == question_form(text)
    assert question_form(form) == form


def test_the_normal_form_keeps_operators_and_decimals_apart() -> None:
    assert question_form("What  is 1,200 + 3?") == "what is 1200 + 3"
    assert question_form("3 - 5") != question_form("3 + 5")
    assert question_form("1.5") != question_form("15") != question_form("1 5")


def test_the_problems_of_rl_are_curated_too(tmp_path: Path) -> None:
    folder = artifact(tmp_path / "in", [CLEAN], heldout=["What is a third of 48?"])
    asked = ["What is half of 50?", "what is HALF of 50", "What is a third of 48?", "What is a fifth of 50?"]
    train = [Problem(id=f"t{n}", family="arithmetic", question=q, answer="1") for n, q in enumerate(asked)]
    made = [Problem(id="m0", family="arithmetic", question="What is half  of 50?", answer="1")]
    write_problems(train, folder / "problems" / "train.parquet")
    write_problems(made, folder / "problems" / "made.parquet")
    recorder = Recorder()
    settings = PipelineConfig(
        curate=CurateConfig(rules=["format"], problems=["exact", "decontaminate"]), rl=[RlConfig(name="a")]
    )
    summary = curate(settings, folder, tmp_path / "out", recorder)
    assert read_problems(tmp_path / "out" / "problems" / "train.parquet") == [train[0], train[3]]
    assert summary["problems"]["dropped"] == {"exact": 2, "decontaminate": 1}
    assert summary["counts"]["rows_kept"] == 1 and (tmp_path / "out" / "problems" / "card.md").is_file()
    assert recorder.shares == sorted(recorder.shares) and recorder.shares[-1] == 1
    assert plan(settings, "rl-a", []).inputs["problems"] == "curate"
    assert plan(PipelineConfig(rl=settings.rl), "rl-a", []).inputs["problems"] == "synthesize"


def test_rows_are_held_against_files_and_attempts(tmp_path: Path) -> None:
    folder = artifact(tmp_path / "in", [CLEAN, replace(CLEAN, id="b", problem_id="p2", question="Half of 96, please?")])
    json_lines(tmp_path / "exam.jsonl", [{"id": "e", "question": "half of 96 please", "answer": ""}])
    rules = CurateConfig(rules=["decontaminate"], against=[str(tmp_path / "exam.jsonl")])
    curate(PipelineConfig(curate=rules), folder, tmp_path / "out", Silent())
    assert [row["id"] for row in dropped_rows(tmp_path / "out")] == ["b"]
    # p1 is solved in one attempt of two, p2 in both.
    tries = [
        replace(CLEAN, id=f"{p}{n}", problem_id=p, correct=p == "p2" or n == 0) for p in ("p1", "p2") for n in (0, 1)
    ]
    (tmp_path / "measured").mkdir()
    write_trajectories(tries, tmp_path / "measured" / "attempts.parquet")
    curate(PipelineConfig(curate=CurateConfig(rules=["difficulty"])), folder, tmp_path / "measured", Silent())
    assert [row["id"] for row in dropped_rows(tmp_path / "measured")] == ["b"]
