"""The page on public traces works as it stands: its commands read files in their published form, defects included."""

from __future__ import annotations

import gzip
import json
import pickle
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from agents.cli.evaluate import _fitting
from tests.test_docs import blocks, shell_lines, slug
from tests.traces import published
from traces.formats import BUILT_IN
from traces.options import Reading
from traces.repairs import BadRows
from tyche_env.cli import run

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "traces.md").read_text(encoding="utf-8")
LINES = [words for words in shell_lines(PAGE) if words[0] == "tyche"]
EVALUATE = [words for words in LINES if words[1] == "evaluate" and "--trace" in words]
SECONDS = np.random.default_rng(0).permutation(3600).astype(float)
"""An hour: a scenario needs twelve minutes."""


def lengthened(content: bytes, row: Callable[[int, float], str], header: bool = True) -> bytes:
    """A published file with a row for each second of an hour after its own."""
    text = content.decode().rstrip("\r\n") + "\n"
    return (text + "".join(f"{row(number, second)}\n" for number, second in enumerate(SECONDS))).encode()


def iso(day: str, second: float, zone: str = "") -> str:
    return f"{np.datetime64(day, 'ms') + np.timedelta64(int(second * 1000), 'ms')}".replace("T", " ") + zone


def files() -> Iterator[tuple[str, bytes]]:
    """Everything that the page's commands name."""
    minutes = ",".join(map(str, range(1, 1441)))
    rows = "".join(f"o,a,f{f},http,{','.join(['1', '0', str(f)] * 480)}\n" for f in (0, 1, 2, 2))
    yield (
        "invocations_per_function_md.anon.d01.csv",
        f"HashOwner,HashApp,HashFunction,Trigger,{minutes}\n{rows}".encode(),
    )
    yield (
        "function_durations_percentiles.anon.d01.csv",
        b"HashOwner,HashApp,HashFunction,Average,Count\no,a,f0,12,3\no,a,f1,-5,2\n",
    )
    yield "app_memory_percentiles.anon.d01.csv", b"HashOwner,HashApp,SampleCount,AverageAllocatedMb\no,a,3,120\n"
    azure2021 = b"app,func,end_timestamp,duration\na,f,3.5,0.5\nb,f,4.0,0.0\n"
    yield (
        "AzureFunctionsInvocationTraceForTwoWeeksJan2021.txt",
        lengthened(azure2021, lambda n, second: f"a,g{n % 3},{second + 10},0.25"),
    )
    lmm = lengthened(published.AZURE_LMM_2025, lambda n, s: f"{iso('2024-10-15T12', s, 'Z')},{n % 3},100,7")
    yield "AzureLMMInferenceTrace_multimodal.csv.gz", gzip.compress(lmm)
    gentd26 = (
        b"gmt_create,predict_type,predict_status,exec_time_seconds,checkpoint_model_version_id\n"
        b"2024-11-15 16:57:50,TXT_2_IMG,PENDING,0.0,\n2024-11-15 16:57:52,TXT_2_IMG,PROCESSING,0.0,M1\n"
    )
    yield (
        "lora_request_trace.csv",
        lengthened(gentd26, lambda n, s: f"{iso('2024-11-15', s)[:19]},TXT_2_IMG,SUCCEED,28.0,M{n % 2}"),
    )
    yield "BurstGPT_1.csv", lengthened(published.BURSTGPT, lambda n, s: f"{s:g},GPT-4,100,{n % 9},0,API log")
    yield (
        "conversation_trace.jsonl",
        lengthened(
            published.MOONCAKE,
            lambda n, s: json.dumps(
                {"timestamp": int(s) * 1000, "input_length": 9, "output_length": 3, "hash_ids": [n]}
            ),
        ),
    )
    yield (
        "trace.jsonl",
        lengthened(
            published.SWISSAI,
            lambda n, s: json.dumps(
                {
                    "status": "DEFAULT",
                    "created_at": iso("2024-07-17T14", s),
                    "finished_at": iso("2024-07-17T14", s + 2),
                    "model": f"m{n % 3}",
                    "reported_token_output": -1,
                }
            ),
        ),
    )
    yield (
        "R5_00000.csv",
        lengthened(
            published.HUAWEI_REQUESTS,
            lambda n, s: (
                f"{2_592_101 + s},{2_592_101 + s + 0.002},r{n},1,7,pool22-300-128-{n % 4:010},5,"
                "0.1,0,0.1,0.102,0,0,0,0,0,9,9"
            ),
        ),
    )
    yield "day_30.csv", published.HUAWEI_COLD_STARTS
    day = "".join(f"0,{60 * minute},{minute % 3},1,2\n" for minute in range(4, 60))
    yield "day_000.csv", published.HUAWEI_2023 + day.encode()


def chutes() -> pa.Table:
    """The whole file: a day of it, of which the page takes six hours."""
    table = pq.read_table(pa.BufferReader(published.chutes()))
    seconds = SECONDS * 24
    more = {
        "chute_id": [f"m{second % 2:g}" for second in SECONDS],
        "function_name": ["chat"] * len(seconds),
        "instance_id": ["x"] * len(seconds),
        "started_at": pa.array((seconds * 1e6).astype(np.int64), pa.timestamp("us")),
        "completed_at": pa.array((seconds * 1e6 + 9e5).astype(np.int64), pa.timestamp("us")),
    }
    columns = {
        name: more.get(name, pa.nulls(len(seconds), table.schema.field(name).type)) for name in table.column_names
    }
    return pa.concat_tables([table, pa.table(columns, schema=table.schema)])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, content in files():
        (tmp_path / name).write_bytes(content)
    pq.write_table(chutes(), tmp_path / "chutes_trace.parquet")
    week = {
        "NamespaceHash": ["n", "n", "n"],
        "AppHash": ["a", "b", "none"],
        "NumEvents": [2, 3600, 0],
        "InvocationTimes": [[0.5, 9.0], SECONDS.tolist(), []],
        "AppExecTimes": [[120.0, 80.0], [50.0] * 3600, []],
        "PodHash": [["p", "p"], ["q"] * 3600, []],
    }
    (tmp_path / "week_1.pickle").write_bytes(pickle.dumps(pd.DataFrame(week)))
    for code in blocks(PAGE, "python"):
        exec(compile(code, "docs/traces.md", "exec"), {})
    return tmp_path


def test_a_section_stands_for_each_family_and_has_commands() -> None:
    sections = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
    del sections["Tokens"], sections["Production as a witness"]
    for title, body in sections.items():
        assert f"](#{slug(title)})" in PAGE, title
        assert "**Cite**" in body, title
        assert "**Licence**" in body, title
        assert "**Get**" in body or "**Refused**" in body, title
        assert any(words[:2] == ["tyche", "evaluate"] for words in shell_lines(body)), title
    # all families but our own form, endpoints as a second view of Chutes, and IBM's in place of them
    assert len(sections) == len(BUILT_IN) - 2 + 1


def test_its_commands_read_what_is_published(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (words for words in LINES if words[1] == "trace"):
        assert run(words[1:]) == 0, shlex.join(words) + capsys.readouterr().err
    printed = capsys.readouterr().out
    for told in (
        "repaired             1 x a function that stands twice in a day's counts",
        "repaired             2 x a request that is PENDING or PROCESSING: left out",
        "noted                1 x a run time of 0",
        "repaired             2 x no record of the frontend",
        "repaired             2 x a cell that is empty: no request",
        "Chutes (Nixon et al., VLDB 2027), chutes.parquet",
        "Mooncake (Qin et al., FAST'25), conversation_trace.jsonl; run time = 50 ms",
        "after a warm-up of 600 s; a cold start takes 500 ms in the simulator",
    ):
        assert told in printed, told
    for words in EVALUATE:
        scenario = _fitting(*options(words[2:]))
        assert len(scenario.world().arrival_us) > 0, shlex.join(words)
        assert not scenario.trace.columns or scenario.trace.durations == "trace"


def options(words: list[str]) -> tuple[Path, Reading]:
    """The file of a command line, and how it is read."""
    pairs = list(zip(words[::2], words[1::2], strict=True))
    given = dict(pairs)
    columns = tuple(value for option, value in pairs if option == "--column")
    bad_rows: BadRows = "repair" if given.get("--bad-rows") == "repair" else "fail"
    return Path(given["--trace"]), Reading(columns, family=given.get("--family"), bad_rows=bad_rows)


@pytest.mark.slow
def test_its_comparisons_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(next(words for words in LINES if words[1:3] == ["trace", "convert"])[1:]) == 0
    for number, words in enumerate(EVALUATE):
        extra = ["--windows", "1", "--policy", "none", "--jobs", "1", "--quiet", "--out", f"runs/{number}"]
        assert run([*words[1:], *extra]) == 0, shlex.join(words) + capsys.readouterr().err
        assert (folder / "runs" / str(number) / "summary.json").exists()
