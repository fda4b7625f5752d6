"""NumPy's uniform draws of many streams in one compiled call, equal to the last bit.

Each stream is ``Generator(PCG64(SeedSequence((seed, key)))).random``, moved on by some draws.  What is computed is
NumPy's ``SeedSequence`` (M. E. O'Neill's seed_seq_fe128) and her PCG64, 128-bit state, XSL-RR output ("PCG: A Family of
Simple Fast Space-Efficient Statistically Good Algorithms for Random Number Generation", HMC-CS-2014-0905).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from traces.streams import KEY_WORDS
from tyche_env.control.compiled import inner, outer

_POOL = 4
_INIT_A, _MULT_A = np.uint32(0x43B0D7E5), np.uint32(0x931E8875)
_INIT_B, _MULT_B = np.uint32(0x8B51F9DD), np.uint32(0x58F38DED)
_MIX_L, _MIX_R = np.uint32(0xCA01F9DD), np.uint32(0x4973F715)
_HALF = np.uint32(16)
_MULT_HIGH, _MULT_LOW = np.uint64(0x2360ED051FC65DA4), np.uint64(0x4385DF649FCCF645)
_ONE, _WORD, _LOW = np.uint64(1), np.uint64(32), np.uint64(0xFFFFFFFF)
_SEED_WORDS = 2


def compiled_streams(
    seed: int, keys: NDArray[np.uint32], skips: NDArray[np.int64], numbers: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Draws of many streams, one after the other; arguments as those of ``traces.streams.Streams``.

    Args:
        seed: below 2^64.
        keys: (F, 4) the lowest word first.
        skips: (F,) how many draws of each are left out.
        numbers: (F,) how many are taken.
    """
    out = np.empty(int(numbers.sum()))
    seed_words = np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint32)
    work = np.zeros(_SEED_WORDS + KEY_WORDS + _POOL + 2 * _POOL, np.uint32)
    _draw(seed_words, np.ascontiguousarray(keys), skips, numbers, work, out)
    return out


@inner
def _mixed(value: np.uint32, constant: np.uint32, multiplier: np.uint32) -> np.uint32:
    value = np.uint32((value ^ constant) * np.uint32(constant * multiplier))
    return np.uint32(value ^ (value >> _HALF))


@inner
def _joined(x: np.uint32, y: np.uint32) -> np.uint32:
    both = np.uint32(np.uint32(_MIX_L * x) - np.uint32(_MIX_R * y))
    return np.uint32(both ^ (both >> _HALF))


@inner
def _seeds(entropy: NDArray[np.uint32], words: int, pool: NDArray[np.uint32], state: NDArray[np.uint32]) -> None:
    """NumPy's ``SeedSequence``: from words of entropy to the eight words that seed PCG64."""
    constant = _INIT_A
    for i in range(_POOL):
        pool[i] = _mixed(entropy[i] if i < words else np.uint32(0), constant, _MULT_A)
        constant = np.uint32(constant * _MULT_A)
    for source in range(_POOL):
        for target in range(_POOL):
            if source != target:
                pool[target] = _joined(pool[target], _mixed(pool[source], constant, _MULT_A))
                constant = np.uint32(constant * _MULT_A)
    for source in range(_POOL, words):
        for target in range(_POOL):
            pool[target] = _joined(pool[target], _mixed(entropy[source], constant, _MULT_A))
            constant = np.uint32(constant * _MULT_A)
    constant = _INIT_B
    for i in range(2 * _POOL):
        state[i] = _mixed(pool[i % _POOL], constant, _MULT_B)
        constant = np.uint32(constant * _MULT_B)


@inner
def _product_high(a: np.uint64, b: np.uint64) -> np.uint64:
    """The upper 64 of the 128 bits of a product."""
    a_low, a_high, b_low, b_high = a & _LOW, a >> _WORD, b & _LOW, b >> _WORD
    middle = a_high * b_low + ((a_low * b_low) >> _WORD)
    carried = a_low * b_high + (middle & _LOW)
    return a_high * b_high + (middle >> _WORD) + (carried >> _WORD)


@inner
def _times_plus(
    a_high: np.uint64, a_low: np.uint64, b_high: np.uint64, b_low: np.uint64, c_high: np.uint64, c_low: np.uint64
) -> tuple[np.uint64, np.uint64]:
    """A * b + c in 128 bits."""
    low = a_low * b_low
    high = a_high * b_low + a_low * b_high + _product_high(a_low, b_low)
    total = low + c_low
    return high + c_high + (_ONE if total < low else np.uint64(0)), total


@outer
def _draw(
    seed_words: NDArray[np.uint32],
    keys: NDArray[np.uint32],
    skips: NDArray[np.int64],
    numbers: NDArray[np.int64],
    work: NDArray[np.uint32],
    out: NDArray[np.float64],
) -> None:
    entropy = work[: _SEED_WORDS + KEY_WORDS]
    pool = work[_SEED_WORDS + KEY_WORDS : _SEED_WORDS + KEY_WORDS + _POOL]
    words = work[_SEED_WORDS + KEY_WORDS + _POOL :]
    zero = np.uint64(0)
    at = 0
    for stream in range(len(keys)):
        if numbers[stream] == 0:
            continue
        # numbers as NumPy writes them in words: without leading zeros, but at least one
        count = 1
        entropy[0] = seed_words[0]
        if seed_words[1] != 0:
            entropy[1] = seed_words[1]
            count = 2
        length = 1
        for i in range(KEY_WORDS):
            if keys[stream, i] != 0:
                length = i + 1
        for i in range(length):
            entropy[count + i] = keys[stream, i]
        _seeds(entropy, count + length, pool, words)
        high = np.uint64(words[0]) | (np.uint64(words[1]) << _WORD)
        low = np.uint64(words[2]) | (np.uint64(words[3]) << _WORD)
        inc_high = np.uint64(words[4]) | (np.uint64(words[5]) << _WORD)
        inc_low = np.uint64(words[6]) | (np.uint64(words[7]) << _WORD)
        inc_high = (inc_high << _ONE) | (inc_low >> np.uint64(63))
        inc_low = (inc_low << _ONE) | _ONE
        # a step from 0 leaves the increment; the seed is added, and one more step made
        total = inc_low + low
        high = inc_high + high + (_ONE if total < low else zero)
        high, low = _times_plus(high, total, _MULT_HIGH, _MULT_LOW, inc_high, inc_low)
        # n steps at once: by squaring the step (F. Brown, "Random Number Generation with Arbitrary Strides", 1994)
        left = np.uint64(skips[stream])
        by_high, by_low, plus_high, plus_low = _MULT_HIGH, _MULT_LOW, inc_high, inc_low
        while left > zero:
            if left & _ONE:
                high, low = _times_plus(high, low, by_high, by_low, plus_high, plus_low)
            plus_high, plus_low = _times_plus(plus_high, plus_low, by_high, by_low, plus_high, plus_low)
            by_high, by_low = _times_plus(by_high, by_low, by_high, by_low, zero, zero)
            left >>= _ONE
        for _ in range(numbers[stream]):
            high, low = _times_plus(high, low, _MULT_HIGH, _MULT_LOW, inc_high, inc_low)
            turn = high >> np.uint64(58)
            mixed = high ^ low
            value = (mixed >> turn) | (mixed << ((np.uint64(64) - turn) & np.uint64(63)))
            out[at] = np.float64(value >> np.uint64(11)) * (1.0 / 9007199254740992.0)
            at += 1
