"""What a reader mended in a file, rule by rule: nothing is changed or dropped without a count."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from traces.errors import FileName

BadRows = Literal["fail", "repair"]
"""What becomes of rows that a reader has a rule for: ``fail`` refuses the file, ``repair`` applies the rule."""


@dataclass(frozen=True, slots=True)
class Repair:
    """A rule that was applied.

    Attributes:
        rule: what was wrong, and what was made of it.
        count: how many rows or functions it was applied to.
        file: where it was applied first; empty if to no row of a file.
        first_row: the first such row, as a text editor counts; 0 likewise.
        changed: whether something was mended or left out; else it was kept as it is, and is only told.
    """

    rule: str
    count: int
    file: str = ""
    first_row: int = 0
    changed: bool = True

    @property
    def word(self) -> str:
        """What was done."""
        return "repaired" if self.changed else "noted"

    def __str__(self) -> str:
        """One line."""
        place = f" (first in {self.file}, row {self.first_row})" if self.file else ""
        return f"{self.count} x {self.rule}{place}"


@dataclass(slots=True)
class Repairs:
    """Collects repairs while files are read; those by one rule are one.

    Attributes:
        bad_rows: whether there are any.
    """

    bad_rows: BadRows = "fail"
    _found: dict[str, Repair] = field(default_factory=dict)

    @property
    def wanted(self) -> bool:
        """Whether rules are applied."""
        return self.bad_rows == "repair"

    def note(
        self, rule: str, where: NDArray[np.bool_], file: FileName = "", first_row: int = 2, *, changed: bool = True
    ) -> None:
        """Count a rule's rows.

        Args:
            rule: the rule.
            where: which rows of the file it is applied to, or which functions.
            file: whose rows they are; empty for functions.
            first_row: number of the first of the rows.
            changed: whether they are mended or left out; else they are kept as they are.
        """
        count = int(where.sum())
        if count:
            row = int(np.argmax(where)) + first_row if file else 0
            old = self._found.get(rule, Repair(rule, 0, str(file), row, changed))
            self._found[rule] = replace(old, count=old.count + count)

    def __iter__(self) -> Iterator[Repair]:
        """Those that were applied, in the order in which they first were."""
        return iter(self._found.values())
