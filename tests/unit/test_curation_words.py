"""The words that rows are compared by are those of the normal form."""

import duckdb
from hypothesis import given
from hypothesis import strategies as st

from journeyman.curation.normal_form import question_form, words_sql

ODD = " .,;:!?\"'`…0123456789aB\t\n\r\x85\xa0\u2003\u200b\u2028\u3000-+\x02"


@given(st.text(st.sampled_from(ODD), max_size=30))
def test_words_are_those_of_the_normal_form(text: str) -> None:
    [(words,)] = duckdb.execute(f"SELECT {words_sql('$1')}", [text]).fetchall()
    assert words == [word for word in question_form(text).split(" ") if word]


def test_words_by_hand() -> None:
    text = "It costs 1,200.50 Euro.\n\nHow\xa0much is 3 - 5...?  "
    [(words,)] = duckdb.execute(f"SELECT {words_sql('$1')}", [text]).fetchall()
    assert words == ["it", "costs", "1200.50", "euro", "how", "much", "is", "3", "-", "5"]
