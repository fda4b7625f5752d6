"""The list of wrong lines fits the sources, and who plants them tells what is noticed from what is not."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.mutants.__main__ import Outcome, _plainly, _planted, main
from tests.mutants.listed import LIMIT_S, ROOT, Mutant, read_mutants

MUTANTS = read_mutants()
MOST_COMPILED = 10
"""Each of those compiles the kernels anew."""


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_sources_hold_each_line_once_and_the_test_is_there(mutant: Mutant) -> None:
    assert mutant.apply(ROOT) != (ROOT / mutant.file).read_text(encoding="utf-8")
    assert (ROOT / mutant.test).is_file()
    assert Path(mutant.test).name.startswith("test_")
    assert mutant.compiled or mutant.limit_s == LIMIT_S


def test_there_are_many_in_many_places_and_few_that_compile() -> None:
    assert len(MUTANTS) >= 60
    assert len(Counter(mutant.file for mutant in MUTANTS)) >= 20
    assert sum(mutant.compiled for mutant in MUTANTS) <= MOST_COMPILED


def test_two_of_one_name_are_refused(tmp_path: Path) -> None:
    text = "- {name: a, file: f, old: o, new: n, breaks: b, test: t}\n"
    (tmp_path / "twice.yaml").write_text(text * 2)
    with pytest.raises(ValueError, match=r"twice\.yaml: a is there twice"):
        read_mutants(tmp_path / "twice.yaml")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source of one line with its test, which needs none of pytest's plugins."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    (tmp_path / "thing.py").write_text("def twice(x):\n    return 2 * x\n")
    (tmp_path / "test_thing.py").write_text("from thing import twice\n\ndef test_it():\n    assert twice(2) == 4\n")
    (tmp_path / "test_slow.py").write_text(
        "from thing import twice\n\ndef test_it():\n    while twice(2) != 4:\n        pass\n"
    )
    return tmp_path


def a_mutant(old: str, new: str, **changes: object) -> Mutant:
    plain = {"name": "a", "file": "thing.py", "breaks": "nothing", "test": "test_thing.py"}
    return Mutant.model_validate(plain | {"old": old, "new": new} | changes)


@pytest.mark.parametrize(
    ("new", "said"),
    # 2 + 2 is 4, as well
    [("return 3 * x", "caught"), ("return 2 + x", "survived"), ("return 2 *", "pytest ended with 2")],
)
def test_what_the_test_notices_is_told_from_what_it_does_not(tree: Path, new: str, said: str) -> None:
    before = (tree / "thing.py").read_text()
    outcome = _planted(a_mutant("return 2 * x", new))(tree)
    assert outcome.said == said, outcome.output
    assert outcome.right == (said == "caught")
    assert (tree / "thing.py").read_text() == before


def test_lines_of_one_length_are_told_apart_within_a_second(tree: Path) -> None:
    assert _plainly("test_thing.py")(tree).said == "passes"
    for new, said in (("return 3 * x", "caught"), ("return 2 + x", "survived"), ("return 4 * x", "caught")):
        assert _planted(a_mutant("return 2 * x", new))(tree).said == said
    assert _plainly("test_thing.py")(tree).said == "passes"


def test_a_test_that_hangs_has_not_noticed(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.mutants.__main__.PATIENCE", 1)
    outcome = _planted(a_mutant("return 2 * x", "return 3 * x", test="test_slow.py", limit_s=2))(tree)
    assert not outcome.right
    assert outcome.said != "survived"


@pytest.mark.parametrize(("old", "times"), [("return 3", 0), ("x", 2)])
def test_an_entry_that_fits_no_longer_is_refused(tree: Path, old: str, times: int) -> None:
    with pytest.raises(ValueError, match=rf"a: thing\.py holds the old text {times} times, expected once"):
        a_mutant(old, "y").apply(tree)


def test_a_mutant_that_changes_nothing_is_refused(tree: Path) -> None:
    with pytest.raises(ValueError, match="a: the new text is the old one"):
        a_mutant("return", "return").apply(tree)


def test_only_what_fails_is_wrong() -> None:
    said = ("caught", "passes", "survived", "not noticed within 20 s", "pytest ended with -9")
    assert [Outcome(each, 0).right for each in said] == [True, True, False, False, False]


def test_a_sample_follows_its_seed(capsys: pytest.CaptureFixture[str]) -> None:
    def listed(*arguments: str) -> list[str]:
        assert main(["--list", *arguments]) == 0
        return [line.partition(":")[0] for line in capsys.readouterr().out.splitlines() if ": " in line]

    names = [mutant.name for mutant in MUTANTS]
    assert listed() == names
    assert listed("bound") == [name for name in names if "bound" in name]
    first = listed("--sample", "15", "--seed", "3")
    assert len(set(first)) == 15
    assert first == listed("--sample", "15", "--seed", "3") != listed("--sample", "15", "--seed", "4")


def test_a_name_that_fits_nothing_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["nothing-of-the-kind"])
    assert "no mutant has nothing-of-the-kind in its name, file or test" in capsys.readouterr().err
