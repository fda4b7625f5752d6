"""This checkout against an earlier revision of it: what the same figures cost in each, asked by turns.

A machine that is shared is now fast and now slow, within seconds. So one process of each version stays alive, with
its worlds built and its kernels loaded, and they run by turns, one run at a time. What disturbs a run makes it dearer
and never cheaper: the least of each version's turns is compared, and beside it stand the turns' own ratios.

    python benchmarks/versions.py cf36ac9                       # the engine's figures
    python benchmarks/versions.py HEAD~5 --only env_step --rounds 9
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENGINE = "invocations_per_cpu_s"
"""Part of the names of what is compared if nothing is said."""

WORKER = """
import functools, json, sys
from tyche_env import bench
from tyche_env.bench import engine
from tyche_env.simulate import simulate

worlds = functools.cache(lambda name: engine.RUNS[name].world())
found = bench.benchmarks()
print(json.dumps(list(found)), flush=True)
for line in sys.stdin:
    name = line.strip()
    if name in engine.RUNS:
        print(simulate(worlds(name), record=engine.RUNS[name].record).cpu_s, flush=True)
    else:
        figure = found[name](1)
        print(figure.value if figure.at_most else 1 / figure.value, flush=True)
"""
"""Answers each name of a figure with what one run of it costs: what is better when it is more, as its inverse."""


def main() -> None:
    """Compare."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n\n    python")[0], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("revision", help="what to compare with, as git names it")
    parser.add_argument("--only", action="append", help=f"names that contain this; may be repeated (default: {ENGINE})")
    parser.add_argument("--rounds", type=int, default=15, help="runs of each figure by each version (default: 15)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        before = Path(folder) / "before"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(before), arguments.revision], check=True)
        try:
            compare(before, arguments.only or [ENGINE], arguments.rounds)
        finally:
            subprocess.run([*git, "remove", "--force", str(before)], check=True)


def compare(before: Path, only: list[str], rounds: int) -> None:
    """Run each figure by turns and print what it costs now, as a share of what it cost before."""
    print(f"{'cost now / before':55} {'least':>7} {'median of turns':>16}  least and most", flush=True)
    with worker(before) as old, worker(ROOT) as new:
        names = [name for name in new.names if name in old.names and any(part in name for part in only)]
        if not names:
            sys.exit(f"versions.py: no figure of both versions has {' or '.join(only)} in its name")
        for name in names:
            old.cost(name), new.cost(name)  # builds the world, compiles
            costs: list[tuple[float, float]] = []
            for turn in range(rounds):
                if turn % 2:
                    costs.append((old.cost(name), new.cost(name)))
                else:
                    now = new.cost(name)
                    costs.append((old.cost(name), now))
            least = min(now for _, now in costs) / min(then for then, _ in costs)
            ratios = sorted(now / then for then, now in costs)
            print(
                f"{name:55} {least:7.3f} {statistics.median(ratios):16.3f}  {ratios[0]:.3f} to {ratios[-1]:.3f}",
                flush=True,
            )


class Worker:
    """A process that runs figures of one version."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.names: list[str] = json.loads(self._answer())

    def cost(self, name: str) -> float:
        """What one run of a figure costs."""
        assert self._process.stdin is not None
        self._process.stdin.write(name + "\n")
        self._process.stdin.flush()
        return float(self._answer())

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit("versions.py: the process of one version ended; its error stands above")
        return line


@contextmanager
def worker(version: Path) -> Iterator[Worker]:
    """A worker of the version in a folder, until the block ends."""
    with subprocess.Popen(
        [sys.executable, "-c", WORKER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(version)},
        cwd=version,
    ) as process:
        try:
            yield Worker(process)
        finally:
            process.kill()


if __name__ == "__main__":
    main()
