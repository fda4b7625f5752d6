"""``tyche profile``: list the catalogues, and measure a new one here."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

import click

from tyche_env.commands import list_profiles


@click.group()
def profile() -> None:
    """List the functions' profiles, or measure them here."""


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
