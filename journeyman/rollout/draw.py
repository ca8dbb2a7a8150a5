"""Drawing tokens. The randomness of a token depends on (seed, index of the token) alone."""

import torch

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_BLOCK = 64


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def spread_seed(seed: int) -> int:
    """A signed 64-bit number from a seed, such that neighbouring seeds have nothing in common (splitmix64)."""
    value = (seed + _GOLDEN) & _MASK
    value = ((value ^ (value >> 30)) * _MIX[0]) & _MASK
    value = ((value ^ (value >> 27)) * _MIX[1]) & _MASK
    return _signed(value ^ (value >> 31))


def uniforms(seeds_B: torch.Tensor, indices_B: torch.Tensor) -> torch.Tensor:
    """Numbers in [0, 1) from spread seeds and token indices, both int64: 24 bits of splitmix64's output function."""
    value = seeds_B + indices_B * _signed(_GOLDEN)
    value = (value ^ _shift(value, 30)) * _signed(_MIX[0])
    value = (value ^ _shift(value, 27)) * _signed(_MIX[1])
    return _shift(value ^ _shift(value, 31), 40).to(torch.float32) * 2.0**-24


def _shift(value: torch.Tensor, bits: int) -> torch.Tensor:
    """Logical shift to the right; torch's is arithmetic."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def draw(
    logits_BV: torch.Tensor, temperatures_B: torch.Tensor, uniforms_B: torch.Tensor, *, greedy: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """A token of each row from softmax(logits / temperature), and its log-probability.

    Temperature 0 takes the likeliest token, with the log-probability of temperature 1; `greedy=False` says that no row
    has it. The sum over the vocabulary is looked up in two levels, which is faster than one running sum and more exact.
    """
    logits_BV = logits_BV.float()
    greedy_B = temperatures_B == 0
    scales_B1 = torch.where(greedy_B, 1.0, temperatures_B).reciprocal().unsqueeze(1)
    highest_B1 = logits_BV.amax(-1, keepdim=True)
    weights_BV = (logits_BV - highest_B1).mul_(scales_B1).exp_()
    tokens_B, totals_B1 = _search(weights_BV, uniforms_B.unsqueeze(1))
    if greedy:
        tokens_B = torch.where(greedy_B, logits_BV.argmax(-1), tokens_B)
    chosen_B1 = logits_BV.gather(1, tokens_B.unsqueeze(1))
    logprobs_B1 = (chosen_B1 - highest_B1).mul_(scales_B1).sub_(totals_B1.log())
    return tokens_B, logprobs_B1.squeeze(1)


def _search(weights_BV: torch.Tensor, uniforms_B1: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The entry of each row at which the running sum passes `uniform` x total, and the total."""
    size = weights_BV.shape[1]
    whole = size // _BLOCK * _BLOCK
    sums = weights_BV[:, :whole].unflatten(1, (-1, _BLOCK)).sum(-1)
    if whole < size:
        sums = torch.cat((sums, weights_BV[:, whole:].sum(-1, keepdim=True)), dim=1)
    running = sums.cumsum(1)
    totals = running[:, -1:]
    targets = uniforms_B1 * totals
    block = torch.searchsorted(running, targets, right=True).clamp_(max=running.shape[1] - 1)
    targets = targets - running.gather(1, block) + sums.gather(1, block)
    entries = block * _BLOCK + torch.arange(_BLOCK, device=block.device)
    inside = weights_BV.gather(1, entries.clamp(max=size - 1)).masked_fill_(entries >= size, 0).cumsum(1)
    # Rounding may put the target past the block's end: then its last entry that can be drawn.
    targets = torch.minimum(targets, inside[:, -1:] * (1 - 2.0**-23))
    place = torch.searchsorted(inside, targets, right=True)
    return (block * _BLOCK + place).clamp_(max=size - 1).squeeze(1), totals
