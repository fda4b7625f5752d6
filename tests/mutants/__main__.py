"""Plant each wrong line in a copy of the tree and see its test fail: ``python -m tests.mutants [NAME ...]``.

The working tree is never touched.  A line that no test notices is an error, and so is an entry whose old text the
sources no longer hold exactly once, or whose test fails without it.
"""

from __future__ import annotations

import argparse
import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import cache_from_source
from pathlib import Path

from tests.mutants.listed import ROOT, Mutant, read_mutants

AT_ONCE = 2
PLAIN_LIMIT_S = 40.0
"""Processor time within which a file of tests has to pass without any mutant."""
PATIENCE = 6
"""Times a limit that a run may take by the clock, on a machine that has other things to do."""
PARTS = ("agents", "benchmarks", "docs", "real_backend", "tests", "traces", "tyche_env")
"""What is copied, beside the files of the root."""
_PASSED, _FAILED = 0, 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a file of tests took it.

    Attributes:
        said: ``caught``, or what went wrong.
        seconds: of processor time that it took.
        output: what pytest printed.
    """

    said: str
    seconds: float
    output: str = ""

    @property
    def right(self) -> bool:
        """Whether it is as it shall be."""
        return self.said in ("caught", "passes")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=str(__doc__).partition("\n\n")[0])
    parser.add_argument("names", nargs="*", help="mutants whose name, file or test contains one of these; else all")
    parser.add_argument("--sample", type=int, metavar="N", help="so many of them, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of that draw (default 0)")
    parser.add_argument("--list", action="store_true", help="print them and run nothing")
    given = parser.parse_args(arguments)
    listed = read_mutants()
    chosen = [m for m in listed if not given.names or any(n in f"{m.name} {m.file} {m.test}" for n in given.names)]
    if not chosen:
        parser.error(f"no mutant has {' or '.join(given.names)} in its name, file or test")
    if given.sample is not None:
        chosen = random.Random(given.seed).sample(chosen, min(given.sample, len(chosen)))
        print(f"{len(chosen)} of {len(listed)}, seed {given.seed}")
    if given.list:
        for mutant in chosen:
            print(f"{mutant.name}: {mutant.breaks} ({mutant.file}; {mutant.test})")
        return 0
    # a stale entry is an error, whatever the others do
    for mutant in chosen:
        try:
            mutant.apply(ROOT)
        except (OSError, ValueError) as error:
            print(f"stale: {error}", file=sys.stderr)
            return 1
    return 0 if hunt(chosen) else 1


def hunt(mutants: Sequence[Mutant]) -> bool:
    """Plant all, print a table, and say whether each was noticed."""
    started_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tyche-mutants-") as name:
        trees = _Trees(Path(name))
        if not trees.kernels_load():
            return False
        tests = sorted({mutant.test for mutant in mutants})
        plain = dict(zip(tests, trees.each([_plainly(test) for test in tests]), strict=True))
        for test, outcome in plain.items():
            _print(outcome, test, "without a mutant")
        # the slowest first, so that the last ones end together
        sound = sorted((m for m in mutants if plain[m.test].right), key=lambda mutant: -mutant.limit_s)
        outcomes = trees.each([_planted(mutant) for mutant in sound])
    count = Counter(outcome.said for outcome in outcomes)
    missed = [(m.name, outcome) for m, outcome in zip(sound, outcomes, strict=True) if not outcome.right]
    broken = [test for test, outcome in plain.items() if not outcome.right]
    for mutant, outcome in missed:
        print(f"\n== {mutant}: {outcome.said}\n{outcome.output[-3000:]}")
    for test in broken:
        print(f"\n== {test} without a mutant: {plain[test].said}\n{plain[test].output[-3000:]}")
    counted = ", ".join(f"{number} {said}" for said, number in count.most_common())
    print(f"\n{len(mutants)} mutants in {time.monotonic() - started_s:.0f} s: {counted or 'none planted'}")
    return not missed and not broken


Job = Callable[[Path], Outcome]
"""Does something in a copy of the tree and leaves it as it was."""


class _Trees:
    """Copies of the tree, one for each that is at work."""

    def __init__(self, folder: Path) -> None:
        self._free: queue.Queue[Path] = queue.Queue()
        for number in range(AT_ONCE):
            copy = folder / str(number)
            copy.mkdir()
            for file in (path for path in ROOT.iterdir() if path.is_file()):
                shutil.copy2(file, copy / file.name)
            for part in PARTS:
                shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
            self._free.put(copy)

    def kernels_load(self) -> bool:
        """Compile the kernels of the sources as they are, so that no test waits for them."""
        tree = self._free.get()
        code = "from tyche_env.simulator.loading import warm_up; warm_up()"
        done = subprocess.run([sys.executable, "-c", code], cwd=tree, env=_environment(tree), check=False)
        self._free.put(tree)
        return done.returncode == 0

    def each(self, jobs: Sequence[Job]) -> list[Outcome]:
        """The outcome of each, :data:`AT_ONCE` at a time."""

        def do(job: Job) -> Outcome:
            tree = self._free.get()
            try:
                return job(tree)
            finally:
                self._free.put(tree)

        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(do, jobs))


def _plainly(test: str) -> Job:
    """A file of tests, without a mutant."""

    def job(tree: Path) -> Outcome:
        status, seconds, output = _pytest(tree, test, PLAIN_LIMIT_S, _environment(tree))
        said = "passes" if status == _PASSED else f"fails with {status}"
        return Outcome(said if seconds <= PLAIN_LIMIT_S else f"takes more than {PLAIN_LIMIT_S:.0f} s", seconds, output)

    return job


def _planted(mutant: Mutant) -> Job:
    """A mutant's test, with the mutant."""

    def job(tree: Path) -> Outcome:
        environment = _environment(tree)
        if mutant.compiled:
            # its kernels are of no use to anybody else, and would push others out of the cache
            environment["TYCHE_CACHE_DIR"] = str(tree / ".kernels")
        source = tree / mutant.file
        whole = source.read_text(encoding="utf-8")
        try:
            _write(source, mutant.apply(tree))
            status, seconds, output = _pytest(tree, mutant.test, mutant.limit_s, environment)
        finally:
            _write(source, whole)
            shutil.rmtree(tree / ".kernels", ignore_errors=True)
        if seconds > mutant.limit_s:
            said = f"not noticed within {mutant.limit_s:.0f} s"
        else:
            said = {_FAILED: "caught", _PASSED: "survived"}.get(status, f"pytest ended with {status}")
        outcome = Outcome(said, seconds, output)
        _print(outcome, mutant.name, mutant.breaks)
        return outcome

    return job


def _pytest(tree: Path, test: str, limit_s: float, environment: dict[str, str]) -> tuple[int, float, str]:
    """Status, seconds of processor time and output of a file's quick tests up to the first that fails."""
    command = [sys.executable, "-m", "pytest", test, "-x", "-q", "-m", "not slow", "-p", "no:cacheprovider"]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        process = subprocess.Popen(
            command, cwd=tree, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        # with all processes that the tests began
        timer = threading.Timer(PATIENCE * limit_s, os.killpg, (process.pid, signal.SIGKILL))
        timer.start()
        _, status, used = os.wait4(process.pid, 0)
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        return process.returncode, used.ru_utime + used.ru_stime, output.read()


def _environment(tree: Path) -> dict[str, str]:
    """Everything is imported from a copy of the tree, by child processes too."""
    traces = ROOT.parent / "shared" / "traces"
    return {"TYCHE_TRACES": str(traces)} | os.environ | {"PYTHONPATH": str(tree)}


def _write(source: Path, text: str) -> None:
    """Write a source, and forget what was made of the one before: Python tells them apart by second and size alone."""
    source.write_text(text, encoding="utf-8")
    Path(cache_from_source(str(source))).unlink(missing_ok=True)


_PRINTING = threading.Lock()


def _print(outcome: Outcome, name: str, about: str) -> None:
    with _PRINTING:
        print(f"{outcome.said:<8} {outcome.seconds:5.1f} s  {name}: {about}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
