"""Proves, and has proved, that both sides know a token, from the text of the protocol alone.

usage: token_peer.py client PORT FILE    calls the echo of `sidewire serve`
       token_peer.py server FILE         prints its port, and answers one call of `sidewire call`
Ends with status 0, or with an AssertionError.
"""
import hmac
import os
import socket
import struct
import sys

MAGIC = b"\xd1\x53\x57\xd1"
HELLO = struct.Struct("<4sHBBIIIIII16s")
ANSWER = struct.Struct("<iB3s16s")
FRAME = struct.Struct("<IBBHIi")
REQUEST, REPLY, AUTH, GOODBYE = 1, 2, 11, 12


def receive(stream, count):
    data = b""
    while len(data) < count:
        piece = stream.recv(count - len(data))
        assert piece, f"the end after {len(data)} of {count} bytes"
        data += piece
    return data


def take_hello(stream):
    head = receive(stream, 8)
    assert head[:4] == MAGIC, head
    return head + receive(stream, struct.unpack_from("<H", head, 4)[0] - 8)


def take_frame(stream):
    length, kind, flags, type, id, rc = FRAME.unpack(receive(stream, 16))
    return kind, type, id, rc, receive(stream, length)


def proof(key, who, *hellos):
    return hmac.new(key, who + b"".join(hellos), "sha256").digest()


def hello(tail=b""):
    length = 48 + len(tail)
    return HELLO.pack(MAGIC, length, 1, 1, 0, 0, 1 << 20, 16, 1 << 20, 0, os.urandom(16)) + tail


def find_proof(answer):
    at = 72
    while at < len(answer):
        tag, size = struct.unpack_from("<HH", answer, at)
        if tag == 1:
            assert size == 32
            return at + 4
        at += 4 + size
    raise AssertionError("no proof")


def client(port, file):
    key = open(file, "rb").read()
    stream = socket.create_connection(("127.0.0.1", int(port)), 10)
    ours = hello()
    stream.sendall(ours)
    answer = take_hello(stream)
    at = find_proof(answer)
    blank = answer[:at] + bytes(32) + answer[at + 32:]
    assert hmac.compare_digest(answer[at:at + 32], proof(key, b"server", ours, blank))
    auth = proof(key, b"client", ours, answer)
    request = FRAME.pack(5, REQUEST, 0, 4, 1, 0) + b"hello"
    stream.sendall(FRAME.pack(32, AUTH, 0, 0, 0, 0) + auth + request)
    assert take_frame(stream) == (REPLY, 4, 1, 0, b"hello")
    stream.sendall(FRAME.pack(0, GOODBYE, 0, 0, 0, 0))
    assert take_frame(stream)[0] == GOODBYE


def server(file):
    key = open(file, "rb").read()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(30)
    print(listener.getsockname()[1], flush=True)
    stream, _ = listener.accept()
    stream.settimeout(10)
    theirs = take_hello(stream)
    # The proof need not stand last.
    tail = ANSWER.pack(0, 1, b"", os.urandom(16)) + struct.pack("<HH", 1, 32) + bytes(32)
    tail += struct.pack("<HH", 2, 2) + b"py"
    answer = hello(tail)
    at = find_proof(answer)
    answer = answer[:at] + proof(key, b"server", theirs, answer) + answer[at + 32:]
    stream.sendall(answer)
    kind, _, _, _, payload = take_frame(stream)
    assert kind == AUTH and hmac.compare_digest(payload, proof(key, b"client", theirs, answer))
    kind, type, id, _, payload = take_frame(stream)
    assert (kind, type) == (REQUEST, 4), (kind, type)
    stream.sendall(FRAME.pack(len(payload), REPLY, 0, type, id, 0) + payload)
    while True:
        kind, *_ = take_frame(stream)
        if kind == GOODBYE:
            stream.sendall(FRAME.pack(0, GOODBYE, 0, 0, 0, 0))
            return


if sys.argv[1] == "client":
    client(*sys.argv[2:])
else:
    server(*sys.argv[2:])
print("ok")
