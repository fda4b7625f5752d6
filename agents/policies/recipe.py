"""Recipes: everything that decides what training gives, unknown keys refused; a bundle says by which it was made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, FiniteFloat, TypeAdapter, ValidationError, model_validator

from traces import ColumnMap
from traces.errors import did_you_mean
from traces.repairs import BadRows
from tyche_env.errors import UserError
from tyche_env.network import HIDDEN
from tyche_env.part import Part
from tyche_env.scenario import Scenario

Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class RecipeError(UserError):
    """A recipe that cannot be read; the message names the file and the field."""


class Choice(Part):
    """What is tried on the validation windows, and where.

    Attributes:
        scenarios: the candidate that is best over the validation windows of all of these is taken.
        displace_percent: by how much a function must be worth more than a held one to displace it; the bonus of what
            is held.
        floors: priorities below which a function is left as it is, not loaded.
        function_weight: weight of the mean cost over functions; the mean over requests has the rest.
    """

    scenarios: Annotated[tuple[str, ...], Field(min_length=1)]
    displace_percent: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    floors: Annotated[tuple[Annotated[float, Field(ge=0, lt=1)], ...], Field(min_length=1)] = (0,)
    function_weight: Annotated[float, Field(ge=0, le=1)] = 0.5


Value = bool | int | float | str
"""Of a hyperparameter."""


class Range(Part):
    """What a search may set a hyperparameter to: an interval or choices.

    Attributes:
        low: the least value; whole numbers are tried if both ends are whole.
        high: the greatest.
        log: equal factors are equally likely instead of equal differences.
        choices: the values, instead of an interval.
    """

    low: int | FiniteFloat | None = None
    high: int | FiniteFloat | None = None
    log: bool = False
    choices: Annotated[tuple[bool | int | FiniteFloat | str, ...], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.choices is not None:
            if self.low is not None or self.high is not None or self.log:
                raise ValueError("give either choices, or low and high")
        elif self.low is None or self.high is None or self.low >= self.high:
            raise ValueError("give low and a greater high, or choices")
        elif self.log and self.low <= 0:
            raise ValueError("low: must be greater than 0 with log")
        return self

    @property
    def ends(self) -> tuple[Value, ...]:
        """All choices, or both ends of the interval."""
        return self.choices or tuple(end for end in (self.low, self.high) if end is not None)

    def holds(self, value: Value) -> bool:
        """Whether a value can be drawn; whole numbers only from whole ones."""
        if self.low is None or self.high is None:
            return value in self.ends
        if isinstance(value, bool | str) or (isinstance(value, int) and not all(isinstance(e, int) for e in self.ends)):
            return False
        return self.low <= value <= self.high


class TraceReading(Part):
    """How the file of ``trace`` is read, as a scenario's ``trace`` has it."""

    columns: ColumnMap | None = None
    family: str | None = None
    durations_file: str | None = None
    memory_file: str | None = None
    bad_rows: BadRows = "fail"


_NOT_TUNED = {"kind", "trace", "reading", "algorithm", "scenario", "scenarios", "choice", "function_weight"}
"""Says what is trained, on what, and by what it is judged."""


class _Trained(Part):
    """What all recipes have.

    Attributes:
        trace: file, of any known form, that replaces the traces of all scenarios that the recipe names.
        reading: how it is read, for a file that needs to be told.
        tune: what ``tyche tune`` may set hyperparameters to, by their names (``options.gamma`` for one of ``options``).
            It says nothing about what is trained, so it is part of no hash and no bundle.
    """

    trace: str | None = None
    reading: TraceReading | None = None
    tune: Mapping[str, Range] = Field(default_factory=dict, exclude=True)

    @model_validator(mode="after")
    def _reads_a_trace(self) -> Self:
        if self.reading is not None and self.trace is None:
            raise ValueError("reading: belongs to trace, which is not given")
        return self

    @model_validator(mode="after")
    def _can_be_tuned(self) -> Self:
        known = self.hyperparameters()
        for name, allowed in self.tune.items():
            if name not in known:
                raise ValueError(f"tune: there is no hyperparameter {name!r}; {did_you_mean(name, known)}")
            for value in allowed.ends:
                try:
                    self.with_values({name: value})
                except ValidationError as error:
                    raise ValueError(f"tune: {name}: {value!r}: {error.errors()[0]['msg']}") from None
            if not allowed.holds(known[name]):
                raise ValueError(f"tune: {name}: must hold the recipe's own {known[name]!r}, which is tried first")
        return self

    def hyperparameters(self) -> dict[str, Value]:
        """What can be tuned: numbers and words that say neither what it is trained on nor by what it is judged."""
        content = self.model_dump(exclude=_NOT_TUNED)
        options = {f"options.{name}": value for name, value in content.pop("options", {}).items()}
        return {name: value for name, value in (content | options).items() if isinstance(value, Value)}

    def with_values(self, values: Mapping[str, Value]) -> Self:
        """The recipe with other hyperparameters, named as in ``tune``, and without ranges."""
        content: dict[str, Any] = self.model_dump()
        for name, value in values.items():
            *folder, last = name.split(".", 1)
            (content[folder[0]] if folder else content)[last] = value
        return type(self).model_validate(content)

    def scenario_of(self, name: str) -> Scenario:
        """A scenario that the recipe names, on the recipe's trace."""
        scenario = Scenario.load(name)
        if self.trace is None:
            return scenario
        return scenario.on_file(self.trace, **(self.reading.model_dump(exclude_unset=True) if self.reading else {}))

    def on_trace_of(self, other: _Trained) -> Self:
        """The recipe on the trace of another one."""
        return self.model_copy(update={"trace": other.trace, "reading": other.reading})


class HazardRecipe(_Trained):
    """Supervised: the chance of a request within several horizons.

    Attributes:
        scenarios: whose training functions and times; each gives as many rows as it has.
        expansions: how many times the counts are expanded into arrivals, each with other seconds.
        share: share of the rows that is used.
        horizons_s: horizons among which the validation windows choose.
        rare_exponent: what is learnt is the chance divided by (requests an hour, at least 1) to the power of this, so
            that memory goes to rarely requested functions too, as the mean over functions rewards; 0 learns chances.
    """

    kind: Literal["hazard"]
    scenarios: Annotated[tuple[str, ...], Field(min_length=1)]
    expansions: Count = 4
    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    epochs: Count = 4
    batch_size: Count = 4096
    learning_rate: Rate = 2e-3
    horizons_s: Annotated[tuple[float, ...], Field(min_length=1)] = (2, 10, 60)
    rare_exponent: Annotated[float, Field(ge=0, le=1)] = 0.0
    choice: Choice


class PricedRecipe(_Trained):
    """PPO on priced memory: one function an agent, shared weights (``tyche/HoldPrice``).

    Attributes:
        scenario: whose training functions and times.
        clusters: clusters stepped together; each has as many rows as functions.
        steps: rows in all.
        decision_interval_s: seconds between decisions in training; in use it is asked at events and every 10 s.
        load_cost: kappa, cost of a load in starts.
        rollout: decisions of each row between two updates.
        checkpoints: how many states of training the validation windows choose among.
    """

    kind: Literal["priced-ppo"]
    scenario: str
    clusters: Count = 16
    steps: Count = 2_000_000
    decision_interval_s: Rate = 10
    gamma: Annotated[float, Field(ge=0, lt=1)] = 0.9
    gae_lambda: Annotated[float, Field(ge=0, le=1)] = 0.9
    load_cost: Annotated[float, Field(ge=0)] = 0
    rollout: Count = 64
    batch_size: Count = 4096
    epochs: Count = 4
    learning_rate: Rate = 1e-3
    entropy: Annotated[float, Field(ge=0)] = 0.003
    checkpoints: Count = 5
    choice: Choice


class SearchRecipe(_Trained):
    """Policy search in the clusters themselves, from a supervised network (CMA-ES on a gated network).

    Attributes:
        start: the supervised recipe that gives the network to begin with.
        scenarios: whose training windows are played.
        expansions: of each training window's counts into arrivals.
        generations: steps of the search.
        population: agents tried in a generation.
        windows: windows of each scenario that each of them plays, the same for all.
        deviation: size of the first trials.
        function_weight: weight of the mean over functions; the mean over requests has the rest.
        check_every: generations between two looks at the validation windows.
    """

    kind: Literal["search"]
    start: str
    scenarios: Annotated[tuple[str, ...], Field(min_length=1)]
    expansions: Count = 2
    generations: Count = 40
    population: Annotated[int, Field(ge=2)] = 16
    windows: Count = 6
    deviation: Rate = 0.3
    function_weight: Annotated[float, Field(ge=0, le=1)] = 0.5
    check_every: Count = 5


AlgorithmName = Literal["ppo", "maskable-ppo", "recurrent-ppo", "dqn", "qr-dqn", "sac"]
"""Algorithms of stable-baselines3 and sb3-contrib."""


class AlgorithmRecipe(_Trained):
    """An algorithm of stable-baselines3, a function an agent, shared weights (``training.vec_envs.FunctionVecEnv``).

    Attributes:
        algorithm: which one.
        scenario: whose training windows are played; its validation windows choose the checkpoint.
        clusters: clusters stepped together; each has as many rows as functions.
        steps: rows in all.
        decision_interval_s: seconds between decisions in training and when its checkpoints are compared; evaluations
            ask at the scenario's interval.
        actions: form of the action; ``priority`` or ``logit`` for algorithms that set numbers, ``tiers`` for those that
            choose.
        actor: what the policy sees: the function's own ``row``, or the cluster's ``context`` as well; critics and
            action values always see both.
        width: of the two hidden layers, and of a recurrent one.
        quantiles: of qr-dqn.
        checkpoints: how many states of training the validation windows choose among.
        options: arguments of the algorithm.
        start: supervised recipe whose network the actor begins as (imitation).
        choice: what is tried on validation windows with the actor as a row network; without it the checkpoint with the
            best reward is taken, and the agent is asked once an interval.
    """

    kind: Literal["algorithm"]
    algorithm: AlgorithmName
    scenario: str
    clusters: Count = 1
    steps: Count = 20_000
    decision_interval_s: Rate = 10
    actions: Literal["priority", "logit", "tiers"] = "tiers"
    actor: Literal["row", "context"] = "context"
    width: Count = 64
    quantiles: Count = 32
    checkpoints: Count = 4
    options: dict[str, bool | int | float | str] = Field(default_factory=dict)
    start: str | None = None
    choice: Choice | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> AlgorithmRecipe:
        if self.algorithm in ("dqn", "qr-dqn", "maskable-ppo") and self.actions != "tiers":
            raise ValueError(f"actions: {self.algorithm} chooses among tiers")
        if self.algorithm == "sac" and self.actions == "tiers":
            raise ValueError("actions: sac sets priorities or logits")
        if self.actor == "row" and self.algorithm not in ("ppo", "maskable-ppo"):
            raise ValueError(f"actor: {self.algorithm} has no actor of its own that could see less; use context")
        exported = self.algorithm == "ppo" and self.actor == "row" and self.actions == "logit" and self.width == HIDDEN
        if (self.start is not None or self.choice is not None) and not exported:
            raise ValueError(f"start and choice: need ppo, actor row, actions logit and width {HIDDEN}: a row network")
        return self


Recipe = HazardRecipe | PricedRecipe | SearchRecipe | AlgorithmRecipe
_ADAPTER: TypeAdapter[Recipe] = TypeAdapter(Annotated[Recipe, Field(discriminator="kind")])


def as_recipe(content: object, where: str = "recipe") -> Recipe:
    """A recipe from a mapping in the form of its YAML file.

    Raises:
        RecipeError: names the field and what would be right.
    """
    try:
        return _ADAPTER.validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise RecipeError(f"{where}: {f'{place}: ' if place else ''}{message}") from None


def recipe_hash(recipe: Recipe) -> str:
    """Sixteen hexadecimal digits over the whole recipe."""
    content = recipe.model_dump(mode="json")
    if content["reading"] is None:
        del content["reading"]  # hashes from before there was this key stay as they are
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
