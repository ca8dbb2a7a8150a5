"""The report: figures by hand, JSON there and back, and text from a model that stays text."""

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from journeyman.config import AnnotationsTeacherConfig, DatasetProblems, PipelineConfig, SynthesizeConfig
from journeyman.evaluation.ladder import Attempts, Report, build_report, choose_examples, stage_row
from journeyman.evaluation.markdown import markdown, transcript, verdict
from journeyman.evaluation.page import page
from journeyman.evaluation.report import read_report, report_table, write_report
from journeyman.evaluation.statistics import Estimate
from journeyman.evaluation.tables import family_table, table
from journeyman.pages.chart import Bar, BarGroup, bar_chart
from journeyman.pages.table import count_rows
from journeyman.pages.text import clipped, fenced
from journeyman.trajectory import StopReason, ToolCall, ToolResult, Trajectory, Turn

HOSTILE = (
    "</pre></code>```\n~~~\n<script>document.title='taken'</script><img src=x onerror=\"x\">|`a`|\x1b[31m\x00\ud800"
)
TAGS = (
    "html head meta title style body main header h1 h2 h3 p ol li span b small div figure figcaption svg line text "
    "tspan g rect path section table thead tbody tr th td article pre code"
)


def attempt(problem: str, correct: bool | None, calls: int = 1, *, family: str = "toy", sample: int = 0) -> Trajectory:
    call, result = ToolCall(name="t", arguments={}), ToolResult(name="t", ok=True, output="seen")
    turns = tuple(Turn(text="<think>so</think>", calls=(call,), results=(result,)) for _ in range(calls))
    return Trajectory(
        id=f"{problem}-{sample}",
        problem_id=problem,
        family=family,
        question=f"question {problem}",
        reference="1",
        tools=("t",),
        min_calls=1,
        turns=(*turns, Turn(text="<answer>1</answer>")),
        stop_reason=StopReason.ANSWER,
        answer="1",
        correct=correct,
        sample=sample,
    )


def policy(name: str, sampled: Sequence[Trajectory], greedy: Sequence[Trajectory] = ()) -> Attempts:
    return Attempts(name=name, sampled=sampled, greedy=greedy, seconds=1.5)


FIRST = policy(
    "sft",
    [attempt("a", True, 3), attempt("a", False, 9, sample=1), attempt("b", True), attempt("b", False, 0, sample=1)],
    [attempt("a", False), attempt("b", True, family="other")],
)
LAST = policy(
    "rl-accuracy",
    [attempt(p, True, sample=s) for p in "ab" for s in (0, 1)],
    [attempt("a", True), attempt("b", True, family="other")],
)


def test_a_row_by_hand() -> None:
    row = stage_row(FIRST)
    assert (row.accuracy_sampled, row.accuracy_greedy) == (0.5, 0.5)  # 2 of 4, 1 of 2
    assert row.ci95 == (0.5, 0.5)  # each problem has one right of two
    assert row.ci95_greedy == (0, 1)  # one problem wrong, one right
    assert row.tool_calls_per_problem == 3.25  # (3 + 9 + 1 + 0) / 4
    assert row.needless_calls_per_solved == 1  # (2 + 0) / 2: only right attempts count
    assert row.pass_at_samples == 1  # each problem is solved once in two
    assert (row.problems, row.samples, row.unscored, row.seconds, row.paired) == (2, 2, 0, 1.5, None)


def test_families_have_rows_of_their_own() -> None:
    row = stage_row(FIRST)
    assert list(row.families) == ["other", "toy"]
    assert (row.families["toy"].accuracy_sampled, row.families["toy"].accuracy_greedy) == (0.5, 0)
    assert (row.families["other"].accuracy_sampled, row.families["other"].accuracy_greedy) == (None, 1)
    assert family_table([row]).rows == (("other", "1", "100.0 / -"), ("toy", "2", "0.0 / 50.0"))


def test_what_has_no_verdict_is_left_out_and_counted() -> None:
    row = stage_row(policy("sft", [attempt("a", True), attempt("a", None, 7, sample=1)], [attempt("a", None)]))
    assert (row.accuracy_sampled, row.tool_calls_per_problem, row.unscored) == (1, 1, 2)
    assert row.accuracy_greedy is None and row.ci95_greedy is None


def test_needless_calls_are_null_where_nothing_is_solved() -> None:
    row = stage_row(policy("base", [attempt("a", False, 5)]))
    assert row.needless_calls_per_solved is None and row.ci95_needless is None and row.accuracy_sampled == 0


def test_each_row_is_compared_with_the_one_before() -> None:
    first, last = build_report(PipelineConfig(), [FIRST, LAST]).stages
    assert first.paired is None and last.paired is not None
    assert last.paired.before == "sft"
    assert last.paired.accuracy_sampled == Estimate(value=0.5, low=0.5, high=0.5)
    assert last.paired.needless_calls_per_solved == Estimate(value=-1, low=-2, high=0)


def test_files_and_json_there_and_back(tmp_path: Path) -> None:
    ladder = [FIRST, LAST]
    value = write_report(
        PipelineConfig(seed=3),
        sampled={p.name: p.sampled for p in ladder},
        greedy={p.name: p.greedy for p in ladder},
        seconds={"sft": 12.0},
        out=tmp_path / "out",
        counts={"curate": {"rows_in": 10, "dropped": {"format": 2}}},
    )
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["report.html", "report.json", "report.md"]
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == json.loads(json.dumps(value))
    asked = (
        "name accuracy_sampled accuracy_greedy ci95 tool_calls_per_problem needless_calls_per_solved problems seconds"
    )
    assert all(set(asked.split()) <= row.keys() for row in value["stages"])
    assert [(row["name"], row["seconds"]) for row in value["stages"]] == [("sft", 12.0), ("rl-accuracy", 0.0)]
    report = read_report(tmp_path / "out" / "report.json")
    assert report == replace(
        build_report(PipelineConfig(seed=3), ladder), examples=(), stages=report.stages, counts=value["counts"]
    )
    assert report.to_json() == value
    shown = report_table(tmp_path / "out" / "report.json")
    assert shown.rows[0][:4] == ("sft", "50.0", "50.0", "[50.0, 50.0]")
    assert all(len(row) == len(shown.columns) for row in shown.rows)


def test_an_empty_ladder_is_a_report_too() -> None:
    report = build_report(PipelineConfig(), [])
    assert report.stages == () and table(report.stages).rows == ()
    assert "quickstart" in page(report) and "quickstart" in markdown(report)


def test_the_notes_say_where_the_headroom_comes_from() -> None:
    notes = " ".join(build_report(PipelineConfig(), [FIRST, LAST]).notes)
    assert "imperfect, unverified teacher" in notes and "on purpose" in notes and "near zero" not in notes


def test_the_notes_of_a_data_set_say_what_is_so_there() -> None:
    config = PipelineConfig(
        problems=DatasetProblems(path="x.jsonl"), synthesize=SynthesizeConfig(teacher=AnnotationsTeacherConfig())
    )
    notes = " ".join(build_report(config, [policy("sft", [attempt("a", False)])]).notes)
    assert "imperfect" not in notes and "worked solutions" in notes and "near zero" in notes


def test_examples_prefer_what_was_wrong_first_and_right_last() -> None:
    first = policy("sft", [], [attempt("a", True), attempt("b", False), attempt("c", False, family="other")])
    last = policy("rl", [], [attempt("a", True), attempt("b", True), attempt("c", False, family="other")])
    examples = choose_examples([policy("base", []), first, last])
    assert [(e.family, e.question) for e in examples] == [("other", "question c"), ("toy", "question b")]
    assert [name for name, _ in examples[1].attempts] == ["sft", "rl"]


def test_verdicts() -> None:
    assert verdict(attempt("a", True)) == "right" and verdict(attempt("a", None)) == "not scored"
    assert verdict(attempt("a", True, 2)) == "right, 1 needless call"
    assert verdict(attempt("a", True, 3)) == "right, 2 needless calls"
    assert verdict(attempt("a", False)) == "wrong"
    unanswered = replace(attempt("a", False), answer=None, stop_reason=StopReason.MAX_TURNS)
    assert verdict(unanswered) == "no answer (max_turns)"


def test_counts_are_flattened() -> None:
    assert count_rows({"a": {"b": 1, "c": {"d": 2.5}}, "e": 1200.0}) == [
        ("a · b", "1"),
        ("a · c · d", "2.5"),
        ("e", "1,200"),
    ]


def hostile_report() -> Report:
    turn = Turn(
        text=HOSTILE,
        calls=(ToolCall(name=HOSTILE, arguments={}),),
        results=(ToolResult(name=HOSTILE, ok=False, output=HOSTILE),),
        error=HOSTILE,
    )
    bad = replace(attempt("a", False), question=HOSTILE, reference=HOSTILE, turns=(turn,), answer=HOSTILE)
    return build_report(PipelineConfig(), [policy("sft", [bad], [bad])])


class Tags(HTMLParser):
    """Every tag and attribute of a page, and whether they nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag, attrs) -> None:
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        self.text += data


def test_the_page_shows_hostile_text_as_text(tmp_path: Path) -> None:
    html = page(hostile_report())
    (tmp_path / "page.html").write_text(html, encoding="utf-8")  # no lone surrogate is left
    tags = Tags()
    tags.feed(html)
    assert tags.open == [] and tags.seen <= set(TAGS.split())
    assert not {name for name in tags.attributes if name.startswith("on")} | (tags.attributes & {"src", "href"})
    assert "<script>document.title='taken'</script>" in tags.text
    assert "\x1b" not in html and "\x00" not in html


def test_the_page_is_self_contained() -> None:
    html = page(build_report(PipelineConfig(), [FIRST, LAST], counts={"rows": 3}))
    assert not re.search(r"https?://|url\(|@import|<script|<link", html)
    assert "prefers-color-scheme: dark" in html and "imperfect, unverified teacher" in html


def test_markdown_keeps_hostile_text_inside_its_fence() -> None:
    text = markdown(hostile_report())
    outside = re.sub(r"(?ms)^(`{3,})text$.*?^\1$", "", text)
    assert "<script>" in text and "<script>" not in outside and "onerror" not in outside


def test_a_fence_is_longer_than_any_inside() -> None:
    assert fenced("a").splitlines() == ["```text", "a", "```"]
    assert fenced("a\n`````\nb").splitlines()[0] == "``````text"


def test_long_texts_are_cut_and_control_characters_marked() -> None:
    assert clipped("a\x1bb\tc\n") == "a\ufffdb\tc\n"
    assert clipped("x" * 2000) == "x" * 1500 + " ... (500 more characters)"
    assert transcript(attempt("a", True)) == "<think>so</think>\n-> seen\n<answer>1</answer>"


def test_bars_are_drawn_to_scale() -> None:
    bars = [
        Bar(value=0.5, interval=(0.25, 0.75), label="50", style="greedy", title="t"),
        Bar(value=1.0, interval=None, label="100", style="greedy", title="t"),
        Bar(value=None, interval=None, label="", style="greedy", title="t"),
    ]
    groups = [BarGroup(name=f"rl-{n}<&", bars=(bar,)) for n, bar in enumerate(bars)]
    svg = ElementTree.fromstring(bar_chart(groups, title="<&", top=1))
    rectangles = svg.findall(".//rect")
    heights = [float(r.attrib["height"]) for r in rectangles]
    assert len(heights) == 2 and heights[0] == pytest.approx(heights[1] / 2, abs=0.1)
    [whisker] = svg.findall(".//path")
    high, low = (float(y) for y in re.findall(r"M[\d.]+ ([\d.]+)h8", whisker.attrib["d"]))
    floor = float(rectangles[0].attrib["y"]) + heights[0]
    assert (floor - low) == pytest.approx(heights[1] / 4, abs=0.2)
    assert (floor - high) == pytest.approx(heights[1] * 3 / 4, abs=0.2)
    assert "".join(svg.findall(".//text[@class='name']")[0].itertext()) == "rl-0<&"


@pytest.mark.browser
def test_a_browser_runs_nothing_of_a_hostile_page(tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium")
    (tmp_path / "page.html").write_text(page(hostile_report()), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--dump-dom"]
    command = [browser, *options, f"--user-data-dir={tmp_path / 'profile'}", (tmp_path / "page.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "<title>quickstart, seed 0</title>" in done.stdout and "<script>" not in done.stdout
