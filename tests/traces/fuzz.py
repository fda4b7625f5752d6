"""A coverage-guided fuzzer on every reader of trace files: ``python -m tests.traces.fuzz -max_total_time=60``.

libFuzzer (through atheris) follows which lines of ``traces`` an input reaches and mutates those that reach new ones.
Its own options follow on the command line; it ends with an error at the first input that crashes a reader or makes it
take longer than ``-timeout`` seconds.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["traces"], enable_loader_override=False):
    from tests.traces.readers import READERS, SEEDS, check, read


def main() -> None:
    """Run until the options say stop."""
    folder = Path(tempfile.mkdtemp(prefix="tyche-fuzz-"))
    corpus = folder / "corpus"
    corpus.mkdir()
    names = tuple(READERS)
    # the first byte of an input says which reader gets the rest
    for number, name in enumerate(names):
        for at, seed in enumerate(SEEDS[name]):
            (corpus / f"{number}-{at}").write_bytes(bytes([number]) + seed)
    path = folder / "input.bin"

    def try_one(data: bytes) -> None:
        if data:
            check(read(names[data[0] % len(names)], data[1:], path), path)

    atheris.Setup([sys.argv[0], *sys.argv[1:], str(corpus)], try_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
