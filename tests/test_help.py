"""Every command's help teaches by example, at its end, and the examples have the options that they use."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click
import pytest

from tests.test_docs import accept
from tyche_env.cli import run, tyche


def paths(command: click.Command = tyche, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command."""
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from paths(inner, (*path, name))


def examples(text: str) -> list[list[str]]:
    """The command lines of a help's last paragraph, without what a shell does with their output."""
    _, mark, shown = text.rpartition("\n  Example")
    assert mark, "the help shows no example"
    title, *lines = shown.replace("\\\n", " ").splitlines()
    assert re.fullmatch("s?:", title)
    assert all(not line.strip() or line.startswith("    ") for line in lines), "the help ends otherwise"
    found = [shlex.split(line) for line in lines if line.strip()]
    assert found
    return [words[: ([*words, ">"]).index(">")] for words in found]


@pytest.mark.parametrize("path", list(paths()), ids=lambda path: " ".join(("tyche", *path)))
def test_help_ends_with_examples_that_could_be_run(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*path, "--help"]) == 0
    own = []
    for words in examples(capsys.readouterr().out):
        if words[0] == "tyche":
            accept(words[1:])
            own.append(words[1:])
    assert any(tuple(words[: len(path)]) == path for words in own) or path == ("completion",)
