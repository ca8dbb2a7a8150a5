"""Expressions: read and written without loss, nothing executed, faults named, and every combination is again a reward."""

import ast
import json
import math
import warnings
from collections.abc import Sequence
from typing import Annotated

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.credit import VOCABULARY as CREDIT
from journeyman.expressions import (
    DEEPEST,
    LONGEST,
    Count,
    ExpressionError,
    Share,
    Vocabulary,
    Yields,
    build,
    check,
    names,
    needs,
    parse,
    render,
    yields,
)
from journeyman.rewards import VOCABULARY, build_reward
from journeyman.rewards.algebra import constant, product, weighted_sum, whole_of
from journeyman.rewards.base import Group, History, Judge, Like, Reward, Score, SpanScores, TurnScores
from journeyman.trajectory import Span, StopReason, Trajectory
from tests.unit.fakes import problem, trajectory
from tests.unit.supplies import supplies

# --- a small vocabulary of its own ------------------------------------------------------------------------------------


def right(group: Sequence[Trajectory]) -> list[Score]:
    return [Score(total=None if t.correct is None else float(t.correct)) for t in group]


def calls(group: Sequence[Trajectory], *, most: Count = 5, share: Share = 1.0, text: str = "x") -> list[Score]:
    return [Score(total=share * min(1.0, len(t.calls) / most)) for t in group]


def paced(group: Sequence[Trajectory], *, step: float = 0.25) -> TurnScores:
    return [
        Score(total=step * len(t.turns), turns=(step,) * len(t.turns), turn_parts={"paced": (step,) * len(t.turns)})
        for t in group
    ]


def spotted(group: Sequence[Trajectory]) -> SpanScores:
    return [
        Score(total=0.5, spans=(Span(turn=0, start=0, stop=0, reward=0.5),)) if t.turns else Score(total=0.0)
        for t in group
    ]


def asked(group: Sequence[Trajectory], *, tone: str, judge: Judge) -> list[Score]:
    return [Score(total=float(len(judge.ask([tone])))) for _ in group]


def half(reward: Reward, *, of: float = 0.5) -> Like:
    return weighted_sum((of, reward))


def of_second(first: Reward, second: Reward) -> Annotated[Reward, Yields(of_operands=("second",))]:
    return second


def stepwise(reward: Annotated[Reward, Yields(frozenset({"turns"}))]) -> Like:
    return reward


def named(*, scale: float = 1.0, **rewards: Reward) -> Annotated[Reward, Yields(frozenset({"channels"}))]:
    return weighted_sum(*[(scale, reward) for reward in rewards.values()])


SMALL = Vocabulary(
    kind="reward",
    parts={"right": right, "calls": calls, "paced": paced, "spotted": spotted, "asked": asked},
    combinators={"half": half, "of_second": of_second, "stepwise": stepwise, "named": named},
    add=weighted_sum,
    multiply=product,
    constant=constant,
    needs={"judge": "set `judge`"},
)


def total(text: str, *trajectories: Trajectory) -> list[float | None]:
    reward = build(text, SMALL, supplies())
    return [score.total for score in reward(Group(trajectories=trajectories or (trajectory(),)))]


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # right 1, calls(most=4) 1/4, paced 2 turns of .25
        ("right", 1.0),
        ("calls(most=4)", 0.25),
        ("right + calls(most=4) * 2", 1.5),
        ("right - 0.5 * calls(most=4)", 0.875),
        ("1 - right", 0.0),
        ("-right", -1.0),
        ("--2 * right", 2.0),
        ("-(right - paced)", -0.5),
        ("right - (calls(most=4) - paced)", 1.25),
        ("2 * (right + 3)", 8.0),
        ("calls(most=4) * paced * 2", 0.25),
        ("(1 - calls(most=4)) * (right + 1)", 1.5),
        ("half(right, of=0.25) + half(half(right))", 0.5),
        ("named(a=right, b=2, scale=0.5)", 1.5),
        ("half(paced(step=1))", 1.0),
        ("2 * 3", 6.0),
        ("(right)", 1.0),
        ("\n right +\\\n right", 2.0),
    ],
)
def test_an_expression_by_hand(text: str, value: float) -> None:
    assert total(text) == [pytest.approx(value)]


def test_what_cannot_be_scored_stays_so() -> None:
    unverified = trajectory(correct=None)
    assert total("right + paced", unverified) == [None]
    assert total("0 * right + paced(step=1)", unverified) == [2.0]
    assert total("right * 0", unverified) == [0.0]
    assert total("right * (1 - 1)", unverified) == [0.0]


# --- reading and writing ----------------------------------------------------------------------------------------------

NUMBERS = st.one_of(st.integers(-9, 9), st.floats(-9, 9, allow_subnormal=False).map(lambda x: round(x, 3)))
LEAVES = st.one_of(
    st.sampled_from(["right", "paced", "spotted", "calls(most=3)", "calls(share=0.5, text='a + b')"]),
    NUMBERS.map(str),
)
EXPRESSIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda p: f"({p[0]}) {p[1]} ({p[2]})"),
        inner.map(lambda e: f"-({e})"),
        inner.map(lambda e: f"half({e})"),
        st.tuples(inner, inner).map(lambda p: f"named(a={p[0]}, b={p[1]}, scale=0.5)"),
        st.tuples(inner, inner).map(lambda p: f"of_second({p[0]}, {p[1]})"),
    ),
    max_leaves=8,
)


@given(EXPRESSIONS)
def test_what_is_written_is_read_back(text: str) -> None:
    tree = parse(text)
    again = parse(render(tree))
    assert ast.dump(again) == ast.dump(tree)
    assert render(again) == render(tree)
    assert "\n" not in render(tree)
    assert yields(text, SMALL) == yields(render(tree), SMALL)


@given(EXPRESSIONS)
def test_what_is_written_is_worth_the_same(text: str) -> None:
    assert total(text) == total(render(parse(text)))


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            check(text, SMALL)
        except ExpressionError as error:
            assert error.fault


@given(
    st.lists(
        st.sampled_from([*"()+-*.,[]{}:'\"\\ =1e9", "right", "calls", "half", "most", "lambda", "f'", "for", "in"])
    )
)
def test_any_text_of_its_own_letters_is_read_or_refused(pieces: list[str]) -> None:
    try:
        check("".join(pieces), SMALL)
    except ExpressionError as error:
        assert error.fault


# --- what is refused --------------------------------------------------------------------------------------------------

REFUSED = [
    *("right.__class__", "right.real", "right[0]", "calls()[0]", "(lambda: 1)()", "lambda: right", "right()()"),
    *("[right for x in right]", "{right: right}", "{right}", "[right]", "(right, right)", "f'{right}'", "'right'"),
    *("(x := right)", "right ** 2", "2 ** 2 ** 2", "right / 2", "right // 2", "right % 2", "right @ right", "~right"),
    *(
        "right if right else right",
        "right and right",
        "right or right",
        "not right",
        "right < 2",
        "right == 2",
        "+right",
    ),
    *("__import__('os')", "open('x')", "eval('1')", "print(right)", "exec", "right << 3", "right | right", "right & 1"),
    *("True", "None", "...", "b'x'", "1j", "1j * right", "*right", "await right", "yield right", "half(*right)"),
    *("half(**right)", "calls(**{'most': 1})", "calls(most=[].append(1))", "calls(most=__import__('os'))"),
    *(
        "calls(most=lambda: 1)",
        "calls(most=right)",
        "calls(text=f'{right}')",
        "calls(most=(x := 1))",
        "calls(most=2**9)",
    ),
    *("calls(most=[x for x in 'a'])", "", "   ", "right +", "right right", "right; right", "import os", "x = 1", "#"),
    *("right\nright", "calls(most=1, most=2)", "named(a=right, a=right)", "1or 2", "'\\d'", "right\0", "\ud800"),
]


@pytest.mark.parametrize("text", REFUSED)
def test_nothing_but_the_grammar_is_accepted(text: str) -> None:
    with pytest.raises(ExpressionError) as told:
        check(text, SMALL)
    assert told.value.fault
    assert told.value.remedy
    assert told.value.fault in str(told.value) and told.value.remedy in str(told.value)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 300 + "right" + ")" * 300,
        "-" * 5000 + "right",
        " + ".join(["right"] * 1500),
        "+".join(["right"] * (DEEPEST + 50)),
        "half(" * 120 + "right" + ")" * 120,
        "[" * 90 + "]" * 90,
        "right" + ".real" * 1500,
        "calls(text=" + "[" * 95 + "]" * 95 + ")",
        "right + " * 20_000 + "right",
        "9" * (LONGEST + 1),
        "9" * 5000,
        "9" * 400 + " * right",
        "1e999 * right",
        "right - 1e999",
        "-1e400",
        "calls(share=1e999)",
        "half(right, of=1e999)",
        "half(right, of=-1e999)",
        "calls(most=" + "9" * 400 + ")",
        "half(right, of=" + "9" * 400 + ")",
    ],
)
def test_what_is_huge_is_refused_without_harm(text: str) -> None:
    with pytest.raises(ExpressionError) as told:
        check(text, SMALL)
    assert len(str(told.value)) < 500


def test_a_long_sum_is_fine() -> None:
    assert total(" + ".join(["right"] * 90)) == [90.0]


@pytest.mark.parametrize(
    ("text", "fault", "remedy"),
    [
        ("rigt", "there is no reward `rigt`", "did you mean `right`?"),
        ("qqqq", "there is no reward `qqqq`", "one of `right`, `calls`"),
        ("half(rigt)", "there is no reward `rigt`", "did you mean `right`?"),
        ("right(most=1)", "`most` is not an option of right", "right has no options"),
        ("calls(mosst=1)", "`mosst` is not an option of calls", "did you mean `most`?"),
        ("calls(5)", "calls takes options by name only", "it is calls(most=5, share=1.0, text='x')"),
        ("calls(most=0)", "`most` should be greater than or equal to 1, is 0", "it is calls("),
        ("calls(share=1.5)", "`share` should be less than or equal to 1, is 1.5", "it is calls("),
        ("calls(most='many')", "`most` should be a valid integer", "it is calls("),
        ("calls(text=3)", "`text` should be a valid string, is 3", "it is calls("),
        ("calls(most=right)", "`most` is no plain value", "numbers, texts, lists and mappings"),
        ("calls(most=1, most=2)", "calls: `most` is given twice", "remove one"),
        ("asked", "asked needs its option `tone`", "it is asked(tone)"),
        ("half", "`half`: missing a required argument: 'reward'", "it is half(reward, of=0.5)"),
        ("half(right, right)", "too many positional arguments", "it is half(reward, of=0.5)"),
        ("half(right, ob=1)", "`ob` is not an option of half", "one of `of`"),
        ("half(reward=right)", "`reward` is not an option of half", "of"),
        ("half(**right)", "`**` stands in half", "one by one"),
        ("named(scale=right)", "`scale` is no plain value", "numbers"),
        ("stepwise(right)", "stepwise works on turns, and `right` has none", "take a reward that has"),
        ("stepwise(paced * paced)", "stepwise works on turns", "take a reward that has"),
        ("right.real", "`right.real` is no reward", "only names, calls, numbers, +, - and *"),
        ("right + ]", "`right + ]` cannot be read at column 9", "write it like"),
        ("1e999 * right", "is too large a number", "take a smaller one"),
    ],
)
def test_a_fault_names_what_is_wrong_and_what_to_do(text: str, fault: str, remedy: str) -> None:
    with pytest.raises(ExpressionError) as told:
        check(text, SMALL)
    assert fault in told.value.fault
    assert remedy in told.value.remedy


def test_a_need_that_nobody_supplies_is_told_of() -> None:
    with pytest.raises(ExpressionError, match=r"asked needs judge .set `judge`."):
        build("asked(tone='x')", SMALL)


def test_credits_are_neither_multiplied_nor_numbers() -> None:
    check("0.5 * group - group_mean * 2", CREDIT)
    for text in ("group * group", "1", "group + 1", "2 * 3"):
        with pytest.raises(ExpressionError) as told:
            check(text, CREDIT)
        assert "credit" in told.value.fault


def test_reserved_names_of_channels_are_told_of() -> None:
    for text in ("channels(weights=correct)", "outer_nonlinear(history=correct)", "outer_nonlinear(utility=correct)"):
        with pytest.raises(ExpressionError) as told:
            check(text, VOCABULARY)
        assert told.value.remedy
    check("channels(judge=correct, policy=otc, reward=1)", VOCABULARY)


def test_a_faulty_formula_is_told_of_before_a_run() -> None:
    with pytest.raises(ExpressionError, match=r"has a `.` that is not closed"):
        check("temporal(formula='F (a')", VOCABULARY)


# --- what is known without building -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "handed_on"),
    [
        ("right", set()),
        ("paced", {"turns"}),
        ("paced(step=1)", {"turns"}),
        ("right + 0.5 * paced", {"turns"}),
        ("paced - spotted", {"turns", "spans"}),
        ("-paced", {"turns"}),
        ("2 * paced", {"turns"}),
        ("paced * 2", {"turns"}),
        ("paced * right", set()),
        ("paced * (1 - 0)", set()),
        ("half(paced)", {"turns"}),
        ("of_second(paced, spotted)", {"spans"}),
        ("of_second(paced, right)", set()),
        ("named(a=paced)", {"channels"}),
        ("right + named(a=paced)", {"channels"}),
        ("stepwise(right + paced)", {"turns"}),
    ],
)
def test_what_an_expression_hands_on(text: str, handed_on: set[str]) -> None:
    assert yields(text, SMALL) == handed_on


def test_names_and_needs_by_hand() -> None:
    assert sorted(names("half(right) + right * asked(tone='calls')", SMALL)) == ["asked", "half", "right"]
    assert needs("half(right + asked(tone='x'))", SMALL) == {"judge": "asked"}
    assert needs("right", SMALL) == {}


def test_what_the_combinators_of_rewards_hand_on() -> None:
    assert yields("gate(correct, carl)", VOCABULARY) == {"turns"}
    assert yields("gate(carl, correct)", VOCABULARY) == set()
    assert yields("when(carl, correct)", VOCABULARY) == set()
    assert yields("channels(a=correct, b=carl)", VOCABULARY) == {"channels", "turns"}
    assert yields("clip(carl, high=1)", VOCABULARY) == set()
    assert yields("anneal(carl)", VOCABULARY) == {"turns"}
    assert yields("shaped(progress, gamma=0.9) + correct", VOCABULARY) == {"turns"}
    assert needs("constrained(correct, otc, limit=0.1) + progress", VOCABULARY) == {
        "history": "constrained",
        "judge": "progress",
    }


# --- any combination is a reward --------------------------------------------------------------------------------------

STEPPED = ["machine(order=['calculator', 'calculator'], never=['x'])", "carl", "temporal(formula='F calculator')"]
WHOLE = ["correct", "otc", "srpo", "diversity", "1", "-0.5", "0", "when(correct, otc)"]
OF_TWO = [
    *("gate({}, {})", "gate({}, {}, at=0.5, otherwise=-1)", "when({}, {})", "levels({}, {}, at=[0.5])"),
    *("lexicographic({}, {})", "hierarchy({}, {})", "hierarchy({}, {}, margins=[0.1, 0], how='bradley_terry')"),
    *("{} + {}", "{} - 0.5 * {}", "({}) * ({})", "two_stage({}, {}, at=3)", "confident({}, {})", "trust({}, {})"),
    *("ensemble({}, {}, how='mean_minus_std')", "geometric({}, {})", "channels(a={}, b={}, weights={{'b': 0.5}})"),
    *("constrained({}, {}, limit=0.1)", "outer_nonlinear(a={}, b={}, utility='min')"),
]
OF_ONE = [
    *("minmax({})", "normalized({})", "clip({}, low=0)", "bounded({}, reference=0.5)", "anneal({}, shape='cosine')"),
    *("-({})", "ensemble({}, how='median')", "outer_nonlinear(a={})", "channels(only={})"),
]
OF_STEPS = ["clip_steps({}, threshold=0.5)", "delta_steps({})", "shaped({}, gamma=0.9, end_at_zero=True)", "2 * ({})"]


def trees() -> st.SearchStrategy[str]:
    stepped = st.recursive(
        st.sampled_from(STEPPED),
        lambda inner: st.one_of(
            st.tuples(st.sampled_from(OF_STEPS), inner).map(lambda p: p[0].format(p[1])),
            st.tuples(inner, inner).map(lambda p: f"({p[0]}) + ({p[1]})"),
        ),
        max_leaves=3,
    )
    return st.recursive(
        st.one_of(st.sampled_from(WHOLE), stepped),
        lambda inner: st.one_of(
            st.tuples(st.sampled_from(OF_TWO), inner, inner).map(lambda p: p[0].format(p[1], p[2])),
            st.tuples(st.sampled_from(OF_ONE), inner).map(lambda p: p[0].format(p[1])),
        ),
        max_leaves=6,
    )


MEMBERS = st.builds(
    lambda calls, correct, stop, empty: trajectory(
        calls=calls, correct=correct, stop_reason=stop, **({"turns": ()} if empty else {})
    ),
    st.integers(0, 3),
    st.sampled_from([True, False, None]),
    st.sampled_from([StopReason.ANSWER, StopReason.MAX_TURNS, StopReason.FORMAT_ERROR, StopReason.TOOL]),
    st.sampled_from([False, False, False, True]),
)
ASKED = problem(data={"goals": [{"tool": "calculator"}, {"tool": "calculator", "answer": "42"}]})


def sound(score: Score, member: Trajectory) -> None:
    """What holds of every score."""
    if score.total is None:
        return
    numbers = [score.total, *score.parts.values(), *score.turns]
    assert all(isinstance(x, int | float) and math.isfinite(x) for x in numbers), score
    assert len(score.turns) in (0, len(member.turns))
    assert all(len(values) == len(member.turns) for values in score.turn_parts.values())
    assert all(name.replace("_", "a").isalnum() for name in score.parts), score.parts
    assert all(value is None or math.isfinite(value) for value in score.channels.values())
    assert math.isfinite(whole_of(score))
    json.dumps([dict(score.parts), dict(score.channels)])


@settings(max_examples=300)
@given(trees(), st.lists(MEMBERS, max_size=4), st.integers(0, 5))
def test_any_combination_of_combinators_is_a_reward(text: str, found: list[Trajectory], step: int) -> None:
    reward = build_reward(text, **supplies())
    group = Group(trajectories=tuple(found), problem=ASKED, step=step, steps=6)
    scores = reward(group)
    assert len(scores) == len(found)
    for score, member in zip(scores, found, strict=True):
        sound(score, member)
    handed_on = yields(text, VOCABULARY)
    assert "turns" in handed_on or not any(any(score.turns) for score in scores)
    assert "channels" in handed_on or not any(score.channels for score in scores)


@settings(max_examples=50)
@given(trees(), st.lists(MEMBERS, min_size=1, max_size=4))
def test_a_reward_is_a_pure_function(text: str, found: list[Trajectory]) -> None:
    group = Group(trajectories=tuple(found), problem=ASKED)
    one, other = (build_reward(text, **supplies(history=History()))(group) for _ in range(2))
    assert one == other


LINEAR = st.recursive(
    st.sampled_from(["right", "paced", "spotted", "paced(step=-1)", "2"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-"), inner).map(lambda p: f"({p[0]}) {p[1]} ({p[2]})"),
        st.tuples(st.integers(-3, 3), inner).map(lambda p: f"{p[0]} * ({p[1]})"),
        inner.map(lambda e: f"half({e})"),
    ),
    max_leaves=8,
)


def reference(node: ast.expr) -> dict[str, float]:
    """What an expression earns by the whole, by each of two turns and by spans, read off its tree."""
    earns = {"right": {"whole": 1.0}, "paced": {"turn": 0.25}, "spotted": {"span": 0.5}}
    match node:
        case ast.BinOp(left=left, op=op, right=right) if not isinstance(op, ast.Mult):
            sign = 1.0 if isinstance(op, ast.Add) else -1.0
            one, other = reference(left), reference(right)
            return {key: one.get(key, 0.0) + sign * other.get(key, 0.0) for key in {*one, *other}}
        case ast.BinOp(left=left, right=right):
            return {key: ast.literal_eval(left) * value for key, value in reference(right).items()}
        case ast.Call(func=ast.Name(id="half"), args=[inner]):
            return {key: 0.5 * value for key, value in reference(inner).items()}
        case ast.Call():
            return {"turn": -1.0}
        case ast.Name(id=name):
            return earns[name]
    return {"whole": float(ast.literal_eval(node))}


@given(LINEAR)
def test_a_linear_combination_keeps_whole_turns_and_spans_apart(text: str) -> None:
    [score] = build(text, SMALL)(Group(trajectories=(trajectory(calls=1),)))
    earns = reference(parse(text))
    assert whole_of(score) == pytest.approx(earns.get("whole", 0.0), abs=1e-9)
    assert list(score.turns or (0.0, 0.0)) == pytest.approx([earns.get("turn", 0.0)] * 2)
    assert sum(span.reward for span in score.spans) == pytest.approx(earns.get("span", 0.0))
    assert score.total == pytest.approx(earns.get("whole", 0.0) + 2 * earns.get("turn", 0.0) + earns.get("span", 0.0))
