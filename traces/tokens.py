"""Run times of requests to a language model, where a trace gives numbers of tokens and images instead."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from traces.errors import TraceError

LONGEST_US = 86_400_000_000
"""A day: a request that would run longer has tokens that cannot be right."""


@dataclass(frozen=True, slots=True)
class TokenCost:
    """Run time of a request: base + context tokens x prefill + generated tokens x decode + images x image.

    The defaults are assumed round numbers, measured nowhere: give those of your own model.

    Attributes:
        base_ms: What every request takes.
        prefill_ms_per_token: For each token of the context, which are read together.
        decode_ms_per_token: For each token generated, one after the other.
        ms_per_image: For each image, which is encoded before the context is read.
    """

    base_ms: float = 50.0
    prefill_ms_per_token: float = 0.25
    decode_ms_per_token: float = 30.0
    ms_per_image: float = 200.0

    def __post_init__(self) -> None:
        for name in ("base_ms", "prefill_ms_per_token", "decode_ms_per_token", "ms_per_image"):
            if not 0 <= getattr(self, name) < 1e6:
                raise TraceError(f"{name}: needs milliseconds from 0 to 1000000, got {getattr(self, name)}")

    def run_us(self, context: ArrayLike, generated: ArrayLike, images: ArrayLike = 0) -> NDArray[np.float64]:
        """Run times in whole microseconds, as floats: tokens that make no sense may give more than an integer holds.

        Args:
            context: (R,) tokens.
            generated: (R,) tokens.
            images: (R,) how many.
        """
        tokens_ms = (
            np.asarray(context, np.float64) * self.prefill_ms_per_token
            + np.asarray(generated, np.float64) * self.decode_ms_per_token
        )
        return np.rint((self.base_ms + tokens_ms + np.asarray(images, np.float64) * self.ms_per_image) * 1000.0)

    def told(self, images: bool = False) -> str:
        """The formula in words, with what an image takes where there may be some."""
        return (
            f"run time = {self.base_ms:g} ms + {self.prefill_ms_per_token:g} ms x context tokens "
            f"+ {self.decode_ms_per_token:g} ms x generated tokens"
            f"{f' + {self.ms_per_image:g} ms x images' if images else ''}"
        )
