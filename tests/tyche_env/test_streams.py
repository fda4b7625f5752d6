"""Compiled draws against NumPy, which says what they are."""

from __future__ import annotations

import numpy as np
import pytest

from traces.streams import numpy_streams
from tyche_env.streams import compiled_streams

SEEDS = (0, 1, 2**31 - 1, 2**32 - 1, 2**32, 2**40 + 5, 2**63, 2**64 - 1)


@pytest.mark.parametrize("seed", SEEDS)
def test_they_are_numpy_s_to_the_last_bit(seed: int) -> None:
    generator = np.random.default_rng(7)
    keys = generator.integers(0, 2**32, (24, 4), dtype=np.uint64).astype(np.uint32)
    # NumPy leaves out a number's leading zeros, but writes 0 as one word
    keys[0], keys[1, 3], keys[2, 1:], keys[3, :2], keys[4] = 0, 0, 0, 0, 2**32 - 1
    skips, numbers = generator.integers(0, 10**6, 24), generator.integers(0, 40, 24)
    skips[:6] = (0, 1, 2, 3, 2**40, 0)
    numbers[5] = 0
    ours = compiled_streams(seed, keys, skips, numbers)
    assert len(ours) == numbers.sum() > 300
    assert np.array_equal(ours, numpy_streams(seed, keys, skips, numbers))


def test_a_stream_is_the_generator_that_its_name_says() -> None:
    key = (0x0123456789ABCDEF << 64) | 0xFEDCBA9876543210
    words = np.array([[0x76543210, 0xFEDCBA98, 0x89ABCDEF, 0x01234567]], np.uint32)
    right = np.random.Generator(np.random.PCG64(np.random.SeedSequence((5, key)))).random(9)
    for draw in (numpy_streams, compiled_streams):
        assert np.array_equal(draw(5, words, np.array([3]), np.array([6])), right[3:])


def test_nothing_is_drawn_of_nothing() -> None:
    none = np.zeros(0, np.int64)
    assert len(compiled_streams(1, np.zeros((0, 4), np.uint32), none, none)) == 0
    assert len(numpy_streams(1, np.zeros((0, 4), np.uint32), none, none)) == 0
