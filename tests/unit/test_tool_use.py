"""Tool use in logged attempts: awareness, selection and evidence by hand; the identity of accuracy."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.config import EvaluateConfig, PipelineConfig
from journeyman.evaluation.ladder import Attempts, Report, build_report
from journeyman.evaluation.markdown import markdown
from journeyman.evaluation.measures import by_problem, values
from journeyman.evaluation.page import page
from journeyman.evaluation.tool_use import (
    awareness_accuracy,
    awareness_f1,
    awareness_precision,
    awareness_recall,
    evidence_complete,
    evidence_order,
    evidence_reach,
    evidence_redundancy,
    first_seen,
    integration,
    luck,
    selection,
    tool_set_accuracy,
    tool_set_f1,
)
from journeyman.problem import Problem
from journeyman.trajectory import ToolCall, ToolResult, Trajectory, Turn
from tests.unit.fakes import problem, trajectory

Counted = tuple[float, float]
LOOKED_FOR = problem(
    id="p",
    data={
        "gold_evidence": ["Guham", {"regex": r"row \d+"}, "1,200"],
        "evidence_order": [[0, 1], [1, 2]],
    },
)


def showing(*outputs: Sequence[str], said: str = "", **fields) -> Trajectory:
    """A turn for each argument, with a call for each output in it."""
    turns = [
        Turn(
            text=said,
            calls=tuple(ToolCall(name="search", arguments={}) for _ in turn),
            results=tuple(ToolResult(name="search", ok=True, output=output) for output in turn),
        )
        for turn in outputs
    ]
    return trajectory(problem_id="p", turns=tuple(turns), **fields)


# needed and called 3, needed and not called 1, not needed and called 2, neither 4
TRIES = [(1, 1)] * 3 + [(1, 0)] + [(0, 1)] * 2 + [(0, 0)] * 4
ATTEMPTS = [trajectory(min_calls=needed, calls=called) for needed, called in TRIES]


def shares(counted: Sequence[Counted]) -> float:
    return sum(above for above, _ in counted) / sum(below for _, below in counted)


def test_awareness_accuracy_by_hand() -> None:
    assert shares([awareness_accuracy(t) for t in ATTEMPTS]) == 0.7
    assert awareness_accuracy(trajectory(tools=())) == (0, 0)


def test_awareness_precision_by_hand() -> None:
    assert shares([awareness_precision(t) for t in ATTEMPTS]) == 3 / 5


def test_awareness_recall_by_hand() -> None:
    assert shares([awareness_recall(t) for t in ATTEMPTS]) == 3 / 4


def test_awareness_f1_by_hand() -> None:
    # 2 * 3/5 * 3/4 / (3/5 + 3/4) = 2 * 3 / (2 * 3 + 2 + 1)
    assert shares([awareness_f1(t) for t in ATTEMPTS]) == pytest.approx(6 / 9)


def test_a_problem_may_say_itself_whether_a_call_is_needed() -> None:
    needs_none = problem(data={"needs_call": False})
    assert awareness_accuracy(trajectory(min_calls=1, calls=0), needs_none) == (1, 1)
    assert awareness_recall(trajectory(min_calls=1, calls=0), needs_none) == (0, 0)


def test_selection_by_hand() -> None:
    multi = problem(data={"selection": {"subtask": "multi", "tools": ["search", "map"]}})
    both = Turn(text="", calls=tuple(ToolCall(name=n, arguments={}) for n in ("map", "search", "map")))
    assert selection(trajectory(turns=(both,)), multi, "multi") == (1, 1)
    assert selection(showing(["x"]), multi, "multi") == (0, 1)
    assert selection(showing(["x"]), multi, "similar") == (0, 0)
    none_fits = problem(data={"selection": {"subtask": "reliability", "tools": []}})
    assert selection(trajectory(calls=0), none_fits, "reliability") == (1, 1)
    assert selection(trajectory(calls=1), none_fits, "reliability") == (0, 1)


def named(answer: str | None, *gold: int, level: str = "creation") -> tuple[Trajectory, Problem, str]:
    return trajectory(answer=answer), problem(data={"tool_set": {"level": level, "tools": list(gold)}}), level


def test_tool_set_accuracy_by_hand() -> None:
    assert tool_set_accuracy(*named("3, 1", 1, 3)) == tool_set_accuracy(*named("1 and 3.", 1, 3)) == (1, 1)
    assert tool_set_accuracy(*named("1", 1, 3)) == tool_set_accuracy(*named("1, 2, 3", 1, 3)) == (0, 1)
    assert tool_set_accuracy(*named(None, 1)) == (0, 1)
    assert tool_set_accuracy(trajectory(), problem(), "creation") == (0, 0)
    # Levels 1/4 and 1/1: .4 over all of them, .625 over the levels.
    tries = [named("1", 1, level="recognition"), *(named("2", 1, level="recognition") for _ in range(3)), named("5", 5)]
    by_level = {
        level: shares([tool_set_accuracy(t, p, level) for t, p, _ in tries]) for level in ("recognition", "creation")
    }
    assert shares([tool_set_accuracy(*one) for one in tries]) == 0.4 and sum(by_level.values()) / 2 == 0.625


def test_tool_set_f1_by_hand() -> None:
    assert tool_set_f1(*named("1", 1, 3)) == (2 / 3, 1)  # 2 * 1 / (1 + 2)
    assert tool_set_f1(*named("3, 1", 1, 3)) == (1, 1) and tool_set_f1(*named("2", 1, 3)) == (0, 1)


# Guham in turn 0, a row in turn 1, the number nowhere but in what the model says
PARTLY = showing(["Jonas lives in guham."], ["row 7", "nothing"], said="It is 1200, in row 3.")


def test_evidence_reach_by_hand() -> None:
    assert first_seen(PARTLY, LOOKED_FOR.data["gold_evidence"]) == [0, 1, None]
    assert evidence_reach(PARTLY, LOOKED_FOR) == (2 / 3, 1)
    assert evidence_reach(PARTLY, problem()) == evidence_reach(PARTLY, None) == (0, 0)
    assert evidence_reach(showing(said="Guham, row 7, 1200"), LOOKED_FOR) == (0, 1)  # a guess before any call
    assert evidence_reach(showing(["Guhamton has 12000"]), LOOKED_FOR) == (0, 1)  # whole words and numbers


def test_evidence_complete_by_hand() -> None:
    assert evidence_complete(PARTLY, LOOKED_FOR) == (0, 1)
    assert evidence_complete(showing(["Guham", "row 1", "1200"]), LOOKED_FOR) == (1, 1)


def test_evidence_order_by_hand() -> None:
    assert evidence_order(PARTLY, LOOKED_FOR) == (0.5, 1)  # 0 before 1; 2 was never seen
    assert evidence_order(showing(["Guham", "row 1"], ["1200"]), LOOKED_FOR) == (0.5, 1)  # at once is not before
    assert evidence_order(showing(["1200"], ["row 1"], ["Guham"]), LOOKED_FOR) == (0, 1)


def test_evidence_redundancy_by_hand() -> None:
    assert evidence_redundancy(PARTLY, LOOKED_FOR) == (1.5, 1)  # three calls, two pieces
    assert evidence_redundancy(showing(["x", "y"]), LOOKED_FOR) == (2, 1)


def test_integration_by_hand() -> None:
    whole = ["Guham", "row 1", "1200"]
    assert integration(showing(whole, correct=True), LOOKED_FOR) == (1, 1)
    assert integration(showing(whole, correct=False), LOOKED_FOR) == (0, 1)
    assert integration(PARTLY, LOOKED_FOR) == (0, 0)


def test_luck_by_hand() -> None:
    assert luck(PARTLY, LOOKED_FOR) == (1, 1) and luck(showing(["Guham", "row 1", "1200"]), LOOKED_FOR) == (0, 0)


def test_accuracy_is_integration_and_luck_by_hand() -> None:
    # 6 of 10 see all of it, 5 of them right; of the 4 others 1: .6 * 5/6 + .4 * 1/4 = .6
    whole = ["Guham", "row 1", "1200"]
    made = [showing(whole, correct=n < 5) for n in range(6)] + [showing(["Guham"], correct=n < 1) for n in range(4)]
    found = values(by_problem(made, (), ks=[1], problems={"p": LOOKED_FOR}), {"p"})
    assert (found["evidence_complete"], found["luck"], found["avg@10"]) == (0.6, 0.25, 0.6)
    assert found["integration"] == pytest.approx(5 / 6, abs=1e-6)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=12))
def test_accuracy_is_always_integration_and_luck(made: list[tuple[bool, bool]]) -> None:
    whole = ["Guham", "row 1", "1200"]
    attempts = [showing(whole if all_seen else whole[:1], correct=right) for all_seen, right in made]

    def sums(measure) -> Counted:
        counted = [measure(t, LOOKED_FOR) for t in attempts]
        return sum(above for above, _ in counted), sum(below for _, below in counted)

    reached, right, by_luck = sums(evidence_complete), sums(integration), sums(luck)
    p = reached[0] / reached[1]
    told = p * (right[0] / right[1] if right[1] else 0) + (1 - p) * (by_luck[0] / by_luck[1] if by_luck[1] else 0)
    assert told == pytest.approx(sum(r for _, r in made) / len(made), abs=1e-9)


def report_of(problems: Sequence[Problem], difficulty: str = "min_calls") -> Report:
    tries = [
        trajectory(problem_id=p.id, min_calls=n, correct=n == 2, sample=s)
        for n, p in enumerate(problems)
        for s in (0, 1)
    ]
    policy = Attempts(name="sft", sampled=tries, greedy=(), seconds=1)
    config = PipelineConfig(evaluate=EvaluateConfig(difficulty=difficulty, bootstrap=100))
    return build_report(config, [policy], problems=problems)


def test_the_report_goes_by_difficulty() -> None:
    problems = [problem(id=str(n), data={"level": {"name": n * 10}}) for n in (1, 2, 11)]
    report = report_of(problems)
    [stage] = report.stages
    assert [(name, row.problems, row.accuracy_sampled) for name, row in stage.difficulties.items()] == [
        ("0", 1, 0),
        ("1", 1, 0),
        ("2", 1, 1),
    ]
    assert stage.difficulties["2"].measures["avg@2"] == 1
    named = report_of(problems, "data.level.name").stages[0].difficulties
    assert list(named) == ["10", "20", "110"] and named["110"].accuracy_sampled == 1  # numbers, not words
    assert report_of(problems, "data.none").stages[0].difficulties == {}
    assert "By difficulty" in page(report) and "## By difficulty" in markdown(report)
    assert "By difficulty" not in page(report_of(problems[:1]))  # one difficulty says nothing new
    assert Report.from_json(report.to_json()).stages == report.stages


def test_the_report_has_what_the_problems_have_gold_for() -> None:
    chosen = problem(id="a", data={"selection": {"subtask": "similar", "tools": ["calculator"]}})
    [with_gold] = report_of([chosen]).stages
    assert with_gold.measures["csr_similar"] is not None and with_gold.measures["csr_similar"].value == 1
    catalogued = problem(id="a", data={"tool_set": {"level": "creation", "tools": [42]}})  # 42 is what all answer
    [of_a_level] = report_of([catalogued]).stages
    found = of_a_level.measures["tool_set_f1_creation"]
    assert found is not None and found.value == 1 and "tool_set_f1_recognition" not in of_a_level.measures
    [without] = report_of([problem(id="a")]).stages
    assert not [name for name in without.measures if name.startswith(("csr_", "evidence_"))]
