"""The client that blocks, with a real server and with made-up ones."""

import os
import threading
import time
import unittest

from support import PATIENCE, Impostor, Test, frame
import sidewire
from sidewire import Failure, Limits
from sidewire._frames import CANCEL, EVENT, GOODBYE, NOTIFY, REPLY, REQUEST, SUBSCRIBE, TEXT

GET, SET, ECHO, SLEEP, COUNT, CALL_ME_BACK = 1, 2, 4, 6, 7, 8


class WithServer(Test):
    def setUp(self):
        super().setUp()
        self.server = self.serve(self.fresh())

    def client(self, **options):
        client = sidewire.Client(self.server.endpoint, **options)
        self.addCleanup(client.close)
        return client

    def test_everything_once(self):
        with self.client(handlers={1: lambda request: request.payload.upper()}) as client:
            self.assertTrue(client.server.software.startswith("sidewire/"))
            self.assertEqual(client.call(GET), b"hello, this is server!")
            self.assertEqual(client.call(ECHO, "text"), b"text")
            self.assertEqual(client.call(ECHO, bytearray(b"bytes")), b"bytes")
            events = client.subscribe(1)
            client.notify(SET, b"tea")
            self.assertEqual(events.next(PATIENCE).payload, b"tea")
            self.assertIsNone(events.next(0))
            events.unsubscribe()
            self.assertEqual(list(events), [])
            with client.stream(COUNT, "3") as parts:
                self.assertEqual((list(parts), parts.result), ([b"1", b"2", b"3"], b""))
            self.assertEqual(client.call(CALL_ME_BACK, "1"), b"PING")
            self.assertGreaterEqual(client.ping(), 0)
        self.assertTrue(client.is_closed)
        with self.assertRaises(sidewire.Closed):
            client.call(GET)
        client.close()

    def test_time_limits_without_end(self):
        ever = float("inf")
        limits = Limits(partial_frame_timeout=ever, write_stall_timeout=ever)
        reconnect = sidewire.Reconnect(within=ever, longest_pause=ever)
        with self.client(limits=limits, connect_timeout=ever, timeout=ever, reconnect=reconnect) as client:
            self.assertEqual(client.call(ECHO, bytes(3 << 20)), bytes(3 << 20))
            self.assertEqual(client.start(ECHO, b"x", timeout=10**300).wait(), b"x")
        for wrong in [{"linger": -1}, {"hello_timeout": float("nan")}, {"event_queue": -1}]:
            self.assertRaises(ValueError, lambda wrong=wrong: Limits(**wrong))
        self.assertRaises(ValueError, lambda: self.client(connect_timeout=float("nan")))

    def test_errors_say_what_is_known(self):
        client = self.client()
        with self.assertRaises(sidewire.ResultError) as caught:
            client.call(99)
        self.assertEqual(caught.exception.rc, -1)
        self.assertIn("99", caught.exception.text)
        with self.assertRaises(sidewire.ResultError) as caught:
            client.describe()
        self.assertEqual(caught.exception.rc, -1)
        with self.assertRaises(sidewire.TimedOut) as caught:
            client.call(SLEEP, "600000", timeout=0.05)
        self.assertTrue(caught.exception.may_have_been_executed)
        with self.assertRaises(TimeoutError):
            client.call(SLEEP, "600000", timeout=0.05)
        with self.assertRaises(sidewire.SidewireError) as caught:
            client.call(ECHO, bytes((16 << 20) + 1))
        self.assertEqual((caught.exception.rc, caught.exception.may_have_been_executed), (-3, False))
        with self.assertRaises(sidewire.ResultError) as caught:
            client.subscribe(9)
        self.assertEqual(caught.exception.rc, -2)
        for wrong in [lambda: client.call(-1), lambda: client.call(65536), lambda: client.call(1, timeout=-1)]:
            self.assertRaises(ValueError, wrong)
        for wrong in [None, 5, [1, 2]]:
            self.assertRaises(TypeError, lambda wrong=wrong: client.call(1, wrong))
        self.assertEqual(client.call(ECHO, b"long", timeout=float("inf")), b"long")
        self.assertEqual(client.call(ECHO, b"fine"), b"fine")

    def test_started_calls_end_in_any_order_and_are_cancelled(self):
        client = self.client()
        slow = client.start(SLEEP, "600000")
        quick = [client.start(ECHO, str(number)) for number in range(100)]
        self.assertEqual([pending.wait() for pending in reversed(quick)], [b"%d" % n for n in reversed(range(100))])
        self.assertFalse(slow.is_done)
        slow.cancel()
        with self.assertRaises(sidewire.Cancelled):
            slow.wait()
        self.assertTrue(slow.is_done)

    def test_a_window_that_is_smaller_than_what_is_asked(self):
        client = self.client()
        pending = [client.start(ECHO, str(number)) for number in range(6000)]
        for number in range(5999, -1, -1):
            self.assertEqual(pending[number].wait(), b"%d" % number)

    def test_large_payloads_and_many_parts(self):
        client = self.client(limits=Limits(stream_credit=100))
        large = os.urandom(5 << 20)
        self.assertEqual(client.call(ECHO, large), large)
        self.assertEqual(len(list(client.stream(COUNT, "5000"))), 5000)
        with client.stream(COUNT, "1000000000") as parts:
            self.assertEqual(next(parts), b"1")
        self.assertRaises(StopIteration, lambda: next(parts))
        self.assertEqual(client.call(ECHO, b"and on"), b"and on")

    def test_threads_share_it(self):
        client = self.client()
        wrong = []

        def call(number):
            for count in range(50):
                payload = f"{number} {count} ".encode() * (1 + count * 37)
                if client.call(ECHO, payload) != payload:
                    wrong.append(number)

        threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
            self.assertFalse(thread.is_alive())
        self.assertEqual(wrong, [])

    def test_closing_ends_all_waits(self):
        client = self.client()
        events, ended = client.subscribe(1), []

        def wait(how):
            try:
                ended.append(how())
            except sidewire.SidewireError as error:
                ended.append(type(error))

        waits = [lambda: client.call(SLEEP, "600000"), lambda: list(events)]
        threads = [threading.Thread(target=wait, args=(how,)) for how in waits]
        for thread in threads:
            thread.start()
        self.until(lambda: client._session._calls, "it sleeps")
        client.close()
        for thread in threads:
            thread.join(PATIENCE)
            self.assertFalse(thread.is_alive())
        self.assertEqual(len(ended), 2)
        self.assertIn([], ended)
        self.assertIn(sidewire.Closed, ended)

    def test_handlers_fail_refuse_and_call_back(self):
        def refuse(request):
            raise Failure(7, "not today")

        def leave(request):
            raise SystemExit

        def with_payload(request):
            raise Failure(8, payload=b"\x00\x01")

        def broken(request):
            raise RuntimeError("a mistake")

        client = self.client(handlers={
            1: refuse, 2: broken, 3: lambda request: client.call(ECHO, b"inner " + request.payload),
            4: lambda request: None, 5: with_payload,
            6: leave, 7: lambda request: 5,
        })
        with self.assertRaises(sidewire.ResultError) as caught:
            client.call(CALL_ME_BACK, "1")
        self.assertEqual((caught.exception.rc, caught.exception.text), (7, "not today"))
        for broken in ["2", "6", "7"]:
            with self.assertLogs("sidewire", "ERROR"), self.assertRaises(sidewire.ResultError) as caught:
                client.call(CALL_ME_BACK, broken)
            self.assertEqual(caught.exception.rc, -10)
            self.assertNotIn("mistake", str(caught.exception))
        self.assertEqual(client.call(CALL_ME_BACK, "3"), b"inner ping")
        self.assertEqual(client.call(CALL_ME_BACK, "4"), b"")
        with self.assertRaises(sidewire.ResultError) as caught:
            client.call(CALL_ME_BACK, "5")
        self.assertEqual((caught.exception.rc, caught.exception.payload), (8, b"\x00\x01"))

    def test_an_interrupted_wait_gives_its_call_up(self):
        client = self.client()
        call = client._make(REQUEST, SLEEP, "600000", None)

        class Interrupted:
            def wait(self, _timeout=None):
                raise KeyboardInterrupt

            def set(self):
                pass

        call.changed = Interrupted()
        self.assertRaises(KeyboardInterrupt, lambda: client._finish(client._begin(call)))
        self.assertIsInstance(call.outcome, sidewire.Cancelled)
        self.assertEqual(client.call(ECHO, b"fine"), b"fine")

    def test_a_server_that_is_killed_and_one_that_stops(self):
        for how in ["kill", "stop"]:
            server = self.serve(self.fresh())
            with sidewire.Client(server.endpoint) as client:
                slow = client.start(SLEEP, "600000")
                events = client.subscribe(1)
                self.assertEqual(client.call(ECHO, b"x"), b"x")
                getattr(server, how)()
                with self.assertRaises(sidewire.SidewireError) as caught:
                    slow.wait()
                if how == "kill":
                    self.assertIsInstance(caught.exception, sidewire.Gone)
                    self.assertIsNone(caught.exception.rc)
                else:
                    self.assertEqual(caught.exception.rc, -9)
                self.assertTrue(caught.exception.may_have_been_executed)
                self.assertRaises(sidewire.Gone, lambda: events.next(PATIENCE))
                with self.assertRaises(sidewire.Gone) as caught:
                    client.call(ECHO)
                self.assertFalse(caught.exception.may_have_been_executed)

    def test_no_descriptor_is_left(self):
        if not os.path.isdir("/proc/self/fd"):
            self.skipTest("needs /proc")
        self.client().close()
        before = len(os.listdir("/proc/self/fd"))
        threads = threading.active_count()
        for _ in range(5):
            client = self.client(handlers={1: lambda request: None})
            client.call(ECHO)
            client.close()
        for _ in range(5):
            self.assertRaises(sidewire.NotListening, lambda: sidewire.Client(self.fresh()))
        self.until(lambda: threading.active_count() == threads, "their threads have ended")
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)


class WithImpostor(Test):
    """What a decent server would not do."""

    def test_one_that_says_nothing(self):
        impostor = Impostor(self, lambda stream, _: stream.read_to_end())
        with self.assertRaises(sidewire.TimedOut):
            sidewire.Client(impostor.endpoint, connect_timeout=0.2)

    def test_one_that_leaves_at_once_or_speaks_something_else(self):
        impostor = Impostor(self, lambda stream, number: stream.send(b"220 mail.example ESMTP") if number else None)
        with self.assertRaises(sidewire.Gone):
            sidewire.Client(impostor.endpoint)
        with self.assertRaises(sidewire.ProtocolError):
            sidewire.Client(impostor.endpoint)

    def test_one_that_refuses(self):
        impostor = Impostor(self, lambda stream, _: stream.greet(status=-5, version=0))
        with self.assertRaises(sidewire.Refused) as caught:
            sidewire.Client(impostor.endpoint)
        self.assertEqual((caught.exception.rc, caught.exception.may_have_been_executed), (-5, False))

    def test_one_that_breaks_the_protocol_ends_all_calls_and_is_told(self):
        said = []

        def behave(stream, _):
            stream.greet()
            stream.frame()
            stream.send(frame(REPLY, 1, 4711))
            said.append(stream.frame())

        impostor = Impostor(self, behave)
        with sidewire.Client(impostor.endpoint) as client:
            with self.assertRaises(sidewire.ProtocolError) as caught:
                client.call(1)
            self.assertTrue(caught.exception.may_have_been_executed)
        self.until(lambda: said, "the goodbye")
        self.assertEqual((said[0][0], said[0][1], said[0][4]), (GOODBYE, TEXT, -4))

    def test_a_goodbye_says_what_was_not_executed(self):
        def behave(stream, _):
            stream.greet()
            first, _second = stream.frame(), stream.frame()
            stream.send(frame(GOODBYE, call=first[3], rc=-9))

        impostor = Impostor(self, behave)
        with sidewire.Client(impostor.endpoint) as client:
            fates = []
            for pending in [client.start(1), client.start(1)]:
                with self.assertRaises(sidewire.Gone) as caught:
                    pending.wait()
                fates.append(caught.exception.may_have_been_executed)
        self.assertEqual(fates, [True, False])

    def test_one_that_reads_nothing_stalls_nobody_for_good(self):
        gate = threading.Event()

        def behave(stream, _):
            stream.greet()
            gate.wait(PATIENCE)

        impostor = Impostor(self, behave)
        self.addCleanup(gate.set)
        client = sidewire.Client(impostor.endpoint, limits=Limits(write_stall_timeout=0.5))
        pending = client.start(1, bytes(8 << 20))
        with self.assertRaises(sidewire.TimedOut):
            pending.wait()
        self.assertTrue(client.is_closed)

    def test_notifies_wait_where_much_waits(self):
        gate = threading.Event()

        def behave(stream, _):
            stream.greet()
            gate.wait(PATIENCE)
            while stream.frame()[0] == NOTIFY:
                pass

        impostor = Impostor(self, behave)
        self.addCleanup(gate.set)
        client = sidewire.Client(impostor.endpoint)
        with self.assertRaises(sidewire.TimedOut) as caught:
            for _ in range(100):
                client.notify(1, bytes(256 * 1024), timeout=0.1)
        self.assertFalse(caught.exception.may_have_been_executed)
        gate.set()
        client.notify(1, b"goes on")
        client.close()

    def test_parts_that_stop_coming(self):
        cancelled = threading.Event()

        def behave(stream, _):
            stream.greet()
            call = stream.frame()[3]
            stream.send(frame(REPLY, 7, call, payload=b"one", flags=1))
            while stream.frame()[0] != CANCEL:
                pass
            cancelled.set()

        impostor = Impostor(self, behave)
        with sidewire.Client(impostor.endpoint) as client:
            parts = client.stream(7, timeout=0.3)
            with self.assertRaises(sidewire.TimedOut):
                for part in parts:
                    self.assertEqual(part, b"one")
            self.assertTrue(cancelled.wait(PATIENCE))

    def test_a_description_that_is_none(self):
        said = [b'{"format": 1, "messages": []}', b'{"format": 2}', b"[]", b"\xff", b"{", b"[" * 100000]

        def behave(stream, _):
            stream.greet()
            for payload in said:
                kind, _, msg_type, call, _, _ = stream.frame()
                assert (kind, msg_type) == (REQUEST, 65535)
                stream.send(frame(REPLY, msg_type, call, payload=payload))
            stream.leave()

        impostor = Impostor(self, behave)
        with sidewire.Client(impostor.endpoint) as client:
            self.assertEqual(client.describe(), {"format": 1, "messages": []})
            for payload in said[1:]:
                with self.assertRaises(sidewire.ProtocolError, msg=payload[:20]):
                    client.describe()

    def test_event_numbers_and_drops_are_told(self):
        def behave(stream, _):
            stream.greet()
            kind, _, topic, call, _, _ = stream.frame()
            assert kind == SUBSCRIBE
            stream.send(frame(REPLY, topic, call) + frame(EVENT, topic, 1, 0, b"a") + frame(EVENT, topic, 2, 5, b"b"))
            stream.leave()

        impostor = Impostor(self, behave)
        with sidewire.Client(impostor.endpoint) as client, client.subscribe(3, timeout=PATIENCE) as events:
            came = [next(events), next(events)]
            self.assertEqual([event[1:4] for event in came], [(1, 0, b"a"), (2, 5, b"b")])
            began = time.monotonic()
            self.assertIsNone(events.next(0.05))
            self.assertGreaterEqual(time.monotonic() - began, 0.04)
            client._session.close(time.monotonic())  # so that the unsubscribe finds nobody to wait for


if __name__ == "__main__":
    unittest.main()
