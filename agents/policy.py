"""Policies: what they must offer, the built-in ones, and how a user's own is loaded.

A policy has ``predict(observation, state, episode_start, deterministic) -> (action, state)``, as in stable-baselines3.
The built-in heuristics are row kernels as well (``docs/engine.md``, section 8): the engine can call those at each
event, whereas ``predict`` is called once a decision interval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from traces.errors import did_you_mean
from tyche_env import extensions
from tyche_env.draws import Concern, draw_u64
from tyche_env.errors import UserError
from tyche_env.rules import RowKernel
from tyche_env.world import Decision, FunctionTable, Isolation, Kernel, Packing, Routing, Scope, World

if TYPE_CHECKING:
    from agents.predictors import History, Rates

Observation = dict[str, NDArray[np.float32]]
Action = NDArray[np.float32]


class PolicyError(UserError):
    """A policy that cannot be found, loaded or asked; the message names it and what would be right."""


@runtime_checkable
class Predictor(Protocol):
    """Any object that can be asked for an action; models of stable-baselines3 are such objects."""

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
    ) -> tuple[Any, Any]:
        """The action for an observation, and the state to pass next time.

        Args:
            observation: of ``tyche/Preload-v0``, a dictionary of float32 arrays.
            state: what the last call returned; None at first.
            episode_start: True at the first call of an episode.
            deterministic: whether to act without exploration.
        """


class Policy(Predictor, Protocol):
    """A predictor with what evaluation needs to know about it.

    Attributes:
        name: as it appears in tables.
        kernel: its row kernel; None if it can only predict.
        settings: what it changes in the controller.
        privileged: whether it knows the future.
    """

    @property
    def name(self) -> str:
        """As it appears in tables."""

    @property
    def kernel(self) -> Kernel | None:
        """Its row kernel; None if it can only predict."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """What it changes in the controller (``tyche_env.world.Settings``)."""

    @property
    def privileged(self) -> bool:
        """Whether it knows the future."""


@dataclass(frozen=True, slots=True)
class KernelPolicy:
    """A policy that the engine can ask at events: a compiled row kernel, and what it changes in the controller.

    Attributes:
        summary: one line.
        settings: fields of :class:`~tyche_env.world.Settings` that make the system, beside the kernel.
        hindsight: it tries other settings and policies on the same requests and keeps the best (``agents.hindsight``).
        rule: the user's own rule, for the kernel OWN.
    """

    name: str
    kernel: Kernel
    privileged: bool
    summary: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    hindsight: bool = False
    rule: RowKernel | None = None

    def equip(self, world: World) -> World:
        """The world under this policy; what it needs is checked later."""
        if self.rule is not None:
            world = replace(world, rules=replace(world.rules, kernel=self.rule))
        return world.with_settings(kernel=self.kernel, **self.settings)

    def predict(
        self,
        observation: Observation,
        state: int | None = None,
        episode_start: object = None,
        deterministic: bool = True,
    ) -> tuple[Action, int]:
        """Apply the kernel to every function's row of the observation.

        ``none`` and ``lru`` leave everything as it is; the environment's platform keeps processes as with a pre-loader.

        Raises:
            PolicyError: the policy needs to know the future, which no observation shows, or the controller's insides.
        """
        if self.privileged:
            raise PolicyError(
                f"policy {self.name}: knows the future, so it cannot predict from an observation; "
                "run it through `tyche evaluate` or tyche_env.simulate"
            )
        if self.settings or self.kernel not in _PREDICTING:
            raise PolicyError(
                f"policy {self.name}: is more than an observation shows; "
                "run it through `tyche evaluate` or tyche_env.simulate"
            )
        from tyche_env.heuristic import actions_of, predict_rows
        from tyche_env.spaces import table

        calls = 0 if state is None else int(state)
        if self.kernel == Kernel.RANDOM:
            action = actions_of(*_by_lot(len(table(observation, "functions")), calls))
        else:
            action = predict_rows(self.kernel, observation)
        # Vector environments put a dimension in front.
        leading = observation["functions"].shape[:-1]
        return action.reshape(*leading, -1, 2), calls + 1


@dataclass(frozen=True, slots=True)
class PredictorPolicy:
    """A user's object with ``predict``, under a name."""

    name: str
    predictor: Predictor

    @property
    def kernel(self) -> None:
        """It has none: it is asked at each decision interval."""
        return None

    @property
    def settings(self) -> Mapping[str, Any]:
        """It changes none of the controller's settings."""
        return {}

    @property
    def privileged(self) -> bool:
        """It sees observations only."""
        return False

    def predict(
        self,
        observation: Observation,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
    ) -> tuple[Any, Any]:
        """Ask the user's object.

        Raises:
            PolicyError: it does not return a pair.
        """
        answer = self.predictor.predict(observation, state, episode_start, deterministic)
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise PolicyError(
                f"policy {self.name}: predict must return the pair (action, state), got {type(answer).__name__}"
            )
        return answer


@dataclass(frozen=True, slots=True)
class RestorePolicy(KernelPolicy):
    """No pre-loading, but snapshots: a start restores container, libraries and model from disk (REAP, ASPLOS'21).

    Another mechanism than loading ahead, so that neither the oracle nor the bound, which do without, say anything
    about it.
    """

    def equip(self, world: World) -> World:
        """The world with restoring in place of starting and loading."""
        return KernelPolicy.equip(self, replace(world, functions=restored(world.functions)))

    def predict(self, observation: Observation, *_: object, **__: object) -> tuple[Action, int]:
        """Refuse: it is the platform that restores.

        Raises:
            PolicyError: always.
        """
        raise PolicyError(f"policy {self.name}: changes the platform; run it through `tyche evaluate`")


RESTORE_MS = (300, 600)
"""What restoring takes (facts of the Tyche paper): for the least and the most memory of its eight functions."""
_RESTORED_MB = (649, 1648)


def restored(functions: FunctionTable) -> FunctionTable:
    """Functions that are restored from snapshots: nothing to create or import, no GPU.

    The time grows in proportion to the memory, between :data:`RESTORE_MS` and never beyond.
    """
    fast_us, slow_us = (1000 * each for each in RESTORE_MS)
    least_mb, most_mb = _RESTORED_MB
    beyond_mb = np.clip(functions.hold_mb, least_mb, most_mb) - least_mb
    none = np.zeros_like(functions.init_us)
    return replace(
        functions,
        init_us=none,
        library_us=none,
        model_us=fast_us + beyond_mb * (slow_us - fast_us) // (most_mb - least_mb),
        gpu_mb=none,
    )


_PREDICTING = (Kernel.NONE, Kernel.LRU, Kernel.TYCHE, Kernel.CENSORED, Kernel.HISTOGRAM, Kernel.RANDOM)
"""Kernels that an observation is enough for."""


def _builtin(
    kernel: Kernel, summary: str, privileged: bool = False, name: str | None = None, **settings: Any
) -> KernelPolicy:
    return KernelPolicy(name or kernel.name.lower().replace("_", "-"), kernel, privileged, summary, settings)


POLICIES: dict[str, KernelPolicy] = {
    policy.name: policy
    for policy in (
        _builtin(Kernel.NONE, "no pre-loading: what the platform does by itself"),
        _builtin(Kernel.LRU, "keep what ran until it is evicted; load nothing"),
        _builtin(Kernel.TYCHE, "load and off-load at quantiles of a Poisson process (window 10, 0.06 / 0.94)"),
        _builtin(Kernel.HISTOGRAM, "chance of a request from the function's own gaps", name="tyche-histogram"),
        _builtin(Kernel.CENSORED, "a rate that falls while no request comes"),
        _builtin(Kernel.EWMA, "Tyche's rule on exponentially smoothed gaps", name="tyche-ewma"),
        _builtin(Kernel.EMPIRICAL, "hazard of the function's own last 32 gaps at the present age"),
        _builtin(
            Kernel.TYCHE,
            "each worker decides alone, routing to the fewest busy containers (SoCC'24)",
            name="instainfer",
            scope=Scope.WORKER,
            routing=Routing.FEWEST_BUSY,
        ),
        _builtin(
            Kernel.TYCHE,
            "instainfer whose router gives ties to the first node, not by a hash of the function",
            name="instainfer-first",
            scope=Scope.WORKER,
            routing=Routing.FEWEST_BUSY_FIRST,
        ),
        _builtin(Kernel.NO_TIMERS, "ablation: Tyche without timers", name="tyche-np"),
        _builtin(
            Kernel.TYCHE,
            "ablation: Tyche without packing, one function a container",
            name="tyche-ns",
            packing=Packing.SINGLE,
        ),
        _builtin(
            Kernel.NO_TIMERS,
            "ablation: neither timers nor packing, each container reloads its own function",
            name="tyche-nps",
            packing=Packing.OWN,
        ),
        _builtin(Kernel.TYCHE, "Tyche with one function a container", name="tyche-strict", isolation=Isolation.STRICT),
        _builtin(Kernel.TYCHE, "Tyche with worst fit", name="tyche-worst-fit", packing=Packing.WORST),
        _builtin(
            Kernel.GREEDY_DUAL,
            "hold everything; displace by clock + frequency x latency saved / memory",
            displace_percent=0,
            busy_counts=True,
        ),
        RestorePolicy("reap", Kernel.NONE, False, "no pre-loading; starts restore a snapshot within 0.6 s, on the CPU"),
        _builtin(Kernel.RANDOM, "load, leave or off-load by lot"),
        KernelPolicy(
            "oracle", Kernel.ORACLE, True, "knows every arrival, and which policy serves them best", hindsight=True
        ),
        _builtin(Kernel.MINUTE_ORACLE, "knows the number of arrivals of every minute", privileged=True),
    )
}
"""The built-in policies by name."""

BOUND = "bound"
"""Name of the lower bound in evaluations; it is no policy (``agents.bound``)."""


@dataclass(frozen=True, slots=True)
class ForecastPolicy(KernelPolicy):
    """A predictor that is fitted outside the loop, into a table that the engine reads (``Kernel.TABLE``).

    Attributes:
        rates: what it expects (``agents.predictors.Rates``).
    """

    rates: Rates | None = None

    def foresee(self, world: World, histories: Sequence[History]) -> World:
        """The world with this predictor's forecasts of what arrives; ``histories`` as in ``agents.predictors``."""
        from agents.predictors import forecast

        assert self.rates is not None
        return forecast(self.rates, world, histories)


def load(source: str | Path) -> Policy:
    """A policy by its name, from a Python file, or from the folder of a trained agent.

    Args:
        source: a name of :data:`POLICIES`, of an agent that comes with the package, of an installed extension
            (entry-point groups ``tyche_env.policies`` and ``tyche_env.predictors``), or a predictor of
            ``agents.predictors.TABLES``; or the path of a Python file that defines one of: an object ``policy``, a
            function ``make_policy()``, a class ``Policy`` that can be built without arguments; or the folder of a model
            bundle (``agents.learned``).

    Raises:
        PolicyError: there is no such policy, or the file does not define one.
        BundleError: the folder's bundle cannot be read.
    """
    text = str(source)
    if text in POLICIES:
        return POLICIES[text]
    path = Path(source)
    if path.suffix == ".py":
        return wrap(_from_file(path), path.stem)
    from agents.learned.bundle import CARD, SHIPPED, shipped_bundles

    if text in shipped_bundles() or (path / CARD).is_file():
        from agents.learned.policy import load_learned

        return load_learned(SHIPPED / text if text in shipped_bundles() else path, text)
    if text == BOUND:
        raise PolicyError("policy bound: is a lower bound, not a policy; only `tyche evaluate` knows it")
    from agents.predictors import TABLES

    if text in TABLES:
        return _forecaster(text, TABLES[text])
    if text in extensions.names("predictor"):
        return _forecaster(text, extensions.find("predictor", text))
    if text in extensions.names("policy"):
        return wrap(_made(text, extensions.find("policy", text)), text)
    hint = did_you_mean(text, names())
    raise PolicyError(f"policy {text}: there is no such policy; {hint} (your own is a file, my_policy.py)")


def names() -> tuple[str, ...]:
    """Every name that :func:`load` knows, those of installed extensions included."""
    from agents.learned.bundle import shipped_bundles
    from agents.predictors import TABLES

    return (*POLICIES, *shipped_bundles(), *TABLES, *extensions.names("predictor"), *extensions.names("policy"))


def wrap(predictor: object, name: str) -> Policy:
    """Give a row kernel, or any object with ``predict``, a name, so that it can be evaluated.

    Raises:
        PolicyError: it is neither.
    """
    if isinstance(predictor, KernelPolicy):
        return replace(predictor, name=name)
    if isinstance(predictor, RowKernel):
        return KernelPolicy(name, Kernel.OWN, False, "a row kernel of your own", rule=predictor)
    if not isinstance(predictor, Predictor):
        raise PolicyError(f"policy {name}: {type(predictor).__name__} has no method predict(observation, ...)")
    return PredictorPolicy(name, predictor)


def _forecaster(name: str, rates: object) -> ForecastPolicy:
    if not callable(rates):
        raise PolicyError(
            f"policy {name}: a predictor is a function (counts, past) -> rates, got {type(rates).__name__}"
        )
    return ForecastPolicy(name, Kernel.TABLE, False, "a predictor's forecasts", rates=rates)


def _made(name: str, found: Any) -> object:
    """What an entry point names, made if it is a class or a function."""
    if isinstance(found, RowKernel) or (hasattr(found, "predict") and not isinstance(found, type)):
        return found
    if not callable(found):
        return found
    try:
        return found()
    except Exception as error:
        raise PolicyError(f"policy {name}: {type(error).__name__}: {error}") from error


def _from_file(path: Path) -> object:
    try:
        module = extensions.import_file(path, "policy")
    except extensions.ExtensionError as error:
        raise PolicyError(str(error)) from error
    for name in ("policy", "make_policy", "Policy"):
        if hasattr(module, name):
            found: object = getattr(module, name)
            if name == "policy":
                return found
            try:
                return cast("Callable[[], object]", found)()
            except Exception as error:
                raise PolicyError(f"policy {path}: {extensions.describe(error, path)}") from error
    raise PolicyError(f"policy {path}: defines neither an object `policy`, nor `make_policy()`, nor a class `Policy`")


def _by_lot(count: int, calls: int) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """Decisions and priorities of the random policy; another draw at each call of an episode."""
    draws = [draw_u64(0, Concern.POLICY, row, calls) for row in range(count)]
    kinds = (Decision.OFFLOAD, Decision.LEAVE, Decision.HOLD)
    decision = np.array([kinds[u % 3] for u in draws], dtype=np.int8)
    return decision, np.array([u >> 44 for u in draws], dtype=np.int64)
