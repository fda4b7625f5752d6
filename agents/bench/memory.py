"""Peak memory of a streamed run: ``python -m agents.bench.memory WORLD POLICY LOG`` prints it as JSON.

A process of its own, since a peak is a process's.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.format import open_memmap

from tyche_env.stored import write_world
from tyche_env.world import World

if TYPE_CHECKING:
    from tyche_env.bench.measurement import Measurement

MB = 1_000_000
MEMORY_TIMES = 10
"""Repetitions of the day of ``speed-200``: 10^7 requests."""


def repeat_world(world: World, times: int, folder: Path) -> None:
    """Write a world whose requests come ``times`` over, one window after the other; never in memory as a whole."""
    write_world(world, folder)
    count = len(world.arrival_us)
    for name in ("arrival_us", "arrival_function"):
        column = getattr(world, name)
        large = open_memmap(folder / f"{name}.npy", mode="w+", dtype=column.dtype, shape=(count * times,))
        for turn in range(times):
            later = turn * world.end_us if name == "arrival_us" else 0
            large[turn * count : (turn + 1) * count] = column + column.dtype.type(later)
        large.flush()
    about = folder / "world.json"
    content = json.loads(about.read_text(encoding="utf-8"))
    about.write_text(json.dumps(content | {"end_us": world.end_us * times}) + "\n", encoding="utf-8")


def resident_mb() -> float:
    """Memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * resource.getpagesize() / MB


def peak_mb() -> float:
    """Most memory that this process ever had; ``getrusage`` would count its parent's, too."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (most_kb,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(most_kb) * 1024 / MB


def measure(folder: Path, policy: str, log: Path) -> dict[str, float]:
    """Run a stored world with its log going to a file.

    Returns:
        ``imports_mb``: after all imports, numba and the loaded kernels among them; ``peak_mb``; ``invocations``, and
        ``requests`` that were scored; ``cpu_s``.
    """
    from agents.evidence.run_folder import RequestsWriter
    from agents.playing.play import play
    from agents.policies.loading import load
    from tyche_env.simulator.loading import warm_up
    from tyche_env.stored import read_world

    for module in ("pyarrow.parquet", "tyche_env.simulate"):
        import_module(module)  # what the run would import later
    warm_up()
    imports_mb = resident_mb()
    world = read_world(folder)
    with RequestsWriter(log, world.names, {"policy": policy}) as writer:
        played = play(world, load(policy), record=writer.write)
    return {
        "imports_mb": imports_mb,
        "peak_mb": peak_mb(),
        "requests": int(np.sum(played.totals["requests"])),
        "invocations": len(played.world.arrival_us),
        "cpu_s": played.cpu_s,
    }


def memory(repeats: int) -> Measurement:
    """Peak memory of 10^7 requests above the imports: arrivals mapped, log streamed; measured once."""
    from tyche_env.bench.measurement import SPEED, Measurement
    from tyche_env.scenario import Scenario
    from tyche_env.simulator.loading import warm_up
    from tyche_env.simulator.log import LOG_DTYPE

    warm_up()  # compiling takes more memory than any run
    with tempfile.TemporaryDirectory() as name:
        folder, log = Path(name) / "world", Path(name) / "requests.parquet"
        repeat_world(Scenario.load(SPEED / "speed-200.yaml").world(), MEMORY_TIMES, folder)
        command = [sys.executable, "-m", "agents.bench.memory", str(folder), "tyche", str(log)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found = json.loads(done.stdout)
        written = log.stat().st_size / MB
    value = found["peak_mb"] - found["imports_mb"]
    whole_mb = found["invocations"] * (8 + 4 + LOG_DTYPE.itemsize) / MB
    return Measurement(
        name="memory_10_million_invocations_mb",
        value=value,
        unit="MB",
        reference="arrivals and log kept in memory",
        ratio=value / whole_mb,
        goal=160.0,
        note=f"{found['invocations']} invocations under tyche in {found['cpu_s']:.1f} CPU-s, log of {written:.0f} MB; "
        f"{found['imports_mb']:.0f} MB after the imports, kernels included, {found['peak_mb']:.0f} MB at most",
        at_most=True,
    )


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))))
