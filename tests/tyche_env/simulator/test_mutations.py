"""The differential test has teeth: each rule, broken on purpose in the reference engine, is caught by its worlds."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from tests.tyche_env.simulator.strategies import Run, difference, random_run
from tests.tyche_env.simulator.test_differential import RANDOM_WORLDS
from tyche_env.codes import (
    Category,
    ContainerState,
    Decision,
    Event,
    Isolation,
    Kernel,
    Packing,
    Prewarm,
    ResidentState,
    Routing,
    Scope,
    Stage,
)
from tyche_env.simulator.engine import CompiledEngine
from tyche_env.simulator.entities import Container, Function, Gpu, Job, Node, Resident, Resource
from tyche_env.simulator.reference import ReferenceEngine


class WorstFit(ReferenceEngine):
    """A function goes where most memory is free."""

    def best_fit(self, fitting: list[Container]) -> Container:
        return max(fitting, key=lambda c: (c.free_mb, c.rank))


class FitIgnoresRank(ReferenceEngine):
    """Among equal fits, the container that has been idle for longest wins."""

    def best_fit(self, fitting: list[Container]) -> Container:
        return min(fitting, key=lambda c: (c.free_mb, c.rank))


class OldestWarm(ReferenceEngine):
    """A request takes the entry that is oldest, not newest, in every category."""

    def select(self, f: Function, node: Node) -> Container | None:
        for category in Category:
            found = self.entries(f, node, category)
            if found:
                return min(found, key=lambda entry: entry[0])[1]
        return self.to_rent(f, node)


class NewestLoad(ReferenceEngine):
    """Of several loads in progress, a request takes the one that began last."""

    def select(self, f: Function, node: Node) -> Container | None:
        best, loads = super().select(f, node), self.entries(f, node, Category.LOADING)
        if any(c is best for _, c in loads):
            return max(loads, key=lambda entry: entry[0])[1]
        return best


class FreeClearing(ReferenceEngine):
    """Clearing other processes out of a container costs nothing."""

    def clear_us(self) -> int:
        return 0


class NoHysteresis(ReferenceEngine):
    """Any greater density displaces, however little greater."""

    def displaces(self, a: int, b: int) -> bool:
        return self.settings.displace_percent >= 0 and a > b


class NoReplacing(ReferenceEngine):
    """Who is cleared out by a start is not placed again."""

    def start(self, request: int, c: Container) -> None:
        lost = len(self._lost)
        super().start(request, c)
        del self._lost[lost:]


class NewestEvicted(ReferenceEngine):
    """The container that became idle last is evicted first."""

    def eviction_victim(self, node: Node) -> Container:
        return node.idle()[-1]


class NoPeak(ReferenceEngine):
    """A load needs no more memory than what it loads."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        for f in self.functions:
            f.peak_mb = f.hold_mb


class WindowStaysOpen(ReferenceEngine):
    """Tyche does not wait for T_load after a request."""

    def ask(self, f: Function) -> tuple[int, int, int | None]:
        decision, priority, again_us = super().ask(f)
        return Decision.HOLD if decision == Decision.LEAVE and again_us is not None else decision, priority, again_us


class LoadRenews(ReferenceEngine):
    """A load counts as a use of its container, and renews the keep-alive."""

    def on_loaded(self, r: Resident) -> None:
        super().on_loaded(r)
        if r.container.state == ContainerState.IDLE and self.settings.prewarm == Prewarm.KEEP_ALIVE:
            self._schedule(self.now + self.settings.keep_alive_us, Event.EXPIRY, r.container.slot)


class KeepAliveFromStart(ReferenceEngine):
    """The keep-alive runs from the start of the last request, not from its finish."""

    def start(self, request: int, c: Container) -> None:
        super().start(request, c)
        c.keep_us = self.now

    def on_finish(self, c: Container) -> None:
        super().on_finish(c)
        if c.state == ContainerState.IDLE and self.settings.prewarm == Prewarm.KEEP_ALIVE:
            expiry = max(self.now, c.keep_us + self.settings.keep_alive_us)
            self._schedule(expiry, Event.EXPIRY, c.slot)


class NoPromotion(ReferenceEngine):
    """Nobody moves up when GPU memory comes free."""

    def promote(self, g: Gpu) -> None:
        return


class NoDemotion(ReferenceEngine):
    """A run never takes the GPU memory of an idle model."""

    def gpu_of_the_run(self, own: Resident) -> tuple[bool, bool]:
        g = own.container.gpu
        if own.gpu == ResidentState.ABSENT and g is not None and g.free_mb < own.function.gpu_mb:
            return False, False
        return super().gpu_of_the_run(own)


class HomeOnly(ReferenceEngine):
    """On the ring, the group of a function is its home node, however busy it is."""

    def group_size(self, f: Function) -> int:
        return 1 if self.settings.routing == Routing.RING else super().group_size(f)


class LoadsCancelled(ReferenceEngine):
    """An off-load decision also stops loads in progress."""

    def apply(self, f: Function, gpu_step: bool) -> None:
        super().apply(f, gpu_step)
        if f.decision == Decision.OFFLOAD and self.settings.preloads:
            for r in list(f.residents):
                if r.state == ResidentState.LOADING:
                    self.free(r)


class SecondCopyWorthAsMuch(ReferenceEngine):
    """Every copy of a function has the worth of the first."""

    def density(self, f: Function, k: int) -> int:
        return super().density(f, 1)


class LongestIdleEvicted(ReferenceEngine):
    """FaasCache: what has been idle for longest is evicted, whatever it is worth."""

    def eviction_victim(self, node: Node) -> Container:
        return node.idle()[0]


class ClockStands(ReferenceEngine):
    """FaasCache: what was evicted does not raise the worth of what comes later."""

    def container_worth(self, c: Container) -> int:
        return super().container_worth(c) - self._clock


class StartsOfALifetime(ReferenceEngine):
    """FaasCache: a function keeps its starts when it loses its last container."""

    def disown(self, f: Function) -> None:
        return


class RentsAtOnce(ReferenceEngine):
    """Pagurus: an idle container is to let from the first."""

    def rentable(self, c: Container, f: Function) -> bool:
        idle_since_us, c.idle_since_us = c.idle_since_us, self.now - self.settings.keep_alive_us
        rentable = super().rentable(c, f)
        c.idle_since_us = idle_since_us
        return rentable


class RentsTheNewest(ReferenceEngine):
    """Pagurus: of several containers to let, the one idle for least long is taken."""

    def to_rent(self, f: Function, node: Node) -> Container | None:
        if super().to_rent(f, node) is None:
            return None
        return next(c for c in reversed(node.idle()) if self.rentable(c, f))


class RentsAcrossTenants(ReferenceEngine):
    """Pagurus: a container is let to any tenant."""

    def rentable(self, c: Container, f: Function) -> bool:
        tenant, c.tenant = c.tenant, f.tenant
        rentable = super().rentable(c, f)
        c.tenant = tenant
        return rentable


class AnyFewestBusy(ReferenceEngine):
    """InstaInfer's routing does not ask who holds the function."""

    def fewest_busy(self, f: Function) -> Node | None:
        nodes = [self.nodes[index] for index in f.walk]
        nodes = [node for node in nodes if self.is_open(f, node)]
        return min(nodes, key=lambda node: node.runs, default=None)


class FewestBusyByIndex(ReferenceEngine):
    """Among nodes with equally many runs, InstaInfer's routing takes the first of the cluster."""

    def fewest_busy(self, f: Function) -> Node | None:
        walk, f.walk = f.walk, sorted(f.walk)
        node = super().fewest_busy(f)
        f.walk = walk
        return node


class OneIsAlwaysOn(ReferenceEngine):
    """One container a function is enough."""

    def wants_container(self, f: Function) -> bool:
        return super().wants_container(f) and not self.owned(f)


class AllAreAlwaysOn(ReferenceEngine):
    """However many containers a function has, they stay."""

    def renewal_us(self, f: Function) -> int | None:
        return self.settings.keep_alive_us if self.settings.prewarm == Prewarm.ALWAYS_ON else super().renewal_us(f)


class PeelsNothing(ReferenceEngine):
    """RainbowCake: what is shared keeps its owner's process."""

    def free(self, r: Resident) -> None:
        if not (r.container.shared and r.container.state == ContainerState.IDLE and r.function is r.container.owner):
            super().free(r)


class ForgetsToPreWarm(ReferenceEngine):
    """RainbowCake creates no container ahead of a request."""

    def wants_container(self, f: Function) -> bool:
        return False


class KeepsAsExpected(ReferenceEngine):
    """RainbowCake keeps a container until the next request, whatever that costs."""

    def expect_next(self, f: Function) -> None:
        memory, f.hold_mb = f.hold_mb, 1
        super().expect_next(f)
        f.hold_mb = memory


class ExpectsNothing(ReferenceEngine):
    """IceBreaker never renews."""

    def renewal_us(self, f: Function) -> int | None:
        return None


class LoadClockStands(ReferenceEngine):
    """Greedy-dual: what was displaced does not raise the worth of what comes later."""

    def advance_clock(self, victims: list[Resident]) -> None:
        return


class EachRequestIsTheFirst(ReferenceEngine):
    """Greedy-dual does not count requests."""

    def greedy_dual(self, f: Function) -> tuple[int, int, int | None]:
        decision, _, again_us = super().greedy_dual(f)
        return decision, 1 << 10, again_us


class WorkersSeeAll(ReferenceEngine):
    """A worker counts the copies on all nodes."""

    def copies_seen(self, f: Function, node: Node) -> int:
        return self.copies(f)


class OneWorkerPlaces(ReferenceEngine):
    """Only the first worker that can load a function does."""

    def place(self, f: Function) -> bool:
        if self.settings.scope == Scope.CENTRAL:
            return super().place(f)
        return self.place_on([n for n in self.group(f) if self.copies_on(f, n) < self.settings.copies], f)


class WorkersReplaceAnywhere(ReferenceEngine):
    """What one worker lost, others place as well."""

    def replace(self, v: Function, node: Node) -> None:
        for other in self.group(v) if self.settings.scope == Scope.WORKER else [node]:
            super().replace(v, other)


class WorkersSeeEveryRequest(ReferenceEngine):
    """A worker takes itself to get all requests of a function."""

    def gap_seen_us(self, gap_us: int) -> int:
        return gap_us


class SingleReplaces(ReferenceEngine):
    """NS: who is cleared out is placed again."""

    def replace(self, v: Function, node: Node) -> None:
        super().replace(v, node)
        wanted = v.decision != Decision.OFFLOAD and self.copies_seen(v, node) < self.settings.copies
        if self.settings.packing == Packing.SINGLE and wanted:
            self.place(v)


class SingleFillsWithAnybody(ReferenceEngine):
    """NS and NPS: an empty idle container is filled with whoever is most worthy."""

    def fillers(self, c: Container) -> list[Function]:
        return [f for f in self.functions if c.node in self.group(f)] if super().fillers(c) else []


class WorstIsBest(ReferenceEngine):
    """Worst fit places like best fit."""

    def best_fit(self, fitting: list[Container]) -> Container:
        if self.settings.packing == Packing.WORST:
            return min(fitting, key=lambda c: (c.free_mb, -c.rank))
        return super().best_fit(fitting)


class NoTimersOffloads(ReferenceEngine):
    """NP closes the window as Tyche does."""

    def no_timers(self, f: Function) -> tuple[int, int, int | None]:
        return self.tyche(f, self.gap_seen_us(self.mean_gap_us(f)))


class EwmaForgets(ReferenceEngine):
    """Exponential smoothing knows nothing but the last gap."""

    def smooth(self, smoothed_us: int, gap_us: int) -> int:
        return gap_us


class EmpiricalLooksSeldom(ReferenceEngine):
    """The empirical kernel looks again only after half the age."""

    def empirical(self, f: Function) -> tuple[int, int, int | None]:
        decision, priority, _ = super().empirical(f)
        return decision, priority, max(10_000_000, (self.now - f.window[-1]) // 2)


class TableHoldsAlways(ReferenceEngine):
    """A forecast of 0 also holds."""

    def table(self, f: Function) -> tuple[int, int, int | None]:
        _, priority, again_us = super().table(f)
        return Decision.HOLD, priority, again_us


class CoresForAll(ReferenceEngine):
    """Contention: nobody slows anybody down."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        for q in self.resources:
            q.capacity *= 1000


class AlwaysShared(ReferenceEngine):
    """Contention: a node is as fast as one core."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        for q in self.resources:
            q.capacity = 1


class CancelledLoadsGoOn(ReferenceEngine):
    """Contention: a load that is cancelled keeps its share to its end."""

    def cancel_load(self, r: Resident) -> None:
        if r.job is not None:
            r.job.then = lambda: None
        r.job = None
        self._cancel(Event.LOAD_BEGINS, r.slot)


class ReadsNeedCores(ReferenceEngine):
    """Contention: reading is like computing."""

    def resource_of(self, job: Job, stage: Stage) -> Resource:
        return super().resource_of(job, Stage.COMPUTING if stage == Stage.READING else stage)


class OneLinkANode(ReferenceEngine):
    """Contention: the GPUs of a node share a link."""

    def resource_of(self, job: Job, stage: Stage) -> Resource:
        if stage == Stage.TRANSFER:
            return self.resources[2 * len(self.nodes) + job.container.node.gpus[0].index]
        return super().resource_of(job, stage)


class RunsDoNotWait(ReferenceEngine):
    """Contention: a start does not wait for the load that it met."""

    def begin_run(self, c: Container) -> None:
        run = c.run
        if run is None:
            return  # it did not wait, and is over before the load that it met
        if run.met is not None:
            todo, run.met.todo = run.met.todo, []
            super().begin_run(c)
            run.met.todo = todo
            run.met.ended_us |= dict.fromkeys(todo, self.now)
        else:
            super().begin_run(c)


class AgentIsAsked(ReferenceEngine):
    """Where an agent decides, a request asks the kernel all the same, which leaves the function and its worth."""

    def record_arrival(self, f: Function) -> None:
        super().record_arrival(f)
        if self.settings.kernel == Kernel.AGENT:
            f.decision, f.priority, f.gpu_priority = Decision.LEAVE, 0, 0


class AgentLoadsNothing(ReferenceEngine):
    """What an agent sets is only noted, as without a pre-loader."""

    def place(self, f: Function) -> bool:
        return self.settings.kernel != Kernel.AGENT and super().place(f)


class LoadsBookedAtTheirEnd(ReferenceEngine):
    """A load counts once it has ended, whole."""

    def loading_us(self, f: Function) -> int:
        in_progress = [r for r in f.residents if r.state == ResidentState.LOADING]
        return super().loading_us(f) - sum(self.now - r.load_start_us for r in in_progress)


class WasteOfTheWarmUp(ReferenceEngine):
    """What was wasted counts whole, whenever it was loaded."""

    def waste(self, r: Resident) -> int:
        return (self.now if r.loaded_us is None else r.loaded_us) - r.load_start_us


class WasteUntilTheDrop(ReferenceEngine):
    """What was held after its load counts as wasted, too."""

    def waste(self, r: Resident) -> int:
        return max(0, self.now - max(self.world.score_from_us, r.load_start_us))


MUTANTS: dict[type[ReferenceEngine], dict[str, int]] = {
    WorstFit: {},
    FitIgnoresRank: {},
    OldestWarm: {},
    NewestLoad: {},
    FreeClearing: {},
    NoHysteresis: {},
    NoReplacing: {},
    NewestEvicted: {},
    NoPeak: {},
    WindowStaysOpen: {},
    LoadRenews: {},
    KeepAliveFromStart: {},
    NoPromotion: {},
    NoDemotion: {},
    HomeOnly: {},
    LoadsCancelled: {},
    SecondCopyWorthAsMuch: {},
    LongestIdleEvicted: {"prewarm": Prewarm.FAASCACHE},
    ClockStands: {"prewarm": Prewarm.FAASCACHE},
    StartsOfALifetime: {"prewarm": Prewarm.FAASCACHE},
    RentsAtOnce: {"prewarm": Prewarm.PAGURUS},
    RentsTheNewest: {"prewarm": Prewarm.PAGURUS},
    RentsAcrossTenants: {"prewarm": Prewarm.PAGURUS, "isolation": Isolation.TENANT},
    AnyFewestBusy: {"routing": Routing.FEWEST_BUSY},
    FewestBusyByIndex: {"routing": Routing.FEWEST_BUSY},
    OneIsAlwaysOn: {"prewarm": Prewarm.ALWAYS_ON},
    AllAreAlwaysOn: {"prewarm": Prewarm.ALWAYS_ON},
    PeelsNothing: {"prewarm": Prewarm.RAINBOWCAKE},
    ForgetsToPreWarm: {"prewarm": Prewarm.RAINBOWCAKE},
    KeepsAsExpected: {"prewarm": Prewarm.RAINBOWCAKE},
    ExpectsNothing: {"prewarm": Prewarm.ICEBREAKER},
    LoadClockStands: {"kernel": Kernel.GREEDY_DUAL},
    EachRequestIsTheFirst: {"kernel": Kernel.GREEDY_DUAL},
    WorkersSeeAll: {"scope": Scope.WORKER},
    OneWorkerPlaces: {"scope": Scope.WORKER},
    WorkersReplaceAnywhere: {"scope": Scope.WORKER},
    WorkersSeeEveryRequest: {"scope": Scope.WORKER},
    SingleReplaces: {"packing": Packing.SINGLE},
    SingleFillsWithAnybody: {"packing": Packing.SINGLE},
    WorstIsBest: {"packing": Packing.WORST},
    NoTimersOffloads: {"kernel": Kernel.NO_TIMERS},
    EwmaForgets: {"kernel": Kernel.EWMA},
    EmpiricalLooksSeldom: {"kernel": Kernel.EMPIRICAL},
    TableHoldsAlways: {"kernel": Kernel.TABLE},
    AgentIsAsked: {"kernel": Kernel.AGENT},
    AgentLoadsNothing: {"kernel": Kernel.AGENT},
    CoresForAll: {"contention": True},
    AlwaysShared: {"contention": True},
    CancelledLoadsGoOn: {"contention": True},
    ReadsNeedCores: {"contention": True},
    OneLinkANode: {"contention": True},
    RunsDoNotWait: {"contention": True},
    LoadsBookedAtTheirEnd: {},
    WasteOfTheWarmUp: {},
    WasteUntilTheDrop: {},
}
"""The broken engines, and the settings without which the rule is not at work."""


@cache
def world(seed: int) -> Run:
    return random_run(seed)


@pytest.mark.parametrize(("mutant", "needed"), [pytest.param(*item, id=item[0].__name__) for item in MUTANTS.items()])
def test_a_broken_rule_is_caught(mutant: type[ReferenceEngine], needed: dict[str, int]) -> None:
    runs = (
        run
        for run in map(world, range(RANDOM_WORLDS))
        if all(getattr(run.world.settings, name) == value for name, value in needed.items())
    )
    assert any(difference(mutant(run.world), CompiledEngine(run.world), run) for run in runs)
