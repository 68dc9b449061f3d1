"""A client of `sidewire serve` from the page of the protocol alone.

usage: page_client.py unix:/PATH | tcp:HOST:PORT
Ends with status 0 and prints a line for each ability, or with an AssertionError.
"""
import os
import socket
import struct
import sys
import time

FRAME = struct.Struct("<IBBHIi")  # length, kind, flags, type, id, rc
REQUEST, REPLY, NOTIFY, EVENT, SUBSCRIBE, UNSUBSCRIBE, CANCEL, CREDIT, PING, PONG, _, GOODBYE = range(1, 13)
MORE, TEXT = 1, 4
GET, SET, SET_AND_GET, ECHO, STATISTICS, SLEEP, COUNT, CALL_ME_BACK = range(1, 9)
CHANGED = 1
PLENTY = 1 << 20


class Connection:
    """One connection, a frame at a time: the tests say in which order things come."""

    def __init__(self, credit=PLENTY):
        scheme, place = sys.argv[1].split(":", 1)
        if scheme == "unix":
            self.stream = socket.socket(socket.AF_UNIX)
            self.stream.connect(place)
        else:
            self.stream = socket.create_connection(place.rsplit(":", 1))
        self.stream.settimeout(20)
        self.last = 0
        name = b"page_client.py"
        tlv = struct.pack("<HH", 4, len(name)) + name
        self.stream.sendall(struct.pack("<4sHBBIIIIII", b"\xd1\x53\x57\xd1", 48 + len(tlv), 1, 1, 0, 0, 1 << 20,
                                        4, 1 << 16, credit) + os.urandom(16) + tlv)
        hello = self.receive(6)
        hello += self.receive(int.from_bytes(hello[4:], "little") - 6)
        self.largest, self.calls = struct.unpack_from("<II", hello, 16)
        assert struct.unpack_from("<iB", hello, 48) == (0, 1), hello

    def receive(self, count):
        data = b""
        while len(data) < count:
            piece = self.stream.recv(count - len(data))
            assert piece, f"the end after {data}"
            data += piece
        return data

    def send(self, kind, type=0, id=0, rc=0, payload=b""):
        self.stream.sendall(FRAME.pack(len(payload), kind, 0, type, id, rc) + payload)

    def ask(self, type, payload=b"", timeout=20_000, kind=REQUEST):
        self.last = self.last + 1 if self.last < 0xFFFFFFFF else 1
        self.send(kind, type, self.last, timeout, payload)
        return self.last

    def next(self):
        length, kind, flags, type, id, rc = FRAME.unpack(self.receive(16))
        return kind, flags, type, id, rc, self.receive(length)

    def expect(self, *frame):
        got = self.next()
        # An explanation is for people.
        assert got == frame if not got[1] & TEXT else got[:5] == frame[:5], f"{got}, not {frame}"

    def call(self, type, payload=b"", kind=REQUEST):
        id = self.ask(type, payload, kind=kind)
        got = self.next()
        assert got[0] == REPLY and got[1] & MORE == 0 and got[2:4] == (type, id), got
        return got[4], got[5]

    def leave(self):
        self.send(GOODBYE)
        self.expect(GOODBYE, 0, 0, self.last, 0, b"")
        assert self.stream.recv(1) == b""
        self.stream.close()


def calls():
    server = Connection()
    assert server.call(SET, b"one") == (0, b"")
    assert server.call(SET_AND_GET, b"two") == (0, b"one")
    assert server.call(GET) == (0, b"two")
    assert server.call(9)[0] == -2
    assert server.call(300)[0] == -1
    ids = [server.ask(ECHO, bytes([number])) for number in range(100)]
    for number, id in enumerate(ids):
        server.expect(REPLY, 0, ECHO, id, 0, bytes([number]))
    server.send(NOTIFY, SET, payload=b"three")
    assert server.call(GET) == (0, b"three")
    server.send(PING, id=5)
    server.expect(PONG, 0, 0, 5, 0, b"")
    server.leave()


def later():
    server = Connection()
    slow, quick, slower = (server.ask(SLEEP, text) for text in (b"200", b"1", b"400"))
    assert server.ask(GET) == 4
    got = [server.next() for _ in range(4)]
    assert [frame[3] for frame in got][-2:] == [slow, slower], got
    assert {frame[3]: frame[5] for frame in got if frame[2] == SLEEP} == {slow: b"200", quick: b"1", slower: b"400"}
    begin = time.monotonic()
    server.expect(REPLY, TEXT, SLEEP, server.ask(SLEEP, b"60000", timeout=100), -7, None)
    assert 0.1 <= time.monotonic() - begin < 15
    server.leave()


def cancels():
    server = Connection()
    first, second = server.ask(SLEEP, b"60000", timeout=0), server.ask(SLEEP, b"60000", timeout=0)
    server.send(CANCEL, id=second)
    server.expect(REPLY, TEXT, SLEEP, second, -8, None)
    server.send(CANCEL, id=second)  # It is over.
    server.send(CANCEL, id=77)      # It never was.
    assert server.call(GET)[0] == 0
    server.send(CANCEL, id=first)
    server.expect(REPLY, TEXT, SLEEP, first, -8, None)
    server.leave()


def parts():
    server = Connection(credit=12)
    id = server.ask(COUNT, b"200")
    taken, given = 0, 12
    while taken < 200:
        kind, flags, type, its, rc, payload = server.next()
        taken += 1
        assert (kind, flags, type, its, rc, payload) == (REPLY, MORE, COUNT, id, 0, str(taken).encode())
        given -= len(payload)
        if given <= 0 and taken < 200:
            # Nothing comes now but what else was asked for.
            other = server.ask(ECHO, b"meanwhile")
            server.expect(REPLY, 0, ECHO, other, 0, b"meanwhile")
            server.send(CREDIT, id=id, payload=struct.pack("<I", 50))
            given += 50
    server.expect(REPLY, 0, COUNT, id, 0, b"")
    server.send(CREDIT, id=id, payload=struct.pack("<I", 50))  # It is over.
    id = server.ask(COUNT, b"1000000", timeout=0)
    server.expect(REPLY, MORE, COUNT, id, 0, b"1")
    server.send(CANCEL, id=id)
    got = server.next()
    while got[1] & MORE:
        got = server.next()
    assert got[:5] == (REPLY, TEXT, COUNT, id, -8), got
    assert server.call(COUNT, b"0") == (0, b"")
    server.leave()


def events():
    server, other = Connection(), Connection()
    assert server.call(CHANGED, kind=SUBSCRIBE)[0] == 0
    assert server.call(2, kind=SUBSCRIBE)[0] == -2
    for number in range(1, 51):
        assert other.call(SET, b"value %d" % number) == (0, b"")
        server.expect(EVENT, 0, CHANGED, number, 0, b"value %d" % number)
    id = server.ask(SET, b"my own")
    server.expect(REPLY, 0, SET, id, 0, b"")
    server.expect(EVENT, 0, CHANGED, 51, 0, b"my own")
    assert server.call(CHANGED, kind=UNSUBSCRIBE)[0] == 0
    assert other.call(SET, b"unheard")[0] == 0
    assert server.call(GET) == (0, b"unheard")
    assert server.call(CHANGED, kind=SUBSCRIBE)[0] == 0
    assert other.call(SET, b"heard")[0] == 0
    server.expect(EVENT, 0, CHANGED, 1, 0, b"heard")
    server.leave()
    other.leave()


def both_ways():
    server = Connection()
    for result in (0, b"what came back"), (7, b"own"), (-2, b""):
        id = server.ask(CALL_ME_BACK, b"1234")
        kind, flags, type, its, _, payload = server.next()
        assert (kind, flags, type, payload) == (REQUEST, 0, 1234, b"ping")
        assert server.call(GET)[0] == 0
        server.send(REPLY, type, its, *result)
        got = server.next()
        assert got[:1] + got[2:5] == (REPLY, CALL_ME_BACK, id, result[0]), got
        assert result[0] != 0 or got[5] == result[1], got
    server.leave()


def errors():
    for frame, code in [
        (FRAME.pack(0, REQUEST, 0, GET, 0, 0), -4),              # an id that does not rise
        (FRAME.pack(0, 100, 0, 0, 0, 0), -4),                    # a kind that is none
        (FRAME.pack(0, REQUEST, 128, GET, 1, 0), -4),            # a flag that is none
        (FRAME.pack(0, REPLY, 0, GET, 1, 0), -4),                # a reply to nothing
        (FRAME.pack((1 << 24) + 1, REQUEST, 0, GET, 1, 0), -3),  # too large
        (FRAME.pack(0, CREDIT, 0, 0, 1, 0), -4),                 # credit without a number
    ]:
        server = Connection()
        server.stream.sendall(frame)
        got = server.next()
        assert (got[0], got[4]) == (GOODBYE, code), f"{frame}: {got}"
        assert server.stream.recv(1) == b""


for test in calls, later, cancels, parts, events, both_ways, errors:
    test()
    print(test.__name__)
