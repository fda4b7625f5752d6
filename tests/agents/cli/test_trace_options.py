"""Whatever one command can read of a trace file every other one can, too, and each says what was mended."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from agents.cli.options import on_trace, recipe_on_trace
from agents.evidence.results import _of_scenario
from agents.policies.recipe import HazardRecipe, TraceReading, as_recipe, recipe_hash
from agents.training.recipes import load_recipe
from traces import read_parquet
from traces.options import Reading
from tyche_env.cli import run, tyche
from tyche_env.errors import UserError
from tyche_env.own_scenario import own_scenario
from tyche_env.scenario import Cluster, Scenario

OPTIONS = {"--column", "--tz", "--family", "--durations", "--memory", "--bad-rows"}
READERS = {
    *("trace inspect", "trace convert", "trace sample", "trace split", "trace synthesize", "scenario new"),
    *("evaluate", "simulate", "train", "tune", "leaderboard measure"),
}
MENDED = "repaired: 1 x no run time: the median of its function's others, else of all (first in "
COLUMNS = ["--column=time=t", "--column=function=f", "--column=duration=d"]


def commands(command: click.Command = tyche, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield " ".join(path), command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        assert inner is not None
        yield from commands(inner, (*path, name))


def test_every_command_that_takes_a_trace_file_takes_all_that_says_how_to_read_it() -> None:
    found = {name: {option for each in command.params for option in each.opts} for name, command in commands()}
    # it reads two families alone, and knows their columns
    assert {name for name, options in found.items() if options & OPTIONS} == READERS | {"trace compare"}
    assert {name for name, options in found.items() if "--trace" in options} <= READERS
    for name in READERS:
        assert found[name] >= OPTIONS, name


@pytest.fixture
def gap(tmp_path: Path) -> Path:
    """Four hours of requests to 100 functions, one of which has no run time; that of its function's others is 7 s."""
    path = tmp_path / "gap.csv"
    rows = [f"{s},f{s // 30 % 100:02},{7 if s // 30 % 100 == 3 else 1}\n" for s in range(0, 4 * 3600, 30)]
    rows[3] = "90,f03,\n"
    path.write_text("t,f,d\n" + "".join(rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("words", "made"),
    [
        (["convert", "IN", "out.parquet"], "out.parquet"),
        (["sample", "IN", "out.parquet", "-n", "100"], "out.parquet"),
        (["split", "IN", "parts"], None),
        (["synthesize", "out.parquet", "--like", "IN"], "out.parquet"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_commands_of_traces_mend_on_demand_and_say_so(
    gap: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str], made: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [*(str(gap) if word == "IN" else word for word in words), *COLUMNS]
    refused = CliRunner().invoke(tyche, ["trace", *given])
    assert refused.exit_code == 2
    assert "row 5, column d: the cell is empty, expected a run time" in refused.output
    done = CliRunner().invoke(tyche, ["trace", *given, "--bad-rows", "repair"])
    assert done.exit_code == 0
    assert done.stderr.count(MENDED) == 1
    assert MENDED not in done.stdout
    if words[0] in ("convert", "sample") and made is not None:
        trace = read_parquet(made)
        (row,) = (trace.arrival_us == 90_000_000).nonzero()[0]
        assert trace.duration_us[row] == 7_000_000


@pytest.mark.parametrize(
    ("words", "fails"),
    [
        (["trace", "convert", "IN", "out.parquet"], False),
        (["trace", "sample", "IN", "out.parquet", "-n", "6"], False),
        (["trace", "split", "IN", "parts"], False),
        (["trace", "synthesize", "out.parquet", "--like", "IN"], False),
        (["evaluate", "--trace", "IN", "--policy", "none", "--windows", "1", "--out", "run"], False),
        # the functions of small are more
        (["simulate", "--scenario", "small", "--trace", "IN"], True),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_a_wrong_unit_is_told_by_every_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str], fails: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [f"{second},f{second % 6},{3 if second else 5000}\n" for second in range(0, 3600, 5)]
    Path("a.csv").write_text("t,f,d\n" + "".join(rows), encoding="utf-8")
    given = ["a.csv" if word == "IN" else word for word in words] + COLUMNS
    done = CliRunner().invoke(tyche, given)
    assert (done.exit_code != 0) == fails
    assert (
        "implausible: run times: the longest is 1.389 h, the whole trace lasts 59.92 min; is the duration_unit s right?"
        in done.stderr
    )


def test_files_beside_counts_are_taken_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"o,a,{f},http,2,2\n" for f in "fgh")
    Path("i.csv").write_text(f"HashOwner,HashApp,HashFunction,Trigger,1,2\n{rows}", encoding="utf-8")
    durations = "".join(f"o,a,{f},{40 * (1 + place)},4\n" for place, f in enumerate("fgh"))
    Path("d.csv").write_text(f"HashOwner,HashApp,HashFunction,Average,Count\n{durations}", encoding="utf-8")
    beside = ["--durations", "d.csv"]
    assert run(["trace", "sample", "i.csv", "s.parquet", "-n", "3", *beside]) == 0
    assert sorted(read_parquet("s.parquet").duration_us.tolist()) == [40_000] * 4 + [80_000] * 4 + [120_000] * 4
    assert run(["trace", "split", "i.csv", "parts", "--train", "0.34", "--validation", "0.33", *beside]) == 0
    parts = [
        set(read_parquet(f"parts/{name}.parquet").duration_us.tolist()) for name in ("train", "validation", "test")
    ]
    assert set.union(*parts) == {40_000, 80_000, 120_000}
    assert run(["trace", "synthesize", "l.parquet", "--like", "i.csv", *beside]) == 0
    assert len(read_parquet("l.parquet").duration_us) > 0


def test_simulate_takes_a_trace_file(gap: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    nodes = Cluster.model_validate({"nodes": [{"memory_mb": 8000}]})
    own = own_scenario("mine", str(gap), "paper", nodes, {"time": "t", "function": "f"})
    Path("mine.yaml").write_text(own.to_yaml(), encoding="utf-8")
    words = ["simulate", "--scenario", "mine.yaml", "--trace", str(gap), *COLUMNS, "--json"]
    refused = CliRunner().invoke(tyche, words)
    assert "row 5, column d: the cell is empty, expected a run time" in str(refused.exception)
    done = CliRunner().invoke(tyche, [*words, "--bad-rows", "repair"])
    world = own.world()
    assert json.loads(done.stdout)["requests"] == int((world.arrival_us >= world.score_from_us).sum()) > 0
    assert done.stderr.count(MENDED) == 1
    CliRunner().invoke(tyche, [*words[:-1], "--bad-rows", "repair", "--save", "kept"])
    alone = CliRunner().invoke(tyche, ["simulate", "--world", "kept", "--column", "time=t"])
    assert str(alone.exception) == "--column: decides nothing with --world; leave it out"


def test_how_a_trace_is_read_needs_a_trace() -> None:
    for words in (["evaluate", "--scenario", "small"], ["simulate", "--scenario", "small"], ["train", "hazard"]):
        done = CliRunner().invoke(tyche, [*words, "--column", "time=t", "--bad-rows", "repair"])
        assert str(done.exception) == "--column, --bad-rows: needs --trace FILE, which is not given"
    synthetic = CliRunner().invoke(tyche, ["trace", "synthesize", "a.parquet", "--tz", "Asia/Tokyo"])
    assert "--tz: needs --like FILE, which is not given" in synthetic.output
    tokens = ["trace", "convert", __file__, "a.parquet", "--base-ms", "3", "--column", "time=t"]
    assert "costs of tokens belong to traces that give numbers of tokens" in CliRunner().invoke(tyche, tokens).output


def test_a_scenario_is_put_on_the_file_as_it_is_to_be_read(gap: Path) -> None:
    reading = Reading(("time=t", "function=f", "duration=d"), bad_rows="repair")
    scenario = on_trace(Scenario.load("small"), gap, reading)
    settings: Any = scenario.trace
    assert (settings.family, settings.file, settings.bad_rows) == ("file", str(gap), "repair")
    assert (settings.columns.time, settings.columns.function, settings.columns.duration) == ("t", "f", "d")
    zoned = Reading(("time=t", "time_unit=iso"), "Asia/Tokyo").settings()
    assert zoned == {"columns": {"time": "t", "time_unit": "iso", "time_zone": "Asia/Tokyo"}}
    assert Scenario.load("small").on_file(gap).trace.columns is None


def test_a_board_reads_the_file_as_the_measurement_did(gap: Path) -> None:
    reading = Reading(("time=t", "function=f", "duration=d"), bad_rows="repair")
    scenario = on_trace(Scenario.load("small"), gap, reading)
    about = json.loads(json.dumps(_of_scenario(scenario)))
    again = Scenario.load("small").on_file(about["trace"], **about["reading"])
    assert again.hash() == about["hash"] == scenario.hash()
    assert "reading" not in _of_scenario(Scenario.load("small"))


def test_recipes_know_how_their_trace_is_read(gap: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    monkeypatch.chdir(gap.parent)
    plain = load_recipe("hazard")
    assert recipe_on_trace(plain, None, Reading()) == plain
    reading = Reading(("time=t", "function=f", "duration=d"), bad_rows="repair")
    found = recipe_on_trace(plain, Path("gap.csv"), reading)
    assert isinstance(found, HazardRecipe)
    assert capfd.readouterr().err.count(MENDED) == 1
    assert found.trace == str(gap)
    settings = found.scenario_of("train-10").trace
    assert settings.columns is not None
    assert (settings.columns.duration, settings.bad_rows) == ("d", "repair")
    assert as_recipe(found.model_dump(mode="json")).model_dump() == found.model_dump()
    assert plain.on_trace_of(found).reading == found.reading
    assert recipe_hash(found) != recipe_hash(plain.model_copy(update={"trace": str(gap)}))


def test_hashes_of_recipes_stay_as_they_were() -> None:
    assert [recipe_hash(load_recipe(name)) for name in ("hazard", "ppo")] == ["037490c62c3752c7", "38c475fbac85fc75"]


def test_a_recipe_that_says_how_to_read_no_trace_is_refused() -> None:
    content = load_recipe("hazard").model_dump(mode="json") | {"reading": {"bad_rows": "repair"}}
    with pytest.raises(UserError, match="reading: belongs to trace, which is not given"):
        as_recipe(content)
    with pytest.raises(ValidationError):
        TraceReading.model_validate({"bad_row": "repair"})
