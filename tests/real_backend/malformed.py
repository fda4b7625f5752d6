"""HTTP requests that are broken in one or a few places, and what a server owes whoever sends them."""

from __future__ import annotations

import contextlib
import json
import random
import re
import socket
from collections.abc import Iterator

import h11

VALUES = (
    *(b"0", b"-1", b"+3", b"0x10", b"1e3", b"99999999999999999999", b" ", b"\xff", b"\x00", b"7, 7", b"chunked"),
    *(b"\r\n", b"\n", b"\r", b":", b"%", b"%2f", b"%00", b"..", b"{", b"}", b"[" * 2000, b"NaN", b'"', b"\\ud800"),
)
HEADERS = (
    *(b"Content-Length: 3", b"Content-Length: -3", b"Content-Length: x", b"Content-Length: 9999999999"),
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Expect: 100-continue", b"Upgrade: websocket"),
    *(b"Connection: upgrade", b"Host: a", b"Host: b", b" folded: x", b"no colon", b"X: " + b"x" * 70_000),
    *(b"Authorization: Basic !!!", b"Content-Type: text/plain", b"X-Request-ID: \xff"),
)


def request(method: str, path: str, body: object = None, *headers: str) -> bytes:
    """A request that is in order."""
    content = b"" if body is None else json.dumps(body).encode()
    sort = () if body is None else ("Content-Type: application/json",)
    lines = (f"{method} {path} HTTP/1.1", "Host: here", *headers, *sort, f"Content-Length: {len(content)}", "", "")
    return "\r\n".join(lines).encode() + content


def broken(sound: list[bytes], count: int, seed: int) -> Iterator[bytes]:
    """``count`` broken requests; the same ones for the same seed."""
    chance = random.Random(seed)
    for _ in range(count):
        made = bytearray(chance.choice(sound))
        for _ in range(chance.choice((1, 1, 1, 2, 4))):
            place = chance.randrange(len(made) + 1)
            head = made.find(b"\r\n\r\n")
            match chance.randrange(7):
                case 0 if made:
                    made[place - 1] = chance.randrange(256)
                case 1:
                    del made[place : place + chance.choice((1, 2, 10, 1000))]
                case 2:
                    made[place:place] = chance.choice(VALUES)
                case 3:
                    made[place:place] = made[: chance.randrange(1, 60)]
                case 4 if head > 0:
                    made[head:head] = b"\r\n" + chance.choice(HEADERS)
                case 5:
                    made[place:place] = chance.randbytes(chance.choice((1, 5, 50)))
                case _ if head > 0:
                    # Something else than the length that follows.
                    made[head + 4 :] = chance.choice(VALUES) * chance.choice((0, 1, 3))
        yield bytes(made)


def owes_an_answer(sent: bytes) -> bool:
    """Whether a server that was sent this, and then the end of the stream, has to say something.

    It has to unless the request is incomplete: h11 is the judge.
    """
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(sent)
    try:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                return False
            if isinstance(event, h11.EndOfMessage):
                return True
            if event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                return False
    except h11.RemoteProtocolError:
        return True


def exchange(host: str, port: int, sent: bytes, patience_s: float = 5.0) -> bytes:
    """Send bytes and return the answer.

    The stream is ended, too, if no answer is owed, or if there is none after ``patience_s``: a server that is less
    strict than h11 waits for more.
    """
    answer = b""
    connection = socket.create_connection((host, port), timeout=patience_s)
    with connection, contextlib.suppress(ConnectionResetError, BrokenPipeError):
        connection.sendall(sent)
        if not owes_an_answer(sent) or not _readable(connection):
            connection.shutdown(socket.SHUT_WR)
        connection.settimeout(60)
        while not complete(answer) and (chunk := connection.recv(1 << 16)):
            answer += chunk
    return answer


def _readable(connection: socket.socket) -> bool:
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except TimeoutError:
        return False


def complete(answer: bytes) -> bool:
    """Whether this is a whole final answer."""
    while answer.startswith(b"HTTP/1.1 1"):
        answer = answer.partition(b"\r\n\r\n")[2]
    head, _, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    return length is not None and len(body) >= int(length[1])


def status(answer: bytes) -> int | None:
    """Status of the first final answer; None if there is none."""
    while answer.startswith(b"HTTP/1.1 1"):
        answer = answer.partition(b"\r\n\r\n")[2]
    return int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else None
