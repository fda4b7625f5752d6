"""Parts of the documentation that are made from the code while the site is built, so that they cannot go stale.

A page says ```` ```{generated} NAME ````; NAME is a key of :data:`PARTS`, whose value returns Markdown.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from gymnasium.spaces import Box

from tyche_env.env import PreloadEnv
from tyche_env.profiles import catalogue_names, load_catalogue
from tyche_env.reward import Rents
from tyche_env.scaling import scale_of
from tyche_env.scenario import Reward, Scenario
from tyche_env.spaces import TABLES, Column, action_space, observation_space

if TYPE_CHECKING:
    from sphinx.application import Sphinx


_BIBTEX = {"volume": "volume", "issue": "number", "year": "year", "doi": "doi"}
"""Keys of CITATION.cff, and of BibTeX."""


def table(headings: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    """A table in Markdown."""
    lines = [headings, ("---",) * len(headings), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', '&#124;') for cell in line)} |" for line in lines)


def columns(name: str) -> str:
    """Every column of one table of the observation, with place, unit, range and meaning."""
    return table(
        ("place", "column", "unit", "range", "scaled to [0, 1] by", "meaning"),
        [
            (place, f"`{each.name}`", each.unit, f"0 to {each.high:,.10g}", scaling(each), each.meaning)
            for place, each in enumerate(TABLES[name])
        ],
    )


def scaling(column: Column) -> str:
    """What ``ScaledObservation`` makes of a column."""
    smallest, divisor = scale_of(column)
    return f"x / {divisor:g}" if np.isinf(smallest) else f"log(1 + x / {smallest:g}) / {divisor:.4g}"


def entries() -> str:
    """The entries of an observation, with shapes and types, for F functions, N nodes and G GPUs."""
    functions, nodes, gpus = 11, 7, 5
    space = observation_space(functions, nodes, gpus)
    rows = {"functions": "F", "nodes": "N", "gpus": "max(1, G)", "cluster": "1"}
    shown = []
    for name, box in space.items():
        assert isinstance(box, Box)
        letter = rows[name.removesuffix("_mask")]
        shape = f"({letter},)" if name.endswith("_mask") else f"({letter} x {len(TABLES[name])},)"
        lowest, highest = float(box.low.min()), float(box.high.max())
        shown.append((f"`{name}`", shape, box.dtype, f"{lowest:g} to {highest:,.10g}"))
    return table(("entry", "shape", "dtype", "range over all columns"), shown)


def action() -> str:
    """Shape, bounds and type of the action."""
    space = action_space(7)
    return f"`Box({space.low.min():g}, {space.high.max():g}, (F, {space.shape[1]}), {space.dtype})`"


def attributes(owner: type) -> dict[str, str]:
    """The ``Args`` or ``Attributes`` of a class, by name, from its docstring in Google's style."""
    found: dict[str, str] = {}
    name = ""
    inside = False
    for line in inspect.cleandoc(owner.__doc__ or "").splitlines():
        if not line.startswith(" "):
            inside = line in ("Args:", "Attributes:")
        elif inside and line.startswith(" " * 5):
            found[name] += f" {line.strip()}"
        elif inside:
            name, _, text = line.strip().partition(": ")
            found[name] = text
    return found


def options() -> str:
    """The options of ``gym.make``."""
    said = attributes(PreloadEnv)
    parameters = list(inspect.signature(PreloadEnv.__init__).parameters.values())[1:]
    return table(
        ("option", "default", "meaning"),
        [(f"`{each.name}`", f"`{each.default!r}`", said[each.name].replace("``", "`")) for each in parameters],
    )


def reward() -> str:
    """The keys of a scenario's section ``reward``: prices in seconds of waiting, and further terms."""
    rows = [
        (f"`{name}`", f"`{field.default!r}`", inspect.getdoc(getattr(Rents, name)))
        for name, field in Reward.model_fields.items()
    ]
    return table(("key of `reward`", "default", "price of"), rows)


def overview() -> str:
    """One row a shipped scenario: cluster, trace, policies of the platform, and how scarce memory is."""
    rows = []
    for scenario in map(Scenario.load, Scenario.names()):
        nodes = scenario.cluster.nodes
        machines = ", ".join(
            f"{group.count} x {group.memory_mb / 1000:g} GB"
            + (f" + {group.gpus} GPU of {group.gpu_memory_mb / 1000:g} GB" if group.gpus else "")
            for group in nodes
        )
        trace = scenario.trace
        rows.append(
            (
                f"`{scenario.name}`",
                scenario.mode,
                machines,
                f"{trace.family}, {trace.group_size} functions",
                f"{trace.warm_up_min:g} + {trace.window_min:g}",
                f"{scenario.prewarm.policy}, {scenario.routing}",
                f"{100 * room(scenario):.0f} %",
                "yes" if scenario.contention else "no",
            )
        )
    headings = ("scenario", "mode", "cluster", "trace", "minutes", "pre-warming, routing", "room", "contention")
    return table(headings, rows)


def room(scenario: Scenario) -> float:
    """Memory of the cluster, over the containers of all functions of a window, one each."""
    profiles = scenario.functions.selected()
    sizes_mb = [scenario.functions.container_mb or profile.container_mb for profile in profiles]
    memory_mb = sum(group.count * group.memory_mb for group in scenario.cluster.nodes)
    return memory_mb / (scenario.trace.group_size * sum(sizes_mb) / len(sizes_mb))


def descriptions() -> str:
    """Title and description of each shipped scenario."""
    parts = []
    for scenario in map(Scenario.load, Scenario.names()):
        parts.append(f"**`{scenario.name}`: {scenario.title}.** {' '.join(scenario.description.split())}")
    return "\n\n".join(parts)


def catalogues() -> str:
    """The shipped profiles: times and memory of every function."""
    rows = []
    for name in catalogue_names():
        for each in load_catalogue(name):
            times = (each.container_init_ms, each.library_ms, each.model_ms, each.transfer_ms, each.inference_ms)
            cells = [f"{value:,.4g}" for value in times]
            rows.append((name, each.name, *cells, f"{each.hold_mb:,}", f"{each.gpu_mb:,}", len(each.assumed) or ""))
    headings = ("catalogue", "profile", "container, ms", "library, ms", "model, ms", "to GPU, ms", "inference, ms")
    return table((*headings, "held, MB", "on GPU, MB", "assumed values"), rows)


def citation() -> str:
    """``CITATION.cff`` in BibTeX: the software, and the works that it names."""
    about = yaml.safe_load((Path(__file__).parents[1] / "CITATION.cff").read_text(encoding="utf-8"))
    software = {
        "title": about["title"],
        "author": _authors(about),
        "version": about["version"],
        "license": about["license"],
    }
    entries = [_bibtex("software", "tyche-env", software)]
    for number, work in enumerate(about["references"], start=1):
        article = work["type"] == "article"
        fields = {
            "title": work["title"],
            "author": _authors(work),
            "journal" if article else "booktitle": work["journal" if article else "collection-title"],
            **{name: work[key] for key, name in _BIBTEX.items() if key in work},
        }
        entries.append(_bibtex("article" if article else "inproceedings", f"tyche-env-{number}", fields))
    return "\n".join(["```bibtex", "\n\n".join(entries), "```"])


def _authors(work: Mapping[str, Any]) -> str:
    def name(author: Mapping[str, str]) -> str:
        if "name" in author:
            return f"{{{author['name']}}}"
        return ", ".join(author[part] for part in ("family-names", "given-names") if part in author)

    return " and ".join(map(name, work["authors"]))


def _bibtex(kind: str, key: str, fields: Mapping[str, Any]) -> str:
    return "\n".join([f"@{kind}{{{key},", *(f"  {name} = {{{value}}}," for name, value in fields.items()), "}"])


PARTS: dict[str, Callable[[], str]] = {
    "entries": entries,
    "functions": lambda: columns("functions"),
    "nodes": lambda: columns("nodes"),
    "gpus": lambda: columns("gpus"),
    "cluster": lambda: columns("cluster"),
    "action": action,
    "options": options,
    "reward": reward,
    "scenario-overview": overview,
    "scenario-descriptions": descriptions,
    "catalogues": catalogues,
    "citation": citation,
}


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive ``generated``, and let links lead to anchors."""
    from docutils import nodes
    from pygments.lexers import TextLexer
    from sphinx.transforms import SphinxTransform
    from sphinx.util.docutils import SphinxDirective

    class Generated(SphinxDirective):
        """Stands for a part that the code gives."""

        required_arguments = 1

        def run(self) -> list[nodes.Node]:
            """The part's nodes.

            Raises:
                ExtensionError: there is no such part.
            """
            name = self.arguments[0]
            if name not in PARTS:
                raise self.error(f"generated: there is no part {name!r}; there are {', '.join(PARTS)}")
            return self.parse_text_to_nodes(PARTS[name]())

    class Anchors(SphinxTransform):
        """Links may lead to ``<a id="..."></a>`` as they may to headings."""

        default_priority = 870  # before MyST looks where links lead

        def apply(self, **kwargs: Any) -> None:
            """Tell MyST of the page's anchors."""
            slugs = self.env.metadata[self.env.docname].get("myst_slugs", {})
            for node in self.document.findall(nodes.raw):
                if found := re.fullmatch(r'<a id="([^"]+)">', node.astext()):
                    slugs[found[1]] = (node.line, found[1], "")

    app.add_directive("generated", Generated)
    app.add_transform(Anchors)
    app.add_lexer("csv", TextLexer)
    return {"parallel_read_safe": True}
