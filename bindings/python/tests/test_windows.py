"""The pipes of Windows over a made-up system: what is under way, what has ended. Nobody has run them on a real one."""

import asyncio
import os
import threading
import unittest
from unittest import mock

from support import PATIENCE, Test
import sidewire
from sidewire import _endpoint, _windows, aio, errors
from sidewire._channel import SocketChannel

PENDING, INCOMPLETE, BROKEN, ODD = 997, 996, 109, 1450


class Kernel:
    """One end of a pipe. Reads and writes stay under way until a test completes them."""

    def __init__(self):
        self.error = 0
        self.events = {}
        self.reading = self.writing = None
        self.read_from, self.written = b"", []
        self.closed, self.cancelled = [], False
        self.opening = []
        self.waited = []

    def fails(self, code):
        self.error = code
        return False

    def CreateEventW(self, _security, _manual, _state, _name):
        self.events[len(self.events) + 100] = False
        return len(self.events) + 99

    def SetEvent(self, event):
        self.events[event] = True
        return True

    def WaitForMultipleObjects(self, count, handles, _all, millis):
        self.waited.append((list(handles), millis))
        return 0

    def ReadFile(self, _handle, buffer, size, _count, overlapped):
        assert self.reading is None or self.reading[2] is not None, "one at a time"
        self.reading = [buffer, size, None]
        return self.fails(PENDING)

    def WriteFile(self, _handle, buffer, size, _count, overlapped):
        self.writing = [buffer, size, None]
        return self.fails(PENDING)

    def GetOverlappedResult(self, _handle, overlapped, count, wait):
        operation = self.reading if overlapped._obj is self.pipe._reading else self.writing
        if operation[2] is None:
            return True if self.cancelled and wait else self.fails(INCOMPLETE)
        if operation[2] < 0:
            return self.fails(-operation[2])
        count._obj.value = operation[2]
        return True

    def CancelIoEx(self, _handle, _overlapped):
        self.cancelled = True
        return True

    def CloseHandle(self, handle):
        self.closed.append(handle)
        return True

    def CreateFileW(self, *arguments):
        self.opening.append(arguments)
        return _windows._INVALID_HANDLE if self.fails(self.codes.pop(0)) is False and self.error else 7

    def WaitNamedPipeW(self, _path, millis):
        self.waited.append(millis)
        return True

    # The other end.

    def brings(self, data):
        self.reading[0][: len(data)] = data
        self.reading[2] = len(data)

    def ends(self, code=BROKEN):
        self.reading[2] = -code

    def takes(self):
        self.written.append(bytes(self.writing[0][: self.writing[1]]))
        self.writing[2] = self.writing[1]


class Pipes(Test):
    def setUp(self):
        super().setUp()
        self.kernel = Kernel()
        system = mock.Mock(kernel=self.kernel)
        for name, made in [
            ("_system", lambda: system), ("_last_error", lambda: self.kernel.error), ("_error", OSError),
        ]:
            patch = mock.patch.object(_windows, name, made)
            patch.start()
            self.addCleanup(patch.stop)

    def pipe(self):
        pipe = _windows.Pipe(7)
        self.kernel.pipe = pipe
        return pipe

    def test_what_comes_is_read_piece_by_piece(self):
        pipe = self.pipe()
        self.assertIsNone(pipe.receive())
        pipe.wait(0.5, False)
        self.assertEqual(self.kernel.waited, [([pipe._reading.hEvent, pipe._bell], 501)])
        self.assertIsNone(pipe.receive())
        self.kernel.brings(b"abc")
        self.assertEqual(pipe.receive(), b"abc")
        self.kernel.brings(b"")
        self.assertIsNone(pipe.receive(), "a write of nothing is no end")
        self.kernel.ends()
        self.assertEqual([pipe.receive(), pipe.receive()], [b"", b""])
        pipe.wait(None, True)
        self.assertEqual(len(self.kernel.waited), 1, "behind the end nothing is waited for")
        self.assertRaises(BrokenPipeError, lambda: pipe.send(b"x"))

    def test_what_is_odd_is_an_error(self):
        pipe = self.pipe()
        pipe.wait(None, False)
        self.kernel.ends(ODD)
        self.assertRaises(OSError, pipe.receive)

    def test_one_write_is_under_way(self):
        pipe = self.pipe()
        data = bytes(range(256)) * 300
        self.assertEqual(pipe.send(data), 65536)
        self.assertEqual(pipe.send(data[65536:]), 0)
        pipe.wait(None, True)
        self.assertEqual(self.kernel.waited[-1], ([pipe._reading.hEvent, pipe._bell, pipe._writing.hEvent], 0xFFFFFFFF))
        self.kernel.takes()
        self.assertEqual(pipe.send(data[65536:]), len(data) - 65536)
        self.kernel.takes()
        self.assertEqual(b"".join(self.kernel.written), data)

    def test_closing_waits_for_what_the_system_still_writes_to(self):
        pipe = self.pipe()
        pipe.wait(None, False)
        pipe.send(b"goodbye")
        pipe.wake()
        pipe.close()
        pipe.close()
        self.assertEqual(self.kernel.waited[-1], ([pipe._writing.hEvent], 1000))
        self.assertTrue(self.kernel.cancelled)
        self.assertEqual(sorted(self.kernel.closed), sorted([7, *self.kernel.events]))
        pipe.wake()

    def test_how_it_is_opened(self):
        self.kernel.codes = [231, 231, 0]
        deadline = _windows.time.monotonic() + 60
        self.assertEqual(_windows._open("\\\\.\\pipe\\x", "pipe:x", deadline), 7)
        self.assertEqual(self.kernel.opening[0], ("\\\\.\\pipe\\x", 0x12019B, 0, None, 3, 0x40110000, None))
        self.assertEqual(self.kernel.waited, [1000, 1000])
        for code, kind in [(2, errors.NotListening), (5, errors.Refused)]:
            self.kernel.codes = [code]
            self.assertRaises(kind, lambda: _windows._open("x", "pipe:x", deadline))
        self.kernel.codes = [231]
        self.assertRaises(errors.TimedOut, lambda: _windows._open("x", "pipe:x", 0.0))

    def test_whose_it_is(self):
        with mock.patch.object(_windows, "own_sid", lambda: "S-1-5-21-1"):
            for owner in ["S-1-5-21-1", "S-1-5-18", "S-1-5-32-544"]:
                _windows.refuse_others(owner)
            for owner in ["S-1-5-21-2", "S-1-5-21-11", "", "S-1-1-0"]:
                self.assertRaises(errors.Refused, lambda owner=owner: _windows.refuse_others(owner))


class StandIn:
    """A socket that behaves as a pipe does: one thread reads and writes, one write at a time, 64 KiB at most."""

    sends_anywhere = False

    def __init__(self, peer):
        self.channel, self.thread = SocketChannel(peer), None

    def check(self):
        self.thread = self.thread or threading.current_thread()
        assert self.thread is threading.current_thread(), "of one thread only"

    def wait(self, timeout, wants_write):
        self.check()
        self.channel.wait(timeout, wants_write)

    def receive(self):
        self.check()
        return self.channel.receive()

    def send(self, data):
        if data and self.thread is None:
            return 0  # the thread that has connected has not begun to wait
        self.check()
        return self.channel.send(data[:65536]) if data else 0

    def wake(self):
        self.channel.wake()

    def close(self):
        self.channel.close()


class Clients(Test):
    """What both clients do with a pipe, over a socket that stands in for it."""

    def setUp(self):
        super().setUp()
        self.server = self.serve(self.fresh())
        real = _endpoint.connect
        patch = mock.patch.object(_endpoint, "connect", lambda *arguments: StandIn(real(*arguments)))
        patch.start()
        self.addCleanup(patch.stop)

    def test_the_one_that_blocks(self):
        large = os.urandom(3 << 20)
        with sidewire.Client(self.server.endpoint, handlers={1: lambda request: request.payload.upper()}) as client:
            events = client.subscribe(1)
            threads = [threading.Thread(target=client.call, args=(2, f"{n}")) for n in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE)
            self.assertIsNotNone(events.next(PATIENCE))
            self.assertEqual(client.call(4, large), large)
            self.assertEqual(client.call(8, "1"), b"PING")
            self.assertEqual(len(list(client.stream(7, "1000"))), 1000)
            self.server.kill()
            self.assertRaises(sidewire.Gone, lambda: client.call(4))

    def test_the_one_for_asyncio(self):
        large = os.urandom(3 << 20)

        async def main():
            async with aio.Client(self.server.endpoint, handlers={1: lambda request: b"PONG"}) as client:
                await asyncio.gather(*(client.call(4, large) for _ in range(4)))
                self.assertEqual(await client.call(4, large), large)
                self.assertEqual(await client.call(8, "1"), b"PONG")
                self.assertEqual(len([part async for part in client.stream(7, "1000")]), 1000)
            async with aio.Client(self.server.endpoint) as client:
                self.server.kill()
                with self.assertRaises(sidewire.Gone):
                    await client.call(6, "60000")

        before = threading.active_count()
        asyncio.run(main())
        self.until(lambda: threading.active_count() <= before, "the pipes' threads have ended")


class Descriptors(Test):
    def test_who_else_is_in_one(self):
        us = "S-1-5-21-1-2-3-1001"
        for text, expected in [
            (f"O:{us}D:P(A;;FA;;;{us})(A;;FA;;;SY)", []),
            (f"O:BAD:PAI(A;;FA;;;BA)(A;;FA;;;{us})(D;;FA;;;WD)", []),
            (f"O:{us}D:P(A;;FR;;;WD)(A;;FA;;;{us})", ["WD"]),
            (f"O:{us}D:(XA;;FR;;;BU;(x==1))", [f"O:{us}D:(XA;;FR;;;BU;(x==1))"]),
            (f"O:S-1-5-21-9D:P(A;;FA;;;{us})", ["S-1-5-21-9"]),
            (f"O:{us}D:NO_ACCESS_CONTROL", [f"O:{us}D:NO_ACCESS_CONTROL"]),
            ("", [""]),
        ]:
            self.assertEqual(_windows.strangers(text, us), expected, text)


if __name__ == "__main__":
    unittest.main()
