"""Machine code is kept, shared between checkouts, and what nobody uses any more goes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

import tyche_env
from tyche_env.kernel_place import COMPLETE
from tyche_env.simulator.kernel_cache import LOCK, prune


def a_folder(root: Path, number: int, days: float, complete: bool = True) -> Path:
    folder = root / f"{number:016x}"
    folder.mkdir()
    (folder / "kernel").write_text("code")
    used = time.time() - 86_400 * days
    if complete:
        (folder / COMPLETE).touch()
        os.utime(folder / COMPLETE, (used, used))
    os.utime(folder, (used, used))
    return folder


def test_the_last_used_folders_stay(tmp_path: Path) -> None:
    folders = [a_folder(tmp_path, number, days=number) for number in range(6)]
    assert prune(tmp_path, keep=3, keep_days=30) == folders[3:]
    assert sorted(tmp_path.iterdir()) == folders[:3]


def test_a_folder_that_was_not_used_for_a_month_goes(tmp_path: Path) -> None:
    new, old = a_folder(tmp_path, 1, days=29), a_folder(tmp_path, 2, days=31)
    unfinished = a_folder(tmp_path, 3, days=40, complete=False)
    assert prune(tmp_path) == [old, unfinished]
    assert list(tmp_path.iterdir()) == [new]


def test_what_is_not_ours_or_in_use_stays(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "0123456789abcdef").write_text("a file")
    used = a_folder(tmp_path, 2, days=100)
    with FileLock(used / LOCK):
        assert prune(tmp_path, keep=0) == []
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.slow
def test_a_second_checkout_compiles_nothing(tmp_path: Path) -> None:
    packages = [Path(tyche_env.__file__).parent, Path(tyche_env.__file__).parents[1] / "traces"]
    environment = os.environ | {"TYCHE_CACHE_DIR": str(tmp_path / "cache")}
    said = []
    for checkout in ("first", "second"):
        for package in packages:
            shutil.copytree(package, tmp_path / checkout / package.name, ignore=shutil.ignore_patterns("__pycache__"))
        done = subprocess.run(
            [sys.executable, "-c", "from tyche_env.simulator.loading import warm_up; warm_up()"],
            env=environment | {"PYTHONPATH": str(tmp_path / checkout)},
            cwd=tmp_path,
            check=True,
            capture_output=True,
            text=True,
        )
        files = {path.relative_to(tmp_path) for path in (tmp_path / "cache").rglob("*.nb*")}
        said.append((done.stderr, files))
    assert "compiling the kernels" in said[0][0]
    assert said[1][0] == ""
    assert said[0][1] == said[1][1]
