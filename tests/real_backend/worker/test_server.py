"""The action server as OpenWhisk meets it: HTTP, logs, signals, isolation."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SENTINEL = "XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX"
SECRET = "s" * 43
COMMON = {"boot_id", "machine_id", "runs", "node", "gpu_uuid", "residents", "lost", "memory_mb", "torch_reserved_mb"}
Start = Callable[..., Any]


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def wait_until(condition: Callable[[], object]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it never came true")


def alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_it_is_initialised_once(start: Start) -> None:
    worker = start()
    assert worker.post("/run", {"value": {"op": "status"}})[0] == 500
    worker.init()
    status, reply = worker.post("/init", {"value": {}})
    assert (status, reply) == (403, {"error": "Cannot initialize the action more than once."})


def test_every_reply_says_which_container_answered_and_what_it_holds(start: Start) -> None:
    worker = start("--node", "rack-7")
    replies = [
        worker.init(),
        worker.run({"op": "load", "function": "toy"}),
        worker.run({"op": "infer", "function": "toy", "payload": {"numbers": [40, 2]}}),
        worker.run({"op": "offload", "function": "toy"}),
        worker.run({"op": "status"}),
        worker.run({"op": "infer", "function": "nobody"}),
    ]
    assert all(reply.keys() >= COMMON for reply in replies)
    assert {reply["node"] for reply in replies} == {"rack-7"}
    assert len({reply["boot_id"] for reply in replies}) == 1
    assert [entry["function"] for entry in replies[1]["residents"]] == ["toy"]
    assert replies[2]["answer"]["sum"] == 42
    assert replies[2]["stages_ms"].keys() == {"clear", "library", "model", "transfer", "inference"}
    assert replies[4]["residents"] == []
    assert replies[5]["ok"] is False
    assert replies[5]["error"]["code"] == "unknown_function"


def test_only_who_knows_the_secret_is_served(start: Start) -> None:
    worker = start(env={**os.environ, "TYCHE_SECRET": SECRET})
    init = {"value": {"name": "a", "main": "main", "code": ""}}
    for secret in (None, "", "wrong", SECRET[:-1], SECRET + "s"):
        headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
        for path in ("/init", "/run", "/", "/init?x"):
            assert worker.post(path, init, **headers)[0] == 403
    known = {"Authorization": f"Bearer {SECRET}"}
    assert worker.post("/init", init, **known)[0] == 200
    assert worker.post("/run", {"value": {"op": "status"}})[0] == 403
    load = {"value": {"op": "load", "function": "toy"}}
    assert worker.post("/run", load, **known)[1]["ok"]
    for pid in children(worker.process.pid):
        assert SECRET.encode() not in Path(f"/proc/{pid}/environ").read_bytes()


def test_a_refused_body_is_not_read(start: Start) -> None:
    worker = start(env={**os.environ, "TYCHE_SECRET": SECRET})
    with socket.create_connection(("127.0.0.1", worker.port), timeout=30) as stranger:
        stranger.sendall(b"POST /init HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n")
        answer = b""
        while chunk := stranger.recv(65_536):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize("style", ["fresh", "zygote"])
def test_what_a_function_writes_where_it_works_is_not_imported(start: Start, tmp_path: Path, style: str) -> None:
    folder = tmp_path / "works"
    folder.mkdir()
    worker = start("--start", style, cwd=folder, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])})
    worker.init()
    for name in ("json.py", "argparse.py", "real_backend.py"):
        (folder / name).write_text("open('imported', 'w')")
    assert worker.run({"op": "load", "function": "toy"})["ok"]
    assert not (folder / "imported").exists()


def test_a_new_start_is_a_new_boot(start: Start) -> None:
    assert start().init()["boot_id"] != start().init()["boot_id"]


def test_the_logs_of_each_activation_end_with_the_sentinel_on_both_streams(start: Start) -> None:
    worker = start()
    worker.init()
    worker.run({"op": "infer", "function": "toy", "payload": {"print": "hello"}})
    worker.run({"op": "infer", "function": "toy", "payload": {"print": "again"}})
    assert worker.out.read_text().splitlines() == ["hello", SENTINEL, "again", SENTINEL]
    assert worker.err.read_text().splitlines()[1:] == [SENTINEL, SENTINEL]


def test_in_native_mode_the_action_is_one_function(start: Start) -> None:
    worker = start()
    worker.init('{"mode": "native", "function": "toy", "after_run": "discard", "node": "n1"}')
    for _ in range(2):
        reply = worker.run({"numbers": [1, 2]})
        assert (reply["answer"]["sum"], reply["start_type"], reply["node"]) == (3, "warm", "n1")
    assert worker.run({"numbers": 1})["error"]["code"] == "bad_request"


def test_settings_that_are_wrong_fail_the_initialisation_and_can_be_mended(start: Start) -> None:
    worker = start()
    for code, named in (('{"mode": "native", "function": "x"}', "x: no such function"), ("{", "must be a JSON object")):
        status, reply = worker.post("/init", {"value": {"code": code}})
        assert status == 502
        assert named in reply["error"]
    worker.init()


def test_the_environment_of_the_action_reaches_the_functions(start: Start, tmp_path: Path) -> None:
    declaration = tmp_path / "mine.py"
    declaration.write_text(
        "import os\n"
        "from real_backend.functions.protocol import Resources\n"
        "from real_backend.functions.toy import Toy\n"
        "class Mine(Toy):\n"
        "    def infer(self, model, payload):\n"
        "        return os.environ['COLOUR'], os.environ['OMP_NUM_THREADS']\n"
        "FUNCTIONS = {'mine': Mine(Resources(1, 1))}\n"
    )
    worker = start("--functions", str(declaration))
    worker.init(env={"COLOUR": "red"})
    assert worker.run({"op": "infer", "function": "mine"})["answer"] == ["red", "1"]


def test_the_deadline_of_the_activation_is_kept(start: Start) -> None:
    worker = start()
    worker.init()
    worker.run({"op": "load", "function": "toy"})
    soon = str(round(time.time() * 1e3) + 300)
    slow = {"op": "infer", "function": "toy", "payload": {"sleep_ms": 60_000}}
    assert worker.run(slow, deadline=soon)["error"]["code"] == "deadline"
    assert worker.run({"op": "status"}, deadline="soon")["error"]["code"] == "bad_request"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [("POST", "/init", "[]", 400), ("POST", "/run", "{", 400), ("GET", "/run", "", 405), ("POST", "/stop", "{}", 404)],
)
def test_what_is_no_request_of_the_protocol_is_refused(
    start: Start, method: str, path: str, body: str, status: int
) -> None:
    worker = start()
    worker.connection.request(method, path, body)
    response = worker.connection.getresponse()
    assert response.status == status
    assert b"error" in response.read()


def test_what_is_no_http_is_refused_and_the_server_goes_on(start: Start) -> None:
    worker = start()
    with socket.create_connection(("127.0.0.1", worker.port), timeout=10) as connection:
        connection.sendall(b"\x00\x01\x02 nonsense\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 400")
    worker.init()


def test_a_reply_is_one_segment(start: Start) -> None:
    worker = start()
    with socket.create_connection(("127.0.0.1", worker.port), timeout=10) as connection:
        connection.sendall(b"POST /init HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n" + b'{"value": {}}')
        first = connection.recv(65536)
    head, _, body = first.partition(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length" in line)
    assert len(body) == length


def test_a_second_connection_is_answered_while_a_request_runs(start: Start) -> None:
    worker = start()
    worker.init()
    load = threading.Thread(target=worker.run, args=({"op": "load", "function": "toy-slow"},))
    load.start()
    answer = b""
    with socket.create_connection(("127.0.0.1", worker.port), timeout=60) as other:
        while b'"state"' not in answer:  # until the load has arrived
            other.sendall(
                b"POST /run HTTP/1.1\r\nHost: x\r\nContent-Length: 27\r\n\r\n" + b'{"value": {"op": "status"}}'
            )
            answer = other.recv(65536)
    assert b'"state": "loading"' in answer
    load.join()


@pytest.mark.parametrize("style", ["fresh", "zygote"])
def test_sigterm_ends_it_and_all_functions(start: Start, style: str) -> None:
    worker = start("--start", style)
    worker.init()
    worker.run({"op": "load", "function": "toy"})
    family = children(worker.process.pid)
    family += [grandchild for child in family for grandchild in children(child)]
    assert family
    assert worker.stop() == 0
    wait_until(lambda: not any(map(alive, family)))


@pytest.mark.parametrize("style", ["fresh", "zygote"])
def test_functions_die_with_a_server_that_is_killed(start: Start, style: str) -> None:
    worker = start("--start", style)
    worker.init()
    worker.run({"op": "load", "function": "toy"})
    family = children(worker.process.pid)
    family += [grandchild for child in family for grandchild in children(child)]
    worker.process.kill()
    wait_until(lambda: not any(map(alive, family)))


def test_a_function_that_was_killed_from_outside_is_reported(start: Start) -> None:
    worker = start()
    worker.init()
    worker.run({"op": "load", "function": "toy"})
    (child,) = children(worker.process.pid)
    os.kill(child, signal.SIGKILL)
    wait_until(lambda: not children(worker.process.pid))
    reply = worker.run({"op": "status"})
    assert reply["residents"] == []
    assert [entry["function"] for entry in reply["lost"]] == ["toy"]
    assert worker.run({"op": "status"})["lost"] == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--functions", "no.such.module"), "no.such.module: cannot be imported"),
        (("--functions", "json"), "json: has no mapping FUNCTIONS"),
        (("--functions", "gone.py"), "gone.py: is no file"),
        (("--functions", "real_backend.functions.toy", "--only", "x"), "--only x: real_backend.functions.toy has toy,"),
        (("--functions", "real_backend.functions.toy", "--gpu", "0"), "GPU 0: not found"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(arguments: tuple[str, ...], named: str) -> None:
    if "--gpu" in arguments and Path("/dev/nvidiactl").exists():
        pytest.skip("there is a GPU 0")
    command = [sys.executable, "-m", "real_backend.worker", "--port", "0", *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert answer.returncode == 2
    assert named in answer.stderr
    assert answer.stderr.count("\n") == 1


def test_the_server_imports_no_library_of_a_function() -> None:
    heavy = "torch", "numpy", "transformers", "onnxruntime", "gymnasium", "pydantic"
    program = (
        "import sys, real_backend.worker.__main__, real_backend.functions.protocol as p\n"
        "p.load_functions('real_backend.functions.catalogue')\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert answer.stdout.strip() == "[]", answer.stderr


SYSTEM_PYTHON = shutil.which("python3", path="/usr/bin:/bin")


@pytest.mark.skipif(os.geteuid() != 0 or SYSTEM_PYTHON is None, reason="needs root and a Python that all may run")
def test_each_function_can_be_a_user_of_its_own(start: Start, tmp_path: Path) -> None:
    assert SYSTEM_PYTHON is not None
    import h11

    root = Path(__file__).parents[3]
    path = f"{root}:{Path(h11.__file__).parents[1]}"
    if any(not part.stat().st_mode & 0o005 for part in (root, *root.parents)):
        pytest.skip("other users cannot read this folder")
    scratch = tmp_path / "scratch"
    scratch.mkdir(mode=0o700)
    environment = {"PYTHONPATH": path, "PATH": "/usr/bin:/bin", "TMPDIR": str(scratch)}
    worker = start("--user-base", "23000", python=(SYSTEM_PYTHON,), env=environment)
    worker.init()
    for name in ("toy", "toy-slow"):
        # each works in a folder of its own, where it may write
        assert worker.run({"op": "infer", "function": name, "after_run": "discard", "payload": {"touch": "mark"}})["ok"]
    for name in ("toy", "toy-slow"):
        worker.run({"op": "load", "function": name})
    family = children(worker.process.pid)
    assert {Path(f"/proc/{pid}").stat().st_uid for pid in family} == {23000, 23001}
    (first, second) = worker.run({"op": "status"})["residents"]
    folders = [Path(f"/proc/{pid}/cwd").resolve() for pid in family]
    assert len(set(folders)) == 2
    for pid, folder in zip(family, folders, strict=True):
        assert (folder / "mark").stat().st_uid == Path(f"/proc/{pid}").stat().st_uid
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert first["memory_mb"] > 5
    assert second["memory_mb"] > first["memory_mb"]
    worker.stop()
    wait_until(lambda: not any(map(alive, family)))
    assert list(scratch.iterdir()) == []


@pytest.fixture
def small_cgroup() -> Iterator[Path]:
    """A cgroup with 120 MB of memory."""
    root = Path("/sys/fs/cgroup")
    v2 = (root / "cgroup.controllers").exists()
    group = (root if v2 else root / "memory") / f"tyche-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / ("memory.max" if v2 else "memory.limit_in_bytes")).write_text("120000000")
    except OSError as error:
        if group.is_dir():
            group.rmdir()
        pytest.skip(f"no memory cgroup can be made here: {error}")
    yield group
    for _ in range(100):
        try:
            group.rmdir()
            return
        except OSError:
            time.sleep(0.1)


def test_a_function_that_takes_too_much_memory_is_killed_alone(start: Start, small_cgroup: Path) -> None:
    enter = ("sh", "-c", f'echo $$ > {small_cgroup}/cgroup.procs && exec "$0" "$@"', sys.executable)
    worker = start(python=enter)
    boot = worker.init()["boot_id"]
    reply = worker.run({"op": "infer", "function": "toy", "payload": {"allocate_mb": 400}})
    error = reply["error"]
    assert (error["code"], error["message"]) == ("out_of_memory", "toy: the kernel killed it for memory")
    assert reply["boot_id"] == boot
    assert reply["residents"] == []
    assert worker.run({"op": "infer", "function": "toy-big"})["error"]["code"] == "out_of_memory"
    assert worker.run({"op": "infer", "function": "toy"})["ok"]
    worker.stop()


def test_functions_of_a_world_are_offered_in_place_of_the_declared_ones(start: Start) -> None:
    worker = start()
    entry = {"declared": "toy", "hold_mb": 30, "peak_mb": 40}
    status, reply = worker.post(
        "/init", {"value": {"code": json.dumps({"functions": {"0": {**entry, "hold_mb": 50}}})}}
    )
    assert (status, "hold_mb <= peak_mb" in reply["error"]) == (502, True)
    status, reply = worker.post("/init", {"value": {"code": json.dumps({"functions": {"0": {"declared": "toy"}}})}})
    assert (status, reply["error"]) == (502, "code: functions: 0: hold_mb is missing")
    status, reply = worker.post(
        "/init", {"value": {"code": json.dumps({"functions": {"0": {**entry, "declared": "nobody"}}})}}
    )
    assert (status, "nobody: no such function here" in reply["error"]) == (502, True)
    worker.init(json.dumps({"functions": {"0-toy": entry, "1-toy": entry}}))
    for name in ("0-toy", "1-toy"):
        assert worker.run({"op": "load", "function": name})["done"]
    assert {each["function"] for each in worker.run({"op": "status"})["residents"]} == {"0-toy", "1-toy"}
    assert worker.run({"op": "infer", "function": "toy"})["error"]["code"] == "unknown_function"


def test_a_reply_tells_how_often_its_container_ran_and_whether_this_was_run_before(start: Start) -> None:
    worker = start()
    worker.init()
    ask = {"value": {"op": "status"}, "activation_id": "a1"}
    replies = [worker.post("/run", {**ask, "activation_id": name})[1] for name in ("a1", "a2", "a1")]
    assert [each["runs"] for each in replies] == [1, 2, 3]
    assert ["again" in each for each in replies] == [False, False, True]
    assert replies[0]["machine_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def test_a_failure_carries_who_answered_inside(start: Start) -> None:
    worker = start()
    boot = worker.init()["boot_id"]
    error = worker.run({"op": "infer", "function": "nobody"})["error"]
    assert error["container"]["boot_id"] == boot
    assert error["container"]["residents"] == []


def test_an_answer_that_the_platform_would_cut_off_is_a_failure(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "large.py"
    file.write_text(
        "from real_backend.functions.protocol import Resources\n"
        "from real_backend.functions.toy import Toy\n"
        "class Large(Toy):\n"
        "    def infer(self, model, payload):\n"
        "        return 'x' * payload['size']\n"
        "FUNCTIONS = {'large': Large(Resources(30, 40))}\n"
    )
    worker = start("--functions", str(file))
    worker.init()
    ask = {"op": "infer", "function": "large"}
    assert worker.run({**ask, "payload": {"size": 900_000}})["ok"]
    error = worker.run({**ask, "payload": {"size": 1_100_000}})["error"]
    assert (error["code"], error["message"]) == ("failed", "large: its answer has 1100002 bytes, over 1000000")
