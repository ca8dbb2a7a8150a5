"""Hostile code, all of it contained: what it tries is in `attacks.py`, what must not have happened is checked here."""

import asyncio
import json
import os
import secrets
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from journeyman.errors import UserError
from journeyman.graders.code import CallTest, ProgramTest, grade_code
from journeyman.tools.base import CallContext
from journeyman.tools.python import MAX_SHOWN, Python
from journeyman.tools.sandbox import Bounds, Interpreter, Outcome, command, require_sandbox, run_program, seccomp
from journeyman.tools.sandbox.census import take
from tests.integration.attacks import BOMBS, CHEATS, ESCAPES, MISCHIEF, POSTLUDE, PRELUDE, REAL

pytestmark = pytest.mark.integration
MIB = 2**20
SMALL = Bounds(
    seconds=0.5,
    cpu_seconds=1,
    memory=160 * MIB,
    processes=12,
    file_size=8 * MIB,
    scratch=16 * MIB,
    files=500,
    output=65536,
)
CALM = replace(SMALL, seconds=20.0, cpu_seconds=10)
"""For what ends by itself, on a machine that may be busy."""
PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", autouse=True)
def sandbox() -> None:
    try:
        require_sandbox()
    except UserError as error:
        pytest.skip(str(error))


@dataclass
class Host:
    """What is at stake, and how to see whether it was touched."""

    folder: Path
    """With a file `canary` in it."""
    secret: str
    listeners: dict[str, socket.socket]
    victim: subprocess.Popen[bytes]
    facts: dict = field(default_factory=dict)

    def unharmed(self) -> None:
        assert sorted(os.listdir(self.folder)) == ["canary", "socket"]
        assert (self.folder / "canary").read_text() == self.secret
        for name, listener in self.listeners.items():
            with pytest.raises(BlockingIOError):
                reached = listener.recv(1) if name == "udp" else listener.accept()
                raise AssertionError(f"{name} was reached: {reached}")
        assert self.victim.poll() is None, "the process was ended"
        assert os.getpriority(os.PRIO_PROCESS, self.victim.pid) == self.facts["priority"]

    def attack(self, body: str, bounds: Bounds) -> Outcome:
        """Run an attack; afterwards nothing of it lives."""
        mark = secrets.token_hex(12)
        files = {"attack.py": PRELUDE + laid_out(body) + POSTLUDE, "host.json": json.dumps(self.facts)}
        outcome = asyncio.run(run_program([*command.python(), "attack.py", mark], files, limits=bounds))
        wait_until(lambda: not living(mark))
        assert self.secret not in outcome.stdout + outcome.stderr
        return outcome


def laid_out(body: str) -> str:
    """A body whose first line may stand right behind the quotes, the others indented by eight."""
    first, *others = body.split("\n")
    lines = textwrap.dedent("\n".join([" " * 8 + first.strip(), *others]) if first.strip() else "\n".join(others))
    return textwrap.indent(lines, "    ")


def living(mark: str) -> list[int]:
    """Processes of the host that have a word in their command line."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [pid for pid in pids if mark.encode() in command_of(pid)]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    secret = secrets.token_hex(16)
    folder = tmp_path_factory.mktemp("host")
    (folder / "canary").write_text(secret)
    os.chmod(folder / "canary", 0o666)
    shared = Path("/dev/shm") / secret
    shared.write_text(secret)
    os.environ["JOURNEYMAN_CANARY"] = secret
    listeners = {
        "inet": socket.create_server(("127.0.0.1", 0)),
        "inet6": socket.create_server(("::1", 0), family=socket.AF_INET6),
        "udp": socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "unix": socket.socket(socket.AF_UNIX),
        "abstract": socket.socket(socket.AF_UNIX),
    }
    listeners["udp"].bind(("127.0.0.1", 0))
    path = os.path.relpath(folder / "socket")  # a socket's name has at most 108 bytes
    listeners["unix"].bind(path)
    listeners["abstract"].bind("\0journeyman-" + secret)
    for name, listener in listeners.items():
        listener.setblocking(False)
        if name in ("unix", "abstract"):
            listener.listen()
    victim = subprocess.Popen(["sleep", "600"])
    column = 0 if os.uname().machine == "x86_64" else 1
    numbers = {name: pair[column] for name, pair in seccomp._DENIED.items()}
    facts = {
        "secret": secret,
        "file": str(folder / "canary"),
        "folder": str(folder),
        "home": str(Path.home()),
        "project": str(PROJECT),
        "pid": os.getpid(),
        "victim": victim.pid,
        "priority": os.getpriority(os.PRIO_PROCESS, victim.pid),
        "port": listeners["inet"].getsockname()[1],
        "port6": listeners["inet6"].getsockname()[1],
        "udp": listeners["udp"].getsockname()[1],
        "unix": str(folder / "socket"),
        "abstract": "journeyman-" + secret,
        "shared": str(shared),
        "numbers": {**numbers, "clone": seccomp._CLONE[column], "clone3": seccomp._CLONE3[column]},
    }
    yield Host(folder, secret, listeners, victim, facts)
    victim.kill()
    victim.wait()
    shared.unlink()
    del os.environ["JOURNEYMAN_CANARY"]
    for listener in listeners.values():
        listener.close()


@pytest.mark.parametrize("name", ESCAPES)
def test_an_escape_is_refused(name: str, host: Host) -> None:
    outcome = host.attack(ESCAPES[name], CALM)
    assert "ESCAPED" not in outcome.stdout, outcome
    if name not in ("signal its group", "signal everybody", "kill the first process"):  # they end themselves
        assert outcome.stdout.startswith("CONTAINED"), outcome
    host.unharmed()


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_ended(name: str, host: Host) -> None:
    ends, body = BOMBS[name]
    outcome = host.attack(body, SMALL if "time" in ends else CALM)
    assert "ESCAPED" not in outcome.stdout, outcome
    assert outcome.killed in ends.split(" "), outcome
    assert outcome.killed or outcome.stdout.startswith("CONTAINED") or outcome.exit_code > 128, outcome
    assert len(outcome.stdout) + len(outcome.stderr) < 3 * SMALL.output
    host.unharmed()


@pytest.mark.parametrize("name", REAL)
def test_without_a_box_the_same_attack_gets_through(
    name: str, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(command.SWITCH, "off")
    command._warn_once.cache_clear()
    own = subprocess.Popen(["sleep", "600"])
    facts = {**host.facts, "folder": str(tmp_path), "victim": own.pid}
    files = {"attack.py": PRELUDE + laid_out(ESCAPES[name]) + POSTLUDE, "host.json": json.dumps(facts)}
    with pytest.warns(RuntimeWarning, match="all of your rights"):
        outcome = asyncio.run(run_program([*command.python(), "attack.py"], files, limits=CALM))
    own.kill()
    own.wait()
    assert "ESCAPED" in outcome.stdout, outcome
    for kind, listener in host.listeners.items():  # what has come in is taken away
        with suppress(BlockingIOError):
            if kind == "udp":
                listener.recv(9)
            else:
                listener.accept()[0].close()


@pytest.mark.parametrize("name", MISCHIEF)
def test_mischief_in_an_interpreter_hurts_itself_at_most(name: str, host: Host) -> None:
    async def play() -> None:
        tool = Python(SMALL)
        bad, good = tool.open(CallContext(seed=1)), tool.open(CallContext(seed=2))
        try:
            assert (await good.call({"code": "x = 40"})).ok
            for code in (MISCHIEF[name], "1 + 1", "2 + 2"):
                result = await bad.call({"code": code})
                assert len(result.output.encode()) < 4 * MAX_SHOWN + 500  # it is Unicode text, and not long
                assert "\0" not in result.output
                assert host.secret not in result.output
            assert (await good.call({"code": "x + 2"})).output == "42"
        finally:
            await bad.close()
            await good.close()

    asyncio.run(play())
    host.unharmed()


def test_nothing_runs_between_calls() -> None:
    mark = secrets.token_hex(12)
    counting = """
import subprocess, threading, time
count = 0
def work():
    global count
    while True:
        count += 1
        time.sleep(0.001)
threading.Thread(target=work, daemon=True).start()
"""
    daemon = f"subprocess.Popen(['setsid', 'sh', '-c', 'sleep 600', '{mark}'], start_new_session=True); None"

    async def play() -> None:
        interpreter = await Interpreter.start(CALM)
        try:
            assert (await interpreter.run(counting)).ok
            assert (await interpreter.run(daemon)).ok
            wait_until(lambda: not living(mark))  # killed, on a busy machine not gone at once
            before = int((await interpreter.run("count")).output)
            await asyncio.sleep(0.5)
            # A tick takes 1 ms: some fall into the calls, but not those of the half second between them.
            assert int((await interpreter.run("count")).output) - before < 250
        finally:
            await interpreter.close()

    asyncio.run(play())


def test_an_attempt_sees_nothing_of_another() -> None:
    leave = "import os, builtins; open('left', 'w').write('x'); mine = 5; builtins.mine = 6; os.environ['LEFT'] = 'x'"
    look = "import builtins, os; [os.listdir('/scratch'), os.listdir('/tmp'), hasattr(builtins, 'mine'), 'LEFT' in os.environ]"
    serve = "import socket; s = socket.socket(socket.AF_UNIX); s.bind('\\0left'); s.listen()"
    reach = "import socket; socket.socket(socket.AF_UNIX).connect('\\0left')"

    async def play() -> list[str]:
        tool = Python(SMALL)
        first, second = tool.open(CallContext(seed=1)), tool.open(CallContext(seed=2))
        calls = [(first, leave), (first, serve), (second, look), (second, reach), (first, "open('left').read(), mine")]
        calls += [(first, "while True: pass"), (first, look)]
        try:
            return [(await who.call({"code": code})).output for who, code in calls]
        finally:
            await first.close()
            await second.close()

    _, _, seen, reached, own, ended, after = asyncio.run(play())
    assert seen == "[[], [], False, False]"
    assert "ConnectionRefusedError" in reached
    assert own == "('x', 5)"
    assert "all variables are lost" in ended
    assert after == seen, "an interpreter after a killed one begins with nothing"


CALLS = (
    CallTest(function="add", arguments=[1, 2], expected=3),
    CallTest(function="add", arguments=[5, 7], expected=12),
)
RUNS = (ProgramTest(stdin="1 2\n", stdout="3\n"), ProgramTest(stdin="5 7\n", stdout="12\n"))


@pytest.mark.parametrize("name", CHEATS)
def test_a_grader_is_not_fooled(name: str) -> None:
    by_calls = asyncio.run(grade_code(CHEATS[name], CALLS, id=name, bounds=SMALL))
    by_runs = asyncio.run(grade_code(CHEATS[name], RUNS, id=name, bounds=SMALL))
    assert not by_calls.correct, by_calls
    assert not by_runs.correct, by_runs


def test_honest_code_passes() -> None:
    function = "import sys\nprint('noise')\ndef add(a, b):\n  print('more', file=sys.stderr)\n  return a + b\n"
    guarded = function + "if __name__ == '__main__':\n  raise SystemExit(1)\n"
    program = "a, b = map(int, input().split())\nprint(a + b, ' ')"
    for code, tests in ((function, CALLS), (guarded, CALLS), (program, RUNS)):
        grade = asyncio.run(grade_code(code, tests))
        assert grade.correct, grade


@pytest.mark.parametrize("state", ["running", "standing still"])
def test_a_box_dies_with_its_trainer(state: str) -> None:
    mark = secrets.token_hex(12)
    trainer = f"""
import asyncio
from journeyman.tools.sandbox import Bounds, Interpreter, run_program
async def main():
    interpreter = await Interpreter.start()
    mark = {mark[:12]!r} + {mark[12:]!r}
    print("ready", flush=True)
    if {state!r} == "running":
        await run_program(["sh", "-c", "sleep 600; echo " + mark], limits=Bounds(seconds=600))
    await asyncio.sleep(600)
asyncio.run(main())
"""
    process = subprocess.Popen([sys.executable, "-c", trainer], stdout=subprocess.PIPE, cwd=PROJECT)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        if state == "running":
            wait_until(lambda: any(command_of(pid).startswith(b"sh\0-c\0") for pid in living(mark)))
        boxes = [pid for pid in take(process.pid).pids if pid != process.pid]
        assert len(boxes) >= 3, "bubblewrap outside, bubblewrap inside, the interpreter"
    finally:
        process.kill()
        process.communicate()
    wait_until(lambda: not living(mark) and not take_alive(boxes))


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def take_alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if take(pid).pids]


def wait_until(happened: Callable[[], bool]) -> None:
    for _ in range(5000):
        if happened():
            return
        time.sleep(0.002)
    raise AssertionError("it does not happen")
