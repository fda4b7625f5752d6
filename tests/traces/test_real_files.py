"""The real files are read whole and have the traits that their description states."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from traces import TraceError, expand, read_azure2019, read_gentd26, statistics
from traces.counts import MINUTE_US
from traces.expansion import METHODS, Method

Real = Callable[[str], Path]


def test_eight_hours_of_azure(real: Real) -> None:
    counts = read_azure2019(
        real("azure2019_8h_invocations.csv.gz"),
        real("azure2019_8h_durations.csv.gz"),
        real("azure2019_8h_memory.csv.gz"),
    )
    assert counts.counts.shape == (250, 480)
    assert counts.counts.sum() == 567_403
    assert counts.window == "minutes 480..959"
    assert not np.isnan(counts.duration_ms).any()
    assert not np.isnan(counts.memory_mb).any()
    described = statistics(counts)
    assert described["timer"].sum() == 126
    rates = described["rate_per_min"].quantile([0.1, 0.5, 0.9])
    np.testing.assert_allclose(rates, [0.002, 0.1, 2.0], rtol=0.15)


@pytest.mark.parametrize("method", METHODS)
def test_azures_counts_are_conserved(real: Real, method: Method) -> None:
    counts = read_azure2019(real("azure2019_8h_invocations.csv.gz"))
    trace = expand(counts, method)
    counted = np.zeros(counts.counts.shape, np.int64)
    np.add.at(counted, (trace.arrival_function, trace.arrival_us // MINUTE_US), 1)
    np.testing.assert_array_equal(counted, counts.counts)


def test_a_day_of_azure(real: Real) -> None:
    counts = read_azure2019(real("azure2019_day_unique_A.csv.gz"))
    assert counts.counts.shape == (481, 1440)
    assert counts.counts.sum() == 829_095
    assert counts.weights.sum() == 1350
    assert counts.window == "minutes 1..1440"


def test_gentd26(real: Real) -> None:
    trace = read_gentd26(real("alibaba_gentd26_requests_to_1130.csv.gz"))
    assert len(trace.names) == 76
    assert len(trace.arrival_us) == 14_279 - 13
    assert trace.end_us / 86_400e6 == pytest.approx(15.28, abs=0.01)


def test_a_file_of_another_data_set_is_refused(real: Real) -> None:
    with pytest.raises(TraceError, match="row 1, column TIMESTAMP: unknown column"):
        read_azure2019(real("azure_llm2023_conv.csv.gz"))
