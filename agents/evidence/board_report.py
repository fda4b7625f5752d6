"""report.html of a measurement: tables, performance profiles and training curves in one file that opens offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agents.evidence.figures import Figure, colours, draw_cost, label_lines, panels, save
from agents.evidence.looks import looks_note
from agents.evidence.measure import METRICS
from agents.evidence.standings import HEADINGS, Standing, cells, relative_costs, standings
from agents.evidence.tables import ms
from traces.output import holds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CURVES = {
    "hazard/loss": "loss",
    "rollout/reward": "mean reward of a row and step",
    "search/validation": "cost relative to Tyche's, validation windows",
}
"""Which curves are shown, and the axis."""
_LARGEST_RATIO = 2.0


@holds("out")
def write_report(content: Mapping[str, Any], folders: Sequence[Path], out: Path) -> Path:
    """Write report.html and figures/ of a result folder; returns the report's path.

    Args:
        content: of ``results.json``.
        folders: of the agents, whose curves are shown.
        out: the result folder.

    Raises:
        ModuleNotFoundError: the extra ``report`` is not installed.
    """
    import jinja2

    entries = standings(content["rows"], content["against"])
    colour = colours(list(dict.fromkeys(each.policy for each in entries)))
    drawn = [_means(entries, colour), _cost(entries, colour), _profiles(content["rows"], colour), *_curves(folders)]
    for figure in drawn:
        save(figure, out / "figures")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    templates = files("agents.evidence") / "templates"
    template = environment.from_string((templates / "trained.html").read_text(encoding="utf-8"))
    page = template.render(
        style=(templates / "style.css").read_text(encoding="utf-8"),
        scenarios=list(content["scenarios"]),
        finding=finding(entries, list(content["agents"])),
        looks=looks_note(list(content["scenarios"])),
        figures=[{"figure": figure, "panels": panels(figure)} for figure in drawn],
        headings=HEADINGS,
        blocks=[
            {"title": _title(scenario, metric), "rows": [[_plain(text) for text in cells(each)] for each in own]}
            for (scenario, metric), own in _blocks(entries).items()
        ],
        colours=colour,
        against=content["against"],
        agents=content["agents"],
        command=content["command"],
        versions=content["versions"],
    )
    path = out / "report.html"
    temporary = path.with_suffix(".partial")
    temporary.write_text(page, encoding="utf-8")
    temporary.replace(path)
    return path


def finding(entries: Sequence[Standing], agents: Sequence[str]) -> str:
    """The best agent against the best heuristic, scenario by scenario, over functions."""
    parts = []
    for (scenario, metric), own in _blocks(entries).items():
        trained = [each for each in own if each.policy in agents and each.relative is not None]
        if metric != METRICS[1] or not trained:
            continue
        best = trained[0]
        clear = "" if best.clear_of_zero else ", not clear of 0"
        parts.append(f"{scenario}: {best.policy} {100 * (best.relative or 0.0):+.0f} % against {best.versus}{clear}")
    return f"Waiting of the average function. {'; '.join(parts)}." if parts else ""


def curves_of(folder: Path) -> dict[str, dict[str, tuple[list[int], list[float]]]]:
    """Curves that training left: {tag: {seed: (steps, values)}}; empty without any."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: dict[str, dict[str, tuple[list[int], list[float]]]] = {}
    for seed in sorted((folder / "curves").glob("seed-*")):
        events: Any = EventAccumulator(str(seed))
        events.Reload()
        for tag in events.Tags()["scalars"]:
            # a training that was taken up again has written the steps after its checkpoint twice
            points = {event.step: event.value for event in events.Scalars(tag)}
            steps = sorted(points)
            found.setdefault(tag, {})[seed.name] = (steps, [points[step] for step in steps])
    return found


def _blocks(entries: Sequence[Standing]) -> dict[tuple[str, str], list[Standing]]:
    """The entries of each scenario and metric, the best first."""
    keys = dict.fromkeys((each.scenario, each.metric) for each in entries)
    return {
        key: sorted((each for each in entries if (each.scenario, each.metric) == key), key=lambda each: each.mean)
        for key in keys
    }


def _title(scenario: str, metric: str) -> str:
    return f"{scenario}, per {metric.removesuffix('_ms')}"


def _plain(text: str) -> str:
    return text.replace("\\*", "*")


def _means(entries: Sequence[Standing], colour: Mapping[str, str]) -> Figure:
    blocks = _blocks(entries)

    def draw(axis: Axes, key: tuple[str, str]) -> None:
        own = blocks[key]
        right = 1.15 * max(each.mean for each in own)
        for place, each in enumerate(own):
            axis.barh(place, each.mean, height=0.56, color=colour[each.policy])
            if each.seeds > 1:
                ends = [each.mean - each.seed_deviation, each.mean + each.seed_deviation]
                axis.plot(ends, [place, place], color="#23272f", linewidth=1.1)
            axis.text(each.mean + 0.02 * right, place, ms(each.mean), va="center", fontsize=9)
        axis.set_yticks(range(len(own)), [each.policy for each in own])
        axis.invert_yaxis()
        axis.set_xlim(0, right)
        axis.xaxis.set_major_formatter("{x:,.0f}")
        axis.set_xlabel("ms")
        axis.grid(axis="x")

    return Figure(
        "means",
        "Cost",
        "Mean cost of a request and of a function's average request over the test windows; lines: one standard "
        "deviation between training seeds. Shorter is better.",
        draw,
        max(len(own) for own in blocks.values()),
        [(_title(*key), key) for key in blocks],
    )


def _cost(entries: Sequence[Standing], colour: Mapping[str, str]) -> Figure:
    blocks = _blocks(entries)

    def draw(axis: Axes, key: tuple[str, str]) -> None:
        dots = [(each.besides["preload_gb_s"], each.mean, each.policy) for each in blocks[key]]
        draw_cost(axis, dots, colour, "ms")

    return Figure(
        "cost",
        "Waiting against what it costs",
        "Mean cost of a request or of a function's average request against memory x time that functions held ahead of "
        "their requests in a window. Lower and further left is better.",
        draw,
        0,
        [(_title(*key), key) for key in blocks],
    )


def _profiles(rows: Sequence[Mapping[str, Any]], colour: Mapping[str, str]) -> Figure:
    scenarios = list(dict.fromkeys(row["scenario"] for row in rows))
    ratios = np.linspace(0, _LARGEST_RATIO, 201)

    def draw(axis: Axes, key: tuple[str, str]) -> None:
        scenario, metric = key
        found = relative_costs([row for row in rows if row["scenario"] == scenario], metric)
        ends = []
        for name in colour:
            values = np.sort(found[name])
            share = np.searchsorted(values, ratios, side="right") / len(values)
            axis.plot(ratios, share, color=colour[name], linewidth=1.8)
            ends.append((float(np.median(values)), name))
        label_lines(axis, [name for _, name in sorted(ends)], colour)
        axis.set_xlim(0, _LARGEST_RATIO)
        axis.set_ylim(0, 1.02)
        axis.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
        axis.set_xlabel("cost relative to Tyche's in the same window")
        axis.grid(axis="both")

    return Figure(
        "profiles",
        "Performance profiles",
        "Share of windows and training seeds whose cost is at most a multiple of Tyche's. Further left is better.",
        draw,
        0,
        [(_title(scenario, metric), (scenario, metric)) for scenario in scenarios for metric in METRICS],
    )


def _curves(folders: Sequence[Path]) -> list[Figure]:
    found = {
        (folder.name, tag): curves for folder in folders for tag, curves in curves_of(folder).items() if tag in _CURVES
    }
    if not found:
        return []

    def draw(axis: Axes, key: tuple[str, str]) -> None:
        for steps, values in found[key].values():
            axis.plot(steps, values, linewidth=1.2)
        axis.set_xlabel("rows, epochs or generations")
        axis.set_ylabel(_CURVES[key[1]])
        axis.grid(axis="both")

    return [
        Figure(
            "curves",
            "Training curves",
            "One line a training seed.",
            draw,
            0,
            [(f"{name}, {tag}", (name, tag)) for name, tag in found],
        )
    ]
