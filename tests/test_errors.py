"""Whatever a user gets wrong ends in one line that says what to do; every message of our code is quoted by a test."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet as pq

import traces
from agents.evidence.comparison import compare_runs
from agents.evidence.results import measure_agents
from agents.evidence.run_folder import RunError, RunFolder
from agents.policies.bundle import CARD, SHIPPED, BundleError, load_bundle
from agents.policies.loading import load
from agents.policies.policy import PolicyError
from agents.policies.recipe import RecipeError
from agents.training.recipes import load_recipe
from real_backend.functions.own import memory_mb
from real_backend.functions.protocol import FunctionError, load_functions
from real_backend.worker.__main__ import main as worker
from traces import ColumnMap, Counts, Split, TraceError, plan_windows
from traces.blame import UserCodeError
from traces.errors import UserError
from traces.formats import formats
from tyche_env.cli import run
from tyche_env.extensions import ExtensionError, find
from tyche_env.rules import PrewarmPolicy
from tyche_env.scenario import Scenario, ScenarioError, load_cluster
from tyche_env.simulate import simulate
from tyche_env.vector import PreloadVectorEnv
from tyche_env.world import WorldError

ROOT = Path(__file__).parents[1]
TRACE = "when,model\n2026-03-02 08:00:00,search\n2026-03-02 09:00:00,speech\n"
MAPPED = ["--column", "time=when", "--column", "time_unit=iso"]
EVALUATE = ["evaluate", "--scenario", "small"]
NEW = ["scenario", "new", "mine.yaml", "--trace", "requests.csv", *MAPPED]

PROFILE = (
    "name,container_init_ms,library_ms,model_ms,transfer_ms,inference_ms,gpu_inference_ms,hold_mb,peak_mb,gpu_mb,"
    "container_mb,sigma,source,assumed,read_share\n"
)

FILES = {
    "requests.csv": TRACE,
    "empty.csv": "",
    "short.csv": "when,model\n2026-03-02 08:00:00,search\n2026-03-02 08:01:00,search\n",
    "cluster.yaml": "nodes: [{count: 1, memory_mb: 4000}]\n",
    "misspelt-cluster.yaml": "nodes: [{count: 1, memroy_mb: 4000}]\n",
    "misspelt.yaml": "name: mine\nclustr: {}\n",
    "broken.yaml": "name: [mine\n",
    "profiles.csv": "name,modle_ms\nsearch,10\n",
    "some.csv": f"{PROFILE}search,1,1,1,0,1,0,9,9,0,9,0,me,,0\nspeach,1,1,1,0,1,0,9,9,0,9,0,me,,0\n",
    "no_policy.py": "PATIENCE = 3\n",
    "broken_policy.py": "import numpy\n\npolicy = numpy.zeros(3)[7]\n",
    "wrong_policy.py": "policy = 3\n",
    "notes.txt": "nothing of a run\n",
}
"""What lies in the folder where the mistakes are made."""

TYPICAL: list[tuple[list[str], str]] = [
    (["evalute"], "there is no command 'evalute'; did you mean evaluate?"),
    (["evaluate"], "Missing option '--scenario'."),
    ([*EVALUATE, "--polcy", "tyche"], "No such option '--polcy'. Did you mean '--policy'?"),
    (
        ["evaluate", "--scenario", "smal"],
        "scenario smal: cannot be read (No such file or directory); did you mean small?",
    ),
    (["evaluate", "--scenario", "misspelt.yaml"], "misspelt.yaml: unknown key 'clustr'; did you mean cluster?"),
    (
        [*EVALUATE, "--policy", "tych"],
        "policy tych: there is no such policy; did you mean tyche? (your own is a file, my_policy.py)",
    ),
    (
        [*EVALUATE, "--policy", "no_policy.py"],
        "policy no_policy.py: defines neither an object `policy`, nor `make_policy()`, nor a class `Policy`",
    ),
    (
        [*EVALUATE, "--policy", "broken_policy.py"],
        "policy broken_policy.py, line 3: IndexError: index 7 is out of bounds for axis 0 with size 3",
    ),
    (
        [*EVALUATE, "--prewarm", "openwisk"],
        "scenario small: prewarm.policy: prewarm openwisk: there is no such prewarm; did you mean openwhisk? "
        "(your own is an entry point or a file, FILE.py)",
    ),
    ([*EVALUATE, "--mode", "pape"], "Invalid value for '--mode': 'pape' is not one of 'paper', 'realistic'."),
    ([*EVALUATE, "--backend", "simulate"], "backend simulate: there is no such backend; did you mean simulated?"),
    ([*EVALUATE, "--windows", "9999"], "--windows: scenario small has 40 test windows, asked for 9999"),
    (
        ["evaluate", "--scenario", "alibaba-gentd26"],
        "the environment variable TYCHE_TRACES must name the folder of alibaba_gentd26_requests_to_1130.csv.gz, but "
        "it is not set; the public data set is described at github.com/alibaba/clusterdata; the scenarios 'small' "
        "and 'azure-8h' need no files",
    ),
    (
        ["trace", "inspect", "requests.csv"],
        "requests.csv, row 1: requests.csv has none of the known forms (parquet, azure2019, gentd26, azure2021, "
        "azure-llm, huawei2025, huawei2023, burstgpt, mooncake, chutes, chutes-endpoints, swissai); its columns are "
        "when, model; say which column is what: --column time=NAME --column function=NAME",
    ),
    (
        ["trace", "inspect", "requests.csv", "--column", "tiem=when"],
        "--column: unknown key 'tiem'; did you mean time?",
    ),
    (
        ["trace", "inspect", "requests.csv", "--column", "time=wen"],
        "requests.csv, row 1, column wen: the column is missing from the header; did you mean when?",
    ),
    (
        ["trace", "inspect", "requests.csv", "--column", "time=when"],
        "requests.csv, row 2, column when: 2026-03-02 08:00:00 is a date: give time_unit iso",
    ),
    (
        ["scenario", "new", "mine.yaml", "--trace", "requests.csv", *MAPPED, "--cluster", "misspelt-cluster.yaml"],
        "misspelt-cluster.yaml: nodes.0: unknown key 'memroy_mb'; did you mean memory_mb?",
    ),
    (["profile", "list", "profiles.csv"], "profiles.csv: column modle_ms is unknown; did you mean model_ms?"),
    (["report", "runs/mine"], "runs/mine: is no run folder (it has no manifest.json)"),
]
"""What users get wrong most, each with all that they then read."""

OTHERS: list[tuple[list[str], str]] = [
    (
        ["scenario", "new", "mine.yaml", "--trace", "short.csv", *MAPPED, "--cluster", "cluster.yaml"],
        "short.csv: lasts 1.0 minutes, a scenario needs 12",
    ),
    (
        ["scenario", "new", "mine.yaml", "--trace", "requests.csv", *MAPPED, "--cluster", "nowhere.yaml"],
        "cluster nowhere.yaml: cannot be read (No such file or directory)",
    ),
    (
        ["scenario", "new", "mine.yaml", "--trace", "requests.csv", *MAPPED, "--cluster", "broken.yaml"],
        "broken.yaml: is no YAML (while parsing a flow sequence",
    ),
    (["scenario", "show", "broken.yaml"], "broken.yaml: is no YAML (while parsing a flow sequence"),
    (["trace", "inspect", "requests.csv", "--column", "when"], "--column when: expected WHAT=NAME, such as time="),
    (["trace", "inspect", "empty.csv", *MAPPED], "empty.csv: the file is empty, expected a header"),
    (
        ["trace", "convert", "requests.csv", "notes.txt/such/a.parquet", *MAPPED],
        "notes.txt/such: cannot be made as a folder (Not a directory); name another place",
    ),
    (
        ["trace", "inspect", "requests.csv", "--plot", "a.xyz", *MAPPED],
        "a.xyz: pictures are written as .png, .svg or .pdf",
    ),
    (
        ["trace", "split", "requests.csv", "splits", *MAPPED, "--column", "function=model"],
        "validation would get none of the 2 functions; give it a larger share",
    ),
    (
        [*NEW, "--column", "function=model", "--cluster", "cluster.yaml", "--profiles", "some.csv"],
        "some.csv: has profiles for 1 of 2 functions of the trace, but none for speech; did you mean speach?",
    ),
    (
        ["profile", "estimate", "m", "--checkpoint", "4", "--inference-ms", "4", "--out", "notes.txt/such.csv"],
        "notes.txt: cannot be made as a folder (is there, but is no folder); name another place",
    ),
    ([*EVALUATE, "--trace", "."], "trace.file: no such file: ."),
    ([*EVALUATE, "--policy", "wrong_policy.py"], "policy wrong_policy.py: int has no method predict(observation, ...)"),
    (
        [*EVALUATE, "--prewarm", "no_policy.py"],
        "scenario small: prewarm.policy: prewarm no_policy.py: the file defines",
    ),
    (
        [*EVALUATE, "--policy", "folder"],
        "policy folder: the folder holds no agent; one is made of bundle.json and weights.safetensors, as tyche train",
    ),
    ([*EVALUATE, "--repetitions", "2"], "--repetitions: is for --backend both; --seeds repeats with other requests"),
    (["reproduce", "paper", "--experiment", "nods"], "--experiment: there is no 'nods'; there are single-node, "),
    (["profile", "memory", "nowhere.py"], "nowhere.py: is no file"),
    (
        ["profile", "estimate", "m", "--checkpoint", "big", "--inference-ms", "4", "--out", "m.csv"],
        "Invalid value for --checkpoint: big is neither a file nor a number of MB",
    ),
    (["platform", "up", "--env", "=1"], "--env '=1': say NAME=VALUE"),
    (["platform", "up", "--private-key", "notes.txt"], "--private-key: needs --certificate as well"),
    (
        ["platform", "deploy", "f", "--deployment", "embedded", "--main", "main"],
        "--deployment: brings its own code; leave --file and --main out",
    ),
    (
        ["platform", "deploy", "f", "--deployment", "embedded", "--functions", "mine.py"],
        "--functions: go along with kind:KIND only; embedded has its own",
    ),
    (["platform", "deploy", "f", "--kind", "python:3", "--functions", "m"], "--functions: goes with --deployment"),
    (["platform", "up", "--host", "192.0.2.1", "--port", "1"], "--host 192.0.2.1 --port 1: "),
]
"""More of the command line's messages, or their beginnings."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TYCHE_TRACES", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "folder").mkdir()
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def refusal(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a command ends with."""
    assert run(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("tyche: ")
    return printed.err.removeprefix("tyche: ").rstrip("\n")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("words", "message"), TYPICAL, ids=lambda value: value if isinstance(value, str) else "")
def test_a_typical_mistake_ends_in_one_line_that_says_what_to_do(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refusal(words, capsys) == message


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("words", "message"), OTHERS, ids=lambda value: value if isinstance(value, str) else "")
def test_so_do_others(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(words, capsys).startswith(message)


# -- what Python code is told ------------------------------------------------------------------------------------------


def counts(values: Any) -> Counts:
    unknown = np.full(1, np.nan)
    one = ("f",)
    return Counts(one, one, one, one, values, 0, unknown, unknown, np.ones(1, np.int64), "a test", "none")


def in_a_file(folder: Path, text: str, name: str = "mine.py") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def run_folder(folder: Path, name: str, scenario: str = "small") -> RunFolder:
    return RunFolder.open(folder / name, {"scenario": scenario, "split": "test"}, "", "a test")


def torn_rows(folder: Path) -> None:
    made = run_folder(folder, "run")
    (made.path / "rows.jsonl").write_text("{}\n{,\n", encoding="utf-8")
    made.rows()


def torn_manifest(folder: Path) -> None:
    made = run_folder(folder, "run")
    (made.path / "manifest.json").write_text("{\n,", encoding="utf-8")
    _ = made.manifest


def damaged_weights(folder: Path) -> None:
    (folder / CARD).write_bytes((SHIPPED / "learned" / CARD).read_bytes())
    in_a_file(folder, "no weights", "weights.safetensors")
    load_bundle(folder)


def too_many_containers(_: Path) -> None:
    simulate(Scenario.load("small").with_(**{"cluster.nodes": [{"memory_mb": 10**9}]}).world(kernel="lru"))


def too_large_a_container(_: Path) -> None:
    world = Scenario.load("small").with_(**{"cluster.nodes": [{"memory_mb": 10**7}]}).world(kernel="lru")
    world.functions.container_mb[:] = 5 * 10**6
    simulate(world)


OWN_FUNCTION = """from real_backend.functions.own import OwnFunction
FUNCTIONS = {"mine": OwnFunction(["no_such_module"], dict, max, hold_mb=60, peak_mb=80)}
"""
MAPPING = ColumnMap(time="t", function="f")


def without_rows(folder: Path) -> Path:
    path = folder / "empty.parquet"
    pq.write_table(pa.table({"t": pa.array([], pa.int64()), "f": pa.array([], pa.string())}), path)
    return path


def nothing_finished(folder: Path) -> None:
    made = run_folder(folder, "run")
    made.write_json("summary.json", {"rows": []})
    _ = made.summary


IN_PYTHON: list[tuple[Callable[[Path], object], type[Exception], str]] = [
    (
        lambda folder: load(in_a_file(folder, "class Policy:\n    def __init__(self, size): ...\n")),
        UserCodeError,
        "mine.py: TypeError: Policy.__init__() missing 1 required positional argument: 'size'",
    ),
    (
        lambda folder: find("prewarm", str(in_a_file(folder, "prewarm = 3\n")), PrewarmPolicy),
        ExtensionError,
        "mine.py: is a int, expected a PrewarmPolicy",
    ),
    (lambda folder: load_cluster(in_a_file(folder, "nodes: []")), ScenarioError, "nodes: Tuple should have at least 1"),
    (lambda folder: load_cluster(in_a_file(folder, "[]")), ScenarioError, "nodes: Tuple should have at least 1"),
    (torn_rows, RunError, "rows.jsonl, line 2: is no JSON (Expecting property name enclosed in double quotes)"),
    (nothing_finished, RunError, "summary.json: no run has been finished; `tyche evaluate ... --out "),
    (torn_manifest, RunError, "manifest.json, line 2: is no JSON (Expecting property name enclosed in double quotes)"),
    (
        lambda folder: compare_runs(run_folder(folder, "one"), run_folder(folder, "other", "azure-day")),
        RunError,
        "other: its scenario is azure-day, that of ",
    ),
    (lambda folder: load_recipe(in_a_file(folder, "kind: [")), RecipeError, "mine.py: is no YAML ("),
    (damaged_weights, BundleError, "bundle "),
    (
        lambda folder: measure_agents([SHIPPED / "learned"], [], folder, against="lerned"),
        ValueError,
        "--against: lerned is none of learned",
    ),
    (
        lambda _: PreloadVectorEnv(2, "small").step(np.zeros((2, 3, 2), np.float32)),
        ValueError,
        "actions: need shape (2, ",
    ),
    (
        lambda folder: memory_mb(str(in_a_file(folder, OWN_FUNCTION))),
        FunctionError,
        "function mine: cannot be measured (ModuleNotFoundError: No module named 'no_such_module')",
    ),
    (
        lambda folder: load_functions(str(in_a_file(folder, "FUNCTIONS = {'two words': 3}"))),
        FunctionError,
        "function 'two words': a name has letters, digits, '_', '-' and '.'",
    ),
    (
        lambda _: Scenario.load("small").world().with_settings(routing=99).validate(),
        WorldError,
        "settings: routing has no meaning 99",
    ),
    (too_many_containers, WorldError, " may live at once, the event key can name "),
    (too_large_a_container, WorldError, "container_mb: 5000000 is more than the 4194303 MB that can be told apart"),
    (
        lambda _: counts(np.zeros(3, np.uint32)),
        TraceError,
        "counts has 1 dimension(s), expected functions x minutes",
    ),
    (lambda folder: traces.load(folder), TraceError, "is a folder, expected a file"),
    (lambda folder: traces.read_parquet(folder), TraceError, "is a folder, expected a file"),
    (lambda folder: traces.read_mapped(without_rows(folder), MAPPING), TraceError, "the file has no rows"),
    (
        lambda folder: traces.load(in_a_file(folder, "x" * 200_000, "a.csv"), MAPPING),
        TraceError,
        "row 1: the header is not readable as CSV (field larger than field limit (131072))",
    ),
    (
        lambda folder: traces.load(in_a_file(folder, f"t,f\n{'x' * 200_000}\n", "a.csv"), MAPPING),
        TraceError,
        "row 2: not readable as CSV (field larger than field limit (131072))",
    ),
    (
        lambda _: plan_windows([0], 10**9, {"test": Split(functions=(0, 1), time=(0, 1))}, 9, 10**8, 0, seed=0),
        TraceError,
        "split 'test': has 1 functions, not enough for a group of 9 nor half of one; widen its functions or lower",
    ),
    (
        lambda _: plan_windows([0], 10**9, {"test": Split(functions=(0, 1), time=(0, 1))}, 1, 10**10, 0, seed=0),
        TraceError,
        "split 'test': has no room for a warm-up of 0 min and a window of 166.7 min in its 16.67 min of a trace of "
        "16.67 min; widen its time or shorten the window",
    ),
]
"""Code that goes wrong in an empty folder, and what the error says, or part of it."""


@pytest.mark.parametrize(("attempt", "error", "message"), IN_PYTHON, ids=[message for _, _, message in IN_PYTHON])
def test_code_is_told_as_well(
    attempt: Callable[[Path], object], error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error) as caught:
        attempt(tmp_path)
    assert message in str(caught.value)


def no_text(folder: Path) -> Path:
    path = folder / "a.csv"
    path.write_bytes(b"t,f\n1,\xff\xfe\n")
    return path


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"a\.csv, row 2: is no text in UTF-8, expected one \(iconv -f latin1"):
        traces.load(no_text(tmp_path), MAPPING)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("math:pi", "trace format mine: math:pi needs the methods recognises and read"),
        ("math:nothing", "trace format mine: math:nothing: AttributeError: "),
    ],
)
def test_a_package_whose_trace_format_is_none_is_named(
    monkeypatch: pytest.MonkeyPatch, value: str, message: str
) -> None:
    point = EntryPoint("mine", value, "traces.formats")
    monkeypatch.setattr("traces.formats.entry_points", lambda **_: EntryPoints([point]))
    with pytest.raises(UserError, match=message):
        formats()


def test_a_package_whose_predictor_is_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    points = EntryPoints([EntryPoint("mine", "math:pi", "tyche_env.predictors")])
    monkeypatch.setattr("tyche_env.extensions.entry_points", lambda **chosen: points.select(**chosen))
    with pytest.raises(PolicyError, match=r"mine: a predictor is a function \(counts, past\) -> rates, got float"):
        load("mine")


def test_the_worker_refuses_users_for_forks_of_a_zygote(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--functions", "real_backend.functions.toy", "--user-base", "1000", "--start", "zygote"]
    assert worker(words) == 2
    assert "--user-base: needs root, and does not go with --start zygote" in capsys.readouterr().err


# -- completeness ------------------------------------------------------------------------------------------------------

_ROOTS = {"UserError", "TraceError", "ClickException", "FunctionError"}
_WINDOW, _SHORTEST = 14, 8
_HARD_TO_REACH = (
    "resources share work, the event key can name",  # sixty thousand nodes
    ": an object was expected",  # a server that answers otherwise than OpenWhisk
    "a platform runs already (process ",  # two at once, between one look and the next
    " devices, the world has ",  # as many GPUs as a world has
)


def trees(*folders: str) -> Iterator[tuple[Path, ast.Module]]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path, ast.parse(path.read_text(encoding="utf-8"))


def texts(node: ast.AST) -> list[str]:
    """The constant parts of all texts in a piece of code."""
    found = (each.value for each in ast.walk(node) if isinstance(each, ast.Constant))
    return [value for value in found if isinstance(value, str) and len(value) >= _SHORTEST]


def named(node: ast.expr) -> str:
    """The last part of a name: Error for ``errors.Error`` and for ``Error.at``."""
    if isinstance(node, ast.Attribute):
        return named(node.value) if node.attr == "at" else node.attr
    return node.id if isinstance(node, ast.Name) else ""


def user_errors(modules: list[tuple[Path, ast.Module]]) -> set[str]:
    """Names of the classes of errors that are the user's to mend."""
    bases = {
        node.name: {named(base) for base in node.bases}
        for _, tree in modules
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    found = {*_ROOTS, "UsageError", "BadParameter"}
    while more := {name for name, above in bases.items() if above & found} - found:
        found |= more
    return found


def messages() -> Iterator[tuple[str, list[str]]]:
    """Place and constant texts of every such error that our code raises with a text of its own."""
    modules = list(trees("agents", "real_backend", "traces", "tyche_env"))
    errors = user_errors(modules)
    for path, tree in modules:
        for node in ast.walk(tree):
            if not isinstance(node, ast.Raise) or not isinstance(node.exc, ast.Call):
                continue
            if named(node.exc.func) in errors and (found := texts(node.exc)):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", found


def test_every_message_is_quoted_by_some_test() -> None:
    quoted = "\n".join(text for _, tree in trees("tests") for text in texts(tree)).replace("\\", "")

    def is_quoted(text: str) -> bool:
        windows = (text[at : at + _WINDOW] for at in range(max(1, len(text) - _WINDOW + 1)))
        return any(window in quoted for window in windows)

    missing = [f"{place}: {found}" for place, found in messages() if not any(map(is_quoted, found))]
    assert len(list(messages())) > 200
    assert not missing, "no test quotes these messages:\n" + "\n".join(missing)
