"""A byte-level BPE tokenizer trained on the spot: single digits, the space a token of its own, boilerplate in one piece."""

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from journeyman.rollout.chat import SYSTEM

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
TAGS = (
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<answer>",
    "</answer>",
)
MIN_FREQUENCY = 20
"""A pair must occur this often to become one token: names stay in pieces, so that unseen ones can be copied."""

CHAT_TEMPLATE = """\
{%- if tools %}
{{- '<|im_start|>system\\n' }}
{%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
{{- '# Tools\\n<tools>' }}
{%- for tool in tools %}{{- '\\n' + tool | tojson }}{%- endfor %}
{{- '\\n</tools><|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
{%- if message.role == 'user' %}
{{- '<|im_start|>user\\n' + message.content + '<|im_end|>\\n' }}
{%- elif message.role == 'assistant' %}
{{- '<|im_start|>assistant\\n' + (message.content or '') }}
{%- for call in message.tool_calls or [] %}
{%- if message.content or not loop.first %}{{- '\\n' }}{%- endif %}
{{- '<tool_call>\\n' + ((call.function or call) | tojson) + '\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- elif message.role == 'tool' %}
{%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}
{{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\\n' }}{%- endif %}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""


def train_tokenizer(
    texts: Iterable[str],
    specs: Sequence[dict[str, Any]],
    phrases: Iterable[str] = (),
    *,
    vocabulary: int,
    max_length: int,
) -> "PreTrainedTokenizerFast":
    """Train on the texts of demonstrations; `specs` are the tools, whose boilerplate becomes single tokens.

    Args:
        texts: what is to be encoded well: questions, turns, observations.
        specs: tool specs as chat templates take them.
        phrases: text that is repeated verbatim, each to be one token.
        vocabulary: most tokens, boilerplate not counted.
        max_length: longest sequence of the model, in tokens.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AddedToken, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d|\s|[^\w\s]+|_"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=MIN_FREQUENCY,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, additional_special_tokens=[START, END]
    )
    plain = [AddedToken(text, special=False, normalized=False) for text in (*TAGS, *boilerplate(specs), *phrases)]
    fast.add_tokens(plain)
    control = [AddedToken(text, special=True, normalized=False) for text in template_pieces(specs)]
    fast.add_special_tokens({"additional_special_tokens": [START, END, *control]})  # type: ignore[dict-item]
    fast.chat_template = CHAT_TEMPLATE
    fast.model_max_length = max_length
    return fast


def boilerplate(specs: Sequence[dict[str, Any]]) -> list[str]:
    """What a model writes over and over: the head and tail of a call to each tool, the tags in their usual order."""
    heads = []
    for spec in specs:
        function = spec["function"]
        first = next(iter(function["parameters"]["properties"]), None)
        if first is not None:
            body = json.dumps({"name": function["name"], "arguments": {first: ""}}, ensure_ascii=False)
            heads.append("</think>\n<tool_call>\n" + body.removesuffix('"}}'))
    return [*heads, '"}}\n</tool_call>', "</think>\n<answer>"]


def template_pieces(specs: Sequence[dict[str, Any]]) -> list[str]:
    """What the template puts around questions and observations; special, so that text from outside can't forge it."""
    listed = "".join("\n" + json.dumps(spec, ensure_ascii=False) for spec in specs)
    return [
        f"{START}system\n{SYSTEM}\n\n# Tools\n<tools>{listed}\n</tools>{END}\n{START}user\n",
        f"{END}\n{START}assistant\n",
        f"\n{START}user\n<tool_response>\n",
        f"\n</tool_response>{END}\n{START}assistant\n",
    ]
