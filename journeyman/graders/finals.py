"""Where the final answer stands in a text: behind a mark such as `\\boxed{}`, `<answer>`, `####`, "the answer is"."""

import re
from dataclasses import dataclass

LONGEST = 20_000
"""Characters that are read, from the end: the final answer comes last."""
_OPEN, _CLOSE = "<answer>", "</answer>"
_HASHES = re.compile(r"####[ \t]*([^\n]+)")
_SAID = re.compile(r"\banswer(?:[ \t]+is\b|[ \t]*[:=])[ \t]*:?[ \t]*([^\n]+)", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[^\s.])[.!](?:\s|$)")
_LETTERS = re.compile(r"[A-Za-z]{2,}")
_FUNCTIONS = frozenset(
    ("pi", "sqrt", "sin", "cos", "tan", "cot", "arcsin", "arccos", "arctan", "log", "ln", "exp", "inf", "infinity")
)
_LATEX_SPAN = re.compile(r"\$[^$\n]+\$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Final:
    """A text's final answer."""

    text: str
    """What stands behind the last mark; the whole text where there is none."""
    marked: bool
    whole: str
    """All of the text, as far as it is read."""


def final(text: str) -> Final:
    """Find the final answer."""
    whole = text.strip()[-LONGEST:]
    start = whole.rfind(_OPEN, 0, max(whole.rfind(_CLOSE), 0))
    if start >= 0:
        tagged = whole[start + len(_OPEN) : whole.index(_CLOSE, start)].strip()
        return Final(text=final(tagged).text, marked=True, whole=tagged)
    boxes = boxed(whole)
    if boxes:  # several boxes are one answer of several parts, or the last repeats the first
        return Final(text=_clean(boxes[-1]) if len(set(boxes)) == 1 else whole, marked=True, whole=whole)
    if hashes := _HASHES.findall(whole):
        return Final(text=_clean(hashes[-1]), marked=True, whole=hashes[-1].strip())
    if said := _SAID.findall(whole):
        first = _SENTENCE_END.split(said[-1], maxsplit=1)[0]
        return Final(text=_clean(first), marked=True, whole=first.strip())
    return Final(text=_clean(whole), marked=False, whole=whole)


def boxed(text: str) -> list[str]:
    """The contents of every `\\boxed{...}` with balanced braces."""
    found, position = [], 0
    while (start := text.find("\\boxed{", position)) >= 0:
        depth, position = 1, start + len("\\boxed{")
        begin = position
        while position < len(text) and depth:
            depth += {"{": 1, "}": -1}.get(text[position], 0)
            position += 1
        if not depth:
            found.append(text[begin : position - 1])
    return found


def is_latex(text: str) -> bool:
    """Whether a text has LaTeX in it."""
    return "\\" in text or _LATEX_SPAN.search(text) is not None


def is_maths(text: str) -> bool:
    """Whether a text without LaTeX reads as a formula: some digit or operator, no words but functions'."""
    words = (word.casefold() for word in _LETTERS.findall(text))
    return bool(text) and len(text) <= 500 and all(word in _FUNCTIONS for word in words)


def _clean(text: str) -> str:
    text = text.strip().strip('*`"“”').strip()
    text = text.removeprefix("=").strip()
    return text[:-1].rstrip() if text.endswith((".", "!")) and not text.endswith("..") else text
