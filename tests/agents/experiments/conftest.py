"""A day of counts in the form of the Azure file, small enough to draw from in a moment."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

MINUTES = 1440


@pytest.fixture(scope="session")
def day_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 functions: a third regular, a third Poisson, a third in bursts, all with 3 to 30 minutes between requests."""
    random = np.random.default_rng(7)
    counts = np.zeros((36, MINUTES), dtype=int)
    for row in range(36):
        gap = 6 + row % 9
        if row % 3 == 0:
            counts[row, row % gap :: gap] = 1
        elif row % 3 == 1:
            counts[row] = random.poisson(1 / gap, MINUTES)
        else:
            counts[row, random.choice(MINUTES, 14, replace=False)] = 14
    folder = tmp_path_factory.mktemp("traces")
    with gzip.open(folder / "azure2019_day_unique_A.csv.gz", "wt") as file:
        file.write(",".join(["HashFunction", "SampleWeight", *(str(minute + 1) for minute in range(MINUTES))]) + "\n")
        for row in range(36):
            file.write(",".join([f"f{row}", "1", *map(str, counts[row])]) + "\n")
    return folder


@pytest.fixture
def day(day_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder, as TYCHE_TRACES."""
    monkeypatch.setenv("TYCHE_TRACES", str(day_folder))
    return day_folder
