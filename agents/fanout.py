"""Where the runs of an evaluation take place: in this process, in several, or on the machines of a Ray cluster.

Their rows are the same wherever they come from, but for the CPU time they took.
"""

from __future__ import annotations

import multiprocessing
import signal
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from tyche_env.errors import UserError

Row = dict[str, Any]
Where = Literal["processes", "ray"]


class FanoutError(UserError):
    """Runs that cannot be spread, or a process that died."""


@dataclass(frozen=True, slots=True)
class Task:
    """One run.

    Attributes:
        work: writes the run's requests to the file it is given, if they are recorded, and returns its row; it travels
            to other processes, so it may hold the plan, but no trace.
        part: that file.
    """

    work: Callable[[Path], Row]
    part: Path

    def __call__(self) -> Row:
        """Run it here."""
        return self.work(self.part)


def run_all(tasks: Sequence[Task], where: Where, jobs: int | None) -> Iterator[Row]:
    """The rows as they come.

    Args:
        tasks: the runs.
        where: processes of this machine, or a Ray cluster.
        jobs: how many at a time; None: all cores of the cluster.  1 process is this one.

    Raises:
        FanoutError: a process died, or Ray is missing or lacks this version of the package.
    """
    if not tasks:
        return
    if where == "ray":
        yield from _on_ray(tasks, jobs)
    elif jobs == 1 or len(tasks) == 1:
        for task in tasks:
            yield task()
    else:
        yield from _in_processes(tasks, jobs)


def _in_processes(tasks: Sequence[Task], jobs: int | None) -> Iterator[Row]:
    jobs = min(jobs or multiprocessing.cpu_count(), len(tasks))
    # Children must not share state with this process, so they are started afresh.
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _die_on_interrupt)
    futures: list[Future[Row]] = []
    try:
        # One process compiles the kernels; the others then find them in the cache.
        yield pool.submit(tasks[0]).result()
        futures = [pool.submit(task) for task in tasks[1:]]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool:
        raise FanoutError(
            "a process died (out of memory?); the same command goes on from here, --jobs 1 needs least memory"
        ) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _die_on_interrupt() -> None:
    """Ctrl-C reaches all processes; the children end silently, the parent tidies up."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _on_ray(tasks: Sequence[Task], jobs: int | None) -> Iterator[Row]:
    """On the cluster that RAY_ADDRESS names, else the one that runs on this machine, else one that is started here."""
    try:
        import ray
        from ray.exceptions import RayError, RayTaskError
    except ImportError:
        raise FanoutError("--engine ray: needs Ray; pip install 'tyche-env[cluster]'") from None
    ours = not ray.is_initialized()
    if ours:
        ray.init(log_to_driver=False, include_dashboard=False)
    far = ray.remote(num_cpus=1)(_far)
    left, running = deque(tasks), dict[Any, Task]()
    try:
        at_once = jobs or max(1, int(ray.cluster_resources().get("CPU", 1)))  # type: ignore[no-untyped-call]
        while left or running:
            while left and len(running) < at_once:
                task = left.popleft()
                running[far.remote(task.work, version("tyche-env"))] = task
            done, _ = ray.wait(list(running), num_returns=1)
            task = running.pop(done[0])
            try:
                row, requests = ray.get(done[0])
            except RayTaskError as error:
                raise error.cause from None
            if requests is not None:
                task.part.parent.mkdir(parents=True, exist_ok=True)
                task.part.write_bytes(requests)
            yield row
    except RayError as error:
        raise FanoutError(f"--engine ray: {error}; the same command goes on from here") from error
    finally:
        for reference in running:
            ray.cancel(reference, force=True)
        if ours:
            ray.shutdown()


def _far(work: Callable[[Path], Row], expected: str) -> tuple[Row, bytes | None]:
    """A run on another machine: its row, and its requests as the bytes of a Parquet file."""
    found = version("tyche-env")
    if found != expected:
        raise FanoutError(f"--engine ray: a machine of the cluster has tyche-env {found}, this one {expected}")
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "part.parquet"
        row = work(part)
        return row, part.read_bytes() if part.exists() else None
