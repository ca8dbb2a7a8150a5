"""What runs in a box right now, read from the host's /proc."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """The living processes below a first one, that one included."""

    pids: tuple[int, ...]
    """As the host counts them, the first one first."""
    memory: int
    """Bytes in use; pages that processes share are counted once for each."""
    cpu_seconds: float
    """Of all that run or have been waited for."""


def take(root: int) -> Census:
    """A census of the tree below process `root`. Empty where there is none, or no /proc."""
    pids: list[int] = []
    memory, ticks = 0, 0
    for pid in _tree(root):
        with suppress(OSError):
            # The name, in parentheses, may hold anything; behind the last ")" come the fields from the third on.
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
            if fields[0] in (b"Z", b"X"):
                continue
            pids.append(pid)
            ticks += sum(map(int, fields[11:15]))
            memory += int(fields[21]) * _PAGE
    return Census(pids=tuple(pids), memory=memory, cpu_seconds=ticks / _TICKS)


def shared_memory(pids: tuple[int, ...]) -> int | None:
    """Bytes in use where pages that processes share count once; slower than `take`. None where it can't be read."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except ProcessLookupError:
            continue
        except OSError:
            return None
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def waits(pid: int) -> bool:
    """Whether a process sleeps, or is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"R"
    return True


def children(pid: int) -> list[int]:
    """The processes that a process has started or inherited, oldest first."""
    found: list[int] = []
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    return found


def _tree(root: int) -> Iterator[int]:
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        yield pid
        waiting += children(pid)
