"""The differential test has teeth: each rule, broken on purpose in the reference engine, is caught by its worlds."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from tests.tyche_env.simulator.strategies import Run, difference, random_run
from tests.tyche_env.simulator.test_differential import RANDOM_WORLDS
from tyche_env.simulator.engine import CompiledEngine
from tyche_env.simulator.reference import (
    Category,
    Container,
    ContainerState,
    Function,
    Gpu,
    Kind,
    Load,
    Node,
    ReferenceEngine,
    Resident,
)
from tyche_env.world import Decision


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
        best = super().select(f, node)
        if best is not None and best.entries[f.index][0] == Category.LOADING:
            return max(self.entries(f, node, Category.LOADING), key=lambda entry: entry[0])[1]
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

    def kernel(self, f: Function) -> tuple[int, int, int | None]:
        decision, priority, again_us = super().kernel(f)
        return Decision.HOLD if decision == Decision.LEAVE and again_us is not None else decision, priority, again_us


class LoadRenews(ReferenceEngine):
    """A load counts as a use of its container, and renews the keep-alive."""

    def on_loaded(self, r: Resident) -> None:
        super().on_loaded(r)
        if r.container.state == ContainerState.IDLE:
            self._schedule(self.now + self.settings.keep_alive_us, Kind.EXPIRY, r.container.slot)


class KeepAliveFromStart(ReferenceEngine):
    """The keep-alive runs from the start of the last request, not from its finish."""

    def start(self, request: int, c: Container) -> None:
        super().start(request, c)
        c.keep_us = self.now

    def on_finish(self, c: Container) -> None:
        super().on_finish(c)
        if c.state == ContainerState.IDLE:
            expiry = max(self.now, c.keep_us + self.settings.keep_alive_us)
            self._schedule(expiry, Kind.EXPIRY, c.slot)


class NoPromotion(ReferenceEngine):
    """Nobody moves up when GPU memory comes free."""

    def promote(self, g: Gpu) -> None:
        return


class NoDemotion(ReferenceEngine):
    """A run never takes the GPU memory of an idle model."""

    def gpu_of_the_run(self, own: Resident) -> tuple[bool, bool]:
        g = own.container.gpu
        if own.gpu == Load.ABSENT and g is not None and g.free_mb < own.function.gpu_mb:
            return False, False
        return super().gpu_of_the_run(own)


class HomeOnly(ReferenceEngine):
    """The group of a function is its home node, however busy it is."""

    def group_size(self, f: Function) -> int:
        return 1


class LoadsCancelled(ReferenceEngine):
    """An off-load decision also stops loads in progress."""

    def apply(self, f: Function, gpu_step: bool) -> None:
        super().apply(f, gpu_step)
        if f.decision == Decision.OFFLOAD and self.settings.preloads:
            for r in list(f.residents):
                if r.state == Load.LOADING:
                    self.free(r)


class SecondCopyWorthAsMuch(ReferenceEngine):
    """Every copy of a function has the worth of the first."""

    def density(self, f: Function, k: int) -> int:
        return super().density(f, 1)


MUTANTS = [
    WorstFit,
    FitIgnoresRank,
    OldestWarm,
    NewestLoad,
    FreeClearing,
    NoHysteresis,
    NoReplacing,
    NewestEvicted,
    NoPeak,
    WindowStaysOpen,
    LoadRenews,
    KeepAliveFromStart,
    NoPromotion,
    NoDemotion,
    HomeOnly,
    LoadsCancelled,
    SecondCopyWorthAsMuch,
]


@cache
def world(seed: int) -> Run:
    return random_run(seed)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_broken_rule_is_caught(mutant: type[ReferenceEngine]) -> None:
    runs = map(world, range(RANDOM_WORLDS))
    assert any(difference(mutant(run.world), CompiledEngine(run.world), run) for run in runs)
