"""Clients that outlive their server."""

import asyncio
import threading
import unittest

from support import PATIENCE, Impostor, Test, frame
import sidewire
from sidewire import Reconnect, aio
from sidewire._frames import EVENT, GOODBYE, REPLY

SET, ECHO, SLEEP = 2, 4, 6
# Whoever restarts a server on a busy machine takes a while.
PATIENT = dict(attempts=1000, within=PATIENCE, longest_pause=0.2)


class Restarted(Test):
    def test_calls_and_subscriptions_go_on(self):
        told = []
        endpoint = self.fresh()
        server = self.serve(endpoint)
        with sidewire.Client(endpoint, reconnect=Reconnect(on_reconnected=told.append, **PATIENT)) as client:
            events = client.subscribe(1)
            client.call(SET, b"before")
            self.assertEqual(next(events).payload, b"before")
            slow, safe = client.start(SLEEP, "600000"), []
            thread = threading.Thread(target=lambda: safe.append(client.call(ECHO, b"safe", timeout=None)))
            server.kill()
            with self.assertRaises(sidewire.Gone) as caught:
                slow.wait()
            self.assertTrue(caught.exception.may_have_been_executed)
            thread.start()
            self.serve(endpoint)
            thread.join(PATIENCE)
            self.assertEqual(safe, [b"safe"])
            self.until(lambda: told, "the program is told")
            self.assertTrue(told[0].is_restarted)
            self.assertIsInstance(told[0].reason, sidewire.Gone)
            client.call(SET, b"after")
            event = events.next(PATIENCE)
            self.assertEqual((event.payload, event.gap, event.number), (b"after", True, 1))

    def test_the_same_for_asyncio(self):
        told = []
        endpoint = self.fresh()

        async def main():
            server = self.serve(endpoint)
            reconnect = Reconnect(on_reconnected=told.append, **PATIENT)
            async with aio.Client(endpoint, reconnect=reconnect) as client:
                events = await client.subscribe(1)
                slow = client.start(SLEEP, "600000")
                server.kill()
                with self.assertRaises(sidewire.Gone):
                    await slow.wait()
                safe = asyncio.ensure_future(client.call(ECHO, b"safe", timeout=PATIENCE))
                await asyncio.get_running_loop().run_in_executor(None, self.serve, endpoint)
                self.assertEqual(await safe, b"safe")
                await client.call(SET, b"after")
                event = await events.next(PATIENCE)
                self.assertEqual((event.payload, event.gap), (b"after", True))
                self.assertEqual([each.is_restarted for each in told], [True])

        asyncio.run(main())

    def test_handlers_are_there_again(self):
        asked = threading.Event()

        def behave(stream, number):
            stream.greet(instance=bytes(16))
            if number == 1:
                stream.send(frame(1, 5, 1))
                assert stream.frame()[0] == REPLY
                asked.set()
                stream.leave()

        impostor = Impostor(self, behave)
        with sidewire.Client(impostor.endpoint, handlers={5: lambda _: b"here"}, reconnect=Reconnect(**PATIENT)):
            self.assertTrue(asked.wait(PATIENCE), "nobody calls, and it connects all the same")

    def test_what_was_not_executed_is_sent_again_and_the_rest_is_reported(self):
        came = []

        def behave(stream, number):
            stream.greet()
            while True:
                kind, _, msg_type, call, _, payload = stream.frame()
                if kind == GOODBYE:
                    break
                came.append((number, payload))
                if number == 0 and len(came) == 2:
                    stream.send(frame(GOODBYE, call=1, rc=-9))
                    return
                if number == 1:
                    stream.send(frame(REPLY, msg_type, call, payload=payload))

        impostor = Impostor(self, behave)
        client = sidewire.Client(impostor.endpoint, reconnect=Reconnect(**PATIENT))
        outcomes = {}

        def call(payload):
            try:
                outcomes[payload] = client.call(1, payload)
            except sidewire.Gone as error:
                outcomes[payload] = error.may_have_been_executed

        threads = []
        for number, payload in enumerate([b"first", b"second"], 1):
            threads.append(threading.Thread(target=call, args=(payload,)))
            threads[-1].start()
            self.until(lambda number=number: len(client._session._calls) == number or came, "it was sent")
            if number == 1:
                self.until(lambda: came, "it has come")
        for thread in threads:
            thread.join(PATIENCE)
        client.close()
        self.assertEqual(outcomes, {b"first": True, b"second": b"second"})
        self.assertEqual(came, [(0, b"first"), (0, b"second"), (1, b"second")])

    def test_an_idempotent_call_is_sent_again(self):
        def behave(stream, number):
            stream.greet()
            _, _, msg_type, call, _, payload = stream.frame()
            if number > 0:
                stream.send(frame(REPLY, msg_type, call, payload=payload))
                stream.leave()

        impostor = Impostor(self, behave)
        with sidewire.Client(impostor.endpoint, reconnect=Reconnect(**PATIENT)) as client:
            self.assertEqual(client.call(1, b"twice", idempotent=True), b"twice")

    def test_events_behind_a_gap_say_so(self):
        def behave(stream, number):
            stream.greet(instance=bytes([number]) * 16)
            _, _, topic, call, _, _ = stream.frame()
            stream.send(frame(REPLY, topic, call) + frame(EVENT, topic, 1, payload=b"%d" % number))
            if number < 2:
                return
            stream.leave()

        impostor = Impostor(self, behave)
        with sidewire.Client(impostor.endpoint, reconnect=Reconnect(**PATIENT)) as client:
            events = client.subscribe(1)
            came = [(event.payload, event.gap) for event in (events.next(PATIENCE) for _ in range(3))]
            self.assertEqual(came, [(b"0", False), (b"1", True), (b"2", True)])

    def test_nobody_comes_back(self):
        server = self.serve(self.fresh())
        reconnect = Reconnect(attempts=3, first_pause=0.01, longest_pause=0.02)
        with sidewire.Client(server.endpoint, reconnect=reconnect) as client:
            server.kill()
            with self.assertRaises(sidewire.SidewireError) as caught:
                client.call(ECHO, b"x")
                client.call(ECHO, b"x")
            self.assertIsInstance(caught.exception, (sidewire.NotListening, sidewire.Gone))
            self.until(lambda: client.is_closed or self.again(client), "it gives up")

    def again(self, client):
        try:
            client.call(ECHO, b"x")
        except sidewire.SidewireError:
            pass
        return client.is_closed

    def test_a_time_limit_holds_for_all_of_it(self):
        server = self.serve(self.fresh())
        with sidewire.Client(server.endpoint, reconnect=Reconnect(attempts=10000, within=10000)) as client:
            server.kill()
            self.until(lambda: client._session.connection is None, "it has noticed")
            with self.assertRaises(sidewire.TimedOut) as caught:
                client.call(ECHO, b"x", timeout=0.3)
            self.assertFalse(caught.exception.may_have_been_executed)


if __name__ == "__main__":
    unittest.main()
