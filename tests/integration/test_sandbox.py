"""Boxes and the interpreter in them, seen from the side of those who use them."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from journeyman.errors import UserError
from journeyman.graders.code import CallTest, grade_code
from journeyman.tools.base import CallContext
from journeyman.tools.calls import run_call
from journeyman.tools.python import MAX_CODE, Python
from journeyman.tools.sandbox import Bounds, Interpreter, command, interpreter, require_sandbox, run_program
from journeyman.tools.sandbox.census import children

pytestmark = pytest.mark.integration
MIB = 2**20


@pytest.fixture(autouse=True)
def sandbox() -> None:
    try:
        require_sandbox()
    except UserError as error:
        pytest.skip(str(error))


def test_a_program_reads_writes_and_ends() -> None:
    code = "import sys, helper\nprint(helper.double(int(input())), open('in/data').read())\n"
    code += "print('é', file=sys.stderr)\nsys.exit(7)"
    files = {"helper.py": "def double(x): return 2 * x", "in/data": b"bytes"}
    outcome = asyncio.run(run_program(code, files, stdin="21\n"))
    assert (outcome.exit_code, outcome.stdout, outcome.stderr, outcome.killed) == (7, "42 bytes\n", "é\n", "")


def test_any_command_runs_and_its_exit_code_is_the_shells() -> None:
    run = lambda line: asyncio.run(run_program(["sh", "-c", line]))  # noqa: E731
    assert run("pwd; exit 3").stdout == "/scratch\n"
    assert run("exit 3").exit_code == 3
    assert run("kill -9 $$").exit_code == 128 + 9
    assert run("no-such-program").exit_code == 127


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../../x", "", "a\0b"])
def test_files_lie_below_the_scratch_folder(path: str) -> None:
    with pytest.raises(ValueError, match="no path below"):
        asyncio.run(run_program("1", {path: "x"}))


def test_a_package_is_there_only_when_asked_for() -> None:
    code = "import sympy; print(sympy.factorint(1001))"
    bounds = Bounds(seconds=60.0)
    assert "ModuleNotFoundError" in asyncio.run(run_program(code, limits=bounds)).stderr
    assert asyncio.run(run_program(code, limits=bounds, packages=["sympy"])).stdout == "{7: 1, 11: 1, 13: 1}\n"
    with pytest.raises(UserError, match="no-such-package is not installed"):
        asyncio.run(run_program(code, packages=["no-such-package"]))


def test_root_gives_a_box_a_user_of_its_own_without_any_right() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can")

    async def play() -> dict[str, str]:
        made = await Interpreter.start()
        try:
            (main,) = children(made._box._root)
            lines = Path(f"/proc/{main}/status").read_text().splitlines()
            return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
        finally:
            await made.close()

    status = asyncio.run(play())
    assert int(status["Uid"].split()[0]) != 0
    assert status["Groups"] == ""
    assert {name: int(status[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {
        "CapEff": 0,
        "CapPrm": 0,
        "CapInh": 0,
        "CapAmb": 0,
    }
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


AS_NOBODY = """
import asyncio
from journeyman.tools.sandbox import Bounds, Interpreter, run_program
SMALL = Bounds(seconds=20.0, memory=160 << 20, processes=5, scratch=4 << 20, files=500)
FORKS = '''
import os, time
n = 0
try:
    while n < 50:
        if not os.fork(): time.sleep(30); os._exit(0)
        n += 1
except OSError: print(n)
'''
MEMORY = '''
import os, time
for _ in range(4):
    if not os.fork(): x = bytearray(b'x') * (90 << 20); time.sleep(30)
time.sleep(30)
'''
FILES = "for i in range(10 ** 7): open(f'f{i}', 'w').close()"
SPACE = "open('f', 'wb').write(bytes(9 << 20))"
SIGNAL = "import os; os.kill(-1, 9)"
async def main():
    assert int((await run_program(FORKS, limits=SMALL)).stdout) <= 6
    assert (await run_program(MEMORY, limits=SMALL)).killed == "memory"
    assert (await run_program(FILES, limits=SMALL)).killed == "files"
    assert "No space left" in (await run_program(SPACE, limits=SMALL)).stderr
    assert "No such process" in (await run_program(SIGNAL, limits=SMALL)).stderr
    assert "Permission denied" not in (await run_program("open('/etc/passwd')", limits=SMALL)).stderr  # not there at all
    interpreter = await Interpreter.start(SMALL)
    assert (await interpreter.run("import subprocess; p = subprocess.Popen(['sleep', '99']); x = 1")).ok
    assert (await interpreter.run("x + 1, p.wait()")).output == "(2, -9)\\n"
    await interpreter.close()
    print("all contained")
asyncio.run(main())
"""


def test_an_ordinary_user_has_the_same_boxes(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("the other tests run as an ordinary user already")
    if sys.version_info[:2] != (3, 11) or not os.access("/usr/bin/python3.11", os.X_OK):
        pytest.skip("no Python 3.11 that every user can read")
    packages = Path(sys.prefix) / "lib/python3.11/site-packages"
    project = Path(command.__file__).parents[3]
    become = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "env", "-i", "-C", "/"]
    variables = ["PATH=/usr/bin:/bin", f"PYTHONPATH={project}:{packages}", "PYTHONDONTWRITEBYTECODE=1"]
    probe = subprocess.run([*become, *variables, "/usr/bin/python3.11", "-c", "import journeyman.tools.sandbox"])
    if probe.returncode:
        pytest.skip("nobody can't read this environment")
    done = subprocess.run([*become, *variables, "/usr/bin/python3.11", "-c", AS_NOBODY], capture_output=True, text=True)
    assert done.stdout == "all contained\n", done.stderr


def play(*cells: str, tool: Python | None = None) -> list[str]:
    """The observations of an attempt's calls."""

    async def calls() -> list[str]:
        opened = (tool or Python()).open(CallContext(seed=3))
        try:
            return [(await run_call(opened, {"code": cell})).output for cell in cells]
        finally:
            await opened.close()

    return asyncio.run(calls())


def test_the_tool_keeps_its_state_and_echoes_like_a_prompt() -> None:
    outputs = play(
        "x = 20\ndef f(n):\n    return n + 1", "f(x) * 2", "print('a'); None", "for i in range(2): print(i)", "_"
    )
    assert outputs == ["no output", "42", "a", "0\n1", "42"]


def test_an_exception_is_an_observation_and_state_stays() -> None:
    failed, syntax, after = play("x = 5\nprint('before')\n1 / 0", "1 +", "x")
    assert failed.startswith("error: the code raised an exception\nbefore\nTraceback")
    assert failed.endswith("ZeroDivisionError: division by zero")
    assert "worker" not in failed and "line 3" in failed
    assert "SyntaxError" in syntax
    assert after == "5"


def test_long_output_loses_its_middle() -> None:
    (output,) = play("print('a' * 3000 + 'b' * 3000)")
    assert output.startswith("a" * 2000) and output.rstrip().endswith("b" * 1999)
    assert "characters left out" in output


def test_a_call_out_of_time_says_that_the_state_is_lost() -> None:
    tool = Python(Bounds(seconds=0.4))
    _, ended, after = play("x = 1", "while True: pass", "x", tool=tool)
    assert ended == "error: the code took longer than 0.4 seconds and was stopped: all variables are lost"
    assert "NameError" in after


def test_the_budget_holds_for_all_calls_together() -> None:
    tool = Python(Bounds(seconds=5.0), budget=0.5)
    first, second, third = play("import time; time.sleep(0.3)", "time.sleep(5)", "1", tool=tool)
    assert first == "no output"
    assert "took longer" in second
    assert third == "error: the 0.5 seconds for all calls together are used up"


def test_too_much_code_is_refused() -> None:
    assert play("x" * (MAX_CODE + 1)) == [f"error: the code has more than {MAX_CODE} characters"]


def test_a_state_is_replayed_with_the_same_draws() -> None:
    async def calls() -> tuple[str, str]:
        tool = Python()
        first = tool.open(CallContext(seed=3))
        await first.call({"code": "import random\nx = random.random()"})
        await first.call({"code": "y = x\n1 / 0"})
        state = first.state_dict()
        second = tool.open(CallContext(seed=4))
        second.load_state_dict(state)
        assert second.state_dict() == state
        seen = [(await opened.call({"code": "x, y, random.random()"})).output for opened in (first, second)]
        await first.close()
        await second.close()
        return seen[0], seen[1]

    first, second = asyncio.run(calls())
    assert first == second


def test_an_instance_that_was_not_opened_keeps_nothing() -> None:
    async def calls() -> list[str]:
        tool = Python()
        return [(await tool.call({"code": code})).output for code in ("x = 1\nx", "'x' in dir()")]

    assert asyncio.run(calls()) == ["1", "False"]


def test_interpreters_beyond_the_limit_wait_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreter, "MOST_ALIVE", 3)

    async def attempt(tool: Python, number: int) -> str:
        opened = tool.open(CallContext(seed=number))
        try:
            await opened.call({"code": f"x = {number}"})
            return (await opened.call({"code": "x * 2"})).output
        finally:
            await opened.close()

    async def all_at_once() -> list[str]:
        tool = Python()
        return await asyncio.gather(*(attempt(tool, number) for number in range(12)))

    before = len(os.listdir("/proc/self/fd"))
    assert asyncio.run(all_at_once()) == [str(2 * number) for number in range(12)]
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_cancelled_call_ends_its_interpreter_and_the_state_is_made_again() -> None:
    async def calls() -> str:
        opened = Python().open(CallContext())
        try:
            await opened.call({"code": "x = 5"})
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(opened.call({"code": "while True: pass"}), timeout=0.2)
            return (await opened.call({"code": "x"})).output
        finally:
            await opened.close()

    assert asyncio.run(calls()) == "5"


def test_without_a_sandbox_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    command._trouble.cache_clear()
    try:
        with pytest.raises(UserError, match="bwrap is not installed") as caught:
            asyncio.run(run_program("1"))
        assert "apt-get install bubblewrap" in str(caught.value)
        assert "JOURNEYMAN_SANDBOX=off" in str(caught.value)
    finally:
        command._trouble.cache_clear()


def test_the_switch_has_two_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(command.SWITCH, "maybe")
    with pytest.raises(UserError, match="neither bwrap nor off"):
        asyncio.run(run_program("1"))


def test_switched_off_the_tool_still_works_and_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(command.SWITCH, "off")
    command._warn_once.cache_clear()
    with pytest.warns(RuntimeWarning, match="all of your rights"):
        outputs = play("x = 1", "x + 1", "while True: pass", tool=Python(Bounds(seconds=0.4)))
    assert outputs[:2] == ["no output", "2"]
    assert "took longer" in outputs[2]


def test_results_of_functions_are_compared_as_json() -> None:
    code = "def same(x): return x\ndef pair(a): return (a, {'k': a / 3})"
    right = [CallTest(function="pair", arguments=[1], expected=[1, {"k": 0.3333333333333333}])]
    assert asyncio.run(grade_code(code, right)).correct
    for argument, expected in ((1, True), (0, False), ("1", 1), ([], {}), (None, 0), ([1, 2], [2, 1])):
        grade = asyncio.run(grade_code(code, [CallTest(function="same", arguments=[argument], expected=expected)]))
        assert (grade.correct, grade.reason) == (False, "test 1: another result")
    with pytest.raises(ValueError, match="no tests"):
        asyncio.run(grade_code(code, []))
