"""A client without socket, thread or clock: its calls and subscriptions, over one connection after the other.

Both clients drive it. Whoever does asks `turn` what is to be done, tells how it went, and gives it bytes and time;
what it has to say to those who wait it says by the events (`threading.Event`, `asyncio.Event`) that it was given.
"""

import logging
import math
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Callable, Deque, Dict, FrozenSet, List, Optional, Tuple, Union

from . import errors
from ._calls import Call, Happened, Request, Subscription
from ._events import Asked, End, Event, Opened, Part, Ponged, Replied, Withdrawn
from ._frames import I32, MIB, NOTIFY, PING, SUBSCRIBE, UNSUBSCRIBE, Limits, Server
from ._protocol import Connection
from ._reconnect import Pauses, Reconnect, Reconnected

log = logging.getLogger("sidewire")

MAX_QUEUED = 64 * MIB


@dataclass(frozen=True)
class Options:
    """What a client was asked to be."""

    limits: Limits
    app: Optional[Tuple[str, str]]
    connect_timeout: float
    reconnect: Optional[Reconnect]
    serves: FrozenSet[int]


class Turn(Enum):
    CONNECT = "make an attempt: `attempt`, then `attach` or `attempt_failed`"
    WAIT = "there is nothing to do until `deadline`, or until somebody asks for something"
    USE = "there is a connection: read, write, `tick`"
    DONE = "it is over"


class Session:
    def __init__(self, options: Options, make_event: Callable[[], Happened], now: float) -> None:
        self.options = options
        self.ready = make_event()  # set with the first hello, and when it is over
        self.server: Optional[Server] = None
        self.closed: Optional[errors.SidewireError] = None  # why, once it is over
        self.inbox: Deque[Union[Request, Reconnected]] = deque()  # for whoever runs handlers
        self.connection: Optional[Connection] = None
        self.last_words = b""  # of the connection that has ended, for its server
        self._make_event = make_event
        self._reason: Optional[End] = None  # why the connection before has ended
        self._is_attempting = False
        self._attempt_ends: Optional[float] = None
        self._pauses = Pauses(options.reconnect or Reconnect(attempts=1))
        self._pauses.due = now
        self._queue: Deque[Call] = deque()
        self._queued = 0
        self._calls: Dict[int, Optional[Call]] = {}  # by id; None: whoever had asked has given up
        self._pings: Dict[int, Call] = {}
        self._asked: Dict[int, Request] = {}
        self._inbox_bytes = 0
        self._topics: Dict[int, List[Subscription]] = {}

    # For whoever drives it.

    def turn(self, now: float) -> Turn:
        if self.connection is not None:
            return Turn.USE
        if self.closed is not None:
            return Turn.DONE
        due = self._pauses.due
        if self._is_attempting or due is None or due > now or not self._is_needed():
            return Turn.WAIT
        return Turn.CONNECT

    def _is_needed(self) -> bool:
        """Whether somebody calls, has subscribed, or is there to be called."""
        return self.server is None or bool(self._queue or self._topics or self.options.serves)

    def deadline(self) -> Optional[float]:
        """When it is to be looked after, at the latest: by `tick`, or, without a connection, by `turn`."""
        if self.connection is None:
            waits = self.closed is None and not self._is_attempting and self._is_needed()
            return self._pauses.due if waits else None
        times = [time for time in (self.connection.deadline(), self._attempt_ends) if time is not None]
        return min(times, default=None)

    def attempt(self, now: float) -> float:
        """An attempt begins. Says until when it is to be over."""
        self._pauses.attempt_begins(now)
        self._is_attempting = True
        self._attempt_ends = now + self.options.connect_timeout
        return self._attempt_ends

    def attach(self, key: Optional[bytes], now: float) -> None:
        """There is a channel to a server that may be trusted."""
        self._is_attempting = False
        self.last_words = b""
        if self.closed is None:
            self.connection = Connection(self.options.limits, now, app=self.options.app, key=key)

    def attempt_failed(self, error: errors.SidewireError, now: float) -> None:
        """There is none. Trying again is of use only if nobody was there."""
        self._is_attempting = False
        if self.closed is None:
            is_final = not isinstance(error, (errors.NotListening, errors.TimedOut))
            self._attempt_has_failed(End(type(error), str(error), error.rc), is_final, now)

    def receive(self, data: bytes, now: float) -> None:
        if self.connection is not None:
            self.connection.receive(data, now)
            self._look(now)

    def receive_end(self, text: str, now: float) -> None:
        if self.connection is not None:
            self.connection.receive_end(text)
            self._look(now)

    def sent(self, count: int, now: float) -> None:
        if self.connection is not None:
            self.connection.sent(count, now)
            self._look(now)

    def tick(self, now: float) -> None:
        connection = self.connection
        if connection is None:
            return
        if self._attempt_ends is not None and self._attempt_ends <= now and connection.end is None:
            connection.end = End(errors.TimedOut, "the server has not said hello in time", errors.TIMED_OUT)
        connection.tick(now)
        self._look(now)

    # For who asks.

    def call(self, kind: int, msg_type: int, payload: bytes, timeout: Optional[float], now: float) -> Call:
        deadline = None if timeout is None else now + timeout
        return Call(kind, msg_type, payload, deadline, self._make_event())

    def begin(self, call: Call, now: float) -> Call:
        """Sends it as soon as it may be."""
        if self.closed is not None:
            raise _again(self.closed)
        if self._queue and self._queued + call.size > MAX_QUEUED:
            raise errors.Busy("more than 64 MiB wait to be sent")
        self._queue.append(call)
        self._queued += call.size
        self._pump(now)
        return call

    def give_up(self, call: Call, error: Callable[..., errors.SidewireError], text: str, now: float) -> None:
        """Nobody waits for it any more. What it ends with says whether it may have been executed."""
        if call.outcome is not None:
            return
        may_have = False
        if call.id and call.kind == PING:
            self._pings.pop(call.id, None)
        elif call.id and self.connection is not None and self._calls.get(call.id) is call:
            may_have = self.connection.has_left(call.id)
            self._calls[call.id] = None
            self.connection.cancel(call.id, now)
        elif call in self._queue:
            self._queue.remove(call)
            self._queued -= call.size
        call.finish(error(text, may_have_been_executed=may_have))

    def cancel(self, call: Call, now: float) -> None:
        """Asks the server to end it. One that has not been sent ends here."""
        if call.id and self.connection is not None and self._calls.get(call.id) is call:
            self.connection.cancel(call.id, now)
        else:
            self.give_up(call, errors.Cancelled, "the call was cancelled before it was sent", now)

    def take_part(self, call: Call, now: float) -> Optional[bytes]:
        """The next part that has come, for which credit is given back once it is half of what there was."""
        if not call.parts:
            return None
        part = call.parts.popleft()
        call.taken += max(1, len(part))
        if call.taken * 2 >= self.options.limits.stream_credit and call.outcome is None:
            self._give_back(call, now)
        return part

    def _give_back(self, call: Call, now: float) -> None:
        taken, call.taken = call.taken, 0
        if self.connection is not None:
            self.connection.give_credit(call.id, taken, now)

    def subscribe(self, topic: int, timeout: Optional[float], now: float) -> Tuple[Subscription, Call]:
        subscription = Subscription(topic, self.options.limits.event_queue, self._make_event())
        call = self.call(SUBSCRIBE, topic, b"", timeout, now)
        call.idempotent = True  # twice is once
        call.then = lambda: self._subscribed(subscription, call)
        self._topics.setdefault(topic, []).append(subscription)
        try:
            self.begin(call, now)
        except errors.SidewireError:
            self._forget(subscription)
            raise
        return subscription, call

    def _subscribed(self, subscription: Subscription, call: Call) -> None:
        if isinstance(call.outcome, errors.SidewireError):
            self._forget(subscription)
            subscription.finish(call.outcome)
        else:
            subscription.is_active = True

    def unsubscribe(self, subscription: Subscription, timeout: Optional[float], now: float) -> Optional[Call]:
        """A call to wait for, if it is the last one of its topic."""
        subscription.finish(errors.Closed("the subscription has ended"))
        is_last = self._forget(subscription)
        if not is_last or self.connection is None or self.closed is not None:
            return None
        call = self.call(UNSUBSCRIBE, subscription.topic, b"", timeout, now)
        call.idempotent = True
        return self.begin(call, now)

    def _forget(self, subscription: Subscription) -> bool:
        """Whether it was the last one of its topic."""
        others = self._topics.get(subscription.topic, [])
        if subscription not in others:
            return False
        others.remove(subscription)
        if not others:
            del self._topics[subscription.topic]
        return not others

    def take_request(self) -> Optional[Union[Request, Reconnected]]:
        """What a handler is to be run for."""
        if not self.inbox:
            return None
        taken = self.inbox.popleft()
        if isinstance(taken, Request):
            self._inbox_bytes -= taken.size
        return taken

    def answer(self, request: Request, rc: int, payload: bytes, is_text: bool, now: float) -> None:
        """What a handler has come to. Nobody hears of it if the connection is another one."""
        if not request.call or request.connection is not self.connection or self.connection is None:
            return
        self._asked.pop(request.call, None)
        self.connection.answer(request.call, rc, payload, is_text, now)
        self._look(now)

    def close(self, now: float) -> None:
        """The program wants no more of it. The connection still says goodbye."""
        if self.closed is not None:
            return
        connection = self.connection
        for call_id, call in self._calls.items():
            if call is not None and connection is not None:
                connection.cancel(call_id, now)
        self._over(End(errors.Closed, "this client was closed"))
        if connection is not None:
            connection.leave(now)
            self._look(now)

    # Within.

    def _pump(self, now: float) -> None:
        """Sends what waits, as far as it may be sent, in its order."""
        while self._queue and self.connection is not None and self.connection.has_room(self._queue[0].size):
            call = self._queue.popleft()
            self._queued -= call.size
            self._send(call, self.connection, now)

    def _send(self, call: Call, connection: Connection, now: float) -> None:
        assert connection.server is not None
        most = min(connection.server.max_payload, connection.server.max_in_flight_bytes)
        if len(call.payload) > most:
            call.finish(errors.SidewireError(
                f"{len(call.payload)} bytes are too large: this server takes {most}", rc=errors.TOO_LARGE
            ))
        elif call.deadline is not None and call.deadline <= now:
            call.finish(errors.TimedOut("the time limit has passed before the request was sent"))
        elif call.kind == NOTIFY:
            connection.notify(call.type, call.payload, now)
            call.finish(b"")
        elif call.kind == PING:
            call.id = connection.ping(now)
            self._pings[call.id] = call
        else:
            timeout = 0
            if call.deadline is not None and not call.wants_parts:
                timeout = min(I32, max(1, math.ceil((call.deadline - now) * 1000)))
            call.id = connection.request(call.kind, call.type, call.payload, timeout, now)
            self._calls[call.id] = call

    def _look(self, now: float) -> None:
        """At what the connection has to say, and whether it has ended."""
        connection = self.connection
        if connection is None:
            return
        while connection.events:
            event = connection.events.popleft()
            if isinstance(event, Replied):
                self._replied(event)
            elif isinstance(event, Part):
                self._part(event, now)
            elif isinstance(event, Event):
                self._event(event)
            elif isinstance(event, Asked):
                self._was_asked(event, connection, now)
            elif isinstance(event, Withdrawn):
                request = self._asked.pop(event.call, None)
                if request is not None:
                    request.withdraw()
            elif isinstance(event, Ponged):
                self._ponged(event.ping)
            else:
                self._opened(event, now)
        if connection.end is not None:
            self._ended(connection, connection.end, now)
        else:
            self._pump(now)

    def _opened(self, event: Opened, now: float) -> None:
        before, self.server = self.server, event.server
        self._attempt_ends = None
        if before is None:
            self._pauses = Pauses(self._pauses.rules)  # nothing was lost before
            self.ready.set()
            return
        attempts = self._pauses.succeeded(now)
        for topic, subscriptions in self._topics.items():
            if any(subscription.is_active for subscription in subscriptions):
                self._renew(topic, now)
        if self._reason is not None and self._pauses.rules.on_reconnected is not None:
            is_restarted = before.instance != event.server.instance
            self.inbox.append(Reconnected(is_restarted, attempts, self._reason.error(False)))

    def _renew(self, topic: int, now: float) -> None:
        call = self.call(SUBSCRIBE, topic, b"", None, now)
        call.idempotent = True
        call.then = lambda: self._renewed(topic, call)
        self._queue.appendleft(call)
        self._queued += call.size

    def _renewed(self, topic: int, call: Call) -> None:
        if isinstance(call.outcome, errors.ResultError):
            for subscription in list(self._topics.get(topic, ())):
                self._forget(subscription)
                subscription.finish(call.outcome)

    def _replied(self, event: Replied) -> None:
        call = self._calls.pop(event.call, None)
        if call is None:
            return  # its caller has given up
        if event.rc == 0:
            call.finish(event.payload)
        else:
            call.finish(errors.of_answer(event.rc, event.payload, event.is_text))

    def _part(self, event: Part, now: float) -> None:
        call = self._calls.get(event.call)
        if call is not None and call.wants_parts:
            call.parts.append(event.payload)
            call.changed.set()
        elif self.connection is not None:  # nobody wants it
            self.connection.give_credit(event.call, max(1, len(event.payload)), now)

    def _event(self, event: Event) -> None:
        for subscription in self._topics.get(event.topic, ()):
            if subscription.is_active:
                subscription.push(event)

    def _ponged(self, ping: int) -> None:
        """A pong answers its ping, and all before it."""
        for number in [number for number in self._pings if number <= ping]:
            self._pings.pop(number).finish(b"")

    def _was_asked(self, event: Asked, connection: Connection, now: float) -> None:
        if event.type not in self.options.serves:
            if event.call:
                connection.answer(event.call, errors.NO_HANDLER, b"this client has no such handler", True, now)
            return
        request = Request(event.call, event.type, event.payload, event.timeout, connection)
        if not event.call and self._inbox_bytes + request.size > self.options.limits.max_in_flight_bytes:
            log.warning("a notify of type %d was dropped: too many wait for their handler", event.type)
            return
        if event.call:
            self._asked[event.call] = request
        self._inbox_bytes += request.size
        self.inbox.append(request)

    def _ended(self, connection: Connection, end: End, now: float) -> None:
        """The connection is over. What is not known to have been executed may go on over the next one."""
        self.connection = None
        self.last_words = connection.output()
        for request in self._asked.values():
            request.withdraw()
        self._asked.clear()
        was_open = self._attempt_ends is None
        self._attempt_ends = None
        is_final = _is_final(end) or self.options.reconnect is None or self.closed is not None
        self._settle(connection, end, goes_on=not is_final)
        if not was_open:
            self._attempt_has_failed(end, is_final, now)
            return
        self._pauses.ended(now)
        if is_final or self._pauses.has_given_up:
            self._over(end)
            return
        self._reason = end
        log.debug("the connection has ended, and is made anew: %s", end.text)
        for subscriptions in self._topics.values():
            for subscription in subscriptions:
                subscription.has_gap = subscription.is_active

    def _settle(self, connection: Connection, end: End, *, goes_on: bool) -> None:
        """What becomes of calls that have no answer."""
        again: List[Call] = []
        for call_id, call in self._calls.items():
            if call is None:
                continue
            may_have = connection.may_have_been_executed(call_id)
            if goes_on and call.may_be_resent and (call.idempotent or not may_have):
                call.id = 0
                call.was_perhaps_executed |= may_have
                again.append(call)
            else:
                call.finish(end.error(may_have))
        self._calls.clear()
        for call in self._pings.values():
            call.finish(end.error(False))
        self._pings.clear()
        for call in self._queue:
            if call.may_be_resent:
                again.append(call)
            else:
                call.finish(end.error(False))
        self._queue = deque(again)
        self._queued = sum(call.size for call in self._queue)

    def _attempt_has_failed(self, end: End, is_final: bool, now: float) -> None:
        self._attempt_ends = None
        self._pauses.attempt_failed(now)
        is_first = self.server is None
        if is_first or is_final or self.options.reconnect is None or self._pauses.has_given_up:
            self._over(end)

    def _over(self, end: End) -> None:
        """For good: all who wait hear of it."""
        if self.closed is None:
            self.closed = end.error(False)
        for call_id, call in self._calls.items():
            if call is not None:
                may_have = self.connection is None or self.connection.has_left(call_id)
                call.finish(end.error(may_have))
                self._calls[call_id] = None
        for call in [*self._queue, *self._pings.values()]:
            call.finish(end.error(False))
        self._queue.clear()
        self._queued = 0
        self._pings.clear()
        for subscriptions in list(self._topics.values()):
            for subscription in subscriptions:
                subscription.finish(end.error(False))
        self._topics.clear()
        self.ready.set()


def _is_final(end: End) -> bool:
    """Whether the next connection would end no better."""
    if end.kind is errors.Refused:
        return end.rc not in (errors.BUSY, errors.SHUTTING_DOWN)
    return end.kind in (errors.ProtocolError, errors.Closed)


def _again(error: errors.SidewireError) -> errors.SidewireError:
    """The same for another one who asks: each has a traceback of its own."""
    return type(error)(str(error), rc=error.rc)
