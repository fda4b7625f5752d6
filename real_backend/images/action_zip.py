"""Builds the zip of the action server for OpenWhisk's managed Python kinds.

A module or file of functions goes along; their libraries do not: the runtime's image has to bring them.  For large ones
use an image of one's own (``cpu.Dockerfile``).
"""

from __future__ import annotations

import argparse
import base64
import importlib.util
import io
import json
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO

from real_backend.worker.messages import ActionError, Settings

_PACKAGE = Path(__file__).parents[1]
_DATE = (1980, 1, 1, 0, 0, 0)
_LARGEST_MB = 48


def encoded_zip(settings: Settings, functions: str) -> str:
    """The zip as an action's ``code``, with a module or file of functions in it.

    Raises:
        ValueError: it is larger than OpenWhisk takes, or the module is none that files can be taken of.
    """
    reference, content = _functions(functions)
    whole = io.BytesIO()
    _write(whole, settings, ("--functions", reference), content)
    code = base64.b64encode(whole.getvalue()).decode("ascii")
    if len(code) > _LARGEST_MB << 20:
        raise ValueError(f"{functions}: makes an action of over {_LARGEST_MB} MB, more than OpenWhisk takes")
    return code


def build_zip(path: Path, settings: Settings, arguments: Sequence[str] = ()) -> None:
    """Write the zip; the same input gives the same bytes.

    Args:
        path: the file.
        settings: what ``/init`` sets.
        arguments: more arguments of ``python -m real_backend.worker``.

    Raises:
        ValueError: it is larger than OpenWhisk takes.
    """
    with path.open("wb") as file:
        _write(file, settings, arguments, {})
    if path.stat().st_size > _LARGEST_MB << 20:
        raise ValueError(f"{path}: is over {_LARGEST_MB} MB, more than OpenWhisk takes")


def _functions(reference: str) -> tuple[str, dict[str, str]]:
    """What the action server shall call a module or file of functions, and what of it goes into the zip."""
    if reference.endswith(".py"):
        path = Path(reference)
        return path.name, {path.name: path.read_text(encoding="utf-8")}
    top = reference.partition(".")[0]
    if top == "real_backend":
        return reference, {}
    spec = importlib.util.find_spec(top)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise ValueError(f"{reference}: is no module whose files could be sent along; name a file")
    origin = Path(spec.origin)
    if spec.submodule_search_locations is None:
        return reference, {origin.name: origin.read_text(encoding="utf-8")}
    files = sorted(origin.parent.rglob("*.py"))
    return reference, {
        f"{top}/{file.relative_to(origin.parent).as_posix()}": file.read_text(encoding="utf-8") for file in files
    }


def _write(file: IO[bytes], settings: Settings, arguments: Sequence[str], more: dict[str, str]) -> None:
    given = {key: value for key, value in asdict(settings).items() if value is not None}
    content = {
        "__main__.py": (_PACKAGE / "images" / "action_main.py").read_text(encoding="utf-8"),
        "settings.json": json.dumps({"settings": given, "arguments": list(arguments)}, indent=2),
    }
    for source in (_PACKAGE / "__init__.py", _PACKAGE / "telemetry.py"):
        content[f"real_backend/{source.name}"] = source.read_text(encoding="utf-8")
    content |= _sources(_PACKAGE / "worker", "real_backend/worker")
    content |= _sources(_PACKAGE / "functions", "real_backend/functions")
    # The one package that the server needs and that no runtime promises.
    spec = importlib.util.find_spec("h11")
    assert spec is not None
    assert spec.origin is not None
    content |= _sources(Path(spec.origin).parent, "h11")
    taken = sorted(set(more) & set(content))
    if taken:
        raise ValueError(f"{taken[0]}: is the name of a file of the action server's own; name yours otherwise")
    content |= more
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(content):
            archive.writestr(zipfile.ZipInfo(name, _DATE), content[name], zipfile.ZIP_DEFLATED)


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
