"""A socket that one thread waits at, while others may write to it."""

import selectors
import socket
from typing import Optional, Protocol

AT_ONCE = 256 * 1024
LONGEST_WAIT = 3600.0
"""The system takes no times without end. Whoever waits looks again."""


class Channel(Protocol):
    """What `SocketChannel` and a Windows pipe both are."""

    sends_anywhere: bool

    def wait(self, timeout: Optional[float], wants_write: bool) -> None: ...

    def receive(self) -> Optional[bytes]: ...

    def send(self, data: bytes) -> int: ...

    def wake(self) -> None: ...

    def close(self) -> None: ...


class SocketChannel:
    """Sending, waking and closing are done by one thread at a time (under the client's lock), waiting by its own."""

    sends_anywhere = True
    """Whether any thread may send."""

    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer
        self._bell, self._rope = socket.socketpair()
        self._bell.setblocking(False)
        self._rope.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(peer, selectors.EVENT_READ)
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._wants_write = False

    def wait(self, timeout: Optional[float], wants_write: bool) -> None:
        """Until something can be read (or written, if wanted), somebody wakes it, or the time is over."""
        if wants_write != self._wants_write:
            self._wants_write = wants_write
            interest = selectors.EVENT_READ | (selectors.EVENT_WRITE if wants_write else 0)
            self._selector.modify(self._peer, interest)
        for key, _ in self._selector.select(None if timeout is None else min(timeout, LONGEST_WAIT)):
            if key.fileobj is self._bell:
                self._bell.recv(4096)

    def receive(self) -> Optional[bytes]:
        """What has come; nothing (``b""``) at the end, ``None`` if there is nothing yet."""
        try:
            return self._peer.recv(AT_ONCE)
        except (BlockingIOError, InterruptedError):
            return None

    def send(self, data: bytes) -> int:
        """How much of it the system has taken."""
        try:
            return self._peer.send(data)
        except (BlockingIOError, InterruptedError):
            return 0

    def wake(self) -> None:
        try:
            self._rope.send(b"!")
        except (BlockingIOError, InterruptedError):
            pass  # it is awake

    def close(self) -> None:
        self._selector.close()
        for each in (self._peer, self._bell, self._rope):
            each.close()
