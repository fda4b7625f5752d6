"""The cluster as text and as a picture: nodes, their containers, who sits in them, GPU memory, queues."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tyche_env.codes import ContainerState, ResidentState
from tyche_env.state import ClusterState

_ROW, _GAP, _LABEL, _WIDTH = 26, 8, 12, 720
_PAPER, _FREE, _IDLE, _CREATING = (250, 250, 248), (232, 232, 228), (206, 212, 218), (190, 180, 205)
_EDGE, _BUSY, _GPU_FREE = (90, 96, 104), (52, 58, 64), (220, 232, 222)
_GOLDEN = 0.618033988749895


def _containers(state: ClusterState, node: int) -> Iterator[tuple[int, Any]]:
    """Live containers of a node, by slot."""
    rows = state.containers[: int(state.cluster["container_fresh"][0])]
    for slot in np.flatnonzero((rows["state"] != ContainerState.UNUSED) & (rows["node"] == node)):
        yield int(slot), rows[slot]


def _residents(state: ClusterState, container: Any) -> Iterator[Any]:
    """Residents of a container, newest first."""
    slot = int(container["resident_head"])
    while slot >= 0:
        yield state.residents[slot]
        slot = int(state.residents[slot]["container_next"])


def _name(names: Sequence[str], function: int) -> str:
    return names[function] if function < len(names) else f"f{function}"


def ansi(state: ClusterState, names: Sequence[str] = ()) -> str:
    """One line a node, then one a container: ``run f``, or what it holds (``*`` on the GPU, ``~`` loading).

    Args:
        state: the tables.
        names: names of the functions.
    """
    s = state.cluster[0]
    held = int(state.functions["held_copies"].sum() + state.functions["gpu_copies"].sum())
    lines = [f"t = {s['now_us'] / 1e6:.1f} s   waiting {s['queued']}   held {held}"]
    for node, row in enumerate(state.nodes):
        line = (
            f"node {node}: {row['memory_mb']} MB = {row['busy_mb']} busy + {row['idle_mb']} idle "
            f"({row['preload_mb']} pre-loaded) + {row['free_mb']} free"
        )
        gpus = [f"{g['memory_mb'] - g['free_mb']}/{g['memory_mb']}" for g in state.gpus if g["node"] == node]
        lines.append(line + (f", GPU {' '.join(gpus)} MB" if gpus else "") + f", queue {row['queue_length']}")
        for slot, container in _containers(state, node):
            if container["state"] == ContainerState.CREATING:
                content = "starting"
            elif container["state"] == ContainerState.BUSY:
                content = f"run {_name(names, int(container['owner']))[:_LABEL]}"
            else:
                content = " ".join(
                    _name(names, int(r["function"]))[:_LABEL]
                    + ("~" if r["state"] == ResidentState.LOADING else "")
                    + ("*" if r["gpu_state"] == ResidentState.HELD else "")
                    for r in _residents(state, container)
                )
            lines.append(f"  [{slot:>3}] {container['size_mb']} MB  {content or '-'}")
    return "\n".join(lines)


def _colour(function: int) -> tuple[int, int, int]:
    """A colour of its own for every function: hues a golden angle apart."""
    hue = (function * _GOLDEN) % 1.0 * 6.0
    x = 1 - abs(hue % 2 - 1)
    rgb = [(1, x, 0), (x, 1, 0), (0, 1, x), (0, x, 1), (x, 0, 1), (1, 0, x)][int(hue) % 6]
    return tuple(int(70 + 150 * c) for c in rgb)  # type: ignore[return-value]


def rgb_array(state: ClusterState, names: Sequence[str] = ()) -> NDArray[np.uint8]:
    """A picture: one bar a node, with its containers side by side and their residents inside; below it its GPUs.

    A dark container runs; colours are functions; a half-height block still loads; a frame in the colour of the bar's
    background is free memory.  The red mark at the right end grows with the node's queue.

    Args:
        state: the tables.
        names: not used; there is no text in the picture.
    """
    gpus_of = [np.flatnonzero(state.gpus["node"] == node) for node in range(len(state.nodes))]
    height = sum(_ROW + _GAP + (_GAP if len(gpus) else 0) for gpus in gpus_of) + _GAP
    picture = np.empty((height, _WIDTH, 3), np.uint8)
    picture[:] = _PAPER
    top = _GAP
    for node, row in enumerate(state.nodes):
        scale = (_WIDTH - 2 * _GAP - 20) / float(row["memory_mb"])
        end = _GAP + int(row["memory_mb"] * scale)
        picture[top : top + _ROW, _GAP:end] = _FREE
        left = float(_GAP)
        for _, container in _containers(state, node):
            right = left + container["size_mb"] * scale
            _draw_container(picture[top : top + _ROW, int(left) : int(right)], state, container)
            left = right
        waiting = min(_ROW, int(row["queue_length"]) * 2)
        picture[top + _ROW - waiting : top + _ROW, end + 4 : end + 14] = (200, 60, 50)
        top += _ROW + 2
        if len(gpus_of[node]):
            width = (end - _GAP) / len(gpus_of[node])
            for place, gpu in enumerate(gpus_of[node]):
                g = state.gpus[gpu]
                left = _GAP + place * width
                used = (width - 2) * (1 - g["free_mb"] / g["memory_mb"])
                picture[top : top + _GAP - 2, int(left) : int(left + width - 2)] = _GPU_FREE
                picture[top : top + _GAP - 2, int(left) : int(left + used)] = (60, 140, 90)
            top += _GAP
        top += _GAP - 2
    return picture


def _draw_container(box: NDArray[np.uint8], state: ClusterState, container: Any) -> None:
    """Paint one container into its part of the picture."""
    if box.shape[1] < 3:
        return
    box[:] = _EDGE
    inside = box[1:-1, 1:-1]
    inside[:] = {ContainerState.BUSY: _BUSY, ContainerState.CREATING: _CREATING}.get(
        ContainerState(container["state"]), _IDLE
    )
    if container["state"] == ContainerState.BUSY:
        inside[-8:-3, 2:-2] = _colour(int(container["owner"]))
        return
    left = 0.0
    for resident in _residents(state, container):
        function = state.functions[int(resident["function"])]
        loading = resident["state"] == ResidentState.LOADING
        mb = function["peak_mb"] if loading else function["hold_mb"]
        right = left + inside.shape[1] * float(mb) / float(container["size_mb"])
        top = inside.shape[0] // 2 if loading else 0
        inside[top:, int(left) : int(right)] = _colour(int(resident["function"]))
        if resident["gpu_state"] == ResidentState.HELD:
            inside[:4, int(left) : int(right)] = (60, 140, 90)
        left = right
