"""One process writes to a place: a second one is refused by name, and a dead one stands in nobody's way."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from traces.output import LOCK, OWNER, OutputError, held, holds, is_empty, is_held, lock_of, made_folder, made_parent

HOLDER = """
import sys, time
from pathlib import Path
from traces.output import held
try:
    with held(Path(sys.argv[1])):
        print("held", flush=True)
        time.sleep(60)
except KeyboardInterrupt:
    print("left", flush=True)
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    """Another process that holds the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_another_process_is_refused_and_told_who_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "run"
    process = holder(folder)
    try:
        assert is_held(folder)
        with pytest.raises(OutputError) as caught, held(folder):
            pass
    finally:
        process.kill()
        process.communicate()
    said = str(caught.value)
    assert said.startswith(f"{folder}: is in use by process {process.pid} on host {socket.gethostname()} (")
    assert f"{folder}), since 20" in said
    assert said.endswith("; wait for it, or name another place")


def test_a_process_that_was_killed_stands_in_nobodys_way(tmp_path: Path) -> None:
    process = holder(tmp_path)
    process.kill()
    process.communicate()
    assert (tmp_path / OWNER).is_file()
    assert not is_held(tmp_path)
    with held(tmp_path):
        assert json.loads((tmp_path / OWNER).read_text(encoding="utf-8"))["process"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_lets_go(tmp_path: Path) -> None:
    process = holder(tmp_path)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20)[0] == "left\n"
    assert list(tmp_path.iterdir()) == []


def test_a_second_thread_of_one_process_is_refused_too(tmp_path: Path) -> None:
    found: list[str] = []

    def second() -> None:
        try:
            with held(tmp_path):
                found.append("held")
        except OutputError as error:
            found.append(str(error))

    with held(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert f"is in use by process {os.getpid()} " in found[0]


def test_who_comes_while_the_owner_is_written_is_refused_all_the_same(tmp_path: Path) -> None:
    with held(tmp_path):
        for half in ("", '{"process": 3', "[]"):
            (tmp_path / OWNER).write_text(half, encoding="utf-8")
            with pytest.raises(OutputError, match="is in use by another process; wait"), held(tmp_path):
                pass


def test_a_file_is_held_beside_itself(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "a.csv"
    with held(file, file=True):
        assert not file.exists()
        lock, owner = lock_of(file, file=True)
        assert {lock, owner} == set(file.parent.iterdir())
        with pytest.raises(OutputError, match=r"a\.csv: is in use by process"), held(file, file=True):
            pass
        with held(file.parent / "b.csv", file=True):
            pass
    assert list(file.parent.iterdir()) == []


def test_a_new_folder_that_stays_empty_goes_again(tmp_path: Path) -> None:
    with pytest.raises(KeyError), held(tmp_path / "new"):
        raise KeyError
    assert not (tmp_path / "new").exists()
    with held(tmp_path / "new"):
        (tmp_path / "new" / "rows").touch()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["rows"]


def test_a_decorated_function_holds_the_folder_that_its_parameter_names(tmp_path: Path) -> None:
    @holds("out")
    def write(name: str, out: Path, *, suffix: str = "") -> str:
        """Doc."""
        assert is_held(out)
        assert is_empty(out)
        return name + suffix

    assert write("a", tmp_path, suffix="b") == "ab"
    assert write(out=tmp_path, name="a") == "a"
    assert write.__doc__ == "Doc."
    assert not is_held(tmp_path)
    assert not (tmp_path / LOCK).exists()


def test_a_place_that_cannot_be_made_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file: cannot be made as a folder \(is there, but is no folder\)"):
        made_folder(tmp_path / "file")
    with pytest.raises(OutputError, match=r"file/below: cannot be made as a folder \(Not a directory\)"):
        made_parent(tmp_path / "file" / "below" / "a.csv")
    assert made_parent(tmp_path / "x" / "y" / "a.csv").parent.is_dir()
