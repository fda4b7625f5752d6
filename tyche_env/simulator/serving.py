"""What commands take, and the record of a request: shared by the ways of carrying commands out."""

from __future__ import annotations

from tyche_env.codes import ABSENT, DO_LOAD, DO_OFFLOAD, DO_TRANSFER, HELD, LOADING, OFFLOADING, StartType
from tyche_env.control.compiled import inner
from tyche_env.control.draws import noisy
from tyche_env.control.queue import push
from tyche_env.draws import Concern
from tyche_env.metrics import count_request
from tyche_env.state import ClusterState

_INIT, _LIBRARY, _MODEL, _TRANSFER, _INFERENCE = (
    int(c) for c in (Concern.INIT, Concern.LIBRARY, Concern.MODEL, Concern.TRANSFER, Concern.INFERENCE)
)
_LOAD_LIBRARY, _LOAD_MODEL, _LOAD_TRANSFER, _PREWARM_INIT = (
    int(c) for c in (Concern.LOAD_LIBRARY, Concern.LOAD_MODEL, Concern.LOAD_TRANSFER, Concern.PREWARM_INIT)
)


@inner
def push_completion(st: ClusterState, key: int) -> None:
    """Queue the end of something physical."""
    s = st.cluster[0]
    push(st.completions, s.completion_count, key)
    s.completion_count += 1


# -- durations ---------------------------------------------------------------------------------------------------------


@inner
def draw_stages(st: ClusterState, at: int) -> tuple[int, int, int, int, int]:
    """Nominal us of a start's own stages: warming, library, model, transfer, inference (``docs/engine.md``, 5).

    What the start met in progress or found done is 0 here.
    """
    s = st.cluster[0]
    order = st.commands[at]
    f = st.functions[order.function]
    function, ordinal, sigma = order.function, order.ordinal, f.sigma_ppm
    warming = 0
    library = 0
    model = 0
    transfer = 0
    if order.start_type >= StartType.WARM:
        library = noisy(st.tables, f.library_us, sigma, s.seed, _LIBRARY, function, ordinal)
        model = noisy(st.tables, f.model_us, sigma, s.seed, _MODEL, function, ordinal)
        if order.start_type > StartType.WARM:
            warming = noisy(st.tables, f.init_us, sigma, s.seed, _INIT, function, ordinal)
    if order.on_gpu == 1 and order.gpu_before == ABSENT:
        transfer = noisy(st.tables, f.transfer_us, sigma, s.seed, _TRANSFER, function, ordinal)
    if len(st.arrival_duration_us) > 0:
        inference = st.arrival_duration_us[order.request]
    else:
        median_us = f.gpu_inference_us if order.on_gpu == 1 else f.inference_us
        inference = noisy(st.tables, median_us, sigma, s.seed, _INFERENCE, function, ordinal)
    return warming, library, model, transfer, inference


@inner
def draw_creation(st: ClusterState, at: int) -> int:
    """Nominal us of a container's init, ahead of any request."""
    order = st.commands[at]
    f = st.functions[order.function]
    seed = st.cluster[0].seed
    return noisy(st.tables, f.init_us, f.sigma_ppm, seed, _PREWARM_INIT, order.function, order.ordinal)


@inner
def draw_load(st: ClusterState, at: int) -> tuple[int, int]:
    """Nominal us of a load's library and model."""
    order = st.commands[at]
    f = st.functions[order.function]
    seed = st.cluster[0].seed
    library = noisy(st.tables, f.library_us, f.sigma_ppm, seed, _LOAD_LIBRARY, order.function, order.ordinal)
    return library, noisy(st.tables, f.model_us, f.sigma_ppm, seed, _LOAD_MODEL, order.function, order.ordinal)


@inner
def draw_transfer(st: ClusterState, at: int) -> int:
    """Nominal us of a transfer to the GPU ahead of a request."""
    order = st.commands[at]
    f = st.functions[order.function]
    seed = st.cluster[0].seed
    return noisy(st.tables, f.transfer_us, f.sigma_ppm, seed, _LOAD_TRANSFER, order.function, order.ordinal)


@inner
def is_wanted(st: ClusterState, at: int) -> bool:
    """Whether a command is a load, transfer or off-load of a resident that is still there and in that state."""
    order = st.commands[at]
    if order.kind != DO_LOAD and order.kind != DO_TRANSFER and order.kind != DO_OFFLOAD:
        return False
    r = st.residents[order.resident]
    if r.function != order.function or r.container != order.container:
        return False
    if order.kind == DO_LOAD:
        return bool(r.state == LOADING)
    if order.kind == DO_TRANSFER:
        return bool(r.state == HELD and r.gpu_state == LOADING)
    return bool(r.state == OFFLOADING)


# -- records -----------------------------------------------------------------------------------------------------------


@inner
def begin_row(st: ClusterState, at: int) -> int:
    """The log's row for a start, without its stages."""
    s = st.cluster[0]
    order = st.commands[at]
    arrival_us = st.arrival_us[order.request]
    index = s.log_count
    s.log_count += 1
    row = st.log[index]
    row.request = order.request
    row.arrival_us = arrival_us
    row.queue_us = s.now_us - arrival_us
    row.scheduling_us = order.delay_us
    row.function = order.function
    row.node = st.containers[order.container].node
    row.container = order.container
    row.start_type = order.start_type
    row.kept = order.kept
    row.on_gpu = order.on_gpu
    row.status = 0
    return int(index)


@inner
def end_row(
    st: ClusterState, index: int, warming: int, library: int, model: int, transfer: int, inference: int, end_us: int
) -> None:
    """Enter a row's stages and its end."""
    row = st.log[index]
    row.warming_us = warming
    row.library_us = library
    row.model_us = model
    row.transfer_us = transfer
    row.inference_us = inference
    row.end_us = end_us


@inner
def latency_bin(value: int) -> int:
    """Bin of the streaming histogram: exact below 128 us, then 128 bins an octave."""
    octave = 0
    if value >= 1 << 20:
        octave = 12
    while (value >> octave) >= 256:
        octave += 1
    if value < 128:
        return value
    return ((octave + 1) << 7) + ((value >> octave) & 127)


@inner
def add_totals(
    st: ClusterState,
    function: int,
    kind: int,
    kept: int,
    queue_us: int,
    delay_us: int,
    warming_us: int,
    library_us: int,
    model_us: int,
    transfer_us: int,
    latency_us: int,
) -> None:
    """Count a scored request in the streaming sums of its function and in the histograms."""
    slo_us = st.functions[function].slo_us
    total = st.totals[function]
    count_request(
        total, kind, kept, queue_us, delay_us, warming_us, library_us, model_us, transfer_us, latency_us, slo_us
    )
    loading_us = warming_us + library_us + model_us + transfer_us
    st.latency_bins[min(len(st.latency_bins) - 1, latency_bin(latency_us))] += 1
    st.loading_bins[min(len(st.loading_bins) - 1, latency_bin(loading_us))] += 1
