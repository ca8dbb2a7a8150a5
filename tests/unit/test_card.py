"""The data card: what it counts, by hand, and that what a model wrote stays text."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from journeyman.config import DatasetProblems, GeneratedProblems, PipelineConfig
from journeyman.curation.card import NOT_STATED, Origin, licence_beside, origin_of, write_card
from journeyman.curation.card_data import AROUND, Bin, Source, binned, excerpts, measures
from journeyman.curation.pictures import pictures
from journeyman.pages.chart import Stack, compact, histogram, rounded_up, row_chart, svg_file
from journeyman.trajectory import Trajectory, schema, to_row, write_trajectories
from tasks.pages import with_pictures
from tests.unit.fakes import trajectory

HOSTILE = "</pre><script>alert(1)</script>```\n<img src=x>|`a`"
MATCH = json.dumps({"id": "h1", "source": "heldout", "text": "What is 6 times 7?"})
Dropped = tuple[Trajectory, str, str, str | None]


def files(out: Path, kept: Sequence[Trajectory], dropped: Sequence[Dropped]) -> Path:
    """What the engine leaves."""
    write_trajectories(kept, out / "kept.parquet")
    added = [(name, pa.string()) for name in ("rule", "reason", "match")]
    rows = [{**to_row(row), "rule": rule, "reason": reason, "match": match} for row, rule, reason, match in dropped]
    columns = pa.schema([*schema(), *(pa.field(*field) for field in added)])
    pq.write_table(pa.Table.from_pylist(rows, schema=columns), out / "dropped.parquet")
    total, left, rules = len(kept) + len(dropped), len(kept) + len(dropped), []
    for rule in dict.fromkeys(rule for _, rule, *_ in dropped):
        reasons = [reason for _, name, reason, _ in dropped if name == rule]
        counts = {reason: reasons.count(reason) for reason in reasons}
        rules.append({"rule": rule, "rows_in": left, "dropped": len(reasons), "families": {}, "reasons": counts})
        left -= len(reasons)
    families = {"arithmetic": {"in": total, "kept": left, **{rule["rule"]: rule["dropped"] for rule in rules}}}
    funnel = {"rows_in": total, "rows_kept": left, "rows_dropped": total - left, "rules": rules, "families": families}
    (out / "funnel.json").write_text(json.dumps(funnel))
    return out


KEPT = [
    trajectory(id="a", problem_id="p1", calls=1, tokens=4, provenance={"teacher": "big", "strategies": ["plain"]}),
    trajectory(id="b", problem_id="p2", calls=2, tokens=4, provenance={"teacher": "big", "strategies": ["plain"]}),
]
DROPPED: list[Dropped] = [
    (trajectory(id="c", problem_id="p2", calls=2, tokens=9), "exact", "same as an earlier row (row 1)", None),
    (trajectory(id="d", problem_id="p3", calls=20, tokens=4), "decontaminate", "is evaluated on (heldout)", MATCH),
]


def test_measures_by_hand(tmp_path: Path) -> None:
    with duckdb.connect() as database:
        data = measures(database, files(tmp_path, KEPT, DROPPED))
    assert data.sources == (Source(made_by="big: plain", read=2, kept=2), Source(made_by="policy", read=2, kept=0))
    assert data.length_unit == "tokens"
    filled = {bin.name: (bin.kept, bin.dropped) for bin in data.lengths if bin.kept or bin.dropped}
    assert filled == {"4": (2, 1), "9": (0, 1)}
    assert len(data.calls) == 16  # 0..14, and 15 for all that have more
    assert data.calls[1] == Bin(name="1", kept=1, dropped=0)
    assert data.calls[2] == Bin(name="2", kept=1, dropped=1)
    assert data.calls[15] == Bin(name="15+", kept=0, dropped=1)
    assert data.difficulty == ()
    (hit,) = data.hits
    assert data.hits_in_all == 1
    assert (hit.id, hit.source, hit.question.shared) == ("d", "heldout", "What is 6 times 7?")


def test_characters_are_counted_where_one_row_has_no_tokens(tmp_path: Path) -> None:
    kept = [trajectory(calls=0, tokens=4), trajectory(calls=1, tokens=0, loss_mask=(), logprobs=())]
    with duckdb.connect() as database:
        data = measures(database, files(tmp_path, kept, []))
    assert data.length_unit == "characters"
    # "What is 6 times 7?" has 18, "<answer>42</answer>" 19, the result of the call 2
    assert {bin.name: bin.kept for bin in data.lengths if bin.kept} == {"36": 1, "38": 1}  # bins of 2: 37 and 39


def test_difficulty_by_hand(tmp_path: Path) -> None:
    """p1 is solved once in two with tools, p2 never; p3 always, and was offered none; p4 has no verdict."""
    dropped: list[Dropped] = [*DROPPED, (trajectory(problem_id="p4"), "exact", "same", None)]
    with duckdb.connect() as database:
        database.execute("CREATE TABLE attempts (problem_id VARCHAR, tools BOOLEAN, correct BOOLEAN)")
        database.execute(
            """INSERT INTO attempts VALUES ('p1', true, true), ('p1', true, false), ('p1', false, false),
            ('p2', true, false), ('p3', false, true), ('p4', true, NULL), ('elsewhere', true, true)"""
        )
        data = measures(database, files(tmp_path, KEPT, dropped), has_attempts=True)
    counted = {bin.name: (bin.kept, bin.dropped) for bin in data.difficulty}
    assert counted == {
        **dict.fromkeys(("to 20 %", "to 40 %", "to 80 %", "to 99 %"), (0, 0)),
        "never": (1, 0),  # p2: one of its two rows is kept
        "to 60 %": (1, 0),
        "always": (0, 1),
    }


def test_problems_have_a_card_too(tmp_path: Path) -> None:
    row = {"id": "1", "question": "How many?", "answer": "2", "family": "f"}
    pq.write_table(pa.Table.from_pylist([row, {**row, "id": "2"}]), tmp_path / "kept.parquet")
    left_out = {**row, "rule": "decontaminate(words=8)", "reason": "is evaluated on", "match": MATCH}
    pq.write_table(pa.Table.from_pylist([left_out]), tmp_path / "dropped.parquet")
    funnel = {"rows_in": 3, "rows_kept": 2, "rules": [], "families": {"f": {"in": 3, "kept": 2}}}
    (tmp_path / "funnel.json").write_text(json.dumps(funnel))
    with duckdb.connect() as database:
        data = measures(database, tmp_path, kind="problem")
        write_card(database, tmp_path, Origin(name="file", problems="file `x`"), kind="problem")
    assert (data.length_unit, data.calls, data.hits_in_all) == ("characters", (), 1)
    assert data.sources == (Source(made_by="not stated", read=3, kept=2),)
    assert [(bin.name, bin.kept, bin.dropped) for bin in data.lengths if bin.kept] == [("9", 2, 1)]
    card = (tmp_path / "card.md").read_text()
    assert "2 of 3 problems kept" in card and f"Licence: `{NOT_STATED}`" in card


def test_the_files_of_a_card(tmp_path: Path) -> None:
    with duckdb.connect() as database:
        write_card(database, files(tmp_path, KEPT, DROPPED), origin_of(PipelineConfig()))
    card, page = (tmp_path / "card.md").read_text(), (tmp_path / "card.html").read_text()
    assert "2 of 4 trajectories kept. Teacher: `scripted`; seed 0." in card
    assert "| `exact` | 4 | 1 | same as an earlier row (row 1): 1 |" in card
    assert "1 rows share text" in card and "| `big: plain` | 2 | 2 |" in card
    drawn = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert drawn == ["calls.svg", "funnel.svg", "lengths.svg"]  # of one family there is nothing to compare
    assert all(f"](pictures/{name})" in card for name in drawn)
    for name in drawn:
        root = ElementTree.parse(tmp_path / "pictures" / name).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "default-src 'none'" in page and not re.search(r"(src|href)=", page), "nothing is loaded"
    assert "<mark>What is 6 times 7?</mark>" in page and page.count("<svg") == 3


def test_families_are_drawn_where_there_are_two(tmp_path: Path) -> None:
    counts = {"in": 2, "kept": 1}
    with duckdb.connect() as database:
        data = measures(database, files(tmp_path, KEPT, DROPPED))
    drawn = pictures(data, {"rows_in": 4, "rules": [], "families": {"a": counts, "b": counts}})
    assert "families.svg" in [picture.file for picture in drawn]


def test_the_same_rows_give_the_same_card(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with duckdb.connect() as database:
            (tmp_path / name).mkdir()
            write_card(database, files(tmp_path / name, KEPT, DROPPED), origin_of(PipelineConfig()))
    for file in ("card.md", "card.html", "pictures/lengths.svg"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_what_a_model_wrote_stays_text(tmp_path: Path) -> None:
    match = json.dumps({"id": HOSTILE, "source": HOSTILE, "text": HOSTILE})
    row = trajectory(id=HOSTILE, question=HOSTILE, source=HOSTILE, family=HOSTILE)
    with duckdb.connect() as database:
        write_card(
            database, files(tmp_path, KEPT, [(row, "decontaminate", HOSTILE, match)]), Origin(name="x", problems="")
        )
    page = (tmp_path / "card.html").read_text()
    assert "<script" not in page and "<img" not in page and "&lt;script&gt;" in page
    card, inside = (tmp_path / "card.md").read_text(), False
    for line in card.splitlines():
        if line.startswith("```"):
            inside = not inside
        elif "<script>" in line and not inside:
            assert re.sub(r"`[^`]*`", "", line).replace("\\<", "").count("<") == 0, line
    assert not inside


def test_only_some_hits_are_shown_and_all_are_told(tmp_path: Path) -> None:
    hits: list[Dropped] = [(trajectory(id=str(n)), "decontaminate", "is evaluated on", MATCH) for n in range(60)]
    with duckdb.connect() as database:
        data = measures(database, files(tmp_path, KEPT, hits))
        write_card(database, tmp_path, Origin(name="x", problems=""))
    assert (len(data.hits), data.hits_in_all) == (50, 60)
    assert "60 rows share text" in (tmp_path / "card.md").read_text()


def test_a_match_that_is_no_json_is_shown_as_it_is(tmp_path: Path) -> None:
    with duckdb.connect() as database:
        data = measures(database, files(tmp_path, KEPT, [(KEPT[0], "decontaminate", "found", "6 times 7? indeed")]))
    assert (data.hits[0].source, data.hits[0].question.shared) == ("", "6 times 7?")


def test_excerpts_by_hand() -> None:
    first, second = excerpts("so: How MANY  apples are left?", "how many apples were sold")
    assert (first.before, first.shared, first.after) == ("so: ", "How MANY  apples", " are left?")
    assert (second.before, second.shared, second.after) == ("", "how many apples", " were sold")
    first, second = excerpts("x" * 500, "other")
    assert first.shared == "" and first.text == "x" * AROUND + " …" and second.text == "other"
    first, _ = excerpts("a " * 300 + "needle here", "needle here")
    assert first.before.startswith("… ") and len(first.before) == AROUND + 2 and first.shared == "needle here"


def test_bins_by_hand() -> None:
    # 99 rows up to 98 and one of 1000: 99 % end at 98; 98 / 20 = 4.9, so bins of 5: 0, 5, ..., 95, and one row beyond
    bins = binned([*((value, True, 1) for value in range(99)), (1000, False, 1)])
    assert [bin.name for bin in bins] == [*(str(5 * place) for place in range(19)), "95+"]
    assert (bins[0].kept, bins[19].kept, bins[19].dropped) == (5, 4, 1)  # 0..4; 95..98 and 1000
    assert sum(bin.kept + bin.dropped for bin in bins) == 100
    assert binned([]) == ()
    assert binned([(0, True, 7)]) == (Bin(name="0", kept=7, dropped=0),)


def test_the_licence_is_the_configs_or_that_of_a_file_beside(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("{}")
    problems = DatasetProblems(path=str(rows))

    def licence(**changes: str) -> str:
        teacher = {"type": "annotations"}
        return origin_of(
            PipelineConfig.model_validate(
                {"problems": problems.model_copy(update=changes), "synthesize": {"teacher": teacher}}
            )
        ).licence

    assert licence() == NOT_STATED
    (tmp_path / "LICENSE").write_text("\n  MIT License\n\nCopyright ...")
    assert licence() == "MIT License"
    (tmp_path / "SOURCE.txt").write_text("repository: x\nlicence: MIT (LICENSE in repository)\n")
    assert licence() == "MIT (LICENSE in repository)"
    assert licence(licence="CC BY 4.0") == "CC BY 4.0"
    assert licence_beside(tmp_path / "no" / "rows.jsonl") == NOT_STATED
    assert "generated here" in origin_of(PipelineConfig()).licence
    worlds = GeneratedProblems(families={"databases": 1}, worlds={"databases": {"path": "x.db"}})
    assert origin_of(PipelineConfig(problems=worlds)).licence == NOT_STATED


def test_charts_by_hand() -> None:
    stacks = [Stack(name="a <", counts=(("kept", 30), ("dropped", 10))), Stack(name="b", counts=(("kept", 0),))]
    columns = ElementTree.fromstring(histogram(stacks, title="<&"))
    kept, dropped, _ = columns.findall(".//rect")
    # the axis ends at 5 * 10 = 50, over 290 - 22 - 54 = 214 units: 30 are 128.4 of them, 10 are 42.8
    assert (kept.get("height"), dropped.get("height")) == ("128.4", "42.8")
    assert (kept.get("y"), dropped.get("y")) == ("107.6", "64.8")  # 22 + 214 - 128.4; 42.8 less
    rows = ElementTree.fromstring(row_chart(stacks, title="<&"))
    # 520 - 2 * 128 - 8 = 256 units for 40: 192 and 64
    assert [rect.get("width") for rect in rows.findall(".//rect")] == ["192.0", "64.0", "0.0"]
    assert ElementTree.fromstring(svg_file(row_chart(stacks, title="x"), title="<&", styles=("kept",))) is not None


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0"), (0.2, "0.2"), (9999, "9999"), (12_300, "12.3k"), (2.5e6, "2.5M")]
)
def test_figures_of_an_axis(value: float, shown: str) -> None:
    assert compact(value) == shown


def test_an_axis_ends_at_a_plain_figure() -> None:
    assert [round(rounded_up(value), 9) for value in (0, 0.11, 3, 5.1)] == [0.1, 0.2, 5, 10]
    assert rounded_up(0.3, least=1) == pytest.approx(1)


def test_on_a_prefect_page_the_pictures_are_those_of_mlflow() -> None:
    card = "![Rows](pictures/funnel.svg) and (pictures/x)"
    assert with_pictures(card, "http://host:5000/#/experiments/1/runs/r", "r") == (
        "![Rows](http://host:5000/get-artifact?run_uuid=r&path=pictures/funnel.svg) and (pictures/x)"
    )
    assert with_pictures(card, "", "") == card
