"""What an action is made of, on a platform that knows each kind; and certificates."""

from __future__ import annotations

import base64
import io
import json
import shutil
import ssl
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from real_backend.backend import OpenWhiskBackend, RealSettings
from real_backend.client import Credentials
from real_backend.making import Making, functions_of
from real_backend.worker.messages import Settings, WorldFunction
from tests.real_backend.genuine import Genuine
from tests.real_backend.platform.test_commands import tyche, up
from tests.real_backend.worlds import TOYS, toy_platform, toy_world
from tyche_env.backend import BackendError
from tyche_env.errors import UserError
from tyche_env.world import AfterRun, StartType

TWICE = ("toy", "toy")
WORLD = toy_world([(0.0, 0), (2.0, 1), (4.0, 1)], 5.0, TWICE, after_run_platform=AfterRun.KEEP)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Credentials]:
    with toy_platform(1024, tmp_path_factory.mktemp("platform")) as credentials:
        yield credentials


def functions_file(folder: Path) -> Path:
    """Declares a toy of its own, so that a container has it only if it was sent along."""
    file = folder / "of_mine.py"
    file.write_text(f"from {TOYS} import FUNCTIONS as TOYS\nFUNCTIONS = {{'mine': TOYS['toy']}}\n", encoding="utf-8")
    return file


@pytest.mark.parametrize("deployment", ["embedded", "kind:python:3", "image:tyche-worker"])
def test_the_same_profile_twice_is_two_functions_whatever_actions_are_made_of(
    platform: Credentials, deployment: str
) -> None:
    transport = Genuine()
    settings = RealSettings.model_validate(
        {"credentials": platform, "deployment": deployment, "functions": TOYS, "preflight": False}
    )
    backend = OpenWhiskBackend(settings, transport=lambda: transport)
    try:
        backend.reset(WORLD)
        backend.drain()
        log = backend.log()
    finally:
        backend.close()
    assert (log["status"] == 0).all()
    # the second function does not find the first one's process, and its own the second time
    assert log["start_type"].tolist() == [StartType.COLD, StartType.COLD, StartType.MEMORY]
    assert (log["warming_us"][:2] > 0).all()
    made = [body["exec"] for body in transport.actions.values()]
    how, _, name = deployment.partition(":")
    kind = {"embedded": "tyche:1", "kind": name, "image": "blackbox"}[how]
    assert {each["kind"] for each in made} == {kind}
    assert {body["limits"]["logs"] for body in transport.actions.values()} == {0}
    assert sorted(transport.deleted) == sorted(transport.actions)


def test_a_file_of_functions_goes_along_with_a_managed_kind(platform: Credentials, tmp_path: Path) -> None:
    settings = RealSettings.model_validate(
        {"credentials": platform, "deployment": "kind:python:3", "functions": str(functions_file(tmp_path))}
    )
    backend = OpenWhiskBackend(settings, transport=Genuine)
    try:
        backend.reset(toy_world([(0.0, 0)], 1.0, ("mine",)))
        backend.drain()
        assert backend.log()["status"].tolist() == [0]
    finally:
        backend.close()


def test_the_zip_holds_what_the_worker_needs(tmp_path: Path) -> None:
    spec = Making.parse("kind:python:3.11").spec(
        Settings(functions={"0-mine": WorldFunction("mine", 30, 40)}), str(functions_file(tmp_path)), logs_mib=0
    )
    assert (spec.kind, spec.binary, spec.logs_mib) == ("python:3.11", True, 0)
    assert spec.code is not None
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(spec.code))) as archive:
        names = set(archive.namelist())
        told = json.loads(archive.read("settings.json"))
    assert {"__main__.py", "of_mine.py", "real_backend/worker/server.py", "h11/__init__.py"} <= names
    assert told["arguments"] == ["--functions", "of_mine.py"]
    entry = {"declared": "mine", "hold_mb": 30, "peak_mb": 40, "gpu_mb": 0}
    assert told["settings"]["functions"] == {"0-mine": entry}


def test_a_module_of_a_package_goes_along_with_its_package() -> None:
    code = Making.parse("kind:python:3").spec(Settings(), "agents.policies.builtin").code
    assert code is not None
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(code))) as archive:
        assert "agents/policies/builtin.py" in archive.namelist()


@pytest.mark.parametrize(
    ("reference", "reason"),
    [("json.no", None), ("no_such_module", "no_such_module: is no module"), ("/no/file.py", "No such file")],
)
def test_functions_that_cannot_go_along_are_refused(reference: str, reason: str | None) -> None:
    if reason is None:
        assert Making.parse("kind:python:3").spec(Settings(), reference).code
        return
    with pytest.raises(UserError, match=f"TYCHE_DEPLOYMENT: kind:python:3: .*{reason}"):
        Making.parse("kind:python:3").spec(Settings(), reference)


@pytest.mark.parametrize("text", ["", "kind", "kind:", "image:", "docker:x", "embedded:tyche:1"])
def test_a_deployment_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"there are embedded, kind:KIND \(kind:python:3.11\) and image:NAME, got"):
        Making.parse(text)


def test_the_environment_says_what_an_action_is_made_of() -> None:
    assert str(RealSettings.from_environment({"TYCHE_DEPLOYMENT": "kind:python:3.11"}).deployment) == "kind:python:3.11"
    assert RealSettings.from_environment({}).deployment == Making()
    with pytest.raises(UserError, match=r"^TYCHE_DEPLOYMENT: there are"):
        RealSettings.from_environment({"TYCHE_DEPLOYMENT": "zip"})


def test_the_default_is_refused_where_the_platform_does_not_know_it(platform: Credentials) -> None:
    backend = OpenWhiskBackend(
        RealSettings(credentials=platform, functions=TOYS), transport=lambda: Genuine(kinds=False)
    )
    try:
        with pytest.raises(BackendError, match=r"TYCHE_DEPLOYMENT: embedded needs the kind tyche:1, .* only python:3"):
            backend.reset(WORLD)
    finally:
        backend.close()


def test_a_kind_that_the_platform_refuses_names_the_variable(platform: Credentials) -> None:
    settings = RealSettings.model_validate(
        {"credentials": platform, "deployment": "kind:python:2", "functions": TOYS, "preflight": False}
    )
    backend = OpenWhiskBackend(settings, transport=Genuine)
    try:
        with pytest.raises(BackendError, match=r"TYCHE_DEPLOYMENT: kind:python:2: .* 400 "):
            backend.reset(WORLD)
    finally:
        backend.close()


def test_functions_of_a_world_have_its_memory() -> None:
    assert functions_of(WORLD) == {
        "0-toy": WorldFunction("toy", 60, 80, 0),
        "1-toy": WorldFunction("toy", 60, 80, 0),
    }


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    folder = tmp_path_factory.mktemp("certificate")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "certificate.pem"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "certificate.pem"


def test_certificates_are_accepted_as_said(certificate: Path, tmp_path: Path) -> None:
    named = {"OW_APIHOST": "h", "OW_AUTH": "a:b"}
    assert Credentials.find(named, tmp_path).verify is True
    assert Credentials.find({**named, "OW_INSECURE": "1"}, tmp_path).verify is False
    assert Credentials.find({**named, "OW_INSECURE": "0"}, tmp_path).verify is True
    trusting = Credentials.find({**named, "OW_CA": str(certificate)}, tmp_path).verify
    assert isinstance(trusting, ssl.SSLContext)
    assert len(trusting.get_ca_certs()) == 1
    for changed, reason in (
        ({"OW_INSECURE": "yes"}, "OW_INSECURE: 1 accepts any certificate"),
        ({"OW_INSECURE": "1", "OW_CA": str(certificate)}, "--ca, OW_CA.*--insecure, OW_INSECURE"),
        ({"OW_CA": str(tmp_path / "no.pem")}, "no.pem: holds no certificates in PEM"),
    ):
        with pytest.raises(UserError, match=reason):
            _ = Credentials.find({**named, **changed}, tmp_path).verify


def test_our_own_platform_is_reached_over_tls_with_its_certificate(certificate: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    key = str(certificate.with_name("key.pem"))
    try:
        up(state, "--certificate", str(certificate), "--private-key", key)
        words = ("deploy", "slot", "--deployment", "embedded")
        refused = tyche(state, *words)
        assert refused.returncode == 2
        assert "certificate verify failed" in refused.stderr
        for trust in (("--ca", str(certificate)), ("--insecure",)):
            done = tyche(state, *words, *trust)
            assert done.returncode == 0, done.stderr
        both = tyche(state, *words, "--insecure", "--ca", str(certificate))
        assert "a file of certificates" in both.stderr
    finally:
        tyche(state, "down")
