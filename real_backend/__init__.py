"""Real containers behind the environment: an OpenWhisk-compatible platform, its client, functions with real models.

``import real_backend`` is light: the parts below are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from real_backend.backend import OpenWhiskBackend, RealSettings
    from real_backend.client import ActionSpec, Client, ClientError, Credentials
    from real_backend.functions.own import OwnFunction
    from real_backend.functions.protocol import Function, FunctionError, Resources
    from real_backend.native import NativeBackend
    from real_backend.platform.state import StateFolder

__all__ = [
    "ActionSpec",
    "Client",
    "ClientError",
    "Credentials",
    "Function",
    "FunctionError",
    "NativeBackend",
    "OpenWhiskBackend",
    "OwnFunction",
    "RealSettings",
    "Resources",
    "StateFolder",
]

_HOME = {
    "OpenWhiskBackend": "real_backend.backend",
    "RealSettings": "real_backend.backend",
    "NativeBackend": "real_backend.native",
    "ActionSpec": "real_backend.client",
    "Client": "real_backend.client",
    "ClientError": "real_backend.client",
    "Credentials": "real_backend.client",
    "StateFolder": "real_backend.platform.state",
    "Function": "real_backend.functions.protocol",
    "FunctionError": "real_backend.functions.protocol",
    "OwnFunction": "real_backend.functions.own",
    "Resources": "real_backend.functions.protocol",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'real_backend' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOME[name]), name)
