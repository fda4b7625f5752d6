"""The world one run happens in: tables, arrivals and settings, all plain integers.

A :class:`World` is what a scenario, a window and a seed boil down to.  Both engines (compiled and reference) and the
real backend start from it, so nothing that decides a result can hide between a YAML file and an engine.

Units: time in integer microseconds counted from the start of the warm-up, memory in integer MB (10^6 bytes).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from enum import IntEnum
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tyche_env.codes import AfterRun as AfterRun
from tyche_env.codes import Decision as Decision
from tyche_env.codes import Isolation as Isolation
from tyche_env.codes import Kernel as Kernel
from tyche_env.codes import Packing as Packing
from tyche_env.codes import Prewarm as Prewarm
from tyche_env.codes import Routing as Routing
from tyche_env.codes import Scope as Scope
from tyche_env.codes import StartType as StartType
from tyche_env.draws import Concern, draw_u64, noisy_us
from tyche_env.errors import UserError
from tyche_env.network import SIZE
from tyche_env.pages import Pages
from tyche_env.rules import Rules

IntArray = NDArray[np.int64]

DecisionTimes = Literal["event"] | float
"""When a policy decides: at each event, or every so many seconds."""

NEVER_US = np.int64(1) << np.int64(42)
"""A time no event reaches: event keys hold 42 bits of microseconds (50 days)."""


LONGEST_GAP_US = 1 << 40
"""Longest mean gap that a rule on gaps tells apart (12.7 days)."""


UNITS_PER_US = 1 << 10
"""Units of work in a microsecond at full speed (contention)."""
MOST_CAPACITY = 1 << 10
"""Most cores or disk streams of a node under contention."""


_PIECE = 1 << 18
"""Arrivals that are checked at once."""


class WorldError(UserError):
    """A world that no engine can run; the message names the table, row and field."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything about a run that is not a table.  All integers; booleans are real booleans.

    Attributes:
        seed: key of every random draw.
        kernel: the policy's row kernel.  ``NONE`` switches the pre-loader off, under ``AGENT`` there is nobody to ask.
        event_mode: the controller asks the kernel at a function's own arrivals and timers.  Otherwise decisions come
            only through ``set_priorities``.
        decision_us: time between two decisions about all functions where they come through ``set_priorities``; whoever
            runs the world keeps to it.
        window: W, arrivals in the sliding window of the rate estimate (paper, section on the Proactive Pre-Loader).
        load_ppm: -ln(1 - P_load) in 1e-6 (paper's default P_load 0.06).
        offload_ppm: -ln(1 - P_offload) in 1e-6 (paper's default P_offload 0.94).
        prior_gap_us: mean gap assumed for a function that was requested once.
        prewarm: the platform's container policy.
        keep_alive_us: keep-alive of the fixed policy.
        routing: how a node is chosen.
        scope: who decides.
        packing: how functions find containers.
        isolation: which functions may share a container.
        after_run_platform: fate of the process after a run when no pre-loader is there.
        after_run_preloader: the same with a pre-loader.
        busy_counts: a running copy that survives its run counts as held.
        copies: most copies of a function that the pre-loader wants at once.
        displace_percent: h; a resident gives way to a density more than (100 + h) % of its own.  Negative: never.
        scheduling_us: delay between dispatch and the first stage of every request.
        clear_us: added to a request that has to clear other processes out of its container.
        command_us: delay between a pre-load command and the first byte it loads.
        offload_us: time that an off-load takes; its memory stays reserved until then.
        contention: stages share cores, disks and links (``docs/engine.md``, 12).
    """

    seed: int = 0
    kernel: Kernel = Kernel.NONE
    event_mode: bool = True
    decision_us: int = 10_000_000
    window: int = 10
    load_ppm: int = 61_875
    offload_ppm: int = 2_813_411
    prior_gap_us: int = 600_000_000
    prewarm: Prewarm = Prewarm.KEEP_ALIVE
    keep_alive_us: int = 600_000_000
    routing: Routing = Routing.HASH
    scope: Scope = Scope.CENTRAL
    packing: Packing = Packing.FULL
    isolation: Isolation = Isolation.NONE
    after_run_platform: AfterRun = AfterRun.DISCARD
    after_run_preloader: AfterRun = AfterRun.KEEP
    busy_counts: bool = False
    copies: int = 1
    displace_percent: int = -1
    scheduling_us: int = 0
    clear_us: int = 0
    command_us: int = 0
    offload_us: int = 0
    contention: bool = False

    @property
    def preloads(self) -> bool:
        """Whether a pre-loader is at work at all."""
        return self.kernel != Kernel.NONE

    @property
    def after_run(self) -> AfterRun:
        """The fate of a process after its run under this policy."""
        return self.after_run_preloader if self.preloads else self.after_run_platform

    def require_rule(self) -> None:
        """Refuse to ask the kernel for decisions where an agent makes them.

        Raises:
            WorldError: the kernel is AGENT.
        """
        if self.kernel == Kernel.AGENT:
            raise WorldError("settings: with kernel AGENT there is no rule to ask; an agent sets the priorities")


_CODES: dict[str, type[IntEnum]] = {
    "kernel": Kernel,
    "prewarm": Prewarm,
    "routing": Routing,
    "scope": Scope,
    "packing": Packing,
    "isolation": Isolation,
    "after_run_platform": AfterRun,
    "after_run_preloader": AfterRun,
}

OPTIONAL_FIELDS = {"read_ppm": 0, "slo_us": 0, "unserved_us": 60_000_000}
"""Columns of the function table that may be left out, and what they then are."""


@dataclass(frozen=True, slots=True)
class FunctionTable:
    """One row a function; every column is int64 of shape (F,).

    Attributes:
        tenant: only functions of one tenant share a container under ``Isolation.TENANT``.
        container_mb: size of the container the platform creates for it.
        hold_mb: memory reserved while its libraries and model are held.
        peak_mb: memory reserved while they load; ``hold_mb <= peak_mb <= container_mb``.
        gpu_mb: GPU memory of model and context; 0 means it never uses a GPU.
        init_us: container creation and initialisation.
        library_us: import of its libraries.
        model_us: load of its model into CPU memory.
        transfer_us: model from CPU memory to the GPU.
        inference_us: one inference on the CPU.
        gpu_inference_us: one inference on the GPU.
        sigma_ppm: sigma of the log-normal noise on every stage, in 1e-6; 0 means none.
        read_ppm: part of the model stage that reads from disk, in 1e-6; matters under contention.
        slo_us: service-level objective: end-to-end latency that is good enough; 0 means none.  Only counted by.
        unserved_us: what a request that was not served counts as, at least: the function's time limit.
    """

    tenant: IntArray
    container_mb: IntArray
    hold_mb: IntArray
    peak_mb: IntArray
    gpu_mb: IntArray
    init_us: IntArray
    library_us: IntArray
    model_us: IntArray
    transfer_us: IntArray
    inference_us: IntArray
    gpu_inference_us: IntArray
    sigma_ppm: IntArray
    read_ppm: IntArray
    slo_us: IntArray
    unserved_us: IntArray

    @classmethod
    def from_rows(cls, rows: list[dict[str, int]]) -> FunctionTable:
        """Build the table from one dictionary a function, with the columns of ``FUNCTION_FIELDS``.

        Those of :data:`OPTIONAL_FIELDS` may be left out.
        """
        rows = [OPTIONAL_FIELDS | row for row in rows]
        for index, row in enumerate(rows):
            if set(row) != set(FUNCTION_FIELDS):
                wrong = sorted(set(row) ^ set(FUNCTION_FIELDS))
                raise WorldError(f"functions row {index}: missing or unknown columns {wrong}")
        return cls(**{name: np.array([row[name] for row in rows], dtype=np.int64) for name in FUNCTION_FIELDS})

    def repeated(self, rows: Sequence[int], tenants: Sequence[int]) -> FunctionTable:
        """A table of these rows, in this order, each as often as it is named, with tenants of their own."""
        at = np.array(rows, dtype=np.int64)
        columns = {name: getattr(self, name)[at] for name in FUNCTION_FIELDS}
        return FunctionTable(**columns | {"tenant": np.array(tenants, dtype=np.int64)})

    def __len__(self) -> int:
        return len(self.tenant)


FUNCTION_FIELDS = tuple(column.name for column in fields(FunctionTable))
"""Columns of the function table."""

COUNTED_FIELDS = ("slo_us", "unserved_us")
"""Columns that decide nothing: what requests are counted by."""

_WORK_FIELDS = tuple(name for name in FUNCTION_FIELDS if name.endswith("_us") and name not in COUNTED_FIELDS)


@lru_cache(maxsize=8)
def _home_draws(functions: int) -> NDArray[np.uint64]:
    """(F,) uniform draws, of which each function's home follows; the same in all worlds, so drawn once."""
    draws = np.array([draw_u64(0, Concern.HOME, function, 0) for function in range(functions)], dtype=np.uint64)
    draws.flags.writeable = False
    return draws


@lru_cache(maxsize=8)
def _ring(nodes: int) -> IntArray:
    """(N,) nodes in the order of the ring; the same in all worlds, so drawn once."""
    keys = [draw_u64(0, Concern.RING, node, 0) for node in range(nodes)]
    order = np.array(sorted(range(nodes), key=lambda node: (keys[node], node)), dtype=np.int64)
    order.flags.writeable = False
    return order


@dataclass(frozen=True, slots=True)
class World:
    """One cluster, its functions, the requests of one window, and the settings.

    Attributes:
        functions: the function table.
        node_memory_mb: (N,) memory of each node.
        gpu_node: (G,) node of each GPU, ascending.
        gpu_memory_mb: (G,) memory of each GPU.
        arrival_us: (R,) ascending arrival times; times before ``score_from_us`` are the warm-up.
        arrival_function: (R,) function of each request, int32.
        arrival_duration_us: (R,) inference time that the trace gives, or an empty array: the profile's is used.
        score_from_us: first instant whose arrivals are scored.
        end_us: end of the window; no request arrives at or after it.
        settings: see :class:`Settings`.
        names: (F,) names of the functions, for tables and logs.
        clock_us: time of the trace's day at time 0 (UTC), 0 where the trace knows none.
        forecast: (F, M) P(arrival within 60 s) by minute, in 2^-20, for the kernel TABLE and pre-warming ICEBREAKER;
            else empty.
        network: weights of the kernel NETWORK (``tyche_env.network``); else empty.
        profiles: (F,) names of the functions' profiles, which a real backend runs; empty if nobody needs them.
        rules: a user's own rules, for the settings that are OWN.
        node_cores: (N,) cores that the stages of a node share under contention; else it may be empty.
        node_disk_streams: (N,) reads that a node's disk serves at full speed; likewise.
    """

    functions: FunctionTable
    node_memory_mb: IntArray
    gpu_node: IntArray
    gpu_memory_mb: IntArray
    arrival_us: IntArray
    arrival_function: NDArray[np.int32]
    arrival_duration_us: IntArray
    score_from_us: int
    end_us: int
    settings: Settings = field(default_factory=Settings)
    names: tuple[str, ...] = ()
    clock_us: int = 0
    forecast: NDArray[np.int32] = field(default_factory=lambda: np.zeros((0, 0), np.int32))
    network: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    profiles: tuple[str, ...] = ()
    rules: Rules = field(default_factory=Rules)
    node_cores: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))
    node_disk_streams: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def function_count(self) -> int:
        """F."""
        return len(self.functions)

    @property
    def node_count(self) -> int:
        """N."""
        return len(self.node_memory_mb)

    @property
    def gpu_count(self) -> int:
        """G."""
        return len(self.gpu_node)

    def with_settings(self, **changes: Any) -> World:
        """The same world under other settings, so that policies are compared on identical requests."""
        return replace(self, settings=replace(self.settings, **changes))

    def deciding(self, decision: DecisionTimes) -> World:
        """The same world with decisions at events, or every so many seconds.

        Raises:
            WorldError: neither.
        """
        if decision == "event":
            return self if self.settings.event_mode else self.with_settings(event_mode=True)
        if not (isinstance(decision, int | float) and 1e-6 <= decision < math.inf):
            raise WorldError(f"decision: needs 'event' or a positive number of seconds, got {decision!r}")
        return self.with_settings(event_mode=False, decision_us=round(decision * 1_000_000))

    @property
    def decision(self) -> DecisionTimes:
        """``event``, or the seconds between two decisions."""
        return "event" if self.settings.event_mode else self.settings.decision_us / 1e6

    def node_order(self) -> IntArray:
        """(N,) the nodes in the order of the ring; the identity under other routing."""
        if self.settings.routing != Routing.RING:
            return np.arange(self.node_count, dtype=np.int64)
        return _ring(self.node_count).copy()

    def home_position(self) -> IntArray:
        """(F,) position in ``node_order`` where the walk of each function begins."""
        return (_home_draws(self.function_count) % np.uint64(self.node_count)).astype(np.int64)

    def walk_step(self) -> IntArray:
        """(F,) step of each function's walk: coprime to N under hash routing, as OpenWhisk's balancer does; else 1."""
        if self.settings.routing != Routing.HASH or self.node_count == 1:
            return np.ones(self.function_count, dtype=np.int64)
        coprimes = [s for s in range(1, self.node_count) if np.gcd(s, self.node_count) == 1]
        picks = [draw_u64(0, Concern.STEP, f, 0) % len(coprimes) for f in range(self.function_count)]
        return np.array([coprimes[p] for p in picks], dtype=np.int64)

    def validate(self) -> World:
        """Refuse, whole and early, what no engine can run.

        Raises:
            WorldError: names the table, the row and the field.
        """
        table = self.functions
        if len(table) == 0:
            raise WorldError("functions: the table is empty")
        if self.node_count == 0:
            raise WorldError("nodes: the table is empty")
        for name in FUNCTION_FIELDS:
            column = getattr(table, name)
            if np.any(column < 0):
                raise WorldError(f"functions row {int(np.argmax(column < 0))}: {name} is negative")
        hold, peak, container = table.hold_mb, table.peak_mb, table.container_mb
        smallest, largest = int(self.node_memory_mb.min()), int(self.node_memory_mb.max())
        nested = (hold <= peak) & (peak <= container)
        positive = (container > 0) & (hold > 0)
        wrong = ~(nested & positive & (container <= smallest))
        if wrong.any():
            row = int(np.argmax(wrong))
            if not nested[row]:
                problem = f"needs hold_mb <= peak_mb <= container_mb, got {hold[row]}, {peak[row]}, {container[row]}"
            elif not positive[row]:
                problem = "hold_mb and container_mb must be positive"
            else:
                problem = (
                    f"its container of {container[row]} MB is larger than a node "
                    f"(the smallest has {smallest} MB, the largest {largest} MB)"
                )
            raise WorldError(f"functions row {row}: {problem}")
        if len(self.arrival_us) != len(self.arrival_function):
            raise WorldError("arrivals: arrival_us and arrival_function differ in length")
        if len(self.arrival_duration_us) not in (0, len(self.arrival_us)):
            raise WorldError("arrivals: arrival_duration_us must be empty or as long as arrival_us")
        # piece by piece, since there may be more of them than fits into memory
        pages = Pages(self.arrival_us, self.arrival_function)
        for start in range(0, len(self.arrival_us), _PIECE):
            back = np.diff(self.arrival_us[start : start + _PIECE + 1]) < 0
            if back.any():
                raise WorldError(f"arrivals row {start + int(np.argmax(back)) + 1}: time runs back")
            functions = self.arrival_function[start : start + _PIECE]
            if functions.min() < 0 or functions.max() >= len(table):
                raise WorldError("arrivals: a row names a function that is not in the table")
            pages.release(start)
        pages.release(len(self.arrival_us))
        if len(self.arrival_us) and (self.arrival_us[0] < 0 or self.arrival_us[-1] >= self.end_us):
            raise WorldError("arrivals: every time must lie in [0, end_us)")
        if not 0 <= self.score_from_us <= self.end_us < NEVER_US:
            raise WorldError("window: needs 0 <= score_from_us <= end_us < 2^42 (50 days)")
        if np.any(np.diff(self.gpu_node) < 0) or np.any(self.gpu_node >= self.node_count):
            raise WorldError("gpus: gpu_node must ascend and name existing nodes")
        for name, codes in _CODES.items():
            if getattr(self.settings, name) not in set(codes):
                raise WorldError(f"settings: {name} has no meaning {getattr(self.settings, name)!r}")
        for name in ("load_ppm", "offload_ppm"):
            if not 0 <= getattr(self.settings, name) < 1 << 22:
                raise WorldError(f"settings: {name} must lie in 0..{(1 << 22) - 1}, got {getattr(self.settings, name)}")
        if self.settings.decision_us < 1:
            raise WorldError(f"settings: decision_us must be positive, got {self.settings.decision_us}")
        if self.settings.kernel == Kernel.AGENT and self.settings.event_mode:
            raise WorldError(
                "settings: with kernel AGENT nobody answers at events; an agent decides once an interval "
                "(event_mode False)"
            )
        if self.settings.prior_gap_us < 1:
            raise WorldError(f"settings: prior_gap_us must be positive, got {self.settings.prior_gap_us}")
        if self.forecast.size and not 0 <= self.forecast.min() <= self.forecast.max() <= 1 << 20:
            raise WorldError("forecast: every value must lie in 0..2^20")
        reads_forecast = self.settings.kernel == Kernel.TABLE or self.settings.prewarm == Prewarm.ICEBREAKER
        if reads_forecast and (
            self.forecast.ndim != 2 or self.forecast.shape[0] != len(table) or self.forecast.shape[1] == 0
        ):
            who = "kernel TABLE" if self.settings.kernel == Kernel.TABLE else "prewarm ICEBREAKER"
            raise WorldError(f"forecast: {who} needs shape ({len(table)}, minutes), got {self.forecast.shape}")
        if self.settings.prewarm == Prewarm.ALWAYS_ON and self.settings.keep_alive_us < 1:
            raise WorldError("settings: keep_alive_us must be positive with prewarm ALWAYS_ON, which renews it")
        if self.settings.kernel == Kernel.NETWORK and self.network.shape != (SIZE,):
            raise WorldError(f"network: kernel NETWORK needs {SIZE} weights, got shape {self.network.shape}")
        for name, code in (("kernel", Kernel.OWN), ("prewarm", Prewarm.OWN), ("routing", Routing.OWN)):
            if getattr(self.settings, name) == code and getattr(self.rules, name) is None:
                raise WorldError(f"rules: the setting {name} is OWN, but there is no rule for it")
        if not 1 <= self.settings.window <= 64:
            raise WorldError(f"settings: window must lie in 1..64, got {self.settings.window}")
        if not 1 <= self.settings.copies <= 8:
            raise WorldError(f"settings: copies must lie in 1..8, got {self.settings.copies}")
        if self.settings.contention:
            self._validate_contention()
        return self

    def _validate_contention(self) -> None:
        """Refuse resources that are missing, and work so long that its share would not fit into 64 bits."""
        table = self.functions
        for name in ("node_cores", "node_disk_streams"):
            column = getattr(self, name)
            if column.shape != (self.node_count,):
                raise WorldError(f"{name}: contention needs one value a node, got shape {column.shape}")
            if column.min() < 1 or column.max() > MOST_CAPACITY:
                raise WorldError(f"{name}: every value must lie in 1..{MOST_CAPACITY}")
        if table.read_ppm.max() > 1_000_000:
            raise WorldError(f"functions row {int(np.argmax(table.read_ppm > 1_000_000))}: read_ppm is above 10^6")
        nominal_us = np.max([getattr(table, name) for name in _WORK_FIELDS], axis=0)
        worst = (1 << 64) - 1
        longest_us = max(noisy_us(int(d), int(s), worst) for d, s in zip(nominal_us, table.sigma_ppm, strict=True))
        longest_us = max(longest_us, int(self.arrival_duration_us.max(initial=0)))
        jobs = int((self.node_memory_mb // table.container_mb.min() + self.node_memory_mb // table.hold_mb.min()).max())
        if longest_us * UNITS_PER_US * max(jobs, MOST_CAPACITY) >= 1 << 62:
            raise WorldError(f"contention: a stage of {longest_us} us shared by {jobs} jobs is too long")
