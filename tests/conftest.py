"""What all tests share: settings of Hypothesis, and the folder of the real traces."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Tests run side by side; one thread each is faster, and has to be set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long an example takes says nothing about whether it is right, and the first one may compile kernels.
settings.register_profile("tyche", deadline=None)
settings.load_profile("tyche")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what replays with faults met, in whichever process they ran."""
    lines = [
        f"{report.nodeid.rpartition('::')[2]}: {value}"
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if name == "health"
    ]
    if lines:
        terminalreporter.section("faults")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(autouse=True)
def _own_ledger(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at test windows that tests take are not the repository's."""
    monkeypatch.setenv("TYCHE_LOOKS", str(tmp_path_factory.mktemp("ledger") / "looks.csv"))


@pytest.fixture(scope="session")
def trace_folder() -> Path:
    """Folder of the real traces; the test is skipped where there is none."""
    beside = Path(__file__).parents[2] / "shared" / "traces"
    folder = Path(os.environ.get("TYCHE_TRACES", beside))
    if not folder.is_dir():
        pytest.skip(f"needs the real traces; TYCHE_TRACES names their folder, and {folder} is none")
    return folder
