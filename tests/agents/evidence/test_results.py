"""Measuring agents: who stands beside whom, how looks at test windows are counted, and what the report shows."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.evidence.board_report import write_report
from agents.evidence.evaluation import evaluate
from agents.evidence.looks import looks, looks_note
from agents.evidence.measure import (
    BESIDES,
    CEILING,
    FLOOR,
    HEURISTICS,
    METRICS,
    measure,
    measure_window,
)
from agents.evidence.plan import Plan
from agents.evidence.results import RESULTS, measure_agents, members_of, read_results
from agents.evidence.standings import against_the_known, as_markdown, standings
from agents.playing.spread import ALONE, Spread
from agents.policies.builtin import POLICIES
from agents.policies.bundle import Bundle, load_bundle, save_bundle
from agents.policies.gate import CONTEXT, gated
from tyche_env.errors import UserError
from tyche_env.network import HIDDEN
from tyche_env.scenario import Scenario


@pytest.fixture(scope="module")
def few() -> Scenario:
    """The shipped small scenario, three test windows of it."""
    return Scenario.load("small").with_(**{"trace.group_size": 20, "trace.window_min": 75})


@pytest.fixture
def agent(saved: Path, tmp_path: Path) -> Path:
    """An agent of two training seeds."""
    for seed in (0, 1):
        shutil.copytree(saved, tmp_path / "agent" / f"seed-{seed}")
    return tmp_path / "agent"


def test_heuristics_ceiling_and_agents_stand_side_by_side(few: Scenario, bundle: Bundle) -> None:
    rows = measure(few, {"mine": [bundle, bundle]}, expansions=1)
    assert {row["policy"] for row in rows} == {*HEURISTICS, CEILING, "mine"}
    assert all(0 <= row["hit_rate"] <= 1 and {*METRICS, *BESIDES} < set(row) for row in rows)
    found = {each.policy: each for each in standings(rows) if each.metric == "request_ms"}
    assert (found["mine"].seeds, found["mine"].seed_deviation) == (2, 0.0)
    assert found["mine"].windows == len(few.windows("test"))
    assert found[FLOOR].versus != FLOOR
    assert found[FLOOR].iqm == 1.0
    assert found["lru"].besides["load_s"] == 0.0
    text = as_markdown(standings(rows))
    assert "| mine |" in text
    assert text.count("per function") == 1
    against = {each.policy: each.versus for each in standings(rows, against="mine")}
    assert {name for name in against if against[name] == "mine"} == {*HEURISTICS, CEILING}
    known = [line.split(" | ") for line in against_the_known(rows).splitlines() if " per " in line]
    assert [line[1] for line in known] == ["empirical", "mine"] * len(METRICS)
    assert not any("empirical" in line[-1] for line in known), "it is no rival there, but compared"


@pytest.mark.slow
def test_several_processes_measure_the_same_as_one(few: Scenario, bundle: Bundle) -> None:
    gate, keep = np.full((2, HIDDEN + len(CONTEXT) + 1), 0.1)
    agents = {"plain": [bundle], "gated": [replace(bundle, network=gated(bundle.network, gate, keep, keep[HIDDEN:-1]))]}
    told: list[tuple[int, int]] = []
    one = measure(few, agents, windows=2)
    assert measure(few, agents, windows=2, spread=Spread(2), progress=lambda *count: told.append(count)) == one
    assert told == [(done, told[0][1]) for done in range(told[0][1] + 1)]
    assert one[0].items() >= measure_window(few, POLICIES["lru"], 0, 2).items()


def test_weights_that_meet_test_windows_for_the_first_time_are_a_look(
    few: Scenario, agent: Path, bundle: Bundle, tmp_path: Path
) -> None:
    before = sum(look.scenario == few.name for look in looks())  # the shipped agent's, for a table

    def entered() -> list[str]:
        return [look.purpose for look in looks() if look.scenario == few.name][before:]

    measure_agents([agent], [few], tmp_path / "table-1", expansions=1, purpose="the first")
    assert entered() == ["the first"]
    # the same weights again, and one of their training seeds by another command, are none
    measure_agents([agent], [few], tmp_path / "table-2", expansions=1, purpose="the second")
    plan = Plan(few, (str(agent / "seed-1"),), windows=1, split="test", record="none")
    evaluate(plan, tmp_path / "test", spread=ALONE)
    assert entered() == ["the first"]
    # other weights are, whatever their recipe; on validation windows they are not
    save_bundle(replace(bundle, network=bundle.network + 1), tmp_path / "other")
    evaluate(replace(plan, policies=(str(tmp_path / "other"),), split="validation"), tmp_path / "v", spread=ALONE)
    assert entered() == ["the first"]
    evaluate(replace(plan, policies=(str(tmp_path / "other"),)), tmp_path / "t", spread=ALONE, command="tyche evaluate")
    assert entered() == ["the first", "tyche evaluate"]
    assert f"small {before + 2} (learned, agent, other)" in looks_note([few.name])
    (first,) = (look for look in looks() if look.purpose == "the first")
    assert first.weights == " ".join(load_bundle(agent / f"seed-{seed}").hash()[:12] for seed in (0, 1))
    assert len(first.recipe) == 16


def test_the_repository_s_ledger_names_what_every_board_was_chosen_by() -> None:
    boards = Path(__file__).parents[3] / "docs" / "leaderboard"
    known = {(look.scenario, weights) for look in looks() for weights in look.weights.split()}
    for path in sorted(boards.glob(f"*/{RESULTS}")):
        content = json.loads(path.read_text(encoding="utf-8"))
        for scenario in content["scenarios"]:
            for about in content["agents"].values():
                assert {(scenario, member["digest"][:12]) for member in about["members"]} <= known


def test_seeds_are_counted_not_spelt(saved: Path, tmp_path: Path) -> None:
    for seed in range(11):
        shutil.copytree(saved, tmp_path / f"seed-{seed}")
    shutil.copytree(saved, tmp_path / "best")
    assert [path.name for path in members_of(tmp_path)] == [f"seed-{seed}" for seed in range(11)]
    with pytest.raises(UserError, match="holds no agent"):
        members_of(tmp_path / "empty")


def test_what_was_measured_can_be_read_again(few: Scenario, agent: Path, tmp_path: Path) -> None:
    content = measure_agents([agent], [few], tmp_path / "table", expansions=1)
    assert read_results(tmp_path / "table") == json.loads(json.dumps(content))
    with pytest.raises(UserError, match="cannot be read"):
        read_results(tmp_path)
    twice = content | {"rows": [*content["rows"], content["rows"][0]]}
    (tmp_path / "table" / RESULTS).write_text(json.dumps(twice))
    with pytest.raises(UserError, match=f"has 2 rows of small, {content['rows'][0]['policy']}, seed 0, window"):
        read_results(tmp_path / "table")
    (tmp_path / "table" / RESULTS).write_text("{")
    with pytest.raises(UserError, match="line 1: is no JSON"):
        read_results(tmp_path / "table")
    with pytest.raises(UserError, match="none of agent"):
        measure_agents([agent], [few], tmp_path / "table", against="other")


def test_the_report_shows_tables_profiles_and_curves(few: Scenario, agent: Path, tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    log: Any = SummaryWriter(str(agent / "curves" / "seed-0"))
    for step in (1, 2, 3):
        log.add_scalar("hazard/loss", 1 / step, step)
    log.close()
    content = measure_agents([agent], [few], tmp_path / "table", expansions=1)
    page = write_report(content, [agent], tmp_path / "table").read_text(encoding="utf-8")
    for expected in (
        "Performance profiles",
        "Training curves",
        "agent, hazard/loss",
        "minute-oracle",
        "small 2 (learned, agent)",
    ):
        assert expected in page
    assert "http" not in page.replace("http://www.w3.org", "")  # opens offline
    assert {path.name for path in (tmp_path / "table" / "figures").iterdir()} >= {"curves.svg", "profiles.pdf"}


def test_a_broken_bundle_is_not_measured(few: Scenario, bundle: Bundle, tmp_path: Path) -> None:
    save_bundle(bundle, tmp_path / "agent" / "seed-0")
    (tmp_path / "agent" / "seed-0" / "weights.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="bundle"):
        measure_agents([tmp_path / "agent"], [few], tmp_path / "table")
