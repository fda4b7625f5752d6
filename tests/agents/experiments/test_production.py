"""Production as a witness: cold starts and instances on both sides, worked by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from agents.experiments.production import compare
from tests.traces import published
from traces import TraceError
from traces.witness import Witness, lives_of, most_at_once, read_witness
from tyche_env.cli import run

DAY_S = 30 * 86_400
# function, pod, arrival; each runs for a second
REQUESTS = (
    ("1", "A1", 0.0),
    ("1", "A1", 100.0),
    ("1", "A1", 130.0),
    ("1", "A2", 130.5),  # while the one before runs
    ("2", "D", 140.0),
    ("1", "A3", 400.0),
    ("1", "A4", 400.5),  # likewise
)
# function, time, total; the first lies before the warm-up, the last two are of another function and another day
COLD_STARTS = (("1", 10.0, 0.5), ("1", 130.6, 0.4), ("1", 400.3, 0.6), ("3", 200.0, 9.0), ("1", -90_000.0, 9.0))


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """The tables of requests and of cold starts."""
    header = published.HUAWEI_REQUESTS.decode().splitlines()[0]
    rows = [
        f"{DAY_S + at + 1},{DAY_S + at + 1},r,1,{function},pool22-300-128-{pod},7,1.0,0,1,1.0,0,0,0,0,0,9,9"
        for function, pod, at in REQUESTS
    ]
    requests = tmp_path / "requests.csv"
    requests.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    header = published.HUAWEI_COLD_STARTS.decode().splitlines()[0]
    rows = [
        f"{int((DAY_S + at) // 86_400)},{DAY_S + at},1,{function},7,r,{total},0.1,0,0.05,{total - 0.15:g},"
        "pool22-300-128-x"
        for function, at, total in COLD_STARTS
    ]
    cold_starts = tmp_path / "cold_starts.csv"
    cold_starts.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return requests, cold_starts


@pytest.fixture
def witness(files: tuple[Path, Path]) -> Witness:
    return read_witness(*files)


def test_cold_starts_and_instances_stand_beside_those_recorded(witness: Witness) -> None:
    found = compare(witness, keep_alive_s=(60, 600), warm_up_s=60)
    recorded, minute, ten = found["sides"]
    assert [side["side"] for side in found["sides"]] == ["recorded", "keep-alive 60 s", "keep-alive 600 s"]
    # after the first minute: the one at 130.6 s and the one at 400.3 s, for six requests
    assert (recorded["cold_starts"], recorded["cold_start_rate"]) == (2, 2 / 6)
    # function 1: at 100 s, since the first container went at 61.5 s, at 130.5 s, since the second is busy, and twice at
    # the end; function 2: its own, though one of function 1 is idle
    assert (minute["cold_starts"], minute["cold_start_rate"]) == (5, 5 / 6)
    # the first container serves on; only the first overlap and function 2 need new ones, for which there is room
    assert ten["cold_starts"] == 2
    assert [side["new_instances"] for side in found["sides"]] == [4, 5, 2]
    # recorded, by the authors' minute: A1 from 60 to 191 s, A2 130.5 to 191.5, D 140 to 201, A3 400 to the end at 400.5
    assert recorded["instances_mean"] == pytest.approx((131 + 61 + 61 + 0.5) / 340.5, abs=1e-6)
    # 60 to 61.5 s, 100 to 191, 130.5 to 192 (a cold start of 0.5 s, the mean of 0.5, 0.4 and 0.6), 140 to 201.5
    assert minute["instances_mean"] == pytest.approx((1.5 + 91 + 61.5 + 61.5 + 0.5) / 340.5, abs=1e-6)
    assert ten["instances_mean"] == pytest.approx((340.5 + 270 + 260.5) / 340.5, abs=1e-6)
    assert [side["instances_peak"] for side in found["sides"]] == [3, 3, 3]
    assert found["by_function"] == [
        {
            "function": "1---7---pool22-300-128",
            "requests": 5,
            "cold_starts": {"recorded": 2, "keep-alive 60 s": 4, "keep-alive 600 s": 1},
        },
        {
            "function": "2---7---pool22-300-128",
            "requests": 1,
            "cold_starts": {"recorded": 0, "keep-alive 60 s": 1, "keep-alive 600 s": 1},
        },
    ]
    assert (found["requests"], found["functions"], found["warm_up_s"]) == (6, 2, 60)
    assert (found["cold_start_ms"], found["cold_starts_of_other_functions"]) == (500, 1)
    # of function 1 on this day
    stages = {"podAllocationCost": 100, "deployCodeCost": 0, "deployDependencyCost": 50, "schedulingCost": 350}
    assert found["recorded_stages_ms"] == pytest.approx(stages)


def test_the_keep_alive_of_the_authors_is_the_default_and_its_length_the_warm_up(witness: Witness) -> None:
    found = compare(witness)
    assert [side["side"] for side in found["sides"]] == ["recorded", "keep-alive 60 s"]
    assert found["warm_up_s"] == 60


def test_without_a_table_of_cold_starts_none_are_recorded(files: tuple[Path, Path]) -> None:
    found = compare(read_witness(files[0]), cold_start_ms=250)
    assert found["sides"][0]["cold_starts"] is None
    assert found["recorded_stages_ms"] == {}
    assert found["by_function"][0]["cold_starts"]["recorded"] is None
    assert found["cold_start_ms"] == 250
    # 100 to 191 s as before, 130.5 to 191.75 and 140 to 201.25
    mean = (1.25 + 91 + 61.25 + 61.25 + 0.5) / 340.5
    assert found["sides"][1]["instances_mean"] == pytest.approx(mean, abs=1e-6)


def test_chutes_has_instances_that_serve_several_requests(tmp_path: Path) -> None:
    path = tmp_path / "chutes.parquet"
    path.write_bytes(published.chutes())
    witness = read_witness(path, bad_rows="repair")
    # x at 0 and 100 s, y at 1, none at 2
    assert witness.instance.tolist() == [0, 1, -1, 0]
    with pytest.raises(TraceError, match="keep_alive_s: the trace's authors name none of the platform; give some"):
        compare(witness)
    recorded, simulated = compare(witness, keep_alive_s=(10,), cold_start_ms=0, warm_up_s=0)["sides"]
    # x from 0 s to the end at 100 s, y from 1 to 7
    assert recorded["instances_mean"] == pytest.approx(1.06, abs=1e-6)
    assert recorded["instances_peak"] == 2
    assert (recorded["requests_at_once_in_an_instance"], simulated["requests_at_once_in_an_instance"]) == (1, 1)
    assert simulated["cold_starts"] == 4


def test_the_command_prints_both_sides(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["trace", "compare", str(files[0]), "--cold-starts", str(files[1])]
    assert run(words) == 0
    shown = capsys.readouterr().out
    assert "6 requests to 2 functions in 5.7 minutes, after a warm-up of 60 s; a cold start takes 500 ms" in shown
    assert [line.split()[-2:] for line in shown.splitlines() if line.strip().startswith("cold starts")] == [
        ["2", "5"],
        ["2", "4"],
        ["0", "1"],
    ]
    stages = "podAllocationCost 100, deployCodeCost 0, deployDependencyCost 50, schedulingCost 350"
    assert f"a recorded cold start in the mean, in ms: {stages}\n" in shown
    assert "1 cold starts are of functions that are not among these" in shown
    assert run([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sides"][1]["cold_starts"] == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warm_up_s": 500}, "warm_up_s: 500 s leave nothing to count, the trace lasts 400.5 s; give less"),
        ({"keep_alive_s": (-1.0,)}, "keep_alive_s: needs a number of 0 or more, got -1"),
        ({"cold_start_ms": float("nan")}, "cold_start_ms: needs a number of 0 or more, got nan"),
    ],
)
def test_what_leaves_nothing_to_compare_is_refused(witness: Witness, options: dict[str, float], message: str) -> None:
    with pytest.raises(TraceError, match=message):
        compare(witness, **options)  # type: ignore[arg-type]


def test_a_trace_without_instances_is_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "b.csv"
    path.write_bytes(published.BURSTGPT)
    with pytest.raises(TraceError, match=r"records no instances; Huawei 2025 \(its table of requests\) and Chutes do"):
        read_witness(path)
    path = tmp_path / "c.parquet"
    path.write_bytes(published.chutes())
    with pytest.raises(TraceError, match="cold starts belong to Huawei 2025; Chutes records none"):
        read_witness(path, files[1])


def test_a_cold_start_that_is_not_on_its_day_is_refused(files: tuple[Path, Path]) -> None:
    text = files[1].read_text(encoding="utf-8")
    files[1].write_text(text.replace("30,2592010.0", "30,10.0"), encoding="utf-8")
    with pytest.raises(
        TraceError, match=r"row 2, column time: 10 s is not on day 30, expected seconds from the start of"
    ):
        read_witness(*files)


def test_spans_that_touch_do_not_overlap() -> None:
    group = np.array([0, 0, 0, 2])
    begin, end = np.array([0, 5, 5, 1]), np.array([5, 9, 6, 1])
    assert most_at_once(group, begin, end, 3).tolist() == [2, 0, 0]


def test_requests_of_no_instance_begin_no_life() -> None:
    lives = lives_of(np.array([3, -1, 3]), np.array([5, 0, 1]), np.array([9, 99, 2]), 10)
    assert (lives.begin_us.tolist(), lives.over_us.tolist()) == ([1], [19])
    assert lives.at_once(0, 20) == (0.9, 1)
    assert (lives.begun(0, 1), lives.begun(1, 2)) == (0, 1)
