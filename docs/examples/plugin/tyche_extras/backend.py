"""A backend: the simulated cluster with disks that are three times slower.

It hands its work on to the simulated backend.  One that drives real containers hosts the decision core itself, as
``real_backend.run`` does, and owes the same methods.
"""

from dataclasses import replace

from tyche_env.backend import Capabilities
from tyche_env.simulator import SimulatedBackend

SLOWER = 3


class SlowDisk:
    """See ``tyche_env.backend.Backend`` for what each method owes; ``tyche_env.conformance`` checks them."""

    capabilities = Capabilities(
        name="slow-disk", create_containers=True, remove_containers=True, gpus=True, real_time=False
    )

    def __init__(self):
        self._inside = SimulatedBackend()

    @property
    def state(self):
        return self._inside.state

    @property
    def handles(self):
        return self._inside.handles

    def reset(self, world):
        self.capabilities.require(world)
        slow = replace(world.functions, model_us=world.functions.model_us * SLOWER)
        self._inside.reset(replace(world, functions=slow))

    def set_priorities(self, decision, priority):
        self._inside.set_priorities(decision, priority)

    def advance_until_us(self, t_us):
        return self._inside.advance_until_us(t_us)

    def drain(self):
        return self._inside.drain()

    def log(self):
        return self._inside.log()

    def counters(self):
        return self._inside.counters()

    def integrals(self):
        return self._inside.integrals()

    def close(self):
        self._inside.close()
