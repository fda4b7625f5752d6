"""What the documentation shows can be run, what it names exists, and its tables are what the code gives."""

from __future__ import annotations

import importlib.util
import re
import shlex
import tomllib
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import click
import pytest
import yaml

import tyche_env
from agents.evidence.run_folder import RunFolder
from agents.evidence.tables import ms
from agents.playing.spread import ALONE
from tyche_env.cli import run, tyche

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
DECISION_MODES = (ROOT / "docs" / "decision-modes.md").read_text(encoding="utf-8")
POLICIES = ("none", "lru", "tyche", "censored", "oracle")


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
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in map(slug, headings), f"{target}: there is no such heading"


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent != ROOT], ids=of_page)
def test_some_page_links_to_every_page_of_the_docs(page: Path) -> None:
    linking = [other for other in PAGES if other != page and page.name in other.read_text(encoding="utf-8")]
    assert linking, f"no page links to {of_page(page)}"


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "architecture.md"], ids=of_page)
def test_files_named_in_the_text_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"`([\w./-]+/[\w.-]*\.?\w*)`", text)
    assert named
    for path in named:
        if "/" in path and not path.startswith(("tyche/", "/")):
            assert any((folder / path).exists() for folder in (ROOT, ROOT / "tyche_env")), f"{path} is not there"


def test_every_rule_stands_where_the_architecture_says() -> None:
    table = rows(ARCHITECTURE, "question")[1:]
    names = [span for row in table for span in re.findall(r"`([\w.]+)`", row[1])]
    assert len(names) > 20
    for each in names:
        resolve_name(f"tyche_env.{each}")


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
        assert len(lines) > 4
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


def means(summary: Any) -> dict[str, str]:
    """By policy, as the README writes it: ms per function / ms per request, realistic mode and OpenWhisk keep-alive."""
    return {
        entry["policy"]: " / ".join(
            ms(entry[metric]["mean"]) for metric in ("warming_loading_ms_function_mean", "warming_loading_ms_mean")
        )
        for entry in summary["aggregates"]
        if (entry["mode"], entry["prewarm"]) == ("realistic", "openwhisk")
    }


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["small", "azure-8h", "azure-day", "alibaba-gentd26"])
def test_the_readme_s_table_is_what_an_evaluation_gives(
    scenario: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if scenario != "small":
        monkeypatch.setenv("TYCHE_TRACES", str(request.getfixturevalue("trace_folder")))
    options = [option for policy in POLICIES for option in ("--policy", policy)]
    out = ["--jobs", "1", "--quiet", "--out", str(tmp_path / "run")]
    assert run(["evaluate", "--scenario", scenario, "--windows", "12", *options, *out]) == 0
    headings, *table = rows(README, "scenario")
    (shown,) = [row for row in table if row[0].split()[0] == scenario]
    assert dict(zip(headings[1:], shown[1:], strict=True)) == means(RunFolder.read(tmp_path / "run").summary)


@pytest.mark.slow
def test_make_run_compares_what_the_readme_says_with_intervals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = re.search(r"^RUN \?= (.*)$", MAKEFILE, re.MULTILINE)
    assert found
    assert run(["evaluate", *shlex.split(found[1]), "--jobs", "1", "--out", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().out
    for mode in ("paper", "realistic"):
        for prewarm in ("openwhisk", "histogram"):
            assert f"{prewarm} pre-warming, {mode} mode" in printed
    aggregates = RunFolder.read(tmp_path / "run").summary["aggregates"]
    assert {entry["policy"] for entry in aggregates} == {"none", "lru", "tyche", "oracle"}
    assert all(entry["warming_loading_ms_function_mean"]["low"] is not None for entry in aggregates)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["small", "azure-8h", "azure-day"])
def test_the_page_on_decision_modes_shows_what_its_script_measures(
    scenario: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if scenario != "small":
        monkeypatch.setenv("TYCHE_TRACES", str(request.getfixturevalue("trace_folder")))
    spec = importlib.util.spec_from_file_location("decision_modes", ROOT / "benchmarks" / "decision_modes.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    measured = script.markdown(script.measure(scenario, script.POLICIES, 12, tmp_path, spread=ALONE))
    section = DECISION_MODES.partition(f"### {scenario}\n")[2].partition("\n#")[0]
    # all but the CPU time, which is the machine's
    shown, found = ([row[:-1] for row in rows(text, "policy")] for text in (section, measured))
    assert shown == found
