"""A profile from a checkpoint's size and bandwidths."""

from __future__ import annotations

import pytest

from tyche_env.estimate import Library, Machine, estimate
from tyche_env.profiles import ProfileError, load_catalogue

PARAMETERS = {"sd15": (1066, 1000), "sd21": (1303, 1000), "sdxl": (3468, 2000)}
"""Millions of parameters, and MB of activations, as the catalogue of GenTD26's base models states them."""


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_base_models_of_gentd26_have_the_sizes_that_the_rule_gives(name: str) -> None:
    (shipped,) = [profile for profile in load_catalogue("diffusion") if profile.name == name]
    millions, activations_mb = PARAMETERS[name]
    made = estimate(
        name,
        2 * millions,
        22_000,
        gpu_inference_ms=22_000,
        activations_mb=activations_mb,
        library=Library(import_ms=5153, memory_mb=355),
    )
    for column in ("hold_mb", "peak_mb", "gpu_mb", "library_ms", "container_init_ms", "transfer_ms"):
        assert getattr(made, column) == getattr(shipped, column), column


def test_bandwidths_give_times_and_what_is_not_measured_is_marked() -> None:
    made = estimate("m", 500, 40, copies_at_peak=2, machine=Machine(disk_mb_s=250), library=Library(100, 50))
    assert (made.model_ms, made.transfer_ms, made.gpu_mb) == (2000, 0, 0)
    assert (made.hold_mb, made.peak_mb, made.container_mb) == (550, 1050, 1280)
    assert "model_ms" in made.assumed
    assert "inference_ms" not in made.assumed


@pytest.mark.parametrize(
    ("size_mb", "options", "message"),
    [
        (0, {}, "m: checkpoint_mb must be positive"),
        (10, {"machine": Machine(disk_mb_s=-1)}, "m: disk_mb_s must be positive"),
        (10, {"copies_at_peak": 0}, "m: copies_at_peak must lie in 1..10"),
        (10, {"container_mb": 20}, "m: needs hold_mb <= peak_mb <= container_mb"),
    ],
)
def test_what_cannot_be_is_refused(size_mb: float, options: dict[str, object], message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        estimate("m", size_mb, 10, **options)  # type: ignore[arg-type]
