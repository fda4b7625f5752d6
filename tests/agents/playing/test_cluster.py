"""A Ray cluster gives the rows of a serial run, also after an interruption."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: pip install 'tyche-env[cluster]'")
def test_two_nodes_give_the_rows_of_a_serial_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.agents.playing.two_nodes", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-2000:]
    expected = {"nodes": 2, "before": 3, "rows": True, "measured": True, "requests": True}
    assert json.loads(done.stdout.splitlines()[-1]) == expected
