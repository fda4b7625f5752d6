"""Kinds of actions, and the command that starts the action server of each."""

from __future__ import annotations

import base64
import sys
from dataclasses import dataclass
from pathlib import Path

from real_backend.platform.config import PlatformConfig
from real_backend.platform.errors import ApiError
from real_backend.platform.records import Exec

PYTHON = "python:3"
WORKER = "tyche:1"
WORKER_IMAGE = "tyche-worker"
SEQUENCE = "sequence"
_PYTHON_NAMES = (PYTHON, "python:default", f"python:3.{sys.version_info.minor}")


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


def check(what: Exec, limits_bytes: int, sequence_length: int) -> None:
    """Refuse what cannot be run.

    Raises:
        ApiError: 400, the kind is unknown or lacks what it needs; 413, the code is too long.
    """
    if what.code is not None and len(what.code) > limits_bytes:
        raise ApiError(413, f"exec larger than allowed: {len(what.code)} > {limits_bytes} bytes.")
    if what.kind == SEQUENCE:
        if not what.components:
            raise ApiError(400, "No component specified for the sequence.")
        if len(what.components) > sequence_length:
            raise ApiError(400, "Too many actions in the sequence.")
    elif what.kind == "blackbox":
        if not what.image:
            raise ApiError(400, _malformed("'image' must be a string defined in 'exec' for 'blackbox' actions"))
    elif what.kind in _PYTHON_NAMES:
        if not isinstance(what.code, str):
            raise ApiError(400, _malformed(f"'code' must be a string defined in 'exec' for '{what.kind}' actions"))
    elif what.kind != WORKER:
        known = ", ".join(f"'{kind}'" for kind in (PYTHON, WORKER, "blackbox", SEQUENCE))
        raise ApiError(400, _malformed(f"kind '{what.kind}' not in Set({known})"))


def _malformed(message: str) -> str:
    return f"The request content was malformed:\n{message}"


def runtime_of(what: Exec, config: PlatformConfig) -> Runtime | None:
    """How to run ``what``; None if its image is one that the platform does not have."""
    if what.kind == WORKER or (what.kind == "blackbox" and what.image in (WORKER_IMAGE, f"{WORKER_IMAGE}:latest")):
        worker = (sys.executable, "-m", "real_backend.worker", "--host", "{host}", "--port", "{port}")
        where = ("--node", "{node}", "--memory-mb", "{memory_mb}")
        return Runtime(WORKER, (*worker, *where, *config.worker_arguments))
    if what.kind in _PYTHON_NAMES:
        server = str(Path(__file__).with_name("python_runtime.py"))
        return Runtime(PYTHON, (sys.executable, server, "{host}", "{port}"))
    return None


def manifest() -> dict[str, list[dict[str, object]]]:
    """The runtimes that ``GET /`` lists."""
    return {
        family: [{"kind": kind, "default": True, "deprecated": False, "requireMain": False, "attached": True}]
        for family, kind in (("python", PYTHON), ("tyche", WORKER))
    }
