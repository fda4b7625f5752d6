"""What a policy must offer, and its two kinds: what the engine asks at events, and what is asked once an interval.

A policy has ``predict(observation, state, episode_start, deterministic) -> (action, state)``, as in stable-baselines3.
Heuristics and row networks are row kernels as well (``docs/engine.md``, section 8): the engine can call those at each
event, whereas ``predict`` is called once a decision interval.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from agents.policies.asking import CallForm, form_of
from agents.policies.history import History
from traces.blame import blaming, home_of
from tyche_env.draws import Concern, draw_u64
from tyche_env.errors import UserError
from tyche_env.rules import RowKernel
from tyche_env.world import Decision, Kernel, World

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
            observation: of ``tyche/Preload``, a dictionary of float32 arrays.
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

    def prepare(self, history: History) -> Policy:
        """The policy, fitted to what may be known before a window; most need no fitting."""

    def equip(self, world: World) -> World:
        """The world under this policy; what it needs is checked later."""


@dataclass(frozen=True, slots=True)
class KernelPolicy:
    """A policy that the engine can ask at events: a compiled row kernel, and what it changes in the controller.

    Attributes:
        summary: one line.
        settings: fields of :class:`~tyche_env.world.Settings` that make the system, beside the kernel.
        hindsight: it tries other settings and policies on the same requests and keeps the best
            (``agents.playing.hindsight``).
        rule: the user's own rule, for the kernel OWN.
    """

    name: str
    kernel: Kernel
    privileged: bool
    summary: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    hindsight: bool = False
    rule: RowKernel | None = None

    def prepare(self, history: History) -> Self:
        """Nothing needs fitting."""
        return self

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
    """An object with ``predict`` under a name, asked about all functions at each decision interval.

    Attributes:
        name: as it appears in tables.
        predictor: answers; its ``predict`` takes the observation and as much else as it likes (``asking.form_of``).
        most_functions: rows of the observations that it is shown; None: one a function of the world.
        file: the file that it stands in, as the user named it; None: it came as an object.
        form: how it is called.

    Raises:
        PolicyError: its ``predict`` cannot be called.
    """

    name: str
    predictor: Any
    most_functions: int | None = None
    file: str | None = None
    form: CallForm = field(init=False, repr=False)

    def __post_init__(self) -> None:
        predict = getattr(self.predictor, "predict", None)
        if not callable(predict):
            kind = type(self.predictor).__name__
            raise PolicyError(f"{self._known_as}: {kind} has no method predict(observation, ...)")
        form = form_of(predict)
        if form is None or inspect.iscoroutinefunction(predict):
            code = getattr(inspect.unwrap(getattr(predict, "__func__", predict)), "__code__", None)
            line = "" if code is None else f", line {code.co_firstlineno}"
            is_async = "async " if inspect.iscoroutinefunction(predict) else ""
            raise PolicyError(
                f"{self._known_as}{line}: {is_async}predict{inspect.signature(predict)} cannot be called; it may take "
                "(observation, state=None, episode_start=None, deterministic=True), or the first few of them"
            )
        object.__setattr__(self, "form", form)

    @property
    def _known_as(self) -> str:
        return f"policy {self.file or self.name}"

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

    def prepare(self, history: History) -> Self:
        """Show it observations as large as the largest window's, as the environment does."""
        return replace(self, most_functions=history.most_functions)

    def equip(self, world: World) -> World:
        """The world with decisions at intervals, whatever it was: what can only predict is not asked at events."""
        return world.with_settings(kernel=Kernel.AGENT, event_mode=False)

    def predict(
        self,
        observation: Observation,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
    ) -> tuple[Any, Any]:
        """Ask the object.

        Returns:
            Its action, and the state that it returned with it; if it returned the action alone, the state as it was.

        Raises:
            PolicyError: it returns neither an action nor a pair.
            UserCodeError: it fails; the message names file and line.
        """
        offered = {"state": state, "episode_start": episode_start, "deterministic": deterministic}
        places, names = self.form.arguments(offered)
        with blaming(self._known_as, self.file or home_of(self.predictor)):
            answer = self.predictor.predict(observation, *places, **names)
        action, after = answer if isinstance(answer, tuple) and len(answer) == 2 else (answer, state)
        if action is None or isinstance(action, tuple):
            got = "None" if action is None else f"a tuple of {len(action)}"
            raise PolicyError(
                f"{self._known_as}: predict must return an action, an array, or the pair (action, state), got {got}"
            )
        return action, after


_PREDICTING = (Kernel.NONE, Kernel.LRU, Kernel.TYCHE, Kernel.CENSORED, Kernel.HISTOGRAM, Kernel.RANDOM)
"""Kernels that an observation is enough for."""


def _by_lot(count: int, calls: int) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """Decisions and priorities of the random policy; another draw at each call of an episode."""
    draws = [draw_u64(0, Concern.POLICY, row, calls) for row in range(count)]
    kinds = (Decision.OFFLOAD, Decision.LEAVE, Decision.HOLD)
    decision = np.array([kinds[u % 3] for u in draws], dtype=np.int8)
    return decision, np.array([u >> 44 for u in draws], dtype=np.int64)
