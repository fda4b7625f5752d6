"""What the pages say of the replays on a genuine OpenWhisk, against the recorded requests."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from agents.experiments import beside
from tests.test_docs import script

ROOT = Path(__file__).parents[1]
genuine = script(ROOT / "benchmarks" / "genuine.py")
REQUESTS = pd.read_parquet(genuine.MEASURED / "requests.parquet")


def block(page: str, name: str) -> list[list[str]]:
    """Cells of a table between its marks, without the heading."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- end -->", text, re.DOTALL)
    assert found
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in found[1].splitlines()[2:]]


def stages(**us: float) -> dict[str, float]:
    return {f"{stage}_us": us.get(stage, 0) for stage in beside.STAGES}


def test_figures_are_means_over_requests_and_over_functions() -> None:
    rows = [
        {"window": 0, "function": "a", "start_type": "cold"} | stages(warming=1000, library=2000, queue=9000),
        {"window": 0, "function": "a", "start_type": "memory"} | stages(transfer=1000, inference=5000),
        {"window": 0, "function": "b", "start_type": "warm"} | stages(model=8000, scheduling=4000),
        {"window": 1, "function": "a", "start_type": "memory"} | stages(),
    ]
    found = beside.figures_of(pd.DataFrame(rows))
    assert (found.requests, found.loading) == (4, 3.0)  # (3 + 1 + 8 + 0) / 4
    assert found.function == pytest.approx((2 + 8 + 0) / 3)  # a function of another window is another one
    assert (found.stages["queue"], found.stages["scheduling"], found.stages["inference"]) == (2.25, 1.0, 1.25)
    assert found.starts == {"cold": 0.25, "warm": 0.25, "memory": 0.5}


def test_a_request_that_was_not_served_counts_as_its_wait_and_at_least_its_limit() -> None:
    served = {"window": 0, "function": "a", "start_type": "gpu", "status": 0, "arrival_us": 0, "end_us": 9000}
    refused = {"window": 0, "function": "a", "start_type": "none", "status": 2, "arrival_us": 5000, "end_us": 6000}
    late = refused | {"function": "b", "end_us": 95_000}
    rows = [each | {"unserved_us": 60_000} | stages(library=3000) for each in (served, refused, late)]
    found = beside.figures_of(pd.DataFrame(rows))
    assert (found.requests, found.unserved) == (3, 2)
    assert found.loading == pytest.approx((3 + 60 + 90) / 3)
    assert found.function == pytest.approx(((3 + 60) / 2 + 90) / 2)
    assert found.stages["library"] == 3.0  # of what was served
    assert found.starts == {"gpu": 1.0}


def test_a_row_shows_measured_beside_simulated() -> None:
    scheduled = dict.fromkeys(beside.STAGES, 0.0) | {"scheduling": 44.0}
    measured = beside.Figures(4, 100.0, 200.0, scheduled, {"gpu": 0.25, "memory": 0.25, "warm": 0.25, "cold": 0.25})
    ours = beside.Figures(80, 120.0, 190.0, scheduled, {"gpu": 0.5, "memory": 0.25, "warm": 0.25})
    shown = beside.table([beside.Row("paper, window 0", "tyche", measured, ours, 3)]).splitlines()
    heading, row = ([cell.strip() for cell in shown[at].strip("| ").split(" | ")] for at in (0, 2))
    cells = dict(zip(heading, row, strict=True))
    assert cells == {
        "mode, window": "paper, window 0",
        "policy": "tyche",
        "requests": "4",
        "measured, ms": "100 / 200",
        "simulated, ms": "120 / 190",
        "error, per request / per function": "+20 % / -5 % **outside**",
        "pre-loaded, measured": "50.0 %",
        "simulated": "75.0 %",
        "scheduling, ms": "44",
        "lost containers": "3",
    }
    failed = beside.Figures(4, 100.0, 200.0, scheduled, {}, unserved=2)
    assert "| not served |" in beside.table([beside.Row("paper, window 0", "tyche", failed, ours, 3)])


@pytest.mark.parametrize(
    ("measured", "simulated", "close"),
    [
        ((100, 100), (110, 120), True),
        ((100, 100), (90, 80), True),
        ((100, 100), (111, 100), False),
        ((100, 100), (100, 79), False),
        ((10, 10), (15, 5), True),
        ((10, 10), (15.1, 10), False),
        ((10, 30), (10, 36.1), False),
    ],
)
def test_an_error_is_small_within_ten_and_twenty_percent_or_five_ms(
    measured: tuple[float, float], simulated: tuple[float, float], close: bool
) -> None:
    theirs, ours = (beside.Figures(1, *pair, {}, {}) for pair in (measured, simulated))
    assert beside.Row("window", "none", theirs, ours, 0).close is close


def test_the_pages_show_what_was_recorded() -> None:
    """Pooled here by hand: waiting in ms per request and per function, and the share that met its function ready."""
    waited = REQUESTS[["warming_us", "library_us", "model_us", "transfer_us"]].sum(axis=1) / 1e3
    ready = REQUESTS["start_type"].isin(["memory", "gpu"])
    slots = REQUESTS["run"].str.startswith("slots-") & ~REQUESTS["run"].str.contains("logs10")
    shown = block("docs/fidelity.md", "genuine")
    assert len(shown) == 15
    for place, policy, requests, measured, *_rest in shown:
        mode, _, window = place.partition(", ")
        own = slots & (REQUESTS["mode"] == mode) & (REQUESTS["policy"] == policy)
        if window != "all":
            own &= REQUESTS["window"] == int(window.removeprefix("window "))
        per_function = waited[own].groupby([REQUESTS["run"][own], REQUESTS["function"][own]], observed=True).mean()
        assert int(requests) == own.sum()
        values = [float(text.replace(",", "")) for text in measured.split(" / ")]
        assert values == pytest.approx([waited[own].mean(), per_function.mean()], rel=6e-3)
        assert float(_rest[2].removesuffix(" %")) == pytest.approx(100 * ready[own].mean(), abs=0.051)
    readme = block("README.md", "genuine")
    for mode, *cells in readme:
        wanted = [row for row in shown if row[0] in (f"{mode.split(',')[0]}, all", "realistic, window 0")]
        wanted = [row for row in wanted if row[0].startswith(mode.split(",")[0])]
        assert cells == [f"{row[3].split(' / ')[0]} ({row[4].split(' / ')[0]})" for row in wanted]
    (native, realistic, logs) = block("docs/fidelity.md", "genuine-others")
    assert (native[3], realistic[3]) == ("435 / 522", "30.5 / 48.9")
    assert (logs[3], logs[5]) == ("1,442 / 1,221", "268")


@pytest.mark.slow
def test_the_predictions_are_what_the_simulator_gives(tmp_path: Path) -> None:
    rows = genuine.predictions(genuine.calibrated(tmp_path))
    page = (ROOT / "docs" / "fidelity.md").read_text(encoding="utf-8")
    assert genuine.table(rows) in page
    assert genuine.misses(rows) in page
    for row in rows:
        assert ("**outside**" in genuine.table([row])) is not row.close
