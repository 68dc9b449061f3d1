"""A client in memory and in virtual time: what becomes of its calls and subscriptions when connections end."""

import random
import secrets
import threading
import unittest

from support import Test, answer_to_hello, frame, frames
from sidewire import Reconnect, Reconnected, errors
from sidewire._calls import Subscription
from sidewire._events import Event
from sidewire._frames import (
    CANCEL, CREDIT, EVENT, GOODBYE, MORE, NOTIFY, PING, PONG, REPLY, REQUEST, SUBSCRIBE, TEXT, UNSUBSCRIBE, Limits,
)
from sidewire._reconnect import Pauses
from sidewire._session import MAX_QUEUED, Options, Session, Turn


class Bench:
    """A session, the time, and the server's end of the connection that there is."""

    def __init__(self, *, reconnect=None, limits=None, serves=(), hello=None):
        options = Options(limits or Limits(), None, 30.0, reconnect, frozenset(serves))
        self.now = 1000.0
        self.session = Session(options, threading.Event, self.now)
        self.connect(**(hello or {}))

    def connect(self, **hello):
        assert self.session.turn(self.now) is Turn.CONNECT, self.session.turn(self.now)
        self.session.attempt(self.now)
        self.session.attach(None, self.now)
        self.said()
        self.receive(answer_to_hello(**hello))

    def said(self, most=None):
        """What has been sent since; or only so many bytes of it."""
        out = b""
        while self.session.connection is not None:
            data = self.session.connection.output()[: None if most is None else most - len(out)]
            if not data:
                break
            self.session.sent(len(data), self.now)
            out += data
        return out

    def frames(self):
        return [(kind, call) for kind, _, _, call, _, _ in frames(self.said())]

    def receive(self, data):
        self.session.receive(data, self.now)

    def lose(self):
        self.session.receive_end("gone", self.now)

    def call(self, payload=b"", timeout=30.0, kind=REQUEST, msg_type=1, **options):
        call = self.session.call(kind, msg_type, payload, timeout, self.now)
        for name, value in options.items():
            setattr(call, name, value)
        return self.session.begin(call, self.now)


class Calls(Test):
    def test_a_call_and_its_reply(self):
        bench = Bench()
        call = bench.call(b"x", timeout=1.5)
        self.assertEqual(frames(bench.said()), [(REQUEST, 0, 1, 1, 1500, b"x")])
        bench.receive(frame(REPLY, 1, 1, payload=b"y"))
        self.assertEqual((call.outcome, call.changed.is_set()), (b"y", True))
        failed, late, ended = bench.call(), bench.call(), bench.call()
        bench.receive(frame(REPLY, 1, 2, 7, b"why", TEXT) + frame(REPLY, 1, 3, -7) + frame(REPLY, 1, 4, -8))
        self.assertEqual((failed.outcome.rc, failed.outcome.text), (7, "why"))
        self.assertIsInstance(late.outcome, errors.TimedOut)
        self.assertIsInstance(ended.outcome, errors.Cancelled)
        self.assertTrue(late.outcome.may_have_been_executed)

    def test_the_window_of_the_server_is_kept(self):
        bench = Bench(hello={"limits": (100, 2, 100, 0)})
        calls = [bench.call(b"x" * 10) for _ in range(4)]
        self.assertEqual(bench.frames(), [(REQUEST, 1), (REQUEST, 2)])
        bench.receive(frame(REPLY, 1, 2))
        self.assertEqual(bench.frames(), [(REQUEST, 3)])
        bench.receive(frame(REPLY, 1, 1) + frame(REPLY, 1, 3))
        self.assertEqual(bench.frames(), [(REQUEST, 4)])
        large = bench.call(b"x" * 95)
        self.assertEqual(bench.frames(), [], "105 bytes in flight would be too many")
        too_large = bench.call(b"x" * 101)
        bench.receive(frame(REPLY, 1, 4))
        self.assertEqual(bench.frames(), [(REQUEST, 5)])
        self.assertIsNone(large.outcome)
        bench.receive(frame(REPLY, 1, 5))
        self.assertEqual((too_large.outcome.rc, too_large.outcome.may_have_been_executed), (errors.TOO_LARGE, False))
        self.assertEqual([call.outcome for call in calls], [b""] * 4)

    def test_giving_up_cancels_and_skips_the_reply(self):
        bench = Bench(hello={"limits": (100, 1, 100, 0)})
        first, second = bench.call(), bench.call()
        bench.said()
        bench.session.give_up(second, errors.TimedOut, "late", bench.now)
        bench.session.give_up(first, errors.TimedOut, "late", bench.now)
        self.assertEqual([call.outcome.may_have_been_executed for call in (first, second)], [True, False])
        self.assertEqual(bench.frames(), [(CANCEL, 1)])
        third = bench.call()
        self.assertEqual(bench.frames(), [], "the first counts until its reply has come")
        bench.receive(frame(REPLY, 1, 1, -8))
        self.assertEqual(bench.frames(), [(REQUEST, 2)])
        self.assertIsNone(third.outcome)

    def test_what_waits_is_bounded(self):
        bench = Bench(hello={"limits": (16 << 20, 1, 64 << 20, 0)})
        with self.assertRaises(errors.Busy):
            for _ in range(6):
                bench.call(bytes(16 << 20))
        self.assertLessEqual(bench.session._queued, MAX_QUEUED)

    def test_parts_get_their_credit_back_as_they_are_taken(self):
        bench = Bench(limits=Limits(stream_credit=8))
        call, other = bench.call(wants_parts=True), bench.call()
        self.assertEqual(frames(bench.said())[0][4], 0, "the time limit is for each part")
        bench.receive(frame(REPLY, 1, 1, payload=b"abc", flags=MORE) * 2)
        self.assertEqual(bench.session.take_part(call, bench.now), b"abc")
        self.assertEqual(bench.frames(), [])
        self.assertEqual(bench.session.take_part(call, bench.now), b"abc")
        self.assertEqual(frames(bench.said()), [(CREDIT, 0, 0, 1, 0, b"\x06\0\0\0")])
        self.assertIsNone(bench.session.take_part(call, bench.now))
        bench.receive(frame(REPLY, 1, 2, payload=b"abc", flags=MORE))
        self.assertEqual(frames(bench.said()), [(CREDIT, 0, 0, 2, 0, b"\x03\0\0\0")], "nobody wants them")
        bench.receive(frame(REPLY, 1, 2, payload=b"end"))
        self.assertEqual(other.outcome, b"end")

    def test_a_pong_answers_all_pings_before_it(self):
        bench = Bench()
        pings = [bench.call(kind=PING) for _ in range(3)]
        self.assertEqual(bench.frames(), [(PING, 1), (PING, 2), (PING, 3)])
        bench.receive(frame(PONG, call=2))
        self.assertEqual([ping.outcome for ping in pings], [b"", b"", None])

    def test_without_reconnecting_the_end_is_the_end(self):
        bench = Bench()
        sent = bench.call()
        bench.said()
        unsent = bench.call(b"x" * 100)
        bench.said(50)
        bench.lose()
        self.assertEqual([call.outcome.may_have_been_executed for call in (sent, unsent)], [True, False])
        self.assertIs(bench.session.turn(bench.now), Turn.DONE)
        with self.assertRaises(errors.Gone) as caught:
            bench.call()
        self.assertFalse(caught.exception.may_have_been_executed)


class Closing(Test):
    def test_it_cancels_says_goodbye_and_reads_on(self):
        bench = Bench()
        call = bench.call()
        subscription, _ = bench.session.subscribe(1, None, bench.now)
        bench.said()
        bench.session.close(bench.now)
        self.assertEqual(bench.frames(), [(CANCEL, 1), (CANCEL, 2), (GOODBYE, 0)])
        self.assertIsInstance(call.outcome, errors.Closed)
        self.assertTrue(call.outcome.may_have_been_executed)
        self.assertIsInstance(subscription.end, errors.Closed)
        self.assertIs(bench.session.turn(bench.now), Turn.USE)
        bench.receive(frame(REPLY, 1, 1, -8) + frame(REPLY, 1, 2) + frame(GOODBYE, call=2))
        self.assertIs(bench.session.turn(bench.now), Turn.DONE)

    def test_a_server_that_says_nothing_more_is_not_waited_for(self):
        bench = Bench()
        bench.session.close(bench.now)
        bench.said()
        bench.now = bench.session.deadline()
        bench.session.tick(bench.now)
        self.assertEqual(bench.now, 1002.0)
        self.assertIs(bench.session.turn(bench.now), Turn.DONE)

    def test_a_hello_that_does_not_come(self):
        options = Options(Limits(), None, 30.0, None, frozenset())
        session = Session(options, threading.Event, 0.0)
        session.attempt(0.0)
        session.attach(None, 0.0)
        session.sent(len(session.connection.output()), 0.0)
        self.assertEqual(session.deadline(), 30.0)
        session.tick(30.0)
        self.assertIsInstance(session.closed, errors.TimedOut)
        self.assertTrue(session.ready.is_set())


class Subscriptions(Test):
    def subscribed(self, bench, topic=1):
        subscription, call = bench.session.subscribe(topic, None, bench.now)
        bench.said()
        bench.receive(frame(REPLY, topic, call.id))
        self.assertEqual(call.outcome, b"")
        return subscription

    def test_events_go_to_all_who_have_subscribed(self):
        bench = Bench()
        first = self.subscribed(bench)
        bench.receive(frame(EVENT, 1, 1, payload=b"a") + frame(EVENT, 2, 1, payload=b"nobody's"))
        second = self.subscribed(bench)
        bench.receive(frame(EVENT, 1, 2, 3, b"b"))
        self.assertEqual([first.take(), first.take(), first.take()], [Event(1, 1, 0, b"a"), Event(1, 2, 3, b"b"), None])
        self.assertEqual([second.take(), second.take()], [Event(1, 2, 3, b"b"), None])
        self.assertIsNone(bench.session.unsubscribe(first, None, bench.now))
        self.assertEqual(bench.frames(), [])
        self.assertIsNotNone(bench.session.unsubscribe(second, None, bench.now))
        self.assertEqual(bench.frames(), [(UNSUBSCRIBE, 3)])

    def test_a_topic_that_there_is_none(self):
        bench = Bench()
        subscription, call = bench.session.subscribe(9, None, bench.now)
        bench.said()
        bench.receive(frame(REPLY, 9, call.id, -2))
        self.assertEqual((call.outcome.rc, subscription.end.rc), (-2, -2))
        self.assertEqual(bench.session._topics, {})

    def test_what_is_not_taken_is_bounded_and_counted(self):
        subscription = Subscription(1, 1000, threading.Event())
        for number in range(1, 101):
            subscription.push(Event(1, number, 1 if number == 5 else 0, bytes(100)))
        events = []
        while True:
            event = subscription.take()
            if event is None:
                break
            events.append(event)
        self.assertEqual([event.number for event in events], list(range(101 - len(events), 101)))
        self.assertLessEqual(len(events) * 164, 1000)
        self.assertEqual(events[0].dropped, 100 - len(events) + 1)
        self.assertEqual([event.dropped for event in events[1:]], [0] * (len(events) - 1))
        subscription.push(Event(1, 101, 0, bytes(5000)))
        self.assertEqual(subscription.take().number, 101, "one is always kept")


class Serving(Test):
    def test_requests_are_handed_on_and_answered(self):
        bench = Bench(serves=[1])
        bench.receive(frame(REQUEST, 1, 1, 500, b"x") + frame(REQUEST, 2, 2) + frame(NOTIFY, 1, payload=b"n"))
        self.assertEqual([frame[3:5] for frame in frames(bench.said())], [(2, -2)])
        request, notify = bench.session.take_request(), bench.session.take_request()
        self.assertEqual((request.payload, request.timeout, request.is_notify), (b"x", 0.5, False))
        self.assertTrue(notify.is_notify)
        bench.session.answer(notify, 0, b"", False, bench.now)
        bench.session.answer(request, 0, b"y", False, bench.now)
        self.assertEqual(frames(bench.said()), [(REPLY, 0, 1, 1, 0, b"y")])

    def test_who_waits_no_more_is_told(self):
        bench = Bench(serves=[1])
        bench.receive(frame(REQUEST, 1, 1) + frame(REQUEST, 1, 2) + frame(CANCEL, call=1))
        first, second = bench.session.take_request(), bench.session.take_request()
        self.assertEqual([first.is_cancelled, second.is_cancelled], [True, False])
        bench.lose()
        self.assertTrue(second.is_cancelled)
        bench.session.answer(second, 0, b"", False, bench.now)

    def test_notifies_that_wait_are_bounded(self):
        bench = Bench(serves=[1], limits=Limits(max_in_flight_bytes=1000))
        with self.assertLogs("sidewire", "WARNING"):
            bench.receive(frame(NOTIFY, 1, payload=bytes(100)) * 100)
        self.assertLess(len(bench.session.inbox), 10)
        while bench.session.take_request():
            pass
        bench.receive(frame(NOTIFY, 1, payload=bytes(100)))
        self.assertEqual(len(bench.session.inbox), 1)


class Reconnecting(Test):
    def test_what_goes_on_and_what_is_reported(self):
        bench = Bench(reconnect=Reconnect())
        sent, safe, started = bench.call(b"1"), bench.call(b"2", idempotent=True), bench.call(may_be_resent=False)
        bench.said()
        unsent, unsent_started = bench.call(b"3"), bench.call(may_be_resent=False)
        bench.lose()
        self.assertIsInstance(sent.outcome, errors.Gone)
        self.assertTrue(sent.outcome.may_have_been_executed and started.outcome.may_have_been_executed)
        self.assertFalse(unsent_started.outcome.may_have_been_executed)
        waiting = bench.call(b"4")
        bench.connect()
        self.assertEqual([(call, payload) for _, _, _, call, _, payload in frames(bench.said())],
                         [(1, b"2"), (2, b"3"), (3, b"4")])
        bench.receive(frame(REPLY, 1, 1) + frame(REPLY, 1, 2) + frame(REPLY, 1, 3))
        self.assertEqual([call.outcome for call in (safe, unsent, waiting)], [b""] * 3)

    def test_what_the_server_has_not_executed_goes_on(self):
        bench = Bench(reconnect=Reconnect())
        first, second = bench.call(b"1"), bench.call(b"2")
        bench.said()
        bench.receive(frame(GOODBYE, call=1, rc=-9))
        bench.lose()
        self.assertTrue(first.outcome.may_have_been_executed)
        self.assertEqual(first.outcome.rc, -9)
        bench.connect()
        self.assertEqual([payload for *_, payload in frames(bench.said())], [b"2"])
        self.assertIsNone(second.outcome)

    def test_what_was_perhaps_executed_before_stays_so(self):
        for how in ["late", "closed", "nobody comes back"]:
            bench = Bench(reconnect=Reconnect(attempts=1))
            safe = bench.call(idempotent=True)
            bench.said()
            unsent = bench.call(idempotent=True)
            bench.lose()
            if how == "late":
                bench.session.give_up(safe, errors.TimedOut, "late", bench.now)
                bench.session.give_up(unsent, errors.TimedOut, "late", bench.now)
            elif how == "closed":
                bench.session.close(bench.now)
            else:
                bench.session.attempt(bench.now)
                bench.session.attempt_failed(errors.NotListening("nobody"), bench.now)
            self.assertEqual([call.outcome.may_have_been_executed for call in (safe, unsent)], [True, False], how)

    def test_subscriptions_are_renewed_and_the_gap_is_told(self):
        bench = Bench(reconnect=Reconnect(on_reconnected=print))
        subscription, call = bench.session.subscribe(1, None, bench.now)
        bench.said()
        bench.receive(frame(REPLY, 1, call.id) + frame(EVENT, 1, 1, payload=b"a"))
        bench.lose()
        bench.connect(instance=b"another instance")
        self.assertEqual(bench.frames(), [(SUBSCRIBE, 1)])
        bench.receive(frame(REPLY, 1, 1) + frame(EVENT, 1, 1, payload=b"b") + frame(EVENT, 1, 2, payload=b"c"))
        self.assertEqual([subscription.take().gap for _ in range(3)], [False, True, False])
        reconnected = bench.session.take_request()
        self.assertIsInstance(reconnected, Reconnected)
        self.assertEqual((reconnected.is_restarted, reconnected.attempts), (True, 1))
        bench.lose()
        bench.now += 6.0
        bench.connect()
        bench.said()
        bench.receive(frame(REPLY, 1, 1, -2))
        self.assertEqual(subscription.end.rc, -2)

    def test_it_is_lazy_until_somebody_needs_it(self):
        bench = Bench(reconnect=Reconnect())
        bench.lose()
        self.assertIs(bench.session.turn(bench.now), Turn.WAIT)
        self.assertIsNone(bench.session.deadline())
        bench.now += 3600
        bench.call()
        self.assertIs(bench.session.turn(bench.now), Turn.CONNECT)
        serving = Bench(reconnect=Reconnect(), serves=[1])
        serving.lose()
        self.assertIs(serving.session.turn(serving.now), Turn.CONNECT)

    def test_it_gives_up(self):
        bench = Bench(reconnect=Reconnect(attempts=3, first_pause=1.0))
        bench.lose()
        call = bench.call(timeout=None)
        for attempt in range(3):
            self.assertIs(bench.session.turn(bench.now), Turn.CONNECT, attempt)
            bench.session.attempt(bench.now)
            self.assertIs(bench.session.turn(bench.now), Turn.WAIT)
            bench.session.attempt_failed(errors.NotListening("nobody"), bench.now)
            bench.now = bench.session.deadline() or bench.now
        self.assertIsInstance(call.outcome, errors.NotListening)
        self.assertFalse(call.outcome.may_have_been_executed)
        self.assertIs(bench.session.turn(bench.now), Turn.DONE)

    def test_it_does_not_try_again_where_that_is_of_no_use(self):
        for data, kind, goes_on in [
            (answer_to_hello(status=-5, version=0), errors.Refused, False),
            (answer_to_hello(status=-9, version=0), errors.Refused, True),
            (answer_to_hello(status=-6, version=0), errors.Refused, True),
            (b"HTTP/1.1 400 Bad Request", errors.ProtocolError, False),
        ]:
            bench = Bench(reconnect=Reconnect())
            bench.lose()
            call = bench.call()
            bench.session.attempt(bench.now)
            bench.session.attach(None, bench.now)
            bench.receive(data)
            self.assertEqual(bench.session.closed is None, goes_on, data)
            self.assertEqual(call.outcome is None, goes_on)
            if not goes_on:
                self.assertIsInstance(call.outcome, kind)

    def test_one_that_breaks_the_protocol_is_not_tried_again(self):
        bench = Bench(reconnect=Reconnect())
        call = bench.call()
        bench.said()
        bench.receive(frame(REPLY, 1, 77))
        self.assertIsInstance(call.outcome, errors.ProtocolError)
        self.assertTrue(call.outcome.may_have_been_executed)
        self.assertIs(bench.session.turn(bench.now), Turn.DONE)
        self.assertEqual(frames(bench.session.last_words)[0][0], GOODBYE)


class Hostile(Test):
    def test_random_frames_leave_nobody_waiting(self):
        chance = random.Random(secrets.randbits(64))
        kinds = [REQUEST, REPLY, REPLY, NOTIFY, EVENT, SUBSCRIBE, CANCEL, CREDIT, PING, PONG, GOODBYE]
        for _ in range(500):
            bench = Bench(reconnect=chance.choice([None, Reconnect()]), serves=[1], limits=Limits(max_in_flight=5))
            bench.session.subscribe(1, None, bench.now)
            calls = [bench.call(wants_parts=chance.random() < 0.5, kind=kind) for kind in [REQUEST, REQUEST, PING]]
            for _ in range(chance.randrange(20)):
                if bench.session.turn(bench.now) is Turn.CONNECT:
                    bench.connect()
                kind, rc, flags = chance.choice(kinds), chance.choice([0, 0, 1, -7]), chance.choice([0, MORE])
                bench.receive(frame(kind, 1, chance.randrange(5), rc, flags=flags))
                bench.said()
                request = bench.session.take_request()
                if request is not None:
                    bench.session.answer(request, 0, b"", False, bench.now)
                bench.now += chance.random()
                bench.session.tick(bench.now)
            bench.session.close(bench.now)
            bench.now += 10
            bench.session.tick(bench.now)
            self.assertIs(bench.session.turn(bench.now), Turn.DONE)
            self.assertNotIn(None, [call.outcome for call in calls])


class Rules(Test):
    def test_pauses_double_up_to_the_longest(self):
        for chance, share in [(1.0, 1.0), (0.0, 0.5)]:
            pauses = Pauses(Reconnect(attempts=9, first_pause=0.1, longest_pause=1.0), lambda chance=chance: chance)
            pauses.ended(0.0)
            self.assertEqual(pauses.due, 0.0, "the first is made at once")
            lengths = []
            for _ in range(6):
                pauses.attempt_begins(0.0)
                pauses.attempt_failed(0.0)
                lengths.append(round(pauses.due, 6))
            self.assertEqual(lengths, [round(share * length, 6) for length in (0.1, 0.2, 0.4, 0.8, 1.0, 1.0)])

    def test_time_runs_from_the_first_attempt(self):
        pauses = Pauses(Reconnect(attempts=1000, within=10.0, first_pause=3.0, longest_pause=3.0), lambda: 1.0)
        pauses.ended(0.0)
        now, made = 5000.0, 0
        while not pauses.has_given_up:
            pauses.attempt_begins(now)
            pauses.attempt_failed(now)
            made, now = made + 1, pauses.due
        self.assertEqual(made, 4)

    def test_connections_that_end_at_once_are_attempts_that_failed(self):
        pauses = Pauses(Reconnect(attempts=3), lambda: 1.0)
        now = 0.0
        pauses.ended(now)
        for _ in range(3):
            self.assertFalse(pauses.has_given_up)
            pauses.attempt_begins(now)
            pauses.succeeded(now)
            now += 0.01
            pauses.ended(now)
            now = pauses.due
        self.assertTrue(pauses.has_given_up)
        lasting = Pauses(Reconnect(attempts=3), lambda: 1.0)
        for _ in range(9):
            lasting.ended(now)
            lasting.attempt_begins(now)
            self.assertEqual(lasting.succeeded(now), 1)
            now += 5.1
        self.assertFalse(lasting.has_given_up)


if __name__ == "__main__":
    unittest.main()
