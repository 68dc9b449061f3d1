"""Opens many connections to a server and keeps them, each after one answered call.

usage: idle_clients.py classic|v1 PATH COUNT
Prints "ready" once all are open; ends when its standard input does.
"""
import resource
import socket
import struct
import sys

layout, path, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

if layout == "classic":
    request = struct.pack("=iii", 4, 0, 4) + b"echo"
    expected = len(request)
else:
    hello = struct.pack("<4sHBBIIIIII16s", b"\xd1\x53\x57\xd1", 48, 1, 1, 0, 0, 1 << 20, 16, 1 << 20, 0, b"n" * 16)
    call = struct.pack("<IBBHIi", 4, 1, 0, 4, 1, 0) + b"echo"
    request = hello + call
    expected = None  # the answering hello says how long it is

kept = []
for _ in range(count):
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stream.connect(path)
    stream.sendall(request)
    reply = stream.recv(4096)
    want = expected or struct.unpack_from("<H", reply, 4)[0] + len(call)
    while len(reply) < want:
        piece = stream.recv(4096)
        assert piece, f"connection {len(kept)} was closed"
        reply += piece
    assert len(reply) == want and reply.endswith(b"echo"), reply
    kept.append(stream)
print("ready", flush=True)
sys.stdin.read()
