"""What a box may use, and how a program in one ended."""

from dataclasses import dataclass
from enum import StrEnum

MIB = 2**20


class Killed(StrEnum):
    """Which bound ended a box."""

    NO = ""
    """It ended by itself."""
    TIME = "time"
    CPU = "cpu"
    MEMORY = "memory"
    OUTPUT = "output"
    FILES = "files"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The most that code in a box may use. The defaults are ours."""

    seconds: float = 10.0
    """Wall time: of a program, or of one call of an interpreter."""
    cpu_seconds: int = 60
    """CPU time of the box over its life, all of its processes together."""
    memory: int = 512 * MIB
    """Bytes: of address space for one process, of memory in use for all together."""
    processes: int = 16
    """Processes and threads at once."""
    file_size: int = 16 * MIB
    """Bytes of one file."""
    scratch: int = 64 * MIB
    """Bytes of all files; they are kept in memory, on top of `memory`."""
    files: int = 10_000
    """Files and folders: an empty one takes memory of the kernel too."""
    open_files: int = 64
    """File descriptors of one process."""
    output: int = MIB
    """Bytes that a program, or a call, may write to standard output, and as many to standard error."""


USUAL = Bounds()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a program ended."""

    exit_code: int
    """As shells have it: 128 + n where signal n ended it."""
    stdout: str
    """Valid Unicode; bytes that are no UTF-8 are replaced."""
    stderr: str
    seconds: float
    """Wall time from the start of the box."""
    killed: str
    """A `Killed`; empty where it ended by itself, whatever its exit code."""


def text_of(data: bytes) -> str:
    """Output as text that fits everywhere: broken UTF-8 and NUL become U+FFFD."""
    return data.decode(errors="replace").replace("\0", "\ufffd")
