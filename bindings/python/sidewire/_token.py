"""Keys that both sides know, and the files in which they are kept."""

import os
import stat
import sys
from typing import Optional, Union

from . import _windows, errors

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
        others = ", ".join(_windows.who_else_may_read(descriptor))
    else:
        from . import _unix

        others = _unix.who_else_may_read(found)
    if others:
        raise ValueError(f"the token file {path}: others may read or write it ({others})")
