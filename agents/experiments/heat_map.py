"""Heat maps of how many times as long a rival takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from traces.output import holds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLE = "Delay of a rival / delay of Tyche (above 1: Tyche is faster; bold: clear of 1)"


@dataclass(frozen=True, slots=True)
class Panel:
    """One heat map.

    Attributes:
        title: against whom, and where.
        factors: (Y, X) delay of the rival over that of Tyche; NaN where there is none.
        clear: (Y, X) whether the interval is clear of 1.
    """

    title: str
    factors: NDArray[np.float64]
    clear: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Side:
    """One axis that all panels share: its label, and what stands at each row or column."""

    label: str
    ticks: tuple[str, ...]


@holds("folder")
def draw(
    panels: Sequence[Sequence[Panel]], across: Side, down: Side, size_in: tuple[float, float], folder: Path
) -> list[Path]:
    """Write ``regime.svg``, ``.pdf`` and ``.png``.

    Raises:
        ModuleNotFoundError: the extra ``report`` is not installed.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    paths = [folder / f"regime.{kind}" for kind in ("svg", "pdf", "png")]
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "tyche"}):
        canvas = Figure(figsize=size_in, layout="constrained")
        grid = canvas.subplots(len(panels), len(panels[0]), sharex=True, sharey=True, squeeze=False)
        for axes, line in zip(grid, panels, strict=True):
            for axis, panel in zip(axes, line, strict=True):
                _fill(axis, panel, across.ticks, down.ticks)
            axes[0].set_ylabel(down.label)
        for axis in grid[-1]:
            axis.set_xlabel(across.label)
        canvas.suptitle(TITLE, fontsize=11)
        # No date, so that the same results make the same file.
        dates = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
        for path in paths:
            canvas.savefig(path, dpi=140, metadata=dates.get(path.suffix))
    return paths


def _fill(axis: Axes, panel: Panel, across: Sequence[str], down: Sequence[str]) -> None:
    """Factors on a logarithmic scale of colours."""
    axis.imshow(np.clip(np.log2(panel.factors), -3, 3), cmap="RdBu", vmin=-3, vmax=3, aspect="auto")
    for y, x in product(range(len(down)), range(len(across))):
        factor = panel.factors[y, x]
        ink = "white" if abs(np.log2(factor)) > 1.8 else "black"
        weight = "bold" if panel.clear[y, x] else None
        text = "-" if np.isnan(factor) else f"{factor:.0f}" if factor >= 10 else f"{factor:.2g}"
        axis.text(x, y, text, ha="center", va="center", fontsize=8, color=ink, fontweight=weight)
    axis.set_title(panel.title, fontsize=9, loc="left")
    axis.set_xticks(range(len(across)), across)
    axis.set_yticks(range(len(down)), down)
