"""Progress bars on a terminal, nothing in a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Show = Callable[[str, float, float], None]
"""Told the name of a thing, how much of it is done, and how much that is in all."""


@contextmanager
def bar(shown: bool = True) -> Iterator[Show]:
    """Inside, a function shows how far named things are; each has a line of its own.

    Args:
        shown: whether to show anything; on stderr, if that is a terminal.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if not shown or not console.is_terminal:
        yield lambda name, done, total: None
        return
    from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from tyche_env.simulator.loading import warm_up

    warm_up()  # it may have to say that it compiles, which would tear the bar
    count = TextColumn("{task.fields[count]}")
    columns = (TextColumn("{task.description}"), BarColumn(), count, TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as shown_bar:
        tasks: dict[str, TaskID] = {}

        def show(name: str, done: float, total: float) -> None:
            if name not in tasks:
                tasks[name] = shown_bar.add_task(name, total=total, count="")
            counted = f"{done:g}/{total:g}" if total != 1 else ""
            shown_bar.update(tasks[name], completed=done, total=total, count=counted)

        yield show
