"""``make gpu`` on a make-believe NVML, with functions that only pretend to use a GPU, and the tables made from it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.real_backend.worlds import TOYS
from tests.test_docs import script
from tyche_env.errors import UserError
from tyche_env.profiles import load_catalogue

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_check.py"
gpu_check = script(SCRIPT)


def run_with(stub_folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LD_LIBRARY_PATH": str(stub_folder)}
    return subprocess.run(
        [sys.executable, SCRIPT, *words], env=environment, capture_output=True, text=True, timeout=280, check=False
    )


@pytest.mark.slow
def test_all_parts_are_written_and_a_function_that_fails_is_named(stub_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "gpu"
    words = ["--functions", TOYS, "--name", "toy-gpu", "--name", "toy", "--container-mb", "300", "--out", str(out)]
    done = run_with(stub_folder, *words)
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1] == "toy: load: toy: declares no GPU memory, so gpu must be false"
    about, (moved, failed), replays = (json.loads((out / f"{name}.json").read_text()) for name in PARTS)
    assert about["gpu"] == {"name": "stub", "total_mb": 24000, "stub": True}
    assert 30 <= moved["transfer_ms"] < 200  # the toy's move takes 30 ms
    assert moved["back_ms"] >= 30
    assert moved["start_types"] == ["gpu"] * gpu_check.INFERENCES
    assert moved["declared_gpu_mb"] == 100
    assert "declares no GPU memory" in failed["error"]
    (profile,) = load_catalogue(out / "profiles.csv")
    assert (profile.name, profile.gpu_mb) == ("toy-gpu", 100)
    assert profile.transfer_ms >= 30
    assert [row["gpu_tier"] for row in replays] == [True, False]
    assert all(row["health"]["statuses"] == {"OK": row["requests"]} for row in replays)
    with pytest.raises(UserError, match="make-believe GPU, which no page shows"):
        gpu_check.page(out)


PARTS = ("machine", "stages", "replay")


def test_without_a_gpu_the_reason_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main(["--gpu", "GPU-nowhere", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("gpu_check: GPU GPU-nowhere: not found; ")
    assert not list(tmp_path.iterdir())


def test_the_page_shows_the_parts_by_their_names(tmp_path: Path) -> None:
    about = {
        "date": "2026-01-02",
        "machine": "16 x a processor",
        "driver": "1.2",
        "python": "3.12.3",
        "torch": "2.11.0",
        "gpu": {"name": "a GPU", "total_mb": 1, "stub": False},
    }
    times: dict[str, Any] = {
        "transfer_ms": 11,
        "inference_ms": 22,
        "gpu_first_inference_ms": 33,
        "gpu_inference_ms": 44,
        "back_ms": 55,
        "offload_ms": 66,
        "nvml_inference_mb": 777,
        "torch_reserved_mb": 88,
        "declared_gpu_mb": 99,
        "nvml_offloaded_mb": 1,
        "nvml_transfer_mb": 500,
        "function": "net",
        "error": "",
    }
    replays = [
        {"gpu_tier": True, "requests": 17, "warming_loading_ms_mean": 12, "end_to_end_ms_mean": 34},
        {"gpu_tier": False, "requests": 17, "warming_loading_ms_mean": 56, "end_to_end_ms_mean": 78},
    ]
    parts = (about, [times, {"function": "other", "error": "no memory"}], replays)
    for name, part in zip(PARTS, parts, strict=True):
        (tmp_path / f"{name}.json").write_text(json.dumps(part))
    lines = gpu_check.page(tmp_path).splitlines()
    assert lines[0].startswith("2026-01-02, a GPU, driver 1.2, torch 2.11.0, Python 3.12.3, 16 x a processor.")
    head, row = ([cell.strip() for cell in lines[place].strip("|").split("|")] for place in (2, 4))
    assert dict(zip(head, row, strict=True)) == {
        "function": "net",
        "transfer": "11",
        "inference, CPU": "22",
        "first on the GPU": "33",
        "then": "44",
        "back": "55",
        "off-load": "66",
        "memory, NVML": "777",
        "of it torch's": "88",
        "declared": "99",
        "left afterwards": "1",
    }
    assert lines[5].startswith("| other | failed: no memory |")
    assert lines[-2:] == ["| with the GPU tier | 17 | 12 | 34 |", "| without | 17 | 56 | 78 |"]
    (tmp_path / "stages.json").unlink()
    with pytest.raises(UserError, match=r"has no stages\.json"):
        gpu_check.page(tmp_path)


class FakeWorker:
    """A client whose calls take half a second but for two, and whose stages differ from call to call."""

    def __init__(self, argmax_on_gpu: int) -> None:
        self.now_s = 100.0
        self.calls: list[tuple[Any, ...]] = []
        self._answers: list[dict[str, Any]] = [
            {"residents": []},
            {"stages_ms": {"library": 1600, "model": 300, "transfer": 1}},
            {"stages_ms": {"library": 2, "model": 3, "inference": 77}, "answer": {"argmax": 5}},
            {"stages_ms": {"library": 4, "model": 5, "transfer": 66}},
            {
                "stages_ms": {"transfer": 6, "inference": 900},
                "start_type": "gpu-1",
                "answer": {"argmax": argmax_on_gpu},
            },
            # without the first the median is 7; of all ten it would be 7.5, without the last 8
            *(
                {"stages_ms": {"inference": ms}, "start_type": f"gpu-{ms}", "answer": {"argmax": 9}}
                for ms in (5, 7, 20, 6, 9, 8, 40, 4, 1)
            ),
            {
                "residents": [
                    {"function": "other", "torch_reserved_mb": 111, "memory_mb": 222},
                    {"function": "net", "torch_reserved_mb": 640, "memory_mb": 333},
                ]
            },
            {"stages_ms": {"transfer": 8}},
            {"stages_ms": {}},
        ]

    async def invoke(self, action: str, parameters: dict[str, Any], timeout_s: float) -> SimpleNamespace:
        assert action == "a"
        call = len(self.calls)
        self.calls.append((parameters["op"], parameters.get("gpu")))
        self.now_s += {15: 0.25, 16: 0.125}.get(call, 0.5)
        return SimpleNamespace(response=SimpleNamespace(result={"ok": True, **self._answers[call]}))


@pytest.mark.parametrize("argmax_on_gpu", [5, 6])
def test_each_stage_is_of_its_own_call_and_each_memory_of_its_own_moment(
    monkeypatch: pytest.MonkeyPatch, argmax_on_gpu: int
) -> None:
    client = FakeWorker(argmax_on_gpu)
    clock = SimpleNamespace(perf_counter=lambda: client.now_s, monotonic=lambda: client.now_s)
    monkeypatch.setattr(gpu_check, "time", clock)
    monkeypatch.setattr(gpu_check, "_POLL_S", 0.0)
    # before, moved, warm; then twice until the driver shows what was given back
    used_mb = iter([1000.0, 1700.0, 1950.0, 1950.0, 1650.0, 1650.0, 1000.5])
    row = asyncio.run(gpu_check.stages_of(client, "a", "net", lambda: next(used_mb)))
    assert row == {
        "library_ms": 1600,
        "model_ms": 300,
        "transfer_ms": 66,
        "inference_ms": 77,
        "gpu_first_inference_ms": 900,
        "gpu_inference_ms": 7,
        "back_ms": 250,
        "offload_ms": 125,
        "start_types": [f"gpu-{each}" for each in (1, 5, 7, 20, 6, 9, 8, 40, 4, 1)],
        "same_answer": argmax_on_gpu == 5,
        "nvml_transfer_mb": 700,
        "nvml_inference_mb": 950,
        "nvml_back_mb": 650,
        "nvml_offloaded_mb": 0.5,
        "torch_reserved_mb": 640,
    }
    assert next(used_mb, None) is None
    assert client.calls == [
        ("status", None),
        *(("load", False), ("infer", False), ("load", True)),
        *[("infer", True)] * 10,
        *(("status", None), ("load", False), ("offload", None)),
    ]
