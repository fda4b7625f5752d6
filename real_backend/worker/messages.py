"""What goes in and comes out of an invocation: requests are checked here, errors have their codes here.

Written by hand rather than with pydantic, whose import would make up a third of the server's start.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from real_backend.functions.protocol import FunctionError, Resources

Op = Literal["load", "offload", "infer", "status"]
AfterRun = Literal["keep", "discard", "reload"]
Code = Literal[
    "unknown_function",
    "corrupt_model",
    "out_of_memory",
    "cancelled",
    "deadline",
    "busy",
    "bad_request",
    "failed",
    "died",
]
"""Why an invocation failed.

unknown_function: no function of that name is declared here.  corrupt_model: its model could not be loaded.
out_of_memory: it does not fit, or the kernel or the GPU ran out.  cancelled: a load was ended by a start or an
off-load.  deadline: the activation's time was over.  busy: the container runs a request.  bad_request: the request
or the payload is not one we understand.  failed: the function's own code raised.  died: its process ended by itself.
"""


class ActionError(Exception):
    """An invocation that failed: a code for programs, a message for people."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code: Code = code
        self.message = message

    def as_dict(self) -> dict[str, str]:
        """The body's ``error``."""
        return {"code": self.code, "message": self.message}


@dataclass(frozen=True, slots=True)
class WorldFunction:
    """A function of a world: two of them may be the same declared one, and are held apart all the same.

    Attributes:
        declared: its name in the module or file of functions.
        hold_mb: what its profile says that it holds, as ``Resources`` has it, like the other two.
        peak_mb: the most that it takes.
        gpu_mb: on a GPU.
    """

    declared: str
    hold_mb: int
    peak_mb: int
    gpu_mb: int = 0

    @classmethod
    def parse(cls, name: str, values: Any) -> WorldFunction:
        """Read an entry of the settings' ``functions``.

        Raises:
            ActionError: bad_request, naming the function.
        """
        where = f"code: functions: {name}"
        _check(where, values, {"declared": str, "hold_mb": int, "peak_mb": int, "gpu_mb": int})
        missing = {"declared", "hold_mb", "peak_mb"} - set(values)
        if missing:
            raise ActionError("bad_request", f"{where}: {sorted(missing)[0]} is missing")
        try:
            Resources(*(values.get(key, 0) for key in ("hold_mb", "peak_mb", "gpu_mb")))
        except FunctionError as error:
            raise ActionError("bad_request", f"{where}: {error}") from None
        return cls(**values)

    @property
    def resources(self) -> Resources:
        """What it needs."""
        return Resources(self.hold_mb, self.peak_mb, self.gpu_mb)


@dataclass(frozen=True, slots=True)
class Settings:
    """What ``/init`` may set: the JSON object in the action's ``code``; all of it optional.

    Attributes:
        mode: slots: invocations name operation and function.  native: the action is one function, and the
            invocation's parameters are its payload.
        function: the one function of native mode.
        gpu: whether native mode infers on the GPU.
        after_run: what becomes of the function's process in native mode.
        node: name of the node, where the host name is none.
        functions: the functions of a world by name, each a declared one with resources of its own; empty: all that are
            declared, by their own names.
    """

    mode: Literal["slots", "native"] = "slots"
    function: str | None = None
    gpu: bool = False
    after_run: AfterRun = "keep"
    node: str | None = None
    functions: Mapping[str, WorldFunction] = field(default_factory=dict)

    @classmethod
    def parse(cls, code: str) -> Settings:
        """Read the JSON text in an action's ``code``; an empty text gives the defaults.

        Raises:
            ActionError: bad_request, naming the key.
        """
        try:
            values = json.loads(code) if code.strip() else {}
        except json.JSONDecodeError as error:
            raise ActionError("bad_request", f"code: must be a JSON object with settings ({error})") from None
        _check(
            "code",
            values,
            {
                "mode": ("slots", "native"),
                "function": str,
                "gpu": bool,
                "after_run": get_args(AfterRun),
                "node": str,
                "functions": dict,
            },
        )
        named = {name: WorldFunction.parse(name, each) for name, each in values.get("functions", {}).items()}
        settings = cls(**{**values, "functions": named})
        if (settings.mode == "native") != (settings.function is not None):
            raise ActionError("bad_request", "code: function goes with mode native, and native mode needs it")
        return settings


@dataclass(frozen=True, slots=True)
class Run:
    """One invocation.

    Attributes:
        op: what to do.
        function: the function it is about; None only for status.
        gpu: load: whether the model shall be on the GPU afterwards.  infer: whether to infer there.
        evict: functions whose processes are killed before a load.
        payload: what the function is asked.
        wait_s: a load that takes longer goes on in the background, and the reply says that it is not done; None: wait.
        after_run: what becomes of the function's process after an infer.
    """

    op: Op
    function: str | None = None
    gpu: bool = False
    evict: tuple[str, ...] = ()
    payload: Mapping[str, Any] = field(default_factory=dict)
    after_run: AfterRun = "keep"
    wait_s: float | None = None

    @classmethod
    def parse(cls, params: Any, settings: Settings) -> Run:
        """Read an invocation's parameters in the mode that ``/init`` set.

        Raises:
            ActionError: bad_request, naming the key.
        """
        if settings.mode == "native":
            if not isinstance(params, dict):
                raise ActionError("bad_request", "parameters: must be a JSON object")
            return cls("infer", settings.function, settings.gpu, (), params, settings.after_run)
        _check(
            "parameters",
            params,
            {
                "op": get_args(Op),
                "function": str,
                "gpu": bool,
                "evict": list,
                "payload": dict,
                "after_run": get_args(AfterRun),
                "wait_s": float,
            },
        )
        if "op" not in params:
            raise ActionError("bad_request", f"parameters: op is missing, one of {', '.join(get_args(Op))}")
        if params["op"] != "status" and "function" not in params:
            raise ActionError("bad_request", f"parameters: {params['op']} needs function")
        evict = params.get("evict", [])
        if not all(isinstance(name, str) for name in evict):
            raise ActionError("bad_request", "parameters: evict must be a list of names")
        return cls(**{**params, "evict": tuple(evict)})


def _check(where: str, values: Any, allowed: Mapping[str, type | tuple[str, ...]]) -> None:
    """Refuse unknown keys, wrong types and words that are not among the allowed ones."""
    if not isinstance(values, dict):
        raise ActionError("bad_request", f"{where}: must be a JSON object")
    for key, value in values.items():
        if key not in allowed:
            raise ActionError("bad_request", f"{where}: {key} is unknown, the keys are {', '.join(allowed)}")
        wanted = allowed[key]
        if isinstance(wanted, tuple):
            if value not in wanted:
                raise ActionError("bad_request", f"{where}: {key} must be one of {', '.join(wanted)}, got {value!r}")
        elif not isinstance(value, wanted):
            raise ActionError("bad_request", f"{where}: {key} must be of type {wanted.__name__}, got {value!r}")
