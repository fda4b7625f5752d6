"""Scenarios: everything that defines an experiment, as frozen models read from YAML.

A scenario names the cluster, the functions, the trace with its windows, the platform's policies, the controller's
settings and the prices.
:meth:`Scenario.world` turns it, for one window and one seed, into the plain integers of a
:class:`~tyche_env.world.World`.  Unknown keys are refused.  Named scenarios lie in ``scenarios/*.yaml``.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
import yaml
from pydantic import AfterValidator, Field, ValidationError, model_validator

from traces import TraceError, Window
from traces.errors import did_you_mean
from traces.repairs import BadRows
from tyche_env import extensions
from tyche_env.errors import UserError
from tyche_env.fourier import with_forecast
from tyche_env.part import Part
from tyche_env.profiles import FunctionProfile, load_catalogue
from tyche_env.reward import reward_function
from tyche_env.rules import PrewarmPolicy, RoutingRule, Rules
from tyche_env.sources import Requests, TraceSettings, durations_are_known, read_source, requests_of, windows_of
from tyche_env.streams import compiled_streams
from tyche_env.world import (
    MOST_CAPACITY,
    AfterRun,
    DecisionTimes,
    FunctionTable,
    Isolation,
    Kernel,
    Packing,
    Prewarm,
    Routing,
    Scope,
    Settings,
    World,
    WorldError,
)

DAY_US = 86_400_000_000
_FOLDER = Path(__file__).with_name("scenarios")

Mode = Literal["paper", "realistic"]
SplitName = Literal["train", "validation", "test"]

PREWARM: dict[str, Prewarm] = {
    "openwhisk": Prewarm.KEEP_ALIVE,
    "histogram": Prewarm.HISTOGRAM,
    "faascache": Prewarm.FAASCACHE,
    "pagurus": Prewarm.PAGURUS,
    "always-on": Prewarm.ALWAYS_ON,
    "rainbowcake": Prewarm.RAINBOWCAKE,
    "icebreaker": Prewarm.ICEBREAKER,
}
_ROUTING: dict[str, Routing] = {
    "hash": Routing.HASH,
    "ring": Routing.RING,
    "fewest-busy": Routing.FEWEST_BUSY,
    "fewest-busy-first": Routing.FEWEST_BUSY_FIRST,
}


def _known_prewarm(name: str) -> str:
    if name not in PREWARM:
        extensions.find("prewarm", name, PrewarmPolicy, PREWARM)
    return name


def _known_routing(name: str) -> str:
    if name not in _ROUTING:
        extensions.find("routing", name, RoutingRule, _ROUTING)
    return name


def _known_reward(name: str) -> str:
    reward_function(name)
    return name


PrewarmName = Annotated[str, AfterValidator(_known_prewarm)]
"""A name of :data:`PREWARM`, an installed extension, or a Python file."""
RoutingName = Annotated[str, AfterValidator(_known_routing)]
"""hash, ring, fewest-busy, fewest-busy-first, an installed extension, or a Python file."""
Fate = Literal["keep", "reload", "discard"]

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Probability = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


class ScenarioError(UserError):
    """A scenario that is wrong or cannot be run; the message names the file or field and what would be right."""


class SealedError(RuntimeError):
    """Test windows were asked for where nothing may look at them: a defect of the program that asked."""


_sealed: ContextVar[bool] = ContextVar("sealed", default=False)


@contextmanager
def sealed_test_windows() -> Iterator[None]:
    """Inside, every scenario refuses to show its test windows: training runs here."""
    token = _sealed.set(True)
    try:
        yield
    finally:
        _sealed.reset(token)


def test_windows_are_sealed() -> bool:
    """Whether this runs inside :func:`sealed_test_windows`."""
    return _sealed.get()


@dataclass(frozen=True, slots=True)
class Conditions:
    """Under what a policy meets the requests of a window: what may differ between runs that are compared.

    Attributes:
        prewarm: the platform's policy; None: the scenario's.
        mode: paper or realistic; None: the scenario's.
        decision: ``event``: the controller asks the policy at each of a function's arrivals and timers; a number: it is
            asked about all functions every so many seconds.
    """

    prewarm: PrewarmName | None = None
    mode: Mode | None = None
    decision: DecisionTimes = "event"

    def __post_init__(self) -> None:
        """Refuse what no scenario can be under.

        Raises:
            ExtensionError: there is no such pre-warming policy.
            ScenarioError: there is no such mode, or the decision is neither.
        """
        if self.prewarm is not None and self.prewarm not in PREWARM:
            extensions.require("prewarm", self.prewarm, PREWARM)
        if self.mode not in (None, *get_args(Mode)):
            hint = did_you_mean(str(self.mode), get_args(Mode))
            raise ScenarioError(f"mode {self.mode}: there is no such mode; {hint}")
        decision = self.decision
        if decision != "event" and not (isinstance(decision, int | float) and 1e-6 <= decision < math.inf):
            raise ScenarioError(f"decision: needs 'event' or a positive number of seconds, got {decision!r}")


AS_IT_IS = Conditions()
"""What the scenario says, with decisions at events."""


class NodeGroup(Part):
    """``count`` equal nodes; GPU memory is that of one GPU.  Memory in MB of 10^6 bytes.

    ``cores`` and ``disk_streams`` (reads that the disk serves at full speed) matter under contention.
    """

    count: Count = 1
    memory_mb: Annotated[int, Field(gt=0)]
    gpus: Annotated[int, Field(ge=0, le=64)] = 0
    gpu_memory_mb: Annotated[int, Field(ge=0)] = 0
    cores: Annotated[int, Field(ge=1, le=MOST_CAPACITY)] | None = None
    disk_streams: Annotated[int, Field(ge=1, le=MOST_CAPACITY)] = 1

    @model_validator(mode="after")
    def _gpus_have_memory(self) -> NodeGroup:
        if (self.gpus > 0) != (self.gpu_memory_mb > 0):
            raise ValueError("gpus and gpu_memory_mb must be given together")
        return self


class Cluster(Part):
    """The machines."""

    nodes: Annotated[tuple[NodeGroup, ...], Field(min_length=1)]


class Functions(Part):
    """How the functions of the trace become ML functions.

    Attributes:
        catalogue: name of a shipped catalogue, or path of a CSV file.
        profiles: names of the profiles used, in this order; unset: the whole catalogue.
        assign: ``cycle``: profile (index of the function in the whole trace) mod (number of profiles), so that a
            function keeps its profile in every window; ``position``: by its place in the window instead, so that
            each window has every profile equally often; ``name``: the profile of the function's own name.
        container_mb: size of every container; unset: the profile's.
        tenants: ``one`` for all, or one a ``owner`` of the trace.
        noise: whether latencies vary by the profile's sigma.
    """

    catalogue: str
    profiles: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    assign: Literal["cycle", "position", "name"] = "cycle"
    container_mb: Annotated[int, Field(gt=0)] | None = None
    tenants: Literal["one", "owner"] = "one"
    noise: bool = True

    def selected(self) -> tuple[FunctionProfile, ...]:
        """The profiles in use, in order."""
        catalogue = {profile.name: profile for profile in load_catalogue(self.catalogue)}
        names = self.profiles or tuple(catalogue)
        for name in names:
            if name not in catalogue:
                known = ", ".join(catalogue)
                raise ScenarioError(f"functions.profiles: {name!r} is not in {self.catalogue}; it has {known}")
            needed_mb = catalogue[name].peak_mb
            if self.container_mb is not None and self.container_mb < needed_mb:
                raise ScenarioError(
                    f"functions.container_mb: {self.container_mb} MB is too small for {name}, which needs {needed_mb}"
                )
        return tuple(catalogue[name] for name in names)


class PrewarmSettings(Part):
    """The platform's container policy."""

    policy: PrewarmName = "openwhisk"
    keep_alive_s: Positive = 600


class Controller(Part):
    """The controller's settings; see :class:`~tyche_env.world.Settings` for their meaning.

    ``displace_percent`` follows the mode unless it is given; null means never.
    """

    window: Annotated[int, Field(ge=1, le=64)] = 10
    p_load: Probability = 0.06
    p_offload: Probability = 0.94
    prior_gap_s: Positive = 600
    copies: Annotated[int, Field(ge=1, le=8)] = 1
    scope: Literal["central", "worker"] = "central"
    packing: Literal["full", "single", "own", "worst"] = "full"
    displace_percent: Annotated[int, Field(ge=0)] | Literal["by-mode"] | None = "by-mode"
    scheduling_ms: NotNegative = 0
    clear_ms: NotNegative = 0
    command_ms: NotNegative = 0
    offload_ms: NotNegative = 0

    @model_validator(mode="after")
    def _loads_before_it_offloads(self) -> Controller:
        if not self.p_load < self.p_offload:
            raise ValueError(f"p_load must be below p_offload, got {self.p_load} and {self.p_offload}")
        return self


class AfterRunFates(Part):
    """What becomes of a process after its run, without a pre-loader and with one."""

    platform: Fate
    preloader: Fate


class Reward(Part):
    """Prices of resources in the reward, in seconds of waiting, all off by default, and further terms.

    Attributes:
        terms: reward functions that extensions or Python files bring (``tyche_env.reward.RewardFunction``); what they
            return is added.
    """

    container_rent_per_gb_s: NotNegative = 0
    preload_rent_per_gb_s: NotNegative = 0
    gpu_rent_per_gb_s: NotNegative = 0
    load_per_s: NotNegative = 0
    terms: tuple[Annotated[str, AfterValidator(_known_reward)], ...] = ()


class Prices(Part):
    """Prices for the reported cost, with the day on which they held."""

    date: date
    source: str
    container_usd_per_gb_s: NotNegative
    gpu_usd_per_gb_s: NotNegative
    request_usd: NotNegative


class _Preset(Part):
    """What a mode decides."""

    after_run: AfterRunFates
    busy_counts: bool
    displace_percent: int | None


_PRESETS: dict[Mode, _Preset] = {
    "paper": _Preset(
        after_run=AfterRunFates(platform="discard", preloader="keep"), busy_counts=False, displace_percent=None
    ),
    "realistic": _Preset(
        after_run=AfterRunFates(platform="keep", preloader="keep"), busy_counts=True, displace_percent=10
    ),
}


class Scenario(Part):
    """One experiment.

    Attributes:
        mode: ``paper``: a process ends with its run unless a pre-loader keeps it; ``realistic``: it survives.
        after_run: follows the mode unless it is given.
        contention: stages share each node's cores and disk and each GPU's link (``docs/engine.md``, 12).
        decision_interval_s: seconds between two decisions of a policy outside event mode.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    title: str
    description: str = ""
    mode: Mode = "realistic"
    cluster: Cluster
    functions: Functions
    trace: TraceSettings
    prewarm: PrewarmSettings = PrewarmSettings()
    routing: RoutingName = "ring"
    controller: Controller = Controller()
    after_run: AfterRunFates | None = None
    isolation: Literal["none", "tenant", "strict"] = "tenant"
    contention: bool = False
    decision_interval_s: Positive = 10
    reward: Reward = Reward()
    prices: Prices

    @model_validator(mode="after")
    def _contention_needs_cores(self) -> Scenario:
        without = [index for index, group in enumerate(self.cluster.nodes) if group.cores is None]
        if self.contention and without:
            raise ValueError(f"contention needs the cores of every node; cluster.nodes.{without[0]}.cores is missing")
        return self

    @staticmethod
    def names() -> tuple[str, ...]:
        """Names of the shipped scenarios."""
        return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))

    @classmethod
    def load(cls, name_or_path: str | Path) -> Scenario:
        """Read a shipped scenario by its name, or any by the path of its YAML file.

        Raises:
            ScenarioError: names the file, the field and what would be right.
        """
        known = cls.names()
        path = _FOLDER / f"{name_or_path}.yaml" if str(name_or_path) in known else Path(name_or_path)
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            hint = did_you_mean(str(name_or_path), known)
            raise ScenarioError(f"scenario {name_or_path}: cannot be read ({error.strerror}); {hint}") from None
        except UnicodeDecodeError:
            raise ScenarioError(f"{path}: is no text in UTF-8") from None
        try:
            content = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ScenarioError(f"{path}: is no YAML ({' '.join(str(error).split())})") from None
        return _validated(content, str(path))

    @classmethod
    def from_mapping(cls, content: Mapping[str, Any]) -> Scenario:
        """Build a scenario from a mapping in the form of its YAML file.

        Raises:
            ScenarioError: names the field and what would be right.
        """
        return _validated(content, "scenario")

    def with_(self, **changes: Any) -> Scenario:
        """The scenario with some values changed.

        Args:
            changes: keys are fields, or dotted paths (``with_(**{"prewarm.keep_alive_s": 60})``); a mapping changes
                only the keys that it names, anything else replaces the old value.

        Raises:
            ScenarioError: a key is unknown or a value is out of range.
        """
        content = self.model_dump()
        for key, value in changes.items():
            *parents, last = key.split(".")
            for parent in reversed(parents):
                value, last = {last: value}, parent
            content = _merged(content, {last: value})
        return _validated(content, f"scenario {self.name}")

    def on_file(
        self,
        path: str | Path,
        columns: Mapping[str, Any] | None = None,
        bad_rows: BadRows = "fail",
        family: str | None = None,
        *,
        durations_file: str | None = None,
        memory_file: str | None = None,
    ) -> Scenario:
        """The scenario on the requests of a trace file instead of its own trace.

        Where run times are named, by a column or by a file of them, requests run as long as these say.

        Args:
            path: a file of any known form, or of any other with ``columns``.
            columns: which column is what (``traces.ColumnMap``).
            bad_rows: whether rows that there is a rule for are refused or mended.
            family: the form of a public trace that its file does not tell.
            durations_file: run times that belong to Azure Functions 2019 counts.
            memory_file: their memory.

        Raises:
            ScenarioError: columns that make no sense.
        """
        content = self.model_dump()
        content["trace"] |= {
            "family": "file",
            "file": str(path),
            "synthesis": None,
            "columns": columns and dict(columns),
            "durations_file": durations_file,
            "memory_file": memory_file,
            "bad_rows": bad_rows,
            "file_family": family,
        }
        named = dict(columns or {})
        if any((durations_file, named.get("duration"), named.get("end"))):
            content["trace"]["durations"] = "trace"
        return _validated(content, f"scenario {self.name}")

    def to_yaml(self) -> str:
        """The whole scenario, defaults included; reading it back gives an equal one."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

    def hash(self) -> str:
        """Sixteen hexadecimal digits over everything that can change a result, the profiles' numbers included."""
        content = self.model_dump(mode="json", exclude={"name", "title", "description"})
        # hashes of scenarios from before there were these keys stay as they are
        for part, key in (
            *(("reward", "terms"), ("trace", "columns")),
            *(("trace", "file_family"), ("trace", "durations_file"), ("trace", "memory_file"), ("trace", "bad_rows")),
        ):
            if content[part][key] in (None, [], {}, "fail"):
                del content[part][key]
        if self.trace.columns is not None:
            content["trace"]["columns"] = self.trace.columns.content()
        content["functions"]["profiles"] = [p.model_dump(mode="json") for p in self.functions.selected()]
        for profile in content["functions"]["profiles"]:
            if not profile["slo_ms"]:
                del profile["slo_ms"]
            if profile["unserved_s"] == FunctionProfile.model_fields["unserved_s"].default:
                del profile["unserved_s"]
        if not self.contention:
            # what decides nothing then
            del content["contention"]
            for group in content["cluster"]["nodes"]:
                del group["cores"], group["disk_streams"]
            for profile in content["functions"]["profiles"]:
                del profile["read_share"]
                profile["assumed"] = [name for name in profile["assumed"] if name != "read_share"]
        used = [("prewarm", self.prewarm.policy), ("routing", self.routing)]
        used += [("reward", name) for name in self.reward.terms]
        versions = {name: extensions.digest(kind, name) for kind, name in used}
        if any(versions.values()):
            content["extensions"] = versions
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def windows(self, split: SplitName = "test") -> tuple[Window, ...]:
        """The windows of one split; the first few cover many function groups and times.

        Raises:
            ScenarioError: a split has no room for a window, or the trace is broken.
            SourceError: the trace's files are missing.
            SealedError: test windows, inside :func:`sealed_test_windows`.
        """
        self._refuse_sealed(split)
        try:
            return windows_of(self.trace, split)
        except TraceError as error:
            raise ScenarioError(f"scenario {self.name}: {error}") from None

    def world(
        self,
        split: SplitName = "test",
        window: int = 0,
        seed: int = 0,
        kernel: str | Kernel = Kernel.NONE,
        conditions: Conditions = AS_IT_IS,
    ) -> World:
        """The world of one window.

        Args:
            split: the split that the window belongs to.
            window: index of the window in its split.
            seed: key of the expansion of counts and of every draw of the run.
            kernel: the policy's row kernel, or its name in small letters.
            conditions: pre-warming policy, mode, and when the policy decides.

        Raises:
            ScenarioError: no such window or kernel, or a world that no engine can run.
        """
        windows = self.windows(split)
        if not 0 <= window < len(windows):
            raise ScenarioError(
                f"scenario {self.name}: split {split} has windows 0 to {len(windows) - 1}, there is no {window}"
            )
        return self.world_of(windows[window], seed, kernel, conditions)

    def world_of(
        self,
        chosen: Window,
        seed: int = 0,
        kernel: str | Kernel = Kernel.NONE,
        conditions: Conditions = AS_IT_IS,
    ) -> World:
        """The world of any functions and time of the trace, in one of the scenario's splits or not.

        Args:
            chosen: functions and time; with ``assign: position`` the order of its functions decides their profiles.
            seed: as in :meth:`world`, like the other arguments.
            kernel: see there.
            conditions: see there.

        Raises:
            ScenarioError: no such kernel, or a world that no engine can run.
            SealedError: a test window, inside :func:`sealed_test_windows`.
        """
        self._refuse_sealed(chosen.split)
        if self.trace.durations == "trace" and not durations_are_known(self.trace):
            raise ScenarioError(f"scenario {self.name}: trace.durations is 'trace', but the trace gives no durations")
        profiles = self.profiles_of(chosen)
        requests = self._requests(chosen, seed)
        nodes = [group for group in self.cluster.nodes for _ in range(group.count)]
        gpus = [(node, group.gpu_memory_mb) for node, group in enumerate(nodes) for _ in range(group.gpus)]
        world = World(
            functions=self._function_table(chosen, profiles),
            node_memory_mb=np.array([group.memory_mb for group in nodes], dtype=np.int64),
            gpu_node=np.array([node for node, _ in gpus], dtype=np.int64),
            gpu_memory_mb=np.array([memory_mb for _, memory_mb in gpus], dtype=np.int64),
            arrival_us=requests.arrival_us,
            arrival_function=requests.arrival_function,
            arrival_duration_us=requests.duration_us,
            score_from_us=chosen.score_from_us - chosen.start_us,
            end_us=chosen.end_us - chosen.start_us,
            names=requests.names,
            profiles=tuple(profile.name for profile in profiles),
            node_cores=np.array([group.cores or 0 for group in nodes], dtype=np.int64),
            node_disk_streams=np.array([group.disk_streams for group in nodes], dtype=np.int64),
            clock_us=((read_source(self.trace).start_us or 0) + chosen.start_us) % DAY_US,
        )
        try:
            return self.under(world, seed, kernel, conditions)
        except WorldError as error:
            raise ScenarioError(f"scenario {self.name}, {chosen.split} window {chosen.index}: {error}") from None

    def again(self, world: World, chosen: Window, seed: int) -> World:
        """A world of the same window under another seed, without looking again at what stays the same.

        Args:
            world: what :meth:`world_of` gave for the window and any seed.
            chosen: the window.
            seed: the other seed.

        Raises:
            SealedError: a test window, inside :func:`sealed_test_windows`.
        """
        self._refuse_sealed(chosen.split)
        requests = self._requests(chosen, seed)
        other = replace(
            world,
            arrival_us=requests.arrival_us,
            arrival_function=requests.arrival_function,
            arrival_duration_us=requests.duration_us,
            settings=replace(world.settings, seed=seed),
        )
        return with_forecast(other) if other.settings.prewarm == Prewarm.ICEBREAKER else other

    def _refuse_sealed(self, split: str) -> None:
        if split == "test" and test_windows_are_sealed():
            raise SealedError(f"scenario {self.name}: training never reads test windows")

    def _requests(self, chosen: Window, seed: int) -> Requests:
        """The requests of a window, without run times where the profiles' are used."""
        requests = requests_of(self.trace, seed, chosen.functions, (chosen.start_us, chosen.end_us), compiled_streams)
        if self.trace.durations == "profile":
            requests = requests._replace(duration_us=np.empty(0, dtype=np.int64))
        return requests

    def under(
        self,
        world: World,
        seed: int = 0,
        kernel: str | Kernel = Kernel.NONE,
        conditions: Conditions = AS_IT_IS,
    ) -> World:
        """A world of this scenario under other settings: the same cluster and requests.

        Args:
            world: one that :meth:`world` gave for any kernel, pre-warming policy and mode.
            seed: as in :meth:`world`, like the other arguments.
            kernel: see there.
            conditions: see there.

        Raises:
            ScenarioError: no such kernel.
            WorldError: no engine can run it.
        """
        if conditions.mode not in (None, self.mode):
            return self.with_(mode=conditions.mode).under(world, seed, kernel, replace(conditions, mode=None))
        prewarm = conditions.prewarm or self.prewarm.policy
        settings = self._settings(seed, _kernel(kernel), prewarm)
        world = replace(world, settings=settings, rules=self._rules(prewarm)).deciding(conditions.decision)
        return (with_forecast(world) if settings.prewarm == Prewarm.ICEBREAKER else world).validate()

    def profiles_of(self, window: Window) -> tuple[FunctionProfile, ...]:
        """The profile of each function of a window.

        Raises:
            ScenarioError: a function is to have the profile of its name, and there is none.
        """
        profiles = self.functions.selected()
        if self.functions.assign == "name":
            names = read_source(self.trace).names
            return tuple(self._profile_named(names[function], profiles) for function in window.functions)
        places = window.functions if self.functions.assign == "cycle" else range(len(window.functions))
        return tuple(profiles[place % len(profiles)] for place in places)

    def _profile_named(self, name: str, profiles: tuple[FunctionProfile, ...]) -> FunctionProfile:
        for profile in profiles:
            if profile.name == name:
                return profile
        hint = did_you_mean(name, [profile.name for profile in profiles])
        raise ScenarioError(
            f"functions.assign: {self.functions.catalogue} has no profile for the trace's function {name!r}; {hint}"
        )

    def _function_table(self, window: Window, profiles: tuple[FunctionProfile, ...]) -> FunctionTable:
        tenants = [0] * len(profiles)
        if self.functions.tenants == "owner":
            owners = read_source(self.trace).owners
            number = {owner: index for index, owner in enumerate(dict.fromkeys(owners))}
            tenants = [number[owners[function]] for function in window.functions]
        # a window has many functions of few profiles
        distinct = {id(profile): profile for profile in profiles}
        place = {key: index for index, key in enumerate(distinct)}
        table = FunctionTable.from_rows([self._function_row(profile) for profile in distinct.values()])
        return table.repeated([place[id(profile)] for profile in profiles], tenants)

    def _function_row(self, profile: FunctionProfile) -> dict[str, int]:
        """What a function of a profile has, beside its tenant."""
        return {
            "tenant": 0,
            "container_mb": self.functions.container_mb or profile.container_mb,
            "hold_mb": profile.hold_mb,
            "peak_mb": profile.peak_mb,
            "gpu_mb": profile.gpu_mb,
            "init_us": _us(profile.container_init_ms),
            "library_us": _us(profile.library_ms),
            "model_us": _us(profile.model_ms),
            "transfer_us": _us(profile.transfer_ms),
            "inference_us": _us(profile.inference_ms),
            "gpu_inference_us": _us(profile.gpu_inference_ms),
            "sigma_ppm": round(profile.sigma * 1_000_000) if self.functions.noise else 0,
            "read_ppm": round(profile.read_share * 1_000_000),
            "slo_us": _us(profile.slo_ms),
            "unserved_us": _us(profile.unserved_s * 1e3),
        }

    def _rules(self, prewarm: PrewarmName) -> Rules:
        """The rules that extensions bring."""
        return Rules(
            prewarm=None if prewarm in PREWARM else extensions.find("prewarm", prewarm, PrewarmPolicy, PREWARM),
            routing=None if self.routing in _ROUTING else extensions.find("routing", self.routing, RoutingRule),
        )

    def _settings(self, seed: int, kernel: Kernel, prewarm: PrewarmName) -> Settings:
        preset = _PRESETS[self.mode]
        fates = self.after_run or preset.after_run
        controller = self.controller
        displace = controller.displace_percent
        if displace == "by-mode":
            displace = preset.displace_percent
        return Settings(
            seed=seed,
            kernel=kernel,
            decision_us=max(1, round(self.decision_interval_s * 1_000_000)),
            window=controller.window,
            load_ppm=_hazard_ppm(controller.p_load),
            offload_ppm=_hazard_ppm(controller.p_offload),
            prior_gap_us=round(controller.prior_gap_s * 1_000_000),
            prewarm=PREWARM.get(prewarm, Prewarm.OWN),
            keep_alive_us=round(self.prewarm.keep_alive_s * 1_000_000),
            routing=_ROUTING.get(self.routing, Routing.OWN),
            scope=Scope[controller.scope.upper()],
            packing=Packing[controller.packing.upper()],
            isolation=Isolation[self.isolation.upper()],
            after_run_platform=AfterRun[fates.platform.upper()],
            after_run_preloader=AfterRun[fates.preloader.upper()],
            busy_counts=preset.busy_counts,
            copies=controller.copies,
            displace_percent=-1 if displace is None else displace,
            scheduling_us=_us(controller.scheduling_ms),
            clear_us=_us(controller.clear_ms),
            command_us=_us(controller.command_ms),
            offload_us=_us(controller.offload_ms),
            contention=self.contention,
        )


def load_cluster(path: str | Path) -> Cluster:
    """Read a cluster from a YAML file: a list of nodes as in a scenario, by itself or under the key ``nodes``.

    Raises:
        ScenarioError: names the file, the field and what would be right.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        return Cluster.model_validate({"nodes": content} if isinstance(content, list) else content)
    except OSError as error:
        raise ScenarioError(f"cluster {path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: is no YAML ({' '.join(str(error).split())})") from None
    except ValidationError as error:
        raise ScenarioError(f"{path}: {_first_mistake(error)}") from None


def _first_mistake(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(step) for step in first["loc"])
    return f"{f'{place}: ' if place else ''}{first['msg'].removeprefix('Value error, ')}"


def _validated(content: object, where: str) -> Scenario:
    """Build a scenario; the first mistake becomes one line that names the place."""
    if not isinstance(content, Mapping):
        raise ScenarioError(f"{where}: needs keys such as name, cluster, functions and trace")
    try:
        return Scenario.model_validate(content)
    except ValidationError as error:
        raise ScenarioError(f"{where}: {_first_mistake(error)}") from None


def _merged(old: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``old`` with nested mappings merged key by key and everything else replaced."""
    merged = dict(old)
    for key, value in changes.items():
        before = merged.get(key)
        merged[key] = _merged(before, value) if isinstance(before, dict) and isinstance(value, Mapping) else value
    return merged


def _kernel(kernel: str | Kernel) -> Kernel:
    if isinstance(kernel, Kernel):
        return kernel
    try:
        return Kernel[kernel.upper().replace("-", "_")]
    except KeyError:
        known = ", ".join(member.name.lower().replace("_", "-") for member in Kernel)
        raise ScenarioError(f"kernel {kernel!r} is unknown; kernels are {known}") from None


def _us(duration_ms: float) -> int:
    return round(duration_ms * 1000)


def _hazard_ppm(probability: float) -> int:
    """-ln(1 - p) in 1e-6: how far a Poisson process has to go until an arrival is that probable."""
    return round(-math.log1p(-probability) * 1_000_000)
