"""What stretches of text earn, worked out by hand."""

import itertools
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.rewards.segments import (
    answer_stretch,
    borne_out,
    call_stretches,
    fine_grained,
    fine_grained_by_rule,
    sentences,
    sub_sentences,
)
from journeyman.trajectory import StopReason, ToolCall, ToolResult, Trajectory, Turn
from tests.unit.fakes import trajectory
from tests.unit.supplies import RuleJudge, group

BROKEN = trajectory(stop_reason=StopReason.TOOL, correct=None)
SEARCH = ToolCall(name="search", arguments={"q": "Seine"})
FOUND = ToolResult(name="search", ok=True, output="The Seine is a river of 777 km in France.")
FAILED = ToolResult(name="search", ok=False, output="error")
ANSWER = "good words that are long enough, bad words that are long enough too. good words are here again."


def searched(*results: ToolResult, answer: str = ANSWER) -> Trajectory:
    written = "<think>x</think>" + "".join("<tool_call>{}</tool_call>" for _ in results)
    first = Turn(text=written, calls=(SEARCH,) * len(results), results=results)
    return trajectory(turns=(first, Turn(text=f"<think>y</think><answer>{answer}</answer>")), answer=answer)


def say_each(question: str) -> str:
    """Good pieces are good; completeness is full where the answer says `good`."""
    if "How much of what was asked" in question:
        return '{"score": 10}'
    pieces = re.findall(r"<<< \d+\n(.*)\n>>>", question)
    return json.dumps([("bad" not in piece) for piece in pieces])


def test_fine_grained_by_hand() -> None:
    t = searched(FOUND)
    text = t.turns[1].text
    found = fine_grained(group(t, BROKEN), judge=RuleJudge(say_each))
    # calls +.3; parts + - +: .3; sentences - (it says bad) +: 0; completeness z = (1 - .5)/.5 = 1: .3
    assert found[0].total == pytest.approx(0.3 + 0.3 + 0.0 + 0.3)
    assert found[1].total is None and found[1].spans == ()
    spans = found[0].spans
    assert [(span.kind, span.reward) for span in spans] == [
        *(("call", 0.3), ("part", 0.3), ("part", -0.3), ("part", 0.3)),
        *(("sentence", -0.5), ("sentence", 0.5), ("answer", pytest.approx(0.3))),
    ]
    shown = [t.turns[span.turn].text[span.start : span.stop] for span in spans]
    assert shown[0] == "<tool_call>{}</tool_call>" and shown[1] == "good words that are long enough,"
    assert shown[2] == "bad words that are long enough too." and shown[6] == ANSWER
    assert all(span.turn == (0 if span.kind == "call" else 1) and span.stop <= len(text) for span in spans)
    # without calls, and with the signs of the source: parts + + -, sentences + -, z = 1: .3 + 0 + .3
    alone = fine_grained(
        group(trajectory(turns=(Turn(text=ANSWER),), answer=None)), calls=0.0, judge=RuleJudge(say_each)
    )
    assert alone[0].total == pytest.approx(0.6)


def test_shared_prices_do_not_pay_for_length() -> None:
    judge = RuleJudge(say_each)
    short, long = "good words are all there are here.", " ".join(["good words are all there are here."] * 4)
    plain = [fine_grained(group(searched(FOUND, answer=a)), judge=judge)[0].total for a in (short, long)]
    shared = [fine_grained(group(searched(FOUND, answer=a)), shared=True, judge=judge)[0].total for a in (short, long)]
    assert plain == pytest.approx([1.4, 3.8])  # .3 + .3 n + .5 n + .3
    assert shared == pytest.approx([1.4, 1.4])


def test_without_an_answer_the_whole_is_graded_zero() -> None:
    cut = trajectory(turns=(Turn(text="<think>so"),), answer=None, stop_reason=StopReason.MAX_TOKENS)
    judge = RuleJudge(say_each)
    found = fine_grained(group(cut), judge=judge)[0]
    assert found.total == pytest.approx(-0.3) and found.spans == () and judge.asked == []  # (0 - .5)/.5 = -1
    assert fine_grained(group(trajectory(turns=(), answer=None)), judge=judge)[0].total == pytest.approx(-0.3)
    assert fine_grained(group(searched(FOUND)), judge=RuleJudge(lambda _: "?"))[0].total is None


def test_fine_grained_by_rule_by_hand() -> None:
    t = searched(FOUND, FOUND, FAILED, answer="The Seine is a river in France. It is 776 km long.")
    found = fine_grained_by_rule(group(t, BROKEN))
    # the second call repeats the first, the third failed: .3 - .3 - .3; 776 stands in no output: .5 - .5
    assert found[0].total == pytest.approx(-0.3) and found[1].total is None
    assert [span.reward for span in found[0].spans] == [0.3, -0.3, -0.3, 0.5, -0.5]
    # .1 - .1 - .1 + .25 - .25
    assert fine_grained_by_rule(group(t), shared=True)[0].total == pytest.approx(-0.1)


@pytest.mark.parametrize(
    ("sentence", "borne"),
    [
        *(("The Seine is 777 km.", True), ("The Seine is 778 km.", False), ("777", True), ("", False)),
        ("France likes cheese", False),  # one of three longer words
        ("The river of France is nice", True),  # two of three
    ],
)
def test_what_bears_a_sentence_out(sentence: str, borne: bool) -> None:
    assert borne_out(sentence, FOUND.output) is borne


def test_segments_by_hand() -> None:
    text = "One. Two is longer!\nThree"
    assert [text[slice(*s)] for s in sentences(text, (0, len(text)))] == ["One.", "Two is longer!", "Three"]
    text = "Well, this is a part of it, and so on; here are again five words, no. Short, this one."
    assert [text[slice(*s)] for s in sub_sentences(text, (0, len(text)))] == [
        *("Well, this is a part of it,", "and so on; here are again five words, no.", "Short, this one."),
    ]


@given(st.text(alphabet="ab ,;.!?\n", max_size=60), st.integers(0, 5))
def test_segments_cover_all_words_in_order(text: str, start: int) -> None:
    stretch = (min(start, len(text)), len(text))
    for cut in (sentences, sub_sentences):
        pieces = cut(text, stretch)
        assert "".join("".join(text[a:b].split()) for a, b in pieces) == "".join(text[slice(*stretch)].split())
        assert all(stretch[0] <= a < b <= stretch[1] for a, b in pieces)
        assert all(one[1] <= other[0] for one, other in itertools.pairwise(pieces))
    assert len(sub_sentences(text, stretch)) >= len(sentences(text, stretch))


def test_answers_and_calls_are_found_in_the_text() -> None:
    assert answer_stretch(trajectory()) == (8, 10)  # <answer>42</answer>
    assert answer_stretch(trajectory(answer="43")) is None
    assert answer_stretch(trajectory(answer=None, turns=(Turn(text="<think>a</think> b "),))) == (17, 18)
    two = Turn(text="<think><tool_call></think>[a(), b()]", calls=(SEARCH, SEARCH), results=(FOUND, FOUND))
    assert call_stretches(two) == [(26, 36)] * 2  # a format without tags: both share what was said
    assert call_stretches(Turn(text="", calls=(SEARCH,))) == []


def test_two_segments_may_end_together_and_none_lies_outside() -> None:
    t = trajectory(turns=(Turn(text="good words are all there are here."),), answer=None)
    spans = fine_grained(group(t), judge=RuleJudge(say_each))[0].spans
    assert len({(span.turn, span.stop) for span in spans}) == 1 and len(spans) == 3
