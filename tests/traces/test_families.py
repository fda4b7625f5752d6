"""Public traces as they are published: told by their columns, defects counted; right values are worked by hand."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.traces import published
from traces import ColumnMap, Counts, TokenCost, Trace, TraceError, load, read_parquet
from traces.commands import trace as commands
from traces.formats import BUILT_IN
from tyche_env.own_scenario import own_scenario
from tyche_env.scenario import Scenario, ScenarioError, load_cluster

COST = TokenCost(base_ms=10, prefill_ms_per_token=0.5, decode_ms_per_token=20, ms_per_image=100)


def put(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def read(path: Path, **options: object) -> Trace:
    found = load(path, **options)  # type: ignore[arg-type]
    assert isinstance(found, Trace)
    return found


def seen(trace: Trace) -> list[tuple[int, str, int]]:
    """Arrival, function and run time of each request, in microseconds."""
    functions = [trace.names[function] for function in trace.arrival_function]
    return list(zip(trace.arrival_us.tolist(), functions, trace.duration_us.tolist(), strict=True))


def told(trace: Trace | Counts) -> list[str]:
    return [f"{repair.count} x {repair.rule}" for repair in trace.repairs]


@pytest.mark.parametrize(
    ("content", "source", "expected"),
    [
        (
            published.AZURE_LLM_2023,
            "Azure LLM inference 2023 (Patel et al., ISCA'24)",
            [(0, 10 + 187 + 880), (4_314_579, 10 + 198 + 2180)],
        ),
        (
            published.AZURE_LLM_2024,
            "Azure LLM inference 2024 (Stojkovic et al., HPCA'25)",
            [(0, 10 + 1081 + 100), (990_070, 10 + 1199.5 + 120)],
        ),
        (
            published.AZURE_LMM_2025,
            "Azure LMM inference 2025 (Qiu et al., SoCC'25)",
            [(0, 10 + 500 + 200 + 100), (46_000, 10 + 250 + 400), (947_000, 10 + 20 + 20 + 300)],
        ),
    ],
    ids=["2023", "2024", "2025"],
)
def test_azure_s_sets_of_tokens_are_named_as_what_they_are(
    tmp_path: Path, content: bytes, source: str, expected: list[tuple[int, float]]
) -> None:
    path = put(tmp_path, "a.csv.gz", gzip.compress(content))
    trace = read(path, cost=COST)
    assert seen(trace) == [(time_us, "a", run_ms * 1000) for time_us, run_ms in expected]
    assert trace.metadata.source.startswith(f"{source}, a.csv.gz; run time = 10 ms + 0.5 ms x context tokens")
    assert ("+ 100 ms x images" in trace.metadata.source) == (b"NumImages" in content)
    assert trace.metadata.licence == "CC-BY 4.0"


def test_a_year_of_which_azure_publishes_nothing_has_no_source(tmp_path: Path) -> None:
    trace = read(put(tmp_path, "a.csv", published.AZURE_LLM_2024.replace(b"2024-", b"2026-")))
    assert trace.metadata.source.startswith("a.csv; run time")
    assert trace.metadata.licence == "unknown"


def test_burstgpt_runs_as_its_tokens_say(tmp_path: Path) -> None:
    trace = read(put(tmp_path, "BurstGPT_1.csv", published.BURSTGPT), cost=COST)
    assert seen(trace) == [
        (0, "ChatGPT", 10_000 + 236_000 + 360_000),
        (40_000_000, "ChatGPT", 10_000 + 543_500 + 4_600_000),
        (113_000_000, "GPT-4", 10_000 + 208_500 + 5_520_000),
        (115_000_000, "GPT-4", 160_000),
    ]
    assert told(trace) == ["1 x a request that failed (Response tokens 0): kept, since it arrived"]
    assert (trace.repairs[0].first_row, trace.repairs[0].word) == (5, "noted")
    assert trace.metadata.source.startswith("BurstGPT (Wang et al., KDD'25), BurstGPT_1.csv; run time = 10 ms")
    assert trace.metadata.licence == "CC-BY 4.0"


def test_burstgpt_runs_as_long_as_it_says_where_it_does(tmp_path: Path) -> None:
    path = put(tmp_path, "BurstGPT_3.csv", published.BURSTGPT_3)
    with pytest.raises(TraceError, match=r"row 4, column Elapsed time: the cell is empty, expected a run time"):
        load(path)
    with pytest.raises(TraceError, match=r"column Elapsed time: gives run times: leave the costs of tokens out"):
        load(path, cost=COST)
    trace = read(path, bad_rows="repair")
    assert seen(trace) == [(0, "ChatGPT", 3_500_000), (2_500_000, "GPT-4", 250_000), (10_000_000, "ChatGPT", 3_500_000)]
    assert told(trace) == [
        "1 x a request that failed (Response tokens 0): kept, since it arrived",
        "1 x no run time: the median of its function's others, else of all",
    ]


def test_mooncake_keeps_its_batches(tmp_path: Path) -> None:
    trace = read(put(tmp_path, "conversation_trace.jsonl", published.MOONCAKE), cost=COST)
    assert seen(trace) == [
        (0, "conversation_trace", 10_000 + 3_379_000 + 10_000_000),
        (3_000_000, "conversation_trace", 10_000 + 3_661_000 + 9_800_000),
        (3_000_000, "conversation_trace", 10_000 + 50_000 + 20_000),
    ]
    assert trace.repairs == ()
    assert trace.metadata.licence.startswith("Apache-2.0")


def test_swissai_runs_from_created_to_finished(tmp_path: Path) -> None:
    path = put(tmp_path, "trace.jsonl", published.SWISSAI)
    with pytest.raises(TraceError, match="row 3, column finished_at: the cell is empty"):
        load(path)
    trace = read(path, bad_rows="repair")
    assert seen(trace) == [
        (0, "meta-llama/Meta-Llama-3-8B-Instruct", 1_128_000),
        (10_601_000, "Qwen/Qwen3-32B", 500_000),
        (20_601_000, "Qwen/Qwen3-32B", 500_000),
    ]
    assert told(trace)[0] == "1 x a request that failed (status ERROR): kept, since it arrived"


def test_chutes_has_a_function_for_each_model_or_endpoint(tmp_path: Path) -> None:
    path = put(tmp_path, "chutes_trace.parquet", published.chutes())
    with pytest.raises(TraceError, match="row 3, column completed_at: the cell is empty"):
        load(path)
    trace = read(path, bad_rows="repair")
    assert seen(trace) == [
        (0, "m1", 4_000_000),
        (1_000_000, "m1", 6_000_000),
        (2_000_000, "m2", 4_000_000),  # the median of all: 1.5, 4 and 6 s
        (100_000_000, "m1", 1_500_000),
    ]
    endpoints = read(path, bad_rows="repair", family="chutes-endpoints")
    assert [name for _, name, _ in seen(endpoints)] == ["chat", "chat", "unknown", "embed"]
    assert told(endpoints)[0] == "1 x no function named: one that is called unknown"
    with pytest.raises(TraceError, match="row 3, column function_name: the cell is empty, expected a text"):
        load(path, family="chutes-endpoints")


def test_huawei_2025_arrives_when_the_frontend_began(tmp_path: Path) -> None:
    trace = read(put(tmp_path, "R5_00000.csv", published.HUAWEI_REQUESTS))
    first = 2_592_000_021_000 - 2_367
    assert seen(trace) == [
        (0, "411---301---pool22-300-128", 931),
        (2_592_000_037_000 - 11_992 - first, "34---83---pool22-300-128", 1_416),
        (2_592_090_002_000 - 502_000 - first, "411---301---pool24-600-512", 500_000),
        # no frontend: when the worker began
        (2_592_100_995_000 - 36_471 - first, "411---301---pool22-300-128", 36_471),
        (2_592_101_020_000 - 24_943 - first, "411---301---pool22-300-128", 24_943),
    ]
    assert trace.owners == ("301", "83", "301")
    assert told(trace) == ["2 x no record of the frontend: arrival by the worker's, a few ms later"]
    assert trace.repairs[0].first_row == 5
    assert trace.metadata.source == "Huawei public cloud 2025 (Joosen et al., EuroSys'25), R5_00000.csv"


def test_requests_of_a_pod_that_follow_each_other_do_not_overlap(tmp_path: Path) -> None:
    """Which is how it is known that stamps are of ends: 0.025 s pass between two stamps, the second ran 0.0249 s."""
    trace = read(put(tmp_path, "r.csv", published.HUAWEI_REQUESTS))
    starts, runs = trace.arrival_us[-2:], trace.duration_us[-2:]
    assert starts[0] + runs[0] <= starts[1]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"time_worker", b"time_work", "row 1, column time_worker: the column is missing"),
        (b"pool24-600-512-0000618412", b"pod7", "row 4, column podID: 'pod7' names no pool, expected one such as pool"),
        (b",0.5,0.0,0.5", b",-0.5,0.0,0.5", "row 4, column totalCost_worker: -0.5 is negative, expected seconds"),
        (b",0.502,", b",50200000,", "row 4, column totalCost_frontend: 5.02e+07 is over 100 days: the unit looks"),
        (b"2592090.0,", b",", "row 4, column time_worker: the cell is empty"),
    ],
)
def test_refuses_bad_requests_of_huawei(tmp_path: Path, old: bytes, new: bytes, message: str) -> None:
    path = put(tmp_path, "r.csv", published.HUAWEI_REQUESTS.replace(old, new))
    with pytest.raises(TraceError) as caught:
        load(path, family="huawei2025")
    assert str(caught.value).startswith(f"{path}, {message}")


def test_cold_starts_are_no_requests(tmp_path: Path) -> None:
    path = put(tmp_path, "c.csv", published.HUAWEI_COLD_STARTS)
    with pytest.raises(TraceError, match=r"holds cold starts, not requests: .* REQUESTS --cold-starts FILE"):
        load(path)


def test_huawei_2023_counts_requests(tmp_path: Path) -> None:
    path = put(tmp_path, "day_000.csv", published.HUAWEI_2023)
    with pytest.raises(TraceError, match=r"none of the known .*Huawei 2023: --family huawei2023$"):
        load(path)
    with pytest.raises(TraceError, match=r"row 2, column 1: the cell is empty, expected a number .* repair takes 0"):
        load(path, family="huawei2023")
    counts = load(path, family="huawei2023", bad_rows="repair")
    assert isinstance(counts, Counts)
    assert counts.names == ("0", "1", "2")
    assert counts.counts.tolist() == [[3, 0, 0, 5], [0, 2, 0, 1], [1, 0, 0, 0]]
    assert told(counts) == [
        "2 x a cell that is empty: no request",
        "1 x a minute between the first row and the last that no row is of: no request",
    ]
    assert [repair.word for repair in counts.repairs] == ["repaired", "noted"]


def test_seconds_of_huawei_2023_are_added_up(tmp_path: Path) -> None:
    rows = "".join(f"1,{86_400 + second},2\n" for second in range(90))
    counts = load(put(tmp_path, "d.csv", f"day,time,7\n{rows}".encode()), family="huawei2023")
    assert isinstance(counts, Counts)
    assert counts.counts.tolist() == [[120, 60]]
    assert (counts.first_minute, counts.start_us) == (0, 0)
    late = load(put(tmp_path, "d.csv", b"day,time,7\n1,90000,2\n"), family="huawei2023")
    assert isinstance(late, Counts)
    assert (late.first_minute, late.start_us) == (60, 3_600_000_000)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"day,time,0\n0,0,1.5\n", "row 2, column 0: 1.5 is no whole number of requests: does the table hold delays"),
        (b"day,time,0\n0,0,-1\n", "row 2, column 0: -1 is no whole number of requests"),
        (b"day,time,0\n0,0,2e9\n", "row 2, column 0: 2e+09 is too large, expected at most 100000000 requests"),
        (b"day,time,0\n0,60,1\n0,0,1\n", "row 3, column time: 0 is not above the time before it"),
        (b"day,time,0\n0,-60,1\n", "row 2, column time: -60 is negative, expected seconds >= 0"),
        (b"day,time,0\n0,0,1\n9,777600,1\n", "row 3, column time: 777600 is over a day after the first"),
        (b"day,time,f\n0,0,1\n", "row 1, column f: is no number of a function, as all columns but day and time"),
        (b"day,time\n0,0\n", "row 1: has no function: expected columns 0, 1, ... beside day and time"),
        (b"day,time,0\n0,0,9e7\n0,1,9e7\n", "column 0: has 180000000 requests in a minute, expected at most"),
    ],
)
def test_refuses_bad_tables_of_huawei_2023(tmp_path: Path, content: bytes, message: str) -> None:
    path = put(tmp_path, "d.csv", content)
    with pytest.raises(TraceError) as caught:
        load(path, family="huawei2023")
    assert str(caught.value).startswith(f"{path}{',' if message[0] != ':' else ''} {message}")


@pytest.mark.parametrize("name", ["week_1.pickle", "week_1", "week_1.gz"])
@pytest.mark.parametrize("columns", [None, ColumnMap(time="InvocationTimes")])
def test_a_pickle_is_refused_and_its_code_does_not_run(tmp_path: Path, name: str, columns: ColumnMap | None) -> None:
    content = gzip.compress(published.IBM) if name.endswith(".gz") else published.IBM
    with pytest.raises(
        TraceError, match=r"is a Python pickle, such as IBM Code Engine's, and reading one runs the code"
    ):
        load(put(tmp_path, name, content), columns)


def test_a_pickle_of_an_old_protocol_is_told_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"write its columns as Parquet where that does no harm \(docs/traces.md\)"):
        load(put(tmp_path, "week_1.pickle", pickle.dumps([1], protocol=0)))


@pytest.mark.parametrize(
    ("name", "content", "start_us"),
    [
        ("a.csv", published.AZURE_LLM_2024, 1_715_299_200_009_930),  # 2024-05-10 00:00:00 UTC
        ("a.csv", published.BURSTGPT, 5_000_000),  # 5 s after a local midnight
        ("a.csv", published.BURSTGPT_3.replace(b"10.0,", b"90000.0,").replace(b"12.5,,", b"90001,,"), 20_000_000),
        ("a.jsonl", published.MOONCAKE, None),
        ("a.parquet", published.chutes(), None),  # whose 1970-01-01 00:00:00 is its own first request
        ("a.jsonl", published.SWISSAI, 1_721_224_609_399_000),  # 2024-07-17 13:56:49.399 UTC
        ("a.csv", published.HUAWEI_REQUESTS, 18_633),  # of day 30
    ],
)
def test_a_start_instant_is_told_as_far_as_it_is_known(
    tmp_path: Path, name: str, content: bytes, start_us: int | None
) -> None:
    path = put(tmp_path, name, content)
    repaired = name == "a.parquet" or name == "a.jsonl" or b"Elapsed" in content
    assert read(path, bad_rows="repair" if repaired else "fail").start_us == start_us


def test_a_family_is_said_by_its_name_where_nothing_tells_it(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", published.BURSTGPT)
    assert seen(read(path, family="burstgpt")) == seen(read(path))
    with pytest.raises(TraceError, match="family burst: there is no such form of traces; did you mean burstgpt"):
        load(path, family="burst")
    with pytest.raises(TraceError, match="column timestamp: there is no such column, which Mooncake has"):
        load(path, family="mooncake")
    with pytest.raises(TraceError, match="family burstgpt says which column is what; leave the columns out"):
        load(path, ColumnMap(time="Timestamp"), family="burstgpt")


@pytest.mark.parametrize("name", BUILT_IN)
def test_no_family_falls_over_another_s_file(tmp_path: Path, name: str) -> None:
    path = put(tmp_path, "a.csv", b"when,what\n1,2\n")
    with pytest.raises(TraceError):
        load(path, family=name)


# -- on the command line -----------------------------------------------------------------------------------------------


def test_convert_takes_the_cost_of_an_image(tmp_path: Path) -> None:
    path, out = put(tmp_path, "m.csv", published.AZURE_LMM_2025), tmp_path / "m.parquet"
    words = ["convert", str(path), str(out), "--base-ms", "10", "--prefill-ms", "0.5", "--decode-ms", "20"]
    done = CliRunner().invoke(commands, [*words, "--image-ms", "100"])
    assert done.exit_code == 0, done.output
    assert read_parquet(out).duration_us.tolist() == [810_000, 660_000, 350_000]
    done = CliRunner().invoke(commands, [*words, "--image-ms", "-1"])
    assert (done.exit_code, "ms_per_image: needs milliseconds from 0 to 1000000, got -1.0" in done.output) == (2, True)
    done = CliRunner().invoke(
        commands, ["convert", str(path), str(out), "--image-ms", "1", "--column", "time=TIMESTAMP"]
    )
    assert "costs of tokens belong to traces that give numbers of tokens, and m.csv gives none" in done.output


def test_commands_take_a_family(tmp_path: Path) -> None:
    path = put(tmp_path, "day_000.csv", published.HUAWEI_2023)
    words = ["--family", "huawei2023", "--bad-rows", "repair"]
    shown = CliRunner().invoke(commands, ["inspect", str(path), *words])
    assert "Huawei 2023 (Joosen et al., SoCC'23), day_000.csv" in shown.output
    assert "repaired             2 x a cell that is empty: no request (first in" in shown.output
    shown = CliRunner().invoke(commands, ["inspect", str(put(tmp_path, "b.csv", published.BURSTGPT))])
    assert "noted                1 x a request that failed (Response tokens 0): kept, since it arrived" in shown.output


def test_a_scenario_remembers_the_family(tmp_path: Path) -> None:
    rows = "".join(f"0,{60 * minute},{minute % 3},2\n" for minute in range(60))
    path = put(tmp_path, "d.csv", f"day,time,0,1\n{rows}".encode())
    cluster = load_cluster(put(tmp_path, "c.yaml", b"nodes: [{memory_mb: 9000}]"))
    scenario = own_scenario("mine", str(path), "paper", cluster, family="huawei2023")
    assert scenario.trace.file_family == "huawei2023"
    assert scenario.world().names == ("0", "1")
    on_file = Scenario.load("small").on_file(path, family="huawei2023")
    assert on_file.trace.file_family == "huawei2023"
    assert on_file.on_file(path).trace.file_family is None
    assert on_file.hash() != on_file.on_file(path).hash()
    with pytest.raises(ScenarioError, match="file_family belongs to the family file and to no other"):
        Scenario.load("small").with_(**{"trace.file_family": "huawei2023"})


# -- tokens in files of one's own --------------------------------------------------------------------------------------

TOKENS = ColumnMap(time="t", context_tokens="in", generated_tokens="out", images="n")
ROWS = b"t,in,out,n\n1,100,2,1\n2,-1,3,0\n3,,3,0\n4,300,1,2\n"


def test_tokens_of_any_file_make_run_times(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", ROWS)
    with pytest.raises(
        TraceError, match=r"row 4, column in: the cell is empty, expected a number; bad_rows repair takes"
    ):
        load(path, TOKENS)
    trace = read(path, columns=TOKENS, cost=COST, bad_rows="repair")
    # 10 + 50 + 40 + 100 and 10 + 150 + 20 + 200; of the others the median of these
    assert trace.duration_us.tolist() == [200_000, 290_000, 290_000, 380_000]
    assert trace.metadata.source.endswith("+ 20 ms x generated tokens + 100 ms x images")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"3,,3", b"3,1,3", "row 3, column in: -1 is negative, expected a number of 0 or more; bad_rows repair"),
        (
            b"2,-1,3,0\n3,,3,0",
            b"2,1,9999999999999,0",
            "row 3, column out: 9999999999999 is too large for a number of to",
        ),
        (
            b"2,-1,3,0\n3,,3,0",
            b"2,1,9999999999,0",
            "row 3, column out: 9999999999 tokens make a run time above a day (",
        ),
        (b"2,-1,3,0\n3,,3,0", b"2,1,many,0", "row 3, column out: 'many' is not a number"),
    ],
)
def test_tokens_that_make_no_sense_are_refused(tmp_path: Path, old: bytes, new: bytes, message: str) -> None:
    path = put(tmp_path, "a.csv", ROWS.replace(old, new))
    with pytest.raises(TraceError) as caught:
        load(path, TOKENS)
    assert str(caught.value).startswith(f"{path}, {message}")


def test_tokens_all_of_which_are_unknown_make_no_run_time(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", b"t,in,out,n\n1,-1,-1,0\n")
    with pytest.raises(TraceError, match="column out: no row has a run time; leave the column out"):
        load(path, TOKENS, bad_rows="repair")


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ({"context_tokens": "in"}, "context_tokens and generated_tokens make the run time together; name both"),
        ({"images": "n"}, "images add to the run time that tokens make; name context_tokens and generated_tokens"),
        (
            {"context_tokens": "in", "generated_tokens": "out", "duration": "d"},
            "tokens make the run time of single requests; leave end, duration and count out",
        ),
        ({"context_tokens": "in", "generated_tokens": "in"}, "need a column each that is nothing else"),
    ],
)
def test_roles_of_tokens_fit_together(roles: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ColumnMap.model_validate({"time": "t", **roles})


def test_costs_belong_to_tokens(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", b"t,d\n1,2\n")
    message = r"costs of tokens belong to traces that give numbers of tokens, and a\.csv gives none"
    with pytest.raises(TraceError, match=message):
        load(path, ColumnMap(time="t", duration="d"), cost=COST)
    with pytest.raises(TraceError, match=message):
        load(put(tmp_path, "a.csv", published.HUAWEI_REQUESTS), cost=COST)


def test_columns_that_were_added_leave_the_content_of_a_map_alone() -> None:
    assert "images" not in ColumnMap(time="t").content()
    assert TOKENS.content()["images"] == "n"


def test_the_formula_is_linear() -> None:
    run_us = COST.run_us(np.array([0, 1, 0, 0]), np.array([0, 0, 1, 0]), np.array([0, 0, 0, 1]))
    assert run_us.tolist() == [10_000, 10_500, 30_000, 110_000]
