"""Imports point downwards only, lazy ones as well, and never in a circle (contracts: pyproject.toml)."""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest
from importlinter import api
from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[1]
PYPROJECT = str(ROOT / "pyproject.toml")


@pytest.fixture(scope="module")
def imports() -> Mapping[str, set[str]]:
    """What each module imports, at run time: below functions too, for the sake of types not."""
    packages = api.read_configuration(PYPROJECT)["session_options"]["root_packages"]
    graph = grimp.build_graph(*packages, exclude_type_checking_imports=True)
    return {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}


def test_every_contract_is_kept(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    kept = lint_imports(config_filename=PYPROJECT, no_cache=True) == 0
    assert kept, capsys.readouterr().out


def test_no_imports_run_in_a_circle(imports: Mapping[str, set[str]]) -> None:
    assert len(imports) > 200
    TopologicalSorter(imports).prepare()


def test_a_circle_would_be_noticed(imports: Mapping[str, set[str]]) -> None:
    planted = {**imports, "tyche_env.errors": {"agents.cli.evaluate"}}
    with pytest.raises(CycleError):
        TopologicalSorter(planted).prepare()
