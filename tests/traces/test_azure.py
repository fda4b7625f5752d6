"""Azure 2019: what is read, and what is refused with its place."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from traces import TraceError, read_azure2019

Writer = Callable[[str, str], Path]

INVOCATIONS = """HashOwner,HashApp,HashFunction,Trigger,1,2,3
o1,a1,f1,http,0,2,1
o1,a1,f2,timer,1,1,1
o2,a2,f3,queue,7,0,0
"""
DURATIONS_HEADER = (
    "HashOwner,HashApp,HashFunction,Average,Count,Minimum,Maximum,percentile_Average_0,percentile_Average_50"
)
DURATIONS = f"""{DURATIONS_HEADER}
o2,a2,f3,250,9,100.0,900.0,100,240
o1,a1,f1,40,3,1.0,90.0,1,30
"""
APP_MEMORY = """HashOwner,HashApp,SampleCount,AverageAllocatedMb,AverageAllocatedMb_pct1,AverageAllocatedMb_pct50
o1,a1,10,120.5,100,120
"""


@pytest.mark.parametrize("name", ["day.csv", "day.csv.gz", "gzip-without-the-suffix.csv"])
def test_reads_counts_plain_or_gzip(write: Writer, name: str) -> None:
    path = write(name, INVOCATIONS)
    if "without" in name:
        path.write_bytes(gzip.compress(INVOCATIONS.encode()))
    counts = read_azure2019(path)
    assert counts.names == ("f1", "f2", "f3")
    assert counts.owners == ("o1", "o1", "o2")
    assert counts.apps == ("a1", "a1", "a2")
    assert counts.triggers == ("http", "timer", "queue")
    assert counts.counts.dtype == np.int32
    assert counts.counts.tolist() == [[0, 2, 1], [1, 1, 1], [7, 0, 0]]
    assert counts.first_minute == 1
    assert counts.weights.tolist() == [1, 1, 1]
    assert np.isnan(counts.duration_ms).all()
    assert np.isnan(counts.memory_mb).all()
    assert name in counts.source
    assert counts.licence == "CC-BY 4.0"


def test_joins_durations_by_function_and_memory_by_application(write: Writer) -> None:
    counts = read_azure2019(write("i.csv", INVOCATIONS), write("d.csv", DURATIONS), write("m.csv", APP_MEMORY))
    np.testing.assert_array_equal(counts.duration_ms, [40.0, np.nan, 250.0])
    np.testing.assert_array_equal(counts.memory_mb, [120.5, 120.5, np.nan])


def test_memory_by_function_is_joined_by_function(write: Writer) -> None:
    memory = "HashOwner,HashApp,HashFunction,SampleCount,AverageAllocatedMb\no1,a1,f2,3,64\n"
    counts = read_azure2019(write("i.csv", INVOCATIONS), memory=write("m.csv", memory))
    np.testing.assert_array_equal(counts.memory_mb, [np.nan, 64.0, np.nan])


def test_reads_a_later_window_with_weights_and_without_owners(write: Writer) -> None:
    counts = read_azure2019(write("i.csv", "HashFunction,SampleWeight,480,481\nA0,4,1,0\nA1,1,0,2\n"))
    assert counts.window == "minutes 480..481"
    assert counts.weights.tolist() == [4, 1]
    assert counts.owners == ("", "")
    assert counts.triggers == ("", "")


def test_a_function_hash_that_two_applications_share_gets_the_application_in_its_name(write: Writer) -> None:
    text = "HashOwner,HashApp,HashFunction,Trigger,1\no,a,f,http,1\no,b,f,http,2\no,b,g,http,3\n"
    assert read_azure2019(write("i.csv", text)).names == ("a/f", "b/f", "g")


def test_a_function_that_two_owners_share_gets_the_owner_in_its_name_as_well(write: Writer) -> None:
    text = "HashOwner,HashApp,HashFunction,1\no,a,f,1\np,a,f,2\np,b,f,3\n"
    assert read_azure2019(write("i.csv", text)).names == ("o/a/f", "p/a/f", "b/f")


REFUSED = {
    "names that cannot be told apart": (
        "HashOwner,HashApp,HashFunction,1\no,a,f,1\no,b,f,1\no,c,a/f,1\n",
        "row 4, column HashFunction: o/a/f is the name of another function",
    ),
    "missing column": (INVOCATIONS.replace("HashFunction", "Hash"), "row 1, column Hash: unknown column"),
    "no function column": ("HashOwner,1\no,1\n", "row 1, column HashFunction: the column is missing"),
    "no minutes": ("HashFunction\nf\n", "row 1: the header has no minutes"),
    "minutes not consecutive": (
        INVOCATIONS.replace(",2,3\n", ",2,4\n"),
        "row 1, column 4: minute 4 follows 2, expected 3",
    ),
    "minute twice": (INVOCATIONS.replace(",2,3\n", ",2,2\n"), "row 1, column 2: the header names this column twice"),
    "negative count": (INVOCATIONS.replace("1,1,1", "1,-1,1"), "row 3, column 2: -1 is negative"),
    "fractional count": (
        INVOCATIONS.replace("7,0,0", "7,0,0.5"),
        "row 4, column 3: 0.5 is not written as a whole number",
    ),
    "count too large": (INVOCATIONS.replace("7,0,0", "7,3000000000,0"), "row 4, column 2: 3000000000 is too large"),
    "not a number": (INVOCATIONS.replace("7,0,0", "7,zero,0"), "row 4, column 2: 'zero' is not a number"),
    "not finite": (INVOCATIONS.replace("7,0,0", "7,inf,0"), "row 4, column 2: 'inf' is not a finite number"),
    "empty cell": (INVOCATIONS.replace("0,2,1", "0,,1"), "row 2, column 2: the cell is empty"),
    "empty name": (INVOCATIONS.replace("f2", ""), "row 3, column HashFunction: the cell is empty"),
    "duplicate row": (
        INVOCATIONS + "o1,a1,f1,http,0,0,0\n",
        "row 5, column HashOwner + HashApp + HashFunction: repeats the key of row 2",
    ),
    "row too short": (INVOCATIONS.replace("7,0,0", "7,0"), "row 4: the row has 6 cells, expected 7"),
    "blank line": (INVOCATIONS.replace("o2,", "\no2,"), "row 4: the row has 0 cells, expected 7"),
    "empty file": ("", "the file is empty"),
    "header only": ("HashFunction,1\n", "the file has a header but no rows"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses_bad_counts(write: Writer, case: str) -> None:
    text, message = REFUSED[case]
    path = write("i.csv", text)
    with pytest.raises(TraceError) as caught:
        read_azure2019(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


REFUSED_DURATIONS = {
    "missing column": (
        DURATIONS.replace("Average,Count", "Mean,Count"),
        "row 1, column Average: the column is missing",
    ),
    "negative": (DURATIONS.replace("f3,250", "f3,-1"), "row 2, column Average: -1 is negative"),
    "not a number": (DURATIONS.replace("f1,40", "f1,fast"), "row 3, column Average: 'fast' is not a number"),
    "microseconds": (
        DURATIONS.replace("f3,250", "f3,250000000"),
        "row 2, column Average: 2.5e+08 ms is longer than a day",
    ),
    "falling percentiles": (
        DURATIONS.replace("100,240", "300,240"),
        "row 2, column percentile_Average_50: 240 is below percentile_Average_0 (300)",
    ),
    "duplicate row": (
        DURATIONS + "o2,a2,f3,1,9,1,1,1,1\n",
        "row 4, column HashOwner + HashApp + HashFunction: repeats the key of row 2",
    ),
    "seconds": (
        DURATIONS_HEADER + "\n" + "".join(f"o,a,f{i},{i / 10},1,0,{i},0,1\n" for i in range(60)),
        "row 3, column Average: 0.1 looks like seconds, as all 60 rows do; expected ms",
    ),
}


@pytest.mark.parametrize("case", REFUSED_DURATIONS)
def test_refuses_bad_durations(write: Writer, case: str) -> None:
    text, message = REFUSED_DURATIONS[case]
    path = write("d.csv", text)
    with pytest.raises(TraceError) as caught:
        read_azure2019(write("i.csv", INVOCATIONS), durations=path)
    assert str(caught.value).startswith(f"{path}, {message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            APP_MEMORY.replace("120.5", "120500000"),
            "row 2, column AverageAllocatedMb: 1.205e+08 MB is more than a terabyte",
        ),
        (APP_MEMORY.replace("100,120", "130,120"), "row 2, column AverageAllocatedMb_pct50: 120 is below"),
        (APP_MEMORY + "o1,a1,1,1,1,1\n", "row 3, column HashOwner + HashApp: repeats the key of row 2"),
    ],
    ids=["bytes", "falling percentiles", "duplicate row"],
)
def test_refuses_bad_memory(write: Writer, text: str, message: str) -> None:
    path = write("m.csv", text)
    with pytest.raises(TraceError) as caught:
        read_azure2019(write("i.csv", INVOCATIONS), memory=path)
    assert str(caught.value).startswith(f"{path}, {message}")


def test_refuses_durations_for_counts_without_owners(write: Writer) -> None:
    with pytest.raises(TraceError, match=r"i\.csv, row 1, column HashOwner: the column is missing"):
        read_azure2019(write("i.csv", "HashFunction,1\nf,1\n"), durations=write("d.csv", DURATIONS))


def test_refuses_a_truncated_gzip(write: Writer) -> None:
    path = write("i.csv.gz", INVOCATIONS)
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(TraceError, match=r"i\.csv\.gz: the gzip data end too early"):
        read_azure2019(path)


def test_refuses_a_damaged_gzip(write: Writer) -> None:
    path = write("i.csv.gz", INVOCATIONS)
    data = bytearray(path.read_bytes())
    data[-8] ^= 0xFF  # its checksum
    path.write_bytes(bytes(data))
    with pytest.raises(TraceError, match=r"i\.csv\.gz: the gzip data are damaged"):
        read_azure2019(path)


def test_refuses_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"none\.csv: no such file"):
        read_azure2019(tmp_path / "none.csv")


# -- as published: several days, and their defects ---------------------------------------------------------------------

DAY = ",".join(map(str, range(1, 1441)))


def a_day(*rows: str) -> str:
    """A file of whole days: each row is ``owner,app,function,trigger`` and the requests of minutes 1 and 1440."""
    lines = [f"HashOwner,HashApp,HashFunction,Trigger,{DAY}"]
    for row in rows:
        *texts, first, last = row.split(",")
        lines.append(",".join([*texts, first, *["0"] * 1438, last]))
    return "\n".join(lines) + "\n"


def official(write: Writer) -> tuple[list[Path], list[Path], list[Path]]:
    """Two made-up official days with every defect that is known of the published ones.

    Function f1 stands twice in day 1 and has another trigger on day 2; f3 is there on day 2 alone.  In the durations
    f1 stands twice, f2 has an Average below 0, f4 one below 0 and no percentile that helps, f5 no row at all; f6 has
    percentiles that fall.  Application a1 stands twice in the memory, a3 is missing.
    """
    first = a_day(
        *("o1,a1,f1,others,1,2", "o1,a1,f2,timer,3,0", "o1,a1,f1,others,10,20", "o2,a2,f4,timer,0,1"),
        *("o2,a2,f5,timer,0,4", "o2,a2,f6,http,1,1"),
    )
    second = a_day("o3,a3,f3,queue,5,6", "o1,a1,f1,http,100,200")
    head = "HashOwner,HashApp,HashFunction,Average,Count,Minimum,Maximum,percentile_Average_0,percentile_Average_50"
    durations_1 = (
        f"{head}\no1,a1,f1,100,3,-1027768,900,1,90\no1,a1,f1,200,1,1,900,1,90\no1,a1,f2,-41692,7,1,90,1,30\n"
        "o2,a2,f4,-5,7,1,90,-9,-8\no2,a2,f6,70,7,1,90,60,50\n"
    )
    durations_2 = f"{head}\no1,a1,f1,425,4,1,900,1,90\no3,a3,f3,0,9,0,0,0,0\n"
    memory_1 = "HashOwner,HashApp,SampleCount,AverageAllocatedMb\no1,a1,30,100\no1,a1,10,200\no2,a2,5,50\n"
    memory_2 = "HashOwner,HashApp,SampleCount,AverageAllocatedMb\no1,a1,40,75\n"
    return (
        [write("i1.csv", first), write("i2.csv.gz", second)],
        [write("d1.csv", durations_1), write("d2.csv", durations_2)],
        [write("m1.csv", memory_1), write("m2.csv", memory_2)],
    )


def test_days_are_joined_and_each_defect_is_mended_by_its_rule(write: Writer) -> None:
    counts = read_azure2019(*official(write), bad_rows="repair")
    assert counts.names == ("f1", "f2", "f4", "f5", "f6", "f3")
    assert counts.minutes == 2 * 1440
    assert counts.first_minute == 1
    edges = counts.counts[:, [0, 1439, 1440, 2879]]
    assert edges.tolist() == [[11, 22, 100, 200], [3, 0, 0, 0], [0, 1, 0, 0], [0, 4, 0, 0], [1, 1, 0, 0], [0, 0, 5, 6]]
    assert counts.counts.sum() == edges.sum()
    assert counts.triggers == ("http", "timer", "timer", "timer", "http", "queue")
    # f1: (3 x 100 + 1 x 200 + 4 x 425) / 8; f2: its median; f4 and f5: the median of the timers, which is f2's
    np.testing.assert_allclose(counts.duration_ms, [275, 30, 30, 30, 70, 0])
    # a1: (30 x 100 + 10 x 200 + 40 x 75) / 80; a3: the median of the six functions' that have one
    np.testing.assert_allclose(counts.memory_mb, [100, 100, 50, 50, 50, 50])
    assert counts.weights.tolist() == [1] * 6
    assert {(repair.rule.partition(":")[0], repair.count, repair.first_row) for repair in counts.repairs} == {
        ("a function that stands twice in a day's counts", 1, 4),
        ("a function with several triggers", 1, 0),
        ("a key that stands twice, by Count", 1, 3),
        ("a key that stands twice, by SampleCount", 1, 3),
        ("an Average below 0", 2, 4),
        ("percentiles that fall", 1, 6),
        ("no duration", 2, 0),
        ("no memory", 1, 0),
    }
    (twice,) = (str(repair) for repair in counts.repairs if "counts" in repair.rule)
    assert twice.endswith("i1.csv, row 4)")
    assert twice.startswith("1 x a function that stands twice in a day's counts: its counts are added (first in ")


@pytest.mark.parametrize(
    ("part", "message"),
    [(0, "i1.csv, row 4"), (1, "d1.csv, row 3"), (2, "m1.csv, row 3")],
)
def test_without_repair_the_first_defect_is_refused(write: Writer, part: int, message: str) -> None:
    files: list[Any] = [write("i.csv", a_day("o1,a1,f1,http,1,1")), None, None]
    files[part] = official(write)[part]
    with pytest.raises(TraceError, match=f"{message}, column .*: repeats the key of row 2"):
        read_azure2019(*files)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (
            "HashOwner,HashApp,HashFunction,Trigger,1,2\no,a,f,http,1,1\n",
            "has minutes 1 to 2, expected 1 to 1440: several files",
        ),
        (f"HashFunction,{DAY}\nf,{','.join(['0'] * 1440)}\n", "has other columns than"),
    ],
)
def test_days_that_do_not_fit_each_other_are_refused(write: Writer, second: str, message: str) -> None:
    with pytest.raises(TraceError, match=message):
        read_azure2019([write("one.csv", a_day("o,a,f,http,1,1")), write("two.csv", second)])


def test_a_weight_is_no_more_for_several_days_or_rows(write: Writer) -> None:
    """A row stands for so many functions on each of its days."""
    row = f"f,4,{'1,' * 1439}1\n"
    days = [write(f"{n}.csv", f"HashFunction,SampleWeight,{DAY}\n{row}") for n in (1, 2)]
    days.append(write("3.csv", f"HashFunction,SampleWeight,{DAY}\n{row.replace('f,4', 'g,7')}"))
    assert read_azure2019(days).weights.tolist() == [4, 7]
    assert read_azure2019(days[2]).weights.tolist() == [7]
    twice = write("t.csv", f"HashFunction,SampleWeight,{DAY}\n{row}{row}")
    assert read_azure2019(twice, bad_rows="repair").weights.tolist() == [4]


def test_counts_that_add_up_to_too_much_are_refused(write: Writer) -> None:
    path = write("i.csv", "HashFunction,1\nf,2000000000\nf,2000000000\n")
    with pytest.raises(TraceError, match="counts of function f add up to 4000000000 in a minute"):
        read_azure2019(path, bad_rows="repair")
