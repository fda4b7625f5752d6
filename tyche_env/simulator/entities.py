"""What there is in the reference engine: functions, nodes, GPUs, containers, residents, and work in progress.

Plain objects; every sum over them is taken anew each time.  What happens to them is in ``reference``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from tyche_env.codes import Category, ContainerState, Decision, ResidentState, Stage
from tyche_env.world import UNITS_PER_US

BINS = 240
"""One-minute bins of both histograms."""
EMPIRICAL_GAPS = 32
"""Gaps that EMPIRICAL remembers."""


@dataclass(eq=False, repr=False)
class Resource:
    """A processor, a disk or a link, and the jobs that share it (§12)."""

    index: int
    capacity: int
    jobs: list[Job] = field(default_factory=list)
    changed_us: int = 0
    # units of work that it could have done, did, and was asked for, and how many were lost by rounding at most: for
    # the invariants alone
    offered: int = 0
    done: int = 0
    asked: int = 0
    rounded: int = 0

    @property
    def slowness(self) -> int:
        """Each job gets ``capacity`` / this of its full speed."""
        return max(len(self.jobs), self.capacity)

    def get_on(self, now: int) -> None:
        """Do the work of the time since the last change."""
        units = UNITS_PER_US * self.capacity * (now - self.changed_us) // self.slowness
        for job in self.jobs:
            job.left -= units
        self.offered += UNITS_PER_US * min(len(self.jobs), self.capacity) * (now - self.changed_us)
        self.done += units * len(self.jobs)
        self.rounded += len(self.jobs)
        self.changed_us = now

    def next_us(self) -> int:
        """When the first job is done, if nothing changes before."""
        least = max(0, min(job.left for job in self.jobs))
        speed = UNITS_PER_US * self.capacity
        return self.changed_us + (least * self.slowness + speed - 1) // speed


@dataclass(eq=False, repr=False)
class Job:
    """A process's way through its stages, one after the other (§12).

    ``work_us`` holds the nominal duration of each stage, ``left`` the units of the present one, ``lasted_us`` and
    ``ended_us`` what has come of those that are over; ``then`` follows the last.
    """

    container: Container
    work_us: dict[Stage, int]
    then: Callable[[], None]
    todo: list[Stage] = field(default_factory=lambda: list(Stage))
    resource: Resource | None = None
    left: int = 0
    since_us: int = 0
    lasted_us: dict[Stage, int] = field(default_factory=dict)
    ended_us: dict[Stage, int] = field(default_factory=dict)


@dataclass(eq=False, repr=False)
class Run:
    """A request that is served under contention: its job, the load or transfer that it met, its record (§12)."""

    job: Job
    begin_us: int
    on_gpu: bool
    met: Job | None
    record: int
    due: bool = False
    begun: bool = False


@dataclass(eq=False)
class Function:
    """A row of the function table with its history and the policy's decision."""

    index: int
    tenant: int
    container_mb: int
    hold_mb: int
    peak_mb: int
    gpu_mb: int
    init_us: int
    library_us: int
    model_us: int
    transfer_us: int
    inference_us: int
    gpu_inference_us: int
    sigma_ppm: int
    read_ppm: int
    walk: list[int]
    decision: int = Decision.LEAVE
    gpu_decision: int = Decision.LEAVE
    priority: int = 0
    gpu_priority: int = 0
    window: deque[int] = field(default_factory=deque)
    group_size: int = 1
    residents: list[Resident] = field(default_factory=list)
    upcoming: deque[int] = field(default_factory=deque)
    arrivals: int = 0
    decisions: int = 0
    loads: int = 0
    loading_us: int = 0
    transfers: int = 0
    prewarms: int = 0
    gap_bins: list[int] = field(default_factory=lambda: [0] * BINS)
    gap_oob: int = 0
    gaps_us: deque[int] = field(default_factory=lambda: deque(maxlen=EMPIRICAL_GAPS))
    smoothed_gap_us: int = 0
    freq: int = 0
    idle_bins: list[int] = field(default_factory=lambda: [0] * BINS)
    idle_oob: int = 0
    in_flight: int = 0
    last_end_us: int | None = None
    prewarm_keep_us: int = 0
    credit: int = 0


@dataclass(eq=False)
class Gpu:
    """A GPU and the containers bound to it."""

    index: int
    memory_mb: int
    containers: list[Container] = field(default_factory=list)

    @property
    def free_mb(self) -> int:
        """Memory that no resident reserves."""
        return self.memory_mb - sum(r.gpu_reserved_mb for c in self.containers for r in c.residents)


@dataclass(eq=False)
class Node:
    """A node, its containers and its queue of requests."""

    index: int
    memory_mb: int
    gpus: list[Gpu] = field(default_factory=list)
    containers: list[Container] = field(default_factory=list)
    queue: deque[int] = field(default_factory=deque)

    @property
    def free_mb(self) -> int:
        """Memory that no container takes."""
        return self.memory_mb - sum(c.size_mb for c in self.containers)

    @property
    def busy_mb(self) -> int:
        """Memory of the containers that cannot be evicted."""
        return sum(c.size_mb for c in self.containers if c.state in (ContainerState.BUSY, ContainerState.CREATING))

    @property
    def idle_mb(self) -> int:
        """Memory of the idle containers."""
        return sum(c.size_mb for c in self.containers if c.state == ContainerState.IDLE)

    @property
    def preload_mb(self) -> int:
        """Memory that residents reserve in idle containers."""
        return sum(r.reserved_mb for c in self.idle() for r in c.residents)

    @property
    def gpu_mb(self) -> int:
        """Memory reserved on the node's GPUs."""
        return sum(g.memory_mb - g.free_mb for g in self.gpus)

    @property
    def runs(self) -> int:
        """Containers that serve a request."""
        return sum(c.state == ContainerState.BUSY for c in self.containers)

    def idle(self) -> list[Container]:
        """The idle containers, lowest rank first."""
        return sorted((c for c in self.containers if c.state == ContainerState.IDLE), key=lambda c: c.rank)


@dataclass(eq=False)
class Container:
    """A container; ``entries`` maps each function that it can serve while idle to (category, stamp)."""

    slot: int
    node: Node
    size_mb: int
    tenant: int
    owner: Function
    gpu: Gpu | None
    state: ContainerState
    rank: int = -1
    idle_since_us: int = 0
    shared: bool = False
    worth: int = 0
    request: int | None = None
    keep_us: int = 0
    residents: list[Resident] = field(default_factory=list)
    entries: dict[int, tuple[Category, int]] = field(default_factory=dict)
    run: Run | None = None

    @property
    def free_mb(self) -> int:
        """Memory that no resident reserves."""
        return self.size_mb - sum(r.reserved_mb for r in self.residents)

    def resident_of(self, f: Function) -> Resident | None:
        """The resident of f, if there is one in whatever state."""
        return next((r for r in self.residents if r.function is f), None)


@dataclass(eq=False)
class Resident:
    """The process of a function inside a container."""

    slot: int
    function: Function
    container: Container
    state: ResidentState
    gpu: ResidentState = ResidentState.ABSENT
    kept: bool = False
    from_load: bool = False
    served: bool = False
    load_start_us: int = 0
    loaded_us: int | None = None
    library_end_us: int = 0
    load_end_us: int = 0
    transfer_end_us: int = 0
    job: Job | None = None

    @property
    def reserved_mb(self) -> int:
        """Memory reserved in the container (§1)."""
        return self.function.peak_mb if self.state == ResidentState.LOADING else self.function.hold_mb

    @property
    def gpu_reserved_mb(self) -> int:
        """Memory reserved on the container's GPU (§1)."""
        return self.function.gpu_mb if self.gpu != ResidentState.ABSENT else 0

    @property
    def held_idle(self) -> bool:
        """Whether it is HELD in an IDLE container."""
        return self.state == ResidentState.HELD and self.container.state == ContainerState.IDLE

    @property
    def demotable(self) -> bool:
        """Whether its GPU memory can be taken at once."""
        return self.held_idle and self.gpu == ResidentState.HELD


class Slots:
    """Slot numbers of a pool: the one that was freed last comes first, then new ones in ascending order (§1)."""

    def __init__(self) -> None:
        """Start with every slot unused."""
        self._freed: list[int] = []
        self._unused = 0

    def take(self) -> int:
        """A slot for a new entity."""
        if self._freed:
            return self._freed.pop()
        self._unused += 1
        return self._unused - 1

    def give_back(self, slot: int) -> None:
        """Free a slot."""
        self._freed.append(slot)
