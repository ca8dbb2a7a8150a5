"""The program in an interpreter's box: runs cells and calls functions, one request a line on standard input's socket.

It is sent to the box as source and imported by nobody. Nothing that it says is believed but about itself: the code that
it runs can do whatever it does. Imports stand where they are needed: most of a box's start would go into them.
"""

import builtins
import posix
import sys
from _ast import Expr, Expression, Module, PyCF_ONLY_AST
from _frozen_importlib_external import PathFinder  # pyright: ignore[reportMissingImports]

FRAMES = 12
"""Most pieces of a traceback that are shown from its beginning, and from its end."""
OPEN = open
"""As it was before any cell could replace it."""
SOURCES: dict[str, str] = {}
"""The cells by the names that tracebacks have for them."""


class Seeded:
    """Seeds the module `random` when it is first imported."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def find_spec(self, name: str, path=None, target=None):
        if name != "random":
            return None
        sys.meta_path.remove(self)  # pyright: ignore[reportArgumentType]
        spec = PathFinder.find_spec(name, path)
        assert spec is not None and spec.loader is not None
        run = spec.loader.exec_module

        def run_and_seed(module) -> None:
            run(module)
            module.seed(self.seed)

        spec.loader.exec_module = run_and_seed
        return spec


def main() -> None:
    requests = OPEN(posix.dup(0), "rb")
    replies = posix.dup(0)
    posix.dup2(posix.open("/dev/null", posix.O_RDONLY), 0)
    home = type(sys)("__main__")
    home.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = home
    sys.argv = [""]
    for line in requests:
        request = eval(line)  # a literal from the host
        text = answer(request, home.__dict__).encode() + b"\n"
        while text:
            text = text[posix.write(replies, text) :]


def answer(request: dict, names: dict) -> str:
    """Do what is asked; the reply as JSON."""
    # Earlier code may have closed or replaced them.
    sys.stdout = OPEN(1, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.stderr = OPEN(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False, buffering=1)
    well, value = True, "null"
    try:
        match request["do"]:
            case "seed":
                sys.meta_path.insert(0, Seeded(request["seed"]))  # pyright: ignore[reportArgumentType]
            case "cell":
                run(request["code"], f"<cell {request['id']}>", names)
            case "call":
                value = call(names[request["function"]], request["arguments"])
    except BaseException as error:  # the boundary: whatever the code raises is an observation
        well = False
        report(error)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:  # closed, full or replaced by the code
            well = False
    return f'{{"id": {request["id"]}, "ok": {"true" if well else "false"}, "value": {value}}}'


def run(code: str, name: str, names: dict) -> None:
    """Run a cell; the value of an expression at its end is shown, as at a prompt."""
    SOURCES[name] = code
    tree = compile(code, name, "exec", PyCF_ONLY_AST)
    assert isinstance(tree, Module)
    last = tree.body[-1] if tree.body else None
    shown = isinstance(last, Expr)
    exec(compile(Module(tree.body[:-1] if shown else tree.body, []), name, "exec"), names)
    if isinstance(last, Expr):
        value = eval(compile(Expression(last.value), name, "eval"), names)
        if value is not None:
            names["_"] = value
            print(repr(value))


def call(function, arguments: str) -> str:
    import json

    return json.dumps(function(*json.loads(arguments)), allow_nan=False)


def report(error: BaseException) -> None:
    try:
        import linecache
        import traceback

        for name, code in SOURCES.items():
            linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
        sys.stdout.flush()
        frames = error.__traceback__
        while frames is not None and not frames.tb_frame.f_code.co_filename.startswith("<cell"):
            frames = frames.tb_next
        if isinstance(error, SystemExit | KeyboardInterrupt):
            frames = None
        lines = traceback.format_exception(error.with_traceback(frames))
        if len(lines) > 2 * FRAMES + 2:
            lines = [*lines[: FRAMES + 1], "  ...\n", *lines[-FRAMES - 1 :]]
        sys.stderr.write("".join(lines))
    except BaseException as other:  # an exception whose own text can't be made
        posix.write(2, f"{type(error).__name__} (and its report fails: {type(other).__name__})\n".encode())


main()
