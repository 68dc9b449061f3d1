"""Replays a conversation with a server that is running. The README beside this file says what it is.

usage: replay.py ENDPOINT FILE [PID]

ENDPOINT is unix:/PATH, tcp:HOST:PORT or udp:HOST:PORT; the server has to be as the file's settings
ask for. At '! stop' the process PID gets SIGTERM. Ends with status 1, and says where, if something
went differently.
"""
import os
import signal
import socket
import sys


def read(path):
    """The settings, and the steps: ('>', bytes), ('<', bytes with None for any), ('> end', None) and so on."""
    settings, steps = {}, []
    for line in open(path, encoding="utf-8"):
        who, *words = line.split(";")[0].split() or [""]
        if who in ("<", ">") and words != ["end"]:
            said = [None if word == ".." else int(word, 16) for word in words]
            if steps and steps[-1][0] == who:
                steps[-1][1].extend(said)
            else:
                steps.append((who, said))
        elif who in ("<", ">", "!"):
            steps.append((" ".join([who, *words]), None))
        elif who:
            settings[who] = " ".join(words)
    return settings, steps


def connect(endpoint):
    scheme, place = endpoint.split(":", 1)
    if scheme == "unix":
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    else:
        peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if scheme == "udp" else socket.SOCK_STREAM)
        host, port = place.rsplit(":", 1)
        place = host, int(port)
    peer.settimeout(10)
    peer.connect(place)
    return peer


def receive(peer, count, is_datagram):
    if is_datagram:
        return peer.recv(65536)
    got = b""
    while len(got) < count:
        piece = peer.recv(count - len(got))
        if not piece:
            break
        got += piece
    return got


def replay(endpoint, path, pid=None):
    _, steps = read(path)
    peer = connect(endpoint)
    for number, (what, said) in enumerate(steps, 1):
        if what == ">":
            peer.sendall(bytes(said))
        elif what == "> end":
            peer.shutdown(socket.SHUT_WR)
        elif what == "! stop":
            os.kill(int(pid), signal.SIGTERM)
        else:
            said = said or []
            got = receive(peer, len(said) or 1, peer.type == socket.SOCK_DGRAM)
            if len(got) != len(said) or any(want not in (None, have) for want, have in zip(said, got)):
                wanted = " ".join(".." if byte is None else f"{byte:02x}" for byte in said) or "the end"
                sys.exit(f"{path}, step {number}: expected {wanted}, got {got.hex(' ') or 'the end'}")
    peer.close()


if len(sys.argv) not in (3, 4):
    sys.exit(__doc__)
replay(*sys.argv[1:])
