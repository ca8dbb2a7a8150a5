"""The parts of the torch sampler, each against a naive reference."""

import random
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from journeyman.rollout.draw import draw, spread_seed, uniforms
from journeyman.rollout.prefix_index import BLOCK, PrefixIndex, chain
from journeyman.rollout.step_plan import moves, segments

_MASK = (1 << 64) - 1


def splitmix(state: int) -> int:
    """The output function of Steele, Lea and Flood's generator, on Python's integers."""
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
    return state ^ (state >> 31)


@given(st.integers(-(2**70), 2**70), st.integers(0, 10_000))
def test_uniforms_follow_from_seed_and_index(seed: int, index: int) -> None:
    spread = spread_seed(seed)
    assert -(2**63) <= spread < 2**63
    state = ((spread & _MASK) + index * 0x9E3779B97F4A7C15) & _MASK
    assert float(uniforms(torch.tensor([spread]), torch.tensor([index]))) == (splitmix(state) >> 40) / 2**24


def test_uniforms_are_spread_evenly_over_seeds_and_over_indices() -> None:
    seeds = torch.tensor([spread_seed(seed) for seed in range(20_000)])
    for values in (uniforms(seeds, torch.zeros_like(seeds)), uniforms(seeds[:1].expand(20_000), torch.arange(20_000))):
        counts = torch.histc(values, bins=10, min=0, max=1)
        assert float((counts - 2000).abs().max()) < 5 * (20_000 * 0.1 * 0.9) ** 0.5  # five standard deviations
        assert float(torch.corrcoef(torch.stack((values[1:], values[:-1])))[0, 1].abs()) < 0.03


@given(
    vocabulary=st.sampled_from([1, 5, 63, 64, 65, 128, 150]),
    temperature=st.sampled_from([0.3, 1.0, 2.5]),
    seed=st.integers(0, 1000),
)
def test_draw_takes_the_token_at_which_the_running_sum_passes_the_number(
    vocabulary: int, temperature: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(8, vocabulary, generator=generator)
    numbers = torch.rand(8, generator=generator)
    tokens, logprobs = draw(logits, torch.full((8,), temperature), numbers)
    exact = torch.log_softmax(logits.double() / temperature, dim=-1)
    below = torch.cat((torch.zeros(8, 1), exact.exp().cumsum(1)), dim=1)
    rows = torch.arange(8)
    assert bool((below[rows, tokens] <= numbers + 1e-6).all())
    assert bool((numbers - 1e-6 <= below[rows, tokens + 1]).all())
    assert torch.allclose(logprobs.double(), exact[rows, tokens], atol=1e-5)


def test_draw_never_takes_what_has_no_probability() -> None:
    logits = torch.full((3, 130), -torch.inf)
    logits[:, [63, 64, 127]] = 0.0
    numbers = torch.tensor([0.0, 0.5, 1 - 2.0**-24])
    tokens, logprobs = draw(logits, torch.ones(3), numbers)
    assert tokens.tolist() == [63, 64, 127]
    assert torch.allclose(logprobs, torch.full((3,), -1.0986123))  # log(1/3)


def test_draw_at_temperature_0_takes_the_likeliest() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0], [0.0, 2.0, 1.0]])
    tokens, logprobs = draw(logits, torch.tensor([0.0, 1.0]), torch.tensor([0.99, 0.99]))
    assert tokens.tolist() == [1, 2]
    # log-softmax at temperature 1: 2 - log(1 + e^2 + e) = -0.40761, and 1 less.
    assert logprobs.tolist() == pytest.approx([-0.40761, -1.40761], abs=1e-5)


def test_the_index_finds_the_longest_prefix() -> None:
    index, first, second = PrefixIndex(), tuple(range(40)), (*range(20), 99, *range(30))
    index.put(0, first, chain(first))
    index.put(1, second, chain(second))
    wanted = (*range(20), 99, 0, 1, 77)
    assert index.match(wanted, chain(wanted)) == (1, 23)
    assert index.match(first[:35], chain(first[:35])) == (0, 35)
    assert index.match((5, 6), chain((5, 6))) == (-1, 0)
    index.drop(0)
    assert index.match(first, chain(first))[1] <= 20


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.integers(0, 4)), max_size=40), st.integers(0, 9))
def test_the_index_never_claims_tokens_that_are_not_there(changes: list[tuple[int, int, int]], seed: int) -> None:
    """Rows are put, dropped and exchanged at random; what a match claims is compared with what the rows hold."""
    draw_from, index, held = random.Random(seed), PrefixIndex(), {}
    for row, kind, blocks in changes:
        if kind == 0:
            held[row] = tuple(draw_from.randrange(2) for _ in range(blocks * BLOCK + 3))
            index.put(row, held[row], chain(held[row]))
        elif kind == 1:
            held.pop(row, None)
            index.drop(row)
        elif row != blocks:
            moved = {blocks: held.pop(row, None), row: held.pop(blocks, None)}
            held.update({place: ids for place, ids in moved.items() if ids})
            index.swap(row, blocks)
        for ids in held.values():
            found, length = index.match(ids, chain(ids))
            if len(ids) >= BLOCK:
                assert held[found][:length] == ids[:length]
            assert all(index.length(place) == len(there) for place, there in held.items())


@given(st.dictionaries(st.integers(0, 300), st.integers(1, 500), min_size=1), st.sampled_from([1, 400, 10**9]))
def test_segments_cover_every_row_and_cost_no_more_than_one(lengths: dict[int, int], call: int) -> None:
    parts = segments(lengths, call)
    for slot, length in lengths.items():
        assert sum(start <= slot < stop and length <= longest for start, stop, longest in parts) == 1
    assert all(first[1] <= second[0] for first, second in pairwise(parts))
    cost = sum(call + (stop - start) * longest for start, stop, longest in parts)
    assert cost <= call + (max(lengths) + 1) * max(lengths.values())
    if call == 10**9:
        assert len(parts) == 1


def test_a_long_row_among_short_ones_gets_a_segment_of_its_own() -> None:
    lengths = dict.fromkeys(range(64), 50) | {20: 450}
    assert segments(lengths, 400) == [(0, 16, 50), (16, 24, 450), (24, 64, 50)]


@given(st.sets(st.integers(0, 200), min_size=1), st.data())
def test_moves_leave_no_hole_and_touch_no_held_slot(slots: set[int], data: st.DataObject) -> None:
    held = data.draw(st.sets(st.sampled_from(sorted(slots))))
    active = slots - held
    pairs = moves(active, held)
    sources, targets = {pair[0] for pair in pairs}, {pair[1] for pair in pairs}
    assert sources <= active
    assert not targets & slots
    assert len(sources) == len(targets) == len(pairs)
    after = (active - sources) | targets
    if pairs:
        assert max(after) < len(slots)
    elif not held:
        assert max(slots) + 1 - len(slots) <= max(8, len(slots) // 4)
