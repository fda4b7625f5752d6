"""The ledger of looks at test windows: whoever looks often enough finds an agent that did well by luck.

One ledger for all agents and recipes, by scenario and split, so that it does not begin anew with every training:
``looks.csv`` beside this module, kept in the repository.  Choices are made on validation windows; what is measured on
test windows could change a choice all the same, so each time that weights meet test windows for the first time is
entered.  Playing unchanged weights again, for a new table, is no look.
"""

from __future__ import annotations

import csv
import io
import os
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from agents.policies.bundle import CARD, Bundle, PolicyBundle, load_bundle
from agents.policies.recipe import recipe_hash

_SHIPPED = Path(__file__).with_name("looks.csv")
_VARIABLE = "TYCHE_LOOKS"
_DIGEST = 12
"""Hexadecimal digits that name weights."""


@dataclass(frozen=True, slots=True)
class Look:
    """One look at test windows.

    Attributes:
        date: of the day, ISO.
        scenario: whose windows.
        split: ``test``.
        policy: the agent's name.
        recipe: its hash; empty where it was not recorded.
        weights: short digests of all that was measured, apart by blanks; likewise.
        purpose: why.
    """

    date: str
    scenario: str
    split: str
    policy: str
    recipe: str
    weights: str
    purpose: str


def ledger() -> Path:
    """Where looks are entered: ``TYCHE_LOOKS``, or the repository's file, or ``looks.csv`` here without a checkout."""
    named = os.environ.get(_VARIABLE)
    if named:
        return Path(named)
    return _SHIPPED if (_SHIPPED.parents[2] / ".git").exists() else Path("looks.csv")


def looks() -> list[Look]:
    """All looks that are known: those of the repository, and those of one's own ledger."""
    return [look for path in dict.fromkeys((_SHIPPED, ledger())) for look in _read(path)]


def note_look(scenario: str, policy: str, bundles: Sequence[Bundle | PolicyBundle], purpose: str) -> bool:
    """Enter that weights met the test windows of a scenario, unless they had before.

    Args:
        scenario: whose test windows.
        policy: the agent's name.
        bundles: of the agent, one a training seed.
        purpose: why.

    Returns:
        Whether it was a look.
    """
    weights = [bundle.hash()[:_DIGEST] for bundle in bundles]
    known = {each for look in looks() if look.scenario == scenario for each in look.weights.split()}
    if known.issuperset(weights):
        return False
    path, today = ledger(), time.strftime("%Y-%m-%d")
    look = Look(today, scenario, "test", policy, recipe_hash(bundles[0].recipe), " ".join(weights), purpose)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = io.StringIO()
    table = csv.writer(lines, lineterminator="\n")
    if not path.exists():
        table.writerow([field.name for field in fields(Look)])
    table.writerow(astuple(look))
    with path.open("a", newline="", encoding="utf-8") as file:
        file.write(lines.getvalue())  # at once, so that what several processes enter never mixes
    return True


def looks_note(scenarios: Sequence[str]) -> str:
    """How often the test windows of some scenarios have been looked at, by which agents, in words."""
    known = looks()
    parts = []
    for scenario in scenarios:
        own = [look for look in known if look.scenario == scenario]
        names = ", ".join(dict.fromkeys(look.policy for look in own))
        parts.append(f"{scenario} {len(own)} ({names})" if own else f"{scenario} 0")
    return f"Looks at these test windows so far, by any agent: {'; '.join(parts)}."


def note_folder(source: object, scenario: str, purpose: str) -> None:
    """Enter the look of a policy, if it is the folder of a trained agent."""
    if isinstance(source, str) and (Path(source) / CARD).is_file():
        note_look(scenario, Path(source).name, [load_bundle(Path(source))], purpose)


def _read(path: Path) -> list[Look]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [Look(**row) for row in csv.DictReader(file)]
