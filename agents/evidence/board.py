"""The leaderboard: result folders with the weights that made them, the page written from them, and their replay.

A board is a folder with ``results.json``, and ``agents/NAME/seed-N`` with the bundles, of agents trained on data whose
licence lets weights be passed on.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.evidence.looks import looks_note
from agents.evidence.measure import BESIDES, METRICS, besides, cost_parts, measure_window
from agents.evidence.results import RESULTS, read_results, write_rows
from agents.evidence.standings import against_the_known, as_markdown, standings
from agents.playing.spread import Progress
from agents.policies.builtin import POLICIES
from agents.policies.bundle import CARD, WEIGHTS, load_bundle
from agents.policies.policy import Policy
from agents.policies.trained import policy_of
from traces.output import holds
from tyche_env.errors import UserError
from tyche_env.scenario import Scenario
from tyche_env.sources import SourceError, trace_files

BEGIN, END = "<!-- written by tyche leaderboard write -->", "<!-- end -->"
TOLERANCE = 1e-3
"""Relative difference that a replay may have: weights are float32, and processors round differently."""
_FREE = "CC-BY"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What replaying a board gave.

    Attributes:
        replayed: rows that were run again.
        equal: those of them that gave the same numbers to the last bit.
        left_out: rows of agents whose weights are not there.
        wrong: what differs by more than the tolerance, or does not fit its hash.
        absent: why nothing of it could be run, if traces are missing.
    """

    replayed: int = 0
    equal: int = 0
    left_out: int = 0
    wrong: tuple[str, ...] = ()
    absent: str = ""


def boards_in(folder: Path) -> list[Path]:
    """The boards of a leaderboard, by name.

    Raises:
        UserError: there is none.
    """
    found = sorted(path.parent for path in folder.glob(f"*/{RESULTS}"))
    if not found:
        raise UserError(f"{folder}: holds no board; tyche leaderboard add makes one from a result folder")
    return found


@holds("board")
def add_board(results: Path, board: Path) -> list[str]:
    """Copy a result folder and the bundles that it names into a board; agents whose weights may not be passed on stay.

    Returns:
        Names of the agents without weights.

    Raises:
        UserError: a bundle is not the one that was measured.
    """
    content = read_results(results)
    for agent in content["agents"].values():
        for member in agent["members"]:
            if load_bundle(Path(member["folder"])).hash() != member["digest"]:
                raise UserError(f"{member['folder']}: holds other weights than {results / RESULTS} was measured with")
    board.mkdir(parents=True, exist_ok=True)
    bare = []
    for name, agent in content["agents"].items():
        home = board / "agents" / name
        shutil.rmtree(home, ignore_errors=True)
        free = all(_FREE in part for part in agent["data"].split("; "))
        if not free:
            bare.append(name)
        for seed, member in enumerate(agent["members"]):
            source, target = Path(member["folder"]), home / f"seed-{seed}"
            member["folder"] = f"agents/{name}/seed-{seed}" if free else None
            if free:
                target.mkdir(parents=True)
                for file in (WEIGHTS, CARD):
                    shutil.copyfile(source / file, target / file)
    write_rows(board, content)
    return bare


@holds("folder")
def write_page(folder: Path, page: Path) -> None:
    """Write the tables of all boards between the marks of a page; what is outside of them stays.

    Raises:
        UserError: the page has no marks.
    """
    text = page.read_text(encoding="utf-8") if page.is_file() else f"# Leaderboard\n\n{BEGIN}\n{END}\n"
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(f"{page}: needs a line {BEGIN!r} and a line {END!r}; tables go between them")
    parts = []
    for board in boards_in(folder):
        content = read_results(board)
        parts += [
            f"## {board.name}",
            "",
            looks_note(list(content["scenarios"])),
            "",
            as_markdown(standings(content["rows"], content["against"])),
            against_the_known(content["rows"]),
        ]
    page.write_text(f"{before}{BEGIN}\n" + "\n".join(parts) + f"{END}{after}", encoding="utf-8")


def verify(board: Path, *, windows: int | None = None, progress: Progress | None = None) -> Verdict:
    """Run every row of a board again and compare.

    Args:
        board: its folder.
        windows: only the first few windows of each scenario; None: all.
        progress: called with (finished, all) rows.

    Raises:
        UserError: a scenario is not the one that was measured.
    """
    content = read_results(board)
    scenarios = {name: _scenario(name, about, board) for name, about in content["scenarios"].items()}
    try:
        for scenario in scenarios.values():
            trace_files(scenario.trace)
    except SourceError as error:
        return Verdict(absent=str(error))
    agents, wrong = _agents(content, board)
    rows = [row for row in content["rows"] if windows is None or row["window"] < windows]
    replayed = equal = left_out = 0
    for done, row in enumerate(rows):
        policy = agents.get((row["policy"], row["seed"])) or POLICIES.get(row["policy"])
        if policy is None:
            left_out += 1
        else:
            found = measure_window(scenarios[row["scenario"]], policy, row["window"], content["expansions"])
            replayed += 1
            equal += all(found[name] == row[name] for name in (*METRICS, *BESIDES, "sums", "functions"))
            wrong += differences(row, found)
        if progress:
            progress(done + 1, len(rows))
    return Verdict(replayed, equal, left_out, tuple(wrong))


def differences(row: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """What a board's row says otherwise than its replay, beyond the tolerance.

    Args:
        row: of the board.
        found: what ``measure_window`` gave now.
    """
    # the page is pooled from the sums, so these are held against the replay as well as the figures
    pooled = {metric: cost_parts([row], metric).value for metric in METRICS} | besides([row])
    return [
        f"{row['scenario']}, window {row['window']}, {row['policy']} seed {row['seed']}: "
        f"{name} is {found[name]:.6g}, the board says {said:.6g}"
        for name in (*METRICS, *BESIDES)
        for said in dict.fromkeys((row[name], pooled[name]))
        if not math.isclose(found[name], said, rel_tol=TOLERANCE, abs_tol=1e-9)
    ]


def _scenario(name: str, about: Mapping[str, Any], board: Path) -> Scenario:
    scenario = Scenario.load(name)
    if about["trace"] is not None:
        scenario = scenario.on_file(about["trace"], **about.get("reading", {}))
    if scenario.hash() != about["hash"]:
        raise UserError(
            f"{board / RESULTS}: scenario {name} has hash {about['hash']}, this version's has {scenario.hash()}; "
            "measure the agents again"
        )
    return scenario


def _agents(content: Mapping[str, Any], board: Path) -> tuple[dict[tuple[str, int], Policy], list[str]]:
    """The policies whose weights are there and fit their hashes, by name and seed, and which do not fit."""
    policies: dict[tuple[str, int], Policy] = {}
    wrong = []
    for name, agent in content["agents"].items():
        for seed, member in enumerate(agent["members"]):
            if member["folder"] is None:
                continue
            bundle = load_bundle(board / member["folder"])
            if bundle.hash() == member["digest"]:
                policies[name, seed] = policy_of(bundle, name)
            else:
                wrong.append(f"{name} seed {seed}: its weights are not those that were measured")
    return policies, wrong


def summary(verdicts: Sequence[Verdict]) -> str:
    """All verdicts in one line."""
    replayed, equal, left_out = (
        sum(getattr(each, name) for each in verdicts) for name in ("replayed", "equal", "left_out")
    )
    differing = sum(len(each.wrong) for each in verdicts)
    line = f"{replayed} rows replayed, {equal} equal to the last bit, {differing} differences above {TOLERANCE:g}"
    return f"{line}; {left_out} rows of agents whose weights are not passed on" if left_out else line
