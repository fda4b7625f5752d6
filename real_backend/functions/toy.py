"""Functions that import nothing and load nothing: they wait and allocate as told, for tests and demonstrations."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from real_backend.functions.protocol import Resources


@dataclass(frozen=True, slots=True)
class Toy:
    """A function whose stages take the time and memory that it is told.

    Its answer is the sum of the payload's ``numbers``, so that a test can check it.  ``{"sleep_ms": t}`` makes one
    inference longer, ``{"allocate_mb": m}`` makes it take memory, ``{"fail": true}`` makes it raise,
    ``{"exit": code}`` ends its process, ``{"print": text}`` prints, ``{"touch": path}`` makes a file when the inference
    begins.  Its GPU is make-believe: a move waits.

    Attributes:
        resources: what it declares.
        library_ms: how long the import of its libraries takes.
        model_ms: how long its model takes to load.
        model_mb: memory its model takes, in MB of 10^6 bytes.
        transfer_ms: how long a move to the GPU or back takes.
        inference_ms: how long one inference takes.
        corrupt: whether its load fails.
        library: see the protocol.
    """

    resources: Resources
    library_ms: float = 0
    model_ms: float = 0
    model_mb: int = 0
    transfer_ms: float = 0
    inference_ms: float = 0
    corrupt: bool = False
    library: str = "toy"

    def libraries(self) -> None:
        """Import a make-believe module; like any other, it takes its time only once a process."""
        if f"make-believe {self.library}" not in sys.modules:
            time.sleep(self.library_ms / 1e3)
            sys.modules[f"make-believe {self.library}"] = ModuleType(self.library)

    def load(self) -> bytearray:
        """Wait as long as a load takes and allocate the model, every page of it touched."""
        time.sleep(self.model_ms / 1e3)
        if self.corrupt:
            raise EOFError("the model file ends too early")
        return bytearray(b"\x01") * (self.model_mb * 1_000_000)

    def infer(self, model: bytearray, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Add numbers up."""
        if payload.get("print"):
            print(payload["print"])
        if "touch" in payload:
            Path(payload["touch"]).touch()
        if payload.get("fail"):
            raise RuntimeError("told to fail")
        if "exit" in payload:
            raise SystemExit(payload["exit"])
        extra = bytearray(b"\x01") * (int(payload.get("allocate_mb", 0)) * 1_000_000)
        time.sleep((self.inference_ms + payload.get("sleep_ms", 0)) / 1e3)
        numbers = payload.get("numbers", [])
        if not isinstance(numbers, list):
            raise ValueError(f"numbers: must be a list, got {type(numbers).__name__}")
        return {"sum": sum(numbers), "model_mb": (len(model)) // 1_000_000, "extra_mb": len(extra) // 1_000_000}

    def to_gpu(self, model: bytearray) -> bytearray:
        """Wait as long as the move takes."""
        time.sleep(self.transfer_ms / 1e3)
        return model

    def to_cpu(self, model: bytearray) -> bytearray:
        """Wait as long as the move takes."""
        return self.to_gpu(model)


FUNCTIONS = {
    "toy": Toy(Resources(30, 40), model_mb=10),
    "toy-slow": Toy(Resources(60, 80), library_ms=150, model_ms=250, model_mb=40, inference_ms=20),
    "toy-gpu": Toy(Resources(30, 40, gpu_mb=100), model_mb=10, transfer_ms=30, library="toy-gpu"),
    "toy-big": Toy(Resources(520, 1000), model_mb=500),
    "toy-corrupt": Toy(Resources(30, 40), corrupt=True),
}
