"""Where in a file a piece of a column stands, so that whatever is wrong with it is told with row and column."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from traces.errors import FileName, TraceError


@dataclass(frozen=True, slots=True)
class Place:
    """A piece of one column.

    Attributes:
        path: the file.
        column: the column's name.
        first_row: number of the piece's first row.
        cells: how a cell of the piece is written.
    """

    path: FileName
    column: str
    first_row: int
    cells: Callable[[int], str]

    def refuse(self, wrong: NDArray[np.bool_], problem: str) -> None:
        """Refuse the first row that is wrong, if any is; its cell stands before the problem.

        Raises:
            TraceError: A row is wrong.
        """
        if wrong.any():
            row = int(np.argmax(wrong))
            cell = self.cells(row)
            raise TraceError.at(
                self.path,
                f"{cell} {problem}" if cell else f"the cell {problem}",
                row=self.first_row + row,
                column=self.column,
            )
