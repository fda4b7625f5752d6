"""A shell completes commands, options and names with Tab."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from tyche_env.cli import run, tyche

ROOT = Path(__file__).parents[2]


def completed(words: list[str], incomplete: str) -> list[str]:
    """What a shell offers after ``tyche WORDS``; a kind of thing that it knows itself stands in angle brackets."""
    items = ShellComplete(tyche, {}, "tyche", "_TYCHE_COMPLETE").get_completions(words, incomplete)
    return [item.value if item.type == "plain" else f"<{item.type}>" for item in items]


@pytest.mark.parametrize(
    ("words", "incomplete", "offered"),
    [
        ([], "eval", ["evaluate"]),
        (["trace"], "ins", ["inspect"]),
        (["evaluate"], "--wind", ["--windows"]),
        (["evaluate", "--scenario"], "sma", ["small"]),
        (["evaluate", "--scenario"], "mine", ["<file>"]),
        (["evaluate", "--scenario", "small", "--policy"], "cens", ["censored"]),
        (["evaluate", "--scenario", "small", "--policy"], "./mine", ["<file>"]),
        (["evaluate", "--prewarm"], "hist", ["histogram"]),
        (["evaluate", "--mode"], "p", ["paper"]),
        (["scenario", "show"], "azure-d", ["azure-day"]),
        (["profile", "list"], "pap", ["paper"]),
        (["trace", "inspect"], "", ["<file>"]),
        (["no-such-command"], "x", []),
    ],
)
def test_names_are_offered_and_else_files(words: list[str], incomplete: str, offered: list[str]) -> None:
    assert completed(words, incomplete) == offered


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_asks_this_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert f"_TYCHE_COMPLETE={shell}_complete" in script
    assert "tyche" in script


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", "tcsh"]) == 2
    assert "'tcsh' is not one of 'bash', 'zsh', 'fish'" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_with_it(tmp_path: Path) -> None:
    program = tmp_path / "tyche"
    program.write_text(f"#!{sys.executable}\nfrom tyche_env.cli import main\n\nmain()\n", encoding="utf-8")
    program.chmod(0o755)
    python_path = f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"
    asked = "COMP_WORDS=(tyche scen); COMP_CWORD=1; _tyche_completion tyche; echo ${COMPREPLY[@]}"
    done = subprocess.run(
        ["bash", "--norc", "-c", f'eval "$(tyche completion bash)"\n{asked}'],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": python_path},
    )
    assert (done.returncode, done.stdout) == (0, "scenario\n"), done.stderr
