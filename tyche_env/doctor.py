"""``tyche doctor``: what is installed, found or missing and how to get it; and what is wrong with a run folder."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, entry_points, requires, version
from pathlib import Path

import click

from traces.blame import blaming, package_of
from tyche_env.collision import explain_collision
from tyche_env.errors import UserError
from tyche_env.kernel_place import COMPLETE, COST, expected_place

_DISTRIBUTION = "tyche-env"
_EXAMINATIONS = "tyche_env.examinations"
_DEVELOPMENT = ("dev", "test")
"""The extras that only work on the project itself needs; they are not reported."""
_REQUIREMENT = re.compile(r"""([\w.-]+)[^;]*(?:;\s*extra == ["']([\w-]+)["'])?$""")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        topic: machine, packages, traces, docker or nvml; run.
        name: what was looked for.
        found: whether it is there, or as it ought to be.
        detail: its version or size; what to do where it is missing.
    """

    topic: str
    name: str
    found: bool
    detail: str


def examine() -> list[Finding]:
    """Look at everything; starts no service and changes nothing."""
    return [*_machine(), *_packages(), *_traces(), _docker(), *_nvml()]


def _machine() -> list[Finding]:
    collision = explain_collision()
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return [
        Finding("machine", "Python", True, f"{platform.python_version()} ({sys.executable})"),
        Finding("machine", "system", True, platform.platform()),
        Finding("machine", "cores", True, f"{len(os.sched_getaffinity(0))} usable of {os.cpu_count()}"),
        Finding("machine", "memory", True, f"{memory_gb:.1f} GB"),
        Finding("machine", "import agents", collision is None, collision or "that of tyche-env"),
        _kernels(),
    ]


def _kernels() -> Finding:
    """Where compiled kernels are kept, and why not elsewhere."""
    name = "kernel cache"
    try:
        place = expected_place()
    except UserError as error:
        return Finding("machine", name, False, str(error))
    if place.folder is None:
        return Finding("machine", name, False, f"not used, since {place.why}: {COST}")
    versions = len(list(place.folder.glob(f"*/{COMPLETE}")))
    kept = f"{place.folder}, kernels of {versions} version{'' if versions == 1 else 's'}"
    return Finding("machine", name, True, f"{kept}; there, since {place.why}" if place.why else kept)


def _packages() -> list[Finding]:
    """The packages that the installed distribution names, in the order of its core and its extras."""
    remedies: dict[str, list[str]] = {_DISTRIBUTION: [_DISTRIBUTION]}
    for line in requires(_DISTRIBUTION) or ():
        found = _REQUIREMENT.match(line)
        if found and found[2] not in _DEVELOPMENT:
            extra = f"'{_DISTRIBUTION}[{found[2]}]'" if found[2] else _DISTRIBUTION
            remedies.setdefault(found[1], []).append(extra)
    return [_package(name, f"pip install {' or '.join(extras)}") for name, extras in remedies.items()]


def _package(name: str, remedy: str) -> Finding:
    try:
        return Finding("packages", name, True, version(name))
    except PackageNotFoundError:
        return Finding("packages", name, False, remedy)


def _traces() -> list[Finding]:
    from tyche_env.sources import FILES, SHIPPED, VARIABLE, SourceError, folder_of

    named = os.environ.get(VARIABLE, "")
    said = named or "not set; it may name a folder of more trace files"
    findings = [Finding("traces", VARIABLE, Path(named).is_dir() if named else True, said)]
    for family, names in FILES.items():
        try:
            folder = folder_of(family)
        except SourceError as error:
            findings.append(Finding("traces", family, False, str(error)))
            continue
        where = f"missing: {', '.join(names)}" if folder is None else "shipped" if folder == SHIPPED else str(folder)
        findings.append(Finding("traces", family, folder is not None, where))
    return findings


def _docker() -> Finding:
    """Whether containers by Docker are possible: a daemon that answers, or one that may be started for the purpose."""
    client, daemon = shutil.which("docker"), shutil.which("dockerd")
    if client is None and daemon is None:
        return _without_docker("not installed")
    if client is not None:
        try:
            answer = subprocess.run(
                [client, "version", "--format", "{{.Server.Version}}"], capture_output=True, text=True, timeout=10
            )
        except subprocess.TimeoutExpired:
            return _without_docker("installed, but its daemon does not answer")
        if answer.returncode == 0:
            return Finding("docker", "docker", True, f"{answer.stdout.strip()}, its daemon runs")
    if daemon is None:
        return _without_docker("its daemon (dockerd) is not installed")
    if os.geteuid() != 0:
        return _without_docker("installed, but no daemon runs, and only root can start one")
    return Finding(
        "docker", "docker", True, "installed; no daemon runs now, and --containers docker starts one of its own"
    )


def _without_docker(why: str) -> Finding:
    return Finding("docker", "docker", False, f"{why}; only needed for --containers docker")


def _nvml() -> list[Finding]:
    try:
        import pynvml
    except ModuleNotFoundError:
        return [Finding("nvml", "NVML", False, "needs nvidia-ml-py; pip install 'tyche-env[real]'")]
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return [Finding("nvml", "NVML", False, f"{error}; only needed for real GPUs")]
    try:
        findings = [Finding("nvml", "driver", True, pynvml.nvmlSystemGetDriverVersion())]
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            memory_gb = pynvml.nvmlDeviceGetMemoryInfo(handle).total / 1e9
            findings.append(
                Finding("nvml", f"GPU {index}", True, f"{pynvml.nvmlDeviceGetName(handle)}, {memory_gb:.1f} GB")
            )
        return findings
    finally:
        pynvml.nvmlShutdown()


def examine_folder(path: Path) -> list[Finding]:
    """What is wrong with a folder that a run has left, if anything.

    Layers above know such folders: an entry point of the group ``tyche_env.examinations`` names a function that takes
    the path and returns findings.

    Raises:
        UserError: nothing that is installed knows run folders, or there is no such folder.
    """
    found = sorted(entry_points(group=_EXAMINATIONS), key=lambda point: point.name)
    if not found:
        raise UserError(f"{path}: nothing that is installed knows run folders; install tyche-env anew")
    findings: list[Finding] = []
    for point in found:
        with blaming(f"examination {point.name}: {point.value}", package_of(point.module), passing=(UserError,)):
            findings += point.load()(path)
    return findings


@click.command()
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def doctor(context: click.Context, run: Path | None, as_json: bool) -> None:
    """Say what is installed, found and missing, or what is wrong with a run folder.

    With RUN, the folder of tyche evaluate: its rows against its plan, its summary against its rows, and what a crash
    left.  Exit status 1 if anything is wrong there.

    \b
    Examples:
      tyche doctor
      tyche doctor --json
      tyche doctor runs/azure
    """  # noqa: D301 (click wants the character)
    findings = examine() if run is None else examine_folder(run)
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        _show(findings, "missing" if run is None else "wrong")
    if run is not None and not all(finding.found for finding in findings):
        context.exit(1)


def _show(findings: list[Finding], otherwise: str) -> None:
    topic = ""
    for finding in findings:
        if finding.topic != topic:
            topic = finding.topic
            click.secho(topic, bold=True)
        mark = click.style("ok     ", fg="green") if finding.found else click.style(f"{otherwise:7}", fg="yellow")
        click.echo(f"  {mark} {finding.name:<20} {finding.detail}")
