"""Containers of Docker's; a private daemon is started where none runs."""

from __future__ import annotations

import asyncio
import io
import os
import sys
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from real_backend.containers import docker
from real_backend.containers.docker import DockerContainerFactory
from real_backend.containers.factory import ContainerError, ContainerSpec
from tests.real_backend.needs import needs_docker

SLEEP = "import time; print('ready', flush=True); time.sleep(60)"


def test_the_skeleton_has_nothing_but_places_to_mount_on() -> None:
    with tarfile.open(fileobj=io.BytesIO(docker.skeleton())) as archive:
        members = {each.name: each for each in archive.getmembers()}
    assert members["usr"].isdir()
    assert members["lib64"].linkname == "usr/lib64"
    assert not any(each.isfile() for each in members.values())


def test_mounts_show_python_and_the_project_and_name_nothing_twice(tmp_path: Path) -> None:
    found = docker.mounts([tmp_path])
    for needed in (Path("/usr"), Path(sys.prefix), Path(sys.base_prefix), Path(docker.__file__), tmp_path):
        assert any(needed.is_relative_to(each) for each in found)
    assert not any(a != b and a.is_relative_to(b) for a in found for b in found)


@pytest.mark.anyio
async def test_without_docker_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(ContainerError, match=r"apt-get install docker\.io"):
        await DockerContainerFactory("test", tmp_path / "docker").start()


@pytest.fixture
async def factory(tmp_path: Path) -> AsyncIterator[DockerContainerFactory]:
    made = DockerContainerFactory(f"test-{os.getpid()}", tmp_path / "docker")
    await made.start()
    try:
        yield made
    finally:
        await docker.sweep(f"test-{os.getpid()}", tmp_path / "docker")
        await made.close()


@pytest.mark.slow
@pytest.mark.docker
@needs_docker
@pytest.mark.anyio
async def test_a_container_runs_is_measured_paused_limited_and_removed(factory: DockerContainerFactory) -> None:
    container = await factory.create(ContainerSpec("c", (sys.executable, "-c", "x = b'x' * 30_000_000; " + SLEEP), 64))
    container.logs.begin(1000)
    for _ in range(1000):
        if container.logs.tail():
            break
        await asyncio.sleep(0.01)
    assert container.logs.tail() == "ready"
    assert 30 < (container.memory_mb() or 0) < 64 * 1.05
    await container.pause()
    await container.resume()
    await container.pause()
    await container.remove()
    await container.remove()
    assert container.exited.done()

    hungry = await factory.create(ContainerSpec("h", (sys.executable, "-c", "x = b'x' * 300_000_000"), 64))
    how = await hungry.exited
    assert (how.code, how.out_of_memory) == (137, True)
    await hungry.remove()

    with pytest.raises(ContainerError, match="cannot be started"):
        await factory.create(ContainerSpec("n", ("/no/such/program",), 64))


@pytest.mark.slow
@pytest.mark.docker
@needs_docker
@pytest.mark.anyio
async def test_a_sweep_removes_what_was_left_with_the_label_and_the_daemon(
    factory: DockerContainerFactory, tmp_path: Path
) -> None:
    container = await factory.create(ContainerSpec("left", (sys.executable, "-c", SLEEP), 64))
    removed = await docker.sweep(factory._platform, tmp_path / "docker")
    assert f"container tyche-{factory._platform}-left" in removed
    assert container.exited.done() or (await container.exited) is not None
    assert not (tmp_path / "docker").exists()
    assert not Path(f"/run/tyche-{factory._platform}").exists()
