"""How functions are declared and found."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from real_backend.functions.__main__ import main
from real_backend.functions.protocol import FunctionError, Resources, load_functions
from tests.real_backend.worlds import TOYS
from tyche_env.cli import run
from tyche_env.profiles import load_catalogue


def test_the_shipped_functions_are_declared() -> None:
    functions = load_functions("real_backend.functions.catalogue")
    assert len(functions) == 5 + 8 * 3
    assert {"magika", "silero_onnx", "opennsfw", "gt_minilm_torch", "crepe_full", "bert_base-mmap"} <= functions.keys()
    assert all(function.resources.peak_mb <= 2000 for function in functions.values())


def test_shipped_functions_are_named_as_in_the_profiles() -> None:
    profiles = {profile.name for profile in load_catalogue("measured")}
    assert {name.partition("-")[0] for name in load_functions("real_backend.functions.catalogue")} <= profiles


def test_a_file_can_declare_functions(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("from real_backend.functions.toy import FUNCTIONS as TOYS\nFUNCTIONS = {'mine': TOYS['toy']}\n")
    assert list(load_functions(str(path))) == ["mine"]


def test_memory_that_is_held_and_the_peak_are_told_by_their_names(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", "--functions", TOYS]) == 0
    listed = {line.split()[0]: line.split()[2:] for line in capsys.readouterr().out.splitlines()}
    assert listed["toy-big"] == ["520", "MB", "held", "1000", "MB", "peak"]
    # what the process says is 60.2 MB now, and 80.7 at the peak
    done = SimpleNamespace(returncode=0, stdout="a word of its own\nmemory 60.2 80.7\n", stderr="")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    assert run(["profile", "memory", TOYS]) == 0
    told = {line.split(None, 1)[0]: line.split(None, 1)[1] for line in capsys.readouterr().out.splitlines()}
    assert told["toy-big"] == "hold_mb=61, peak_mb=81"


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("FUNCTIONS = {}", "has no mapping FUNCTIONS"),
        ("FUNCTIONS = {'a b': 1}", "function 'a b': a name has"),
        ("FUNCTIONS = {'a': 1}", "function a: lacks library"),
        ("import not_there", r"cannot be imported \(mine\.py, line 1: ModuleNotFoundError"),
        ("1 +", r"cannot be imported \(mine\.py, line 1: SyntaxError"),
    ],
)
def test_a_wrong_declaration_is_named(tmp_path: Path, source: str, named: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(source)
    with pytest.raises(FunctionError, match=named):
        load_functions(str(path))


@pytest.mark.parametrize("values", [(0, 1), (5, 4), (1, 1, -1)])
def test_resources_have_to_make_sense(values: tuple[int, ...]) -> None:
    with pytest.raises(FunctionError, match="resources need 0 < hold_mb <= peak_mb"):
        Resources(*values)


def test_functions_are_listed_and_run_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    toys = ["--functions", "real_backend.functions.toy"]
    assert main(["list", *toys]) == 0
    assert capsys.readouterr().out.startswith("toy ")
    assert main(["run", "toy", '{"numbers": [1, 2]}', *toys]) == 0
    assert capsys.readouterr().out == '{"sum": 3, "model_mb": 10, "extra_mb": 0}\n'


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["run", "nobody"], "nobody: no such function"),
        (["make", "magika"], "magika: has no random weights"),
        (["run", "toy", "{", "--functions", "real_backend.functions.toy"], "Expecting"),
    ],
)
def test_mistakes_end_with_2_and_one_line(arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1
