"""What a ``predict`` is given, for each form of signature: every argument that arrives is written down."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.policies.asking import form_of
from agents.policies.loading import load, wrap
from agents.policies.policy import PolicyError, PredictorPolicy

OFFERED = {"state": "S", "episode_start": "E", "deterministic": "D"}


def given(predict: Callable[..., Any]) -> Any:
    """What it answers when it is called as its signature wants."""
    form = form_of(predict)
    assert form is not None
    places, names = form.arguments(OFFERED)
    return predict("O", *places, **names)


def sb3(observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False) -> Any:
    return observation, state, episode_start, deterministic


FORMS: list[tuple[Callable[..., Any], Any]] = [
    (lambda observation: observation, "O"),
    (lambda o: o, "O"),
    (lambda observation, state: (observation, state), ("O", "S")),
    (lambda observation, memory: memory, "S"),
    (lambda observation, hidden=None: hidden, "S"),
    (lambda observation, threshold=0.5: threshold, 0.5),
    (lambda observation, state=None, threshold=0.5: (state, threshold), ("S", 0.5)),
    (lambda observation, deterministic=False: deterministic, "D"),
    (lambda observation, deterministic, state: (deterministic, state), ("D", "S")),
    (lambda observation, deterministic, memory: (deterministic, memory), ("D", "S")),
    (lambda observation, state=None, mask=None, deterministic=False: (state, mask, deterministic), ("S", "E", "D")),
    (lambda observation, _state, _start, _deterministic: (_state, _start, _deterministic), ("S", "E", "D")),
    (lambda observation, s=None, e=None, d=True: (s, e, d), ("S", "E", "D")),
    (lambda observation, state, *, deterministic: (state, deterministic), ("S", "D")),
    (lambda observation, *, state=None, verbose=1: (state, verbose), ("S", 1)),
    (lambda observation, /, state, episode_start: (state, episode_start), ("S", "E")),
    (lambda observation, state, /: state, "S"),
    (lambda observation, *rest: rest, ("S", "E", "D")),
    (lambda *everything: everything, ("O", "S", "E", "D")),
    (lambda observation, **named: named, OFFERED),
    (lambda observation, state, **named: (state, named), ("S", {"episode_start": "E", "deterministic": "D"})),
    (sb3, ("O", "S", "E", "D")),
    (functools.partial(sb3, deterministic=True), ("O", "S", "E", "D")),
    (functools.wraps(sb3)(lambda *args, **kwargs: sb3(*args, **kwargs)), ("O", "S", "E", "D")),
]


@pytest.mark.parametrize(("predict", "expected"), FORMS, ids=range(len(FORMS)))
def test_a_predict_is_given_what_its_signature_takes(predict: Callable[..., Any], expected: Any) -> None:
    assert given(predict) == expected


REFUSED = [
    "def predict(self): return 1",
    "def predict(self, observation, a, b, c, d): return 1",
    "def predict(self, observation, *, needed): return 1",
    "def predict(self, *, observation): return 1",
    "def predict(self, *everything, needed): return 1",
]


@pytest.mark.parametrize("text", REFUSED)
def test_a_signature_that_cannot_be_called_is_refused_when_it_is_loaded(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(f"class Policy:\n    # a comment\n    {text}\n", encoding="utf-8")
    with pytest.raises(PolicyError, match=r"mine\.py, line 3: predict\(.*\) cannot be called; it may take"):
        load(path)


def test_a_coroutine_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("class Policy:\n    async def predict(self, observation): return 1\n", encoding="utf-8")
    with pytest.raises(PolicyError, match=r"line 2: async predict\(observation\) cannot be called"):
        load(path)


class Counting:
    """Counts its calls in the state."""

    def predict(self, observation: Any, state: Any) -> Any:
        after = 1 if state is None else state + 1
        return np.full(2, after), after


def test_the_state_is_carried_from_call_to_call() -> None:
    policy, state = wrap(Counting(), "counting"), None
    for calls in (1, 2, 3):
        action, state = policy.predict({}, state)
        assert (action.tolist(), state) == ([calls, calls], calls)


class Bare:
    def predict(self, observation: Any) -> Any:
        return [[0.5, 0.5]]


def test_an_action_alone_leaves_the_state_as_it_was() -> None:
    assert wrap(Bare(), "bare").predict({}, "state") == ([[0.5, 0.5]], "state")


@pytest.mark.parametrize(
    ("answer", "got"), [(None, "None"), ((None, 1), "None"), ((1, 2, 3), "a tuple of 3"), ((), "a tuple of 0")]
)
def test_what_is_neither_an_action_nor_a_pair_is_refused(answer: Any, got: str) -> None:
    class Odd:
        def predict(self, observation: Any) -> Any:
            return answer

    with pytest.raises(PolicyError, match=rf"policy odd: predict must return an action, .*, got {got}$"):
        wrap(Odd(), "odd").predict({})


def test_the_form_is_decided_once(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = wrap(Counting(), "counting")
    assert isinstance(policy, PredictorPolicy)
    monkeypatch.setattr("agents.policies.policy.form_of", None)  # would fail if it were asked again
    assert policy.predict({}, 4)[1] == 5
