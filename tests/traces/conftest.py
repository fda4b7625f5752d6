"""Tiny files and tables that the tests of traces/ share."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

import traces
from traces import Counts

Writer = Callable[[str, str], Path]

_SHIPPED = Path(traces.__file__).parent / "shipped"


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    """Write a text as a file and return its path; a name that ends in .gz is compressed."""

    def _write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    return _write


@pytest.fixture
def table() -> Callable[..., Counts]:
    """Make counts from rows of numbers."""

    def _table(rows: Sequence[Sequence[int]], triggers: Sequence[str] = (), weights: Sequence[int] = ()) -> Counts:
        functions = len(rows)
        return Counts(
            names=tuple(f"f{i}" for i in range(functions)),
            owners=tuple(f"o{i}" for i in range(functions)),
            apps=("",) * functions,
            triggers=tuple(triggers) or ("http",) * functions,
            counts=np.array(rows, dtype=np.int32),
            first_minute=1,
            duration_ms=np.full(functions, 20.0),
            memory_mb=np.full(functions, 128.0),
            weights=np.array(weights or (1,) * functions, dtype=np.int64),
            source="a test",
            licence="none",
        )

    return _table


@pytest.fixture
def real() -> Callable[[str], Path]:
    """Find a real trace file, or skip the test: one that is not shipped lies where TYCHE_TRACES says."""

    def _real(name: str) -> Path:
        if (_SHIPPED / name).exists():
            return _SHIPPED / name
        path = Path(os.environ.get("TYCHE_TRACES", "")) / name
        if not path.exists():
            pytest.skip(f"{name} is not shipped; TYCHE_TRACES may name a folder that has it")
        return path

    return _real
