"""A running box, seen from outside: its start, its bounds over all of its processes, its end."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from weakref import WeakKeyDictionary

from journeyman.errors import InfrastructureError
from journeyman.tools.sandbox import census, command, seccomp
from journeyman.tools.sandbox.bounds import Bounds, Killed

POLL = 0.025
"""Seconds between looks at a box; between them the kernel's bounds on each process hold."""
PATIENCE = 2.0
"""Seconds that bubblewrap has to report an exit code once the box is gone."""
_semaphores: "WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Semaphore]]" = WeakKeyDictionary()


def semaphore(kind: str, most: int) -> asyncio.Semaphore:
    """The running event loop's semaphore of a kind."""
    kinds = _semaphores.setdefault(asyncio.get_running_loop(), {})
    return kinds.setdefault(kind, asyncio.Semaphore(most))


@dataclass(frozen=True, slots=True, kw_only=True)
class Channels:
    """Descriptors that a program gets; they stay the caller's."""

    stdin: int
    """To read from."""
    stdout: int
    """To write to."""
    stderr: int


class Box:
    """A program in a box. `start` makes one; whoever has one must `stop` it."""

    def __init__(self, process: subprocess.Popen[bytes], root: int, bounds: Bounds, folder: str) -> None:
        self._process, self._root, self._bounds, self._folder = process, root, bounds, folder
        self._ended, self._pidfd = _watch_end(process, root)
        self._main: int | None = None
        self.started = time.perf_counter()

    @classmethod
    async def start(
        cls,
        argv: Sequence[str],
        *,
        bounds: Bounds,
        channels: Channels,
        files: Mapping[str, str | bytes] | None = None,
        packages: Sequence[str] = (),
    ) -> "Box":
        """Start `argv`.

        Args:
            argv: a command, found on the box's own PATH.
            bounds: its rlimits are set here; those over all processes hold only where `exceeded` is asked for.
            channels: its standard input and outputs.
            files: path in the scratch folder -> content.
            packages: installed distributions to be importable.

        Raises:
            UserError: no boxes can be made on this machine.
            InfrastructureError: this one couldn't be.
        """
        command.require_sandbox()
        contents = {_inside(path): data for path, data in (files or {}).items()}
        if command.is_off():
            return cls._start_without(argv, bounds, contents, channels)
        opened = [(readable(data), path) for path, data in contents.items()]
        filtering = seccomp.program()
        rules = None if filtering is None else readable(filtering)
        (info, told), (gate, opener) = os.pipe(), os.pipe()
        line = command.boxed(argv, bounds=bounds, packages=packages, files=opened, seccomp=rules, info=told, gate=gate)
        passed = [fd for fd, _ in opened] + [told, gate] + ([] if rules is None else [rules])
        try:
            process = subprocess.Popen(
                line,
                stdin=channels.stdin,
                stdout=channels.stdout,
                stderr=channels.stderr,
                pass_fds=passed,
                env={"PATH": os.environ.get("PATH", "")},
            )
        except OSError as error:
            os.close(info)
            os.close(opener)
            raise InfrastructureError(f"bwrap can't be started: {error}") from error
        finally:
            for descriptor in passed:
                os.close(descriptor)
        try:
            if (root := await _first_process(info)) is not None:
                await _bound(process.pid, root)
                with suppress(BrokenPipeError):  # it has ended already
                    os.write(opener, b"\n")
        except BaseException:  # cancelled too: nothing may stay behind
            process.kill()
            process.wait()
            raise
        finally:
            os.close(info)
            os.close(opener)
        if root is None:
            raise InfrastructureError(f"bwrap ends with {process.wait()} before it has made a box")
        return cls(process, root, bounds, "")

    @classmethod
    def _start_without(
        cls, argv: Sequence[str], bounds: Bounds, files: Mapping[str, str | bytes], channels: Channels
    ) -> "Box":
        """A plain subprocess in a temporary folder: what the user has asked for by the switch."""
        folder = tempfile.mkdtemp(prefix="journeyman-code-")
        for path, data in files.items():
            target = Path(folder) / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data.encode() if isinstance(data, str) else data)
        line = command.limited(argv, bounds=bounds, processes=False) if sys.platform == "linux" else list(argv)
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": folder, "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"}
        process = subprocess.Popen(
            line,
            stdin=channels.stdin,
            stdout=channels.stdout,
            stderr=channels.stderr,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )
        return cls(process, process.pid, bounds, folder)

    @property
    def ended(self) -> "asyncio.Future[None]":
        """Done once no process of the box is left."""
        return self._ended

    def exceeded(self) -> Killed:
        """Which bound over all processes together is passed right now."""
        seen = census.take(self._root)
        if seen.cpu_seconds > self._bounds.cpu_seconds:
            return Killed.CPU
        if seen.memory > self._bounds.memory:
            exact = census.shared_memory(seen.pids)
            if exact is None or exact > self._bounds.memory:
                return Killed.MEMORY
        return Killed.FILES if self._files() > self._bounds.files else Killed.NO

    def _files(self) -> int:
        """Files in the scratch folder; 0 where the host doesn't let us look into the box."""
        if not self._folder:
            with suppress(OSError):
                scratch = os.statvfs(f"/proc/{self._root}/root{command.SCRATCH}")
                return scratch.f_files - scratch.f_ffree
        return 0

    def freeze(self) -> bool:
        """End every process but the main one, and stop that. False where it can't be done."""
        main = self._main_process()
        for _ in range(20):
            if main is None or not _signal(main, signal.SIGSTOP):
                return False
            # Counted twice: a process whose parent ends just then moves to another, and one count may miss it.
            others = {pid for _ in range(2) for pid in census.take(self._root).pids} - {self._root, main}
            if not others:
                return True
            for pid in others:
                _signal(pid, signal.SIGKILL)
            time.sleep(0.001)
        return False

    def thaw(self) -> None:
        """Let the main process go on."""
        if main := self._main_process():
            _signal(main, signal.SIGCONT)

    async def stop(self) -> int:
        """End all that is left of it and wait until it is gone; its exit code, as shells have it."""
        if not self._ended.done():
            # The first process of a namespace takes all others with it, stopped ones too.
            _signal(self._root, signal.SIGKILL)
            if self._folder:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._root, signal.SIGKILL)
        try:
            await asyncio.shield(self._ended)
            # bubblewrap outside has the exit code from the first process and ends a moment after it.
            waited = time.perf_counter()
            while self._process.poll() is None and time.perf_counter() - waited < PATIENCE:
                await asyncio.sleep(0.001)
        finally:
            code = self._settle()
        return code

    def _settle(self) -> int:
        self._process.kill()
        code = self._process.wait()
        if self._pidfd is not None:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
        return 128 - code if code < 0 else code

    def _main_process(self) -> int | None:
        """The program itself: bubblewrap's first process is its parent."""
        if self._folder:
            return self._root
        if self._main is None:
            # The oldest child: orphans are put behind it.
            self._main = next(iter(census.children(self._root)), None)
        return self._main


def _signal(pid: int, number: signal.Signals) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False


def _inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\0" in path:
        raise ValueError(f"{path!r} is no path below the scratch folder")
    return "/".join(parts)


def readable(data: str | bytes) -> int:
    """A descriptor to read the data from, and from nowhere else."""
    descriptor, path = tempfile.mkstemp(prefix="journeyman-box-")
    try:
        with open(descriptor, "wb") as file:
            file.write(data.encode(errors="surrogatepass") if isinstance(data, str) else data)
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.unlink(path)


async def _first_process(info: int) -> int | None:
    """The id of the box's first process, from bubblewrap's own report; None where there is none."""
    loop, told = asyncio.get_running_loop(), b""
    os.set_blocking(info, False)
    # Up to the closing brace: bubblewrap doesn't survive a pipe that is closed while it writes.
    while (match := re.search(rb'"child-pid": (\d+)[^}]*}', told)) is None:
        ready = loop.create_future()
        loop.add_reader(info, _resolve, ready)
        try:
            await ready
        finally:
            loop.remove_reader(info)
        with suppress(BlockingIOError):
            more = os.read(info, 4096)
            if not more:
                return None
            told += more
    return int(match[1])


async def _bound(outside: int, root: int) -> None:
    """Wait until bubblewrap's two processes have bound their lives to their parents'.

    Killed before that, they would leave the box behind; the program waits at its gate so long, and so long the gate's
    other end is this process's. They have done it once both wait for their children.
    """
    until = time.perf_counter() + PATIENCE
    while time.perf_counter() < until and os.path.exists(f"/proc/{root}"):
        if census.children(root) and census.waits(root) and census.waits(outside):
            return
        await asyncio.sleep(0.0005)


def _watch_end(process: subprocess.Popen[bytes], root: int) -> "tuple[asyncio.Future[None], int | None]":
    """(a future that is done once the first process is gone, the descriptor that says so)."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    if sys.platform != "linux":
        waiting = loop.run_in_executor(None, process.wait)
        waiting.add_done_callback(lambda _: _resolve(ended))
        return ended, None
    try:
        descriptor = os.pidfd_open(root)
    except ProcessLookupError:
        ended.set_result(None)
        return ended, None
    loop.add_reader(descriptor, _resolve, ended)
    return ended, descriptor


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
