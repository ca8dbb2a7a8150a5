"""The parts of boxes that need no box: the filter, output, the census, the command line, verdicts."""

import asyncio
import itertools
import os
import platform
import random
import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.environments.code import PUZZLES, Code
from journeyman.graders.code import same_json
from journeyman.tools.python import shorten
from journeyman.tools.sandbox import Bounds, command, seccomp
from journeyman.tools.sandbox.bounds import text_of
from journeyman.tools.sandbox.capture import Capture
from journeyman.tools.sandbox.census import children, shared_memory, take

ALLOW, EPERM, ENOSYS, KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000


def verdict(number: int, *arguments: int, architecture: int = 0xC000003E) -> int:
    """What the filter says to a system call: a naive machine for the six instructions that it is made of."""
    words = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("=iIQ6Q", number, architecture, 0, *words)
    rules = list(struct.iter_unpack("=HBBI", seccomp.program() or b""))
    at, held = 0, 0
    while True:
        code, then, otherwise, value = rules[at]
        at += 1
        match code:
            case 0x06:
                return value
            case 0x20:
                held = struct.unpack_from("=I", data, value)[0]
            case 0x15:
                at += then if held == value else otherwise
            case 0x35:
                at += then if held >= value else otherwise
            case 0x45:
                at += then if held & value else otherwise


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are those of x86_64")
@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ((0, 3), ALLOW),  # read
        ((59,), ALLOW),  # execve
        ((157, 1), ALLOW),  # prctl
        ((101, 16), EPERM),  # ptrace
        ((165,), EPERM),  # mount
        ((425,), EPERM),  # io_uring_setup
        ((435,), ENOSYS),  # clone3
        ((56, 0x01200011), ALLOW),  # clone as fork does it
        ((56, 0x003D0F00), ALLOW),  # clone as threads are made
        ((56, 0x10000011), EPERM),  # clone with CLONE_NEWUSER
        ((56, 0x00020011), EPERM),  # clone with CLONE_NEWNS
        ((41, 1, 1), ALLOW),  # socket(AF_UNIX)
        ((41, 2, 1), EPERM),  # socket(AF_INET)
        ((41, 10, 1), EPERM),  # socket(AF_INET6)
        ((41, 16, 3), EPERM),  # socket(AF_NETLINK)
        ((53, 1, 1), ALLOW),  # socketpair(AF_UNIX)
        ((53, 2, 1), EPERM),
        ((16, 0, 0x5413), ALLOW),  # ioctl(TIOCGWINSZ)
        ((16, 0, 0x5412), EPERM),  # ioctl(TIOCSTI)
        ((16, 0, 0x541C), EPERM),  # ioctl(TIOCLINUX)
        ((16, 0, 0x5412 | 1 << 40), EPERM),  # the kernel takes the low half as well
        ((0x40000000 + 101, 16), ENOSYS),  # ptrace of the x32 ABI
    ],
)
def test_the_filter(call: tuple[int, ...], expected: int) -> None:
    assert verdict(*call) == expected


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are those of x86_64")
def test_the_filter_knows_one_architecture() -> None:
    assert verdict(0, architecture=0x40000003) == KILL  # i386


def test_captured_output_keeps_its_ends() -> None:
    async def play(pieces: list[bytes], keep: int) -> tuple[bytes, bytes]:
        capture = Capture(keep)
        for piece in pieces:
            os.write(capture.writing, piece)
            await asyncio.sleep(0)
        taken = capture.take()
        os.write(capture.writing, b"next")
        rest = capture.take()
        capture.close()
        return taken, rest

    async def play_all() -> None:
        rng = random.Random(0)
        for _ in range(100):
            pieces = [rng.randbytes(rng.randrange(1, 300)) for _ in range(rng.randrange(12))]
            keep = rng.randrange(8, 1000)
            taken, rest = await play(pieces, keep)
            whole, half = b"".join(pieces), (keep + 1) // 2
            marker = f"\n... {len(whole) - 2 * half} bytes left out ...\n".encode()
            assert taken == (whole if len(whole) <= 2 * half else whole[:half] + marker + whole[-half:])
            assert rest == b"next"

    asyncio.run(play_all())


@given(st.binary(max_size=200))
def test_any_bytes_become_text_that_fits_everywhere(data: bytes) -> None:
    text = text_of(data)
    assert "\0" not in text
    assert text.encode().decode() == text


@given(st.text(max_size=300), st.integers(2, 100))
def test_shortened_text(text: str, most: int) -> None:
    short = shorten(text, most)
    if len(text) <= most:
        assert short == text
    else:
        half = most // 2
        assert short.startswith(text[:half]) and short.endswith(text[-half:])
        assert f"... {len(text) - 2 * half} characters" in short


def test_a_census_of_this_process() -> None:
    seen = take(os.getpid())
    assert seen.pids[0] == os.getpid()
    assert 2**20 < seen.memory < 2**40
    assert seen.cpu_seconds > 0
    shared = shared_memory(seen.pids[:1])
    assert shared is None or 0 < shared <= seen.memory * 1.1
    # A number that no process has: they end below 2^22.
    assert take(2**22 + 1).pids == () and children(2**22 + 1) == []


def test_the_command_line_holds_every_bound() -> None:
    bounds = Bounds(
        memory=111 << 20, cpu_seconds=7, file_size=222, open_files=33, processes=44, scratch=555, seconds=1.0
    )
    line = command.boxed(["true"], bounds=bounds)
    for expected in ("--as=116391936", "--cpu=7:8", "--fsize=222", "--nofile=33", "--nproc=45", "--core=0"):
        assert expected in line  # 111 * 2^20 = 116391936
    assert line[line.index("--size") + 1] == "555"
    assert {
        "--unshare-net",
        "--unshare-pid",
        "--unshare-ipc",
        "--die-with-parent",
        "--new-session",
        "--clearenv",
    } <= set(line)
    assert not {"--proc", "--dev", "--share-net", "--bind"} & set(line)
    assert line[-1] == "true"


def test_without_isolation_processes_are_not_counted_by_user() -> None:
    assert not any(word.startswith("--nproc") for word in command.limited(["true"], bounds=Bounds(), processes=False))


@pytest.mark.parametrize(
    ("mapping", "low", "high"),
    [
        ("         0          0 4294967295\n", 1_879_048_192, 2_147_483_647),  # the machine itself
        ("0 100000 65536\n", 32_768, 65_536),  # a container with ids of its own: the upper half
        ("0 1000 1\n1 100000 65536\n", 32_769, 65_537),  # one without root's rights
    ],
)
def test_root_takes_a_user_id_that_nobody_has(mapping: str, low: int, high: int) -> None:
    taken = [command.unused_uid(mapping) for _ in range(50)]
    assert all(uid is not None and low <= uid < high for uid in taken)
    assert len(set(taken)) > 40


def test_a_user_namespace_of_one_user_has_none_to_spare() -> None:
    assert command.unused_uid("0 1000 1\n") is None


@pytest.mark.parametrize(
    ("expected", "value", "same"),
    [
        (3, 3, True),
        (3, 3.0, True),
        (0.1 + 0.2, 0.3, True),
        (1, True, False),
        (True, 1, False),
        (None, None, True),
        (None, 0, False),
        ("3", 3, False),
        ([1, [2]], [1, [2]], True),
        ((1, 2), [1, 2], True),
        ([1, 2], [2, 1], False),
        ({"a": 1}, {"a": 1}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        (0.5, float("nan"), False),
        (0.5, 10**400, False),
        (2**60, 2**60 + 1, False),  # equal as floats
    ],
)
def test_json_values_compare_by_type_and_size(expected: Any, value: Any, same: bool) -> None:
    assert same_json(expected, value) is same


def test_what_is_no_json_cannot_be_expected() -> None:
    with pytest.raises(ValueError, match="no JSON value"):
        same_json({1, 2}, [1, 2])


@pytest.mark.parametrize(
    ("kind", "numbers", "answer"),
    [
        ("multiples", {"a": 1, "b": 20, "p": 3, "q": 5}, 9),  # 3 6 9 12 15 18 and 5 10 20
        ("digit sums", {"d": 2, "s": 3}, 4),  # 03 12 21 30
        ("digit sums", {"d": 2, "s": 12}, 7),  # 39 48 57 66 75 84 93
        ("primes", {"a": 3, "b": 13}, 39),  # 3 + 5 + 7 + 11 + 13
        ("recurrence", {"x": 0, "y": 1, "p": 1, "q": 1, "n": 10, "m": 100}, 55),  # Fibonacci: 55
        ("circle", {"n": 5, "k": 2}, 3),  # out: 2 4 1 5
        ("coins", {"s": 10, "x": 2, "y": 5, "z": 7}, 2),  # 5 + 5 and five twos
        ("steps", {"n": 6}, 8),  # 3 10 5 16 8 4 2 1
        ("pairs", {"n": 5, "m": 3}, 4),  # 1+2, 1+5, 2+4, 4+5
    ],
)
def test_puzzles_by_hand(kind: str, numbers: dict[str, int], answer: int) -> None:
    assert PUZZLES[kind].solve(numbers) == answer


def test_the_family_is_endless_seeded_and_varied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("journeyman.environments.code.require_sandbox", lambda: None)
    family = Code()
    draw = lambda seed: list(itertools.islice(family.generate(random.Random(seed)), 300))  # noqa: E731
    first = draw(1)
    assert [problem.id for problem in first] == [problem.id for problem in draw(1)]
    assert {problem.data["kind"] for problem in first} == set(PUZZLES)
    assert len({problem.data["key"] for problem in first}) > 270
    for problem in first[:40]:
        gold, *mistaken = family.courses(problem)
        assert len(gold.steps) == problem.min_calls
        assert all(course.steps != gold.steps for course in mistaken)
        assert family.verify(problem, problem.answer) and not family.verify(problem, str(int(problem.answer) + 1))
        assert not family.verify(replace(problem, answer="7"), "")
