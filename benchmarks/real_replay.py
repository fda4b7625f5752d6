"""``make real``: replay a window of the real trace on real containers, without a pre-loader and with Tyche.

Installs docker.io where that is possible and needed (as root, on Debian), makes the weights that are not in packages,
starts an embedded platform for each run, prints measured latencies, and leaves nothing running.  Without Docker the
containers are plain processes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

from left_behind import Own

from real_backend.functions.catalogue import RANDOM_WEIGHTS
from real_backend.functions.weights import make_weights, weights_folder
from tyche_env.scenario import Scenario

_LOOK_S = 0.5
TARGET = 1 / 3
"""Tyche's warming and loading time, as a share of what requests pay without it, that is expected at most."""


def main() -> int:
    """Run; 0 if Tyche is as much better as expected and nothing is left."""
    parser = argparse.ArgumentParser(prog="make real", description=__doc__)
    parser.add_argument(
        "--containers", choices=("process", "docker"), help="what containers are (Docker where it works)"
    )
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    parser.add_argument("--scenario", default="real-azure", help="(real-azure)")
    parser.add_argument("--mode", action="append", choices=("paper", "realistic"), help="both by default")
    parser.add_argument("--out", type=Path, default=Path("runs") / f"real-{datetime.now():%Y%m%d-%H%M%S}")
    options = parser.parse_args()
    if options.engine is not None:
        parser.error("--engine: is now --containers")
    containers = options.containers or ("docker" if _have_docker() else "process")
    scenario = Scenario.load(options.scenario)
    for profile in scenario.functions.selected():
        if profile.name in RANDOM_WEIGHTS:
            print(f"weights of {profile.name}: {make_weights(profile.name, weights_folder())[0].parent}", flush=True)
    modes = options.mode or ["paper", "realistic"]
    run_min = scenario.trace.warm_up_min + scenario.trace.window_min
    print(
        f"scenario {scenario.name}, {containers} containers: {2 * len(modes)} runs in real time, {run_min:g} "
        f"minutes each, about {2 * len(modes) * (run_min + 0.5):.0f} in all; load average {os.getloadavg()[0]:.2f}",
        flush=True,
    )
    command = ["evaluate", "--backend", "openwhisk", "--scenario", scenario.name, "--windows", "1", "--record", "all"]
    for mode in modes:
        command += ["--mode", mode]
    command += ["--policy", "none", "--policy", "tyche", "--out", str(options.out)]
    own = Own()
    process = subprocess.Popen(
        [sys.executable, "-c", "from tyche_env.cli import main; main()", *command],
        env={**os.environ, "TYCHE_CONTAINERS": containers, "TMPDIR": str(own.folder)},
    )
    try:
        while process.poll() is None:
            own.look()
            time.sleep(_LOOK_S)
    except KeyboardInterrupt:
        # it is interrupted, too, and gives back what it has
        process.wait()
        raise
    left = own.left()
    own.close()
    print(f"left behind: {', '.join(left) or 'nothing'}; load average {os.getloadavg()[0]:.2f}")
    if process.returncode != 0 or left:
        return 1
    return _verdict(options.out)


def _have_docker() -> bool:
    """Whether there is a Docker daemon to start; installs one as root on Debian."""
    if shutil.which("dockerd") is None and os.geteuid() == 0 and shutil.which("apt-get") is not None:
        print("installing docker.io", flush=True)
        quiet = {"stdout": subprocess.DEVNULL, "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}}
        subprocess.run(["apt-get", "update", "-qq"], check=False, **quiet)  # type: ignore[call-overload]
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "docker.io"]
        subprocess.run(install, check=False, **quiet)  # type: ignore[call-overload]
    return shutil.which("dockerd") is not None and os.geteuid() == 0


def _verdict(out: Path) -> int:
    """Print what was measured, and whether Tyche is as much better as expected in paper mode."""
    rows = json.loads((out / "summary.json").read_text(encoding="utf-8"))["rows"]
    loading_ms: dict[tuple[str, str], float] = {}
    for row in rows:
        loading_ms[row["mode"], row["policy"]] = row["warming_loading_ms_mean"]
        print(
            f"{row['mode']:9} {row['policy']:5} {row['requests']:4} requests, warming + loading "
            f"{row['warming_loading_ms_mean']:7.1f} ms, end to end {row['end_to_end_ms_mean']:7.1f} ms, "
            f"pre-loaded {100 * row['preload_rate']:.0f} %; {json.dumps(row['health'])}"
        )
    if ("paper", "none") not in loading_ms:
        return 0
    share = loading_ms["paper", "tyche"] / loading_ms["paper", "none"]
    print(f"paper mode: Tyche's requests pay {100 * share:.0f} % of the warming and loading time without it")
    return 0 if share <= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
