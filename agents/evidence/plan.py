"""Plans: which policies meet which windows under which conditions, checked before anything runs."""

from __future__ import annotations

import hashlib
import math
import pickle
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from agents.playing.play import Record
from agents.playing.runs import EvaluationError
from agents.playing.scene import WindowScene
from agents.policies.builtin import POLICIES
from agents.policies.forecasts import ForecastPolicy
from agents.policies.loading import BOUND, load, name_of
from agents.policies.policy import KernelPolicy, Policy, PredictorPolicy
from traces.blame import home_of
from tyche_env import extensions
from tyche_env.scenario import Conditions, Mode, PrewarmName, Scenario, SplitName
from tyche_env.simulate import EngineName
from tyche_env.world import DecisionTimes, Kernel

Source = str | object
"""A policy as ``agents.load`` takes it: a name, a path as text, or an object."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One run: a policy on a window."""

    number: int
    source: Source
    prewarm: PrewarmName
    mode: Mode
    window: int
    seed: int
    group: str

    @property
    def policy(self) -> str:
        """The policy's name."""
        return policy_name(self.source)

    @property
    def key(self) -> tuple[str, str, str, int, int]:
        """What identifies its row among those of a plan."""
        return (self.policy, self.prewarm, self.mode, self.window, self.seed)


@dataclass(frozen=True, slots=True)
class Plan:
    """What an evaluation runs: policies x pre-warming x modes x windows x seeds.

    Attributes:
        scenario: the scenario; its pre-warming policy and mode are the defaults.
        policies: names, paths of Python files, or objects (``agents.load``); ``bound`` for the lower bound.
        prewarm: pre-warming policies; empty: the scenario's.
        modes: modes; empty: the scenario's.
        windows: number of windows, the first ones of the split.
        split: which split.
        seeds: number of seeds, 0, 1, ...
        decision: ``event``, or seconds between decisions.  Policies that can only predict follow the scenario's
            interval in event mode.
        record: which requests are kept.
        engine: which engine runs.
        backend: where it runs; on any but ``simulated``, one run after the other and in real time.
    """

    scenario: Scenario
    policies: tuple[Source, ...]
    prewarm: tuple[PrewarmName, ...] = ()
    modes: tuple[Mode, ...] = ()
    windows: int | None = None
    split: SplitName = "test"
    seeds: int = 1
    decision: DecisionTimes = "event"
    record: Record = "sample"
    engine: EngineName = "compiled"
    backend: str = "simulated"

    def validated(self) -> Plan:
        """The plan with its defaults filled in.

        Raises:
            EvaluationError: an option is out of range.
            PolicyError: a policy cannot be loaded.
            BackendError: there is no such backend, or the scenario needs what it cannot do.
        """
        names = [policy_name(source) for source in self.policies]
        for name in names:
            if names.count(name) > 1:
                raise EvaluationError(f"--policy: {name} is given twice")
        for option, values in (("--prewarm", self.prewarm), ("--mode", self.modes)):
            for value in values:
                if values.count(value) > 1:
                    raise EvaluationError(f"{option}: {value} is given twice")
        loaded = [load(source) for source in self.policies if source != BOUND]
        if self.backend != "simulated" and BOUND in names:
            raise EvaluationError(f"--policy: {BOUND} is computed, not run; leave it out with --backend {self.backend}")
        if not self.policies:
            raise EvaluationError("--policy: needs at least one policy")
        available = len(self.scenario.windows(self.split))
        usual = 12 if self.backend == "simulated" else 1
        windows = min(usual, available) if self.windows is None else self.windows
        if not 1 <= windows <= available:
            raise EvaluationError(
                f"--windows: scenario {self.scenario.name} has {available} {self.split} windows, asked for {windows}"
            )
        if self.seeds < 1:
            raise EvaluationError(f"--seeds: needs at least 1, got {self.seeds}")
        for prewarm in self.prewarm:
            self.scenario.with_(**{"prewarm.policy": prewarm})
        if self.decision != "event" and not 1e-6 <= self.decision < math.inf:
            raise EvaluationError(f"--decision: needs 'event' or seconds above 0, got {self.decision}")
        plan = replace(
            self,
            windows=windows,
            prewarm=self.prewarm or (self.scenario.prewarm.policy,),
            modes=self.modes or (self.scenario.mode,),
        )
        for policy in loaded:
            plan._require_playable(policy)
        if plan.backend != "simulated":
            plan._require_backend(names)
            if plan.engine != "compiled":
                raise EvaluationError(f"--engine {plan.engine}: is the simulator's; leave it out with {plan.backend}")
        return plan

    def _require_playable(self, policy: Policy) -> None:
        """Refuse what :func:`agents.playing.play.play` would refuse when its turn comes."""
        if isinstance(policy, ForecastPolicy) and "icebreaker" in self.prewarm:
            raise EvaluationError(
                f"--prewarm: icebreaker reads the table of forecasts that policy {policy.name} fills; use another"
            )
        if self.backend != "simulated" or self.engine != "reference":
            return
        if isinstance(policy, PredictorPolicy):
            raise EvaluationError(
                f"--engine reference: makes no observations, which policy {policy.name} is shown; leave it out"
            )
        if isinstance(policy, KernelPolicy) and policy.kernel in (Kernel.NETWORK, Kernel.OWN):
            what = "networks" if policy.kernel == Kernel.NETWORK else "rules of your own"
            raise EvaluationError(f"--engine reference: knows no {what}, as policy {policy.name} is; leave it out")

    def _require_backend(self, names: list[str]) -> None:
        """Ask the backend before anything is written; making one starts nothing."""
        from tyche_env.backends import make_backend

        backend = make_backend(self.backend)
        try:
            other = next((name for name in names if name != "none"), None)
            if other is not None and not backend.capabilities.preloads:
                raise EvaluationError(
                    f"--policy: backend {self.backend} holds nothing ahead of requests, so only none works there, "
                    f"got {other}"
                )
            for prewarm in self.prewarm:
                backend.capabilities.require(self.scenario.world(self.split, conditions=Conditions(prewarm)))
        finally:
            backend.close()

    @property
    def stays_here(self) -> bool:
        """Whether a policy is an object that no other process could make again, so that all runs stay in this one."""
        return any(not isinstance(source, str) and not _can_be_sent(source) for source in self.policies)

    def cells(self) -> Iterator[Cell]:
        """All runs; those that are compared with each other come together."""
        axes = product(range(self.seeds), range(self.windows or 0), self.modes, self.prewarm, self.policies)
        planned = self.scenario.windows(self.split)
        for number, (seed, window, mode, prewarm, policy) in enumerate(axes):
            yield Cell(number, policy, prewarm, mode, window, seed, planned[window].group)

    def scene(self, cell: Cell) -> WindowScene:
        """Where one of its cells is played."""
        conditions = Conditions(cell.prewarm, cell.mode, self.decision)
        return WindowScene(self.scenario, self.split, cell.window, cell.seed, conditions)

    def identity(self) -> dict[str, Any]:
        """Everything that decides the results, as JSON: the hash of the scenario, of policy files, and the options."""
        return {
            "scenario": self.scenario.name,
            "scenario_hash": self.scenario.hash(),
            "policies": {policy_name(source): policy_hash(source) for source in self.policies},
            "prewarm": list(self.prewarm),
            "modes": list(self.modes),
            "windows": self.windows,
            "split": self.split,
            "seeds": self.seeds,
            "decision": self.decision,
            "record": self.record,
            "engine": self.engine,
            **({} if self.backend == "simulated" else {"backend": self.backend}),
        }


def policy_name(source: Source) -> str:
    """A policy's name in tables (``agents.policies.loading.name_of``)."""
    return name_of(source)


def policy_hash(source: Source) -> str:
    """A built-in policy is its name; a file is its content, a package its version, a trained agent its weights.

    An object is its content and the source of its class; one whose content cannot be read is like no other, so that no
    run folder goes on with it.
    """
    if not isinstance(source, str):
        return _object_hash(load(source))
    if source == BOUND or source in POLICIES:
        return "built-in"
    for kind in ("policy", "predictor"):
        found = extensions.digest(kind, source)
        if found is not None:
            return found
    return getattr(load(source), "digest", "built-in")


def _can_be_sent(source: object) -> bool:
    """Whether an object can be pickled; one of the script that runs, or of a notebook, is found nowhere else."""
    try:
        return b"__main__" not in pickle.dumps(source)
    except Exception:  # whatever an object does when it is asked for its content
        return False


def _object_hash(policy: Policy) -> str:
    if policy is POLICIES.get(policy.name):
        return "built-in"
    if (digest := getattr(policy, "digest", None)) is not None:
        return str(digest)
    held = policy.predictor if isinstance(policy, PredictorPolicy) else policy
    file = home_of(held)
    try:
        content = pickle.dumps(held)
        content += b"" if file is None else Path(file).read_bytes()
    except Exception:  # whatever an object does when it is asked for its content
        content = uuid.uuid4().bytes
    return hashlib.sha256(content).hexdigest()[:16]
