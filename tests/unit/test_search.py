"""Search over corpora: BM25 and vectors, titles and snippets, kept on disk."""

import json
import os
import subprocess
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.errors import DataError
from journeyman.tools import search_index
from journeyman.tools.corpus import Document, read_corpus, read_dataset
from journeyman.tools.search import CorpusSearch, Search, snippet
from journeyman.tools.search_index import Dense, SearchIndex, fused, words
from tests.unit.fakes import call


def grams(texts: Sequence[str]) -> np.ndarray:
    """Letter triples hashed into 512 numbers, length 1: inflected words are near each other."""
    rows = np.zeros((len(texts), 512), dtype=np.float32)
    for row, text in zip(rows, texts, strict=True):
        for word in words(text):
            padded = f" {word} "
            for i in range(len(padded) - 2):
                row[zlib.crc32(padded[i : i + 3].encode()) % 512] += 1
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


TEXTS = ["sailing boats in the harbour", "a boat sails", "the market sells pears", "pears and plums", "a lighthouse"]


def test_ranks_are_fused_by_hand() -> None:
    # A: 1/61. B: 1/62 + 1/61. C: 1/63. D: 1/62.
    assert fused(([0, 1, 2], [1, 3])) == [(1, 1 / 62 + 1 / 61), (0, 1 / 61), (3, 1 / 62), (2, 1 / 63)]
    assert fused(([2], [1])) == [(1, 1 / 61), (2, 1 / 61)]  # a tie: in the order of the documents
    assert fused(([], [])) == []


@given(st.lists(st.permutations(range(6)), min_size=1, max_size=3))
def test_fusion_keeps_every_document_and_rewards_agreement(rankings: list[list[int]]) -> None:
    found = fused(rankings)
    assert sorted(document for document, _ in found) == list(range(6))
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
    if len({ranking[0] for ranking in rankings}) == 1:
        assert found[0][0] == rankings[0][0]


def test_words_find_words_and_vectors_find_their_inflections() -> None:
    plain, hybrid = SearchIndex(TEXTS), SearchIndex(TEXTS, dense=Dense(embed=grams))
    assert plain.search("boat", 5) == [1]
    assert plain.search("sailors", 5) == []
    assert set(hybrid.search("sailors", 2)) == {0, 1}
    assert hybrid.search("boat", 2)[0] == 1  # first in both orders
    assert hybrid.by_meaning("boat", 2) == [1, 0]
    assert len(hybrid.search("boat", 99)) == 5


def test_queries_may_have_vectors_of_their_own() -> None:
    dense = Dense(embed=grams, embed_query=lambda texts: grams(["plums" for _ in texts]))
    assert SearchIndex(TEXTS, dense=dense).by_meaning("boat", 1) == [3]


def test_a_corpus_shows_titles_and_passages() -> None:
    documents = [Document(title=f"Page {i}", text=text) for i, text in enumerate(TEXTS)]
    tool = CorpusSearch(documents, results=2)
    assert call(tool, query="pears plums").output == "[1] Page 3\npears and plums\n\n[2] Page 2\nthe market sells pears"
    assert call(tool, query="zebra").output == "nothing found"
    assert call(tool, query="?!").output == "error: the query has no word in it"
    assert call(CorpusSearch(documents, results=1), query="page 4").output == "[1] Page 4\na lighthouse"
    assert "passage that fits best" in tool.spec()["function"]["description"]
    assert Search(["a"]).spec()["function"]["description"] == "Search the encyclopedia."


LONG = "alpha " * 60 + "the red fox met the blue heron " + "omega " * 60


def test_a_snippet_stands_where_the_query_does() -> None:
    found = snippet(LONG, "heron and fox", 60)
    assert "fox" in found and "heron" in found and len(found) <= 60
    assert found.startswith("… ") and found.endswith(" …")
    assert snippet("a  short\ntext", "none", 60) == "a short text"
    assert snippet(LONG, "nothing of it", 20) == "alpha alpha …"
    assert snippet("x" * 100, "y", 20) == "x" * 16 + " …"


@given(st.text(max_size=300), st.text(max_size=20), st.integers(10, 120))
def test_a_snippet_is_bounded_and_cut_out_of_the_text(text: str, query: str, length: int) -> None:
    found = snippet(text, query, length)
    assert len(found) <= length
    assert found.removeprefix("… ").removesuffix(" …").strip() in " ".join(text.split())


@given(st.lists(st.sampled_from(["a", "bb", "ccc", "dddd"]), min_size=30, max_size=60), st.integers(20, 60))
def test_a_snippet_cuts_between_words(parts: list[str], length: int) -> None:
    assert set(snippet(" ".join(parts), "bb dddd", length).split()) <= {*parts, "…"}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text("A plain text about otters.\n", encoding="utf-8")
    (folder / "deep" / "b.md").write_text("# On beavers\n\nBeavers build dams.\n", encoding="utf-8")
    rows = [{"title": "Cranes", "text": "Cranes fly south."}, {"id": 7, "contents": '"Drums"\nDrums are loud.'}]
    (folder / "c.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n\n", encoding="utf-8")
    pq.write_table(pa.table({"name": ["Eels"], "passage": ["Eels are slippery."]}), folder / "d.parquet")
    (folder / "ignored.bin").write_bytes(b"\0")
    return folder


def test_a_folder_of_files_is_a_corpus(corpus: Path) -> None:
    assert [(one.title, one.text) for one in read_corpus(corpus)] == [
        ("a", "A plain text about otters."),
        ("Cranes", "Cranes fly south."),
        ("Drums", "Drums are loud."),
        ("Eels", "Eels are slippery."),
        ("On beavers", "Beavers build dams."),
    ]
    tool = Search(path=corpus, results=1)
    assert call(tool, query="who builds dams").output == "[1] On beavers\nBeavers build dams."
    assert tool.spec() == CorpusSearch([]).spec() != Search(["a"]).spec()
    for wrong in ({}, {"documents": ["a"], "path": corpus}):
        with pytest.raises(TypeError, match="either documents, a path or a dataset"):
            Search(**wrong)


def test_a_data_set_is_a_corpus(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    pq.write_table(pa.table({"title": ["F"], "text": ["Foxes hunt."]}), tmp_path / "set" / "train.parquet")
    assert list(read_dataset(str(tmp_path / "set"))) == [Document(title="F", text="Foxes hunt.")]
    assert call(Search(dataset=str(tmp_path / "set")), query="foxes").output == "[1] F\nFoxes hunt."


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "fine"}\n{"text": ', r"x\.jsonl:2: not JSON"),
        ("[1]", r"x\.jsonl:1: a row is a JSON object"),
        ('{"text": "", "title": "T"}', r"x\.jsonl:1: a row without text; it has text, title"),
    ],
)
def test_a_broken_row_is_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "x.jsonl").write_text(line, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        list(read_corpus(tmp_path))


def test_columns_can_be_named_and_an_empty_folder_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to search here"):
        list(read_corpus(tmp_path))
    (tmp_path / "x.jsonl").write_text('{"text": "no", "abstract": "yes", "key": "K"}', encoding="utf-8")
    assert list(read_corpus(tmp_path, text="abstract", title="key")) == [Document(title="K", text="yes")]
    (tmp_path / "y.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(DataError, match=r"y\.txt: the file is not UTF-8"):
        list(read_corpus(tmp_path))


def test_an_index_is_made_once_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def counting(texts: Sequence[str]) -> np.ndarray:
        made.append(len(texts))
        return grams(texts)

    first = SearchIndex(TEXTS, dense=Dense(embed=counting, name="grams"), folder=tmp_path)
    found = first.search("boats", 3)
    assert made == [5, 1]  # the documents, the query
    again = SearchIndex(TEXTS, dense=Dense(embed=counting, name="grams"), folder=tmp_path)
    assert again.search("boats", 3) == found and made == [5, 1, 1]
    assert {path.name for path in tmp_path.iterdir()} == {first.digest}
    other = SearchIndex([*TEXTS[:-1], "changed"], dense=Dense(embed=counting, name="grams"), folder=tmp_path)
    other.search("boats", 3)
    assert made == [5, 1, 1, 5, 1] and other.digest != first.digest
    assert not list(tmp_path.glob("**/.making-*"))


def test_a_large_corpus_is_kept_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(search_index, "LARGE", 3)
    assert SearchIndex(TEXTS[:2]).by_words("boat", 1) == [1] and not list(tmp_path.iterdir())
    assert SearchIndex(TEXTS).by_words("lighthouse", 1) == SearchIndex(TEXTS).by_words("lighthouse", 1) == [4]
    assert (tmp_path / "journeyman" / "search").is_dir()


def test_an_encoder_in_a_folder_makes_vectors(tmp_path: Path) -> None:
    import tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", *sorted({w for t in TEXTS for w in words(t)})])}
    plain = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    plain.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="[PAD]", unk_token="[UNK]")
    tokenizer.save_pretrained(tmp_path)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    BertModel(config).save_pretrained(tmp_path)
    dense = Dense.of_folder(tmp_path)
    together, alone = dense.embed(TEXTS), np.concatenate([dense.embed([text]) for text in TEXTS])
    assert np.allclose(together, alone, atol=1e-5)  # what is padded does not count
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5) and together.shape == (5, 16)
    assert SearchIndex(TEXTS, dense=dense).by_meaning(TEXTS[2], 1) == [2]
    prefixed = Dense.of_folder(tmp_path, query_prefix="pears ")
    assert not np.allclose(prefixed.query("boat"), dense.query("boat")) and dense.name == Dense.of_folder(tmp_path).name
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("the market sells pears", encoding="utf-8")
    assert call(Search(path=tmp_path / "texts", encoder=tmp_path), query="harbour").output.startswith("[1] a\n")
    with pytest.raises(DataError, match="no encoder in this folder"):
        Dense.of_folder(tmp_path / "none")


def test_an_index_of_words_leaves_jax_alone(tmp_path: Path) -> None:
    """Where JAX is installed, bm25s starts it up when it is imported: on a GPU that takes most of the memory."""
    (tmp_path / "jax").mkdir()
    (tmp_path / "jax" / "__init__.py").write_text("raise SystemExit('jax was imported')")
    code = "from journeyman.tools.search_index import plain_bm25s; plain_bm25s().BM25(); import jax"
    found = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert "jax was imported" in found.stderr and "in plain_bm25s" not in found.stderr, found.stderr
