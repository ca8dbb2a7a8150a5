"""Runs beside each other: figures by hand, seeds taken together, what is missing is said, text of models stays text."""

import json
import random
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from infra.cli import main
from journeyman.artifacts import HOME_VARIABLE, ArtifactStore, Recipe
from journeyman.config import PipelineConfig, RlConfig
from journeyman.evaluation.comparison import details, words
from journeyman.evaluation.comparison.compare import Arm, Cell, arms, compared
from journeyman.evaluation.comparison.page import page
from journeyman.evaluation.comparison.runs import Policy, Run, read_run
from journeyman.evaluation.measures import Difference, Measure
from journeyman.evaluation.report import write_report
from journeyman.evaluation.statistics import holm
from journeyman.pages.lines import Line, line_chart
from journeyman.runs import RunRecord, RunStore, StageRecord, Status, ended
from journeyman.trajectory import StopReason, ToolCall, ToolResult, Trajectory, Turn, write_trajectories

HOSTILE = "</pre><script>document.title='taken'</script><img src=x onerror=alert(1)>"


def attempt(problem: str, right: bool | None, *, sample: int = 0, greedy: bool = False, calls: int = 1) -> Trajectory:
    turn = Turn(
        text=HOSTILE,
        calls=(ToolCall(name="t", arguments={}),),
        results=(ToolResult(name="t", ok=True, output=HOSTILE),),
    )
    return Trajectory(
        id=f"{problem}-{sample}",
        problem_id=problem,
        family=("sums", "tables")[len(problem) % 2],
        question=HOSTILE,
        reference="1",
        tools=("t",),
        min_calls=1 + len(problem) % 2,
        turns=(*[turn] * calls, Turn(text="<answer>1</answer>")),
        stop_reason=StopReason.ANSWER,
        answer="1",
        sample=sample,
        temperature=0.0 if greedy else 1.0,
        correct=right,
    )


def policy(rights: Mapping[str, int], key: str = "") -> Policy:
    """Of two samples a problem so many are right; greedy is right where both are."""
    sampled = [
        attempt(problem, sample < count, sample=sample) for problem, count in rights.items() for sample in (0, 1)
    ]
    return Policy(key=key, sampled=sampled, greedy=[attempt(p, count == 2, greedy=True) for p, count in rights.items()])


def run(seed: int, policies: Mapping[str, Policy], **options: str) -> Run:
    config = PipelineConfig(name="toy", seed=seed).model_dump(mode="json")
    config["evaluate"]["k"] = [1, 2]
    name = f"toy-{seed}-{'-'.join(options.values())}"
    record = RunRecord(id=name, pipeline="toy", config=config, seed=seed, started="2026-01-01T10:00:00.000")
    return Run(record=record, options={"seed": str(seed), **options}, policies=policies)


def test_holm_by_hand() -> None:
    # sorted .01 .02 .03 .5: 4 x .01, 3 x .02, 2 x .03, 1 x .5, and none below the one before
    assert holm([0.02, 0.5, 0.01, 0.03]) == pytest.approx([0.06, 0.5, 0.04, 0.06])
    # 2 x .3 = .6, then 1 x .4 = .4, which is no less sure than the one before
    assert holm([0.4, 0.3]) == pytest.approx([0.6, 0.6])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


def test_runs_that_differ_by_their_seed_alone_are_one_arm() -> None:
    runs = [run(0, {}, reward="a"), run(0, {}, reward="b"), run(1, {}, reward="a")]
    assert [(arm.name, [one.record.id for one in arm.runs]) for arm in arms(runs)] == [
        ("A", ["toy-0-a", "toy-1-a"]),
        ("B", ["toy-0-b"]),
    ]
    assert [len(arm.runs) for arm in arms(runs, group=False)] == [1, 1, 1]
    later = run(2, {}, reward="a", added="None")
    assert [len(arm.runs) for arm in arms([*runs, later])] == [3, 1], "an option that is None is none"
    assert details.options(arms(runs)) == [("seed", "0, 1", "0"), ("reward", "a", "b")]


def test_a_difference_by_hand() -> None:
    before, after = {"a": 0, "bb": 1, "c": 2}, {"a": 2, "bb": 1, "c": 2}
    runs = [run(0, {"rl": policy(before)}, reward="a"), run(0, {"rl": policy(after)}, reward="b")]
    [made] = compared(arms(runs))
    first, last = made.columns
    assert (made.name, first.against, last.against, last.shared, last.problems) == ("rl", "", "A", 3, 3)
    sampled = last.cells["accuracy_sampled"]
    assert first.cells["accuracy_sampled"].found.value == pytest.approx(3 / 6)
    assert sampled.found.value == pytest.approx(5 / 6) and sampled.found.paired is not None
    assert sampled.found.paired.value == pytest.approx(2 / 6, abs=1e-6)
    # One problem differs: exchanged or not, the difference is as large
    assert sampled.found.paired.p == 1 and sampled.p == 1
    assert last.cells["greedy"].found.value == pytest.approx(2 / 3)
    assert sampled.seeds == () and sampled.agreeing is None


def test_the_correction_counts_every_difference_of_the_comparison() -> None:
    worse, better = {str(n): 0 for n in range(30)}, {str(n): 2 for n in range(30)}
    runs = [run(0, {"sft": policy(worse), "rl": policy(one)}, reward=str(n)) for n, one in enumerate([worse, better])]
    found = compared(arms(runs))
    assert [one.name for one in found] == ["rl", "sft"]
    tests = [c.found.paired for one in found for column in one.columns for c in column.cells.values() if c.found.paired]
    cell = found[0].columns[1].cells["accuracy_sampled"]
    assert cell.found.paired is not None
    # 30 problems, all one way: no exchange but all or none of them is as large, so 1 of 10,001 flips
    assert cell.found.paired.p == pytest.approx(1 / 10_001, abs=1e-6)
    assert cell.p is not None and 1 / 10_001 < cell.p <= len(tests) * cell.found.paired.p * (1 + 1e-9)
    assert found[1].columns[1].same and not any(c.found.paired for c in found[1].columns[1].cells.values())


def test_seconds_are_shown_and_not_tested() -> None:
    slow = policy({"a": 2, "b": 0})
    fast = replace(slow, sampled=[replace(t, turns=_hurried(t.turns)) for t in slow.sampled])
    [made] = compared(arms([run(0, {"rl": one}, reward=str(n)) for n, one in enumerate([slow, fast])]))
    column = made.columns[1]
    assert column.same and column.cells["call_seconds_per_attempt"].found.paired is None
    assert column.cells["call_seconds_per_attempt"].found.value == 2


def _hurried(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    return tuple(replace(turn, results=tuple(replace(r, seconds=2.0) for r in turn.results)) for turn in turns)


def test_seeds_are_taken_together_and_must_agree() -> None:
    low, high = {"a": 0, "b": 1}, {"a": 2, "b": 2}
    runs = [
        run(0, {"rl": policy(low)}, reward="a"),
        run(1, {"rl": policy(high)}, reward="a"),
        run(0, {"rl": policy(high)}, reward="b"),
        run(1, {"rl": policy({"a": 2, "b": 1})}, reward="b"),
    ]
    first, last = compared(arms(runs))[0].columns
    assert first.cells["accuracy_sampled"].found.value == pytest.approx(5 / 8)  # (1 + 4) of 8
    assert first.cells["accuracy_sampled"].seeds == (0.25, 1.0)
    cell = last.cells["accuracy_sampled"]
    assert cell.found.value == pytest.approx(7 / 8)  # (4 + 3) of 8
    assert cell.agreeing == (1, 2)  # .25 -> 1 on seed 0, 1 -> .75 on seed 1
    sure = replace(cell, p=0.01)
    assert "1 of 2 seeds only" in words.verdict("accuracy_sampled", sure).text


def test_only_shared_problems_are_paired() -> None:
    runs = [
        run(0, {"rl": policy({"a": 0, "x": 2})}, reward="a"),
        run(0, {"rl": policy({"a": 2, "y": 0})}, reward="b"),
        run(0, {"rl": policy({"z": 0})}, reward="c"),
    ]
    _, second, third = compared(arms(runs))[0].columns
    paired = second.cells["accuracy_sampled"].found.paired
    assert (second.shared, second.problems) == (1, 2)
    assert paired is not None and paired.value == 1  # of `a` alone; over all it is 2 of 4 in both
    assert third.shared == 0 and third.cells["accuracy_sampled"].found.paired is None
    shown = page(arms(runs))
    assert "Of its 2 held-out problems 1 are the other" in shown
    assert "nothing to compare" in words.verdict("greedy", third.cells["greedy"]).text


def test_one_run_compares_its_own_policies() -> None:
    one = run(0, {"base": policy({"a": 0}), "sft": policy({"a": 1}), "rl-x": policy({"a": 2})})
    [made] = compared(arms([one]))
    assert [(column.name, column.against) for column in made.columns] == [
        ("base", ""),
        ("sft", "base"),
        ("rl-x", "sft"),
    ]
    assert "stage by stage" in page(arms([one]))


@pytest.mark.parametrize(
    ("name", "value", "p", "style", "told"),
    [
        ("accuracy_sampled", 0.04, 0.001, "better", "higher by 0.040 [+0.020, +0.060], p = 0.001"),
        ("tokens_per_attempt", -12.0, 0.0002, "better", "lower by 12.0 [−14.0, −10.0], p < 0.001"),
        ("needless_calls_per_solved", 0.04, 0.01, "worse", "higher by 0.040"),
        ("calls_per_attempt", 0.04, 0.01, "", "higher by 0.040"),
        ("accuracy_sampled", 0.04, 0.05, "none", "no difference that the data can show: +0.040"),
    ],
)
def test_a_verdict_in_words(name: str, value: float, p: float, style: str, told: str) -> None:
    width = 0.02 if abs(value) < 1 else 2
    paired = Difference(value=value, low=value - width, high=value + width, p=p)
    found = words.verdict(name, Cell(found=Measure(value=0.5, low=0.4, high=0.6, paired=paired), p=p))
    assert found.style == style and told in found.text


def test_figures_in_words() -> None:
    assert [words.signed(value) for value in (0.0401, -0.2, 0.0001, -1234.4)] == ["+0.040", "−0.200", "0.000", "−1,234"]
    assert [words.duration(seconds) for seconds in (12.4, 200, 3725)] == ["12 s", "3 min 20 s", "1 h 02 min"]


def test_flips_by_hand() -> None:
    early = policy({"a": 2, "b": 0, "c": 2, "dd": 0, "e": 0})
    late = policy({"a": 0, "b": 2, "c": 2, "dd": 2, "f": 2})
    sides = [("A", [(run(0, {}), early)]), ("B", [(run(0, {}), late)])]
    [found] = details.flips(sides, chain=False)
    assert (found.shared, found.won, found.lost) == (4, 2, 1)
    families = [example.family for example in found.examples[details.WON]]
    assert sorted(families) == ["sums", "tables"], "one of each family first"
    assert [name for name, _ in found.examples[details.LOST][0].attempts] == ["A", "B"]


def test_parts_by_hand() -> None:
    sides = [("A", [(run(0, {}), policy({"a": 1, "b": 2, "cc": 0}))])]
    found = {part: one and one.value for part, [one] in details.by_family(sides)}
    assert found == {"sums": 0, "tables": 3 / 4}  # 0 of 2; (1 + 2) of 4
    assert [part for part, _ in details.by_difficulty(sides)] == ["1", "2"]


def test_a_curve_is_the_mean_of_its_seeds_stage_behind_stage() -> None:
    made = [
        replace(run(0, {}), curves={"rl-a": {"m": [(1, 0.0), (2, 1.0)]}, "rl-b": {"m": [(1, 4.0)]}}),
        replace(run(1, {}), curves={"rl-a": {"m": [(1, 2.0)]}}),
    ]
    line = details.curve(Arm(name="A", runs=tuple(made)), "m", "run-0")
    assert line.pieces == (((1.0, 1.0), (2.0, 1.0)), ((3.0, 4.0),))
    assert line.bands == (((1.0, 0.0, 2.0), (2.0, 1.0, 1.0)),)


def test_long_curves_are_averaged() -> None:
    long = replace(run(0, {}), curves={"rl-a": {"m": [(step, float(step)) for step in range(1, 1001)]}})
    [points] = details.curve(Arm(name="A", runs=(long,)), "m", "run-0").pieces
    assert len(points) <= details.POINTS and points[0] == (4.0, 4.0)  # 1000 in parts of 7: the mean of 1..7


def test_a_line_chart_holds_any_values() -> None:
    flat = line_chart(
        [Line(name="A", style="run-0", pieces=(((1.0, 0.5), (2.0, float("nan")), (3.0, 0.5)),))], title="t"
    )
    assert "nan" not in flat and flat.count('class="curve run-0"') == 1
    assert line_chart([Line(name="A", style="run-0", pieces=((),))], title="t") == ""
    alone = line_chart([Line(name="<b>", style="run-0", pieces=(((1.0, -2.0),),))], title="<i>")
    assert "<circle" in alone and "<b>" not in alone and "<i>" not in alone


def test_text_of_models_stays_text_and_nothing_is_loaded() -> None:
    runs = [
        run(0, {"rl": policy({"a": 0, "b": 2})}, reward=HOSTILE),
        run(0, {"rl": policy({"a": 2, "b": 0})}, reward="b", **{f"o.{HOSTILE}": "c"}),
    ]
    named = replace(runs[0].record, id=f"'\"{HOSTILE}", pipeline=HOSTILE)
    runs[0] = replace(runs[0], record=named, missing=(HOSTILE,), curves={HOSTILE: {"rollout/accuracy": [(1, 1.0)]}})
    shown = page(arms(runs))
    assert "<script" not in shown and "<img" not in shown
    assert "&lt;script&gt;" in shown
    assert not re.search(r"(src|href)=", shown.replace("&lt;img src=", ""))
    assert shown.count("wrong → right") == 1 and shown.count("right → wrong") == 1


def stored(
    home: Path, name: str, rights: Sequence[int], *, reward: str = "correct", status: str = "completed"
) -> RunRecord:
    """A run on disk, with an rl stage, and an evaluation where it is completed."""
    config = PipelineConfig(name=name, rl=[RlConfig(name="x", reward=reward)])
    runs, store = RunStore(home), ArtifactStore(home, min_free_bytes=0)
    record, lock = runs.create(config)
    lock.close()
    trained = Recipe(stage="rl-x", code_version="1", config={"reward": reward}, seed=0, inputs={})
    if store.peek("rl-x", trained.key) is None:
        with store.build(trained) as draft:
            steps = [replace(attempt(str(n), n % 3 > 0), policy_version=n // 8, reward=float(n % 3)) for n in range(12)]
            write_trajectories(steps, draft.out / "trajectories.parquet")
            draft.summary = {"steps": 3}
    stages = {"rl-x": StageRecord(status=Status.COMPLETED, key=trained.key)}
    inputs = {"sft": "s", "rl-x": trained.key}
    recipe = Recipe(stage="evaluate", code_version="1", config={}, seed=0, inputs=inputs)
    if status == "completed":
        with store.build(recipe) as draft:
            made = policy({str(n): count for n, count in enumerate(rights)})
            kept = [replace(t, provenance={"policy": "rl-x"}) for t in (*made.sampled, *made.greedy)]
            write_trajectories(kept, draft.out / "trajectories.parquet")
            write_report(config, sampled={"rl-x": made.sampled}, greedy={}, seconds={}, out=draft.out)
        stages["evaluate"] = StageRecord(status=Status.COMPLETED, key=recipe.key)
    else:
        stages["evaluate"] = StageRecord(status=Status(status))
    record = ended(replace(record, stages=stages), Status(status))
    runs.save(record)
    return record


def journeyman(monkeypatch: pytest.MonkeyPatch, home: Path, *arguments: str) -> int:
    monkeypatch.setenv(HOME_VARIABLE, str(home))
    monkeypatch.setattr(sys, "argv", ["journeyman", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code if isinstance(end.value.code, int) else 0


def test_the_command_writes_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(0)
    stored(tmp_path, "one", [rng.randint(0, 1) for _ in range(40)])
    stored(tmp_path, "two", [2] * 40, reward="otc")
    out = tmp_path / "page.html"
    assert journeyman(monkeypatch, tmp_path, "report", "one", "two", "two", "--out", str(out)) == 0
    told = capsys.readouterr().out
    assert "B against A, 40 problems" in told and "higher by" in told and str(out) in told
    shown = out.read_text(encoding="utf-8")
    assert "rl.x.reward" in shown and "Accuracy in training" in shown and "Reward" in shown
    assert journeyman(monkeypatch, tmp_path, "report", "one", "two", "--json") == 0
    value = json.loads(capsys.readouterr().out)
    assert value["options"]["rl.x.reward"] == {"A": "correct", "B": "otc"}
    assert value["comparisons"][0]["columns"][1]["cells"]["greedy"]["found"]["value"] == 1


def test_an_unfinished_run_is_said_and_the_rest_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stored(tmp_path, "one", [0, 1, 2])
    crashed = stored(tmp_path, "two", [], reward="otc", status="crashed")
    assert journeyman(monkeypatch, tmp_path, "report", "one", "two") == 0
    [written] = (tmp_path / "comparisons").iterdir()
    shown = written.read_text(encoding="utf-8")
    assert f"{crashed.id}: stage evaluate is crashed" in shown and "rl.x.reward" in shown and "Learning" in shown


def test_curves_come_from_what_was_recorded_else_from_the_attempts(tmp_path: Path) -> None:
    record = stored(tmp_path, "one", [1])
    kept = read_run(tmp_path, record, options={}, recorded=lambda key, run_id: {"loss/total": [(1, 2.0)]})
    assert kept.curves == {"rl-x": {"loss/total": [(1, 2.0)]}}
    found = read_run(tmp_path, record, options={}, recorded=lambda key, run_id: {}).curves["rl-x"]
    # rewards 0 1 2 0, then 1 2 0 1, then 2 0 1 2
    assert found["rollout/reward_mean"] == [(1, 0.75), (2, 1.0), (3, 1.25)]


def test_unknown_runs_are_named_with_the_near_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stored(tmp_path, "quickstart", [1])
    assert journeyman(monkeypatch, tmp_path, "report", "quickstart", "quikstart") == 2
    told = capsys.readouterr().err
    assert "there is no run `quikstart`" in told and "one of quickstart" in told
    empty = stored(tmp_path, "empty", [], status="failed")
    assert journeyman(monkeypatch, tmp_path, "report", empty.id) == 2
    assert journeyman(monkeypatch, tmp_path, "report", "quickstart", "empty", "--out", str(tmp_path)) == 2
