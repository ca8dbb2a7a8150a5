"""What hostile code tries, as bodies of a function that returns something true where it got through.

`H` holds what the host has put at stake: paths, ports, process ids. `call(name, ...)` makes a system call by name.
"""

PRELUDE = """
import ctypes, glob, json, mmap, os, pickle, re, resource, select, signal, socket, stat, subprocess, sys, threading, time
H = json.load(open("host.json"))
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p

def call(name, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(H["numbers"][name], *arguments)
    if result == -1:
        raise OSError(ctypes.get_errno(), name)
    return result

def text(path):
    with open(path, "rb") as file:
        return file.read(1 << 20)

def has_secret(path):
    return H["secret"].encode() in text(path)

def attack():
"""
POSTLUDE = """
try:
    won = attack()
except (OSError, MemoryError, RuntimeError, ValueError, subprocess.SubprocessError, KeyError) as error:
    print("CONTAINED", type(error).__name__, str(error)[:200])
else:
    print("ESCAPED" if won else "CONTAINED", repr(won)[:200])
"""

ESCAPES: dict[str, str] = {
    # The host's files.
    "read a file of the host": 'return has_secret(H["file"])',
    "read /etc/shadow": 'return text("/etc/shadow")',
    "read /etc/passwd": 'return text("/etc/passwd")',
    "read /etc/hosts and resolv.conf": 'return text("/etc/hosts") or text("/etc/resolv.conf")',
    "list the user's home": 'return os.listdir(H["home"] + "/.ssh") or os.listdir(H["home"])[3:]',
    "read the project": 'return os.listdir(H["project"])',
    "climb with ..": 'return has_secret("../" * 40 + H["file"].lstrip("/"))',
    "follow a symlink": 'os.symlink(H["file"], "link"); return has_secret("link")',
    "make a hard link": 'os.link(H["file"], "hard"); return has_secret("hard")',
    "search the tree": """
        patterns = ("/*", "/*/*", "/tmp/**", "/root/**", "/home/**", "/dev/**")
        return [f for pattern in patterns for f in glob.glob(pattern) if H["secret"] in f or f == H["file"]]""",
    "read through /proc/PID/root": "return has_secret(f\"/proc/{H['pid']}/root{H['file']}\")",
    "read through /proc/1/root": 'return has_secret("/proc/1/root" + H["file"])',
    "read another one's environment": 'return has_secret(f"/proc/{H[\'pid\']}/environ") or has_secret("/proc/1/environ")',
    "read own environment": 'return any(H["secret"] in value for value in os.environ.values())',
    "read C's environment": """
        environ = ctypes.POINTER(ctypes.c_char_p).in_dll(libc, "environ")
        i, found = 0, []
        while environ[i]:
            found.append(environ[i]); i += 1
        return H["secret"].encode() in b"".join(found)""",
    "find processes of the host": 'return len([p for p in os.listdir("/proc") if p.isdigit()]) > 20',
    "write another one's memory": "return os.open(f\"/proc/{H['pid']}/mem\", os.O_RDWR)",
    "read the kernel's settings": 'return os.listdir("/sys") or os.listdir("/proc/sys")',
    "read the list of mounts": 'return H["file"].split("/")[1] in text("/proc/self/mountinfo").decode()',
    "use inherited descriptors": """
        mine = [fd for fd in range(3, 200) if os.path.exists(f"/dev/fd/{fd}")]
        for fd in range(3, 1024):
            try:
                os.fstat(fd)
                mine.append(fd)
            except OSError:
                pass
        return mine""",
    "open a file by handle": """
        handle = ctypes.create_string_buffer(128)
        ctypes.cast(handle, ctypes.POINTER(ctypes.c_uint))[0] = 120
        mount = ctypes.c_int()
        call("name_to_handle_at", -100, b"/usr", handle, ctypes.byref(mount), 0)
        return call("open_by_handle_at", os.open("/usr", os.O_RDONLY), handle, 0) >= 0""",
    "read memory devices": 'return any(text(f) for f in ("/dev/mem", "/dev/kmem", "/dev/port") if os.path.exists(f))',
    "read disks": 'return [d for d in os.listdir("/dev") if d.startswith(("sd", "vd", "nvme", "loop", "dm", "xvd"))]',
    "make a disk node": 'os.mknod("disk", stat.S_IFBLK | 0o666, os.makedev(254, 0)); return text("disk")',
    "look for the host's shared memory": 'return os.path.exists(H["shared"]) or os.path.exists("/dev/shm/" + H["secret"])',
    "write to /usr": 'open("/usr/bin/evil", "w"); return True',
    "replace a library of the interpreter": 'open(os.__file__, "a").write("#"); return True',
    "remove a system file": 'os.unlink("/usr/bin/env"); return True',
    "write to /etc": 'open("/etc/evil", "w"); return True',
    "write to the root": 'open("/evil", "w"); return True',
    "write to /dev": 'open("/dev/evil", "w"); return True',
    "write where the host's file is": 'open(H["folder"] + "/evil", "w"); return True',
    # Escapes by mounts, namespaces and privileges.
    "chroot and climb out": """
        os.mkdir("jail"); root = os.open("/", os.O_RDONLY); os.chroot("jail"); os.fchdir(root)
        for _ in range(64): os.chdir("..")
        os.chroot("."); return has_secret(H["file"])""",
    "remount writable": 'return libc.mount(b"none", b"/usr", None, 32, None) == 0',
    "mount tmpfs": 'return libc.mount(b"tmpfs", b"/scratch", b"tmpfs", 0, None) == 0',
    "mount proc": 'os.mkdir("p"); return libc.mount(b"proc", b"p", b"proc", 0, None) == 0',
    "bind mount": 'os.mkdir("b"); return libc.mount(b"/", b"b", None, 4096, None) == 0',
    "unmount /usr": 'return libc.umount2(b"/usr", 2) == 0',
    "new mount calls": 'return call("fsopen", b"tmpfs", 0) >= 0',
    "clone a mount": 'return call("open_tree", -100, b"/", 1) >= 0',
    "pivot the root": 'os.makedirs("n/o"); return call("pivot_root", b"n", b"n/o") == 0',
    "new user namespace": "return call('unshare', 0x10000000) == 0",
    "new mount namespace": "return call('unshare', 0x00020000) == 0",
    "new network namespace": "return call('unshare', 0x40000000) == 0",
    "new user namespace by clone": """
        pid = call("clone", 0x10000000 | 17, 0, 0, 0, 0)
        if pid == 0: os._exit(0)
        return True""",
    "new user namespace by clone3": """
        arguments = (ctypes.c_uint64 * 8)(0x10000000, 0, 0, 0, 17, 0, 0, 0)
        pid = call("clone3", arguments, 64)
        if pid == 0: os._exit(0)
        return True""",
    "join the host's namespaces": """
        fd = os.open(f"/proc/{H['pid']}/ns/mnt", os.O_RDONLY); return call("setns", fd, 0) == 0""",
    "join by pidfd": 'return call("setns", os.pidfd_open(H["pid"]), 0x00020000) == 0',
    "become root": "os.setuid(0); return True",
    "become another user": "os.setresuid(1000, 1000, 1000); return True",
    "take a group": "os.setgroups([0, 42]); return True",
    "use setuid programs": """
        shown = ""
        for program in ("su -c id", "sudo -n id", "mount -t tmpfs none /scratch", "newgrp"):
            done = subprocess.run(program.split(), capture_output=True, text=True, input="", timeout=2)
            shown += done.stdout
        return "uid=0" in shown""",
    "gain rights by exec": "return libc.prctl(39, 0, 0, 0, 0) != 1  # PR_GET_NO_NEW_PRIVS",
    "have capabilities": """
        header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        assert libc.capget(header, data) == 0
        return data[0] or data[3] or data[1] or data[4]  # effective, permitted""",
    "give a file to root": 'open("f", "w"); os.chown("f", 0, 0); return True',
    "leave the scratch folder's descriptor": """
        fd = os.open("..", os.O_RDONLY)
        return any(os.path.exists(os.path.join("/", name, H["file"].lstrip("/"))) for name in os.listdir(fd))""",
    # Other processes.
    "ptrace its parent": 'return call("ptrace", 16, os.getppid(), 0, 0) == 0',
    "ptrace the trainer": 'return call("ptrace", 16, H["pid"], 0, 0) == 0',
    "seize the first process": 'return call("ptrace", 0x4206, 1, 0, 0) == 0',
    "read its parent's memory": """
        buffer = ctypes.create_string_buffer(8)
        piece = (ctypes.c_uint64 * 2)(ctypes.addressof(buffer), 8)
        return call("process_vm_readv", os.getppid(), piece, 1, piece, 1, 0) > 0""",
    "signal the trainer": 'os.kill(H["pid"], signal.SIGTERM); return True',
    "signal a process of the host": 'os.kill(H["victim"], signal.SIGKILL); return True',
    "signal everybody": "os.kill(-1, signal.SIGKILL); return False",
    "signal its group": "os.killpg(os.getpgid(0), signal.SIGKILL); return False",
    "signal all numbers": """
        for pid in range(3, 40000):
            if pid != os.getpid():
                try: os.kill(pid, signal.SIGKILL)
                except OSError: pass
        return False""",
    "kill the first process": "os.kill(1, signal.SIGKILL); time.sleep(0.2); return False",
    "take hold of a process": 'return os.pidfd_open(H["victim"]) >= 0',
    "slow a process down": 'os.setpriority(os.PRIO_PROCESS, H["victim"], 19); return True',
    "take more than it got": """
        resource.setrlimit(resource.RLIMIT_NPROC, (resource.RLIM_INFINITY,) * 2); return True""",
    "take more memory than it got": "resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40)); return True",
    "set the trainer's limits": 'resource.prlimit(H["victim"], resource.RLIMIT_NOFILE, (3, 3)); return True',
    # The kernel.
    "bpf": 'return call("bpf", 0, 0, 0) >= 0',
    "perf events": 'return call("perf_event_open", ctypes.create_string_buffer(128), 0, -1, -1, 0) >= 0',
    "keyrings": 'return call("add_key", b"user", b"k", b"v", 1, -3) >= 0',
    "session keyring": 'return call("keyctl", 0, -3, 0) >= 0',
    "io_uring": 'return call("io_uring_setup", 4, ctypes.create_string_buffer(256)) >= 0',
    "user page faults": 'return call("userfaultfd", 0) >= 0',
    "kernel modules": 'return call("init_module", b"x", 1, b"") >= 0',
    "kexec": 'return call("kexec_load", 0, 0, 0, 0) >= 0',
    "kernel log": 'return call("syslog", 3, ctypes.create_string_buffer(64), 64) > 0',
    "set the clock": "time.clock_settime(time.CLOCK_REALTIME, 0.0); return True",
    "set the host's name": 'return call("sethostname", b"evil", 4) == 0',
    "swap": 'return call("swapoff", b"/dev/null") == 0',
    "watch the file system": 'return call("fanotify_init", 0, 0) >= 0',
    "type into the terminal": """
        import fcntl
        for fd in (0, 1, 2):
            try:
                fcntl.ioctl(fd, 0x5412, b"x")
                return True
            except OSError: pass
        return fcntl.ioctl(os.open("/dev/tty", os.O_RDWR), 0x5412, b"x") == 0""",
    "make a terminal": 'return os.open("/dev/ptmx", os.O_RDWR)',
    "anonymous files": 'return os.memfd_create("x") >= 0',
    "shared memory of System V": 'return call("shmget", 0x1234, 4096, 0o1666) >= 0',
    "message queues": 'return call("msgget", 0x1234, 0o1666) >= 0 or call("mq_open", b"x", 0o102, 0o600, 0) >= 0',
    # The network.
    "connect by IPv4": """
        with socket.create_connection(("127.0.0.1", H["port"]), timeout=1): return True""",
    "connect by IPv6": """
        with socket.create_connection(("::1", H["port6"]), timeout=1): return True""",
    "send by UDP": """
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", H["udp"])); return True""",
    "listen": 'socket.socket(socket.AF_INET).bind(("0.0.0.0", 0)); return True',
    "reach the internet": 'socket.create_connection(("1.1.1.1", 53), timeout=1); return True',
    "ask DNS": 'return socket.getaddrinfo("example.com", 80)',
    "connect to a socket file": 'socket.socket(socket.AF_UNIX).connect(H["unix"]); return True',
    "connect to an abstract socket": 'socket.socket(socket.AF_UNIX).connect("\\0" + H["abstract"]); return True',
    "connect to services of the host": """
        for path in ("/run/docker.sock", "/run/dbus/system_bus_socket", "/run/systemd/private", "/tmp/.X11-unix/X0"):
            if os.path.exists(path): return path""",
    "netlink": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0); return True",
    "raw packets": "socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0); return True",
    "raw IP": "socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP); return True",
    "vsock": "socket.socket(40, socket.SOCK_STREAM).connect((2, 22)); return True",
    "crypto sockets": "socket.socket(38, socket.SOCK_SEQPACKET); return True",
    "bluetooth and CAN": """
        for family in (29, 31, 30, 9, 44):
            try:
                socket.socket(family, socket.SOCK_RAW)
                return family
            except OSError: pass""",
    "tunnel device": 'return os.open("/dev/net/tun", os.O_RDWR)',
    "socket pairs of a network": "socket.socketpair(socket.AF_INET6); return True",
    "network by another program": """
        line = f"exec 3<>/dev/tcp/127.0.0.1/{H['port']} && echo through"
        return b"through" in subprocess.run(["bash", "-c", line], capture_output=True, timeout=2).stdout""",
    # What it unpacks or loads.
    "a pickle that runs a command": """
        class Evil:
            def __reduce__(self): return (os.system, (f"cat {H['file']} > loot 2>/dev/null; touch {H['folder']}/evil",))
        pickle.loads(pickle.dumps(Evil()))
        return has_secret("loot") or os.path.exists(H["folder"] + "/evil")""",
    "a start-up file": """
        open("sitecustomize.py", "w").write("print('x')"); open("usercustomize.py", "w").write("print('x')")
        return os.path.exists(H["folder"] + "/sitecustomize.py")""",
    "an alternate root in the linker": """
        done = subprocess.run(["/lib64/ld-linux-x86-64.so.2", "/usr/bin/cat", H["file"]], capture_output=True, timeout=2)
        return H["secret"].encode() in done.stdout""",
}
"""Each is refused: it ends by itself and nothing of the host is read, reached or changed."""

REAL = (
    "read a file of the host",
    "climb with ..",
    "follow a symlink",
    "find processes of the host",
    "read the kernel's settings",
    "write where the host's file is",
    "take hold of a process",
    "slow a process down",
    "connect by IPv4",
    "connect by IPv6",
    "send by UDP",
    "connect to a socket file",
    "connect to an abstract socket",
    "network by another program",
    "a pickle that runs a command",
)
"""Those that get through, and do no harm to this machine, where there is no box: the snippets do what they say."""

BOMBS: dict[str, tuple[str, str]] = {
    # name: (what may end it, body); "" where the kernel refuses and it ends by itself.
    "processes": (
        " time memory cpu",
        """
        made = 0
        try:
            while made < 500:
                if os.fork() == 0:
                    time.sleep(30); os._exit(0)
                made += 1
        except OSError: pass
        return made > 20""",
    ),
    "processes that fork on": (
        "time memory cpu ",
        "while True:\n            try: os.fork()\n            except OSError: pass",
    ),
    "a shell that forks": ("time memory cpu ", 'return os.system(":(){ :|:& };:; sleep 30") and False'),
    "threads": (
        " time memory",
        """
        made = 0
        try:
            for _ in range(500):
                threading.Thread(target=time.sleep, args=(30,), daemon=True).start(); made += 1
        except RuntimeError: pass
        return made > 20""",
    ),
    "memory of one process": (" memory", "return len(bytearray(1 << 33))"),
    "memory bit by bit": (" memory", "held = []\n        while True: held.append(bytearray(1 << 20))"),
    "memory of many processes": (
        "memory",
        """
        for _ in range(6):
            if os.fork() == 0:
                held = bytearray(b"x") * (60 << 20); time.sleep(30); os._exit(0)
        time.sleep(30)""",
    ),
    "shared mappings": (
        " memory",
        """
        held = []
        while True:
            held.append(mmap.mmap(-1, 16 << 20)); held[-1].write(b"x" * (16 << 20))""",
    ),
    "shared mappings of many processes": (
        " memory",
        """
        for _ in range(6):
            if os.fork() == 0:
                piece = mmap.mmap(-1, 60 << 20); piece.write(b"x" * (60 << 20)); time.sleep(30); os._exit(0)
        time.sleep(30)""",
    ),
    "shared memory files": (
        "",
        """
        written = 0
        for i in range(200):
            with open(f"/dev/shm/f{i}", "wb") as file: written += file.write(bytes(1 << 20))
        return written > 100 << 20""",
    ),
    "one big file": (
        "",
        'with open("f", "wb") as file:\n            for _ in range(200): file.write(bytes(1 << 20))\n        return True',
    ),
    "many files": (
        "",
        """
        for i in range(200):
            with open(f"f{i}", "wb") as file: file.write(bytes(1 << 20))
        return True""",
    ),
    "many empty files": ("files time", "for i in range(10 ** 7): open(f'f{i}', 'w').close()\n        return True"),
    "many folders in each other": (
        "files time ",
        """
        for i in range(10 ** 6):
            os.mkdir("d"); os.chdir("d")
        return True""",
    ),
    "a sparse file": ("", 'with open("f", "wb") as file: file.truncate(1 << 42)\n        return True'),
    "a file with a hole": (
        "",
        'with open("f", "wb") as file:\n            file.seek(1 << 42); file.write(b"x")\n        return True',
    ),
    "space by fallocate": (
        "",
        'with open("f", "wb") as file: os.posix_fallocate(file.fileno(), 0, 1 << 30)\n        return True',
    ),
    "descriptors": ("", "held = [os.open('/dev/null', 0) for _ in range(10 ** 5)]\n        return True"),
    "socket buffers": (
        "",
        """
        held = []
        for _ in range(10 ** 4):
            a, b = socket.socketpair(); a.setblocking(False); held += [a, b]
            try:
                while True: a.send(bytes(1 << 16))
            except BlockingIOError: pass
        return True""",
    ),
    "output without end": ("output", "while True: print('x' * 1000)"),
    "errors without end": ("output", "while True: os.write(2, b'x' * 1000)"),
    "output without a line's end": ("output", "while True: os.write(1, b'x' * 65536)"),
    "output of a child": ("output", "subprocess.run(['yes']); return False"),
    "an endless loop": ("time cpu", "while True: pass"),
    "loops of many processes": ("time cpu", "[os.fork() for _ in range(2)]\n        while True: pass"),
    "a regular expression without end": ("time cpu", "return re.match(r'(a|aa)+$', 'a' * 60 + 'b')"),
    "a power without end": ("time cpu memory", "return 0 * 7 ** (7 ** 9)"),
    "digits without end": ("time cpu memory", "sys.set_int_max_str_digits(0); return not str(1 << (1 << 26))"),
    "sleep": ("time", "time.sleep(1000)"),
    "deaf to signals": (
        "time cpu",
        """
        for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}: signal.signal(number, signal.SIG_IGN)
        while True: pass""",
    ),
    "stop itself": ("time", "os.kill(os.getpid(), signal.SIGSTOP)"),
    "wait for input": ("", "return sys.stdin.read()"),
    "wait for a pipe": ("time", "os.mkfifo('p'); return open('p').read()"),
    "recursion in C": (
        "time memory cpu ",
        "sys.setrecursionlimit(10 ** 9)\n        def f(x): return f(x)\n        return f(1)",
    ),
    "nested brackets": (" output", "return not compile('(' * 10 ** 5, 'x', 'eval')"),
    "crash": ("", "ctypes.string_at(0)"),
    "abort": ("", "os.abort()"),
    "a daemon": (
        "",
        """
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                for fd in range(3): os.close(fd)
                time.sleep(1000)
            os._exit(0)
        return False""",
    ),
    "a daemon of another program": ("", 'subprocess.Popen(["setsid", "sleep", "1000"], close_fds=True); return False'),
    "a daemon that holds the output": ("", 'subprocess.Popen(["sleep", "1000"], start_new_session=True); return False'),
}
"""Each is ended by a bound, and nothing of it lives on."""

EACH = "import os\nfor fd in range(3, 64):\n  try: {}\n  except OSError: pass"
"""Something done to every descriptor that the interpreter may talk to the host by."""

MISCHIEF: dict[str, str] = {
    "forge the next replies": EACH.format(
        """os.write(fd, b"".join(b'{"id": %d, "ok": true, "value": 42}\\n' % n for n in range(50)))"""
    ),
    "forge a reply that is no JSON": EACH.format(r"os.write(fd, b'\xff\x00{]\n')"),
    "forge a reply without end": EACH.format("[os.write(fd, b'x' * 65536) for _ in range(1000)]"),
    "forge a deep reply": EACH.format(r"os.write(fd, b'[' * 200000 + b'\n')"),
    "forge a long number": EACH.format(r"os.write(fd, b'9' * 100000 + b'\n')"),
    "forge a list": EACH.format(r"os.write(fd, b'[1]\n')"),
    "forge a pickle": "import pickle\n" + EACH.format(r"os.write(fd, pickle.dumps(os.system) + b'\n')"),
    "swap the descriptors": EACH.format("os.dup2(1, fd)"),
    "close all descriptors": "import os; os.closerange(0, 64)",
    "read the next request": "import os\nos.set_blocking(3, False)\nos.read(3, 1 << 20)",
    "kill the interpreter": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "stop the interpreter": "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
    "leave at once": "import os; os._exit(0)",
    "crash the interpreter": "import ctypes; ctypes.string_at(0)",
    "end by an alarm": "import signal; signal.setitimer(signal.ITIMER_REAL, 0.001)\nwhile True: pass",
    "answer from a child": "import os, sys\nif os.fork(): os.wait()",
    "recursion": "def f(n): return f(n + 1)\nf(0)",
    "a long traceback": "raise ValueError('x' * 10 ** 7)",
    "a traceback of many causes": """
e = None
for _ in range(900):
    n = ValueError('x' * 99); n.__cause__ = e; e = n
raise e""",
    "an error without a text": "class E(Exception):\n  def __str__(self): raise self\nraise E",
    "an error that lies about its class": "class E(Exception):\n  __class__ = property(lambda self: 1 / 0)\nraise E",
    "a value without a text": "class V:\n  def __repr__(self): raise SystemExit\nV()",
    "a value with a long text": "class V:\n  def __repr__(self): return 'v' * 10 ** 7\nV()",
    "half a surrogate pair": r"print('\ud800'); '\udfff'",
    "no UTF-8": "import os; os.write(1, bytes(range(256)) * 9)",
    "nulls": "print(chr(0) * 99)",
    "terminal sequences": "print(chr(27) + ']0;title' + chr(7) + chr(27) + '[2J' + chr(27) + 'c')",
    "no more built-ins": """
import builtins, sys
builtins.print = builtins.repr = builtins.open = builtins.isinstance = None; sys.stdout = sys.stderr = None""",
    "other hooks": "import sys\nsys.displayhook = sys.excepthook = lambda *a: 1 / 0\nsys.settrace(lambda *a: 1 / 0)",
    "another json": "import json\njson.dumps = json.loads = lambda *a, **k: 'x'",
    "threads that go on": """
import threading
def shout():
    while True: print(1)
for _ in range(8): threading.Thread(target=shout, daemon=True).start()""",
    "processes that go on": "import os\nif os.fork() == 0:\n  while True: print(1)",
    "no memory": "x = []\nwhile True: x.append(bytearray(2 ** 20))",
    "no descriptors": "import os\nx = []\nwhile True: x.append(os.dup(1))",
}
"""Cells that go for the interpreter around them."""

CHEATS: dict[str, str] = {
    "leaves with 0": "raise SystemExit(0)",
    "leaves hard with 0": "import os; os._exit(0)",
    "leaves in the function": "def add(a, b):\n  import os; os._exit(0)",
    "leaves when it ends": "import atexit, os; atexit.register(os._exit, 0)",
    "says that it passed": "print('passed'); print('OK'); print('1 passed in 0.01s')",
    "equals anything": "class E:\n  def __eq__(self, other): return True\ndef add(a, b): return E()",
    "a number that equals anything": """
class E(int):
    def __eq__(self, other): return True
    __hash__ = int.__hash__
def add(a, b): return E(0)""",
    "a list that equals anything": """
class L(list):
    def __eq__(self, other): return True
def add(a, b): return L([1])""",
    "no assertions": """
import builtins, unittest
builtins.AssertionError = type('A', (Exception,), {})
unittest.TestCase.assertEqual = lambda *a: None
def add(a, b): return 0""",
    "another json": """
import json
json.dumps = lambda *a, **k: '{"id": 3, "ok": true, "value": 3}'
def add(a, b): return 0""",
    "forges replies": EACH.format(
        """[os.write(fd, b'{"id": %d, "ok": true, "value": true}\\n' % n) for n in range(9)]"""
    ),
    "forges replies in the function": 'def add(a, b):\n  for n in range(99): print(\'{"id": %d, "ok": true, "value": 3}\' % n)',
    "looks for the results in its caller": """
import sys
def add(a, b):
    frame = sys._getframe()
    while frame:
        for value in frame.f_locals.values():
            if isinstance(value, dict) and 'expected' in value: return value['expected']
        frame = frame.f_back""",
    "looks for the results in memory": """
import gc
def add(a, b):
    return next((o['expected'] for o in gc.get_objects() if isinstance(o, dict) and 'expected' in o), None)""",
    "looks for the tests on disk": """
import glob
def add(a, b):
    return [open(f).read() for f in glob.glob('/scratch/**') + glob.glob('/*test*')]""",
    "overwrites the tests": """
for name in ('test.py', 'tests.py', '/scratch/main.py'):
    open(name, 'w').write('')
def add(a, b): return None""",
    "all answers in one": "def add(a, b): return [3, 12]",
    "not a number": "def add(a, b): return float('nan')",
    "true for one": "def add(a, b): return a + b == 3",
    "text for a number": "def add(a, b): return str(a + b)",
    "never comes back": "def add(a, b):\n  while True: pass\nadd(1, 2)",
    "clears what is around it": "import sys\nsys.modules['__main__'].__dict__.clear()",
    "right once": "def add(a, b): return 3\nprint(3)",
    "prints both results": "print(3); print(12)",
    "nothing": "",
}
"""Code that doesn't add two numbers and wants to pass, as a function `add` or as a program."""
