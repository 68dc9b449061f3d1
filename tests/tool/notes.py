"""Keeps notes in the server of examples/describe.rs, by what `sidewire describe ENDPOINT --json` says of it.

usage: sidewire describe ENDPOINT --json | notes.py ENDPOINT

It knows the protocol (PROTOCOL.md, and "Describing" in docs/protocol/connecting.md) and nothing of that server's
program: numbers and types are the description's. ENDPOINT is unix:/PATH or tcp:HOST:PORT. Nothing but Python's own
library is needed.
"""
import json
import socket
import struct
import sys

FRAME = struct.Struct("<IBBHIi")  # length, kind, flags, type, id, rc
REQUEST, REPLY, EVENT, SUBSCRIBE, GOODBYE = 1, 2, 4, 5, 12
TEXT = 4
DESCRIBE = 65535


class Failed(Exception):
    """The application's own error."""


class Server:
    """A connection to a server that describes itself."""

    def __init__(self, endpoint, description):
        assert description["format"] == 1, description["format"]
        self.types = description["$defs"]
        self.messages = {message["name"]: message for message in description["messages"]}
        self.events = {event["name"]: event for event in description["events"]}
        self.id = 0
        scheme, _, place = endpoint.partition(":")
        if scheme == "unix":
            self.stream = socket.socket(socket.AF_UNIX)
            self.stream.connect(place)
        else:
            host, _, port = place.rpartition(":")
            self.stream = socket.create_connection((host, int(port)))
        self.stream.settimeout(60)
        # Our hello says for which contract we were made, in tag 6.
        contract = struct.pack("<HH", 6, 32) + bytes.fromhex(description["contract"])
        hello = struct.pack("<4sHBBIIIIII16s", b"\xd1\x53\x57\xd1", 48 + len(contract), 1, 1, 0, 0, 1 << 20, 16,
                            1 << 20, 1 << 16, b"n" * 16)
        self.stream.sendall(hello + contract)
        answer = self.receive(8)
        answer += self.receive(struct.unpack_from("<H", answer, 4)[0] - 8)
        assert struct.unpack_from("<i", answer, 48)[0] == 0, "refused"

    def receive(self, count):
        data = b""
        while len(data) < count:
            piece = self.stream.recv(count - len(data))
            assert piece, "the server has gone"
            data += piece
        return data

    def take(self, wanted):
        """The next frame of this kind; others that may come are skipped."""
        while True:
            length, kind, flags, type, id, rc = FRAME.unpack(self.receive(FRAME.size))
            payload = self.receive(length)
            assert kind != GOODBYE, payload
            if kind == wanted:
                return flags, type, id, rc, payload

    def ask_bytes(self, kind, type, payload):
        self.id += 1
        self.stream.sendall(FRAME.pack(len(payload), kind, 0, type, self.id, 0) + payload)
        flags, type, id, rc, payload = self.take(REPLY)
        assert id == self.id, (id, self.id)
        return flags, rc, payload

    def ask(self, name, request):
        message = self.messages[name]
        assert message["encoding"] == "json", f"{name} is for others"
        self.check(request, message["request"])
        flags, rc, payload = self.ask_bytes(REQUEST, message["type"], json.dumps(request).encode())
        if rc > 0 and not flags & TEXT:
            error = json.loads(payload)
            self.check(error, message["error"])
            raise Failed(rc, error)
        assert rc == 0, (rc, payload)
        reply = json.loads(payload)
        self.check(reply, message["reply"])
        return reply

    def subscribe(self, name):
        flags, rc, payload = self.ask_bytes(SUBSCRIBE, self.events[name]["type"], b"")
        assert rc == 0, (rc, payload)

    def next_event(self, name):
        _, type, _, _, payload = self.take(EVENT)
        assert type == self.events[name]["type"], type
        event = json.loads(payload)
        self.check(event, self.events[name]["event"])
        return event

    def check(self, value, schema):
        """Whether the value is what the schema says, as far as this server's go."""
        if "$ref" in schema:
            schema = self.types[schema["$ref"].removeprefix("#/$defs/")]
        for choices in schema.get("oneOf"), schema.get("anyOf"):
            if choices:
                return assert_one([choice for choice in choices if self.fits(value, choice)], value, schema)
        kinds = {"object": dict, "array": list, "string": str, "integer": int, "null": type(None)}
        names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        assert any(isinstance(value, kinds[name]) for name in names), (value, schema)
        assert value in schema.get("enum", [value]), (value, schema)
        if isinstance(value, dict):
            missing = [name for name in schema.get("required", []) if name not in value]
            assert not missing, f"{missing} missing in {value}"
            for name, member in value.items():
                self.check(member, schema["properties"][name])
        if isinstance(value, list):
            for element in value:
                self.check(element, schema["items"])

    def fits(self, value, schema):
        try:
            self.check(value, schema)
            return True
        except (AssertionError, KeyError):
            return False


def assert_one(fitting, value, schema):
    assert len(fitting) == 1, (value, schema)


document = json.load(sys.stdin)
server = Server(sys.argv[1], document)
assert json.loads(server.ask_bytes(REQUEST, DESCRIBE, b"")[2]) == document, "the server says the same"
server.subscribe("Added")
number = server.ask("Add", {"text": "grüße aus Python", "tags": ["greeting"]})
added = server.next_event("Added")["note"]
assert added == {"number": number, "text": "grüße aus Python", "tags": ["greeting"]}, added
assert server.ask("Find", {"text": "Python", "tag": "greeting"})[-1] == added
assert server.ask("Find", {"text": "Python", "tag": "other"}) == []
for text, error in [("", "Empty"), ("x" * 1001, {"TooLong": {"most": 1000}})]:
    try:
        server.ask("Add", {"text": text})
        raise AssertionError("kept")
    except Failed as failed:
        assert failed.args == (1, error), failed.args
print("note", number)
