"""Wire formats: any text gives calls or a reason, what is written is read back, and nobody else's words count."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.errors import UserError
from journeyman.messages import ParsedTurn, ToolCall
from journeyman.rollout.formats import CALL_FORMATS, MAX_CALLS, MAX_DEPTH, CallFormat, detect, format_of
from journeyman.rollout.parse import parse_turn, render_call
from journeyman.tools.base import function_tool

SIX = ToolCall(name="calculator", arguments={"expression": "6*7"})
CITY = ToolCall(name="weather", arguments={"city": "Bonn", "days": 3, "at": [1.5, None, True]})
CALL = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "6*7"}}\n</tool_call>'
WRITTEN = {
    "hermes": (
        f'<think>hm</think>\n{CALL}\n<tool_call>\n{{"name": "weather", "arguments": '
        '{"city": "Bonn", "days": 3, "at": [1.5, null, true]}}\n</tool_call>'
    ),
    "llama": (
        '<think>hm</think>\n{"name": "calculator", "parameters": {"expression": "6*7"}}; '
        '{"name": "weather", "parameters": {"city": "Bonn", "days": 3, "at": [1.5, null, true]}}'
    ),
    "pythonic": (
        '<think>hm</think>\n[calculator(expression="6*7"), weather(city="Bonn", days=3, at=[1.5, None, True])]'
    ),
    "toolrl": (
        '<think>hm</think>\n<tool_call>\n{"name": "calculator", "parameters": {"expression": "6*7"}}\n'
        '{"name": "weather", "parameters": {"city": "Bonn", "days": 3, "at": [1.5, null, true]}}\n</tool_call>'
    ),
    "xml": (
        "<think>hm</think>\n<tool_call>\n<function=calculator>\n<parameter=expression>\n6*7\n</parameter>\n"
        "</function>\n</tool_call>\n<tool_call>\n<function=weather>\n<parameter=city>\nBonn\n</parameter>\n"
        "<parameter=days>\n3\n</parameter>\n<parameter=at>\n[1.5, null, true]\n</parameter>\n</function>\n</tool_call>"
    ),
}
"""The documented layout of two calls, written out."""


@pytest.fixture(params=list(CALL_FORMATS))
def wire(request: pytest.FixtureRequest) -> CallFormat:
    return CALL_FORMATS[request.param]


def test_two_calls_in_each_layout(wire: CallFormat) -> None:
    assert wire.render("hm", [SIX, CITY]) == WRITTEN[wire.name]
    assert wire.parse(WRITTEN[wire.name]).calls == (SIX, CITY)
    assert wire.name in CALL_FORMATS and CALL_FORMATS[wire.name] is wire


def test_the_default_is_what_it_was() -> None:
    assert render_call(SIX) == CALL
    assert parse_turn(f"Let me see. {CALL}") == ParsedTurn(calls=(SIX,), text="Let me see.")


@pytest.mark.parametrize(
    ("name", "text", "calls"),
    [
        ("llama", '<|python_tag|>{"name": "t", "parameters": {}}<|eom_id|>', [("t", {})]),
        ("llama", ' {"type": "function", "name": "t", "arguments": {"a": 1}}', [("t", {"a": 1})]),
        (
            "llama",
            '{"name": "t", "parameters": {"a": "; {"}};\n{"name": "u", "parameters": {}};',
            [("t", {"a": "; {"}), ("u", {})],
        ),
        ("pythonic", "<|python_start|>[t()]<|python_end|>", [("t", {})]),
        ("pythonic", "[math.sqrt(x=-2, y=+1)]", [("math.sqrt", {"x": -2, "y": 1})]),
        ("pythonic", "[t(a=true, b=null, c=(1, 2), d={'k': [\"it's\"]})]", None),
        ("pythonic", '[t(**{"class": 1}, b="a" "b")]', [("t", {"class": 1, "b": "ab"})]),
        ("toolrl", '<think></think><tool_call>{"name": "t", "parameters": {}}</tool_call>', [("t", {})]),
        ("xml", "<tool_call><function=t></function></tool_call>", [("t", {})]),
        (
            "xml",
            "<tool_call>\n<function=t>\n<parameter=code>\nif x:\n    y = 1\n\n</parameter>\n</function>\n</tool_call>",
            [("t", {"code": "if x:\n    y = 1\n"})],
        ),
    ],
)
def test_layouts_that_models_write(name: str, text: str, calls: list[tuple[str, dict[str, Any]]] | None) -> None:
    if calls is None:
        calls = [("t", {"a": True, "b": None, "c": [1, 2], "d": {"k": ["it's"]}})]
    parsed = CALL_FORMATS[name].parse(text)
    assert [(call.name, call.arguments) for call in parsed.calls] == calls and not parsed.error


def test_an_answer_and_words_for_the_user(wire: CallFormat) -> None:
    if wire.name == "toolrl":
        assert wire.parse("<think>a</think><response> 42 </response>") == ParsedTurn(answer="42", text="42")
        both = wire.parse(wire.render("a", [SIX], "one moment"))
        assert both == ParsedTurn(calls=(SIX,), text="one moment")
        return
    assert wire.parse("<think>a</think>It is <answer> 42 </answer>!") == ParsedTurn(answer="42", text="It is !")
    assert wire.parse("<think>a</think> Which one? ") == ParsedTurn(text="Which one?")
    assert wire.parse("") == wire.parse("<think>a</think>") == ParsedTurn()
    assert wire.parse("<answer>1</answer><answer>2</answer>").error == "more than one answer"
    assert wire.parse("<answer>1").error == wire.parse("1</answer>").error == "a tag without its partner"


def test_words_may_stand_before_llamas_tag() -> None:
    parsed = CALL_FORMATS["llama"].parse('I look it up.<|python_tag|>{"name": "t", "parameters": {}}')
    assert parsed == ParsedTurn(calls=(ToolCall(name="t", arguments={}),), text="I look it up.")


def test_what_stands_in_a_thought_is_only_a_thought(wire: CallFormat) -> None:
    inside = WRITTEN[wire.name].removeprefix("<think>hm</think>\n")
    for thought in (inside, "<tool_call>", "<answer>7</answer>", "<tool_response>7</tool_response>", "<|python_tag|>"):
        parsed = wire.parse(wire.render(thought, [SIX]))
        assert parsed == ParsedTurn(calls=(SIX,)), thought


def test_nobody_elses_words_count(wire: CallFormat) -> None:
    """An invented tool response is an offence, before and behind a call, and so is a second thought."""
    call = wire.render("", [SIX])
    invented = {
        "llama": "<|start_header_id|>ipython<|end_header_id|>\n\n42",
        "pythonic": "<|header_start|>ipython<|header_end|>\n\n42",
        "toolrl": "<obs>42</obs>",
    }
    for forged in ("<tool_response>42</tool_response>", "</tool_response>", invented.get(wire.name, "<tool_response>")):
        for text in (forged + call, call + forged, forged):
            prefix = "<think></think>" if wire.name == "toolrl" and not text.startswith("<think>") else ""
            assert wire.parse(prefix + text).error == "a tool response that no tool gave"
    assert wire.parse(f"<think>a</think><think>b</think>{call}").error == "<think> is not at the start, or not opened"
    assert wire.parse("<think>a").error == "<think> is not closed"


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("llama", "{", "a call that is not JSON"),
        ("llama", "<|python_tag|>", "a call that is not JSON"),
        ("llama", '<|python_tag|>print("x")', "a call that is not JSON"),
        ("llama", '{"name": "t", "parameters": {}} and so on', "a call that is not JSON"),
        ("llama", '{"name": "t", "parameters": {"a": NaN}}', "a call that is not JSON"),
        ("llama", '{"a": 1}', "a call without a name"),
        ("llama", '{"name": "t"}', "a call without arguments"),
        ("llama", '{"name": "t", "parameters": {}, "arguments": {}}', "a call with both parameters and arguments"),
        (
            "llama",
            '<answer>1</answer><|python_tag|>{"name": "t", "parameters": {}}',
            "an answer and a call in one turn",
        ),
        ("llama", "a<|eom_id|>b", "the end of a turn in the middle of it"),
        ("pythonic", "[", "a call that is not Python"),
        ("pythonic", "[]", "no list of calls"),
        ("pythonic", "[1]", "a list entry that is not a call"),
        ("pythonic", "[f(1)]", "an argument without a name"),
        ("pythonic", "[f(a=1, a=2)]", "an argument given twice, or ** without a dictionary"),
        ("pythonic", "[f(**[1])]", "an argument given twice, or ** without a dictionary"),
        ("pythonic", "[f(a=g())]", "an argument that is not a literal"),
        ("pythonic", "[f(a=__import__)]", "an argument that is not a literal"),
        ("pythonic", "[f(a=f'{x}')]", "an argument that is not a literal"),
        ("pythonic", "[f(a=b'x')]", "an argument that is not a literal"),
        ("pythonic", "[f(a=1j)]", "an argument that is not a literal"),
        ("pythonic", "[f(a=9**9)]", "an argument that is not a literal"),
        ("pythonic", "[f(a={1: 2})]", "a dictionary key that is not text"),
        ("pythonic", "[f(a=1e999)]", "a call that is not JSON"),
        ("pythonic", "[f(a='\\ud800')]", "a call that is not JSON"),
        ("pythonic", "[f()()]", "a call without a name"),
        ("pythonic", "[f()] and so on", "a call that is not Python"),
        ("pythonic", "[f(a='\x00')]", "a call that is not Python"),
        ("pythonic", "Calling <|python_start|>[f()]<|python_end|>", "calls and words in one turn"),
        ("toolrl", "<response>1</response>", "a turn without a thought"),
        ("toolrl", "<think></think>", "neither a call nor a response"),
        ("toolrl", "<think></think>hm", "words outside the sections"),
        ("toolrl", "<think></think><response>1</response> bye", "words outside the sections"),
        ("toolrl", "<think></think><tool_call>\n\n</tool_call>", "a call that is not JSON"),
        ("toolrl", '<think></think><tool_call>{"name":\n"t", "parameters": {}}</tool_call>', "a call that is not JSON"),
        ("toolrl", '<think></think><tool_call>{"name": "t", "arguments": {}}</tool_call>', "a call without arguments"),
        ("xml", "<tool_call></tool_call>", "a call without <function=...>"),
        ("xml", "<tool_call>{}</tool_call>", "a call without <function=...>"),
        ("xml", "<tool_call><function=t></tool_call>", "a call without <parameter=...>"),
        (
            "xml",
            "<tool_call><function=t><parameter=a>1</function></tool_call>",
            "a parameter given twice, or not closed",
        ),
        ("xml", "<tool_call><function=t></function> x</tool_call>", "words behind a function"),
        ("xml", "<tool_call><function=t></function>", "a tag without its partner"),
        ("xml", "<tool_call><function=t></function></tool_call><answer>1</answer>", "an answer and a call in one turn"),
    ],
)
def test_malformed_turns_say_why_and_ask_for_nothing(name: str, text: str, error: str) -> None:
    assert CALL_FORMATS[name].parse(text) == ParsedTurn(error=error)


@pytest.mark.parametrize("order", ["<response>1</response><tool_call>{}</tool_call>", "<tool_call>{}", "</response>"])
def test_toolrls_sections_come_once_and_in_order(order: str) -> None:
    parsed = CALL_FORMATS["toolrl"].parse(f"<think></think>{order}")
    assert parsed == ParsedTurn(error="a section twice, in the wrong order, or without its end")


def test_bounds_on_calls_and_depth(wire: CallFormat) -> None:
    assert len(wire.parse(wire.render("a", [SIX] * MAX_CALLS)).calls) == MAX_CALLS
    assert wire.parse(wire.render("a", [SIX] * (MAX_CALLS + 1))).error == f"more than {MAX_CALLS} calls in one turn"
    deepest: Any = 0
    for _ in range(MAX_DEPTH - 2):  # the call itself and its arguments are two levels
        deepest = [deepest]
    call = ToolCall(name="t", arguments={"a": deepest})
    assert wire.parse(wire.render("a", [call])).calls == (call,)
    deeper = wire.parse(wire.render("a", [ToolCall(name="t", arguments={"a": [deepest]})]))
    assert deeper.error == f"a call nested deeper than {MAX_DEPTH}"


N = 100_000
BOMBS = [
    *(
        tag * N
        for tag in ("<think>", "<tool_call>", "</tool_call>", "<answer>", "<tool_call></tool_call>", "<response>")
    ),
    *("<answer>" * N + "</answer>", "<tool_call>" + "[" * N, "<tool_call>" + "9" * N + "</tool_call>"),
    *("{" * N, "[" * N, '{"a":' * N, "{}" * N, "{};" * N, '{"name": "t", "parameters": ' * N, "<|python_tag|>" * N),
    *("[" + "f()," * N + "]", "[f(a=" + "-" * N + "1)]", "[f(a=" + "1+" * N + "1)]", "[f" + ".f" * N + "()]"),
    *("[f" + "()" * N + "]", "[f(a=" + "not " * N + "1)]", "[f(a=" + "9" * N + ")]", "[f(a='" + "\\" * N, " " * N),
    *("[f(a=" + "[" * 150 + "]" * 150 + ")]", "[f(a=" + "lambda:" * N, "[" + "f(a=" * N, "[f(" + "a=1," * N + ")]"),
    "<tool_call>" + "<function=t>" * N + "</tool_call>",
    "<tool_call><function=t>" + "<parameter=a>1</parameter>" * N + "</function></tool_call>",
    "<tool_call><function=t>" + " " * N + "</tool_call>",
    "<tool_call><function=t>" + "".join(f"<parameter={i}>1</parameter>" for i in range(N)) + "</function></tool_call>",
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: bomb[:24])
def test_bombs_are_malformed_turns(wire: CallFormat, bomb: str) -> None:
    """None crashes; a parser that is not linear would run into the time limit."""
    for text in (bomb, f"<think>a</think>{bomb}"):
        assert not wire.parse(text).calls


PIECES = [
    *("<think>", "</think>", "<tool_call>", "</tool_call>", "<answer>", "</answer>", "<tool_response>", "<response>"),
    *("</response>", "<obs>", '{"name": "t", "arguments": {}}', '{"name": "t", "parameters": {"a": 1}}', ";", "\n"),
    *("[t(a=1)]", "[", "]", "t(", ")", "a=", "{", "}", '"', "'", "null", "42", "-", "9" * 5000, "NaN", "1e999", "\\"),
    *("<function=t>", "</function>", "<parameter=a>", "</parameter>", "<|python_tag|>", "<|eom_id|>", "<|eot_id|>"),
    *("<|python_start|>", "<|python_end|>", "\\ud800", "\ud800", "é", "😀", "\x00", "<", "</", "<|im_end|>", "ﬁ"),
]
TURNS = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=14).map("".join) | st.text()


@settings(max_examples=100)
@given(st.sampled_from(list(CALL_FORMATS.values())), TURNS)
def test_any_text_parses_to_one_thing_that_can_be_stored(wire: CallFormat, text: str) -> None:
    for turn in (text, f"<think></think>{text}"):
        parsed = wire.parse(turn)
        assert sum([bool(parsed.calls), parsed.answer is not None, bool(parsed.error)]) <= 1
        for call in parsed.calls:
            json.dumps([call.name, dict(call.arguments)], ensure_ascii=False, allow_nan=False).encode()
        if parsed.error:
            assert parsed == ParsedTurn(error=parsed.error)
        assert not parsed.calls or len(parsed.calls) <= MAX_CALLS


TEXTS = st.lists(
    st.sampled_from([*PIECES[:20], "class", "x"]) | st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
    max_size=3,
).map("".join)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
NAMES = st.from_regex(r"[a-z][a-z_]{2,8}", fullmatch=True).map(lambda name: f"{name}_")
CALLS = st.builds(ToolCall, name=NAMES, arguments=st.dictionaries(NAMES | st.just("class"), JSON, max_size=3))


@settings(max_examples=100)
@given(st.sampled_from(list(CALL_FORMATS.values())), st.lists(CALLS, min_size=1, max_size=3), TEXTS)
def test_what_is_rendered_is_read_back(wire: CallFormat, calls: list[ToolCall], thought: str) -> None:
    """Whatever stands in the arguments, tags of the format too."""
    text = wire.render(thought.replace("</think>", ""), calls)
    assert wire.parse(text) == ParsedTurn(calls=tuple(calls))


@given(st.dictionaries(TEXTS, JSON, max_size=3), st.sampled_from(["hermes", "llama", "toolrl", "pythonic"]), TEXTS)
def test_argument_names_may_be_anything(arguments: dict[str, Any], name: str, tool: str) -> None:
    call = ToolCall(name="t" if name == "pythonic" else tool, arguments=arguments)
    assert CALL_FORMATS[name].parse(CALL_FORMATS[name].render("a", [call])).calls == (call,)


@given(st.sampled_from(list(CALL_FORMATS.values())), st.text(st.characters(exclude_characters="<>")))
def test_an_answer_is_read_back(wire: CallFormat, answer: str) -> None:
    parsed = wire.parse(wire.render("a", answer=answer))
    assert (parsed.answer, parsed.error, parsed.calls) == (answer.strip(), "", ())


def test_what_a_format_cannot_express_is_refused(wire: CallFormat) -> None:
    with pytest.raises(ValueError, match="its own end"):
        wire.render("a</think>b", [SIX])
    closing = "</response>" if wire.name == "toolrl" else "</answer>"
    with pytest.raises(ValueError, match="an answer with a tag"):
        wire.render("a", answer=f"4{closing}2")
    if wire.name != "toolrl":
        with pytest.raises(ValueError, match="either calls or answers"):
            wire.render("a", [SIX], "42")
    unspeakable = {"pythonic": "find city", "xml": "a>b"}
    if name := unspeakable.get(wire.name):
        with pytest.raises(ValueError, match="can't"):
            wire.render("a", [ToolCall(name=name, arguments={})])


def test_toolrls_own_gold_turns(shared_data: Path) -> None:
    """Every gold turn of its test set is a turn of its format, and says what its JSON says (#4)."""
    import pyarrow.parquet as pq

    rows = pq.read_table(shared_data / "toolrl_rlla_test" / "dataset" / "rlla_4k" / "test.parquet").to_pylist()
    wire, asked = CALL_FORMATS["toolrl"], 0
    for row in rows:
        text = row["reward_model"]["ground_truth"]
        parsed = wire.parse(text)
        assert not parsed.error, text
        lines = text.partition("<tool_call>")[2].partition("</tool_call>")[0].strip().splitlines()
        assert [{"name": call.name, "parameters": call.arguments} for call in parsed.calls] == list(
            map(json.loads, lines)
        )
        assert ("<response>" in text) == bool(parsed.text)
        asked += len(parsed.calls)
    assert len(rows) == 80 and asked > 60


def test_untyped_values_are_read_by_the_tools_schema() -> None:
    """A postcode is text however much it looks like a number; without a schema it can't be known."""

    def send(postcode: str, copies: int) -> str:
        """Send it."""
        return postcode * copies

    spec = function_tool(send).spec()
    text = (
        "<tool_call>\n<function=send>\n<parameter=postcode>\n01234\n</parameter>\n"
        "<parameter=copies>\n2\n</parameter>\n</function>\n</tool_call>"
    )
    (call,) = CALL_FORMATS["xml"].parse(text.replace("01234", "53111"), [spec]).calls
    assert call.arguments == {"postcode": "53111", "copies": 2}
    (call,) = CALL_FORMATS["xml"].parse(text.replace("01234", "53111")).calls
    assert call.arguments == {"postcode": 53111, "copies": 2}


def test_a_format_is_found_by_name_or_template() -> None:
    assert all(format_of(name) is wire for name, wire in CALL_FORMATS.items())
    assert format_of(None).name == "hermes"
    signs = {
        "{{ '<|im_start|>system\n# Tools in <tool_call></tool_call>' }}": "hermes",
        "{{ '<tool_call>\n<function=example>' }}": "xml",
        "{{ '<|header_start|>system Use exact format: [func_name1(param1=value1)]' }}": "pythonic",
        "{{ '<|start_header_id|>' }}{{ 'Environment: ipython' }}": "llama",
        "{% for m in messages %}{{ m.content }}{% endfor %}": "hermes",
    }
    for template, name in signs.items():
        assert format_of(template) is detect(template) is CALL_FORMATS[name]
    with pytest.raises(UserError, match="no call format is named 'hermez'"):
        format_of("hermez")
