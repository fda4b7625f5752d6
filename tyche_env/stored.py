"""A world as a folder of files, whose arrivals are mapped into memory and not read.

    write_world(world, Path("large"))
    simulate(read_world(Path("large")), record=sink)

Processes that read the same folder share one copy of the arrivals, the system's.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from traces.output import made_folder
from tyche_env.rules import Rules
from tyche_env.world import OPTIONAL_FIELDS, FunctionTable, Settings, World, WorldError

_ABOUT = "world.json"
MAPPED = ("arrival_us", "arrival_function", "arrival_duration_us")
"""Tables that are mapped."""
_TABLES = (
    *MAPPED,
    *("node_memory_mb", "gpu_node", "gpu_memory_mb", "forecast", "network", "node_cores", "node_disk_streams"),
)
_PLAIN = ("score_from_us", "end_us", "clock_us")


def write_world(world: World, folder: Path) -> None:
    """Write a world: one ``.npy`` file a table, and ``world.json`` for the rest.

    Args:
        world: without rules of a user's own, which are code.
        folder: made if it does not exist; files of another world in it are replaced.

    Raises:
        WorldError: the world has rules of its own.
    """
    if world.rules != Rules():
        raise WorldError("rules: a world with rules of your own cannot be written, they are code")
    made_folder(folder)
    for name in _TABLES:
        np.save(folder / f"{name}.npy", getattr(world, name))
    for column in fields(FunctionTable):
        np.save(folder / f"functions-{column.name}.npy", getattr(world.functions, column.name))
    about = {
        "settings": {name: int(value) for name, value in asdict(world.settings).items()},
        "names": list(world.names),
        "profiles": list(world.profiles),
        **{name: int(getattr(world, name)) for name in _PLAIN},
    }
    (folder / _ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def is_world(folder: Path) -> bool:
    """Whether a folder holds a whole world: ``world.json`` is written last."""
    return (folder / _ABOUT).is_file()


def read_world(folder: Path) -> World:
    """The world of a folder; its arrivals are mapped read-only.

    Raises:
        WorldError: a file is missing or does not belong to a world.
    """
    try:
        about: dict[str, Any] = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WorldError(f"{folder}: is no folder of a world (it has no {_ABOUT})") from None
    except json.JSONDecodeError as error:
        raise WorldError(f"{folder / _ABOUT}, line {error.lineno}: is no JSON ({error.msg})") from None
    try:
        defaults = asdict(Settings())
        settings = {name: type(defaults[name])(value) for name, value in about["settings"].items()}
        return World(
            functions=_load_functions(folder),
            **{name: _load(folder, name) for name in _TABLES},
            **{name: about[name] for name in _PLAIN},
            settings=Settings(**settings),
            names=tuple(about["names"]),
            profiles=tuple(about["profiles"]),
        )
    except KeyError as error:
        raise WorldError(f"{folder / _ABOUT}: does not fit this version, see key {error}") from None


def _load_functions(folder: Path) -> FunctionTable:
    names = [column.name for column in fields(FunctionTable)]
    # what may be left out is missing in worlds that were written before there was such a column
    there = [name for name in names if name not in OPTIONAL_FIELDS or (folder / f"functions-{name}.npy").exists()]
    columns = {name: _load(folder, f"functions-{name}") for name in there}
    count = len(columns["tenant"])
    return FunctionTable(**{name: np.full(count, value, np.int64) for name, value in OPTIONAL_FIELDS.items()} | columns)


def _load(folder: Path, name: str) -> Any:
    path = folder / f"{name}.npy"
    try:
        # an empty file cannot be mapped
        mapped = name in MAPPED and path.stat().st_size > 256
        return np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except (FileNotFoundError, ValueError, EOFError) as error:
        raise WorldError(f"{path}: is missing or no whole table ({error})") from None
