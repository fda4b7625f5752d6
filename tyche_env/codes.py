"""The one place where numbers that tables hold get their names: settings, states, decisions, events, commands.

Python reads the enumerations.  So does compiled code where it only compares, ``s.kernel == Kernel.TYCHE``: a member is
a constant there.  What compiled code also writes, orders and hands on, it calls by the plain integers below; they are
made from the enumerations, so that each number stands here once.
"""

from __future__ import annotations

from enum import IntEnum

# -- settings ----------------------------------------------------------------------------------------------------------


class Routing(IntEnum):
    """How the node of a request is chosen (``docs/engine.md``, routing)."""

    HASH = 0
    RING = 1
    FEWEST_BUSY = 2
    OWN = 3
    FEWEST_BUSY_FIRST = 4


class Prewarm(IntEnum):
    """The platform's container policy (``tyche_env.prewarm``)."""

    KEEP_ALIVE = 0
    HISTOGRAM = 1
    FAASCACHE = 2
    PAGURUS = 3
    OWN = 4
    ALWAYS_ON = 5
    RAINBOWCAKE = 6
    ICEBREAKER = 7


class Isolation(IntEnum):
    """Which functions may share a container."""

    NONE = 0
    TENANT = 1
    STRICT = 2


class Scope(IntEnum):
    """Who decides: one controller for the cluster, or each worker for itself."""

    CENTRAL = 0
    WORKER = 1


class Packing(IntEnum):
    """How functions find containers: by density; one empty container each; only their own; the emptiest first."""

    FULL = 0
    SINGLE = 1
    OWN = 2
    WORST = 3


class AfterRun(IntEnum):
    """What becomes of a function's process when its run ends."""

    KEEP = 0
    RELOAD = 1
    DISCARD = 2


class Kernel(IntEnum):
    """The row kernels: one decision rule each (``tyche_env.control.kernels``); with ``AGENT`` an agent decides."""

    NONE = 0
    LRU = 1
    TYCHE = 2
    CENSORED = 3
    HISTOGRAM = 4
    RANDOM = 5
    ORACLE = 6
    MINUTE_ORACLE = 7
    NO_TIMERS = 8
    EWMA = 9
    EMPIRICAL = 10
    TABLE = 11
    NETWORK = 12
    OWN = 13
    GREEDY_DUAL = 14
    AGENT = 15


# -- what happens ------------------------------------------------------------------------------------------------------


class Decision(IntEnum):
    """What a policy wants for one function: the three readings of an action."""

    LEAVE = 0
    HOLD = 1
    OFFLOAD = 2


class StartType(IntEnum):
    """What a request met, from best to worst."""

    GPU = 0
    MEMORY = 1
    LOADING = 2
    WARM = 3
    COLD = 4


class Status(IntEnum):
    """How a request ended; the ``status`` of its record.  All but OK were not served; three kinds of that are told."""

    OK = 0
    FAILED = 1
    CORRUPT_MODEL = 2
    OUT_OF_MEMORY = 3
    DEADLINE = 4
    DIED = 5
    REFUSED = 6
    CONNECTION_LOST = 7
    PLATFORM = 8


class ContainerState(IntEnum):
    """What a container does; UNUSED is a slot without one."""

    UNUSED = 0
    CREATING = 1
    IDLE = 2
    BUSY = 3


class ResidentState(IntEnum):
    """How far a function's process is, in container memory or on a GPU; a slot without one is ABSENT."""

    ABSENT = 0
    LOADING = 1
    HELD = 2
    OFFLOADING = 3


class Category(IntEnum):
    """How an idle container can serve a function, best first."""

    GPU = 1
    MEMORY = 2
    LOADING = 3
    WARM = 4


class Mark(IntEnum):
    """What a function that is placed would do to a resident of the container looked at."""

    STAYS = 0
    DISPLACED = 1
    TAKEN = 2


class Event(IntEnum):
    """Events, in the order in which they are handled at one instant; their number is part of the event's key.

    The simulator alone knows STAGES_END, LOAD_BEGINS and RUN_BEGINS (contention), a real backend alone LOAD_FAILED.
    """

    ARRIVAL = 0
    STAGES_END = 1
    FINISH = 2
    CREATED = 3
    EXPIRY = 5
    LOADED = 7
    LOAD_FAILED = 8
    OFFLOADED = 9
    TIMER = 10
    PREWARM_TIMER = 11
    PRIORITIES = 12
    LOAD_BEGINS = 13
    RUN_BEGINS = 14


class Command(IntEnum):
    """What the core tells a backend to do.  A start implies that everything else in its container is killed."""

    START = 0
    LOAD = 1
    TRANSFER = 2
    OFFLOAD = 3
    CREATE = 4
    REMOVE = 5
    KILL = 6
    DEMOTE = 7


class Stage(IntEnum):
    """What a process goes through, in this order."""

    WARMING = 0
    LIBRARY = 1
    READING = 2
    COMPUTING = 3
    TRANSFER = 4
    INFERENCE = 5


# -- the same as plain integers ----------------------------------------------------------------------------------------

LEAVE, HOLD, OFFLOAD = (int(code) for code in Decision)
UNUSED, CREATING, IDLE, BUSY = (int(code) for code in ContainerState)
ABSENT, LOADING, HELD, OFFLOADING = (int(code) for code in ResidentState)
IN_NONE = 0
"""A resident in none of its function's lists."""
IN_GPU, IN_MEMORY, IN_LOADING = int(Category.GPU), int(Category.MEMORY), int(Category.LOADING)
STAYS, DISPLACED, TAKEN = (int(code) for code in Mark)
(
    ARRIVAL,
    STAGES_END,
    FINISH,
    CREATED,
    EXPIRY,
    LOADED,
    LOAD_FAILED,
    OFFLOADED,
    TIMER,
    PREWARM_TIMER,
    PRIORITIES,
    LOAD_BEGINS,
    RUN_BEGINS,
) = (int(code) for code in Event)
DO_START, DO_LOAD, DO_TRANSFER, DO_OFFLOAD, DO_CREATE, DO_REMOVE, DO_KILL, DO_DEMOTE = (int(code) for code in Command)
WARMING, LIBRARY, READING, COMPUTING, TRANSFER, INFERENCE = (int(code) for code in Stage)
TIMED_OUT, REJECTED = int(Status.DEADLINE), int(Status.REFUSED)
"""The two kinds of not being served that have a rate of their own; every other status but OK is a failure."""
