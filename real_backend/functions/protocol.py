"""How a function is declared: what it imports, how it loads, how it answers, and what it needs."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, cast

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class FunctionError(ValueError):
    """A declaration that cannot be used; the message names the module, the function and what would be right."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What a function needs, in MB of 10^6 bytes.

    Attributes:
        hold_mb: memory of its process with libraries and model loaded.
        peak_mb: the most memory its process takes while it loads and infers; what admission counts.
        gpu_mb: GPU memory of model and context; 0 if it never uses a GPU.
    """

    hold_mb: int
    peak_mb: int
    gpu_mb: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.hold_mb <= self.peak_mb or self.gpu_mb < 0:
            raise FunctionError(
                f"resources need 0 < hold_mb <= peak_mb and gpu_mb >= 0, "
                f"got {self.hold_mb}, {self.peak_mb} and {self.gpu_mb}"
            )


class Function(Protocol):
    """One ML function.  Its module must import its libraries inside the methods, not at the top.

    The action server reads declarations without importing a library; the function's own process calls
    :meth:`libraries`, :meth:`load` and :meth:`infer`, in that order, and times each.
    """

    @property
    def library(self) -> str:
        """Names what :meth:`libraries` imports, such as ``torch``; functions of one name can share a zygote."""

    @property
    def resources(self) -> Resources:
        """What it needs."""

    def libraries(self) -> None:
        """Import everything that :meth:`load` and :meth:`infer` use."""

    def load(self) -> Any:
        """Load the model into CPU memory and return it.  Whatever this raises is reported as a corrupt model."""

    def infer(self, model: Any, payload: Mapping[str, Any]) -> Any:
        """Answer a request with something that JSON can carry.

        Raises:
            ValueError: the payload is not one that the function understands.
        """

    def to_gpu(self, model: Any) -> Any:
        """Move the model to the first visible GPU and return it; called only if ``resources.gpu_mb`` is positive."""

    def to_cpu(self, model: Any) -> Any:
        """Move the model back to CPU memory, free the GPU memory, and return it."""


def load_functions(reference: str) -> dict[str, Function]:
    """Read the functions that a module or a Python file declares.

    Args:
        reference: dotted name of a module, or path of a file that ends in ``.py``; it holds a mapping ``FUNCTIONS``
            from names to functions.

    Returns:
        The functions by name, in the order of the mapping.

    Raises:
        FunctionError: the module cannot be imported, has no ``FUNCTIONS``, or one of them lacks a member.
    """
    module = _import(reference)
    declared = getattr(module, "FUNCTIONS", None)
    if not isinstance(declared, Mapping) or not declared:
        raise FunctionError(f"{reference}: has no mapping FUNCTIONS from names to functions")
    for name, function in declared.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise FunctionError(f"{reference}, function {name!r}: a name has letters, digits, '_', '-' and '.'")
        for member in ("library", "resources", "libraries", "load", "infer", "to_gpu", "to_cpu"):
            if not hasattr(function, member):
                raise FunctionError(
                    f"{reference}, function {name}: lacks {member}, see real_backend.functions.protocol"
                )
    return cast("dict[str, Function]", dict(declared))


def described(reference: str, error: BaseException) -> str:
    """An error of a function in one line, with the innermost line of its module where it went wrong.

    Stands here, since what runs in containers has this package and no other of ours.

    Args:
        reference: see :func:`load_functions`.
        error: what the module or its function raised.
    """
    module = None if reference.endswith(".py") else sys.modules.get(reference)
    home = Path(reference if module is None else module.__file__ or reference).resolve()
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).resolve() == home
    ]
    text = " ".join(str(error).split())
    if isinstance(error, SyntaxError) and error.filename is not None and Path(error.filename).resolve() == home:
        lines, text = [error.lineno or 1], str(error.msg)
    place = f"{home.name}, line {lines[-1]}: " if lines else ""
    return f"{place}{type(error).__name__}: {text}"


def _import(reference: str) -> ModuleType:
    try:
        if not reference.endswith(".py"):
            return importlib.import_module(reference)
        path = Path(reference)
        if not path.is_file():
            raise FunctionError(f"{reference}: is no file")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    except FunctionError:
        raise
    except Exception as error:
        raise FunctionError(f"{reference}: cannot be imported ({described(reference, error)})") from error
