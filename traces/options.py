"""Options of every command that reads a trace file: how it is to be read.

One decorator, so that what one command can read another one can, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from traces.counts import Counts
    from traces.mapped import ColumnMap
    from traces.packing import Progress
    from traces.plausible import Finding
    from traces.repairs import BadRows, Repair
    from traces.tokens import TokenCost
    from traces.trace import Trace


@dataclass(frozen=True, slots=True)
class Reading:
    """How a trace file is to be read; as ``traces.load`` takes it.

    Attributes:
        columns: of ``--column``, such as ``time=when``.
        tz: of ``--tz``.
        family: of ``--family``.
        durations: of ``--durations``.
        memory: of ``--memory``.
        bad_rows: of ``--bad-rows``.
    """

    columns: tuple[str, ...] = ()
    tz: str | None = None
    family: str | None = None
    durations: str | None = None
    memory: str | None = None
    bad_rows: BadRows = "fail"

    def given(self) -> str:
        """The options that are not at their defaults, as they are written; empty if there are none."""
        options = {"--column": self.columns, "--tz": self.tz, "--family": self.family}
        options |= {"--durations": self.durations, "--memory": self.memory}
        names = [name for name, value in options.items() if value]
        return ", ".join(names + (["--bad-rows"] if self.bad_rows != "fail" else []))

    @property
    def column_map(self) -> ColumnMap | None:
        """The columns; None if none is named.

        Raises:
            TraceError: an option that makes no sense.
        """
        from traces.mapped import columns_of

        return columns_of(self.columns, self.tz)

    def load(self, path: str, progress: Progress | None = None, cost: TokenCost | None = None) -> Counts | Trace:
        """The trace of a file.

        Args:
            path: the file.
            progress: told how far the reading is.
            cost: how tokens become run time.

        Raises:
            TraceError: it cannot be read so.
        """
        from traces.files import load

        beside: dict[str, Any] = {"family": self.family, "durations": self.durations, "memory": self.memory}
        return load(path, self.column_map, progress, **beside, bad_rows=self.bad_rows, cost=cost)

    def settings(self) -> dict[str, Any]:
        """The same as ``Scenario.on_file`` takes it, without what is at its default.

        Raises:
            TraceError: an option that makes no sense.
        """
        mapping = self.column_map
        every = {
            "columns": None if mapping is None else mapping.model_dump(exclude_unset=True),
            "family": self.family,
            "durations_file": self.durations,
            "memory_file": self.memory,
            "bad_rows": None if self.bad_rows == "fail" else self.bad_rows,
        }
        return {name: value for name, value in every.items() if value is not None}


def reading_options(of: str = "") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the options of a :class:`Reading`, which it takes as ``reading``.

    Args:
        of: the option that names the file, where it may be left out.
    """
    about = f"Of {of}: " if of else ""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def with_reading(
            *arguments: Any,
            columns: tuple[str, ...],
            tz: str | None,
            family: str | None,
            durations: str | None,
            memory: str | None,
            bad_rows: BadRows,
            **others: Any,
        ) -> Any:
            return command(*arguments, reading=Reading(columns, tz, family, durations, memory, bad_rows), **others)

        decorated: Callable[..., Any] = with_reading
        for option in reversed(_options(about)):
            decorated = option(decorated)
        return decorated

    return decorate


def _options(about: str) -> list[Callable[[Callable[..., Any]], Callable[..., Any]]]:
    file = click.Path(exists=True, dir_okay=False)
    return [
        click.option(
            "--column",
            "columns",
            multiple=True,
            metavar="WHAT=NAME",
            help=f"{about}which column is what, in a file of no known form; may be repeated. WHAT: time, end, "
            "function, duration, context_tokens, generated_tokens, images, count, owner, trigger; also time_unit "
            "(ns us ms s min h iso), duration_unit, time_is (arrival end), starts_at, ends_at, count_minutes, "
            "delimiter and decimal.",
        ),
        click.option(
            "--tz",
            metavar="ZONE",
            help=f"{about}time zone of dates without one, such as Europe/Berlin.  [default: UTC]",
        ),
        click.option(
            "--family",
            metavar="NAME",
            help=f"{about}form of a public trace that its file does not tell: huawei2023, chutes-endpoints.  "
            "[default: by its content]",
        ),
        click.option("--durations", type=file, help=f"{about}Azure Functions 2019, the file of run times."),
        click.option("--memory", type=file, help=f"{about}Azure Functions 2019, the file of memory."),
        click.option(
            "--bad-rows",
            type=click.Choice(("fail", "repair")),
            default="fail",
            show_default=True,
            help=f"{about}refuse rows that there is a rule for, or mend and count them: Azure Functions 2019, Huawei "
            "2023, BurstGPT, Mooncake, Chutes, SwissAI, and files with --column.",
        ),
    ]


def tell(repairs: Iterable[Repair]) -> None:
    """Print what was mended, a line each, where it is in nobody's way."""
    for repair in repairs:
        click.echo(f"{repair.word}: {repair}", err=True)


def warn(findings: Iterable[Finding]) -> None:
    """Print what can hardly be right, likewise."""
    for finding in findings:
        click.echo(f"implausible: {finding}", err=True)
