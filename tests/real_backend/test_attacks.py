"""Another user of the machine attacks all that a platform has: nothing may be open.

What there is to attack is found by root: every process, port, socket, file and folder of the platform, so that the
attacker (``attacker.py``, run as ``nobody``) need not find it.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from real_backend.containers import cgroup
from real_backend.images.action_zip import encoded_zip
from real_backend.platform.state import StateFolder
from real_backend.worker.messages import Settings
from tests.real_backend.needs import containers
from tests.real_backend.worlds import TOYS

SYSTEM_PYTHON = shutil.which("python3", path="/usr/bin:/bin")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.geteuid() != 0 or SYSTEM_PYTHON is None, reason="needs root, to be another user, and a Python for everybody"
    ),
]
TYCHE = (sys.executable, "-c", "from tyche_env.cli import main; main()", "platform")
NOBODY = pwd.getpwnam("nobody").pw_uid
SLEEPS = "import time\n\ndef main(a):\n    time.sleep(a.get('s', 0))\n    return {}\n"
PUBLIC = ("/", "/api/v1", "/docs", "/openapi.json")


class Victim:
    """A platform that root started carelessly: no umask, its folders where everybody may write."""

    def __init__(self, containers: str) -> None:
        self.temporary = Path(tempfile.mkdtemp(prefix="attacked-"))
        self.temporary.chmod(0o1777)
        self.valuable = self.temporary / "valuable"
        self.valuable.mkdir(mode=0o700)
        (self.valuable / "file").touch()
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("OW_")},
            "TMPDIR": str(self.temporary),
        }
        self.folder = self.temporary / "state"
        made = StateFolder(self.folder)
        self.plant(made.platform)
        worker = f"--functions {TOYS}" + (" --start zygote" if containers == "process" else "")
        # a paused container answers nobody, and an attack takes its time
        options = ("--port", "0", "--detach", "--no-pause", "--containers", containers, "--worker-options", worker)
        self.call("up", *options, "--stem-cells", "python:3,128,1")
        self.state = StateFolder(self.folder)
        self.http = httpx.Client(base_url=f"{self.state.url}/api/v1/namespaces/_/actions", trust_env=False, timeout=90)
        user, _, password = self.state.key.partition(":")
        self.http.auth = httpx.BasicAuth(user, password)
        self.put("f", {"kind": "python:3", "code": SLEEPS})
        self.put("w", {"kind": "tyche:1"})
        self.put("z", {"kind": "python:3", "binary": True, "code": encoded_zip(Settings(), TOYS)})
        assert self.invoke("f") == 200
        for name in ("w", "z"):
            for op in ("infer", "load"):
                assert self.invoke(name, op=op, function="toy") == 200

    def call(self, word: str, *options: str) -> None:
        done = subprocess.run(
            [*TYCHE, word, "--state", str(self.folder), *options],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            umask=0,
        )
        assert done.returncode == 0, done.stderr

    def plant(self, platform: str) -> None:
        """Links of the attacker's where the platform may want to write, to something of root's."""
        for name in (f"tyche-{platform}", f"tyche-{platform}-x", "tyche-platform-x", "tyche-action-x"):
            link = self.temporary / name
            link.symlink_to(self.valuable)
            os.chown(link, NOBODY, NOBODY, follow_symlinks=False)

    def put(self, name: str, what: dict[str, Any]) -> None:
        assert self.http.put(f"/{name}", json={"exec": what}).status_code == 200

    def invoke(self, name: str, **payload: Any) -> int:
        return self.http.post(f"/{name}", params={"blocking": "true"}, json=payload).status_code

    # -- what there is to attack ---------------------------------------------------------------------------------------

    def pids(self) -> list[int]:
        """The platform, all that carries its label, and the children of both."""
        label = f"TYCHE_PLATFORM={self.state.platform}".encode()
        parents: dict[int, int] = {}
        found = {self.state.process or 0}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                if label in (folder / "environ").read_bytes().split(b"\0"):
                    found.add(int(folder.name))
            except OSError:
                continue
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return sorted(found - {0})

    def inodes(self) -> set[str]:
        """Of all sockets that these processes have open."""
        return {text[8:-1] for text in self.open_files() if text.startswith("socket:[")}

    def open_files(self) -> set[str]:
        found = set()
        for pid in self.pids():
            for link in Path(f"/proc/{pid}/fd").iterdir():
                try:
                    found.add(str(link.readlink()))
                except OSError:
                    continue
        return found

    def addresses(self) -> list[tuple[str, int, str]]:
        """Where they listen, and as what."""
        found = []
        inodes = self.inodes()
        for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
            for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == "0A" and words[9] in inodes:
                    raw, _, port = words[1].partition(":")
                    packed = b"".join(bytes.fromhex(raw[i : i + 8])[::-1] for i in range(0, len(raw), 8))
                    what = "platform" if str(self.state.url).endswith(f":{int(port, 16)}") else "container"
                    found.append((socket.inet_ntop(family, packed), int(port, 16), what))
        return found

    def sockets(self) -> list[str]:
        """Unix sockets with names, abstract ones too."""
        inodes = self.inodes()
        lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
        named = [words for words in lines if len(words) > 7 and words[6] in inodes]
        # the kernel names a client's datagram socket itself: dockerd has one, which it does not read from
        return sorted({name for *_, kind, _, _, name in named if (kind, len(name)) != ("0002", 6)})

    def paths(self) -> list[str]:
        """Files and folders that it made, and those of its containers that it has open."""
        roots = [self.folder, *(path for path in self.temporary.glob("tyche-*") if not path.is_symlink())]
        roots += Path("/run").glob(f"tyche-{self.state.platform}*")
        found = [path for root in roots for path in (root, *root.rglob("*"))]
        hierarchy = cgroup.find()
        if isinstance(hierarchy, cgroup.Hierarchy):
            for group in hierarchy.groups(f"{self.state.platform}-"):
                found += [folder / "cgroup.procs" for folder in (group.memory, group.freezer or group.memory)]
        # everybody may read what is in the system's groups, and what is shared with containers read-only
        return [str(path) for path in found if "/data/overlay2/" not in str(path) and not path.is_symlink()]

    def secrets(self) -> list[str]:
        """The key, its second half, and the secret of each container."""
        found = {self.state.key, self.state.key.partition(":")[2]}
        for pid in self.pids():
            for variable in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                if variable.startswith(b"TYCHE_SECRET="):
                    found.add(variable.partition(b"=")[2].decode())
        return sorted(found)

    def attack(self) -> list[str]:
        """What another user finds open."""
        known = {
            "pids": self.pids(),
            "addresses": self.addresses(),
            "sockets": self.sockets(),
            "paths": self.paths(),
            "secrets": self.secrets(),
            "temporary": str(self.temporary),
        }
        assert SYSTEM_PYTHON is not None
        done = subprocess.run(
            [SYSTEM_PYTHON, "-I", "-c", Path(__file__).with_name("attacker.py").read_text()],
            input=json.dumps(known),
            capture_output=True,
            text=True,
            check=False,
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            cwd="/",
            env={"PATH": "/usr/bin:/bin"},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def close(self) -> None:
        self.http.close()
        self.call("down")
        assert (self.valuable / "file").exists()
        assert stat.S_IMODE(self.valuable.stat().st_mode) == 0o700
        shutil.rmtree(self.temporary)


@pytest.fixture(params=containers.args[1])
def victim(request: pytest.FixtureRequest) -> Iterator[Victim]:
    made = Victim(request.param)
    yield made
    made.close()


def test_another_user_finds_nothing_open(victim: Victim) -> None:
    addresses = victim.addresses()
    # four containers, of three actions and a stem cell, and the action server that the zip starts
    assert [what for _, _, what in addresses].count("container") == 5
    assert [what for _, _, what in addresses].count("platform") == 1
    assert all(host.startswith("127.") for host, _, _ in addresses)
    assert len(victim.secrets()) == 7
    assert victim.attack() == []
    # what needs no key says nothing of this platform
    (port,) = [port for _, port, what in addresses if what == "platform"]
    for path in PUBLIC:
        text = httpx.get(f"http://127.0.0.1:{port}{path}", trust_env=False).text
        assert not any(secret in text for secret in (*victim.secrets(), victim.state.platform, str(victim.folder)))
    # and the attacks, and connections that are held open, have changed nothing
    held = [socket.create_connection((host, port)) for host, port, _ in addresses for _ in range(20)]
    assert victim.invoke("f") == 200
    for name in ("w", "z"):
        assert victim.invoke(name, op="status") == 200
    for each in held:
        each.close()


CARELESS = """
import http.server, socket

unix = socket.socket(socket.AF_UNIX)
unix.bind("\\0tyche-careless")
unix.listen()
http.server.test(http.server.SimpleHTTPRequestHandler, http.server.HTTPServer, "HTTP/1.0", 8080, "127.1.2.3")
"""


def test_what_is_open_is_found(victim: Victim) -> None:
    # truth before trust: the attacker finds what has been opened for him
    victim.folder.chmod(0o755)
    key = victim.folder / "key"
    key.chmod(0o644)
    label = {"TYCHE_PLATFORM": victim.state.platform, "PATH": os.environ["PATH"]}
    program = [str(SYSTEM_PYTHON), "-u", "-c", CARELESS, victim.state.key]
    careless = subprocess.Popen(program, env=label, user=NOBODY, group=NOBODY, cwd="/", stdout=subprocess.PIPE)
    try:
        assert careless.stdout is not None
        careless.stdout.readline()
        found = victim.attack()
    finally:
        careless.kill()
        careless.communicate()
    for wanted in (f"{key} can be read", f"{victim.folder} can be listed", f"{key} has a secret"):
        assert wanted in found
    assert f"/proc/{careless.pid}/cmdline has a secret" in found
    assert f"/proc/{careless.pid}/environ can be read" in found
    assert f"process {careless.pid} takes signals" in found
    assert "socket @tyche-careless" in found
    assert "POST 127.1.2.3:8080/init with None: 501" in found
