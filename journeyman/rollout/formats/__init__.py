"""How models write calls: one parser a family behind one interface."""

from journeyman.errors import UserError
from journeyman.rollout.formats.base import MAX_CALLS, MAX_DEPTH, CallFormat
from journeyman.rollout.formats.hermes import Hermes
from journeyman.rollout.formats.llama import Llama
from journeyman.rollout.formats.pythonic import Pythonic
from journeyman.rollout.formats.toolrl import ToolRL
from journeyman.rollout.formats.xml import Xml

CALL_FORMATS: dict[str, CallFormat] = {
    "hermes": Hermes(),
    "llama": Llama(),
    "pythonic": Pythonic(),
    "toolrl": ToolRL(),
    "xml": Xml(),
}
"""By the name that a config gives."""

_SIGNS = (
    ("xml", "<function="),
    ("hermes", "<tool_call>"),
    ("pythonic", "func_name1("),
    ("pythonic", "<|python_start|>"),
    ("llama", "<|python_tag|>"),
    ("llama", '"parameters"'),
    ("llama", "<|start_header_id|>"),
)
"""What in a chat template tells a family, the surest first."""


def detect(template: str) -> CallFormat:
    """The format that a chat template teaches; `hermes` where it says nothing about calls."""
    return CALL_FORMATS[next((name for name, sign in _SIGNS if sign in template), "hermes")]


def format_of(template_or_name: str | None) -> CallFormat:
    """A format by its name, or by a model's chat template. Raises `UserError`."""
    if template_or_name is None:
        return CALL_FORMATS["hermes"]
    if template_or_name in CALL_FORMATS:
        return CALL_FORMATS[template_or_name]
    if "{{" in template_or_name or "{%" in template_or_name:
        return detect(template_or_name)
    raise UserError(f"no call format is named {template_or_name!r}", remedy=f"take one of {', '.join(CALL_FORMATS)}")


__all__ = ["CALL_FORMATS", "MAX_CALLS", "MAX_DEPTH", "CallFormat", "detect", "format_of"]
