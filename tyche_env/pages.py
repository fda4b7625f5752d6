"""Arrays mapped from files: their pages are given back to the system once they have been read.

What has been read of a map counts as a process's memory until it is given back; whoever reads it again maps it again.
"""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Pages:
    """The pages of some arrays, as far as they are mapped from files and cannot be written.

    Args:
        arrays: of which others, and what of their maps may be changed in memory alone, are left as they are.
    """

    def __init__(self, *arrays: NDArray[Any]) -> None:
        self._maps = [found for array in arrays if (found := _mapping(array)) is not None]

    def release(self, rows: int) -> None:
        """Give back the pages of the first so many entries of each array."""
        for mapping, offset, itemsize in self._maps:
            length = (offset + rows * itemsize) // mmap.PAGESIZE * mmap.PAGESIZE
            if length:
                mapping.madvise(mmap.MADV_DONTNEED, 0, length)


def _mapping(array: NDArray[Any]) -> tuple[mmap.mmap, int, int] | None:
    """The map of a file that an array is a part of, where in it the array begins, and the size of an entry."""
    base: Any = array
    while isinstance(base, np.ndarray):
        if base.flags.writeable:
            return None
        base = base.base
    if not isinstance(base, mmap.mmap) or not array.flags.c_contiguous:
        return None
    start = np.frombuffer(base, np.uint8).__array_interface__["data"][0]
    return base, int(array.__array_interface__["data"][0] - start), array.itemsize
