"""What the GPUs of this machine say of themselves, through NVML (package ``nvidia-ml-py``, module ``pynvml``).

Where there is no NVML the reading says so and why, instead of failing.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU at one moment; memory in MB of 10^6 bytes.

    Attributes:
        index: NVML's index.
        uuid: what CUDA_VISIBLE_DEVICES and the workers call it.
        name: the product's name.
        total_mb: its memory.
        used_mb: what is taken of it, by whomever.
        utilisation_percent: share of the last sampling period in which it computed.
    """

    index: int
    uuid: str
    name: str
    total_mb: float
    used_mb: float
    utilisation_percent: int

    @property
    def is_stub(self) -> bool:
        """Whether this is the tests' make-believe GPU; no report may show it as a GPU."""
        return "stub" in self.name.lower()


@dataclass(frozen=True, slots=True)
class Reading:
    """All GPUs at one moment.

    Attributes:
        gpus: by index; empty without NVML.
        driver: version of the driver; empty without NVML.
        absent: why there is no GPU; empty if there is one.
    """

    gpus: tuple[Gpu, ...] = ()
    driver: str = ""
    absent: str = ""

    def find(self, which: str) -> Gpu:
        """The GPU with an index or a UUID.

        Raises:
            LookupError: there is none; says why, or which there are.
        """
        for gpu in self.gpus:
            if which in (str(gpu.index), gpu.uuid):
                return gpu
        there = ", ".join(f"{gpu.index} ({gpu.uuid})" for gpu in self.gpus)
        raise LookupError(f"GPU {which}: not found; {f'there are {there}' if there else self.absent}")


class Telemetry:
    """A connection to NVML, to be used as a context manager; without NVML every reading says why there is none."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._absent = ""

    def __enter__(self) -> Telemetry:
        try:
            import pynvml
        except ModuleNotFoundError:
            self._absent = "the package nvidia-ml-py is not installed; pip install 'tyche-env[real]'"
            return self
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            self._absent = f"NVML does not start: {error}"
            return self
        self._nvml = pynvml
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._nvml is not None:
            self._nvml.nvmlShutdown()
            self._nvml = None

    def read(self) -> Reading:
        """Read every GPU; takes about a millisecond each."""
        nvml = self._nvml
        if nvml is None:
            return Reading(absent=self._absent or "NVML is not open")
        try:
            gpus = tuple(self._gpu(index) for index in range(nvml.nvmlDeviceGetCount()))
            return Reading(gpus, _text(nvml.nvmlSystemGetDriverVersion()), "" if gpus else "NVML finds no GPU")
        except nvml.NVMLError as error:
            return Reading(absent=f"NVML failed: {error}")

    def _gpu(self, index: int) -> Gpu:
        nvml = self._nvml
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        return Gpu(
            index=index,
            uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
            name=_text(nvml.nvmlDeviceGetName(handle)),
            total_mb=memory.total / 1e6,
            used_mb=memory.used / 1e6,
            utilisation_percent=int(nvml.nvmlDeviceGetUtilizationRates(handle).gpu),
        )


def _text(value: str | bytes) -> str:
    """Older versions of the binding answer in bytes."""
    return value.decode() if isinstance(value, bytes) else value
