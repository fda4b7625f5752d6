"""Two run folders held against each other."""

from __future__ import annotations

from typing import Any

from agents.evidence.run_folder import RunError, RunFolder
from agents.evidence.statistics import COMPARED, by_window, paired


def compare_runs(first: RunFolder, second: RunFolder) -> list[dict[str, Any]]:
    """Paired differences second - first, on the windows and seeds that both runs have.

    Policies of the same name are paired; where each run has one policy only, those are.

    Returns:
        One entry for policy x pre-warming x mode x metric, as ``agents.evidence.statistics.compare`` gives them.

    Raises:
        RunError: the runs have no window in common, or are of different scenarios or splits.
    """
    for key in ("scenario", "split"):
        values = [run.manifest["plan"].get(key) for run in (first, second)]
        if values[0] != values[1]:
            raise RunError(f"{second.path}: its {key} is {values[1]}, that of {first.path} is {values[0]}")
    before, after = first.summary["rows"], second.summary["rows"]
    names = [list(dict.fromkeys(row["policy"] for row in rows)) for rows in (before, after)]
    pairs = [(name, name) for name in names[0] if name in names[1]]
    if not pairs and len(names[0]) == len(names[1]) == 1:
        pairs = [(names[0][0], names[1][0])]
    known = [{_sample(row) for row in rows} for rows in (before, after)]
    shared = known[0] & known[1]
    before = [row for row in before if _sample(row) in shared]
    after = [row for row in after if _sample(row) in shared]
    entries = []
    for old, new in pairs:
        for metric in COMPARED:
            reference = by_window([row for row in before if row["policy"] == old], metric)
            found = by_window([row for row in after if row["policy"] == new], metric)
            for (policy, prewarm, mode), windows in found.items():
                if (old, prewarm, mode) in reference:
                    entries.append(
                        {"policy": policy, "first": old, "prewarm": prewarm, "mode": mode, "metric": metric}
                        | paired(windows, reference[old, prewarm, mode])
                    )
    if not entries:
        raise RunError(
            f"{second.path}: has no policy, pre-warming, mode and window in common with {first.path} "
            f"(policies {', '.join(names[1])} and {', '.join(names[0])})"
        )
    return entries


def _sample(row: dict[str, Any]) -> tuple[str, str, str, int, int]:
    return (row["group"], row["prewarm"], row["mode"], row["window"], row["seed"])
