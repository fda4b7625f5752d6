"""Whose an error is: a file written here, of which the line that fails is known, called through libraries and ours."""

from __future__ import annotations

import importlib.util
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from traces.blame import UserCodeError, blaming, home_of, package_of
from traces.errors import TraceError
from tyche_env.spaces import column


def module_of(path: Path, text: str) -> ModuleType:
    path.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MINE = """import json

def fails():
    return {}["foo"]

def through_a_library():
    return json.loads("{", object_hook=None)

def from_a_library():
    return sorted([3, 1], key=fails_within)

def fails_within(value):
    raise RuntimeError("two\\n  lines")

def silent():
    assert False

def ends():
    raise SystemExit(3)

def refuses():
    from traces.errors import TraceError
    raise TraceError("a.csv: is empty")
"""
"""fails: line 4; through_a_library: 7; fails_within: 13; silent: 16; ends: 19; refuses: 23."""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.chdir(tmp_path)
    return module_of(tmp_path / "mine.py", MINE)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("fails", "policy mine.py, line 4: KeyError: 'foo'"),
        ("through_a_library", "policy mine.py, line 7: JSONDecodeError: Expecting property name enclosed in double"),
        ("from_a_library", "policy mine.py, line 13: RuntimeError: two lines"),
        ("silent", "policy mine.py, line 16: AssertionError"),
        ("ends", "policy mine.py, line 19: SystemExit: 3"),
        ("refuses", "policy mine.py, line 23: TraceError: a.csv: is empty"),
    ],
)
def test_the_innermost_line_of_the_users_file_is_named(mine: Any, name: str, line: str) -> None:
    with pytest.raises(UserCodeError) as caught, blaming("policy mine.py", "mine.py"):
        getattr(mine, name)()
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None


def test_another_file_of_the_users_is_named_beside(mine: Any, tmp_path: Path) -> None:
    with (
        pytest.raises(UserCodeError, match=r"^policy other\.py, mine\.py, line 4: KeyError"),
        blaming("policy other.py", "other.py"),
    ):
        mine.fails()
    with pytest.raises(UserCodeError, match=r"^reward waits, mine\.py, line 4: KeyError"), blaming("reward waits"):
        mine.fails()
    with (
        pytest.raises(UserCodeError, match=r"^reward waits, mine\.py, line 4: KeyError"),
        blaming("reward waits", tmp_path),
    ):  # the folder of a package
        mine.fails()


def test_a_users_file_that_calls_ours_wrongly_is_to_blame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wrong: Any = module_of(
        tmp_path / "wrong.py", "from tyche_env.spaces import column\ndef go():\n    column('a', 'b')\n"
    )
    with (
        pytest.raises(UserCodeError, match=r"^policy wrong\.py, line 3: KeyError: 'a'"),
        blaming("policy wrong.py", "wrong.py"),
    ):
        wrong.go()


@pytest.mark.parametrize("home", [None, "mine.py", json.__file__], ids=["unknown", "a file", "a library"])
def test_an_error_of_ours_goes_on_as_it_is(home: str | None) -> None:
    with pytest.raises(KeyError, match="no_such_table"), blaming("policy mine.py", home):
        column("no_such_table", "age_s")


def test_an_object_of_a_library_is_the_users_but_has_no_line() -> None:
    with (
        pytest.raises(UserCodeError, match=r"^policy Decoder: JSONDecodeError: Expecting value"),
        blaming("policy Decoder"),
    ):
        json.loads("")


def test_what_is_one_line_already_may_pass(mine: Any) -> None:
    with pytest.raises(TraceError, match=r"^a\.csv: is empty"), blaming("format", "mine.py", passing=(TraceError,)):
        mine.refuses()
    with (
        pytest.raises(UserCodeError, match=r"^inner, mine\.py, line 4"),
        blaming("outer"),
        blaming("inner", home_of(mine.fails)),
    ):
        mine.fails()
    with pytest.raises(KeyboardInterrupt), blaming("policy mine.py", "mine.py"):
        raise KeyboardInterrupt


def test_the_message_survives_pickling(mine: Callable[[], None]) -> None:
    error = UserCodeError("policy mine.py, line 4: KeyError: 'foo'")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_package_is_found_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "parcel").mkdir()
    (tmp_path / "parcel" / "__init__.py").write_text("raise AssertionError\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert package_of("parcel.inside") == str(tmp_path / "parcel")
    assert package_of("no_such_package_at_all.x") is None
