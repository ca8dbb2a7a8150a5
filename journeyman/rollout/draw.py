"""Drawing tokens. The randomness of a token depends on (seed, index of the token) alone."""

import torch

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def spread_seed(seed: int) -> int:
    """A signed 64-bit number from a seed, such that neighbouring seeds have nothing in common (splitmix64)."""
    value = (seed + _GOLDEN) & _MASK
    value = ((value ^ (value >> 30)) * _MIX[0]) & _MASK
    value = ((value ^ (value >> 27)) * _MIX[1]) & _MASK
    return _signed(value ^ (value >> 31))


def uniforms(seeds_B: torch.Tensor, indices_B: torch.Tensor) -> torch.Tensor:
    """Numbers in [0, 1) from spread seeds and token indices, both int64: splitmix64's output function, 24 bits of it."""
    value = seeds_B + indices_B * _signed(_GOLDEN)
    value = (value ^ _shift(value, 30)) * _signed(_MIX[0])
    value = (value ^ _shift(value, 27)) * _signed(_MIX[1])
    return _shift(value ^ _shift(value, 31), 40).to(torch.float32) * 2.0**-24


def _shift(value: torch.Tensor, bits: int) -> torch.Tensor:
    """Logical shift to the right; torch's is arithmetic."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def draw(logits_BV: torch.Tensor, temperatures_B: torch.Tensor, uniforms_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A token of each row from softmax(logits / temperature), and its log-probability.

    Temperature 0 takes the likeliest token; its log-probability is that of temperature 1.
    """
    greedy_B = temperatures_B == 0
    scaled_BV = logits_BV.float() / torch.where(greedy_B, 1.0, temperatures_B).unsqueeze(1)
    logprobs_BV = torch.log_softmax(scaled_BV, dim=-1)
    totals_BV = logprobs_BV.exp().cumsum(-1)
    targets_B1 = (uniforms_B * totals_BV[:, -1]).unsqueeze(1)
    tokens_B = torch.searchsorted(totals_BV, targets_B1, right=True).squeeze(1).clamp_(max=logits_BV.shape[1] - 1)
    tokens_B = torch.where(greedy_B, scaled_BV.argmax(-1), tokens_B)
    return tokens_B, logprobs_BV.gather(1, tokens_B.unsqueeze(1)).squeeze(1)
