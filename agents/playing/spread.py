"""Where runs go: this process, processes of this machine, or a Ray cluster; and doing many of them.

Each world is made once and shared: processes map its files, tasks of a Ray cluster the copy in the object store of
their machine.  Test windows that are sealed where the runs come from are sealed where they are played.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from agents.playing.cluster import ray_crew
from agents.playing.processes import Processes
from agents.playing.runs import Crew, EvaluationError, Run, T

On = Literal["processes", "ray"]

Progress = Callable[[int, int], None]
"""Told how many of how many are done."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Where simulations run.

    Attributes:
        jobs: processes; None: one a core; 1: this process.
        on: processes of this machine, or a Ray cluster, which decides itself how many run at once.
    """

    jobs: int | None = 1
    on: On = "processes"

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            EvaluationError: ``jobs`` is below 1, or there is no Ray.
        """
        if self.jobs is not None and self.jobs < 1:
            raise EvaluationError(f"--jobs: needs at least 1, got {self.jobs}")
        if self.on == "ray" and find_spec("ray") is None:
            raise EvaluationError("--on ray: Ray is not installed; pip install 'tyche-env[cluster]'")

    @property
    def processes(self) -> int:
        """How many run at once on this machine."""
        return self.jobs or os.cpu_count() or 1


ALONE = Spread()
"""In this process, one simulation after the other."""

ALL_CORES = Spread(None)
"""Over as many processes as there are cores."""


@contextmanager
def crew(spread: Spread, folder: Path | None = None) -> Iterator[Crew]:
    """Who does runs until the end of the block.

    Args:
        spread: where.
        folder: for the files of worlds, which stay there; None: one that goes at the end.

    Raises:
        EvaluationError: a process died, or the cluster lost a run more often than Ray repeats it.
    """
    with ExitStack() as stack:
        if spread.on == "ray":
            yield stack.enter_context(ray_crew())
        elif spread.processes == 1:
            yield THIS_PROCESS
        else:
            at = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tyche-")))
            with Processes(spread.processes, at) as processes:
                yield processes


class _Alone:
    """This process."""

    cpu_s = 0.0

    def do(self, runs: Iterable[Run[T]]) -> Iterator[tuple[int, T]]:
        """One run after the other; a world stays for as long as its runs follow each other."""
        key, requests = None, None
        for place, run in enumerate(runs):
            if requests is None or key != run.world_key:
                key, requests = run.world_key, run.requests()
            yield place, run.row(requests)


THIS_PROCESS: Crew = _Alone()
"""Does one run after the other."""


def play_each(
    runs: Sequence[Run[T]], workers: Crew = THIS_PROCESS, progress: Progress | None = None
) -> Iterator[tuple[Run[T], T]]:
    """Do some runs; each with its row as soon as it has finished.

    Args:
        runs: of different keys; those of one world had better follow each other.
        workers: who does them; the rows are the same.
        progress: called with (finished, all), at the start and after each run.

    Raises:
        ValueError: two runs have one key: their rows could not be told apart.
    """
    keys = [run.key for run in runs]
    if len(set(keys)) < len(keys):
        twice = next(key for at, key in enumerate(keys) if key in keys[:at])
        raise ValueError(f"runs: {twice} is planned twice")
    if progress:
        progress(0, len(runs))
    for finished, (place, row) in enumerate(workers.do(runs), start=1):
        yield runs[place], row
        if progress:
            progress(finished, len(runs))


def play_all(runs: Sequence[Run[T]], workers: Crew = THIS_PROCESS, progress: Progress | None = None) -> list[T]:
    """The rows of some runs in the order of the runs, see :func:`play_each`."""
    rows = {run.key: row for run, row in play_each(runs, workers, progress)}
    return [rows[run.key] for run in runs]
