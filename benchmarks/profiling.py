"""Where the time goes: at which rule of the source the processor is, looked at four thousand times a second.

The kernels are compiled once more, with debugging information (for a minute, the first time); a timer's signal notes
the instruction that runs, and ``inlined`` says which rule it belongs to.  Linux on x86-64; packages by
``pip install -e '.[peers]'``.

    python benchmarks/profiling.py                          # the cases of docs/performance.md
    python benchmarks/profiling.py rare --by function       # one of them, by function
    python benchmarks/profiling.py rare --by line
"""

from __future__ import annotations

import argparse
import collections
import ctypes
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from inlined import Place, keep_loaded, kernels_of, place_of

from tyche_env.bench.measurement import SPEED, machine, today

ROOT = Path(__file__).resolve().parent.parent
KERNELS = ROOT / "build" / "profiling"
"""Where the kernels with debugging information are kept."""
COMPILE_ONLY = "TYCHE_PROFILING_COMPILE"
REPEATS = 5
INTERVAL_S = 250e-6
ROOM = 1 << 20
REGISTERS, INSTRUCTION = 5, 16
"""Of a signal's context on x86-64, in words: where the registers begin, and which one is the instruction pointer."""
WITH_CONTEXT, RESTART = 0x4, 0x1000_0000
"""Flags of ``sigaction``."""
OUTSIDE = "Python, NumPy and the C library"
RULES = {
    "packing: what is loaded where, and what it displaces": (
        *("control/packing.py", "control/worth.py", "control/tournament.py"),
    ),
    "the loop and its event heaps": (
        *("simulator/engine.py", "control/queue.py", "control/timers.py", "control/prefetch.py"),
    ),
    "containers and residents: lists, memory, counters": ("control/ledger.py", "simulator/entities.py"),
    "events: what follows from each": ("control/controller.py",),
    "interval mode: all decisions at once": ("control/interval.py",),
    "durations, commands and the log": ("simulator/serving.py", "simulator/log.py", "control/draws.py"),
    "stages that share cores, disks and links": ("simulator/sharing.py",),
    "pre-warming and keep-alive": ("tyche_env/prewarm/",),
    "history, window and decision of a function": ("control/arrivals.py", "control/kernels.py", "control/network.py"),
    "routing": ("control/routing.py", "control/vacancies.py"),
    "observations": ("tyche_env/observe.py", "tyche_env/scaling.py"),
    "rows of single functions": ("tyche_env/function_rows.py",),
    "actions and rewards": ("tyche_env/vector.py", "tyche_env/env.py", "simulator/backend.py", "tyche_env/metrics.py"),
}
"""Lines of the table, and the files that each stands for."""


class Case(NamedTuple):
    """What is sampled.

    Attributes:
        prepare: done before each run, not sampled.
        run: sampled.
    """

    prepare: Callable[[], object]
    run: Callable[[], object]


def main() -> None:
    """Sample the cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)} (default: all)")
    parser.add_argument("--by", choices=LABELS, default="rule", help="what a line of the table is (default: rule)")
    parser.add_argument("--top", type=int, default=40, help="lines that are shown (default: 40)")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="keep the table, too")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.cases) - set(CASES)):
        parser.error(f"no such case: {', '.join(unknown)}; there are {', '.join(CASES)}")
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        sys.exit("profiling: reads registers from signals, as only Linux on x86-64 hands them over")
    names = arguments.cases or list(CASES)
    if os.environ.get("NUMBA_DEBUGINFO") != "1":
        again = os.environ | {"NUMBA_DEBUGINFO": "1", "TYCHE_CACHE_DIR": str(KERNELS)}
        subprocess.run([sys.executable, *sys.argv], env=again | {COMPILE_ONLY: "1"}, check=True)
        sys.exit(subprocess.run([sys.executable, *sys.argv], env=again, check=False).returncode)
    if os.environ.get(COMPILE_ONLY):  # debugging information is taken from what is loaded from the cache
        for name in names:
            CASES[name]().prepare()
        return
    about = {"date": today(), "machine": machine()}
    loaded = keep_loaded()
    found = {name: sample(CASES[name]()) for name in names}
    kernels = kernels_of(loaded)
    shares = {}
    for name, addresses in found.items():
        counts: collections.Counter[str] = collections.Counter()
        for address, count in addresses.items():
            counts[LABELS[arguments.by](place_of(kernels, address))] += count
        shares[name] = {label: count / counts.total() for label, count in counts.most_common()}
    print(table(shares, arguments.top))
    if arguments.out:
        arguments.out.write_text(json.dumps(about | {"shares": shares}, indent=1) + "\n", encoding="utf-8")


def engine_case(figure: str) -> Case:
    """A figure of the engine."""
    from tyche_env.bench.engine import RUNS
    from tyche_env.simulate import new_engine

    figure_run = RUNS[figure]
    world = figure_run.world()
    engines: list[Any] = []

    def prepare() -> None:
        engines[:] = [new_engine(world, record=figure_run.record == "all")]

    def run() -> None:
        engines[0].advance_until(world.end_us)
        engines[0].drain()

    return Case(prepare, run)


def env_case() -> Case:
    """Steps of the environment with random actions."""
    from tyche_env.env import PreloadEnv

    env = PreloadEnv(str(SPEED / "env-200.yaml"), split="test", decision_interval_s=10)
    actions = np.random.default_rng(0).uniform(-1, 1, (64, env.max_functions, 2)).astype(np.float32)

    def prepare() -> None:
        env.reset(seed=1, options={"window": 0})
        env.step(actions[0])

    def run() -> None:
        for step in range(2_000):
            env.step(actions[step % len(actions)])

    return Case(prepare, run)


def rows_case() -> Case:
    """Steps of the stable-baselines3 adapter that shows each function as an environment."""
    from agents.training.vec_envs import FunctionVecEnv
    from tyche_env.bench.environment import CLUSTERS, some_actions

    adapter = FunctionVecEnv(CLUSTERS, "small")
    actions = some_actions(adapter.batch.max_functions)[..., :1].reshape(-1, adapter.num_envs, 1)

    def prepare() -> None:
        adapter.seed(1)
        adapter.reset()
        adapter.step(actions[0])

    def run() -> None:
        for step in range(300):
            adapter.step(actions[step % len(actions)])

    return Case(prepare, run)


CASES: dict[str, Callable[[], Case]] = {
    "rare": lambda: engine_case("full_model_5000_functions_invocations_per_cpu_s"),
    "starved": lambda: engine_case("full_model_starved_invocations_per_cpu_s"),
    "ample": lambda: engine_case("full_model_invocations_per_cpu_s"),
    "contention": lambda: engine_case("full_model_contention_invocations_per_cpu_s"),
    "env.step": env_case,
    "FunctionVecEnv": rows_case,
}
"""By name, what makes a case ready."""


def sample(case: Case) -> dict[int, int]:
    """Addresses of the instructions that ran when the timer's signal came, each with how often."""
    seen = np.zeros(1 + ROOM, np.int64)  # how many, then the addresses
    note = noting(seen.ctypes.data)
    case.prepare()
    case.run()  # not counted: what the caches and the allocator learn
    with handled_by(note.address):
        for _ in range(REPEATS):
            case.prepare()
            signal.setitimer(signal.ITIMER_REAL, INTERVAL_S, INTERVAL_S)
            case.run()
            signal.setitimer(signal.ITIMER_REAL, 0)
    addresses, counts = np.unique(seen[1 : 1 + min(seen[0], ROOM)], return_counts=True)
    return dict(zip(addresses.tolist(), counts.tolist(), strict=True))


def noting(where: int) -> Any:
    """A signal handler, as machine code, that appends the address of the instruction it interrupts to a table.

    Python's own handlers run between two instructions of Python, and so never see a kernel at work.
    """
    import numba as numba_package
    from numba.core import cgutils as numba_cgutils
    from numba.extending import intrinsic

    numba: Any = numba_package  # not typed
    cgutils: Any = numba_cgutils
    types = numba.types
    words = types.CPointer(types.int64)
    carray = numba.carray

    def as_words(typing: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], cgutils.intp_t.as_pointer())

        return words(address), generate

    pointer: Any = intrinsic(as_words)

    @numba.cfunc(types.void(types.int32, types.voidptr, words))  # type: ignore[untyped-decorator]
    def note(number: int, information: Any, context: Any) -> None:
        table = carray(pointer(where), 1 + ROOM)
        table[1 + table[0] % ROOM] = context[REGISTERS + INSTRUCTION]
        table[0] += 1

    return note


class _Action(ctypes.Structure):
    """``struct sigaction`` of the C library on Linux."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_byte * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


@contextmanager
def handled_by(handler: int) -> Iterator[None]:
    """Have the timer's signal handled by the machine code at an address."""
    library = ctypes.CDLL(None, use_errno=True)
    before, action = _Action(), _Action(handler=handler, flags=WITH_CONTEXT | RESTART)
    if library.sigaction(signal.SIGALRM, ctypes.byref(action), ctypes.byref(before)) != 0:
        raise OSError(ctypes.get_errno(), "the timer's signal cannot be handled")
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        library.sigaction(signal.SIGALRM, ctypes.byref(before), None)


def rule_of(place: Place | None) -> str:
    """The line of the table that a place belongs to: a rule, or the file if none has it."""
    if place is None:
        return OUTSIDE
    return next((rule for rule, files in RULES.items() if any(file in place.file for file in files)), place.file)


LABELS: dict[str, Callable[[Place | None], str]] = {
    "rule": rule_of,
    "function": lambda place: OUTSIDE if place is None else f"{Path(place.file).stem}.{place.function}",
    "line": lambda place: OUTSIDE if place is None else f"{Path(place.file).name}:{place.line} {place.function}",
}


def table(shares: Mapping[str, Mapping[str, float]], top: int) -> str:
    """Shares of all cases, in the order of their sums."""
    labels = {label for found in shares.values() for label in found}
    ordered = sorted(labels, key=lambda label: -sum(found.get(label, 0.0) for found in shares.values()))
    rows = [f"| | {' | '.join(shares)} |", "|---" * (1 + len(shares)) + "|"]
    for label in ordered[:top]:
        cells = (f"{100 * found[label]:.1f} %" if label in found else "-" for found in shares.values())
        rows.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
