"""What the documentation shows can be run, what it names exists, and its tables are what the code gives."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from types import ModuleType

import click
import pytest
import yaml

import tyche_env
from agents.evidence.run_folder import RunFolder
from agents.playing.spread import ALONE
from tyche_env.cli import run, tyche
from tyche_env.simulator.reference import ReferenceEngine

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
ENGINE = (ROOT / "docs" / "engine.md").read_text(encoding="utf-8")
CONTROL = ROOT / "tyche_env" / "control"
DECISION_MODES = (ROOT / "docs" / "decision-modes.md").read_text(encoding="utf-8")
POLICIES = ("none", "lru", "tyche", "censored", "oracle")


def script(path: Path) -> ModuleType:
    """A module that is no part of a package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def of_page(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def prose(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def shell_lines(text: str) -> list[list[str]]:
    """The words of every shell command that a page shows in a block of its own, without comments."""
    lines = [line for language in ("bash", "sh") for block in blocks(text, language) for line in block.splitlines()]
    lines += re.findall(r"^ {4}((?:tyche|make) .*)$", prose(text), re.MULTILINE)
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def rows(text: str, first_heading: str) -> list[list[str]]:
    """The cells of every row of every table whose first heading is the given one, headings included."""
    found, inside = [], False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        inside = bool(cells) and (inside or cells[0] == first_heading)
        if inside and not set(cells[0]) <= {"-"}:
            found.append(cells)
    return found


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(page: str) -> list[str]:
    """The anchors that a page itself sets."""
    return re.findall(r'<a id="([^"]+)"></a>', page)


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))


def accept(words: list[str]) -> None:
    """Parse a command line of ``tyche`` as far as its options go, without running it."""
    command: click.Command = tyche
    while words and isinstance(command, click.Group) and not words[0].startswith("-"):
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, f"{command.name} has no command {words[0]}"
        command, words = found, words[1:]
    if not words:
        return
    try:
        command.make_context(command.name, list(words))
    except click.exceptions.Exit:  # --help
        pass
    except click.BadParameter as error:
        # a page may name a file that its reader has
        if not error.message.endswith("does not exist."):
            raise


# -- links and names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=of_page)
def test_links_lead_somewhere(page: Path) -> None:
    text = prose(page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{target}: there is no such file"
        if anchor:
            page_text = file.read_text(encoding="utf-8")
            headings = re.findall(r"^#+ (.*)$", page_text, re.MULTILINE)
            assert anchor in [*map(slug, headings), *anchors(page_text)], f"{target}: there is no such place"


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent != ROOT], ids=of_page)
def test_some_page_links_to_every_page_of_the_docs(page: Path) -> None:
    linking = [other for other in PAGES if other != page and page.name in other.read_text(encoding="utf-8")]
    assert linking, f"no page links to {of_page(page)}"


@pytest.mark.parametrize("page", PAGES, ids=of_page)
def test_prose_stays_within_110_characters(page: Path) -> None:
    """What a person writes: no tables, no quoted code, and not what a command writes between marks."""
    text = prose(page.read_text(encoding="utf-8"))
    by_hand = re.sub(r"^<!-- (?!end )[^\n]*-->$.*?^<!-- end -->$", "", text, flags=re.MULTILINE | re.DOTALL)
    assert not [each for each in by_hand.splitlines() if len(each) > 110 and not each.startswith(("|", "    ", "#"))]


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "architecture.md"], ids=of_page)
def test_files_named_in_the_text_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"`([\w./-]+/[\w.-]*\.?\w*)`", text)
    assert named
    for path in named:
        if "/" in path and not path.startswith(("tyche/", "/")):
            assert any((folder / path).exists() for folder in (ROOT, ROOT / "tyche_env")), f"{path} is not there"


# -- rules -------------------------------------------------------------------------------------------------------------

CORE = (
    *("control/arrivals", "control/controller", "control/interval", "control/kernels", "control/ledger"),
    *("control/packing", "control/routing", "control/worth", "prewarm/*"),
)
"""Modules whose every function is a rule of engine.md or a part of one, unless its name says that it is private."""
COMPILED_ONLY = {"on_load_failed", "meaning", "kernel-network", "kernel-own", "prewarm-own", "routing-own"}
"""Rules that engine.md keeps from the reference engine."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A row of the table of rules: an anchor of engine.md and the names of code that it gives, by engine."""

    anchor: str
    compiled: str
    reference: str

    @property
    def name(self) -> str:
        """What a function of the rule is called: kinds of settings are no part of it."""
        return re.sub(r"^(kernel|prewarm|routing|packing|scope)-", "", self.anchor)


def standings() -> list[Standing]:
    found = []
    for rule, compiled, reference in (row for row in rows(ARCHITECTURE, "rule") if row[0] != "rule"):
        link = re.fullmatch(r"\[[\w -]+\]\(engine\.md#([\w-]+)\)", rule)
        assert link, f"{rule}: no link to a rule"
        found.append(Standing(link[1], compiled, reference))
    return found


def names(cell: str) -> list[str]:
    return re.findall(r"`([\w.]+)`", cell)


def of_core(name: str) -> str:
    """The full name of what the table calls by the names of ``tyche_env/control``."""
    module = name.partition(".")[0]
    return f"tyche_env.control.{name}" if (CONTROL / f"{module}.py").exists() else f"tyche_env.{name}"


def functions_of_the_core() -> set[str]:
    """Those that are not private, as ``tyche_env.<module>.<name>``."""
    found = set()
    for path in (path for pattern in CORE for path in CONTROL.parent.glob(f"{pattern}.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found |= {f"{module}.{node.name}" for node in tree.body if isinstance(node, ast.FunctionDef)}
    return {name for name in found if not name.rpartition(".")[2].startswith("_")}


def test_every_rule_of_the_engine_has_a_row_and_every_row_a_rule() -> None:
    rules = anchors(ENGINE)
    assert len(rules) > 100
    assert len(set(rules)) == len(rules)
    assert [each.anchor for each in standings() if each.anchor not in rules] == []
    listed = [each.anchor for each in standings()]
    assert sorted(listed) == sorted(rules)


@pytest.mark.parametrize("rule", standings(), ids=lambda rule: rule.anchor)
def test_a_rule_stands_in_both_engines_under_its_name(rule: Standing) -> None:
    assert bool(rule.reference) == (rule.anchor not in COMPILED_ONLY)
    for cell in (rule.compiled, rule.reference) if rule.reference else (rule.compiled,):
        assert names(cell), f"{rule.anchor}: nothing carries it"
        carriers = [name.rpartition(".")[2] for name in names(cell)]
        assert cell.startswith("in ") or carriers[0] == rule.name, f"{rule.anchor}: {carriers[0]} is called otherwise"
        assert not cell.startswith("in ") or rule.name not in carriers, f"{rule.anchor}: it has a function of its own"
    for name in names(rule.compiled):
        resolve_name(of_core(name))
    for name in names(rule.reference):
        home = "" if name.startswith("entities.") else "reference.ReferenceEngine."
        resolve_name(f"tyche_env.simulator.{home}{name}")


def test_every_function_of_the_core_belongs_to_a_rule() -> None:
    named = {of_core(name) for rule in standings() for name in names(rule.compiled)}
    found = functions_of_the_core()
    assert len(found) > 100
    assert sorted(found - named) == []


def test_every_method_of_the_reference_engine_belongs_to_a_rule() -> None:
    named = {name for rule in standings() for name in names(rule.reference)}
    methods = {name for name in vars(ReferenceEngine) if not name.startswith("_")}
    assert len(methods) > 80
    assert sorted(methods - named) == []


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert project["version"] == citation["version"] == tyche_env.__version__
    assert {citation["license"], project["license"]} == {"Apache-2.0"}


# -- commands ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=of_page)
def test_commands_shown_have_the_targets_and_options_that_they_use(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    lines = shell_lines(text)
    if page.name == "README.md":
        spans = re.findall(r"`((?:tyche|make) [^`]*)`", prose(text))
        assert len(lines) > 3
        lines += [shlex.split(span) for span in spans]
    for words in lines:
        if words[0] == "make":
            targets = {word for word in words[1:] if "=" not in word}
            assert targets <= make_targets(), f"{' '.join(words)}: the Makefile has no such target"
        elif words[0] == "tyche":
            accept(words[1:])


def test_a_misspelt_option_would_be_noticed() -> None:
    with pytest.raises(click.UsageError, match="--windwos"):
        accept(["evaluate", "--scenario", "small", "--windwos", "12"])


@pytest.mark.parametrize("page", PAGES, ids=of_page)
def test_python_shown_is_python(page: Path) -> None:
    for code in blocks(page.read_text(encoding="utf-8"), "python"):
        compile(code, of_page(page), "exec")


def test_the_readme_s_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks(README, "python")
    exec(compile(code, "README.md", "exec"), {})
    assert re.fullmatch(r"requests waited \d+ s for their inference to start\n", capsys.readouterr().out)


# -- tables ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["small", "azure-8h", "azure-day", "alibaba-gentd26"])
def test_the_readme_s_table_is_what_an_evaluation_gives(
    scenario: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if "gentd26" in scenario:
        request.getfixturevalue("trace_folder")
    made = script(ROOT / "benchmarks" / "scenario_table.py")
    seen = made.seen_share(
        made.Scenario.load(scenario), made.load_bundle(made.SHIPPED / made.LEARNED).recipe.model_dump()
    )
    assert made.row(scenario, made.measure(scenario, tmp_path, ALONE), seen) in README.splitlines()


@pytest.mark.slow
def test_make_run_replays_what_the_readme_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TYCHE_TRACES", raising=False)
    found = re.search(r"^RUN \?= (.*)$", MAKEFILE, re.MULTILINE)
    assert found
    assert run(["evaluate", *shlex.split(found[1]), "--jobs", "1", "--out", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().out
    assert "openwhisk pre-warming, realistic mode" in printed
    summary = RunFolder.read(tmp_path / "run").summary
    # the same windows as the README's table
    (cells,) = (line.strip("| ").split(" | ") for line in README.splitlines() if line.startswith("| azure-8h |"))
    shown = dict(zip(("none", "lru", "tyche", "censored", "learned", "oracle"), cells[2:], strict=True))
    assert {entry["policy"] for entry in summary["aggregates"]} == {"none", "tyche", "learned", "oracle"}
    for entry in summary["aggregates"]:
        if entry["policy"] in shown:
            mean = float(shown[entry["policy"]].split(" / ")[0].replace(",", ""))
            assert entry["warming_loading_ms_function_mean"]["mean"] == pytest.approx(mean, rel=6e-3)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["small", "azure-8h", "azure-day"])
def test_the_page_on_decision_modes_shows_what_its_script_measures(scenario: str, tmp_path: Path) -> None:
    modes = script(ROOT / "benchmarks" / "decision_modes.py")
    measured = modes.markdown(modes.measure(scenario, modes.POLICIES, 12, tmp_path, spread=ALONE))
    section = DECISION_MODES.partition(f"### {scenario}\n")[2].partition("\n#")[0]
    # all but the CPU time, which is the machine's
    shown, found = ([row[:-1] for row in rows(text, "policy")] for text in (section, measured))
    assert shown == found
