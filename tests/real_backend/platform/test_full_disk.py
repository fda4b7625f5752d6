"""A disk that is full: calls get an error that names it, and nothing that was answered before is lost."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from real_backend.platform.store import Store
from tests.real_backend.platform.site import FakeFactory, Open, Site

CODE = "def main(args):\n    return args\n"
HERE = "/namespaces/_"


def limit_pages(store: Store, pages: int | None) -> None:
    """Let the state file grow no further, or as it likes; SQLite then says what it says of a full disk."""
    (now,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count = {now + pages if pages is not None else 2**30}")


async def fill(site: Site) -> dict[str, Any]:
    """Invoke until an activation can neither be begun nor stored; returns the last one that was answered."""
    big = {"x": "x" * 4000}
    last: dict[str, Any] = {}
    for _ in range(10_000):
        answer = await site.http.post(f"{HERE}/actions/echo?blocking=true", json=big)
        if answer.status_code != 200:
            assert answer.status_code in (500, 507)
            assert "cannot write its state" in answer.text
            assert "full" in answer.text
            return last
        last = answer.json()
    raise AssertionError("it never filled up")


async def attack(site: Site) -> tuple[dict[str, Any], list[int]]:
    """Fill the disk; returns the last record that was answered, and the statuses of calls after that."""
    last = await fill(site)
    code = {"exec": {"kind": "python:3", "code": CODE + "#" * 20_000}}
    statuses = [
        (await site.http.put(f"{HERE}/actions/more", json=code)).status_code,
        (
            await site.http.put(f"{HERE}/packages/more", json={"parameters": [{"key": "k", "value": "x" * 20_000}]})
        ).status_code,
        (await site.http.get(f"{HERE}/actions/more")).status_code,
        (await site.http.get(f"{HERE}/packages/more")).status_code,
        (await site.http.get(f"{HERE}/actions/echo")).status_code,
        (await site.http.get(f"{HERE}/activations/{last['activationId']}")).status_code,
    ]
    return last, statuses


@pytest.mark.anyio
async def test_a_full_disk_is_named_and_loses_nothing_that_was_answered(open_site: Open) -> None:
    async with open_site(FakeFactory()) as site:
        await site.put("echo", CODE)
        limit_pages(site.service.store, 40)
        last, statuses = await attack(site)
        assert statuses == [507, 507, 404, 404, 200, 200]
        limit_pages(site.service.store, None)
        again = (await site.client.invoke("echo", {"x": 1})).response
        assert again.result == {"x": 1}
    async with open_site(FakeFactory()) as site:
        assert (await site.client.activation(last["activationId"])).response.result == last["response"]["result"]
        assert [each.name for each in await site.client.actions()] == ["echo"]


@pytest.mark.anyio
async def test_a_result_that_cannot_be_stored_is_an_internal_error_now_and_later(
    open_site: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_site(FakeFactory()) as site:
        await site.put("echo", CODE)
        store = site.service.store

        def full(statement: str, values: object) -> None:
            raise store._cannot(sqlite3.OperationalError("database or disk is full"))

        write = store._write
        monkeypatch.setattr(
            store, "_write", lambda statement, values: (full if "UPDATE" in statement else write)(statement, values)
        )
        failed = await site.http.post(f"{HERE}/actions/echo?blocking=true", json={})
        assert failed.status_code == 500
        identity = failed.json()["activationId"]
        assert "disk is full" in failed.json()["response"]["result"]["error"]
        assert (await site.client.activation(identity)).response.status == "whisk internal error"
        monkeypatch.undo()
        await site.client.invoke("echo")
        found = store.activation(identity)
        assert found is not None
        assert found["response"] == failed.json()["response"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB, where the tests' state is."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs root and mount")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)], capture_output=True)
    if done.returncode != 0:
        pytest.skip(f"cannot mount: {done.stderr.decode().strip()}")
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_disk_that_is_really_full_loses_nothing_either(small_disk: Path, open_site: Open) -> None:
    async with open_site(FakeFactory()) as site:
        await site.put("echo", CODE)
        (small_disk / "ballast").write_bytes(b"x" * 300_000)
        last, statuses = await attack(site)
        assert statuses == [507, 507, 404, 404, 200, 200]
        (small_disk / "ballast").unlink()
        assert (await site.client.invoke("echo", {"x": 1})).response.success
    async with open_site(FakeFactory()) as site:
        assert (await site.client.activation(last["activationId"])).response.result == last["response"]["result"]
        assert [each.name for each in await site.client.actions()] == ["echo"]
