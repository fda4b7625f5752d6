"""What windows ask of a cluster is worked by hand, and what cannot be is said or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from tyche_env import demand
from tyche_env.commands import scenario as commands
from tyche_env.demand import demand_of
from tyche_env.own_scenario import own_scenario
from tyche_env.profiles import load_catalogue
from tyche_env.scenario import Cluster, Scenario, ScenarioError

COLUMNS = {"time": "t", "function": "f", "duration": "d"}


def cluster(**node: object) -> Cluster:
    return Cluster.model_validate({"nodes": [{"memory_mb": 8000, **node}]})


def trace_file(folder: Path, silent: range = range(0), run_s: float = 0.5) -> Path:
    """An hour in which two functions are asked every ten seconds, except in some seconds."""
    path = folder / f"{run_s}.csv"
    lines = [f"{s},{name},{run_s}\n" for s in range(0, 3601, 10) if s not in silent for name in "ab"]
    path.write_text("t,f,d\n" + "".join(lines), encoding="utf-8")
    return path


def made(path: Path, machines: Cluster | None = None, changes: dict[str, str] | None = None) -> Scenario:
    return own_scenario("mine", str(path), "paper", machines or cluster(), COLUMNS | (changes or {}))


def test_what_runs_at_once_and_the_memory_of_its_containers(tmp_path: Path) -> None:
    # two functions x 0.5 s every 10 s: 0.1 requests at once, each in a container of 2,048 MB
    found = demand_of(made(trace_file(tmp_path)))
    assert found.work is not None
    assert found.work.concurrency_mean == pytest.approx(0.1, rel=0.01)
    assert found.running == pytest.approx(0.1, rel=0.01)
    assert found.running_mb == pytest.approx(0.1 * 2048, rel=0.01)
    assert (found.cluster_mb, found.room_mb, found.trace_mb) == (8000, 2 * 2048, None)
    assert found.empty == {"train": [], "validation": [], "test": []}
    assert found.findings == ()


def test_without_run_times_requests_run_as_long_as_the_faster_inference_of_their_profiles(tmp_path: Path) -> None:
    scenario = own_scenario("mine", str(trace_file(tmp_path)), "paper", cluster(), {"time": "t", "function": "f"})
    profiles = load_catalogue("paper")[:2]
    fastest_ms = [min(each.inference_ms, each.gpu_inference_ms) for each in profiles]
    assert all(each.gpu_mb for each in profiles)
    assert demand_of(scenario).running == pytest.approx(sum(fastest_ms) / 10_000, rel=0.01)
    assert demand_of(scenario).work is None


def test_windows_without_a_request_are_named(tmp_path: Path) -> None:
    # twelve test windows of two minutes from 36 min on; nothing happens from 40 to 50 min, which is five of them
    scenario = made(trace_file(tmp_path, range(2400, 3001)))
    found = demand_of(scenario)
    silent = [k for k in range(12) if scored(scenario, k) == 0]
    assert len(silent) == 5
    assert found.empty == {"train": [], "validation": [], "test": silent}
    named = ", ".join(map(str, silent))
    assert f"empty windows: {named} of test have no request" in found.lines()


def scored(scenario: Scenario, window: int) -> int:
    """How many requests of a window are scored."""
    world = scenario.world(window=window)
    return int((world.arrival_us >= world.score_from_us).sum())


def test_a_split_without_room_is_left_out(tmp_path: Path) -> None:
    scenario = made(trace_file(tmp_path)).with_(
        **{"trace.splits.validation.time": (0.5, 0.501), "trace.splits.test.time": (0.6, 1)}
    )
    assert set(demand_of(scenario).empty) == {"train", "test"}


def test_more_work_than_memory_or_cores_is_told(tmp_path: Path) -> None:
    path = trace_file(tmp_path, run_s=40)  # eight at once: 16 GB
    scenario = made(path, cluster(cores=4))
    (finding,) = demand_of(scenario).findings
    assert str(finding) == (
        "memory: in the mean of a test window 16.4 GB of containers run at once, the cluster has 8 GB: "
        "requests wait longer and longer"
    )
    assert not finding.grave
    contended = demand_of(scenario.with_(contention=True)).findings
    assert [each.about for each in contended] == ["memory", "cores"]
    assert "8 requests run at once, the cluster has 4 cores" in contended[1].problem
    assert demand_of(made(path, cluster(memory_mb=17_000))).findings == ()


def test_a_cluster_is_the_sum_of_its_groups_of_nodes(tmp_path: Path) -> None:
    groups = [{"count": 2, "memory_mb": 3000, "cores": 2}, {"count": 3, "memory_mb": 2500, "cores": 1}]
    scenario = made(trace_file(tmp_path, run_s=40), Cluster.model_validate({"nodes": groups})).with_(contention=True)
    memory, cores = demand_of(scenario).findings
    assert "16.4 GB of containers run at once, the cluster has 13.5 GB" in memory.problem
    assert "8 requests run at once, the cluster has 7 cores" in cores.problem


def test_work_that_is_far_above_the_cluster_is_a_wrong_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demand, "FAR_ABOVE", 2)
    with pytest.raises(ScenarioError, match="longer and longer; are the units of times and run times right"):
        made(trace_file(tmp_path, run_s=40))
    made(trace_file(tmp_path, run_s=39), cluster(memory_mb=8001))


def test_profiles_that_no_gpu_or_node_holds_are_named(tmp_path: Path) -> None:
    first, second = load_catalogue("paper")[:2]
    path = trace_file(tmp_path)
    (finding,) = demand_of(made(path, cluster(gpus=1, gpu_memory_mb=second.gpu_mb - 1))).findings
    wanted = f"the largest has {second.gpu_mb - 1} MB, too few for {second.name} ({second.gpu_mb} MB): these run"
    assert finding.about == "GPUs"
    assert finding.problem.startswith(wanted)
    with pytest.raises(ScenarioError) as caught:
        made(path, cluster(memory_mb=2047))
    assert str(caught.value) == (
        f"scenario mine: cluster.nodes: the smallest node has 2047 MB, too few for a container of {first.name} "
        f"(2048 MB), {second.name} (2048 MB); give larger nodes or leave these out"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"time_unit": "us"}, "length: the whole trace lasts 0.003601 s; is the time_unit us right?"),
        ({"time_unit": "ms"}, "lasts 0.1 minutes, a scenario needs 12; is the time_unit ms right?"),
        ({"time": "d", "duration": "t"}, "stamps: all 722 requests have the same time; is it the right column?"),
    ],
)
def test_units_that_make_a_scenario_meaningless_are_refused(
    tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    path = trace_file(tmp_path)
    with pytest.raises(ScenarioError) as caught:
        made(path, changes=changes)
    assert str(caught.value) == f"{path}: {message}"


def test_run_times_that_cannot_be_are_refused_only_where_they_are_used(tmp_path: Path) -> None:
    path = trace_file(tmp_path, run_s=2)
    with pytest.raises(ScenarioError, match=r"run times: half of the requests run 2 h or longer, the whole trace"):
        made(path, changes={"duration_unit": "h"})
    scenario = made(path).with_(**{"trace.columns.duration_unit": "h", "trace.durations": "profile"})
    assert [finding.about for finding in demand_of(scenario).findings] == ["run times"]


def test_one_stray_time_that_leaves_the_test_windows_silent_is_refused(tmp_path: Path) -> None:
    path = trace_file(tmp_path)
    path.write_text(path.read_text(encoding="utf-8") + "100000,a,0.5\n", encoding="utf-8")
    with pytest.raises(ScenarioError, match=r"none of the \d+ test windows has a request; is a time far from all"):
        made(path)


@pytest.fixture
def counts_file(tmp_path: Path) -> Callable[[str], Path]:
    def _write(memory: str) -> Path:
        minutes = ",".join(map(str, range(1, 61)))
        rows = "".join(f"o,{app},{f},http,{','.join(['6'] * 60)}\n" for app, f in (("x", "f"), ("x", "g"), ("y", "h")))
        (tmp_path / "i.csv").write_text(f"HashOwner,HashApp,HashFunction,Trigger,{minutes}\n{rows}", encoding="utf-8")
        (tmp_path / "m.csv").write_text(f"HashOwner,HashApp,AverageAllocatedMb\n{memory}", encoding="utf-8")
        return tmp_path / "i.csv"

    return _write


def test_memory_that_the_trace_tells_is_counted_once_an_application(counts_file: Callable[[str], Path]) -> None:
    path = counts_file("o,x,100\no,y,30\n")
    scenario = own_scenario("mine", str(path), "paper", cluster(), memory_file=str(path.with_name("m.csv")))
    assert demand_of(scenario).trace_mb == 130
    assert demand_of(own_scenario("mine", str(path), "paper", cluster())).trace_mb is None


def test_scenario_new_says_all_that(tmp_path: Path) -> None:
    path = trace_file(tmp_path, range(2400, 3001))
    (tmp_path / "cluster.yaml").write_text("nodes: [{memory_mb: 8000}]\n", encoding="utf-8")
    words = ["new", str(tmp_path / "mine.yaml"), "--trace", str(path), "--cluster", str(tmp_path / "cluster.yaml")]
    named = [f"--column={what}={name}" for what, name in COLUMNS.items()]
    shown = CliRunner().invoke(commands, [*words, *named]).output.splitlines()
    assert shown[1:3] == [
        "run times in ms: 50 % up to 500, 90 % up to 500, 99 % up to 500, the longest 500",
        "running at once: 0.0831 requests in the mean, 0.1 in the busiest minute",
    ]
    assert shown[3].startswith("memory: the cluster has 8 GB; a container of each function of a window takes 4.1 GB,")
    assert shown[4].startswith("empty windows: ")
    assert len(shown) == 5
