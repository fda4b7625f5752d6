"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


def spread_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--jobs`` and ``--engine`` of ``agents.fan_out.Spread``."""
    jobs = click.option("--jobs", type=click.IntRange(min=1), help="Simulations at a time.  [default: one a core]")
    engine = click.option(
        "--engine",
        type=click.Choice(["processes", "ray"]),
        default="processes",
        show_default=True,
        help="Of simulations: processes here, or a Ray cluster (RAY_ADDRESS), which decides how many; same results.",
    )
    return jobs(engine(command))
