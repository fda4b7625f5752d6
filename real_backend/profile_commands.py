"""``tyche profile``: list the catalogues, measure a new one here, or fit one to a real run."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

import click

from tyche_env.commands import list_profiles


@click.group()
def profile() -> None:
    """List the functions' profiles, measure them here, or fit them to a real run."""


profile.add_command(list_profiles)


@profile.command()
@click.argument("names", nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="CSV file to write.")
@click.option("--repetitions", type=int, default=10, show_default=True, help="Of each stage; at least 10.")
@click.option("--engine", type=click.Choice(["process", "docker"]), default="process", show_default=True)
@click.option("--container-mb", type=click.IntRange(1), default=2048, show_default=True, help="Size of containers.")
@click.option("--functions", default="real_backend.functions.catalogue", show_default=True, help="Module or file.")
@click.option("--gpu", help="Measure GPU stages on this device, as CUDA_VISIBLE_DEVICES names it.")
def measure(
    names: tuple[str, ...],
    out: Path,
    repetitions: int,
    engine: str,
    container_mb: int,
    functions: str,
    gpu: str | None,
) -> None:
    """Time each stage of the functions NAMES in containers here and write their profiles.

    \b
    Example:
      tyche profile measure magika silero_onnx opennsfw resnet18 --out profiles.csv
    """  # noqa: D301 (click wants the character)
    from real_backend.backend import sample_payload
    from real_backend.measuring import Plan, write_catalogue
    from real_backend.measuring import measure as run

    plan = Plan(names, functions, repetitions, cast(Literal["process", "docker"], engine), container_mb, gpu)
    profiles = run(plan, sample_payload, click.echo)
    write_catalogue(out, profiles)
    click.echo(f"{len(profiles)} profiles in {out}")


@profile.command()
@click.argument("run", type=click.Path(path_type=Path, file_okay=False))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="CSV file to write.")
def calibrate(run: Path, out: Path) -> None:
    """Fit profiles and delays to the real run in the folder RUN.

    Writes a catalogue, and beside it (with the ending .yaml) the run's scenario with that catalogue and the fitted
    delays, which `tyche evaluate --scenario` takes.

    \b
    Example:
      tyche evaluate --backend openwhisk --scenario real-azure --split train --windows 1 --out runs/real
      tyche profile calibrate runs/real --out runs/calibrated.csv
    """  # noqa: D301 (click wants the character)
    from real_backend.calibration import calibrate as fit
    from real_backend.measuring import write_catalogue

    fitted = fit(run)
    write_catalogue(out, list(fitted.profiles))
    before = {each.name: each for each in fitted.scenario.functions.selected()}
    for each in fitted.profiles:
        old, (loads, runs) = before[each.name], fitted.counts[each.name]
        click.echo(
            f"{each.name:20} {loads:4} loads, {runs:4} runs: container {old.container_init_ms:.0f} -> "
            f"{each.container_init_ms:.0f} ms, library {old.library_ms:.0f} -> {each.library_ms:.0f} ms, "
            f"model {old.model_ms:.0f} -> {each.model_ms:.0f} ms, inference {old.inference_ms:.1f} -> "
            f"{each.inference_ms:.1f} ms, spread {old.sigma:.2f} -> {each.sigma:.2f}"
        )
    click.echo(", ".join(f"{name.removesuffix('_ms')} {value:.1f} ms" for name, value in fitted.delays.items()))
    scenario = out.with_suffix(".yaml")
    scenario.write_text(fitted.applied(out).to_yaml(), encoding="utf-8")
    click.echo(f"{len(fitted.profiles)} profiles in {out}, scenario in {scenario}")
