"""What both clients have in common: their options, and what they are given and give back."""

import json
import time
from functools import partial
from typing import Any, Callable, Dict, Iterable, Optional, Tuple, Union

from . import _endpoint, errors
from ._endpoint import Endpoint, Opened
from ._frames import Limits, our_hello
from ._reconnect import Reconnect
from ._session import Options, log
from ._token import Token, key_of

Payload = Union[bytes, bytearray, memoryview, str]
DESCRIBE = 65535
LONGEST_CONNECT = 1e6
"""Seconds: a socket takes no longer time limit than 24 days."""
FOR_EVER = 1e9
"""Seconds: the system takes no longer times."""


class Default:
    """Stands for the client's own time limit."""

    def __repr__(self) -> str:
        return "the client's timeout"


DEFAULT = Default()
Timeout = Union[float, None, Default]


class Target:
    """Whom a client connects to, and on what terms."""

    def __init__(
        self, endpoint: str, access: str, token: Optional[Token], timeout: Optional[float], connect_timeout: float,
        app: Optional[Tuple[str, str]], limits: Optional[Limits], reconnect: Optional[Reconnect], serves: Iterable[int],
    ) -> None:
        self.endpoint: Endpoint = _endpoint.parse(endpoint)
        self.access = access
        _endpoint.check(self.endpoint, access, token is not None)
        self.timeout = check_timeout(timeout)
        if not connect_timeout > 0:
            raise ValueError(f"a connect_timeout of {connect_timeout}")
        connect_timeout = min(connect_timeout, LONGEST_CONNECT)
        our_hello(Limits(), bytes(16), app)
        types = frozenset(check_type(each) for each in serves)
        self.key = partial(key_of, token)
        self.key()
        self.options = Options(limits or Limits(), app, connect_timeout, reconnect, types)

    def connect(self, deadline: float) -> Tuple[Opened, Optional[bytes]]:
        """Blocks. The stream, and the key that is to be proved there."""
        try:
            key = self.key()  # anew, since the server may have made another one
        except ValueError as error:
            raise errors.Refused(str(error)) from error
        return _endpoint.connect(self.endpoint, self.access, deadline), key

    def within(self, timeout: Timeout) -> Optional[float]:
        return self.timeout if isinstance(timeout, Default) else check_timeout(timeout)


def check_timeout(timeout: Optional[float]) -> Optional[float]:
    if timeout is not None and not timeout >= 0:
        raise ValueError(f"a time limit of {timeout} s")
    return None if timeout is None or timeout > FOR_EVER else timeout


def check_type(msg_type: int) -> int:
    if not isinstance(msg_type, int) or not 0 <= msg_type <= 65535:
        raise ValueError(f"{msg_type!r} is no type: 0 to 65535")
    return msg_type


def as_bytes(payload: Payload) -> bytes:
    """Of numbers and the like, of which `bytes` would make something, too, a `TypeError`."""
    if isinstance(payload, bytes):
        return payload
    return payload.encode() if isinstance(payload, str) else bytes(memoryview(payload))


def of_handler(ask: Callable[[], Optional[Payload]]) -> Tuple[int, bytes, bool]:
    """What comes of a handler: the rc, the payload, and whether that is a text."""
    try:
        answer = ask()
        return 0, b"" if answer is None else as_bytes(answer), False
    except BaseException as error:  # also one that would end the thread, which has others to answer
        return of_error(error)


def of_error(error: BaseException) -> Tuple[int, bytes, bool]:
    """The same of one that has failed."""
    if isinstance(error, errors.Failure):
        return error.rc, error.payload or error.text.encode(), not error.payload
    log.error("a handler has failed", exc_info=error)
    return errors.HANDLER_FAILED, b"the handler failed", True


def description(payload: bytes) -> Dict[str, Any]:
    """What a server says of itself."""
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise errors.ProtocolError(f"the server's description is no JSON: {error}") from None
    if not isinstance(document, dict) or document.get("format") != 1:
        raise errors.ProtocolError("the server's description has another format than 1")
    return document


def left(deadline: Optional[float]) -> Optional[float]:
    """Seconds from now on."""
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def no_reply(timeout: Optional[float]) -> str:
    return f"no reply within {timeout:g} s" if timeout else "no reply in time"
