"""Plays conversations of tests/conversations/calls over the client. The README there is the contract.

usage: play.py [--asyncio] [--access ACCESS] ENDPOINT FILE...

Prints a line per file, and exits with 0 if all were right.
"""

import argparse
import asyncio
import inspect
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import sidewire  # noqa: E402
from sidewire import aio  # noqa: E402

PATIENCE = 60.0
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}
VERBS = ("call", "notify", "start", "cancel", "wait", "parts", "subscribe", "unsubscribe", "event")
WORD = re.compile(r'\s*("(?:[^"\\]|\\.)*"(?:\*[0-9]+)?|\S+)')


class Different(Exception):
    """Something else came."""


def text_of(word):
    """The bytes that a TEXT stands for."""
    body, _, times = word.rpartition('"')
    body = body[1:]

    def one(match):
        escape = match.group(0)
        return bytes([int(escape[2:], 16)]) if escape[1] == "x" else ESCAPES[escape[1]].encode()

    pieces = re.split(r"(\\x[0-9a-fA-F]{2}|\\.)", body)
    data = b"".join(
        one(re.fullmatch(r"\\.*", piece, re.S)) if piece.startswith("\\") else piece.encode() for piece in pieces
    )
    return data * int(times[1:] if times else 1)


def words_of(line):
    return WORD.findall(line)


def short(data):
    return repr(data if len(data) <= 60 else data[:60] + b"...")


def of_error(error):
    """What a library tells as an error of its own counts as the rc of the same meaning."""
    if isinstance(error, sidewire.ResultError):
        return error.rc, error.payload
    if isinstance(error, (sidewire.TimedOut, sidewire.Cancelled)):
        return error.rc, None
    raise error


async def settled(value):
    """What comes of a method of either client."""
    return await value if inspect.isawaitable(value) else value


async def outcome_of(ask):
    try:
        return 0, await settled(ask())
    except sidewire.SidewireError as error:
        return of_error(error)


def expect(what, rest, rc, payload):
    """`-> RC`, and perhaps a TEXT."""
    wanted = int(rest[0])
    if rc != wanted:
        raise Different(f"{what}: rc {rc}, not {wanted}")
    if len(rest) > 1 and payload != text_of(rest[1]):
        raise Different(f"{what}: {short(payload or b'')}, not {rest[1][:60]}")


class Player:
    def __init__(self, client):
        self.client = client
        self.started = {}
        self.events = {}

    async def play(self, line):
        verb, *words = words_of(line)
        if verb not in VERBS:
            raise ValueError(f"{verb} means nothing")
        await getattr(self, verb)(words)

    def options(self, words):
        """`timeout MS`, if it is there."""
        return {"timeout": int(words[words.index("timeout") + 1]) / 1000} if "timeout" in words else {}

    async def call(self, words):
        at = words.index("->")
        msg_type, payload = int(words[0]), text_of(words[1])
        options = self.options(words[2:at])
        rc, answer = await outcome_of(lambda: self.client.call(msg_type, payload, **options))
        expect(f"call {msg_type}", words[at + 1 :], rc, answer)

    async def notify(self, words):
        await settled(self.client.notify(int(words[0]), text_of(words[1])))

    async def start(self, words):
        name, msg_type, payload = words[0], int(words[1]), text_of(words[2])
        self.started[name] = self.client.start(msg_type, payload, **self.options(words[3:]))

    async def cancel(self, words):
        self.started[words[0]].cancel()

    async def wait(self, words):
        rc, answer = await outcome_of(self.started.pop(words[0]).wait)
        expect(f"wait {words[0]}", words[2:], rc, answer)

    async def parts(self, words):
        at = words.index("->")
        then = words.index("then")
        parts = self.client.stream(int(words[0]), text_of(words[1]))
        came = []

        async def take():
            if hasattr(parts, "__anext__"):
                async for part in parts:
                    came.append(part)
            else:
                came.extend(parts)
            return parts.result

        rc, answer = await outcome_of(take)
        wanted = [text_of(word) for word in words[at + 1 : then]]
        if came != wanted:
            raise Different(f"parts {words[0]}: {came}, not {wanted}")
        expect(f"parts {words[0]}", words[then + 1 :], rc, answer)

    async def subscribe(self, words):
        topic = int(words[0])

        async def ask():
            self.events[topic] = await settled(self.client.subscribe(topic))

        rc, _ = await outcome_of(ask)
        expect(f"subscribe {topic}", words[2:], rc, None)

    async def unsubscribe(self, words):
        topic = int(words[0])
        rc, _ = await outcome_of(self.events.pop(topic).unsubscribe)
        expect(f"unsubscribe {topic}", words[2:], rc, None)

    async def event(self, words):
        topic, wanted = int(words[0]), text_of(words[1])
        event = await settled(self.events[topic].next(PATIENCE))
        if event is None or (event.payload, event.dropped) != (wanted, 0):
            raise Different(f"event {topic}: {event}")


def read(path):
    """Its lines that mean something, with their numbers; and the handlers that it asks for."""
    lines, handlers = [], {}
    with open(path, encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, 1):
            line = line.rstrip("\n")
            words = words_of(line)
            if not words or line.startswith("#"):
                continue
            if words[0] == "serve":
                handlers[int(words[1])] = handler_of(words[2:])
            else:
                lines.append((number, line))
    return lines, handlers


def handler_of(words):
    if words == ["upper"]:
        return lambda request: request.payload.upper()
    how, rc, text = words
    assert how == "fail", how

    def fail(_request):
        raise sidewire.Failure(int(rc), text_of(text).decode())

    return fail


async def play_lines(client, lines):
    """What went wrong, and in which line."""
    player = Player(client)
    for number, line in lines:
        try:
            await player.play(line)
        except Different as error:
            return f"{number}: {error}"
        except (sidewire.SidewireError, LookupError, ValueError) as error:
            return f"{number}: {type(error).__name__}: {error}"
    return None


def play_blocking(endpoint, access, lines, handlers):
    with sidewire.Client(endpoint, access=access, handlers=handlers) as client:
        play = play_lines(client, lines)
        try:
            play.send(None)  # nothing in it ever waits for a loop
        except StopIteration as end:
            return end.value
        raise AssertionError("a blocking client was awaited")


async def play_async(endpoint, access, lines, handlers):
    async with aio.Client(endpoint, access=access, handlers=handlers) as client:
        return await play_lines(client, lines)


def play_file(options, path):
    lines, handlers = read(path)
    try:
        if options.asyncio:
            return asyncio.run(play_async(options.endpoint, options.access, lines, handlers))
        return play_blocking(options.endpoint, options.access, lines, handlers)
    except (sidewire.SidewireError, ValueError) as error:
        return f"0: {type(error).__name__}: {error}"


def main(arguments):
    parser = argparse.ArgumentParser(description="Plays conversations of calls.")
    parser.add_argument("--asyncio", action="store_true", help="with the client for asyncio")
    parser.add_argument("--access", help='"same_user" or "anyone"; the latter by itself for tcp:')
    parser.add_argument("endpoint")
    parser.add_argument("files", nargs="+")
    options = parser.parse_args(arguments)
    if options.access is None:
        options.access = "anyone" if options.endpoint.startswith("tcp:") else "same_user"
    is_right = True
    for path in options.files:
        wrong = play_file(options, path)
        name = os.path.splitext(os.path.basename(path))[0]
        print(f"{name}: ok" if wrong is None else f"{name}:{wrong}", flush=True)
        is_right = is_right and wrong is None
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
