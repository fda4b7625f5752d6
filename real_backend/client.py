"""A client of OpenWhisk's REST interface, and of what the embedded platform adds to it.

Works with any OpenWhisk: the host and key come from OW_APIHOST and OW_AUTH or from ~/.wskprops.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Self, TypeVar
from urllib.parse import quote

import httpx
import tenacity
from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from tyche_env.errors import UserError

_FIRST_ANSWER_S = 30.0
_POLL_FIRST_S = 0.02
_POLL_LONGEST_S = 1.0
_RETRIED_STATUSES = (429, 503)
_PAGE = 200


class ClientError(Exception):
    """A request was refused, or could not be made.

    Attributes:
        status: HTTP status; None if there was no answer.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class ConnectionLostError(ClientError):
    """The connection broke after a request was sent: whether it had an effect is not known."""


class LimitError(UserError):
    """The server allows less than what is needed; the message names the settings."""


class Credentials(BaseModel):
    """Where an OpenWhisk is, and who asks.

    Attributes:
        host: Address, ``https://`` unless it says otherwise.
        key: ``UUID:KEY``.
        namespace: ``_`` is the key's own.
        ca: PEM file of whoever signed the server's certificate, or of the certificate itself; None: the system's.
        insecure: whether any certificate is accepted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str
    key: str
    namespace: str = "_"
    ca: Path | None = None
    insecure: bool = False

    @classmethod
    def find(cls, environment: Mapping[str, str] | None = None, home: Path | None = None) -> Self:
        """From OW_APIHOST, OW_AUTH, OW_NAMESPACE, OW_CA and OW_INSECURE.

        What the first three leave open comes from $WSK_CONFIG_FILE or ~/.wskprops.

        Raises:
            UserError: The host or the key is nowhere, the host is no address, or the certificate's variables cannot
                both hold.
        """
        found = dict(os.environ if environment is None else environment)
        file = Path(found.get("WSK_CONFIG_FILE") or (home or Path.home()) / ".wskprops")
        written: dict[str, str] = {}
        if file.is_file():
            for line in file.read_text(encoding="utf-8").splitlines():
                name, equals, value = line.partition("=")
                if equals and not line.lstrip().startswith("#"):
                    written[name.strip()] = value.strip()
        host = found.get("OW_APIHOST") or written.get("APIHOST")
        key = found.get("OW_AUTH") or written.get("AUTH")
        if not host or not key:
            lacking = " and ".join(name for name, value in (("OW_APIHOST", host), ("OW_AUTH", key)) if not value)
            raise UserError(
                f"where is OpenWhisk? {lacking} not set, and {file} does not say; "
                "or start the embedded platform with `tyche platform up`"
            )
        namespace = found.get("OW_NAMESPACE") or written.get("NAMESPACE") or "_"
        insecure = found.get("OW_INSECURE") or "0"
        if insecure not in ("0", "1"):
            raise UserError(f"OW_INSECURE: 1 accepts any certificate, 0 none but good ones; got {insecure!r}")
        ca = Path(found["OW_CA"]) if found.get("OW_CA") else None
        credentials = cls(host=host, key=key, namespace=namespace)
        if not _is_address(credentials.base):
            raise UserError(
                f"OW_APIHOST: {host!r} is no server's address; say http://HOST:PORT, or HOST for https, without /api/v1"
            )
        return credentials.trusting(ca, insecure == "1")

    def trusting(self, ca: Path | None, insecure: bool) -> Self:
        """The same, with other certificates accepted; nothing said leaves it as it is.

        Raises:
            UserError: Both are said.
        """
        if ca is not None and insecure:
            raise UserError("a file of certificates (--ca, OW_CA) and none that is checked (--insecure, OW_INSECURE)?")
        if ca is None and not insecure:
            return self
        return self.model_copy(update={"ca": ca, "insecure": insecure})

    @property
    def verify(self) -> bool | ssl.SSLContext:
        """What httpx takes for checking certificates.

        Raises:
            UserError: The file of certificates cannot be read.
        """
        if self.ca is None:
            return not self.insecure
        try:
            return ssl.create_default_context(cafile=self.ca)
        except OSError as error:
            raise UserError(f"{self.ca}: holds no certificates in PEM ({error})") from error

    @property
    def base(self) -> str:
        """The host with its scheme, without a slash at the end."""
        return (self.host if "://" in self.host else f"https://{self.host}").rstrip("/")


class _Answer(BaseModel):
    """Answers may have fields that we do not know."""

    model_config = ConfigDict(extra="ignore", frozen=True)


_AnswerT = TypeVar("_AnswerT", bound=_Answer)


class Pair(_Answer):
    """A parameter or an annotation."""

    key: str
    value: Any = None


class Action(_Answer):
    """A deployed action."""

    namespace: str
    name: str
    version: str
    annotations: tuple[Pair, ...] = ()
    limits: dict[str, int] = Field(default_factory=dict)
    exec: dict[str, Any] = Field(default_factory=dict)
    parameters: tuple[Pair, ...] = ()

    @property
    def path(self) -> str:
        """``[PACKAGE/]NAME``."""
        _, _, package = self.namespace.partition("/")
        return f"{package}/{self.name}" if package else self.name


class Outcome(_Answer):
    """What an activation gave."""

    status: str
    success: bool
    result: Any = None


class Activation(_Answer):
    """A finished activation; times in ms since 1970, durations in ms."""

    activationId: str  # noqa: N815 -- OpenWhisk's name
    namespace: str
    name: str
    version: str = ""
    start: int
    end: int = 0
    duration: int = 0
    logs: tuple[str, ...] = ()
    response: Outcome
    annotations: tuple[Pair, ...] = ()

    def annotation(self, key: str) -> Any:
        """Value of an annotation, or None."""
        return next((each.value for each in self.annotations if each.key == key), None)

    @property
    def wait_ms(self) -> int | None:
        """From arrival to the start, if the server says so."""
        value = self.annotation("waitTime")
        return None if value is None else int(value)

    @property
    def init_ms(self) -> int | None:
        """Time of initialisation; None unless the container was new to the action: its cold-start mark."""
        value = self.annotation("initTime")
        return None if value is None else int(value)


def _bytes(value: Any) -> int | None:
    """A size as OpenWhisk writes it, such as ``1048576 B``; None where it is something else."""
    number, _, unit = str(value).partition(" ")
    times = {"": 1, "B": 1, "KB": 1 << 10, "MB": 1 << 20}.get(unit)
    return int(number) * times if number.isdigit() and times is not None else None


class ServerLimits(_Answer):
    """What a namespace may ask for; None where the server does not say."""

    invocations_per_minute: int | None = Field(None, validation_alias="invocationsPerMinute")
    concurrent_invocations: int | None = Field(None, validation_alias="concurrentInvocations")
    memory_min_mib: int | None = Field(None, validation_alias=AliasChoices("minActionMemory", "actionMemoryMin"))
    memory_max_mib: int | None = Field(None, validation_alias=AliasChoices("maxActionMemory", "actionMemoryMax"))
    timeout_min_ms: int | None = Field(None, validation_alias=AliasChoices("minActionTimeout", "actionDurationMin"))
    timeout_max_ms: int | None = Field(None, validation_alias=AliasChoices("maxActionTimeout", "actionDurationMax"))
    logs_min_mib: int | None = Field(None, validation_alias=AliasChoices("minActionLogs", "actionLogsMin"))
    logs_max_mib: int | None = Field(None, validation_alias=AliasChoices("maxActionLogs", "actionLogsMax"))
    payload_max_bytes: Annotated[int | None, BeforeValidator(_bytes)] = Field(None, validation_alias="maxParameterSize")


class ActionSpec(BaseModel):
    """What to deploy; ``kind`` for a managed runtime, ``image`` for a blackbox, ``components`` for a sequence."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str | None = None
    image: str | None = None
    code: str | None = None
    binary: bool = False
    main: str | None = None
    components: tuple[str, ...] | None = None
    memory_mib: int | None = None
    timeout_ms: int | None = None
    logs_mib: int | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)
    annotations: dict[str, Any] = Field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """The request's body."""
        kind = "sequence" if self.components else "blackbox" if self.image else self.kind
        what: dict[str, Any] = {"kind": kind, "image": self.image, "code": self.code, "main": self.main}
        if self.code is not None:
            what["binary"] = self.binary
        if self.components:
            what["components"] = list(self.components)
        limits = {"memory": self.memory_mib, "timeout": self.timeout_ms, "logs": self.logs_mib}
        return {
            "exec": {name: value for name, value in what.items() if value is not None},
            "limits": {name: value for name, value in limits.items() if value is not None},
            "parameters": [{"key": key, "value": value} for key, value in self.parameters.items()],
            "annotations": [{"key": key, "value": value} for key, value in self.annotations.items()],
        }


class Needs(BaseModel):
    """What is going to be asked of a server; ``check`` compares it with the limits.  None: nothing special."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    memory_mib: int | None = None
    timeout_ms: int | None = None
    logs_mib: int | None = None
    per_minute: int | None = None
    concurrent: int | None = None
    payload_bytes: int | None = None


class NodeInfo(_Answer):
    """A logical node of the embedded platform."""

    name: str
    memory_mib: int
    free_mib: int
    gpus: tuple[str, ...] | None = None
    containers: int


class Resident(_Answer):
    """A function that the pre-loading action server of a container holds, or loads."""

    function: str
    state: str
    gpu: bool = False
    memory_mb: float = 0.0
    torch_reserved_mb: float = 0.0
    kept: bool = False


class ContainerInfo(_Answer):
    """A container of the embedded platform; times in s since 1970.

    ``boot_id``, ``gpu_uuid`` and ``residents`` are what its action server said in its last reply.
    """

    id: str
    node: str
    kind: str
    action: str | None
    state: str
    memory_mib: int
    used_mb: float | None
    created: float
    last_used: float
    create_ms: float
    activations: int
    keep_alive_s: float | None
    boot_id: str | None = None
    gpu_uuid: str | None = None
    residents: tuple[Resident, ...] = ()


class ContainerEvent(_Answer):
    """Something that happened to a container of the embedded platform; ``time`` in s since 1970.

    ``kind`` is created, busy, idle, paused or removed; ``reason`` says why it was removed: expired, evicted, lost,
    failed, outdated or asked.
    """

    number: int
    time: float
    kind: str
    container: str
    node: str
    action: str | None
    reason: str = ""


class EventPage(_Answer):
    """Events in order; ``oldest`` is the number of the oldest one that the platform still has."""

    oldest: int
    events: tuple[ContainerEvent, ...]


class Backoff(BaseModel):
    """How refused requests are repeated: after ``first_s``, twice that, ... up to ``longest_s``, with jitter."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attempts: int = Field(8, ge=1)
    first_s: float = Field(0.1, gt=0)
    longest_s: float = Field(10.0, gt=0)


class _RefusedError(ClientError):
    """A refusal that may be repeated."""


class Client:
    """Talks to one OpenWhisk as one user.

    ``retries`` counts repeated requests by reason: "429", "503", "connection".

    Args:
        credentials: Where and who.
        backoff: How refused requests are repeated.
        transport: In place of the network; for tests.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        backoff: Backoff | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.retries: Counter[str] = Counter()
        self._credentials = credentials
        self._backoff = backoff or Backoff()
        user, _, password = credentials.key.partition(":")
        self._http = httpx.AsyncClient(
            base_url=f"{credentials.base}/api/v1/",
            auth=(user, password),
            verify=credentials.verify,
            transport=transport,
            trust_env=False,
            timeout=httpx.Timeout(90.0, connect=10.0),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=60.0),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def _send(
        self,
        method: str,
        path: str,
        *,
        accept: tuple[int, ...] = (200,),
        repeatable: bool = True,
        body: Any = None,
        query: Mapping[str, str | int] | None = None,
    ) -> httpx.Response:
        """Send a request, again while it is refused for load.

        Args:
            method: HTTP's.
            path: Below /api/v1/.
            accept: Statuses that are answers.
            repeatable: Whether sending it twice does no harm; if not, a broken connection is the caller's matter.
            body: JSON.
            query: Parameters.

        Raises:
            ConnectionLostError: The connection broke and the request is not repeatable.
            ClientError: It was refused, or was refused too often.
        """
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(_RefusedError),
            wait=tenacity.wait_exponential(multiplier=self._backoff.first_s, max=self._backoff.longest_s)
            + tenacity.wait_random(0, self._backoff.first_s),
            stop=tenacity.stop_after_attempt(self._backoff.attempts),
            before_sleep=lambda state: self._count(state),
            reraise=True,
        )
        async for attempt in retrying:
            with attempt:
                return await self._send_once(method, path, accept, repeatable, body, query)
        raise AssertionError("tenacity ends with a result or an error")

    def _count(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        if isinstance(error, _RefusedError):
            self.retries[str(error.status or "connection")] += 1

    async def _send_once(
        self,
        method: str,
        path: str,
        accept: tuple[int, ...],
        repeatable: bool,
        body: Any,
        query: Mapping[str, str | int] | None,
    ) -> httpx.Response:
        where = f"{method} {self._credentials.base}/api/v1/{path}"
        try:
            response = await self._http.request(method, path, json=body, params=query)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            remedy = _remedy(error)
            if remedy:
                raise ClientError(f"{where}: {error}; {remedy}") from error
            raise _RefusedError(f"{where}: {error or type(error).__name__}") from error
        except httpx.TransportError as error:
            message = f"{where}: {type(error).__name__} {error}"
            raise (_RefusedError(message) if repeatable else ConnectionLostError(message)) from error
        if response.status_code in accept:
            _require_json(response, where)
            return response
        message = f"{where}: {response.status_code} {_reason(response)}"
        if response.status_code == 401:
            message += "; is OW_AUTH the key of this host?"
        if response.status_code in _RETRIED_STATUSES:
            raise _RefusedError(message, response.status_code)
        raise ClientError(message, response.status_code)

    def _at(self, collection: str, name: str = "") -> str:
        path = f"namespaces/{quote(self._credentials.namespace)}/{collection}"
        return f"{path}/{quote(name)}" if name else path

    # The server

    async def limits(self) -> ServerLimits:
        """What the namespace may ask for; what its own answer leaves open is asked of the whole server."""
        own = _object(await self._send("GET", self._at("limits")))
        try:
            whole = _object(await self._send("GET", f"{self._credentials.base}/")).get("limits", {})
        except ClientError:
            # Behind a gateway the root may belong to somebody else.
            whole = {}
        general = {
            "minActionMemory": _mib(whole.get("min_action_memory")),
            "maxActionMemory": _mib(whole.get("max_action_memory")),
            "minActionTimeout": whole.get("min_action_duration"),
            "maxActionTimeout": whole.get("max_action_duration"),
            "minActionLogs": _mib(whole.get("min_action_logs")),
            "maxActionLogs": _mib(whole.get("max_action_logs")),
            "invocationsPerMinute": whole.get("actions_per_minute"),
            "concurrentInvocations": whole.get("concurrent_actions"),
        }
        named = ServerLimits.model_validate(own).model_dump()
        filled = ServerLimits.model_validate(general).model_dump()
        return ServerLimits.model_construct(
            **{name: value if value is not None else filled[name] for name, value in named.items()}
        )

    async def kinds(self) -> tuple[str, ...]:
        """Kinds of actions that the server lists; empty where it does not say."""
        try:
            found = _object(await self._send("GET", f"{self._credentials.base}/")).get("runtimes", {})
        except ClientError:
            # Behind a gateway the root may belong to somebody else.
            return ()
        return tuple(str(each["kind"]) for family in found.values() for each in family)

    async def check(self, needs: Needs) -> None:
        """Compare what is needed with the server's limits.

        Raises:
            LimitError: Something is out of range; the message names every setting to change.
        """
        problems = problems_of(needs, await self.limits())
        if problems:
            raise LimitError(f"{self._credentials.base} allows too little: {'; '.join(problems)}")

    # Actions and activations

    async def actions(self) -> list[Action]:
        """All actions."""
        found: list[Action] = []
        while True:
            query = {"limit": _PAGE, "skip": len(found)}
            page = _read_all(Action, await self._send("GET", self._at("actions"), query=query))
            found += page
            if len(page) < _PAGE:
                return found

    async def put_action(self, name: str, spec: ActionSpec) -> Action:
        """Make or update an action."""
        query = {"overwrite": "true"}
        response = await self._send("PUT", self._at("actions", name), body=spec.body(), query=query)
        return _read(Action, response)

    async def delete_action(self, name: str) -> None:
        """Delete an action."""
        await self._send("DELETE", self._at("actions", name))

    async def invoke(self, name: str, payload: Mapping[str, Any] | None = None, timeout_s: float = 300.0) -> Activation:
        """Run an action and wait for its end, also when the server stops waiting for it.

        Args:
            name: ``[PACKAGE/]NAME``.
            payload: Parameters.
            timeout_s: How long to wait in all.

        Returns:
            The activation, successful or not.

        Raises:
            ConnectionLostError: Whether it began is not known.
            ClientError: It was refused, or has not ended in time.
        """
        deadline = time.monotonic() + timeout_s
        response = await self._send(
            "POST",
            self._at("actions", name),
            accept=(200, 202, 500, 502),
            repeatable=False,
            body=dict(payload or {}),
            query={"blocking": "true"},
        )
        answer = _object(response)
        if "response" in answer:
            return _read(Activation, response)
        if response.status_code == 202:
            return await self.wait(str(answer["activationId"]), max(0.0, deadline - time.monotonic()))
        raise ClientError(f"{name}: {response.status_code} {_reason(response)}", response.status_code)

    async def wait(self, activation: str, timeout_s: float = 300.0) -> Activation:
        """Ask for an activation, ever more rarely, until it has ended.

        Raises:
            ClientError: It has not ended in time.
        """
        deadline, pause_s = time.monotonic() + timeout_s, _POLL_FIRST_S
        while True:
            try:
                return await self.activation(activation)
            except ClientError as error:
                if error.status != 404:
                    raise
                if time.monotonic() + pause_s > deadline:
                    raise ClientError(f"activation {activation} has not ended after {timeout_s:g} s") from error
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _POLL_LONGEST_S)

    async def activation(self, activation: str) -> Activation:
        """A finished activation; 404 while it runs."""
        response = await self._send("GET", self._at("activations", activation))
        return _read(Activation, response)

    # The embedded platform only

    async def is_embedded(self) -> bool:
        """Whether the server can create and remove containers on request; the first question that is asked.

        Raises:
            ClientError: It was refused, or nothing came for half a minute, as from a host behind a firewall.
        """
        try:
            async with asyncio.timeout(_FIRST_ANSWER_S):
                await self._send("GET", "tyche/container-factory")
        except TimeoutError as error:
            raise ClientError(f"{self._credentials.base}: no answer in {_FIRST_ANSWER_S:g} s") from error
        except ClientError as error:
            if error.status in (401, 403, 404, 405):
                return False
            raise
        return True

    async def container_factory(self) -> dict[str, Any]:
        """``name``: what containers are; ``notes``: what makes them, and what they cannot do there."""
        return _object(await self._send("GET", "tyche/container-factory"))

    async def nodes(self) -> list[NodeInfo]:
        """The logical nodes."""
        return _read_all(NodeInfo, await self._send("GET", "tyche/nodes"))

    async def containers(self) -> list[ContainerInfo]:
        """All containers."""
        return _read_all(ContainerInfo, await self._send("GET", "tyche/containers"))

    async def events(self, after: int = 0, timeout_s: float = 0.0) -> EventPage:
        """Events of containers after number ``after``; waits up to ``timeout_s`` (2 s at most) for one.

        If ``oldest`` is above ``after`` + 1, some were missed: read ``containers`` again.
        """
        query = {"after": after, "timeout": min(2000, round(timeout_s * 1000))}
        return _read(EventPage, await self._send("GET", "tyche/events", query=query))

    async def create_container(self, action: str, node: str) -> ContainerInfo:
        """Make a container of an action, initialised, on a node ahead of time."""
        body = {"action": action, "node": node}
        response = await self._send("POST", "tyche/containers", accept=(201,), repeatable=False, body=body)
        return _read(ContainerInfo, response)

    async def remove_container(self, container: str) -> None:
        """Remove a container that is not serving."""
        await self._send("DELETE", f"tyche/containers/{quote(container)}")


def _object(response: httpx.Response) -> dict[str, Any]:
    found = response.json()
    if not isinstance(found, dict):
        raise ClientError(f"{response.url}: an object was expected", response.status_code)
    return found


def _read(model: type[_AnswerT], response: httpx.Response) -> _AnswerT:
    """An answer of OpenWhisk's.

    Raises:
        ClientError: It is somebody else's.
    """
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        raise _stranger(response, error) from error


def _read_all(model: type[_AnswerT], response: httpx.Response) -> list[_AnswerT]:
    found = response.json()
    if not isinstance(found, list):
        raise ClientError(f"{response.url}: a list was expected", response.status_code)
    try:
        return [model.model_validate(each) for each in found]
    except ValidationError as error:
        raise _stranger(response, error) from error


def _stranger(response: httpx.Response, error: ValidationError) -> ClientError:
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"])) or "the answer"
    return ClientError(f"{response.url}: no answer of an OpenWhisk, {place}: {first['msg']}", response.status_code)


def _require_json(response: httpx.Response, where: str) -> None:
    """Refuse what no OpenWhisk answers.

    Raises:
        ClientError: It is no JSON; the message says what it is.
    """
    try:
        response.json()
    except ValueError as error:
        message = f"{where}: {response.status_code} {_described(response)}; is OW_APIHOST the host of an OpenWhisk?"
        raise ClientError(message, response.status_code) from error


def _is_address(base: str) -> bool:
    try:
        url = httpx.URL(base)
    except httpx.InvalidURL:
        return False
    port = 1 if url.port is None else url.port
    return url.scheme in ("http", "https") and bool(url.host) and 0 < port < 65536 and not url.path.endswith("/api/v1")


def _remedy(error: BaseException) -> str:
    """What the user has to change where a connection fails each time alike; empty where it may go well later."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return "OW_CA names the file of whoever signed it, and the certificate has to name the host of OW_APIHOST"
    if isinstance(cause, ssl.SSLError) and cause.reason == "WRONG_VERSION_NUMBER":
        return "does it speak http? Then OW_APIHOST begins with http://"
    return ""


def _reason(response: httpx.Response) -> str:
    try:
        found = response.json()
    except ValueError:
        return _described(response)
    return str(found.get("error", found)) if isinstance(found, dict) else str(found)


def _described(response: httpx.Response) -> str:
    """One line about an answer that is no JSON: its sort, where it leads to, who says so and how it begins."""
    sort = response.headers.get("content-type", "").partition(";")[0] or "no content type"
    parts = [f"no JSON but {sort}"]
    if "location" in response.headers:
        parts.append(f"leads to {response.headers['location']}")
    if "server" in response.headers:
        parts.append(f"from {response.headers['server']}")
    title = re.search(r"<title[^>]*>(.*?)</title", response.text[:10_000], re.IGNORECASE | re.DOTALL)
    text = " ".join((title[1] if title else response.text[:1000]).split())[:120]
    return ", ".join(parts) + (f": {text!r}" if text else ", empty")


def _mib(value: Any) -> int | None:
    return None if value is None else int(value) // 2**20


def problems_of(needs: Needs, limits: ServerLimits) -> list[str]:
    """What is out of range, each with the setting to change."""
    return list(_problems(needs, limits))


def _problems(needs: Needs, limits: ServerLimits) -> Iterable[str]:
    """A line for each need that is out of range, with the settings of OpenWhisk and of `tyche platform up`."""
    for what, value, low, high, genuine, embedded in (
        (
            "memory of an action, MiB",
            needs.memory_mib,
            limits.memory_min_mib,
            limits.memory_max_mib,
            ("whisk.memory.min", "whisk.memory.max"),
            "--max-action-mb",
        ),
        (
            "timeout of an action, ms",
            needs.timeout_ms,
            limits.timeout_min_ms,
            limits.timeout_max_ms,
            ("whisk.time-limit.min", "whisk.time-limit.max"),
            "",
        ),
        (
            "logs of an action, MiB",
            needs.logs_mib,
            limits.logs_min_mib,
            limits.logs_max_mib,
            ("whisk.log-limit.min", "whisk.log-limit.max"),
            "",
        ),
        (
            "payload of a call, bytes",
            needs.payload_bytes,
            None,
            limits.payload_max_bytes,
            ("", "whisk.activation.payload.max"),
            "",
        ),
        (
            "activations a minute",
            needs.per_minute,
            None,
            limits.invocations_per_minute,
            ("", "limits.actions.invokes.perMinute (LIMITS_ACTIONS_INVOKES_PERMINUTE)"),
            "--per-minute",
        ),
        (
            "activations in flight",
            needs.concurrent,
            None,
            limits.concurrent_invocations,
            ("", "limits.actions.invokes.concurrent (LIMITS_ACTIONS_INVOKES_CONCURRENT)"),
            "--concurrent",
        ),
    ):
        if value is None:
            continue
        also = f", or `tyche platform up {embedded}`" if embedded else ""
        if low is not None and value < low:
            yield f"{what}: {value} needed, at least {low}; set {genuine[0]}"
        elif high is not None and value > high:
            yield f"{what}: {value} needed, at most {high}; set {genuine[1]}{also}"
