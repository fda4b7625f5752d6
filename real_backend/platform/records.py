"""What the REST interface takes and gives: actions, packages, activations, in OpenWhisk's form.

Requests ignore fields that are not named here, as OpenWhisk does; clients send some.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from real_backend.platform.config import Limits
from real_backend.platform.errors import ApiError

Json = Any
"""A value that JSON can express."""

NAME_PATTERN = r"^[A-Za-z0-9_]([A-Za-z0-9_ @.\-]{0,254}[A-Za-z0-9_@.\-])?$"

Status = Literal["success", "application error", "action developer error", "whisk internal error"]
"""What became of an activation; its place among them is the ``statusCode`` of lists."""

COMPONENTS = "_actions"
"""Parameter in which the record of a sequence shows its components."""

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class KeyValue(_Request):
    """A parameter or an annotation."""

    key: str
    value: Json = None
    init: bool = False


class Exec(_Request):
    """What an action runs."""

    kind: str = Field(description="python:3, python:default, tyche:1, blackbox or sequence")
    code: str | None = None
    binary: bool = False
    main: str | None = None
    image: str | None = None
    components: list[str] | None = None


class ActionLimits(_Request):
    """What one activation of an action may use; what is left out keeps its value, or gets the default."""

    timeout: int | None = Field(None, description="ms")
    memory: int | None = Field(None, description="MiB")
    logs: int | None = Field(None, description="MiB")
    concurrency: int | None = None
    instances: int | None = Field(None, description="refused: an action has as many containers as fit")


class ActionPut(_Request):
    """Body of PUT .../actions/NAME; for an update everything may be left out."""

    exec: Exec | None = None
    parameters: list[KeyValue] | None = None
    annotations: list[KeyValue] | None = Field(None, description="an update adds them to those that are there")
    delAnnotations: list[str] | None = Field(None, description="names of annotations that go")  # noqa: N815
    limits: ActionLimits | None = None
    version: str | None = None
    publish: bool | None = None


class Binding(_Request):
    """The package that a binding stands for."""

    namespace: str
    name: str


class PackagePut(_Request):
    """Body of PUT .../packages/NAME."""

    binding: Binding | None = Field(None, description="makes a binding of a package, with parameters of its own")

    parameters: list[KeyValue] | None = None
    annotations: list[KeyValue] | None = None
    version: str | None = None
    publish: bool | None = None


class SetLimits(BaseModel):
    """Limits of a stored action."""

    timeout: int
    memory: int
    logs: int
    concurrency: int = 1


class Action(BaseModel):
    """A stored action."""

    namespace: str
    package: str | None
    name: str
    version: str
    publish: bool
    exec: Exec
    parameters: list[KeyValue]
    annotations: list[KeyValue]
    limits: SetLimits
    updated: int
    revision: str

    @property
    def path(self) -> str:
        """``PACKAGE/NAME`` or ``NAME``."""
        return self.name if self.package is None else f"{self.package}/{self.name}"

    @property
    def place(self) -> str:
        """Namespace, with the package if there is one."""
        return self.namespace if self.package is None else f"{self.namespace}/{self.package}"

    def annotation(self, key: str) -> Json:
        """Value of an annotation, or None."""
        return next((each.value for each in self.annotations if each.key == key), None)

    def is_set(self, key: str) -> bool:
        """Whether an annotation is there and says yes."""
        return truthy(self.annotation(key))

    def body(self, code: bool = True) -> dict[str, Json]:
        """The full record of the interface; without the code if ``code`` is false."""
        what = self.exec.model_dump(exclude_none=True, exclude=None if code else {"code"})
        if self.exec.kind == "sequence":
            what.pop("binary", None)
        return {**self._head(), "exec": what, "parameters": _pairs(self.parameters)}

    def brief(self) -> dict[str, Json]:
        """The record of a list."""
        return {**self._head(), "exec": {"binary": self.exec.binary}}

    def _head(self) -> dict[str, Json]:
        return {
            "namespace": self.place,
            "name": self.name,
            "version": self.version,
            "publish": self.publish,
            "annotations": _pairs(self.annotations),
            "limits": self.limits.model_dump(),
            "updated": self.updated,
        }


class Package(BaseModel):
    """A stored package."""

    namespace: str
    name: str
    version: str
    publish: bool
    parameters: list[KeyValue]
    annotations: list[KeyValue]
    updated: int
    binding: Binding | None = None

    def brief(self) -> dict[str, Json]:
        """The record of a list."""
        return {
            "namespace": self.namespace,
            "name": self.name,
            "version": self.version,
            "publish": self.publish,
            "annotations": _pairs(self.annotations),
            "binding": False if self.binding is None else self.binding.model_dump(),
            "updated": self.updated,
        }

    def body(self, actions: list[Action] | None = None) -> dict[str, Json]:
        """The full record, with the actions in it if they are given."""
        whole = {
            **self.brief(),
            "binding": {} if self.binding is None else self.binding.model_dump(),
            "parameters": _pairs(self.parameters),
        }
        if actions is None:
            return whole
        inside = [
            {"name": each.name, "version": each.version, "annotations": _pairs(each.annotations)} for each in actions
        ]
        return {**whole, "actions": inside, "feeds": []}


def _pairs(values: list[KeyValue]) -> list[dict[str, Json]]:
    return [{"key": each.key, "value": each.value, **({"init": True} if each.init else {})} for each in values]


def truthy(value: Json) -> bool:
    """Whether the value of an annotation says yes, as OpenWhisk takes it."""
    return value not in (None, False, 0, "", [], {})


REFUSED_ANNOTATIONS = {
    "web-export": "it has no web actions: call the action with the key",
    "raw-http": "it has no web actions: call the action with the key",
    "require-whisk-auth": "it has no web actions: call the action with the key",
    "web-custom-options": "it has no web actions: call the action with the key",
    "conductor": "it has no conductors: make a sequence, or call actions from outside",
    "feed": "it has no triggers that a feed could fire",
}
"""Annotations that would change what an action is, and why this platform refuses them where they say yes."""


def new_action(
    place: tuple[str, str | None, str], put: ActionPut, old: Action | None, limits: Limits, updated: int
) -> Action:
    """The action that a PUT makes.

    Args:
        place: Namespace, package (or None), name.
        put: The request.
        old: What it replaces.
        limits: What actions may ask for.
        updated: Time of the request, epoch milliseconds.

    Raises:
        ApiError: 400, a limit is out of range, an annotation is not supported or there is nothing to run.
    """
    namespace, package, name = place
    what = put.exec if put.exec is not None else (old.exec if old else None)
    if what is None:
        raise ApiError(400, "exec undefined")
    bounds = _set_limits(put.limits or ActionLimits(), old.limits if old else None, limits)
    shown = {each.key: each for each in (old.annotations if old else [])}
    for gone in put.delAnnotations or []:
        shown.pop(gone, None)
    shown.update({each.key: each for each in put.annotations or []})
    for key, value in (("provide-api-key", False), ("exec", what.kind)):
        if key == "exec" or key not in shown:
            shown[key] = KeyValue(key=key, value=value)
    for key, reason in REFUSED_ANNOTATIONS.items():
        if key in shown and truthy(shown[key].value):
            raise ApiError(400, f"The annotation '{key}' is not supported by this platform: {reason}.")
    parameters = put.parameters if put.parameters is not None else (old.parameters if old else [])
    if what.kind == "sequence":
        components = KeyValue(key=COMPONENTS, value=what.components)
        parameters = [*(each for each in parameters if each.key != COMPONENTS), components]
    return Action(
        namespace=namespace,
        package=package,
        name=name,
        version=put.version or next_version(old.version if old else None),
        publish=bool(put.publish if put.publish is not None else old and old.publish),
        exec=what,
        parameters=parameters,
        annotations=list(shown.values()),
        limits=bounds,
        updated=updated,
        revision="",
    )


def _set_limits(asked: ActionLimits, old: SetLimits | None, limits: Limits) -> SetLimits:
    if asked.instances is not None:
        raise ApiError(400, "The limit 'instances' is not supported by this platform: as many containers as fit.")

    def choose(value: int | None, before: int | None, standard: int) -> int:
        return value if value is not None else before if before is not None else standard

    chosen = SetLimits(
        timeout=choose(asked.timeout, old.timeout if old else None, limits.timeout_std_ms),
        memory=choose(asked.memory, old.memory if old else None, limits.memory_std_mib),
        logs=choose(asked.logs, old.logs if old else None, limits.logs_max_mib),
        concurrency=choose(asked.concurrency, old.concurrency if old else None, 1),
    )
    for what, value, low, high, unit in (
        ("memory size", chosen.memory, limits.memory_min_mib, limits.memory_max_mib, " MB"),
        ("duration", chosen.timeout, limits.timeout_min_ms, limits.timeout_max_ms, " milliseconds"),
        ("log size", chosen.logs, 0, limits.logs_max_mib, " MB"),
        ("concurrency", chosen.concurrency, 1, 1, ""),
    ):
        if not low <= value <= high:
            raise ApiError(
                400,
                f"requirement failed: {what} {value}{unit} {'below' if value < low else 'exceeds'} "
                f"allowed threshold of {low if value < low else high}{unit}",
            )
    return chosen


def next_version(old: str | None) -> str:
    """The version after ``old``: its last number plus one; 0.0.1 at first."""
    if old is None:
        return "0.0.1"
    head, _, patch = old.rpartition(".")
    return f"{head}.{int(patch) + 1}" if patch.isdigit() else old


def outcome(status: Status, result: Json, size: int | None = None) -> dict[str, Json]:
    """The field ``response`` of an activation; ``size`` is that of the container's answer in bytes, if it gave one."""
    sized = {} if size is None else {"size": size}
    return {"result": result, **sized, "status": status, "success": status == "success"}


def failure(status: Status, message: Json, size: int | None = None) -> dict[str, Json]:
    """The field ``response`` of an activation that failed."""
    return outcome(status, {"error": message}, size)


def summary_of(record: dict[str, Json]) -> dict[str, Json]:
    """The brief record of a list of activations."""
    status = record["response"]["status"]
    kept = ("namespace", "name", "version", "publish", "annotations", "activationId", "start", "end", "duration")
    brief = {key: record[key] for key in kept if key in record}
    return {**brief, "statusCode": get_args(Status).index(status)}
