"""report.html: one file that opens offline, in light and dark, on a phone as well."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from agents.evidence.run_folder import RunFolder, row_key
from agents.evidence.statistics import COMPARED, HIGHER_IS_BETTER, conclusions
from agents.evidence.tables import (
    HEADLINE,
    PER_REQUEST,
    against,
    columns_of,
    conditions,
    counted,
    decides,
    decisions_differ,
    evidence,
    ms,
    of_condition,
    points,
    unserved,
    usd,
)
from tyche_env.errors import UserError
from tyche_env.scenario import Conditions, Scenario

if TYPE_CHECKING:
    from agents.playing.timeline import Timeline

MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"

_METRIC_NAMES = {
    "warming_loading_ms_function_mean": ("warming + loading, per function", "ms", ms),
    "warming_loading_ms_mean": ("warming + loading, per request", "ms", ms),
    "end_to_end_ms_mean": ("end to end", "ms", ms),
    "preload_rate": ("pre-loaded share", "points", points),
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
        save,
    )

    summary, rows, manifest = folder.summary, folder.rows(), folder.manifest
    # from the rows, so that a folder of an earlier version gets today's tables
    summary = conclusions(in_order(rows, summary["rows"]), summary["first"])
    scenario_yaml = (folder.path / "scenario.yaml").read_text(encoding="utf-8")
    timelines = watch(folder)
    drawn = []
    for figure in figures(summary, rows, timelines):
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
        legends={"stages": shown_stages(summary, STAGE_COLOURS), "memory": MEMORY_COLOURS},
        timeline=timeline_json(timelines),
        timeline_script=(templates / "timeline.js").read_text(encoding="utf-8"),
        findings=[(label(condition), finding(summary, *condition)) for condition in conditions(summary["aggregates"])],
        evidence=evidence(summary),
        unserved=unserved(summary),
        blocks=[
            _block(summary, mode, prewarm, label((mode, prewarm)))
            for mode, prewarm in conditions(summary["aggregates"])
        ],
        first=summary["first"],
        figures=drawn,
        colours=colours(policies),
        decisions=sorted({decides(entry) for entry in summary["aggregates"] if not entry["bound"]}),
        scored=scored(summary),
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


def in_order(rows: Sequence[Mapping[str, Any]], order: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows of a folder in the order of its plan, which the rows of its summary have."""
    places = {row_key(row): place for place, row in enumerate(order)}
    known = [row for row in rows if row_key(row) in places]
    return sorted(known, key=lambda row: places[row_key(row)])


def shown_stages(summary: Mapping[str, Any], colours: Mapping[str, str]) -> dict[str, str]:
    """The stages that the legend names, with their colours: what was not served only where something was not."""
    rates = [entry["unserved_rate"] for entry in summary["aggregates"] if entry["unserved_rate"] is not None]
    all_served = not any(rate["mean"] for rate in rates)
    return {stage: colour for stage, colour in colours.items() if not (all_served and stage == "not served")}


def scored(summary: Mapping[str, Any]) -> str:
    """How many requests each policy met under one pre-warming policy and mode, in words."""
    first = summary["aggregates"][0]
    text = f"{first['requests']:,} requests"
    return f"{text}, {counted(first['seeds'], 'seed')} together" if first["seeds"] > 1 else text


def finding(summary: Mapping[str, Any], mode: str, prewarm: str) -> str:
    """The main result in one condition: the best fair policy against the first, by both averages."""
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
    if difference["low"] is not None and not best["clear_of_zero"]:
        return f"No policy differs clearly from {first}: {name} comes to {_change(difference)}."
    verb = "saves" if difference["mean"] < 0 else "adds"
    relative = "" if best["relative"] is None else f"{100 * abs(best['relative']):.0f} % of "
    sentence = (
        f"Against {first}, {name} {verb} {relative}the warming and loading time, averaged over functions: "
        f"{_change(difference)}."
    )
    if difference["low"] is None:
        sentence += " With so few groups of functions no interval can be given."
    per_request = against(summary, name, prewarm, mode, PER_REQUEST)
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
    entries = of_condition(summary["aggregates"], mode, prewarm)
    columns, asked = columns_of(entries), decisions_differ(entries)
    rows = []
    for entry in entries:
        cells = [(decides(entry), "")] if asked else []
        for column in columns:
            value = entry[column.metric]
            span = ""
            if value is not None and column.with_interval and value["low"] is not None:
                span = f"{column.form(value['low'])} to {column.form(value['high'])}"
            cells.append((DASH if value is None else column.form(value["mean"]), span))
        rows.append({"policy": entry["policy"], "bound": entry["bound"], "cells": cells})
    comparisons = []
    for entry in entries:
        found = [against(summary, entry["policy"], prewarm, mode, metric) for metric in COMPARED]
        if any(each is not None and each["difference"] is not None for each in found):
            comparisons.append({"policy": entry["policy"], "cells": [_difference(each) for each in found]})
    return {
        "title": title,
        "headings": [*(["decides"] if asked else []), *(column.heading for column in columns)],
        "rows": rows,
        "comparisons": comparisons,
        "metrics": [_METRIC_NAMES[metric][:2] for metric in COMPARED],
        "shares": against_share(summary, entries, prewarm, mode),
    }


def against_share(
    summary: Mapping[str, Any], entries: Sequence[Mapping[str, Any]], prewarm: str, mode: str
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
    """A paired difference as text; ``mark`` says that it is clear of 0, and whether for better or worse."""
    if entry is None or entry["difference"] is None:
        return {"text": DASH, "span": "", "mark": ""}
    form = _METRIC_NAMES[entry["metric"]][2]
    difference = entry["difference"]
    span = ""
    if difference["low"] is not None:
        span = f"{_signed(difference['low'], form)} to {_signed(difference['high'], form)}"
    mark = ""
    if entry["clear_of_zero"]:
        mark = "better" if (difference["mean"] > 0) == (entry["metric"] in HIGHER_IS_BETTER) else "worse"
    return {"text": _signed(difference["mean"], form), "span": span, "mark": mark}
