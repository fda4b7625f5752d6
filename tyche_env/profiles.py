"""Profiles: what one kind of ML function costs in time and memory, and the catalogues that list them.

A catalogue is a CSV file with one row a function and the columns of :class:`FunctionProfile`.  Shipped are
``paper`` (the eight functions that the Tyche paper measured), ``measured`` (our own measurements of real libraries
and models) and ``diffusion`` (Stable-Diffusion-like models for the GenTD26 trace).  Every row names its source and
lists the columns whose values are assumptions.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from traces.errors import did_you_mean
from traces.output import made_parent
from tyche_env.errors import UserError

_FOLDER = Path(__file__).with_name("catalogues")
_OPTIONAL_COLUMNS = ("read_share", "slo_ms", "unserved_s")

Ms = Annotated[float, Field(ge=0, le=4_000_000, allow_inf_nan=False)]
"""A latency in milliseconds; at most about an hour, so that microseconds stay below 2^32."""
Mb = Annotated[int, Field(ge=0, le=1_000_000)]
"""A size in MB of 10^6 bytes."""


class ProfileError(UserError):
    """A catalogue that cannot be read; the message names file, row and column."""


class FunctionProfile(BaseModel):
    """Costs of one function: medians in ms, memory in MB (10^6 bytes).

    Attributes:
        name: unique in its catalogue.
        container_init_ms: creation and initialisation of its container.
        library_ms: import of its libraries.
        model_ms: load of its model from disk into CPU memory.
        transfer_ms: copy of the loaded model to the GPU.
        inference_ms: one inference on the CPU.
        gpu_inference_ms: one inference on the GPU.
        hold_mb: memory of its process with libraries and model loaded.
        peak_mb: the most memory the process takes while it loads.
        gpu_mb: GPU memory of model and context; 0 if the function never uses a GPU.
        container_mb: memory limit of the container that the platform creates for it.
        sigma: standard deviation of the logarithm of every latency; 0 means no noise.
        source: where the numbers come from.
        assumed: columns whose values were not measured but assumed.
        read_share: part of ``model_ms`` that waits for the disk, where stages contend for it; a catalogue may leave the
            column out, and it then is 0: the file is in the page cache, as in our measurements.
        slo_ms: service-level objective: end-to-end latency that is good enough; may be left out and is 0 then: none.
        unserved_s: what a request that was not served counts as, at least: the function's time limit; may be left out
            and then is 60.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1)]
    container_init_ms: Ms
    library_ms: Ms
    model_ms: Ms
    transfer_ms: Ms
    inference_ms: Ms
    gpu_inference_ms: Ms
    hold_mb: Annotated[Mb, Field(gt=0)]
    peak_mb: Mb
    gpu_mb: Mb
    container_mb: Mb
    sigma: Annotated[float, Field(ge=0, le=2)]
    source: Annotated[str, Field(min_length=1)]
    assumed: tuple[str, ...] = ()
    read_share: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0
    slo_ms: Ms = 0
    unserved_s: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = 60

    @field_validator("assumed", mode="before")
    @classmethod
    def _split_assumed(cls, value: object) -> object:
        return tuple(value.split()) if isinstance(value, str) else value

    @field_validator("assumed")
    @classmethod
    def _known_columns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = sorted(set(value) - set(cls.model_fields))
        if unknown:
            raise ValueError(f"names columns that do not exist: {', '.join(unknown)}")
        return value

    @model_validator(mode="after")
    def _memory_fits(self) -> FunctionProfile:
        if not self.hold_mb <= self.peak_mb <= self.container_mb:
            raise ValueError(
                f"needs hold_mb <= peak_mb <= container_mb, got {self.hold_mb}, {self.peak_mb}, {self.container_mb}"
            )
        return self


def catalogue_names() -> tuple[str, ...]:
    """Names of the shipped catalogues."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.csv")))


def load_catalogue(name_or_path: str | Path) -> tuple[FunctionProfile, ...]:
    """Read a catalogue.

    Args:
        name_or_path: name of a shipped catalogue, or the path of a CSV file.

    Returns:
        The profiles in the order of the file; at least one.

    Raises:
        ProfileError: names the file, the row (the header is row 1) and the column.
    """
    shipped = _FOLDER / f"{name_or_path}.csv"
    path = shipped if shipped.parent == _FOLDER and shipped.is_file() else Path(name_or_path)
    try:
        found = path.stat()
        return _read_catalogue(path, (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size))
    except OSError as error:
        hint = did_you_mean(str(name_or_path), catalogue_names())
        raise ProfileError(f"{path}: is no shipped catalogue and cannot be read ({error.strerror}); {hint}") from None


@lru_cache(maxsize=8)
def _read_catalogue(path: Path, version: tuple[int, ...]) -> tuple[FunctionProfile, ...]:
    """What a version of a file holds: each episode of an environment asks for it."""
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            header, *rows = list(csv.reader(lines, strict=True)) or [[]]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ProfileError(f"{path}: is no CSV file in UTF-8 ({error})") from None
    _check_header(path, header)
    if not rows:
        raise ProfileError(f"{path}: has no rows; one row a function is needed")
    profiles = tuple(_read_row(path, number, header, row) for number, row in enumerate(rows, start=2))
    _check_unique(path, profiles)
    return profiles


def write_catalogue(path: Path, profiles: Sequence[FunctionProfile]) -> None:
    """Write profiles in the form of a catalogue, whole or not at all.

    Raises:
        OutputError: the folder cannot be made.
    """
    made_parent(path)
    columns = list(FunctionProfile.model_fields)
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, prefix=path.name, delete=False, newline="", encoding="utf-8"
    ) as out:
        table = csv.writer(out, lineterminator="\n")
        table.writerow(columns)
        for profile in profiles:
            row = profile.model_dump() | {"assumed": " ".join(profile.assumed)}
            table.writerow([row[column] for column in columns])
    Path(out.name).chmod(0o644)
    Path(out.name).replace(path)


def _check_header(path: Path, header: list[str]) -> None:
    columns = list(FunctionProfile.model_fields)
    for column in header:
        if column not in columns:
            raise ProfileError(f"{path}: column {column} is unknown; {did_you_mean(column, columns)}")
    for column in columns:
        if header.count(column) != 1 and (column not in _OPTIONAL_COLUMNS or column in header):
            raise ProfileError(f"{path}: column {column} is {'there twice' if column in header else 'missing'}")


def _read_row(path: Path, number: int, header: list[str], row: list[str]) -> FunctionProfile:
    if len(row) != len(header):
        raise ProfileError(f"{path}, row {number}: has {len(row)} cells instead of {len(header)}")
    try:
        return FunctionProfile.model_validate(dict(zip(header, row, strict=True)))
    except ValidationError as error:
        first = error.errors()[0]
        column = f", column {first['loc'][0]}" if first["loc"] else ""
        raise ProfileError(f"{path}, row {number}{column}: {first['msg']}") from None


def _check_unique(path: Path, profiles: tuple[FunctionProfile, ...]) -> None:
    first_row: dict[str, int] = {}
    for number, profile in enumerate(profiles, start=2):
        earlier = first_row.setdefault(profile.name, number)
        if earlier != number:
            raise ProfileError(f"{path}, row {number}, column name: {profile.name} is already in row {earlier}")
