"""``tyche platform``: the embedded platform that speaks OpenWhisk's REST interface, and deploying to any OpenWhisk."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tyche_env.errors import UserError
from tyche_env.options import refuse_variable, renamed

if TYPE_CHECKING:
    from real_backend.client import Credentials
    from real_backend.containers.factory import ContainerFactory
    from real_backend.platform.state import StateFolder

_STATE = click.option(
    "--state",
    "state_folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the platform's state.  [default: ~/.local/state/tyche/platform]",
)

_CA = click.option(
    "--ca",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="PEM file of the certificate's authority, or of the certificate itself.  [env: OW_CA]",
)
_INSECURE = click.option("--insecure", is_flag=True, help="Accept any certificate.  [env: OW_INSECURE=1]")

_T = TypeVar("_T")


@click.group()
def platform() -> None:
    """Run an embedded OpenWhisk-compatible platform, and deploy to any OpenWhisk.

    \b
    Examples:
      tyche platform up --detach
      tyche platform status
      tyche platform down
    """  # noqa: D301 (click wants the character)


@platform.command()
@_STATE
@click.option(
    "--containers",
    type=click.Choice(["process", "docker"]),
    default="process",
    envvar="TYCHE_CONTAINERS",
    show_default=True,
    show_envvar=True,
    help="What containers are.",
)
@renamed("--engine", "--containers")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=3233, show_default=True, help="0 takes a free one.")
@click.option("--certificate", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="PEM, for https.")
@click.option("--private-key", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Of the certificate.")
@click.option("--nodes", type=click.IntRange(1, 1000), default=1, show_default=True, help="Logical nodes.")
@click.option("--memory-mb", type=click.IntRange(128), default=4096, show_default=True, help="MiB of each node.")
@click.option("--max-action-mb", type=click.IntRange(128), help="MiB an action may ask for.  [default: a node's]")
@click.option("--gpu", "gpus", multiple=True, help="A GPU for the nodes in turn, as CUDA_VISIBLE_DEVICES names it.")
@click.option("--pause-after-s", type=click.FloatRange(0), default=10.0, show_default=True)
@click.option("--no-pause", is_flag=True, help="Never pause an idle container.")
@click.option("--keep-alive-s", type=click.FloatRange(0), default=600.0, show_default=True)
@click.option("--no-keep-alive", is_flag=True, help="Never remove an idle container but for memory.")
@click.option("--stem-cells", multiple=True, metavar="KIND,MIB,COUNT", help="Containers each node keeps ready.")
@click.option("--per-minute", type=click.IntRange(1), help="Activations accepted in a minute.")
@click.option("--concurrent", type=click.IntRange(1), help="Activations that may be in flight.")
@click.option("--worker-options", default="", help="For `python -m real_backend.worker` in tyche containers.")
@click.option("--mount", "mounts", multiple=True, type=click.Path(exists=True, path_type=Path), help="Shown in Docker.")
@click.option(
    "--env",
    "variables",
    multiple=True,
    metavar="NAME[=VALUE]",
    help="A variable for all containers; NAME alone keeps its value off the command line.",
)
@click.option("--like-openwhisk", is_flag=True, help="Treat containers as a genuine Apache OpenWhisk does.")
@click.option(
    "--time-scale",
    type=click.FloatRange(0, 1, min_open=True),
    help="With --like-openwhisk: what the times of the platform are multiplied by, for tests.",
)
@click.option("--detach", is_flag=True, help="Return when it listens; it runs on in the background.")
def up(state_folder: Path | None, detach: bool, **options: Any) -> None:
    """Start the platform; Ctrl-C (or `tyche platform down`) stops it and removes its containers.

    \b
    Examples:
      tyche platform up --nodes 2 --memory-mb 2048
      tyche platform up --containers docker --detach
    """  # noqa: D301 (click wants the character)
    from real_backend.platform.server import Listen, run

    refuse_variable("TYCHE_ENGINE", "TYCHE_CONTAINERS", os.environ)
    state = _state(state_folder)
    config = _config(options)
    if options["like_openwhisk"]:
        config = config.like_openwhisk(options["time_scale"] or 1.0)
    elif options["time_scale"] is not None:
        raise UserError("--time-scale: needs --like-openwhisk as well")
    if options["private_key"] is not None and options["certificate"] is None:
        raise UserError("--private-key: needs --certificate as well")
    if detach:
        _detach(state)
        return
    listen = Listen(options["host"], options["port"], options["certificate"], options["private_key"])
    page = config.behaviour.tells_containers
    run(config, listen, state, lambda url, factory: _greet(url, factory, state, page))


def _state(folder: Path | None) -> StateFolder:
    from real_backend.platform.state import StateFolder, default_folder

    return StateFolder((folder or default_folder()).absolute())


def _credentials(state_folder: Path | None) -> Credentials:
    """Of the running platform, unless OW_APIHOST names another; else what the environment or ~/.wskprops says."""
    from real_backend.client import Credentials

    state = _state(state_folder)
    url = None if "OW_APIHOST" in os.environ else state.url
    return Credentials.find({**os.environ, "OW_APIHOST": url, "OW_AUTH": state.key} if url else None)


def _config(options: dict[str, Any]) -> Any:
    from pydantic import ValidationError

    from real_backend.embedded import container_environment
    from real_backend.functions.weights import weights_folder
    from real_backend.platform.config import Limits, NodeSpec, PlatformConfig, StemCells

    memory, gpus = options["memory_mb"], options["gpus"]
    nodes = tuple(
        NodeSpec(name=f"invoker{number}", memory_mib=memory, gpus=(gpus[number % len(gpus)],) if gpus else None)
        for number in range(options["nodes"])
    )
    chosen = {
        "memory_max_mib": options["max_action_mb"] or memory,
        "memory_std_mib": min(256, options["max_action_mb"] or memory),
        "invocations_per_minute": options["per_minute"],
        "concurrent_invocations": options["concurrent"],
    }
    environment = container_environment("TZ", "CUDA_VISIBLE_DEVICES")
    for text in options["variables"]:
        name, equals, value = text.partition("=")
        if not name or (not equals and name not in os.environ):
            raise UserError(f"--env {text!r}: say NAME=VALUE, or NAME for a variable that is set here")
        environment[name] = value if equals else os.environ[name]
    weights = weights_folder().absolute()
    try:
        return PlatformConfig(
            nodes=nodes,
            containers=options["containers"],
            limits=Limits.model_validate({name: value for name, value in chosen.items() if value is not None}),
            stem_cells=tuple(StemCells.parse(text) for text in options["stem_cells"]),
            pause_after_s=None if options["no_pause"] else options["pause_after_s"],
            keep_alive_s=None if options["no_keep_alive"] else options["keep_alive_s"],
            worker_arguments=tuple(shlex.split(options["worker_options"])),
            mounts=(*(path.absolute() for path in options["mounts"]), *([weights] if weights.is_dir() else [])),
            environment=environment,
        )
    except ValidationError as error:
        raise UserError("; ".join(each["msg"] for each in error.errors())) from error


def _greet(url: str, factory: ContainerFactory, state: StateFolder, page: bool) -> None:
    key = state.folder / "key"
    click.echo(f"platform at {url} with {factory.name} containers ({'; '.join(factory.notes)}); Ctrl-C stops it")
    shown = f"status page at {url}/status" if page else "like a genuine OpenWhisk, it tells nothing of its containers"
    click.echo(f"key in {key}; {shown}; for clients: OW_APIHOST={url} OW_AUTH=$(cat {key})")


def _detach(state: StateFolder) -> None:
    """Run the same command line without --detach in a session of its own."""
    from real_backend.platform.state import open_private

    if state.running:
        raise UserError(f"{state.folder}: a platform runs already (process {state.process})")
    command = [part for part in sys.argv[1:] if part != "--detach"]
    with open_private(state.log, "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", "from tyche_env.cli import main; main()", *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    while state.url is None or state.process != process.pid:
        if process.poll() is not None:
            lines = state.log.read_text(errors="replace").strip().splitlines() or ["it wrote nothing"]
            raise UserError(f"the platform does not start: {lines[-1].removeprefix('tyche: ')}")
        time.sleep(0.05)
    click.echo(state.log.read_text().strip().replace("Ctrl-C stops it", "`tyche platform down` stops it"))


@platform.command()
@_STATE
def down(state_folder: Path | None) -> None:
    """Stop the platform if it runs, and remove what killed ones left behind, those of replays too.

    \b
    Example:
      tyche platform down
    """  # noqa: D301 (click wants the character)
    from real_backend.platform.sweeping import sweep, sweep_orphans

    state = _state(state_folder)
    process = state.process
    if state.running and process is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGTERM)
        deadline = time.monotonic() + 40
        while state.running and time.monotonic() < deadline:
            time.sleep(0.05)
        if state.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        click.echo(f"stopped the platform (process {process})")
    with state.locked():
        removed = asyncio.run(sweep(state))
    removed += asyncio.run(sweep_orphans())
    for line in removed:
        click.echo(f"removed {line}")
    if process is None and not removed:
        click.echo("nothing runs, and nothing was left")


@platform.command()
@_STATE
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(state_folder: Path | None, as_json: bool) -> None:
    """Show the platform's nodes and containers.

    \b
    Example:
      tyche platform status --json
    """  # noqa: D301 (click wants the character)
    from real_backend.client import Client, Credentials

    state = _state(state_folder)
    url = state.url
    if url is None:
        if as_json:
            click.echo(json.dumps({"running": False}))
        else:
            click.echo(f"no platform runs with the state in {state.folder}")
        return

    async def ask() -> dict[str, Any]:
        async with Client(Credentials(host=url, key=state.key, insecure=True)) as client:
            told: dict[str, Any] = {"container_factory": None, "nodes": None, "containers": None}
            # one that behaves like a genuine OpenWhisk tells nothing of its containers
            if await client.is_embedded():
                told = {
                    "container_factory": await client.container_factory(),
                    "nodes": [node.model_dump() for node in await client.nodes()],
                    "containers": [each.model_dump() for each in await client.containers()],
                }
            about = {"running": True, "url": url, "process": state.process}
            return {**about, **told, "actions": [action.path for action in await client.actions()]}

    found = _asked(ask())
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        _show(found)


def _asked(question: Coroutine[Any, Any, _T]) -> _T:
    """The answer, or the server's refusal as an error of the user's."""
    from real_backend.client import ClientError

    try:
        return asyncio.run(question)
    except ClientError as error:
        raise UserError(str(error)) from error


def _show(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        # In a pipe a row stays one line, whatever its length.
        console = Console(width=400)
    factory = found["container_factory"]
    if factory is None:
        about = "like a genuine OpenWhisk, it tells nothing of its containers"
        console.print(f"platform at {found['url']}, process {found['process']}; {about}")
        console.print(f"actions: {', '.join(found['actions']) or 'none'}", highlight=False)
        return
    console.print(f"platform at {found['url']}, process {found['process']}, {factory['name']} containers")
    console.print("; ".join(factory["notes"]), highlight=False)
    nodes = Table("node", "MiB", "MiB free", "containers", title="nodes", title_justify="left")
    for node in found["nodes"]:
        nodes.add_row(*(str(node[key]) for key in ("name", "memory_mib", "free_mib", "containers")))
    console.print(nodes)
    columns = ("id", "node", "kind", "action", "state", "memory_mib", "used_mb", "activations")
    containers = Table(*columns, title="containers", title_justify="left")
    for each in found["containers"]:
        containers.add_row(*("" if each[key] is None else str(each[key]) for key in columns))
    console.print(containers)
    console.print(f"actions: {', '.join(found['actions']) or 'none'}", highlight=False)


@platform.command()
@_STATE
@click.argument("names", nargs=-1, required=True)
@click.option("--file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Code: .py or .zip.")
@click.option("--kind", help="Kind of a managed runtime, such as python:3.")
@click.option("--image", help="Image of a blackbox action, such as tyche-worker.")
@click.option(
    "--deployment",
    metavar="MAKE",
    help="The pre-loading action server, made of: embedded, kind:KIND (kind:python:3.11) or image:NAME.",
)
@click.option("--functions", help="With --deployment kind:...: module or file of functions.  [default: the catalogue]")
@click.option("--main", help="Name of the function in the code.")
@click.option("--memory-mb", type=click.IntRange(1), default=256, show_default=True, help="MiB.")
@click.option("--timeout-s", type=click.FloatRange(min=0, min_open=True), default=60.0, show_default=True)
@click.option("--logs-mb", type=click.IntRange(0), help="MiB of logs.  [default: the platform's; 0 with --deployment]")
@click.option("--concurrent", type=click.IntRange(1), default=1, help="Activations that will be in flight at once.")
@_CA
@_INSECURE
def deploy(
    state_folder: Path | None,
    names: tuple[str, ...],
    file: Path | None,
    kind: str | None,
    image: str | None,
    deployment: str | None,
    functions: str | None,
    main: str | None,
    memory_mb: int,
    timeout_s: float,
    logs_mb: int | None,
    concurrent: int,
    ca: Path | None,
    insecure: bool,
) -> None:
    """Make or update the actions NAMES ([PACKAGE/]NAME) on the running platform, or on OW_APIHOST / ~/.wskprops.

    \b
    Examples:
      tyche platform deploy hello --file hello.py --kind python:3
      tyche platform deploy slot-0 slot-1 --deployment kind:python:3.11 --functions mine.py --memory-mb 2048
    """  # noqa: D301 (click wants the character)
    from real_backend.client import ActionSpec, Client, Needs
    from real_backend.making import Making
    from real_backend.worker.messages import Settings

    if [kind, image, deployment].count(None) != 2:
        raise UserError("say one of --kind, --image and --deployment")
    limits = {"memory_mib": memory_mb, "timeout_ms": round(timeout_s * 1000), "logs_mib": logs_mb}
    if deployment is not None:
        if file is not None or main is not None:
            raise UserError("--deployment: brings its own code; leave --file and --main out")
        making = Making.parse(deployment, "--deployment")
        if functions is not None and making.how != "kind":
            raise UserError(f"--functions: go along with kind:KIND only; {deployment} has its own")
        reference = functions or "real_backend.functions.catalogue"
        spec = making.spec(Settings(), reference).model_copy(update={**limits, "logs_mib": logs_mb or 0})
    elif functions is not None:
        raise UserError("--functions: goes with --deployment")
    else:
        spec = ActionSpec(kind=kind, image=image, main=main, **limits)
    if file is not None:
        binary = file.suffix == ".zip"
        code = base64.b64encode(file.read_bytes()).decode() if binary else file.read_text(encoding="utf-8")
        spec = spec.model_copy(update={"code": code, "binary": binary})
    credentials = _credentials(state_folder).trusting(ca, insecure)
    needs = Needs(memory_mib=memory_mb, timeout_ms=spec.timeout_ms, logs_mib=spec.logs_mib, concurrent=concurrent)

    async def send() -> None:
        async with Client(credentials) as client:
            await client.check(needs)
            for name in names:
                action = await client.put_action(name, spec)
                click.echo(f"{credentials.host} {action.path} {action.version}")

    _asked(send())


@platform.command()
@_STATE
@click.option(
    "--scenario", metavar="NAME|FILE", help="What is to be played: compares its first window with the limits."
)
@click.option(
    "--deployment",
    metavar="MAKE",
    default="embedded",
    envvar="TYCHE_DEPLOYMENT",
    show_default=True,
    show_envvar=True,
    help="What actions are made of: embedded, kind:KIND (kind:python:3.11) or image:NAME.",
)
@click.option(
    "--functions",
    default="real_backend.functions.catalogue",
    envvar="TYCHE_FUNCTIONS",
    show_envvar=True,
    help="Module or file of functions.  [default: the catalogue]",
)
@click.option("--memory-mb", type=click.IntRange(1), help="MB of a container, without --scenario.  [default: 2048]")
@_CA
@_INSECURE
@click.option("--clean", is_flag=True, help="Only delete what runs have deployed, of runs that go on as well.")
def check(
    state_folder: Path | None,
    scenario: str | None,
    deployment: str,
    functions: str,
    memory_mb: int | None,
    ca: Path | None,
    insecure: bool,
    clean: bool,
) -> None:
    """Ask the running platform, or OW_APIHOST, whether it can do what a replay needs; exit 1 if something would fail.

    \b
    Examples:
      tyche platform check --scenario real-azure --deployment kind:python:3.11
      tyche platform check --clean
    """  # noqa: D301 (click wants the character)
    from real_backend import checking
    from real_backend.client import Client
    from real_backend.making import Making
    from tyche_env.scenario import Scenario

    credentials = _credentials(state_folder).trusting(ca, insecure)
    if scenario is not None and memory_mb is not None:
        raise UserError("--memory-mb: the scenario says how large containers are; leave it out")

    async def tidy() -> list[str]:
        async with Client(credentials) as client:
            return await checking.clean(client)

    if clean:
        names = _asked(tidy())
        for name in names:
            click.echo(f"deleted {name}")
        if not names:
            click.echo("no replay has left anything")
        return
    question = checking.Question(
        Making.parse(deployment),
        functions,
        None if scenario is None else Scenario.load(scenario).world(kernel="tyche"),
        memory_mb or 2048,
        os.environ.get("TYCHE_KEEP_WARM") == "1",
    )

    async def ask() -> bool:
        async with Client(credentials) as client:
            return await checking.check(client, question, click.echo)

    if not _asked(ask()):
        click.get_current_context().exit(1)
