"""A profile from a checkpoint's size and bandwidths."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from real_backend.profile_commands import profile
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
    # what was given is not assumed
    assert not {"inference_ms", "gpu_inference_ms"} & set(made.assumed)
    assert {"container_init_ms", "library_ms", "transfer_ms", "hold_mb", "gpu_mb"} < set(made.assumed)


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


def test_the_command_says_each_figure_by_its_name(tmp_path: Path) -> None:
    out = tmp_path / "mine.csv"
    given = ("--inference-ms", "40", "--gpu-inference-ms", "4", "--activations-mb", "70", "--copies-at-peak", "2")
    machine = ("--disk-mb-s", "250", "--link-mb-s", "5000", "--context-mb", "300")
    library = ("--library-ms", "900", "--library-mb", "50", "--container-mb", "5000", "--out", str(out))
    words = ["estimate", "m", "--checkpoint", "500", *given, *machine, *library]
    for count in (1, 1):  # a second one replaces the first
        done = CliRunner().invoke(profile, words, catch_exceptions=False)
        # 500 MB at 250 MB/s; at 5000; with 50 of libraries; with 70 of activations and 300 of context
        assert done.output == (
            f"m: model 2000 ms, to the GPU 100 ms, held 550 MB, on the GPU 870 MB; {count} profiles in {out}\n"
        )
    (made,) = load_catalogue(out)
    assert (made.library_ms, made.inference_ms, made.gpu_inference_ms) == (900, 40, 4)
    assert (made.hold_mb, made.peak_mb, made.container_mb) == (550, 1050, 5000)
    checkpoint = tmp_path / "model.bin"
    checkpoint.write_bytes(bytes(2_000_000))
    words = ["estimate", "n", "--checkpoint", str(checkpoint), "--inference-ms", "1", "--library-mb", "5"]
    done = CliRunner().invoke(profile, [*words, "--out", str(out)], catch_exceptions=False)
    assert done.output == f"n: model 2 ms, to the GPU 0 ms, held 7 MB, on the GPU 0 MB; 2 profiles in {out}\n"


def test_memory_is_told_as_held_and_at_its_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("real_backend.functions.own.memory_mb", lambda _: {"f": (60, 80), "g": (5, 7)})
    done = CliRunner().invoke(profile, ["memory", "mine.py"], catch_exceptions=False)
    assert [line.split() for line in done.output.splitlines()] == [
        ["f", "hold_mb=60,", "peak_mb=80"],
        ["g", "hold_mb=5,", "peak_mb=7"],
    ]
