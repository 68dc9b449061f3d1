"""The client for asyncio, with a real server and with made-up ones."""

import asyncio
import os
import threading
import unittest

from support import PATIENCE, Impostor, Test, frame
import sidewire
from sidewire import Limits, aio
from sidewire._frames import CANCEL, GOODBYE, NOTIFY, REPLY

GET, SET, ECHO, SLEEP, COUNT, CALL_ME_BACK = 1, 2, 4, 6, 7, 8


class Async(Test):
    def run_with_server(self, what, **options):
        server = self.serve(self.fresh())

        async def main():
            async with aio.Client(server.endpoint, **options) as client:
                await what(client)

        asyncio.run(main())

    def test_everything_once(self):
        async def upper(request):
            await asyncio.sleep(0)
            return request.payload.upper()

        async def main(client):
            self.assertTrue(client.server.software.startswith("sidewire/"))
            self.assertEqual(await client.call(GET), b"hello, this is server!")
            async with await client.subscribe(1) as events:
                await client.notify(SET, "tea")
                self.assertEqual((await events.next(PATIENCE)).payload, b"tea")
                self.assertIsNone(await events.next(0))
                self.assertIsNone(await events.next(0.01))
            self.assertEqual([event async for event in events], [])
            async with client.stream(COUNT, "3") as parts:
                self.assertEqual([part async for part in parts], [b"1", b"2", b"3"])
            self.assertEqual(await client.call(CALL_ME_BACK, "1"), b"PING")
            self.assertEqual(await client.call(CALL_ME_BACK, "2"), b"plain")
            self.assertGreaterEqual(await client.ping(), 0)

        self.run_with_server(main, handlers={1: upper, 2: lambda request: "plain"})

    def test_many_tasks_share_it(self):
        async def main(client):
            async def call(number):
                payload = b"%d " % number * (1 + number * 13)
                self.assertEqual(await client.call(ECHO, payload), payload)

            await asyncio.gather(*(call(number) for number in range(1000)))
            large = os.urandom(5 << 20)
            self.assertEqual(await client.call(ECHO, large), large)
            self.assertEqual(len([part async for part in client.stream(COUNT, "5000")]), 5000)

        self.run_with_server(main, limits=Limits(stream_credit=100))

    def test_errors_and_time_limits(self):
        async def main(client):
            with self.assertRaises(sidewire.ResultError) as caught:
                await client.call(99)
            self.assertEqual(caught.exception.rc, -1)
            with self.assertRaises(sidewire.TimedOut):
                await client.call(SLEEP, "600000", timeout=0.05)
            pending = client.start(SLEEP, "600000")
            pending.cancel()
            with self.assertRaises(sidewire.Cancelled):
                await pending.wait()
            with self.assertRaises(sidewire.ResultError):
                await client.subscribe(9)
            with self.assertRaises(RuntimeError):
                await client.open()

        self.run_with_server(main)
        with self.assertRaises(RuntimeError):
            asyncio.run(aio.Client(self.fresh()).call(1))
        with self.assertRaises(sidewire.NotListening):
            asyncio.run(aio.Client(self.fresh()).open())

    def test_who_cancels_a_task_cancels_its_call(self):
        cancelled = threading.Event()

        def behave(stream, _):
            stream.greet()
            asked = stream.frame()[3]
            kind, _, _, call, _, _ = stream.frame()
            assert (kind, call) == (CANCEL, asked)
            cancelled.set()
            stream.send(frame(REPLY, 1, asked, -8))
            stream.leave()

        impostor = Impostor(self, behave)

        async def main():
            async with aio.Client(impostor.endpoint) as client:
                task = asyncio.ensure_future(client.call(1))
                while not client._session._calls:
                    await asyncio.sleep(0.001)
                task.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await task
                self.assertTrue(await asyncio.get_running_loop().run_in_executor(None, cancelled.wait, PATIENCE))

        asyncio.run(main())

    def test_a_handler_nobody_waits_for_is_cancelled(self):
        seen = []

        async def slow(request):
            try:
                await asyncio.sleep(PATIENCE * 2)
            except asyncio.CancelledError:
                seen.append(request.is_cancelled)
                raise

        def behave(stream, _):
            stream.greet()
            stream.send(frame(1, 1, 1))
            stream.read(0)
            while not started.wait(PATIENCE):
                pass
            stream.send(frame(CANCEL, call=1))
            kind, _, _, call, rc, _ = stream.frame()
            assert (kind, call, rc) == (REPLY, 1, -8), (kind, call, rc)
            done.set()
            stream.leave()

        started, done = threading.Event(), threading.Event()
        impostor = Impostor(self, behave)

        async def main():
            async with aio.Client(impostor.endpoint, handlers={1: slow}) as client:
                while not client._session._asked:
                    await asyncio.sleep(0.001)
                await asyncio.sleep(0.01)  # its task has begun
                started.set()
                self.assertTrue(await asyncio.get_running_loop().run_in_executor(None, done.wait, PATIENCE))

        asyncio.run(main())
        self.assertEqual(seen, [True])

    def test_many_notifies_wait_for_their_handlers(self):
        most, now, seen = 0, 0, 0

        async def slow(request):
            nonlocal most, now, seen
            now, seen = now + 1, seen + 1
            most = max(most, now)
            await asyncio.sleep(0.01)
            now -= 1

        def behave(stream, _):
            stream.greet()
            stream.send(frame(NOTIFY, 1) * 3000)
            stream.leave()

        impostor = Impostor(self, behave)

        async def main():
            async with aio.Client(impostor.endpoint, handlers={1: slow}):
                while seen < 3000:
                    await asyncio.sleep(0.005)

        asyncio.run(main())
        self.assertEqual(seen, 3000)
        self.assertLessEqual(most, aio.MOST_HANDLERS)

    def test_closing_ends_all_waits(self):
        async def main(client):
            events = await client.subscribe(1)
            calls = [asyncio.ensure_future(client.call(SLEEP, "600000")) for _ in range(3)]
            listens = asyncio.ensure_future(events.next())
            await client.ping()
            await client.close()
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            self.assertEqual([type(outcome) for outcome in outcomes], [sidewire.Closed] * 3)
            self.assertIsNone(await listens)

        self.run_with_server(main)

    def test_a_server_that_ends(self):
        async def main(how):
            server = self.serve(self.fresh())
            async with aio.Client(server.endpoint) as client:
                slow = client.start(SLEEP, "600000")
                events = await client.subscribe(1)
                await asyncio.get_running_loop().run_in_executor(None, getattr(server, how))
                with self.assertRaises(sidewire.SidewireError) as caught:
                    await slow.wait()
                self.assertTrue(caught.exception.may_have_been_executed)
                with self.assertRaises(sidewire.Gone):
                    await events.next()

        for how in ["kill", "stop"]:
            asyncio.run(main(how))

    def test_one_that_says_goodbye_and_one_that_says_nothing(self):
        impostor = Impostor(self, lambda stream, _: None)
        for _ in range(20):
            with self.assertRaises(sidewire.Gone):
                asyncio.run(aio.Client(impostor.endpoint).open())
        impostor = Impostor(self, lambda stream, _: stream.read_to_end())
        with self.assertRaises(sidewire.TimedOut):
            asyncio.run(aio.Client(impostor.endpoint, connect_timeout=0.2).open())

        def behave(stream, _):
            stream.greet()
            call = stream.frame()[3]
            stream.frame()
            stream.send(frame(GOODBYE, call=call, rc=-9))
            while stream.frame()[0] != GOODBYE:
                pass

        impostor = Impostor(self, behave)

        async def main():
            async with aio.Client(impostor.endpoint) as client:
                calls = [client.start(1), client.start(1)]
                outcomes = await asyncio.gather(*(call.wait() for call in calls), return_exceptions=True)
                self.assertEqual([outcome.may_have_been_executed for outcome in outcomes], [True, False])

        asyncio.run(main())

    def test_one_that_reads_nothing(self):
        gate = threading.Event()

        def behave(stream, _):
            stream.greet()
            gate.wait(PATIENCE)

        impostor = Impostor(self, behave)
        self.addCleanup(gate.set)

        async def main():
            async with aio.Client(impostor.endpoint, limits=Limits(write_stall_timeout=0.5)) as client:
                with self.assertRaises(sidewire.TimedOut):
                    await client.start(1, bytes(8 << 20)).wait()

        asyncio.run(main())


if __name__ == "__main__":
    unittest.main()
