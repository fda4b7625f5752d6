"""What an invocation may say, and what is said to one that is wrong."""

from __future__ import annotations

import pytest

from real_backend.worker.messages import ActionError, Run, Settings

SLOTS = Settings()


def test_an_invocation_in_slots_mode_names_operation_and_function() -> None:
    params = {"op": "load", "function": "f", "gpu": True, "evict": ["g", "h"], "wait_s": 0.25}
    assert Run.parse(params, SLOTS) == Run("load", "f", gpu=True, evict=("g", "h"), wait_s=0.25)
    assert Run.parse({"op": "status"}, SLOTS) == Run("status")
    assert Run.parse({"op": "infer", "function": "f", "payload": {"a": 1}, "after_run": "discard"}, SLOTS) == Run(
        "infer", "f", payload={"a": 1}, after_run="discard"
    )


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ([], "must be a JSON object"),
        ({"function": "f"}, "op is missing"),
        ({"op": "fly"}, "op must be one of load, offload, infer, status"),
        ({"op": "load"}, "load needs function"),
        ({"op": "load", "function": 3}, "function must be of type str"),
        ({"op": "load", "function": "f", "gpu": "yes"}, "gpu must be of type bool"),
        ({"op": "load", "function": "f", "evict": [1]}, "evict must be a list of names"),
        ({"op": "load", "function": "f", "wait_s": "long"}, "wait_s must be of type float"),
        ({"op": "infer", "function": "f", "payload": []}, "payload must be of type dict"),
        ({"op": "infer", "function": "f", "after_run": "burn"}, "after_run must be one of keep, discard, reload"),
        ({"op": "status", "speed": 1}, "speed is unknown"),
    ],
)
def test_a_wrong_invocation_is_refused_with_the_key_that_is_wrong(params: object, named: str) -> None:
    with pytest.raises(ActionError, match=named) as caught:
        Run.parse(params, SLOTS)
    assert caught.value.code == "bad_request"


def test_in_native_mode_the_parameters_are_the_payload() -> None:
    settings = Settings.parse('{"mode": "native", "function": "f", "after_run": "discard"}')
    assert Run.parse({"op": "whatever"}, settings) == Run("infer", "f", payload={"op": "whatever"}, after_run="discard")


def test_an_action_without_code_is_a_slot() -> None:
    assert Settings.parse("") == SLOTS


@pytest.mark.parametrize(
    ("code", "named"),
    [
        ("def main(args):", "must be a JSON object with settings"),
        ("[]", "must be a JSON object"),
        ('{"mode": "native"}', "native mode needs it"),
        ('{"function": "f"}', "function goes with mode native"),
        ('{"mode": "fast"}', "mode must be one of slots, native"),
        ('{"colour": "red"}', "colour is unknown"),
    ],
)
def test_wrong_settings_are_refused(code: str, named: str) -> None:
    with pytest.raises(ActionError, match=named):
        Settings.parse(code)
