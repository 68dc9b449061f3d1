"""When a client whose connection has ended connects anew. No socket, no clock."""

import random
from dataclasses import dataclass
from typing import Callable, Optional

from .errors import SidewireError


@dataclass(frozen=True)
class Reconnected:
    """A connection that took the place of one that had ended."""

    is_restarted: bool
    """Whether the server was started anew, or is another one, and so knows nothing of before."""
    attempts: int
    reason: SidewireError
    """Why the connection before it had ended."""


@dataclass(frozen=True)
class Reconnect:
    """How a client connects anew when its connection has ended. Times are in seconds.

    The first attempt is made at once, when somebody calls, has subscribed, or serves calls of the server's. Behind
    each that fails there is a pause, twice as long as the one before and shortened at random by up to a half. After
    so many failed attempts, or so much time, the client gives up and is closed for good; at once if the server, or
    this client, refuses the connection, or the server breaks the protocol.

    A call that finds no connection, whose request had not left, or of which the server has said with its goodbye
    that it was not executed, is sent over the next one. What may have been executed is reported as `Gone`, unless it
    was marked `idempotent`: then it is sent again. Calls that were started, and streams, are always reported.
    Subscriptions are renewed; the first event behind that says ``gap``.
    """

    attempts: int = 20
    within: float = 60.0
    first_pause: float = 0.05
    longest_pause: float = 5.0
    on_reconnected: Optional[Callable[[Reconnected], object]] = None
    """Called after each new connection, where handlers run."""


class Pauses:
    """One client's connections, one after the other: when the next attempt is due."""

    def __init__(self, rules: Reconnect, chance: Callable[[], float] = random.random) -> None:
        self.rules = rules
        self.failed = 0
        self.due: Optional[float] = None  # None: there is a connection, or an attempt under way
        self.has_given_up = False
        self._chance = chance
        self._began: Optional[float] = None
        self._since: Optional[float] = None

    def ended(self, now: float) -> None:
        """A connection has ended. One that was a new one and has not lasted counts as an attempt that failed."""
        is_new = self._began is not None and self._since is not None
        if is_new and now - (self._since or 0.0) <= self.rules.longest_pause:
            self.attempt_failed(now)
        else:
            self.failed, self._began, self.due = 0, None, now

    def attempt_begins(self, now: float) -> None:
        self.due = None
        if self._began is None:
            self._began = now

    def attempt_failed(self, now: float) -> None:
        self.failed += 1
        whole = min(self.rules.first_pause * 2 ** min(self.failed - 1, 31), self.rules.longest_pause)
        self.due = now + whole * (0.5 + 0.5 * self._chance())
        is_late = self._began is not None and self._began + self.rules.within < self.due
        self.has_given_up = self.failed >= self.rules.attempts or is_late

    def succeeded(self, now: float) -> int:
        """Says how many attempts it took."""
        self._since = now
        return self.failed + 1
