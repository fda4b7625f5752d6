"""Kinds of actions, and the command that starts the action server of each."""

from __future__ import annotations

import base64
import sys
from dataclasses import dataclass
from pathlib import Path

from real_backend.platform.config import PlatformConfig
from real_backend.platform.errors import ApiError, malformed
from real_backend.platform.records import Exec

PYTHON = "python:3"
WORKER = "tyche:1"
WORKER_IMAGE = "tyche-worker"
SEQUENCE = "sequence"
EXACT_PYTHON = f"python:3.{sys.version_info.minor}"
"""The same kind by the version that is at hand, as OpenWhisk names its kinds; ``python:default`` becomes it."""

_PYTHON_NAMES = (PYTHON, EXACT_PYTHON)


@dataclass(frozen=True)
class Runtime:
    """How to run an action.

    Attributes:
        kind: Name that stem cells are matched by.
        command: Program and arguments, with ``{host}``, ``{port}``, ``{node}`` and ``{memory_mb}`` (10^6 bytes).
    """

    kind: str
    command: tuple[str, ...]


def is_archive(code: str) -> bool:
    """Whether code is a zip archive in base64; some clients send one without saying so."""
    try:
        return base64.b64decode(code[:8], validate=True)[:2] == b"PK"
    except ValueError:
        return False


def check(what: Exec, config: PlatformConfig) -> Exec:
    """What is stored: with the kind's own name, and archives known as such.

    Our own kinds are refused by a platform that behaves as one that has never heard of them.

    Raises:
        ApiError: 400, the kind is unknown or lacks what it needs; 413, the code is too long.
    """
    limits = config.limits
    if what.code is not None and len(what.code) > limits.code_bytes:
        raise ApiError(413, f"exec larger than allowed: {len(what.code)} > {limits.code_bytes} bytes.")
    kind = EXACT_PYTHON if what.kind == "python:default" else what.kind
    if kind == SEQUENCE:
        if not what.components:
            raise ApiError(400, "No component specified for the sequence.")
        if len(what.components) > limits.sequence_length:
            raise ApiError(400, "Too many actions in the sequence.")
    elif kind == "blackbox":
        if not what.image:
            raise malformed("'image' must be a string defined in 'exec' for 'blackbox' actions")
    elif kind == EXACT_PYTHON or (kind == PYTHON and config.behaviour.own_kinds):
        if what.code is None:
            raise malformed(f"'code' must be a string or attachment object defined in 'exec' for '{kind}' actions")
    elif kind != WORKER or not config.behaviour.own_kinds:
        own = (PYTHON, WORKER) if config.behaviour.own_kinds else ()
        known = ", ".join(f"'{each}'" for each in (EXACT_PYTHON, *own, SEQUENCE, "blackbox"))
        raise malformed(f"The specified runtime '{kind}' is not supported by this platform. Valid values are: {known}.")
    return what.model_copy(update={"kind": kind, "binary": what.binary or is_archive(what.code or "")})


def runtime_of(what: Exec, config: PlatformConfig) -> Runtime | None:
    """How to run ``what``; None if its image is one that the platform does not have."""
    if what.kind == WORKER or (what.kind == "blackbox" and what.image in (WORKER_IMAGE, f"{WORKER_IMAGE}:latest")):
        worker = (sys.executable, "-P", "-m", "real_backend.worker", "--host", "{host}", "--port", "{port}")
        where = ("--node", "{node}", "--memory-mb", "{memory_mb}")
        return Runtime(WORKER, (*worker, *where, *config.worker_arguments))
    if what.kind in _PYTHON_NAMES:
        server = str(Path(__file__).with_name("python_runtime.py"))
        return Runtime(PYTHON, (sys.executable, "-P", server, "{host}", "{port}"))
    return None


def manifest(config: PlatformConfig) -> dict[str, list[dict[str, object]]]:
    """The runtimes that ``GET /`` lists."""
    about = {"deprecated": False, "requireMain": False, "attached": True}
    exact: dict[str, object] = {"kind": EXACT_PYTHON, "default": True, **about}
    if not config.behaviour.own_kinds:
        return {"python": [exact]}
    own = {"kind": WORKER, "default": True, **about}
    return {"python": [exact, {"kind": PYTHON, "default": False, **about}], "tyche": [own]}
