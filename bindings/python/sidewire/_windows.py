"""Windows' named pipes and security descriptors, by ctypes. It imports everywhere, and works there only.

Overlapped reads and writes, each with an event ("Synchronous and Asynchronous I/O",
learn.microsoft.com/windows/win32/fileio/synchronous-and-asynchronous-i-o). All of one pipe's is done by one thread,
with whose end the system would cancel it; only `Pipe.wake` may be called by others.
"""

import ctypes
import re
import time
from ctypes import wintypes
from typing import Any, List, Optional

from . import errors

ERROR_ACCESS_DENIED, ERROR_BROKEN_PIPE, ERROR_PIPE_BUSY = 5, 109, 231
ERROR_NO_DATA, ERROR_PIPE_NOT_CONNECTED = 232, 233
ERROR_IO_INCOMPLETE, ERROR_IO_PENDING = 996, 997
_ENDS = (ERROR_BROKEN_PIPE, ERROR_PIPE_NOT_CONNECTED)
_INVALID_HANDLE = ctypes.c_void_p(-1).value
_INFINITE, _BUFFER = 0xFFFFFFFF, 64 * 1024

# FILE_GENERIC_READ and FILE_GENERIC_WRITE without FILE_CREATE_PIPE_INSTANCE, which servers grant to nobody else
# ("Named Pipe Security and Access Rights",
# learn.microsoft.com/windows/win32/ipc/named-pipe-security-and-access-rights).
_CLIENT_ACCESS = 0x0012_019B
_OPEN_EXISTING = 3
_FILE_FLAG_OVERLAPPED = 0x4000_0000
_SECURITY_SQOS_PRESENT, _SECURITY_IDENTIFICATION = 0x0010_0000, 0x0001_0000
_TOKEN_QUERY, _TOKEN_USER = 8, 1
_SE_FILE_OBJECT, _SE_KERNEL_OBJECT = 1, 6
_OWNER, _DACL = 1, 4
_SYSTEM, _ADMINISTRATORS = "S-1-5-18", "S-1-5-32-544"


class _Overlapped(ctypes.Structure):
    _fields_ = [
        ("Internal", ctypes.c_size_t),
        ("InternalHigh", ctypes.c_size_t),
        ("Offset", wintypes.DWORD),
        ("OffsetHigh", wintypes.DWORD),
        ("hEvent", wintypes.HANDLE),
    ]


def _library(name: str) -> Any:
    return getattr(ctypes, "WinDLL")(name, use_last_error=True)


def _last_error() -> int:
    return int(getattr(ctypes, "get_last_error")())


def _error(code: int) -> OSError:
    made: OSError = getattr(ctypes, "WinError")(code)
    return made


class _System:
    """The functions that are used here, with their types."""

    def __init__(self) -> None:
        handle, dword, flag, pointer = wintypes.HANDLE, wintypes.DWORD, wintypes.BOOL, ctypes.c_void_p
        self.kernel, self.advapi = _library("kernel32"), _library("advapi32")
        text = wintypes.LPCWSTR
        for library, name, result, arguments in (
            (self.kernel, "CreateFileW", handle, [text, dword, dword, pointer, dword, dword, handle]),
            (self.kernel, "WaitNamedPipeW", flag, [text, dword]),
            (self.kernel, "CreateEventW", handle, [pointer, flag, flag, text]),
            (self.kernel, "SetEvent", flag, [handle]),
            (self.kernel, "WaitForMultipleObjects", dword, [dword, pointer, flag, dword]),
            (self.kernel, "ReadFile", flag, [handle, pointer, dword, pointer, pointer]),
            (self.kernel, "WriteFile", flag, [handle, pointer, dword, pointer, pointer]),
            (self.kernel, "GetOverlappedResult", flag, [handle, pointer, pointer, flag]),
            (self.kernel, "CancelIoEx", flag, [handle, pointer]),
            (self.kernel, "CloseHandle", flag, [handle]),
            (self.kernel, "GetCurrentProcess", handle, []),
            (self.kernel, "LocalFree", pointer, [pointer]),
            (self.advapi, "OpenProcessToken", flag, [handle, dword, pointer]),
            (self.advapi, "GetTokenInformation", flag, [handle, dword, pointer, dword, pointer]),
            (self.advapi, "ConvertSidToStringSidW", flag, [pointer, pointer]),
            (self.advapi, "GetSecurityInfo", dword, [handle, dword, dword] + [pointer] * 5),
            (
                self.advapi, "ConvertSecurityDescriptorToStringSecurityDescriptorW", flag,
                [pointer, dword, dword, pointer, pointer],
            ),
        ):
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments


_loaded: Optional[_System] = None


def _system() -> _System:
    global _loaded
    if _loaded is None:
        _loaded = _System()
    return _loaded


def open_endpoint(scheme: str, name: str, only_us: bool, deadline: float) -> "Pipe":
    """The client's end of a pipe, whose server was looked at if it is to be one of us."""
    full = f"sidewire-{own_sid()}-{name}" if scheme == "local" else name
    path = f"\\\\.\\pipe\\{full}"
    handle = _open(path, f"{scheme}:{name}", deadline)
    try:
        if only_us:
            refuse_others(_owner(handle))
        return Pipe(handle)
    except BaseException:
        _system().kernel.CloseHandle(handle)
        raise


def _open(path: str, endpoint: str, deadline: float) -> int:
    """Waits while all instances are busy. A pipe that is not there is an error at once.

    "Named Pipe Client", learn.microsoft.com/windows/win32/ipc/named-pipe-client; whoever serves may learn who we are,
    and not act on our behalf ("Impersonating a Named Pipe Client", …/impersonating-a-named-pipe-client).
    """
    kernel = _system().kernel
    how = _FILE_FLAG_OVERLAPPED | _SECURITY_SQOS_PRESENT | _SECURITY_IDENTIFICATION
    while True:
        handle = kernel.CreateFileW(path, _CLIENT_ACCESS, 0, None, _OPEN_EXISTING, how, None)
        if handle is not None and handle != _INVALID_HANDLE:
            return int(handle)
        code = _last_error()
        if code == ERROR_ACCESS_DENIED:
            raise errors.Refused(f"connect to {endpoint}: {_error(code)}", rc=errors.NOT_PERMITTED)
        if code != ERROR_PIPE_BUSY:
            raise errors.NotListening(f"connect to {endpoint}: {_error(code)}")
        left = deadline - time.monotonic()
        if left <= 0:
            raise errors.TimedOut(f"connect to {endpoint}: the server is busy, and the time limit has passed")
        # Whether one is free by now, opening it tells: somebody else may be faster. 0 would be the server's default.
        kernel.WaitNamedPipeW(path, max(1, min(int(left * 1000), 1000)))


class Pipe:
    """An open pipe, as `SocketChannel` is an open socket."""

    sends_anywhere = False

    def __init__(self, handle: int) -> None:
        self._kernel = _system().kernel
        self._handle = handle
        self._bell = self._event(False)
        self._reading, self._writing = _Overlapped(), _Overlapped()
        self._reading.hEvent, self._writing.hEvent = self._event(True), self._event(True)
        self._input = ctypes.create_string_buffer(_BUFFER)
        self._output: Any = None  # what is under way has to stay where it is
        self._has_begun = False
        self._has_ended = False
        self._is_open = True

    def _event(self, is_manual: bool) -> int:
        event = self._kernel.CreateEventW(None, is_manual, False, None)
        if not event:
            raise _error(_last_error())
        return int(event)

    def wait(self, timeout: Optional[float], wants_write: bool) -> None:
        if not self._has_begun:
            self._begin_reading()
        if self._has_ended or (wants_write and self._output is None):
            return
        events = [self._reading.hEvent, self._bell] + ([self._writing.hEvent] if wants_write else [])
        millis = _INFINITE if timeout is None else int(min(timeout, 3600.0) * 1000) + 1
        self._kernel.WaitForMultipleObjects(len(events), (wintypes.HANDLE * len(events))(*events), False, millis)

    def _begin_reading(self) -> None:
        self._has_begun = True
        if not self._kernel.ReadFile(
            self._handle, self._input, _BUFFER, None, ctypes.byref(self._reading)
        ) and _last_error() != ERROR_IO_PENDING:
            self._end(_last_error())

    def receive(self) -> Optional[bytes]:
        if self._has_ended:
            return b""
        if not self._has_begun:
            return None
        count = self._result(self._reading)
        if self._has_ended:
            return b""
        if count is None:
            return None
        data = self._input.raw[:count]
        self._begin_reading()
        return data or None  # somebody may write nothing, which is no end

    def send(self, data: bytes) -> int:
        """One write is under way at a time, of at most 64 KiB."""
        if self._output is not None:
            if self._result(self._writing) is None and not self._has_ended:
                return 0
            self._output = None
        if self._has_ended:
            raise BrokenPipeError("the pipe has ended")
        data = data[:_BUFFER]
        if not data:
            return 0
        self._output = ctypes.create_string_buffer(data, len(data))
        if not self._kernel.WriteFile(
            self._handle, self._output, len(data), None, ctypes.byref(self._writing)
        ) and _last_error() != ERROR_IO_PENDING:
            code, self._output = _last_error(), None
            raise _error(code)
        return len(data)

    def _result(self, operation: _Overlapped) -> Optional[int]:
        """How many bytes, if it is complete ("GetOverlappedResult function",
        learn.microsoft.com/windows/win32/api/ioapiset/nf-ioapiset-getoverlappedresult)."""
        count = wintypes.DWORD()
        if self._kernel.GetOverlappedResult(self._handle, ctypes.byref(operation), ctypes.byref(count), False):
            return count.value
        code = _last_error()
        if code != ERROR_IO_INCOMPLETE:
            self._end(code)
        return None

    def _end(self, code: int) -> None:
        self._has_ended = True
        if code not in _ENDS and code != ERROR_NO_DATA:
            raise _error(code)

    def wake(self) -> None:
        if self._is_open:
            self._kernel.SetEvent(self._bell)

    def close(self) -> None:
        """Lets what is being written arrive, for at most a second."""
        if not self._is_open:
            return
        self._is_open = False
        if self._output is not None and not self._has_ended:
            event = (wintypes.HANDLE * 1)(self._writing.hEvent)
            self._kernel.WaitForMultipleObjects(1, event, False, 1000)
        self._kernel.CancelIoEx(self._handle, None)
        count = wintypes.DWORD()
        # The system writes to these buffers until it says that it has done so.
        for operation, is_under_way in ((self._reading, self._has_begun), (self._writing, self._output is not None)):
            if is_under_way:
                self._kernel.GetOverlappedResult(self._handle, ctypes.byref(operation), ctypes.byref(count), True)
        for handle in (self._handle, self._bell, self._reading.hEvent, self._writing.hEvent):
            self._kernel.CloseHandle(handle)


# Who is who.


def own_sid() -> str:
    """The user of this process."""
    system = _system()
    token = wintypes.HANDLE()
    if not system.advapi.OpenProcessToken(system.kernel.GetCurrentProcess(), _TOKEN_QUERY, ctypes.byref(token)):
        raise _error(_last_error())
    try:
        needed = wintypes.DWORD()
        buffer = ctypes.create_string_buffer(256)  # a TOKEN_USER, and a SID of at most 68 bytes behind it
        if not system.advapi.GetTokenInformation(
            token, _TOKEN_USER, buffer, len(buffer), ctypes.byref(needed)
        ):
            raise _error(_last_error())
        return _sid_text(ctypes.cast(buffer, ctypes.POINTER(ctypes.c_void_p))[0])
    finally:
        system.kernel.CloseHandle(token)


def _sid_text(sid: Optional[int]) -> str:
    text = ctypes.c_void_p()
    if not sid or not _system().advapi.ConvertSidToStringSidW(sid, ctypes.byref(text)):
        raise _error(_last_error())
    try:
        return ctypes.wstring_at(text.value or 0)
    finally:
        _system().kernel.LocalFree(text)


def _owner(handle: int) -> str:
    """Who owns the pipe, and so may have set it up ("GetSecurityInfo function",
    learn.microsoft.com/windows/win32/api/aclapi/nf-aclapi-getsecurityinfo)."""
    owner, descriptor = ctypes.c_void_p(), ctypes.c_void_p()
    code = _system().advapi.GetSecurityInfo(
        handle, _SE_KERNEL_OBJECT, _OWNER, ctypes.byref(owner), None, None, None, ctypes.byref(descriptor)
    )
    if code:
        raise _error(code)
    try:
        return _sid_text(owner.value)
    finally:
        _system().kernel.LocalFree(descriptor)


def refuse_others(owner: str) -> None:
    """Our own user serves, or SYSTEM, or the Administrators group."""
    if owner not in (own_sid(), _SYSTEM, _ADMINISTRATORS):
        raise errors.Refused(
            f"the pipe belongs to {owner}, and not to this user, SYSTEM or Administrators", rc=errors.NOT_PERMITTED
        )


def who_else_may_read(descriptor: int) -> List[str]:
    """Of an open file: whom it belongs to, and whom it allows anything, apart from us, SYSTEM and Administrators."""
    import msvcrt

    security, text = ctypes.c_void_p(), ctypes.c_void_p()
    system, handle = _system(), getattr(msvcrt, "get_osfhandle")(descriptor)
    code = system.advapi.GetSecurityInfo(
        handle, _SE_FILE_OBJECT, _OWNER | _DACL, None, None, None, None, ctypes.byref(security)
    )
    if code:
        raise _error(code)
    try:
        if not system.advapi.ConvertSecurityDescriptorToStringSecurityDescriptorW(
            security, 1, _OWNER | _DACL, ctypes.byref(text), None
        ):
            raise _error(_last_error())
        try:
            return strangers(ctypes.wstring_at(text.value or 0), own_sid())
        finally:
            system.kernel.LocalFree(text)
    finally:
        system.kernel.LocalFree(security)


def strangers(text: str, us: str) -> List[str]:
    """Who else is in a descriptor's text ("Security Descriptor String Format",
    learn.microsoft.com/windows/win32/secauthz/security-descriptor-string-format). What it can't read is a stranger."""
    friends = (us, "SY", "BA", _SYSTEM, _ADMINISTRATORS)
    shape = re.fullmatch(r"O:([A-Z0-9-]+?)D:[A-Z]*((?:\([^()]*\))*)", text)
    if shape is None:
        return [text]
    owner, entries = shape.groups()
    allowed = []
    for entry in re.findall(r"\(([^()]*)\)", entries):
        fields = entry.split(";")
        if len(fields) < 6 or fields[0] not in ("D", "OD", "XD"):
            allowed.append(fields[5] if len(fields) > 5 else entry)
    return [each for each in [owner, *allowed] if each not in friends]
