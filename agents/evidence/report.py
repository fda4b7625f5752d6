"""report.html: one file that opens offline, in light and dark, on a phone as well."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from agents.evidence.run_folder import RunFolder
from agents.evidence.statistics import COMPARED
from agents.evidence.tables import COLUMNS, HEADLINE, against, conditions, evidence, ms, percent, usd
from tyche_env.errors import UserError
from tyche_env.scenario import Conditions, Scenario

if TYPE_CHECKING:
    from agents.playing.timeline import Timeline

MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"

_METRIC_NAMES = {
    "warming_loading_ms_function_mean": ("warming + loading, per function", "ms", ms),
    "warming_loading_ms_mean": ("warming + loading, per request", "ms", ms),
    "end_to_end_ms_mean": ("end to end", "ms", ms),
    "preload_rate": ("pre-loaded share", "", percent),
    "cost_usd": ("cost", "USD", usd),
}


def write_report(folder: RunFolder) -> Path:
    """Write report.html and figures/ (SVG, PDF and PNG) of a run.

    Returns:
        The path of the report.

    Raises:
        RunError: the folder lacks its summary.
        ModuleNotFoundError: the extra ``report`` is not installed.
    """
    import jinja2
    import yaml

    from agents.evidence.figures import (
        MEMORY_COLOURS,
        STAGE_COLOURS,
        colours,
        figures,
        label,
        panels,
        read_requests,
        save,
    )

    summary, manifest = folder.summary, folder.manifest
    requests = read_requests(folder.requests) if folder.requests.exists() else None
    scenario_yaml = (folder.path / "scenario.yaml").read_text(encoding="utf-8")
    timelines = watch(folder)
    drawn = []
    for figure in figures(summary, requests, timelines):
        save(figure, folder.path / "figures")
        drawn.append({"figure": figure, "panels": panels(figure)})
    policies = list(dict.fromkeys(entry["policy"] for entry in summary["aggregates"]))
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    templates = files("agents.evidence") / "templates"
    template = environment.from_string((templates / "report.html").read_text(encoding="utf-8"))
    page = template.render(
        style=(templates / "style.css").read_text(encoding="utf-8"),
        manifest=manifest,
        plan=manifest["plan"],
        title=yaml.safe_load(scenario_yaml)["title"],
        scenario_yaml=scenario_yaml,
        legends={"stages": STAGE_COLOURS, "memory": MEMORY_COLOURS},
        timeline=timeline_json(timelines),
        timeline_script=(templates / "timeline.js").read_text(encoding="utf-8"),
        finding=finding(summary),
        finding_holds_for=label(conditions(summary["aggregates"])[0]),
        evidence=evidence(summary),
        columns=COLUMNS,
        blocks=[
            _block(summary, mode, prewarm, label((mode, prewarm)))
            for mode, prewarm in conditions(summary["aggregates"])
        ],
        first=summary["first"],
        figures=drawn,
        colours=colours(policies),
        requests=sum(row["requests"] for row in summary["rows"] if row["policy"] == policies[0]),
    )
    path = folder.path / "report.html"
    temporary = path.with_suffix(".partial")
    temporary.write_text(page, encoding="utf-8")
    temporary.replace(path)
    return path


def watch(folder: RunFolder) -> dict[str, Timeline]:
    """The first window of the first condition, played again under each unprivileged policy of the plan, and watched.

    Without those that are not what they were (a file of one's own, of which the name is known alone), and empty where
    that cannot be: on another backend, or without the trace.
    """
    from agents.evidence.plan import policy_hash
    from agents.playing.scene import WindowScene, play_in
    from agents.playing.timeline import TimelineWatcher
    from agents.policies.loading import BOUND, load

    plan = folder.manifest["plan"]
    if plan.get("backend", "simulated") != "simulated":
        return {}
    mode, prewarm = conditions(folder.summary["aggregates"])[0]
    played = Conditions(cast(Any, prewarm), cast(Any, mode), plan["decision"])
    timelines = {}
    try:
        scene = WindowScene(Scenario.load(folder.path / "scenario.yaml"), plan["split"], 0, 0, played)
        requests = scene.requests()
    except UserError:
        return {}
    for name, digest in plan["policies"].items():
        try:
            if name == BOUND or policy_hash(name) != digest or (policy := load(name)).privileged:
                continue
            watcher = TimelineWatcher()
            play_in(scene, policy, requests, watch=watcher)
            timelines[name] = watcher.timeline
        except (UserError, ModuleNotFoundError):
            continue
    return timelines


def timeline_json(timelines: Mapping[str, Timeline]) -> str:
    """The timelines as JSON for the page's script; empty without any."""
    if not timelines:
        return ""
    content = {
        "names": next(iter(timelines.values())).names,
        "policies": [
            {
                "name": name,
                "shown_s": seen.shown_s,
                "cut": bool(seen.shown_s < seen.time_s[-1]),
                "containers": _rounded(seen.containers),
                "stays": _rounded(seen.stays),
                "runs": _rounded(seen.runs),
                "evictions": [round(float(at), 1) for at in seen.time_s[seen.evictions > 0]],
            }
            for name, seen in timelines.items()
        ],
    }
    # "<" would let a name end the script.
    return json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")


def _rounded(spans: Sequence[tuple[int | float, ...]]) -> list[list[int | float]]:
    return [[round(value, 2) if isinstance(value, float) else value for value in span] for span in spans]


def finding(summary: Mapping[str, Any]) -> str:
    """The main result: the best fair policy against the first in the first condition, by both averages."""
    mode, prewarm = conditions(summary["aggregates"])[0]
    privileged = {row["policy"] for row in summary["rows"] if row["privileged"]}
    rivals = [
        entry
        for entry in summary["comparisons"]
        if (entry["mode"], entry["prewarm"], entry["metric"]) == (mode, prewarm, HEADLINE)
        and entry["policy"] not in privileged
        and entry["difference"] is not None
    ]
    if not rivals:
        return ""
    best = min(rivals, key=lambda entry: float(entry["difference"]["mean"]))
    difference, name, first = best["difference"], best["policy"], best["first"]
    if not best["clear_of_zero"]:
        return f"No policy differs clearly from {first}: {name} comes to {_change(difference)}."
    verb = "saves" if difference["mean"] < 0 else "adds"
    sentence = (
        f"Against {first}, {name} {verb} {100 * abs(best['relative']):.0f} % of the warming and loading time, "
        f"averaged over functions: {_change(difference)}."
    )
    per_request = against(summary, name, prewarm, mode, "warming_loading_ms_mean")
    if per_request is None or per_request["difference"] is None:
        return sentence
    return f"{sentence} Averaged over requests: {_change(per_request['difference'])}."


def _change(difference: Mapping[str, Any]) -> str:
    text = f"{_signed(difference['mean'], ms)} ms"
    if difference["low"] is not None:
        text += f" (95 % interval {_signed(difference['low'], ms)} to {_signed(difference['high'], ms)})"
    return text


def _signed(value: float, form: Any) -> str:
    return f"{'+' if value > 0 else MINUS if value < 0 else ''}{form(abs(value))}"


def _block(summary: Mapping[str, Any], mode: str, prewarm: str, title: str) -> dict[str, Any]:
    """Table and comparisons of one condition, as text."""
    entries = [entry for entry in summary["aggregates"] if (entry["mode"], entry["prewarm"]) == (mode, prewarm)]
    rows = []
    for entry in entries:
        cells = []
        for metric, _, form, with_interval in COLUMNS:
            value = entry[metric]
            span = ""
            if value is not None and with_interval and value["low"] is not None:
                span = f"{form(value['low'])} to {form(value['high'])}"
            cells.append((DASH if value is None else form(value["mean"]), span))
        rows.append({"policy": entry["policy"], "bound": entry["bound"], "cells": cells})
    comparisons = []
    for entry in entries:
        found = [against(summary, entry["policy"], prewarm, mode, metric) for metric in COMPARED]
        if any(each is not None and each["difference"] is not None for each in found):
            comparisons.append({"policy": entry["policy"], "cells": [_difference(each) for each in found]})
    headline = against_share(summary, entries, prewarm, mode)
    return {
        "title": title,
        "rows": rows,
        "comparisons": comparisons,
        "metrics": [_METRIC_NAMES[metric][:2] for metric in COMPARED],
        "shares": headline,
    }


def against_share(
    summary: Mapping[str, Any], entries: list[dict[str, Any]], prewarm: str, mode: str
) -> list[tuple[str, str]]:
    """How much of the first policy's distance to the oracle each other policy closes, in words."""
    shares = []
    for entry in entries:
        found = against(summary, entry["policy"], prewarm, mode)
        if found is None or found["gap_share"] is None or entry["policy"] in ("oracle", "bound"):
            continue
        share = found["gap_share"]
        text = f"{100 * share['mean']:.0f} %"
        if share["low"] is not None:
            text += f" ({100 * share['low']:.0f} to {100 * share['high']:.0f})"
        shares.append((entry["policy"], text))
    return shares


def _difference(entry: Mapping[str, Any] | None) -> dict[str, Any]:
    if entry is None or entry["difference"] is None:
        return {"text": DASH, "span": "", "clear": False}
    form = _METRIC_NAMES[entry["metric"]][2]
    difference = entry["difference"]
    span = ""
    if difference["low"] is not None:
        span = f"{_signed(difference['low'], form)} to {_signed(difference['high'], form)}"
    return {"text": _signed(difference["mean"], form), "span": span, "clear": entry["clear_of_zero"]}
