"""Collecting a trace piece by piece: compact columns instead of the file's text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


class Names:
    """Numbers for names, in the order in which they first occur; a name is any tuple of texts."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, ...], int] = {}

    def number(self, *columns: NDArray[Any]) -> NDArray[np.int32]:
        """The numbers of a piece's rows, new names included.

        Args:
            columns: text columns of equal length that together are the name.
        """
        # one column after the other: a code for what is there so far, and the row where it first occurs
        codes = np.zeros(len(columns[0]), np.int64)
        for column in columns:
            here, names = pd.factorize(column)
            codes, _ = pd.factorize(codes * len(names) + here)
        _, first = np.unique(codes, return_index=True)
        unique = [tuple(map(str, row)) for row in zip(*(column[first] for column in columns), strict=True)]
        numbers = [self._numbers.setdefault(name, len(self._numbers)) for name in unique]
        return np.array(numbers, dtype=np.int32)[codes]

    @property
    def known(self) -> list[tuple[str, ...]]:
        """The names by number."""
        return list(self._numbers)


def renumber(names: Sequence[str], numbers: NDArray[np.int32]) -> tuple[list[str], NDArray[np.int32]]:
    """Names in alphabetical order, each once, and the numbers that go with them."""
    unique, place = np.unique(np.array(names, dtype=object).astype(str), return_inverse=True)
    return [str(name) for name in unique], place.astype(np.int32)[numbers]


class Pieces:
    """Columns that grow piece by piece."""

    def __init__(self) -> None:
        self._pieces: dict[str, list[NDArray[Any]]] = {}

    def add(self, **columns: NDArray[Any]) -> None:
        """Append one piece of every column."""
        for name, values in columns.items():
            self._pieces.setdefault(name, []).append(values)

    def take(self, name: str) -> NDArray[Any]:
        """A whole column; its pieces are forgotten, so that no more than one column is there twice."""
        return np.concatenate(self._pieces.pop(name))
