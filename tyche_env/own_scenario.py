"""A scenario of your own: an own trace, own profiles and an own cluster, with windows and splits that fit the trace."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import traces
from traces.errors import did_you_mean
from traces.plausible import findings
from traces.repairs import BadRows
from tyche_env.demand import demand_of, refuse_what_no_node_holds
from tyche_env.profiles import load_catalogue
from tyche_env.scenario import Cluster, Scenario, ScenarioError
from tyche_env.state import sizes_of
from tyche_env.world import WorldError

_FEWEST_TO_SPLIT = 20
"""With fewer functions than this all splits have all of them, and times of their own."""
_LARGEST_GROUP = 40
_LONGEST_WINDOW_MIN, _LONGEST_WARM_UP_MIN = 60, 60
_SHORTEST_MIN = 12.0


def slug(text: str) -> str:
    """A text as the name of a scenario."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "mine"


def own_scenario(
    name: str,
    trace_file: str,
    catalogue: str,
    cluster: Cluster,
    columns: Mapping[str, str] | None = None,
    *,
    family: str | None = None,
    durations_file: str | None = None,
    memory_file: str | None = None,
    bad_rows: BadRows = "fail",
) -> Scenario:
    """Make a scenario.

    Functions get the profile of their own name if the catalogue has one for each; if it has none, profiles go round.
    Run times are the trace's where a column or a file of them is named, else the profiles'.
    With 20 functions or more the splits share none; with fewer they share all, and the first half of the time is for
    training, the last two fifths for testing.

    Args:
        name: of the scenario.
        trace_file: any trace file that ``traces.load`` reads.
        catalogue: name or CSV file of the profiles.
        cluster: the machines.
        columns: which column is what in the trace file (``traces.ColumnMap``), if it has no known form.
        family: its form, if the file does not tell it.
        durations_file: run times that belong to Azure Functions 2019 counts.
        memory_file: their memory.
        bad_rows: whether defects of such files are refused or mended.

    Raises:
        ScenarioError: the trace is too short, a unit is wrong (``traces.plausible``), the catalogue has profiles for
            some of the functions only, or the scenario cannot be run; the message says why.
        TraceError: the trace is broken.
        ProfileError: the catalogue is.
    """
    mapping = traces.ColumnMap.model_validate(dict(columns)) if columns else None
    trace = traces.load(
        trace_file, mapping, family=family, durations=durations_file, memory=memory_file, bad_rows=bad_rows
    )
    minutes, functions = trace.end_us / 60e6, len(trace.names)
    named = durations_file is not None or (mapping is not None and mapping.gives_run_times)
    for finding in findings(trace, mapping):
        if finding.grave and (named or finding.about != "run times"):
            raise ScenarioError(f"{trace_file}: {finding}")
    if minutes < _SHORTEST_MIN:
        hint = "" if mapping is None or mapping.time_unit == "iso" else f"; is the time_unit {mapping.time_unit} right?"
        raise ScenarioError(f"{trace_file}: lasts {minutes:.1f} minutes, a scenario needs {_SHORTEST_MIN:g}{hint}")
    known = [profile.name for profile in load_catalogue(catalogue)]
    missing = [function for function in trace.names if function not in known]
    if 0 < len(missing) < functions:
        raise ScenarioError(
            f"{catalogue}: has profiles for {functions - len(missing)} of {functions} functions of the trace, but none "
            f"for {missing[0]}; {did_you_mean(missing[0], known)}"
        )
    apart = functions >= _FEWEST_TO_SPLIT
    content: dict[str, Any] = {
        "name": name,
        "title": f"{functions} functions of {trace_file}",
        "cluster": cluster.model_dump(),
        "functions": {"catalogue": catalogue, "assign": "cycle" if missing else "name"},
        "trace": {
            "family": "file",
            "file": trace_file,
            "columns": dict(columns) if columns else None,
            "file_family": family,
            "durations_file": durations_file,
            "memory_file": memory_file,
            "bad_rows": bad_rows,
            "durations": "trace" if named else "profile",
            "group_size": min(_LARGEST_GROUP, max(1, int(0.15 * functions))) if apart else functions,
            "window_min": min(_LONGEST_WINDOW_MIN, int(1000 * minutes / 30) / 1000),
            "warm_up_min": min(_LONGEST_WARM_UP_MIN, int(1000 * minutes / 6) / 1000),
            "splits": _splits(apart),
        },
        "prices": Scenario.load("small").prices.model_dump(),
    }
    scenario = Scenario.from_mapping(content)
    selected = {profile.name: profile for profile in scenario.functions.selected()}
    used = list(selected.values()) if missing else [selected[function] for function in trace.names]
    refuse_what_no_node_holds(scenario, used[:functions])
    try:
        sizes_of(scenario.world(), record=False, features=False)
    except WorldError as error:
        raise ScenarioError(f"scenario {name}: {error}") from None
    for finding in demand_of(scenario).findings:
        if finding.grave and (named or finding.about != "run times"):
            raise ScenarioError(f"{trace_file}: {finding}")
    return scenario


def _splits(apart: bool) -> dict[str, dict[str, tuple[float, float]]]:
    """Spans of functions and time."""
    if apart:
        functions, time = ((0.0, 0.25), (0.25, 0.4), (0.4, 1.0)), ((0.0, 0.5), (0.0, 0.5), (0.5, 1.0))
    else:
        functions, time = ((0.0, 1.0),) * 3, ((0.0, 0.5), (0.5, 0.6), (0.6, 1.0))
    names = ("train", "validation", "test")
    return {name: {"functions": f, "time": t} for name, f, t in zip(names, functions, time, strict=True)}
