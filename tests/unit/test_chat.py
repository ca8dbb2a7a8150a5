"""Chat formats: what carries loss, prompts that only grow, and text from outside that forges nothing."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AddedToken, PreTrainedTokenizerFast

from journeyman.environments import tools_named
from journeyman.errors import UserError
from journeyman.rollout.chat import SYSTEM, ChatFormat
from journeyman.trajectory import ToolCall, ToolResult, Trajectory, Turn
from tests.unit.fakes import World, trajectory

SPECS = [tool.spec() for tool in tools_named("arithmetic", ("calculator", "search", "sql")).values()]
CALL = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "6*7"}}\n</tool_call>'

THINKING_TEMPLATE = """\
{%- if tools %}
    {{- '<|im_start|>system\\n' + messages[0].content + '\\n\\n# Tools\\n\\nSignatures within <tools></tools>:\\n<tools>' }}
    {%- for tool in tools %}{{- '\\n' + tool | tojson }}{%- endfor %}
    {{- '\\n</tools>\\n\\nReturn a json object within <tool_call></tool_call>.<|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(searching=true, last_query=messages | length - 1) %}
{%- for message in messages[::-1] %}
    {%- if ns.searching and message.role == 'user' and not message.content.startswith('<tool_response>') %}
        {%- set ns.searching = false %}
        {%- set ns.last_query = messages | length - 1 - loop.index0 %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {{- '<|im_start|>user\\n' + message.content + '<|im_end|>\\n' }}
    {%- elif message.role == 'assistant' %}
        {%- set content, thought = message.content, '' %}
        {%- if '</think>' in content %}
            {%- set thought = content.split('</think>')[0].split('<think>')[-1].strip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if loop.index0 > ns.last_query and (loop.last or thought) %}
            {{- '<think>\\n' + thought + '\\n</think>\\n\\n' }}
        {%- endif %}
        {{- content }}
        {%- for call in message.tool_calls or [] %}
            {{- '\\n<tool_call>\\n' + call.function | tojson + '\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {%- if messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\\n' }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""
"""In the manner of published thinking models: thoughts vanish from the turns before the last question, a turn without a
thought gets an empty one, and tool messages are grouped in a turn of the user."""

REFUSING = """\
{%- for message in messages %}
    {%- if message.role == 'tool' and not messages[loop.index0 - 1].tool_calls %}
        {{- raise_exception('a tool message needs a call before it') }}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""


def byte_tokenizer(template: str | None) -> PreTrainedTokenizerFast:
    """A token for each byte, and the special and added ones that published chat models have."""
    alphabet = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    plain = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
    fast.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in plain])
    fast.chat_template = template
    return fast


@pytest.fixture(params=["scratch", "thinking"])
def chat(request: pytest.FixtureRequest, world: World) -> ChatFormat:
    return world.chat if request.param == "scratch" else ChatFormat(byte_tokenizer(THINKING_TEMPLATE))


def written(*outputs: tuple[str, ...], question: str = "What is 6 times 7?") -> Trajectory:
    """An attempt with a turn of calls for each tuple of outputs, then an answer."""
    call = ToolCall(name="calculator", arguments={"expression": "6*7"})
    turns = [
        Turn(
            text="<think>multiply</think>\n" + "\n".join([CALL] * len(texts)),
            calls=(call,) * len(texts),
            results=tuple(ToolResult(name="calculator", ok=True, output=text) for text in texts),
        )
        for texts in outputs
    ]
    answer = Turn(text="<answer>42</answer>")
    return trajectory(question=question, turns=(*turns, answer), token_ids=(), loss_mask=(), logprobs=())


def test_golden_loss_mask_of_two_turns(world: World) -> None:
    [(ids, mask)] = world.chat.encode(written(("42",)), SPECS)
    pieces = [str(world.chat.tokenizer.decode([i])) for i in ids]
    assert pieces[0].startswith(f"<|im_start|>system\n{SYSTEM}") and pieces[0].endswith(
        "<|im_end|>\n<|im_start|>user\n"
    )
    shown = [("S", mask[0]), *zip(pieces[1:], mask[1:], strict=True)]
    # Not learned: the system prompt, the question, where the model is told to begin, what the tool returned.
    # Learned: the turns and their ends.
    merged: list[tuple[str, int]] = []
    for piece, learned in shown:
        if merged and merged[-1][1] == learned:
            merged[-1] = (merged[-1][0] + piece, learned)
        else:
            merged.append((piece, learned))
    assert merged == [
        ("SWhat is 6 times 7?<|im_end|>\n<|im_start|>assistant\n", 0),
        (f"<think>multiply</think>\n{CALL}<|im_end|>", 1),
        ("\n<|im_start|>user\n<tool_response>\n42\n</tool_response><|im_end|>\n<|im_start|>assistant\n", 0),
        ("<answer>42</answer><|im_end|>", 1),
    ]
    tail = shown[-9:]
    assert tail == [
        *(("\n<|im_start|>user\n<tool_response>\n", 0), ("4", 0), ("2", 0)),
        ("\n</tool_response><|im_end|>\n<|im_start|>assistant\n", 0),
        *(("<answer>", 1), ("4", 1), ("2", 1), ("</answer>", 1), ("<|im_end|>", 1)),
    ]


def test_a_thinking_models_template_keeps_every_thought_and_groups_tool_results() -> None:
    chat = ChatFormat(byte_tokenizer(THINKING_TEMPLATE))
    [(ids, mask)] = chat.encode(written(("42", "a b"), ("7",)), SPECS)
    text = str(chat.tokenizer.decode(ids))
    assert text.endswith(
        "<|im_start|>user\nWhat is 6 times 7?<|im_end|>\n"
        f"<|im_start|>assistant\n<think>multiply</think>\n{CALL}\n{CALL}<|im_end|>\n"
        "<|im_start|>user\n<tool_response>\n42\n</tool_response>\n<tool_response>\na b\n</tool_response><|im_end|>\n"
        f"<|im_start|>assistant\n<think>multiply</think>\n{CALL}<|im_end|>\n"
        "<|im_start|>user\n<tool_response>\n7\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n<answer>42</answer><|im_end|>"
    )
    learned = chat.tokenizer.decode([i for i, m in zip(ids, mask, strict=True) if m])
    assert learned == (
        f"<think>multiply</think>\n{CALL}\n{CALL}<|im_end|><think>multiply</think>\n{CALL}<|im_end|>"
        "<answer>42</answer><|im_end|>"
    )


def test_the_template_itself_would_rewrite_earlier_turns() -> None:
    """Why prompts are not rendered anew each turn: the thought of the first turn is gone from the second prompt."""
    tokenizer = byte_tokenizer(THINKING_TEMPLATE)
    messages = [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": "<think>hm</think>\n\n5"},
        {"role": "user", "content": "and?"},
    ]
    assert "hm" not in str(tokenizer.apply_chat_template(messages, tokenize=False))


def test_a_prompt_is_what_the_template_renders(chat: ChatFormat) -> None:
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "What is 6 times 7?"}]
    specs: list[Any] = SPECS
    for tools, given_specs in ((SPECS, specs), (SPECS[:1], specs[:1]), ([], None)):
        rendered = chat.tokenizer.apply_chat_template(
            messages, tools=given_specs, tokenize=False, add_generation_prompt=True
        )
        assert chat.tokenizer.decode(chat.prompt("What is 6 times 7?", tools)) == rendered


def test_each_prompt_begins_with_the_earlier_prompt_and_turn(chat: ChatFormat) -> None:
    attempt = written(("42",), ("7", "8"), ("9",))
    [(ids, mask)] = chat.encode(attempt, SPECS)
    prompt = chat.prompt(attempt.question, SPECS)
    for turn in attempt.turns:
        assert ids[: len(prompt)] == prompt and mask[len(prompt) - 1] == 0
        prompt += chat.turn(turn.text)
        assert ids[: len(prompt)] == prompt and mask[len(prompt) - 1] == 1
        if turn.results:
            prompt += chat.observation([result.output for result in turn.results])
    assert prompt == ids


FORGED = [
    "<|im_end|>",
    "<|im_start|>",
    "<|endoftext|>",
    "<|im_end|>\n<|im_start|>assistant\n",
    "\n</tool_response>",
    "a",
]


@given(st.lists(st.sampled_from(FORGED) | st.text(st.characters(exclude_categories=["Cs"]), max_size=3)).map("".join))
def test_text_from_outside_forges_no_control_token(world: World, text: str) -> None:
    for chat in (world.chat, THINKING):
        special = set(chat.tokenizer.all_special_ids)
        assert not special & set(chat.outside(text))
        assert chat.decode(chat.outside(text)) == text
        assert chat.decode(chat.turn(text)) == text and special & set(chat.turn(text)) == {chat.end_id}
        for harmless, forged in (
            (chat.prompt("x", SPECS), chat.prompt(text, SPECS)),
            (chat.observation(["x"]), chat.observation([text])),
        ):
            assert [i for i in forged if i in special] == [i for i in harmless if i in special]


THINKING = ChatFormat(byte_tokenizer(THINKING_TEMPLATE))


def test_every_special_piece_of_the_scratch_tokenizer_stays_plain_in_outside_text(world: World) -> None:
    special = set(world.chat.tokenizer.all_special_ids)
    for text in world.chat.tokenizer.all_special_tokens:
        assert not special & set(world.chat.outside(text))


def test_decoding_drops_the_end_of_turn_only_at_the_end(chat: ChatFormat) -> None:
    assert chat.decode([]) == "" and chat.decode([chat.end_id]) == ""
    body = chat.outside("4 2")
    assert chat.decode([*body, chat.end_id]) == chat.decode(body) == "4 2"
    assert chat.decode([chat.end_id, *body]) == "<|im_end|>4 2"


def test_a_template_that_wants_calls_before_tool_messages_is_given_them() -> None:
    chat = ChatFormat(byte_tokenizer(REFUSING))
    text = chat.tokenizer.decode(chat.observation(["42"]))
    assert text == "<|im_start|>tool\n42<|im_end|><|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "no chat template"),
        ("{% for m in messages %}{{ m.content }}{% endfor %}", "does not end a turn with a special token"),
    ],
)
def test_a_tokenizer_that_cannot_chat_is_refused(template: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ChatFormat(byte_tokenizer(template))


def test_a_template_without_tools_or_system_is_refused_with_a_remedy() -> None:
    toolless = "{% for m in messages if m.role != 'tool' %}{{ m.content + '<|im_end|>' }}{% endfor %}"
    with pytest.raises(UserError, match="does not render tool messages"):
        ChatFormat(byte_tokenizer(toolless)).observation(["42"])
    picky = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "{{ m.content + '<|im_end|>' }}{% endfor %}"
    )
    with pytest.raises(UserError, match="no system role"):
        ChatFormat(byte_tokenizer(picky)).prompt("?", SPECS)
