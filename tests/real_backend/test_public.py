"""The public face of the package: every name is there, and none costs anything before it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import real_backend


def test_importing_real_backend_is_light() -> None:
    heavy = ("httpx", "fastapi", "uvicorn", "pydantic", "numpy", "numba", "torch", "tyche_env")
    code = f"import sys, real_backend; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize("name", real_backend.__all__)
def test_every_public_name_is_what_it_is_called(name: str) -> None:
    assert getattr(real_backend, name).__name__ == name


def test_a_function_is_declared_without_what_the_platform_needs() -> None:
    heavy = ("httpx", "fastapi", "numpy", "numba", "torch")
    code = f"import sys; from real_backend import OwnFunction; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_name_that_is_not_public_is_refused_with_those_that_are() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Engine'; it has ActionSpec, Client, "):
        _ = real_backend.Engine
