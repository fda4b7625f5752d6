"""What the doctor says of the machine, on one whose figures are known."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tyche_env import cli, doctor


def test_cores_and_memory_are_those_of_the_machine_in_gb_of_ten_to_the_nine_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pages = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 6_000_000}
    monkeypatch.setattr(os, "sysconf", pages.__getitem__)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5})
    monkeypatch.setattr(os, "cpu_count", lambda: 48)
    found = {finding.name: finding.detail for finding in doctor._machine()}
    assert found["memory"] == "24.6 GB"
    assert found["cores"] == "3 usable of 48"
    assert found["Python"] == f"{platform.python_version()} ({sys.executable})"
    assert found["system"] == platform.platform()


def test_each_gpu_is_told_with_its_name_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    import pynvml

    sizes = (24_000_000_000, 80_500_000_000)
    answers = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlSystemGetDriverVersion": lambda: "123.4",
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetName": lambda handle: f"card-{'ab'[handle]}",
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(total=sizes[handle], used=1, free=2),
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)
    assert [(finding.name, finding.found, finding.detail) for finding in doctor._nvml()] == [
        ("driver", True, "123.4"),
        ("GPU 0", True, "card-a, 24.0 GB"),
        ("GPU 1", True, "card-b, 80.5 GB"),
    ]


def test_the_mark_says_whether_it_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    made = [doctor.Finding("one", "a", True, "well"), doctor.Finding("one", "b", False, "get it")]
    doctor._show([*made, doctor.Finding("two", "c", True, "too")], "missing")
    assert [line.split(None, 3) for line in capsys.readouterr().out.splitlines()] == [
        ["one"],
        ["ok", "a", "well"],
        ["missing", "b", "get", "it"],
        ["two"],
        ["ok", "c", "too"],
    ]


@pytest.mark.parametrize(("second", "status"), [(True, 0), (False, 1)])
def test_a_folder_of_which_anything_is_wrong_is_told_so_by_the_status_too(
    second: bool, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [doctor.Finding("run", "a", True, "x"), doctor.Finding("run", "b", second, "y")]
    monkeypatch.setattr(doctor, "examine_folder", lambda _: found)
    assert cli.run(["doctor", str(tmp_path)]) == status
    assert capsys.readouterr().out.splitlines()[2].split()[0] == ("ok" if second else "wrong")


def test_traces_that_are_not_there_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tyche_env import sources

    monkeypatch.setattr(sources, "FILES", {"one": ("a.csv", "b.csv"), "two": ("c.csv",)})
    monkeypatch.setenv(sources.VARIABLE, str(tmp_path))
    for name in ("b.csv", "c.csv"):
        (tmp_path / name).touch()
    variable, one, two = doctor._traces()
    assert [(each.name, each.found) for each in (variable, one, two)] == [
        (sources.VARIABLE, True),
        ("one", False),
        ("two", True),
    ]
    assert "lacks a.csv" in one.detail
    assert variable.detail == two.detail == str(tmp_path)
