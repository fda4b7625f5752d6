"""A profile without measuring: from a checkpoint's size and the bandwidths of a machine.

model load = size / disk bandwidth; transfer = size / link bandwidth; memory held = size + libraries; at the peak the
checkpoint may be there twice; on the GPU size + context + activations.  What nobody measured is marked as assumed.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from tyche_env.profiles import FunctionProfile, ProfileError


@dataclass(frozen=True, slots=True)
class Machine:
    """What a model meets; the defaults are assumed round numbers.

    Attributes:
        disk_mb_s: reading the checkpoint and building the model from it.
        link_mb_s: from CPU memory to the GPU (PCIe 4 with pinned memory: 25 GB/s).
        context_mb: GPU memory of a process before any model.
        container_init_ms: creation and initialisation of a container.
    """

    disk_mb_s: float = 1000.0
    link_mb_s: float = 25_000.0
    context_mb: int = 400
    container_init_ms: float = 530.0


@dataclass(frozen=True, slots=True)
class Library:
    """What a model's libraries cost; the default is torch as measured for the catalogue ``measured``.

    Attributes:
        import_ms: importing them.
        memory_mb: their memory.
    """

    import_ms: float = 1615.0
    memory_mb: int = 208


def estimate(
    name: str,
    checkpoint_mb: float,
    inference_ms: float,
    *,
    gpu_inference_ms: float | None = None,
    activations_mb: int = 0,
    copies_at_peak: float = 1.0,
    machine: Machine | None = None,
    library: Library | None = None,
    container_mb: int | None = None,
    sigma: float = 0.1,
) -> FunctionProfile:
    """Estimate a profile.

    Args:
        name: of the function.
        checkpoint_mb: size of the weights in MB of 10^6 bytes.
        inference_ms: one inference on the CPU.
        gpu_inference_ms: one inference on the GPU; None: it never uses one.
        activations_mb: GPU memory of an inference beside the weights.
        copies_at_peak: how often the weights are in memory while they load; 2 for ``torch.load`` into a built model.
        machine: bandwidths.
        library: what is imported.
        container_mb: size of the container; None: the peak, rounded up to a multiple of 256.
        sigma: of the logarithm of every latency.

    Raises:
        ProfileError: a number is out of range; the message names it.
    """
    machine, library = machine or Machine(), library or Library()
    for what, value in (
        ("checkpoint_mb", checkpoint_mb),
        ("disk_mb_s", machine.disk_mb_s),
        ("link_mb_s", machine.link_mb_s),
    ):
        if not 0 < value < 1e9:
            raise ProfileError(f"profile {name}: {what} must be positive, got {value}")
    if not 1 <= copies_at_peak <= 10:
        raise ProfileError(f"profile {name}: copies_at_peak must lie in 1..10, got {copies_at_peak}")
    hold_mb = round(checkpoint_mb) + library.memory_mb
    peak_mb = round(checkpoint_mb * copies_at_peak) + library.memory_mb
    on_gpu = gpu_inference_ms is not None
    try:
        return FunctionProfile(
            name=name,
            container_init_ms=machine.container_init_ms,
            library_ms=library.import_ms,
            model_ms=round(1000.0 * checkpoint_mb / machine.disk_mb_s, 1),
            transfer_ms=round(1000.0 * checkpoint_mb / machine.link_mb_s, 1) if on_gpu else 0.0,
            inference_ms=inference_ms,
            gpu_inference_ms=gpu_inference_ms if gpu_inference_ms is not None else 0.0,
            hold_mb=hold_mb,
            peak_mb=peak_mb,
            gpu_mb=round(checkpoint_mb) + machine.context_mb + activations_mb if on_gpu else 0,
            container_mb=container_mb or -(-peak_mb // 256) * 256,
            sigma=sigma,
            source=f"estimated from a checkpoint of {checkpoint_mb:g} MB: disk {machine.disk_mb_s:g} MB/s, "
            f"link {machine.link_mb_s:g} MB/s, libraries {library.memory_mb} MB, GPU context {machine.context_mb} MB, "
            f"activations {activations_mb} MB",
            assumed=tuple(
                column
                for column in FunctionProfile.model_fields
                if column.endswith(("_ms", "_mb")) and column not in ("inference_ms", "gpu_inference_ms")
            ),
        )
    except ValidationError as error:
        first = error.errors()[0]
        place = f"{first['loc'][0]}: " if first["loc"] else ""
        raise ProfileError(f"profile {name}: {place}{first['msg'].removeprefix('Value error, ')}") from None
