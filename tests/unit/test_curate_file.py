"""Curation of a file by itself: what is read, what is reported, what is refused; kills, full disks, several files."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.commands.curate import split_rules
from journeyman.curation.alone import curate_file
from journeyman.curation.engine import Curation, Source
from journeyman.curation.reading import read_rows
from journeyman.errors import ConfigError, DataError, UserError
from journeyman.progress import Silent
from journeyman.trajectory import read_trajectories, write_trajectories
from tests.unit.curated import dropped_rows, json_lines, kept_ids, questions
from tests.unit.fakes import trajectory

ROOT = Path(__file__).resolve().parents[2]


def row(number: int, question: str = "", **more: Any) -> dict[str, Any]:
    return {
        "id": f"r{number}",
        "question": question or f"What is {number} plus one, if you please?",
        "answer": "1",
        **more,
    }


def curated(tmp_path: Path, rows: Sequence[Any], *rules: str, **more: Any) -> Path:
    curate_file(json_lines(tmp_path / "in.jsonl", rows), tmp_path / "out", rules=rules, observer=Silent(), **more)
    return tmp_path / "out"


def reasons(out: Path) -> dict[int, tuple[str, str]]:
    return {number: (one["rule"], one["reason"]) for number, one in enumerate(dropped_rows(out))}


def test_problems_keep_their_columns(tmp_path: Path) -> None:
    rows = [
        row(1, level=3, tags=["a"], share=1),
        row(2, level=None, share=0.5),
        row(3, answer=24, tags={"b": 1}),
        row(1),
    ]
    out = curated(tmp_path, rows, "exact")
    kept = pq.read_table(out / "kept.parquet").to_pylist()
    assert kept[0] == {**rows[0], "level": 3, "tags": '["a"]', "share": 1.0}
    assert [one["answer"] for one in kept] == ["1", "1", "24"]
    assert dropped_rows(out)[0] | {"id": "r1", "rule": "exact", "match": "r1"} == dropped_rows(out)[0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.jsonl", "out"]


def test_broken_lines_are_reported_rows(tmp_path: Path) -> None:
    rows = [
        row(1),
        "not json",
        b'{"id": "x", "question": "\xff\xfe", "answer": ""}',
        "[1]",
        {"id": "y", "question": ["a"], "answer": ""},
    ]
    rows += [
        {"id": "z", "answer": "1"},
        {"question": "q"},
        row(2),
        row(3, question="  "),
        {"id": True, "question": "q"},
    ]
    out = curated(tmp_path, rows, "exact")
    assert kept_ids(out) == ["r1", "r2"]
    assert [reason for _, reason in reasons(out).values()] == [
        "not JSON: Expecting value at column 1 (line 2)",
        "not UTF-8 (line 3)",
        "not an object (line 4)",
        "question is no text (line 5)",
        "no question (line 6)",
        "no id (line 7)",
        dropped_rows(out)[6]["reason"],
        "id is no text (line 10)",
    ]
    assert dropped_rows(out)[0]["match"] == "not json" and dropped_rows(out)[6]["rule"] == "complete"
    assert len(dropped_rows(out)) + 2 == len(rows)


def test_what_no_column_holds_is_reported_with_its_line(tmp_path: Path) -> None:
    rows = [
        row(1),
        "",
        '{"id": "x", "question": "half a pair: \\ud800", "answer": ""}',
        row(2, size=2**70),
        row(3, size=1),
    ]
    out = curated(tmp_path, rows, "exact")
    assert kept_ids(out) == ["r1", "r2", "r3"]
    [broken] = reasons(out).values()
    assert broken[0] == "input" and broken[1].startswith("can't be stored: ") and broken[1].endswith("(line 3)")
    assert pq.read_table(out / "kept.parquet")["size"].to_pylist() == [None, str(2**70), "1"]


def test_a_giant_line_is_reported_and_what_follows_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("journeyman.curation.reading.LONGEST", 1000)
    out = curated(tmp_path, [row(1), row(2, "long " * 1000), row(3)], "exact")
    assert kept_ids(out) == ["r1", "r3"]
    assert reasons(out)[0] == ("input", "longer than 1000 bytes (line 2)")


def test_a_question_is_enough(tmp_path: Path) -> None:
    exam = json_lines(tmp_path / "exam.jsonl", [{"question": "What is two plus two?", "answer": 4}])
    rows = [{"question": "what is two plus two"}, {"question": "Who was it?"}, {"question": "WHO was it"}]
    out = curated(tmp_path, rows, "exact", "decontaminate", against=[exam])
    assert pq.read_table(out / "kept.parquet").to_pylist() == [{"question": "Who was it?"}]
    assert [(row["rule"], row["match"]) for row in dropped_rows(out)] == [
        ("decontaminate", '{"id":null,"source":"exam.jsonl","text":"What is two plus two?"}'),
        ("exact", "row 1"),
    ]


def test_numbers_may_be_ids_and_answers(tmp_path: Path) -> None:
    table = {"id": [1, 2, 2], "question": ["One?", "Two?", "Three?"], "answer": [1.5, None, 2.0]}
    pq.write_table(pa.table(table), tmp_path / "in.parquet")
    rules = ["exact", "ordered(by='length')"]
    curate_file(tmp_path / "in.parquet", tmp_path / "out", rules=rules, observer=Silent())
    assert len(pq.read_table(tmp_path / "out" / "kept.parquet")) == 2
    assert [(row["rule"], row["match"]) for row in dropped_rows(tmp_path / "out")] == [("unique_ids", "2")]


def test_large_rows_are_kept(tmp_path: Path) -> None:
    out = curated(tmp_path, [row(1), row(2, "word " * 2_000_000), row(3)], "exact", "near")
    assert kept_ids(out) == ["r1", "r2", "r3"]


def test_ids_that_repeat_are_reported_unless_all_repeats(tmp_path: Path) -> None:
    out = curated(tmp_path, [row(1), row(1), row(1, "Something else?")], "exact")
    assert [rule for rule, _ in reasons(out).values()] == ["exact", "unique_ids"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "there are no rows"),
        (b"\n\n", "there are no rows"),
        (b"\xff\xfe{\x00", "no line can be read"),
        (b'{"text": "a"}\n', "neither problems nor trajectories: no column 'question'"),
        (b'{"id": "a", "question": "q", "answer": "1", "rule": "x"}\n', "a column 'rule' of its own"),
        (b'{"id": "a", "question": "", "answer": "1"}\n', "no row is left of 1: complete dropped 1"),
    ],
)
def test_what_is_no_set_of_rows_is_an_error(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "in.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        curate_file(tmp_path / "in.jsonl", tmp_path / "out", rules=["exact"], observer=Silent())
    assert error.value.place == str(tmp_path / "in.jsonl")
    assert [p.name for p in tmp_path.iterdir()] == ["in.jsonl"]


def test_broken_parquet_is_an_error_and_the_earlier_result_stays(tmp_path: Path) -> None:
    out = curated(tmp_path, [row(1)], "exact")
    before = (out / "kept.parquet").read_bytes()
    whole = questions(tmp_path / "whole.parquet", [f"Question {n}?" * 50 for n in range(2000)]).read_bytes()
    (tmp_path / "truncated.parquet").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "holed.parquet").write_bytes(whole[:50] + b"\0" * 400 + whole[450:])
    pq.write_table(pa.table({"id": ["1"], "question": [7], "answer": ["a"]}), tmp_path / "numbers.parquet")
    pq.write_table(pa.table({"id": [], "question": [], "answer": []}, schema=_TEXTS), tmp_path / "empty.parquet")
    for name in ("truncated", "holed", "numbers", "empty", "missing"):
        with pytest.raises(DataError) as error:
            curate_file(tmp_path / f"{name}.parquet", out, rules=["exact"], observer=Silent())
        assert f"{name}.parquet" in error.value.place and error.value.remedy
    assert (out / "kept.parquet").read_bytes() == before
    assert not list(tmp_path.glob(".out*"))


_TEXTS = pa.schema([(name, pa.string()) for name in ("id", "question", "answer")])


def test_files_of_one_folder_are_one_set(tmp_path: Path) -> None:
    questions(tmp_path / "in" / "a.parquet", ["one one", "two two"])
    questions(tmp_path / "in" / "b.parquet", ["three", "Two  two", "four"], id=["b0", "b1", "b2"])
    curate_file(tmp_path / "in", tmp_path / "out", rules=["exact"], observer=Silent())
    assert kept_ids(tmp_path / "out") == ["q0", "q1", "b0", "b2"]
    assert reasons(tmp_path / "out") == {0: ("exact", "same question as an earlier row (row 1)")}
    questions(tmp_path / "in" / "c.parquet", ["five"], level=[1])
    with pytest.raises(DataError, match=r"other columns than a\.parquet has") as error:
        curate_file(tmp_path / "in", tmp_path / "out", rules=["exact"], observer=Silent())
    assert error.value.place.endswith("c.parquet")


def test_a_rule_that_orders_is_followed(tmp_path: Path) -> None:
    out = curated(
        tmp_path, [row(1, "b b b b"), row(2, "a"), row(3, "c c"), row(4, "C  c")], "exact", "ordered(by='length')"
    )
    assert kept_ids(out) == ["r2", "r3", "r1"]
    assert len(dropped_rows(out)) == 1


def test_trajectories_come_as_parquet_as_json_and_as_messages(tmp_path: Path) -> None:
    made = [trajectory(id="a", tokens=0), trajectory(id="b", tokens=0, question="Other?")]
    write_trajectories(made, tmp_path / "in.parquet")
    curate_file(tmp_path / "in.parquet", tmp_path / "stored", rules=["exact"], observer=Silent())
    assert read_trajectories(tmp_path / "stored" / "kept.parquet") == made
    turns = [{"text": "<answer>1</answer>"}]
    lines = [
        {"id": "a", "problem_id": "p", "question": "Q?", "turns": turns, "answer": "1", "provenance": {"by": "me"}},
        {"id": "b", "problem_id": "p", "question": "Q?", "turns": turns},
        {"id": "c", "question": "Q?", "turns": [{"text": 1}]},
        {"id": "d", "question": "Q?", "turns": 7},
    ]
    out = curated(tmp_path, lines, "exact")
    assert kept_ids(out) == ["a"] and [rule for rule, _ in reasons(out).values()] == ["exact", "input", "input"]
    kept = read_trajectories(out / "kept.parquet")[0]
    assert kept.turns[0].text == "<answer>1</answer>" and kept.provenance == {"by": "me"}
    messages = [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": "A."}]
    out = curated(tmp_path, [{"messages": messages}, {"messages": [{"role": "user", "content": "alone"}]}], "exact")
    assert len(kept_ids(out)) == 1


def test_attempts_say_how_difficult_a_problem_is(tmp_path: Path) -> None:
    # Of four attempts each: r1 right always, r2 never, r3 once. 0 < p < 1 keeps the third.
    rights = {"r1": 4, "r2": 0, "r3": 1}
    tries = [trajectory(id=f"{p}-{n}", problem_id=p, correct=n < hits) for p, hits in rights.items() for n in range(4)]
    write_trajectories(tries, tmp_path / "tries.parquet")
    out = curated(tmp_path, [row(1), row(2), row(3)], "difficulty", attempts=tmp_path / "tries.parquet")
    assert kept_ids(out) == ["r3"]
    with pytest.raises(ConfigError, match="attempts"):
        curated(tmp_path, [row(1), row(2), row(3)], "difficulty")


def test_the_same_input_gives_the_same_bytes_whatever_the_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = json_lines(tmp_path / "in.jsonl", [row(n, f"{n % 900} is how many words {n % 7}?") for n in range(3000)])
    digests = set()
    for threads in (1, 2):
        monkeypatch.setenv("JOURNEYMAN_CURATE_THREADS", str(threads))
        curate_file(path, tmp_path / "out", rules=["exact", "near"], observer=Silent())
        digests.add(_digest(tmp_path / "out"))
    assert len(digests) == 1


def test_bounds_that_make_no_sense_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in (("JOURNEYMAN_CURATE_MEMORY", "much"), ("JOURNEYMAN_CURATE_THREADS", "-3")):
        with monkeypatch.context() as patch:
            patch.setenv(variable, value)
            with pytest.raises(ConfigError) as error:
                curated(tmp_path, [row(1)], "exact")
            assert variable in error.value.place


_RUN = """
import os, signal, sys
from pathlib import Path
from journeyman.curation.alone import curate_file
from journeyman.progress import Silent
class Killer(Silent):
    def progress(self, done, total, note=""):
        if note == sys.argv[3]:
            os.kill(os.getpid(), signal.SIGKILL)
        print(note, flush=True)
source, out, _, exam = sys.argv[1:]
rules = ["exact", "near", "decontaminate"]
curate_file(Path(source), Path(out), rules=rules, against=[Path(exam)], observer=Killer())
"""


def _run(path: Path, out: Path, killed_at: str, exam: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _RUN, str(path), str(out), killed_at, str(exam)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)


def test_a_killed_run_goes_on_and_ends_as_the_unbroken_one(tmp_path: Path) -> None:
    rows = [row(n, f"What is {n % 90} and then {n % 7} in all of it?") for n in range(400)]
    path = json_lines(tmp_path / "in.jsonl", rows)
    exam = questions(tmp_path / "exam.parquet", ["What is 5 and then 5 in all of it?"])
    assert _run(path, tmp_path / "whole", "", exam).returncode == 0
    for killed_at in ("rule near", "rule decontaminate", "writing"):
        assert _run(path, tmp_path / "out", killed_at, exam).returncode == -signal.SIGKILL
        assert not (tmp_path / "out").exists() and list(tmp_path.glob(".out.unfinished-*"))
    again = _run(path, tmp_path / "out", "", exam)
    assert again.returncode == 0, again.stderr
    assert _digest(tmp_path / "out") == _digest(tmp_path / "whole")
    assert not list(tmp_path.glob(".out*"))


def _digest(out: Path) -> str:
    return sha256(
        b"".join((out / name).read_bytes() for name in ("kept.parquet", "dropped.parquet", "funnel.json"))
    ).hexdigest()


def test_rules_that_were_done_are_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = questions(tmp_path / "in.parquet", ["a b c", "A b c", "d e f"])
    with Curation(Source.of(path), tmp_path / "work") as curation:
        curation.apply(["exact"], Silent())
    monkeypatch.setattr("journeyman.curation.engine.build_rule", lambda text: pytest.fail(text))
    with Curation(Source.of(path), tmp_path / "work") as curation:
        curation.apply(["exact"], Silent())
        assert curation.funnel().rows_dropped == 1


@pytest.mark.skipif(os.getuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_leaves_the_earlier_result(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        small = questions(tmp_path / "small.parquet", ["one two three", "four five six"])
        curate_file(small, disk / "out", rules=["exact"], observer=Silent())
        before = _digest(disk / "out")
        texts = [" ".join(sha256(f"{n} {i}".encode()).hexdigest() for i in range(4)) for n in range(60_000)]
        large = questions(tmp_path / "large.parquet", texts)
        with pytest.raises(UserError, match="the disk is full"):
            curate_file(large, disk / "out", rules=["exact"], observer=Silent())
        assert _digest(disk / "out") == before
    finally:
        for _ in range(50):
            if not subprocess.run(["umount", str(disk)], capture_output=True).returncode:
                break
            time.sleep(0.1)


def test_a_folder_with_something_else_in_it_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("mine")
    with pytest.raises(ConfigError, match="holds something else"):
        curated(tmp_path, [row(1)], "exact")
    assert (tmp_path / "out" / "thesis.tex").read_text() == "mine"


def test_rules_on_the_command_line() -> None:
    assert split_rules("") == []
    assert split_rules("exact, near(threshold=0.9, shingle=3),decontaminate") == [
        "exact",
        "near(threshold=0.9, shingle=3)",
        "decontaminate",
    ]
    assert split_rules("script(of=['Latin', 'Greek']),exact") == ["script(of=['Latin', 'Greek'])", "exact"]
    with pytest.raises(ConfigError, match="empty rule"):
        split_rules("exact,,near")


def test_an_unknown_rule_is_told_before_anything_is_read(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "infra.cli",
        "curate",
        "--input",
        "nowhere.jsonl",
        "--rules",
        "exact,neer",
        "--out",
        "x",
    ]
    told = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert told.returncode == 2 and "did you mean `near`?" in told.stderr and "Traceback" not in told.stderr


def test_reading_twice_reads_once(tmp_path: Path) -> None:
    path = json_lines(tmp_path / "in.jsonl", [row(1), "broken"])
    first = read_rows(path, tmp_path / "work")
    path.write_text("now something else")
    assert read_rows(path, tmp_path / "work") == first and first.faults
