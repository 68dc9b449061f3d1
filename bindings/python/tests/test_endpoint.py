"""Where servers are looked for, and which of them are trusted."""

import os
import secrets
import socket
import unittest

from support import PATIENCE, ROOT, Test
import sidewire
from sidewire import _endpoint, _token, errors
from sidewire._frames import Limits, our_hello

if os.name == "posix":
    from sidewire import _unix


class Names(Test):
    def test_what_is_an_endpoint(self):
        for text in [
            "local:a", "local:com.example.app", "local:" + "x" * 64, "unix:/a", "abstract:x y", "pipe:LOCAL\\x",
        ]:
            self.assertEqual(str(_endpoint.parse(text)), text)
        tcp = _endpoint.parse("tcp:[::1]:80")
        self.assertEqual((tcp.host, tcp.port), ("::1", 80))

    def test_what_is_none(self):
        for text in [
            "", "x", "/tmp/x", "http:x", "local:", "local:.x", "local:-x", "local:x.", "local:a/b", "local:ü",
            "local:" + "x" * 65, "unix:x", "unix:/" + "x" * 107, "unix:/a\0b", "abstract:" + "x" * 108, "tcp:x",
            "tcp:x:0", "tcp:x:65536", "tcp::80", "tcp://x:80", "tcp:::1:80", "tcp:x:8o", "udp:x:80",
            "pipe:\\\\.\\pipe\\x",
        ]:
            with self.assertRaises(ValueError, msg=text):
                _endpoint.parse(text)

    def test_options_that_can_not_be_meant(self):
        for options in [
            dict(endpoint="tcp:127.0.0.1:9"), dict(access="all"), dict(token=b"short"), dict(timeout=-1),
            dict(connect_timeout=0), dict(handlers={70000: print}), dict(app=("x" * 129, "1")),
        ]:
            with self.assertRaises(ValueError, msg=str(options)):
                sidewire.Client(**{"endpoint": self.fresh(), **options})
        with self.assertRaises(ValueError):
            Limits(max_payload=2**32)
        our_hello(Limits(), bytes(16), ("x" * 128, "y" * 128))

    def test_what_this_system_has_not(self):
        with self.assertRaises(sidewire.NotListening):
            sidewire.Client("pipe:nobody" if os.name == "posix" else "unix:/nobody")
        for host in ["x" * 300, "a..b"]:
            with self.assertRaises(sidewire.NotListening):
                sidewire.Client(f"tcp:{host}:80", access="anyone")


@unittest.skipUnless(os.name == "posix", "Unix sockets")
class Places(Test):
    def setUp(self):
        super().setUp()
        self.runtime = self.path("runtime")
        os.mkdir(self.runtime, 0o700)
        before = os.environ.get("XDG_RUNTIME_DIR")
        os.environ["XDG_RUNTIME_DIR"] = self.runtime
        self.addCleanup(self.restore, before)
        self.name = f"py-{secrets.token_hex(8)}"

    def restore(self, before):
        os.environ.pop("XDG_RUNTIME_DIR")
        if before is not None:
            os.environ["XDG_RUNTIME_DIR"] = before

    def found(self):
        return [os.fsdecode(path) for path in _unix.local_paths(self.name) if self.folder.encode() in path]

    def test_only_private_folders_count(self):
        expected = [os.path.join(self.runtime, f"{self.name}.sock")]
        self.assertEqual(self.found(), expected)
        for mode in [0o755, 0o710, 0o701]:
            os.chmod(self.runtime, mode)
            self.assertEqual(self.found(), [], oct(mode))
        os.chmod(self.runtime, 0o700)
        link = self.path("link")
        os.symlink(self.runtime, link)
        for folder in [link, link + "/", os.path.relpath(self.runtime)]:
            os.environ["XDG_RUNTIME_DIR"] = folder
            self.assertEqual(self.found(), [], folder)
        os.environ["XDG_RUNTIME_DIR"] = self.runtime + "/"
        self.assertEqual(self.found(), expected)
        if os.geteuid() == 0:
            os.chown(self.runtime, 4711, -1)
            self.assertEqual(self.found(), [])

    def test_links_lead_to_private_folders_only(self):
        private, public = self.path("private"), self.path("public")
        os.mkdir(private, 0o700)
        os.mkdir(public, 0o700)
        os.chmod(public, 0o755)
        file = f"{self.name}.sock"
        link = os.path.join(self.runtime, file)
        for folder, expected in [(private, [os.path.join(private, file)]), (public, [])]:
            os.symlink(os.path.join(folder, file), link)
            self.assertEqual(self.found(), expected)
            os.unlink(link)

    def test_a_local_server_is_found(self):
        server = self.serve(f"local:{self.name}")
        os.environ["XDG_RUNTIME_DIR"] = self.folder
        with sidewire.Client(server.endpoint) as client:
            self.assertEqual(client.call(4, b"x"), b"x")
        os.environ["XDG_RUNTIME_DIR"] = self.runtime
        with self.assertRaises(sidewire.NotListening):
            sidewire.Client(f"local:{self.name}-not")

    def test_abstract_names_are_not_padded(self):
        if not hasattr(socket, "SO_PEERCRED"):
            self.skipTest("Linux")
        server = self.serve(f"abstract:{self.name}")
        with sidewire.Client(server.endpoint) as client:
            self.assertEqual(client.call(4, b"x"), b"x")


@unittest.skipUnless(hasattr(socket, "SO_PEERCRED"), "Linux")
class Trust(Test):
    def test_who_may_serve(self):
        us = os.geteuid()
        _unix.refuse_others(us)
        _unix.refuse_others(0)
        for uid in [us + 1, 4711, _unix._overflow_uid()]:
            with self.assertRaises(errors.Refused) as caught:
                _unix.refuse_others(uid)
            self.assertEqual(caught.exception.rc, -5)

    def test_a_server_of_another_user_is_told_nothing(self):
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        path = self.path("s.sock")
        listener.bind(path)
        listener.listen()
        real, _unix.server_uid = _unix.server_uid, lambda _: 4711
        self.addCleanup(setattr, _unix, "server_uid", real)
        for reconnect in [None, sidewire.Reconnect()]:
            with self.assertRaisesRegex(sidewire.Refused, "4711"):
                sidewire.Client(f"unix:{path}", reconnect=reconnect)
            peer, _ = listener.accept()
            with peer:
                self.assertEqual(peer.recv(1), b"", "not a byte")

    def test_the_kernel_tells_who_it_is(self):
        if os.geteuid() != 0 or not os.path.exists("/proc/self/fd"):
            self.skipTest("needs root, who may become somebody else, and abstract names")
        name = f"py-{secrets.token_hex(8)}"
        said, says = os.pipe()
        child = os.fork()
        if child == 0:
            self.serve_as_another(name, says)
        os.close(says)
        with open(said, "rb") as said:
            self.assertEqual(said.read(1), b"!")
            with self.assertRaisesRegex(sidewire.Refused, "uid 4711"):
                sidewire.Client(f"abstract:{name}")
            self.assertEqual(said.read(), b"0 bytes")
        self.assertEqual(os.waitpid(child, 0)[1], 0)

    def serve_as_another(self, name, says):
        """In a child: says how many bytes have come before the end."""
        try:
            os.setresuid(4711, 4711, 4711)
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(f"\0{name}")
            listener.listen()
            os.write(says, b"!")
            listener.settimeout(PATIENCE)
            peer, _ = listener.accept()
            peer.settimeout(PATIENCE)
            os.write(says, b"%d bytes" % len(peer.recv(100)))
            os._exit(0)
        finally:
            os._exit(1)

    def test_a_full_backlog_is_waited_for(self):
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        path = self.path("full.sock")
        listener.bind(path)
        listener.listen(0)
        others = []
        while True:
            peer = socket.socket(socket.AF_UNIX)
            self.addCleanup(peer.close)
            peer.setblocking(False)
            others.append(peer)
            try:
                peer.connect(path)
            except BlockingIOError:
                break
        with self.assertRaises(sidewire.TimedOut):
            sidewire.Client(f"unix:{path}", connect_timeout=0.1)


class Tokens(Test):
    def test_files(self):
        path = self.path("token")
        with self.assertRaises(sidewire.NotListening):
            _token.read_token(path)
        with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "wb") as file:
            file.write(bytes(range(32)))
        self.assertEqual(_token.key_of(path), bytes(range(32)))
        if os.name == "posix":
            for mode in [0o640, 0o604, 0o620]:
                os.chmod(path, mode)
                self.assertRaises(ValueError, lambda: _token.read_token(path))
            os.chmod(path, 0o600)
            os.symlink(path, self.path("link"))
            self.assertRaises(ValueError, lambda: _token.read_token(self.path("link")))
            self.assertRaises(ValueError, lambda: _token.read_token(self.folder))
        with open(path, "ab") as file:
            file.write(b"x")
        self.assertRaises(ValueError, lambda: _token.read_token(path))

    def test_both_sides_prove_it_over_tcp(self):
        path = self.path("app.token")
        server = self.serve("tcp:127.0.0.1:0", options=["--token-file", path])
        with sidewire.Client(server.endpoint, token=path) as client:
            self.assertEqual(client.call(4, b"hello"), b"hello")
        with open(path, "rb") as file:
            key = file.read()
        with sidewire.Client(server.endpoint, token=key) as client:
            self.assertEqual(client.call(4, b"hello"), b"hello")
        with self.assertRaisesRegex(sidewire.Refused, "does not prove"):
            sidewire.Client(server.endpoint, token=bytes(32))
        with self.assertRaisesRegex(sidewire.Refused, "asks for a token"):
            sidewire.Client(server.endpoint, access="anyone")

    def test_tcp_without_a_token(self):
        server = self.serve("tcp:127.0.0.1:0", options=["--access", "anyone"])
        with sidewire.Client(server.endpoint, access="anyone") as client:
            self.assertEqual(client.call(4, b"hello"), b"hello")
        with self.assertRaises(sidewire.Refused):
            sidewire.Client(server.endpoint, token=bytes(32))


class Package(Test):
    def test_the_python_of_the_page_and_ours_agree_on_the_codes(self):
        with open(os.path.join(ROOT, "docs", "protocol", "connecting.md"), encoding="utf-8") as file:
            rows = [line.split("|") for line in file if line.startswith("| -") or line.startswith("| 0 ")]
        table = {int(row[1]): row[2].strip() for row in rows if row[1].strip().lstrip("-").isdigit()}
        self.assertEqual(table, errors._NAMES)


if __name__ == "__main__":
    unittest.main()
