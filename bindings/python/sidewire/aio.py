"""The client for asyncio: the same options, errors and promises as `sidewire.Client`, for the tasks of one loop."""

import asyncio
import inspect
import logging
import time
from types import TracebackType
from typing import Any, AsyncIterator, Awaitable, Callable, Dict, Mapping, Optional, Set, Tuple, Type, Union

from . import _common, errors
from ._asyncio import Link, open_link
from ._calls import Call, Request, Subscription
from ._common import DEFAULT, Payload, Target, Timeout, as_bytes, check_type, left, no_reply
from ._endpoint import SAME_USER
from ._events import Event
from ._frames import NOTIFY, PING, REQUEST, Limits, Server
from ._reconnect import Reconnect, Reconnected
from ._session import Session, Turn
from ._token import Token

log = logging.getLogger("sidewire")

MOST_HANDLERS = 1024
"""At a time. What comes beyond that waits, as far as `Limits.max_in_flight_bytes` says."""

Handler = Callable[[Request], Union[Optional[Payload], Awaitable[Optional[Payload]]]]


class Client:
    """A client for the tasks of one loop, to be opened first: ``async with Client(…) as client``.

    Its options are those of `sidewire.Client`. Handlers may be ``async``: each of the server's calls gets a task of
    its own, which is cancelled when nobody waits for the answer. Whoever cancels a task cancels the call that it
    waits for.
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
        self._opened: Optional[Session] = None

    async def open(self) -> "Client":
        """Connects. Raises as `sidewire.Client`. Once."""
        if self._opened is not None:
            raise RuntimeError("this client was opened before")
        self._loop = asyncio.get_running_loop()
        self._opened = Session(self._target.options, asyncio.Event, time.monotonic())
        self._link: Optional[Link] = None
        self._timer: Optional[asyncio.TimerHandle] = None
        self._timer_at: Optional[float] = None
        self._tasks: Set["asyncio.Task[None]"] = set()
        self._serving = 0
        self._over = asyncio.Event()
        self._go_on()
        try:
            # Looking up a host's name may take longer than it may.
            await self._wait(self._session.ready, self._target.options.connect_timeout + 1)
        except BaseException:
            self._session.close(time.monotonic())
            self._go_on()
            raise
        if self._session.server is None:
            closed = self._session.closed
            await self.close()
            raise closed or errors.TimedOut(f"connect to {self._target.endpoint}: no connection in time")
        return self

    @property
    def _session(self) -> Session:
        if self._opened is None:
            raise RuntimeError("this client was not opened: async with Client(…), or await client.open()")
        return self._opened

    # What one may ask: as of `sidewire.Client`.

    async def call(
        self, msg_type: int, payload: Payload = b"", *, timeout: Timeout = DEFAULT, idempotent: bool = False
    ) -> bytes:
        """Sends a request and waits for its reply; see `sidewire.Client.call`."""
        call = self._make(REQUEST, msg_type, payload, timeout)
        call.idempotent = idempotent
        return await self._finish(self._begin(call))

    def start(self, msg_type: int, payload: Payload = b"", *, timeout: Timeout = DEFAULT) -> "Pending":
        """Sends a request, to wait for its reply later. The time limit runs from now on."""
        call = self._make(REQUEST, msg_type, payload, timeout)
        call.may_be_resent = False
        return Pending(self, self._begin(call))

    def stream(self, msg_type: int, payload: Payload = b"", *, timeout: Timeout = DEFAULT) -> "Parts":
        """A request whose reply comes in parts. The time limit is for each of them."""
        call = self._make(REQUEST, msg_type, payload, timeout)
        call.wants_parts, call.may_be_resent = True, False
        return Parts(self, self._begin(call), self._target.within(timeout))

    async def notify(self, msg_type: int, payload: Payload = b"", *, timeout: Timeout = DEFAULT) -> None:
        """Sends what gets no answer."""
        await self._finish(self._begin(self._make(NOTIFY, msg_type, payload, timeout)))

    async def subscribe(self, topic: int, *, timeout: Timeout = DEFAULT) -> "Events":
        """Subscribes to a topic."""
        check_type(topic)
        subscription, call = self._session.subscribe(topic, self._target.within(timeout), time.monotonic())
        self._go_on()
        await self._finish(call)
        return Events(self, subscription)

    async def ping(self, *, timeout: Timeout = DEFAULT) -> float:
        """Whether the server lives. Says how many seconds it took."""
        began = time.monotonic()
        await self._finish(self._begin(self._make(PING, 0, b"", timeout)))
        return time.monotonic() - began

    async def describe(self, *, timeout: Timeout = DEFAULT) -> Dict[str, Any]:
        """What the server says of its messages, as a JSON object."""
        return _common.description(await self.call(_common.DESCRIBE, timeout=timeout, idempotent=True))

    @property
    def server(self) -> Server:
        """What the server has said of itself, at the last connection."""
        assert self._session.server is not None
        return self._session.server

    @property
    def is_closed(self) -> bool:
        """Whether it is over, for good."""
        return self._session.closed is not None

    async def close(self) -> None:
        """Says goodbye, for at most `Limits.linger`. All who wait get `Closed`."""
        if self._opened is None:
            return
        self._session.close(time.monotonic())
        self._go_on()
        try:
            await asyncio.wait_for(self._over.wait(), self._target.options.limits.linger + 5)
        except asyncio.TimeoutError:
            log.debug("an attempt to connect is still under way")
        mine = asyncio.current_task()
        for task in [task for task in self._tasks if task is not mine]:
            task.cancel()

    async def __aenter__(self) -> "Client":
        return await self.open()

    async def __aexit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        await self.close()

    # Callers.

    def _make(self, kind: int, msg_type: int, payload: Payload, timeout: Timeout) -> Call:
        within = self._target.within(timeout)
        return self._session.call(kind, check_type(msg_type), as_bytes(payload), within, time.monotonic())

    def _begin(self, call: Call) -> Call:
        self._session.begin(call, time.monotonic())
        self._go_on()
        return call

    async def _finish(self, call: Call) -> bytes:
        try:
            await self._wait(call.changed, left(call.deadline))
        except BaseException:
            self._give_up(call, errors.Cancelled, "whoever waited for the reply was cancelled")
            raise
        if call.outcome is None:
            self._give_up(call, errors.TimedOut, "no reply in time")
        if isinstance(call.outcome, errors.SidewireError):
            raise call.outcome
        return call.outcome or b""

    async def _wait(self, changed: Any, timeout: Optional[float]) -> None:
        """Until it is set, or the time is over: then it is set, too."""
        timer = None if timeout is None else self._loop.call_later(timeout, changed.set)
        try:
            await changed.wait()
        finally:
            if timer is not None:
                timer.cancel()

    def _give_up(self, call: Call, error: Type[errors.SidewireError], text: str) -> None:
        self._session.give_up(call, error, text, time.monotonic())
        self._go_on()

    # The loop's part.

    def _go_on(self) -> None:
        """Behind all that has happened: writes, connects, serves, and sets the clock."""
        session, now = self._session, time.monotonic()
        if self._link is not None:
            self._link.write(session)
        if session.connection is None and self._link is not None:
            self._link.close(session.last_words)
            self._link = None
        turn = session.turn(now)
        if turn is Turn.CONNECT:
            deadline = session.attempt(now)
            self._spawn(self._connect(deadline))
        elif turn is Turn.DONE:
            self._over.set()
        while self._serving < MOST_HANDLERS:
            request = session.take_request()
            if request is None:
                break
            self._serving += 1
            self._spawn(self._handle(request))
        self._set_clock(session.deadline(), now)

    def _spawn(self, what: Any) -> None:
        task = self._loop.create_task(what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _set_clock(self, deadline: Optional[float], now: float) -> None:
        if deadline == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, deadline
        if deadline is not None:
            self._timer = self._loop.call_later(max(0.0, deadline - now), self._time_is_up)

    def _time_is_up(self) -> None:
        self._timer, self._timer_at = None, None
        self._session.tick(time.monotonic())
        self._go_on()

    async def _connect(self, deadline: float) -> None:
        session = self._session
        try:
            link, key = await open_link(self._target, deadline)
        except errors.SidewireError as error:
            session.attempt_failed(error, time.monotonic())
        except OSError as error:
            failed = errors.NotListening(f"connect to {self._target.endpoint}: {error}")
            session.attempt_failed(failed, time.monotonic())
        except asyncio.CancelledError:
            session.attempt_failed(errors.Closed("the attempt was cancelled"), time.monotonic())
            raise
        else:
            session.attach(key, time.monotonic())
            self._link = link
            link.begin(self)
        finally:
            self._go_on()

    def received(self, link: Link, data: bytes) -> None:
        """Of the link."""
        if link is self._link:
            self._session.receive(data, time.monotonic())
            self._go_on()

    def ended(self, link: Link, why: str) -> None:
        """The same: nothing more comes."""
        if link is self._link:
            self._session.receive_end(why, time.monotonic())
            self._go_on()

    def writable(self, link: Link) -> None:
        """The same: what was written has left."""
        if link is self._link:
            self._go_on()

    # Handlers.

    async def _handle(self, what: Union[Request, Reconnected]) -> None:
        try:
            await (self._serve(what) if isinstance(what, Request) else self._tell(what))
        finally:
            self._serving -= 1
            self._go_on()

    async def _serve(self, request: Request) -> None:
        if request.is_cancelled:
            return
        task = asyncio.current_task()
        assert task is not None
        request.on_withdrawn = task.cancel
        try:
            answer = self._handlers[request.type](request)
            if inspect.isawaitable(answer):
                answer = await answer
            said = (0, b"" if answer is None else as_bytes(answer), False)
        except asyncio.CancelledError as error:
            if request.is_cancelled or self.is_closed:
                raise
            said = _common.of_error(error)  # it has cancelled itself
        except Exception as error:
            said = _common.of_error(error)
        request.on_withdrawn = None
        self._session.answer(request, *said, time.monotonic())

    async def _tell(self, reconnected: Reconnected) -> None:
        told = self._target.options.reconnect and self._target.options.reconnect.on_reconnected
        try:
            answer = told(reconnected) if told else None
            if inspect.isawaitable(answer):
                await answer
        except Exception:
            log.exception("on_reconnected has failed")


class Pending:
    """A call whose reply is waited for later. One that nobody needs any more is to be cancelled."""

    def __init__(self, client: Client, call: Call) -> None:
        self._client, self._call = client, call

    async def wait(self) -> bytes:
        """The reply, within the call's time limit."""
        return await self._client._finish(self._call)

    @property
    def is_done(self) -> bool:
        """Whether `wait` would not wait."""
        return self._call.outcome is not None

    def cancel(self) -> None:
        """Asks the server to give it up. `wait` then says how it ended: mostly `Cancelled`."""
        self._client._session.cancel(self._call, time.monotonic())
        self._client._go_on()


class Parts(AsyncIterator[bytes]):
    """The parts of one reply, as they come; see `sidewire.Parts`."""

    def __init__(self, client: Client, call: Call, timeout: Optional[float]) -> None:
        self._client, self._call, self._timeout = client, call, timeout
        self._is_over = False
        self.result: bytes = b""

    async def __anext__(self) -> bytes:
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        while not self._is_over:
            self._call.changed.clear()
            part = self._client._session.take_part(self._call, time.monotonic())
            if part is not None:
                self._client._go_on()
                return part
            outcome = self._call.outcome
            if outcome is None:
                await self._wait(deadline)
                continue
            self._is_over = True
            if isinstance(outcome, errors.SidewireError):
                raise outcome
            self.result = outcome
        raise StopAsyncIteration

    async def _wait(self, deadline: Optional[float]) -> None:
        try:
            await self._client._wait(self._call.changed, left(deadline))
        except BaseException:
            self.close()
            raise
        is_late = deadline is not None and time.monotonic() >= deadline
        if is_late and not self._call.parts and self._call.outcome is None:
            self._client._give_up(self._call, errors.TimedOut, no_reply(self._timeout))

    def close(self) -> None:
        """Cancels the call, unless it has its last reply."""
        self._is_over = True
        self._client._give_up(self._call, errors.Cancelled, "nobody wanted the rest")

    async def __aenter__(self) -> "Parts":
        return self

    async def __aexit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()


class Events(AsyncIterator[Event]):
    """The events of a topic, as they come; see `sidewire.Events`."""

    def __init__(self, client: Client, subscription: Subscription) -> None:
        self._client, self._subscription = client, subscription

    async def next(self, timeout: Optional[float] = None) -> Optional[Event]:
        """The next one; ``None`` if none comes in so many seconds, or none will come."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            self._subscription.changed.clear()
            event, end = self._subscription.take(), self._subscription.end
            if event is not None or isinstance(end, errors.Closed):
                return event
            if end is not None:
                raise end
            if deadline is not None and time.monotonic() >= deadline:
                return None
            await self._client._wait(self._subscription.changed, left(deadline))

    async def __anext__(self) -> Event:
        event = await self.next()
        if event is None:
            raise StopAsyncIteration
        return event

    async def unsubscribe(self, *, timeout: Timeout = DEFAULT) -> None:
        """Ends it. Events that have come can still be taken."""
        client = self._client
        within = client._target.within(timeout)
        call = client._session.unsubscribe(self._subscription, within, time.monotonic())
        client._go_on()
        if call is not None:
            await client._finish(call)

    async def __aenter__(self) -> "Events":
        return self

    async def __aexit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        try:
            await self.unsubscribe()
        except errors.SidewireError as why:
            log.debug("a subscription has ended by itself: %s", why)
