"""The live status page, in a real browser without a screen."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from matplotlib import image

from real_backend.platform.state import StateFolder

TYCHE = (sys.executable, "-c", "from tyche_env.cli import main; main()", "platform")
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs chromium")
def test_the_page_shows_nodes_containers_and_states(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "state")
    options = ("--port", "0", "--nodes", "2", "--memory-mb", "1024", "--no-pause")
    subprocess.run([*TYCHE, "up", "--state", str(state.folder), "--detach", *options], check=True, capture_output=True)
    try:
        url = state.url
        assert url is not None
        user, _, password = state.key.partition(":")
        with httpx.Client(base_url=f"{url}/api/v1/namespaces/_", auth=(user, password), trust_env=False) as http:
            http.put(
                "/actions/greeter", json={"exec": {"kind": "python:3", "code": "def main(args):\n    return {}\n"}}
            )
            http.post("/actions/greeter?blocking=true", json={}).raise_for_status()
        with_key = f"http://{user}:{password}@{url.removeprefix('http://')}/status"
        page = browse(tmp_path, with_key, "--dump-dom")
        for text in (
            "invoker0",
            "invoker1",
            "greeter",
            "idle",
            "256 of 1024 MiB in 1 containers",
            "process containers",
        ):
            assert text in page
        assert 'data-ready="yes"' in page
        browse(tmp_path, with_key, f"--screenshot={tmp_path / 'page.png'}", "--window-size=1280,720")
        pixels = image.imread(tmp_path / "page.png")
        assert pixels.shape[:2] == (720, 1280)
        # Two bars in the colour of memory: about a quarter of one card's width is filled.
        blue = (abs(pixels[..., :3] - (0x2A / 255, 0x78 / 255, 0xD6 / 255)) < 0.02).all(axis=-1)
        assert 300 < blue.sum() < 3000
    finally:
        subprocess.run([*TYCHE, "down", "--state", str(state.folder)], check=True, capture_output=True)


def browse(folder: Path, url: str, *options: str) -> str:
    """Open a page, let its clock run for five seconds, and return what the browser prints."""
    assert BROWSER is not None
    quiet = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-proxy-server", "--virtual-time-budget=5000")
    place = f"--user-data-dir={folder / 'browser'}"
    done = subprocess.run(
        [BROWSER, *quiet, place, *options, url], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout
