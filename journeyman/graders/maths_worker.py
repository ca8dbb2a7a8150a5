"""The process behind `MathsWorker`: a line of JSON in, `true`, `false` or `null` out; its clocks kill it."""

import json
import logging
import os
import resource
import signal
import sys

MEMORY = 2 * 2**30
"""Bytes of address space."""
WAIT = 4.0
"""Seconds of the world's for each of the processor's."""


def main() -> None:
    """Serve until the input ends."""
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not look like an answer
    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    compare("$\\frac{1}{2}$", "0.5")  # imports and compiles, before the first clock is set
    print("ready", file=output, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        _set_clocks(request["seconds"])
        equal = compare(request["reference"], request["prediction"])
        _set_clocks(0.0)
        print(json.dumps(equal), file=output, flush=True)


def _set_clocks(seconds: float) -> None:
    """The process ends after so much time of its own, or more of the world's: on a busy machine it has to wait."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, WAIT * seconds)


def compare(reference: str, prediction: str) -> bool | None:
    """Whether math-verify finds the two equal; None where it breaks. Without its own clock: that needs a main thread."""
    from math_verify import parse, verify

    try:
        gold = parse(reference, parsing_timeout=None)  # type: ignore[arg-type]
        found = parse(prediction, parsing_timeout=None)  # type: ignore[arg-type]
        return bool(gold and found and verify(gold, found, timeout_seconds=None))
    except Exception:  # the boundary: whatever sympy raises on a formula is no verdict
        return None


if __name__ == "__main__":
    main()
