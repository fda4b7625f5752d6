"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


def spread_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--jobs`` and ``--on`` of ``agents.playing.spread.Spread``."""
    jobs = click.option("--jobs", type=click.IntRange(min=1), help="Simulations at a time.  [default: one a core]")
    on = click.option(
        "--on",
        type=click.Choice(["processes", "ray"]),
        default="processes",
        show_default=True,
        help="Where simulations run: processes here, or a Ray cluster (RAY_ADDRESS), which decides how many at a time; "
        "same results.",
    )
    return jobs(on(command))
