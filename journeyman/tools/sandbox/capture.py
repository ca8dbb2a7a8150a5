"""What a box writes to a pipe: read all the time, kept up to a limit, counted beyond."""

import asyncio
import os


class Capture:
    """The reading end of a pipe that a box writes to.

    Args:
        keep: most bytes that are kept: the first half of it from the beginning, the rest from the end.
    """

    def __init__(self, keep: int) -> None:
        self._half = (keep + 1) // 2
        self._reading, self.writing = os.pipe()
        os.set_blocking(self._reading, False)
        self._head, self._tail = bytearray(), bytearray()
        self.total = 0
        """Bytes since the last `take`."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._reading, self._read)

    def started(self) -> None:
        """The box has its own copy of the writing end now."""
        if self.writing >= 0:
            os.close(self.writing)
            self.writing = -1

    def _read(self, most: int = 1) -> None:
        """At most so many pieces: an endless writer must not hold up the loop."""
        for _ in range(most):
            try:
                data = os.read(self._reading, 65536)
            except BlockingIOError:
                return
            if not data:
                self._loop.remove_reader(self._reading)
                return
            self.total += len(data)
            room = self._half - len(self._head)
            self._head += data[:room]
            self._tail = (self._tail + data[room:] if room < len(data) else self._tail)[-self._half :]

    def take(self) -> bytes:
        """All that was written until now, with a marker where it was too much; the next one begins behind it."""
        self._read(most=64)
        left_out = self.total - len(self._head) - len(self._tail)
        marker = f"\n... {left_out} bytes left out ...\n".encode() if left_out else b""
        taken = bytes(self._head) + marker + bytes(self._tail)
        self._head, self._tail, self.total = bytearray(), bytearray(), 0
        return taken

    def close(self) -> None:
        self.started()
        if self._reading >= 0:
            self._loop.remove_reader(self._reading)
            os.close(self._reading)
            self._reading = -1
