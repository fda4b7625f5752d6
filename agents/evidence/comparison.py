"""Two run folders held against each other."""

from __future__ import annotations

from typing import Any

from agents.evidence.kept import with_sums
from agents.evidence.run_folder import RunError, RunFolder
from agents.evidence.statistics import COMPARED, by_condition, paired


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
    before, after = ([with_sums(row) for row in run.rows()] for run in (first, second))
    names = [list(dict.fromkeys(row["policy"] for row in rows)) for rows in (before, after)]
    pairs = [(name, name) for name in names[0] if name in names[1]]
    if not pairs and len(names[0]) == len(names[1]) == 1:
        pairs = [(names[0][0], names[1][0])]
    references, found = by_condition(before), by_condition(after)
    entries = []
    for old, new in pairs:
        for metric in COMPARED:
            for (policy, prewarm, mode), own in found.items():
                reference = references.get((old, prewarm, mode))
                if policy != new or reference is None:
                    continue
                compared = paired(own, reference, metric)
                if compared["difference"] is not None:
                    about = {"policy": policy, "first": old, "prewarm": prewarm, "mode": mode, "metric": metric}
                    entries.append(about | compared)
    if not entries:
        raise RunError(
            f"{second.path}: has no policy, pre-warming, mode and window in common with {first.path} "
            f"(policies {', '.join(names[1])} and {', '.join(names[0])})"
        )
    return entries
