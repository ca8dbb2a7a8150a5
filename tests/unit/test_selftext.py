"""Self-supervised tasks on text: their measures by hand, gaps that can't be copied, orders that are the only ones."""

import asyncio
import json
import random
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.environments.base import Environment, validate
from journeyman.environments.episode import Verdict
from journeyman.environments.selftext import Masking, MaskSearch, Ordering, Segments, mark_spans
from journeyman.environments.selftext.scores import (
    continues,
    filled,
    in_order,
    jigsaw,
    read_list,
    read_order,
    repeats,
    same_call,
    same_value,
)
from journeyman.environments.selftext.texts import Action, Trace, chain, dependencies, only_order, passages, sentences
from journeyman.errors import DataError, InfrastructureError, UserError
from journeyman.llm import Scripted
from journeyman.messages import ParsedTurn, ToolCall, ToolResult
from journeyman.problem import Problem
from journeyman.tools.base import CallContext
from journeyman.trajectory import Turn, write_trajectories
from tests.unit.fakes import trajectory

TRACE = Trace(
    question="What is 6 times 7, and that plus one?",
    tools=("calculator", "search"),
    actions=(
        Action(name="calculator", arguments={"expression": "6*7"}, output="42"),
        Action(name="calculator", arguments={"expression": "42+1"}, output="43"),
    ),
)


def problems(environment: Ordering | Masking | Segments | MaskSearch, count: int, seed: int = 0) -> list[Problem]:
    return list(islice(environment.generate(random.Random(seed)), count))


def verdict(environment: Environment, problem: Problem, answer: str | None, said: Sequence[str] = ()) -> Verdict:
    async def run() -> Verdict:
        episode = environment.reset(problem, CallContext(trajectory="t", seed=1))
        for text in said:
            await episode.step(ParsedTurn(text=text, answer=answer))
        episode = episode.fork(CallContext(trajectory="copy"))  # what was said is part of the state
        return await episode.verify(answer)

    return asyncio.run(run())


# Orders (#169, #173)


@pytest.mark.parametrize(
    ("answer", "count", "raw"),
    [
        ("1,2,3,4,5", 5, 1.2),
        ("1,2,3,5,4", 5, 0.32),  # 3 of 5 in place: 0.2 + 0.2 * 3 / 5
        ("1,2,4,3", 4, 0.2),  # two of four in place, but partial orders pay only beyond four parts
        ("1,2,3,4,4", 5, 0.2),  # no permutation
        ("1,2,3,4,5,5", 5, 0.2),  # as many distinct numbers, but one too many
        ("1,2,3,4,9", 5, 0.2),
        ("the first one", 5, 0.0),
        ("", 5, 0.0),
        ("[1, 2, 3, 4, 5]", 5, 1.2),
    ],
)
def test_jigsaw_by_hand(answer: str, count: int, raw: float) -> None:
    assert jigsaw(answer, range(1, count + 1))["raw"] == pytest.approx(raw)


def test_repeated_lines_cost_a_half_where_the_format_is_right() -> None:
    line = "one two three four five six seven\n"
    assert repeats(line * 4) and not repeats(line * 3) and not repeats("one two three\n" * 9)
    assert not repeats((line + "other\n") * 4)  # not in a row
    assert jigsaw("1,2,3", [1, 2, 3], line * 4)["raw"] == pytest.approx(0.7)  # 1.2 - 0.5
    assert jigsaw("x", [1, 2, 3], line * 4)["raw"] == 0.0


def test_inversions_by_hand() -> None:
    assert in_order("1,2,4,3", [1, 2, 3, 4]) == pytest.approx(5 / 6)  # one adjacent swap: 1 of 6 pairs
    assert in_order("4,3,2,1", [1, 2, 3, 4]) == 0.0  # all 6
    assert in_order("3,1,2", [3, 1, 2]) == 1.0 and in_order("1,1,2", [3, 1, 2]) == 0.0
    # Steps 2 and 3 may change places: of the pairs (1, 2), (1, 3) neither is inverted.
    assert in_order("1,3,2", [1, 2, 3], [(0, 1), (0, 2)]) == 1.0
    assert in_order("2,1,3", [1, 2, 3], [(0, 1), (0, 2)]) == 0.5


@settings(max_examples=60)
@given(st.permutations(range(1, 8)), st.permutations(range(1, 8)))
def test_an_order_and_its_mirror_share_the_pairs(gold: list[int], given_order: list[int]) -> None:
    text, mirrored = ",".join(map(str, given_order)), ",".join(map(str, given_order[::-1]))
    assert in_order(text, gold) + in_order(mirrored, gold) == pytest.approx(1.0)
    assert (jigsaw(text, gold)["order"] == 1.0) == (given_order == gold)


def test_made_parts_have_one_order_only() -> None:
    for seed in range(30):
        parts = sentences(chain(random.Random(seed), 6))
        assert len(parts) == 6 and only_order(parts)
        assert not only_order([parts[0], parts[2], parts[1], *parts[3:]])
    assert dependencies(["Get A1.", "Take it.", "Use A1 for B2.", "Then B2."]) == {(0, 2), (2, 3)}


def test_ordering_gives_back_the_text() -> None:
    for problem in problems(Ordering(), 50):
        shown = dict(re.findall(r"^(\d+)\. (.+)$", problem.question, flags=re.MULTILINE))
        parts = [shown[str(label)] for label in read_order(problem.answer) or []]
        displayed = [shown[key] for key in sorted(shown)]
        assert 3 <= len(parts) <= 7 and only_order(parts)
        assert displayed == parts[::-1] or not only_order(displayed)  # which way a chain runs, its words tell


def test_ordering_scores_the_whole_attempt() -> None:
    environment = Ordering(length=(5, 5))
    problem = problems(environment, 1)[0]
    gold = read_order(problem.answer) or []
    swapped = ",".join(map(str, [*gold[:3], gold[4], gold[3]]))
    made = verdict(environment, problem, swapped)
    assert not made.correct and made.score == pytest.approx(0.32 / 1.2)
    assert made.parts["raw"] == pytest.approx(0.32) and made.parts["inversions"] == pytest.approx(0.9)
    assert made.parts["dependences"] == pytest.approx(0.75)  # of the four links of the chain one is inverted
    line = "one two three four five six seven"
    assert verdict(environment, problem, problem.answer, [line, line, f"{line}\n{line}"]).score == pytest.approx(
        0.7 / 1.2
    )
    assert verdict(environment, problem, None).score == 0.0
    by_pairs = Ordering(length=(5, 5), measure="inversions")
    assert verdict(by_pairs, problem, swapped).score == pytest.approx((0.1 + 0.9) / 1.1)
    assert verdict(by_pairs, problem, problem.answer).score == pytest.approx(1.0)


def test_ordering_takes_traces_and_texts_from_outside(tmp_path: Path) -> None:
    from_trace = problems(Ordering(traces=[TRACE], length=(2, 2)), 20)
    assert any("The parts are their results." in problem.question for problem in from_trace)
    assert any('{"name": "calculator"' in problem.question.split("\n", 2)[2] for problem in from_trace)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.log").write_text("start K1\nK1 gave K2\nK2 gave K3\n\nK3 ended\n")
    environment = Ordering(folder=str(tmp_path), parts="lines", length=(4, 4))
    assert all("K3 ended" in problem.question for problem in problems(environment, 5))
    environment.validate()
    with pytest.raises(DataError, match="no text file"):
        Ordering(folder=str(tmp_path / "none"))
    plain = "It rains. We stay in. There is tea."
    with pytest.raises(UserError, match="none of 1 texts and 0 traces gives a problem of ordering"):
        next(Ordering(texts=[plain]).generate(random.Random(0)))
    assert next(Ordering(texts=[plain], causal=False).generate(random.Random(0))).answer != "1,2,3"


# Gaps (#173)


def test_gaps_by_hand() -> None:
    assert filled([1, "2", "x"], [1, 2, 3]) == pytest.approx(2 / 3)  # three masks, two right
    assert read_list("7", 1) == [7] and read_list(" seven ", 1) == ["seven"] and read_list("[1, 2]", 3) is None
    assert read_list("a, b", 2) is None and read_list("", 1) is None


@pytest.mark.parametrize(
    ("given_value", "wanted", "same"),
    [
        ("96", 96, True),
        (96.0000001, "96", True),
        ("1,000", 1000, True),
        ("Paris ", "paris", True),
        ({"a": ["1"]}, {"a": [1]}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ([1], 1, False),
        ("", "", False),
        ("9" * 400, 9, False),
        ("nan", "nan ", True),
    ],
)
def test_values_are_compared_after_coercion(given_value: object, wanted: object, same: bool) -> None:
    assert same_value(given_value, wanted) is same


def test_no_gap_can_be_copied_from_what_is_shown() -> None:
    made, numbers = problems(Masking(), 300), 0
    for problem in made:
        for value in json.loads(problem.answer):
            if str(value).isdigit():
                numbers += 1
                shown = re.sub(r"\[MASK \d\]", "", problem.question)
                assert re.search(rf"(?<!\d){value}(?!\d)", shown) is None
    assert numbers > 200 and any("call:" in p.question for p in made) and any("crates" in p.question for p in made)
    assert {problem.data["masks"] for problem in made} == {1, 2, 3}


def test_a_made_gap_follows_from_the_text() -> None:
    for problem in (p for p in problems(Masking(), 100) if "crates" in p.question):
        crates, each = map(int, re.findall(r"(\d+) crates of (\d+)", problem.question)[0])
        total, values = crates * each, []
        for first, more, said in re.findall(
            r"makes (\S+ ?\d*\]?)|Then (\d+ \w+ \w+ \w+)|are (\[MASK \d\]|\d+)", problem.question
        ):
            if more:
                total += int(more.split()[0]) * (1 if "brought" in more else -1)
            elif "MASK" in (first or said):
                values.append(str(total))
        assert json.dumps(values) == problem.answer


def test_masking_scores_each_gap() -> None:
    environment = Masking(masks=(3, 3))
    problem = problems(environment, 1)[0]
    values = json.loads(problem.answer)
    made = verdict(environment, problem, json.dumps([*values[:2], "?"]))
    assert not made.correct and made.score == pytest.approx((0.1 + 2 / 3) / 1.1)
    assert verdict(environment, problem, "?").parts == {"format": 0.0, "fill": 0.0, "raw": 0.0}
    assert verdict(environment, problem, problem.answer).correct


def test_masking_of_a_trace_hides_names_and_new_values() -> None:
    made = problems(Masking(traces=[TRACE], masks=(1, 1)), 60)
    assert {json.loads(problem.answer)[0] for problem in made} == {"calculator", "6*7", "42+1"}
    assert all("Tools: calculator, search" in problem.question for problem in made)
    copyable = Trace(
        question="Look up K17", tools=("get",), actions=(Action(name="get", arguments={"id": "K17"}, output=""),)
    )
    with pytest.raises(UserError, match="none of 0 texts and 1 traces"):
        next(Masking(traces=[copyable]).generate(random.Random(0)))


# Segments (#185)


def test_the_prefix_rule_by_hand() -> None:
    truth = ["The mill opened early.", "It closed at nine."]
    assert continues("The mill opened early.", truth)  # the first of two
    assert not continues("It closed at nine.", truth)  # the second only
    assert continues("The mill opened early. It closed at nine.", truth)
    assert not continues("", truth) and not continues("And so on.", truth)
    assert continues("the mill opened early today", truth)  # F1 = 2 * 3 / (4 + 3) = 0.857 without "the"
    assert not continues("After day 4 the pond holds 207 litres.", ["After day 4 the pond holds 206 litres."])


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ('{"name": "add", "arguments": {"number": "3", "item": "jars"}}', True),
        ('{"name": "add", "arguments": {"item": "jars", "number": 4}}', False),  # the right name alone
        ('{"name": "add", "arguments": {}}', False),
        ('{"name": "remove", "arguments": {"item": "jars", "number": 3}}', False),
        ("add", False),
        ("", False),
        ("[" * 5000, False),
    ],
)
def test_a_call_is_right_in_full_or_not_at_all(said: str, right: bool) -> None:
    assert same_call(said, "add", {"item": "jars", "number": 3}) is right


def test_segments_ask_for_what_follows_and_for_what_lies_between() -> None:
    made = problems(Segments(), 200)
    assert {problem.data["kind"] for problem in made} == {"next", "middle", "call"}
    for problem in made:
        assert problem.answer not in problem.question
        if problem.data["kind"] == "call":
            first, second = re.findall(r"observation: (.+)", problem.question)
            change = {k: json.loads(second)[k] - v for k, v in json.loads(first).items() if json.loads(second)[k] != v}
            [(item, by)] = change.items()
            call = {"name": "add" if by > 0 else "remove", "arguments": {"item": item, "number": abs(by)}}
            assert json.loads(problem.answer) == call
    only = Segments(kinds=["middle"], segment=2)
    assert all(len(p.data["truth"]) == 2 for p in problems(only, 30) if p.data["kind"] == "middle")
    only.validate()


def test_boilerplate_is_no_segment() -> None:
    text = "Alpha beats beta by far. Gamma lies beside delta today. Next page. One more line of words. See above. End."
    environment = Segments(texts=[text], before=1)
    assert {p.answer for p in problems(environment, 40)} == {
        "Gamma lies beside delta today.",
        "One more line of words.",
    }


def test_a_judge_compares_prose_and_never_sees_nothing() -> None:
    judge = Scripted(["Yes.", "no", "perhaps"])
    environment = Segments(judge=judge)
    problem = next(p for p in problems(environment, 20) if p.data["kind"] != "call")
    assert verdict(environment, problem, "in other words").correct
    assert not verdict(environment, problem, "in other words").correct
    with pytest.raises(InfrastructureError, match="neither yes nor no"):
        verdict(environment, problem, "in other words")
    assert not verdict(environment, problem, " ").correct and not verdict(environment, problem, None).correct
    assert len(judge.asked) == 3 and "Prediction: in other words" in judge.asked[0][0].content
    call = next(p for p in problems(environment, 40) if p.data["kind"] == "call")
    assert verdict(environment, call, call.answer).correct  # no judge for calls


# Spans to be searched for (#196)


def test_masked_spans_stand_nowhere_in_the_text_and_the_number_is_the_difficulty() -> None:
    for count in (1, 3):
        environment = MaskSearch(masks=(count, count))
        for problem in problems(environment, 30):
            spans = json.loads(problem.answer)
            assert len(spans) == count == problem.data["masks"] == problem.min_calls
            assert not any(span in problem.question for span in spans)
            assert all(f"[MASK {number}]" in problem.question for number in range(1, count + 1))
        environment.validate()


def test_masksearch_scores_each_span() -> None:
    environment = MaskSearch(masks=(2, 2))
    problem = problems(environment, 1)[0]
    first, _ = json.loads(problem.answer)
    made = verdict(environment, problem, json.dumps([first.upper(), "nobody"]))
    assert not made.correct and made.parts["fill"] == 0.5 and made.score == pytest.approx(0.6 / 1.1)
    alias = json.dumps([names[-1] for names in problem.data["accepted"]])
    assert verdict(environment, problem, alias).correct
    assert verdict(environment, problem, "none").score == 0.0


DOCUMENTS = ["The Blue Mill stands in Karden.", "Karden lies on the Vosse.", "Nothing else is known."]


def test_masksearch_takes_texts_whose_spans_stand_in_documents() -> None:
    text = "Every year painters visit the Blue Mill in Karden, where the Ossel flows."
    environment = MaskSearch(texts=[text], documents=DOCUMENTS, masks=(1, 2))
    spans = {span for problem in problems(environment, 30) for span in json.loads(problem.answer)}
    assert spans == {"Blue Mill", "Karden"}  # no document has the Ossel
    environment.validate()
    marked = asyncio.run(mark_spans(text, Scripted(["- Karden\n- Atlantis\n"]), count=2, seed=0))
    assert marked == text.replace("Karden", "[[Karden]]")
    [only] = {p.answer for p in problems(MaskSearch(texts=[marked], documents=DOCUMENTS), 5)}
    assert only == '["Karden"]'
    assert asyncio.run(mark_spans(text, Scripted(["no idea"]), count=2, seed=0)) == text
    with pytest.raises(UserError, match="belong together"):
        MaskSearch(texts=[text])
    with pytest.raises(UserError, match="no text has enough spans"):
        next(MaskSearch(texts=["nothing"], documents=DOCUMENTS).generate(random.Random(0)))


def test_long_texts_are_cut_into_passages() -> None:
    text = " ".join(f"Room {number} holds {number + 500} old chairs." for number in range(100, 160))
    assert [len(passage.split()) for passage in passages(text, 20)] == [18] * 20  # three sentences of six words
    assert passages("one two three", 2) == ["one two three"]
    for environment in (Masking(texts=[text], longest=60), Segments(texts=[text], longest=60)):
        assert max(len(problem.question.split()) for problem in problems(environment, 40)) < 80
        environment.validate()


# All of them


@pytest.mark.parametrize("environment", [Ordering(), Masking(), Segments(), MaskSearch()])
def test_every_family_is_valid_and_follows_its_seed(environment: Ordering | Masking | Segments | MaskSearch) -> None:
    environment.validate()
    assert problems(environment, 30, 1) == problems(environment, 30, 1) != problems(environment, 30, 2)
    if not isinstance(environment, MaskSearch):
        validate(environment, problems(environment, 100, 3))


def test_right_trajectories_become_traces(tmp_path: Path) -> None:
    def turn(expression: str, output: str) -> Turn:
        call = ToolCall(name="calculator", arguments={"expression": expression})
        return Turn(text="", calls=(call,), results=(ToolResult(name="calculator", ok=True, output=output),))

    right = trajectory(turns=(turn("6*7", "42"), turn("42+1", "43")), tools=("calculator", "search"))
    wrong = trajectory(id="w", turns=(turn("6*8", "48"), turn("48+1", "49")), correct=False)
    write_trajectories([right, wrong], tmp_path / "t.parquet")
    made = problems(Segments(trajectories=str(tmp_path / "t.parquet")), 5)
    assert {json.loads(p.answer)["arguments"]["expression"] for p in made} == {"42+1"}
