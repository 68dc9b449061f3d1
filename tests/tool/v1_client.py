"""Speaks v1 to `sidewire serve`, from the text of the protocol alone.

usage: v1_client.py unix PATH | tcp PORT
Ends with status 0 and prints a line for each conversation, or with an AssertionError.
"""
import socket
import struct
import sys

MAGIC = b"\xd1\x53\x57\xd1"
HELLO = struct.Struct("<4sHBBIIIIII16s")  # 48 bytes
ANSWER = struct.Struct("<iB3s16s")        # 24 more
FRAME = struct.Struct("<IBBHIi")          # length, kind, flags, type, id, rc
REQUEST, REPLY, NOTIFY, PING, PONG, GOODBYE = 1, 2, 3, 9, 10, 12
GET, SET, SET_AND_GET, ECHO = 1, 2, 3, 4


def connect():
    kind, place = sys.argv[1:]
    family = socket.AF_UNIX if kind == "unix" else socket.AF_INET
    stream = socket.socket(family, socket.SOCK_STREAM)
    stream.settimeout(10)
    stream.connect(place if kind == "unix" else ("127.0.0.1", int(place)))
    return stream


def receive(stream, count):
    data = b""
    while len(data) < count:
        piece = stream.recv(count - len(data))
        assert piece, f"the end after {len(data)} of {count} bytes"
        data += piece
    return data


def hello(low=1, high=1, required=0, tlvs=b""):
    return HELLO.pack(MAGIC, 48 + len(tlvs), low, high, 0, required, 1 << 20, 16, 1 << 20, 0, b"n" * 16) + tlvs


def tlv(tag, value):
    return struct.pack("<HH", tag, len(value)) + value


def take_answer(stream):
    """Returns the numbers of the hello, of its answer part, and the TLVs by tag."""
    head = receive(stream, 8)
    assert head[:4] == MAGIC, head
    length = struct.unpack_from("<H", head, 4)[0]
    assert 72 <= length <= 1024, length
    data = head + receive(stream, length - 8)
    tlvs, at = {}, 72
    while at < length:
        tag, size = struct.unpack_from("<HH", data, at)
        tlvs[tag] = data[at + 4:at + 4 + size]
        at += 4 + size
    assert at == length
    return HELLO.unpack_from(data), ANSWER.unpack_from(data, 48), tlvs


def frame(kind, type=0, id=0, rc=0, payload=b"", flags=0):
    return FRAME.pack(len(payload), kind, flags, type, id, rc) + payload


def take_frame(stream):
    length, *rest = FRAME.unpack(receive(stream, 16))
    return (*rest, receive(stream, length))


def opened():
    stream = connect()
    stream.sendall(hello())
    return stream, *take_answer(stream)


def at_end(stream):
    assert stream.recv(1) == b"", "something behind the end"
    stream.close()


def shakes_hands():
    stream, common, answer, tlvs = opened()
    magic, length, low, high, offered, required, max_payload, calls, call_bytes, credit, nonce = common
    assert (low, high) == (1, 1) and required == 0, common
    assert max_payload >= 1 << 16 and calls >= 64 and call_bytes >= max_payload, common
    status, version, zeros, instance = answer
    assert (status, version, zeros) == (0, 1, b"\0\0\0") and instance != bytes(16), answer
    assert tlvs[2].decode().startswith("sidewire"), tlvs
    stream.close()
    assert opened()[2][3] == instance, "the instance id stays while the server runs"


def pipelines():
    stream, *_ = opened()
    stream.sendall(frame(REQUEST, SET_AND_GET, 1, 0, b"from python") + frame(REQUEST, GET, 2, 5000))
    assert take_frame(stream) == (REPLY, 0, SET_AND_GET, 1, 0, b"hello, this is server!")
    assert take_frame(stream) == (REPLY, 0, GET, 2, 0, b"from python")
    stream.sendall(frame(NOTIFY, SET, 0, 0, b"hello, this is server!") + frame(REQUEST, GET, 3))
    assert take_frame(stream) == (REPLY, 0, GET, 3, 0, b"hello, this is server!")
    stream.close()


def comes_in_pieces():
    stream, *_ = opened()
    for byte in frame(REQUEST, ECHO, 7, 0, b"piecemeal"):
        stream.sendall(bytes([byte]))
    assert take_frame(stream) == (REPLY, 0, ECHO, 7, 0, b"piecemeal")
    stream.close()


def asks_behind_its_hello():
    stream = connect()
    stream.sendall(hello() + frame(REQUEST, ECHO, 1, 0, b"early"))
    take_answer(stream)
    assert take_frame(stream) == (REPLY, 0, ECHO, 1, 0, b"early")
    stream.close()


def asks_for_what_is_not_there():
    stream, *_ = opened()
    for id, (type, expected) in enumerate([(16, -1), (65535, -1), (0, -2), (15, -2)], 1):
        stream.sendall(frame(REQUEST, type, id))
        kind, flags, answered, to, rc, text = take_frame(stream)
        assert (kind, answered, to, rc) == (REPLY, type, id, expected), (type, rc)
        assert flags == (4 if text else 0) and text.decode() is not None
    stream.sendall(frame(REQUEST, ECHO, 9, -1))
    assert take_frame(stream)[3:5] == (9, -4), "a negative timeout, and the link goes on"
    stream.sendall(frame(0x80, 1, 2, 3, b"skip me") + frame(PING, 0, 77) + frame(REQUEST, ECHO, 10))
    answers = sorted([take_frame(stream), take_frame(stream)])
    assert answers == [(REPLY, 0, ECHO, 10, 0, b""), (PONG, 0, 0, 77, 0, b"")], answers
    stream.close()


def sends_too_much():
    stream, common, *_ = opened()
    stream.sendall(frame(REQUEST, ECHO, 1, 0, b"fine"))
    assert take_frame(stream) == (REPLY, 0, ECHO, 1, 0, b"fine")
    # The header alone is enough to be refused.
    stream.sendall(FRAME.pack(common[6] + 1, REQUEST, 0, ECHO, 2, 0))
    kind, flags, _, last, rc, text = take_frame(stream)
    assert (kind, last, rc) == (GOODBYE, 1, -3), (kind, last, rc, text)
    assert flags == (4 if text else 0)
    at_end(stream)


def says_goodbye():
    stream, *_ = opened()
    stream.sendall(frame(REQUEST, ECHO, 1, 0, b"last") + frame(GOODBYE))
    assert take_frame(stream) == (REPLY, 0, ECHO, 1, 0, b"last")
    kind, _, _, last, rc, _ = take_frame(stream)
    assert (kind, last, rc) == (GOODBYE, 1, 0), (kind, last, rc)
    at_end(stream)


def refused(sent, expected):
    stream = connect()
    stream.sendall(sent)
    common, (status, version, zeros, _), tlvs = take_answer(stream)
    assert (common[2], common[3]) == (1, 1)
    assert (status, version, zeros) == (expected, 0, b"\0\0\0"), (status, version)
    at_end(stream)
    return tlvs[3].decode()


def has_no_version_in_common():
    text = refused(hello(2, 5), -11)
    assert "2 to 5" in text and "1 to 1" in text, f"both ranges are named: {text}"
    refused(hello(0, 0), -11)
    stream = connect()
    stream.sendall(hello(1, 200))
    assert take_answer(stream)[1][:2] == (0, 1), "the highest that both speak"
    stream.close()


def needs_what_is_not_there():
    refused(hello(required=1 << 31), -12)
    refused(hello(tlvs=tlv(0x8000 | 900, b"x")), -12)
    stream = connect()
    stream.sendall(hello(tlvs=tlv(900, b"skip me") + tlv(2, b"python/3")))
    assert take_answer(stream)[1][:2] == (0, 1)
    stream.close()


def sends_a_broken_hello():
    for broken in [MAGIC + b"\x08\0\1\1", MAGIC + b"\xff\xff\1\1", hello(tlvs=b"\2\0\xff\0")]:
        stream = connect()
        stream.sendall(broken)
        assert take_answer(stream)[1][0] == -4
        at_end(stream)


for conversation in [
    shakes_hands, pipelines, comes_in_pieces, asks_behind_its_hello, asks_for_what_is_not_there,
    sends_too_much, says_goodbye, has_no_version_in_common, needs_what_is_not_there, sends_a_broken_hello,
]:
    conversation()
    print(conversation.__name__)
