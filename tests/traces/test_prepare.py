"""Scenarios' files made from planted copies of what their authors publish."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from traces import Counts, load, read_azure2019, read_gentd26
from traces.commands import trace as command
from traces.errors import TraceError
from traces.prepare import (
    KNOWN,
    prepare_azure2019,
    prepare_azure2019_8h,
    prepare_azure2019_day,
    prepare_gentd26,
    write,
)
from tyche_env.cli import run

GENTD26 = """gmt_create,predict_type,predict_status,exec_time_seconds,groupId,prompt_length,negative_prompt_length,\
num_images_per_prompt,num_inference_steps,checkpoint_model_version_id,num_lora
2024-11-15 16:57:50,TXT_2_IMG,SUCCEED,32.0,G0000,63.0,26.0,1.0,30.0,M0000,0
2024-11-30 23:59:59,TXT_2_IMG,SUCCEED,43.0,G0001,93.0,,1.0,40.0,M0001,0
2024-11-30 23:59:59,TXT_2_IMG,SUCCEED,43.0,G0001,93.0,,1.0,40.0,M0001,0
2024-12-01 00:00:00,TXT_2_IMG,SUCCEED,43.0,G0001,93.0,,1.0,40.0,M0001,0
"""


def rows_of(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def test_gentd26_keeps_every_row_before_december_as_it_is(tmp_path: Path) -> None:
    source = tmp_path / "lora_request_trace.csv"
    source.write_text(GENTD26)
    (file,) = prepare_gentd26(source)
    assert file.text == "".join(GENTD26.splitlines(keepends=True)[:4])
    assert (file.rows, file.of) == (3, 4)
    (path,) = write([file], tmp_path / "out")
    assert path.name == "alibaba_gentd26_requests_to_1130.csv.gz"
    assert len(read_gentd26(path).arrival_us) == 3


def test_the_day_has_each_vector_once_with_its_weight_in_the_order_of_its_first_row(tmp_path: Path) -> None:
    vectors = [[1, 0], [2, 5], [1, 0], [0, 7], [2, 5], [1, 0]]
    heading = ["HashFunction", "HashOwner", "HashApp", *(f"{minute}_minute" for minute in range(1, 1441))]
    source = tmp_path / "1350_inv.csv"
    with source.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(heading)
        for number, (first, last) in enumerate(vectors):
            writer.writerow([f"f{number}", "o", "a", first, *[0] * 1438, last])
    (file,) = prepare_azure2019_day(source)
    header, *rows = rows_of(file.text)
    assert header == ["HashFunction", "SampleWeight", *map(str, range(1, 1441))]
    assert [(row[0], row[1], row[2], row[-1]) for row in rows] == [
        ("A0000", "3", "1", "0"),
        ("A0001", "2", "2", "5"),
        ("A0002", "1", "0", "7"),
    ]
    assert (file.rows, file.of) == (3, 6)
    counts = read_azure2019(write([file], tmp_path)[0])
    assert counts.weights.tolist() == [3, 2, 1]
    assert counts.counts.sum(axis=1).tolist() == [1, 7, 7]


KEY = ("o1,a1,f1", "o1,a1,f2", "o2,a2,f3")


def eight_hours(folder: Path, **changed: str) -> tuple[Path, Path]:
    """Three functions, of which keys.csv names the second and the third; each file in an order of its own."""
    parts = {
        "invocations": "HashOwner,HashApp,HashFunction,Trigger,480,481\no2,a2,f3,timer,7,8\no1,a1,f1,http,1,2\n"
        "o1,a1,f2,http,3,4\n",
        "durations": "HashOwner,HashApp,HashFunction,Average,Count\no1,a1,f2,12,1\no2,a2,f3,13,1\no1,a1,f1,11,1\n",
        "memory": "HashFunction,HashOwner,HashApp,SampleCount,AverageAllocatedMb\nf1,o1,a1,5,9.416666666666666\n"
        "f3,o2,a2,6,12.0\nf2,o1,a1,7,8.25\n",
    }
    for name, text in (parts | changed).items():
        (folder / f"{name}.csv").write_text(text)
    keys = folder / "keys.csv"
    keys.write_text("HashOwner,HashApp,HashFunction,Trigger,480\no1,a1,f2,http,3\no2,a2,f3,timer,7\no9,a9,f9,http,0\n")
    return folder, keys


def test_the_eight_hours_follow_the_counts_with_the_key_first_and_every_cell_as_it_was(tmp_path: Path) -> None:
    invocations, durations, memory = prepare_azure2019_8h(*eight_hours(tmp_path))
    assert invocations.text == (
        "HashOwner,HashApp,HashFunction,Trigger,480,481\no2,a2,f3,timer,7,8\no1,a1,f2,http,3,4\n"
    )
    assert durations.text == "HashOwner,HashApp,HashFunction,Average,Count\no2,a2,f3,13,1\no1,a1,f2,12,1\n"
    assert memory.text == (
        "HashOwner,HashApp,HashFunction,SampleCount,AverageAllocatedMb\no2,a2,f3,6,12.0\no1,a1,f2,7,8.25\n"
    )
    assert {(file.rows, file.of) for file in (invocations, durations, memory)} == {(2, 3)}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"durations": "HashOwner,HashApp,HashFunction,Average\no1,a1,f2,12\n"},
            r"durations\.csv: lacks function f3 of invocations\.csv",
        ),
        (
            {"memory": "HashFunction,HashOwner,HashApp,Mb\nf2,o1,a1,7\nf3,o2,a2,6\nf2,o1,a1,7\n"},
            r"memory\.csv, row 4: function f2 stands there a second time",
        ),
        ({"invocations": "HashOwner,HashApp,480\no,a,1\n"}, r"column HashFunction: there is no such column"),
        ({"invocations": ""}, r"invocations\.csv: the file is empty"),
        ({"invocations": "HashOwner,HashApp,HashFunction,1\no1,a1,f2\n"}, r"row 2: has 3 cells, the header has 4"),
        ({"invocations": "HashOwner,HashApp,HashFunction,1\no,a,x,1\n"}, r"lacks any function of .*keys\.csv"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_place(tmp_path: Path, changed: dict[str, str], message: str) -> None:
    with pytest.raises(TraceError, match=message):
        prepare_azure2019_8h(*eight_hours(tmp_path, **changed))


def official_days(folder: Path) -> Path:
    """Two days of three functions; f2 is rare, f3 comes on day 2, a2 has no memory, day 2 no file of memory."""
    names = ",".join(map(str, range(1, 1441)))

    def counts(*rows: tuple[str, int]) -> str:
        lines = [f"HashOwner,HashApp,HashFunction,Trigger,{names}"]
        return "\n".join([*lines, *(f"{key},http,{requests}" + ",0" * 1439 for key, requests in rows)]) + "\n"

    run_times = "HashOwner,HashApp,HashFunction,Average,Count\n"
    texts = {
        "invocations_per_function_md.anon.d01.csv": counts(("o,a1,f1", 5), ("o,a2,f2", 1)),
        "invocations_per_function_md.anon.d02.csv": counts(("o,a2,f3", 7), ("o,a1,f1", 6)),
        "function_durations_percentiles.anon.d01.csv": f"{run_times}o,a1,f1,10,1\n",
        "function_durations_percentiles.anon.d02.csv": f"{run_times}o,a1,f1,40,2\no,a2,f3,7,1\n",
        "app_memory_percentiles.anon.d01.csv": "HashOwner,HashApp,SampleCount,AverageAllocatedMb\no,a1,3,120\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    return folder


def test_official_days_become_three_files_of_functions_that_are_asked_often_enough(tmp_path: Path) -> None:
    files, repairs = prepare_azure2019(official_days(tmp_path), [1, 2], at_least=2)
    invocations, durations, memory = files
    header, *rows = rows_of(invocations.text)
    assert header == ["HashOwner", "HashApp", "HashFunction", "Trigger", *map(str, range(1, 2881))]
    assert [(row[:4], row[4], row[4 + 1440]) for row in rows] == [
        (["o", "a1", "f1", "http"], "5", "6"),
        (["o", "a2", "f3", "http"], "0", "7"),
    ]
    assert durations.text == "HashOwner,HashApp,HashFunction,Average\no,a1,f1,30.000\no,a2,f3,7.000\n"
    assert memory.text == ("HashOwner,HashApp,HashFunction,AverageAllocatedMb\no,a1,f1,120.000\no,a2,f3,120.000\n")
    assert {(file.rows, file.of) for file in files} == {(2, 3)}
    assert [(repair.rule.partition(":")[0], repair.count) for repair in repairs] == [
        ("no duration", 1),
        ("no memory", 2),
    ]
    # they are read again as any trace of this form is
    paths = write(files, tmp_path / "out")
    counts = load(paths[0], durations=paths[1], memory=paths[2])
    assert isinstance(counts, Counts)
    assert counts.minutes == 2880
    assert counts.duration_ms.tolist() == [30, 7]


def test_functions_are_drawn_by_the_seed_and_stand_in_their_order(tmp_path: Path) -> None:
    drawn = {
        tuple(row[2] for row in rows_of(prepare_azure2019(official_days(tmp_path), [1, 2], 1, 2, seed)[0][0].text)[1:])
        for seed in range(20)
    }
    assert drawn == {("f1", "f2"), ("f1", "f3"), ("f2", "f3")}
    with pytest.raises(TraceError, match="2 functions have 2 requests or more, asked for 3"):
        prepare_azure2019(tmp_path, [1, 2], 2, 3)
    with pytest.raises(TraceError, match=r"has no invocations_per_function_md\.anon\.d03\.csv, plain or gzip"):
        prepare_azure2019(tmp_path, [2, 3])
    for days in ([0, 1], [14, 15], [1, 3], []):
        with pytest.raises(TraceError, match="days: expected some of 1 to 14, one after the other"):
            prepare_azure2019(tmp_path, days)


def test_the_command_takes_official_days(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["trace", "prepare", "azure2019", str(official_days(tmp_path)), "--out", str(tmp_path / "out")]
    assert run([*words, "--days", "1-2", "--at-least", "2"]) == 0
    printed = capsys.readouterr()
    assert "azure2019_memory.csv.gz: 2 of 3 rows, sha256 of the text " in printed.out
    assert "the documentation" not in printed.out  # no table was measured on days of one's own choice
    assert "repaired: 1 x no duration: the median of" in printed.err
    assert run([*words, "--days", "one"]) == 2
    assert "expected FIRST-LAST, such as 1-14, got one" in capsys.readouterr().err
    assert run([*words, "--days", "2-1"]) == 2
    assert "days: expected some of 1 to 14, one after the other, got none" in capsys.readouterr().err
    assert run([*words, "--days", "1-2", "--at-least", "1000", "--out", str(tmp_path / "none")]) == 2
    assert ": no function has 1000 requests or more, the busiest has " in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    folder, keys = eight_hours(tmp_path)
    (folder / "memory.csv").unlink()
    with pytest.raises(TraceError, match=r"memory\.csv: cannot be read \(No such file"):
        prepare_azure2019_8h(folder, keys)


def test_the_command_prints_digests_and_whether_the_sample_is_the_known_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "lora_request_trace.csv.gz"
    source.write_bytes(gzip.compress(GENTD26.encode()))
    out = tmp_path / "traces"
    monkeypatch.setenv("TYCHE_TRACES", str(out))
    digest = hashlib.sha256("".join(GENTD26.splitlines(keepends=True)[:4]).encode()).hexdigest()
    assert run(["trace", "prepare", "gentd26", str(source)]) == 0
    printed = capsys.readouterr().out
    assert printed == (
        f"{out}/alibaba_gentd26_requests_to_1130.csv.gz: 3 of 4 rows, sha256 of the text {digest}\n"
        "  not the sample that the documentation's tables were measured on\n"
    )
    monkeypatch.setitem(KNOWN, "alibaba_gentd26_requests_to_1130.csv", digest)
    assert run(["trace", "prepare", "gentd26", str(source)]) == 0
    assert capsys.readouterr().out.endswith("  this is the sample that the documentation's tables were measured on\n")
    monkeypatch.delenv("TYCHE_TRACES")
    assert run(["trace", "prepare", "gentd26", str(source)]) == 2
    assert "Missing option '--out'" in capsys.readouterr().err
    assert sorted(each.name for each in out.iterdir()) == ["alibaba_gentd26_requests_to_1130.csv.gz"]


def test_what_is_shipped_is_known(real: Callable[[str], Path]) -> None:
    for name in ("azure2019_day_unique_A.csv.gz", "azure2019_8h_memory.csv.gz"):
        text = gzip.decompress(real(name).read_bytes())
        assert KNOWN[name.removesuffix(".gz")] == hashlib.sha256(text).hexdigest()


def test_the_command_teaches() -> None:
    assert set(command.commands["prepare"].commands) == {"gentd26", "azure2019-day", "azure2019-8h", "azure2019"}  # type: ignore[attr-defined]
