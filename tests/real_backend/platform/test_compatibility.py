"""Clients made for OpenWhisk, unmodified, against the embedded platform; and its OpenAPI under fire."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from real_backend.platform.state import StateFolder
from tests.real_backend.needs import containers

pytestmark = pytest.mark.slow

TYCHE = (sys.executable, "-c", "from tyche_env.cli import main; main()", "platform")

# create, update, invoke (blocking, non-blocking, failing, timing out), list, read logs, delete
JAVASCRIPT = r"""
const openwhisk = require('openwhisk')
const [apihost, api_key] = process.argv.slice(2)
const ow = openwhisk({ apihost, api_key })
const code = `import time
def main(args):
    print("hello from python")
    if "sleep" in args:
        time.sleep(args["sleep"])
    if "fail" in args:
        return {"error": args["fail"]}
    return {"greeting": "hi " + args.get("name", "nobody")}
`
const pause = ms => new Promise(resolve => setTimeout(resolve, ms))
async function main () {
  const out = {}
  const exec = { kind: 'python:3' }
  const made = await ow.actions.create({ name: 'js', action: code, kind: 'python:3' })
  out.made = made.version
  try { await ow.actions.create({ name: 'js', action: code, kind: 'python:3' }) } catch (e) { out.again = e.statusCode }
  const limits = { timeout: 500, memory: 256 }
  const updated = await ow.actions.update({ name: 'js', action: code, kind: 'python:3', limits })
  out.updated = [updated.version, updated.limits.timeout]
  out.result = await ow.actions.invoke({ name: 'js', blocking: true, result: true, params: { name: 'JS' } })
  const record = await ow.actions.invoke({ name: 'js', blocking: true, params: {} })
  out.record = record.response
  out.keys = record.annotations.map(each => each.key)
  const { activationId } = await ow.actions.invoke({ name: 'js', params: { name: 'later' } })
  for (let k = 0; k < 100; k++) {
    try { out.later = (await ow.activations.get(activationId)).response.result; break } catch (e) { await pause(50) }
  }
  out.laterResult = (await ow.activations.result(activationId)).result
  out.logs = (await ow.activations.logs(activationId)).logs.map(line => line.replace(/^.*std/, 'std'))
  for (const [name, params] of [['failing', { fail: 'on purpose' }], ['timing out', { sleep: 5 }]]) {
    try {
      await ow.actions.invoke({ name: 'js', blocking: true, params })
    } catch (e) {
      out[name] = [e.statusCode, e.error.response.status, e.error.response.result.error]
    }
  }
  await ow.packages.update({ name: 'pkg', package: {} })
  await ow.actions.update({ name: 'pkg/inner', action: code, kind: 'python:3' })
  out.inner = await ow.actions.invoke({ name: 'pkg/inner', blocking: true, result: true })
  await ow.actions.update({ name: 'seq', sequence: ['/_/js', '/_/pkg/inner'] })
  out.sequence = await ow.actions.invoke({ name: 'seq', blocking: true, result: true })
  out.actions = (await ow.actions.list({ limit: 10 })).map(each => each.name).sort()
  out.one = (await ow.actions.list({ limit: 1, skip: 1 })).length
  out.code = (await ow.actions.get('js')).exec.code === code
  out.packages = (await ow.packages.list()).map(each => each.name)
  out.namespaces = await ow.namespaces.list()
  out.activations = (await ow.activations.list({ name: 'js', limit: 2 })).map(each => each.name)
  for (const name of ['seq', 'pkg/inner', 'js']) await ow.actions.delete(name)
  await ow.packages.delete('pkg')
  try { await ow.actions.get('js') } catch (e) { out.gone = e.statusCode }
  console.log(JSON.stringify(out))
}
main().catch(e => { console.error(e); process.exit(1) })
"""

LITHOPS = r"""
import importlib.util, json, sys, time, zipfile, io
file, endpoint, key = sys.argv[1:]
spec = importlib.util.spec_from_file_location("lithops_openwhisk", file)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
ow = module.OpenWhiskClient(endpoint, "guest", api_key=key, insecure=True)
packed = io.BytesIO()
with zipfile.ZipFile(packed, "w") as archive:
    archive.writestr("__main__.py", '''import time
def main(args):
    print("hello")
    time.sleep(args.get("sleep", 0))
    return {"error": args["fail"]} if "fail" in args else {"double": 2 * args.get("x", 0)}
''')
out = {}
ow.create_package("lithops")
ow.create_action("lithops", "runtime", code=packed.getvalue(), memory=256, timeout=500, kind="python:3")
ow.update_memory("lithops", "runtime", 512)
action = ow.get_action("lithops", "runtime")
out["action"] = [action["version"], action["limits"]]
out["listed"] = [each["name"] for each in ow.list_actions("lithops")]
out["packages"] = [each["name"] for each in ow.list_packages()]
out["result"] = ow.invoke_with_result("lithops", "runtime", {"x": 21})
out["failing"] = ow.invoke_with_result("lithops", "runtime", {"fail": "on purpose"})
out["timing out"] = ow.invoke_with_result("lithops", "runtime", {"sleep": 5})
activations = [ow.invoke("lithops", "runtime", {"x": 1}, is_ow_action=each) for each in (True, False)]
for activation in activations:
    for _ in range(100):
        record = ow.session.get(f"{ow.url}/guest/activations/{activation}")
        if record.status_code == 200:
            break
        time.sleep(0.05)
    out.setdefault("later", []).append(record.json()["response"]["result"])
logs = ow.session.get(f"{ow.url}/guest/activations/{activations[0]}/logs").json()["logs"]
out["logs"] = [line.partition("stdout: ")[2] for line in logs]
out["missing"] = ow.invoke("lithops", "nothing", {})
ow.delete_action("lithops", "runtime")
out["empty"] = ow.list_actions("lithops")
ow.delete_package("lithops")
out["no packages"] = ow.list_packages()
print(json.dumps(out))
"""


def plain_environment() -> dict[str, str]:
    """This one without OpenWhisk's variables, proxies, which would hide the platform, and authorities of them."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OW_", "__OW_")) and not name.lower().endswith(("_proxy", "_ca_bundle"))
    }


def call(
    *command: str | Path, folder: Path | None = None, timeout_s: float = 300, variables: dict[str, str] | None = None
) -> str:
    """Output of a command that must succeed, with more environment variables if need be."""
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        cwd=folder,
        env={**plain_environment(), **(variables or {})},
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def fetch(*command: str | Path, folder: Path) -> None:
    """Install a client; skips the test where its registry cannot be reached."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, cwd=folder, check=False)
    if done.returncode != 0:
        pytest.skip(f"cannot be installed here: {(done.stderr.strip() or done.stdout.strip())[-300:]}")


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateFolder]:
    folder = tmp_path / "state"
    yield StateFolder(folder)
    call(*TYCHE, "down", "--state", folder)


def up(state: StateFolder, *options: str | Path) -> str:
    call(*TYCHE, "up", "--state", state.folder, "--detach", "--port", "0", *options)
    assert state.url is not None
    return state.url


@containers
def test_the_official_javascript_client_completes_every_call(
    state: StateFolder, tmp_path: Path, containers: str
) -> None:
    if shutil.which("npm") is None:
        pytest.skip("needs npm")
    (tmp_path / "package.json").write_text("{}")
    fetch("npm", "install", "--no-audit", "--no-fund", "openwhisk@3.21.9", folder=tmp_path)
    (tmp_path / "all.js").write_text(JAVASCRIPT)
    url = up(state, "--containers", containers)
    out = json.loads(call("node", "all.js", url, state.key, folder=tmp_path))
    greeting = {"greeting": "hi nobody"}
    assert out.pop("keys")[:5] == ["path", "waitTime", "kind", "timeout", "limits"]
    assert out == {
        "made": "0.0.1",
        "again": 409,
        "updated": ["0.0.2", 500],
        "result": {"greeting": "hi JS"},
        "record": {"result": greeting, "size": 25, "status": "success", "success": True},
        "later": {"greeting": "hi later"},
        "laterResult": {"greeting": "hi later"},
        "logs": ["stdout: hello from python"],
        "failing": [502, "application error", "on purpose"],
        "timing out": [502, "action developer error", "The action exceeded its time limits of 500 milliseconds."],
        "inner": greeting,
        "sequence": greeting,
        "actions": ["inner", "js", "seq"],
        "one": 1,
        "code": True,
        "packages": ["pkg"],
        "namespaces": ["guest"],
        "activations": ["js", "js"],
        "gone": 404,
    }


def test_lithops_client_completes_every_call_over_https(state: StateFolder, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    packages = tmp_path / "packages"
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--target", packages)
    fetch(*pip, "--no-deps", "lithops==3.8.0", folder=tmp_path)
    fetch(*pip, "requests", folder=tmp_path)
    names = ("-keyout", "key.pem", "-out", "certificate.pem", "-subj", "/CN=127.0.0.1", "-days", "1")
    call("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *names, folder=tmp_path)
    (tmp_path / "all.py").write_text(f"import sys\nsys.path.insert(0, {str(packages)!r})\n{LITHOPS}")
    url = up(state, "--certificate", tmp_path / "certificate.pem", "--private-key", tmp_path / "key.pem")
    client = packages / "lithops" / "libs" / "openwhisk" / "client.py"
    out = json.loads(call(sys.executable, "all.py", client, url, state.key, folder=tmp_path))
    assert out == {
        "action": ["0.0.2", {"timeout": 500, "memory": 512, "logs": 10, "concurrency": 1}],
        "listed": ["runtime"],
        "packages": ["lithops"],
        "result": {"double": 42},
        "failing": {"error": "on purpose"},
        "timing out": {"error": "The action exceeded its time limits of 500 milliseconds."},
        "later": [{"double": 2}, {"double": 2}],
        "logs": ["hello"],
        "missing": 404,
        "empty": [],
        "no packages": [],
    }


SERVERLESS = """service: small
frameworkVersion: '3'
provider:
  name: openwhisk
  ignore_certs: true
plugins: [serverless-openwhisk]
package:
  patterns: ['!**', handler.py]
functions:
  hello:
    handler: handler.hello
    runtime: python:3
    timeout: 30
    parameters: {greeting: hi}
    annotations: {about: a greeting}
  twice:
    handler: handler.twice
    runtime: python:default
  both:
    sequence: [hello, twice]
"""
HANDLER = """def hello(args):
    print("hello from serverless")
    return {"text": f"{args['greeting']} {args.get('name', 'nobody')}"}


def twice(args):
    return {"text": 2 * args["text"]}
"""


def test_the_serverless_framework_deploys_invokes_and_removes_python_actions(
    state: StateFolder, tmp_path: Path
) -> None:
    if shutil.which("npm") is None:
        pytest.skip("needs npm")
    (tmp_path / "package.json").write_text("{}")
    packages = ("serverless@3.40.0", "serverless-openwhisk@0.18.4")
    fetch("npm", "install", "--no-audit", "--no-fund", *packages, folder=tmp_path)
    (tmp_path / "serverless.yml").write_text(SERVERLESS)
    (tmp_path / "handler.py").write_text(HANDLER)
    variables = {"OW_APIHOST": up(state), "OW_AUTH": state.key, "SLS_TELEMETRY_DISABLED": "1", "CI": "1"}

    def serverless(*words: str) -> str:
        return call(tmp_path / "node_modules/.bin/serverless", *words, folder=tmp_path, variables=variables)

    # It lists triggers and rules on its way.
    for _ in range(2):
        assert "small-dev-hello" in serverless("deploy")
    shown = serverless("invoke", "--function", "hello", "--data", '{"name": "x"}')
    assert '"text": "hi x"' in shown
    assert '"text": "hi nobodyhi nobody"' in serverless("invoke", "--function", "both", "--data", "{}")
    assert "hello from serverless" in serverless("logs", "--function", "hello")
    user, _, password = state.key.partition(":")
    with httpx.Client(base_url=f"{state.url}/api/v1/namespaces/_", auth=(user, password), trust_env=False) as http:
        made = {each["name"]: each for each in http.get("/actions").json()}
        assert set(made) == {"small-dev-hello", "small-dev-twice", "small-dev-both"}
        assert {"key": "about", "value": "a greeting"} in made["small-dev-hello"]["annotations"]
        assert made["small-dev-hello"]["version"] == "0.0.2"
        serverless("remove")
        assert http.get("/actions").json() == []


@pytest.mark.parametrize("name", [None, "echo"], ids=["any name", "one action"])
def test_schemathesis_finds_no_server_error_that_is_not_documented(
    state: StateFolder, tmp_path: Path, name: str | None
) -> None:
    pytest.importorskip("schemathesis", reason="needs schemathesis, of the extra dev")
    fixed = {"path.namespace": "_", **({} if name is None else {"path.name": name})}
    # An activation may fail (502), and more may be asked for than there is (503).
    config = (
        "[parameters]",
        *(f'"{place}" = "{value}"' for place, value in fixed.items()),
        "[checks.not_a_server_error]",
        'expected-statuses = ["2xx", "3xx", "4xx", 502, 503]',
    )
    (tmp_path / "schemathesis.toml").write_text("\n".join(config))
    url = up(state)
    user, _, password = state.key.partition(":")
    with httpx.Client(base_url=f"{url}/api/v1/namespaces", auth=(user, password), trust_env=False) as http:
        code = {"exec": {"kind": "python:3", "code": "def main(args):\n    return args\n"}}
        assert http.put("/_/actions/echo", json=code).status_code == 200
        key = base64.b64encode(state.key.encode()).decode()
        shown = call(
            *(sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"),
            *("run", f"{url}/openapi.json", "--header", f"Authorization: Basic {key}", "--phases", "coverage,fuzzing"),
            *("--checks", "not_a_server_error", "--max-examples", "20", "--seed", "1"),
            *(() if name is None else ("--include-path-regex", "/actions/|/packages/")),
            folder=tmp_path,
            timeout_s=900,
        )
        total = re.search(r"(\d+) generated, (\d+) passed", shown)
        assert total is not None, shown[-3000:]
        assert total[1] == total[2]
        assert int(total[1]) > 500
        assert "Traceback" not in state.log.read_text(), state.log.read_text()[-3000:]
        assert http.get("").json() == ["guest"]
