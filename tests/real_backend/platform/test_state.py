"""The state folder: its owner's alone, and its files whole."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from real_backend.containers import process
from real_backend.platform.config import NodeSpec, PlatformConfig
from real_backend.platform.server import Listen, run
from real_backend.platform.state import StateFolder, open_private, write_whole
from real_backend.platform.store import Store
from real_backend.platform.sweeping import sweep_orphans
from tyche_env.errors import UserError

CONFIG = PlatformConfig(nodes=(NodeSpec(name="a", memory_mib=256),))
GOOD_KEY = "11111111-2222-3333-4444-555555555555:0123456789abcdefghijklmnopqrstuv"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def careless() -> Iterator[None]:
    """An umask that takes nothing from anybody."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("careless")
def test_nobody_else_can_look_in_whatever_the_umask_is(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "above" / "state")
    assert state.platform
    assert state.key
    with state.locked():
        state.announce("http://x")
        open_private(state.log, "wb").close()
        store = Store(state.database, 10)
        files = {file.name: mode(file) for file in state.folder.iterdir()}
        store.close()
    names = {
        "name",
        "key",
        "lock",
        "running.json",
        "platform.log",
        *(f"state.sqlite{end}" for end in ("", "-wal", "-shm")),
    }
    assert files == dict.fromkeys(names, 0o600)
    assert (mode(state.folder), mode(state.folder.parent)) == (0o700, 0o700)


@pytest.mark.usefixtures("careless")
def test_what_an_earlier_version_left_open_is_closed(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "name").write_text("0123456789ab")
    for name in ("state.sqlite", "state.sqlite-wal", "platform.log"):
        (folder / name).touch()
    assert StateFolder(folder).platform == "0123456789ab"
    assert {mode(each) for each in folder.iterdir()} == {0o600}
    assert mode(folder) == 0o700


def test_a_folder_of_everybody_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    (tmp_path / "something").touch()
    with pytest.raises(UserError, match="others may look into it, and it is no platform's; name another with --state"):
        StateFolder(tmp_path)
    assert mode(tmp_path) == 0o1777


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make a folder of somebody else's")
def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "planted"
    folder.mkdir(mode=0o700)
    os.chown(folder, 65534, 65534)
    with pytest.raises(UserError, match="belongs to user 65534"):
        StateFolder(folder)


@pytest.mark.parametrize("content", ["", "\n", "x", GOOD_KEY[:50], GOOD_KEY + "\nmore"])
def test_without_a_whole_key_nothing_starts(tmp_path: Path, content: str) -> None:
    state = StateFolder(tmp_path / "state")
    (state.folder / "key").write_text(content)

    def started(url: str, _: object) -> None:
        raise AssertionError(f"it started at {url}")

    with pytest.raises(UserError, match=r"state/key: holds the platform's key, and is (empty|not one); remove it"):
        run(CONFIG, Listen(port=0), state, started)
    assert (state.folder / "key").read_text() == content


@pytest.mark.parametrize("content", ["", "a/../b", "*"])
def test_without_a_whole_name_nothing_is_swept(tmp_path: Path, content: str) -> None:
    state = StateFolder(tmp_path / "state")
    (state.folder / "name").write_text(content)
    with pytest.raises(UserError, match="state/name: holds the platform's name"):
        _ = state.platform


def test_a_key_of_ones_own_serves(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "state")
    (state.folder / "key").write_text(GOOD_KEY + "\n")
    assert state.key == GOOD_KEY


def test_a_key_is_there_with_all_its_content_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = StateFolder(tmp_path / "state")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            _ = state.key
    assert list(state.folder.iterdir()) == []
    assert StateFolder(state.folder).key == state.key


def test_all_who_make_a_key_at_once_have_the_same(tmp_path: Path) -> None:
    for attempt in range(20):
        state = StateFolder(tmp_path / str(attempt))
        with ThreadPoolExecutor(4) as threads:
            keys = set(threads.map(lambda _, s=state: s.key, range(4)))
        assert len(keys) == 1


def test_a_file_that_is_replaced_is_never_somebody_elses_to_read(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    file.chmod(0o666)
    write_whole(file, "new")
    assert (file.read_text(), mode(file)) == ("new", 0o600)
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.anyio
async def test_a_sweep_follows_nobodys_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = StateFolder(tmp_path / "target")
    name = target.platform
    (target.folder / "docker").mkdir()
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    (temporary / "tyche-platform-x").symlink_to(target.folder)
    (temporary / f"tyche-{name}-x").symlink_to(target.folder)
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    assert await sweep_orphans() == []
    assert await process.sweep(name) == []
    assert (target.folder / "docker").is_dir()
