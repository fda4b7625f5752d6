"""Opening files: plain or packed (gzip, bz2, xz, zst, zip), and what can be read once only (standard input, pipes).

How a file is packed is recognised by its first bytes, not by its name.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import shutil
import stat
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from traces.errors import FileName, TraceError

Progress = Callable[[int, int], None]
"""Called with (bytes read, bytes of the file), both as they lie on the disk."""

STANDARD_INPUT = "-"
PARQUET_MAGIC = b"PAR1"
BLOCK_BYTES = 1 << 22
_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zst", b"PK\x03\x04": "zip"}
_LONGEST_MAGIC = max(map(len, _MAGIC))
_ARCHIVES = {b"Rar!": "a rar archive", b"7z\xbc\xaf\x27\x1c": "a 7z archive", b"ARROW1": "an Arrow (Feather) file"}
_TAR, _TAR_AT = b"ustar", 257
_SHOWN = 3
_LIBRARIES = (zlib.error, lzma.LZMAError, zipfile.BadZipFile, pa.ArrowException)
_DAMAGE = (*_LIBRARIES, NotImplementedError, RuntimeError, OSError)
"""bz2 says OSError of damage, zipfile RuntimeError of what is encrypted and NotImplementedError of other methods."""


class _Watched(io.RawIOBase):
    """A file that tells how far it has been read, whoever reads it through whatever decompresses it."""

    def __init__(self, file: IO[bytes], size: int, progress: Progress) -> None:
        self._file, self._size, self._progress = file, size, progress

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self._progress(self._file.tell(), self._size)
        return len(data)


class _DamagedError(Exception):
    """Packed data that cannot be unpacked."""


class _Unpacked(io.RawIOBase):
    """The bytes of packed data; whatever the library raises about damage has one name."""

    def __init__(self, packed: IO[bytes]) -> None:
        self._packed = packed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._packed.read(len(buffer))
        except EOFError:
            raise
        except _DAMAGE as error:
            raise _DamagedError(error) from error
        buffer[: len(data)] = data
        return len(data)


@dataclass(frozen=True, slots=True)
class _Copy(os.PathLike[str]):
    """A temporary copy of something, which is called by the name of what it is a copy of."""

    path: str
    shown: str

    def __fspath__(self) -> str:
        return self.path

    def __str__(self) -> str:
        return self.shown


@contextmanager
def unpacked(path: FileName, progress: Progress | None = None) -> Iterator[IO[bytes]]:
    """A file's bytes, unpacked; damage that shows while they are read becomes a TraceError.

    Raises:
        TraceError: There is no such file, it is damaged, or it is a zip file with more than one file in it.
    """
    kind = "gzip"
    try:
        with Path(path).open("rb") as file:
            kind = _kind(file.read(_LONGEST_MAGIC))
            file.seek(0)
            raw: Any = file
            if progress is not None and kind != "zip":
                raw = io.BufferedReader(_Watched(file, Path(path).stat().st_size, progress), BLOCK_BYTES)
            if kind:
                with _opened(path, raw, kind) as packed, io.BufferedReader(_Unpacked(packed), BLOCK_BYTES) as data:
                    yield data
            else:
                yield raw
    except FileNotFoundError as error:
        raise TraceError.at(path, "no such file") from error
    except IsADirectoryError as error:
        raise TraceError.at(path, "is a folder, expected a file") from error
    except EOFError as error:
        raise TraceError.at(path, f"the {kind} data end too early, expected a whole file; fetch it again") from error
    except _DamagedError as error:
        if "truncated" in str(error).lower():
            problem = f"the {kind} data end too early, expected a whole file; fetch it again"
            raise TraceError.at(path, problem) from error
        raise TraceError.at(path, f"the {kind} data are damaged ({error}); fetch the file again") from error


def head(path: FileName, size: int = 1 << 16) -> bytes:
    """The first bytes of a file, unpacked if it is packed.

    Raises:
        TraceError: There is no such file, or it is damaged.
    """
    with unpacked(path) as data:
        return data.read(size)


def refuse_archives(path: FileName) -> None:
    """Refuse what has to be unpacked or written anew by something else first.

    Raises:
        TraceError: The file is missing or damaged, or it is an archive of several files, or a table of another form.
    """
    begin = head(path, _TAR_AT + len(_TAR))
    kind = next((name for magic, name in _ARCHIVES.items() if begin.startswith(magic)), "")
    if begin[_TAR_AT:] == _TAR:
        kind = "a tar archive"
    if kind:
        advice = "write it as Parquet" if begin.startswith(b"ARROW1") else "unpack it and name one of its files"
        raise TraceError.at(path, f"is {kind}, which is not read; {advice}")


@contextmanager
def regular(path: FileName) -> Iterator[FileName]:
    """A file that can be read as often as one likes, and by Parquet's reader: a temporary copy where need be.

    Standard input (``-``), pipes, and packed Parquet files are copied; errors call the copy by the original's name.

    Raises:
        TraceError: A packed file that is damaged.
    """
    with tempfile.TemporaryDirectory(prefix="tyche-trace-") as folder:
        if str(path) == STANDARD_INPUT:
            copy = _Copy(str(Path(folder) / "stdin"), "standard input")
            with Path(copy).open("wb") as out:
                shutil.copyfileobj(sys.stdin.buffer, out)
        elif _is_pipe(path):
            copy = _Copy(str(Path(folder) / Path(path).name), str(path))
            with Path(path).open("rb") as pipe, Path(copy).open("wb") as out:
                shutil.copyfileobj(pipe, out)
        else:
            copy = _Copy(os.fspath(path), str(path))
        if not _is_packed_parquet(copy):
            yield path if copy.path == os.fspath(path) else copy
            return
        plain = _Copy(str(Path(folder) / f"{Path(copy).stem}.unpacked"), str(copy))
        with unpacked(copy) as data, Path(plain).open("wb") as out:
            shutil.copyfileobj(data, out)
        yield plain


def _is_pipe(path: FileName) -> bool:
    try:
        return not (stat.S_ISREG(mode := Path(path).stat().st_mode) or stat.S_ISDIR(mode))
    except OSError:
        return False  # whoever opens it says why


def _is_packed_parquet(path: FileName) -> bool:
    if not Path(path).is_file():
        return False
    with Path(path).open("rb") as file:
        packed = _kind(file.read(_LONGEST_MAGIC))
    return bool(packed) and head(path, len(PARQUET_MAGIC)) == PARQUET_MAGIC


def _kind(begin: bytes) -> str:
    """How a file that begins so is packed; empty if it is not."""
    return next((name for magic, name in _MAGIC.items() if begin.startswith(magic)), "")


@contextmanager
def _opened(path: FileName, raw: IO[bytes], kind: str) -> Iterator[IO[bytes]]:
    if kind == "zip":
        with _zip(raw) as packed:
            names = [
                one.filename
                for one in packed.infolist()
                if not one.filename.endswith("/") and "__MACOSX/" not in one.filename
            ]
            if len(names) != 1:
                shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
                problem = f"the zip file holds {len(names)} files ({shown}), expected one; unpack it and name one"
                raise TraceError.at(path, problem)
            with _member(packed, names[0]) as data:
                yield data
        return
    opening: dict[str, Callable[[Any], Any]] = {
        "gzip": lambda file: gzip.GzipFile(fileobj=file),
        "bz2": bz2.BZ2File,
        "xz": lzma.LZMAFile,
        "zst": lambda file: pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd"),
    }
    with opening[kind](raw) as data:
        yield data


def _zip(raw: IO[bytes]) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(raw)
    except _DAMAGE as error:
        raise _DamagedError(error) from error


def _member(packed: zipfile.ZipFile, name: str) -> IO[bytes]:
    try:
        return packed.open(name)
    except _DAMAGE as error:
        raise _DamagedError(error) from error
