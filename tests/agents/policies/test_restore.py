"""Starts that restore a snapshot instead of loading (REAP)."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest

from agents.policies.builtin import POLICIES, RestorePolicy, restored
from agents.policies.policy import PolicyError
from tyche_env.simulate import EngineName, simulate
from tyche_env.world import AfterRun, FunctionTable, Settings, StartType, World

MEMORY, WARM, COLD = StartType.MEMORY, StartType.WARM, StartType.COLD


def table(*hold_mb: int) -> FunctionTable:
    row = {"tenant": 0, "container_mb": 5000, "gpu_mb": 500, "sigma_ppm": 0}
    row |= dict.fromkeys(("init_us", "library_us", "model_us", "transfer_us"), 1_000_000)
    row |= {"inference_us": 400_000, "gpu_inference_us": 100_000}
    return FunctionTable.from_rows([row | {"hold_mb": each, "peak_mb": each} for each in hold_mb])


def test_the_time_grows_with_the_memory_between_its_limits() -> None:
    functions = restored(table(10, 649, 1148, 1648, 4000))
    # 300 ms and 300 ms x 499 / 999 = 149.8 ms
    assert functions.model_us.tolist() == [300_000, 300_000, 449_849, 600_000, 600_000]
    for name in ("init_us", "library_us", "gpu_mb"):
        assert getattr(functions, name).tolist() == [0] * 5


@pytest.mark.parametrize("engine", ["compiled", "reference"])
@pytest.mark.parametrize(("fate", "warm"), [(AfterRun.DISCARD, WARM), (AfterRun.KEEP, MEMORY)])
def test_each_start_restores_unless_the_process_is_there(engine: str, fate: AfterRun, warm: StartType) -> None:
    # A restores 300 ms, B 600 ms; inference 400 ms on the CPU, though there is a GPU.  Kept for 10 s after a run:
    # 0: A, new, to 0.7.  1: A, in its container.  2: B, new.  4: B, in its container.  20: A and 30: B, new.
    world = World(
        functions=table(649, 1648),
        node_memory_mb=np.array([20_000]),
        gpu_node=np.zeros(1, np.int64),
        gpu_memory_mb=np.array([1000]),
        arrival_us=np.array([0, 1, 2, 4, 20, 30]) * 1_000_000,
        arrival_function=np.array([0, 0, 1, 1, 0, 1], np.int32),
        arrival_duration_us=np.zeros(0, np.int64),
        score_from_us=0,
        end_us=40_000_000,
        settings=Settings(keep_alive_us=10_000_000, after_run_platform=fate),
    )
    log = simulate(POLICIES["reap"].equip(world), engine=cast(EngineName, engine)).log
    assert log is not None
    assert log["start_type"].tolist() == [COLD, warm, COLD, warm, COLD, COLD]
    again = [0, 0] if fate == AfterRun.KEEP else [300_000, 600_000]
    assert log["model_us"].tolist() == [300_000, again[0], 600_000, again[1], 300_000, 600_000]
    assert log["end_us"][[0, 2]].tolist() == [700_000, 3_000_000]
    assert not log["on_gpu"].any()


def test_it_cannot_predict() -> None:
    assert isinstance(POLICIES["reap"], RestorePolicy)
    with pytest.raises(PolicyError, match="policy reap: changes the platform"):
        POLICIES["reap"].predict({})
