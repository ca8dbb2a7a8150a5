"""The dictionary: few words in, few entries out, the nearest first."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.errors import DataError
from journeyman.tools.dictionary import MAX_ENTRIES, Dictionary
from tests.unit.fakes import call

ENTRIES = {
    "walk": "caminar",
    "walker": "caminante",
    "walking stick": ["bastón", "palo"],
    "talk": "hablar",
    "chalk": "tiza",
    "wal": "valla",
    "house": "casa",
    "Été": "verano",
}
DICTIONARY = Dictionary(ENTRIES)


def test_entries_are_ranked_exact_prefix_one_letter_off_inflected() -> None:
    # walk: itself; wal is its beginning and walker begins with it (ratio 6/7 and 8/10), walking stick too (8/17);
    # talk is one letter off. chalk is two letters off and has 6 of 9 letters in common (66.7 < 75).
    assert DICTIONARY.nearest("walk") == ["walk", "wal", "walker", "walking stick", "talk"]
    # houses: its beginning is an entry. hause: one letter off. housing: 8 of 12 letters are too few.
    assert DICTIONARY.nearest("houses") == DICTIONARY.nearest("hause") == ["house"]
    assert DICTIONARY.nearest("housing") == []
    # chalked: chalk begins it; talked would be 2 * 4 / 11 = 73 per cent of talk.
    assert DICTIONARY.nearest("chalked") == ["chalk"]
    assert DICTIONARY.nearest("ÉTÉ") == DICTIONARY.nearest("e\u0301te\u0301") == ["Été"]


def test_a_look_up_is_text_a_model_can_read() -> None:
    found = call(DICTIONARY, words=["house", "zebra", "walking stick"])
    assert found.ok and found.output == (
        "house:\n  house = casa\nzebra: no entry\nwalking stick:\n  walking stick = bastón; palo\n  walk = caminar\n  wal = valla"
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "look up 1 to 4 words at once"),
        (["a"] * 5, "look up 1 to 4 words at once"),
        ([" "], "a word has 1 to 60 characters"),
        (["x" * 61], "a word has 1 to 60 characters"),
        ("walk", "words must be a list"),
        ([1], "words.0 must be a string"),
    ],
)
def test_wrong_look_ups_are_observations(words: object, told: str) -> None:
    result = call(DICTIONARY, words=words)
    assert not result.ok and result.output == f"error: {told}"


@given(
    st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=30, unique=True), st.text(min_size=1, max_size=20)
)
def test_an_entry_is_found_first_by_itself_and_answers_are_short(entries: list[str], word: str) -> None:
    dictionary = Dictionary(dict.fromkeys(entries, "meaning"))
    assert len(dictionary.nearest(word)) <= MAX_ENTRIES
    first = dictionary.nearest(entries[0])[0]
    assert (
        first == entries[0]
        or first.strip().casefold() == entries[0].strip().casefold()
        or len(first) == len(entries[0])
    )


def test_glossaries_are_read_from_files(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("# words\nkasa\thouse\nkasa\thome\n\nbo\tdog\n", encoding="utf-8")
    assert Dictionary(path=tmp_path / "a.tsv").entries == {"kasa": "house; home", "bo": "dog"}
    (tmp_path / "b.json").write_text(json.dumps({"kasa": ["house", "home"], "bo": "dog"}), encoding="utf-8")
    assert Dictionary(path=tmp_path / "b.json").entries == {"kasa": "house; home", "bo": "dog"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.tsv", "kasa\thouse\nbroken", r"a\.tsv:2: a line is WORD"),
        ("a.tsv", "# nothing", "a dictionary without entries"),
        ("a.json", "[1]", "a dictionary is a JSON object"),
        ("a.json", '{"a": 1}', "the meaning of 'a' is a text"),
        ("a.json", "{", "not JSON"),
    ],
)
def test_a_broken_glossary_is_the_users_mistake(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        Dictionary(path=tmp_path / name)


def test_a_dictionary_needs_entries_from_somewhere(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="either entries or the path"):
        Dictionary()
    with pytest.raises(DataError, match="can't be read"):
        Dictionary(path=tmp_path / "none.tsv")
