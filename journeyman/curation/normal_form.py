"""Normal forms: when two questions count as the same, and where a text states an answer.

Both stand twice, as SQL for the tables and as Python for single texts; tests hold the two together. Operators stay in
questions: "3 - 5" is not "3 + 5". `lower`, not case folding, because that is what DuckDB has: "ß" and "ss" stay
different, and the two differ on "İ".
"""

import re

# Spelled out: the two engines disagree about what \s is.
_MARKS = ",;:!?\"'’‘“”`…"
_SPACE = "\t-\r\x85\xa0\u2000-\u200b\u2028\u2029\u202f\u3000"
_WORDS = (
    (r"([0-9]),([0-9])", r"\1\2"),  # 1,200 is 1200
    (f"[{_MARKS}{_SPACE}]", " "),
    (r"\.+( |$)", " "),  # a decimal point stays
)
_QUESTION = (*_WORDS, ("  +", " "))
_ANSWER = (
    (r"([0-9]),([0-9])", r"\1\2"),
    (r"\.([^0-9]|$)", r" \1"),
    (r"[^\p{L}\p{N}.]+", " "),
)
_ANSWER_HERE = (*_ANSWER[:-1], (r"(?:[^\w.]|_)+", " "))
"""`re` has no \\p: its \\w is letters, numbers and "_"."""


def question_form(text: str) -> str:
    """Lower case, sentence marks and runs of white space folded to one space."""
    text = text.lower()
    for pattern, replacement in _QUESTION:
        text = re.sub(pattern, replacement, text)
    return text.strip(" ")


def question_sql(column: str) -> str:
    """`question_form` of a SQL expression."""
    return f"trim({_replaced(f'lower({column})', _QUESTION)})"


def words_sql(column: str) -> str:
    """The words of `question_form` of a SQL expression: a list."""
    return f"list_filter(string_split({_replaced(f'lower({column})', _WORDS)}, ' '), lambda word: word <> '')"


def answer_sql(column: str) -> str:
    """A SQL expression's words and numbers, each between spaces: a part of it is a whole word or number."""
    return f"(' ' || trim({_replaced(f'lower({column})', _ANSWER)}) || ' ')"


def answer_form(text: str) -> str:
    """`answer_sql` of one text."""
    text = text.lower()
    for pattern, replacement in _ANSWER_HERE:
        text = re.sub(pattern, replacement, text)
    return f" {text.strip(' ')} "


def _replaced(expression: str, steps: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in steps:
        quoted = pattern.replace("'", "''")
        expression = f"regexp_replace({expression}, '{quoted}', '{replacement}', 'g')"
    return expression
