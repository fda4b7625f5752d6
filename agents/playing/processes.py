"""Runs over processes of this machine, which map one file of each world."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agents.playing.runs import EvaluationError, Run, T, do_run
from tyche_env.scenario import test_windows_are_sealed
from tyche_env.stored import is_world, write_world

_AHEAD = 3
"""Runs given out for each process: one is under way, and a world is written while others wait."""


@dataclass(slots=True)
class Processes:
    """Processes of this machine, started afresh: they must not share state with this one."""

    count: int
    folder: Path
    pool: ProcessPoolExecutor = field(init=False)
    compiled: bool = False
    cpu_s: float = 0.0

    def __enter__(self) -> Processes:
        """Start none yet; they come with the tasks."""
        self.pool = ProcessPoolExecutor(self.count, multiprocessing.get_context("spawn"), _begin)
        return self

    def __exit__(self, *_: object) -> None:
        """Begin nothing any more."""
        self.pool.shutdown(wait=False, cancel_futures=True)

    def do(self, runs: Iterable[Run[T]]) -> Iterator[tuple[int, T]]:
        """The first run alone, then as many as keep all processes busy, so that what is done is told soon."""
        waiting: dict[Future[tuple[T, float]], int] = {}
        try:
            for place, run in enumerate(runs):
                while len(waiting) >= (_AHEAD * self.count if self.compiled else 1):
                    yield from self._finished(waiting)
                world = self._written(run)
                with _interrupts_wait():
                    waiting[self.pool.submit(do_run, run, world, test_windows_are_sealed())] = place
            while waiting:
                yield from self._finished(waiting)
        except BrokenProcessPool:
            raise EvaluationError(
                "a process died (out of memory?); --jobs 1 needs least memory, "
                "and after tyche evaluate the same command goes on from here"
            ) from None

    def _finished(self, waiting: dict[Future[tuple[T, float]], int]) -> Iterator[tuple[int, T]]:
        """What is done by now, at least one run, with its place; CPU time is noted."""
        for future in wait(waiting, return_when=FIRST_COMPLETED).done:
            row, cpu_s = future.result()
            self.cpu_s += cpu_s
            # One process compiles the kernels; the others then find them in the cache.
            self.compiled = True
            yield waiting.pop(future), row

    def _written(self, run: Run[Any]) -> Path:
        """Where a run's world lies as files, which all processes map instead of reading the trace."""
        path = self.folder / "-".join(map(str, ("world", *run.world_key)))
        if not is_world(path):
            write_world(run.requests(), path)
        return path


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Processes that are started in the block get no Ctrl-C before :func:`_begin` has run in them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin() -> None:
    """What each process does first.

    Ctrl-C reaches all processes; the children end silently, the parent tidies up.  Where the parent is killed, its
    children end too: another run may hold its folder by now.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
