"""Loopback addresses: each container gets one of its own and listens there on OpenWhisk's port."""

from __future__ import annotations

import random
import socket
from collections.abc import Collection

PORT = 8080


def free_address(taken: Collection[str], rng: random.Random) -> str:
    """An address 127.64.0.1 to 127.127.255.254 on which nobody listens at ``PORT``.

    Raises:
        OSError: None was found.
    """
    for _ in range(100):
        number = rng.randrange(1, (1 << 22) - 1)
        address = f"127.{64 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"
        if address in taken:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, PORT))
            except OSError:
                continue
            return address
    raise OSError(f"no loopback address with a free port {PORT} was found")
