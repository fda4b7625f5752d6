"""The REST interface: OpenWhisk's under /api/v1, and beside it /api/v1/tyche for what OpenWhisk cannot do.

Answers and refusals follow Apache OpenWhisk's controller (Actions.scala, Activations.scala, Packages.scala,
Namespaces.scala, Limits.scala, ErrorResponse.scala).  Paths, statuses and records are listed in docs/openwhisk.md.
"""

from __future__ import annotations

import importlib.resources
import secrets
import uuid
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any, TypeVar
from urllib.parse import unquote

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from real_backend.platform import kinds, strict_json
from real_backend.platform.config import Limits, PlatformConfig
from real_backend.platform.errors import ApiError, malformed, missing, nowhere
from real_backend.platform.metrics import Metrics
from real_backend.platform.pool import Pooled
from real_backend.platform.records import NAME_PATTERN, ActionPut, Json, PackagePut
from real_backend.platform.service import Service
from real_backend.telemetry import Reading

_MAX_LIST = 200
_EPOCH_MAX = 2**53
_BodyT = TypeVar("_BodyT", bound=BaseModel)

_BASIC = HTTPBasic(auto_error=False)

Name = Annotated[str, Path(pattern=NAME_PATTERN, max_length=256)]
Flag = Annotated[bool, Query()]
Limit = Annotated[int, Query(ge=0, le=_MAX_LIST, description="0 means 200")]
Skip = Annotated[int, Query(ge=0, le=_EPOCH_MAX)]
Wait = Annotated[int | None, Query(ge=1, description="ms; at most what a blocking call may take")]
ActivationId = Annotated[str, Path(pattern=r"^[0-9a-fA-F]{32}$")]
Epoch = Annotated[int | None, Query(ge=0, le=_EPOCH_MAX, description="ms since 1970")]


class Refusal(BaseModel):
    """Answer to a request that is refused."""

    error: str
    code: str


class NewContainer(BaseModel):
    """Body of POST /tyche/containers: an action, or a kind and memory for a stem cell."""

    model_config = ConfigDict(extra="forbid")

    action: str | None = Field(None, description="NAME or PACKAGE/NAME")
    kind: str | None = None
    memory: int | None = Field(None, description="MiB; only with kind")
    node: str | None = Field(None, description="default: the first of the action's nodes with free memory")
    keep_alive_s: float | None = Field(
        None, ge=0, le=1e9, description="idle time after which it is removed, in place of the platform's"
    )


class _Transactions:
    """Gives every request a transaction id (OpenWhisk's ``X-Request-ID``) and accepts absolute-form targets."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        transaction = given[:64] if given.isalnum() else uuid.uuid4().hex.encode()
        scope.setdefault("state", {})["transaction"] = transaction.decode()
        path = scope["path"]
        if b"%2f" in (scope.get("raw_path") or b"").lower():
            # A slash within a name does not part names, and no name may hold it or what stands for it here.
            raw = scope["raw_path"].partition(b"?")[0].decode("ascii", "replace")
            path = "/".join(unquote(each).replace("/", "%2F") for each in raw.split("/"))
        if path.startswith(("http://", "https://")):
            path = "/" + path.partition("://")[2].partition("/")[2]
        scope["path"] = path

        async def with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", transaction)]
            await send(message)

        await self._app(scope, receive, with_id)


def _refuse(request: Request, status: int, message: str) -> JSONResponse:
    headers = {"WWW-Authenticate": 'Basic realm="OpenWhisk secure realm",charset=UTF-8'} if status == 401 else None
    answer = JSONResponse({"error": message, "code": request.state.transaction}, status, headers)
    if request.method == "HEAD":
        answer.body = b""
    return answer


async def _read(request: Request, limit_bytes: int, what: str) -> bytes:
    """The body, unless it is longer than ``limit_bytes`` or says that it is no JSON."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit_bytes:
                announced = request.headers.get("content-length", str(len(body)))
                raise ApiError(413, f"{what} larger than allowed: {announced} > {limit_bytes} bytes.")
    except ClientDisconnect as error:
        raise ApiError(400, "The connection ended before the request did.") from error
    kind = request.headers.get("content-type", "application/octet-stream")
    if body and kind.partition(";")[0].strip().lower() != "application/json":
        raise ApiError(415, f"The request's Content-Type [{kind}] is not supported. Expected:\napplication/json")
    return bytes(body)


def _json(body: bytes) -> Json:
    try:
        return strict_json.parse(body)
    except ValueError as error:
        raise malformed(str(error)) from error


def _parse(body: bytes, model: type[_BodyT]) -> _BodyT:
    value = _json(body)
    try:
        parsed = model.model_validate_json(body)
        if isinstance(value, dict):
            strict_json.require_finite([value.get(field) for field in ("parameters", "annotations")])
    except ValidationError as error:
        raise malformed(_problem(error)) from error
    except ValueError as error:
        raise malformed(str(error)) from error
    return parsed


def _problem(error: ValidationError) -> str:
    """What is wrong with a body, in OpenWhisk's words where it has some of its own."""
    first = error.errors(include_url=False)[0]
    match first["loc"]:
        case () if error.title == ActionPut.__name__:
            return "Object expected in field 'exec'"
        case ("exec", "kind"):
            return "'kind' must be a string defined in 'exec'"
        case ("exec", "code"):
            return f"Could not deserialize as attachment record: {first['input']}"
        case ("limits", limit):
            return f"{limit} limit malformed"
        case place:
            return f"{'.'.join(map(str, place)) or 'body'}: {first['msg']}"


def _body(model: type[BaseModel] | None, required: bool) -> dict[str, Any]:
    """OpenAPI's description of a body that is read by hand."""
    schema = {"type": "object"} if model is None else {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


_BODIES: tuple[type[BaseModel], ...] = (ActionPut, PackagePut, NewContainer)
_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal} for status in (400, 401, 403, 404, 409, 413, 415, 429, 503, 507)
}


def make_app(service: Service, metrics: Metrics, key: str, read_gpus: Callable[[], Reading]) -> FastAPI:
    """The application.

    Args:
        service: What it serves.
        metrics: What /metrics shows.
        key: ``UUID:KEY`` that callers authenticate with.
        read_gpus: Reads the machine's GPUs.
    """
    app = FastAPI(
        title="tyche platform",
        description="An embedded platform for one machine that speaks the REST interface of Apache OpenWhisk.",
        version="1.0.0",
        redirect_slashes=False,
        responses=_REFUSALS,
    )
    expected = key.encode()

    def authenticated(credentials: Annotated[HTTPBasicCredentials | None, Depends(_BASIC)]) -> None:
        if credentials is None:
            raise ApiError(401, "The resource requires authentication, which was not supplied with the request")
        given = f"{credentials.username}:{credentials.password}"
        if not secrets.compare_digest(given.encode("utf-8", "surrogateescape"), expected):
            raise ApiError(401, "The supplied authentication is invalid.")

    app.include_router(_public(service.config))
    guarded = [Depends(authenticated)]
    page = importlib.resources.files("real_backend.platform").joinpath("status.html").read_text(encoding="utf-8")
    app.include_router(_namespaces(service), prefix="/api/v1", dependencies=guarded)

    async def status_page() -> HTMLResponse:
        """A page that shows nodes, containers, residents and GPUs, and keeps itself up to date."""
        return HTMLResponse(page)

    own = Depends(_own_namespace(service))
    for router in (_actions(service), _activations(service), _packages(service), _absent(service)):
        app.include_router(router, prefix="/api/v1/namespaces/{namespace}", dependencies=[*guarded, own])
    if service.config.behaviour.tells_containers:
        app.include_router(_tyche(service, read_gpus), prefix="/api/v1/tyche", dependencies=guarded)
        app.add_api_route("/status", status_page, dependencies=guarded, tags=["tyche"], response_class=HTMLResponse)

    @app.get("/metrics", dependencies=guarded, tags=["tyche"], response_class=Response)
    async def prometheus() -> Response:
        """Metrics in Prometheus' text format."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    def refused(request: Request, status: int, message: str) -> JSONResponse:
        metrics.refusals.labels(str(status)).inc()
        return _refuse(request, status, message)

    @app.exception_handler(ApiError)
    async def api_error(request: Request, error: ApiError) -> JSONResponse:
        return refused(request, error.status, error.message)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return refused(request, 400, _invalid(request, error, service.config.limits))

    @app.exception_handler(StarletteHTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code in (404, 405):
            return refused(request, 404, nowhere().message)
        return refused(request, error.status_code, str(error.detail))

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        return refused(request, 500, "There was an error processing your request.")

    app.add_middleware(_Transactions)
    _describe_bodies(app)
    return app


def _invalid(request: Request, error: RequestValidationError, limits: Limits) -> str:
    """What is wrong with a path or a query, in OpenWhisk's words where it has some of its own."""
    first = error.errors()[0]
    place, name, given = first["loc"][0], str(first["loc"][-1]), first.get("input")
    if place == "path" and name == "activation":
        if len(str(given)) != 32:
            return f"Activation id length is {len(str(given))} but must be 32."
        return "The activation id contains characters that are no hexadecimal digits."
    if place == "path":
        length = len(str(given))
        longest = f"Name segement longer than allowed: {length} > 256."
        return longest if length > 256 else "The name of the entity contains illegal characters."
    parts = request.url.path.split("/")
    collection = next(
        (each for each in ("actions", "activations", "packages", "triggers", "rules") if each in parts), ""
    )
    reasons = {
        "limit": f"The value '{given}' is not in the range of 0 to {_MAX_LIST} for {collection}.",
        "skip": f"The value '{given}' is not greater than or equal to 0 for {collection}.",
        "timeout": f"Timeout must be number of milliseconds up to {round(limits.blocking_s * 1000)}.",
        "since": f"Parameter is not a valid value for epoch seconds: {given}",
        "upto": f"Parameter is not a valid value for epoch seconds: {given}",
    }
    if first["type"].startswith("bool"):
        reasons[name] = f"'{given}' is not a valid Boolean value"
    return f"The query parameter '{name}' was malformed:\n{reasons.get(name, first['msg'])}"


def _describe_bodies(app: FastAPI) -> None:
    """Add the schemas of bodies that are read by hand to the OpenAPI description."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        description = made()
        schemas = description.setdefault("components", {}).setdefault("schemas", {})
        for model in _BODIES:
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(schema.pop("$defs", {}))
            schemas[model.__name__] = schema
        return description

    app.openapi = openapi  # type: ignore[method-assign]


def _public(config: PlatformConfig) -> APIRouter:
    """What needs no key."""
    router, limits = APIRouter(tags=["about"]), config.limits

    @router.get("/")
    async def about() -> dict[str, Json]:
        """Limits of the whole platform and its runtimes."""
        return {
            "description": "OpenWhisk",
            "api_paths": ["/api/v1"],
            "runtimes": kinds.manifest(config),
            "support": {"github": "https://github.com/apache/openwhisk/issues", "slack": "http://slack.openwhisk.org"},
            "limits": {
                "actions_per_minute": limits.invocations_per_minute,
                "concurrent_actions": limits.concurrent_invocations,
                "triggers_per_minute": 0,
                **{
                    f"default_{bound}_action_{what}": value
                    for what, low, high in (
                        ("duration", limits.timeout_min_ms, limits.timeout_max_ms),
                        ("memory", limits.memory_min_mib * 2**20, limits.memory_max_mib * 2**20),
                        ("logs", 0, limits.logs_max_mib * 2**20),
                    )
                    for bound, value in (("min", low), ("max", high))
                },
                "sequence_length": limits.sequence_length,
                "min_action_duration": limits.timeout_min_ms,
                "max_action_duration": limits.timeout_max_ms,
                "min_action_memory": limits.memory_min_mib * 2**20,
                "max_action_memory": limits.memory_max_mib * 2**20,
                "min_action_logs": 0,
                "max_action_logs": limits.logs_max_mib * 2**20,
            },
        }

    async def version() -> dict[str, Json]:
        """What this interface is."""
        return {
            "description": "OpenWhisk API",
            "api_version": "1.0.0",
            "api_version_path": "v1",
            "build": "tyche",
            "buildno": "embedded",
            "swagger_paths": {"ui": "/docs", "api-docs": "/openapi.json"},
        }

    @router.get("/ping", response_class=PlainTextResponse)
    async def ping() -> str:
        """Whether somebody is there."""
        return "pong"

    async def web(path: str) -> None:
        """Web actions: there are none, whatever is asked for."""
        raise missing()

    everything = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    router.add_api_route("/api/v1/web/{path:path}", web, methods=everything, include_in_schema=False)
    router.add_api_route("/api/v1", version)
    router.add_api_route("/api/v1/", version, include_in_schema=False)
    return router


def _own_namespace(service: Service) -> Callable[[str], None]:
    """What refuses a path that is not in the caller's namespace."""

    def own(namespace: str) -> None:
        if namespace not in ("_", service.config.namespace):
            raise ApiError(403, f"The supplied authentication is not authorized to access '{namespace}'.")

    return own


def _namespaces(service: Service) -> APIRouter:
    router = APIRouter(tags=["namespaces"])
    limits = service.config.limits

    @router.get("/namespaces")
    async def namespaces() -> list[str]:
        """The caller's namespaces: one."""
        return [service.config.namespace]

    @router.get("/namespaces/{namespace}/limits", dependencies=[Depends(_own_namespace(service))])
    async def namespace_limits() -> dict[str, Json]:
        """What the namespace may ask for."""
        return {
            "invocationsPerMinute": limits.invocations_per_minute,
            "concurrentInvocations": limits.concurrent_invocations,
            "firesPerMinute": 0,
            "minActionMemory": limits.memory_min_mib,
            "maxActionMemory": limits.memory_max_mib,
            "minActionTimeout": limits.timeout_min_ms,
            "maxActionTimeout": limits.timeout_max_ms,
            "minActionLogs": 0,
            "maxActionLogs": limits.logs_max_mib,
            "minActionConcurrency": 1,
            "maxActionConcurrency": 1,
            "maxActionInstances": limits.concurrent_invocations,
            "maxParameterSize": f"{limits.payload_bytes} B",
        }

    router.add_api_route("/namespaces/", namespaces, include_in_schema=False)
    return router


def _page(items: list[Any], limit: int, skip: int) -> list[Any]:
    return items[skip : skip + (limit or _MAX_LIST)]


def _actions(service: Service) -> APIRouter:
    router = APIRouter(tags=["actions"])
    limits = service.config.limits

    async def list_all(
        limit: Limit = 30, skip: Skip = 0, count: Flag = False
    ) -> list[dict[str, Json]] | dict[str, int]:
        """All actions, last updated first; only their number with ``count``."""
        if count:
            return {"actions": max(0, len(service.actions()) - skip)}
        return [each.brief() for each in _page(service.actions(), limit, skip)]

    async def list_package(package: Name, limit: Limit = 30, skip: Skip = 0) -> list[dict[str, Json]]:
        """The actions of a package, last updated first."""
        return [each.brief() for each in _page(service.actions(package), limit, skip)]

    router.add_api_route("/actions", list_all)
    router.add_api_route("/actions/", list_all, include_in_schema=False)
    router.add_api_route("/actions/{package}/", list_package)

    async def put(request: Request, package: str | None, name: str, overwrite: bool) -> dict[str, Json]:
        body = await _read(request, limits.code_bytes + 2**20, "Request")
        return service.put_action(package, name, _parse(body, ActionPut), overwrite).body()

    async def invoke(request: Request, path: str, blocking: bool, result: bool, timeout: int | None) -> Response:
        body = await _read(request, limits.payload_bytes, "Request")
        payload = _json(body or b"{}")
        if not isinstance(payload, dict):
            raise malformed("JSON object expected")
        longest_ms = round(limits.blocking_s * 1000)
        if timeout is not None and timeout > longest_ms:
            raise ApiError(
                400,
                "The query parameter 'timeout' was malformed:\n"
                f"Timeout must be number of milliseconds up to {longest_ms}.",
            )
        activation = service.invoke(path, payload, request.state.transaction)
        headers = {"x-openwhisk-activation-id": activation.id}
        wait_s = limits.blocking_s if timeout is None else timeout / 1000
        if not blocking or not await service.wait(activation, wait_s):
            return JSONResponse({"activationId": activation.id}, 202, headers)
        response = activation.record["response"]
        status = {"success": 200, "whisk internal error": 500}.get(response["status"], 502)
        return JSONResponse(response["result"] if result else activation.record, status, headers)

    answers: dict[int | str, dict[str, Any]] = {
        202: {"description": "Accepted; the body has the activationId"},
        502: {"description": "The activation ended with an error; the body is its record"},
    }
    doing: dict[str, Any] = {
        "openapi_extra": _body(None, required=False),
        "responses": answers,
        "response_class": Response,
    }

    @router.put("/actions/{package}/{name}", openapi_extra=_body(ActionPut, required=True))
    async def put_in_package(request: Request, package: Name, name: Name, overwrite: Flag = False) -> dict[str, Json]:
        """Make or, with ``overwrite``, update an action of a package."""
        return await put(request, package, name, overwrite)

    @router.put("/actions/{name}", openapi_extra=_body(ActionPut, required=True))
    async def put_alone(request: Request, name: Name, overwrite: Flag = False) -> dict[str, Json]:
        """Make or, with ``overwrite``, update an action."""
        return await put(request, None, name, overwrite)

    @router.post("/actions/{package}/{name}", **doing)
    async def invoke_in_package(
        request: Request,
        package: Name,
        name: Name,
        blocking: Flag = False,
        result: Flag = False,
        timeout: Wait = None,
    ) -> Response:
        """Run an action of a package."""
        return await invoke(request, f"{package}/{name}", blocking, result, timeout)

    @router.post("/actions/{name}", **doing)
    async def invoke_alone(
        request: Request,
        name: Name,
        blocking: Flag = False,
        result: Flag = False,
        timeout: Wait = None,
    ) -> Response:
        """Run an action."""
        return await invoke(request, name, blocking, result, timeout)

    @router.get("/actions/{package}/{name}")
    async def get_in_package(package: Name, name: Name, code: Flag = True) -> dict[str, Json]:
        """An action of a package."""
        return service.inheriting(f"{package}/{name}").body(code)

    @router.get("/actions/{name}")
    async def get_alone(name: Name, code: Flag = True) -> dict[str, Json]:
        """An action."""
        return service.action(name).body(code)

    @router.delete("/actions/{package}/{name}")
    async def delete_in_package(package: Name, name: Name) -> dict[str, Json]:
        """Delete an action of a package."""
        return service.delete_action(f"{package}/{name}").body()

    @router.delete("/actions/{name}")
    async def delete_alone(name: Name) -> dict[str, Json]:
        """Delete an action."""
        return service.delete_action(name).body()

    return router


def _activations(service: Service) -> APIRouter:
    router = APIRouter(tags=["activations"])

    async def list_all(
        name: str | None = None,
        limit: Limit = 30,
        skip: Skip = 0,
        since: Epoch = None,
        upto: Epoch = None,
        docs: Flag = False,
        count: Flag = False,
    ) -> list[dict[str, Json]] | dict[str, int]:
        """Finished activations, newest first; only their number with ``count``."""
        if count and docs:
            raise ApiError(400, "The parameter 'docs' is not permitted with 'count'.")
        if count:
            return {"activations": max(0, service.store.count_activations(name, since, upto) - skip)}
        return service.store.activations(name, since, upto, skip, limit or _MAX_LIST, docs)

    router.add_api_route("/activations", list_all)
    router.add_api_route("/activations/", list_all, include_in_schema=False)

    @router.get("/activations/{activation}")
    async def get(activation: ActivationId) -> dict[str, Json]:
        """A finished activation."""
        return await service.record(activation)

    @router.get("/activations/{activation}/result")
    async def get_result(activation: ActivationId) -> dict[str, Json]:
        """The response of a finished activation."""
        found: dict[str, Json] = (await service.record(activation))["response"]
        return found

    @router.get("/activations/{activation}/logs")
    async def get_logs(activation: ActivationId) -> dict[str, list[str]]:
        """What a finished activation wrote."""
        return {"logs": (await service.record(activation))["logs"]}

    return router


def _packages(service: Service) -> APIRouter:
    router = APIRouter(tags=["packages"])

    async def list_all(
        limit: Limit = 30, skip: Skip = 0, count: Flag = False
    ) -> list[dict[str, Json]] | dict[str, int]:
        """All packages, last updated first; only their number with ``count``."""
        if count:
            return {"packages": max(0, len(service.packages()) - skip)}
        return [each.brief() for each in _page(service.packages(), limit, skip)]

    router.add_api_route("/packages", list_all)
    router.add_api_route("/packages/", list_all, include_in_schema=False)

    @router.put("/packages/{name}", openapi_extra=_body(PackagePut, required=True))
    async def put(request: Request, name: Name, overwrite: Flag = False) -> dict[str, Json]:
        """Make or, with ``overwrite``, update a package or a binding."""
        body = await _read(request, service.config.limits.payload_bytes, "Request")
        return service.put_package(name, _parse(body, PackagePut), overwrite).body()

    @router.get("/packages/{name}")
    async def get(name: Name) -> dict[str, Json]:
        """A package and what is in it."""
        return service.package(name).body(service.actions(name))

    @router.delete("/packages/{name}")
    async def delete(name: Name, force: Flag = False) -> dict[str, Json]:
        """Delete a binding, an empty package or, with ``force``, a package and all that is in it."""
        return service.delete_package(name, force).body()

    return router


def _absent(service: Service) -> APIRouter:
    """Triggers and rules: there are none, and none can be made."""
    router = APIRouter(tags=["triggers and rules"])

    async def refuse(name: Name) -> None:
        """Refused."""
        raise ApiError(
            400,
            "Triggers and rules are not supported by this platform: invoke actions from outside, by a timer for "
            "instance.",
        )

    async def unknown(name: Name) -> None:
        """There is none."""
        raise missing()

    for collection in ("triggers", "rules"):

        def none(
            limit: Limit = 30, skip: Skip = 0, count: Flag = False, collection: str = collection
        ) -> list[Json] | dict[str, int]:
            """None."""
            return {collection: 0} if count else []

        router.add_api_route(f"/{collection}", none)
        router.add_api_route(f"/{collection}/", none, include_in_schema=False)
        router.add_api_route(f"/{collection}/{{name}}", refuse, methods=["PUT"], response_model=None)
        for method in ("GET", "POST", "DELETE"):
            router.add_api_route(f"/{collection}/{{name}}", unknown, methods=[method], response_model=None)
    return router


def describe(pooled: Pooled) -> dict[str, Json]:
    """A container as /tyche/containers shows it."""
    container = pooled.container
    measured = None if container is None or pooled.state == "removing" else container.memory_mb()
    return {
        "id": pooled.id,
        "node": pooled.node.spec.name,
        "kind": pooled.runtime.kind,
        "action": None if pooled.need is None else pooled.need.action,
        "state": "paused" if pooled.paused else pooled.state,
        "memory_mib": pooled.memory_mib,
        "used_mb": None if measured is None else round(measured, 3),
        "created": round(pooled.created, 6),
        "last_used": round(pooled.last_used, 6),
        "create_ms": round(pooled.create_ms, 3),
        "activations": pooled.activations,
        "keep_alive_s": pooled.keep_alive_s,
        "boot_id": pooled.told.get("boot_id"),
        "gpu_uuid": pooled.told.get("gpu_uuid"),
        "residents": pooled.told.get("residents", []),
    }


def _tyche(service: Service, read_gpus: Callable[[], Reading]) -> APIRouter:
    """Containers and nodes: not a part of OpenWhisk."""
    router = APIRouter(tags=["tyche"])

    @router.get("/nodes")
    async def nodes() -> list[dict[str, Json]]:
        """The logical nodes and their memory."""
        return [
            {
                "name": node.spec.name,
                "memory_mib": node.spec.memory_mib,
                "free_mib": node.free_mib,
                "gpus": node.spec.gpus,
                "containers": len(node.containers),
            }
            for node in service.pool.nodes
        ]

    @router.get("/containers")
    async def containers() -> list[dict[str, Json]]:
        """All containers, node by node, oldest first."""
        return [describe(each) for each in service.pool.containers]

    @router.post("/containers", openapi_extra=_body(NewContainer, required=True), status_code=201)
    async def create(request: Request) -> dict[str, Json]:
        """Make a container ahead of time: of an action and initialised, or a stem cell; 201 when it is ready."""
        asked = _parse(await _read(request, service.config.limits.payload_bytes, "Request"), NewContainer)
        pooled = await service.create_container(asked.action, asked.kind, asked.memory, asked.node, asked.keep_alive_s)
        return describe(pooled)

    @router.delete("/containers/{container}")
    async def remove(container: str) -> dict[str, Json]:
        """Remove a container that is not serving; 409 if it is."""
        await service.pool.remove(container)
        return {"id": container}

    @router.get("/events")
    async def events(
        after: Annotated[int, Query(ge=0, le=_EPOCH_MAX)] = 0,
        timeout: Annotated[int, Query(ge=0, le=2000, description="ms")] = 0,
    ) -> dict[str, Json]:
        """What happened to containers after event number ``after``; waits up to ``timeout`` for something to happen.

        ``oldest`` above ``after`` + 1 says that events in between are forgotten: read /containers again.
        """
        found = await service.follow(after, timeout / 1000)
        return {"oldest": service.pool.events.oldest, "events": [asdict(event) for event in found]}

    @router.get("/gpus")
    def gpus() -> dict[str, Json]:
        """The machine's GPUs and their memory in MB, or why there are none."""
        reading = read_gpus()
        shown = ("index", "uuid", "name", "total_mb", "used_mb", "utilisation_percent", "is_stub")
        return {
            "absent": reading.absent,
            "driver": reading.driver,
            "gpus": [{name: getattr(gpu, name) for name in shown} for gpu in reading.gpus],
        }

    @router.get("/summary")
    async def summary() -> dict[str, Json]:
        """How many activations wait and run, and how many containers were removed, by reason."""
        return {
            "queued": service.pool.queued,
            "in_flight": service.in_flight,
            "removals": dict(service.pool.removals),
        }

    @router.get("/container-factory")
    async def container_factory() -> dict[str, Json]:
        """What containers are here, what makes them, and what they cannot do on this machine."""
        return {"name": service.factory.name, "notes": service.factory.notes}

    @router.get("/engine", include_in_schema=False)
    async def engine() -> None:
        raise ApiError(404, "/engine is now /container-factory")

    return router
