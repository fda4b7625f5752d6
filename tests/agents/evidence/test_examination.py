"""``tyche doctor RUN``: a sound folder passes every check, and each planted defect fails the check that it is for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from agents.evidence.evaluation import evaluate
from agents.evidence.examination import examine_run
from agents.evidence.plan import Plan
from agents.evidence.run_folder import RunError, RunFolder
from agents.playing.spread import ALONE
from tests.traces.test_output import holder
from traces.output import held


@pytest.fixture(scope="module")
def sound(plan_of: Callable[..., Plan], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    plan = plan_of("none", "tyche", "bound", windows=2, engine="compiled")
    return evaluate(plan, tmp_path_factory.mktemp("runs") / "sound", spread=ALONE, command="tyche evaluate").folder


@pytest.fixture
def run(sound: RunFolder, tmp_path: Path) -> RunFolder:
    shutil.copytree(sound.path, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def lines(run: RunFolder) -> list[str]:
    return (run.path / "rows.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)


def put(run: RunFolder, content: list[str]) -> None:
    (run.path / "rows.jsonl").write_text("".join(content), encoding="utf-8")


def changed(line: str, **changes: Any) -> str:
    return json.dumps(json.loads(line) | changes) + "\n"


def wrong(run: RunFolder) -> dict[str, str]:
    """What is found wrong."""
    return {each.name: each.detail for each in examine_run(run.path) if not each.found}


def test_a_sound_folder_passes_every_check(sound: RunFolder) -> None:
    found = examine_run(sound.path)
    assert [each.name for each in found] == ["manifest", "status", "rows", "summary", "requests", "parts"]
    assert all(each.found for each in found)
    assert {each.name: each.detail for each in found}["rows"] == "6 of 6 runs of the plan"


def test_so_does_one_with_two_modes_and_the_oracle(finished: RunFolder) -> None:
    assert wrong(finished) == {}


def no_manifest(run: RunFolder) -> None:
    (run.path / "manifest.json").unlink()


def half_a_manifest(run: RunFolder) -> None:
    (run.path / "manifest.json").write_text('{"status": "finished",', encoding="utf-8")


def poor_manifest(run: RunFolder) -> None:
    manifest = run.manifest
    del manifest["started"], manifest["plan"]["seeds"]
    run.write_json("manifest.json", manifest)


def no_scenario(run: RunFolder) -> None:
    (run.path / "scenario.yaml").unlink()


def crashed(run: RunFolder) -> None:
    run.update_manifest(status="running")
    run.parts.mkdir()
    for number in (0, 1, 3, 4):
        run.part(number).touch()


def interrupted(run: RunFolder) -> None:
    crashed(run)
    run.update_manifest(status="interrupted")


def lost_part(run: RunFolder) -> None:
    interrupted(run)
    run.part(3).unlink()


def no_row(run: RunFolder) -> None:
    put(run, [line for number, line in enumerate(lines(run)) if number != 4])


def half_a_row(run: RunFolder) -> None:
    put(run, [*lines(run)[:-1], lines(run)[-1][:40]])


def a_row_twice(run: RunFolder) -> None:
    put(run, [*lines(run), lines(run)[1]])


def two_rows_of_one_run(run: RunFolder) -> None:
    put(run, [*lines(run), changed(lines(run)[1], loads=99)])


def strange_row(run: RunFolder) -> None:
    put(run, [*lines(run), changed(lines(run)[1], window=7)])


def row_of_another_scenario(run: RunFolder) -> None:
    put(run, [changed(lines(run)[0], scenario="small"), *lines(run)[1:]])


def no_row_at_all(run: RunFolder) -> None:
    put(run, ["3\n"])


def no_summary(run: RunFolder) -> None:
    (run.path / "summary.json").unlink()


def other_row_in_the_summary(run: RunFolder) -> None:
    summary = run.summary
    summary["rows"][2]["loads"] = 99
    run.write_json("summary.json", summary)


def other_mean(run: RunFolder) -> None:
    summary = run.summary
    (entry,) = (each for each in summary["aggregates"] if each["policy"] == "tyche")
    entry["warming_loading_ms_mean"]["mean"] = 1.5
    run.write_json("summary.json", summary)


def fewer_comparisons(run: RunFolder) -> None:
    run.write_json("summary.json", run.summary | {"comparisons": []})


def no_requests(run: RunFolder) -> None:
    run.requests.unlink()


def fewer_requests(run: RunFolder) -> None:
    table = pq.read_table(run.requests)
    pq.write_table(table.slice(0, table.num_rows - 1), run.requests)


def requests_of_nobody(run: RunFolder) -> None:
    no_row(run)  # tyche in window 1


def parts_left(run: RunFolder) -> None:
    run.parts.mkdir()
    run.part(3).touch()


DEFECTS: list[tuple[Callable[[RunFolder], None], str, str]] = [
    (no_manifest, "manifest", "manifest.json is missing: this is no run folder, or it was lost; name a new --out"),
    (half_a_manifest, "manifest", "manifest.json, line 1: is no JSON ("),
    (poor_manifest, "manifest", "manifest.json lacks started, plan.seeds; name a new --out to run it again"),
    (no_scenario, "manifest", "scenario.yaml is missing; name a new --out to run it again"),
    (crashed, "status", "crashed: it says that it runs, and no process holds it; `tyche evaluate --out "),
    (interrupted, "status", "interrupted; `tyche evaluate --out "),
    (lost_part, "parts", "the requests of 1 finished runs are not there, the first is policy none, prewarm openwhisk"),
    (no_row, "rows", "rows.jsonl: 1 of 6 rows are missing, the first is policy tyche, prewarm openwhisk, mode "),
    (half_a_row, "rows", "rows.jsonl ends in half a line, as a crash leaves it; `tyche evaluate --out "),
    (a_row_twice, "rows", "rows.jsonl, line 7: repeats an earlier row and is not counted; remove it"),
    (two_rows_of_one_run, "rows", "rows.jsonl, lines 2 and 7: are of one run (policy tyche, prewarm openwhisk, mode "),
    (strange_row, "rows", "rows.jsonl, line 7: is of no run of the plan; remove what another run has left"),
    (row_of_another_scenario, "rows", "rows.jsonl, line 1: is of no run of the plan; remove what another"),
    (no_row_at_all, "rows", "rows.jsonl, line 1: is no row of a run; remove the line to run it again"),
    (no_summary, "summary", "summary.json is missing; `tyche evaluate --out "),
    (other_row_in_the_summary, "summary", "summary.json: has other rows than rows.jsonl (policy bound, prewarm "),
    (other_mean, "summary", "aggregates (tyche): warming_loading_ms_mean"),
    (fewer_comparisons, "summary", "summary.json: comparisons is [], the rows give [{"),
    (no_requests, "requests", "requests.parquet is missing, and the run is finished; name a new --out"),
    (
        fewer_requests,
        "requests",
        " requests of policy tyche, prewarm openwhisk, mode realistic, window 1, seed 0",
    ),
    (requests_of_nobody, "requests", "requests.parquet: has requests of a run without a row (policy tyche, prewarm "),
    (parts_left, "parts", "1 files are left over, such as "),
]


@pytest.mark.parametrize(("plant", "check", "message"), DEFECTS, ids=[plant.__name__ for plant, _, _ in DEFECTS])
def test_a_planted_defect_is_found(
    run: RunFolder, plant: Callable[[RunFolder], None], check: str, message: str
) -> None:
    plant(run)
    assert message in wrong(run)[check]


def test_a_run_that_goes_on_is_not_taken_for_crashed(run: RunFolder) -> None:
    crashed(run)
    no_row(run)
    process = holder(run.path)
    try:
        assert wrong(run) == {}
    finally:
        process.kill()
        process.communicate()
    assert set(wrong(run)) == {"status", "rows"}


def test_looking_changes_nothing(run: RunFolder) -> None:
    a_row_twice(run)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    wrong(run)
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before


def test_there_must_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no such folder"):
        examine_run(tmp_path / "nowhere")


def test_an_experiments_folder_is_looked_at_as_far_as_it_says(tmp_path: Path) -> None:
    folder = RunFolder.open(tmp_path / "run", {"experiment": "nodes", "draws": 1}, "", "tyche reproduce paper")
    row = {"axes": {"class": "Bursty", "nodes": 2}, "draw": "Bursty-40-1", "requests": 3}
    folder.append(row)
    folder.append(row | {"draw": "Bursty-40-2"})
    folder.write_json("summary.json", {"rows": [{}]})
    folder.update_manifest(status="finished")
    assert wrong(folder) == {}
    folder.append(row | {"requests": 4})
    assert (
        "lines 1 and 3: are of one run (class Bursty, nodes 2, draw Bursty-40-1) and differ in" in wrong(folder)["rows"]
    )


def test_a_row_that_stands_twice_is_taken_once(run: RunFolder) -> None:
    before = run.rows()
    a_row_twice(run)
    assert run.rows() == before


def test_an_evaluation_into_a_folder_in_use_is_refused_and_writes_nothing(
    plan_of: Callable[..., Plan], run: RunFolder
) -> None:
    before = lines(run)
    with held(run.path), pytest.raises(ValueError, match="is in use by process"):
        evaluate(plan_of("none", "tyche", "bound", windows=2, engine="compiled"), run.path, spread=ALONE)
    assert lines(run) == before
