"""The spool of a stage's metrics: whatever is killed, the rows are whole, in order and there once."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.tracking.lines import append_line, read_lines
from journeyman.tracking.spool import Spool


def rows(path: Path) -> list[dict]:
    return [line.value for line in read_lines(path)]


def log(spool: Spool, first: int, last: int) -> None:
    for step in range(first, last + 1):
        spool.add({"loss/total": 1 / step}, step=step, time_ms=1000 * step)


def expected(last: int) -> list[dict]:
    return [{"step": s, "time_ms": 1000 * s, "values": {"loss/total": 1 / s}} for s in range(1, last + 1)]


@settings(max_examples=60, deadline=None)
@given(
    steps=st.integers(1, 30),
    tries=st.lists(st.tuples(st.integers(1, 30), st.integers(0, 30), st.integers(0, 200), st.booleans()), max_size=4),
)
def test_a_run_killed_anywhere_ends_with_the_series_of_an_unbroken_one(
    steps: int, tries: list[tuple[int, int, int, bool]]
) -> None:
    """A try reaches a step, is killed in the middle of a line, and the next resumes from an earlier checkpoint."""
    with TemporaryDirectory() as name:
        folder, resumed = Path(name), 0
        kept = folder / "work" / "metrics.jsonl"
        for number, (reached, checkpoint, torn, says_so) in enumerate(tries):
            spool = begin(kept, folder / f"{number}.jsonl", resumed, says_so=says_so)
            log(spool, resumed + 1, max(resumed, min(reached, steps)))
            spool.settle()
            tear(kept, torn)
            resumed = min(checkpoint, len(rows(kept)))
        last = folder / "last.jsonl"
        spool = begin(kept, last, resumed, says_so=False)
        log(spool, resumed + 1, steps)
        spool.settle()
        assert rows(kept) == expected(steps)
        assert rows(last) == rows(kept)


def begin(kept: Path, sent: Path, resumed: int, *, says_so: bool) -> Spool:
    spool = Spool(kept, sent)
    if says_so:
        spool.rewind(resumed)
    return spool


def tear(path: Path, most: int) -> None:
    """Cut up to `most` bytes from the end, as a kill in the middle of writing leaves a file."""
    content = path.read_bytes()
    last_line = len(content) - (content[:-1].rfind(b"\n") + 1)
    path.write_bytes(content[: len(content) - min(most, last_line)])


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(allow_nan=False), min_size=1, max_size=40),
    stops=st.lists(st.tuples(st.integers(1, 7), st.booleans()), max_size=20),
)
def test_sending_that_is_interrupted_anywhere_delivers_each_row_in_order(
    values: list[float], stops: list[tuple[int, bool]]
) -> None:
    """The offset moves only when the server answered; what it had taken without answering comes twice, equal."""
    with TemporaryDirectory() as name:
        spool = Spool(Path(name) / "work.jsonl", Path(name) / "sent.jsonl")
        for step, value in enumerate(values):
            spool.add({"loss/total": value}, step=step, time_ms=step)
        arrived: dict[tuple[int, int], float] = {}
        offset = 0
        for size, answered in [*stops, *[(7, True)] * 6]:
            lines = list(read_lines(Path(name) / "sent.jsonl", offset))[:size]
            for line in lines:
                arrived[line.value["step"], line.value["time_ms"]] = line.value["values"]["loss/total"]
            offset = lines[-1].end if lines and answered else offset
        assert list(arrived.values()) == values


def test_the_first_row_of_a_new_try_cuts_what_lay_behind_it(tmp_path: Path) -> None:
    log(Spool(tmp_path / "kept", tmp_path / "first"), 1, 9)
    log(Spool(tmp_path / "kept", tmp_path / "second"), 6, 7)
    assert [row["step"] for row in rows(tmp_path / "kept")] == [1, 2, 3, 4, 5, 6, 7]
    assert rows(tmp_path / "second") == rows(tmp_path / "kept")
    assert [row["step"] for row in rows(tmp_path / "first")] == list(range(1, 10)), "what the first try sent stays"


def test_a_try_that_logs_nothing_keeps_what_was_there(tmp_path: Path) -> None:
    log(Spool(tmp_path / "kept", tmp_path / "first"), 1, 3)
    Spool(tmp_path / "kept", tmp_path / "second").settle()
    assert rows(tmp_path / "second") == expected(3)


def test_rewind_comes_before_the_first_row(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "kept", None)
    log(spool, 1, 2)
    with pytest.raises(AssertionError, match="before the first row"):
        spool.rewind(1)


def test_a_torn_line_is_passed_over_and_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b'{"a":1}\n{"a":')
    assert [line.value for line in read_lines(path)] == [{"a": 1}]
    append_line(path, {"a": 3})
    assert [line.value for line in read_lines(path)] == [{"a": 1}, {"a": 3}]


def test_not_a_number_survives(tmp_path: Path) -> None:
    Spool(tmp_path / "kept", None).add({"loss/total": float("nan")}, step=1, time_ms=1)
    assert json.dumps(rows(tmp_path / "kept")[0]["values"]) == '{"loss/total": NaN}'
