"""Reward machines and temporal formulas over the calls of a trajectory."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.messages import ToolCall, ToolResult
from journeyman.rewards.machines import at_end, machine, parse_formula, progressed, temporal
from journeyman.trajectory import StopReason, Trajectory, Turn
from tests.unit.fakes import trajectory

LABELS = ("search", "book", "delete")
TRACES = st.lists(st.sampled_from(LABELS), max_size=5)


def traced(*names: str, together: bool = False, **fields) -> Trajectory:
    """A trajectory of these calls, a turn each; `name!` failed."""
    calls = [ToolCall(name=name.rstrip("!"), arguments={}) for name in names]
    results = [ToolResult(name=name.rstrip("!"), ok=not name.endswith("!"), output="") for name in names]
    each = [Turn(text="", calls=(c,), results=(r,)) for c, r in zip(calls, results, strict=True)]
    turns = [Turn(text="", calls=tuple(calls), results=tuple(results))] if together else each
    return trajectory(turns=(*turns, Turn(text="done")), **fields)


def paid(reward, **options):
    return lambda *names, **fields: reward([traced(*names, **fields)], **options)[0]


def test_machine_by_hand() -> None:
    made = paid(machine, order=("search", "book"), never=("delete",))
    assert made("search", "book").turns == (0.0, 1.0, 0.0)
    assert made("book", "search").total == 0.0
    assert made("search", "delete", "book").turns == (0.0, -1.0, 0.0, 0.0)  # absorbing
    assert made("search", "book", "delete").total == 0.0  # 1 - 1
    assert made("book", "search", "book").total == 1.0
    assert made().turns == (0.0,)


def test_a_strict_machine_is_lost_by_what_comes_too_early() -> None:
    made = paid(machine, order=("search", "book"), never=("delete",), strict=True)
    assert made("book", "search", "book").total == 0.0
    assert made("book", "delete").total == -1.0
    assert made("search", "search", "book").total == 1.0


def test_a_machine_that_pays_by_the_step() -> None:
    made = paid(machine, order=("search", "book"), never=("delete",), pays="steps", penalty=2.0)
    assert made("search", "book").turns == (0.5, 0.5, 0.0)
    assert made("search", "delete").turns == (0.5, -2.0, 0.0)


def test_a_machines_states_are_kept_turn_by_turn() -> None:
    score = paid(machine, order=("search", "book"))("book", "search", "book")
    assert score.turn_parts["machine_state"] == (0.0, 1.0, 2.0, 2.0)


def test_the_calls_of_a_turn_come_one_after_the_other() -> None:
    made = paid(machine, order=("search", "book"))
    assert made("search", "book", together=True).turns == (1.0, 0.0)
    assert made("book", "search", together=True).turns == (0.0, 0.0)


def test_events_are_patterns_of_calls() -> None:
    made = paid(
        machine,
        order=("found", "paid"),
        never=("lost",),
        events={"found": "search*", "lost": "pay:failed", "paid": "pay"},
    )
    assert made("search_web", "pay").total == 1.0
    assert made("search_web!", "pay").total == 0.0
    assert made("search_web", "pay!", "pay").total == -1.0
    assert paid(machine, never=("delete:any",))("delete!").total == -1.0


def test_a_machine_that_is_spelled_out() -> None:
    moves = {"start": {"search": ("found", 0.25)}, "found": {"search": ("start", -0.25), "book": ("end", 1.0)}}
    made = paid(machine, transitions=moves)
    assert made("search", "search", "search", "book").turns == (0.25, -0.25, 0.25, 1.0, 0.0)
    assert made("search", "book", "search").total == 1.25  # a state without moves absorbs


def test_what_was_nobodys_fault_is_not_scored() -> None:
    assert paid(machine, order=("search",))("search", stop_reason=StopReason.TOOL).total is None
    assert paid(temporal, formula="F search")("search", stop_reason=StopReason.TOOL).total is None


def test_temporal_by_hand() -> None:
    made = paid(temporal, formula="F (search & F book) & G !delete")
    assert made("search", "book").turns == (0.0, 0.0, 1.0)  # delete could still come: decided at the end
    assert made("book", "search").total == 0.0
    assert made("search", "delete", "book").turns == (0.0, -1.0, 0.0, 0.0)
    assert made().turns == (0.0,)
    assert paid(temporal, formula="F book")("search", "book", "search").turns == (0.0, 1.0, 0.0, 0.0)
    assert paid(temporal, formula="G !delete")().total == 1.0
    assert paid(temporal, formula="!book U search")("book").turns == (-1.0, 0.0)
    assert paid(temporal, formula="!book U search", penalty=0.0)("delete", "search", "book").total == 1.0
    assert paid(temporal, formula="X book")("search", "book").total == 1.0
    assert paid(temporal, formula="X (G book)")("search").total == 0.0  # there is no next call


def test_a_trajectory_without_turns_earns_nothing() -> None:
    assert temporal([trajectory(turns=())], formula="G !a")[0].turns == ()
    assert machine([trajectory(turns=())], order=("a",))[0].total == 0.0


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("F (a", "not closed"),
        ("a b", "`b` where it should end"),
        ("F", "ends where a label"),
        ("a & | b", "`|` where a label"),
        ("a = b", "`=` in it"),
        ("", "ends where a label"),
        ("!" * 100 + "a", "at most 60"),
        ("a" * 501, "at most 500"),
    ],
)
def test_a_formula_that_cannot_be_read_says_why(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match="should have at most" if "at most" in fault else None) as told:
        parse_formula(text)
    assert fault in str(told.value)


def holds(formula, trace: list[str]) -> bool:
    """The textbook semantics, read off the trace."""
    kind, parts = formula.kind, formula.parts
    if kind in ("true", "false"):
        return kind == "true"
    if kind == "label":
        return bool(trace) and trace[0] == formula.label
    if kind == "not":
        return not holds(parts[0], trace)
    if kind in ("and", "or"):
        return (all if kind == "and" else any)(holds(part, trace) for part in parts)
    rest = [trace[i:] for i in range(len(trace))]
    if kind == "next":
        return len(trace) > 1 and holds(parts[0], trace[1:])
    if kind == "eventually":
        return any(holds(parts[0], suffix) for suffix in rest)
    if kind == "always":
        return all(holds(parts[0], suffix) for suffix in rest)
    return any(
        holds(parts[1], suffix) and all(holds(parts[0], before) for before in rest[:i]) for i, suffix in enumerate(rest)
    )


FORMULAS = st.recursive(
    st.sampled_from(LABELS),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["!", "F ", "G ", "X "]), inner).map(lambda p: f"{p[0]}({p[1]})"),
        st.tuples(inner, st.sampled_from(["&", "|", "U"]), inner).map(lambda p: f"({p[0]}) {p[1]} ({p[2]})"),
    ),
    max_leaves=4,
)


@given(FORMULAS, TRACES)
def test_the_automaton_has_the_textbook_semantics(text: str, trace: list[str]) -> None:
    formula = left = parse_formula(text)
    for label in trace:
        left = progressed(left, frozenset([label]))
    if trace:
        assert at_end(left) == holds(formula, trace)


@given(TRACES)
def test_a_machine_of_an_order_is_a_formula(trace: list[str]) -> None:
    ordered = machine([traced(*trace)], order=("search", "book"))[0].total
    formula = temporal([traced(*trace)], formula="F (search & F book)")[0].total
    assert ordered == formula


def test_every_short_trace_of_the_by_hand_machine() -> None:
    for length in range(4):
        for trace in itertools.product(LABELS, repeat=length):
            total = machine([traced(*trace)], order=("search", "book"), never=("delete",))[0].total
            text = " ".join(trace).split("delete")[0].split()
            done = "search" in text and "book" in text[text.index("search") :]
            assert total == float(done) - float("delete" in trace)
