"""Shared prefixes of the torch sampler: where they are found, the merged attention, and whole rollouts of groups."""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, logging

from journeyman.config import ComputeConfig, TorchSampler
from journeyman.rollout import step_plan
from journeyman.rollout.prefix_index import BLOCK, chain
from journeyman.rollout.sampler import Completion, SampleRequest
from journeyman.rollout.shared_prefix import Arrangement, Shared, add_shared, arrange, attend_with_sums
from journeyman.rollout.torch_sampler import TorchEngine
from tests.unit.test_torch_sampler import SHAPE, draw_ids, make, mismatch


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable_progress_bar()
    yield
    logging.enable_progress_bar()


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PreTrainedModel]:
    folder = tmp_path_factory.mktemp("qwen3")
    return folder, make("qwen3", folder)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Arrangement]:
    """Every prefix is shared that can be; the arrangements of all steps."""
    made: list[Arrangement] = []
    monkeypatch.setitem(step_plan._CALL_BYTES, "cpu", 1)
    monkeypatch.setattr(step_plan, "_SHARE_BYTES", 1)
    monkeypatch.setattr(step_plan, "arrange", lambda *given: made.append(arrange(*given)) or made[-1])
    return made


def llama(folder: Path, heads: int, shared: int) -> PreTrainedModel:
    """A random model with `heads` query heads and `shared` key/value heads."""
    torch.manual_seed(heads * 10 + shared)
    config = LlamaConfig(**{**SHAPE, "num_attention_heads": heads, "num_key_value_heads": shared, "head_dim": 8})
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.15)
    model.save_pretrained(folder)
    return model


def engine_for(folder: Path, slots: int) -> TorchEngine:
    return TorchEngine(folder, ComputeConfig(device="cpu", sampler=TorchSampler(slots=slots)), 256)


def deepest(found: list[Arrangement]) -> int:
    """The most prefixes that lie one in another."""
    return max(
        sum(part.first <= one.first < part.last for part in step.shared) for step in found for one in step.shared
    )


def test_prefixes_are_found_one_in_another() -> None:
    system, first, second = tuple(range(2 * BLOCK)), (1,) * BLOCK, (2,) * BLOCK
    prompts = [system + first + (5,), system + second, (7,) * 40, system + first + (6, 6), system[:BLOCK]]
    chains = [chain(ids) for ids in prompts]
    made = arrange([10, 11, 12, 13, 14], prompts, chains, [1, 4, 1, 2, 1], 20)
    # All but the third begin with 16 tokens, which saves 3 * 16; three go on with 16 more, which saves 2 * 16; the
    # first and the fourth have 16 more, which would save 16 only. Tokens: 1, 1, 4, 1 and 2.
    assert made.order == (2, 4, 1, 0, 3)
    assert made.shared == (
        Shared(slot=10, start=0, stop=16, first=1, last=9),
        Shared(slot=10, start=16, stop=32, first=2, last=9),
    )
    assert made.skips == (32, 32, 0, 32, 16)
    nearer = arrange([10, 11, 12, 13, 14], prompts, chains, [1, 4, 1, 2, 1], 15)
    assert nearer.shared[2] == Shared(slot=10, start=32, stop=48, first=6, last=9)
    assert nearer.skips == (48, 32, 0, 48, 16)
    # 2 * 32 for the three without the 16 of all before.
    further = arrange([10, 11, 12, 13, 14], prompts, chains, [1, 4, 1, 2, 1], 63)
    assert further.shared == (Shared(slot=10, start=0, stop=32, first=2, last=9),)
    assert arrange([10, 11, 12, 13, 14], prompts, chains, [1, 4, 1, 2, 1], 64).shared == ()
    assert arrange([], [], [], [], 0) == Arrangement(order=(), skips=(), shared=())


def test_prompts_of_one_hash_are_not_taken_for_each_other() -> None:
    prompts = [(1,) * 40, (2,) * 40, (1,) * 40]
    made = arrange([0, 1, 2], prompts, [chain(prompts[0])] * 3, [1, 1, 1], 0)
    assert all({prompts[made.order[n]] for n in range(part.first, part.last)} == {(1,) * 40} for part in made.shared)
    assert made.skips[1] == 0


@given(st.integers(0, 10_000), st.integers(0, 12), st.sampled_from([0, 17, 60, 10**9]))
def test_what_a_row_skips_is_what_it_shares(seed: int, count: int, least: int) -> None:
    """Prompts of a random tree: the parts over a row's tokens cover its skipped positions once, with its own tokens."""
    draw = random.Random(seed)
    prompts: list[tuple[int, ...]] = []
    for _ in range(count):
        parent = draw.choice(prompts) if prompts and draw.random() < 0.8 else ()
        prompts.append(parent[: draw.randrange(len(parent) + 1)] + draw_ids(draw, draw.randrange(1, 50)))
    chains = [chain(ids)[: draw.randrange(8)] for ids in prompts]
    counts, slots = [draw.randrange(1, 5) for _ in prompts], draw.sample(range(99), count)
    made = arrange(slots, prompts, chains, counts, least)
    assert sorted(made.order) == list(range(count))
    ids, first = dict(zip(slots, prompts, strict=True)), 0
    for place in made.order:
        last, covered = first + counts[place], 0
        for part in made.shared:
            assert part.last <= first or last <= part.first or part.first <= first < last <= part.last
            if part.first <= first < part.last:
                assert part.start == covered
                covered = part.stop
                assert ids[part.slot][:covered] == prompts[place][:covered]
        assert covered == made.skips[place] <= len(chains[place]) * BLOCK
        first = last
    for part in made.shared:
        spans = [sum(counts[place] for place in made.order[:n]) for n in range(count)]
        members = sum(part.first <= span < part.last for span in spans)
        assert (members - 1) * (part.stop - part.start) > least


@settings(max_examples=40, deadline=None)
@given(
    keys=st.sampled_from([1, 2, 3]),
    groups=st.sampled_from([1, 2, 4]),
    size=st.sampled_from([4, 16]),
    seed=st.integers(),
)
def test_merged_attention_is_attention_to_all(keys: int, groups: int, size: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed % 2**31)
    rows, length, scaling = 5, 37, 0.4
    queries = 3 * torch.randn(rows, keys, groups, size, generator=generator)
    cached = torch.randn(2, rows, length, keys, size, generator=generator)
    # Rows 1 to 4 share 10 positions, rows 2 and 3 the next 8 too; row 0 is alone.
    cached[:, 1:5, :10] = cached[:, 2:3, :10].clone()
    cached[:, 2:4, 10:18] = cached[:, 3:4, 10:18].clone()
    shared = (Shared(slot=2, start=0, stop=10, first=1, last=5), Shared(slot=3, start=10, stop=18, first=2, last=4))
    all_keys, all_values = cached.transpose(2, 3).unbind()
    unseen = torch.arange(length) < torch.tensor([0, 10, 18, 18, 10]).unsqueeze(1)
    mask = torch.zeros(rows, length).masked_fill_(unseen, -torch.inf)[:, None, None]
    out, sums = attend_with_sums(queries, all_keys, all_values, mask, scaling)
    merged = add_shared(out, sums, queries, (all_keys, all_values), shared, scaling)
    wanted = F.scaled_dot_product_attention(queries, all_keys, all_values, scale=scaling)
    assert torch.allclose(merged, wanted, atol=1e-5)


async def rollouts(engine: TorchEngine, model: PreTrainedModel, seed: int, count: int, system: int = 40) -> float:
    """Groups of random sizes whose attempts come and go at random; the largest mismatch.

    All prompts begin with the same `system` tokens.
    """
    draw, prompts = random.Random(seed), list[tuple[int, ...]]()
    opening = draw_ids(draw, system)
    while len(prompts) < count:
        prompts += [opening + draw_ids(draw, draw.randrange(1, 60))] * draw.randrange(1, 6)

    async def play(number: int) -> float:
        ids, worst = prompts[number], 0.0
        draw = random.Random(seed * 1000 + number)
        for turn in range(draw.randrange(1, 4)):
            for _ in range(draw.randrange(0, 30)):
                await asyncio.sleep(0)
            request = SampleRequest(prompt_ids=ids, max_new_tokens=draw.randrange(1, 15), seed=number * 10 + turn)
            task = asyncio.create_task(engine.generate(request))
            if draw.random() < 0.1:
                await asyncio.sleep(0)
                task.cancel()
                break
            completion = await task
            assert len(completion.token_ids) == request.max_new_tokens  # its own, not another row's
            worst = max(worst, mismatch(model, request, completion))
            ids += completion.token_ids + draw_ids(draw, draw.randrange(0, 12))
        return worst

    return max(await asyncio.gather(*(play(number) for number in range(count))))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), slots=st.sampled_from([2, 5, 12, 24]), system=st.integers(0, 60))
def test_any_schedule_gives_plain_logprobs(
    qwen: tuple[Path, PreTrainedModel], seed: int, slots: int, system: int
) -> None:
    folder, model = qwen
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(step_plan._CALL_BYTES, "cpu", 1)
        patch.setattr(step_plan, "_SHARE_BYTES", 1)
        assert asyncio.run(rollouts(engine_for(folder, slots), model, seed, 24, system)) < 1e-4


@pytest.mark.parametrize(("heads", "shared"), [(4, 4), (4, 1), (8, 2), (1, 1)])
def test_heads_of_all_kinds(heads: int, shared: int, tmp_path: Path, found: list[Arrangement]) -> None:
    model = llama(tmp_path, heads, shared)
    assert asyncio.run(rollouts(engine_for(tmp_path, 12), model, seed=heads, count=30)) < 1e-4
    assert deepest(found) >= 2


def test_a_model_that_runs_through_its_own_forward_pass(tmp_path: Path, found: list[Arrangement]) -> None:
    model = make("granite", tmp_path)  # with a scaling of its own
    assert asyncio.run(rollouts(engine_for(tmp_path, 12), model, seed=3, count=30)) < 1e-4
    assert deepest(found) >= 2


@pytest.mark.parametrize("length", [1, 15, 16, 17, 31, 33, 47, 100])
def test_a_group_shares_whole_blocks_of_its_prompt(
    length: int, qwen: tuple[Path, PreTrainedModel], found: list[Arrangement]
) -> None:
    folder, model = qwen
    engine, prompt = engine_for(folder, 8), tuple(range(length))
    found.clear()

    async def run(count: int) -> list[Completion]:
        requests = [SampleRequest(prompt_ids=prompt, max_new_tokens=20, seed=seed) for seed in range(count)]
        made = await asyncio.gather(*(engine.generate(request) for request in requests))
        assert max(mismatch(model, *pair) for pair in zip(requests, made, strict=True)) < 1e-4
        return made

    together = asyncio.run(run(6))
    # The last token is computed with the first draw, so it is no part of what is cached.
    assert max((max(step.skips, default=0) for step in found), default=0) == (length - 1) // BLOCK * BLOCK
    found.clear()
    alone = asyncio.run(run(1))
    assert not any(step.shared for step in found)
    assert alone[0].token_ids == together[0].token_ids


def test_rows_of_a_group_are_moved_together(qwen: tuple[Path, PreTrainedModel], found: list[Arrangement]) -> None:
    folder, model = qwen
    engine = engine_for(folder, 48)
    prompt = tuple(range(50))
    short = [SampleRequest(prompt_ids=(n, 1, 2), max_new_tokens=3, seed=n) for n in range(36)]
    long = [SampleRequest(prompt_ids=(*prompt, n), max_new_tokens=60, seed=n) for n in range(12)]
    furthest: list[int] = []

    async def run() -> list[Completion]:
        asked = [asyncio.create_task(engine.generate(request)) for request in (*short, *long)]
        while not all(task.done() for task in asked):
            furthest.append(max(engine._decoder._rows, default=0))
            await asyncio.sleep(0)
        return [task.result() for task in asked]

    completions = asyncio.run(run())
    assert furthest[-3] < 20 < max(furthest)  # else nothing was moved, and the test says nothing
    assert max(mismatch(model, *pair) for pair in zip((*short, *long), completions, strict=True)) < 1e-4
    assert any(len(step.skips) == 12 and min(step.skips) == 48 for step in found)


def test_groups_under_new_weights_and_after_an_interruption(
    qwen: tuple[Path, PreTrainedModel], tmp_path: Path, found: list[Arrangement]
) -> None:
    (folder, model), newer = qwen, make("qwen3", tmp_path, seed=1)
    engine = engine_for(folder, 6)
    prompt = tuple(range(70))

    def requests(written: list[tuple[int, ...]]) -> list[SampleRequest]:
        return [
            SampleRequest(prompt_ids=prompt + ids, max_new_tokens=40, seed=seed) for seed, ids in enumerate(written)
        ]

    async def run() -> None:
        begun = requests([()] * 6)
        asked = [asyncio.create_task(engine.generate(request)) for request in begun]
        while engine._decoder._time < 20:
            await asyncio.sleep(0)
        await engine.interrupt()
        pieces = await asyncio.gather(*asked)
        assert all(piece.interrupted and piece.token_ids for piece in pieces)
        assert max(mismatch(model, *pair) for pair in zip(begun, pieces, strict=True)) < 1e-4
        written = [piece.token_ids for piece in pieces]
        for weights in (model, newer):
            await engine.load_weights(weights.state_dict(), 1)
            found.clear()
            rest = await asyncio.gather(*(engine.generate(request) for request in requests(written)))
            assert max(mismatch(weights, *pair) for pair in zip(requests(written), rest, strict=True)) < 1e-4
            assert any(step.shared for step in found)

    asyncio.run(run())
