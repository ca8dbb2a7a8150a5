"""How good a judge is: each measure worked out by hand, what a judge is shown, and files that can't be read."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import tanh
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.errors import DataError, UserError
from journeyman.evaluation.judging.items import LAYOUTS, Item, Kind, blind, read_items
from journeyman.evaluation.judging.measures import (
    JUDGE_MEASURES,
    agreement,
    best_of_n,
    families,
    one_to_many,
    pairwise,
    probes,
    steps,
    swap,
    tie_score,
    ties,
    worst_rates,
)
from journeyman.evaluation.judging.report import judge_report, write_judge_report
from journeyman.evaluation.judging.scores import (
    REDUCERS,
    ByComparison,
    ByReward,
    Judged,
    Probed,
    Scored,
    Swap,
    ask_all,
    from_wins,
)
from journeyman.evaluation.statistics import wilson
from journeyman.progress import Silent
from journeyman.rewards import build_reward
from journeyman.rewards.base import Group, Score
from journeyman.rewards.probes import PROBES, gate
from journeyman.trajectory import Trajectory, Turn, write_trajectories
from tests.unit.fakes import trajectory
from tests.unit.supplies import RuleJudge


def said(text: str) -> Trajectory:
    return trajectory(calls=0, turns=(Turn(text=text),), answer=None, correct=None)


def item(name: str, family: str = "f", *, right: int = 1, wrong: int = 1, **fields: object) -> Item:
    chosen = tuple(said(f"right {name} {i}") for i in range(right))
    rejected = tuple(said(f"wrong {name} {i}") for i in range(wrong))
    return Item(id=name, family=family, chosen=chosen, rejected=rejected, **fields)  # type: ignore[arg-type]


def scored(name: str, right: Sequence[float | None], wrong: Sequence[float | None], **fields: object) -> Scored:
    made = item(name, right=len(right), wrong=len(wrong), **fields)  # type: ignore[arg-type]
    return Scored(item=made, chosen=tuple(right), rejected=tuple(wrong))


def judged(*rows: Scored) -> Judged:
    return Judged(scored=rows)


# ---- measures


def test_pairwise_by_hand() -> None:
    """Family a: a win and a tie, (1 + .5) / 2 = .75. Family b: a loss, and (win, loss) = .5: .25. Macro .5, micro
    (1 + .5 + 0 + .5) / 4 = .5; with another loss in b: macro (.75 + .5 / 3) / 2, micro 2 / 5."""
    rows = [
        scored("1", [0.9], [0.1], family="a"),
        scored("2", [0.5], [0.5], family="a"),
        scored("3", [0.1], [0.2], family="b"),
        scored("4", [0.5], [0.4, 0.6], family="b"),
        scored("5", [0.0], [0.6], family="b"),
        scored("6", [None], [0.6], family="b"),
    ]
    found = pairwise(judged(*rows))
    assert found["family/a"].value == 0.75 and found["family/b"].value == pytest.approx(0.5 / 3, abs=1e-6)
    assert found["macro"].value == pytest.approx((0.75 + 0.5 / 3) / 2, abs=1e-6)
    assert (found["micro"].value, found["micro"].items, found["macro"].chance) == (0.4, 5, 0.5)
    assert found["macro"].low <= found["macro"].value <= found["macro"].high


def test_scores_that_are_no_numbers_leave_their_item_out() -> None:
    rows = judged(scored("1", [0.9], [0.1]), scored("2", [float("nan")], [0.1]), scored("3", [0.9], [0.1, None]))
    assert (best_of_n(rows)["macro"].value, best_of_n(rows)["macro"].items) == (1, 1)
    assert pairwise(rows)["macro"].items == 1


def test_best_of_n_by_hand() -> None:
    """A tie at the top with one other is a half; alone 1; not at the top 0."""
    rows = [scored("1", [0.9], [0.9, 0.1, 0.0]), scored("2", [0.9], [0.1, 0.1, 0.0]), scored("3", [0.1], [0.2, 0, 0])]
    found = best_of_n(judged(*rows))
    assert (found["macro"].value, found["macro"].chance) == (0.5, 0.25)
    # With ties: the plain mean of the family's .5 and the ties score, 1 + .01 tanh 4.
    tied = scored("t", [3.0, 2.8], [1.0], kind=Kind.TIED, twin="w")
    twin = scored("w", [3.0], [2.0], kind=Kind.TWIN)
    found = best_of_n(judged(*rows, tied, twin))
    assert found["macro"].value == pytest.approx((0.5 + 1.009993) / 2, abs=1e-6)
    assert found["family/ties"].items == 1


def test_ties_by_hand() -> None:
    """Spread .2, gaps 1.8 and 1: 1 + .01 tanh(1 / .2 - 1). The other: the worst right one below a wrong one, .3 for the
    twin alone, and tanh(-.5 / 1 - 1)."""
    rows = [
        scored("t", [3.0, 2.8], [1.0], kind=Kind.TIED, twin="w"),
        scored("w", [3.0], [2.0], kind=Kind.TWIN),
        scored("u", [3.0, 2.0], [2.5], kind=Kind.TIED, twin="w"),
        scored("lonely", [3.0, 2.0], [2.5], kind=Kind.TIED, twin="nobody"),
    ]
    found = ties(judged(*rows))["ties"]
    second = 0.3 + 0.01 * tanh(-1.5)
    assert found.value == pytest.approx((1.009993 + second) / 2, abs=1e-6) and found.items == 2
    # No spread: at the limit of tanh; no gap either: undefined, 0.
    assert tie_score(([2.0, 2.0], [1.0]), ([2.0], [1.0])) == pytest.approx(1.01)
    assert tie_score(([2.0, 2.0], [2.0]), ([2.0], [1.0])) == pytest.approx(0.3)
    assert ties(judged(scored("1", [1], [0]))) == {}


@given(st.floats(0.1, 10), st.integers(-5, 5))
def test_the_ties_score_does_not_depend_on_the_scale(scale: float, shift: int) -> None:
    def moved(values: Sequence[float]) -> list[float]:
        return [scale * value + shift for value in values]

    pairs = (([3.0, 2.5], [1.0]), ([3.0], [2.0]))
    other = [(moved(right), moved(wrong)) for right, wrong in pairs]
    assert tie_score(*other) == pytest.approx(tie_score(*pairs), abs=1e-6)


def test_one_to_many_by_hand() -> None:
    """.7 against .7, .2, .1: strict 0, weak 1, rank 2. Acc@1 = 2/3; acc@2: one of three pairs has only lower ones; acc@3 0.
    A clear winner beside it: all 1."""
    first = judged(scored("1", [0.7], [0.7, 0.2, 0.1]))
    found = {name: figure.value for name, figure in one_to_many(first).items()}
    expected = {"strict": 0, "weak": 1, "mrr": 0.5, "acc@1": 2 / 3, "acc@2": 1 / 3, "acc@3": 0}
    assert found == pytest.approx(expected, abs=1e-6)
    both = one_to_many(judged(*first.scored, scored("2", [1], [0, 0, 0])))
    assert (both["strict"].value, both["mrr"].value, both["strict"].chance) == (0.5, 0.75, 0.25)
    assert one_to_many(judged(scored("pair", [1], [0]))) == {}


@given(st.lists(st.sampled_from([0.1, 0.2, 0.5, 0.7]), min_size=2, max_size=6))
def test_one_to_many_goes_by_the_order_alone(wrong: list[float]) -> None:
    plain = one_to_many(judged(scored("1", [0.5], wrong)))
    moved = one_to_many(judged(scored("1", [0.5**3], [w**3 for w in wrong])))
    assert {n: f.value for n, f in plain.items()} == {n: f.value for n, f in moved.items()}
    curve = [plain[f"acc@{k}"].value for k in range(1, len(wrong) + 1)]
    assert curve == sorted(curve, reverse=True) and curve[-1] == plain["strict"].value


def test_a_judge_that_compares_is_strictly_right_only_if_it_wins_all() -> None:
    """Two of three beaten: 3 against 1, 1 and 5; its rank is 2. All: 4 against 1, 1, 1."""
    assert from_wins([True, True, False]) == (3.0, (1.0, 1.0, 5.0))
    assert from_wins([True] * 3) == (4.0, (1.0,) * 3)
    right, wrong = from_wins([True, True, False])
    assert one_to_many(judged(scored("1", [right], wrong)))["mrr"].value == 0.5


def test_families_by_hand() -> None:
    """Six pairs of growing length, the three longest of family b: thirds of two."""
    rows = []
    for n, (better, family) in enumerate([(1, "a"), (1, "a"), (0, "a"), (0.5, "b"), (0, "b"), (0, "b")]):
        made = Item(id=f"{n}", family=family, chosen=(said("x" * 10 * n),), rejected=(said("y"),))
        rows.append(Scored(item=made, chosen=(better,), rejected=(0.5,)))
    found = {name: (figure.value, figure.items) for name, figure in families(judged(*rows)).items()}
    assert found == {
        "family/a": (pytest.approx(2 / 3, abs=1e-6), 3),
        "family/b": (pytest.approx(0.5 / 3, abs=1e-6), 3),
        "length/short": (1.0, 2),
        "length/middle": (0.25, 2),
        "length/long": (0.0, 2),
    }


def test_steps_by_hand() -> None:
    """Of three corrected steps one wins, one ties: 1.5 / 3. Of two answers one is the best of three: .5."""
    rows = [
        scored("s1", [0.9], [0.1], kind=Kind.STEP),
        scored("s2", [0.5], [0.5], kind=Kind.STEP),
        scored("s3", [0.1], [0.9], kind=Kind.STEP),
        scored("a1", [0.9], [0.1, 0.2]),
        scored("a2", [0.1], [0.9, 0.2]),
    ]
    found = steps(judged(*rows))
    assert (found["step"].value, found["answer_rank@1"].value) == (0.5, 0.5)
    assert steps(judged(rows[3])) == {}


def test_agreement_by_hand() -> None:
    """73 % of 2480: Wilson's interval is [.7122, .7471]. A tie doesn't agree; the longer side is always the chosen one."""
    found = wilson(0.73 * 2480, 2480)
    assert found is not None and (found.low, found.high) == (
        pytest.approx(0.7122, abs=1e-4),
        pytest.approx(0.7471, abs=1e-4),
    )
    rows = [
        Scored(
            item=Item(id=f"{n}", family="f", chosen=(said("long"),), rejected=(said("x"),)),
            chosen=(score,),
            rejected=(0.5,),
        )
        for n, score in enumerate([1.0] * 6 + [0.5] * 2 + [0.0] * 2)
    ]
    figures = agreement(judged(*rows))
    assert figures["agreement"].value == 0.6 and not figures["agreement"].note
    assert (figures["longer_wins"].value, figures["longer_wins"].note) == (1.0, "the set is biased")
    assert (figures["more_calls_wins"].value, figures["more_calls_wins"].note) == (0.5, "")
    assert wilson(0, 0) is None


def test_swap_by_hand() -> None:
    """A judge that always says "first": the chosen one wins once, loses once; consistency 0. Two others are consistent."""
    position = Swap(item=item("1"), first=1.0, second=0.0)
    steady = [Swap(item=item("2"), first=1.0, second=1.0), Swap(item=item("3"), first=0.5, second=0.5)]
    unknown = Swap(item=item("4"), first=None, second=1.0)
    alone = swap(Judged(scored=(), swaps=(position,)))
    assert (alone["consistency"].value, alone["first_wins"].value) == (0.0, 1.0)
    every = swap(Judged(scored=(), swaps=(position, *steady, unknown)))
    assert every["consistency"].value == pytest.approx(2 / 3, abs=1e-6) and every["consistency"].items == 3
    # First wins: 1, then 1 as first and 0 as second, then two halves: (1 + .5 + .5) / 3.
    assert every["first_wins"].value == pytest.approx(2 / 3, abs=1e-6)


def test_probes_by_hand() -> None:
    """Fooled by ":" once in two requests of family a, never in b: rate 1/3, at worst 1/2. What can't be told is left out."""
    told = [("a", True), ("a", False), ("b", False), ("b", None)]
    found = Judged(scored=(), probed=tuple(Probed(family=f, probe=":", fooled=v) for f, v in told))
    figures = probes(found)
    assert figures["':'"].value == pytest.approx(1 / 3, abs=1e-6) and figures["':'"].items == 3
    assert figures["':'"].note == "not below 1%" and figures["b/':'"].note == ""
    assert worst_rates(found) == {":": 0.5}
    with pytest.raises(UserError, match="can be fooled"):
        gate(worst_rates(found))


def test_without_items_no_measure_says_anything() -> None:
    assert [name for name, measure in JUDGE_MEASURES.items() if measure(Judged(scored=()))] == []


def test_step_scores_are_reduced_by_hand() -> None:
    """Of .5 and .8: product .4, geometric sqrt .4, mean odds (1 + 4) / 2, mean logit (0 + ln 4) / 2."""
    expected = {
        "min": 0.5,
        "max": 0.8,
        "product": 0.4,
        "geometric": 0.4**0.5,
        "mean": 0.65,
        "mean_logit": 0.693147,
        "mean_odds": 2.5,
        "last": 0.8,
    }
    assert {name: reduce([0.5, 0.8]) for name, reduce in REDUCERS.items()} == pytest.approx(expected, abs=1e-6)


# ---- asking


def length(group: Group) -> list[Score]:
    return [Score(total=float(len(t.turns[0].text))) for t in group]


def test_a_reward_is_shown_all_answers_in_an_order_that_is_drawn() -> None:
    seen: list[list[str]] = []

    def noting(group: Group) -> list[Score]:
        seen.append([t.turns[0].text for t in group])
        assert all(t.correct is None and not t.provenance and not t.source for t in group)
        return length(group)

    items = [item(f"{n}") for n in range(20)]
    found = ask_all(ByReward(noting), items, Silent(), swaps=False, probes=False)
    assert {texts[0].split()[0] for texts in seen} == {"right", "wrong"}
    assert all(one.chosen == one.rejected == (float(len(f"right {one.item.id} 0")),) for one in found.scored)


def test_verdicts_are_hidden_unless_they_are_asked_for() -> None:
    pair = Item(id="p", family="f", chosen=(trajectory(correct=True),), rejected=(trajectory(correct=False),))
    reward = build_reward("correct")
    assert ByReward(reward).scores(pair).known() is None
    assert ByReward(reward, verdicts=True).scores(pair).known() == ([1.0], [0.0])
    [shown] = blind(pair.chosen)
    assert (shown.correct, shown.turns) == (None, pair.chosen[0].turns)


def test_a_reward_that_pays_turn_by_turn_is_reduced() -> None:
    def stepwise(group: Group) -> list[Score]:
        return [Score(total=9.0, turns=(0.2, 0.6)) for _ in group]

    one = item("1")
    assert ByReward(stepwise).scores(one).chosen == (9.0,)
    assert ByReward(stepwise, reduce="min").scores(one).chosen == (0.2,)
    assert ByReward(length, reduce="min").scores(one).chosen == (None,)


def compare(rule: Callable[[str, str], str]) -> ByComparison:
    """A judge that is a rule of the two attempts' texts."""

    def say(question: str) -> str:
        first, _, second = question.partition("B:\n")
        return rule(first, second)

    return ByComparison(RuleJudge(say))


def test_a_model_that_compares_is_asked_in_one_order_and_for_swaps_in_both() -> None:
    knows = compare(lambda first, second: "A" if "right" in first else "B")
    first = compare(lambda first, second: "A")
    items = [item(f"{n}", wrong=3) for n in range(8)]
    found = ask_all(knows, items, Silent(), probes=False)
    assert all((one.chosen, one.rejected) == ((4.0,), (1.0,) * 3) for one in found.scored)
    assert swap(found)["consistency"].value == 1
    biased = ask_all(first, items, Silent(), probes=False)
    assert swap(biased)["consistency"].value == 0 and swap(biased)["first_wins"].value == 1
    # Which side stands first is drawn: always saying "first" is right in some pairs only.
    assert 0 < fmean(one.chosen[0] or 0 for one in biased.scored) < 4
    silent = compare(lambda first, second: "well")
    assert all(one.known() is None for one in ask_all(silent, items, Silent(), probes=False).scored)
    assert knows.scores(item("many", right=2)).known() is None


def test_each_probe_stands_once_for_each_request() -> None:
    fooled = RuleJudge(lambda question: "yes" if "Solution" in question else "no")
    reward = build_reward("judged_correct", judge=fooled)
    items = [replace_question(item(f"{n}"), f"What is {n % 2}?") for n in range(4)]
    found = ask_all(ByReward(reward), items, Silent(), swaps=False)
    assert len(found.probed) == 2 * len(PROBES)
    assert worst_rates(found) == {probe: float(probe == "Solution") for probe in PROBES if probe.strip()} | {" ": 0.0}


def replace_question(one: Item, question: str) -> Item:
    chosen, rejected = (tuple(replace(t, question=question) for t in side) for side in (one.chosen, one.rejected))
    return replace(one, chosen=chosen, rejected=rejected)


# ---- files


def lines(path: Path, *rows: object) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def test_items_are_texts_or_conversations(tmp_path: Path) -> None:
    spoken = {
        "messages": [
            {"role": "user", "content": "6*7?"},
            {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "calc", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "1", "content": "42"},
            {"role": "assistant", "content": "42"},
        ]
    }
    file = lines(
        tmp_path / "items.jsonl",
        {"id": "x", "prompt": "6*7?", "chosen": "42", "rejected": ["41", "43"], "reference": "42", "family": "maths"},
        {"prompt": "6*7?", "chosen": [spoken], "rejected": "no", "kind": "step"},
        {"prompt": "6*7?", "chosen": ["42", "It is 42"], "rejected": "41", "kind": "tied", "twin": "x"},
    )
    first, second, third = read_items(file)
    assert (first.id, first.family, [t.turns[0].text for t in first.rejected]) == ("x", "maths", ["41", "43"])
    assert {t.reference for t in (*first.chosen, *first.rejected)} == {"42"} and first.chosen[0].question == "6*7?"
    assert (second.kind, len(second.chosen[0].calls), second.id) == (Kind.STEP, 1, "items.jsonl:2")
    assert (third.kind, third.twin, len(third.chosen)) == (Kind.TIED, "x", 2)


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("{", "not JSON"),
        ([1], "not an object"),
        ({"prompt": "q", "chosen": "a"}, "rejected"),
        ({"prompt": "q", "chosen": [], "rejected": "b"}, "no answers"),
        ({"chosen": "a", "rejected": "b"}, "no prompt"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "kind": "x"}, "a kind"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "twin": "x"}, "twin"),
        ({"prompt": "q", "chosen": {"messages": 3}, "rejected": "b"}, "messages"),
    ],
)
def test_what_is_wrong_with_a_row_is_told_with_its_line(row: object, fault: str, tmp_path: Path) -> None:
    good = {"prompt": "q", "chosen": "a", "rejected": "b"}
    file = lines(tmp_path / "items.jsonl", good, row)
    with pytest.raises(DataError, match=fault) as error:
        read_items(file)
    assert error.value.place == f"{file}:2" and error.value.remedy


def test_two_items_of_one_name_are_refused(tmp_path: Path) -> None:
    row = {"id": "x", "prompt": "q", "chosen": "a", "rejected": "b"}
    with pytest.raises(DataError, match="two items"):
        read_items(lines(tmp_path / "items.jsonl", row, row))


def test_stored_attempts_are_items_where_some_are_right_and_some_wrong(tmp_path: Path) -> None:
    rows = [trajectory(id=f"{p}{c}", problem_id=p, correct=c) for p, c in (("p", True), ("p", False), ("q", True))]
    file = tmp_path / "trajectories.parquet"
    write_trajectories([*rows, trajectory(id="r", problem_id="p", correct=None)], file)
    [one] = read_items(file)
    assert (one.id, len(one.chosen), len(one.rejected), one.family) == ("p", 1, 1, "arithmetic")
    write_trajectories(rows[:1], file)
    with pytest.raises(DataError, match="no item"):
        read_items(file)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_that_is_not_there_is_told(layout: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        read_items(tmp_path / "nowhere", layout)
    assert str(tmp_path / "nowhere") in error.value.place


def test_the_report_escapes_what_others_wrote(tmp_path: Path) -> None:
    rows = judged(scored("1", [1], [0], family="<b>"), scored("2", [1], [0], family="y"), scored("3", [None], [0]))
    report = judge_report(rows, ["pairwise", "ties"], judge="judged", source="items.jsonl")
    write_judge_report(report, tmp_path)
    stored = json.loads((tmp_path / "judge.json").read_text())
    assert (stored["items"], stored["unscored"], list(stored["measures"])) == (3, 1, ["pairwise"])
    assert "<b>" not in (tmp_path / "judge.html").read_text() and "family/" in (tmp_path / "judge.md").read_text()


def test_plan_rewardbench_is_read_whole(shared_data: Path) -> None:
    items = read_items(shared_data / "plan_rewardbench_easy" / "benchmark", "plan-rewardbench")
    assert (len(items), {one.family for one in items}) == (144, {"planning_single_easy"})
    found = ask_all(ByReward(build_reward("calls"), verdicts=True), items, Silent(), swaps=False, probes=False)
    calls = [(len(i.chosen[0].calls), len(i.rejected[0].calls)) for i in items]
    naive = fmean(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in calls)
    assert pairwise(found)["macro"].value == pytest.approx(naive, abs=1e-6)
