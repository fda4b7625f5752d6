"""What all tests share: settings of Hypothesis, what happens where torch is missing, and the folder of real traces."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings

from tyche_env import cli

# Tests run side by side; one thread each is faster, and has to be set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long an example takes says nothing about whether it is right, and the first one may compile kernels.
settings.register_profile("tyche", deadline=None)
settings.load_profile("tyche")


WITH_TORCH = {"torch", "stable_baselines3", "sb3_contrib"}
"""Packages that are not asked of a machine without torch: what needs them there says so, and is skipped."""
NO_TORCH = find_spec("torch") is None


class Module(pytest.Module):
    """A module of tests; one that imports torch where there is none is skipped with that reason.

    So is one whose tests are all slow and need a package that only ``make test-slow`` installs, where slow tests are
    not asked for.
    """

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        try:
            return super().collect()
        except self.CollectError as error:
            missing = error.__cause__
            if isinstance(missing, ModuleNotFoundError):
                excuse(missing)
                slow = "pytestmark = pytest.mark.slow" in self.path.read_text(encoding="utf-8")
                if slow and self.config.option.markexpr == "not slow":
                    pytest.skip(f"all its tests are slow, and {missing.name} is missing", allow_module_level=True)
            raise


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module:
    module: pytest.Module = Module.from_parent(parent, path=module_path)
    return module


def excuse(error: ModuleNotFoundError) -> None:
    """Skip what failed for want of torch."""
    package = (error.name or "").partition(".")[0]
    if NO_TORCH and package in WITH_TORCH:
        pytest.skip(f"needs torch; {package} is not installed", allow_module_level=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, None, None]:
    try:
        yield
    except ModuleNotFoundError as error:
        excuse(error)
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    try:
        yield
    except ModuleNotFoundError as error:
        excuse(error)
        raise


if NO_TORCH:
    # commands would turn the error into a line on stderr, and the test into one that fails
    for _name in WITH_TORCH:
        cli._EXTRAS.pop(_name)


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
    """Folder of the traces that are not shipped, which TYCHE_TRACES names; the test is skipped where there is none."""
    named = os.environ.get("TYCHE_TRACES", "")
    if not named:
        pytest.skip("needs traces that are not shipped; TYCHE_TRACES names their folder, and is not set")
    return Path(named)
