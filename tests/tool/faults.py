"""A server whose system calls fail, one kind and one error after the other (strace -e inject), and clients that it has
to serve all the same. Run by ci/faults and by a test.

usage: faults.py SIDEWIRE FOLDER [--quick] [--only WORD]

While it runs: strace makes some calls of `sidewire serve` fail. A client that is there, and others that come and go, have
to be answered: no hang, no more connections lost than calls failed, and none where the error says only "not now"; no
panic, no loop that spins, no descriptor left over. At its start: it serves, or says what failed and ends.
"""

import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time

PATIENCE = 15  # seconds for one answer
IDLE = 0.3  # seconds in which a server that has nothing to do may not be busy
LARGE = 1 << 20  # does not fit into a socket's buffer, and is written in pieces

# What may be lost by a call that fails: the connection that it was for, or nobody's.
OWN, NONE = "own", "none"
# System call, errors, what is lost. An error that says "not now" while nothing tells when (EAGAIN of accept or
# recv) is none that the system would give.
RUNNING = [
    ("epoll_wait", "EINTR", NONE),
    ("accept4", "EINTR ECONNABORTED EPERM", NONE),
    ("accept4", "EMFILE ENFILE ENOBUFS ENOMEM", OWN),  # told so, with the descriptor that is kept for it
    ("getsockopt", "ENOMEM EIO", OWN),
    ("epoll_ctl", "ENOMEM ENOSPC", OWN),
    ("recvfrom,recvmsg", "EINTR", NONE),  # the latter before Linux 6.16
    ("recvfrom,recvmsg", "ECONNRESET EIO ENOMEM", OWN),
    ("sendto", "EINTR EAGAIN", NONE),
    ("sendto", "EPIPE ECONNRESET EIO ENOMEM ENOBUFS", OWN),
    ("sendmsg", "EINTR EAGAIN", NONE),
    ("sendmsg", "EPIPE ECONNRESET EIO ENOMEM ENOBUFS", OWN),
    ("newfstatat", "EIO ENOMEM EACCES", NONE),
    ("close", "EIO EINTR", NONE),
]
# Which of the calls fail.
PLACES = ["1", "2", "1..3", "2+3"]
STARTING = [
    ("socket", "EMFILE ENOMEM EACCES"),
    ("bind", "EACCES ENOMEM EADDRINUSE"),
    ("listen", "ENOMEM"),
    ("fchmod", "EPERM EIO"),
    ("flock", "EINTR ENOLCK"),
    ("unlinkat", "EACCES EIO"),
    ("epoll_create1", "EMFILE ENOMEM"),
    ("eventfd2", "EMFILE"),
    ("pipe2", "EMFILE"),
    ("epoll_ctl", "ENOMEM ENOSPC"),
    ("clone3", "EAGAIN"),
    ("getsockname", "ENOBUFS"),
]


class Lost(Exception):
    """The connection is over, or was never there."""


class Client:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        self.last = 0
        try:
            self.socket.connect(path)
            numbers = (0, 0, 1 << 24, 16, 1 << 24, 1 << 16)
            self.send(struct.pack("<4sHBB6I16s", b"\xd1SW\xd1", 48, 1, 1, *numbers, os.urandom(16)))
            hello = self.read(72)
            self.read(struct.unpack_from("<H", hello, 4)[0] - 72)
        except OSError as error:
            raise self.judged(error)
        if hello[48:53] != b"\0\0\0\0\1":
            raise Lost("refused")

    def judged(self, error):
        if isinstance(error, TimeoutError):
            return AssertionError(f"no answer for {PATIENCE} s")
        return Lost(str(error))

    def send(self, data):
        self.socket.sendall(data)

    def read(self, count):
        data = bytearray()
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            if not more:
                raise Lost("the end")
            data += more
        return bytes(data)

    def ask(self, msg_type, payload):
        self.last += 1
        try:
            self.send(struct.pack("<IBBHIi", len(payload), 1, 0, msg_type, self.last, 0) + payload)
            length, kind, flags, got, call, rc = struct.unpack("<IBBHIi", self.read(16))
            reply = self.read(length)
        except OSError as error:
            raise self.judged(error)
        if kind == 12:
            raise Lost(f"goodbye: {rc}")
        assert (kind, flags, got, call, rc) == (2, 0, msg_type, self.last, 0), "another reply"
        assert reply == payload, "another answer"

    def work(self):
        self.ask(4, b"hello")
        self.ask(4, os.urandom(LARGE))
        self.ask(6, b"1")  # by another thread

    def close(self):
        self.socket.close()


class Server:
    def __init__(self, program, folder):
        self.path = os.path.join(folder, "s")
        self.log = os.path.join(folder, "log")
        self.process = subprocess.Popen(
            [program, "serve", f"unix:{self.path}"], stdout=subprocess.PIPE, stderr=open(self.log, "w")
        )
        assert self.process.stdout.readline().startswith(b"listening "), "it does not listen"

    def tasks(self):
        return os.listdir(f"/proc/{self.process.pid}/task")

    def is_traced(self):
        for task in self.tasks():
            try:
                if "\nTracerPid:\t0\n" in open(f"/proc/{self.process.pid}/task/{task}/status").read():
                    return False
            except FileNotFoundError:
                pass
        return True

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def cpu(self):
        fields = open(f"/proc/{self.process.pid}/stat").read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def check(self):
        assert self.process.poll() is None, f"the server has ended: {self.process.returncode}, {self.said()}"
        assert "panicked" not in self.said(), self.said()

    def said(self):
        return open(self.log).read()[-2000:]

    def end(self):
        """In order, when asked to."""
        self.process.send_signal(signal.SIGTERM)
        try:
            assert self.process.wait(PATIENCE) == 0, f"it ended with {self.process.returncode}: {self.said()}"
        finally:
            self.process.kill()
            self.process.wait()
        assert not os.path.exists(self.path), "its socket is left over"


def patiently(is_so, what):
    until = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < until, what() if callable(what) else what
        time.sleep(0.01)


class Strace:
    def __init__(self, server, folder, inject):
        self.trace = os.path.join(folder, "trace")
        open(self.trace, "w").close()
        call = inject.partition(":")[0]
        command = ["strace", "-f", "-o", self.trace, "-e", f"trace={call}", "-e", f"inject={inject}"]
        self.process = subprocess.Popen(
            [*command, "-p", str(server.process.pid)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        patiently(lambda: self.process.poll() is not None or server.is_traced(), "strace does not attach")
        assert self.process.poll() is None, "strace can't attach"

    def calls(self):
        return open(self.trace).read().count("\n")

    def end(self):
        """How many calls failed."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait()
        return open(self.trace).read().count("(INJECTED)")


def serve_through(server, folder, call, error, place, loses):
    """One case. Returns how many calls failed, and how many connections were lost."""
    there = Client(server.path)
    there.work()
    before = server.descriptors()
    lost = 0
    strace = Strace(server, folder, f"{call}:error={error}:when={place}")
    try:
        began = time.monotonic()
        for _ in range(4):
            try:
                there.work()
            except Lost:
                lost += 1
                there.close()
                there = None
            try:
                other = Client(server.path)
                other.work()
                other.close()
            except Lost:
                lost += 1
            while there is None:
                try:
                    there = Client(server.path)
                except Lost:
                    lost += 1
                    assert lost < 1000 and time.monotonic() < began + PATIENCE, "nobody gets in any more"
        if call == "newfstatat":  # looked at every 2.5 s
            patiently(lambda: strace.calls() > 0, "it never looks at its file")
        cpu = server.cpu()
        time.sleep(IDLE)
        busy = server.cpu() - cpu
    finally:
        failed = strace.end()
    server.check()
    assert busy < IDLE / 2, f"it spins: busy for {busy} s of {IDLE}"
    assert failed > 0, "no call failed: does the server still make any?"
    allowed = 0 if loses == NONE else failed
    assert lost <= allowed, f"{lost} connections were lost by {failed} errors"
    there.work()
    other = Client(server.path)
    other.work()
    other.close()
    # What strace has kept from being closed stays open.
    left = before + (failed if call == "close" else 0)
    patiently(lambda: server.descriptors() <= left, lambda: f"{server.descriptors()} descriptors, {before} before")
    there.close()
    return failed, lost


def start_through(program, folder, call, error, place):
    """One start. Returns what became of it."""
    path, log = os.path.join(folder, "t"), os.path.join(folder, "start")
    inject = f"{call}:error={error}:when={place}"
    command = ["strace", "-f", "-o", os.path.join(folder, "trace"), "-e", f"trace={call}", "-e", f"inject={inject}"]
    command += [program, "serve", f"unix:{path}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=open(log, "w"))
    try:
        # Its line, its end, or a word that it can't say the line.
        said = lambda: open(log).read()
        patiently(lambda: select.select([process.stdout], [], [], 0.01)[0] or "start a thread: " in said(), "silence")
        is_serving = "start a thread: " in said() or process.stdout.readline().startswith(b"listening ")
        if is_serving:
            client = Client(path)
            client.work()
            client.close()
            children = open(f"/proc/{process.pid}/task/{process.pid}/children").read().split()
            os.kill(int(children[0]), signal.SIGTERM)
        status = process.wait(PATIENCE)
    finally:
        process.kill()
        process.wait()
    said = said()
    assert "panicked" not in said, said
    if is_serving:
        assert status == 0, f"it ended with {status}: {said}"
        return "serves"
    assert status in (1, 2) and said.startswith("sidewire: "), f"it ended with {status}: {said}"
    return said.strip()


def main():
    options = sys.argv[1:]
    quick = "--quick" in options and not options.remove("--quick")
    only = ""
    if "--only" in options:
        at = options.index("--only")
        only = options[at + 1]
        del options[at : at + 2]
    program, folder = options
    wrong = count = 0
    server = None

    def tell(name, case):
        nonlocal wrong, count, server
        count += 1
        try:
            print(f"{name}: {case()}", flush=True)
        except (AssertionError, Lost, OSError, subprocess.TimeoutExpired) as error:
            wrong += 1
            print(f"WRONG: {name}: {error or repr(error)}", flush=True)
            if server:
                server.process.kill()
                server.process.wait()
                server = None

    for call, errors, loses in RUNNING:
        errors = errors.split()[:1] if quick else errors.split()
        for error in errors:
            for place in PLACES[1:2] if quick else PLACES:
                if only not in call:
                    continue

                def case():
                    nonlocal server
                    server = server or Server(program, folder)
                    failed, lost = serve_through(server, folder, call, error, place, loses)
                    return f"{failed} failed, {lost} connections lost"

                if call == "newfstatat" and place != "1":
                    continue  # it is called too seldom
                if error == "EAGAIN" and place != "1":
                    continue  # the system says so again only when room that it has told of is used up
                tell(f"serving, {call} {error} {place}", case)
    if server:
        tell("serving, the end", lambda: server.end() or "in order")
        server = None
    for call, errors in [] if quick else STARTING:
        if only not in call:
            continue
        for error in errors.split():
            for place in ["1", "2", "1+1"]:
                case = lambda: start_through(program, folder, call, error, place)
                tell(f"starting, {call} {error} {place}", case)
    print(f"{count} cases, {wrong} wrong")
    return 1 if wrong or not count else 0


if __name__ == "__main__":
    sys.exit(main())
