"""One connection in memory: whole conversations byte by byte, and bytes that nobody should send."""

import glob
import os
import random
import struct
import unittest
from unittest import mock

from support import CONVERSATIONS, Test, answer_to_hello, frame, frames
from sidewire import errors
from sidewire._events import Asked, Event, Part, Ponged, Replied, Withdrawn
from sidewire._frames import (
    AUTH, CANCEL, CREDIT, EVENT, GOODBYE, MAGIC, MORE, NOTIFY, PING, PONG, REPLY, REQUEST, SUBSCRIBE, TEXT,
    UNSUBSCRIBE, Limits, Malformed, hello_length, prove,
)
from sidewire._protocol import Connection


def drain(connection):
    """All that it has to write."""
    out = b""
    while True:
        data = connection.output()
        if not data:
            return out
        out += data
        connection.sent(len(data), 0.0)


def opened(limits=None, **hello):
    connection = Connection(limits or Limits(), 0.0)
    drain(connection)
    connection.receive(answer_to_hello(**hello), 0.0)
    assert connection.end is None, connection.end
    connection.events.clear()
    return connection


def read(name):
    """The steps of a conversation: ('>', bytes) and ('<', bytes with 0x2a for any)."""
    steps, said = [], []
    with open(os.path.join(CONVERSATIONS, f"{name}.txt"), encoding="utf-8") as file:
        for line in file:
            who, *words = line.split(";")[0].split() or [""]
            if who not in ("<", ">", "!"):
                continue
            if who == "!" or words == ["end"]:
                steps.append((f"{who} {words[0]}", b""))
                continue
            said = bytes(0x2A if word == ".." else int(word, 16) for word in words)
            if steps and steps[-1][0] == who:
                steps[-1] = (who, steps[-1][1] + said)
            else:
                steps.append((who, said))
    return steps


class Conversations(Test):
    """The client's part is played by the core, and has to come to the very bytes."""

    def play(self, name):
        steps = read(name)
        hello = steps[0][1]
        hello, rest = hello[: struct.unpack_from("<H", hello, 4)[0]], hello[struct.unpack_from("<H", hello, 4)[0] :]
        connection = Connection(Limits(*struct.unpack_from("<4I", hello, 16)), 0.0)
        ours = drain(connection)
        self.assertEqual(ours[6:32], hello[6:32])
        events = []
        for who, said in [(">", rest), *steps[1:]]:
            if who == ">":
                for kind, _, msg_type, call, rc, payload in frames(said):
                    self.do(connection, kind, msg_type, call, rc, payload)
                self.assertEqual(self.comparable(drain(connection)), self.comparable(said), name)
            elif who == "<":
                for piece in range(0, len(said), 7):
                    connection.receive(said[piece : piece + 7], 0.0)
                events.extend(connection.events)
                connection.events.clear()
            elif who == "< end":
                connection.receive_end("the end")
        return connection, events

    def comparable(self, said):
        """A client may say in its goodbye which request it has accepted last, and those of the files do not."""
        return [(kind, flags, msg_type, 0 if kind == GOODBYE else call, rc, payload)
                for kind, flags, msg_type, call, rc, payload in frames(said)]

    def do(self, connection, kind, msg_type, call, rc, payload):
        if kind in (REQUEST, SUBSCRIBE, UNSUBSCRIBE):
            self.assertEqual(connection.request(kind, msg_type, payload, rc, 0.0), call)
        elif kind == NOTIFY:
            connection.notify(msg_type, payload, 0.0)
        elif kind == CANCEL:
            connection.cancel(call, 0.0)
        elif kind == CREDIT:
            connection.give_credit(call, struct.unpack("<I", payload)[0], 0.0)
        elif kind == PING:
            connection._last_ping = call - 1
            self.assertEqual(connection.ping(0.0), call)
        elif kind == REPLY:
            connection.answer(call, rc, payload, False, 0.0)
        elif kind == GOODBYE and connection._goodbye is None:
            connection.leave(0.0)

    def test_those_of_a_client_that_keeps_the_rules(self):
        names = ["v1-session", "v1-deferred", "v1-events", "v1-call-back", "v1-timeout", "v1-reply-too-large"]
        for name in names:
            with self.subTest(name):
                connection, _ = self.play(name)
                self.assertIsNotNone(connection.end, name)
                self.assertIn(connection.end.kind, (errors.Closed, errors.Gone), connection.end)

    def test_what_comes_of_a_session(self):
        _, events = self.play("v1-session")
        replies = [(event.call, event.rc, event.payload) for event in events if isinstance(event, Replied)]
        texts = [b"hello, this is server!", b"hi", b"", b"tea", b"type 99 is beyond the dispatch table"]
        self.assertEqual(replies, [(call, -1 if call == 5 else 0, text) for call, text in enumerate(texts, 1)])
        self.assertIn(Ponged(7), events)

    def test_refusals(self):
        for name, rc in [("v1-refused-version", -11), ("v1-refused-feature", -12), ("refused-v1", -6)]:
            with self.subTest(name):
                connection = Connection(Limits(), 0.0)
                connection.receive(next(said for who, said in read(name) if who == "<"), 0.0)
                self.assertEqual((connection.end.kind, connection.end.rc), (errors.Refused, rc))

    def test_any_cut_is_as_good_as_any_other(self):
        for path in glob.glob(os.path.join(CONVERSATIONS, "v1-*.txt")):
            said = b"".join(said for who, said in read(os.path.basename(path)[:-4]) if who == "<")
            whole, bytewise = Connection(Limits(), 0.0), Connection(Limits(), 0.0)
            whole.receive(said, 0.0)
            for at in range(len(said)):
                bytewise.receive(said[at : at + 1], 0.0)
            self.assertEqual(whole.end, bytewise.end, path)
            self.assertEqual(whole.events, bytewise.events, path)


class Opening(Test):
    def refused(self, data, kind, rc, key=None):
        connection = Connection(Limits(), 0.0, key=key)
        drain(connection)
        connection.receive(data, 0.0)
        self.assertIsNotNone(connection.end)
        self.assertEqual((connection.end.kind, connection.end.rc), (kind, rc), connection.end)
        return connection

    def test_what_is_no_hello(self):
        for data in [b"HTTP/1.1 400", bytes(8), MAGIC + b"\x00\x00\x01\x01", MAGIC + b"\x01\x04\x01\x01" + bytes(2000)]:
            connection = self.refused(data, errors.ProtocolError, -4)
            self.assertEqual(drain(connection), b"", "whoever it is, it is told nothing")
        with self.assertRaisesRegex(Malformed, "classic"):
            hello_length(MAGIC + struct.pack("<i", -1))

    def test_what_a_hello_may_not_say(self):
        self.refused(answer_to_hello(version=2), errors.ProtocolError, -4)
        self.refused(answer_to_hello(tlvs=b"\x02\x00\xff\x00"), errors.ProtocolError, -4)
        self.refused(answer_to_hello(tlvs=b"\x02\x00\x00"), errors.ProtocolError, -4)
        for hello in [answer_to_hello(tlvs=b"\x09\x80\x00\x00"), answer_to_hello(required=16)]:
            connection = self.refused(hello, errors.ProtocolError, -12)
            [(kind, _, _, _, rc, _)] = frames(drain(connection))
            self.assertEqual((kind, rc), (GOODBYE, -12))

    def test_texts_need_not_be_utf_8_and_are_cut(self):
        tlvs = b"\x04\x00\x02\x00\xff\xfe" + b"\x05\x00\xc8\x00" + b"9" * 200
        server = opened(tlvs=tlvs).server
        self.assertEqual((server.app, len(server.app_version)), ("\ufffd\ufffd", 128))

    def test_a_refusal_says_why_and_no_terminal_obeys_it(self):
        text = "full \x1b[31m".encode()
        connection = self.refused(
            answer_to_hello(status=-6, version=0, tlvs=struct.pack("<HH", 3, len(text)) + text), errors.Refused, -6
        )
        self.assertIn("busy (-6): full \\x1b[31m", connection.end.text)

    def test_tokens(self):
        key = bytes(range(32))
        self.refused(answer_to_hello(tlvs=struct.pack("<HH", 1, 32) + bytes(32)), errors.Refused, -5)
        self.refused(answer_to_hello(), errors.Refused, -5, key)
        self.refused(answer_to_hello(tlvs=struct.pack("<HH", 1, 32) + bytes(32)), errors.Refused, -5, key)
        self.refused(answer_to_hello(tlvs=struct.pack("<HH", 1, 3) + bytes(3)), errors.Refused, -5, key)
        connection = Connection(Limits(), 0.0, key=key)
        ours = drain(connection)
        blank = answer_to_hello(tlvs=struct.pack("<HH", 1, 32) + bytes(32) + b"\x02\x00\x01\x00x")
        hello = blank[:76] + prove(key, b"server", ours, blank) + blank[108:]
        connection.receive(hello, 0.0)
        self.assertIsNone(connection.end)
        [(kind, _, _, call, _, payload)] = frames(drain(connection))
        self.assertEqual((kind, call, payload), (AUTH, 0, prove(key, b"client", ours, hello)))

    def test_hellos_end_in_time(self):
        connection = Connection(Limits(), 0.0)
        drain(connection)
        self.assertIsNone(connection.deadline())
        connection.receive(MAGIC, 100.0)
        self.assertEqual(connection.deadline(), 105.0)
        connection.tick(104.9)
        self.assertIsNone(connection.end)
        connection.tick(105.0)
        self.assertIs(connection.end.kind, errors.TimedOut)


class Hostile(Test):
    """Nothing that a server sends may hurt."""

    def fails(self, data, rc, limits=None, connection=None):
        connection = connection or opened(limits)
        drain(connection)
        connection.receive(data, 1.0)
        self.assertIsNotNone(connection.end, data)
        self.assertEqual((connection.end.kind, connection.end.rc), (errors.ProtocolError, rc))
        self.assertEqual(frames(drain(connection))[-1][0], GOODBYE)
        before = list(connection.events)
        connection.receive(frame(EVENT, 1, 1), 1.0)
        self.assertEqual(list(connection.events), before, "nothing behind it counts")

    def asked(self, limits=None):
        connection = opened(limits)
        self.assertEqual(connection.request(REQUEST, 7, b"", 0, 0.0), 1)
        return connection

    def test_headers(self):
        for kind in [0, 13, 127]:
            self.fails(frame(kind), -4)
        for flags in [8, 0x80]:
            self.fails(frame(REPLY, flags=flags), -4)
        self.fails(struct.pack("<IBBHIi", 0xFFFFFFFF, REPLY, 0, 1, 1, 0), -3)
        self.fails(struct.pack("<IBBHIi", 17, EVENT, 0, 1, 1, 0), -3, Limits(max_payload=16))
        connection = opened()
        connection.receive(frame(128) + frame(255, payload=b"x") + frame(AUTH) + frame(PONG, call=9), 0.0)
        self.assertIsNone(connection.end)

    def test_a_length_alone_takes_no_memory(self):
        connection = opened()
        connection.receive(struct.pack("<IBBHIi", 16 << 20, EVENT, 0, 1, 1, 0), 0.0)
        self.assertLess(len(connection._in), 100)

    def test_replies_to_nothing(self):
        self.fails(frame(REPLY, 7, 1), -4)
        self.fails(frame(REPLY, 7, 2), -4, connection=self.asked())
        self.fails(frame(REPLY, 8, 1), -4, connection=self.asked())
        self.fails(frame(REPLY, 7, 1) + frame(REPLY, 7, 1), -4, connection=self.asked())
        self.fails(frame(REPLY, 7, 1, payload=b"\x05\x00", flags=2), -4, connection=self.asked())
        self.fails(frame(REPLY, 7, 1, payload=b"\x04\x00\x09\x80\x00\x00", flags=2), -4, connection=self.asked())
        self.fails(frame(CREDIT, payload=b"abc"), -4)

    def test_parts_without_credit(self):
        part = frame(REPLY, 7, 1, payload=b"abc", flags=MORE)
        self.fails(part, -4, connection=self.asked(Limits(stream_credit=0)))
        self.fails(part * 3, -4, connection=self.asked(Limits(stream_credit=5)))
        self.fails(frame(REPLY, 7, 1, flags=MORE) * 3, -4, connection=self.asked(Limits(stream_credit=2)))
        connection = self.asked(Limits(stream_credit=5))
        connection.receive(part * 2, 0.0)
        connection.give_credit(1, 2, 0.0)
        connection.receive(part, 0.0)
        self.assertIsNone(connection.end)
        self.assertEqual([event.payload for event in connection.events if isinstance(event, Part)], [b"abc"] * 3)

    def test_ids_of_the_server(self):
        self.fails(frame(REQUEST, 1, 0), -4)
        self.fails(frame(REQUEST, 1, 5) + frame(REQUEST, 1, 5), -4)
        self.fails(frame(REQUEST, 1, 5) + frame(SUBSCRIBE, 1, 4), -4)
        self.fails(frame(REQUEST, 1, 5) + frame(REQUEST, 1, 0x80000005), -4)
        connection = opened()
        connection.receive(frame(REQUEST, 1, 0xFFFFFFFF) + frame(REQUEST, 1, 1) + frame(REQUEST, 1, 0x80000000), 0.0)
        self.assertIsNone(connection.end)

    def test_more_than_was_allowed(self):
        self.fails(frame(REQUEST, 1, 1) + frame(REQUEST, 1, 2), -6, Limits(max_in_flight=1))
        self.fails(frame(REQUEST, 1, 1, payload=b"abc"), -6, Limits(max_in_flight_bytes=2))
        connection = opened(Limits(max_in_flight=1, max_in_flight_bytes=3))
        for call in range(1, 9):
            connection.receive(frame(REQUEST, 1, call, payload=b"abc"), 0.0)
            connection.answer(call, 0, b"", False, 0.0)
        self.assertIsNone(connection.end)

    def test_one_that_asks_and_reads_nothing(self):
        connection = opened()
        connection.receive(b"".join(frame(REQUEST, 1, call) for call in range(1, 4000)), 0.0)
        for call in range(1, 4000):
            connection.answer(call, 0, bytes(1 << 20), False, 0.0)
            if connection.end is not None:
                break
        self.assertIs(connection.end.kind, errors.Gone)
        self.assertLess(connection.waiting, 70 << 20)

    def test_one_that_sends_parts_and_reads_nothing(self):
        connection = self.asked()
        part = frame(REPLY, 7, 1, payload=b"x", flags=MORE) * 100
        with mock.patch("sidewire._protocol.HARD_OUTPUT", 100000):
            while connection.end is None and connection.waiting < 200000:
                connection.receive(part, 0.0)
                for _ in range(100):
                    connection.give_credit(1, 1, 0.0)
                connection.events.clear()
        self.assertIs(connection.end.kind, errors.Gone)

    def test_our_own_large_requests_are_no_such_thing(self):
        connection = opened(limits=None)
        with mock.patch("sidewire._protocol.HARD_OUTPUT", 100000):
            connection.request(REQUEST, 1, bytes(150000), 0, 0.0)
            connection.notify(1, bytes(150000), 0.0)
            connection.receive(frame(REQUEST, 1, 1) + frame(PING, call=1), 0.0)
            connection.answer(1, 0, bytes(1000), False, 0.0)
        self.assertIsNone(connection.end)

    def test_one_that_takes_nothing_or_never_finishes(self):
        connection = opened()
        connection.notify(1, b"x", 10.0)
        connection.tick(39.9)
        self.assertIsNone(connection.end)
        connection.tick(connection.deadline())
        self.assertIs(connection.end.kind, errors.TimedOut)
        connection = opened()
        connection.receive(frame(EVENT, 1, 1, payload=b"abc")[:-1], 10.0)
        connection.receive(b"", 15.0)
        self.assertEqual(connection.deadline(), 20.0)
        connection.tick(20.0)
        self.assertEqual((connection.end.kind, frames(drain(connection))[0][4]), (errors.TimedOut, -7))

    def test_pings_are_answered_once(self):
        connection = opened()
        connection.receive(b"".join(frame(PING, call=number) for number in range(1, 100000)), 0.0)
        self.assertEqual(frames(drain(connection)), [(PONG, 0, 0, 99999, 0, b"")])

    def test_random_bytes_raise_nothing(self):
        chance = random.Random(os.urandom(8).hex())
        kinds = [REQUEST, REPLY, NOTIFY, EVENT, SUBSCRIBE, CANCEL, CREDIT, PING, PONG, GOODBYE, 128]
        for _ in range(3000):
            connection = opened(Limits(max_payload=64, max_in_flight=4))
            connection.request(REQUEST, 1, b"", 0, 0.0)
            for _ in range(chance.randrange(12)):
                data = frame(
                    chance.choice(kinds), chance.randrange(3), chance.randrange(4), chance.choice([0, 1, -1]),
                    chance.randbytes(chance.randrange(8)) if hasattr(chance, "randbytes") else b"", chance.randrange(8),
                )
                if chance.random() < 0.05:
                    data = os.urandom(20)
                connection.receive(data, 0.0)
                connection.tick(0.5)
                drain(connection)
            self.assertLessEqual(len(connection._owed), 4)


class Answering(Test):
    def test_what_a_request_may_not_say_is_answered(self):
        connection = opened()
        connection.receive(
            frame(REQUEST, 1, 1, rc=-5)
            + frame(REQUEST, 1, 2, flags=TEXT)
            + frame(REQUEST, 1, 3, flags=MORE)
            + frame(REQUEST, 1, 4, flags=2)
            + frame(REQUEST, 1, 5, flags=2, payload=b"\x04\x00\x09\x80\x00\x00")
            + frame(SUBSCRIBE, 1, 6)
            + frame(REQUEST, 1, 7, flags=2, payload=b"\x05\x00\x09\x00\x01\x00xbody"),
            0.0,
        )
        self.assertEqual(
            [(call, rc) for _, _, _, call, rc, _ in frames(drain(connection))],
            [(1, -4), (2, -4), (3, -2), (4, -4), (5, -12), (6, -2)],
        )
        self.assertEqual(list(connection.events), [Asked(7, 1, b"body", None)])

    def test_time_limits_and_cancels_of_the_server(self):
        connection = opened()
        connection.receive(frame(REQUEST, 1, 1, rc=2000) + frame(REQUEST, 1, 2), 10.0)
        connection.receive(frame(CANCEL, call=2) + frame(CANCEL, call=3), 10.0)
        self.assertEqual(connection.deadline(), 12.0)
        drained = frames(drain(connection))
        connection.tick(12.0)
        drained += frames(drain(connection))
        self.assertEqual([(call, rc) for _, _, _, call, rc, _ in drained], [(2, -8), (1, -7)])
        self.assertEqual([event.call for event in connection.events if isinstance(event, Withdrawn)], [2, 1])
        connection.answer(1, 0, b"too late", False, 12.0)
        self.assertEqual(drain(connection), b"")

    def test_a_reply_that_is_too_large(self):
        small = Connection(Limits(), 0.0)
        drain(small)
        small.receive(answer_to_hello(limits=(10, 4096, 1 << 20, 0)), 0.0)
        small.receive(frame(REQUEST, 1, 1), 0.0)
        small.answer(1, 0, bytes(11), False, 0.0)
        [(kind, flags, _, _, rc, payload)] = frames(drain(small))
        self.assertEqual((kind, flags, rc, len(payload)), (REPLY, TEXT, -3, 10))

    def test_events_that_say_what_they_may_not(self):
        connection = opened()
        for flags in [MORE, TEXT, 2]:
            connection.receive(frame(EVENT, 1, 1, flags=flags), 0.0)
        connection.receive(frame(EVENT, 1, 4, 2, b"x"), 0.0)
        self.assertEqual(list(connection.events), [Event(1, 4, 2, b"x")])


class Ending(Test):
    def test_what_may_have_been_executed(self):
        for last, expected in [(None, [True, True]), (0, [False, False]), (1, [True, False]), (2, [True, True])]:
            connection = opened()
            calls = [connection.request(REQUEST, 1, b"", 0, 0.0) for _ in range(2)]
            drain(connection)
            if last is not None:
                connection.receive(frame(GOODBYE, call=last, rc=-9), 0.0)
            connection.receive_end("gone")
            self.assertEqual([connection.may_have_been_executed(call) for call in calls], expected, last)

    def test_ids_wrap_and_goodbye_knows(self):
        connection = opened()
        connection.last_id = 0xFFFFFFFE
        calls = [connection.request(REQUEST, 1, b"", 0, 0.0) for _ in range(3)]
        self.assertEqual(calls, [0xFFFFFFFF, 1, 2])
        drain(connection)
        connection.receive(frame(GOODBYE, call=1), 0.0)
        connection.receive_end("gone")
        self.assertEqual([connection.may_have_been_executed(call) for call in calls], [True, True, False])

    def test_an_id_that_is_still_open_is_not_used_again(self):
        connection = opened()
        self.assertEqual(connection.request(REQUEST, 1, b"", 0, 0.0), 1)
        connection.last_id = 0xFFFFFFFF
        self.assertEqual(connection.request(REQUEST, 1, b"", 0, 0.0), 2)

    def test_what_has_not_left_was_not_executed(self):
        connection = opened()
        first, second = (connection.request(REQUEST, 1, b"abc", 0, 0.0) for _ in range(2))
        connection.sent(19 + 18, 0.0)
        connection.receive_end("gone")
        self.assertEqual([connection.may_have_been_executed(call) for call in (first, second)], [True, False])

    def test_a_goodbye_is_answered_when_all_is_answered(self):
        connection = opened()
        connection.receive(frame(REQUEST, 1, 3) + frame(GOODBYE), 0.0)
        self.assertEqual(drain(connection), b"")
        connection.answer(3, 0, b"done", False, 0.0)
        said = frames(drain(connection))
        self.assertEqual([(kind, call) for kind, _, _, call, _, _ in said], [(REPLY, 3), (GOODBYE, 3)])
        self.assertIs(connection.end.kind, errors.Gone)

    def test_a_goodbye_is_answered_at_once_by_one_who_waits_and_replies_still_come(self):
        connection = opened()
        call = connection.request(REQUEST, 1, b"", 0, 0.0)
        drain(connection)
        connection.receive(frame(GOODBYE, call=1, rc=-9), 0.0)
        self.assertEqual([kind for kind, *_ in frames(drain(connection))], [GOODBYE])
        self.assertFalse(connection.has_room(0), "nothing new is begun")
        self.assertIsNone(connection.end)
        connection.receive(frame(REPLY, 1, call, payload=b"late"), 0.0)
        self.assertEqual(list(connection.events), [Replied(call, 0, b"late", False)])
        self.assertEqual(connection.end.rc, -9)

    def test_behind_our_goodbye_nothing_new_is_served(self):
        connection = opened()
        connection.leave(5.0)
        drain(connection)
        connection.receive(frame(REQUEST, 1, 1) + frame(NOTIFY, 1) + frame(PING, call=4), 5.0)
        self.assertEqual(list(connection.events), [])
        self.assertEqual([kind for kind, *_ in frames(drain(connection))], [PONG])
        self.assertEqual(connection.deadline(), 7.0)
        connection.tick(7.0)
        self.assertIs(connection.end.kind, errors.Closed)


if __name__ == "__main__":
    unittest.main()
