"""Final answers against a reference: formulas by math-verify, numbers with units, lists, choices, words.

What counts, ours where no benchmark has settled it:

- Of a longer text the final answer is what stands behind its last mark: `<answer>`, `\\boxed{}`, `####`, "answer is",
  "answer:". Without a mark the whole text is the answer; but where the reference is a number, the last number of the
  text's last line counts, unless it is one of two ("4 or 5") or denied ("not 5").
- A text that merely contains the reference is wrong: "Paris or London" is not "Paris".
- Numbers: 1,000 is 1000, 1e3 and 1 x 10^3; whole numbers have to be equal, decimals to nine digits, fractions against
  decimals to six. Per cent is right as 50%, 50 and 0.5.
- Units have to be the same or measure the same (5 km is 5000 m); a unit on one side only is no mistake.
- Lists in ( ) or [ ] have an order; sets and lists without brackets don't.
- Words are compared as SQuAD does: no case, articles, punctuation; digits and signs of formulas do count.
- "yes" and "true" are the same, so are "no" and "false". A choice is its letter: "(B)", "B.", "B) Paris".
"""

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from journeyman.graders.finals import Final, final, is_latex, is_maths
from journeyman.graders.grade import Grade, GradeError, identity
from journeyman.graders.maths import WORKER
from journeyman.graders.quantities import NUMBER, Quantity, quantity, same_quantity, without_latex

LONGEST_FORMULA = 4_000
"""Characters, from the end, that math-verify is given."""
LONGEST_LIST, DEEPEST_LIST = 200, 16
"""Elements, and brackets in brackets, of a text that is still read as a list."""
_CHOICE = re.compile(r"(?:option |choice )?\(?([A-J])(?:[).:]\s*(.*)|\s*)", re.DOTALL)
_TRUTH = {"yes": True, "true": True, "no": False, "false": False}
_NUMBERS = re.compile(rf"(?<![\w.])(?:[-−](?=[$0-9.]))?[$€£¥₹]?\s?(?:{NUMBER})(?:\s?/\s?[0-9]{{1,60}}(?![0-9]))?\s?%?")
_BETWEEN_TWO = re.compile(
    r"\s*[\w%]*\s*(?:[,/–-]|(?:,\s*)?\b(?:or|and|to|versus)\b(?:\s+(?:maybe|perhaps|possibly|even))?)\s*(?:[A-Za-z]\w{0,3}\s*=\s*)?"
)
_WORD = re.compile(r"(?:(?<![\w)])[-−])?[0-9]+(?:[.,:/-][0-9]+)*%?|[^\W\d_]+(?:['’][^\W\d_]+)*|[^\w\s]")
_ARTICLES = frozenset(("a", "an", "the"))
_PUNCTUATION = frozenset(".,;:!?\"'`“”‘’()[]{}-–—_*…#&")
_BRACKETS = {"(": ")", "[": "]", "{": "}"}


def grade_answers(item: Mapping[str, Any]) -> Grade:
    """Grade `{"id", "prediction", "reference"}`. Raises `GradeError` where there is no reference.

    May be called from any thread; what takes too long is wrong, with a reason that says so.
    """
    name = identity(item)
    for key in ("prediction", "reference"):
        if key not in item:
            raise GradeError(f"no key {key!r}")
    reference, prediction = _text(item["reference"]), _text(item["prediction"])
    if not reference.strip():
        raise GradeError("the reference is empty")
    correct, reason = compare_answers(reference, prediction)
    return Grade(id=name, correct=correct, reason=reason)


def compare_answers(reference: str, prediction: str) -> tuple[bool, str]:
    """(whether the prediction's final answer is the reference, why)."""
    if not prediction.strip():
        return False, "empty prediction"
    gold, found = final(reference), final(prediction)
    if not found.text:
        return False, "empty answer"
    if gold.text == found.text:
        return True, "the same text"
    for rule in (_choices, _truths, _quantities, _lists):
        verdict = rule(gold, found)
        if verdict is not None:
            return verdict
    if _words(gold.text) and _words(gold.text) == _words(found.text):
        return True, "the same words"
    return _formulas(gold, found)


def _choices(gold: Final, found: Final) -> tuple[bool, str] | None:
    letter, words = _choice(gold.text)
    if not letter:
        return None
    chosen, _ = _choice(found.text)
    if chosen:
        return chosen == letter, f"choice {chosen}" if chosen == letter else f"choice {chosen}, not {letter}"
    if words and _words(words) == _words(found.text):
        return True, f"the words of choice {letter}"
    return (False, f"no choice where {letter} is right") if not is_latex(gold.whole) else None


def _choice(text: str) -> tuple[str, str]:
    match = _CHOICE.fullmatch(text.strip())
    return (match[1], (match[2] or "").strip()) if match else ("", "")


def _truths(gold: Final, found: Final) -> tuple[bool, str] | None:
    expected = _TRUTH.get(gold.text.casefold())
    if expected is None:
        return None
    said = {_TRUTH[word] for word in re.findall(r"[a-z]+", found.text.casefold()) if word in _TRUTH}
    first = re.match(r"\W*([a-z]+)", found.text.casefold())
    if len(said) != 1 or first is None or first[1] not in _TRUTH:
        return False, "neither a clear yes nor a clear no"
    return said == {expected}, "the same truth" if said == {expected} else "the opposite"


def _quantities(gold: Final, found: Final) -> tuple[bool, str] | None:
    expected = quantity(gold.text)
    if expected is None:
        return None
    said = quantity(found.text)
    if said is None:
        if is_latex(found.whole) or is_maths(found.text):
            return None
        said = _last_number(found.text)
        if isinstance(said, str):
            return False, said
    same, otherwise = same_quantity(said, expected)
    return same, "the same quantity" if same else otherwise


def _last_number(text: str) -> Quantity | str:
    """The last number of the last line that has one, or why there is none."""
    lines = [line for line in text.splitlines() if _NUMBERS.search(line)]
    if not lines:
        return "no number"
    matches = list(_NUMBERS.finditer(lines[-1][-2_000:]))
    line, last = lines[-1][-2_000:], matches[-1]
    if re.search(r"\b(?:not|n't|never)\s+$", line[: last.start()]):
        return "the number is denied"
    value = quantity(last.group().strip())
    if value is None:
        return "no number"
    if len(matches) > 1:
        other = quantity(matches[-2].group().strip())
        between = line[matches[-2].end() : last.start()]
        if _BETWEEN_TWO.fullmatch(between) and (other is None or other.value != value.value):
            return "more than one number"
    behind = quantity(f"{last.group().strip()} {_next_word(line[last.end() :])}")
    return behind if behind is not None and not value.unit else value


def _next_word(text: str) -> str:
    match = re.match(r"\s*([^\W\d_]+)", text)
    return match[1] if match else ""


def _lists(gold: Final, found: Final) -> tuple[bool, str] | None:
    """Lists without LaTeX; those with it are math-verify's."""
    if is_latex(gold.text) or is_latex(found.text):
        return None
    expected, said = _split(gold.text), _split(found.text)
    if expected is None or said is None:
        return None
    ordered = expected[1] and said[1]
    if len(expected[0]) != len(said[0]):
        return False, f"{len(said[0])} elements, not {len(expected[0])}"
    same = _same_elements(expected[0], said[0], ordered)
    return same, "the same list" if same else "another list"


def _same_elements(expected: Sequence[str], said: Sequence[str], ordered: bool) -> bool:
    if ordered:
        return all(compare_answers(e, s)[0] for e, s in zip(expected, said, strict=True))
    left = list(said)
    for one in expected:  # equality of answers is as good as transitive: the first fit will do
        fit = next((n for n, other in enumerate(left) if compare_answers(one, other)[0]), None)
        if fit is None:
            return False
        del left[fit]
    return True


def _split(text: str) -> tuple[list[str], bool] | None:
    """(elements, whether their order counts); None for what is no list."""
    text = text.strip()
    ordered = text[:1] in ("(", "[") and _closes_at_end(text)
    inner = text[1:-1] if ordered or (text[:1] == "{" and _closes_at_end(text)) else text
    parts = _top_level(inner)
    if parts is None or len(parts) > LONGEST_LIST or (len(parts) < 2 and inner == text):
        return None
    return parts, ordered


def _closes_at_end(text: str) -> bool:
    depth = 0
    for position, character in enumerate(text):
        depth += (character in _BRACKETS) - (character in _BRACKETS.values())
        if depth == 0:
            return position == len(text) - 1 and character == _BRACKETS[text[0]]
    return False


def _top_level(text: str) -> list[str] | None:
    """The parts between commas, semicolons, "and", "or" outside of brackets; None where a part is empty."""
    parts, depth, start = [], 0, 0
    separators = {
        m.start(): m.end() for m in re.finditer(r"(?:[,;]\s*|\s+)(?:and|or)\s+|;|,(?![0-9]{3}(?![0-9]))", text)
    }
    position = 0
    while position < len(text):
        character = text[position]
        depth += (character in _BRACKETS) - (character in _BRACKETS.values())
        if depth > DEEPEST_LIST:
            return None
        if depth == 0 and position in separators:
            parts.append(text[start:position])
            start = position = separators[position]
        else:
            position += 1
    parts = [part.strip().strip("\"'") for part in (*parts, text[start:])]
    return None if "" in parts else parts


def _words(text: str) -> list[str]:
    """SQuAD's normal form, but for digits and signs that mean something: no case, articles, punctuation."""
    text = unicodedata.normalize("NFKC", without_latex(text)).casefold()
    if is_latex(text):
        return []
    if not re.search(r"[^\W\d_]{2}", text):
        return text.split()  # a formula: its brackets and signs all count
    tokens = [token for token in _WORD.findall(text) if token not in _PUNCTUATION]
    return [token.replace("’", "'") for token in tokens if token not in _ARTICLES] or tokens


def _formulas(gold: Final, found: Final) -> tuple[bool, str]:
    reference = _formula(gold)
    readings = [_formula(found)] if _formula(found) else _equations(gold, found)
    if not reference or not readings:
        return False, "another text"
    equal = None
    for reading in readings:
        equal = WORKER.equal(reference, reading)
        if equal:
            return True, "equal as formulas"
    return False, "not equal as formulas" if equal is False else "can't be compared in the time and memory allowed"


def _equations(gold: Final, found: Final) -> list[str]:
    """Readings of equations joined by words ("x=1 or x=2"), where the reference has as many of them."""
    count = found.text.count("=")
    if not 0 < count == gold.whole.count("=") or len(found.text) > LONGEST_FORMULA:
        return []
    parts = re.split(r"\s*(?:,|or|and)\s*", found.text)
    return [" and ".join(f"${part}$" for part in parts), found.text]


def _formula(answer: Final) -> str:
    """What math-verify is given: LaTeX as it stands, a bare formula as LaTeX; empty for words."""
    if is_latex(answer.whole):
        text = answer.whole[-LONGEST_FORMULA:]
        return text if "$" in text or "\\boxed" in text or "\\(" in text or "\\[" in text else f"${text}$"
    if not is_maths(answer.text):
        return ""
    text = re.sub(r"sqrt\(([^()]*)\)", r"\\sqrt{\1}", answer.text.replace("**", "^"))
    text = re.sub(r"\^(-?[0-9]{2,})", r"^{\1}", text)
    text = re.sub(r"(?<![\\a-z])(pi|sin|cos|tan|log|ln|exp)(?![a-z])", r"\\\1", text)
    text = text.replace("*", " \\cdot ")
    return f"${text}$" if len(text) <= LONGEST_FORMULA else ""


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except (ValueError, TypeError, RecursionError):
        raise GradeError("a value that is no text") from None
