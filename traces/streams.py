"""A stream of uniform draws for each function, as NumPy's PCG64 gives them from (seed, the function's key)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from traces.counts import Counts

KEY_WORDS = 4
"""Words of 32 bits of a function's key, the lowest first."""

Streams = Callable[[int, NDArray[np.uint32], NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]]
"""Draws of many streams at once: (seed, (F, 4) keys, (F,) draws to skip, (F,) draws) -> all draws, one stream after
the other."""


def numpy_streams(
    seed: int, keys: NDArray[np.uint32], skips: NDArray[np.int64], numbers: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The draws by NumPy itself, which says what they are: ``Generator.random`` of ``SeedSequence((seed, key))``."""
    found = [np.zeros(0)]
    for words, skip, number in zip(keys.astype("<u4"), skips.tolist(), numbers.tolist(), strict=True):
        bits = np.random.PCG64(np.random.SeedSequence((seed, int.from_bytes(words.tobytes(), "little"))))
        found.append(np.random.Generator(bits.advance(skip)).random(number))
    return np.concatenate(found)


@lru_cache(maxsize=8)
def keys_of(counts: Counts) -> NDArray[np.uint32]:
    """(F, 4) the functions' keys: of owner, application and name, so that neither selection nor order moves a draw."""
    identities = zip(counts.owners, counts.apps, counts.names, strict=True)
    return _words(["\0".join(each) for each in identities])


def _words(identities: Sequence[str]) -> NDArray[np.uint32]:
    digests = b"".join(hashlib.sha256(each.encode()).digest()[: 4 * KEY_WORDS] for each in identities)
    words: NDArray[np.uint32] = np.frombuffer(digests, "<u4").astype(np.uint32).reshape(-1, KEY_WORDS)
    words.flags.writeable = False
    return words
