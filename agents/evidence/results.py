"""Result folders of measurements: ``results.json`` with every row, and what is made from it.

``results.json`` holds the scenarios with their hashes, the agents with the hashes of recipes and weights, and one row a
policy, training seed and window; ``functions.parquet`` the sums of each row's functions, in the rows' order.  Tables,
figures and the leaderboard are made from them, without playing anything again, and can be replayed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from agents.evidence.looks import looks_note, note_look
from agents.evidence.measure import measure
from agents.evidence.run_folder import versions
from agents.evidence.standings import against_the_known, as_markdown, standings
from agents.playing.progress import Show
from agents.playing.spread import ALONE, Spread
from agents.policies.bundle import CARD, Bundle, PolicyBundle, load_bundle
from agents.policies.recipe import recipe_hash
from agents.policies.trained import policy_of
from traces.output import holds
from tyche_env.errors import UserError
from tyche_env.scenario import Scenario

FORMAT = 2
RESULTS = "results.json"
FUNCTIONS = "functions.parquet"


def members_of(folder: Path) -> list[Path]:
    """The bundles of an agent: the folder itself, or its training seeds in their order.

    Raises:
        UserError: it holds none.
    """
    if (folder / CARD).is_file():
        return [folder]
    found = [path.parent for path in folder.glob(f"seed-*/{CARD}")]
    if not found:
        raise UserError(f"{folder}: holds no agent; tyche train makes one")
    return sorted(found, key=lambda path: (len(path.name), path.name))


@holds("out")
def measure_agents(
    folders: Sequence[Path],
    scenarios: Sequence[Scenario],
    out: Path,
    *,
    expansions: int = 2,
    against: str | None = None,
    command: str = "",
    purpose: str = "",
    bar: Show | None = None,
    spread: Spread = ALONE,
) -> dict[str, Any]:
    """Measure agents on all test windows of some scenarios, note the looks, and write the result folder.

    Args:
        folders: of the agents; all training seeds of one count as one agent.
        scenarios: where.
        out: the result folder.
        expansions: of each window's counts.
        against: agent that all are compared with instead of the best heuristic.
        command: the command line.
        purpose: why, for the ledger of looks; else the command.
        bar: called with a scenario's name and the share of it that is done.
        spread: where it runs; the rows are the same everywhere.

    Returns:
        The content of ``results.json``.

    Raises:
        UserError: a folder holds no agent, or ``against`` is none of them.
    """
    members = {folder.name: members_of(folder) for folder in folders}
    if against is not None and against not in members:
        raise UserError(f"--against: {against} is none of {', '.join(members)}")
    bundles = {name: [load_bundle(each) for each in found] for name, found in members.items()}
    for name, found in bundles.items():
        for bundle in found:
            policy_of(bundle, name)  # what is no agent is found before a look is noted
    rows = []
    for scenario in scenarios:
        for name, found in bundles.items():
            note_look(scenario.name, name, found, purpose or command or "measure")
        rows += measure(
            scenario,
            bundles,
            expansions=expansions,
            progress=None if bar is None else partial(bar, scenario.name),
            spread=spread,
        )
    content = {
        "format": FORMAT,
        "command": command,
        "versions": versions(),
        "expansions": expansions,
        "against": against,
        "scenarios": {each.name: _of_scenario(each) for each in scenarios},
        "agents": {name: _about(members[name], bundles[name]) for name in members},
        "rows": rows,
    }
    write_results(out, content)
    return content


def _of_scenario(scenario: Scenario) -> dict[str, Any]:
    """What tells whether a scenario is the same later, and on which file it was."""
    about: dict[str, Any] = {"hash": scenario.hash(), "trace": scenario.trace.file}
    names = {"columns", "durations_file", "memory_file", "bad_rows"}
    reading = scenario.trace.model_dump(mode="json", include=names, exclude_defaults=True)
    return about | ({"reading": reading} if reading else {})


def write_results(out: Path, content: Mapping[str, Any]) -> None:
    """Write ``results.json`` with ``functions.parquet``, and the tables made from them."""
    out.mkdir(parents=True, exist_ok=True)
    write_rows(out, content)
    found = standings(content["rows"], content["against"])
    (out / "table.json").write_text(json.dumps([asdict(each) for each in found], indent=1) + "\n", encoding="utf-8")
    table = "\n".join(
        [as_markdown(found), against_the_known(content["rows"]), looks_note(list(content["scenarios"])), ""]
    )
    (out / "table.md").write_text(table, encoding="utf-8")


def write_rows(folder: Path, content: Mapping[str, Any]) -> None:
    """Write ``results.json``, a line a row, and ``functions.parquet``."""
    import pandas as pd

    rows = content["rows"]
    tables = [pd.DataFrame(row["functions"]).assign(row=place) for place, row in enumerate(rows)]
    pd.concat(tables).to_parquet(folder / FUNCTIONS, index=False, compression="zstd")
    lines = [json.dumps({key: value for key, value in row.items() if key != "functions"}) for row in rows]
    head = json.dumps({key: value for key, value in content.items() if key != "rows"}, indent=1)[:-2]
    (folder / RESULTS).write_text(head + ',\n "rows": [\n' + ",\n".join(lines) + "\n ]\n}\n", encoding="utf-8")


def _add_functions(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Give each row the sums of its functions.

    Raises:
        UserError: their file is missing or not that of these rows.
    """
    import pandas as pd

    path = folder / FUNCTIONS
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({str(error).splitlines()[0]}); it belongs to {RESULTS}") from None
    parts = dict(iter(table.groupby("row")))
    for place, row in enumerate(rows):
        part = parts.get(place, table[:0])
        row["functions"] = {str(name): part[name].tolist() for name in table.columns if name != "row"}
        if sum(row["functions"].get("requests", ())) != row["sums"]["requests"]:
            raise UserError(f"{path}: does not belong to {folder / RESULTS}: row {place} has other requests")


def read_results(folder: Path) -> dict[str, Any]:
    """The content of a result folder.

    Raises:
        UserError: it is none, or broken.
    """
    path = folder / RESULTS
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); python -m agents.evaluate writes result folders"
        ) from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno}: is no JSON ({error.msg})") from None
    if content.get("format") != FORMAT:
        raise UserError(
            f"{path}: has format {content.get('format')}, this version reads {FORMAT}; measure the agents again"
        )
    seen = Counter((row["scenario"], row["policy"], row["seed"], row["window"]) for row in content["rows"])
    for (scenario, policy, seed, window), count in seen.items():
        if count > 1:
            raise UserError(f"{path}: has {count} rows of {scenario}, {policy}, seed {seed}, window {window}")
    _add_functions(folder, content["rows"])
    return content


def _about(folders: Sequence[Path], bundles: Sequence[Bundle | PolicyBundle]) -> dict[str, Any]:
    return {
        "recipe": recipe_hash(bundles[0].recipe),
        "kind": bundles[0].recipe.kind,
        "data": bundles[0].manifest.get("data", ""),
        "members": [
            {"folder": str(folder), "digest": bundle.hash()} for folder, bundle in zip(folders, bundles, strict=True)
        ],
    }
