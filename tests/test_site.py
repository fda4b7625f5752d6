"""The documentation site: it builds without a warning, what is generated says what the code does, notebooks run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import tyche_env
from agents.experiments import regime_synthetic as pays
from agents.experiments.tables import markdown
from tests.test_docs import ROOT, rows, script
from tyche_env.env import PreloadEnv
from tyche_env.scenario import Scenario
from tyche_env.spaces import TABLES

DOCS = ROOT / "docs"
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def generated() -> ModuleType:
    return script(DOCS / "generated.py")


# -- generated parts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TABLES)
def test_the_reference_has_every_column_with_place_unit_range_and_meaning(name: str, generated: ModuleType) -> None:
    assert f"```{{generated}} {name}\n" in (DOCS / "observation.md").read_text(encoding="utf-8")
    headings, *lines = rows(generated.PARTS[name](), "place")
    assert headings[:4] == ["place", "column", "unit", "range"]
    assert len(lines) == len(TABLES[name])
    for place, (line, column) in enumerate(zip(lines, TABLES[name], strict=True)):
        assert line[:4] == [str(place), f"`{column.name}`", column.unit, f"0 to {column.high:,.10g}"]
        assert line[-1] == column.meaning


def test_the_reference_has_every_entry_of_an_observation(generated: ModuleType) -> None:
    env = PreloadEnv("small")
    shown = {line[0].strip("`"): line for line in rows(generated.PARTS["entries"](), "entry")[1:]}
    space: Any = env.observation_space
    assert set(shown) == set(space.spaces)
    assert all(line[2] == "float32" for line in shown.values())
    assert "float32" in generated.PARTS["action"]()


def test_the_reference_explains_every_option_and_every_price(generated: ModuleType) -> None:
    options = rows(generated.PARTS["options"](), "option")[1:]
    assert {"`scenario`", "`split`", "`max_functions`"} <= {line[0] for line in options}
    prices = rows(generated.PARTS["reward"](), "key of `reward`")[1:]
    assert all(all(line) for line in [*options, *prices])


def test_the_page_on_the_environment_has_every_key_of_info() -> None:
    env = PreloadEnv("small")
    _, info = env.reset(seed=0)
    *_, after = env.step(env.action_space.sample())
    lines = rows((DOCS / "environment.md").read_text(encoding="utf-8"), "key")[1:]
    named = {name for line in lines for name in re.findall(r"`(\w+)`", line[0])}
    assert set(info) == set(after) == named


def test_every_shipped_scenario_is_listed_and_described(generated: ModuleType) -> None:
    lines = rows(generated.PARTS["scenario-overview"](), "scenario")[1:]
    assert [line[0].strip("`") for line in lines] == list(Scenario.names())
    for name in Scenario.names():
        assert f"**`{name}`: {Scenario.load(name).title}.**" in generated.PARTS["scenario-descriptions"]()


def test_room_is_memory_over_one_container_for_each_function(generated: ModuleType) -> None:
    # 4 x 16 GB for 40 functions in containers of 2048 MB
    assert generated.room(Scenario.load("small")) == pytest.approx(4 * 16_000 / (40 * 2048))


def test_the_citation_names_version_and_paper(generated: ModuleType) -> None:
    text = generated.PARTS["citation"]()
    assert f"version = {{{tyche_env.__version__}}}" in text
    assert "10.1109/TPDS.2025.3638428" in text
    assert text.count("@") == 3


def test_every_part_stands_on_some_page(generated: ModuleType) -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in DOCS.glob("*.md"))
    assert set(re.findall(r"^```\{generated\} (\S+)$", pages, re.MULTILINE)) == set(generated.PARTS)


# -- the site ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", str(DOCS), str(tmp_path / "site")]
    done = subprocess.run([*build, "-d", str(tmp_path / "doctrees")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "observation.html").read_text(encoding="utf-8")
    for columns in TABLES.values():
        for column in columns:
            assert f">{column.name}<" in page
    for html in (tmp_path / "site").rglob("*.html"):
        fetched = re.findall(r"""<(?:script|link|img)[^>]*(?:src|href)=["'](https?:[^"']*)""", html.read_text("utf-8"))
        assert not fetched, f"{html.name}: the site has to open without a network"


# -- pictures and measurements -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_pictures_of_the_concepts_show_what_the_page_says(tmp_path: Path) -> None:
    pictures = script(DOCS / "pictures.py")
    met: dict[str, Any] = {
        story.name: [
            (pictures.NAMES[row["function"]], pictures.StartType(row["start_type"]).name.lower())
            for row in pictures.log_of(story.world)
        ]
        for story in pictures.STORIES
    }
    assert met["cold-start"] == [("A", "cold"), ("A", "cold")]
    assert met["keep-alive"] == [("A", "cold"), ("A", "memory")]
    assert [start for _, start in met["pre-warm"]] == ["warm", "warm"]
    assert [start for name, start in met["pre-load"] if name == "A"][-1] == "memory"
    written = pictures.write(tmp_path)
    assert {path.name for path in written} <= {path.name for path in (DOCS / "images").iterdir()}


@pytest.mark.slow
def test_the_page_on_when_it_pays_shows_what_its_command_measures() -> None:
    shown = rows((DOCS / "when-it-pays.md").read_text(encoding="utf-8"), "memory for")[1:]
    corners = [(room, band) for room in pays.ROOMS[::3] for band in pays.GAPS_MIN[::3]]
    table = markdown(pays.summary_of([pays.measure(room, band) for room, band in corners]))
    measured = rows(table, "memory for")[1:]
    assert len(measured) == len(corners)
    for line in measured:
        assert line in shown


# -- notebooks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_without_outputs(path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    read: Any = nbformat.read
    notebook = read(path, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert [cell for cell in notebook.cells if cell.cell_type == "code"][-1].outputs
