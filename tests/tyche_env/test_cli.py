"""The command line: lists everything without importing it, and refuses in one line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
import yaml

from traces import TraceError
from tyche_env import cli
from tyche_env.doctor import Finding, examine
from tyche_env.errors import UserError
from tyche_env.profiles import FunctionProfile, write_catalogue
from tyche_env.scenario import Scenario


def in_fresh_python(code: str) -> str:
    """Output of a piece of Python in a process of its own."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def heavy_modules_after(code: str) -> set[str]:
    """Which of the heavy modules a piece of Python has imported.

    Not among them: gymnasium and its numpy, since importing the package registers the environment.
    """
    heavy = "{'numba', 'pandas', 'pyarrow', 'pydantic', 'scipy', 'stable_baselines3', 'torch'}"
    output = in_fresh_python(f"{code}\nimport sys\nprint(sorted({heavy} & set(sys.modules)))")
    return set(yaml.safe_load(output.splitlines()[-1]))


def kernel_cache() -> Finding:
    """What the doctor says about the cache of compiled kernels."""
    (found,) = [finding for finding in examine() if finding.name == "kernel cache"]
    return found


class Commands:
    """Entry points that the tests choose."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.folder = folder
        self.entries: list[EntryPoint] = []
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.setattr(cli, "entry_points", lambda **chosen: EntryPoints(self.entries).select(**chosen))

    def add(self, name: str, body: str, docstring: str = "Say something.") -> None:
        """Add a command whose function runs ``body``."""
        module = f"command_module_{name}"
        (self.folder / f"{module}.py").write_text(
            f'import click\n\n@click.command()\ndef {name}() -> None:\n    """{docstring}"""\n    {body}\n',
            encoding="utf-8",
        )
        self.entries.append(EntryPoint(name, f"{module}:{name}", "tyche_env.commands"))


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Commands:
    return Commands(monkeypatch, tmp_path)


class TestHelp:
    def test_help_imports_no_heavy_module(self) -> None:
        assert heavy_modules_after("from tyche_env.cli import run\nrun(['--help'])") == set()

    def test_the_package_imports_neither_torch_nor_stable_baselines(self) -> None:
        assert not heavy_modules_after("import tyche_env") & {"torch", "stable_baselines3"}

    def test_help_lists_each_command_with_the_first_line_of_its_docstring(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.run(["--help"]) == 0
        listed = capsys.readouterr().out
        for line in (
            "scenario +List the shipped scenarios, show one in full, or",
            "doctor +Say what is installed",
        ):
            assert re.search(line, listed)

    @pytest.mark.parametrize("name", ["trace", "profile", "platform", "scenario", "policy", "reproduce"])
    def test_no_summary_of_a_subcommand_is_cut_short(self, name: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.run([name, "--help"]) == 0
        assert "..." not in capsys.readouterr().out.partition("Commands:")[2]

    def test_help_runs_no_code_of_a_command(self, commands: Commands, capsys: pytest.CaptureFixture[str]) -> None:
        commands.add("broken", "pass", docstring="First line.\n\n    More.")
        module = commands.folder / "command_module_broken.py"
        module.write_text("raise SystemExit('imported')\n" + module.read_text(encoding="utf-8"), encoding="utf-8")
        assert cli.run(["--help"]) == 0
        assert "broken  First line.\n" in capsys.readouterr().out

    def test_help_says_which_commands_are_not_installed(
        self, commands: Commands, capsys: pytest.CaptureFixture[str]
    ) -> None:
        commands.entries.append(EntryPoint("ghost", "no_such_module.at_all:ghost", "tyche_env.commands"))
        assert cli.run(["--help"]) == 0
        assert "ghost  (not installed)" in capsys.readouterr().out

    def test_no_arguments_print_the_help(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.run([]) == 2
        assert "Usage: tyche" in capsys.readouterr().out

    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.run(["--version"]) == 0
        assert capsys.readouterr().out.startswith("tyche, version ")


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["scenaro"], "there is no command 'scenaro'; did you mean scenario?"),
            (
                ["scenario", "show", "smal"],
                "scenario smal: cannot be read (No such file or directory); did you mean small",
            ),
            (["scenario", "show", "small", "--jsn"], "--jsn"),
            (["scenario", "show"], "NAME"),
            (["profile", "list", "nothing"], "nothing: is no shipped catalogue and cannot be read"),
        ],
    )
    def test_a_users_error_is_one_line_and_status_2(
        self, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.run(arguments) == 2
        output = capsys.readouterr()
        assert output.out == ""
        assert output.err.startswith("tyche: ")
        assert message in output.err
        assert output.err.count("\n") == 1

    @pytest.mark.parametrize("error", [UserError("a.csv, row 3:\nwrong"), TraceError("a.csv, row 3: wrong")])
    def test_errors_of_every_layer_are_refused_alike(
        self, monkeypatch: pytest.MonkeyPatch, error: Exception, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def fail(**_: object) -> None:
            raise error

        monkeypatch.setattr(cli.tyche, "main", fail)
        assert cli.run([]) == 2
        assert capsys.readouterr().err == "tyche: a.csv, row 3: wrong\n"

    def test_a_file_that_cannot_be_written_is_named(
        self, commands: Commands, capsys: pytest.CaptureFixture[str]
    ) -> None:
        commands.add("save", f"open({str(commands.folder)!r}, 'w')")
        assert cli.run(["save"]) == 2
        assert capsys.readouterr().err == f"tyche: {commands.folder}: Is a directory\n"

    def test_a_missing_extra_is_named(self, commands: Commands, capsys: pytest.CaptureFixture[str]) -> None:
        commands.add("learn", "raise ModuleNotFoundError(name='torch')")
        assert cli.run(["learn"]) == 2
        assert "pip install 'tyche-env[train]'" in capsys.readouterr().err

    def test_our_own_mistakes_keep_their_traceback(self, commands: Commands) -> None:
        commands.add("buggy", "raise KeyError('x')")
        with pytest.raises(KeyError):
            cli.run(["buggy"])
        commands.add("typo", "import no_such_module_at_all")
        with pytest.raises(ModuleNotFoundError):
            cli.run(["typo"])

    def test_an_entry_point_that_is_no_command_is_a_mistake_of_its_package(self, commands: Commands) -> None:
        commands.entries.append(EntryPoint("path", "os:path", "tyche_env.commands"))
        with pytest.raises(TypeError, match="entry point path"):
            cli.run(["path"])

    def test_ctrl_c_ends_with_130(self, commands: Commands, capsys: pytest.CaptureFixture[str]) -> None:
        commands.add("wait", "raise KeyboardInterrupt")
        assert cli.run(["wait"]) == 130
        assert "tyche: interrupted" in capsys.readouterr().err

    def test_a_closed_pipe_is_no_error(self) -> None:
        shell = f"{sys.executable} -c 'from tyche_env.cli import main; main()' profile list --json | head -c 10"
        done = subprocess.run(["bash", "-o", "pipefail", "-c", shell], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")

    def test_a_command_chooses_its_own_status(self, commands: Commands) -> None:
        commands.add("differ", "click.get_current_context().exit(1)")
        assert cli.run(["differ"]) == 1


class TestScenario:
    def test_list(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.run(["scenario", "list"]) == 0
        listed = capsys.readouterr().out
        assert all(name in listed for name in Scenario.names())

    def test_what_a_cluster_has_is_added_up_over_its_groups(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        nodes = [
            {"count": 3, "memory_mb": 16_500, "gpus": 2, "gpu_memory_mb": 8000},
            {"count": 2, "memory_mb": 700},
            {"count": 1, "memory_mb": 5000, "gpus": 1, "gpu_memory_mb": 8000},
        ]
        changes = {"cluster.nodes": nodes, "trace.group_size": 17, "name": "mixed", "title": "A title"}
        made = Scenario.load("small").with_(**changes)
        monkeypatch.setattr(Scenario, "names", staticmethod(lambda: ("mixed",)))
        monkeypatch.setattr(Scenario, "load", staticmethod(lambda _: made))
        assert cli.run(["scenario", "list", "--json"]) == 0
        (row,) = json.loads(capsys.readouterr().out)
        # 49.5 + 1.4 + 5 GB
        found = [row[name] for name in ("name", "mode", "nodes", "memory_gb", "gpus", "functions_per_window")]
        assert found == ["mixed", made.mode, 6, 55, 7, 17]
        assert (row["trace"], row["title"]) == (made.trace.family, "A title")
        assert cli.run(["scenario", "list"]) == 0
        heading, *_, line = capsys.readouterr().out.splitlines()
        assert heading.split() == ["scenario", "mode", "cluster", "title"]
        assert " ".join(line.split()) == f"mixed {made.mode} 6 nodes, 55 GB, 7 GPUs A title"

    def test_show_counts_the_windows_and_groups_of_each_split(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def windows(_: Scenario, split: str = "test") -> list[SimpleNamespace]:
            counts = {"train": (5, 2), "validation": (3, 1), "test": (9, 4)}[split]
            return [SimpleNamespace(group=f"{split}-{at % counts[1]}") for at in range(counts[0])]

        monkeypatch.setattr(Scenario, "windows", windows)
        assert cli.run(["scenario", "show", "small"]) == 0
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("#")]
        assert lines[1:] == [
            "# train: 5 windows of 2 function groups",
            "# validation: 3 windows of 1 function groups",
            "# test: 9 windows of 4 function groups",
        ]

    def test_list_as_json(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.run(["scenario", "list", "--json"]) == 0
        rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
        assert rows["paper-multi-node"]["nodes"] == 4
        assert rows["paper-multi-node"]["memory_gb"] == 512

    def test_show_prints_a_scenario_that_can_be_loaded(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        assert cli.run(["scenario", "show", "small"]) == 0
        shown = capsys.readouterr().out
        windows = len(Scenario.load("small").windows("test"))
        assert f"# test: {windows} windows of" in shown
        path = tmp_path / "copy.yaml"
        path.write_text(shown, encoding="utf-8")
        assert Scenario.load(path) == Scenario.load("small")

    def test_show_works_without_the_trace_files(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("TYCHE_TRACES", raising=False)
        assert cli.run(["scenario", "show", "alibaba-gentd26"]) == 0
        assert "# windows unknown: the environment variable TYCHE_TRACES" in capsys.readouterr().out

    def test_show_as_json(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.run(["scenario", "show", "small", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["trace"]["family"] == "synthetic"


class TestProfile:
    def test_list_marks_assumed_values(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.run(["profile", "list", "paper"]) == 0
        (row,) = [line for line in capsys.readouterr().out.splitlines() if "ResNet50" in line]
        assert row.split()[:5] == ["ResNet50", "750", "486", "68*", "439"]

    def test_each_value_stands_under_its_heading(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        planted: dict[str, Any] = {
            "library_ms": 1,
            "model_ms": 2,
            "transfer_ms": 3,
            "inference_ms": 4,
            "gpu_inference_ms": 5.67891,
            "hold_mb": 600,
            "gpu_mb": 700,
            "sigma": 0.5,
            "peak_mb": 800,
            "container_mb": 900,
        }
        made = FunctionProfile(name="f", container_init_ms=10, source="told", assumed=("gpu_mb",), **planted)
        write_catalogue(tmp_path / "mine.csv", [made])
        monkeypatch.chdir(tmp_path)
        assert cli.run(["profile", "list", "mine.csv"]) == 0
        title, heading, *_, line = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
        assert "latencies in ms, memory in MB, * assumed" in title
        assert " ".join(heading.split()) == "profile library model transfer infer GPU infer held on GPU sigma"
        assert line.split() == ["f", "1", "2", "3", "4", "5.679", "600", "700*", "0.5"]

    def test_list_of_every_catalogue_as_json(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.run(["profile", "list", "--json"]) == 0
        catalogues = json.loads(capsys.readouterr().out)
        assert set(catalogues) == {"diffusion", "measured", "paper", "real"}
        assert catalogues["paper"][0]["source"]


class TestDoctor:
    def test_it_reports_every_topic(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.run(["doctor", "--json"]) == 0
        findings = json.loads(capsys.readouterr().out)
        assert {finding["topic"] for finding in findings} == {"machine", "packages", "traces", "docker", "nvml"}
        assert all(finding["detail"] for finding in findings)

    def test_text_names_each_finding(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.run(["doctor"]) == 0
        text = capsys.readouterr().out
        assert all(name in text for name in ("Python", "cores", "numba", "torch", "TYCHE_TRACES"))

    def test_every_package_that_the_project_names_is_looked_for_but_those_for_its_development(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        named = ["absent>=1", "torch>=2; extra == 'train'", "torch>=2; extra == 'functions'", "mypy; extra == 'dev'"]
        named.append("pytest; extra == 'test'")
        monkeypatch.setattr("tyche_env.doctor.requires", lambda _: named)
        found = {finding.name: finding for finding in examine() if finding.topic == "packages"}
        assert list(found) == ["tyche-env", "absent", "torch"]
        assert (found["absent"].found, found["absent"].detail) == (False, "pip install tyche-env")

    def test_it_says_where_kernels_are_kept_and_makes_nothing(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("TYCHE_CACHE_DIR", str(tmp_path / "cache"))
        kernels = kernel_cache()
        assert (kernels.found, kernels.detail) == (True, f"{tmp_path / 'cache'}, kernels of 0 versions")
        assert not (tmp_path / "cache").exists()
        for version in ("a", "b", "unfinished"):
            (tmp_path / "cache" / version).mkdir(parents=True)
        for version in ("a", "b"):
            (tmp_path / "cache" / version / "complete").touch()
        assert kernel_cache().detail == f"{tmp_path / 'cache'}, kernels of 2 versions"

    def test_it_says_why_kernels_are_not_kept_where_they_were_to_be(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "open").mkdir()
        (tmp_path / "open").chmod(0o777)
        monkeypatch.setenv("TYCHE_CACHE_DIR", str(tmp_path / "open"))
        kernels = kernel_cache()
        assert not kernels.found
        assert f"TYCHE_CACHE_DIR: kernels are not kept in {tmp_path / 'open'}, since " in kernels.detail
        monkeypatch.delenv("TYCHE_CACHE_DIR")
        monkeypatch.setenv("XDG_CACHE_HOME", "")
        (tmp_path / "home").touch()
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "open"))
        kernels = kernel_cache()
        assert not kernels.found
        assert kernels.detail.startswith("not used, since ")
        assert kernels.detail.endswith(": each process compiles them anew, which takes about a minute")
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        kernels = kernel_cache()
        assert kernels.found
        assert kernels.detail.startswith(f"{tmp_path}/tyche-env-{os.geteuid()}, kernels of 0 versions; there, since ")

    def test_traces_are_looked_for_where_the_variable_points_and_among_the_shipped(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        def found() -> dict[str, tuple[bool, str]]:
            return {each.name: (each.found, each.detail) for each in examine() if each.topic == "traces"}

        monkeypatch.delenv("TYCHE_TRACES", raising=False)
        assert found()["azure2019-day"] == (True, "shipped")
        assert found()["alibaba-gentd26"] == (False, "missing: alibaba_gentd26_requests_to_1130.csv.gz")
        (tmp_path / "azure2019_day_unique_A.csv.gz").touch()
        (tmp_path / "azure2019_8h_durations.csv.gz").touch()
        monkeypatch.setenv("TYCHE_TRACES", str(tmp_path))
        assert found()["azure2019-day"] == (True, str(tmp_path))
        assert not found()["azure2019-8h"][0]
        assert "lacks azure2019_8h_invocations.csv.gz, azure2019_8h_memory.csv.gz" in found()["azure2019-8h"][1]

    def test_without_docker_it_says_so(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        (docker,) = [finding for finding in examine() if finding.topic == "docker"]
        assert not docker.found
        assert docker.detail == "not installed; only needed for --containers docker"

    @pytest.mark.parametrize(
        ("script", "daemon", "root", "found", "detail"),
        [
            ("echo 99.1", False, False, True, "99.1, its daemon runs"),
            ("exit 1", True, True, True, "no daemon runs now, and --containers docker starts one of its own"),
            ("exit 1", True, False, False, "only root can start one; only needed for --containers docker"),
            ("exit 1", False, True, False, "its daemon (dockerd) is not installed"),
        ],
    )
    def test_docker_is_there_if_a_daemon_answers_or_may_be_started(
        self,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        script: str,
        daemon: bool,
        root: bool,
        found: bool,
        detail: str,
    ) -> None:
        for name in ("docker", "dockerd") if daemon else ("docker",):
            (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
            (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr("os.geteuid", lambda: 0 if root else 1000)
        (docker,) = [finding for finding in examine() if finding.topic == "docker"]
        assert docker.found == found
        assert detail in docker.detail

    def test_gpus_are_listed_by_name_and_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        driver = SimpleNamespace(
            NVMLError=OSError,
            nvmlInit=lambda: None,
            nvmlShutdown=lambda: None,
            nvmlSystemGetDriverVersion=lambda: "580.1",
            nvmlDeviceGetCount=lambda: 2,
            nvmlDeviceGetHandleByIndex=lambda index: index,
            nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(total=24_000_000_000 * (handle + 1)),
            nvmlDeviceGetName=lambda handle: f"GPU model {handle}",
        )
        monkeypatch.setitem(sys.modules, "pynvml", driver)
        found = {finding.name: finding.detail for finding in examine() if finding.topic == "nvml"}
        assert found == {"driver": "580.1", "GPU 0": "GPU model 0, 24.0 GB", "GPU 1": "GPU model 1, 48.0 GB"}

    def test_without_a_driver_it_says_why(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse() -> None:
            raise OSError("no driver")

        monkeypatch.setitem(sys.modules, "pynvml", SimpleNamespace(NVMLError=OSError, nvmlInit=refuse))
        (nvml,) = [finding for finding in examine() if finding.topic == "nvml"]
        assert not nvml.found
        assert "no driver" in nvml.detail


def test_a_subcommand_is_a_click_command() -> None:
    context = click.Context(cli.tyche)
    assert isinstance(cli.tyche.get_command(context, "scenario"), click.Group)
