"""Peak memory of a streamed run: ``python -m agents.memory WORLD POLICY LOG`` prints it as JSON.

A process of its own, since a peak is a process's.
"""

from __future__ import annotations

import json
import resource
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from tyche_env.stored import write_world
from tyche_env.world import World

MB = 1_000_000


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
    from agents.simulation import run
    from tyche_env.simulator import warm_up
    from tyche_env.stored import read_world

    for module in ("pyarrow.parquet", "agents.policy", "agents.runs", "tyche_env.simulate"):
        import_module(module)  # what the run would import later
    warm_up()
    imports_mb = resident_mb()
    result = run(read_world(folder), policy, log)
    return {
        "imports_mb": imports_mb,
        "peak_mb": peak_mb(),
        "requests": int(np.sum(result.totals["requests"])),
        "invocations": len(result.world.arrival_us),
        "cpu_s": result.cpu_s,
    }


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))))
