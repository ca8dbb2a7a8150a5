"""What is learned of a written trajectory: kinds, turns that are left out, and tokens that weigh more."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from journeyman.config import KeyTokensConfig
from journeyman.errors import DataError
from journeyman.messages import Message
from journeyman.training.lessons import encode_lessons, turn_spans
from journeyman.training.token_weights import balanced, key_tokens
from journeyman.trajectory import ToolCall, Trajectory, Turn
from tests.unit.fakes import MAX_LENGTH, World

SEARCH = ToolCall(name="search_web", arguments={"query": "otters", "top": 3})
TEXT = '<tool_call>{"name": "search_web", "arguments": {"query": "otters", "top": 3}}</tool_call>'
CHARACTERS = [(i, i + 1) for i in range(len(TEXT))]


def letters(tools: Sequence[str], *, arguments: bool = False) -> str:
    """The text with everything but its key characters blotted out; tokens are characters."""
    turn = Turn(text="", calls=(SEARCH,))
    keys = key_tokens(turn, TEXT, CHARACTERS, tools=tools, arguments=arguments)
    return "".join(c for i, c in enumerate(TEXT) if i in keys)


def test_key_tokens_by_hand() -> None:
    assert letters(["search_web"]) == "s"
    # search_news parts after search_, sum after s: the first letter, the w and the e.
    assert letters(["search_web", "search_news", "sum", "calculator"]) == "sew"
    # search_web_pages goes on where this name ends: what follows it decides.
    assert letters(["search_web", "search_web_pages"]) == 's"'
    # Names and values of arguments begin with q, o, t and 3.
    assert letters(["search_web"], arguments=True) == "sqot3"


def test_names_are_looked_for_where_calls_are_written() -> None:
    def found(text: str, call: ToolCall) -> list[int]:
        edges = [(i, i + 1) for i in range(len(text))]
        return sorted(key_tokens(Turn(text="", calls=(call,)), text, edges, tools=[call.name], arguments=True))

    short = ToolCall(name="a", arguments={"a": 10})
    # Not the a of name, nor that of arguments.
    text = '{"name": "a", "arguments": {"a": 10}}'
    assert found(text, short) == [text.index('"a",') + 1, text.index('"a":') + 1, text.index("10")]
    text = '<think>"a" it is, a(a=10)</think>a(a=10)'
    begin = text.index("</think>") + len("</think>")
    assert found(text, short) == [begin, begin + 2, begin + 4]
    text = "<function=a>\n<parameter=a>\n10\n</parameter>"
    assert found(text, short) == [text.index("=a>") + 1, text.index("r=a>") + 2, text.index("10")]
    assert found("nothing is there", ToolCall(name="zzz", arguments={"x": 7})) == []


def test_a_key_token_is_the_token_that_wrote_the_character() -> None:
    turn, begin = Turn(text="", calls=(SEARCH,)), TEXT.index("search_web")
    edges = [(0, begin + 3), (begin + 3, begin + 7), (begin + 7, begin + 10), (begin + 10, len(TEXT))]
    assert key_tokens(turn, TEXT, edges, tools=["search_web"], arguments=False) == {0}
    assert key_tokens(turn, TEXT, edges, tools=["search_web", "search_news"], arguments=False) == {0, 2}
    assert key_tokens(turn, TEXT, edges, tools=["search_web"], arguments=True) == {0, 3}
    assert key_tokens(Turn(text=""), "no call", [(0, 7)], tools=["search_web"], arguments=True) == set()


def test_the_second_of_two_calls_is_found_behind_the_first() -> None:
    text = 'f{"a": 1} f{"a": 2}'
    turn = Turn(text="", calls=(ToolCall(name="f", arguments={"a": 1}), ToolCall(name="f", arguments={"a": 2})))
    keys = key_tokens(turn, text, [(i, i + 1) for i in range(len(text))], tools=["f"], arguments=True)
    assert sorted(keys) == [0, 3, 7, 10, 13, 17]


def test_balanced_weights_by_hand() -> None:
    config = KeyTokensConfig(max_weight=9)
    # 12 learned tokens, 2 of them keys: 10 / 2 = 5 each; sum 10 + 10 = 20, scaled by 12 / 20.
    keys = [False, True, True] + [False] * 10
    found = balanced(keys, [0] + [1] * 12, config)
    assert found[1:] == pytest.approx([3.0, 3.0] + [0.6] * 10)
    # 30 learned, 1 key: 29, but at most 9; sum 38, scaled by 30 / 38.
    found = balanced([False, True] + [False] * 29, [0] + [1] * 30, config)
    assert found[1:] == pytest.approx([9 * 30 / 38] + [30 / 38] * 29)
    # More keys than others, and no keys at all: nothing is raised.
    assert balanced([False, True, True, False], [0, 1, 1, 1], config)[1:] == (1.0, 1.0, 1.0)
    assert balanced([False] * 3, [0, 1, 1], config) == (1.0, 1.0, 1.0)
    # A key that is not learned is none.
    assert balanced([False, True, False, False], [0, 0, 1, 1], config)[2:] == (1.0, 1.0)


def calling(world: World) -> Trajectory:
    return next(t for t in world.demonstrations if len(t.turns) > 1 and t.turns[0].calls)


def test_the_tokens_of_a_real_call_weigh_more_and_the_mean_stays_one(world: World) -> None:
    one = calling(world)
    lessons = encode_lessons([one], world.model, MAX_LENGTH, weighing=KeyTokensConfig())
    [row], [plain] = lessons.rows, encode_lessons([one], world.model, MAX_LENGTH).rows
    assert replace(row, weights=()) == plain and plain.weights == ()
    learned = [w for w, m in zip(row.weights, row.mask, strict=True) if m]
    assert sum(learned) / len(learned) == pytest.approx(1)
    raised = max(row.weights)
    ids = [i for i, w in zip(row.token_ids, row.weights, strict=True) if w == raised]
    shown = [world.chat.tokenizer.decode([i]) for i in ids]
    # This tokenizer has one token for all that comes before the expression, the tool's name included.
    [call] = one.turns[0].calls
    boilerplate, first = shown
    assert raised > 1 and call.name in boilerplate and call.arguments["expression"].startswith(first)
    assert sum(w == raised for w, m in zip(row.weights, row.mask, strict=True) if not m) == 0


def test_turns_that_are_not_learned_from_stay_in_the_context(world: World) -> None:
    one = calling(world)
    [whole] = encode_lessons([one], world.model, MAX_LENGTH).rows
    wrong = replace(one, provenance={"unlearned_turns": [0]})
    [row] = encode_lessons([wrong], world.model, MAX_LENGTH).rows
    assert row.token_ids == whole.token_ids
    (_, first), *others = turn_spans([whole.mask])
    assert sum(row.mask[first]) == 0 < sum(whole.mask[first])
    assert all(row.mask[span] == whole.mask[span] and all(row.mask[span]) for _, span in others)
    every = replace(one, provenance={"unlearned_turns": list(range(len(one.turns)))})
    with pytest.raises(DataError, match="no trajectory is left"):
        encode_lessons([every], world.model, MAX_LENGTH)


def test_turns_are_counted_through_contexts(world: World) -> None:
    one = calling(world)
    begun_anew = replace(one.turns[0], restart=(Message(role="user", content="Go on."),), results=())
    one = replace(one, turns=(begun_anew, *one.turns[1:]), provenance={"unlearned_turns": [1]})
    rows = encode_lessons([one], world.model, MAX_LENGTH, weighing=KeyTokensConfig()).rows
    spans = turn_spans([row.mask for row in rows])
    assert len(spans) == len(one.turns) - 1 and spans[0][0] == 0


def test_kinds_are_those_of_the_trajectories(world: World) -> None:
    first, second = world.demonstrations[:2]
    found = encode_lessons(
        [first, replace(second, provenance={**second.provenance, "kind": "reflection"})], world.model, MAX_LENGTH
    )
    assert found.kinds == ["trajectory", "reflection"]
