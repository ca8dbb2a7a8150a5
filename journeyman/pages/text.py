"""Text from a model as Markdown: untrusted, it stays inside of its code block."""

import re

MOST_CHARACTERS = 1500
"""Of one text that is shown."""


def code(text: str) -> str:
    """Inline code that holds any text."""
    return "`" + " ".join(text.replace("`", "'").split()) + "`"


def fenced(text: str) -> str:
    """A code block whose fence is longer than any run of backticks inside."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def printable(text: str) -> str:
    """Control characters and lone surrogates become a replacement mark."""
    return "".join(c if c in "\n\t" or c.isprintable() else "\ufffd" for c in text)


def clipped(text: str) -> str:
    """Printable and not too long."""
    shown = printable(text[:MOST_CHARACTERS])
    return shown if len(text) <= MOST_CHARACTERS else f"{shown} ... ({len(text) - MOST_CHARACTERS} more characters)"
