"""Runs over a Ray cluster, their rows those of a serial one.

The cluster is the one that the environment variable RAY_ADDRESS names, else one that runs on this machine, else one of
this machine alone, for the time of the run.  A world goes into Ray's object store once, from where the tasks of a
machine map it; results come back as values, so the machines need no common file system.
They need this package, Python and Ray in the same versions, and the files that policies of one's own consist of.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from agents.playing.runs import EvaluationError, Run, T, do_run
from tyche_env.errors import UserError
from tyche_env.scenario import test_windows_are_sealed


@contextmanager
def ray_crew() -> Iterator[RayCrew]:
    """Who does runs until the end of the block; a cluster that had to be started ends there too."""
    ray: Any = import_module("ray")
    ours = not ray.is_initialized()
    if ours:
        ray.init(log_to_driver=False, include_dashboard=False)
    try:
        yield RayCrew(ray)
    finally:
        if ours:
            ray.shutdown()


@dataclass(slots=True)
class RayCrew:
    """A connected cluster, the worlds in its object store, and the CPU seconds of its tasks."""

    ray: Any
    worlds: dict[tuple[Hashable, ...], Any] = field(default_factory=dict)
    cpu_s: float = 0.0

    def do(self, runs: Iterable[Run[T]]) -> Iterator[tuple[int, T]]:
        """All runs at once.

        Raises:
            EvaluationError: the cluster lost a run more often than Ray repeats it.
        """
        remote = self.ray.remote(do_run)
        waiting = {}
        for place, run in enumerate(runs):
            if run.world_key not in self.worlds:
                self.worlds[run.world_key] = self.ray.put(run.requests())
            sealed = test_windows_are_sealed()
            waiting[remote.remote(run, self.worlds[run.world_key], sealed)] = place
        try:
            while waiting:
                (done,), _ = self.ray.wait(list(waiting))
                row, cpu_s = self.ray.get(done)
                self.cpu_s += cpu_s
                yield waiting.pop(done), row
        except self.ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise error.cause from error  # as it was; Ray's own has a traceback for its text
            raise
        except self.ray.exceptions.WorkerCrashedError as error:
            raise EvaluationError(f"--on ray: a task died again and again ({error}); --jobs needs no cluster") from None
