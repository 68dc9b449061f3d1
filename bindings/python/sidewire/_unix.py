"""Unix sockets: who serves there, and the folders in which `local:` servers are found."""

import os
import socket
import stat
import struct
import sys
import time
from typing import List, Optional

from . import errors
from ._deadline import left

assert sys.platform != "win32"

LONGEST_PATH = 107


def names(scheme: str, rest: str) -> List[bytes]:
    """By which a server's socket may go, the preferred one first."""
    if scheme == "local":
        return local_paths(rest)
    name = os.fsencode(rest)
    return [b"\0" + name if scheme == "abstract" else name]


def connect(name: bytes, only_us: bool, deadline: float) -> socket.socket:
    """To a server that is one of us, if it is to be."""
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _connect_patiently(peer, name, deadline)
        if only_us:
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
        peer.settimeout(left(deadline))
        try:
            peer.connect(name)
            return
        except BlockingIOError:
            time.sleep(min(pause, left(deadline)))
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
        if is_private(folder) and len(os.fsencode(path)) <= LONGEST_PATH:
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


def who_else_may_read(found: os.stat_result) -> str:
    """Of a file: whom it belongs to, or what its mode lets others, if that is not us or root alone."""
    if found.st_uid not in (os.geteuid(), 0):
        return f"it belongs to uid {found.st_uid}"
    return f"mode {found.st_mode & 0o777:o}" if found.st_mode & 0o077 else ""
