"""The leaderboard: boards keep weights that may be passed on, the page is written from them, a replay finds lies."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from agents.evidence.board import BEGIN, END, add_board, boards_in, verify, write_page
from agents.evidence.results import RESULTS, measure_agents
from agents.policies.bundle import Bundle, save_bundle
from tyche_env.cli import run
from tyche_env.errors import UserError
from tyche_env.scenario import Scenario


@pytest.fixture
def boards(bundle: Bundle, tmp_path: Path) -> Path:
    """One board of two agents, one of them trained on data whose licence keeps its weights back."""
    for name, data in (("free", "Some data, CC-BY 4.0"), ("kept", "Other data, for research and study")):
        save_bundle(replace(bundle, manifest={"seed": 0, "data": data}), tmp_path / name / "seed-0")
    measure_agents([tmp_path / "free", tmp_path / "kept"], [Scenario.load("small")], tmp_path / "results", expansions=1)
    assert add_board(tmp_path / "results", tmp_path / "boards" / "small") == ["kept"]
    return tmp_path / "boards"


def test_a_board_keeps_weights_that_may_be_passed_on(boards: Path) -> None:
    kept = {path.relative_to(boards / "small").as_posix() for path in (boards / "small").rglob("*.safetensors")}
    assert kept == {"agents/free/seed-0/weights.safetensors"}


def test_weights_that_changed_since_they_were_measured_are_not_kept(
    boards: Path, bundle: Bundle, tmp_path: Path
) -> None:
    save_bundle(replace(bundle, network=bundle.network + 1), tmp_path / "free" / "seed-0")
    with pytest.raises(UserError, match=r"holds other weights than .* was measured with"):
        add_board(tmp_path / "results", boards / "small")


def test_the_page_is_written_between_its_marks(boards: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"Before.\n{BEGIN}\nold\n{END}\nAfter.\n")
    write_page(boards, page)
    text = page.read_text()
    assert text.startswith("Before.\n")
    assert text.endswith("After.\n")
    assert "old" not in text
    assert "### small, per function" in text
    page.write_text("no marks")
    with pytest.raises(UserError, match="tables go between them"):
        write_page(boards, page)


def test_a_replay_agrees_to_the_last_bit_and_finds_what_was_changed(
    boards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = verify(boards / "small", windows=2)
    assert found.wrong == ()
    assert found.equal == found.replayed > 0
    assert found.left_out == 2
    path = boards / "small" / RESULTS
    content = json.loads(path.read_text())
    content["rows"][0]["request_ms"] *= 0.9
    content["rows"][1]["sums"]["warming_loading_us"] *= 0.9
    path.write_text(json.dumps(content))
    assert run(["leaderboard", "verify", "--folder", str(boards), "--windows", "1"]) == 2
    printed = capsys.readouterr()
    assert "request_ms is" in printed.err
    assert "2 differences" in printed.out


def test_weights_and_scenarios_must_be_those_that_were_measured(boards: Path, bundle: Bundle) -> None:
    other = replace(bundle, network=bundle.network + 1, manifest={"data": "Some data, CC-BY 4.0"})
    save_bundle(other, boards / "small" / "agents" / "free" / "seed-0")
    assert "not those that were measured" in verify(boards / "small", windows=1).wrong[0]
    path = boards / "small" / RESULTS
    content = json.loads(path.read_text())
    content["scenarios"]["small"]["hash"] = "0"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="measure the agents again"):
        verify(boards / "small")


def test_a_board_whose_traces_are_missing_is_named_and_left_out(
    boards: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows claim to be of GenTD26, which is not shipped; the other board is replayed all the same."""
    monkeypatch.delenv("TYCHE_TRACES", raising=False)
    shutil.copytree(boards / "small", boards / "elsewhere")
    path = boards / "elsewhere" / RESULTS
    content = json.loads(path.read_text())
    name = "train-10-gentd26"
    content["scenarios"] = {name: {"hash": Scenario.load(name).hash(), "trace": None}}
    for row in content["rows"]:
        row["scenario"] = name
    path.write_text(json.dumps(content))
    words = ["leaderboard", "verify", "--folder", str(boards), "--windows", "1"]
    assert run(words) == 0
    printed = capsys.readouterr()
    assert printed.err.startswith("elsewhere: left out, the environment variable TYCHE_TRACES must name the folder")
    assert not printed.out.startswith("0 rows replayed")
    assert run([*words, "--strict"]) == 2
    assert "--strict: boards were left out: see above" in capsys.readouterr().err


SHIPPED = Path(__file__).parents[3] / "docs" / "leaderboard"


@pytest.mark.slow
@pytest.mark.parametrize("board", boards_in(SHIPPED), ids=lambda board: board.name)
def test_the_shipped_boards_hold_in_their_first_window(board: Path, request: pytest.FixtureRequest) -> None:
    if "gentd26" in board.name:
        request.getfixturevalue("trace_folder")
    found = verify(board, windows=1)
    assert found.wrong == ()
    assert found.replayed > 0


@pytest.mark.slow
def test_the_page_is_what_the_boards_say(tmp_path: Path) -> None:
    page = SHIPPED.with_suffix(".md")
    copy = tmp_path / "page.md"
    copy.write_text(page.read_text(encoding="utf-8"), encoding="utf-8")
    write_page(SHIPPED, copy)
    assert copy.read_text(encoding="utf-8") == page.read_text(encoding="utf-8")
