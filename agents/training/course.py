"""The course of a training with stable-baselines3: stages, curves, progress, and checkpoints to go on from."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, Logger

from agents.training.checkpoint import Resumable, load_checkpoint, save_checkpoint

CHECKPOINT_EVERY_S = 20.0
"""Seconds between two checkpoints."""

Progress = Callable[[float], None]
AtStage = Callable[[], dict[str, Any]]
"""Called between two rollouts at the end of each stage; its answer is kept, plain values and arrays."""


class Log(Protocol):
    """What training reports to; TensorBoard's writer is one."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> Any:
        """A number at a step."""


@dataclass(frozen=True, slots=True)
class Course:
    """How long a training takes and what it leaves behind.

    Attributes:
        steps: rows in all.
        stages: how many equal parts it has.
        at_stage: see :data:`AtStage`.
        checkpoint: file to go on from if it is there, and to write; None: none.
        every_s: seconds between two checkpoints.
        log: gets the curves.
        progress: called with the share that is done.
    """

    steps: int
    stages: int
    at_stage: AtStage
    checkpoint: Path | None = None
    every_s: float = CHECKPOINT_EVERY_S
    log: Log | None = None
    progress: Progress | None = None


def learn(model: BaseAlgorithm, env: Resumable, course: Course) -> list[dict[str, Any]]:
    """Train from the beginning or from the checkpoint; what each stage left, in order.

    A training that was killed gives, when it is called again, the same parameters to the last bit as one that was not.
    """
    memory: dict[str, Any] = {"stages": []}
    resumed = course.checkpoint is not None and course.checkpoint.is_file()
    if resumed:
        assert course.checkpoint is not None
        memory = load_checkpoint(course.checkpoint, model, env)
    model.set_logger(Logger(folder=None, output_formats=[] if course.log is None else [_Curves(course.log)]))
    left = course.steps - model.num_timesteps if resumed else course.steps
    if left > 0:
        model.learn(left, callback=_Boundary(course, env, memory), reset_num_timesteps=not resumed)
    if len(memory["stages"]) < course.stages:
        memory["stages"].append(course.at_stage())
    stages: list[dict[str, Any]] = memory["stages"]
    return stages


class _Boundary(BaseCallback):
    """Between two rollouts everything is at rest: the place for stages and checkpoints."""

    def __init__(self, course: Course, env: Resumable, memory: dict[str, Any]) -> None:
        super().__init__()
        self._course, self._env, self._memory = course, env, memory
        self._saved_s = time.monotonic()

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        course, stages = self._course, self._memory["stages"]
        done = self.num_timesteps / course.steps
        if len(stages) + 1 < course.stages and done >= (len(stages) + 1) / course.stages:
            stages.append(course.at_stage())
        if course.progress:
            course.progress(min(1.0, done))
        if course.checkpoint is None or self.num_timesteps == 0:
            return
        if time.monotonic() - self._saved_s >= course.every_s:
            save_checkpoint(course.checkpoint, self.model, self._env, self._memory)
            self._saved_s = time.monotonic()

    def _on_rollout_end(self) -> None:
        buffer = self.locals.get("rollout_buffer")
        if buffer is not None:
            self.logger.record("rollout/reward", float(buffer.rewards.mean()))


class _Curves(KVWriter):
    """Passes numbers that stable-baselines3 logs on to the curves."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
        """Every number but those about time."""
        for name, value in key_values.items():
            if isinstance(value, int | float) and not name.startswith("time/"):
                self._log.add_scalar(name, float(value), step)

    def close(self) -> None:
        """Nothing to close: the log is the caller's."""
