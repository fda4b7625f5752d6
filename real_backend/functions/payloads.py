"""Payloads: small JSON that stands for an image, a sound or a text, made the same on every machine.

Imports numpy inside, as functions must.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAMPLE_RATE = 16_000
_LONGEST_S = 60
_STYLES = ("-fast", "-mmap")
_TEXT = "It was a bright cold day in April, and the clocks were striking thirteen. "


def sample_payload(profile: str, request: int) -> dict[str, Any]:
    """A small request that the shipped functions understand, never the same twice in a row."""
    for style in _STYLES:
        profile = profile.removesuffix(style)
    number = request % 16
    if profile == "magika":
        return {"text": _TEXT * (1 + number)}
    if profile == "gt_minilm_torch":
        return {"texts": [_TEXT, f"Clock number {number} strikes."]}
    return {"seed": number}


def take(payload: Mapping[str, Any], *keys: str) -> tuple[Any, ...]:
    """Values of the payload's keys, None where one is left out.

    Raises:
        ValueError: the payload has another key.
    """
    unknown = sorted(set(payload) - set(keys))
    if unknown:
        raise ValueError(f"{unknown[0]} is unknown; the keys are {', '.join(keys)}")
    return tuple(payload.get(key) for key in keys)


def image(payload: Mapping[str, Any], size: int) -> NDArray[np.uint8]:
    """A (size, size, 3) RGB image: ``{"rgb": base64 of its bytes}``, or 8 x 8 colours from ``{"seed": n}``."""
    import numpy as np

    rgb, seed = take(payload, "rgb", "seed")
    if rgb is None:
        colours = np.random.default_rng(_seed(seed)).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        which = np.arange(size) * 8 // size
        return colours[which][:, which]
    try:
        data = np.frombuffer(base64.b64decode(rgb, validate=True), dtype=np.uint8)
    except (TypeError, binascii.Error) as error:
        raise ValueError(f"rgb: must be base64 ({error})") from None
    if data.size != size * size * 3:
        raise ValueError(f"rgb: must be {size} x {size} x 3 bytes, got {data.size}")
    return data.reshape(size, size, 3)


def sound(payload: Mapping[str, Any]) -> NDArray[np.float32]:
    """Samples at 16 kHz in [-1, 1]: ``samples``, or ``seconds`` (default 0.5) of ``tone_hz`` or noise (``seed``)."""
    import numpy as np

    samples, tone_hz, seconds, seed = take(payload, "samples", "tone_hz", "seconds", "seed")
    if samples is not None:
        values = np.asarray(samples, dtype=np.float32)
        if values.ndim != 1 or not 1024 <= values.size <= _LONGEST_S * SAMPLE_RATE or not np.isfinite(values).all():
            raise ValueError(f"samples: must be 1024 to {_LONGEST_S * SAMPLE_RATE} numbers")
        return values
    seconds = 0.5 if seconds is None else float(seconds)
    if not 0.1 <= seconds <= _LONGEST_S:
        raise ValueError(f"seconds: must be from 0.1 to {_LONGEST_S}, got {seconds}")
    count = round(seconds * SAMPLE_RATE)
    if tone_hz is None:
        return np.random.default_rng(_seed(seed)).uniform(-0.5, 0.5, count).astype(np.float32)
    return (0.5 * np.sin(2 * np.pi * float(tone_hz) * np.arange(count) / SAMPLE_RATE)).astype(np.float32)


def tokens(payload: Mapping[str, Any], vocabulary: int) -> NDArray[np.int64]:
    """Token numbers: ``tokens``, or ``length`` (default 128) random ones from ``seed``."""
    import numpy as np

    given, length, seed = take(payload, "tokens", "length", "seed")
    if given is None:
        length = 128 if length is None else int(length)
        if not 1 <= length <= 512:
            raise ValueError(f"length: must be from 1 to 512, got {length}")
        return np.random.default_rng(_seed(seed)).integers(1000, vocabulary, length)
    values = np.asarray(given)
    if values.ndim != 1 or values.dtype.kind != "i" or not 1 <= values.size <= 512:
        raise ValueError("tokens: must be 1 to 512 whole numbers")
    if values.min() < 0 or values.max() >= vocabulary:
        raise ValueError(f"tokens: must be from 0 to {vocabulary - 1}")
    return values.astype(np.int64)


def _seed(seed: Any) -> int:
    if seed is None:
        return 0
    if not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed: must be a whole number, not negative, got {seed!r}")
    return seed
