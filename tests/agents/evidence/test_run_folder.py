"""What a run leaves on disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from agents.evidence.evaluation import evaluate
from agents.evidence.plan import Plan
from agents.evidence.run_folder import ROW_GROUP, RunError, RunFolder, write_requests
from agents.playing.play import SAMPLE_ONE_IN, sampled
from agents.playing.spread import ALONE
from tyche_env.scenario import Scenario
from tyche_env.simulator.log import LOG_DTYPE

STAGES = ["queue_us", "scheduling_us", "warming_us", "library_us", "model_us", "transfer_us", "inference_us"]
DESIGN_COLUMNS = {"function", "node", "container", "start_type", "kept", "arrival_us", *STAGES, "end_us", "status"} | {
    "activation_id"
}


def a_log(rows: int) -> np.ndarray:
    log = np.zeros(rows, dtype=LOG_DTYPE)
    log["request"] = np.arange(rows)
    log["arrival_us"] = np.arange(rows) * 1000
    log["inference_us"] = 5
    log["end_us"] = log["arrival_us"] + 5
    log["function"] = np.arange(rows) % 2
    return log


LABELS = {"policy": "none", "prewarm": "openwhisk", "mode": "paper", "window": 1, "seed": 0, "group": "g"}


def test_the_manifest_says_what_was_run_with_what(finished: RunFolder) -> None:
    manifest = finished.manifest
    assert manifest["command"] == "tyche evaluate"
    assert manifest["plan"]["scenario"] == "tiny"
    assert manifest["plan"]["policies"] == dict.fromkeys(("none", "tyche", "oracle", "bound"), "built-in")
    assert {"python", "numpy", "tyche-env"} <= set(manifest["versions"])
    assert manifest["wall_s"] > 0
    assert manifest["cpu_s"] > 0


def test_the_scenario_can_be_run_again(finished: RunFolder, tiny: Scenario) -> None:
    again = Scenario.load(finished.path / "scenario.yaml")
    assert again.hash() == tiny.hash() == finished.manifest["plan"]["scenario_hash"]


def test_every_file_of_json_is_strict(finished: RunFolder) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    for name in ("manifest.json", "summary.json"):
        json.loads((finished.path / name).read_text(encoding="utf-8"), parse_constant=refuse)


def test_recorded_requests_add_up_to_the_rows(finished: RunFolder) -> None:
    table = pq.read_table(finished.requests).to_pandas()
    assert set(table.columns) >= DESIGN_COLUMNS
    assert (table[STAGES].sum(axis=1) == table["end_us"] - table["arrival_us"]).all()
    for row in finished.summary["rows"]:
        own = table
        for key in ("policy", "mode", "window", "seed"):
            own = own[own[key] == row[key]]
        if row["bound"]:
            assert own.empty
            continue
        assert len(own) == row["requests"]
        loading = own[["warming_us", "library_us", "model_us", "transfer_us"]].to_numpy().sum()
        assert loading / len(own) / 1e3 == pytest.approx(row["warming_loading_ms_mean"])
        assert own["start_type"].isin(["gpu", "memory"]).mean() == pytest.approx(row["preload_rate"])
        assert own["kept"].mean() == pytest.approx(row["kept_rate"])


@pytest.mark.parametrize("record", ["sample", "none"])
def test_fewer_requests_are_recorded_on_demand(
    plan_of: Callable[..., Plan], tmp_path: Path, finished: RunFolder, record: str
) -> None:
    outcome = evaluate(plan_of("none", windows=1, record=record), tmp_path / "run", spread=ALONE)
    assert outcome.folder.requests.exists() == (record == "sample")
    assert outcome.rows[0]["requests"] == finished.summary["rows"][0]["requests"]


def test_a_sample_holds_the_same_requests_for_every_policy() -> None:
    log = a_log(100_000)
    chosen = sampled(log)["request"]
    assert len(chosen) == pytest.approx(100_000 / SAMPLE_ONE_IN, rel=0.05)
    other_order = sampled(np.random.default_rng(0).permutation(log))["request"]
    assert set(chosen) == set(other_order)


def test_parts_become_row_groups_of_one_size(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    sizes = [100, ROW_GROUP, 0, ROW_GROUP // 2, ROW_GROUP]
    for number, size in enumerate(sizes):
        names = ("a", "b") if number % 2 else ("b", "c")
        write_requests(folder.part(number), a_log(size), names, LABELS | {"window": number})
    folder.merge_parts(range(len(sizes)))
    file = pq.ParquetFile(folder.requests)
    groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    assert groups == [ROW_GROUP, ROW_GROUP, 100 + ROW_GROUP // 2]
    windows = pq.read_table(folder.requests, columns=["window", "function"]).to_pandas()
    assert windows.groupby("window").size().to_dict() == {n: size for n, size in enumerate(sizes) if size}
    assert set(windows[windows["window"] == 1]["function"]) == {"a", "b"}
    assert set(windows[windows["window"] == 4]["function"]) == {"b", "c"}


def test_times_take_little_space(tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    write_requests(path, a_log(100_000), ("a", "b"), LABELS)
    assert path.stat().st_size < 100_000


def test_broken_folders_are_refused_with_their_place(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is no run folder"):
        RunFolder.read(tmp_path)
    (tmp_path / "manifest.json").write_text("{}", encoding="utf-8")
    with pytest.raises(RunError, match=r"summary\.json: is missing; `tyche evaluate"):
        _ = RunFolder.read(tmp_path).summary
    (tmp_path / "summary.json").write_text("{\n!", encoding="utf-8")
    with pytest.raises(RunError, match=r"summary\.json, line 2: is no JSON"):
        _ = RunFolder.read(tmp_path).summary
    (tmp_path / "rows.jsonl").write_text("{}\n{\n", encoding="utf-8")
    with pytest.raises(RunError, match=r"rows\.jsonl, line 2"):
        RunFolder.read(tmp_path).rows()
