"""Another package named ``agents`` is noticed, and the message says which it is and what to do."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import spec_from_file_location
from pathlib import Path

import pytest

from tyche_env import collision
from tyche_env.collision import explain_collision
from tyche_env.doctor import examine

ROOT = Path(__file__).parents[2]


def another(folder: Path) -> Path:
    """A package ``agents`` of somebody else's."""
    package = folder / "agents"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('"""Agents that talk."""\n\nclass Agent: ...\n', encoding="utf-8")
    return package


def python(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code where a folder comes first on the path."""
    words, path = [sys.executable, "-c", code], {"PYTHONPATH": str(ROOT)}
    return subprocess.run(words, capture_output=True, text=True, check=False, env=path, cwd=folder)


def test_our_own_package_is_no_collision() -> None:
    assert explain_collision() is None
    (finding,) = [finding for finding in examine() if finding.name == "import agents"]
    assert finding.found


def test_a_package_that_is_found_first_is_named_when_tyche_env_is_imported(tmp_path: Path) -> None:
    package = another(tmp_path)
    done = python(tmp_path, "import tyche_env; print(tyche_env.__version__)")
    assert done.returncode == 0  # the environment works without
    assert f"UserWarning: the package 'agents' that Python finds is not that of tyche-env, but {package}" in done.stderr
    assert "rename that one" in done.stderr


def test_a_command_that_needs_ours_refuses_with_the_reason(tmp_path: Path) -> None:
    another(tmp_path)
    code = "import sys; from tyche_env.cli import run; sys.exit(run(['evaluate', '--scenario', 'small']))"
    done = python(tmp_path, code)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("tyche: the package 'agents' that Python finds is not that of")


def test_a_package_that_was_installed_over_ours_asks_for_an_environment_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = another(tmp_path) / "__init__.py"
    monkeypatch.setattr(collision, "find_spec", lambda _: spec_from_file_location("agents", file))
    monkeypatch.setattr(collision, "__file__", str(tmp_path / "tyche_env" / "collision.py"))
    assert "installed over it; give tyche-env a virtual environment of its own" in str(explain_collision())


def test_whoever_looks_for_another_package_in_ours_is_told_whose_it_is() -> None:
    import agents

    with pytest.raises(AttributeError, match="no attribute 'Agent'; this is the package of tyche-env, with POLICIES"):
        agents.Agent  # noqa: B018
