"""Compiled code stays as good as it is: counted in its instructions, never timed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MOST_INSTRUCTIONS = 60_000
"""Of the event loop and the handler of events, with everything inlined; LLVM's, after its optimisation."""

COUNT = """
import json, re
from tyche_env.simulator.engine import advance, compile_all
compile_all()
(text,) = advance.inspect_llvm().values()
functions = re.findall(r"^define [^\\n]*@([^( ]+)\\([^\\n]*{\\n(.*?)^}", text, re.M | re.S)
found = {}
for part in ("6engine7advance", "10controller6handle"):  # as names are mangled: length, then name
    body = max((body for name, body in functions if part in name), key=len)
    lines = [line for line in body.splitlines() if line.startswith("  ")]
    found[part] = {"instructions": len(lines), "counting": sum("NRT_" in line for line in lines)}
print(json.dumps(found))
"""


@pytest.mark.slow
def test_the_event_loop_counts_no_references_and_stays_small(tmp_path: Path) -> None:
    environment = os.environ | {"TYCHE_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", COUNT], env=environment, check=True, capture_output=True, text=True, timeout=580
    )
    found = json.loads(done.stdout)
    assert sum(part["counting"] for part in found.values()) == 0
    assert all(part["instructions"] > 1_000 for part in found.values())
    assert sum(part["instructions"] for part in found.values()) < MOST_INSTRUCTIONS
