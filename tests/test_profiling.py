"""The sampling profiler of ``benchmarks/profiling.py`` names the rule that an instruction was inlined from."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

pytestmark = pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="signal contexts are read on Linux on x86-64 only"
)

RULES = """
import numpy as np
from numba import njit

@njit(forceinline=True)
def squared(value):
    return value * value

@njit(cache=True)
def total(values):
    result = 0.0
    for value in values:
        result += squared(value) / 3
    return result
"""

PLACES = """
import json
import numpy as np
from inlined import keep_loaded, kernels_of, place_of
loaded = keep_loaded()
import rules
rules.total(np.ones(3))
kernels = kernels_of(loaded)
found = {place_of(kernels, at) for kernel in kernels for at in range(kernel.start, kernel.end)}
print(json.dumps([place for place in found if place is not None and place.file.endswith("rules.py")]))
"""

SAMPLES = """
import json
from profiling import Case, sample
print(json.dumps(sum(sample(Case(lambda: None, lambda: sum(range(1_000_000)))).values())))
"""


def answer(script: str, folder: Path) -> object:
    """What a script prints that can import the profiler, with machine code that says where it comes from."""
    paths = os.pathsep.join([str(BENCHMARKS), str(folder)])
    environment = os.environ | {"PYTHONPATH": paths, "NUMBA_DEBUGINFO": "1", "NUMBA_CACHE_DIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True, timeout=300
    )
    return json.loads(done.stdout)


def test_an_instruction_belongs_to_the_function_that_it_was_inlined_from(tmp_path: Path) -> None:
    (tmp_path / "rules.py").write_text(RULES, encoding="utf-8")
    assert answer(PLACES, tmp_path) == []  # compiled now, and loaded from the cache next time
    places = answer(PLACES, tmp_path)
    assert isinstance(places, list)
    lines = {(function, RULES.splitlines()[line - 1].strip()) for _, function, line in places if line > 0}
    assert ("squared", "return value * value") in lines
    assert ("total", "result += squared(value) / 3") in lines


def test_a_run_is_interrupted_thousands_of_times_a_second(tmp_path: Path) -> None:
    count = answer(SAMPLES, tmp_path)
    assert isinstance(count, int)
    assert count > 5
