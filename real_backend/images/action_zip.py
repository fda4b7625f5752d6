"""Builds the zip of the action server for OpenWhisk's managed Python kinds.

The functions' libraries are not in it: the runtime's image has to bring them.  For large ones use an image of one's
own (``cpu.Dockerfile``).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from real_backend.worker.messages import ActionError, Settings

_PACKAGE = Path(__file__).parents[1]
_DATE = (1980, 1, 1, 0, 0, 0)
_LARGEST_MB = 48


def build_zip(path: Path, settings: Settings, arguments: Sequence[str] = ()) -> None:
    """Write the zip; the same input gives the same bytes.

    Args:
        path: the file.
        settings: what ``/init`` sets.
        arguments: more arguments of ``python -m real_backend.worker``.

    Raises:
        ValueError: it is larger than OpenWhisk takes.
    """
    given = {key: value for key, value in asdict(settings).items() if value is not None}
    content = {
        "__main__.py": (_PACKAGE / "images" / "action_main.py").read_text(encoding="utf-8"),
        "settings.json": json.dumps({"settings": given, "arguments": list(arguments)}, indent=2),
    }
    for file in (_PACKAGE / "__init__.py", _PACKAGE / "telemetry.py"):
        content[f"real_backend/{file.name}"] = file.read_text(encoding="utf-8")
    content |= _sources(_PACKAGE / "worker", "real_backend/worker")
    content |= _sources(_PACKAGE / "functions", "real_backend/functions")
    # The one package that the server needs and that no runtime promises.
    spec = importlib.util.find_spec("h11")
    assert spec is not None
    assert spec.origin is not None
    content |= _sources(Path(spec.origin).parent, "h11")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(content):
            archive.writestr(zipfile.ZipInfo(name, _DATE), content[name], zipfile.ZIP_DEFLATED)
    if path.stat().st_size > _LARGEST_MB << 20:
        raise ValueError(f"{path}: is over {_LARGEST_MB} MB, more than OpenWhisk takes")


def _sources(folder: Path, name: str) -> dict[str, str]:
    return {f"{name}/{file.name}": file.read_text(encoding="utf-8") for file in sorted(folder.glob("*.py"))}


def main(arguments: list[str] | None = None) -> int:
    """``python -m real_backend.images.action_zip OUT [--settings JSON] [-- worker's arguments]``."""
    parser = argparse.ArgumentParser(prog="python -m real_backend.images.action_zip", description=__doc__)
    parser.add_argument("out", type=Path, help="the zip to write")
    parser.add_argument("--settings", default="", help="what /init sets, as JSON; a slot by default")
    parser.add_argument("worker", nargs="*", metavar="ARGUMENT", help="after --: arguments of real_backend.worker")
    options = parser.parse_args(arguments)
    try:
        build_zip(options.out, Settings.parse(options.settings), options.worker)
    except (ActionError, ValueError, OSError) as error:
        print(f"python -m real_backend.images.action_zip: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
