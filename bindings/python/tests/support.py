"""What the tests have in common: a watchdog, a real server, a made-up one, and connections in memory."""

import faulthandler
import os
import secrets
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
PACKAGE = os.path.dirname(HERE)
ROOT = os.path.dirname(os.path.dirname(PACKAGE))
CONVERSATIONS = os.path.join(ROOT, "tests", "conversations")
sys.path.insert(0, PACKAGE)

from sidewire._frames import GOODBYE, HEADER, MAGIC  # noqa: E402

PATIENCE = 60.0
WATCHDOG = 300.0


def tool():
    """The program `sidewire`: what SIDEWIRE says, or what was built."""
    built = [os.path.join(ROOT, "target", profile, "sidewire") for profile in ("debug", "release")]
    for path in [os.environ.get("SIDEWIRE"), *built]:
        if path and os.path.exists(path):
            return path
    return None


class Test(unittest.TestCase):
    """A test may fail, it may not hang: then all threads are shown, and the process ends."""

    def setUp(self):
        faulthandler.dump_traceback_later(WATCHDOG, exit=True)
        self.addCleanup(faulthandler.cancel_dump_traceback_later)
        self.folder = tempfile.mkdtemp(prefix="sw-py-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def fresh(self):
        """`unix:` and a path where nobody is."""
        return f"unix:{self.path(secrets.token_hex(4))}.sock"

    def serve(self, *endpoints, options=()):
        """A server that listens there."""
        if tool() is None:
            self.skipTest("the tool `sidewire` was not built: SIDEWIRE says where it is")
        server = Server(endpoints, options, self.folder)
        self.addCleanup(server.kill)
        return server

    def until(self, is_so, what):
        end = time.monotonic() + PATIENCE
        while not is_so():
            self.assertLess(time.monotonic(), end, f"never came true: {what}")
            time.sleep(0.005)


class Server:
    """`sidewire serve`."""

    def __init__(self, endpoints, options, folder):
        environment = {**os.environ, "XDG_RUNTIME_DIR": folder, "TMPDIR": folder}
        environment.pop("RUST_LOG", None)
        self.process = subprocess.Popen(
            [tool(), "serve", *endpoints, *options], stdout=subprocess.PIPE, env=environment, text=True
        )
        self.endpoints = []
        while len(self.endpoints) < len(endpoints):
            line = self.process.stdout.readline()
            if not line:
                self.kill()
                raise AssertionError("the server does not listen")
            if line.startswith("listening "):
                self.endpoints.append(line.split(" ", 1)[1].strip())
        # It may say more, and is not to wait until somebody reads it.
        self._drain = threading.Thread(target=self.process.stdout.read, daemon=True)
        self._drain.start()

    @property
    def endpoint(self):
        return self.endpoints[0]

    def kill(self):
        """At once, and for good."""
        self.process.kill()
        self.process.wait()
        if hasattr(self, "_drain"):
            self._drain.join()
        self.process.stdout.close()

    def stop(self):
        """In order."""
        self.process.terminate()
        self.process.wait(PATIENCE)


USUAL = (16 << 20, 4096, 64 << 20, 262144)


def answer_to_hello(*, status=0, version=1, limits=USUAL, tlvs=b"", instance=bytes(16), required=0):
    """A responder's hello."""
    head = struct.pack("<4sHBBIIIIII16s", MAGIC, 72 + len(tlvs), 1, 1, 0, required, *limits, bytes(16))
    return head + struct.pack("<iB3s16s", status, version, bytes(3), instance) + tlvs


def frame(kind, msg_type=0, call=0, rc=0, payload=b"", flags=0):
    return HEADER.pack(len(payload), kind, flags, msg_type, call, rc) + payload


def frames(data):
    """(kind, flags, type, id, rc, payload) of each that is in there."""
    found = []
    while data:
        length, *rest = HEADER.unpack_from(data)
        found.append((*rest, data[16 : 16 + length]))
        data = data[16 + length :]
    return found


class Impostor:
    """A made-up server at a Unix socket: for each connection it does what a function says, on a thread."""

    def __init__(self, test, behave):
        self.path = test.path(secrets.token_hex(4) + ".sock")
        self.endpoint = f"unix:{self.path}"
        self.errors = []
        self._behave = behave
        self._streams = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        test.addCleanup(self._close, test)

    def _accept(self):
        number = 0
        while True:
            try:
                stream, _ = self._listener.accept()
            except OSError:
                return
            stream.settimeout(PATIENCE)
            self._streams.append(stream)
            try:
                self._behave(Stream(stream), number)
            except Exception as error:  # the test is to hear of it
                self.errors.append(error)
            number += 1
            stream.close()

    def _close(self, test):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for stream in self._streams:
            try:
                stream.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self._thread.join(PATIENCE)
        test.assertFalse(self._thread.is_alive())
        test.assertEqual(self.errors, [])


class Stream:
    """The server's end, frame by frame."""

    def __init__(self, stream):
        self.stream = stream
        self.send = stream.sendall

    def read(self, count):
        data = b""
        while len(data) < count:
            piece = self.stream.recv(count - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def greet(self, **options):
        head = self.read(6)
        self.read(struct.unpack_from("<H", head, 4)[0] - 6)
        self.send(answer_to_hello(**options))

    def frame(self):
        length, *rest = HEADER.unpack(self.read(16))
        return (*rest, self.read(length))

    def leave(self):
        """When the client does."""
        try:
            while self.frame()[0] != GOODBYE:
                pass
            self.send(frame(GOODBYE))
        except (ConnectionError, EOFError):
            pass

    def read_to_end(self):
        try:
            while self.stream.recv(4096):
                pass
        except ConnectionError:
            pass  # it has left something unread
