"""A platform of one's own: the embedded platform in a child process that ends with its parent, however that ends.

``python -m real_backend.embedded FOLDER PORT keep|remove`` reads the platform's settings as JSON, one line, from
standard input, prints its address, and stops when standard input ends; the last word says what becomes of the folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from real_backend.client import Credentials
from real_backend.functions.weights import VARIABLE, weights_folder
from real_backend.platform.config import PlatformConfig
from real_backend.platform.server import Listen, run
from real_backend.platform.state import StateFolder, open_private
from real_backend.platform.sweeping import TEMPORARY, sweep
from tyche_env.errors import UserError

_PASSED_ON = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "CUDA_HOME", "HF_HOME", "XDG_CACHE_HOME")
"""Variables of this process that containers get too; others, keys among them, stay here."""
_STOP_S = 40.0


def container_environment(*also: str) -> dict[str, str]:
    """Variables that functions need in their containers; ``also`` names more of this process's that they get."""
    environment = {name: os.environ[name] for name in (*_PASSED_ON, *also) if name in os.environ}
    environment["OMP_NUM_THREADS"] = "1"
    # Containers run in another folder, and may not know whose cache to look in.
    environment[VARIABLE] = str(weights_folder().absolute())
    environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
    return environment


class EmbeddedPlatform:
    """Starts a platform and stops it again; its state lies in a temporary folder.

    Args:
        folder: of its state; None: a temporary one, which goes with it.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._temporary = None
        if folder is None:
            self._temporary = tempfile.TemporaryDirectory(prefix=TEMPORARY)
            folder = Path(self._temporary.name)
        self.state = StateFolder(folder)
        self._process: subprocess.Popen[str] | None = None
        self._clean = True

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    def start(self, config: PlatformConfig, port: int = 0) -> Credentials:
        """Start it and wait until it listens.

        Raises:
            UserError: it does not start; says what it wrote last.
        """
        afterwards = "keep" if self._temporary is None else "remove"
        with open_private(self.state.log, "wb") as log:
            # In a session of its own, Ctrl-C reaches only us, and we stop it when we are done with it.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "real_backend.embedded", str(self.state.folder), str(port), afterwards],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=Path(__file__).resolve().parents[1],
                start_new_session=True,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(config.model_dump_json() + "\n")
            self._process.stdin.flush()
        url = self._process.stdout.readline().strip()
        if not url:
            self._process.wait()
            lines = self.state.log.read_text(errors="replace").strip().splitlines() or ["it wrote nothing"]
            self.stop()
            raise UserError(f"the platform does not start: {lines[-1].removeprefix('tyche: ')}")
        return Credentials(host=url, key=self.state.key)

    def kill(self) -> None:
        """End it without warning, as a crash would; for tests of what others do then."""
        if self._process is not None:
            self._process.kill()
            self._wait()

    def stop(self) -> None:
        """Stop it, which removes its containers, and forget its state if that is temporary."""
        if self._process is not None:
            self._process.terminate()
            self._wait()
        if self._temporary is not None:
            if not self._clean:
                # in a thread, since the caller may be inside a loop, as notebooks are
                with ThreadPoolExecutor(1) as thread:
                    thread.submit(asyncio.run, sweep(self.state)).result()
            self._temporary.cleanup()

    def _wait(self) -> None:
        process, self._process = self._process, None
        assert process is not None
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._clean = process.returncode == 0
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def main() -> int:
    """Run the platform that the command line names."""
    folder, port, afterwards = sys.argv[1:]
    config = PlatformConfig.model_validate_json(sys.stdin.readline())
    orphaned = threading.Event()

    def end_with_parent() -> None:
        sys.stdin.read()
        orphaned.set()
        os.kill(os.getpid(), signal.SIGTERM)

    def announce(url: str, _: object) -> None:
        with contextlib.suppress(BrokenPipeError):
            print(url, flush=True)

    # until the platform handles signals itself, one must end it no less cleanly
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        run(config, Listen(port=int(port)), StateFolder(Path(folder)), announce)
    except UserError as error:
        print(f"tyche: {error}", file=sys.stderr)
        return 2
    finally:
        if afterwards == "remove" and orphaned.is_set():
            # a parent that was killed cannot do it
            shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
