"""Whom the platform takes for its container."""

from __future__ import annotations

import asyncio
from typing import get_args

import pytest

from real_backend.containers.factory import ContainerExit, ContainerSpec
from real_backend.containers.logs import Stream
from real_backend.platform.container_client import ContainerClient, ContainerLostError, ContainerSlowError
from tests.real_backend.platform.site import FakeContainer

pytestmark = pytest.mark.anyio


async def test_somebody_else_at_a_containers_address_is_told_nothing() -> None:
    met: list[bytes] = []

    async def stranger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.append(await reader.read(100))
        writer.close()

    server = await asyncio.start_server(stranger, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    container = FakeContainer(ContainerSpec("c", (), 128), host, port, server)
    client = ContainerClient(container, "secret", 1000)
    try:
        with pytest.raises(ContainerSlowError, match=r"does not listen after 0\.1 s"):
            await client.wait_ready(0.1)
        # an action's own words are no proof either
        container.logs.feed("stdout", b"listening on http://x\n")
        with pytest.raises(ContainerSlowError):
            await client.wait_ready(0.1)
        # the container cannot have the address that the stranger has, and ends
        container.logs.feed("stderr", b"OSError: [Errno 98] Address already in use\n")
        for stream in get_args(Stream):
            container.logs.feed(stream, b"")
        container.exited.set_result(ContainerExit(1, False))
        with pytest.raises(ContainerLostError, match=r"exit status 1: OSError: .* in use"):
            await client.wait_ready(30)
    finally:
        await client.close()
        server.close()
    assert met == []
