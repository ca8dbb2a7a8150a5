"""The tokenizer trained on the spot: single digits, one form of each word, boilerplate in one piece, loss-free."""

from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from journeyman.environments import tools_named
from journeyman.rollout.chat import SYSTEM
from journeyman.training.tokenizer import MIN_FREQUENCY, train_tokenizer
from tests.unit.fakes import MAX_LENGTH, World, write_model

TOOLS = list(tools_named("arithmetic", ("calculator", "search", "sql")).values())
SPECS = [tool.spec() for tool in TOOLS]
TEXTS = ["the harbour of Babel"] * MIN_FREQUENCY + ["the castle"] * (MIN_FREQUENCY - 1)
TOKENIZER: Any = train_tokenizer(TEXTS, SPECS, ["What is "], vocabulary=400, max_length=128)


def pieces(text: str) -> list[str]:
    return [TOKENIZER.decode([i]) for i in TOKENIZER.encode(text, add_special_tokens=False)]


@given(st.text(st.characters(exclude_categories=["Cs"])) | st.text(st.sampled_from(" \n\t0a<|>_é\u00a0")))
def test_nothing_is_lost(text: str) -> None:
    ids = TOKENIZER.encode(text, add_special_tokens=False, split_special_tokens=True)
    assert TOKENIZER.decode(ids, clean_up_tokenization_spaces=False) == text


def test_words_of_the_demonstrations_are_tokens_and_rare_ones_stay_in_pieces() -> None:
    assert pieces("the harbour of Babel") == ["the", " ", "harbour", " ", "of", " ", "Babel"]
    assert "castle" not in pieces("the castle") and "".join(pieces("the castle")) == "the castle"
    assert pieces("What is the harbour?") == ["What is ", "the", " ", "harbour", "?"]


def test_digits_and_spaces_stand_alone() -> None:
    numbers = train_tokenizer(["1234 1234 a 12"] * 99, SPECS, vocabulary=400, max_length=128)
    assert [numbers.decode([i]) for i in numbers.encode("1234 a12")] == ["1", "2", "3", "4", " ", "a", "1", "2"]
    added = set(numbers.get_added_vocab())
    for token in set(numbers.get_vocab()) - added:
        assert len(token) == 1 or not any(c.isdigit() or c in "ĠĊ" for c in token)


def test_the_boilerplate_of_a_turn_is_in_one_piece() -> None:
    turn = '<think>add</think>\n<tool_call>\n{"name": "calculator", "arguments": {"expression": "6+7"}}\n</tool_call><|im_end|>'
    head = '</think>\n<tool_call>\n{"name": "calculator", "arguments": {"expression": "'
    assert pieces(turn) == ["<think>", "a", "d", "d", head, "6", "+", "7", '"}}\n</tool_call>', "<|im_end|>"]
    assert pieces("<think>x</think>\n<answer>13</answer>") == [
        "<think>",
        "x",
        "</think>\n<answer>",
        "1",
        "3",
        "</answer>",
    ]
    assert pieces("<think>x</think><answer>") == ["<think>", "x", "</think>", "<answer>"]


def test_the_system_prompt_with_its_tools_is_one_token() -> None:
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "?"}]
    text = TOKENIZER.apply_chat_template(messages, tools=SPECS, tokenize=False, add_generation_prompt=True)
    assert len(TOKENIZER.encode(text, add_special_tokens=False)) == 3  # up to the question, the question, all after it
    fewer = TOKENIZER.apply_chat_template(messages, tools=SPECS[:1], tokenize=False, add_generation_prompt=True)
    assert len(TOKENIZER.encode(fewer, add_special_tokens=False)) > 50  # other tools: spelled out, but no error


def test_the_chat_template_renders_calls_as_they_are_written() -> None:
    call = {"type": "function", "function": {"name": "calculator", "arguments": {"expression": "6*7"}}}
    messages = [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": "<think>x</think>", "tool_calls": [call, call]},
        *({"role": "tool", "content": "42"} for _ in range(2)),
        {"role": "assistant", "content": "<answer>42</answer>"},
    ]
    written = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "6*7"}}\n</tool_call>'
    shown = "\n<tool_response>\n42\n</tool_response>"
    assert TOKENIZER.apply_chat_template(messages, tokenize=False) == (
        "<|im_start|>user\n?<|im_end|>\n"
        f"<|im_start|>assistant\n<think>x</think>\n{written}\n{written}<|im_end|>\n"
        f"<|im_start|>user{shown}{shown}<|im_end|>\n"
        "<|im_start|>assistant\n<answer>42</answer><|im_end|>\n"
    )


def test_the_model_folder_opens_with_the_auto_classes(world: World) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(world.model)
    model: Any = AutoModelForCausalLM.from_pretrained(world.model)
    ours: Any = world.chat.tokenizer
    texts = [turn.text for t in world.demonstrations for turn in t.turns] + ["1234 <|im_end|> é"]
    assert [tokenizer.encode(text) for text in texts] == [ours.encode(text) for text in texts]
    assert tokenizer.chat_template == ours.chat_template
    assert tokenizer.get_added_vocab() == ours.get_added_vocab()
    assert set(tokenizer.all_special_ids) == set(ours.all_special_ids)
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert tokenizer.model_max_length == MAX_LENGTH
    config = model.config
    assert (config.model_type, config.eos_token_id) == ("qwen3", tokenizer.eos_token_id)
    assert config.pad_token_id == tokenizer.pad_token_id
    assert config.vocab_size == len(tokenizer) == model.get_input_embeddings().weight.shape[0]
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_the_same_demonstrations_and_seed_give_the_same_files(world: World, tmp_path: Path) -> None:
    write_model(tmp_path / "again", world.demonstrations)
    for name in ("tokenizer.json", "model.safetensors", "config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (world.model / name).read_bytes(), name
