"""Calls, streams and events over local sockets and pipes: a client of Sidewire servers.

    with sidewire.Client("local:com.example.app") as client:
        print(client.call(1))

`Client` blocks, `sidewire.aio.Client` is the same for asyncio. Both need nothing but Python's standard library.
"""

from . import aio, errors
from ._calls import Request
from ._events import Event
from ._frames import Limits, Server
from ._reconnect import Reconnect, Reconnected
from .client import Client, Events, Parts, Pending
from .errors import (
    Busy, Cancelled, Closed, Failure, Gone, NotListening, ProtocolError, Refused, ResultError, SidewireError, TimedOut,
)

__version__ = "0.1.0"
__all__ = [
    "Busy", "Cancelled", "Client", "Closed", "Event", "Events", "Failure", "Gone", "Limits", "NotListening", "Parts",
    "Pending", "ProtocolError", "Reconnect", "Reconnected", "Refused", "Request", "ResultError", "Server",
    "SidewireError", "TimedOut", "aio", "errors",
]
