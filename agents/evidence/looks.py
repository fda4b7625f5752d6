"""How often an agent was looked at on test windows: a log beside its weights, one line a look.

Whoever looks often enough finds an agent that did well by luck; so reports say how often it was.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from agents.policies.bundle import CARD, SHIPPED, load_bundle
from agents.policies.recipe import recipe_hash

TEST_LOG = "test-evaluations.jsonl"


def note_look(folder: Path, scenario: str) -> int:
    """Note that an agent was evaluated on the test windows of a scenario; returns how often it has been in all.

    Agents that come with the package keep no log: their looks are those of whoever trained them.

    Args:
        folder: the agent's bundle.
        scenario: whose test windows.
    """
    if folder.parent.resolve() == SHIPPED.resolve():
        return 0
    bundle = load_bundle(folder)
    entry = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "scenario": scenario,
        "recipe": recipe_hash(bundle.recipe),
        "digest": bundle.hash(),
    }
    path = folder / TEST_LOG
    with path.open("a", encoding="utf-8") as log:
        log.write(json.dumps(entry) + "\n")
    return looks(folder)


def looks(folder: Path) -> int:
    """How often an agent was evaluated on test windows, by its log."""
    path = folder / TEST_LOG
    return len(path.read_text(encoding="utf-8").splitlines()) if path.is_file() else 0


def is_agent(source: str) -> bool:
    """Whether a policy's source is the folder of a trained agent."""
    return (Path(source) / CARD).is_file()
