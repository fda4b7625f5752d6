"""Options that have been renamed are refused in one line, with the new name; what remains of them works on."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from tyche_env.errors import UserError
from tyche_env.options import renamed


@click.command()
@click.option("--containers", type=click.Choice(["process", "docker"]), default="process")
@click.option("--nodes", type=int, required=True)
@renamed("--engine", "--containers")
def up(containers: str, nodes: int) -> None:
    click.echo(f"{nodes} of {containers}")


@click.command()
@click.option("--on", type=click.Choice(["processes", "ray"]), default="processes")
@renamed("--engine", "--on", when=["ray"])
@click.option("--engine", type=click.Choice(["compiled", "reference"]), default="compiled", show_default=True)
def evaluate(on: str, engine: str) -> None:
    click.echo(f"{engine} on {on}")


def output(command: click.Command, *words: str) -> str:
    done = CliRunner().invoke(command, words)
    assert done.exit_code == 0, done.output
    return done.output.strip()


@pytest.mark.parametrize(
    "words",
    [
        ("--engine", "docker", "--nodes", "2"),
        ("--engine=docker", "--nodes", "2"),
        ("--nodes", "2", "--engine"),
        # also before anything else that is wrong
        ("--engine", "podman"),
        ("--nodes", "many", "--engine", "docker"),
    ],
)
def test_an_option_that_has_another_name_is_refused_whatever_it_is_given(words: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match=r"^--engine: is now --containers$"):
        up.main(list(words), standalone_mode=False)


def test_without_the_old_spelling_nothing_is_different_and_no_help_shows_it() -> None:
    assert output(up, "--nodes", "2") == "2 of process"
    assert output(up, "--nodes", "2", "--containers", "docker") == "2 of docker"
    assert "--engine" not in output(up, "--help")


def test_only_chosen_values_of_an_option_are_refused() -> None:
    with pytest.raises(UserError, match=r"^--engine ray: is now --on ray$"):
        evaluate.main(["--engine", "ray"], standalone_mode=False)
    with pytest.raises(click.BadParameter, match="'fast' is not one of 'compiled', 'reference'"):
        evaluate.main(["--engine", "fast"], standalone_mode=False)
    assert output(evaluate) == "compiled on processes"
    assert output(evaluate, "--engine", "reference", "--on", "ray") == "reference on ray"
    assert "[compiled|reference]" in output(evaluate, "--help")


def test_values_can_be_refused_only_of_a_choice_that_is_there() -> None:
    with pytest.raises(TypeError, match=r"--engine: must be declared below, with type=click.Choice"):
        renamed("--engine", "--on", when=["ray"])(lambda: None)
