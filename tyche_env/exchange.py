"""What a policy that predicts is shown and what its answer means, for one run."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tyche_env.control.kernels import read_action
from tyche_env.errors import UserError
from tyche_env.observe import observe
from tyche_env.played import Decisions
from tyche_env.spaces import Layout, Observation
from tyche_env.world import World


class PreloadEnvError(UserError):
    """A wrong argument of the environment; the message names it and what would be right."""


class Exchange:
    """Observations out, actions in.

    Args:
        world: what is played.
        layout: of the observation; its tables may have more rows than the world, which stay padding.
    """

    def __init__(self, world: World, layout: Layout) -> None:
        self.layout = layout
        self._decision = np.zeros((world.function_count, 2), np.int8)
        self._priority = np.zeros((world.function_count, 2), np.int64)
        self._blank = layout.blank(world.function_count, world.node_count, world.gpu_count)

    def observation(self, handles: NDArray[np.int64]) -> Observation:
        """What the policy sees now.

        Args:
            handles: of a state that keeps what observations need.
        """
        flat = self._blank.copy()
        rows = self.layout.rows
        observe(handles, flat, rows["functions"], rows["nodes"], rows["gpus"])
        return self.layout.split(flat)

    def decisions(self, action: object) -> Decisions:
        """What an action says.

        Args:
            action: (rows for functions, 2) float32: container memory and GPU (``docs/engine.md``, section 6).

        Raises:
            PreloadEnvError: an action of the wrong shape, or one that is not finite.
        """
        try:
            values = np.asarray(action, np.float32)
        except (TypeError, ValueError) as error:
            raise PreloadEnvError(f"action: is no array of numbers ({' '.join(str(error).split())})") from None
        rows = self.layout.rows["functions"]
        if values.shape != (rows, 2):
            raise PreloadEnvError(f"action: needs shape ({rows}, 2), got {values.shape}")
        if not read_action(np.ascontiguousarray(values), self._decision, self._priority):
            raise PreloadEnvError("action: holds a value that is not finite")
        return self._decision, self._priority
