"""What a bundle says about its training."""

from __future__ import annotations

import platform
import time
from importlib.metadata import version
from typing import Any

from agents.learned.choose import Chosen
from tyche_env.scenario import Scenario

_DATA = "Azure Functions 2019, CC-BY 4.0, Shahrad et al., USENIX ATC'20"
_SOURCES = {"azure2019-day": _DATA, "azure2019-8h": _DATA}


def manifest(scenario: Scenario, seed: int, rows: int, started_cpu_s: float, chosen: Chosen) -> dict[str, Any]:
    """The manifest of a finished training.

    Args:
        scenario: that it was trained in.
        seed: of the training.
        rows: it was trained on.
        started_cpu_s: ``time.process_time()`` when it began.
        chosen: what the validation windows chose.
    """
    return {
        "seed": seed,
        "rows": rows,
        "cpu_s": round(time.process_time() - started_cpu_s, 1),
        "data": _SOURCES.get(scenario.trace.family, scenario.trace.family),
        "scenario": scenario.name,
        "scenario_hash": scenario.hash(),
        "chosen": chosen.candidate.name,
        "floor": float(chosen.candidate.network[-1]),
        "validation_cost_of_tyche": round(chosen.score, 4),
        "tried": [list(entry) for entry in chosen.table],
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("tyche-env", "numpy", "torch")},
        },
    }
