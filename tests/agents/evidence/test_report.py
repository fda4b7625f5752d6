"""The report: one file, offline, complete."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure as Canvas

from agents.evidence.evaluation import evaluate
from agents.evidence.figures import STAGE_COLOURS, colours, figures
from agents.evidence.plan import Plan
from agents.evidence.report import finding, watch, write_report
from agents.evidence.run_folder import RunFolder
from agents.playing.spread import ALONE
from tests.agents.evidence.planted import tables_of
from tyche_env.metrics import STAGES

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def page(finished: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    copy = tmp_path_factory.mktemp("report") / "run"
    shutil.copytree(finished.path, copy)
    path = write_report(RunFolder.read(copy))
    return path, path.read_text(encoding="utf-8")


class _Page(HTMLParser):
    """Collects what a browser would fetch, and ids."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            local = (value or "").startswith("#")
            if name in ("src", "href", "xlink:href", "srcset", "data") and not local:
                self.fetched.append(f"{tag} {name}={value}")
            if name == "id":
                self.ids.append(str(value))


def test_it_opens_offline_and_is_small(page: tuple[Path, str]) -> None:
    path, text = page
    parser = _Page()
    parser.feed(text)
    assert parser.fetched == []
    assert "@import" not in text
    assert re.findall(r"url\((?!#)", text) == []
    assert path.stat().st_size < 8_000_000


def test_ids_are_unique(page: tuple[Path, str]) -> None:
    parser = _Page()
    parser.feed(page[1])
    assert len(parser.ids) == len(set(parser.ids))


def test_it_follows_the_reader_s_colour_scheme(page: tuple[Path, str]) -> None:
    text = page[1]
    assert "prefers-color-scheme: dark" in text
    assert "var(--ink)" in text
    assert "width=device-width" in text


def test_it_shows_every_policy_condition_and_figure(page: tuple[Path, str]) -> None:
    text = page[1]
    for expected in ("none", "tyche", "oracle", "bound (lower limit)", "paper mode", "realistic mode"):
        assert expected in text
    # Five figures for each of two conditions, and memory for each of two fair policies.
    assert text.count("<svg") == 5 * 2 + 2
    assert "Paired differences from none" in text


def test_text_from_outside_is_escaped(page: tuple[Path, str]) -> None:
    assert "Tiny &lt;trace&gt;" in page[1]
    assert "<trace>" not in page[1]


def test_figures_are_files_as_well(page: tuple[Path, str]) -> None:
    names = {path.name for path in (page[0].parent / "figures").iterdir()}
    figures = ("warming-loading", "cost", "stages", "latency", "hits-by-rate", "memory")
    assert names == {f"{name}.{kind}" for name in figures for kind in ("svg", "pdf", "png")}


def test_figures_need_no_recorded_requests(plan_of: Callable[..., Plan], tmp_path: Path) -> None:
    folder = evaluate(plan_of("none", windows=1, record="none"), tmp_path / "run", spread=ALONE).folder
    text = write_report(folder).read_text(encoding="utf-8")
    assert text.count("<svg") == 6
    assert "1 window of 1 group of functions; no intervals and no stars with fewer than 8 groups" in text


def test_figures_draw_what_the_recorded_requests_say(finished: RunFolder) -> None:
    requests = pd.read_parquet(finished.requests)
    requests = requests[requests["mode"] == "realistic"]
    drawn = {figure.name: figure for figure in figures(finished.summary, finished.rows(), {})}
    entries = {each["policy"]: each for each in finished.summary["aggregates"] if each["mode"] == "realistic"}

    def axis_of(name: str) -> Any:
        axis = Canvas().subplots()
        drawn[name].draw(axis, ("realistic", "openwhisk"))
        return axis

    policies = ("none", "tyche", "oracle")
    bars = [bar.get_width() for bar in axis_of("warming-loading").patches]
    assert bars == [entries[policy]["warming_loading_ms_function_mean"]["mean"] for policy in policies]
    lengths: dict[int, dict[str, float]] = {}
    colours_of = {to_hex(colour): stage for stage, colour in STAGE_COLOURS.items()}
    for bar in axis_of("stages").patches:
        place = round(bar.get_y() + bar.get_height() / 2)
        lengths.setdefault(place, {})[colours_of[to_hex(bar.get_facecolor())]] = bar.get_width()
    lines = axis_of("latency").lines
    dots = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axis_of("cost").lines]
    for place, policy in enumerate(policies):
        own = requests[requests["policy"] == policy]
        for stage in STAGES:
            assert lengths[place].get(stage, 0.0) == pytest.approx(own[f"{stage}_us"].mean() / 1e3, abs=1e-6)
        latency_ms = (own["end_us"] - own["arrival_us"]).to_numpy() / 1e3
        for edge_ms, share in zip(*lines[place].get_data(), strict=True):
            assert share == pytest.approx(np.mean(latency_ms < edge_ms))
        rows = [row for row in finished.rows() if (row["policy"], row["mode"]) == (policy, "realistic")]
        held = np.mean([row["preload_gb_s"] for row in rows])
        assert dots[place] == pytest.approx((held, entries[policy]["warming_loading_ms_function_mean"]["mean"]))


def test_policies_that_are_asked_at_other_times_say_so(
    plan_of: Callable[..., Plan], my_policy: Path, tmp_path: Path
) -> None:
    plan = plan_of("none", str(my_policy), windows=1, engine="compiled", record="none")
    text = write_report(evaluate(plan, tmp_path / "run", spread=ALONE).folder).read_text(encoding="utf-8")
    assert "decisions <b>at events or every 10 s</b>" in text
    assert [row[1][0][0] for row in tables_of(text)[0]] == ["decides", "at events", "every 10 s"]


def test_the_timeline_is_data_and_one_script_of_the_page(page: tuple[Path, str]) -> None:
    content = re.search(r'<script type="application/json" id="timeline-data">(.*?)</script>', page[1], re.DOTALL)
    assert content is not None
    data = json.loads(content[1])
    assert [each["name"] for each in data["policies"]] == ["none", "tyche"]
    assert data["policies"][1]["runs"]
    assert page[1].count("<script") == 2


def test_without_its_trace_a_run_is_reported_without_timeline(finished: RunFolder, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(finished.path, copy)
    text = (copy / "scenario.yaml").read_text(encoding="utf-8")
    gone = text.replace("family: synthetic", "family: parquet").replace("file: null", "file: gone.parquet")
    (copy / "scenario.yaml").write_text(re.sub(r"  synthesis:\n(    .*\n)+", "", gone), encoding="utf-8")
    assert 'id="timeline"' not in write_report(RunFolder.read(copy)).read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs chromium")
def test_a_browser_draws_the_timeline_without_a_word_on_its_console(page: tuple[Path, str], tmp_path: Path) -> None:
    shown, console = browse(page[0], tmp_path)
    assert re.search(r'<output class="soft">00:00:00 to 00:15:00', shown)
    assert console == []


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs chromium")
def test_a_broken_script_would_be_noticed(page: tuple[Path, str], tmp_path: Path) -> None:
    broken = tmp_path / "broken.html"
    broken.write_text(page[1].replace('"use strict";', '"use strict"; nothing.there();'), encoding="utf-8")
    assert any("nothing is not defined" in line for line in browse(broken, tmp_path)[1])


def browse(path: Path, folder: Path) -> tuple[str, list[str]]:
    """The page as the browser has built it, and what its console said."""
    assert BROWSER is not None
    quiet = ("--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=5000")
    done = subprocess.run(
        [BROWSER, *quiet, f"--user-data-dir={folder / 'browser'}", "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def test_the_finding_is_given_for_each_condition_and_never_boasts_with_a_privileged_policy(
    page: tuple[Path, str], finished: RunFolder
) -> None:
    for mode in ("paper", "realistic"):
        text = finding(finished.summary, mode, "openwhisk")
        assert "oracle" not in text
        assert text.replace("'", "&#39;") in page[1]


def test_the_finding_gives_both_averages(finished: RunFolder) -> None:
    # A policy may help rare functions and harm hot ones; either average alone would hide that.
    text = finding(finished.summary, "paper", "openwhisk")
    assert text.startswith("Against none, tyche saves")
    assert "averaged over functions" in text
    assert "Averaged over requests" in text


def test_each_policy_keeps_its_colour() -> None:
    assert colours(["tyche", "mine"])["tyche"] == colours(["oracle", "tyche"])["tyche"]
    many = [f"policy-{i}" for i in range(6)]
    assert len(set(colours([*many, "tyche"]).values())) == 7


def test_a_policy_that_only_a_file_knows_leaves_the_others_their_timeline(
    plan_of: Callable[..., Plan], my_policy: Path, tmp_path: Path
) -> None:
    plan = plan_of("none", str(my_policy), "oracle", windows=1, engine="compiled", record="none")
    folder = evaluate(plan, tmp_path / "run", spread=ALONE).folder
    assert set(watch(folder)) == {"none"}
    manifest = folder.manifest
    changed = {**manifest["plan"], "policies": {**manifest["plan"]["policies"], "none": "another version"}}
    folder.update_manifest(plan=changed)
    assert watch(folder) == {}
