"""``make real``: replay a window of the real trace on real containers: none, Tyche and a learned agent, both modes.

Installs docker.io where that is possible and needed (as root, on Debian), makes the weights that are not in packages,
starts an embedded platform for each run, and leaves nothing running.  Without Docker the containers are plain
processes.  What was measured is printed beside what the simulator predicts for the same requests, with profiles fitted
to one of the runs: the first one without a pre-loader.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from left_behind import Own

from agents.evidence.pages import fill
from agents.experiments.beside import Row, figures_of, misses, simulated, table
from real_backend.calibration import fit
from real_backend.functions.catalogue import RANDOM_WEIGHTS
from real_backend.functions.weights import make_weights, weights_folder
from tyche_env.errors import UserError
from tyche_env.profiles import write_catalogue
from tyche_env.scenario import Scenario

_LOOK_S = 0.5
TARGET = 1 / 3
"""Tyche's warming and loading time, as a share of what requests pay without it, that is expected at most."""
POLICIES = ("none", "tyche", "learned")
MODES = ("paper", "realistic")
_STARTING_MIN = 0.5
"""What a run takes beside its window: a platform is started, each function tried, all given back."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; 0 if Tyche is as much better as expected and nothing is left, 2 after a user's error."""
    parser = argparse.ArgumentParser(prog="make real", description=__doc__)
    parser.add_argument(
        "--containers", choices=("process", "docker"), help="what containers are (Docker where it works)"
    )
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    parser.add_argument("--scenario", default="real-azure", help="(real-azure)")
    parser.add_argument("--windows", type=int, default=1, help="how many of the test windows (1)")
    parser.add_argument("--mode", action="append", choices=MODES, help="both by default")
    parser.add_argument("--policy", action="append", choices=POLICIES, help="may be repeated; all by default")
    parser.add_argument("--out", type=Path, default=Path("runs") / f"real-{datetime.now():%Y%m%d-%H%M%S}")
    parser.add_argument("--from", dest="measured", type=Path, help="run nothing: show what this folder of a run holds")
    parser.add_argument("--page", type=Path, help="write the tables into this page, too (docs/real-backend.md)")
    options = parser.parse_args(arguments)
    if options.engine is not None:
        parser.error("--engine: is now --containers")
    if options.windows < 1:
        parser.error(f"--windows: needs at least 1, got {options.windows}")
    try:
        if options.measured is None:
            status = _run(options)
            if status != 0:
                return status
        return _show(options.measured or options.out, options.page)
    except UserError as error:
        print(f"make real: {error}", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace) -> int:
    """Make the runs; 0 if all were made and nothing is left."""
    containers = options.containers or ("docker" if _have_docker() else "process")
    scenario = Scenario.load(options.scenario)
    for profile in scenario.functions.selected():
        if profile.name in RANDOM_WEIGHTS:
            print(f"weights of {profile.name}: {make_weights(profile.name, weights_folder())[0].parent}", flush=True)
    modes, policies = options.mode or MODES, options.policy or POLICIES
    runs = len(modes) * len(policies) * options.windows
    run_min = scenario.trace.warm_up_min + scenario.trace.window_min
    print(
        f"scenario {scenario.name}, {containers} containers: {runs} runs in real time, {run_min:g} "
        f"minutes each, about {runs * (run_min + _STARTING_MIN):.0f} in all; load average {os.getloadavg()[0]:.2f}",
        flush=True,
    )
    command = ["evaluate", "--backend", "openwhisk", "--scenario", options.scenario, "--record", "all"]
    command += ["--windows", str(options.windows), "--out", str(options.out)]
    for mode in modes:
        command += ["--mode", mode]
    for policy in policies:
        command += ["--policy", policy]
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
    return 1 if process.returncode != 0 or left else 0


def _have_docker() -> bool:
    """Whether there is a Docker daemon to start; installs one as root on Debian."""
    if shutil.which("dockerd") is None and os.geteuid() == 0 and shutil.which("apt-get") is not None:
        print("installing docker.io", flush=True)
        quiet = {"stdout": subprocess.DEVNULL, "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}}
        subprocess.run(["apt-get", "update", "-qq"], check=False, **quiet)  # type: ignore[call-overload]
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "docker.io"]
        subprocess.run(install, check=False, **quiet)  # type: ignore[call-overload]
    return shutil.which("dockerd") is not None and os.geteuid() == 0


def beside(folder: Path, scratch: Path) -> list[Row]:
    """The runs of a folder beside their predictions, a row each mode, window and policy.

    Args:
        folder: of a finished real run.
        scratch: where the catalogue of the fitted profiles goes.

    Raises:
        UserError: the folder is none, or has no run without a pre-loader to fit to.
    """
    try:
        content = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["rows"]
        split = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["plan"]["split"]
        requests = pd.read_parquet(folder / "requests.parquet")
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder}: is no folder of a finished run ({error})") from None
    scenario = Scenario.load(folder / "scenario.yaml")
    fitted_to = [row for row in content if row["policy"] == "none" and "invocations" in row][:1]
    if not fitted_to:
        raise UserError(f"{folder}: has no real run of the policy none, which profiles are fitted to")
    found = fit(scenario, split, fitted_to, f"fitted to {folder.name}")
    catalogue = scratch / "calibrated.csv"
    write_catalogue(catalogue, found.profiles)
    calibrated = found.applied(catalogue)
    rows = []
    for mode, window in dict.fromkeys((row["mode"], row["window"]) for row in content):
        for row in (each for each in content if (each["mode"], each["window"]) == (mode, window)):
            conditions = {key: row[key] for key in ("window", "seed", "prewarm", "mode")}
            of_run = requests["policy"] == row["policy"]
            for key in ("window", "seed", "prewarm", "mode"):
                of_run &= requests[key] == row[key]
            world = scenario.world(split, window, row["seed"])
            limits_us = dict(zip(world.names, world.functions.unserved_us.tolist(), strict=True))
            own = requests[of_run]
            own = own.assign(unserved_us=own["function"].astype(str).map(limits_us))
            predicted = simulated(calibrated, row["policy"], split=split, **conditions)
            lost = row["health"]["lost_containers"]
            name = f"{mode}, window {window}"
            rows.append(Row(name, row["policy"], figures_of(own), figures_of(predicted), lost))
    return rows


def _show(folder: Path, page: Path | None) -> int:
    """Print the tables, and write them into a page; 0 if Tyche is as much better as expected in paper mode."""
    with TemporaryDirectory() as scratch:
        rows = beside(folder, Path(scratch))
    conditions = _conditions(folder)
    blocks = {}
    for mode in MODES:
        own = [row for row in rows if row.name.startswith(mode)]
        if own:
            far = [row for row in own if not row.close]
            parts = [table(own)]
            if far:
                parts.append(
                    "Where the simulator is outside: stage by stage in ms, and shares of start types, measured"
                )
                parts[-1] += " (simulated):\n\n" + misses(far)
            blocks[f"real-{mode}"] = "\n\n".join(parts)
            print(f"\n{mode} mode, warming + loading per request / per function\n\n{blocks[f'real-{mode}']}")
    print(f"\n{conditions}")
    if page is not None:
        fill(page, blocks | {"real-conditions": conditions})
    return _verdict(rows)


def _conditions(folder: Path) -> str:
    """Where and when, in a sentence."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    rows: list[dict[str, Any]] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["rows"]
    loads = [row["health"]["load_average"][0] for row in rows]
    places = ", ".join(sorted({row["health"]["where"] for row in rows}))
    load = f"load average of the runs {min(loads):.1f} to {max(loads):.1f}"
    return f"Measured {manifest['started'][:10]} on {places}; {load}."


def _verdict(rows: Sequence[Row]) -> int:
    """Say whether Tyche is as much better as expected in paper mode, over all windows."""
    totals = {
        policy: [row.measured for row in rows if row.name.startswith("paper") and row.policy == policy]
        for policy in POLICIES
    }
    pays = {
        policy: sum(each.loading * each.requests for each in own) / sum(each.requests for each in own)
        for policy, own in totals.items()
        if own
    }
    if not {"none", "tyche"} <= set(pays):
        return 0
    share = pays["tyche"] / pays["none"]
    print(f"paper mode: Tyche's requests pay {100 * share:.0f} % of the warming and loading time without it")
    return 0 if share <= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
