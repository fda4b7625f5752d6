"""Code of a user's own that goes wrong ends in one line with its file and line, wherever it runs; the lines are known.

Every file here fails in a line that the test names.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import agents
from agents.evidence.plan import Plan, policy_hash
from agents.playing.spread import ALONE, Spread
from agents.policies.bundle import SHIPPED
from agents.policies.policy import PredictorPolicy
from real_backend.functions.own import memory_mb
from real_backend.functions.protocol import FunctionError
from real_backend.worker.child import serve
from traces.blame import UserCodeError
from tyche_env.cli import run
from tyche_env.control import hooks
from tyche_env.rules import RowKernel
from tyche_env.scenario import Scenario
from tyche_env.spaces import table
from tyche_env.world import World

FILES = {
    "predicts.py": """import numpy as np
from tyche_env.spaces import table
class Policy:
    def predict(self, observation, state):
        calls = 0 if state is None else state + 1
        if calls == 3:
            return {}["foo"]
        return np.zeros((len(table(observation, "functions")), 2)), calls
""",
    "odd.py": "class Policy:\n    def predict(self, observation):\n        return [[1, 2], [3]]\n",
    "keeps.py": """from tyche_env.rules import PrewarmPolicy

def keep(st, function):
    if function == 1:
        raise KeyError("foo")
    return 5_000_000

prewarm = PrewarmPolicy(keep)
""",
    "routes.py": """from tyche_env.rules import RoutingRule

def route(st, function):
    assert function != 1, "no"
    return 0

routing = RoutingRule(route)
""",
    "unknown.py": """from tyche_env.rules import HOLD, NEVER, RowKernel

def steady(st, function):
    age = st.cluster[0].now_us
    return HOLD, undefined, NEVER

policy = RowKernel(steady)
""",
    "rewards.py": "def reward(step):\n    return 1.0 / step.counters['nothing']\n",
    "nothing.py": "def reward(step):\n    pass\n",
    "loads.py": """from real_backend import OwnFunction

def load():
    return {}["foo"]

def infer(model, payload):
    return {}["bar"]

FUNCTIONS = {
    "bad": OwnFunction(["json"], load, infer, hold_mb=60, peak_mb=80),
    "worse": OwnFunction(["json"], dict, infer, hold_mb=60, peak_mb=80),
}
""",
    "torn.py": "x = 1\ndef f(:\n",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture(scope="module")
def world() -> World:
    return Scenario.load("small").world()


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert run(words) == 2
    return capsys.readouterr().err


COMMANDS = [
    (["--policy", "predicts.py"], "policy predicts.py, line 7: KeyError: 'foo'"),
    (["--policy", "torn.py"], "policy torn.py, line 2: SyntaxError: invalid syntax"),
    (
        ["--policy", "unknown.py"],
        "rule steady, unknown.py, line 3: cannot be compiled (NameError: name 'undefined'",
    ),
]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("words", "line"), COMMANDS, ids=[line for _, line in COMMANDS])
def test_a_command_ends_in_one_line(words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = said(["simulate", "--scenario", "small", *words], capsys).splitlines()
    assert len(found) == 1
    assert found[0].startswith(f"tyche: {line}")


@pytest.mark.usefixtures("folder")
def test_an_action_that_is_none_is_told_by_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    found = said(["simulate", "--scenario", "small", "--policy", "odd.py"], capsys)
    assert found.startswith("tyche: policy odd.py: action: is no array of numbers (")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("place", ["before", "behind"])
def test_debug_shows_the_whole_traceback(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["simulate", "--scenario", "small", "--policy", "predicts.py"]
    found = said(["--debug", *words] if place == "before" else [*words, "--debug"], capsys).splitlines()
    assert found[0] == "Traceback (most recent call last):"
    assert any('predicts.py", line 7, in predict' in line for line in found)
    assert any("agents/playing/play.py" in line for line in found)
    assert found[-1] == "tyche: policy predicts.py, line 7: KeyError: 'foo'"


def test_the_programs_that_stand_alone_do_as_tyche_does(tmp_path: Path) -> None:
    for words in (["agents.train", "nowhere.yaml"], ["agents.evaluate", "nowhere", "--out", str(tmp_path)]):
        for more in ([], ["--debug"]):
            done = subprocess.run([sys.executable, "-m", *words, *more], capture_output=True, text=True)
            assert done.returncode == 2
            assert done.stderr.splitlines()[-1].startswith("tyche: ")
            assert ("Traceback" in done.stderr) == bool(more)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"prewarm.policy": "keeps.py"}, "rule keep, keeps.py, line 5: KeyError: 'foo'"),
        ({"routing": "routes.py"}, "rule route, routes.py, line 4: AssertionError: no"),
    ],
    ids=["pre-warming", "routing"],
)
def test_what_a_compiled_rule_raises_is_not_lost(
    folder: Path, changes: dict[str, Any], line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    own = Scenario.load("small").with_(**changes).world()
    with pytest.raises(hooks.RuleError) as caught:
        agents.play(own, "none")
    assert str(caught.value) == line
    assert "Exception ignored" not in capfd.readouterr().err
    agents.play(Scenario.load("small").world(), "none")  # what another world's rule raised is forgotten


def test_an_error_of_a_rule_without_a_traceback_is_said_as_well() -> None:
    hooks._note(SimpleNamespace(object="<numba.core.cpu.CPUContext>", exc_value=ValueError("no")))
    hooks._note(SimpleNamespace(object="<numba.core.cpu.CPUContext>", exc_value=ValueError("a second one")))
    with pytest.raises(hooks.RuleError, match=r"^a rule of your own: ValueError: no$"):
        hooks.check_rules()
    hooks.check_rules()


@pytest.mark.parametrize(
    ("term", "line"),
    [
        ("rewards.py", "reward rewards.py, line 2: KeyError: 'nothing'"),
        ("nothing.py", "reward nothing.py: TypeError: float() argument must be a string or a real number, not "),
    ],
)
@pytest.mark.usefixtures("folder")
def test_a_reward_of_ones_own_is_named(term: str, line: str) -> None:
    env: Any = gym.make("tyche/Preload-v1", scenario=Scenario.load("small").with_(**{"reward.terms": [term]}))
    env.reset(seed=0)
    with pytest.raises(UserCodeError) as caught:
        env.step(np.zeros(env.action_space.shape, np.float32))
    assert str(caught.value).startswith(line)


def fails(counts: Any, past: int) -> Any:
    return counts[past:] / counts["foo"]


def test_a_predictor_of_ones_own_is_named(world: World) -> None:
    from agents.policies.forecasts import forecaster
    from agents.policies.history import history_within

    history = history_within(world)
    with pytest.raises(UserCodeError, match=r"^policy mine, .*test_user_code\.py, line \d+: IndexError"):
        forecaster("mine", fails).prepare(history)
    with pytest.raises(ValueError, match=r"mine: its predictor must return \d+ rates, one a minute, got shape \(3,\)"):
        forecaster("mine", lambda counts, past: np.zeros(3)).prepare(history)


@pytest.mark.usefixtures("folder")
def test_functions_of_containers_are_named() -> None:
    with pytest.raises(FunctionError, match=r"function bad: cannot be measured \(loads\.py, line 4: KeyError: 'foo'\)"):
        memory_mb("loads.py")
    with pytest.raises(FunctionError, match=r"cannot be imported \(torn\.py, line 2: SyntaxError: invalid syntax\)"):
        memory_mb("torn.py")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bad", "its model cannot be loaded: loads.py, line 4: KeyError: 'foo'"),
        ("worse", "it raised: loads.py, line 7: KeyError: 'bar'"),
    ],
)
def test_the_process_of_a_function_names_the_line(name: str, said: str) -> None:
    ours, theirs = socket.socketpair()
    served = threading.Thread(target=serve, args=(theirs, "loads.py", name, 0), daemon=True)
    served.start()
    with ours, theirs, ours.makefile("rw", encoding="utf-8") as lines:
        answers: list[dict[str, Any]] = []
        for question in ('{"op": "load", "gpu": false}', '{"op": "infer", "payload": {}}'):
            lines.write(f"{question}\n")
            lines.flush()
            answers.append(next(each for each in map(json.loads, lines) if "stage" not in each))
            if "error" in answers[-1]:
                break
        ours.shutdown(socket.SHUT_RDWR)
        served.join(timeout=10)
    assert answers[-1]["error"]["message"] == said


def test_the_line_comes_back_from_other_processes(folder: Path) -> None:
    plan = Plan(Scenario.load("small"), ("none", "predicts.py"), windows=2, record="none")
    with pytest.raises(UserCodeError) as caught:
        agents.evaluate(plan, folder / "run", spread=Spread(2))
    assert str(caught.value) == "policy predicts.py, line 7: KeyError: 'foo'"
    assert 'predicts.py", line 7, in predict' in str(caught.value.__cause__)  # for --debug


# -- objects -----------------------------------------------------------------------------------------------------------


class Holds:
    """Holds everything, and knows nothing but the observation."""

    def predict(self, observation: Any) -> Any:
        return np.full((len(table(observation, "functions")), 2), 0.5, np.float32)


HOLDS = """import numpy as np
from tyche_env.spaces import table

class Policy:
    def predict(self, observation):
        return np.full((len(table(observation, "functions")), 2), 0.5, np.float32)
"""


def test_objects_classes_and_factories_play_like_the_file(tmp_path: Path, world: World) -> None:
    path = tmp_path / "holds.py"
    path.write_text(HOLDS, encoding="utf-8")
    logs: list[Any] = [agents.play(world, source).log for source in (path, str(path), Holds(), Holds, lambda: Holds())]
    assert all(log is not None and np.array_equal(log, logs[0]) for log in logs)
    none = agents.play(world, "none").log
    assert none is not None
    assert not np.array_equal(none, logs[0])


def test_an_object_is_called_by_its_class_and_one_of_ours_is_returned() -> None:
    assert [agents.load(source).name for source in (Holds(), Holds, lambda: Holds())] == ["Holds", "Holds", "policy"]
    for policy in (agents.load("tyche"), agents.load("learned"), agents.wrap(Holds(), "mine")):
        assert agents.load(policy) is policy
    kernel = RowKernel(lambda st, function: (0, 0, -1))
    assert agents.load(kernel).name == "RowKernel"
    assert agents.load(SHIPPED / "learned").name == str(SHIPPED / "learned")


@pytest.mark.parametrize("source", [3, None, object()], ids=["number", "nothing", "object"])
def test_what_cannot_predict_is_refused(source: object) -> None:
    with pytest.raises(agents.PolicyError, match=r"^policy .* has no method predict\(observation, ...\)$"):
        agents.load(source)


def test_a_class_that_fails_is_named() -> None:
    with pytest.raises(UserCodeError, match=r"^policy Needs: TypeError: .* missing 1 required"):
        agents.load(type("Needs", (), {"__init__": lambda self, size: None, "predict": Holds.predict}))


def test_a_model_of_stable_baselines3_is_a_policy(world: World) -> None:
    from stable_baselines3 import PPO

    env = gym.make("tyche/Preload-v1", scenario="small")
    model = PPO("MultiInputPolicy", env, n_steps=8, batch_size=8, device="cpu")
    policy = agents.load(model)
    assert isinstance(policy, PredictorPolicy)
    assert policy.name == "PPO"
    assert agents.play(world, model).log is not None


def test_objects_are_evaluated_and_taken_up_again(tmp_path: Path) -> None:
    plan = Plan(Scenario.load("small"), ("none", Holds(), agents.wrap(Holds(), "again")), windows=1)
    first = agents.evaluate(plan, tmp_path / "run", spread=Spread(2))
    loads = {row["policy"]: row["loads"] for row in first.rows}
    assert loads["Holds"] == loads["again"] > loads["none"] == 0
    assert agents.evaluate(plan, tmp_path / "run", spread=ALONE).rows == first.rows
    assert policy_hash(Holds()) == policy_hash(Holds())
    assert policy_hash(agents.load("tyche")) == "built-in"


def test_an_object_that_cannot_be_sent_runs_here_and_is_like_no_other() -> None:
    class Local(Holds):
        pass

    assert Plan(Scenario.load("small"), (Local(),)).stays_here
    assert not Plan(Scenario.load("small"), ("none", Holds())).stays_here
    assert policy_hash(Local()) != policy_hash(Local())


# -- Ctrl-C ------------------------------------------------------------------------------------------------------------

STARTS = """
import sys, time
from agents.playing.processes import Processes
from pathlib import Path

class Run:
    key = world_key = (1,)

if __name__ == "__main__":
    with Processes(2, Path(sys.argv[1])) as processes:
        from agents.playing.processes import _interrupts_wait
        with _interrupts_wait():
            future = processes.pool.submit(time.sleep, 60)
        try:
            print("started", flush=True)
            future.result()
        except KeyboardInterrupt:
            print("stopped", flush=True)
"""


@pytest.mark.parametrize("after_s", [0.0, 0.05, 0.2])
def test_ctrl_c_while_processes_start_shows_no_traceback(tmp_path: Path, after_s: float) -> None:
    script = tmp_path / "starts.py"
    script.write_text(STARTS, encoding="utf-8")
    words = [sys.executable, str(script), str(tmp_path)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    time.sleep(after_s)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert out == "stopped\n"
    assert "Traceback" not in err
