"""One connection without socket, thread or clock: bytes and time in, events and bytes out.

Whoever owns a socket gives `receive` what it reads, writes what `output` has and says `sent`, calls `tick` when
`deadline` has come, and looks at `events` and `end` behind each of these.
"""

import os
from collections import deque
from dataclasses import dataclass
from typing import Deque, Dict, List, Optional, Tuple, Type

from . import errors
from ._events import Asked, ConnectionEvent, End, Event, Opened, Part, Ponged, Replied, Withdrawn
from ._frames import (
    AUTH, CANCEL, CREDIT, EVENT, EXT, FIRST_SKIPPED, GOODBYE, HEADER, I32, MIB, MORE, NOTIFY, PING, PONG, REPLY,
    REQUEST, SUBSCRIBE, TAG_PROOF, TAG_WHY, TEXT, U32, UNSUBSCRIBE, Limits, Malformed, MustUnderstand, Server,
    hello_length, is_proof, our_hello, parse_hello, prove, refuse_unknown, without_extension,
)

SOFT_OUTPUT = MIB
"""With so much output that has not left, nothing new is to be begun."""
HARD_OUTPUT = 64 * MIB
"""With so much beside our own requests the connection ends: the server asks, and does not read what we answer."""
MAX_TEXT = 1024


@dataclass
class _Open:
    """A call of ours that has no final reply."""

    kind: int
    type: int
    credit: int
    size: int
    left_at: int  # so many bytes have left when all of it has


@dataclass
class _Owed:
    """A call of the server's that has no answer."""

    type: int
    size: int
    deadline: Optional[float]


class Connection:
    def __init__(
        self, limits: Limits, now: float, *, app: Optional[Tuple[str, str]] = None, key: Optional[bytes] = None
    ) -> None:
        self.limits = limits
        self.events: Deque[ConnectionEvent] = deque()
        self.end: Optional[End] = None
        self.server: Optional[Server] = None
        self.last_id = 0
        self._key = key
        self._hello = our_hello(limits, os.urandom(16), app)
        self._in = bytearray()
        self._in_since: Optional[float] = None  # when what is not whole has begun
        self._out = bytearray(self._hello)
        self._out_since = now  # when some of it left, or it began to wait
        self._sent = 0
        self._open: Dict[int, _Open] = {}
        self._open_bytes = 0
        self._largest_notify = 0
        self._credit = limits.stream_credit
        self._owed: Dict[int, _Owed] = {}
        self._owed_bytes = 0
        self._last_asked = 0
        self._pong: Optional[int] = None
        self._last_ping = 0
        self._has_said_goodbye = False
        self._goodbye: Optional[Tuple[int, int, str]] = None  # the server's: rc, last, text
        self._leaves_at: Optional[float] = None

    # What we ask.

    def has_room(self, size: int) -> bool:
        """Whether a call of so many bytes may be sent now."""
        if not self.is_open or self.server is None or len(self._out) >= SOFT_OUTPUT:
            return False
        server = self.server
        fits = not self._open or self._open_bytes + size <= server.max_in_flight_bytes
        return len(self._open) < server.max_in_flight and fits

    @property
    def is_open(self) -> bool:
        """Whether both sides may still begin something."""
        is_leaving = self._has_said_goodbye or self._goodbye is not None
        return self.server is not None and self.end is None and not is_leaving

    def request(self, kind: int, msg_type: int, payload: bytes, timeout_ms: int, now: float) -> int:
        """Sends a request, subscribe or unsubscribe, for which there has to be room. Says its id."""
        call = self.last_id
        while True:
            call = call % U32 + 1
            if call not in self._open:
                break
        self.last_id = call
        self._put(kind, 0, msg_type, call, timeout_ms, payload, now)
        left_at = self._sent + len(self._out)
        self._open[call] = _Open(kind, msg_type, self._credit, len(payload), left_at)
        self._open_bytes += len(payload)
        return call

    def notify(self, msg_type: int, payload: bytes, now: float) -> None:
        self._largest_notify = max(self._largest_notify, len(payload))
        self._put(NOTIFY, 0, msg_type, 0, 0, payload, now)

    def cancel(self, call: int, now: float) -> None:
        if call in self._open and self.end is None:
            self._put(CANCEL, 0, 0, call, 0, b"", now)

    def give_credit(self, call: int, count: int, now: float) -> None:
        """So much of its parts was taken."""
        asked = self._open.get(call)
        if asked is None or self.end is not None or count <= 0:
            return
        asked.credit = min(asked.credit + count, I32)
        self._put(CREDIT, 0, 0, call, 0, min(count, I32).to_bytes(4, "little"), now)

    def ping(self, now: float) -> int:
        self._last_ping = self._last_ping % U32 + 1
        self._put(PING, 0, 0, self._last_ping, 0, b"", now)
        return self._last_ping

    def has_left(self, call: int) -> bool:
        """Whether all of this call's request was handed to the system."""
        asked = self._open.get(call)
        return asked is None or asked.left_at <= self._sent

    def may_have_been_executed(self, call: int) -> bool:
        """Of a call that has no reply, when the connection has ended."""
        if not self.has_left(call):
            return False
        if self.end is None or self.end.last is None:
            return True
        is_later = self.end.last == 0 or 0 < (call - self.end.last) & U32 <= I32
        return not is_later

    # What we answer.

    def answer(self, call: int, rc: int, payload: bytes, is_text: bool, now: float) -> None:
        """Answers a call of the server's; one that needs none any more is left alone."""
        owed = self._owed.pop(call, None)
        if owed is None or self.end is not None or self.server is None:
            return
        self._owed_bytes -= owed.size
        most = self.server.max_payload
        if is_text:
            payload = _cut(payload, min(MAX_TEXT, most))
        elif len(payload) > most:
            text = f"the reply has {len(payload)} bytes, and its caller takes {most}"
            rc, payload, is_text = errors.TOO_LARGE, _cut(text.encode(), min(MAX_TEXT, most)), True
        flags = TEXT if is_text and payload and rc != 0 else 0
        self._put(REPLY, flags, owed.type, call, rc, payload, now)
        self._answer_goodbye(now)

    def leave(self, now: float) -> None:
        """Says goodbye. The server's last words are still to be read, until it ends."""
        if self.end is not None:
            return
        if self.server is None:
            self.end = End(errors.Closed, "this client was closed")
            return
        self._say_goodbye(0, "", now)
        self._leaves_at = now + self.limits.linger
        self._end_if_all_is_said()

    # Output.

    def output(self) -> bytes:
        """What is to be written next; nothing if nothing is."""
        if not self._out and self._pong is not None and self.end is None:
            pong, self._pong = self._pong, None
            self._out += HEADER.pack(0, PONG, 0, 0, pong, 0)
        return bytes(self._out[: 256 * 1024])

    @property
    def has_output(self) -> bool:
        return bool(self._out) or (self._pong is not None and self.end is None)

    @property
    def waiting(self) -> int:
        """How many bytes have not left."""
        return len(self._out)

    def sent(self, count: int, now: float) -> None:
        """So many bytes of `output` have left."""
        if count > 0:
            del self._out[:count]
            self._sent += count
            self._out_since = now
        self._end_if_all_is_said()

    def _put(self, kind: int, flags: int, msg_type: int, call: int, rc: int, payload: bytes, now: float) -> None:
        if not self._out:
            self._out_since = now
        self._out += HEADER.pack(len(payload), kind, flags, msg_type, call, rc)
        self._out += payload
        most = HARD_OUTPUT + self._open_bytes + self._largest_notify
        if kind not in (REQUEST, NOTIFY) and len(self._out) > most and self.end is None:
            self._end(errors.Gone, "the server asks and does not read what is answered", None)

    # Input.

    def receive(self, data: bytes, now: float) -> None:
        """Bytes have come."""
        if self.end is not None:
            return
        self._in += data
        try:
            taken = self._take_all(now)
        except Malformed as why:
            if self.server is None:
                self._end(errors.ProtocolError, str(why), errors.MALFORMED)
            else:
                self._fail(errors.MALFORMED, str(why), now)
            return
        if self.end is None:
            del self._in[:taken]
            if not self._in:
                self._in_since = None
            elif taken or self._in_since is None:
                self._in_since = now
            self._end_if_all_is_said()

    def receive_end(self, text: str) -> None:
        """The input has ended, or the connection is broken."""
        if self.end is not None:
            return
        if self._goodbye is not None:
            self._end_by_goodbye()
        elif self._leaves_at is not None:
            self.end = End(errors.Closed, "this client was closed")
        elif self.server is None:
            self._end(errors.Gone, f"{text}, before it has said hello", None)
        else:
            self._end(errors.Gone, text, None)

    def _take_all(self, now: float) -> int:
        """Handles what is whole. Says how many bytes that was."""
        at = 0
        if self.server is None:
            if len(self._in) < 8:
                return 0
            length = hello_length(bytes(self._in[:8]))
            if len(self._in) < length:
                return 0
            self._take_hello(bytes(self._in[:length]), now)
            at = length
        while self.end is None and len(self._in) - at >= HEADER.size:
            length, kind, flags, msg_type, call, rc = HEADER.unpack_from(self._in, at)
            if kind == 0 or GOODBYE < kind < FIRST_SKIPPED:
                raise Malformed(f"a frame of kind {kind}")
            if flags & ~(MORE | EXT | TEXT):
                raise Malformed(f"a frame with the flags {flags:#04x}")
            if length > self.limits.max_payload:
                most = self.limits.max_payload
                self._fail(errors.TOO_LARGE, f"a frame of {length} bytes, and at most {most} are taken", now)
                break
            whole = at + HEADER.size + length
            if len(self._in) < whole:
                break
            payload = bytes(self._in[at + HEADER.size : whole])
            at = whole
            self._take_frame(kind, flags, msg_type, call, rc, payload, now)
        return at

    def _take_hello(self, data: bytes, now: float) -> None:
        hello = parse_hello(data)
        if hello.status != 0:
            why = hello.tlvs.get(TAG_WHY, (0, b""))[1][:512].decode("utf-8", "replace")
            said = errors.name_of(hello.status) + (f": {errors.printable(why)}" if why else "")
            self._end(errors.Refused, f"the server refuses the connection: {said}", hello.status)
            return
        if hello.version != 1:
            raise Malformed(f"the server has chosen version {hello.version}")
        proves = TAG_PROOF in hello.tlvs
        if proves and self._key is None:
            text = "the server asks for a token, and this client has none"
            self._end(errors.Refused, text, errors.NOT_PERMITTED)
            return
        if self._key is not None and not (proves and is_proof(self._key, self._hello, data, hello)):
            text = "the server does not prove that it knows the token"
            self._end(errors.Refused, text, errors.NOT_PERMITTED)
            return
        self.server = hello.server
        try:
            if hello.required:
                raise MustUnderstand(f"the server requires the features {hello.required:#x}")
            refuse_unknown(hello.tlvs)
        except MustUnderstand as why:
            self._fail(errors.FEATURE_MISSING, str(why), now)
            return
        if self._key is not None:
            self._put(AUTH, 0, 0, 0, 0, prove(self._key, b"client", self._hello, data), now)
        self.events.append(Opened(hello.server))

    def _take_frame(
        self, kind: int, flags: int, msg_type: int, call: int, rc: int, payload: bytes, now: float
    ) -> None:
        if kind == REPLY:
            self._take_reply(flags, msg_type, call, rc, payload)
        elif kind == EVENT:
            self._take_event(flags, msg_type, call, rc, payload)
        elif kind in (REQUEST, SUBSCRIBE, UNSUBSCRIBE):
            self._take_request(kind, flags, msg_type, call, rc, payload, now)
        elif kind == NOTIFY:
            self._take_notify(flags, msg_type, payload)
        elif kind == CANCEL:
            self._withdraw(call, errors.CANCELLED, "its caller has cancelled it", now)
        elif kind == CREDIT and len(payload) != 4:
            raise Malformed("a credit that is not 4 bytes")
        elif kind == PING:
            self._pong = call
        elif kind == PONG:
            self.events.append(Ponged(call))
        elif kind == GOODBYE:
            text = payload[:MAX_TEXT].decode("utf-8", "replace") if flags & TEXT else ""
            self._goodbye = (rc, call, errors.printable(text))
            self._answer_goodbye(now)

    def _take_reply(self, flags: int, msg_type: int, call: int, rc: int, payload: bytes) -> None:
        asked = self._open.get(call)
        if asked is None:
            raise Malformed(f"a reply to {call}, which is not open")
        if asked.type != msg_type:
            raise Malformed(f"a reply of type {msg_type} to a request of type {asked.type}")
        spent = max(1, len(payload))
        if flags & EXT:
            try:
                payload = without_extension(payload)
            except MustUnderstand as why:
                raise Malformed(str(why)) from None
        if flags & MORE:
            if asked.credit <= 0:
                raise Malformed("a part for which there is no credit")
            asked.credit -= spent
            self.events.append(Part(call, payload))
            return
        del self._open[call]
        self._open_bytes -= asked.size
        self.events.append(Replied(call, rc, payload, bool(flags & TEXT) and rc != 0))

    def _take_event(self, flags: int, topic: int, number: int, dropped: int, payload: bytes) -> None:
        if flags & (MORE | TEXT):
            return
        if flags & EXT:
            try:
                payload = without_extension(payload)
            except (Malformed, MustUnderstand):
                return
        self.events.append(Event(topic, number, max(0, dropped), payload))

    def _take_request(
        self, kind: int, flags: int, msg_type: int, call: int, rc: int, payload: bytes, now: float
    ) -> None:
        if self._has_said_goodbye or self._goodbye is not None:
            return  # it has crossed our goodbye, or may not be there behind its own
        if call == 0 or call in self._owed or not 0 < (call - self._last_asked) & U32 <= I32 and self._last_asked:
            raise Malformed(f"request id {call} behind {self._last_asked}")
        self._last_asked = call
        size = len(payload)
        if (
            len(self._owed) >= self.limits.max_in_flight
            or self._owed_bytes + size > self.limits.max_in_flight_bytes
        ):
            self._fail(errors.BUSY, "more requests at a time than were allowed", now)
            return
        timeout = rc / 1000 if rc > 0 else None
        self._owed[call] = _Owed(msg_type, size, None if timeout is None else now + timeout)
        self._owed_bytes += size
        try:
            if rc < 0 or flags & TEXT:
                raise Malformed("a negative timeout, or a request with TEXT")
            if flags & MORE:
                self._refuse(call, errors.NO_HANDLER, "requests in parts do not exist", now)
                return
            if flags & EXT:
                payload = without_extension(payload)
        except (Malformed, MustUnderstand) as why:
            code = errors.MALFORMED if isinstance(why, Malformed) else errors.FEATURE_MISSING
            self._refuse(call, code, str(why), now)
            return
        if kind == REQUEST:
            self.events.append(Asked(call, msg_type, payload, timeout))
        else:
            self._refuse(call, errors.NO_HANDLER, "this client has no topics", now)

    def _take_notify(self, flags: int, msg_type: int, payload: bytes) -> None:
        if flags & (MORE | TEXT) or self._has_said_goodbye or self._goodbye is not None:
            return
        try:
            payload = without_extension(payload) if flags & EXT else payload
        except (Malformed, MustUnderstand):
            return
        self.events.append(Asked(0, msg_type, payload, None))

    def _refuse(self, call: int, rc: int, text: str, now: float) -> None:
        self.answer(call, rc, text.encode(), True, now)

    def _withdraw(self, call: int, rc: int, text: str, now: float) -> None:
        if call in self._owed:
            self._refuse(call, rc, text, now)
            self.events.append(Withdrawn(call))

    # Ends.

    def _answer_goodbye(self, now: float) -> None:
        """At once if we wait for replies ourselves, else when all is answered."""
        if self._goodbye is not None and not self._has_said_goodbye and (self._open or not self._owed):
            self._say_goodbye(0, "", now)

    def _say_goodbye(self, rc: int, text: str, now: float) -> None:
        most = MAX_TEXT if self.server is None else min(MAX_TEXT, self.server.max_payload)
        payload = _cut(text.encode(), most)
        self._put(GOODBYE, TEXT if payload and rc else 0, 0, self._last_asked, rc, payload, now)
        self._has_said_goodbye = True

    def _end_if_all_is_said(self) -> None:
        """Behind both goodbyes and all replies there is nothing more to read."""
        is_said = self._has_said_goodbye and self._goodbye is not None and not self._open and not self._out
        if is_said and self.end is None:
            self._end_by_goodbye()

    def _end_by_goodbye(self) -> None:
        assert self._goodbye is not None
        rc, last, text = self._goodbye
        said = errors.name_of(rc) + (f": {text}" if text else "")
        kind = errors.Closed if self._leaves_at is not None and rc == 0 else errors.Gone
        self._end(kind, f"the server has said goodbye: {said}", rc)
        assert self.end is not None
        self.end.last = last

    def _end(self, kind: Type[errors.SidewireError], text: str, rc: Optional[int]) -> None:
        self.end = End(kind, text, rc, self._goodbye[1] if self._goodbye else None)
        self._in.clear()

    def _fail(self, rc: int, text: str, now: float) -> None:
        """The server breaks the protocol, or takes too long: it is told so, and nothing behind it counts."""
        self._say_goodbye(rc, text, now)
        kind = errors.TimedOut if rc == errors.TIMED_OUT else errors.ProtocolError
        self._end(kind, f"the server breaks the protocol: {text}" if kind is not errors.TimedOut else text, rc)

    # Time.

    def deadline(self) -> Optional[float]:
        """When `tick` is to be called, at the latest."""
        if self.end is not None:
            return None
        times: List[float] = [owed.deadline for owed in self._owed.values() if owed.deadline is not None]
        if self._in_since is not None:
            times.append(self._in_since + self._input_limit())
        if self._out:
            times.append(self._out_since + self.limits.write_stall_timeout)
        if self._leaves_at is not None:
            times.append(self._leaves_at)
        return min(times, default=None)

    def _input_limit(self) -> float:
        return self.limits.hello_timeout if self.server is None else self.limits.partial_frame_timeout

    def tick(self, now: float) -> None:
        """Time has passed. What has come by now is to be received first."""
        if self.end is not None:
            return
        for call, owed in list(self._owed.items()):
            if owed.deadline is not None and owed.deadline <= now:
                self._withdraw(call, errors.TIMED_OUT, "its time limit has passed", now)
        if self._leaves_at is not None and self._leaves_at <= now:
            self.end = End(errors.Closed, "this client was closed")
        elif self._in_since is not None and self._in_since + self._input_limit() <= now:
            if self.server is None:
                self._end(errors.TimedOut, "the server has not finished its hello in time", errors.TIMED_OUT)
            else:
                self._fail(errors.TIMED_OUT, "the server has begun a frame and not finished it in time", now)
        elif self._out and self._out_since + self.limits.write_stall_timeout <= now:
            self._end(errors.TimedOut, "the server takes nothing of what is sent", errors.TIMED_OUT)


def _cut(text: bytes, most: int) -> bytes:
    """At most so many bytes of a text, between two characters."""
    return text[:most].decode("utf-8", "ignore").encode()
