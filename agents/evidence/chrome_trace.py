"""A watched window in Chrome's Trace Event Format, for viewers such as Perfetto or chrome://tracing.

A process is one node under one policy, a thread one container.  Runs are complete events of their container's thread.
What lies in a container may overlap there, so containers and stays are asynchronous events.  Memory is a counter,
evictions are instants of the policy's first process.  The format is Google's "Trace Event Format"; times are in
microseconds from the start of the scored window.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agents.playing.timeline import HELD, KINDS, LOADING, ON_GPU, Timeline
from tyche_env.world import StartType

Event = dict[str, Any]

STAYS = {HELD: "held", LOADING: "loading", ON_GPU: "on a GPU"}
"""Categories of what lies in a container."""


def chrome_trace(timelines: Mapping[str, Timeline]) -> dict[str, Any]:
    """The JSON object of one window.

    Args:
        timelines: by policy.

    Returns:
        ``traceEvents`` and ``displayTimeUnit``.
    """
    events: list[Event] = []
    first = 1
    for policy, seen in timelines.items():
        nodes = 1 + max((node for node, *_ in seen.containers), default=0)
        events += _names(policy, seen, first, nodes)
        events += _spans(seen, first, identity=len(events))
        events += _counters(seen, first)
        first += nodes
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _names(policy: str, seen: Timeline, first: int, nodes: int) -> Iterator[Event]:
    for node in range(nodes):
        yield _meta("process_name", first + node, 0, {"name": f"{policy}: node {node}"})
        yield _meta("process_sort_index", first + node, 0, {"sort_index": first + node})
    for index, (node, slot, *_) in enumerate(seen.containers):
        yield _meta("thread_name", first + node, index + 1, {"name": f"container {index} (slot {slot})"})


def _meta(name: str, pid: int, tid: int, args: Mapping[str, Any]) -> Event:
    return {"ph": "M", "name": name, "pid": pid, "tid": tid, "args": dict(args)}


def _spans(seen: Timeline, first: int, identity: int) -> Iterator[Event]:
    """Runs, containers and stays; asynchronous ones get identities above the given one."""
    places = [(first + node, index + 1) for index, (node, *_) in enumerate(seen.containers)]
    for container, function, start, from_s, to_s in seen.runs:
        pid, tid = places[container]
        yield {
            "ph": "X",
            "name": seen.names[function],
            "cat": f"run,{StartType(start).name.lower()}",
            "pid": pid,
            "tid": tid,
            "ts": _us(from_s),
            "dur": _us(to_s) - _us(from_s),
            "args": {"start_type": StartType(start).name.lower()},
        }
    spans = [
        (index, f"container {index}", "container", from_s, to_s)
        for index, (_, _, from_s, to_s) in enumerate(seen.containers)
    ]
    spans += [
        (container, seen.names[function], STAYS[kind], from_s, to_s)
        for container, function, kind, from_s, to_s in seen.stays
    ]
    for number, (container, name, category, from_s, to_s) in enumerate(spans, start=identity + 1):
        pid, tid = places[container]
        both = {"name": name, "cat": category, "id": hex(number), "pid": pid, "tid": tid}
        yield {"ph": "b", "ts": _us(from_s), **both}
        yield {"ph": "e", "ts": _us(to_s), **both}


def _counters(seen: Timeline, first: int) -> Iterator[Event]:
    """Memory of all nodes in each step, at the step's beginning, and evictions at its end."""
    begins_s = [0.0, *seen.time_s[:-1].tolist()]
    for begin_s, memory_gb, gpu_gb in zip(begins_s, seen.memory_gb.tolist(), seen.gpu_gb.tolist(), strict=True):
        at = {"ph": "C", "pid": first, "tid": 0, "ts": _us(begin_s)}
        used = {kind: round(gb, 6) for kind, gb in zip(KINDS, memory_gb, strict=True)}
        yield {**at, "name": "memory of all nodes, GB", "args": used}
        yield {**at, "name": "GPU memory of all nodes, GB", "args": {"reserved": round(gpu_gb, 6)}}
    for end_s, count in zip(seen.time_s.tolist(), seen.evictions.tolist(), strict=True):
        if count:
            yield {
                "ph": "i",
                "s": "p",
                "name": f"{count} evicted",
                "cat": "eviction",
                "pid": first,
                "tid": 0,
                "ts": _us(end_s),
            }


def _us(second: float) -> int:
    return round(second * 1e6)
