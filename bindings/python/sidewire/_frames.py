"""The bytes of v1: headers, hellos and what stands behind them. See PROTOCOL.md."""

import hmac
import struct
from dataclasses import dataclass
from typing import Dict, NamedTuple, Optional, Tuple

MAGIC = b"\xd1\x53\x57\xd1"
HEADER = struct.Struct("<IBBHIi")  # length, kind, flags, type, id, rc
_HELLO = struct.Struct("<4sHBBIIIIII16s")
_ANSWER = struct.Struct("<iB3s16s")
_TLV = struct.Struct("<HH")
HELLO_LEN, ANSWER_LEN, MAX_HELLO = 48, 72, 1024
MAX_NAME = 128
U32, I32 = 0xFFFF_FFFF, 0x7FFF_FFFF
MIB = 1024 * 1024

REQUEST, REPLY, NOTIFY, EVENT, SUBSCRIBE, UNSUBSCRIBE = 1, 2, 3, 4, 5, 6
CANCEL, CREDIT, PING, PONG, AUTH, GOODBYE = 7, 8, 9, 10, 11, 12
FIRST_SKIPPED = 128
MORE, EXT, TEXT = 1, 2, 4

TAG_PROOF, TAG_SOFTWARE, TAG_WHY, TAG_APP, TAG_APP_VERSION, TAG_CONTRACT = 1, 2, 3, 4, 5, 6
MUST = 0x8000
SOFTWARE = b"sidewire-python/0.1.0"


@dataclass(frozen=True)
class Limits:
    """What one connection may hold, and how long its parts may take. Sizes are in bytes, times in seconds.

    The first four are said to the server, and bind it; a server that goes beyond them ends the connection.
    """

    max_payload: int = 16 * MIB
    """Of one frame that the server sends."""
    max_in_flight: int = 4096
    """Calls of the server's that have not been answered."""
    max_in_flight_bytes: int = 64 * MIB
    """Their payloads together, and of notifies that wait for their handler."""
    stream_credit: int = 256 * 1024
    """What the parts of one reply may bring before some were taken. 0: no parts."""
    event_queue: int = MIB
    """Events of one subscription that wait to be taken. Beyond it the oldest are dropped, and counted."""
    hello_timeout: float = 5.0
    """From the first byte of the server's hello to its last."""
    partial_frame_timeout: float = 10.0
    """The same of a frame."""
    write_stall_timeout: float = 30.0
    """How long the server may take none of what waits for it."""
    linger: float = 2.0
    """How long a client that leaves waits for the server's last words."""

    def __post_init__(self) -> None:
        for name in ("max_payload", "max_in_flight", "max_in_flight_bytes", "stream_credit"):
            if not 0 <= getattr(self, name) <= U32:
                raise ValueError(f"{name} is no u32: {getattr(self, name)}")
        for name in ("event_queue", "hello_timeout", "partial_frame_timeout", "write_stall_timeout", "linger"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is less than nothing: {getattr(self, name)}")


@dataclass(frozen=True)
class Server:
    """What the server has said of itself. It is its own word."""

    app: Optional[str]
    app_version: Optional[str]
    software: Optional[str]
    contract: Optional[bytes]
    """The hash of the contract that it keeps to, 32 bytes."""
    instance: bytes
    """16 bytes, new with each start of the server."""
    max_payload: int
    max_in_flight: int
    max_in_flight_bytes: int


class Hello(NamedTuple):
    """A responder's hello, as it is on the wire."""

    status: int
    version: int
    required: int
    stream_credit: int
    server: Server
    tlvs: Dict[int, Tuple[int, bytes]]  # tag: where its value is, and that


class Malformed(Exception):
    """Bytes are not what the protocol says."""


class MustUnderstand(Exception):
    """There is a tag that must be understood, and is not."""


def our_hello(limits: Limits, nonce: bytes, app: Optional[Tuple[str, str]]) -> bytes:
    """The initiator's hello."""
    tlvs = _TLV.pack(TAG_SOFTWARE, len(SOFTWARE)) + SOFTWARE
    for tag, text in zip((TAG_APP, TAG_APP_VERSION), app or ()):
        value = text.encode()
        if len(value) > MAX_NAME:
            raise ValueError(f"an app's name and version have at most {MAX_NAME} bytes each: {text!r}")
        tlvs += _TLV.pack(tag, len(value)) + value
    bounds = (limits.max_payload, limits.max_in_flight, limits.max_in_flight_bytes, limits.stream_credit)
    return _HELLO.pack(MAGIC, HELLO_LEN + len(tlvs), 1, 1, 0, 0, *bounds, nonce) + tlvs


def hello_length(begin: bytes) -> int:
    """How long the responder's hello is, by its first 8 bytes or more."""
    length = int.from_bytes(begin[4:6], "little")
    if begin[:4] == MAGIC and ANSWER_LEN <= length <= MAX_HELLO:
        return length
    code = int.from_bytes(begin[4:8], "little", signed=True)
    if begin[:4] == MAGIC and -999 <= code <= 999:
        raise Malformed("the server knows the classic layout only")
    raise Malformed("what is there speaks something else")


def parse_hello(data: bytes) -> Hello:
    """A whole hello of the responder's."""
    (_, _, _, _, _, required, payload, calls, call_bytes, credit, _) = _HELLO.unpack_from(data)
    status, version, _, instance = _ANSWER.unpack_from(data, HELLO_LEN)
    tlvs = parse_tlvs(data, ANSWER_LEN)
    texts = {tag: value[:MAX_NAME].decode("utf-8", "replace") for tag, (_, value) in tlvs.items()}
    contract = tlvs.get(TAG_CONTRACT, (0, None))[1]
    server = Server(
        app=texts.get(TAG_APP),
        app_version=texts.get(TAG_APP_VERSION),
        software=texts.get(TAG_SOFTWARE),
        contract=contract if contract and len(contract) == 32 else None,
        instance=instance,
        max_payload=payload,
        max_in_flight=calls,
        max_in_flight_bytes=call_bytes,
    )
    return Hello(status, version, required, credit, server, tlvs)


def parse_tlvs(data: bytes, at: int) -> Dict[int, Tuple[int, bytes]]:
    """All of them from there to the end; of a tag that comes twice the last."""
    found: Dict[int, Tuple[int, bytes]] = {}
    while at < len(data):
        if len(data) - at < _TLV.size:
            raise Malformed("a TLV is cut off")
        tag, length = _TLV.unpack_from(data, at)
        at += _TLV.size
        if len(data) - at < length:
            raise Malformed("a TLV runs over the end")
        found[tag] = (at, data[at : at + length])
        at += length
    return found


def refuse_unknown(tlvs: Dict[int, Tuple[int, bytes]]) -> None:
    """None of the tags that must be understood is known here."""
    for tag in tlvs:
        if tag & MUST:
            raise MustUnderstand(f"tag {tag:#06x} must be understood, and is not")


def without_extension(payload: bytes) -> bytes:
    """The payload proper of a frame with EXT."""
    if len(payload) < 2:
        raise Malformed("an extension block without a length")
    length = int.from_bytes(payload[:2], "little")
    if len(payload) - 2 < length:
        raise Malformed("an extension block runs over the end")
    refuse_unknown(parse_tlvs(payload[2 : 2 + length], 0))
    return payload[2 + length :]


def prove(key: bytes, who: bytes, ours: bytes, theirs: bytes) -> bytes:
    """That whoever makes this knows the key."""
    return hmac.new(key, who + ours + theirs, "sha256").digest()


def is_proof(key: bytes, ours: bytes, theirs: bytes, hello: Hello) -> bool:
    """Whether the responder has proved it: its own proof counts as zeros in what it proves."""
    at, proof = hello.tlvs[TAG_PROOF]
    blank = theirs[:at] + bytes(len(proof)) + theirs[at + len(proof) :]
    return len(proof) == 32 and hmac.compare_digest(proof, prove(key, b"server", ours, blank))
