"""Real and simulated requests side by side."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agents.evidence.evaluation import evaluate
from agents.evidence.plan import Plan
from agents.evidence.run_folder import RunError
from agents.experiments import fidelity
from agents.experiments.fidelity import TIMES, Requests, Study, _against, _times, compare
from agents.experiments.fidelity_report import verdict, write
from agents.playing.runs import EvaluationError
from agents.playing.spread import ALONE
from tyche_env.codes import Status
from tyche_env.metrics import STAGES
from tyche_env.scenario import Scenario
from tyche_env.simulator.log import LOG_DTYPE
from tyche_env.world import StartType


def requests(loading_ms: list[float], met: StartType = StartType.WARM) -> Requests:
    found: dict[str, Any] = {name: np.zeros(len(loading_ms)) for name in TIMES}
    for name in ("model", "warming_loading", "end_to_end", "served_warming_loading", "served_end_to_end"):
        found[name] = 1e3 * np.array(loading_ms)
    return found | {"start_type": np.full(len(loading_ms), int(met))}


def test_errors_are_relative_to_all_real_requests_together() -> None:
    found = _against([requests([90.0, 100.0]), requests([110.0, 100.0])], requests([105.0] * 3))
    assert found["requests"] == 4
    model = found["times"]["model"]
    assert model["real"] == pytest.approx({"mean": 100.0, "p50": 100.0, "p95": 108.5})
    assert model["error"]["mean"] == pytest.approx(0.05)
    # the repetitions' means are 95 and 105
    assert model["spread"]["mean"] == pytest.approx(5.0)
    assert found["times"]["transfer"]["error"]["mean"] is None
    assert found["start_types"]["warm"] == {"real": 1.0, "simulated": 1.0, "spread": 0.0}
    assert found["small"] == {"warming_loading_mean": True, "warming_loading_p95": True, "start_types": True}


def test_an_error_is_small_within_the_tolerance_or_the_spread_of_repetitions() -> None:
    alike = [requests([100.0] * 4)] * 2
    assert not _against(alike, requests([115.0] * 4))["small"]["warming_loading_mean"]
    apart = [requests([80.0] * 4), requests([120.0] * 4)]
    assert _against(apart, requests([115.0] * 4))["small"]["warming_loading_mean"]
    other = _against(alike, requests([100.0] * 4, StartType.COLD))
    assert not other["small"]["start_types"]
    assert other["start_types"]["cold"]["simulated"] == 1.0


def test_what_was_not_served_counts_as_its_wait_or_its_limit() -> None:
    log = np.zeros(3, LOG_DTYPE)
    log["model_us"], log["end_us"] = (7000, 0, 0), (10_000, 2000, 90_000)
    log["status"] = (0, Status.REFUSED, Status.DEADLINE)
    found = _times(log, np.array([int(StartType.WARM), 0, 0]), np.array([60_000] * 3))
    assert found["warming_loading"].tolist() == [7000, 60_000, 90_000]
    assert found["end_to_end"].tolist() == [10_000, 60_000, 90_000]
    assert found["served_warming_loading"].tolist() == [7000]
    assert found["model"].tolist() == [7000]
    compared = _against([found], requests([7.0] * 3))
    assert (compared["requests"], compared["unserved"]) == (3, 2)
    # two refused requests, which met nothing, are no hits: a third of all were warm
    assert compared["start_types"]["warm"]["real"] == pytest.approx(1 / 3)
    assert compared["start_types"]["gpu"]["real"] == 0
    assert compared["times"]["served_warming_loading"]["error"]["mean"] == pytest.approx(0.0)
    assert compared["times"]["warming_loading"]["error"]["mean"] == pytest.approx((21 - 157) / 157)


class Recorded:
    """A real run: what its folder has, with a request each of two policies in two windows."""

    def __init__(self, path: Path, slower_us: int) -> None:
        self.path, self.requests = path, path.with_suffix(".parquet")
        self.manifest = {"plan": {"backend": "openwhisk", "record": "all"}}
        columns: dict[str, list[Any]] = {
            "policy": ["none", "tyche", "none", "none"],
            "prewarm": ["openwhisk"] * 4,
            "mode": ["paper"] * 4,
            "window": [0, 0, 1, 1],
            "function": ["f", "f", "f", "g"],
            "start_type": ["cold", "memory", "warm", "cold"],
            "status": [0, 0, 0, int(Status.REFUSED)],
            **{f"{stage}_us": [0] * 4 for stage in STAGES},
            "model_us": [4000 + slower_us, 100, 2000 + slower_us, 0],
            "transfer_us": [1000, 10, 1000, 0],
            "arrival_us": [0, 0, 0, 0],
            "end_us": [9000, 200, 9000, 1],
        }
        pq.write_table(pa.table(columns), self.requests)

    def rows(self) -> list[dict[str, Any]]:
        health = {"where": "here", "load_average": 1.5}
        return [
            {"policy": policy, "prewarm": "openwhisk", "mode": "paper", "health": health | {"statuses": statuses}}
            for policy, statuses in (("none", {"OK": 1}), ("tyche", {"OK": 9}), ("none", {"OK": 2, "REFUSED": 1}))
        ]


def test_a_study_pools_windows_and_repetitions_of_each_condition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = [
        SimpleNamespace(policy=policy, prewarm="openwhisk", mode="paper", window=window)
        for policy in ("none", "tyche")
        for window in (0, 1)
    ]
    plan: Any = SimpleNamespace(scenario=SimpleNamespace(name="toys"), split="test", windows=2, cells=lambda: cells)
    limits_us = {(0, "f"): 1, (1, "f"): 1, (1, "g"): 30_000}
    monkeypatch.setattr(fidelity, "unserved_us", lambda _: limits_us)
    monkeypatch.setattr(fidelity, "play_all", lambda runs: [requests([10.0]) for _ in runs])
    folders: Any = [Recorded(tmp_path / f"real-{place}", 1000 * place) for place in range(2)]
    found = compare(folders, plan, draws=3)
    assert (found["scenario"], found["windows"], found["repetitions"], found["draws"]) == ("toys", 2, 2, 3)
    assert (found["machine"], found["load_average"]) == (["here"], [1.5] * 6)
    none, tyche = found["conditions"]
    assert (none["policy"], tyche["policy"]) == ("none", "tyche")
    assert none["statuses"] == {"OK": 6, "REFUSED": 2}
    assert tyche["statuses"] == {"OK": 18}
    assert (none["requests"], none["unserved"], tyche["requests"]) == (6, 2, 2)
    # 5, 3 and the limit of 30 ms; a ms more in the other repetition of each that was served
    assert none["times"]["warming_loading"]["real"]["mean"] == pytest.approx((5 + 3 + 30 + 6 + 4 + 30) / 6)
    assert none["times"]["served_warming_loading"]["real"]["mean"] == pytest.approx((5 + 3 + 6 + 4) / 4)
    assert none["times"]["model"]["real"]["mean"] == pytest.approx((4 + 2 + 5 + 3) / 4)
    assert none["times"]["transfer"]["real"]["mean"] == pytest.approx(1.0)
    assert none["times"]["warming_loading"]["simulated"]["mean"] == pytest.approx(10.0)
    assert none["start_types"]["cold"]["real"] == pytest.approx(2 / 6), "what was refused met nothing"
    assert none["start_types"]["warm"]["real"] == pytest.approx(2 / 6)
    assert tyche["start_types"]["memory"]["real"] == 1.0
    assert tyche["times"]["warming_loading"]["real"]["mean"] == pytest.approx(0.11)


def test_shares_are_close_within_five_points_or_the_spread() -> None:
    def of(cold: int, warm: int) -> Requests:
        met = np.repeat([int(StartType.COLD), int(StartType.WARM)], [cold, warm])
        return requests([100.0] * (cold + warm)) | {"start_type": met}

    assert _against([of(50, 50)], of(54, 46))["small"]["start_types"]
    assert not _against([of(50, 50)], of(56, 44))["small"]["start_types"]
    assert _against([of(42, 58), of(58, 42)], of(57, 43))["small"]["start_types"], "repetitions differ by eight"
    assert not _against([of(42, 58), of(58, 42)], of(59, 41))["small"]["start_types"]


@pytest.mark.parametrize(
    ("policies", "repetitions", "message"),
    [(("none",), 0, "--repetitions: needs at least 1"), (("none", "bound"), 1, "bound is computed, not run")],
)
def test_studies_that_cannot_be_run_are_refused(policies: tuple[str, ...], repetitions: int, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        Study(Plan(Scenario.load("small"), policies), repetitions).validated()


def test_a_simulated_run_is_no_real_one(tmp_path: Path) -> None:
    plan = Plan(Scenario.load("small"), ("none",), windows=1, record="all").validated()
    with pytest.raises(RunError, match="needs a real run"):
        compare([evaluate(plan, tmp_path / "run", spread=ALONE).folder], plan)


def test_the_report_says_which_errors_are_small(tmp_path: Path) -> None:
    condition: dict[str, Any] = {"policy": "none", "prewarm": "openwhisk", "mode": "paper", "statuses": {"OK": 4}}
    condition |= _against([requests([100.0] * 4)], requests([115.0] * 4))
    found = {
        "scenario": "toys",
        "split": "test",
        "windows": 1,
        "repetitions": 1,
        "draws": 20,
        "machine": ["2 x CPU"],
        "tolerances": {"mean": 0.1, "p95": 0.2, "share": 0.05},
        "conditions": [condition],
    }
    said = verdict(found, condition)
    assert "mean +15.0 % (!) (allowed 10 %)" in said
    assert "p95 +15.0 % (allowed 20 %)" in said
    page = write(found, tmp_path).read_text(encoding="utf-8")
    for text in ("toys: real containers against the simulator", "OK 4", "+15.0 %", "warming + loading"):
        assert text in page
