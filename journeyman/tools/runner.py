"""Running code that a model wrote: the one door to the sandbox that the maker and built worlds use."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from journeyman.seeds import derive

SECONDS = 5.0
"""Longest that one program may run (ours)."""
_CALLS = """
def _run_calls():
    import json, sys
    made = []
    for name, arguments in json.loads({calls!r}):
        try:
            value = globals()[name](**arguments)
            made.append({{"value": json.loads(json.dumps(value, allow_nan=False))}})
        except BaseException as error:
            made.append({{"error": type(error).__name__ + ": " + str(error)[:300]}})
    sys.stdout.write("\\n" + {mark!r} + json.dumps(made))
_run_calls()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How a program went."""

    ok: bool
    """Whether it ended by itself, with exit code 0."""
    output: str
    error: str = ""
    """What went wrong, in words that a model can act on."""


class Runner(Protocol):
    """Runs Python programs away from this process: no network, no files of the host, bounded."""

    async def run(self, program: str, *, seconds: float = SECONDS) -> Ran:
        """Raises `InfrastructureError` where there is no sandbox."""
        ...


class Boxed:
    """The project's sandbox as a `Runner`."""

    async def run(self, program: str, *, seconds: float = SECONDS) -> Ran:
        from journeyman.tools.sandbox import Bounds, run_program

        outcome = await run_program(program, limits=Bounds(seconds=seconds))
        lines = outcome.stderr.strip().splitlines()
        said = lines[-1][:300] if lines else f"exit code {outcome.exit_code}"
        error = f"it was ended for its {outcome.killed}" if outcome.killed else said
        ok = outcome.exit_code == 0 and not outcome.killed
        return Ran(ok=ok, output=outcome.stdout, error="" if ok else error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """What one call of a function in the box gave."""

    value: Any = None
    """JSON."""
    error: str = ""
    """`Type: message` of what it raised; empty where it returned."""
    broke: bool = False
    """Whether the whole program failed, rather than this call: out of time, out of memory, no such code."""

    @property
    def text(self) -> str:
        """The value as a model reads it: text bare, anything else as JSON."""
        return self.value if isinstance(self.value, str) else json.dumps(self.value, ensure_ascii=False)


async def run_calls(runner: Runner, code: str, calls: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Returned]:
    """Define `code` in one box and make calls of its functions in order, state kept between them.

    One result a call; where the program itself fails every call has its error. A program can forge what its calls
    return, which is its own to say; it can't know what the caller compares that with.
    """
    text = json.dumps([[name, dict(arguments)] for name, arguments in calls])
    mark = f"returned {derive('mark', code, text):016x} "
    ran = await runner.run(code + _CALLS.format(calls=text, mark=mark))
    _, found, tail = ran.output.rpartition(mark)
    failed = Returned(error=ran.error or "the program ended before its calls were made", broke=True)
    if not ran.ok or not found:
        return [failed] * len(calls)
    try:
        return [Returned(**row) for row in json.loads(tail)]
    except (json.JSONDecodeError, TypeError):
        return [failed] * len(calls)


async def run_tests(runner: Runner, code: str, tests: str) -> str:
    """Why tests fail on code; empty where they pass. Functions named `test_...` are called, and all must come to an end."""
    mark = f"passed {derive('mark', code, tests):016x}"
    callers = "\nfor _name in [n for n in globals() if n.startswith('test_')]: globals()[_name]()\n"
    ran = await runner.run(f"{code}\n{tests}\n{callers}\nprint({mark!r})")
    if not ran.ok:
        return ran.error or "the tests failed without a message"
    return "" if ran.output.rstrip().endswith(mark) else "the program ended before its tests did"
