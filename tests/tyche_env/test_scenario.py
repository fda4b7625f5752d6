"""Scenarios: what ships, what is refused, and the worlds that come out."""

from __future__ import annotations

import gzip
import hashlib
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import traces
from tyche_env import profiles
from tyche_env.errors import UserError
from tyche_env.profiles import load_catalogue
from tyche_env.scenario import Conditions, Scenario, ScenarioError
from tyche_env.sources import FILES, SHIPPED, SourceError, folder_of
from tyche_env.world import AfterRun, Isolation, Kernel, Prewarm, Routing


@pytest.fixture(scope="module")
def small() -> Scenario:
    return Scenario.load("small")


def content(**changes: Any) -> dict[str, Any]:
    """The small scenario as plain YAML content, with some top-level keys replaced."""
    plain: dict[str, Any] = yaml.safe_load(Scenario.load("small").to_yaml())
    return plain | changes


def write(path: Path, plain: object) -> Path:
    path.write_text(yaml.safe_dump(plain), encoding="utf-8")
    return path


def from_file(tmp_path: Path, small: Scenario, **durations: Any) -> Scenario:
    """A scenario on a Parquet trace of six functions, one request a minute each."""
    arrival_us = np.repeat(np.arange(240, dtype=np.int64) * 60_000_000, 6)
    trace = traces.Trace.build(
        names=[f"f{index}" for index in range(6)],
        owners=["ann", "ann", "bob", "bob", "cid", "cid"],
        arrival_us=arrival_us,
        arrival_function=np.tile(np.arange(6, dtype=np.int32), 240),
        end_us=240 * 60_000_000,
        source="a test",
        licence="Apache-2.0",
        window="all",
        expansion="none",
        **durations,
    )
    path = tmp_path / "six.parquet"
    traces.write_parquet(trace, path)
    shape = {"family": "parquet", "file": str(path), "synthesis": None, "group_size": 2, "max_rate_per_min": None}
    third = {
        "train": {"functions": [0, 0.34], "time": [0, 0.5]},
        "validation": {"functions": [0.34, 0.67], "time": [0, 0.5]},
        "test": {"functions": [0.67, 1], "time": [0.5, 1]},
    }
    return small.with_(trace=shape | {"splits": third})


class TestShipped:
    def test_the_named_scenarios(self) -> None:
        assert Scenario.names() == (
            "alibaba-gentd26",
            "azure-8h",
            "azure-day",
            "costly-25",
            "costly-50",
            "paper-multi-node",
            "paper-single-node",
            "real-azure",
            "real-small",
            "scale-1000",
            "small",
            "train-10",
            "train-10-azure-8h",
            "train-10-gentd26",
            "train-25",
            "train-25-azure-8h",
            "train-25-gentd26",
            "train-5",
            "train-50",
            "train-50-azure-8h",
            "train-50-gentd26",
        )

    @pytest.mark.parametrize("name", Scenario.names())
    def test_a_file_is_called_as_its_scenario_and_all_its_profiles_exist(self, name: str) -> None:
        scenario = Scenario.load(name)
        assert scenario.name == name
        assert scenario.functions.selected()
        assert scenario.prices.source

    @pytest.mark.parametrize("name", Scenario.names())
    def test_each_offers_windows_for_every_split_and_twelve_for_the_test(
        self, name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scenario = Scenario.load(name)
        if scenario.trace.family == "alibaba-gentd26":
            request.getfixturevalue("trace_folder")
        else:
            monkeypatch.delenv("TYCHE_TRACES", raising=False)
        assert len(scenario.windows("test")) >= 12
        assert len({window.group for window in scenario.windows("test")}) >= 3
        used = [{f for window in scenario.windows(split) for f in window.functions} for split in ("train", "test")]
        assert used[0]
        assert not used[0] & used[1]
        for split in ("train", "validation", "test"):
            world = scenario.world(split=split)
            assert np.any(world.arrival_us >= world.score_from_us)

    def test_small_needs_no_trace_files(self, small: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("TYCHE_TRACES", raising=False)
        assert len(small.world().arrival_us) > 100


class TestReading:
    def test_yaml_round_trip(self, small: Scenario, tmp_path: Path) -> None:
        path = tmp_path / "copy.yaml"
        path.write_text(small.to_yaml(), encoding="utf-8")
        assert Scenario.load(path) == small
        assert Scenario.load(str(path)).hash() == small.hash()

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"prewarm": {"polcy": "openwhisk"}}, "prewarm: unknown key 'polcy'; did you mean policy?"),
            ({"rooting": "ring"}, "unknown key 'rooting'; did you mean routing?"),
            ({"reward": {"zzz": 1}}, "reward: unknown key 'zzz'; there are container_rent_per_gb_s"),
            ({"mode": "real"}, "mode: Input should be 'paper' or 'realistic'"),
            ({"cluster": {"nodes": []}}, "cluster.nodes"),
            ({"cluster": {"nodes": [{"memory_mb": -1}]}}, "cluster.nodes.0.memory_mb"),
            ({"cluster": {"nodes": [{"memory_mb": 1, "gpus": 1}]}}, "gpus and gpu_memory_mb must be given together"),
            ({"controller": {"p_load": 0.95}}, "controller: p_load must be below p_offload"),
            ({"controller": {"p_load": 0}}, "controller.p_load"),
            ({"controller": {"window": 65}}, "controller.window"),
            ({"decision_interval_s": 0}, "decision_interval_s"),
            ({"name": "No Spaces"}, "name"),
        ],
    )
    def test_a_mistake_is_named_by_file_and_field(self, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
        path = write(tmp_path / "bad.yaml", content(**changes))
        with pytest.raises(ScenarioError) as refusal:
            Scenario.load(path)
        assert str(path) in str(refusal.value)
        assert message in str(refusal.value)
        assert "\n" not in str(refusal.value)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"trace.family": "azure2019-day"}, "synthesis belongs to the family synthetic"),
            ({"trace.synthesis": None}, "synthesis belongs to the family synthetic"),
            ({"trace.file": "x.parquet"}, "file belongs to the family parquet"),
            ({"trace.splits.test.time": [0.9, 0.1]}, "trace.splits.test.time"),
            ({"trace.group_size": 0}, "trace.group_size"),
        ],
    )
    def test_a_trace_that_contradicts_itself_is_refused(
        self, small: Scenario, changes: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ScenarioError, match="scenario small: ") as refusal:
            small.with_(**changes)
        assert message in str(refusal.value)

    def test_files_that_hold_no_scenario(self, tmp_path: Path) -> None:
        with pytest.raises(ScenarioError, match="did you mean azure-day"):
            Scenario.load("azure-dy")
        with pytest.raises(ScenarioError, match="needs keys such as name, cluster"):
            Scenario.load(write(tmp_path / "list.yaml", [1, 2]))
        path = tmp_path / "bad.yaml"
        path.write_text("a: [1", encoding="utf-8")
        with pytest.raises(ScenarioError, match="is no YAML"):
            Scenario.load(path)
        path.write_bytes(b"\xff\xfe\xff")
        with pytest.raises(ScenarioError, match="no text in UTF-8"):
            Scenario.load(path)

    def test_yaml_cannot_run_code(self, tmp_path: Path) -> None:
        path = tmp_path / "evil.yaml"
        path.write_text("name: !!python/object/apply:os.getcwd []", encoding="utf-8")
        with pytest.raises(ScenarioError, match="is no YAML"):
            Scenario.load(path)


class TestChanges:
    def test_dotted_and_nested_changes_say_the_same(self, small: Scenario) -> None:
        dotted = small.with_(**{"prewarm.policy": "histogram", "controller.copies": 2})
        assert dotted == small.with_(prewarm={"policy": "histogram"}, controller={"copies": 2})
        assert dotted.prewarm.keep_alive_s == small.prewarm.keep_alive_s

    def test_lists_are_replaced(self, small: Scenario) -> None:
        assert small.with_(**{"cluster.nodes": [{"memory_mb": 8000}]}).world().node_memory_mb.tolist() == [8000]

    def test_the_hash_follows_what_decides_a_result_and_nothing_else(self, small: Scenario) -> None:
        assert len(small.hash()) == 16
        assert small.with_(title="another", description="words").hash() == small.hash()
        assert small.with_(**{"prewarm.keep_alive_s": 60}).hash() != small.hash()

    def test_cores_and_reading_matter_to_the_hash_only_under_contention(self, small: Scenario) -> None:
        nodes = [{"memory_mb": 8000}]
        hashes = set()
        for cores, streams, contention in ((None, 1, False), (2, 3, False), (2, 1, True), (4, 1, True), (4, 2, True)):
            group = {**nodes[0], "cores": cores, "disk_streams": streams}
            hashes.add(small.with_(**{"cluster.nodes": [group], "contention": contention}).hash())
        assert len(hashes) == 4
        assert small.with_(**{"cluster.nodes": nodes}).hash() in hashes

    def test_the_hash_follows_the_numbers_of_a_catalogue(self, small: Scenario, tmp_path: Path) -> None:
        path = tmp_path / "mine.csv"
        shipped = Path(profiles.__file__).with_name("catalogues") / "paper.csv"
        path.write_text(shipped.read_text(encoding="utf-8"), encoding="utf-8")
        mine = small.with_(**{"functions.catalogue": str(path)})
        before = mine.hash()
        path.write_text(shipped.read_text(encoding="utf-8").replace("752", "753"), encoding="utf-8")
        assert mine.hash() != before


class TestSettings:
    def test_contention_takes_cores_streams_and_the_share_that_is_read(self, small: Scenario) -> None:
        groups = [{"memory_mb": 8000, "cores": 2}, {"count": 2, "memory_mb": 8000, "cores": 4, "disk_streams": 3}]
        world = small.with_(**{"cluster.nodes": groups, "contention": True}).world()
        assert world.settings.contention
        assert (world.node_cores.tolist(), world.node_disk_streams.tolist()) == ([2, 4, 4], [1, 3, 3])
        shares = {profile.name: profile.read_share for profile in profiles.load_catalogue("paper")}
        assert world.functions.read_ppm.tolist() == [round(shares[name] * 1e6) for name in world.profiles]
        assert not small.world().settings.contention

    def test_contention_without_cores_is_refused(self, small: Scenario) -> None:
        groups = [{"memory_mb": 8000, "cores": 2}, {"memory_mb": 8000}]
        with pytest.raises(ScenarioError, match=r"the cores of every node; cluster\.nodes\.1\.cores is missing"):
            small.with_(**{"cluster.nodes": groups, "contention": True})
        with pytest.raises(ScenarioError, match="unknown key 'core'; did you mean cores"):
            small.with_(**{"cluster.nodes": [{"memory_mb": 8000, "core": 2}]})

    def test_defaults_give_the_papers_timers(self, small: Scenario) -> None:
        settings = small.world().settings
        assert (settings.load_ppm, settings.offload_ppm) == (61_875, 2_813_411)
        assert settings.load_ppm == round(-math.log(1 - 0.06) * 1e6)
        assert (settings.window, settings.prior_gap_us, settings.keep_alive_us) == (10, 600_000_000, 600_000_000)

    def test_paper_mode_ends_the_process_with_its_run(self, small: Scenario) -> None:
        settings = small.world(conditions=Conditions(mode="paper")).settings
        assert (settings.after_run_platform, settings.after_run_preloader) == (AfterRun.DISCARD, AfterRun.KEEP)
        assert not settings.busy_counts
        assert settings.displace_percent == -1

    def test_realistic_mode_keeps_it(self, small: Scenario) -> None:
        settings = small.world(conditions=Conditions(mode="realistic")).settings
        assert (settings.after_run_platform, settings.after_run_preloader) == (AfterRun.KEEP, AfterRun.KEEP)
        assert settings.busy_counts
        assert settings.displace_percent == 10

    def test_what_is_given_wins_over_the_mode(self, small: Scenario) -> None:
        fates = {"platform": "keep", "preloader": "reload"}
        given = small.with_(mode="paper", after_run=fates, controller={"displace_percent": 25})
        settings = given.world().settings
        assert (settings.after_run_platform, settings.after_run_preloader) == (AfterRun.KEEP, AfterRun.RELOAD)
        assert settings.displace_percent == 25
        never = small.with_(mode="realistic", controller={"displace_percent": None})
        assert never.world().settings.displace_percent == -1

    def test_every_choice_reaches_the_world(self, small: Scenario) -> None:
        changed = small.with_(
            routing="hash",
            isolation="strict",
            prewarm={"policy": "histogram", "keep_alive_s": 60},
            controller={"scheduling_ms": 1.5, "clear_ms": 2, "command_ms": 3, "offload_ms": 4, "copies": 3},
        )
        settings = changed.world(seed=7, kernel="minute-oracle", conditions=Conditions(decision=7.5)).settings
        assert (settings.seed, settings.kernel, settings.event_mode) == (7, Kernel.MINUTE_ORACLE, False)
        assert settings.decision_us == 7_500_000
        assert (settings.routing, settings.isolation) == (Routing.HASH, Isolation.STRICT)
        assert (settings.prewarm, settings.keep_alive_us, settings.copies) == (Prewarm.HISTOGRAM, 60_000_000, 3)
        assert (settings.scheduling_us, settings.clear_us) == (1_500, 2_000)
        assert (settings.command_us, settings.offload_us) == (3_000, 4_000)

    def test_the_platforms_policy_can_be_chosen_for_one_world(self, small: Scenario) -> None:
        assert small.world(conditions=Conditions("histogram")).settings.prewarm == Prewarm.HISTOGRAM
        assert small.world(conditions=Conditions("openwhisk")).settings.prewarm == Prewarm.KEEP_ALIVE

    def test_an_unknown_kernel_is_refused(self, small: Scenario) -> None:
        with pytest.raises(ScenarioError, match="kernel 'magic' is unknown; kernels are none, lru, tyche"):
            small.world(kernel="magic")

    def test_an_agent_decides_once_an_interval(self, small: Scenario) -> None:
        assert small.world(kernel="agent", conditions=Conditions(decision=10)).settings.kernel == Kernel.AGENT
        with pytest.raises(ScenarioError, match="test window 0: settings: with kernel AGENT nobody answers at events"):
            small.world(kernel="agent")


class TestWorlds:
    def test_time_starts_with_the_warm_up(self, small: Scenario) -> None:
        window = small.windows("test")[3]
        world = small.world(window=3)
        assert world.score_from_us == window.score_from_us - window.start_us == 60 * 60_000_000
        assert world.end_us == window.end_us - window.start_us
        assert world.function_count == len(window.functions) == len(world.names)
        assert 0 <= world.arrival_us[0] < world.arrival_us[-1] < world.end_us

    def test_requests_of_a_window_are_those_of_the_trace(self, small: Scenario) -> None:
        size = small.trace.synthesis
        assert size is not None
        counts = traces.synthesize(traces.SynthesisConfig(**size.model_dump()))
        window = small.windows("test")[3]
        minutes = slice(window.start_us // 60_000_000, window.end_us // 60_000_000)
        world = small.world(window=3)
        assert world.names == tuple(counts.names[function] for function in window.functions)
        expected = counts.counts[list(window.functions), minutes].sum(axis=1)
        assert np.bincount(world.arrival_function, minlength=world.function_count).tolist() == expected.tolist()

    def test_same_seed_same_requests_another_seed_others(self, small: Scenario) -> None:
        assert np.array_equal(small.world(seed=1).arrival_us, small.world(seed=1).arrival_us)
        assert not np.array_equal(small.world(seed=1).arrival_us, small.world(seed=2).arrival_us)

    def test_policies_meet_the_same_requests(self, small: Scenario) -> None:
        none, tyche = (
            small.world(kernel="none"),
            small.world(kernel="tyche", conditions=Conditions("histogram", "paper")),
        )
        assert np.array_equal(none.arrival_us, tyche.arrival_us)
        assert np.array_equal(none.arrival_function, tyche.arrival_function)

    def test_a_trace_is_read_once_for_all_windows(self, small: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
        reads = []
        make = traces.synthesize

        def counted(config: traces.SynthesisConfig) -> traces.Counts:
            reads.append(config)
            return make(config)

        monkeypatch.setattr(traces, "synthesize", counted, raising=False)
        fresh = small.with_(**{"trace.synthesis.seed": 99})
        for window in range(5):
            fresh.world(window=window)
        assert len(reads) == 1

    def test_nodes_and_gpus(self, small: Scenario) -> None:
        nodes = [
            {"count": 2, "memory_mb": 16000},
            {"count": 1, "memory_mb": 32000, "gpus": 2, "gpu_memory_mb": 24000},
        ]
        world = small.with_(**{"cluster.nodes": nodes}).world()
        assert world.node_memory_mb.tolist() == [16000, 16000, 32000]
        assert world.gpu_node.tolist() == [2, 2]
        assert world.gpu_memory_mb.tolist() == [24000, 24000]

    def test_a_function_keeps_its_profile_in_every_window(self, small: Scenario) -> None:
        paper = load_catalogue("paper")
        for window in (0, 5):
            world = small.world(window=window)
            functions = small.windows("test")[window].functions
            expected = [round(paper[function % 8].model_ms * 1000) for function in functions]
            assert world.functions.model_us.tolist() == expected

    def test_profiles_by_position_use_each_equally_often(self, small: Scenario) -> None:
        world = small.with_(**{"functions.assign": "position"}).world()
        _, times = np.unique(world.functions.model_us, return_counts=True)
        assert times.tolist() == [5] * 8

    def test_a_subset_of_profiles_in_its_own_order(self, small: Scenario) -> None:
        chosen = small.with_(functions={"profiles": ["VGG19", "ResNet18"], "assign": "position"}).world()
        assert chosen.functions.hold_mb[:4].tolist() == [1648, 649, 1648, 649]
        with pytest.raises(ScenarioError, match=r"functions\.profiles: 'VGG91' is not in paper; it has ResNet18"):
            small.with_(**{"functions.profiles": ["VGG91"]}).world()

    def test_profile_numbers_become_integers(self, small: Scenario) -> None:
        functions = small.with_(functions={"catalogue": "measured", "profiles": ["resnet50"]}).world().functions
        row = {name: int(getattr(functions, name)[0]) for name in functions.__slots__}
        assert (row["library_us"], row["model_us"], row["transfer_us"]) == (5_153_200, 568_200, 7_300)
        assert (row["hold_mb"], row["peak_mb"], row["gpu_mb"], row["container_mb"]) == (466, 565, 503, 2048)
        assert row["sigma_ppm"] == 66_000

    def test_noise_can_be_switched_off(self, small: Scenario) -> None:
        quiet = small.with_(functions={"catalogue": "measured", "profiles": ["resnet50"], "noise": False})
        assert not quiet.world().functions.sigma_ppm.any()

    def test_container_size_can_be_overridden(self, small: Scenario) -> None:
        assert set(small.with_(**{"functions.container_mb": 4096}).world().functions.container_mb.tolist()) == {4096}
        with pytest.raises(ScenarioError, match=r"functions\.container_mb: 1024 MB is too small for ResNet152"):
            small.with_(**{"functions.container_mb": 1024}).world()

    def test_one_tenant_or_one_an_owner(self, small: Scenario, tmp_path: Path) -> None:
        assert not small.world().functions.tenant.any()
        owned = from_file(tmp_path, small).with_(**{"functions.tenants": "owner"})
        for split in ("train", "validation", "test"):
            functions = owned.windows(split)[0].functions
            assert owned.world(split=split).functions.tenant.tolist() == [function // 2 for function in functions]

    def test_a_container_larger_than_a_node_is_refused(self, small: Scenario) -> None:
        with pytest.raises(ScenarioError, match=r"scenario small, test window 0: .* larger than a node"):
            small.with_(**{"cluster.nodes": [{"memory_mb": 1000}]}).world()

    def test_a_window_that_does_not_exist_is_refused(self, small: Scenario) -> None:
        last = len(small.windows("test")) - 1
        with pytest.raises(ScenarioError, match=f"split test has windows 0 to {last}, there is no {last + 1}"):
            small.world(window=last + 1)

    def test_a_split_without_room_is_refused(self, small: Scenario) -> None:
        with pytest.raises(
            ScenarioError,
            match=r"split 'test': has no room for a warm-up of 60 min and a window of 1,000 min in its 150 min",
        ):
            small.with_(**{"trace.window_min": 1000}).windows("test")


class TestTraceFiles:
    def test_files_beside_counts_are_read_and_mended_as_the_scenario_says(
        self, small: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        minutes = ",".join(map(str, range(1, 241)))
        rows = [f"o,a,f{row % 6},http,{','.join(['1'] * 240)}" for row in range(7)]  # f0 twice
        (tmp_path / "i.csv").write_text(f"HashOwner,HashApp,HashFunction,Trigger,{minutes}\n" + "\n".join(rows) + "\n")
        lengths = "".join(f"o,a,f{row},{100 + row},1\n" for row in range(6))
        (tmp_path / "d.csv").write_text(f"HashOwner,HashApp,HashFunction,Average,Count\n{lengths}")
        monkeypatch.setenv("TYCHE_TRACES", str(tmp_path))
        beside = {"trace.family": "file", "trace.file": "i.csv", "trace.durations_file": "d.csv"}
        refused = from_file(tmp_path, small).with_(**beside, **{"trace.durations": "trace"})
        with pytest.raises(ScenarioError, match="repeats the key of row 2"):
            refused.world()
        scenario = refused.with_(**{"trace.bad_rows": "repair"})
        world = scenario.world()
        window = scenario.windows("test")[0]
        assert set(world.arrival_duration_us.tolist()) == {1000 * (100 + function) for function in window.functions}
        assert scenario.hash() != refused.hash()
        assert (
            from_file(tmp_path, small).hash() == from_file(tmp_path, small).with_(**{"trace.bad_rows": "fail"}).hash()
        )
        with pytest.raises(ScenarioError, match="durations_file belongs to the family file and to no other"):
            small.with_(**{"trace.durations_file": "d.csv"})

    def test_durations_of_the_trace_replace_the_profiles(self, small: Scenario, tmp_path: Path) -> None:
        lengths = np.arange(1, 1441, dtype=np.int64)
        scenario = from_file(tmp_path, small, duration_us=lengths)
        assert len(scenario.world().arrival_duration_us) == 0
        world = scenario.with_(**{"trace.durations": "trace"}).world()
        window = scenario.windows("test")[0]
        minutes = range(window.start_us // 60_000_000, window.end_us // 60_000_000)
        expected = [6 * minute + function + 1 for minute in minutes for function in window.functions]
        assert world.arrival_duration_us.tolist() == expected

    def test_durations_that_the_trace_does_not_give_are_refused(self, small: Scenario, tmp_path: Path) -> None:
        with pytest.raises(ScenarioError, match=r"trace\.durations is 'trace', but the trace gives no durations"):
            from_file(tmp_path, small).with_(**{"trace.durations": "trace"}).world()

    def test_a_relative_file_is_also_looked_for_in_the_trace_folder(
        self, small: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scenario = from_file(tmp_path, small).with_(**{"trace.file": "six.parquet"})
        monkeypatch.delenv("TYCHE_TRACES", raising=False)
        with pytest.raises(SourceError, match=r"trace\.file: no such file: six\.parquet"):
            scenario.world()
        monkeypatch.setenv("TYCHE_TRACES", str(tmp_path))
        assert scenario.world().function_count == 2

    def test_missing_trace_files_say_what_to_do(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file, described_at = "alibaba_gentd26_requests_to_1130.csv.gz", "github.com/alibaba/clusterdata"
        for folder, state in (("", "it is not set"), (str(tmp_path), f"{tmp_path} lacks {file}")):
            monkeypatch.setenv("TYCHE_TRACES", folder)
            with pytest.raises(SourceError) as refusal:
                Scenario.load("alibaba-gentd26").world()
            for part in ("TYCHE_TRACES", file, state, described_at, "'azure-8h'"):
                assert part in str(refusal.value)

    def test_a_folder_that_is_none_is_refused_also_for_what_is_shipped(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TYCHE_TRACES", str(tmp_path / "nowhere"))
        with pytest.raises(SourceError, match=r"TYCHE_TRACES: .*nowhere is no folder"):
            Scenario.load("azure-8h").world()

    def test_the_named_folder_comes_before_what_is_shipped_and_is_never_mixed_with_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("TYCHE_TRACES", raising=False)
        assert folder_of("azure2019-8h") == folder_of("azure2019-day") == SHIPPED
        monkeypatch.setenv("TYCHE_TRACES", str(tmp_path))
        assert folder_of("azure2019-8h") == SHIPPED
        for number, name in enumerate(FILES["azure2019-8h"], start=1):
            (tmp_path / name).touch()
            if number < len(FILES["azure2019-8h"]):
                with pytest.raises(SourceError, match=r"has files of azure2019-8h, but lacks azure2019_8h_"):
                    folder_of("azure2019-8h")
        assert folder_of("azure2019-8h") == tmp_path
        assert folder_of("azure2019-day") == SHIPPED

    @pytest.mark.parametrize("name", sorted({*FILES["azure2019-8h"], *FILES["azure2019-day"]}))
    def test_what_is_shipped_is_what_its_notice_says(self, name: str) -> None:
        notice = (SHIPPED / "NOTICE.md").read_text(encoding="utf-8")
        digest = hashlib.sha256(gzip.decompress((SHIPPED / name).read_bytes())).hexdigest()
        assert re.search(rf"^\| `{re.escape(name)}` \| .* \| `{digest}` \|$", notice, re.MULTILINE)
        assert "CC-BY" in notice
        assert "USENIX ATC 2020" in notice

    def test_a_broken_trace_file_is_refused_by_its_name(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "azure2019_day_unique_A.csv.gz").write_bytes(b"")
        monkeypatch.setenv("TYCHE_TRACES", str(tmp_path))
        with pytest.raises(ScenarioError, match=r"scenario azure-day: .*azure2019_day_unique_A\.csv\.gz"):
            Scenario.load("azure-day").world()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mode": "pape"}, "mode pape: there is no such mode; did you mean paper?"),
        ({"prewarm": "openwisk"}, "prewarm openwisk: there is no such prewarm; did you mean openwhisk?"),
        ({"prewarm": "nowhere.py"}, r"prewarm nowhere\.py: there is no such file"),
        ({"decision": "evnt"}, "decision: needs 'event' or a positive number of seconds, got 'evnt'"),
        ({"decision": 0}, "decision: needs 'event' or a positive number of seconds, got 0"),
        ({"decision": float("nan")}, "got nan"),
        ({"decision": float("inf")}, "got inf"),
    ],
)
def test_conditions_that_cannot_be_are_refused_when_they_are_made(given: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Conditions(**given)


def test_conditions_that_can_be_are_made() -> None:
    assert Conditions("histogram", "paper", 10.0).decision == 10.0
    assert Conditions() == Conditions(None, None, "event")
