"""Independent simulations side by side: over processes of this machine, or over a Ray cluster.

A task is a function that can be imported, its arguments, and the key of the world that it plays.  Each world is made
once and shared: processes map its files, tasks of a Ray cluster the copy in the object store of their machine.  Test
windows that are sealed where the tasks come from are sealed where they run.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol

from tyche_env.errors import UserError
from tyche_env.rules import Rules
from tyche_env.scenario import sealed_test_windows, test_windows_are_sealed
from tyche_env.stored import is_world, read_world, write_world
from tyche_env.world import World

FanOut = Literal["processes", "ray"]
WorldOf = Callable[[Any], World]


class EvaluationError(UserError):
    """What cannot be run; the message names the option and what would be right."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Where simulations run.

    Attributes:
        jobs: processes; None: one a core; 1: this process.
        engine: over processes of this machine, or over a Ray cluster, which decides itself how many run at once.
    """

    jobs: int | None = 1
    engine: FanOut = "processes"

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            EvaluationError: ``jobs`` is below 1, or there is no Ray.
        """
        if self.jobs is not None and self.jobs < 1:
            raise EvaluationError(f"--jobs: needs at least 1, got {self.jobs}")
        if self.engine == "ray" and find_spec("ray") is None:
            raise EvaluationError("--engine ray: Ray is not installed; pip install 'tyche-env[cluster]'")

    @property
    def processes(self) -> int:
        """How many run at once on this machine."""
        return self.jobs or os.cpu_count() or 1


ALONE = Spread()
"""In this process, one simulation after the other."""

_Done = tuple[Any, float]
"""What a task returned, and the CPU seconds that it took."""


@dataclass(frozen=True, slots=True)
class Task:
    """One call of the work that is spread.

    Attributes:
        arguments: the work gets these, then its world.
        key: of the world; numbers and words, which also name its files.
    """

    arguments: tuple[Any, ...]
    key: tuple[Hashable, ...]


class Crew(Protocol):
    """Does tasks.  Worlds are asked for by key, without rules of a user's own (``shareable``).

    Attributes:
        cpu_s: CPU seconds of all tasks so far, those of this process not counted.
    """

    @property
    def cpu_s(self) -> float: ...  # noqa: D102

    def do(self, work: Callable[..., Any], tasks: Iterable[Task], world_of: WorldOf) -> Iterator[tuple[int, Any]]:
        """The place of each task and what the work returned for it, in the order in which they finish."""
        ...


@contextmanager
def crew(spread: Spread, folder: Path | None = None) -> Iterator[Crew]:
    """Who does tasks until the end of the block.

    Args:
        spread: where.
        folder: for the files of worlds, which stay there; None: one that goes at the end.

    Raises:
        EvaluationError: a process died, or the cluster lost a task more often than Ray repeats it.
    """
    with ExitStack() as stack:
        if spread.engine == "ray":
            from agents.cluster import ray_crew

            yield stack.enter_context(ray_crew())
        elif spread.processes == 1:
            yield THIS_PROCESS
        else:
            at = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tyche-")))
            with _Processes(spread.processes, at) as processes:
                yield processes


def shareable(world: World) -> World:
    """A world that can be written and sent anywhere: without the rules that ``Scenario.under`` gives it."""
    return replace(world, rules=Rules())


def in_order(found: Iterable[tuple[int, Any]], count: int, done: Callable[[int], None] | None = None) -> list[Any]:
    """What the tasks returned, in the order of the tasks.

    Args:
        found: as a crew gives it.
        count: of tasks.
        done: called with the number of finished tasks.
    """
    results: list[Any] = [None] * count
    for finished, (place, result) in enumerate(found, start=1):
        results[place] = result
        if done:
            done(finished)
    return results


def call(work: Callable[..., Any], arguments: tuple[Any, ...], world: World | Path, sealed: bool) -> _Done:
    """Do a task where it was sent to; returns its result and CPU seconds.

    Args:
        work: the function.
        arguments: of it.
        world: or where its files lie.
        sealed: whether test windows may not be read.
    """
    started = time.process_time()
    with sealed_test_windows() if sealed else nullcontext():
        result = work(*arguments, read_world(world) if isinstance(world, Path) else world)
    return result, time.process_time() - started


class _Alone:
    """This process."""

    cpu_s = 0.0

    def do(self, work: Callable[..., Any], tasks: Iterable[Task], world_of: WorldOf) -> Iterator[tuple[int, Any]]:
        """One task after the other."""
        for place, task in enumerate(tasks):
            yield place, work(*task.arguments, world_of(task.key))


THIS_PROCESS: Crew = _Alone()
"""Does one task after the other."""


@dataclass(slots=True)
class _Processes:
    """Processes of this machine, started afresh: they must not share state with this one."""

    count: int
    folder: Path
    pool: ProcessPoolExecutor = field(init=False)
    compiled: set[Callable[..., Any]] = field(default_factory=set)
    cpu_s: float = 0.0

    def __enter__(self) -> _Processes:
        """Start none yet; they come with the tasks."""
        self.pool = ProcessPoolExecutor(self.count, multiprocessing.get_context("spawn"), _die_on_interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        """Begin nothing any more."""
        self.pool.shutdown(wait=False, cancel_futures=True)

    def do(self, work: Callable[..., Any], tasks: Iterable[Task], world_of: WorldOf) -> Iterator[tuple[int, Any]]:
        """The first task of its kind alone, all others at once."""
        waiting: dict[Future[_Done], int] = {}
        try:
            for place, task in enumerate(tasks):
                future = self.pool.submit(
                    call, work, task.arguments, self._written(task.key, world_of), test_windows_are_sealed()
                )
                if work in self.compiled:
                    waiting[future] = place
                else:
                    # One process compiles the kernels; the others then find them in the cache.
                    yield place, self._counted(future.result())
                    self.compiled.add(work)
            for future in as_completed(waiting):
                yield waiting[future], self._counted(future.result())
        except BrokenProcessPool:
            raise EvaluationError(
                "a process died (out of memory?); --jobs 1 needs least memory, "
                "and after tyche evaluate the same command goes on from here"
            ) from None

    def _counted(self, done: _Done) -> Any:
        """The result, its CPU time noted."""
        self.cpu_s += done[1]
        return done[0]

    def _written(self, key: tuple[Hashable, ...], world_of: WorldOf) -> Path:
        """Where a world lies as files, which all processes map instead of reading the trace."""
        path = self.folder / "-".join(map(str, ("world", *key)))
        if not is_world(path):
            write_world(world_of(key), path)
        return path


def _die_on_interrupt() -> None:
    """Ctrl-C reaches all processes; the children end silently, the parent tidies up."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
