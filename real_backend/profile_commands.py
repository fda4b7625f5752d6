"""``tyche profile``: list the catalogues, measure a new one here, or fit one to a real run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from traces.output import held
from tyche_env.commands import list_profiles
from tyche_env.options import renamed

if TYPE_CHECKING:
    from real_backend.platform.config import Containers


@click.group()
def profile() -> None:
    """List the functions' profiles, measure them here, or fit them to a real run.

    \b
    Examples:
      tyche profile list paper
      tyche profile estimate bert --checkpoint 440 --inference-ms 40 --out mine.csv
    """  # noqa: D301 (click wants the character)


profile.add_command(list_profiles)


@profile.command()
@click.argument("names", nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="CSV file to write.")
@click.option("--repetitions", type=int, default=10, show_default=True, help="Of each stage; at least 10.")
@click.option("--containers", type=click.Choice(["process", "docker"]), default="process", show_default=True)
@renamed("--engine", "--containers")
@click.option("--container-mb", type=click.IntRange(1), default=2048, show_default=True, help="Size of containers.")
@click.option("--functions", default="real_backend.functions.catalogue", show_default=True, help="Module or file.")
@click.option("--gpu", help="Measure GPU stages on this device, as CUDA_VISIBLE_DEVICES names it.")
def measure(
    names: tuple[str, ...],
    out: Path,
    repetitions: int,
    containers: str,
    container_mb: int,
    functions: str,
    gpu: str | None,
) -> None:
    """Time each stage of the functions NAMES in containers here and write their profiles.

    \b
    Example:
      tyche profile measure magika silero_onnx opennsfw resnet18 --out profiles.csv
    """  # noqa: D301 (click wants the character)
    from real_backend.functions.payloads import sample_payload
    from real_backend.measuring import Plan
    from real_backend.measuring import measure as run
    from tyche_env.profiles import write_catalogue

    plan = Plan(names, functions, repetitions, cast("Containers", containers), container_mb, gpu)
    with held(out, file=True):
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
    from tyche_env.profiles import write_catalogue

    fitted = fit(run)
    scenario = out.with_suffix(".yaml")
    with held(out, file=True):
        write_catalogue(out, list(fitted.profiles))
        scenario.write_text(fitted.applied(out).to_yaml(), encoding="utf-8")
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
    click.echo(f"{len(fitted.profiles)} profiles in {out}, scenario in {scenario}")


@profile.command()
@click.argument("file")
def memory(file: str) -> None:
    """Measure the memory of the functions that FILE (a module or a Python file) declares.

    \b
    Example:
      tyche profile memory my_functions.py
    """  # noqa: D301 (click wants the character)
    from real_backend.functions.own import memory_mb
    from real_backend.functions.protocol import FunctionError
    from tyche_env.errors import UserError

    try:
        found = memory_mb(file)
    except FunctionError as error:
        raise UserError(str(error)) from error
    for name, (hold_mb, peak_mb) in found.items():
        click.echo(f"{name:20} hold_mb={hold_mb}, peak_mb={peak_mb}")


@profile.command("estimate")
@click.argument("name")
@click.option("--checkpoint", required=True, metavar="FILE|MB", help="The checkpoint, or its size in MB of 10^6 bytes.")
@click.option("--inference-ms", type=float, required=True, help="One inference on the CPU.")
@click.option("--gpu-inference-ms", type=float, help="One inference on the GPU.  [default: it uses none]")
@click.option(
    "--activations-mb", type=click.IntRange(0), default=0, show_default=True, help="GPU memory beside weights."
)
@click.option("--copies-at-peak", type=float, default=1.0, show_default=True, help="Of the weights, while they load.")
@click.option("--disk-mb-s", type=float, default=1000.0, show_default=True, help="Reading and building the model.")
@click.option("--link-mb-s", type=float, default=25_000.0, show_default=True, help="From CPU memory to the GPU.")
@click.option("--context-mb", type=click.IntRange(0), default=400, show_default=True, help="GPU memory of a process.")
@click.option("--library-ms", type=float, default=1615.0, show_default=True, help="Import of its libraries.")
@click.option("--library-mb", type=click.IntRange(0), default=208, show_default=True, help="Memory of its libraries.")
@click.option("--container-mb", type=click.IntRange(1), help="Size of its container.  [default: what it needs]")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Catalogue; a row is added."
)
def estimate_profile(
    name: str,
    checkpoint: str,
    inference_ms: float,
    gpu_inference_ms: float | None,
    activations_mb: int,
    copies_at_peak: float,
    disk_mb_s: float,
    link_mb_s: float,
    context_mb: int,
    library_ms: float,
    library_mb: int,
    container_mb: int | None,
    out: Path,
) -> None:
    """Estimate the profile of a function NAME from its checkpoint's size and a machine's bandwidths.

    Whatever was not measured is marked as assumed.

    \b
    Examples:
      tyche profile estimate sdxl --checkpoint 6936 --inference-ms 22000 --gpu-inference-ms 22000 --out mine.csv
      tyche profile estimate bert --checkpoint model.safetensors --inference-ms 40 --disk-mb-s 500 --out mine.csv
    """  # noqa: D301 (click wants the character)
    from tyche_env.estimate import Library, Machine, estimate
    from tyche_env.profiles import load_catalogue, write_catalogue

    path = Path(checkpoint)
    try:
        size_mb = path.stat().st_size / 1e6 if path.is_file() else float(checkpoint)
    except ValueError:
        raise click.BadParameter(
            f"{checkpoint} is neither a file nor a number of MB", param_hint="--checkpoint"
        ) from None
    made = estimate(
        name,
        size_mb,
        inference_ms,
        gpu_inference_ms=gpu_inference_ms,
        activations_mb=activations_mb,
        copies_at_peak=copies_at_peak,
        machine=Machine(disk_mb_s, link_mb_s, context_mb),
        library=Library(library_ms, library_mb),
        container_mb=container_mb,
    )
    with held(out, file=True):  # another may add a row between our look and our writing
        others = [each for each in (load_catalogue(out) if out.exists() else ()) if each.name != name]
        write_catalogue(out, [*others, made])
    click.echo(
        f"{name}: model {made.model_ms:g} ms, to the GPU {made.transfer_ms:g} ms, held {made.hold_mb} MB, "
        f"on the GPU {made.gpu_mb} MB; {len(others) + 1} profiles in {out}"
    )
