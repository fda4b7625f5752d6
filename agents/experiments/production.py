"""Production as a witness: cold starts and instances that a trace records, beside those of the simulator.

Both sides serve the same requests.  The simulator does so without a pre-loader, under a fixed keep-alive, on a cluster
that is large enough: whatever differs is due to the platform's own rules (concurrency of instances, reserved ones,
keep-alive), to what was warm before the recording, and to cold starts that the trace does not tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from traces.errors import TraceError
from traces.huawei2025 import STAGES
from traces.witness import Lives, Witness, lives_of, most_at_once
from tyche_env.codes import StartType
from tyche_env.simulate import simulate
from tyche_env.world import FunctionTable, Prewarm, Settings, World

DEFAULT_COLD_START_MS = 1000.0
"""Assumed where no cold start is recorded."""
_SECOND_US = 1_000_000


@dataclass(frozen=True, eq=False)
class Side:
    """What happened on one side; F functions.

    Attributes:
        name: ``recorded``, or the keep-alive of a simulation.
        cold_starts: (F,) of each function after the warm-up; None: not recorded.
        lives: of the instances.
        busiest: most requests that one instance had at once.
    """

    name: str
    cold_starts: NDArray[np.int64] | None
    lives: Lives
    busiest: int


def compare(
    witness: Witness,
    keep_alive_s: Sequence[float] = (),
    cold_start_ms: float = DEFAULT_COLD_START_MS,
    warm_up_s: float | None = None,
) -> dict[str, Any]:
    """Set the simulator beside what a trace records.

    Args:
        witness: the trace.
        keep_alive_s: of the simulations; none: the one of the trace's authors.
        cold_start_ms: how long a cold start takes of functions for which none is recorded, if none is for any; else
            the mean of all recorded ones.
        warm_up_s: requests before this are served, and not counted; None: the longest keep-alive.

    Returns:
        What was compared, and a row a side.

    Raises:
        TraceError: no keep-alive is known, a number makes no sense, or the warm-up leaves nothing.
        WorldError: more containers than the simulator can hold.
    """
    trace = witness.trace
    if not keep_alive_s and witness.linger_us is None:
        raise TraceError("keep_alive_s: the trace's authors name none of the platform; give some")
    chosen = tuple(keep_alive_s) or ((witness.linger_us or 0) / _SECOND_US,)
    for name, values in (
        ("keep_alive_s", chosen),
        ("cold_start_ms", (cold_start_ms,)),
        ("warm_up_s", (warm_up_s or 0,)),
    ):
        if not all(0 <= value < 1e9 for value in values):
            raise TraceError(f"{name}: needs a number of 0 or more, got {', '.join(f'{value:g}' for value in values)}")
    from_us = round((max(chosen) if warm_up_s is None else warm_up_s) * _SECOND_US)
    if from_us >= trace.end_us:
        whole = f"the trace lasts {trace.end_us / _SECOND_US:g} s"
        raise TraceError(f"warm_up_s: {from_us / _SECOND_US:g} s leave nothing to count, {whole}; give less")
    requests = np.bincount(trace.arrival_function[trace.arrival_us >= from_us], minlength=len(trace.names))
    cold_us = _cold_start_us(witness, cold_start_ms)
    sides = [_recorded(witness, from_us)]
    sides += [_simulated(witness, seconds, cold_us, from_us) for seconds in chosen]
    return {
        "source": trace.metadata.source,
        "requests": int(requests.sum()),
        "functions": int((requests > 0).sum()),
        "warm_up_s": from_us / _SECOND_US,
        "scored_s": (trace.end_us - from_us) / _SECOND_US,
        "cold_start_ms": float(cold_us.mean() / 1000),
        "recorded_stages_ms": _stages_ms(witness),
        "cold_starts_of_other_functions": 0 if witness.cold_starts is None else witness.cold_starts.others,
        "sides": [_row(side, requests, from_us, trace.end_us) for side in sides],
        "by_function": [
            {
                "function": trace.names[function],
                "requests": int(requests[function]),
                "cold_starts": {
                    side.name: None if side.cold_starts is None else int(side.cold_starts[function]) for side in sides
                },
            }
            for function in np.argsort(-requests, kind="stable")
        ],
    }


def _cold_start_us(witness: Witness, otherwise_ms: float) -> NDArray[np.int64]:
    """(F,) mean recorded cold start of each function; that of all where it has none."""
    functions = len(witness.trace.names)
    recorded = witness.cold_starts
    if recorded is None or len(recorded.function) == 0:
        return np.full(functions, round(otherwise_ms * 1000), np.int64)
    count = np.bincount(recorded.function, minlength=functions)
    total = np.bincount(recorded.function, recorded.total_us, functions)
    return np.rint(np.where(count > 0, total / np.maximum(count, 1), recorded.total_us.mean())).astype(np.int64)


def _stages_ms(witness: Witness) -> dict[str, float]:
    """What a recorded cold start takes in the mean, stage by stage; nothing if none is recorded."""
    recorded = witness.cold_starts
    if recorded is None or len(recorded.function) == 0:
        return {}
    return dict(zip(STAGES, (recorded.stages_us.mean(axis=0) / 1000).tolist(), strict=True))


def _recorded(witness: Witness, from_us: int) -> Side:
    trace, started = witness.trace, witness.cold_starts
    end_us = trace.arrival_us + trace.duration_us
    cold = None
    if started is not None:
        cold = np.bincount(started.function[started.time_us >= from_us], minlength=len(trace.names))
    known = witness.instance >= 0
    busiest = most_at_once(
        witness.instance[known], trace.arrival_us[known], end_us[known], int(witness.instance.max(initial=0)) + 1
    )
    lives = lives_of(witness.instance, trace.arrival_us, end_us, witness.linger_us or 0)
    return Side("recorded", cold, lives, int(busiest.max()))


def _simulated(witness: Witness, keep_alive_s: float, cold_us: NDArray[np.int64], from_us: int) -> Side:
    trace = witness.trace
    keep_alive_us = round(keep_alive_s * _SECOND_US)
    log = simulate(_world(witness, keep_alive_us, cold_us)).log
    assert log is not None
    cold = log["start_type"] == StartType.COLD
    after = cold & (log["arrival_us"] >= from_us)
    # a container's place is used again: each cold start there is another container
    order = np.argsort(log["container"], kind="stable")
    container = np.zeros(len(log), np.int64)
    container[order] = np.cumsum(cold[order])
    return Side(
        f"keep-alive {keep_alive_s:g} s",
        np.bincount(log["function"][after], minlength=len(trace.names)),
        lives_of(container, log["arrival_us"], log["end_us"], keep_alive_us),
        1,
    )


def _world(witness: Witness, keep_alive_us: int, cold_us: NDArray[np.int64]) -> World:
    """The requests on one node that holds all containers that they can need, each of 1 MB.

    Without a pre-loader a container serves the function that it was created for, and no other.
    """
    trace = witness.trace
    function = trace.arrival_function
    at_once = most_at_once(
        function, trace.arrival_us, trace.arrival_us + cold_us[function] + trace.duration_us, len(trace.names)
    )
    unused = dict.fromkeys(
        ("gpu_mb", "library_us", "model_us", "transfer_us", "inference_us", "gpu_inference_us", "sigma_ppm"), 0
    )
    one = {"tenant": 0, "container_mb": 1, "hold_mb": 1, "peak_mb": 1} | unused
    table = FunctionTable.from_rows([one | {"init_us": int(us)} for us in cold_us])
    return World(
        functions=table,
        # one more each, for a request that comes at the instant at which another ends
        node_memory_mb=np.array([int((at_once + 1).sum())]),
        gpu_node=np.zeros(0, np.int64),
        gpu_memory_mb=np.zeros(0, np.int64),
        arrival_us=trace.arrival_us,
        arrival_function=function,
        arrival_duration_us=trace.duration_us,
        score_from_us=0,
        end_us=trace.end_us,
        settings=Settings(prewarm=Prewarm.KEEP_ALIVE, keep_alive_us=keep_alive_us),
        names=trace.names,
    ).validate()


def _row(side: Side, requests: NDArray[np.int64], from_us: int, until_us: int) -> dict[str, Any]:
    mean, most = side.lives.at_once(from_us, until_us)
    cold = None if side.cold_starts is None else int(side.cold_starts.sum())
    return {
        "side": side.name,
        "cold_starts": cold,
        "cold_start_rate": None if cold is None else cold / int(requests.sum()),
        "new_instances": side.lives.begun(from_us, until_us),
        "instances_mean": mean,
        "instances_peak": most,
        "requests_at_once_in_an_instance": side.busiest,
    }
