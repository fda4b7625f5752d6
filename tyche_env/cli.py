"""The command ``tyche``: finds its subcommands through entry points and turns user errors into one line.

A subcommand is an entry point of the group ``tyche_env.commands`` that names a click command, made from a function
with a docstring; one below ``tyche NAME`` that another package brings is one of the group ``tyche_env.commands.NAME``.
Only the command that is asked for gets imported: the list of all commands takes each one's help from the docstring in
its source.  Exit status: 0, 2 after a user's error, 130 after Ctrl-C.  ``--debug``, before or behind a command's name,
shows the traceback of a user's error.
"""

from __future__ import annotations

import ast
import inspect
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from traces.blame import blaming, package_of
from traces.errors import did_you_mean
from tyche_env.collision import PACKAGE, explain_collision
from tyche_env.errors import UserError

_GROUP = "tyche_env.commands"
_EXTRAS = {
    "fastapi": "real",
    "h11": "real",
    "httptools": "real",
    "httpx": "real",
    "jinja2": "report",
    "magika": "functions",
    "matplotlib": "report",
    "onnxruntime": "functions",
    "optuna": "train",
    "prometheus_client": "real",
    "pynvml": "real",
    "ray": "cluster",
    "safetensors": "functions",
    "sb3_contrib": "train",
    "sklearn": "experiments",
    "stable_baselines3": "train",
    "statsmodels": "experiments",
    "tenacity": "real",
    "tensorboard": "train",
    "tokenizers": "functions",
    "torch": "train",
    "transformers": "functions",
    "uvicorn": "real",
}
"""Which extra installs a module that commands import when they need it."""


class _Subcommands(click.Group):
    """A group whose commands are entry points, imported one at a time."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(entry_points(group=_GROUP).names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = entry_points(group=_GROUP, name=cmd_name)
        if not found:
            if ctx.resilient_parsing:  # a shell asks what a half-written line may become
                return None
            hint = did_you_mean(cmd_name, self.list_commands(ctx))
            raise click.UsageError(f"there is no command {cmd_name!r}; {hint}", ctx)
        entry = next(iter(found))
        if entry.module.partition(".")[0] == PACKAGE and (problem := explain_collision()) is not None:
            raise UserError(problem)
        with blaming(f"command {cmd_name}: {entry.value}", package_of(entry.module)):
            command = entry.load()
        if not isinstance(command, click.Command):
            raise TypeError(f"entry point {cmd_name} of group {_GROUP} is no click command")
        if isinstance(command, click.Group):
            for inner in entry_points(group=f"{_GROUP}.{cmd_name}"):
                with blaming(f"command {cmd_name} {inner.name}: {inner.value}", package_of(inner.module)):
                    command.add_command(inner.load(), inner.name)
        _end_with_examples(command)
        _take_debug(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(entry.name, _summary(entry)) for entry in sorted(entry_points(group=_GROUP), key=lambda e: e.name)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        entries = [entry for entry in entry_points(group=_GROUP) if entry.name.startswith(incomplete)]
        items = [CompletionItem(entry.name, help=_summary(entry)) for entry in sorted(entries, key=lambda e: e.name)]
        return [*items, *click.Command.shell_complete(self, ctx, incomplete)]


@dataclass(slots=True)
class _Shown:
    """What of an error is shown.

    Attributes:
        traceback: all of it.
    """

    traceback: bool = False


def _show_traceback(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    shown = context.find_object(_Shown)
    if value and shown is not None:
        shown.traceback = True


_debug = click.option(
    "--debug",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_traceback,
    help="Show the traceback of an error, beside its one line.",
)


def _take_debug(command: click.Command) -> None:
    """Let a command, and those below it, take ``--debug`` as well, unless it means something else there."""
    if not any("--debug" in parameter.opts for parameter in command.params):
        option = click.Option(
            ["--debug"], is_flag=True, is_eager=True, expose_value=False, hidden=True, callback=_show_traceback
        )
        command.params.append(option)
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        _take_debug(inner)


def _end_with_examples(command: click.Command) -> None:
    """Move the examples that end a command's docstring behind its options, to the end of its help; below it, too."""
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        # whole first lines, as in the list of all commands
        inner.short_help = inner.short_help or (inner.help or "").partition("\n")[0]
        _end_with_examples(inner)
    text, mark, examples = inspect.cleandoc(command.help or "").partition("\n\b\nExample")
    if mark:
        command.help, command.epilog = text.rstrip(), f"\b\nExample{examples}"


def _summary(entry: EntryPoint) -> str:
    """First line of a command's docstring, read from its source without running any of it."""
    folders: Sequence[str] | None = None
    origin = None
    # Not importlib.util.find_spec, which would import the parent packages.
    for step in entry.module.split("."):
        spec = PathFinder.find_spec(step, folders)
        if spec is None:
            return "(not installed)"
        folders, origin = spec.submodule_search_locations, spec.origin
    for node in ast.parse(Path(str(origin)).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == entry.attr:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    return ""


@click.group(cls=_Subcommands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="tyche-env", prog_name="tyche")
@_debug
def tyche() -> None:
    """Opportunistic pre-loading for serverless ML inference: simulate, evaluate, train.

    \b
    Examples:
      tyche evaluate --scenario small --policy none --policy tyche
      tyche scenario list
      tyche trace inspect requests.csv --column time=when --column function=model
      tyche doctor
    """  # noqa: D301 (click wants the character)


_end_with_examples(tyche)


def run(arguments: Sequence[str], command: click.Command = tyche, program: str = "tyche") -> int:
    """Run one command line and return its exit status; errors of the user become one line on stderr.

    Args:
        arguments: behind the program's name.
        command: the program; one that stands alone gets ``--debug`` as well.
        program: its name in help.
    """
    shown = _Shown()
    _take_debug(command)
    try:
        status = command.main(args=list(arguments), prog_name=program, standalone_mode=False, obj=shown)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 2
    except click.ClickException as error:
        return _refuse(error.format_message(), error, shown)
    except click.Abort:
        click.echo("tyche: interrupted", err=True)
        return 130
    except BrokenPipeError:
        # The reader of a pipe is gone; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except UserError as error:
        return _refuse(str(error), error, shown)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        return _refuse(f"this needs the package {error.name}; pip install 'tyche-env[{extra}]' brings it", error, shown)
    except OSError as error:
        if error.filename is None:
            raise
        return _refuse(f"{error.filename}: {error.strerror}", error, shown)
    return status if isinstance(status, int) else 0


def _refuse(message: str, error: BaseException, shown: _Shown) -> int:
    if shown.traceback:
        traceback.print_exception(error)
    click.echo(f"tyche: {' '.join(message.split())}", err=True)
    return 2


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(sys.argv[1:]))
