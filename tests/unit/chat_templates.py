"""Chat templates with the wire layout that published model families document, in own words, and tokenizers for them.

What counts is which control tokens stand where, in which role a tool answers, what is trimmed, escaped or dropped; the
sentences of the published ones don't.
"""

from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AddedToken, PreTrainedTokenizerFast

QWEN3 = """\
{%- if tools %}
    {{- '<|im_start|>system\\n' + (messages[0].content + '\\n\\n' if messages[0].role == 'system' else '') }}
    {{- '# Tools\\n<tools>' }}
    {%- for tool in tools %}{{- '\\n' + tool | tojson }}{%- endfor %}
    {{- '\\n</tools>\\nAnswer with <tool_call>\\n{"name": ..., "arguments": ...}\\n</tool_call><|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set seen = namespace(asked=-1) %}
{%- for message in messages if message.role == 'user' %}
    {%- set seen.asked = messages.index(message) %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- elif message.role == 'assistant' %}
        {%- set thought, words = '', message.content %}
        {%- if '</think>' in words %}
            {%- set thought = words.split('</think>')[0].split('<think>')[-1].strip('\\n') %}
            {%- set words = words.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if loop.index0 > seen.asked and (loop.last or thought) %}
            {{- '<think>\\n' + thought + '\\n</think>\\n\\n' }}
        {%- endif %}
        {{- words }}
        {%- for call in message.tool_calls or [] %}
            {{- '\\n<tool_call>\\n' + call.function | tojson + '\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {%- if loop.previtem is not defined or loop.previtem.role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
        {%- if loop.last or loop.nextitem.role != 'tool' %}{{- '<|im_end|>\\n' }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and not enable_thinking %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}
"""
"""Qwen3: thoughts vanish from before the last question, results of one turn share a message of the user."""

QWEN3_THINKING = QWEN3.replace("if add_generation_prompt %}\n    {{- '", "if add_generation_prompt %}{{- '").replace(
    "add_generation_prompt %}{{- '<|im_start|>assistant\\n",
    "add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>\\n",
)
"""The thinking-only Qwen3: the template itself opens the thought."""

LLAMA3 = """\
{%- for message in messages %}
    {%- if loop.first %}{{- bos_token }}{%- endif %}
    {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + message.content | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}
"""
"""Llama 3.0: any role as it is, and not a word about tools."""

LLAMA32 = """\
{{- bos_token }}
{%- if date_string is not defined %}{%- set date_string = strftime_now('%d %b %Y') %}{%- endif %}
{%- set head = '' %}
{%- if messages[0].role == 'system' %}
    {%- set head, messages = messages[0].content | trim, messages[1:] %}
{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' }}
{%- if tools %}{{- 'Environment: ipython\\n' }}{%- endif %}
{{- 'Today Date: ' + date_string + '\\n\\n' + head + '<|eot_id|>' }}
{%- if tools %}
    {%- if not messages %}{{- raise_exception('no user message to put the tools in') }}{%- endif %}
    {{- '<|start_header_id|>user<|end_header_id|>\\n\\nWrite {"name": ..., "parameters": ...}.\\n\\n' }}
    {%- for tool in tools %}{{- tool | tojson(indent=4) + '\\n\\n' }}{%- endfor %}
    {{- messages[0].content | trim + '<|eot_id|>' }}
    {%- set messages = messages[1:] %}
{%- endif %}
{%- for message in messages %}
    {%- if 'tool_calls' in message %}
        {%- if message.tool_calls | length != 1 %}{{- raise_exception('one call at a time') }}{%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n{"name": "' + call.name + '", "parameters": ' }}
        {{- call.arguments | tojson + '}<|eot_id|>' }}
    {%- elif message.role in ('tool', 'ipython') %}
        {{- '<|start_header_id|>ipython<|end_header_id|>\\n\\n' + message.content | tojson + '<|eot_id|>' }}
    {%- else %}
        {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + message.content | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}
"""
"""Llama 3.1 to 3.3: today's date, tools in the first message of the user, results from `ipython` in JSON's quotes."""

HERMES = """\
{{- bos_token }}
{%- if tools %}
    {{- '<|im_start|>system\\nThe tools: <tools>' }}
    {%- for tool in tools %}{{- ' ' + tool | tojson }}{%- endfor %}
    {{- ' </tools> Call as <tool_call>\\n{"name": ..., "arguments": ...}\\n</tool_call><|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'tool' %}
        {%- if message.name is not defined %}{{- raise_exception('which tool answers?') }}{%- endif %}
        {%- if loop.first or loop.previtem.role != 'tool' %}{{- '<|im_start|>tool' }}{%- endif %}
        {{- '\\n<tool_response>\\n{"name": "' + message.name + '", "content": ' + message.content | tojson + '}' }}
        {{- '\\n</tool_response>' }}
        {%- if loop.last or loop.nextitem.role != 'tool' %}{{- '<|im_end|>\\n' }}{%- endif %}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content }}
        {%- for call in message.tool_calls or [] %}
            {{- '\\n<tool_call>\\n' + call.function | tojson + '\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""
"""Hermes 2 Pro and 3: a system message of its own for the tools, results from `tool` as JSON with the tool's name."""

QWEN_VL = """\
{%- macro show(content) %}
    {%- if content is string %}{{- content }}
    {%- else %}
        {%- for part in content %}
            {{- '<|vision_start|><|image_pad|><|vision_end|>' if part.type == 'image' else part.text }}
        {%- endfor %}
    {%- endif %}
{%- endmacro %}
{%- if tools %}
    {{- '<|im_start|>system\\n' + messages[0].content + '\\n<tools>' }}
    {%- for tool in tools %}{{- '\\n' + tool | tojson }}{%- endfor %}
    {{- '\\n</tools><tool_call></tool_call><|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages if message.role != 'system' %}
    {%- if message.role == 'tool' %}
        {%- if loop.previtem.role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\\n<tool_response>\\n' + show(message.content) + '\\n</tool_response>' }}
        {%- if loop.last or loop.nextitem.role != 'tool' %}{{- '<|im_end|>\\n' }}{%- endif %}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + show(message.content) + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""
"""Qwen3-VL: an image stands as a placeholder between two control tokens, in results too."""

CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
VISION = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
HEADERS = (
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|python_tag|>",
)
TAGS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")


def family_tokenizer(
    template: str, special: Sequence[str], end: str, *, plain: Sequence[str] = (), bos: str | None = None
) -> PreTrainedTokenizerFast:
    """A token for each byte, the family's control tokens, and its tags that are single tokens but not control."""
    alphabet = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=end, bos_token=bos)
    fast.add_special_tokens({"additional_special_tokens": list(special)})
    fast.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in plain])
    fast.chat_template = template
    return fast


def qwen3(template: str = QWEN3) -> PreTrainedTokenizerFast:
    return family_tokenizer(template, CHATML, "<|im_end|>", plain=TAGS)


def llama(template: str) -> PreTrainedTokenizerFast:
    return family_tokenizer(template, HEADERS, "<|eot_id|>", bos="<|begin_of_text|>")


def hermes(template: str = HERMES) -> PreTrainedTokenizerFast:
    special = ("<|begin_of_text|>", *CHATML)
    return family_tokenizer(template, special, "<|im_end|>", plain=TAGS, bos="<|begin_of_text|>")


def qwen_vl(template: str = QWEN_VL) -> PreTrainedTokenizerFast:
    return family_tokenizer(template, (*CHATML, *VISION), "<|im_end|>", plain=TAGS)
