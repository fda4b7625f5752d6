"""Fixtures for a platform in this process."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from real_backend.client import Backoff, Client, Credentials
from real_backend.containers.factory import ContainerFactory
from real_backend.containers.process import ProcessContainerFactory
from real_backend.platform.api import make_app
from real_backend.platform.config import NodeSpec, PlatformConfig
from real_backend.platform.metrics import Metrics
from real_backend.platform.service import Service
from real_backend.platform.store import Store
from real_backend.telemetry import Reading
from tests.real_backend.platform.site import ENVIRONMENT, KEY, Open, Site


@pytest.fixture
def anyio_backend() -> str:
    """Asynchronous tests run on asyncio."""
    return "asyncio"


@pytest.fixture
def open_site(tmp_path: Path) -> Open:
    """Opens a platform with a factory (real processes by default) and settings; again on the same state if need be."""

    @asynccontextmanager
    async def opened(factory: ContainerFactory | None = None, **settings: Any) -> AsyncIterator[Site]:
        settings.setdefault("nodes", (NodeSpec(name="invoker0", memory_mib=1024),))
        config = PlatformConfig(environment=ENVIRONMENT, **settings)
        chosen = factory if factory is not None else ProcessContainerFactory(f"test-{os.getpid()}")
        await chosen.start()
        metrics = Metrics()
        store = Store(tmp_path / "state.sqlite", config.keep_activations)
        service = Service(config, chosen, store, metrics.observe, "http://platform", KEY)
        metrics.watch(service)
        transport = httpx.ASGITransport(
            make_app(service, metrics, KEY, lambda: Reading(absent="no GPU in tests")), raise_app_exceptions=False
        )
        client = Client(
            Credentials(host="http://platform", key=KEY), transport=transport, backoff=Backoff(attempts=3, first_s=0.01)
        )
        user, _, password = KEY.partition(":")
        http = httpx.AsyncClient(transport=transport, base_url="http://platform/api/v1", auth=(user, password))
        service.start()
        try:
            yield Site(service, client, http)
        finally:
            await http.aclose()
            await client.close()
            await service.close()
            await chosen.close()

    return opened
