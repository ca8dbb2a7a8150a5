"""Encoders: rows of length 1, the same everywhere."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from journeyman.config.judge import EncoderConfig
from journeyman.errors import DataError
from journeyman.rewards.encoders import HashedEncoder, ModelEncoder, build_encoder
from tests.unit.fakes import World


@settings(max_examples=50)
@given(st.lists(st.text(max_size=30), max_size=5))
def test_rows_have_length_one(texts: list[str]) -> None:
    rows = HashedEncoder(64).embed(texts)
    assert rows.shape == (len(texts), 64) and rows.dtype == np.float64
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0)


def test_hashed_encoder_by_hand() -> None:
    encoder = HashedEncoder(4096, shortest=3, longest=3)
    # " ab " has the grams " ab", "ab "; " abc " has " ab", "abc", "bc ": one of 2 and 3 in common, 1/sqrt(6)
    rows = encoder.embed(["ab", "abc"])
    assert abs(rows[0] @ rows[1]) == pytest.approx(6**-0.5)
    # twice a gram counts 1 + ln 2: " aaa " has " aa", "aaa", "aa "; " aaaa " has "aaa" twice
    rows = encoder.embed(["aaa", "aaaa"])
    twice = 1 + np.log(2)
    assert rows[0] @ rows[1] == pytest.approx((2 + twice) / (3**0.5 * (2 + twice**2) ** 0.5))


def test_spelling_is_compared() -> None:
    rows = HashedEncoder().embed(["The  Cat sat", "the cat sat", "the cat sits", "quantum flux"])
    assert rows[0] @ rows[1] == pytest.approx(1)
    assert rows[1] @ rows[2] > 0.5 > abs(rows[1] @ rows[3])


def test_collisions_cancel_in_the_mean() -> None:
    texts = [f"{number * 7919:x}" for number in range(400)]
    rows = HashedEncoder(32).embed(texts)
    products = (rows @ rows.T)[np.triu_indices(len(texts), 1)]
    assert abs(products.mean()) < 0.05  # without signs it would be far above 0


def test_another_process_makes_the_same_rows() -> None:
    program = (
        "from journeyman.rewards.encoders import HashedEncoder; print(HashedEncoder(32).embed(['a b c']).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(HashedEncoder(32).embed(["a b c"]).tolist())


def test_a_model_in_a_folder_encodes(world: World) -> None:
    encoder = ModelEncoder(world.model)
    rows = encoder.embed(["What is 6 times 7?", "What is 6 times 7?", "the sum of 3 and 4"])
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0)
    assert rows.dtype == np.float64 and rows[0] @ rows[1] == pytest.approx(1) and rows[0] @ rows[2] < 1
    assert encoder.embed([]).shape[0] == 0


def test_encoders_are_made_of_their_config(tmp_path: Path) -> None:
    read = TypeAdapter(EncoderConfig).validate_python
    assert build_encoder(read({"type": "hashed", "dimensions": 32})).embed(["a"]).shape == (1, 32)
    lazy = build_encoder(read({"type": "model", "path": str(tmp_path)}))  # nothing is read yet
    with pytest.raises(DataError):
        lazy.embed(["a"])
    with pytest.raises(ValueError):
        HashedEncoder(shortest=4, longest=3)
