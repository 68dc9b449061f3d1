"""What a client waits for: the reply to a call, the events of a topic; and what it is asked by the server."""

from collections import deque
from typing import Callable, Deque, Optional, Protocol, Union

from ._events import Event
from ._frames import HEADER
from ._protocol import Connection
from .errors import SidewireError


class Happened(Protocol):
    """What both `threading.Event` and `asyncio.Event` are."""

    def set(self) -> None: ...

    def clear(self) -> None: ...


class Call:
    """One call, notify or ping of ours, until its end is known."""

    def __init__(
        self, kind: int, msg_type: int, payload: bytes, deadline: Optional[float], changed: Happened
    ) -> None:
        self.kind = kind
        self.type = msg_type
        self.payload = payload
        self.deadline = deadline
        self.changed = changed  # set with each part, and at the end
        self.idempotent = False
        self.may_be_resent = True
        self.wants_parts = False
        self.was_perhaps_executed = False  # over a connection before
        self.id = 0  # on the connection that it was sent over
        self.parts: Deque[bytes] = deque()
        self.taken = 0  # bytes of its parts that were taken, and for which no credit was given
        self.outcome: Optional[Union[bytes, SidewireError]] = None
        self.then: Optional[Callable[[], None]] = None

    @property
    def size(self) -> int:
        """What it counts as while it waits to be sent."""
        return len(self.payload) + HEADER.size

    def finish(self, outcome: Union[bytes, SidewireError]) -> None:
        if self.outcome is None:
            if self.was_perhaps_executed and isinstance(outcome, SidewireError):
                outcome.may_have_been_executed = True
            self.outcome = outcome
            self.payload = b""
            if self.then is not None:
                self.then()
            self.changed.set()


class Subscription:
    """The events of one topic that wait for one who has subscribed."""

    def __init__(self, topic: int, most: int, changed: Happened) -> None:
        self.topic = topic
        self.changed = changed
        self.is_active = False  # from the server's answer on
        self.has_gap = False
        self.end: Optional[SidewireError] = None
        self._most = most
        self._events: Deque[Event] = deque()
        self._bytes = 0
        self._dropped = 0  # here, before the first that waits

    def push(self, event: Event) -> None:
        if self.has_gap:
            event = event._replace(gap=True)
            self.has_gap = False
        self._events.append(event)
        self._bytes += _size(event)
        while self._bytes > self._most and len(self._events) > 1:
            lost = self._events.popleft()
            self._bytes -= _size(lost)
            self._dropped += 1 + lost.dropped
            if lost.gap:
                self._events[0] = self._events[0]._replace(gap=True)
        self.changed.set()

    def take(self) -> Optional[Event]:
        """The next one, if it has come."""
        if not self._events:
            return None
        event = self._events.popleft()
        self._bytes -= _size(event)
        if self._dropped:
            event = event._replace(dropped=event.dropped + self._dropped)
            self._dropped = 0
        return event

    def finish(self, error: SidewireError) -> None:
        if self.end is None:
            self.end = error
            self.changed.set()


def _size(event: Event) -> int:
    return len(event.payload) + 64


class Request:
    """A call of the server's, or a notify, for a handler of this client's."""

    def __init__(
        self, call: int, msg_type: int, payload: bytes, timeout: Optional[float], connection: Connection
    ) -> None:
        self.type = msg_type
        self.payload = payload
        self.timeout = timeout
        """In seconds, as the server has said it; ``None``: without a limit."""
        self.call = call
        self.connection = connection
        self.on_withdrawn: Optional[Callable[[], object]] = None
        self._is_withdrawn = False

    @property
    def is_notify(self) -> bool:
        """Whether nobody waits for an answer."""
        return self.call == 0

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody waits for the answer any more: cancelled, timed out, or the connection has ended."""
        return self._is_withdrawn

    @property
    def size(self) -> int:
        """What it counts as while it waits for its handler."""
        return len(self.payload) + 512

    def withdraw(self) -> None:
        if not self._is_withdrawn:
            self._is_withdrawn = True
            if self.on_withdrawn is not None:
                self.on_withdrawn()
