"""``tyche completion``, and what it completes: names that a shell can offer beside the names of files."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem, get_completion_class

_SHELLS = ("bash", "zsh", "fish")

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def name_or_file(names: Callable[[], Iterable[str]]) -> Complete:
    """For ``shell_complete=``: the names that fit, else files.

    Args:
        names: called only when a shell asks, so it may import what it needs.
    """

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        found = [CompletionItem(name) for name in names() if name.startswith(incomplete)]
        return found or [CompletionItem(incomplete, type="file")]

    return complete


def scenarios() -> Iterable[str]:
    """Names of the shipped scenarios."""
    from tyche_env.scenario import Scenario

    return Scenario.names()


def catalogues() -> Iterable[str]:
    """Names of the shipped catalogues."""
    from tyche_env.profiles import catalogue_names

    return catalogue_names()


def prewarm_policies() -> Iterable[str]:
    """Names of the pre-warming policies, installed ones included."""
    from tyche_env import extensions
    from tyche_env.scenario import PREWARM

    return (*PREWARM, *extensions.names("prewarm"))


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that lets SHELL complete commands, options and names with Tab.

    \b
    Examples:
      eval "$(tyche completion bash)"     (in ~/.bashrc it lasts)
      tyche completion zsh > ~/.zfunc/_tyche
      tyche completion fish > ~/.config/fish/completions/tyche.fish
    """  # noqa: D301 (click wants the character)
    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(ctx.find_root().command, {}, "tyche", "_TYCHE_COMPLETE").source(), nl=False)
