"""A seccomp filter for boxes: system calls that no tool needs and that exploits and escapes are made of.

The rest of the isolation doesn't lean on it. A denied call fails with EPERM, so that programs can say what went wrong.
"""

import platform
import struct

_DENIED: dict[str, tuple[int, int | None]] = {
    # name: (x86_64, aarch64)
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "lookup_dcookie": (212, 18),
    "memfd_create": (319, 279),  # memory that no process maps is in no process's figures
    "memfd_secret": (447, 447),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "mq_open": (240, 180),
    "msgget": (68, 186),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_madvise": (440, 440),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "semget": (64, 190),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "shmat": (30, 196),
    "shmget": (29, 194),  # the same: segments outlive their processes
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "vmsplice": (278, 75),
}
_CLONE, _CLONE3, _IOCTL = (56, 220), (435, 435), (16, 29)
_SOCKETS = ((41, 198), (53, 199))
"""socket and socketpair."""
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Machine: (column of the tables above, AUDIT_ARCH)."""

_NEW_NAMESPACES = 0x7E020080
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET, NEWTIME."""
_AF_UNIX = 1
_TTY_INPUT = (0x5412, 0x541C)
"""TIOCSTI, TIOCLINUX: they type into the terminal."""
_X32 = 0x40000000
"""System calls of the x32 ABI have this bit: a second door to the same calls."""

# Offsets in struct seccomp_data, both machines being little-endian.
_NR, _ARCH, _ARGUMENT_0, _ARGUMENT_1 = 0, 4, 16, 24
_LOAD, _JUMP_EQUAL, _JUMP_ABOVE, _JUMP_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _EPERM, _ENOSYS = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026


def program() -> bytes | None:
    """The filter as a classic BPF program for this machine; None where its system calls aren't known here."""
    known = _ARCHITECTURES.get(platform.machine())
    if known is None:
        return None
    column, architecture = known
    denied = sorted(number for pair in _DENIED.values() if (number := pair[column]) is not None)
    return b"".join(
        [
            _op(_LOAD, _ARCH),
            _op(_JUMP_EQUAL, architecture, then=1),
            _op(_RETURN, _KILL),
            _op(_LOAD, _NR),
            _op(_JUMP_ABOVE, _X32, otherwise=1),
            _op(_RETURN, _ENOSYS),
            *(_op(_JUMP_EQUAL, number, otherwise=1) + _op(_RETURN, _EPERM) for number in denied),
            # The C library takes ENOSYS as "an older kernel" and calls clone, whose flags a filter can see.
            _op(_JUMP_EQUAL, _CLONE3[column], otherwise=1) + _op(_RETURN, _ENOSYS),
            _on_argument(_CLONE[column], _ARGUMENT_0, _op(_JUMP_BITS, _NEW_NAMESPACES, otherwise=1)),
            *(
                _on_argument(pair[column], _ARGUMENT_0, _op(_JUMP_EQUAL, _AF_UNIX, then=1, otherwise=0))
                for pair in _SOCKETS
            ),
            *(_on_argument(_IOCTL[column], _ARGUMENT_1, _op(_JUMP_EQUAL, kind, otherwise=1)) for kind in _TTY_INPUT),
            _op(_RETURN, _ALLOW),
        ]
    )


def _on_argument(number: int, offset: int, test: bytes) -> bytes:
    """Deny call `number` where a test of its argument's low half goes on to the next instruction."""
    # nr is loaded again behind it: the accumulator holds the argument then.
    return b"".join(
        [
            _op(_JUMP_EQUAL, number, otherwise=4),
            _op(_LOAD, offset),
            test,
            _op(_RETURN, _EPERM),
            _op(_LOAD, _NR),
        ]
    )


def _op(code: int, value: int, *, then: int = 0, otherwise: int = 0) -> bytes:
    """One struct sock_filter; jumps are counted from the next instruction."""
    return struct.pack("=HBBI", code, then, otherwise, value)
