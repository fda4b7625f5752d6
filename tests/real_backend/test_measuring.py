"""Profiles are measured in containers; what comes out is a catalogue."""

from __future__ import annotations

from pathlib import Path

import pytest

from real_backend.measuring import MeasuringError, Plan
from tests.real_backend.worlds import TOYS
from tyche_env.cli import run
from tyche_env.profiles import load_catalogue


@pytest.mark.slow
def test_measured_stages_are_what_the_function_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "toys.csv"
    words = ["profile", "measure", "toy-slow", "toy", "--functions", TOYS, "--container-mb", "300", "--out", str(out)]
    assert run(words) == 0
    slow, quick = load_catalogue(out)
    assert (slow.name, quick.name) == ("toy-slow", "toy")
    # the library's stage includes the start of the process
    assert 150 <= slow.library_ms < 1000
    assert 250 <= slow.model_ms < 500
    assert 20 <= slow.inference_ms < 60
    assert quick.model_ms < slow.model_ms
    assert slow.container_init_ms > 0
    assert (slow.hold_mb, slow.peak_mb, slow.gpu_mb, slow.container_mb) == (60, 80, 0, 300)
    for part in ("measured 20", "no GPU was seen", "median of 10", "Python 3."):
        assert part in slow.source
    assert "2 profiles in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (Plan(("toy",), TOYS, repetitions=9), "--repetitions: a profile needs at least 10, got 9"),
        (Plan(("tyo",), TOYS), "tyo: real_backend.functions.toy declares toy, toy-slow"),
        (Plan(("toy-big",), TOYS, container_mb=500), "--container-mb: toy-big needs 1000 MB, got 500"),
        (Plan(("toy",), "no.such.module"), "no.such.module: cannot be imported"),
    ],
)
def test_a_plan_that_cannot_be_measured_is_refused(plan: Plan, message: str) -> None:
    with pytest.raises(MeasuringError, match=message):
        plan.declared()
