"""The report: one file, offline, complete."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from agents.evaluation import Plan, evaluate
from agents.figures import colours
from agents.report import finding, write_report
from agents.runs import RunFolder


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
    assert text.count("<svg") == 3 * 2
    assert "Paired differences from none" in text


def test_text_from_outside_is_escaped(page: tuple[Path, str]) -> None:
    assert "Tiny &lt;trace&gt;" in page[1]
    assert "<trace>" not in page[1]


def test_figures_are_files_as_well(page: tuple[Path, str]) -> None:
    names = {path.name for path in (page[0].parent / "figures").iterdir()}
    assert names == {f"{name}.{kind}" for name in ("warming-loading", "stages", "latency") for kind in ("svg", "png")}


def test_without_recorded_requests_there_are_fewer_figures(plan_of: Callable[..., Plan], tmp_path: Path) -> None:
    folder = evaluate(plan_of("none", windows=1, record="none"), tmp_path / "run", jobs=1).folder
    text = write_report(folder).read_text(encoding="utf-8")
    assert text.count("<svg") == 1
    assert "too few windows for an interval" in text


def test_the_finding_never_boasts_with_a_privileged_policy(finished: RunFolder) -> None:
    assert finding(finished.summary).startswith("Against none, tyche")


def test_the_finding_gives_both_averages(finished: RunFolder) -> None:
    # A policy may help rare functions and harm hot ones; either average alone would hide that.
    assert "averaged over functions" in finding(finished.summary)
    assert "Averaged over requests" in finding(finished.summary)


def test_each_policy_keeps_its_colour() -> None:
    assert colours(["tyche", "mine"])["tyche"] == colours(["oracle", "tyche"])["tyche"]
    many = [f"policy-{i}" for i in range(6)]
    assert len(set(colours([*many, "tyche"]).values())) == 7
