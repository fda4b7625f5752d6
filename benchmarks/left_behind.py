"""What a run on real containers left behind: its own platforms' processes, folders and sockets, and nobody else's."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from real_backend.containers.factory import PLATFORM_LABEL
from real_backend.platform.sweeping import TEMPORARY


class Own:
    """The platforms of one run, which make their folders in a temporary folder of its own.

    Attributes:
        folder: that folder; what runs gets it as ``TMPDIR``.
        labels: of the platforms seen in it.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tyche-real-"))
        self.labels: set[str] = set()

    def look(self) -> None:
        """Note which platforms there are; a label is gone with its platform's folder, so look now and then."""
        for file in self.folder.glob(f"{TEMPORARY}*/name"):
            try:
                self.labels.add(file.read_text(encoding="utf-8").strip())
            except OSError:
                # its platform has ended
                continue
        self.labels.discard("")

    def left(self) -> list[str]:
        """What carries one of the labels, or is in the folder."""
        self.look()
        found = [str(path) for path in self.folder.glob("tyche-*")]
        found += [str(path) for label in self.labels for path in Path("/run").glob(f"tyche-{label}*")]
        marks = [f"{PLATFORM_LABEL}={label}".encode() for label in self.labels]
        for process in Path("/proc").iterdir():
            if process.name.isdigit():
                try:
                    labelled = set(marks) & set((process / "environ").read_bytes().split(b"\0"))
                    named = f"{self.folder}/".encode() in (process / "cmdline").read_bytes()
                except OSError:
                    continue
                if labelled or named:
                    found.append(f"process {process.name}")
        return sorted(found)

    def close(self) -> None:
        """Remove the folder, unless something that was left is in it."""
        if not list(self.folder.glob("tyche-*")):
            shutil.rmtree(self.folder, ignore_errors=True)
