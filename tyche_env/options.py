"""Options of the command line that have been renamed: the old spelling is refused, and the new one named."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

import click

from tyche_env.errors import UserError

_CommandT = TypeVar("_CommandT", bound=Callable[..., Any])


def renamed(old: str, new: str, when: Collection[str] | None = None) -> Callable[[_CommandT], _CommandT]:
    """Refuse an option that has another name by now, or values of an option that have moved to another one.

    Decorates the function of a command, as ``click.option`` does::

        @click.option("--containers", type=click.Choice(["process", "docker"]))
        @renamed("--engine", "--containers")

        @renamed("--engine", "--on", when=["ray"])
        @click.option("--engine", type=click.Choice(["compiled", "reference"]))

    Args:
        old: The option as it was, such as ``--engine``; no help shows it.
        new: What to write instead.
        when: Values that are refused.  The command still has the option ``old``, a choice among other values, which
            is declared below this.  None: it has no such option any more, and whatever is given is refused.
    """

    def hide(command: _CommandT) -> _CommandT:
        # With an optional value, since a flag may be renamed as well; eager, before anything else is found wrong.
        option = click.option(
            old,
            is_flag=False,
            flag_value="",
            default=None,
            hidden=True,
            is_eager=True,
            expose_value=False,
            callback=refuse,
        )
        return option(command)

    def refuse(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
        if value is not None:
            raise UserError(f"{old}: is now {new}")

    def narrow(command: _CommandT) -> _CommandT:
        declared: list[click.Parameter] = getattr(command, "__click_params__", [])
        option = next((each for each in declared if old in each.opts), None)
        if option is None or not isinstance(option.type, click.Choice):
            raise TypeError(f"{old}: must be declared below, with type=click.Choice(...)")
        option.type = _Moved(option.type, {value: f"{old} {value}: is now {new} {value}" for value in when or ()})
        return command

    return hide if when is None else narrow


def refuse_variable(old: str, new: str, environment: Mapping[str, str], error: type[UserError] = UserError) -> None:
    """Refuse an environment variable that has another name by now.

    Raises:
        UserError: it is set; of the given kind.
    """
    if old in environment:
        raise error(f"{old}: is now {new}")


class _Moved(click.Choice):  # type: ignore[type-arg]
    """A choice that knows where values have gone that it had."""

    def __init__(self, choice: click.Choice[Any], gone: dict[str, str]) -> None:
        super().__init__(choice.choices, choice.case_sensitive)
        self._gone = gone

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value in self._gone:
            raise UserError(self._gone[value])
        return super().convert(value, param, ctx)
