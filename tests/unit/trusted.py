"""A stand-in for the sandbox: runs the tests' own programs in this process. Never for code that a model wrote."""

import contextlib
import io
import traceback

from journeyman.tools.runner import SECONDS, Ran


class Trusted:
    """A `Runner` that keeps the programs it was given."""

    def __init__(self) -> None:
        self.programs: list[str] = []

    async def run(self, program: str, *, seconds: float = SECONDS) -> Ran:
        self.programs.append(program)
        out = io.StringIO()
        try:
            with contextlib.redirect_stdout(out):
                exec(compile(program, "<program>", "exec"), {"__name__": "__main__"})
        except SystemExit as end:
            return Ran(ok=not end.code, output=out.getvalue())
        except Exception:
            return Ran(ok=False, output=out.getvalue(), error=traceback.format_exc(limit=0).strip().splitlines()[-1])
        return Ran(ok=True, output=out.getvalue())
