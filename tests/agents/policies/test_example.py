"""The example of the docs is short, works, and does some good."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

from agents.evidence.evaluation import evaluate
from agents.evidence.plan import Plan
from agents.playing.spread import ALONE

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "my_policy.py"


def test_it_has_about_twenty_lines() -> None:
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) <= 24
    assert ast.get_docstring(ast.parse(EXAMPLE.read_text(encoding="utf-8")))


def test_it_beats_no_pre_loading(plan_of: Callable[..., Plan], tmp_path: Path) -> None:
    outcome = evaluate(plan_of("none", str(EXAMPLE), windows=4, engine="compiled"), tmp_path / "run", spread=ALONE)
    none, mine = (entry["warming_loading_ms_function_mean"]["mean"] for entry in outcome.aggregates)
    assert outcome.aggregates[1]["policy"] == "my_policy"
    assert mine < none
