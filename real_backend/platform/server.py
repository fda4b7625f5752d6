"""Runs the embedded platform: state, containers, service and HTTP server, from start to a clean end."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from real_backend.containers.factory import ContainerError, ContainerFactory
from real_backend.platform.api import make_app
from real_backend.platform.config import PlatformConfig
from real_backend.platform.metrics import Metrics
from real_backend.platform.service import Service
from real_backend.platform.state import StateFolder
from real_backend.platform.store import Store, StoreError
from real_backend.platform.sweeping import sweep
from real_backend.telemetry import Telemetry
from tyche_env.errors import UserError

_GRACE_S = 5
_KEEP_CONNECTION_S = 75
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Listen:
    """Where the server listens.

    Attributes:
        host: Address; a loopback address keeps the machine's neighbours out.
        port: Port; 0 takes a free one.
        certificate: PEM file for TLS, or None.
        private_key: PEM file of the certificate's key, or None if the certificate's file has it.
    """

    host: str = "127.0.0.1"
    port: int = 3233
    certificate: Path | None = None
    private_key: Path | None = None


class _Server(uvicorn.Server):
    """Says when it listens; on a signal ends activations first, so that no connection waits for them."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None], stopping: Callable[[], None]) -> None:
        super().__init__(config)
        self._started = started
        self._stopping = stopping

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._started()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # The original raises the signal again when the server has stopped, before containers are removed.
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._stop)
        try:
            yield
        finally:
            # What remains to be done is short, and leaves things behind when cut off.
            for number in _SIGNALS:
                loop.add_signal_handler(number, _patience)

    def _stop(self) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True
        self._stopping()


def _patience() -> None:
    logging.getLogger(__name__).warning("removing containers; please wait")


def make_factory(config: PlatformConfig, state: StateFolder) -> ContainerFactory:
    """What makes the containers that the settings name."""
    if config.containers == "docker":
        from real_backend.containers.docker import DockerContainerFactory

        return DockerContainerFactory(state.platform, state.folder / "docker", config.mounts)
    from real_backend.containers.process import ProcessContainerFactory

    return ProcessContainerFactory(state.platform)


def run(
    config: PlatformConfig, listen: Listen, state: StateFolder, announce: Callable[[str, ContainerFactory], None]
) -> None:
    """Run the platform until it is told to stop by SIGINT or SIGTERM.

    Args:
        config: Its settings.
        listen: Where it listens.
        state: Its folder.
        announce: Told its address and what makes its containers once it listens.

    Raises:
        UserError: The folder is in use, the address is taken, or such containers cannot be made here.
    """
    with state.locked():
        # Without them it must not start, and nothing may have happened by then.
        _ = state.platform, state.key
        try:
            asyncio.run(_run(config, listen, state, announce))
        except asyncio.CancelledError:
            # A signal came before the server listened.
            raise KeyboardInterrupt from None


async def _run(
    config: PlatformConfig, listen: Listen, state: StateFolder, announce: Callable[[str, ContainerFactory], None]
) -> None:
    current = asyncio.current_task()
    assert current is not None
    for number in _SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, current.cancel)
    bound = _bind(listen)
    host, port = bound.getsockname()[:2]
    scheme = "http" if listen.certificate is None else "https"
    url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    await sweep(state)
    factory = make_factory(config, state)

    def started() -> None:
        # whoever waits for the folder to name the address reads afterwards what was said
        announce(url, factory)
        state.announce(url)

    resources = ExitStack()
    try:
        await factory.start()
        telemetry = resources.enter_context(Telemetry())
        store = Store(state.database, config.keep_activations)
        metrics = Metrics()
        service = Service(config, factory, store, metrics.observe, url, state.key)
        metrics.watch(service)
        server = _Server(
            uvicorn.Config(
                make_app(service, metrics, state.key, telemetry.read),
                log_config=None,
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=_GRACE_S,
                timeout_keep_alive=_KEEP_CONNECTION_S,
                ssl_certfile=listen.certificate,
                ssl_keyfile=listen.private_key,
            ),
            started,
            service.stop,
        )
        service.start()
        try:
            await server.serve(sockets=[bound])
        finally:
            await service.close()
    except ContainerError as error:
        raise UserError(f"--containers {config.containers}: {error}") from error
    except StoreError as error:
        raise UserError(f"--state {state.folder}: {error.message}") from error
    finally:
        await factory.close()
        resources.close()
        bound.close()


def _bind(listen: Listen) -> socket.socket:
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where the protocol is named; with it, each answer takes 40 ms longer.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((listen.host, listen.port))
    except OSError as error:
        bound.close()
        raise UserError(f"--host {listen.host} --port {listen.port}: {error.strerror}; name another") from error
    return bound
