"""``tyche trace``: files in, files out, one line and exit 2 on bad input."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from traces import load, read_parquet, statistics
from traces.commands import _COV_CLASSES, _METHODS, _RATE_GROUPS, trace
from traces.describe import COV_CLASSES, RATE_GROUPS
from traces.expansion import METHODS

Writer = Callable[[str, str], Path]

COUNTS = "HashOwner,HashApp,HashFunction,Trigger,1,2\no,a,f,timer,1,1\no,a,g,http,4,0\no,a,h,http,0,9\n"


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(trace, [str(argument) for argument in arguments])


def test_the_choices_offered_are_those_that_exist() -> None:
    assert (_METHODS, _COV_CLASSES, _RATE_GROUPS) == (METHODS, COV_CLASSES, RATE_GROUPS)


def test_inspect_describes_a_file_for_people_and_for_machines(write: Writer) -> None:
    path = write("i.csv", COUNTS)
    shown = _run("inspect", path)
    assert shown.exit_code == 0
    assert "CC-BY 4.0" in shown.output
    about = json.loads(_run("inspect", "--json", path).output)
    assert (about["functions"], about["requests"], about["timers"], about["minutes"]) == (3, 15, 1, 2.0)
    assert sum(about["rate_groups"].values()) == 3


def test_inspect_tells_figures_worked_by_hand_under_their_names(write: Writer) -> None:
    # eleven functions of 0, 10, ... 100 requests in ten minutes of counts; the first two are timers
    rows = [f"o,a,f{f},{'timer' if f < 2 else 'http'},{f},{','.join([str(f)] * 9)}" for f in range(11)]
    path = write(
        "i.csv", f"HashOwner,HashApp,HashFunction,Trigger,{','.join(map(str, range(1, 11)))}\n" + "\n".join(rows)
    )
    about = json.loads(_run("inspect", "--json", path).output)
    rates = [about[f"rate_per_min_{at}"] for at in ("p10", "p50", "p90", "p99")]
    assert rates == [1.0, 5.0, 9.0, pytest.approx(9.9)]
    assert (about["functions"], about["requests"], about["timers"], about["minutes"]) == (11, 550, 2, 10.0)
    assert about["rate_groups"] == {"frequent": 9, "medium": 1, "rare": 1}
    assert about["cov_classes"]["Unknown"] == 1
    assert sum(about["cov_classes"].values()) == 11
    assert about["top_1_percent_share"] == pytest.approx(100 / 550)
    covs = statistics(load(path))["cov"].dropna()
    assert [about[f"cov_{at}"] for at in ("p10", "p50", "p90")] == pytest.approx(np.quantile(covs, (0.1, 0.5, 0.9)))
    assert (about["form"], about["window"]) == ("counts per minute", "minutes 1..10")
    shown = {line[:20].rstrip(): line[21:] for line in _run("inspect", path).output.splitlines()}
    assert shown["rate_groups"] == "frequent 9, medium 1, rare 1"
    assert (shown["requests"], shown["rate_per_min_p99"], shown["silent_minutes"]) == ("550", "9.9", "0")
    assert shown["autocorrelation_24h"] == "-"
    assert shown["requests over time"] == "█" * 10


def test_inspect_says_of_requests_where_they_come_from(tmp_path: Path) -> None:
    path = tmp_path / "made.parquet"
    _run("synthesize", path, "-n", 5, "--minutes", 60, "--method", "equidistant", "--seed", 4)
    about, metadata = json.loads(_run("inspect", "--json", path).output), read_parquet(path).metadata
    assert about["form"] == "requests"
    names = ("source", "licence", "window", "expansion", "content_hash")
    assert [about[name] for name in names] == [getattr(metadata, name) for name in names]
    assert (about["licence"], about["expansion"], about["window"]) == ("Apache-2.0", "equidistant", "minutes 0..59")


def test_convert_writes_parquet(write: Writer, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    result = _run("convert", write("i.csv", COUNTS), out, "--method", "equidistant")
    assert result.exit_code == 0
    assert "3 functions, 15 requests" in result.output
    assert read_parquet(out).metadata.expansion == "equidistant"
    assert _run("inspect", out).exit_code == 0


def test_sample_draws(write: Writer, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    assert _run("sample", write("i.csv", COUNTS), out, "-n", 2, "--seed", 3).exit_code == 0
    assert len(read_parquet(out).names) == 2


def test_split_writes_files_that_share_no_function(tmp_path: Path) -> None:
    source, folder = tmp_path / "all.parquet", tmp_path / "splits"
    _run("synthesize", source, "-n", 20, "--minutes", 100)
    assert _run("split", source, folder, "--by-time").exit_code == 0
    parts = [read_parquet(folder / f"{name}.parquet") for name in ("train", "validation", "test")]
    assert [len(part.names) for part in parts] == [10, 4, 6]
    assert len({name for part in parts for name in part.names}) == 20
    assert [round(part.end_us / 60e6) for part in parts] == [50, 20, 30]
    refused = _run("split", source, folder, "--train", 0.8)
    assert refused.exit_code == 2
    assert "leave nothing to test" in refused.output


def test_synthesize_makes_a_trace(tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    assert _run("synthesize", out, "-n", 5, "--minutes", 60).exit_code == 0
    assert len(read_parquet(out).names) == 5


def test_bad_input_is_one_line_and_exit_2(write: Writer, tmp_path: Path) -> None:
    bad = write("i.csv", COUNTS.replace("4,0", "4,-1"))
    result = _run("convert", bad, tmp_path / "out.parquet")
    assert result.exit_code == 2
    assert result.output == f"Error: {bad}, row 3, column 2: -1 is negative, expected a whole number, 0 or more\n"
    single = write("t.csv", "t\n1\n2\n")
    for words in (["convert", single, tmp_path / "out.parquet"], ["split", single, tmp_path]):
        result = _run(*words, "--column", "time=t", "--method", "equidistant")
        assert "--method equidistant: is of counts, and the trace has single requests; leave it out" in result.output
    result = _run("synthesize", tmp_path / "out.parquet", "--like", single, "--column=time=t", "--method", "uniform")
    assert "--method uniform: a trace made with --like draws its own gaps; leave it out" in result.output
    assert (
        "TARGET -: Parquet is written to a file, not to standard" in _run("convert", write("i.csv", COUNTS), "-").output
    )
    few = _run("sample", write("i.csv", COUNTS), tmp_path / "out.parquet", "-n", 9)
    assert few.exit_code == 2
    assert "cannot draw 9 functions of 3" in few.output


def test_repairs_are_printed_and_files_beside_counts_are_taken(write: Writer, tmp_path: Path) -> None:
    counts = write("i.csv", "HashOwner,HashApp,HashFunction,Trigger,1\no,a,f,http,1\no,a,g,http,3\no,a,f,http,10\n")
    durations = write("d.csv", "HashOwner,HashApp,HashFunction,Average,Count\no,a,f,40,1\n")
    refused = _run("inspect", counts, "--durations", durations)
    assert refused.exit_code == 2
    assert "repeats the key of row 2" in refused.output
    words = (counts, "--durations", durations, "--bad-rows", "repair")
    printed = _run("inspect", *words).output
    assert re.search(r"^requests +14$", printed, re.MULTILINE)
    twice = r"^repaired +1 x a function that stands twice in a day's counts: .* \(first in .*i\.csv, row 4\)$"
    assert re.search(twice, printed, re.MULTILINE)
    assert re.search(r"^repaired +1 x no duration: the median of", printed, re.MULTILINE)
    assert len(json.loads(_run("inspect", *words, "--json").output)["repairs"]) == 2
    out = tmp_path / "made.parquet"
    made = _run("convert", counts, out, *words[1:])
    assert "repaired: 1 x a function that stands twice" in made.output
    assert read_parquet(out).duration_us.tolist() == [40_000] * 14
