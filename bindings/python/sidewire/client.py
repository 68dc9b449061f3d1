"""The client that blocks, for one thread or several."""

import logging
import socket
import threading
import time
from types import TracebackType
from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Tuple, Type, Union

from . import _common, errors
from ._calls import Call, Request, Subscription
from ._channel import LONGEST_WAIT, Channel, SocketChannel
from ._common import DEFAULT, Payload, Target, Timeout, as_bytes, check_type, left, no_reply
from ._endpoint import SAME_USER
from ._events import Event
from ._frames import NOTIFY, PING, REQUEST, Limits, Server
from ._reconnect import Reconnect
from ._session import Session, Turn
from ._token import Token

log = logging.getLogger("sidewire")

Handler = Callable[[Request], Optional[Payload]]


class Client:
    """A connection to a server, made when this is.

    All threads of a program may use one client at the same time, and need no lock for it: their calls go over one
    connection, and no one waits for another's. A `Pending`, `Parts` or `Events` is for one thread at a time. One
    thread of the client's own reads, and one runs the handlers, if there are any. Not to be used in a forked child.

    ``endpoint``: ``local:NAME``, ``unix:/PATH``, ``abstract:NAME`` (Linux), ``tcp:HOST:PORT``, ``pipe:NAME``
    (Windows). ``access``: who may serve there, ``"same_user"`` (root and SYSTEM, too) or ``"anyone"``. ``token``:
    the key of 32 bytes, or the path of its file. ``timeout``: of each call that has no other, in seconds, ``None``
    for none. ``app``: our name and version, for the server. ``handlers``: what the server may call, by type: each
    gets a `Request` and returns the payload of the answer, or raises `Failure`; they run one after the other, and
    may call the server themselves. ``reconnect``: see `Reconnect`; without it the client is over with its connection.

    Raises `NotListening`, `Refused`, `TimedOut`, `Gone`, `ProtocolError`, and ``ValueError`` for options that can't
    be meant so.
    """

    def __init__(
        self, endpoint: str, *, access: str = SAME_USER, token: Optional[Token] = None,
        timeout: Optional[float] = 30.0, connect_timeout: float = 30.0, app: Optional[Tuple[str, str]] = None,
        handlers: Optional[Mapping[int, Handler]] = None, reconnect: Optional[Reconnect] = None,
        limits: Optional[Limits] = None,
    ) -> None:
        self._handlers = dict(handlers or {})
        self._target = Target(
            endpoint, access, token, timeout, connect_timeout, app, limits, reconnect, self._handlers
        )
        self._lock = threading.Lock()
        self._session = Session(self._target.options, threading.Event, time.monotonic())
        self._channel: Optional[Channel] = None
        self._is_broken = False  # what is written arrives nowhere; what was said before may still be read
        self._wake = threading.Event()  # while there is no channel
        self._has_work = threading.Event()
        self._is_over = False
        self._reader = threading.Thread(target=self._read, name=f"sidewire {endpoint}", daemon=True)
        self._worker: Optional[threading.Thread] = None
        if self._handlers or (reconnect is not None and reconnect.on_reconnected is not None):
            self._worker = threading.Thread(target=self._work, name=f"sidewire handlers {endpoint}", daemon=True)
            self._worker.start()
        self._reader.start()
        try:
            # Looking up a host's name may take longer than it may.
            within = self._target.options.connect_timeout + 1
            has_come = self._session.ready.wait(within)  # type: ignore[attr-defined]
        except BaseException:
            self.close()
            raise
        if not has_come:
            self.close()
            raise errors.TimedOut(f"connect to {endpoint}: no connection within {connect_timeout:g} s")
        if self._session.server is None:
            self._reader.join()
            assert self._session.closed is not None
            raise self._session.closed

    # What one may ask.

    def call(
        self, msg_type: int, payload: Payload = b"", *, timeout: Timeout = DEFAULT, idempotent: bool = False
    ) -> bytes:
        """Sends a request and waits for its reply. ``idempotent``: it may be executed twice (see `Reconnect`).

        Raises `ResultError` if the result code is not 0, `TimedOut`, `Cancelled`, `Gone`; their
        ``may_have_been_executed`` says what is known.
        """
        call = self._make(REQUEST, msg_type, payload, timeout)
        call.idempotent = idempotent
        return self._finish(self._begin(call))

    def start(self, msg_type: int, payload: Payload = b"", *, timeout: Timeout = DEFAULT) -> "Pending":
        """Sends a request, to wait for its reply later. The time limit runs from now on."""
        call = self._make(REQUEST, msg_type, payload, timeout)
        call.may_be_resent = False
        return Pending(self, self._begin(call))

    def stream(self, msg_type: int, payload: Payload = b"", *, timeout: Timeout = DEFAULT) -> "Parts":
        """A request whose reply comes in parts. The time limit is for each of them, and not for all together."""
        call = self._make(REQUEST, msg_type, payload, timeout)
        call.wants_parts, call.may_be_resent = True, False
        return Parts(self, self._begin(call), self._target.within(timeout))

    def notify(self, msg_type: int, payload: Payload = b"", *, timeout: Timeout = DEFAULT) -> None:
        """Sends what gets no answer. Whether it was executed, nobody tells. Waits if much else waits to be sent."""
        self._finish(self._begin(self._make(NOTIFY, msg_type, payload, timeout)))

    def subscribe(self, topic: int, *, timeout: Timeout = DEFAULT) -> "Events":
        """Subscribes to a topic. Raises `ResultError` with -2 or -1 if there is none of this number."""
        check_type(topic)
        with self._lock:
            within = self._target.within(timeout)
            subscription, call = self._session.subscribe(topic, within, time.monotonic())
            self._flush()
        self._finish(call)
        return Events(self, subscription)

    def ping(self, *, timeout: Timeout = DEFAULT) -> float:
        """Whether the server lives. Says how many seconds it took."""
        began = time.monotonic()
        self._finish(self._begin(self._make(PING, 0, b"", timeout)))
        return time.monotonic() - began

    def describe(self, *, timeout: Timeout = DEFAULT) -> Dict[str, Any]:
        """What the server says of its messages, as a JSON object. `ResultError` with -1 if it says nothing."""
        return _common.description(self.call(_common.DESCRIBE, timeout=timeout, idempotent=True))

    @property
    def server(self) -> Server:
        """What the server has said of itself, at the last connection."""
        assert self._session.server is not None
        return self._session.server

    @property
    def is_closed(self) -> bool:
        """Whether it is over, for good."""
        return self._session.closed is not None

    def close(self) -> None:
        """Says goodbye, for at most `Limits.linger`. All who wait get `Closed`."""
        with self._lock:
            self._session.close(time.monotonic())
            self._flush()
            self._ring()
        if threading.current_thread() is not self._reader:
            self._reader.join(self._target.options.limits.linger + 5)

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    # Callers.

    def _make(self, kind: int, msg_type: int, payload: Payload, timeout: Timeout) -> Call:
        within = self._target.within(timeout)
        return self._session.call(kind, check_type(msg_type), as_bytes(payload), within, time.monotonic())

    def _begin(self, call: Call) -> Call:
        with self._lock:
            self._session.begin(call, time.monotonic())
            self._flush()
        return call

    def _finish(self, call: Call) -> bytes:
        within = left(call.deadline)
        try:
            call.changed.wait(within)  # type: ignore[attr-defined]
        except BaseException:
            self._give_up(call, errors.Cancelled, "whoever waited for the reply was interrupted")
            raise
        if call.outcome is None:
            self._give_up(call, errors.TimedOut, "no reply in time")
        if isinstance(call.outcome, errors.SidewireError):
            raise call.outcome
        return call.outcome or b""

    def _give_up(self, call: Call, error: Type[errors.SidewireError], text: str) -> None:
        with self._lock:
            self._session.give_up(call, error, text, time.monotonic())
            self._flush()

    def _flush(self) -> None:
        """Writes what it can, holding the lock, and leaves the rest to the reader."""
        channel = self._channel
        if channel is None or self._session.connection is None:
            self._ring()
            return
        if channel.sends_anywhere:
            self._write(channel)
        connection = self._session.connection
        if connection is None or (connection.has_output and not self._is_broken):
            self._ring()

    def _write(self, channel: Channel) -> None:
        while self._session.connection is not None and not self._is_broken:
            data = self._session.connection.output()
            if not data:
                return
            try:
                count = channel.send(data)
            except OSError as error:
                log.debug("nothing more can be sent: %s", error)
                self._is_broken = True
                return
            if count == 0:
                return
            self._session.sent(count, time.monotonic())

    def _ring(self) -> None:
        """Has the reader look again."""
        self._wake.set()
        if self._channel is not None:
            self._channel.wake()

    # The reader's thread.

    def _read(self) -> None:
        try:
            while self._turn():
                pass
        except BaseException:
            log.exception("the reader of a client has failed")
            raise
        finally:
            with self._lock:
                self._session.close(time.monotonic())
                self._let_go()
                self._is_over = True
            self._has_work.set()

    def _turn(self) -> bool:
        with self._lock:
            turn = self._session.turn(time.monotonic())
            deadline = self._session.deadline()
            if turn is not Turn.USE:
                self._let_go()
            connection, channel = self._session.connection, self._channel
            wants_write = connection is not None and connection.has_output and not self._is_broken
        if turn is Turn.CONNECT:
            self._connect()
        elif turn is Turn.WAIT:
            self._wake.wait(min(left(deadline) or 0.0, LONGEST_WAIT) if deadline is not None else None)
            self._wake.clear()
        elif turn is Turn.USE and channel is not None:
            self._exchange(channel, left(deadline), wants_write)
        if self._session.inbox:
            self._has_work.set()
        return turn is not Turn.DONE

    def _exchange(self, channel: Channel, timeout: Optional[float], wants_write: bool) -> None:
        why = "the connection has ended"
        try:
            channel.wait(timeout, wants_write)
            data = channel.receive()
        except OSError as error:
            data, why = b"", f"the connection is broken: {error}"
        with self._lock:
            now = time.monotonic()
            if data:
                self._session.receive(data, now)
            elif data is not None:
                self._session.receive_end(why, now)
            self._session.tick(now)
            self._write(channel)

    def _connect(self) -> None:
        with self._lock:
            deadline = self._session.attempt(time.monotonic())
        opened = failed = None
        try:
            opened, key = self._target.connect(deadline)
        except errors.SidewireError as error:
            failed = error
        except OSError as error:
            failed = errors.NotListening(f"connect to {self._target.endpoint}: {error}")
        with self._lock:
            now = time.monotonic()
            if failed is not None or opened is None:
                self._session.attempt_failed(failed or errors.NotListening("nobody is there"), now)
                return
            self._channel = SocketChannel(opened) if isinstance(opened, socket.socket) else opened
            self._is_broken = False
            self._session.attach(key, now)
            self._write(self._channel)

    def _let_go(self) -> None:
        """Of the channel of a connection that has ended, behind its last words."""
        channel, self._channel = self._channel, None
        if channel is None:
            return
        try:
            if self._session.last_words and not self._is_broken:
                channel.send(self._session.last_words)
        except OSError as error:
            log.debug("the server did not take the last words: %s", error)
        channel.close()

    # The handlers' thread.

    def _work(self) -> None:
        while True:
            self._has_work.wait()
            with self._lock:
                request = self._session.take_request()
                if request is None:
                    self._has_work.clear()
                    if self._is_over:
                        return
            if isinstance(request, Request):
                self._serve(request)
            elif request is not None:
                self._tell(request)

    def _serve(self, request: Request) -> None:
        if request.is_cancelled:
            return
        rc, payload, is_text = _common.of_handler(lambda: self._handlers[request.type](request))
        with self._lock:
            self._session.answer(request, rc, payload, is_text, time.monotonic())
            self._flush()

    def _tell(self, reconnected: Any) -> None:
        told = self._target.options.reconnect and self._target.options.reconnect.on_reconnected
        try:
            if told:
                told(reconnected)
        except Exception:
            log.exception("on_reconnected has failed")


class Pending:
    """A call whose reply is waited for later. One that nobody needs any more is to be cancelled."""

    def __init__(self, client: Client, call: Call) -> None:
        self._client, self._call = client, call

    def wait(self) -> bytes:
        """The reply, within the call's time limit. Raises as `Client.call`."""
        return self._client._finish(self._call)

    @property
    def is_done(self) -> bool:
        """Whether `wait` would not wait."""
        return self._call.outcome is not None

    def cancel(self) -> None:
        """Asks the server to give it up. `wait` then says how it ended: mostly `Cancelled`."""
        with self._client._lock:
            self._client._session.cancel(self._call, time.monotonic())
            self._client._flush()


class Parts(Iterator[bytes]):
    """The parts of one reply, as they come. The server waits while they are not taken.

    If the call goes wrong, that is raised behind the parts that have come. ``with`` cancels what was not taken.
    """

    def __init__(self, client: Client, call: Call, timeout: Optional[float]) -> None:
        self._client, self._call, self._timeout = client, call, timeout
        self._is_over = False
        self.result: bytes = b""
        """What the last reply brought, once all parts were taken."""

    def __next__(self) -> bytes:
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        while not self._is_over:
            with self._client._lock:
                self._call.changed.clear()
                part = self._client._session.take_part(self._call, time.monotonic())
                if part is not None:
                    self._client._flush()
                    return part
                outcome = self._call.outcome
            if outcome is None:
                self._wait(deadline)
            else:
                self._end(outcome)
        raise StopIteration

    def _wait(self, deadline: Optional[float]) -> None:
        try:
            has_come = self._call.changed.wait(left(deadline))  # type: ignore[attr-defined]
        except BaseException:
            self.close()
            raise
        if not has_come:
            text = no_reply(self._timeout)
            self._client._give_up(self._call, errors.TimedOut, text)

    def _end(self, outcome: Union[bytes, errors.SidewireError]) -> None:
        self._is_over = True
        if isinstance(outcome, errors.SidewireError):
            raise outcome
        self.result = outcome

    def close(self) -> None:
        """Cancels the call, unless it has its last reply."""
        self._is_over = True
        self._client._give_up(self._call, errors.Cancelled, "nobody wanted the rest")

    def __enter__(self) -> "Parts":
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()


class Events(Iterator[Event]):
    """The events of a topic, as they come. It ends when it is unsubscribed or the client is closed, and raises what
    else ends it: `Gone`, or with `Reconnect` a server that has no such topic any more."""

    def __init__(self, client: Client, subscription: Subscription) -> None:
        self._client, self._subscription = client, subscription

    def next(self, timeout: Optional[float] = None) -> Optional[Event]:
        """The next one; ``None`` if none comes in so many seconds (0: looks only), or none will come."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._client._lock:
                self._subscription.changed.clear()
                event, end = self._subscription.take(), self._subscription.end
            if event is not None or isinstance(end, errors.Closed):
                return event
            if end is not None:
                raise end
            if not self._subscription.changed.wait(left(deadline)):  # type: ignore[attr-defined]
                return None

    def __next__(self) -> Event:
        event = self.next()
        if event is None:
            raise StopIteration
        return event

    def unsubscribe(self, *, timeout: Timeout = DEFAULT) -> None:
        """Ends it. Events that have come can still be taken."""
        client = self._client
        with client._lock:
            within = client._target.within(timeout)
            call = client._session.unsubscribe(self._subscription, within, time.monotonic())
            client._flush()
        if call is not None:
            client._finish(call)

    def __enter__(self) -> "Events":
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        try:
            self.unsubscribe()
        except errors.SidewireError as why:
            log.debug("a subscription has ended by itself: %s", why)
