"""This checkout against an earlier revision of it: the same figures of ``tyche bench``, by turns, and their ratio.

A machine that is shared is now fast and now slow; what two versions reach in turns on it tells them apart.

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
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENGINE = "invocations_per_cpu_s"
"""Part of the names of what is compared if nothing is said."""
BENCH = "import sys; sys.argv[0] = 'tyche'; from tyche_env.cli import main; main()"


def main() -> None:
    """Compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("revision", help="what to compare with, as git names it")
    parser.add_argument("--only", action="append", help=f"names that contain this; may be repeated (default: {ENGINE})")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each version (default: 5)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each figure in a turn (default: 3)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        before = Path(folder) / "before"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(before), arguments.revision], check=True)
        try:
            compare(before, arguments.only or [ENGINE], arguments.rounds, arguments.repeats)
        finally:
            subprocess.run([*git, "remove", "--force", str(before)], check=True)


def compare(before: Path, only: list[str], rounds: int, repeats: int) -> None:
    """Measure both by turns and print, for each figure, the medians of the turns and the median of their ratios."""
    found: dict[str, list[tuple[float, float]]] = {}
    for version in (before, ROOT):  # compiles
        measure(version, only, 1)
    for turn in range(rounds):
        order = (before, ROOT) if turn % 2 == 0 else (ROOT, before)
        values = {version: measure(version, only, repeats) for version in order}
        for name, old in values[before].items():
            if name in values[ROOT]:
                found.setdefault(name, []).append((old, values[ROOT][name]))
        print(f"turn {turn + 1} of {rounds}", file=sys.stderr)
    print(f"{'figure':55} {'before':>12} {'now':>12}  ratio, least and most")
    for name, pairs in found.items():
        old, new = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratios = sorted(now / then for then, now in pairs)
        spread = f"{statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})"
        print(f"{name:55} {old:12,.4g} {new:12,.4g}  {spread}")


def measure(version: Path, only: list[str], repeats: int) -> dict[str, float]:
    """Some figures of a version, by name."""
    command = [sys.executable, "-c", BENCH, "bench", "--json", "--repeats", str(repeats)]
    for part in only:
        command += ["--only", part]
    environment = os.environ | {"PYTHONPATH": str(version)}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment, cwd=version)
    return {row["name"]: row["value"] for row in json.loads(done.stdout)["results"]}


if __name__ == "__main__":
    main()
