"""What goes wrong, and what is known of a request that has got no answer."""

from typing import Optional

OK = 0
UNKNOWN_TYPE = -1
NO_HANDLER = -2
TOO_LARGE = -3
MALFORMED = -4
NOT_PERMITTED = -5
BUSY = -6
TIMED_OUT = -7
CANCELLED = -8
SHUTTING_DOWN = -9
HANDLER_FAILED = -10
NO_COMMON_VERSION = -11
FEATURE_MISSING = -12

_NAMES = {
    OK: "ok",
    UNKNOWN_TYPE: "unknown type",
    NO_HANDLER: "no handler",
    TOO_LARGE: "too large",
    MALFORMED: "malformed",
    NOT_PERMITTED: "not permitted",
    BUSY: "busy",
    TIMED_OUT: "timed out",
    CANCELLED: "cancelled",
    SHUTTING_DOWN: "shutting down",
    HANDLER_FAILED: "handler failed",
    NO_COMMON_VERSION: "no common version",
    FEATURE_MISSING: "required feature missing",
}


def name_of(rc: int) -> str:
    """A result code for people: ``no handler (-2)``."""
    name = _NAMES.get(rc)
    return f"{name} ({rc})" if name else f"result code {rc}"


def printable(text: str) -> str:
    """A text of the other side's without what a terminal would obey."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


class SidewireError(Exception):
    """All that this package raises, except ``ValueError`` and ``TypeError`` for arguments that can't be meant so.

    ``rc`` is the result code that was said, or the one of the same meaning; ``None`` where there is none.
    ``may_have_been_executed`` is false if the request was certainly not executed, so that sending it again does
    nothing twice.
    """

    rc: Optional[int] = None
    may_have_been_executed: bool = False

    def __init__(self, text: str, *, rc: Optional[int] = None, may_have_been_executed: bool = False) -> None:
        super().__init__(text)
        if rc is not None:
            self.rc = rc
        self.may_have_been_executed = may_have_been_executed


class NotListening(SidewireError, ConnectionError):
    """Nobody listens at the endpoint, or it can't be reached."""


class Refused(SidewireError):
    """The server refuses the connection (``rc`` says why), or we refuse the server (-5)."""


class TimedOut(SidewireError, TimeoutError):
    """The time limit has passed, here or at the server."""

    rc = TIMED_OUT


class Cancelled(SidewireError):
    """The call was cancelled."""

    rc = CANCELLED


class Busy(SidewireError):
    """More waits here to be sent than may: 64 MiB."""

    rc = BUSY


class Gone(SidewireError, ConnectionError):
    """The connection has ended. ``rc`` is what the server's goodbye said; ``None`` if it has said none."""


class ProtocolError(SidewireError):
    """The other side speaks something else, or breaks the protocol."""

    rc = MALFORMED


class Closed(SidewireError):
    """This client was closed by its own program."""


class ResultError(SidewireError):
    """The server's answer has this result code: positive ones are the application's, negative ones Sidewire's.

    ``payload`` is what the answer brought, ``text`` the explanation, if it is one. A handler may answer with any
    code, so ``may_have_been_executed`` is true.
    """

    def __init__(self, rc: int, payload: bytes, *, is_text: bool) -> None:
        self.payload = payload
        self.text = payload.decode("utf-8", "replace") if is_text else ""
        said = f"the server answered {name_of(rc)}"
        text = f"{said}: {printable(self.text)}" if self.text else said
        super().__init__(text, rc=rc, may_have_been_executed=True)


class Failure(Exception):
    """Raised by a handler to answer with this result code (not 0), and a text or a payload of the application's."""

    def __init__(self, rc: int, text: str = "", *, payload: bytes = b"") -> None:
        if rc == 0 or not -(2**31) <= rc < 2**31:
            raise ValueError(f"{rc} is no result code of a failure")
        if text and payload:
            raise ValueError("an answer has a text or a payload, not both")
        super().__init__(text or name_of(rc))
        self.rc = rc
        self.text = text
        self.payload = payload


def of_answer(rc: int, payload: bytes, is_text: bool) -> SidewireError:
    """What a reply with a code other than 0 becomes."""
    if rc not in (TIMED_OUT, CANCELLED):
        return ResultError(rc, payload, is_text=is_text)
    text = printable(payload.decode("utf-8", "replace")) if is_text and payload else name_of(rc)
    kind = TimedOut if rc == TIMED_OUT else Cancelled
    return kind(f"the server answered: {text}", may_have_been_executed=True)
