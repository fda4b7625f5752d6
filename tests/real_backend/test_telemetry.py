"""Readings of GPUs: through the real binding from a stub library, and without any library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from real_backend.telemetry import Gpu, Reading, Telemetry

PROGRAM = """
import dataclasses, json
from real_backend.telemetry import Telemetry
with Telemetry() as telemetry:
    reading = telemetry.read()
    again = telemetry.read()
assert again == reading
print(json.dumps({**dataclasses.asdict(reading), "stubs": [gpu.is_stub for gpu in reading.gpus]}))
"""


def read_with(folder: Path) -> dict[str, Any]:
    environment = {**os.environ, "LD_LIBRARY_PATH": str(folder)}
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=60
    )
    assert answer.returncode == 0, answer.stderr
    values: dict[str, Any] = json.loads(answer.stdout)
    return values


def test_what_the_driver_says_arrives_in_mb(stub_folder: Path) -> None:
    values = read_with(stub_folder)
    assert values["driver"] == "0.0-stub"
    assert values["absent"] == ""
    first, second = values["gpus"]
    assert (first["index"], first["uuid"], first["name"]) == (0, "GPU-stub-0", "stub")
    assert (first["total_mb"], first["used_mb"], first["utilisation_percent"]) == (24000.0, 3000.0, 37)
    assert (second["uuid"], second["used_mb"]) == ("GPU-stub-1", 0.0)


def test_the_stub_is_called_so(stub_folder: Path) -> None:
    assert read_with(stub_folder)["stubs"] == [True, True]


def test_a_worker_reports_the_gpu_that_it_was_given(stub_folder: Path) -> None:
    program = "from real_backend.worker.__main__ import _gpu_uuid; print(_gpu_uuid('1'), _gpu_uuid('GPU-stub-0'))"
    environment = {**os.environ, "LD_LIBRARY_PATH": str(stub_folder)}
    answer = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60
    )
    assert answer.stdout.split() == ["GPU-stub-1", "GPU-stub-0"], answer.stderr


def test_without_a_library_the_reading_says_why_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import pynvml

    def fail() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", fail)
    with Telemetry() as telemetry:
        reading = telemetry.read()
    assert reading.gpus == ()
    assert "NVML does not start" in reading.absent
    with pytest.raises(LookupError, match="GPU 0: not found; NVML does not start"):
        reading.find("0")


def test_without_the_package_the_reading_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with Telemetry() as telemetry:
        assert "nvidia-ml-py" in telemetry.read().absent


def gpu(index: int, name: str) -> Gpu:
    return Gpu(index, f"GPU-{index}", name, 24000.0, 500.0, 0)


def test_a_gpu_is_found_by_index_or_uuid() -> None:
    reading = Reading((gpu(0, "A10"), gpu(1, "A10")))
    assert reading.find("1") is reading.find("GPU-1")
    assert not reading.find("1").is_stub
    with pytest.raises(LookupError, match=r"GPU 7: not found; there are 0 \(GPU-0\), 1 \(GPU-1\)"):
        reading.find("7")
