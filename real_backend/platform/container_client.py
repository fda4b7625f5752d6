"""Speaks OpenWhisk's container protocol (``/init``, ``/run``) to one container."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import httpx

from real_backend.containers.factory import Container


class ContainerLostError(Exception):
    """The container ended, or cut the connection, before it answered.

    Attributes:
        out_of_memory: Whether the kernel killed it for memory.
    """

    def __init__(self, message: str, out_of_memory: bool = False) -> None:
        super().__init__(message)
        self.out_of_memory = out_of_memory


class ContainerSlowError(Exception):
    """The container did not answer in time."""


class ContainerClient:
    """A connection to one container.

    Args:
        container: The container, running.
        secret: What its server asks of whoever calls.
        max_answer_bytes: Longest answer that is read in full.
    """

    def __init__(self, container: Container, secret: str, max_answer_bytes: int) -> None:
        self._container = container
        self._max_answer_bytes = max_answer_bytes
        # One connection: activations come one at a time.  No proxies: containers are on this machine.
        self._http = httpx.AsyncClient(
            base_url=f"http://{container.host}:{container.port}",
            headers={"Authorization": f"Bearer {secret}", "Content-Type": "application/json"},
            transport=httpx.AsyncHTTPTransport(
                verify=False, limits=httpx.Limits(max_connections=1, keepalive_expiry=None)
            ),
            timeout=None,
        )

    async def wait_ready(self, timeout_s: float) -> None:
        """Wait until the server says that it listens.

        Whether anybody answers at its address is not asked: that could be somebody else who was there first, and
        would be told the secret and the code.

        Raises:
            ContainerLostError: The container ended first.
            ContainerSlowError: It takes too long.
        """
        container = self._container
        listening = asyncio.create_task(container.logs.listening.wait())
        try:
            either: list[asyncio.Future[Any]] = [listening, container.exited]
            await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if not container.exited.done():
                if listening.done():
                    return
                raise ContainerSlowError(f"its server does not listen after {timeout_s:g} s")
        finally:
            listening.cancel()
        how = container.exited.result()
        # The streams may still hold the reason.
        await container.logs.collect(0.2)
        raise ContainerLostError(f"exit status {how.code}: {container.logs.tail()}", how.out_of_memory)

    async def post(self, path: str, body: Mapping[str, Any], timeout_s: float) -> tuple[int, bytes, int]:
        """Send a message and return the status, the answer (cut off when too long) and its full length.

        Raises:
            ContainerLostError: The container ended.
            ContainerSlowError: No answer within ``timeout_s``.
        """
        content = json.dumps(body).encode()
        try:
            async with asyncio.timeout(timeout_s):
                async with self._http.stream("POST", path, content=content) as response:
                    answer, length = bytearray(), 0
                    async for chunk in response.aiter_bytes():
                        length += len(chunk)
                        answer += chunk[: max(0, self._max_answer_bytes - len(answer))]
                    return response.status_code, bytes(answer), length
        except TimeoutError:
            raise ContainerSlowError(f"no answer to {path} within {timeout_s:g} s") from None
        except httpx.TransportError as error:
            # The exit status comes a moment after the broken connection.
            done, _ = await asyncio.wait([self._container.exited], timeout=1.0)
            memory = bool(done) and self._container.exited.result().out_of_memory
            raise ContainerLostError(f"{type(error).__name__} at {path}", memory) from error

    async def close(self) -> None:
        """Close the connection."""
        await self._http.aclose()
