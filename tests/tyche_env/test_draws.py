"""Draws depend on their key alone, follow their distribution, and are the same in plain Python and compiled."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tyche_env.control import draws as compiled
from tyche_env.draws import Concern, draw_u64, mix64, noisy_us
from tyche_env.tables import load_tables

U64 = st.integers(0, 2**64 - 1)
SAMPLE = 20_000


@pytest.mark.parametrize(
    ("state", "value"),
    # The first outputs of SplitMix64 from seed 0, as published with its reference implementation.
    [
        (0x0000000000000000, 0xE220A8397B1DCDAF),
        (0x9E3779B97F4A7C15, 0x6E789E6AA1B965F4),
        (0x3C6EF372FE94F82A, 0x06C45D188009454F),
    ],
)
def test_mixer_is_split_mix(state: int, value: int) -> None:
    assert mix64(state) == value


def test_every_part_of_the_key_counts() -> None:
    keys = [(1, 5, 3, 7), (2, 5, 3, 7), (1, 6, 3, 7), (1, 5, 4, 7), (1, 5, 3, 8), (1, 3, 5, 7)]
    assert len({draw_u64(*key) for key in keys}) == len(keys)


@given(seed=U64, entity=st.integers(0, 2**20), ordinal=st.integers(0, 2**32))
def test_draws_are_64_bits_and_repeatable(seed: int, entity: int, ordinal: int) -> None:
    drawn = draw_u64(seed, Concern.MODEL, entity, ordinal)
    assert 0 <= drawn < 2**64
    assert drawn == draw_u64(seed, Concern.MODEL, entity, ordinal)


def test_draws_are_uniform() -> None:
    counts = np.bincount([draw_u64(1, Concern.POLICY, 0, i) >> 60 for i in range(SAMPLE)], minlength=16)
    chi_squared = float(np.sum((counts - SAMPLE / 16) ** 2) / (SAMPLE / 16))
    assert chi_squared < 37.7  # 99.9 % quantile at 15 degrees of freedom


@given(duration=st.integers(0, 2**31), u64=U64)
def test_no_noise_leaves_the_duration(duration: int, u64: int) -> None:
    assert noisy_us(duration, 0, u64) == duration


@given(duration=st.integers(1, 2**31), sigma=st.integers(1, 2_000_000), u64=U64)
def test_noise_never_makes_a_duration_negative(duration: int, sigma: int, u64: int) -> None:
    assert noisy_us(duration, sigma, u64) >= 0


@given(duration=st.integers(0, 2**31), sigma=st.integers(1, 2_000_000), u64=st.integers(0, 2**63))
def test_greater_draws_give_longer_durations(duration: int, sigma: int, u64: int) -> None:
    assert noisy_us(duration, sigma, u64) <= noisy_us(duration, sigma, u64 + 2**62)


@pytest.mark.parametrize("sigma", [0.05, 0.3, 1.0])
def test_noise_is_log_normal_with_median_one(sigma: float) -> None:
    drawn = [noisy_us(10_000_000, round(sigma * 1e6), draw_u64(3, Concern.INIT, 0, i)) for i in range(SAMPLE)]
    logs = np.log(np.array(drawn) / 1e7)
    # Tolerances: five standard errors of the mean and of the standard deviation, plus the table's grid.
    assert abs(logs.mean()) < 5 * sigma / math.sqrt(SAMPLE) + 1e-3
    assert abs(logs.std() - sigma) < 5 * sigma / math.sqrt(2 * SAMPLE) + 2e-3 * sigma


@given(
    seed=st.integers(0, 2**63 - 1),
    concern=st.sampled_from(Concern),
    entity=st.integers(0, 2**20),
    ordinal=st.integers(0, 2**32),
    duration=st.integers(0, 2**31),
    sigma=st.integers(0, 2_000_000),
)
def test_the_compiled_twin_draws_the_same(
    seed: int, concern: Concern, entity: int, ordinal: int, duration: int, sigma: int
) -> None:
    drawn = draw_u64(seed, concern, entity, ordinal)
    assert compiled.draw_u64(seed, int(concern), entity, ordinal) == drawn
    tables = load_tables().copy()
    assert compiled.noisy_us(tables, duration, sigma, np.uint64(drawn)) == noisy_us(duration, sigma, drawn)
