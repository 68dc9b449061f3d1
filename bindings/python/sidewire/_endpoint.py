"""Endpoints, how they are opened, and whether it is the right one who serves there.

Everything here blocks, until a deadline of `time.monotonic`.
"""

import errno
import os
import re
import socket
import sys
from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, List, Optional, Tuple, Union

from . import _windows, errors
from ._deadline import left

Opened = Union[socket.socket, _windows.Pipe]

SAME_USER, ANYONE = "same_user", "anyone"
LONGEST_PATH = 107
_LOCAL_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9_-])?")
_SCHEMES = ("local", "unix", "abstract", "tcp", "pipe")


@dataclass(frozen=True)
class Endpoint:
    scheme: str
    rest: str
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        return f"{self.scheme}:{self.rest}"


def parse(text: str) -> Endpoint:
    """What is written ``scheme:rest``. ``ValueError`` says what is wrong with it."""
    scheme, colon, rest = text.partition(":")
    if not colon or scheme not in _SCHEMES:
        raise ValueError(f"{text!r} is no endpoint: local:NAME, unix:/PATH, abstract:NAME, tcp:HOST:PORT or pipe:NAME")
    if not rest or "\0" in rest:
        raise ValueError(f"{text!r} has no name, or one with a NUL")
    if scheme == "local" and not _LOCAL_NAME.fullmatch(rest):
        raise ValueError(
            f"{text!r}: a local name has 1 to 64 letters, digits, '.', '_' and '-', does not begin with '.' or '-'"
            " and does not end with '.'"
        )
    if scheme == "unix" and not rest.startswith("/"):
        raise ValueError(f"{text!r}: a path begins at the root")
    if scheme in ("unix", "abstract") and len(os.fsencode(rest)) > LONGEST_PATH:
        raise ValueError(f"{text!r}: a socket's name has at most {LONGEST_PATH} bytes")
    if scheme == "pipe" and (len(rest) > 247 or rest.startswith("\\")):
        raise ValueError(f"{text!r}: a pipe's name has at most 247 characters, and does not begin with a backslash")
    if scheme != "tcp":
        return Endpoint(scheme, rest)
    host, _, port = rest.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host or "/" in host:
        raise ValueError(f"{text!r} is not written tcp:HOST:PORT, or tcp:[ADDRESS]:PORT")
    if not host or not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r} is not written tcp:HOST:PORT")
    return Endpoint(scheme, rest, host, int(port))


def check(endpoint: Endpoint, access: str, has_token: bool) -> None:
    """Whether it can be meant so. A server that nobody can check is to be accepted by name."""
    if access not in (SAME_USER, ANYONE):
        raise ValueError(f'access is "same_user" or "anyone", not {access!r}')
    if endpoint.scheme == "tcp" and access == SAME_USER and not has_token:
        raise ValueError(f'nobody tells who serves {endpoint}: give a token, or say access="anyone"')


def connect(endpoint: Endpoint, access: str, deadline: float) -> Opened:
    """A stream to a server that access lets be one, before the first byte was sent."""
    if endpoint.scheme == "tcp":
        return _connect_tcp(endpoint, deadline)
    only_us = access == SAME_USER
    if sys.platform == "win32":
        if endpoint.scheme in ("local", "pipe"):
            return _windows.open_endpoint(endpoint.scheme, endpoint.rest, only_us, deadline)
    elif endpoint.scheme != "pipe" and (endpoint.scheme != "abstract" or sys.platform == "linux"):
        from . import _unix

        names = _unix.names(endpoint.scheme, endpoint.rest)
        return _first(endpoint, [partial(_unix.connect, name, only_us, deadline) for name in names])
    raise errors.NotListening(f"connect to {endpoint}: this system has no such endpoints")


def _first(endpoint: Endpoint, attempts: List[Callable[[], socket.socket]]) -> socket.socket:
    """The first that answers. Why not is what the last one of those says that found more than nobody."""
    why: Optional[OSError] = None
    for attempt in attempts:
        try:
            return attempt()
        except errors.SidewireError as error:
            raise type(error)(f"connect to {endpoint}: {error}", rc=error.rc) from None
        except OSError as error:
            is_absence = error.errno in (errno.ENOENT, errno.ECONNREFUSED)
            if why is None or not is_absence:
                why = error
    if isinstance(why, socket.timeout):
        raise errors.TimedOut(f"connect to {endpoint}: the time limit has passed")
    if why is not None and why.errno in (errno.EACCES, errno.EPERM):
        raise errors.Refused(f"connect to {endpoint}: {why}", rc=errors.NOT_PERMITTED)
    text = "no folder of this user's where it could be" if why is None else str(why)
    raise errors.NotListening(f"connect to {endpoint}: {text}") from why


# TCP.


def _connect_tcp(endpoint: Endpoint, deadline: float) -> socket.socket:
    try:
        found = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # the latter of a name that is none
        raise errors.NotListening(f"connect to {endpoint}: {error}") from error
    return _first(endpoint, [partial(_connect_address, entry, deadline) for entry in found])


def _connect_address(entry: Tuple[Any, ...], deadline: float) -> socket.socket:
    family, kind, protocol, _, address = entry
    peer = socket.socket(family, kind, protocol)
    try:
        peer.settimeout(left(deadline))
        peer.connect(address)
        if _is_itself(peer):
            raise ConnectionRefusedError(errno.ECONNREFUSED, "nobody listens there")
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.setblocking(False)
        return peer
    except BaseException:
        peer.close()
        raise


def _is_itself(peer: socket.socket) -> bool:
    """A port of the loopback to which nobody listens may by chance be the one that we connect from."""
    return bool(peer.getsockname() == peer.getpeername())
