"""Whatever bytes a reader is given, it refuses them clearly or reads a right trace; it neither crashes nor hangs."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.traces.readers import FOUND, READERS, SEEDS, check, read

ROOT = Path(__file__).parents[2]
CELLS = (b"", b"nan", b"inf", b"-1", b"1e400", b"9" * 30, b"0x10", b'"', b"\x00", b"\xff\xfe", b"\r", b"\n", b",", b"f")


@st.composite
def mutated(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """A right file with some bytes cut out, doubled or put in."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 40)))
        middle = draw(
            st.one_of(st.just(b""), st.sampled_from(CELLS), st.just(2 * data[start:end]), st.binary(max_size=8))
        )
        data = data[:start] + middle + data[end:]
    return data


@pytest.mark.parametrize("name", READERS)
def test_right_files_are_read(name: str, tmp_path: Path) -> None:
    for seed in SEEDS[name]:
        found = read(name, seed, tmp_path / "a.bin")
        # "any" is given files whose columns only a mapping could tell, or that go with another one
        assert not isinstance(found, str) or (name == "any" and "column" in found), found


@pytest.mark.parametrize("name", FOUND)
def test_what_once_crashed_a_reader_is_refused(name: str, tmp_path: Path) -> None:
    for content in FOUND[name]:
        found = read(name, content, tmp_path / "a.bin")
        assert isinstance(found, str)
        check(found, tmp_path / "a.bin")


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_damaged_file_is_refused_or_read(name: str, data: st.DataObject) -> None:
    content = data.draw(st.one_of(mutated(SEEDS[name]), st.binary(max_size=200)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.bin"
        check(read(name, content, path), path)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
def test_a_coverage_guided_fuzzer_finds_nothing(tmp_path: Path) -> None:
    # always the same inputs, so that what fails here is what was changed here; `make fuzz` looks for new ones
    words = [sys.executable, "-m", "tests.traces.fuzz", "-seed=1", "-runs=15000", "-timeout=20", "-rss_limit_mb=4096"]
    done = subprocess.run(
        [*words, f"-artifact_prefix={tmp_path}/"], cwd=ROOT, capture_output=True, text=True, timeout=900
    )
    found = [path.read_bytes() for path in tmp_path.iterdir()]
    assert done.returncode == 0, f"{found}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
