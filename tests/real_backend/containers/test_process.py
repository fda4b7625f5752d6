"""Containers that are child processes."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from real_backend.containers import process
from real_backend.containers.factory import ContainerError, ContainerSpec
from real_backend.containers.process import ProcessContainerFactory

pytestmark = pytest.mark.anyio

SLEEP = "import time; print('ready', flush=True); time.sleep(60)"


@pytest.fixture
async def factory(tmp_path: Path) -> AsyncIterator[ProcessContainerFactory]:
    made = ProcessContainerFactory(f"test-{os.getpid()}-{tmp_path.name}")
    yield made
    await process.sweep(made._platform)


def spec(code: str, name: str = "c", **more: object) -> ContainerSpec:
    return ContainerSpec(name, (sys.executable, "-c", code), 64, **more)  # type: ignore[arg-type]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def line_of(container: process.ProcessContainer) -> str:
    """The first line that a container writes."""
    for _ in range(1000):
        if container.logs.tail():
            break
        await asyncio.sleep(0.01)
    return container.logs.tail()


async def test_a_program_gets_an_address_only_the_given_variables_and_a_label(factory: ProcessContainerFactory) -> None:
    await factory.start()
    code = "import os; print(sorted(os.environ))"
    container = await factory.create(spec(code, environment={"A": "1", "PYTHONCOERCECLOCALE": "0"}, gpus=("3",)))
    assert (await container.exited).code == 0
    variables = await line_of(container)
    assert "HOME" not in variables
    assert {"A", "CUDA_VISIBLE_DEVICES", "TYCHE_PLATFORM"} <= set(re.findall(r"\w+", variables))
    assert container.host.startswith("127.")
    await container.remove()


async def test_containers_have_addresses_of_their_own(factory: ProcessContainerFactory) -> None:
    await factory.start()
    both = [await factory.create(spec(SLEEP, name)) for name in ("a", "b")]
    assert both[0].host != both[1].host
    for each in both:
        await each.remove()


async def test_a_paused_container_does_not_run_until_it_is_resumed(factory: ProcessContainerFactory) -> None:
    await factory.start()
    code = "import time\nfor k in range(6000):\n    print(k, flush=True)\n    time.sleep(0.01)\n"
    container = await factory.create(spec(code))
    await line_of(container)
    await container.pause()
    before = ""
    async with asyncio.timeout(60):
        while container.logs.tail() != before:  # what it wrote before may still be on its way
            before = container.logs.tail()
            await asyncio.sleep(0.2)
    await container.resume()
    for _ in range(1000):
        if container.logs.tail() != before:
            break
        await asyncio.sleep(0.01)
    assert container.logs.tail() != before
    await container.remove()


async def test_removal_takes_descendants_along_even_from_a_pause(factory: ProcessContainerFactory) -> None:
    await factory.start()
    quiet = "import time; time.sleep(60)"
    code = f"import subprocess, sys, time\nprint(subprocess.Popen([sys.executable, '-c', {quiet!r}]).pid, flush=True)\n"
    container = await factory.create(spec(code + "time.sleep(60)"))
    child = int(await line_of(container))
    await container.pause()
    await container.remove()
    await container.remove()
    assert (await container.exited).code == -9
    for _ in range(500):
        if not alive(child):
            break
        await asyncio.sleep(0.01)
    assert not alive(child)
    assert await process.sweep(factory._platform) == []


async def test_too_much_memory_is_told_from_other_ends(factory: ProcessContainerFactory) -> None:
    await factory.start()
    if "not enforced" in factory.notes[0]:
        pytest.skip(factory.notes[0])
    container = await factory.create(spec("x = b'x' * 300_000_000"))
    assert (await container.exited).out_of_memory
    await container.remove()
    container = await factory.create(spec("import os; os.kill(os.getpid(), 9)"))
    how = await container.exited
    assert (how.code, how.out_of_memory) == (-9, False)
    await container.remove()


async def test_memory_is_measured(factory: ProcessContainerFactory) -> None:
    await factory.start()
    container = await factory.create(spec("x = b'x' * 30_000_000; " + SLEEP))
    await line_of(container)
    assert 30 < (container.memory_mb() or 0) < 64 * 1.05
    await container.remove()


async def test_a_program_that_is_not_there_is_an_error(factory: ProcessContainerFactory) -> None:
    await factory.start()
    container = await factory.create(ContainerSpec("c", ("/no/such/program",), 64))
    assert (await container.exited).code != 0
    assert "/no/such/program" in await line_of(container)
    await container.remove()


async def test_without_setpriv_it_says_what_it_needs(
    factory: ProcessContainerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ContainerError, match="setpriv"):
        await factory.start()


async def test_temporary_files_go_with_their_container(factory: ProcessContainerFactory) -> None:
    await factory.start()
    code = "import tempfile, time; print(tempfile.mkdtemp(), flush=True); time.sleep(60)"
    containers = [await factory.create(spec(code, name)) for name in ("a", "b")]
    folders = [Path(await line_of(each)) for each in containers]
    assert all(each.is_dir() for each in folders)
    await containers[0].remove()
    assert [each.exists() for each in folders] == [False, True]
    await containers[1].remove()
    assert not folders[1].parent.parent.exists()


async def test_a_sweep_finds_by_label_what_was_left_and_nothing_else(factory: ProcessContainerFactory) -> None:
    await factory.start()
    left = await factory.create(spec(SLEEP, "left"))
    other = ProcessContainerFactory(factory._platform + "x")
    await other.start()
    kept = await other.create(spec(SLEEP, "kept"))
    await line_of(left)
    await line_of(kept)
    assert await process.sweep(factory._platform)
    assert (await left.exited).code == -9
    assert not kept.exited.done()
    await kept.remove()
    await left.remove()
