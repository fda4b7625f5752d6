"""The page "Bring your own" works as it stands: its files and commands, in an empty folder."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from agents.evidence.run_folder import RunFolder
from real_backend.functions.own import memory_mb
from tests.test_docs import blocks, shell_lines
from tyche_env.cli import run
from tyche_env.profiles import load_catalogue
from tyche_env.scenario import Scenario

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "bring-your-own.md").read_text(encoding="utf-8")
NAMES = ("captions", "search", "speech")


def requests_csv(path: Path) -> None:
    """Two hours of requests to three functions, in the page's form."""
    generator = np.random.default_rng(0)
    (header, *example) = blocks(PAGE, "csv")[0].splitlines()
    rows = [
        (second, f"{name},{180 - 60 * number}")
        for number, name in enumerate(NAMES)
        for second in generator.uniform(0, 7200, 60 * (number + 1)).round(3)
    ]
    start = np.datetime64("2026-03-02T08:00:00.000")
    lines = [f"{str(start + np.timedelta64(int(s * 1000), 'ms')).replace('T', ' ')},{rest}" for s, rest in sorted(rows)]
    path.write_text("\n".join([header, *example, *lines]) + "\n", encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    requests_csv(tmp_path / "requests.csv")
    (tmp_path / "cluster.yaml").write_text(blocks(PAGE, "yaml")[0], encoding="utf-8")
    (tmp_path / "my_functions.py").write_bytes((ROOT / "docs" / "examples" / "my_functions.py").read_bytes())
    return tmp_path


def test_its_commands_run_one_after_the_other(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [words for words in shell_lines(PAGE) if words[0] == "tyche" and words[1:3] != ["profile", "measure"]]
    assert len(lines) == 9
    for words in lines:
        extra = ["--jobs", "1", "--quiet"] if words[1] == "evaluate" else []
        assert run([*words[1:], *extra]) == 0, shlex.join(words) + capsys.readouterr().err
    assert [profile.name for profile in load_catalogue("profiles.csv")] == list(NAMES)
    scenario = Scenario.load("mine.yaml")
    assert scenario.functions.assign == "name"
    assert [group.memory_mb for group in scenario.cluster.nodes] == [4000, 3000]
    assert scenario.world().names == NAMES
    summary = RunFolder.read(folder / "runs" / "mine").summary
    assert {entry["policy"] for entry in summary["aggregates"]} == {"none", "tyche", "censored"}
    assert sum(row["requests"] for row in summary["rows"]) > 0
    for name in ("trace.png", "likeness.png", "like-mine.parquet", "runs/mine/report.html"):
        assert (folder / name).stat().st_size > 0
    output = capsys.readouterr().out
    assert re.search(r"words +hold_mb=\d+, peak_mb=\d+", output)
    assert "ks_rate" in output


@pytest.mark.slow
def test_its_own_function_is_measured(folder: Path) -> None:
    (words,) = [words for words in shell_lines(PAGE) if words[1:3] == ["profile", "measure"]]
    assert run(words[1:]) == 0
    (profile,) = load_catalogue("measured.csv")
    assert profile.name == "words"
    assert profile.model_ms > 0


def test_the_example_declares_the_memory_that_it_takes() -> None:
    ((held, peak),) = memory_mb(str(ROOT / "docs" / "examples" / "my_functions.py")).values()
    assert 20 < held <= peak < 120
