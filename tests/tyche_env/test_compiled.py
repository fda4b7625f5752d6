"""Compiled code stays as good as it is: counted in its instructions, never timed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MOST_INSTRUCTIONS = 56_000
"""Of the event loop and the handler of events, with everything inlined; LLVM's, after its optimisation.

How many there are depends on the processor that they are for and on LLVM, so they are counted for one named processor:
revision a99b1ae, before rules were named, had 55,583 there (55,505 for the Xeon that this was noticed on).
"""
PROCESSOR = {"NUMBA_CPU_NAME": "znver3", "NUMBA_CPU_FEATURES": ""}

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
    environment = os.environ | PROCESSOR | {"TYCHE_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", COUNT], env=environment, check=True, capture_output=True, text=True, timeout=580
    )
    found = json.loads(done.stdout)
    assert sum(part["counting"] for part in found.values()) == 0
    assert all(part["instructions"] > 1_000 for part in found.values())
    assert sum(part["instructions"] for part in found.values()) < MOST_INSTRUCTIONS


INDICES = """
import numpy as np
from numba import njit
from tests.tyche_env.simulator.strategies import random_run
from tyche_env.control.compiled import APART
from tyche_env.control.handles import handles_of, open_state
from tyche_env.state import new_state

@njit(**APART)
def at(handles, i):
    return open_state(handles).functions[i].peak_mb

@njit(**APART)
def within(handles, i):
    return open_state(handles).windows[0, i]

@njit(**APART)
def mixed(handles, i):
    return open_state(handles).windows[i, np.int32(0)]

@njit(**APART)
def put(handles, i):
    open_state(handles).wide[i] = 7

state = new_state(random_run(0).world)
handles, count = handles_of(state), len(state.functions)
put(handles, np.int32(count - 1))
assert state.wide[count - 1] == 7
assert at(handles, count - 1) == state.functions["peak_mb"][-1]
for read, least in ((at, -1), (at, count), (within, -1), (mixed, -1), (put, -1)):
    try:
        read(handles, least)
    except IndexError:
        continue
    raise AssertionError((read, least))
"""


def test_an_index_outside_of_a_table_is_an_error_where_bounds_are_checked() -> None:
    environment = os.environ | {"NUMBA_BOUNDSCHECK": "1"}
    subprocess.run([sys.executable, "-c", INDICES], env=environment, check=True, timeout=580)
