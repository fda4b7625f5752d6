"""``python -m real_backend.worker``: run the action server of one container."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import socket
import sys
import tempfile
from pathlib import Path

from real_backend.functions.protocol import FunctionError, load_functions
from real_backend.worker.manager import Manager, Starter
from real_backend.worker.memory import Cgroup
from real_backend.worker.process import Launcher, ZygoteLauncher
from real_backend.worker.server import SECRET_VARIABLE, ActionServer

# One thread a function, as the profiles assume; and no look at the network for models that are on disk.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "PYTHONUNBUFFERED": "1",
}


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and serve until SIGTERM or SIGINT; 2 and one line for a mistake in it."""
    options = _parser().parse_args(arguments)
    try:
        asyncio.run(_serve(options))
    except (FunctionError, LookupError, OSError) as error:
        print(f"python -m real_backend.worker: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m real_backend.worker", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8080, help="port to listen on; 0 takes a free one")
    parser.add_argument(
        "--functions", default="real_backend.functions.catalogue", help="module or .py file that declares FUNCTIONS"
    )
    parser.add_argument("--only", action="append", metavar="NAME", help="offer only these of them; may be repeated")
    parser.add_argument(
        "--memory-mb", type=float, help="the container's memory, in 10^6 bytes; by default its cgroup's"
    )
    parser.add_argument("--node", default=socket.gethostname(), help="name of the node in every reply")
    parser.add_argument("--gpu", help="NVML's index, or UUID, of the GPU to use; CUDA_VISIBLE_DEVICES by default")
    parser.add_argument("--weights", help="folder of the made weights (TYCHE_WEIGHTS)")
    parser.add_argument(
        "--start",
        choices=("fresh", "zygote"),
        default="fresh",
        help="a fresh interpreter for each function, or a fork of one that has imported its library",
    )
    parser.add_argument(
        "--sentinels",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="end each activation's logs with OpenWhisk's line",
    )
    parser.add_argument("--until-eof", action="store_true", help="stop, too, when standard input ends")
    parser.add_argument(
        "--user-base", type=int, help="run the n-th function as the unprivileged user with this id plus n; needs root"
    )
    return parser


async def _serve(options: argparse.Namespace) -> None:
    # whoever gave it to us speaks to us alone; functions need not know it
    secret = os.environ.pop(SECRET_VARIABLE, None)
    if options.user_base is not None and (os.geteuid() != 0 or options.start == "zygote"):
        raise FunctionError("--user-base: needs root, and does not go with --start zygote")
    reference = options.functions
    if reference.endswith(".py"):
        reference = str(Path(reference).resolve())
    functions = load_functions(reference)
    users = {} if options.user_base is None else {name: options.user_base + n for n, name in enumerate(functions)}
    if options.only:
        unknown = set(options.only) - set(functions)
        if unknown:
            raise FunctionError(f"--only {sorted(unknown)[0]}: {reference} has {', '.join(functions)}")
        functions = {name: functions[name] for name in options.only}
    gpu_uuid = _gpu_uuid(options.gpu)
    environment = {**os.environ, **_ENVIRONMENT, "CUDA_VISIBLE_DEVICES": gpu_uuid or ""}
    if options.weights is not None:
        environment["TYCHE_WEIGHTS"] = str(Path(options.weights).resolve())
    folders = {name: _folder_of(user) for name, user in users.items() if name in functions}
    starter: Starter
    if options.start == "zygote":
        starter = ZygoteLauncher(reference, environment, {name: f.library for name, f in functions.items()})
    else:
        starter = Launcher(reference, environment, users, folders)
    cgroup = Cgroup()
    memory_mb = options.memory_mb if options.memory_mb is not None else cgroup.limit_mb()
    server = ActionServer(
        Manager(functions, starter, memory_mb, options.start, cgroup),
        environment,
        options.node,
        gpu_uuid,
        options.sentinels,
        secret=secret,
    )
    listening = socket.create_server((options.host, options.port))
    # Process 1 of a container ignores signals that it has no handler for.
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if options.until_eof:
        asyncio.get_running_loop().add_reader(0, _stop_at_eof, stop)
    host, port = listening.getsockname()[:2]
    print(f"listening on http://{host}:{port}", file=sys.stderr, flush=True)
    await server.serve(listening, stop)
    for folder in folders.values():
        shutil.rmtree(folder, ignore_errors=True)


def _folder_of(user: int) -> str:
    """A folder for the temporary files of a user, below ours, through which it may pass."""
    ours = Path(tempfile.gettempdir())
    if not ours.stat().st_mode & 0o001:
        ours.chmod(0o711)
    folder = tempfile.mkdtemp(prefix="tyche-")
    os.chown(folder, user, user)
    return folder


def _stop_at_eof(stop: asyncio.Event) -> None:
    if not os.read(0, 1024):
        asyncio.get_running_loop().remove_reader(0)
        stop.set()


def _gpu_uuid(which: str | None) -> str | None:
    which = which or os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0]
    if which in ("", "-1"):
        return None
    from real_backend.telemetry import Telemetry

    with Telemetry() as telemetry:
        return telemetry.read().find(which).uuid


if __name__ == "__main__":
    sys.exit(main())
