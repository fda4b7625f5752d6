"""Numbers that the tables hold: states, decisions, categories, isolation, and the commands to a backend."""

UNUSED, CREATING, IDLE, BUSY = 0, 1, 2, 3
"""States of a container."""
ABSENT, LOADING, HELD, OFFLOADING = 0, 1, 2, 3
"""States of a resident, in container memory and on a GPU."""
LEAVE, HOLD, OFFLOAD = 0, 1, 2
"""Decisions about a function."""
IN_NONE, IN_GPU, IN_MEMORY, IN_LOADING = 0, 1, 2, 3
"""Lists of a function's residents in idle containers."""
NONE, TENANT, STRICT = 0, 1, 2
"""Isolation (``world.Isolation``)."""
WORKER = 1
"""Scope with a controller of each worker (``world.Scope``)."""
NODE_SHIFT = 32
"""Where the node stands in an entry of ``lost``."""
DO_START, DO_LOAD, DO_TRANSFER, DO_OFFLOAD, DO_CREATE, DO_REMOVE, DO_KILL, DO_DEMOTE = 0, 1, 2, 3, 4, 5, 6, 7
"""Commands: what a backend is told to do.  A start implies that everything else in its container is killed."""
