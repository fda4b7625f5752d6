"""``make real`` looks for what its own platforms left, whatever else is on the machine."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from real_backend.containers.factory import PLATFORM_LABEL
from tests.test_docs import ROOT, script


@contextmanager
def sleeping(label: str) -> Iterator[int]:
    with subprocess.Popen(["sleep", "600"], env={**os.environ, PLATFORM_LABEL: label}) as process:
        yield process.pid
        process.kill()


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return script(ROOT / "benchmarks" / "left_behind.py").Own()


def test_what_others_have_does_not_count(own: Any, tmp_path: Path) -> None:
    (tmp_path / "tyche-platform-other").mkdir()
    (tmp_path / "tyche-platform-other" / "name").write_text("theirs")
    with sleeping("theirs"):
        own.look()
        assert own.left() == []
    own.close()
    assert not own.folder.exists()
    assert (tmp_path / "tyche-platform-other").exists()


def test_a_folder_and_a_process_of_a_platform_that_ended_count(own: Any) -> None:
    platform = own.folder / "tyche-platform-x"
    platform.mkdir()
    (platform / "name").write_text("ours")
    with sleeping("ours") as process:
        assert own.left() == [str(platform), f"process {process}"]
        own.close()
        assert platform.exists()
        # its folder is gone, and its label is still known
        (platform / "name").unlink()
        platform.rmdir()
        assert own.left() == [f"process {process}"]
    assert own.left() == []
