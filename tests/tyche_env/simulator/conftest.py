"""Both engines, for rules that are worked out by hand."""

from __future__ import annotations

import pytest

from tests.tyche_env.simulator.strategies import MakeEngine
from tyche_env.simulator.engine import CompiledEngine
from tyche_env.simulator.reference import ReferenceEngine


@pytest.fixture(params=["reference", "compiled"])
def make(request: pytest.FixtureRequest) -> MakeEngine:
    if request.param == "compiled":
        return CompiledEngine
    return lambda world: ReferenceEngine(world, check=True)
