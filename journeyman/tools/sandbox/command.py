"""The command line that puts a program into a box: bubblewrap, then rlimits, then the program."""

import functools
import importlib.metadata
import os
import re
import secrets
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from journeyman.errors import UserError
from journeyman.tools.sandbox.bounds import Bounds

SCRATCH = "/scratch"
PACKAGES = "/packages"
NOBODY = 65534
SWITCH = "JOURNEYMAN_SANDBOX"
"""Environment variable: `bwrap` (the default) or `off`."""
_UNUSED = range(1_879_048_192, 2_147_483_647)
"""User ids that systemd's registry leaves to nobody."""
_REMEDY = (
    "install bubblewrap (Debian: apt-get install bubblewrap) and allow user namespaces, or accept that code of models "
    f"runs unconfined, with all of your rights: {SWITCH}=off"
)
_ENVIRONMENT = {
    "HOME": SCRATCH,
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "PYTHONPATH": PACKAGES,
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}


def is_off() -> bool:
    """Whether isolation was switched off. Raises `UserError` for a value that means nothing."""
    value = os.environ.get(SWITCH, "bwrap")
    if value not in ("bwrap", "off"):
        raise UserError(f"{value!r} is neither bwrap nor off", place=f"environment variable {SWITCH}")
    return value == "off"


def require_sandbox() -> None:
    """Raises `UserError` where boxes can't be used; warns once where they are switched off."""
    if is_off():
        _warn_once()
    elif trouble := _trouble():
        raise UserError(f"no sandbox for code of models: {trouble}", remedy=_REMEDY)


@functools.cache
def _warn_once() -> None:
    message = f"{SWITCH}=off: code of models runs with all of your rights, only its time and memory are bounded"
    warnings.warn(message, RuntimeWarning, stacklevel=3)


@functools.cache
def _trouble() -> str:
    """Why bubblewrap doesn't work here; empty where it does."""
    if sys.platform != "linux":
        return f"bubblewrap is for Linux, and this is {sys.platform}"
    for needed in ("bwrap", "prlimit", "setpriv", "bash"):
        if shutil.which(needed) is None:
            return f"{needed} is not installed"
    line = boxed(["true"], bounds=Bounds())
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=20, env={}, cwd="/")
    except subprocess.TimeoutExpired:
        return "bwrap does not come back"
    return done.stderr.strip() or f"bwrap ends with {done.returncode}" if done.returncode else ""


def python(*, packages: Sequence[str] = ()) -> list[str]:
    """The interpreter's command in a box; without `packages`, only the standard library can be imported."""
    return [os.path.realpath(sys.executable), "-s", "-S", "-B", *(() if packages else ("-E",))]


def boxed(
    argv: Sequence[str],
    *,
    bounds: Bounds,
    packages: Sequence[str] = (),
    files: Sequence[tuple[int, str]] = (),
    seccomp: int | None = None,
    info: int | None = None,
    gate: int | None = None,
) -> list[str]:
    """The command that runs `argv` in a box.

    Args:
        argv: found on the box's PATH; the box has /usr, this interpreter and a scratch folder, and no /proc.
        bounds: what of it the kernel can hold; time and memory of all processes together are the watcher's.
        packages: installed distributions to be importable, with what they need.
        files: (descriptor, path in the scratch folder) of what to copy in.
        seccomp: descriptor of a filter.
        info: descriptor that gets the first process's id.
        gate: descriptor from which a line is read before `argv` starts; where it is closed instead, nothing starts.
    """
    uid = _spare_uid()
    line = ["bwrap", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    line += ["--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv", "--hostname", "box"]
    if uid is None:
        line += ["--unshare-user", "--uid", str(NOBODY), "--gid", str(NOBODY)]
    else:
        line += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]  # until setpriv has used them
    line += [*_system(), *_packages(tuple(packages)), *_folders(bounds)]
    for descriptor, path in files:
        line += [*_parents(f"{SCRATCH}/{path}", "0777"), "--perms", "0666", "--file", str(descriptor)]
        line += [f"{SCRATCH}/{path}"]
    line += ["--remount-ro", "/", "--chdir", SCRATCH]
    line += [word for name, value in _ENVIRONMENT.items() for word in ("--setenv", name, value)]
    line += [] if seccomp is None else ["--seccomp", str(seccomp)]
    line += [] if info is None else ["--info-fd", str(info)]
    if gate is not None:
        argv = ["bash", "--norc", "--noprofile", "-c", f'read -r -u {gate} _ && exec "$@" {gate}<&-', "gate", *argv]
    return [*line, "--", *_as_user(uid), *limited(argv, bounds=bounds, processes=True)]


def limited(argv: Sequence[str], *, bounds: Bounds, processes: bool) -> list[str]:
    """The command that runs `argv` under rlimits; `processes` only where the user id is the box's own."""
    limits = [
        f"--as={bounds.memory}",
        f"--cpu={bounds.cpu_seconds}:{bounds.cpu_seconds + 1}",
        f"--fsize={bounds.file_size}",
        f"--nofile={bounds.open_files}",
        "--core=0",
        "--memlock=0",
        "--msgqueue=0",
    ]
    # bubblewrap's own process in the box counts too where it has the same user id.
    limits += [f"--nproc={bounds.processes + 1}"] if processes else []
    return ["prlimit", *limits, "--", *argv]


def _as_user(uid: int | None) -> list[str]:
    """Root is exempt from limits on processes: where we are root, the box gets a user of its own."""
    if uid is None:
        return []
    return ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups", "--inh-caps=-all"]


def _spare_uid() -> int | None:
    """A user id that nothing else has, another one each time; None where we may not take one."""
    return unused_uid(Path("/proc/self/uid_map").read_text()) if os.geteuid() == 0 else None


def unused_uid(mapping: str) -> int | None:
    """A user id that nobody is likely to have, of those in a /proc/PID/uid_map; None where there is none to spare."""
    ranges = [tuple(map(int, line.split())) for line in mapping.splitlines()]
    first, _, count = max(ranges, key=lambda mapped: mapped[2])
    if first + count > _UNUSED.stop:
        return secrets.choice(_UNUSED)
    # A container with fewer ids: the upper half, where few are in use.
    return first + count // 2 + secrets.randbelow(count // 2) if count > 1000 else None


@functools.cache
def _system() -> tuple[str, ...]:
    """Read-only: /usr, what the dynamic linker reads, and this interpreter."""
    line = ["--ro-bind", "/usr", "/usr"]
    for name in ("/bin", "/sbin", "/lib", "/lib32", "/lib64"):
        if os.path.islink(name):
            line += ["--symlink", os.readlink(name).lstrip("/"), name]
        elif os.path.isdir(name):
            line += ["--ro-bind", name, name]
    line += ["--perms", "0755", "--dir", "/etc"]
    for name in ("/etc/ld.so.cache", "/etc/alternatives"):
        line += ["--ro-bind-try", name, name]
    line += ["--perms", "0755", "--dir", "/dev"]
    for name in ("null", "zero", "full", "random", "urandom"):
        line += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    home = sys.base_prefix
    if not Path(home).is_relative_to("/usr"):
        line += [*_parents(home, "0755"), "--ro-bind", home, home]
    return tuple(line)


def _folders(bounds: Bounds) -> list[str]:
    """The one place to write to, under all the names that programs use for one."""
    line = ["--perms", "0777", "--size", str(bounds.scratch), "--tmpfs", SCRATCH]
    return [*line, "--symlink", SCRATCH, "/tmp", "--symlink", SCRATCH, "/dev/shm"]


def _parents(path: str, mode: str) -> Iterator[str]:
    """The folders above a path; those that bubblewrap makes by itself are root's alone."""
    for folder in reversed(Path(path).parents):
        if str(folder) not in ("/", SCRATCH):
            yield from ("--perms", mode, "--dir", str(folder))


@functools.cache
def _packages(names: tuple[str, ...]) -> tuple[str, ...]:
    line: list[str] = []
    for place in sorted({place for name in _with_needs(names) for place in _places(name)}):
        line += ["--ro-bind", str(place), f"{PACKAGES}/{place.name}"]
    return ("--perms", "0755", "--dir", PACKAGES, *line) if line else ()


def _with_needs(names: Iterable[str]) -> set[str]:
    """Distributions with all that they need in turn, extras left out."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        if (name := waiting.pop()) in found:
            continue
        try:
            needs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            if name in names:
                raise UserError(f"package {name} is not installed", remedy=f"pip install {name}") from None
            continue
        found.add(name)
        waiting += [match[0] for need in needs if "extra ==" not in need and (match := re.match(r"[\w.-]+", need))]
    return found


def _places(name: str) -> set[Path]:
    """The folders and modules that a distribution has put into site-packages."""
    files = importlib.metadata.files(name) or []
    tops = {file.parts[0] for file in files if file.parts[0] != ".." and ".dist-info" not in file.parts[0]}
    folder = importlib.metadata.distribution(name).locate_file("")
    return {path for top in tops if top != "__pycache__" and (path := Path(str(folder)) / top).exists()}
