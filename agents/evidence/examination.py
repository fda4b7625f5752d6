"""What is wrong with a run folder, if anything: its files against its plan, and against each other.

``tyche doctor RUN`` prints it.  A run that goes on is looked at as far as it has come; nothing is changed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from agents.evidence.run_folder import RunError, RunFolder, batches, row_label
from agents.evidence.statistics import conclusions
from agents.policies.loading import BOUND
from traces.blame import said
from traces.output import is_held
from tyche_env.doctor import Finding
from tyche_env.errors import UserError

Rows = list[dict[str, Any]]

_MANIFEST = ("status", "plan", "command", "versions", "started", "wall_s", "cpu_s")
"""What a manifest must have."""
_PLAN = ("policies", "prewarm", "modes", "windows", "seeds", "record")
"""What the plan of an evaluation must have."""
_NAMED = 3
"""How many rows a line names."""
_CLOSE = 1e-9
"""Relative difference of two sums that were added up in another order."""


def examine_run(path: Path) -> list[Finding]:
    """Look at a run folder.

    Args:
        path: the folder.

    Returns:
        One finding a check; what was found wrong says what to do.

    Raises:
        RunError: there is no such folder.
    """
    if not path.is_dir():
        raise RunError(f"{path}: there is no such folder")
    folder, running = RunFolder(path), is_held(path)
    manifest, finding = _manifest(folder)
    if manifest is None:
        return [finding]
    resume = _resume(path, manifest)
    findings = [finding, _status(manifest, running, resume)]
    if "policies" not in manifest["plan"]:
        return [*findings, *_of_experiment(folder, manifest)]
    rows: Rows = []
    for name, check in (
        ("rows", lambda: _rows(folder, manifest, running, resume, rows)),
        ("summary", lambda: _summary(folder, manifest, running, resume, rows)),
        ("requests", lambda: _requests(folder, manifest, rows)),
        ("parts", lambda: _parts(folder, manifest, running, rows)),
    ):
        findings.append(_guarded(name, check))
    return findings


def _guarded(name: str, check: Callable[[], str | None]) -> Finding:
    """A check that answers what is right, or refuses with what is wrong."""
    try:
        return Finding("run", name, True, check() or "nothing to check")
    except (UserError, OSError) as error:
        return Finding("run", name, False, str(error))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return Finding("run", name, False, f"has not the form that this version writes ({said(error)})")


def _manifest(folder: RunFolder) -> tuple[dict[str, Any] | None, Finding]:
    if not (folder.path / "manifest.json").is_file():
        detail = "manifest.json is missing: this is no run folder, or it was lost; name a new --out to run it again"
        return None, Finding("run", "manifest", False, detail)
    try:
        manifest = folder.manifest
    except UserError as error:
        return None, Finding("run", "manifest", False, f"{error}; name a new --out to run it again")
    plan = manifest.get("plan") if isinstance(manifest, Mapping) else None
    missing = [name for name in _MANIFEST if not isinstance(manifest, Mapping) or name not in manifest]
    if isinstance(plan, Mapping) and "experiment" not in plan:
        missing += [f"plan.{name}" for name in _PLAN if name not in plan]
    if missing or not isinstance(plan, Mapping):
        detail = f"manifest.json lacks {', '.join(missing) or 'plan'}; name a new --out to run it again"
        return None, Finding("run", "manifest", False, detail)
    if not (folder.path / "scenario.yaml").is_file():
        return manifest, Finding("run", "manifest", False, "scenario.yaml is missing; name a new --out to run it again")
    return manifest, Finding(
        "run", "manifest", True, f"of {manifest['started']}: {manifest['command'] or 'from Python'}"
    )


def _resume(path: Path, manifest: Mapping[str, Any]) -> str:
    """The command that goes on with a run."""
    command = str(manifest["command"])
    if not command:
        return "the same call"
    return f"`{command}`" if "--out" in command else f"`{command} --out {path}`"


def _status(manifest: Mapping[str, Any], running: bool, resume: str) -> Finding:
    status = manifest["status"]
    if running:
        return Finding("run", "status", True, "a process writes to it now")
    if status == "finished":
        return Finding("run", "status", True, "finished")
    what = "interrupted" if status == "interrupted" else "crashed: it says that it runs, and no process holds it"
    return Finding("run", "status", False, f"{what}; {resume} goes on with it")


def _rows(folder: RunFolder, manifest: Mapping[str, Any], running: bool, resume: str, found: Rows) -> str:
    """Whether every row belongs to the plan, and none is missing."""
    plan, path = manifest["plan"], folder.path / "rows.jsonl"
    if path.is_file() and not running and not path.read_bytes().endswith(b"\n"):
        raise RunError(f"rows.jsonl ends in half a line, as a crash leaves it; {resume} does that run again")
    numbered = folder.numbered_rows()
    planned = {_key(dict(zip(_AXES, cell, strict=True))): cell for cell in _cells(plan)}
    strange = [number for number, row in numbered if _key(row) not in planned or not _belongs(row, plan)]
    if strange:
        raise RunError(f"rows.jsonl, {_lines(strange)}: is of no run of the plan; remove what another run has left")
    at = {_key(row): row for _, row in numbered}
    found += [at[key] for key in planned if key in at]
    lines = len(path.read_text(encoding="utf-8").splitlines()) if path.is_file() else 0
    if again := sorted(set(range(1, lines + 1)) - {number for number, _ in numbered}):
        raise RunError(f"rows.jsonl, {_lines(again)}: repeats an earlier row and is not counted; remove it")
    missing = [dict(zip(_AXES, cell, strict=True)) for key, cell in planned.items() if key not in at]
    if missing and not running:
        raise RunError(
            f"rows.jsonl: {len(missing)} of {len(planned)} rows are missing, the first is "
            f"{row_label(missing[0])}; {resume} runs them"
        )
    return f"{len(found)} of {len(planned)} runs of the plan"


_AXES = ("seed", "window", "mode", "prewarm", "policy")


def _cells(plan: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    """What a plan runs, in its order, as :data:`_AXES`."""
    return product(range(plan["seeds"]), range(plan["windows"]), plan["modes"], plan["prewarm"], plan["policies"])


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in _AXES)


def _belongs(row: Mapping[str, Any], plan: Mapping[str, Any]) -> bool:
    backend = plan.get("backend", "simulated")
    return bool(row.get("scenario") == plan["scenario"] and row.get("backend", backend) == backend)


def _lines(numbers: Sequence[int]) -> str:
    """The first few of some lines."""
    more = f" and {len(numbers) - _NAMED} more" if len(numbers) > _NAMED else ""
    return f"line{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers[:_NAMED]))}{more}"


def _summary(folder: RunFolder, manifest: Mapping[str, Any], running: bool, resume: str, rows: Rows) -> str | None:
    """Whether the summary is what the rows give, as far as it says anything."""
    path = folder.path / "summary.json"
    if running or manifest["status"] != "finished" or not rows:
        return None
    if not path.is_file():
        raise RunError(f"summary.json is missing; {resume} writes it")
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        place = f"summary.json, line {error.lineno}"
        raise RunError(f"{place}: is no JSON ({error.msg}); {resume} writes it anew") from None
    expected = json.loads(json.dumps(conclusions(rows, summary["first"])))
    given = {_key(row): row for row in summary["rows"]}
    differing = [row for row in expected["rows"] if _difference(given.get(_key(row)), row, row_label(row)) is not None]
    if differing or len(given) != len(rows):
        which = row_label(differing[0]) if differing else f"{len(given)} rows for {len(rows)}"
        raise RunError(f"summary.json: has other rows than rows.jsonl ({which}); {resume} writes it anew")
    for part in ("aggregates", "comparisons", "oracle_comparisons"):
        differs = _difference(summary.get(part), expected[part], part)
        if differs is not None:
            raise RunError(
                f"summary.json: {differs}; {resume} writes it anew (unless another version of tyche-env wrote it: "
                f"{manifest['versions'].get('tyche-env', 'unknown')})"
            )
    return f"{len(expected['aggregates'])} means and {len(expected['comparisons'])} comparisons, computed again"


def _difference(given: Any, wanted: Any, place: str) -> str | None:
    """The first place where what is given differs; what only the wanted one has was not known to its version."""
    if isinstance(given, Mapping) and isinstance(wanted, Mapping):
        of = "" if "policy" not in given else f" ({given['policy']})"
        pairs = [(f"{place}{of}: {name}", value, wanted.get(name)) for name, value in given.items()]
    elif isinstance(given, list) and isinstance(wanted, list) and len(given) == len(wanted):
        pairs = [(place, one, other) for one, other in zip(given, wanted, strict=True)]
    elif isinstance(given, float) and isinstance(wanted, float):
        return (
            None
            if math.isclose(given, wanted, rel_tol=_CLOSE)
            else f"{place} is {given:.6g}, the rows give {wanted:.6g}"
        )
    else:
        return None if given == wanted else f"{place} is {str(given)[:40]}, the rows give {str(wanted)[:40]}"
    return next((found for name, one, other in pairs if (found := _difference(one, other, name)) is not None), None)


def _requests(folder: RunFolder, manifest: Mapping[str, Any], rows: Rows) -> str | None:
    """Whether the recorded requests are as many as the rows say: all of them, or of a sample no more."""
    plan = manifest["plan"]
    played = [row for row in rows if row["policy"] != BOUND]
    if plan["record"] == "none" or manifest["status"] != "finished" or not any(row["requests"] for row in played):
        return None
    if not folder.requests.is_file():
        raise RunError("requests.parquet is missing, and the run is finished; name a new --out to run it again")
    counts = _counts(folder.requests)
    if plan.get("backend", "simulated") != "simulated":
        return f"{sum(counts.values())} requests"
    for row in played:
        found = counts.pop(_key(row), 0)
        if found != row["requests"] if plan["record"] == "all" else found > row["requests"]:
            raise RunError(
                f"requests.parquet: has {found} requests of {row_label(row)}, its row says {row['requests']}; "
                "name a new --out to run it again"
            )
    if counts:
        which = dict(zip(_AXES, next(iter(counts)), strict=True))
        raise RunError(f"requests.parquet: has requests of a run without a row ({row_label(which)})")
    return f"as many as the rows say{'' if plan['record'] == 'all' else ', or a sample of them'}"


def _counts(requests: Path) -> dict[tuple[Any, ...], int]:
    """Recorded requests by :data:`_AXES`."""
    counts: dict[tuple[Any, ...], int] = {}
    for batch in batches(requests, _AXES):
        for group in batch.to_pandas().groupby(list(_AXES), observed=True).size().items():
            counts[group[0]] = counts.get(group[0], 0) + int(group[1])
    return counts


def _parts(folder: RunFolder, manifest: Mapping[str, Any], running: bool, rows: Rows) -> str:
    """Whether the requests of unfinished runs are there, and nothing was left that is of use to nobody."""
    left = list(folder.parts.rglob("*")) if folder.parts.is_dir() else []
    left += folder.path.glob("*.partial")
    if running:
        return f"{len(left)} files, which are needed until the end"
    if manifest["status"] == "finished":
        if left:
            raise RunError(f"{len(left)} files are left over, such as {left[0]}; the run is finished, remove them")
        return "none left"
    numbers = {cell: number for number, cell in enumerate(_cells(manifest["plan"]))}
    recorded = [row for row in rows if row["policy"] != BOUND and manifest["plan"]["record"] != "none"]
    lost = [row for row in recorded if not folder.part(numbers[_key(row)]).is_file()]
    if lost:
        raise RunError(
            f"{folder.parts}: the requests of {len(lost)} finished runs are not there, the first is "
            f"{row_label(lost[0])}; remove its line from rows.jsonl to run it again"
        )
    return f"{len(recorded)} of finished runs, for the rest of the run"


def _of_experiment(folder: RunFolder, manifest: Mapping[str, Any]) -> list[Finding]:
    """An experiment's plan is code: only what its files say of themselves is looked at."""

    def rows() -> str:
        return f"{len(folder.rows())} rows; of an experiment, whose plan the folder does not hold"

    def summary() -> str | None:
        if manifest["status"] != "finished":
            return None
        return f"{len(folder.summary['rows'])} rows"

    return [_guarded("rows", rows), _guarded("summary", summary)]
