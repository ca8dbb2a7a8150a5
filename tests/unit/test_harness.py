"""Samplers behind the three questions of lm-evaluation-harness, against a plain forward pass."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from journeyman.errors import ConfigError
from journeyman.evaluation.benchmarks.harness import TextModel, harness_model
from journeyman.rollout.worker import build_sampler
from journeyman.training.model import load_tokenizer
from tests.unit.fakes import COMPUTE, World

LENGTH = 24


@dataclass
class Asked:
    """As the harness's `Instance`: its arguments."""

    args: tuple


@pytest.fixture
def model(world: World) -> Iterator[TextModel]:
    made = TextModel(build_sampler(world.model, COMPUTE, LENGTH), load_tokenizer(world.model), max_length=LENGTH)
    yield made
    made.close()


def logprobs(world: World, ids: list[int]) -> tuple[list[float], list[bool]]:
    """Of all tokens but the first their log-probability, and whether they are the likeliest."""
    plain = AutoModelForCausalLM.from_pretrained(world.model, dtype=torch.float32)
    with torch.inference_mode():
        logits = plain(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    chosen = torch.tensor(ids[1:])
    return logits.gather(1, chosen[:, None])[:, 0].tolist(), (logits.argmax(1) == chosen).tolist()


def test_a_continuations_likelihood_is_the_sum_over_its_tokens(world: World, model: TextModel) -> None:
    encode = model.tokenizer.encode
    before, whole = encode("What is", add_special_tokens=False), encode("What is 7", add_special_tokens=False)
    values, _ = logprobs(world, whole)
    # The space belongs to the continuation on whichever side it stands.
    first, second = model.loglikelihood([Asked(("What is", " 7")), Asked(("What is ", "7"))])
    assert first == second
    assert first[0] == pytest.approx(sum(values[len(before) - 1 :]), abs=1e-4)
    [(empty, greedy)] = model.loglikelihood([Asked(("What is", ""))])
    assert empty == 0 and greedy


def test_what_the_model_would_say_itself_is_greedy(world: World, model: TextModel) -> None:
    [said] = model.generate_until([Asked(("What is", {"max_gen_toks": 3}))])
    ids = model.tokenizer.encode("What is" + said, add_special_tokens=False)
    _, likeliest = logprobs(world, ids)
    [(_, greedy)] = model.loglikelihood([Asked(("What is", said))])
    assert greedy == all(likeliest[len(model.tokenizer.encode("What is", add_special_tokens=False)) - 1 :])
    [(_, greedy)] = model.loglikelihood([Asked(("What is", " 7 8 9"))])
    assert not greedy


def test_a_long_texts_likelihood_has_every_token_once(world: World, model: TextModel) -> None:
    text = "What is 3 plus 4? " * 9
    ids = model.tokenizer.encode(text, add_special_tokens=False)
    start = model.tokenizer.bos_token_id or model.tokenizer.eos_token_id
    row, step, total = [start, *ids], LENGTH - 1, 0.0
    assert len(ids) > 2 * step
    for first in range(0, len(ids), step):
        end = min(first + step, len(ids))
        values, _ = logprobs(world, row[max(0, end - step) : end + 1])  # the last goes back as far as it may
        total += sum(values[-(end - first) :])
    assert model.loglikelihood_rolling([Asked((text,))]) == pytest.approx([total], abs=1e-3)
    assert model.loglikelihood_rolling([Asked(("",))]) == [0.0]


def test_an_answer_ends_where_it_is_told_to(model: TextModel) -> None:
    asked = {"max_gen_toks": 8, "do_sample": True, "temperature": 1.0}
    [whole] = model.generate_until([Asked(("What is", {**asked, "until": []}))])
    cut = whole[2:4]
    [short] = model.generate_until([Asked(("What is", {**asked, "until": [cut]}))])
    assert short == whole[: whole.find(cut)] and cut not in short
    [long] = model.generate_until([Asked(("What is " * 200, {"until": "\n", "max_gen_toks": 4}))])
    assert isinstance(long, str)  # the prompt's beginning is left out


def test_without_the_harness_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("lm_eval", "lm_eval.api", "lm_eval.api.model"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match="pip install lm_eval"):
        harness_model(tmp_path)


def test_it_is_a_model_of_the_harness_where_that_is_installed(world: World) -> None:
    LM = pytest.importorskip("lm_eval.api.model", reason="lm-evaluation-harness is not installed").LM
    made = harness_model(world.model, COMPUTE, max_length=LENGTH)
    assert isinstance(made, LM)
    made.close()
