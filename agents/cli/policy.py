"""``tyche policy``."""

from __future__ import annotations

import json

import click


@click.group()
def policy() -> None:
    """List the built-in policies.

    \b
    Example:
      tyche policy list
    """  # noqa: D301 (click wants the character)


@policy.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_policies(as_json: bool) -> None:
    """List the built-in policies; your own is a Python file (docs/policies.md).

    \b
    Examples:
      tyche policy list
      tyche policy list --json
    """  # noqa: D301 (click wants the character)
    from agents.policies.builtin import POLICIES
    from tyche_env import extensions

    if as_json:
        entries = [
            {"name": each.name, "privileged": each.privileged, "summary": each.summary} for each in POLICIES.values()
        ]
        click.echo(json.dumps(entries, indent=2))
        return
    for each in POLICIES.values():
        mark = "  (privileged: no fair rival)" if each.privileged else ""
        click.echo(f"{each.name:16} {each.summary}{mark}")
    click.echo(f"{'bound':16} no policy: a loose lower limit, 0 in most scenarios (tyche evaluate only)")
    for kind in ("policy", "predictor"):
        for name in extensions.names(kind):
            click.echo(f"{name:16} installed: {extensions.digest(kind, name)}")
    click.echo(f"{'FILE.py':16} your own: an object with predict(), see docs/policies.md")
