"""Curation rules that compare: a problem's pass rates, the attempts at a problem, the sorts of rows."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.curation.rules.agreement import agreement, best
from journeyman.curation.rules.balance import balance, ordered
from journeyman.curation.rules.benefit import tool_benefit, tool_classes
from journeyman.curation.rules.difficulty import RATES, difficulty, edge
from journeyman.errors import ConfigError
from journeyman.problem import Problem
from journeyman.trajectory import Trajectory, Turn
from tests.unit.fakes import problem, trajectory
from tests.unit.ruled import AnyRule, Attempt, dropped, put_in_order, rows_of


def problems(*ids: str, **fields: Any) -> list[Problem]:
    return [problem(f"What is {name}?", id=name, **fields) for name in ids]


def tried(name: str, hits: int, n: int, *, tools: bool = True) -> list[Attempt]:
    """Attempts at a problem of which so many were right."""
    return [(name, tools, at < hits) for at in range(n)]


def of_eight(free: int, tools: int, name: str = "p") -> list[Attempt]:
    return tried(name, free, 8, tools=False) + tried(name, tools, 8)


def judged(rule: AnyRule, rates: Sequence[tuple[int, int]], **options: Any) -> list[str | None]:
    """What becomes of problems with so many (hits, attempts)."""
    rows = problems(*(f"p{at}" for at in range(len(rates))))
    attempts = [one for at, (hits, n) in enumerate(rates) for one in tried(f"p{at}", hits, n)]
    found = dropped(rule, rows_of(rows, attempts=attempts), **options)
    return [found.get(at) for at in range(len(rates))]


def test_rates_count_verified_attempts_with_and_without_tools() -> None:
    attempts = [
        *of_eight(1, 2, "both"),
        *tried("free", 3, 4, tools=False),
        ("both", True, None),
        ("unverified", True, None),
    ]
    rows = rows_of([], attempts=attempts)
    with rows.database:
        columns = "attempted, hits_free, n_free, hits_tools, n_tools, hits, n"
        found = rows.database.execute(f"SELECT {columns} FROM {RATES} ORDER BY attempted").fetchall()
    # What the policy is measured by are its attempts with tools, and those without where it was offered none.
    assert found == [("both", 1, 8, 2, 8, 2, 8), ("free", 3, 4, 0, 0, 3, 4)]


def test_difficulty_by_hand() -> None:
    rates = [(0, 8), (1, 8), (2, 8), (4, 8), (6, 8), (8, 8), (0, 0)]
    hard, easy, none = "too hard (0 of 8)", "too easy (8 of 8)", "not attempted"
    assert judged(difficulty, rates) == [hard, None, None, None, None, easy, none]
    assert judged(difficulty, rates, unknown="keep") == [hard, None, None, None, None, easy, None]
    # 2 of 8 and 6 of 8 stand on the ends.
    inside = [hard, "too hard (1 of 8)", "too hard (2 of 8)", None, "too easy (6 of 8)", easy, none]
    assert judged(difficulty, rates, low=0.25, high=0.75) == inside
    closed = [hard, "too hard (1 of 8)", None, None, None, easy, none]
    assert judged(difficulty, rates, low=0.25, high=0.75, open=False) == closed
    assert judged(difficulty, rates, low=0.5, high=0.5, open=False)[3:5] == [None, "too easy (6 of 8)"]
    assert judged(difficulty, [(3, 10)], low=0.3, open=False) == [None]


def test_difficulty_drops_only_what_is_surely_outside() -> None:
    # z = 1.96, z^2 = 3.8415. 0 of 8: up to (z^2/8) / (1 + z^2/8) = .4802 / 1.4802 = .3244; 8 of 8: from .6756.
    # 4 of 10: (.4 + .1921 +- 1.96 sqrt(.024 + .0096)) / 1.3841 = .4278 +- .2596, from .1682 to .6873.
    rates = [(0, 8), (8, 8), (4, 10)]
    assert judged(difficulty, rates, confidence=0.95) == [None, None, None]
    assert judged(difficulty, rates, low=0.324, high=0.676, confidence=0.95) == [None, None, None]
    assert judged(difficulty, rates, low=0.325, confidence=0.95) == ["too hard (0 of 8)", None, None]
    assert judged(difficulty, rates, high=0.675, confidence=0.95) == [None, "too easy (8 of 8)", None]
    assert judged(difficulty, rates[2:], low=0.687, confidence=0.95) == [None]
    assert judged(difficulty, rates[2:], low=0.688, confidence=0.95) == ["too hard (4 of 10)"]
    assert judged(difficulty, rates[2:], high=0.169, confidence=0.95) == [None]
    assert judged(difficulty, rates[2:], high=0.168, confidence=0.95) == ["too easy (4 of 10)"]
    # The same rate of 5000 attempts is sure.
    assert judged(difficulty, [(0, 5000)], low=0.01, confidence=0.95) == ["too hard (0 of 5000)"]


@settings(max_examples=10)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=4), st.floats(0, 0.99))
def test_more_confidence_never_drops_more(pairs: list[tuple[int, int]], confidence: float) -> None:
    rates = [(min(pair), max(pair)) for pair in pairs]
    rows = problems(*(f"p{at}" for at in range(len(rates))))
    attempts = [one for at, (hits, n) in enumerate(rates) for one in tried(f"p{at}", hits, n)]
    band = {"low": 0.3, "high": 0.7}
    sure = dropped(difficulty, rows_of(rows, attempts=attempts), **band, confidence=confidence)
    every = dropped(difficulty, rows_of(rows, attempts=attempts), **band)
    assert sure.items() <= every.items()
    # Without confidence it is the rate alone.
    assert set(every) == {at for at, (hits, n) in enumerate(rates) if not n or not 0.3 < hits / n < 0.7}


def test_attempts_share_the_fate_of_their_problem() -> None:
    rows = [trajectory(problem_id=name) for name in ("hard", "fit", "hard")]
    attempts = tried("hard", 0, 4) + tried("fit", 2, 4)
    assert dropped(difficulty, rows_of(rows, attempts=attempts)) == dict.fromkeys((0, 2), "too hard (0 of 4)")


def test_edge_by_hand() -> None:
    # 4 of 16 is a quarter and stays, 5 of 16 does not.
    rates = [(1, 16), (0, 16), (10, 16), (4, 16), (5, 16), (0, 0)]
    often = ["solved too often (10 of 16)", None, "solved too often (5 of 16)"]
    assert judged(edge, rates) == [None, "never solved (0 of 16)", *often, "not attempted"]
    assert judged(edge, rates, unknown="keep")[5] is None
    assert judged(edge, rates, most=0.625)[2:5] == [None, None, None]


CLASSES = [of_eight(0, 4), of_eight(1, 0), of_eight(7, 8), of_eight(4, 4)]  # rl, teacher, easy, low


def classes(rule: AnyRule, names: Sequence[str], *cases: Sequence[Attempt], **options: Any) -> list[str]:
    """The class of each problem, of so many attempts: the only one that it stays in where only one is kept."""
    rows = problems(*(f"p{at}" for at in range(len(cases))))
    attempts = [(f"p{at}", tools, right) for at, case in enumerate(cases) for _, tools, right in case]
    found: dict[int, list[str]] = {at: [] for at in range(len(cases))}
    for name in names:
        gone = dropped(rule, rows_of(rows, attempts=attempts), keep=[name], **options)
        for at in found.keys() - gone.keys():
            found[at].append(name)
    assert all(len(stays) == 1 for stays in found.values()), "each problem is in exactly one class"
    return [name for [name] in found.values()]


BENEFITS = ("easy", "rl", "teacher", "low", "unknown")
SOLVED = ("direct", "tool", "unsolved", "unknown")


def test_tool_benefit_by_hand() -> None:
    assert classes(tool_benefit, BENEFITS, *CLASSES, tool_free=0) == ["rl", "teacher", "easy", "low"]
    # At the thresholds: .75 is easy; a gain of .25 is enough, .125 is not; what is always solved is no RL.
    edges = [of_eight(6, 6), of_eight(5, 5), of_eight(2, 4), of_eight(2, 3), of_eight(0, 8)]
    # .35 - .1 is a little below .25 in binary; it is a gain of .25 all the same.
    tenths = tried("p", 2, 20, tools=False) + tried("p", 7, 20)
    found = classes(tool_benefit, BENEFITS, *edges, tenths, tool_free=0)
    assert found == ["easy", "low", "rl", "low", "low", "rl"]


def test_tool_benefit_says_why() -> None:
    names = ("rl", "teacher", "easy", "low", "one side", "none")
    attempts = [
        (name, tools, right) for name, rows in zip(names, CLASSES, strict=False) for _, tools, right in rows
    ] + tried("one side", 1, 8)
    found = dropped(tool_benefit, rows_of(problems(*names), attempts=attempts), tool_free=0)
    assert found == {
        1: "not solved even with tools (1 of 8 without, 0 of 8 with)",
        2: "easy without tools (7 of 8 without, 8 of 8 with)",
        4: "not attempted both with and without tools",
        5: "not attempted both with and without tools",
    }


def test_tool_benefit_keeps_a_seeded_share_of_easy_ones() -> None:
    names = [f"p{at}" for at in range(400)]
    attempts = [(name, tools, True) for name in names for tools in (True, False)]

    def left(seed: int, share: float, order: Sequence[str] = names) -> set[str]:
        rows = rows_of([problem(id=name) for name in order], attempts=attempts, seed=seed)
        gone = dropped(tool_benefit, rows, tool_free=share)
        return {name for at, name in enumerate(order) if at not in gone}

    assert left(1, 0) == set() and left(1, 1) == set(names)
    some = left(1, 0.1)
    # 400 draws: a spread of sqrt(400 * .1 * .9) = 6 around 40; four of them.
    assert 16 <= len(some) <= 64
    assert left(1, 0.1, names[::-1]) == some and left(2, 0.1) != some and some < left(1, 0.3)


def test_tool_classes_by_hand() -> None:
    all_measured = [of_eight(1, 0), of_eight(0, 1), of_eight(0, 0)]
    assert classes(tool_classes, SOLVED, *all_measured) == ["direct", "tool", "unsolved"]
    one_side = [tried("p", 0, 8, tools=False), tried("p", 8, 8), tried("p", 1, 8, tools=False)]
    assert classes(tool_classes, SOLVED, *one_side) == ["unknown", "unknown", "direct"]
    # Solved is what is right in more than half: 4 of 8 is not.
    assert classes(tool_classes, SOLVED, of_eight(4, 5), of_eight(4, 4), over=0.5) == ["tool", "unsolved"]


def test_tool_classes_keep_the_attempts_that_fit() -> None:
    attempts = of_eight(1, 0, "direct") + of_eight(0, 1, "tool") + of_eight(0, 0, "unsolved")
    rows = [trajectory(problem_id=name, calls=n) for name in ("direct", "tool", "unsolved", "new") for n in (0, 1)]
    rows.append(trajectory(problem_id="tool", calls=0, provenance={"kind": "world_model"}))
    expected = {
        1: "calls a tool where none is needed",
        2: "calls no tool where one is needed",
        4: "not solved even with tools",
        5: "not solved even with tools",
        6: "not attempted both with and without tools",
        7: "not attempted both with and without tools",
    }
    assert dropped(tool_classes, rows_of(rows, attempts=attempts)) == expected
    loose = {at: reason for at, reason in expected.items() if at > 2}
    assert dropped(tool_classes, rows_of(rows, attempts=attempts), fitting=False) == loose
    pool = dropped(tool_classes, rows_of(rows, attempts=attempts), keep=["unsolved"])
    assert set(pool) == {0, 1, 2, 3, 6, 7, 8} and pool[0] == "solved without tools"


def stepped(correct: bool | None, *steps: float, **fields: Any) -> Trajectory:
    return trajectory(correct=correct, turn_rewards=steps, **fields)


def test_agreement_by_hand() -> None:
    # 4 right, 2 wrong; 3 of 6 stay: 2 right, 1 wrong. The right ones' means .9, .5, .2, .6; the wrong ones' .1, .7.
    rows = [
        stepped(True, 0.8, 1.0),
        stepped(True, 0.5, 0.5),
        stepped(True, 0.2, 0.2),
        stepped(True, 0.6, 0.6),
        stepped(False, 0.0, 0.2),
        stepped(False, 0.7, 0.7),
    ]
    poor, good = "right by a poor process", "wrong by a good process"
    expected = {1: f"{poor} (0.5)", 2: f"{poor} (0.2)", 5: f"{good} (0.7)"}
    assert dropped(agreement, rows_of(rows)) == expected
    assert dropped(agreement, rows_of(rows), keep=1) == {}
    # 4 of 6: 2 of each.
    assert set(dropped(agreement, rows_of(rows), keep=0.6)) == {1, 2}
    # All right: there is nothing to balance, and half stays.
    assert dropped(agreement, rows_of(rows[:4])) == {1: f"{poor} (0.5)", 2: f"{poor} (0.2)"}
    # Of another problem each is alone: the one stays.
    alone = [stepped(True, 0.1, problem_id=str(at)) for at in range(2)]
    assert dropped(agreement, rows_of(alone)) == {}


def test_agreement_reads_step_values_first_and_lets_the_unjudged_stay() -> None:
    rows = [
        stepped(True, 0.9, provenance={"step_values": [0.1, 0.1]}),
        stepped(True, 0.5, 0.5),
        stepped(None, 0.0),
        stepped(True),
        stepped(False, 0.9, provenance={"kind": "reflection"}),
    ]
    assert dropped(agreement, rows_of(rows)) == {0: "right by a poor process (0.1)"}


def test_agreement_takes_a_penalty_off_degenerate_numbers_of_steps() -> None:
    # Means .9, .5 and .8; one step and three are degenerate: .4, .5, .3.
    rows = [stepped(True, 0.9), stepped(True, 0.5, 0.5), stepped(True, 0.8, 0.8, 0.8)]
    assert dropped(agreement, rows_of(rows), keep=0.3) == {
        1: "right by a poor process (0.5)",
        2: "right by a poor process (0.8)",
    }
    assert dropped(agreement, rows_of(rows), keep=0.3, penalty=0.5, most_steps=3) == {
        0: "right by a poor process (0.4)",
        2: "right by a poor process (0.3)",
    }
    # Four steps are not too many for `most_steps` of five, and too many for none.
    assert set(dropped(agreement, rows_of(rows), keep=0.3, penalty=0.5, most_steps=4)) == {0, 1}


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.booleans(), st.integers(0, 4)), max_size=12),
    st.sampled_from([0.25, 0.5, 0.75]),
)
def test_agreement_is_the_loop_that_drops_from_the_larger_side(rows: list[tuple[str, bool, int]], keep: float) -> None:
    data = [stepped(right, float(score), problem_id=name) for name, right, score in rows]
    gone: set[int] = set()
    for name in {row[0] for row in rows}:
        # Best first; of equal ones the earlier row is the better.
        right = sorted((-score, at) for at, (n, correct, score) in enumerate(rows) if n == name and correct)
        wrong = sorted((score, at) for at, (n, correct, score) in enumerate(rows) if n == name and not correct)
        total = len(right) + len(wrong)
        while (len(right) + len(wrong)) - 1 >= keep * total:
            gone.add((right if len(right) > len(wrong) else wrong).pop()[1])
    assert set(dropped(agreement, rows_of(data), keep=keep)) == gone


def test_best_by_hand() -> None:
    rows = [
        trajectory(id="a", score=0.5),
        trajectory(id="b", score=0.9, calls=2),
        trajectory(id="c", score=0.9),
        trajectory(id="d", score=None),
        trajectory(id="e", score=0.1, problem_id="other"),
        trajectory(id="f", score=0.0, provenance={"kind": "world_model"}),
    ]

    def place(n: int) -> str:
        return f"other attempts at the problem are better (place {n} of 4)"

    assert dropped(best, rows_of(rows)) == {2: place(2), 0: place(3), 3: place(4)}
    assert dropped(best, rows_of(rows), n=2) == {0: place(3), 3: place(4)}
    # Equal scores: the one with fewer calls.
    assert dropped(best, rows_of(rows), by=["score", "fewest_calls"]) == {1: place(2), 0: place(3), 3: place(4)}
    # The best and the worst are a pair.
    assert dropped(best, rows_of(rows), worst=1) == {2: place(2), 0: place(3)}


def test_best_says_what_it_held_a_row_against() -> None:
    rows = rows_of([trajectory(id="low", score=0.1), trajectory(id="high", score=0.2)])
    with rows.database:
        found = rows.database.execute(f"SELECT position, match FROM ({best(rows).query})").fetchall()  # type: ignore[union-attr]
    assert found == [(0, "high")]


@pytest.mark.parametrize(
    ("by", "better", "worse"),
    [
        ("reward", {"reward": 0.2, "score": 0.0}, {"reward": 0.1, "score": 1.0}),
        ("confidence", {"logprobs": (0.0, -1.0, -1.0, -1.0)}, {"logprobs": (0.0, -0.5, -0.5, -3.0)}),
        ("shortest", {"turns": (Turn(text="abc"),)}, {"turns": (Turn(text="a"), Turn(text="abc"))}),
        ("fewest_calls", {"calls": 1}, {"calls": 2}),
    ],
)
def test_best_by_each_measure(by: str, better: dict[str, Any], worse: dict[str, Any]) -> None:
    for rows, gone in (([better, worse], 1), ([worse, better], 0)):
        assert set(dropped(best, rows_of([trajectory(**row) for row in rows]), by=[by])) == {gone}


def of_families(*counts: int) -> list[Problem]:
    return [problem(id=f"{f}-{at}", family=f"f{f}") for f, count in enumerate(counts) for at in range(count)]


def left_of(data: Sequence[Problem], **options: Any) -> dict[str, int]:
    gone = dropped(balance, rows_of(data), **options)
    kept = [row.family for at, row in enumerate(data) if at not in gone]
    return {family: kept.count(family) for family in sorted(set(kept))}


def test_balance_by_hand() -> None:
    data = of_families(10, 3, 5)
    assert left_of(data, most=4) == {"f0": 4, "f1": 3, "f2": 4}
    # Twice the smallest, 3, is 6; 1.5 times is 4.5.
    assert left_of(data, ratio=2) == {"f0": 6, "f1": 3, "f2": 5}
    assert left_of(data, ratio=1.5) == {"f0": 4, "f1": 3, "f2": 4}
    assert left_of(data, ratio=2, most=5) == {"f0": 5, "f1": 3, "f2": 5}
    assert left_of(data, ratio=1) == dict.fromkeys(("f0", "f1", "f2"), 3)
    # 1.16 times 25 is 29, and a little less in binary.
    assert left_of(of_families(25, 40), ratio=1.16) == {"f0": 25, "f1": 29}
    assert dropped(balance, rows_of(of_families(2)), most=1) in (
        {0: "too many of one family (f0)"},
        {1: "too many of one family (f0)"},
    )


def test_balance_chooses_by_seed_and_id_and_not_by_place() -> None:
    data = of_families(30)

    def gone(seed: int, rows: list[Problem]) -> set[str]:
        return {rows[at].id for at in dropped(balance, rows_of(rows, seed=seed), most=10)}

    first = gone(1, data)
    assert first == gone(1, data[::-1]) and first != gone(2, data)
    assert first != {row.id for row in data[10:]}
    # Equal ids are told apart by their place.
    assert len(dropped(balance, rows_of([problem(id="same")] * 5), most=2)) == 3


def test_balance_by_another_column() -> None:
    rows = [trajectory(source=name) for name in ("a", "a", "b")]
    found = dropped(balance, rows_of(rows), by="source", most=1)
    assert len(found) == 1 and set(found.values()) == {"too many of one source (a)"}


@pytest.mark.parametrize("evil", ['family"; DROP TABLE rows; --', "1", "family, id", ""])
def test_balance_knows_columns_alone(evil: str) -> None:
    with pytest.raises(ConfigError, match="have no column"):
        dropped(balance, rows_of(problems("p")), by=evil, most=1)


def test_a_column_with_any_name_can_be_balanced_by() -> None:
    rows = rows_of(problems("p", "q"))
    name = "a\" b'); --"
    rows.database.execute('ALTER TABLE rows ADD COLUMN "a"" b\'); --" VARCHAR')
    found = dropped(balance, replace(rows, columns=rows.columns | {name}), by=name, most=1)
    assert list(found.values()) == [f"too many of one {name} ()"]


def test_ordered_by_hand() -> None:
    rows = problems("hard", "easy", "new", "middle", "easy too")
    attempts = tried("hard", 0, 4) + tried("easy", 4, 4) + tried("middle", 2, 4) + tried("easy too", 8, 8)
    assert put_in_order(ordered, rows_of(rows, attempts=attempts)) == [1, 4, 3, 0, 2]
    assert put_in_order(ordered, rows_of(rows, attempts=attempts), hardest_first=True) == [0, 3, 1, 4, 2]
    tries = [trajectory(problem_id=name, calls=n) for n, name in enumerate(("hard", "easy", "hard"))]
    assert put_in_order(ordered, rows_of(tries, attempts=attempts)) == [1, 0, 2]
    assert put_in_order(ordered, rows_of(tries[::-1]), by="calls") == [2, 1, 0]
    needed = [problem(min_calls=n) for n in (2, 1, 3, 1)]
    assert put_in_order(ordered, rows_of(needed), by="calls") == [1, 3, 0, 2]
    texts = [problem(text) for text in ("ccc", "a", "bb")]
    assert put_in_order(ordered, rows_of(texts), by="length", hardest_first=True) == [0, 2, 1]


MEASURED: list[tuple[AnyRule, dict[str, Any]]] = [
    (difficulty, {}),
    (difficulty, {"confidence": 0.9}),
    (edge, {}),
    (tool_benefit, {}),
    (tool_classes, {}),
    (ordered, {}),
]
GROUPED: list[tuple[AnyRule, dict[str, Any]]] = [
    (agreement, {"penalty": 0.1, "most_steps": 5}),
    (best, {"by": ["score", "reward", "confidence", "shortest", "fewest_calls"], "worst": 1}),
]
OTHERS: list[tuple[AnyRule, dict[str, Any]]] = [
    (balance, {"most": 1, "ratio": 2}),
    (ordered, {"by": "calls"}),
    (ordered, {"by": "length"}),
]


@pytest.mark.parametrize(("rule", "options"), MEASURED)
def test_without_attempts_a_rule_says_how_to_get_them(rule: AnyRule, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="needs a policy's attempts") as error:
        dropped(rule, rows_of(problems("p")), **options)
    assert "curate.measure" in error.value.remedy and "--attempts" in error.value.remedy


@pytest.mark.parametrize(("rule", "options"), GROUPED)
def test_problems_are_not_compared_as_attempts(rule: AnyRule, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="the rows are problems"):
        dropped(rule, rows_of(problems("p")), **options)


@pytest.mark.parametrize(("rule", "options"), MEASURED + GROUPED + OTHERS)
def test_no_rows_and_rows_of_nothing_are_compared(rule: AnyRule, options: dict[str, Any]) -> None:
    kinds = ("trajectory",) if rule in (agreement, best) else ("problem", "trajectory")
    for kind in kinds:
        assert dropped(rule, rows_of([], kind=kind, attempts=[]), **options) == {}
        dropped(rule, rows_of([], kind=kind, attempts=tried("p", 1, 2), empty_rows=3), **options)


def test_attempts_of_nothing_count_for_nobody() -> None:
    rows = rows_of(problems("p"), attempts=tried("p", 1, 2), empty_rows=1)
    rows.database.execute("INSERT INTO attempts VALUES (NULL, NULL, true, NULL, NULL), ('p', NULL, NULL, NULL, NULL)")
    assert dropped(difficulty, rows) == {1: "not attempted"}


def test_options_that_keep_nothing_are_errors() -> None:
    for options in ({"low": 0.5, "high": 0.4}, {"low": 0.5, "high": 0.5}):
        with pytest.raises(ConfigError, match="keeps nothing"):
            dropped(difficulty, rows_of(problems("p"), attempts=[]), **options)
    with pytest.raises(ConfigError, match="no limit"):
        dropped(balance, rows_of(problems("p")))
