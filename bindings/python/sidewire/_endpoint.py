"""Endpoints, how they are opened, and whether it is the right one who serves there.

Everything here blocks, until a deadline of `time.monotonic`.
"""

import errno
import os
import re
import socket
import stat
import struct
import sys
import time
from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, List, Optional, Tuple, Union

from . import _windows, errors

Opened = Union[socket.socket, _windows.Pipe]

SAME_USER, ANYONE = "same_user", "anyone"
_LONGEST_PATH = 107
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
    if scheme in ("unix", "abstract") and len(os.fsencode(rest)) > _LONGEST_PATH:
        raise ValueError(f"{text!r}: a socket's name has at most {_LONGEST_PATH} bytes")
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
    windows = sys.platform == "win32"
    if windows and endpoint.scheme in ("local", "pipe"):
        return _windows.open_endpoint(endpoint.scheme, endpoint.rest, access == SAME_USER, deadline)
    if endpoint.scheme == "tcp":
        return _connect_tcp(endpoint, deadline)
    if endpoint.scheme == "pipe" or windows or (endpoint.scheme == "abstract" and sys.platform != "linux"):
        raise errors.NotListening(f"connect to {endpoint}: this system has no such endpoints")
    names = local_paths(endpoint.rest) if endpoint.scheme == "local" else [_name(endpoint)]
    return _first(endpoint, [partial(_connect_unix, name, access, deadline) for name in names])


def _name(endpoint: Endpoint) -> bytes:
    name = os.fsencode(endpoint.rest)
    return b"\0" + name if endpoint.scheme == "abstract" else name


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
    text = "no folder of this user's where it could be" if why is None else str(why)
    raise errors.NotListening(f"connect to {endpoint}: {text}") from why


# TCP.


def _connect_tcp(endpoint: Endpoint, deadline: float) -> socket.socket:
    try:
        found = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise errors.NotListening(f"connect to {endpoint}: {error}") from error
    return _first(endpoint, [partial(_connect_address, entry, deadline) for entry in found])


def _connect_address(entry: Tuple[Any, ...], deadline: float) -> socket.socket:
    family, kind, protocol, _, address = entry
    peer = socket.socket(family, kind, protocol)
    try:
        peer.settimeout(_left(deadline))
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


# Unix sockets.


def _connect_unix(name: bytes, access: str, deadline: float) -> socket.socket:
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _connect_patiently(peer, name, deadline)
        if access == SAME_USER:
            refuse_others(server_uid(peer))
        peer.setblocking(False)
        return peer
    except BaseException:
        peer.close()
        raise


def _connect_patiently(peer: socket.socket, name: bytes, deadline: float) -> None:
    """A full backlog is told at once where a socket does not block, and nothing tells when there is room."""
    pause = 0.001
    while True:
        peer.settimeout(_left(deadline))
        try:
            peer.connect(name)
            return
        except BlockingIOError:
            time.sleep(min(pause, _left(deadline)))
            pause = min(pause * 2, 0.1)


def server_uid(peer: socket.socket) -> int:
    """The user of the process that has called listen(2)."""
    if not hasattr(socket, "SO_PEERCRED"):
        raise errors.Refused(
            'this system does not tell who serves: say access="anyone"', rc=errors.NOT_PERMITTED
        )
    credentials = struct.Struct("=iII")  # pid, uid, gid
    _, uid, _ = credentials.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size))
    return int(uid)


def refuse_others(uid: int) -> None:
    """Our own user serves, or root. The number that stands for all users without one is nobody's."""
    if uid != 0 and (uid != os.geteuid() or uid == _overflow_uid()):
        text = f"uid {uid} serves there, and not this user (uid {os.geteuid()}) or root"
        raise errors.Refused(text, rc=errors.NOT_PERMITTED)


def _overflow_uid() -> int:
    try:
        with open("/proc/sys/kernel/overflowuid", encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 65534


# local:NAME on Unix.


def local_paths(name: str) -> List[bytes]:
    """Where its socket may be, the preferred place first."""
    paths: List[bytes] = []
    for folder in _folders():
        path = os.path.join(folder, f"{name}.sock")
        if is_private(folder) and len(os.fsencode(path)) <= _LONGEST_PATH:
            target = _follow(path)
            if target is not None and os.fsencode(target) not in paths:
                paths.append(os.fsencode(target))
    return paths


def _folders() -> List[str]:
    uid = os.geteuid()
    session = os.environ.get("XDG_RUNTIME_DIR")
    # A slash at the end would have lstat follow a link.
    first = [session.rstrip("/") or "/"] if session else []
    return first + [f"/run/user/{uid}", f"/tmp/sidewire-{uid}"]


def is_private(folder: str) -> bool:
    """Whether it is this user's, and closed to everyone else."""
    if not os.path.isabs(folder):
        return False
    try:
        found = os.lstat(folder)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077


def _follow(path: str) -> Optional[str]:
    """Where a server's link leads, if that is a private folder, too; anything else as it is."""
    try:
        target = os.readlink(path)
    except OSError:
        return path
    if os.path.isabs(target) and os.path.basename(target) == os.path.basename(path):
        return target if is_private(os.path.dirname(target)) else None
    return path


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise socket.timeout("the time limit has passed")
    return left


# Tokens.


def read_token(path: str) -> bytes:
    """The key in a file that only its user reads: 32 bytes."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        with open(os.open(path, flags), "rb", buffering=0) as file:
            _refuse_token_file(path, file.fileno())
            key = file.read(33) or b""
    except FileNotFoundError as error:
        raise errors.NotListening(f"the token file {path} is not there") from error
    except OSError as error:
        raise ValueError(f"the token file {path}: {error}") from error
    if len(key) != 32:
        raise ValueError(f"the token file {path} does not hold a key of 32 bytes")
    return key


def _refuse_token_file(path: str, descriptor: int) -> None:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"the token file {path} is no file")
    if sys.platform == "win32":
        others = _windows.who_else_may_read(descriptor)
        if others:
            raise ValueError(f"the token file {path}: others may read or write it ({others})")
    elif found.st_uid not in (os.geteuid(), 0):
        raise ValueError(f"the token file {path} belongs to uid {found.st_uid}")
    elif found.st_mode & 0o077:
        raise ValueError(f"the token file {path}: others may read or write it (mode {found.st_mode & 0o777:o})")


Token = Union[bytes, str, "os.PathLike[str]"]


def key_of(token: Optional[Token]) -> Optional[bytes]:
    """The key itself, or the one in a file."""
    if token is None:
        return None
    if isinstance(token, bytes):
        if len(token) != 32:
            raise ValueError(f"a key has 32 bytes, not {len(token)}")
        return token
    return read_token(os.fspath(token))

