"""``tyche trace``: look at, convert, sample, split and make traces."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from traces.options import Reading, reading_options, tell, warn
from traces.output import held

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from traces.counts import Counts
    from traces.prepare import Prepared
    from traces.tables import Progress
    from traces.tokens import TokenCost
    from traces.trace import Trace

_METHODS = ("uniform", "exponential", "equidistant", "timer_phase")
_COV_CLASSES = ("Predictable", "Normal", "Bursty", "Unknown")
_RATE_GROUPS = ("frequent", "medium", "rare")
_LARGE_BYTES = 1 << 24
_FRACTION = click.FloatRange(0.0, 1.0, min_open=True, max_open=True)

_source = click.argument("source", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
_target = click.argument("target", type=click.Path(dir_okay=False, writable=True))
_method = click.option("--method", type=click.Choice(_METHODS), help="How counts become arrivals.  [default: uniform]")
_seed = click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
_plot = click.option("--plot", type=click.Path(dir_okay=False, writable=True), help="Draw a picture: PNG, SVG or PDF.")


class _Refused(click.ClickException):
    exit_code = 2


@click.group()
def trace() -> None:
    """Look at, convert, sample, split and make traces.

    Known forms: our Parquet, Azure Functions 2019 and 2021, Azure LLM 2023 and 2024, LMM 2025, Alibaba GenTD26,
    BurstGPT, Mooncake, Chutes, SwissAI, Huawei 2023 and 2025, and what installed packages add.  Any other CSV, JSONL or
    Parquet file with a row a request needs --column.  Files may be packed (gzip, bz2, xz, zst, zip); - is standard
    input.

    \b
    Examples:
      tyche trace inspect invocations.csv.gz
      tyche trace synthesize made.parquet -n 1000 --minutes 2880
    """  # noqa: D301 (click wants the character)


@trace.command()
@_source
@reading_options()
@_plot
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def inspect(
    source: str,
    reading: Reading,
    plot: str | None,
    as_json: bool,
) -> None:
    """Say what a trace file holds: source, dates, functions, rates, run times, regularity, daily shape, timers, gaps.

    What can hardly be right, mostly a unit that was named wrongly, is marked as implausible.

    \b
    Examples:
      tyche trace inspect invocations.csv.gz --plot trace.png
      tyche trace inspect mine.csv --column time=when --column time_unit=iso --column function=model
      zcat mine.csv.gz | tyche trace inspect - --column time=begin --column end=end --column time_unit=ms
      tyche trace inspect invocations.csv --durations durations.csv --memory memory.csv --bad-rows repair
    """  # noqa: D301 (click wants the character)
    import json
    from dataclasses import asdict

    from traces.describe import COV_CLASSES, RATE_GROUPS, statistics
    from traces.picture import draw, sparkline
    from traces.plausible import dates, findings, work
    from traces.shape import shape

    loaded = _load(source, reading)
    table, asked = statistics(loaded), work(loaded)
    first, last = dates(loaded) or (None, None)
    about: dict[str, Any] = {
        "file": source,
        **_origin(loaded),
        "first_request": first,
        "last_request": last,
        "minutes": loaded.end_us / 60e6,
        "functions": len(table),
        "requests": int(table["requests"].sum()),
        "timers": int(table["timer"].sum()),
        **_quantiles("rate_per_min", table["rate_per_min"], (0.1, 0.5, 0.9, 0.99)),
        **_quantiles("cov", table["cov"].dropna(), (0.1, 0.5, 0.9)),
        **(asked.as_dict() if asked else {}),
        **shape(loaded, table).as_dict(),
        "cov_classes": {name: int((table["cov_class"] == name).sum()) for name in COV_CLASSES},
        "rate_groups": {name: int((table["rate_group"] == name).sum()) for name in RATE_GROUPS},
        "repairs": [str(repair) for repair in loaded.repairs],
        "implausible": [asdict(finding) for finding in findings(loaded, reading.column_map)],
    }
    if plot is not None:
        draw({source: loaded}, plot)
    if as_json:
        click.echo(json.dumps(about))
        return
    del about["repairs"]
    implausible = about.pop("implausible")
    for key, value in about.items():
        click.echo(f"{key:20} {_shown(value)}")
    for repair in loaded.repairs:
        click.echo(f"{repair.word:20} {repair}")
    for finding in implausible:
        click.echo(f"{'implausible':20} {finding['about']}: {finding['problem']}")
    click.echo(f"{'requests over time':20} {sparkline(loaded)}")
    if plot is not None:
        click.echo(f"{'picture':20} {plot}")


@trace.command()
@_source
@_target
@reading_options()
@click.option("--base-ms", type=float, help="Traces with tokens: run time of any request.  [default: 50]")
@click.option("--prefill-ms", type=float, help="Traces with tokens: and of each context token.  [default: 0.25]")
@click.option("--decode-ms", type=float, help="Traces with tokens: and of each generated token.  [default: 30]")
@click.option("--image-ms", type=float, help="Traces with tokens: and of each image.  [default: 200]")
@_method
@_seed
def convert(
    source: str,
    target: str,
    reading: Reading,
    base_ms: float | None,
    prefill_ms: float | None,
    decode_ms: float | None,
    image_ms: float | None,
    method: str | None,
    seed: int,
) -> None:
    """Write SOURCE as TARGET in our Parquet form; counts are expanded to arrivals.

    \b
    Examples:
      tyche trace convert AzureFunctionsInvocationTraceForTwoWeeksJan2021.txt azure.parquet
      tyche trace convert mine.csv mine.parquet --column time=t_ms --column time_unit=ms --column function=model
      tyche trace convert AzureLLMInferenceTrace_conv.csv llm.parquet --prefill-ms 0.1 --decode-ms 12
      tyche trace convert day_000.csv huawei.parquet --family huawei2023 --bad-rows repair
    """  # noqa: D301 (click wants the character)
    cost = _cost(base_ms=base_ms, prefill_ms_per_token=prefill_ms, decode_ms_per_token=decode_ms, ms_per_image=image_ms)
    loaded = _expanded(_load(source, reading, cost), method, seed)
    _tell_of(loaded, reading)
    _write(loaded, target)


@trace.command()
@_source
@_target
@reading_options()
@click.option("-n", "--functions", type=click.IntRange(min=1), required=True, help="How many functions to draw.")
@click.option("--cov-class", type=click.Choice(_COV_CLASSES), help="Only functions of this regularity.")
@click.option("--rate-group", type=click.Choice(_RATE_GROUPS), help="Only functions of this rate.")
@_method
@_seed
def sample(
    source: str,
    target: str,
    reading: Reading,
    functions: int,
    cov_class: str | None,
    rate_group: str | None,
    method: str | None,
    seed: int,
) -> None:
    """Draw functions of SOURCE and write them as TARGET in our Parquet form.

    \b
    Examples:
      tyche trace sample invocations.csv.gz fifty.parquet -n 50 --seed 1
      tyche trace sample invocations.csv.gz bursts.parquet -n 20 --cov-class Bursty --rate-group frequent
    """  # noqa: D301 (click wants the character)
    from traces.errors import TraceError
    from traces.sampling import sample as draw

    loaded = _load(source, reading)
    try:
        drawn = draw(loaded, functions, seed, cov_class, rate_group)
    except TraceError as error:
        _refuse(error)
    expanded = _expanded(drawn, method, seed)
    _tell_of(expanded, reading)
    _write(expanded, target)


@trace.command()
@_source
@click.argument("folder", type=click.Path(file_okay=False, writable=True))
@reading_options()
@click.option("--train", type=_FRACTION, default=0.5, show_default=True, help="Share of the training split.")
@click.option("--validation", type=_FRACTION, default=0.2, show_default=True, help="Share of the validation split.")
@click.option("--by-time", is_flag=True, help="Give each split its own share of the time as well.")
@_method
@_seed
def split(
    source: str,
    folder: str,
    reading: Reading,
    train: float,
    validation: float,
    by_time: bool,
    method: str | None,
    seed: int,
) -> None:
    """Cut SOURCE into train, validation and test files in FOLDER that share no function; test gets the rest.

    \b
    Examples:
      tyche trace split azure.parquet splits --train 0.6 --validation 0.1
      tyche trace split azure.parquet splits --by-time
    """  # noqa: D301 (click wants the character)
    from traces.windows import Split, split_functions

    if train + validation >= 1.0:
        raise _Refused(
            f"--train {train:g} and --validation {validation:g} leave nothing to test, expected a sum below 1"
        )
    loaded = _expanded(_load(source, reading), method, seed)
    _tell_of(loaded, reading)
    bounds = (0.0, train, train + validation, 1.0)
    spans = dict(zip(("train", "validation", "test"), pairwise(bounds), strict=True))
    splits = {name: Split(functions=span, time=span if by_time else (0.0, 1.0)) for name, span in spans.items()}
    parts = split_functions(range(len(loaded.names)), splits, seed)
    for name, functions in parts.items():
        if not functions:
            raise _Refused(f"{name} would get none of the {len(loaded.names)} functions; give it a larger share")
    with held(Path(folder)):
        for name, functions in parts.items():
            start_us, end_us = (round(fraction * loaded.end_us) for fraction in splits[name].time)
            part = loaded.select(sorted(functions)).between(start_us, end_us)
            _write(part, str(Path(folder) / f"{name}.parquet"))


@trace.command()
@_target
@click.option("-n", "--functions", type=click.IntRange(min=1), help="How many.  [default: 100, or as many as FILE has]")
@click.option("--minutes", type=click.IntRange(min=1), help="Length.  [default: 1440; that of FILE]")
@click.option("--like", type=click.Path(exists=True, dir_okay=False), help="A real trace whose functions to imitate.")
@reading_options("--like")
@_plot
@_method
@_seed
def synthesize(
    target: str,
    functions: int | None,
    minutes: int | None,
    like: str | None,
    reading: Reading,
    plot: str | None,
    method: str | None,
    seed: int,
) -> None:
    """Make a synthetic trace and write it as TARGET in our Parquet form.

    From published facts about a large provider, or like a real trace: then the distance to it is shown, beside what
    two random halves of the real one's functions are apart.

    \b
    Examples:
      tyche trace synthesize made.parquet -n 1000 --minutes 2880
      tyche trace synthesize made.parquet --like invocations.csv.gz --plot likeness.png
    """  # noqa: D301 (click wants the character)
    if like is None:
        if reading.given():
            raise _Refused(f"{reading.given()}: needs --like FILE, which is not given")
        from traces.synthesis import SynthesisConfig
        from traces.synthesis import synthesize as make

        made = make(SynthesisConfig(functions=functions or 100, minutes=minutes or 1440, seed=seed))
        expanded = _expanded(made, method, seed)
        _write(expanded, target)
        if plot is not None:
            _draw({target: expanded}, plot)
        return
    if minutes is not None:
        raise _Refused("--minutes: a trace made with --like is as long as the real one; leave --minutes out")
    if method is not None:
        raise _Refused(f"--method {method}: a trace made with --like draws its own gaps; leave it out")
    from traces.errors import TraceError
    from traces.likeness import LikenessConfig, synthesize_like
    from traces.shape import as_trace

    try:
        real = as_trace(_load(like, reading))
        imitation = synthesize_like(real, LikenessConfig(functions=functions, seed=seed))
    except TraceError as error:
        _refuse(error)
    _tell_of(real, reading)
    _write(imitation, target)
    _show_fidelity(real, imitation)
    if plot is not None:
        _draw({like: real, target: imitation}, plot)


@trace.group()
def prepare() -> None:
    """Make the files of our scenarios from what their authors publish.

    Prints the SHA-256 of each file's CSV text, and whether it is the sample that the documentation's tables were
    measured on. Files go into the folder --out, by default the one that TYCHE_TRACES names.

    \b
    Examples:
      tyche trace prepare gentd26 lora_request_trace.csv --out traces
      tyche trace prepare azure2019-8h invitro/data/traces/500 keys.csv --out traces
    """  # noqa: D301 (click wants the character)


_out = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="TYCHE_TRACES",
    required=True,
    help="Folder for the files.  [default: TYCHE_TRACES]",
)
_file = click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))


@prepare.command("gentd26")
@_file
@_out
def prepare_gentd26(file: Path, out: Path) -> None:
    """Requests of Alibaba GenTD26 up to November 2024.

    FILE is cluster-trace-v2026-GenAI/lora_request_trace.csv of github.com/alibaba/clusterdata (commit 7a6c496). The
    data are for research and study.

    \b
    Example:
      tyche trace prepare gentd26 lora_request_trace.csv --out traces
    """  # noqa: D301 (click wants the character)
    from traces import prepare as making

    _prepare(lambda: making.prepare_gentd26(file), out)


@prepare.command("azure2019-day")
@_file
@_out
def prepare_azure2019_day(file: Path, out: Path) -> None:
    """Distinct rate vectors of a day of Azure Functions 2019.

    FILE is data/traces/1350_inv.csv of github.com/vhive-serverless/invitro (commit b12de00). The result is shipped.

    \b
    Example:
      tyche trace prepare azure2019-day invitro/data/traces/1350_inv.csv --out traces
    """  # noqa: D301 (click wants the character)
    from traces import prepare as making

    _prepare(lambda: making.prepare_azure2019_day(file), out)


@prepare.command("azure2019-8h")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("keys", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@_out
def prepare_azure2019_8h(folder: Path, keys: Path, out: Path) -> None:
    """Eight hours of 250 functions of Azure Functions 2019.

    FOLDER is data/traces/500 of github.com/vhive-serverless/invitro (commit 163911a), KEYS
    scripts/invitro_traces/samples/250/invocations.csv of github.com/eth-easl/dirigent (commit de98aff). The result is
    shipped.

    \b
    Example:
      tyche trace prepare azure2019-8h invitro/data/traces/500 keys.csv --out traces
    """  # noqa: D301 (click wants the character)
    from traces import prepare as making

    _prepare(lambda: making.prepare_azure2019_8h(folder, keys), out)


@prepare.command("azure2019")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--days", default="1-14", show_default=True, metavar="FIRST-LAST", help="Days of the trace.")
@click.option("--at-least", type=click.IntRange(min=0), default=1, show_default=True, help="Requests of a function.")
@click.option("--functions", type=click.IntRange(min=1), help="How many are drawn.  [default: all]")
@_seed
@_out
def prepare_azure2019(folder: Path, days: str, at_least: int, functions: int | None, seed: int, out: Path) -> None:
    """Official days of Azure Functions 2019, joined and mended, as three files for a scenario.

    FOLDER holds the published CSV files, plain or gzip, unpacked from azurefunctions-dataset2019.tar.xz. Each repair is
    printed with its count (tyche trace inspect --bad-rows repair follows the same rules). All fourteen days take 8 GB
    of memory and one to three minutes (seen on days made up in the published size: 46,000 functions, 2 GB).

    \b
    Examples:
      tyche trace prepare azure2019 azure2019 --days 1-2 --at-least 100 --functions 500 --out traces
      tyche scenario new mine.yaml --trace traces/azure2019_invocations.csv.gz \\
          --durations traces/azure2019_durations.csv.gz --memory traces/azure2019_memory.csv.gz --cluster nodes.yaml
    """  # noqa: D301 (click wants the character)
    from traces import prepare as making

    def make() -> list[Prepared]:
        first, _, last = days.partition("-")
        if not (first.isdigit() and (last or first).isdigit()):
            raise click.BadParameter(f"expected FIRST-LAST, such as 1-14, got {days}", param_hint="--days")
        chosen = range(int(first), int(last or first) + 1)
        files, repairs = making.prepare_azure2019(folder, chosen, at_least, functions, seed)
        tell(repairs)
        return files

    _prepare(make, out)


def _prepare(make: Callable[[], list[Prepared]], out: Path) -> None:
    from traces.errors import TraceError
    from traces.prepare import KNOWN, write

    try:
        files = make()
    except TraceError as error:
        _refuse(error)
    for file, path in zip(files, write(files, out), strict=True):
        click.echo(f"{path}: {file.rows} of {file.of} rows, sha256 of the text {file.digest}")
        if file.name in KNOWN:
            told = "this is" if file.is_known else "not"
            click.echo(f"  {told} the sample that the documentation's tables were measured on")


def _show_fidelity(real: Trace, made: Trace) -> None:
    from traces.shape import fidelity, halves

    found = fidelity(real, made)
    click.echo(f"{'':22} {'real':>9} {'synthetic':>9}")
    for (name, first), second in zip(found.first.as_dict().items(), found.second.as_dict().values(), strict=True):
        click.echo(f"{name:22} {_shown(first):>9} {_shown(second):>9}")
    click.echo(f"{'':22} {'distance':>9} {'of halves':>9}")
    apart = fidelity(*halves(real)) if len(real.names) > 1 else None
    for name in ("ks_rate", "ks_cov"):
        click.echo(f"{name:22} {_shown(getattr(found, name)):>9} {_shown(apart and getattr(apart, name)):>9}")


def _draw(sources: dict[str, Any], path: str) -> None:
    from traces.picture import draw

    draw(sources, path)
    click.echo(path)


def _quantiles(name: str, values: Any, at: tuple[float, ...]) -> dict[str, float | None]:
    return {f"{name}_p{round(100 * q)}": float(values.quantile(q)) if len(values) else None for q in at}


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {count}" for key, count in value.items())
    if value is None or value != value:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _load(source: str, reading: Reading, cost: TokenCost | None = None) -> Counts | Trace:
    from traces.errors import TraceError

    try:
        with _bar(source) as progress:
            return reading.load(source, progress, cost)
    except TraceError as error:
        _refuse(error)


def _cost(**given: float | None) -> TokenCost | None:
    """What tokens cost, if that is given."""
    from traces.errors import TraceError
    from traces.tokens import TokenCost

    costs = {name: value for name, value in given.items() if value is not None}
    try:
        return TokenCost(**costs) if costs else None
    except TraceError as error:
        _refuse(error)


@contextmanager
def _bar(source: str) -> Iterator[Progress | None]:
    """A progress bar on stderr, if that is a terminal and the file is large enough to wait for."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal or source == "-" or Path(source).stat().st_size < _LARGE_BYTES:
        yield None
        return
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    with Bar(
        TextColumn("reading"), BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=console, transient=True
    ) as bar:
        task = bar.add_task(source, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _refuse(error: Exception) -> NoReturn:
    raise _Refused(str(error)) from error


def _origin(loaded: Counts | Trace) -> dict[str, str]:
    from traces.counts import Counts

    if isinstance(loaded, Counts):
        return {
            "form": "counts per minute",
            "source": loaded.source,
            "licence": loaded.licence,
            "window": loaded.window,
        }
    about = loaded.metadata
    return {
        "form": "requests",
        "source": about.source,
        "licence": about.licence,
        "window": about.window,
        "expansion": about.expansion,
        "content_hash": about.content_hash,
    }


def _expanded(loaded: Counts | Trace, method: str | None, seed: int) -> Trace:
    from traces.counts import Counts
    from traces.expansion import METHODS, expand

    if isinstance(loaded, Counts):
        return expand(loaded, METHODS[_METHODS.index(method or "uniform")], seed)
    if method is not None:
        raise _Refused(f"--method {method}: is of counts, and the trace has single requests; leave it out")
    return loaded


def _tell_of(loaded: Trace, reading: Reading) -> None:
    """What was mended, and what about a trace can hardly be right."""
    from traces.plausible import findings

    tell(loaded.repairs)
    warn(findings(loaded, reading.column_map))


def _write(loaded: Trace, target: str) -> None:
    from traces.parquet import write_parquet

    if target == "-":
        raise _Refused("TARGET -: Parquet is written to a file, not to standard output; name one")
    with held(Path(target), file=True):
        write_parquet(loaded, target)
    click.echo(f"{target}: {len(loaded.names)} functions, {len(loaded.arrival_us)} requests")
