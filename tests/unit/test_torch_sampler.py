"""The torch sampler against plain forward passes of the same tiny models."""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    logging,
)

from journeyman.config import ComputeConfig, TorchSampler
from journeyman.errors import ConfigError, InfrastructureError
from journeyman.rollout import slot_decoder, step_plan
from journeyman.rollout.sampler import Completion, SampleRequest
from journeyman.rollout.step_model import LlamaStep, step_model
from journeyman.rollout.torch_sampler import TorchEngine
from tests.unit.fakes import COMPUTE, MAX_LENGTH, World

VOCABULARY = 150
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": None,
    "eos_token_id": None,
}
MODELS = {
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=16, tie_word_embeddings=True)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE, tie_word_embeddings=False)),
    "llama": lambda: LlamaForCausalLM(
        LlamaConfig(
            **SHAPE,
            rope_parameters={
                "rope_type": "llama3",
                "rope_theta": 10000.0,
                "factor": 4.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            },
        )
    ),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SHAPE, head_dim=8, sliding_window=None)),
    "llama-biased": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, attention_bias=True)),
    "granite": lambda: GraniteForCausalLM(GraniteConfig(**SHAPE, attention_multiplier=0.3, residual_multiplier=0.7)),
}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable_progress_bar()
    yield
    logging.enable_progress_bar()


def make(kind: str, folder: Path, seed: int = 0) -> PreTrainedModel:
    """A random model whose next-token distributions are far from uniform, in memory and in `folder`."""
    torch.manual_seed(seed)
    model = MODELS[kind]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.15)
    model.save_pretrained(folder)
    return model.eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("qwen3")
    make("qwen3", path)
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> Qwen3ForCausalLM:
    return Qwen3ForCausalLM.from_pretrained(folder).eval()


def engine_for(folder: Path, slots: int = 8, max_length: int = 256) -> TorchEngine:
    return TorchEngine(folder, ComputeConfig(device="cpu", sampler=TorchSampler(slots=slots)), max_length)


@torch.no_grad()
def plain(model: PreTrainedModel, ids: tuple[int, ...], temperature: float = 1.0) -> torch.Tensor:
    """Log-probabilities of tokens 1..T-1 in one forward pass without a cache."""
    logprobs = torch.log_softmax(model(torch.tensor([ids]), use_cache=False).logits[0, :-1] / temperature, dim=-1)
    return logprobs.gather(1, torch.tensor(ids[1:])[:, None])[:, 0]


def mismatch(model: PreTrainedModel, request: SampleRequest, completion: Completion) -> float:
    """Largest difference between a completion's log-probabilities and the plain ones."""
    ids = request.prompt_ids + completion.token_ids
    wanted = plain(model, ids, request.temperature or 1.0)[len(request.prompt_ids) - 1 :]
    return float((wanted - torch.tensor(completion.logprobs)).abs().max())


def draw_ids(draw: random.Random, count: int) -> tuple[int, ...]:
    return tuple(draw.randrange(VOCABULARY) for _ in range(count))


async def play(engine: TorchEngine, model: PreTrainedModel, seed: int, turns: int = 3, wait: float = 0) -> float:
    """A trajectory whose prompts go on where the last turn ended; the largest mismatch of its turns."""
    draw = random.Random(seed)
    ids, worst = tuple(range(20)) + draw_ids(draw, draw.randrange(1, 50)), 0.0
    for turn in range(turns):
        request = SampleRequest(
            prompt_ids=ids,
            max_new_tokens=draw.randrange(1, 25),
            temperature=(0.0, 1.0, 0.7)[seed % 3],
            seed=seed * 10 + turn,
            stop_ids=(5, 6),
        )
        completion = await engine.generate(request)
        worst = max(worst, mismatch(model, request, completion))
        ids += completion.token_ids + draw_ids(draw, draw.randrange(0, 12))
        await asyncio.sleep(wait)
    return worst


async def play_all(engine: TorchEngine, model: PreTrainedModel, count: int, wait: float = 0) -> float:
    return max(await asyncio.gather(*(play(engine, model, seed, wait=wait) for seed in range(count))))


@pytest.mark.parametrize("kind", MODELS)
def test_logprobs_are_those_of_a_plain_forward_pass(kind: str, tmp_path: Path) -> None:
    reference = make(kind, tmp_path)
    engine = engine_for(tmp_path, slots=6)
    assert asyncio.run(play_all(engine, reference, 20)) < 1e-4


def test_the_fast_forward_pass_is_used_for_models_it_knows(tmp_path: Path) -> None:
    fast = {kind for kind in MODELS if isinstance(step_model(make(kind, tmp_path), 64), LlamaStep)}
    assert fast == {"qwen3", "qwen2", "llama", "mistral"}


def test_the_cache_grows_while_rows_are_sampled(folder: Path, model: PreTrainedModel) -> None:
    engine = engine_for(folder)
    requests = [SampleRequest(prompt_ids=tuple(range(count)), max_new_tokens=200) for count in (2, 30, 60)]

    async def run() -> list[Completion]:
        return await asyncio.gather(*(engine.generate(request) for request in requests))

    for request, completion in zip(requests, asyncio.run(run()), strict=True):
        assert len(completion.token_ids) == min(200, 256 - len(request.prompt_ids))
        assert mismatch(model, request, completion) < 1e-4


def test_long_and_short_rows_are_attended_to_apart(
    folder: Path, model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(step_plan._CALL_BYTES, "cpu", 1)
    engine = engine_for(folder, slots=64)
    draw = random.Random(1)
    requests = [
        SampleRequest(prompt_ids=draw_ids(draw, 200 if number % 20 == 0 else 9), max_new_tokens=draw.randrange(1, 40))
        for number in range(100)
    ]

    async def run() -> list[Completion]:
        return await asyncio.gather(*(engine.generate(request) for request in requests))

    completions = asyncio.run(run())
    assert max(mismatch(model, *pair) for pair in zip(requests, completions, strict=True)) < 1e-4


def test_a_continued_prompt_is_computed_from_where_it_goes_on(folder: Path) -> None:
    engine = engine_for(folder)
    first = SampleRequest(prompt_ids=tuple(range(40)), max_new_tokens=10)
    done = asyncio.run(engine.generate(first))
    assert engine.prompt_tokens == 40
    asyncio.run(engine.generate(SampleRequest(prompt_ids=(*first.prompt_ids, *done.token_ids, 7, 8), max_new_tokens=3)))
    assert engine.prompt_tokens == 40 + 3  # the last sampled token had not been computed, and 7 and 8


def test_samples_of_a_group_share_their_prompt(folder: Path) -> None:
    engine = engine_for(folder)

    async def run() -> None:
        prompts = [(*range(32), last) for last in (3, 3, 3, 3, 4, 4)]
        await asyncio.gather(
            *(engine.generate(SampleRequest(prompt_ids=p, max_new_tokens=9, seed=s)) for s, p in enumerate(prompts))
        )

    asyncio.run(run())
    assert engine.prompt_tokens == 33 + 5  # one whole prompt, then the last token of each


def test_rows_that_wait_for_a_slow_tool_are_found_again(folder: Path, model: PreTrainedModel) -> None:
    engine = engine_for(folder, slots=4)

    async def run() -> int:
        first = SampleRequest(prompt_ids=tuple(range(100, 140)), max_new_tokens=5)
        done = await engine.generate(first)
        others = [SampleRequest(prompt_ids=(s,) * 5, max_new_tokens=4, seed=s) for s in range(5)]
        await asyncio.gather(*(engine.generate(request) for request in others))
        before = engine.prompt_tokens
        second = SampleRequest(prompt_ids=first.prompt_ids + done.token_ids + (1, 2, 3), max_new_tokens=5)
        assert mismatch(model, second, await engine.generate(second)) < 1e-4
        return engine.prompt_tokens - before

    assert asyncio.run(run()) == 4
    assert asyncio.run(play_all(engine, model, 30, wait=0.002)) < 1e-4


def test_a_seed_gives_one_completion_whatever_else_is_sampled(folder: Path) -> None:
    request = SampleRequest(prompt_ids=(1, 2, 3, 4), max_new_tokens=30, seed=11)
    engine, busy = engine_for(folder), engine_for(folder, slots=5)
    alone = asyncio.run(engine.generate(request))

    async def crowd() -> Completion:
        others = [
            SampleRequest(prompt_ids=(1, 2, 3, 4) * (n % 5 + 1), max_new_tokens=n + 1, temperature=n % 3, seed=n)
            for n in range(30)
        ]
        return (await asyncio.gather(*(busy.generate(r) for r in [*others[:15], request, *others[15:]])))[15]

    assert asyncio.run(crowd()).token_ids == alone.token_ids
    other = SampleRequest(prompt_ids=(1, 2, 3, 4), max_new_tokens=30, seed=12)
    assert asyncio.run(engine.generate(other)).token_ids != alone.token_ids
    assert asyncio.run(engine.generate(request)).token_ids == alone.token_ids


def test_generation_ends_with_the_first_stop_id(folder: Path) -> None:
    engine = engine_for(folder)
    free = asyncio.run(engine.generate(SampleRequest(prompt_ids=(9, 8, 7), max_new_tokens=40, seed=3)))
    assert not free.stopped
    assert len(free.token_ids) == len(free.logprobs) == 40
    # More stop ids than the table has columns at first; two of them occur.
    never = [i for i in range(VOCABULARY) if i not in free.token_ids]
    stops = (free.token_ids[25], free.token_ids[12], *never[:9])
    request = SampleRequest(prompt_ids=(9, 8, 7), max_new_tokens=40, seed=3, stop_ids=stops)
    cut = asyncio.run(engine.generate(request))
    end = min(free.token_ids.index(stop) for stop in stops[:2]) + 1
    assert cut.stopped
    assert cut.token_ids == free.token_ids[:end]


def test_greedy_is_what_generate_says(folder: Path, model: Any) -> None:
    engine = engine_for(folder)
    draw = random.Random(5)
    prompts = [draw_ids(draw, draw.randrange(3, 40)) for _ in range(12)]

    async def run() -> list[Completion]:
        wanted = [SampleRequest(prompt_ids=prompt, max_new_tokens=20, temperature=0) for prompt in prompts]
        return await asyncio.gather(*(engine.generate(request) for request in wanted))

    for prompt, completion in zip(prompts, asyncio.run(run()), strict=True):
        ids = torch.tensor([prompt])
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=20, pad_token_id=0
        )
        assert tuple(out[0, len(prompt) :].tolist()) == completion.token_ids


def test_frequencies_are_the_softmax(folder: Path, model: PreTrainedModel) -> None:
    engine, count, temperature = engine_for(folder, slots=256), 4000, 1.5
    prompt = (3, 1, 4, 1, 5)

    async def run() -> list[Completion]:
        wanted = (
            SampleRequest(prompt_ids=prompt, max_new_tokens=1, temperature=temperature, seed=s) for s in range(count)
        )
        return await asyncio.gather(*(engine.generate(request) for request in wanted))

    drawn = torch.tensor([completion.token_ids[0] for completion in asyncio.run(run())])
    with torch.no_grad():
        chances = torch.softmax(model(torch.tensor([prompt])).logits[0, -1] / temperature, dim=-1)
    counts = torch.bincount(drawn, minlength=VOCABULARY)
    spread = (count * chances * (1 - chances)).sqrt()
    assert bool(((counts - count * chances).abs() < 5 * spread + 2).all())
    likely = chances > 0.01
    assert int(likely.sum()) >= 5  # else the test says little


def test_a_wrong_request_fails_alone(folder: Path) -> None:
    engine = engine_for(folder, max_length=32)
    wrong = [
        (SampleRequest(prompt_ids=tuple(range(32)), max_new_tokens=1), "32 tokens"),
        (SampleRequest(prompt_ids=(), max_new_tokens=1), "needs a prompt"),
        (SampleRequest(prompt_ids=(1,), max_new_tokens=0), "at least one new token"),
        (SampleRequest(prompt_ids=(1,), max_new_tokens=1, temperature=-1), "temperature"),
        (SampleRequest(prompt_ids=(1, VOCABULARY), max_new_tokens=1), "vocabulary"),
    ]

    async def run() -> list[Completion | BaseException]:
        good = SampleRequest(prompt_ids=tuple(range(30)), max_new_tokens=10)
        requests = [good, *(request for request, _ in wrong)]
        return await asyncio.gather(*(engine.generate(request) for request in requests), return_exceptions=True)

    first, *others = asyncio.run(run())
    assert isinstance(first, Completion)
    assert (len(first.token_ids), first.stopped) == (2, False)  # cut to what fits
    for found, (_, message) in zip(others, wrong, strict=True):
        assert isinstance(found, ValueError)
        assert message in str(found)


def test_an_error_reaches_everyone_and_the_engine_goes_on(
    folder: Path, model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_for(folder, slots=2)

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("out of memory")

    async def run() -> list[Completion | BaseException | None]:
        requests = [SampleRequest(prompt_ids=(n, 2, 3), max_new_tokens=5) for n in range(6)]
        weights = engine.load_weights(dict(model.state_dict()), 1)
        return await asyncio.gather(*(engine.generate(r) for r in requests), weights, return_exceptions=True)

    with monkeypatch.context() as patch:
        patch.setattr(slot_decoder, "draw", broken)
        found = asyncio.run(asyncio.wait_for(run(), timeout=20))
    # The weights are taken before anything is sampled, or fail with the rest.
    assert all(isinstance(error, InfrastructureError) for error in found[:-1])
    assert "out of memory" in str(found[0])
    assert asyncio.run(play_all(engine, model, 6)) < 1e-4


def test_close_ends_it_for_everyone(folder: Path) -> None:
    engine = engine_for(folder, slots=1)

    async def run() -> list[Completion | BaseException]:
        requests = [SampleRequest(prompt_ids=(n,), max_new_tokens=200) for n in range(3)]
        waiting = asyncio.gather(*(engine.generate(r) for r in requests), return_exceptions=True)
        await asyncio.sleep(0.02)
        await engine.close()
        return [*await waiting, *await asyncio.gather(engine.generate(requests[0]), return_exceptions=True)]

    found = asyncio.run(asyncio.wait_for(run(), timeout=20))
    assert len(found) == 4
    assert all(isinstance(error, InfrastructureError) for error in found)


def test_a_cancelled_request_gives_its_slot_back(folder: Path, model: PreTrainedModel) -> None:
    engine = engine_for(folder, slots=1)

    async def run() -> float:
        long = asyncio.create_task(engine.generate(SampleRequest(prompt_ids=(1,), max_new_tokens=250)))
        queued = asyncio.create_task(engine.generate(SampleRequest(prompt_ids=(2,), max_new_tokens=250)))
        await asyncio.sleep(0.02)
        long.cancel()
        queued.cancel()
        request = SampleRequest(prompt_ids=(1, 2, 3), max_new_tokens=4)
        return mismatch(model, request, await engine.generate(request))

    assert asyncio.run(run()) < 1e-4


def test_new_weights_are_taken_between_completions(folder: Path, model: PreTrainedModel, tmp_path: Path) -> None:
    engine = engine_for(folder, slots=2)
    newer = make("qwen3", tmp_path, seed=1)
    requests = [SampleRequest(prompt_ids=(n, *range(20)), max_new_tokens=30, seed=n) for n in range(6)]

    async def run() -> list[Completion]:
        asked = [asyncio.create_task(engine.generate(request)) for request in requests]
        await asyncio.sleep(0.01)
        await engine.load_weights(dict(newer.named_parameters()), 7)
        return await asyncio.gather(*asked)

    completions = asyncio.run(run())
    versions = [completion.policy_version for completion in completions]
    assert sorted(versions) == versions
    assert {0, 7} == set(versions)
    for request, completion in zip(requests, completions, strict=True):
        own = newer if completion.policy_version else model
        assert mismatch(own, request, completion) < 1e-4
    before = engine.prompt_tokens
    assert asyncio.run(play_all(engine, newer, 8)) < 1e-4
    assert engine.prompt_tokens > before


def test_what_old_weights_computed_is_not_used_again(folder: Path, tmp_path: Path) -> None:
    engine, newer = engine_for(folder), make("qwen3", tmp_path, seed=1)
    request = SampleRequest(prompt_ids=tuple(range(40)), max_new_tokens=10)
    asyncio.run(engine.generate(request))
    asyncio.run(engine.load_weights(newer.state_dict(), 1))
    again = asyncio.run(engine.generate(request))
    assert engine.prompt_tokens == 80
    assert mismatch(newer, request, again) < 1e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: {n: t for n, t in w.items() if "layers.1.mlp.up_proj" not in n}, "missing: model.layers.1.mlp.up"),
        (lambda w: {**w, "model.extra": torch.zeros(1)}, "unexpected: model.extra"),
        (lambda w: {**w, "model.norm.weight": torch.zeros(3)}, "of another shape: model.norm.weight"),
        (lambda w: {**w, "lm_head.weight": torch.zeros(VOCABULARY, 32)}, "tied, but not the same: lm_head.weight"),
    ],
)
def test_weights_of_another_model_are_refused(folder: Path, model: PreTrainedModel, change, message: str) -> None:
    engine = engine_for(folder)
    with pytest.raises(ValueError, match=message):
        asyncio.run(engine.load_weights(change(model.state_dict()), 1))
    request = SampleRequest(prompt_ids=(1, 2, 3), max_new_tokens=5)
    completion = asyncio.run(engine.generate(request))
    assert completion.policy_version == 0
    assert mismatch(model, request, completion) < 1e-4


@pytest.mark.parametrize("left_out", ["lm_head.weight", "model.embed_tokens.weight"])
def test_tied_weights_may_come_under_either_name(folder: Path, tmp_path: Path, left_out: str) -> None:
    engine, newer = engine_for(folder), make("qwen3", tmp_path, seed=1)
    asyncio.run(engine.load_weights({n: t for n, t in newer.state_dict().items() if n != left_out}, 1))
    assert asyncio.run(play_all(engine, newer, 4)) < 1e-4


def test_score_is_a_plain_forward_pass(folder: Path, model: PreTrainedModel) -> None:
    engine, draw = engine_for(folder), random.Random(2)
    rows = [draw_ids(draw, count) for count in (5, 1, 60, 2, 33)]
    scores = asyncio.run(engine.score(rows))
    assert [len(values) for values in scores] == [4, 0, 59, 1, 32]
    for row, values in zip(rows, scores, strict=True):
        if values:
            assert torch.allclose(torch.tensor(values), plain(model, row), atol=1e-4)


def test_models_that_cannot_be_cached_are_refused(tmp_path: Path) -> None:
    config = MistralConfig(**SHAPE, head_dim=8, sliding_window=16)
    MistralForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="sliding"):
        engine_for(tmp_path)
    assert engine_for(tmp_path, max_length=16)
    with pytest.raises(ConfigError, match="no model"):
        engine_for(tmp_path / "nothing")


def test_an_interrupted_completion_goes_on_under_other_weights(world: World) -> None:
    engine = TorchEngine(world.model, COMPUTE, MAX_LENGTH)
    prompt = tuple(world.chat.prompt("What is 6 times 7?", []))

    def request(*written: int) -> SampleRequest:
        return SampleRequest(prompt_ids=(*prompt, *written), max_new_tokens=40 - len(written), seed=3)

    async def interrupted() -> tuple[list[Completion], Completion]:
        asked = [asyncio.create_task(engine.generate(request())) for _ in range(COMPUTE.sampler.slots + 2)]  # type: ignore[union-attr]
        while len(engine._sampling) < 2 or engine._decoder._time < 12:
            await asyncio.sleep(0)
        await engine.interrupt()
        pieces = await asyncio.gather(*asked)
        await engine.load_weights({n: t * 0.9 for n, t in engine._model.state_dict().items()}, 1)
        begun = pieces[0]
        return pieces, await engine.generate(request(*begun.token_ids))

    pieces, rest = asyncio.run(interrupted())
    assert all(piece.interrupted and not piece.stopped and piece.policy_version == 0 for piece in pieces)
    begun = pieces[0]
    assert 0 < len(begun.token_ids) < 40 and len(begun.logprobs) == len(begun.token_ids)
    assert pieces[-1].token_ids == ()  # those that waited for a slot had not begun
    assert (rest.policy_version, rest.interrupted, len(begun.token_ids) + len(rest.token_ids)) == (1, False, 40)
    whole = asyncio.run(TorchEngine(world.model, COMPUTE, MAX_LENGTH).generate(request()))
    assert whole.token_ids[: len(begun.token_ids)] == begun.token_ids
    scored = asyncio.run(engine.score([[*prompt, *begun.token_ids, *rest.token_ids]]))[0][-len(rest.token_ids) :]
    assert scored == pytest.approx(rest.logprobs, abs=1e-4)  # of the new weights alone, nothing cached of the old
