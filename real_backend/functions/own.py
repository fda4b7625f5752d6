"""A function of your own in a few lines: what it imports, how its model loads, how it answers.

    from real_backend import OwnFunction

    def load():
        import numpy
        return numpy.load("weights.npy")

    def infer(model, payload):
        return {"sum": float(model.sum())}

    FUNCTIONS = {"mine": OwnFunction(["numpy"], load, infer, hold_mb=120, peak_mb=200)}

``tyche profile memory FILE.py`` says what to put for ``hold_mb`` and ``peak_mb``.
"""

from __future__ import annotations

import importlib
import math
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from real_backend.functions.protocol import FunctionError, Resources, load_functions

_PROBE = """
import os, sys
from real_backend.functions.protocol import described, load_functions
from real_backend.worker.memory import peak_mb, resident_mb

function = load_functions(sys.argv[1])[sys.argv[2]]
try:
    function.libraries()
    model = function.load()
    function.infer(model, {"seed": 0})
except Exception as error:
    sys.exit(described(sys.argv[1], error))
print("memory", resident_mb(os.getpid()), peak_mb(os.getpid()))
"""


@dataclass(frozen=True, slots=True)
class OwnFunction:
    """A function on the CPU, in the form of :class:`real_backend.functions.protocol.Function`.

    Attributes:
        imports: names of the modules that it imports.
        load_model: loads the model and returns it.
        answer: ``(model, payload) -> answer``; the payload is a mapping, the answer something that JSON can carry.
        hold_mb: memory of its process with libraries and model loaded.
        peak_mb: the most memory that its process takes.
    """

    imports: Sequence[str]
    load_model: Callable[[], Any]
    answer: Callable[[Any, Mapping[str, Any]], Any]
    hold_mb: int
    peak_mb: int

    @property
    def library(self) -> str:
        """The imports, joined."""
        return "+".join(self.imports) or "none"

    @property
    def resources(self) -> Resources:
        """What it declares."""
        return Resources(self.hold_mb, self.peak_mb)

    def libraries(self) -> None:
        """Import them."""
        for name in self.imports:
            importlib.import_module(name)

    def load(self) -> Any:
        """Load the model."""
        return self.load_model()

    def infer(self, model: Any, payload: Mapping[str, Any]) -> Any:
        """Answer a request."""
        return self.answer(model, payload)

    def to_gpu(self, model: Any) -> Any:
        """Never called: it uses no GPU."""
        return model

    def to_cpu(self, model: Any) -> Any:
        """Never called, either."""
        return model


def memory_mb(reference: str) -> dict[str, tuple[int, int]]:
    """Measure each function of a file once: MB held after an inference, and at the peak, in a process of its own.

    Args:
        reference: see :func:`real_backend.functions.protocol.load_functions`.

    Raises:
        FunctionError: a function cannot be imported, loaded or asked.
    """
    found = {}
    for name in load_functions(reference):
        done = subprocess.run([sys.executable, "-c", _PROBE, reference, name], capture_output=True, text=True)
        lines = [line.split() for line in done.stdout.splitlines() if line.startswith("memory ")]
        if done.returncode != 0 or not lines:
            reason = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
            raise FunctionError(f"{reference}, function {name}: cannot be measured ({reason})")
        held, peak = (math.ceil(float(value)) for value in lines[-1][1:])
        found[name] = (held, peak)
    return found
