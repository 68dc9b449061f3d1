"""A helper for tests, from the text of the protocol alone: it finds its channel, says hello, and answers.

Types: 1 echo, 2 the process id, 3 no answer, 4 exit with this status, 5 bytes that are no protocol,
6 close the channel and live on, 7 print the payload to standard error, 8 start a process that sleeps, and say its id.
"""
import os
import socket
import struct
import subprocess
import sys
import time

FRAME = struct.Struct("<IBBHIi")  # length, kind, flags, type, id, rc
REQUEST, REPLY, PING, PONG, GOODBYE = 1, 2, 9, 10, 12


def channel():
    """fd:NUMBER:INODE, and the number is ours only if the inode is the same."""
    scheme, number, inode = os.environ["SIDEWIRE_CHANNEL"].split(":")
    assert scheme == "fd" and os.fstat(int(number)).st_ino == int(inode)
    os.set_inheritable(int(number), False)
    return socket.socket(fileno=int(number))


def receive(stream, count):
    data = b""
    while len(data) < count:
        piece = stream.recv(count - len(data))
        if not piece:
            sys.exit(0)  # The parent has gone, or needs us no more.
        data += piece
    return data


def shake_hands(stream):
    """The child says hello first."""
    stream.sendall(struct.pack("<4sHBBIIIIII16s", b"\xd1\x53\x57\xd1", 48, 1, 1, 0, 0, 1 << 20, 512, 1 << 20, 0, b"n" * 16))
    head = receive(stream, 8)
    assert head[:4] == b"\xd1\x53\x57\xd1", head
    answer = head + receive(stream, struct.unpack_from("<H", head, 4)[0] - 8)
    assert struct.unpack_from("<i", answer, 48) == (0,), answer


def main():
    stream = channel()
    shake_hands(stream)
    last_id = 0
    while True:
        length, kind, flags, msg_type, id, rc = FRAME.unpack(receive(stream, FRAME.size))
        payload = receive(stream, length)
        if kind == PING:
            stream.sendall(FRAME.pack(0, PONG, 0, 0, id, 0))
        elif kind == GOODBYE:
            stream.sendall(FRAME.pack(0, GOODBYE, 0, 0, last_id, 0))
            sys.exit(0)
        elif kind == REQUEST:
            last_id = id
            answer = handle(stream, msg_type, payload)
            if answer is not None:
                stream.sendall(FRAME.pack(len(answer), REPLY, 0, msg_type, id, 0) + answer)


def handle(stream, msg_type, payload):
    if msg_type == 1:
        return payload
    if msg_type == 2:
        return str(os.getpid()).encode()
    if msg_type == 4:
        os._exit(int(payload))
    if msg_type == 5:
        stream.sendall(b"this is no frame, whatever you read into it: it is garbage")
    if msg_type == 6:
        stream.close()
        time.sleep(600)
    if msg_type == 7:
        print(payload.decode(), file=sys.stderr, flush=True)
        return b""
    if msg_type == 8:
        return str(subprocess.Popen(["sleep", "600"]).pid).encode()
    return None


main()
