"""What ``python -m build`` makes: a source archive and a wheel with everything that belongs in them, and no more."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("agents", "real_backend", "traces", "tyche_env")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with both; the wheel is built from the source archive, as installers do."""
    out = tmp_path_factory.mktemp("dist")
    words = ["-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "warning" not in done.stderr.lower(), done.stderr
    return out


@pytest.fixture(scope="module")
def wheel(built: Path) -> set[str]:
    (path,) = built.glob("*.whl")
    assert path.name.endswith("-py3-none-any.whl")
    return set(zipfile.ZipFile(path).namelist())


@pytest.fixture(scope="module")
def sdist(built: Path) -> set[str]:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        return {member.name.partition("/")[2] for member in archive if member.isfile()}


def sources(*folders: str) -> Iterator[str]:
    """The files of the source tree that are no products of running it."""
    made = {"__pycache__", "_build"}
    for folder in folders:
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and made.isdisjoint(path.parts) and path.suffix not in (".nbi", ".nbc"):
                yield path.relative_to(ROOT).as_posix()


def test_the_wheel_has_every_file_of_the_packages_and_nothing_else(wheel: set[str]) -> None:
    own = {name for name in wheel if ".dist-info/" not in name}
    assert own == set(sources(*PACKAGES))
    assert {name.rpartition("/")[2] for name in wheel - own} == {
        "METADATA",
        "RECORD",
        "WHEEL",
        "entry_points.txt",
        "LICENSE",
    }


def test_what_is_no_code_comes_along(wheel: set[str]) -> None:
    assert "tyche_env/scenarios/small.yaml" in wheel
    assert "tyche_env/catalogues/paper.csv" in wheel
    assert "real_backend/images/runtimes.json" in wheel
    assert {f"{package}/py.typed" for package in PACKAGES} <= wheel


def test_the_source_archive_is_enough_to_work_on_the_project(sdist: set[str]) -> None:
    expected = {*sources(*PACKAGES, "benchmarks", "docs", "tests", ".ci"), "PKG-INFO"}
    single = {name for name in sdist if "/" not in name}
    assert single == {
        ".gitignore",
        "CHANGELOG.md",
        "CITATION.cff",
        "LICENSE",
        "Makefile",
        "PKG-INFO",
        "README.md",
        "constraints.txt",
        "pyproject.toml",
    }
    assert sdist - single == expected - single
