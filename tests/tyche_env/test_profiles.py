"""Catalogues: what is shipped, and what is refused with file, row and column."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from tyche_env.errors import UserError
from tyche_env.profiles import FunctionProfile, ProfileError, catalogue_names, load_catalogue, write_catalogue

ROW: dict[str, str] = {
    "name": "f",
    "container_init_ms": "530",
    "library_ms": "700",
    "model_ms": "200",
    "transfer_ms": "28",
    "inference_ms": "300",
    "gpu_inference_ms": "30",
    "hold_mb": "600",
    "peak_mb": "700",
    "gpu_mb": "450",
    "container_mb": "2048",
    "sigma": "0.1",
    "source": "a stopwatch",
    "assumed": "transfer_ms gpu_mb",
}


def write(path: Path, *rows: dict[str, str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_the_catalogues_are_shipped_and_every_row_names_its_source() -> None:
    assert catalogue_names() == ("diffusion", "measured", "paper", "real")
    for name in catalogue_names():
        assert all(profile.source for profile in load_catalogue(name))


def test_paper_catalogue_has_the_eight_functions_and_marks_its_assumptions() -> None:
    profiles = load_catalogue("paper")
    assert len(profiles) == 8
    for profile in profiles:
        assert profile.transfer_ms == pytest.approx(0.14 * profile.model_ms, abs=0.06)
        assert profile.gpu_inference_ms == profile.inference_ms
        assert {"transfer_ms", "gpu_inference_ms", "gpu_mb", "read_share"} <= set(profile.assumed)
        assert profile.read_share * profile.model_ms * 2.5 == pytest.approx(profile.gpu_mb - 400, rel=0.3)
        assert profile.sigma == 0
    mean_load_ms = sum(profile.library_ms + profile.model_ms for profile in profiles) / 8
    assert mean_load_ms == pytest.approx(2200, abs=5)


def test_a_function_without_gpu_figures_has_no_gpu_memory() -> None:
    magika = {profile.name: profile for profile in load_catalogue("measured")}["magika"]
    assert (magika.gpu_mb, magika.transfer_ms, magika.gpu_inference_ms) == (0, 0, 0)


def test_noise_of_a_measured_function_comes_from_its_5th_and_95th_percentile() -> None:
    resnet50 = {profile.name: profile for profile in load_catalogue("measured")}["resnet50"]
    assert resnet50.sigma == pytest.approx(math.log(692.7 / 556.7) / 3.29, abs=0.001)


def test_a_catalogue_of_the_users_own_is_read_from_its_path(tmp_path: Path) -> None:
    (profile,) = load_catalogue(write(tmp_path / "mine.csv", ROW))
    assert profile.hold_mb == 600
    assert profile.assumed == ("transfer_ms", "gpu_mb")
    assert profile.read_share == 0
    (profile,) = load_catalogue(write(tmp_path / "mine.csv", ROW | {"read_share": "0.25"}))
    assert profile.read_share == 0.25


def test_every_column_is_read_and_written_under_its_own_name(tmp_path: Path) -> None:
    numbers = {
        "container_init_ms": 1.5,
        "library_ms": 2.5,
        "model_ms": 3.5,
        "transfer_ms": 4.5,
        "inference_ms": 5.5,
        "gpu_inference_ms": 6.5,
        "hold_mb": 7,
        "peak_mb": 8,
        "gpu_mb": 9,
        "container_mb": 10,
        "sigma": 0.25,
        "read_share": 0.75,
        "slo_ms": 11.5,
        "unserved_s": 12.5,
    }
    words = {"name": "f", "source": "a stopwatch", "assumed": ("gpu_mb", "sigma")}
    row = {name: str(value) for name, value in numbers.items()} | words | {"assumed": "gpu_mb sigma"}
    (profile,) = load_catalogue(write(tmp_path / "given.csv", {name: str(value) for name, value in row.items()}))
    assert profile.model_dump() == numbers | words
    write_catalogue(tmp_path / "written.csv", [profile])
    with (tmp_path / "written.csv").open(encoding="utf-8", newline="") as lines:
        (written,) = csv.DictReader(lines)
    assert {name: float(written[name]) for name in numbers} == numbers
    assert {name: written[name] for name in words} == words | {"assumed": "gpu_mb sigma"}
    # what may be left out: no objective, and a minute for what was not served
    (profile,) = load_catalogue(write(tmp_path / "short.csv", ROW))
    assert (profile.read_share, profile.slo_ms, profile.unserved_s) == (0, 0, 60)


def test_a_catalogue_that_changed_is_read_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.csv", ROW)
    assert load_catalogue(path)[0].model_ms == 200
    write(path, ROW | {"model_ms": "20"})
    assert load_catalogue(path)[0].model_ms == 20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_ms": "-1"}, "row 3, column model_ms"),
        ({"model_ms": "fast"}, "row 3, column model_ms"),
        ({"model_ms": "nan"}, "row 3, column model_ms"),
        ({"hold_mb": "0"}, "row 3, column hold_mb"),
        ({"hold_mb": "600.5"}, "row 3, column hold_mb"),
        ({"peak_mb": "500"}, "hold_mb <= peak_mb <= container_mb"),
        ({"container_mb": "512"}, "hold_mb <= peak_mb <= container_mb"),
        ({"source": ""}, "row 3, column source"),
        ({"read_share": "1.1"}, "row 3, column read_share"),
        ({"read_share": "-0.1"}, "row 3, column read_share"),
        ({"sigma": "-0.1"}, "row 3, column sigma"),
        ({"sigma": "2.1"}, "row 3, column sigma"),
        ({"assumed": "speed"}, "names columns that do not exist: speed"),
        ({"name": "f"}, "row 3, column name: f is already in row 2"),
    ],
)
def test_a_bad_row_is_refused_by_file_row_and_column(tmp_path: Path, change: dict[str, str], message: str) -> None:
    path = write(tmp_path / "bad.csv", ROW | {"read_share": "0"}, ROW | {"name": "g", "read_share": "0"} | change)
    with pytest.raises(ProfileError) as refusal:
        load_catalogue(path)
    assert str(path) in str(refusal.value)
    assert message in str(refusal.value)


def test_missing_unknown_and_doubled_columns_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    with pytest.raises(ProfileError, match="column sigma is missing"):
        load_catalogue(write(path, {key: value for key, value in ROW.items() if key != "sigma"}))
    with pytest.raises(ProfileError, match="column colour is unknown; there are name, "):
        load_catalogue(write(path, ROW | {"colour": "red"}))
    with pytest.raises(ProfileError, match="column modle_ms is unknown; did you mean model_ms"):
        load_catalogue(write(path, {key.replace("model", "modle"): value for key, value in ROW.items()}))
    path.write_text(",".join([*ROW, "name"]) + "\n", encoding="utf-8")
    with pytest.raises(ProfileError, match="column name is there twice"):
        load_catalogue(path)


def test_files_that_are_missing_empty_or_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is no shipped catalogue .*; did you mean paper"):
        load_catalogue("papre")
    with pytest.raises(UserError, match="there are diffusion, measured, paper, real"):
        load_catalogue("mine.csv")
    path = tmp_path / "bad.csv"
    path.write_text("", encoding="utf-8")
    with pytest.raises(ProfileError, match="column name is missing"):
        load_catalogue(path)
    path.write_text(",".join(FunctionProfile.model_fields) + "\n", encoding="utf-8")
    with pytest.raises(ProfileError, match="has no rows"):
        load_catalogue(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ProfileError, match="no CSV file in UTF-8"):
        load_catalogue(path)
    path.write_text(",".join(ROW) + "\n" + ",".join([*ROW.values(), "extra"]) + "\n", encoding="utf-8")
    with pytest.raises(ProfileError, match="row 2: has 15 cells instead of 14"):
        load_catalogue(path)
    path.write_text(",".join(ROW) + "\nf,1\n", encoding="utf-8")
    with pytest.raises(ProfileError, match="row 2: has 2 cells instead of 14"):
        load_catalogue(path)
