"""What one function's choice means for its cluster, in each form."""

from __future__ import annotations

import numpy as np
import pytest

from agents.policies.choices import choice_space, cluster_action, tier_masks
from tyche_env.features import WIDTH
from tyche_env.spaces import column
from tyche_env.wrappers import Tier


def test_a_priority_is_used_for_memory_and_gpu_alike() -> None:
    assert cluster_action("priority", np.array([[0.5, -1.0]])).tolist() == [[[0.5, 0.5], [-1.0, -1.0]]]


def test_a_logit_always_holds_with_its_chance_beyond_the_dead_zone() -> None:
    found = cluster_action("logit", np.array([0.0, np.log(3), -10.0, 10.0]))
    # 0.05 of an action is dead zone; a chance p is at 0.05 + 0.95 p
    assert found[:, 0] == pytest.approx([0.525, 0.05 + 0.95 * 0.75, 0.05, 1.0], abs=1e-4)
    assert (found[:, 0] == found[:, 1]).all()
    assert found.min() > 0.05


def test_tiers_by_hand() -> None:
    assert cluster_action("tiers", np.array([0, 1, 2, 3])).tolist() == [[-1, -1], [0, 0], [1, -1], [1, 1]]
    assert [Tier(k).name for k in range(4)] == ["OFFLOAD", "LEAVE", "MEMORY", "GPU"]


def test_spaces_are_those_of_the_forms() -> None:
    assert choice_space("tiers").n == 4  # type: ignore[attr-defined]
    assert [float(choice_space(form).high[0]) for form in ("priority", "logit")] == [1.0, 10.0]  # type: ignore[attr-defined]


def test_masks_by_hand() -> None:
    # two clusters of three functions: the first without GPUs, and the last function of each is padding
    table = np.zeros((2, 3, WIDTH), np.float32)
    table[:, 0, column("functions", "gpu_mb")] = 500
    table[:, 2, column("functions", "gpu_mb")] = 500
    observation = {
        "functions": table.reshape(2, -1),
        "functions_mask": np.array([[1, 1, 0], [1, 1, 0]], np.float32),
        "gpus_mask": np.array([[0, 0], [0, 1]], np.float32),
    }
    none, plain, full = [0, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]
    assert tier_masks(observation).astype(int).tolist() == [plain, plain, none, full, plain, none]
