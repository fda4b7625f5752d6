"""A trace format: lines such as ``1769860800.250 POST /resnet18 131ms``, the time in seconds."""

import re
from pathlib import Path

import numpy as np

from traces import Trace, TraceError

LINE = re.compile(r"(\d+(?:\.\d+)?) [A-Z]+ /(\S+) (\d+)ms\n?")


class Weblog:
    """Found by ``tyche trace`` and by scenarios of the family ``file``."""

    def recognises(self, head):
        """Whether a file that begins like this is one."""
        return LINE.match(head.decode(errors="replace")) is not None

    def read(self, path, progress=None):
        """The whole file."""
        rows = []
        with Path(path).open(encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines, start=1):
                if not (match := LINE.fullmatch(line)):
                    raise TraceError.at(path, "expected SECONDS METHOD /FUNCTION MILLISECONDSms", row=number)
                rows.append(match.groups())
        seconds, functions, run_ms = (np.array(column) for column in zip(*rows, strict=True))
        return Trace.from_requests(seconds.astype(float), functions, run_ms.astype(float) / 1e3, source=str(path))
