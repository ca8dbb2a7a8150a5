"""Boxes for code that models write: no network, no files but their own, bounded, gone when the call is over.

    outcome = await run_program("print(input())", stdin="hello", limits=Bounds(seconds=2))
    outcome.stdout, outcome.exit_code, outcome.killed

`run_program` runs Python source or any command once; `Interpreter` keeps its state from call to call. Both use
bubblewrap and raise `UserError` where it can't be used, unless the environment variable JOURNEYMAN_SANDBOX is `off`.
What is bounded, by what, and what isn't: `docs/isolation.md`.
"""

from journeyman.tools.sandbox.bounds import Bounds, Killed, Outcome
from journeyman.tools.sandbox.command import require_sandbox
from journeyman.tools.sandbox.interpreter import Answer, Interpreter
from journeyman.tools.sandbox.program import run_program

__all__ = ["Answer", "Bounds", "Interpreter", "Killed", "Outcome", "require_sandbox", "run_program"]
