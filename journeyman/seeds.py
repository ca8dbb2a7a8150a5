"""Every random draw follows from (run, step, problem, sample)."""

import hashlib


def derive(*parts: int | str) -> int:
    """A 63-bit seed from its parts; different parts give independent seeds."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
