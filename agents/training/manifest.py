"""What a bundle says about its training."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from agents.training.choose import Chosen
from tyche_env.network import SIZE
from tyche_env.scenario import Scenario

_DATA = "Azure Functions 2019, CC-BY 4.0, Shahrad et al., USENIX ATC'20"
_SOURCES = {
    "azure2019-day": _DATA,
    "azure2019-8h": _DATA,
    "alibaba-gentd26": "Alibaba GenTD26, for research and study, github.com/alibaba/clusterdata",
}


def manifest(scenarios: Sequence[Scenario], seed: int, rows: int, started_cpu_s: float) -> dict[str, Any]:
    """The manifest of a finished training.

    Args:
        scenarios: that it was trained in.
        seed: of the training.
        rows: it was trained on.
        started_cpu_s: ``time.process_time()`` when it began, less the CPU seconds of workers since then.
    """
    return {
        "seed": seed,
        "rows": rows,
        "cpu_s": round(time.process_time() - started_cpu_s, 1),
        "data": "; ".join(dict.fromkeys(_SOURCES.get(each.trace.family, each.trace.family) for each in scenarios)),
        "scenarios": {each.name: each.hash() for each in scenarios},
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("tyche-env", "numpy", "torch", "stable-baselines3")},
        },
    }


def of_choice(chosen: Chosen) -> dict[str, Any]:
    """What the manifest says about the choice on validation windows."""
    return {
        "chosen": chosen.candidate.name,
        "floor": float(chosen.candidate.network[SIZE - 1]),
        "validation_cost_of_tyche": round(chosen.score, 4),
        "tried": [list(entry) for entry in chosen.table],
    }
