"""A stream in an asyncio loop: a socket, or, on Windows, a pipe that a thread waits at."""

import asyncio
import socket
import threading
import time
from typing import Any, List, Optional, Protocol, Tuple

from ._common import Target
from ._session import Session
from ._windows import Pipe


class Link(Protocol):
    """What a client has of its stream."""

    def begin(self, owner: "Owner") -> None:
        """Tells this one what comes, and what has come already."""

    def write(self, session: Session) -> None:
        """Writes what the session has to say, as far as it is taken."""

    def close(self, last_words: bytes) -> None:
        """Lets go of it, behind these."""


class Owner(Protocol):
    """Who is told."""

    def received(self, link: Any, data: bytes) -> None: ...

    def ended(self, link: Any, why: str) -> None: ...

    def writable(self, link: Any) -> None: ...


async def open_link(target: Target, deadline: float) -> Tuple[Link, Optional[bytes]]:
    """Connects on a thread of the loop's pool. If nobody waits for it any more, the stream is closed."""
    loop = asyncio.get_running_loop()
    attempt = loop.run_in_executor(None, target.connect, deadline)
    try:
        opened, key = await asyncio.shield(attempt)
    except asyncio.CancelledError:
        attempt.add_done_callback(_close_unwanted)
        raise
    if not isinstance(opened, socket.socket):
        return PipeLink(opened, loop), key
    link = SocketLink()
    is_unix = hasattr(socket, "AF_UNIX") and opened.family == socket.AF_UNIX
    if is_unix:
        await loop.create_unix_connection(lambda: link, sock=opened)
    else:
        await loop.create_connection(lambda: link, sock=opened)
    return link, key


def _close_unwanted(attempt: "asyncio.Future[Any]") -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result()[0].close()


class SocketLink(asyncio.Protocol):
    def __init__(self) -> None:
        self._owner: Optional[Owner] = None
        self._early: List[bytes] = []  # before it has an owner
        self._why: Optional[str] = None  # it has ended
        self._is_paused = False
        self._transport: Optional[asyncio.Transport] = None

    def begin(self, owner: Owner) -> None:
        self._owner = owner
        for data in self._early:
            owner.received(self, data)
        self._early.clear()
        if self._why is not None:
            owner.ended(self, self._why)

    def write(self, session: Session) -> None:
        while self._transport is not None and not self._is_paused and session.connection is not None:
            data = session.connection.output()
            if not data or self._transport.is_closing():
                return
            self._transport.write(data)
            session.sent(len(data), time.monotonic())

    def close(self, last_words: bytes) -> None:
        transport, self._transport = self._transport, None
        if transport is None:
            return
        if last_words and not transport.is_closing():
            transport.write(last_words)
        if transport.get_write_buffer_size() and self._is_paused:
            transport.abort()  # it takes nothing, and would be waited for
        else:
            transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(0)  # told of each byte that does not leave at once
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._owner is None:
            self._early.append(data)
        else:
            self._owner.received(self, data)

    def eof_received(self) -> bool:
        self._end("the connection has ended")
        return False

    def connection_lost(self, error: Optional[Exception]) -> None:
        self._end(f"the connection is broken: {error}" if error else "the connection has ended")

    def _end(self, why: str) -> None:
        self._why = self._why or why
        if self._owner is not None:
            self._owner.ended(self, self._why)

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        if self._owner is not None:
            self._owner.writable(self)


class PipeLink:
    """A thread reads and writes; what it reads it hands to the loop."""

    MOST = 1024 * 1024

    def __init__(self, pipe: Pipe, loop: asyncio.AbstractEventLoop) -> None:
        self._pipe, self._loop = pipe, loop
        self._lock = threading.Lock()
        self._out = bytearray()
        self._is_closing = False

    def begin(self, owner: Owner) -> None:
        threading.Thread(target=self._run, args=(owner,), name="sidewire pipe", daemon=True).start()

    def write(self, session: Session) -> None:
        while session.connection is not None:
            data = session.connection.output()
            with self._lock:
                if not data or self._is_closing or len(self._out) >= self.MOST:
                    return
                self._out += data
                self._pipe.wake()
            session.sent(len(data), time.monotonic())

    def close(self, last_words: bytes) -> None:
        with self._lock:
            if not self._is_closing:
                self._is_closing = True
                self._out += last_words
                self._pipe.wake()

    def _run(self, owner: Owner) -> None:
        why = "the connection has ended"
        try:
            while not self._is_closing:
                self._pipe.wait(None, bool(self._out))
                data = self._pipe.receive()
                if data == b"":
                    break
                if data:
                    self._tell(owner.received, self, data)
                self._write_some(owner)
            self._write_some(owner)
        except OSError as error:
            why = f"the connection is broken: {error}"
        with self._lock:
            self._is_closing = True
            self._pipe.close()
        self._tell(owner.ended, self, why)

    def _write_some(self, owner: Owner) -> None:
        with self._lock:
            was_full = len(self._out) >= self.MOST
            del self._out[: self._pipe.send(bytes(self._out[: 64 * 1024]))]
            has_room = len(self._out) < self.MOST
        if was_full and has_room:
            self._tell(owner.writable, self)

    def _tell(self, whom: Any, *what: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(whom, *what)
        except RuntimeError:
            self._is_closing = True  # the loop is closed
