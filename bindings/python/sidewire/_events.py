"""What comes out of a connection."""

from dataclasses import dataclass
from typing import NamedTuple, Optional, Type, Union

from . import errors
from ._frames import Server


class Opened(NamedTuple):
    server: Server


class Replied(NamedTuple):
    call: int
    rc: int
    payload: bytes
    is_text: bool


class Part(NamedTuple):
    call: int
    payload: bytes


class Event(NamedTuple):
    """One event of a topic."""

    topic: int
    number: int
    """Its number on this connection; 1 follows 4,294,967,295."""
    dropped: int
    """How many were dropped between the one before and this one, since they came faster than they were read."""
    payload: bytes
    gap: bool = False
    """Whether the client has connected anew since the one before: any number may have been missed."""


class Asked(NamedTuple):
    """A call of the server's, or a notify (`call` is 0)."""

    call: int
    type: int
    payload: bytes
    timeout: Optional[float]


class Withdrawn(NamedTuple):
    """A call of the server's that needs no answer any more: it was cancelled, or has timed out."""

    call: int


class Ponged(NamedTuple):
    ping: int


ConnectionEvent = Union[Opened, Replied, Part, Event, Asked, Withdrawn, Ponged]


@dataclass
class End:
    """How a connection has ended."""

    kind: Type[errors.SidewireError]
    text: str
    rc: Optional[int] = None
    last: Optional[int] = None
    """The last of our requests that was accepted, if the server has said so."""

    def error(self, may_have_been_executed: bool) -> errors.SidewireError:
        return self.kind(self.text, rc=self.rc, may_have_been_executed=may_have_been_executed)
