"""Payloads that stand for images, sounds and tokens."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from real_backend.functions import payloads


def test_an_image_follows_from_its_seed_or_its_bytes() -> None:
    image = payloads.image({"seed": 3}, 299)
    assert image.shape == (299, 299, 3)
    assert (image == payloads.image({"seed": 3}, 299)).all()
    assert (image != payloads.image({"seed": 4}, 299)).any()
    again = payloads.image({"rgb": base64.b64encode(image.tobytes()).decode()}, 299)
    assert (again == image).all()


def test_a_tone_has_its_pitch() -> None:
    tone = payloads.sound({"tone_hz": 1000, "seconds": 1})
    assert tone.shape == (16_000,)
    assert np.abs(np.fft.rfft(tone)).argmax() == 1000


def test_samples_and_tokens_are_taken_as_they_are() -> None:
    assert (payloads.sound({"samples": [0.25] * 1024}) == 0.25).all()
    assert payloads.tokens({"tokens": [5, 6]}, 10).tolist() == [5, 6]
    assert payloads.tokens({"seed": 1, "length": 7}, 30_000).shape == (7,)


def image(payload: Mapping[str, Any]) -> Any:
    return payloads.image(payload, 8)


def tokens(payload: Mapping[str, Any]) -> Any:
    return payloads.tokens(payload, 100)


@pytest.mark.parametrize(
    ("read", "payload", "named"),
    [
        (image, {"rgb": "AAAA"}, "rgb: must be 8 x 8 x 3 bytes, got 3"),
        (image, {"rgb": "?"}, "rgb: must be base64"),
        (image, {"seed": -1}, "seed: must be a whole number"),
        (image, {"size": 3}, "size is unknown; the keys are rgb, seed"),
        (payloads.sound, {"samples": [1.0]}, "samples: must be 1024 to 960000 numbers"),
        (payloads.sound, {"seconds": 1e9}, "seconds: must be from 0.1 to 60"),
        (tokens, {"tokens": [100]}, "tokens: must be from 0 to 99"),
        (tokens, {"tokens": ["a"]}, "tokens: must be 1 to 512 whole numbers"),
        (tokens, {"length": 0}, "length: must be from 1 to 512"),
    ],
)
def test_what_a_function_would_not_understand_is_refused(
    read: Callable[[Mapping[str, Any]], Any], payload: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        read(payload)
