"""A server on standard input and output that answers each request with its payload in capitals: v1, by its page."""

import os
import struct
import sys

FRAME = struct.Struct("<IBBHIi")  # length, kind, flags, type, id, rc
MAGIC = b"\xd1\x53\x57\xd1"
REQUEST, REPLY, PING, PONG, GOODBYE = 1, 2, 9, 10, 12


def take(count):
    data = sys.stdin.buffer.read(count)
    if len(data) < count:
        sys.exit()
    return data


def put(data):
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


head = take(8)
if head[:4] != MAGIC:
    sys.exit("this is no hello")
take(struct.unpack_from("<H", head, 4)[0] - 8)
limits = (1 << 20, 16, 1 << 20, 0)  # payload, calls, their bytes, credit
hello = MAGIC + struct.pack("<HBBIIIIII", 72, 1, 1, 0, 0, *limits) + os.urandom(16)
put(hello + struct.pack("<iB3x", 0, 1) + os.urandom(16))

last = 0
while True:
    length, kind, flags, msg_type, call, rc = FRAME.unpack(take(16))
    payload = take(length)
    if kind == REQUEST:
        last = call
        put(FRAME.pack(length, REPLY, 0, msg_type, call, 0) + payload.upper())
    elif kind == PING:
        put(FRAME.pack(0, PONG, 0, 0, call, 0))
    elif kind == GOODBYE:
        put(FRAME.pack(0, GOODBYE, 0, 0, last, 0))
        sys.exit()
