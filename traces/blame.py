"""Whose an error is: what goes wrong in code of the user's own becomes one line that names its file and line.

    with blaming("policy mine.py", "mine.py"):
        action = policy.predict(observation)

An error of ours is never taken for the user's: it goes on as it is.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

from traces.errors import FileName, UserError

_ROOT = Path(__file__).resolve().parents[1]
_OURS = tuple(f"{_ROOT / package}{os.sep}" for package in ("agents", "real_backend", "traces", "tyche_env"))
_LIBRARIES = tuple(
    f"{os.path.realpath(sysconfig.get_path(name))}{os.sep}" for name in ("stdlib", "platstdlib", "purelib", "platlib")
)


class UserCodeError(UserError):
    """Code of the user's own went wrong; the message names it, its line and the error, which is the cause."""


@contextmanager
def blaming(
    what: str, home: FileName | None = None, passing: tuple[type[Exception], ...] = (UserCodeError,)
) -> Iterator[None]:
    """Run code of the user's own, and nothing but that, in the block.

    Args:
        what: what the code is, as the user knows it: ``policy mine.py``.
        home: the file that it stands in, or the folder of its package; None: wherever neither we nor libraries are
            at home.
        passing: errors that are one line already and go on as they are.

    Raises:
        UserCodeError: the code failed, or ended the program; its error is the cause.
    """
    try:
        yield
    except passing:
        raise
    except (Exception, SystemExit) as error:
        trace = error.__traceback__  # this function, then the block, then what it called
        block = None if trace is None else trace.tb_next
        found = described(what, home, error, None if block is None else block.tb_next)
        if found is None:
            raise
        raise UserCodeError(found) from error


def described(what: str, home: FileName | None, error: BaseException, trace: TracebackType | None) -> str | None:
    """One line about an error: what failed, the innermost line of the user's file, the error.

    Args:
        what: see :func:`blaming`.
        home: see there.
        error: what was raised.
        trace: from the first frame of the user's code on; frames before that are nobody's fault.

    Returns:
        The line; None if the error is ours.
    """
    frames = _frames(error, trace)
    own = os.path.realpath(home) if home is not None else None
    if own is not None and f"{own}{os.sep}".startswith(_OURS):
        own = None
    at_home = [frame for frame in frames if own is not None and (frame[0] == own or frame[0].startswith(own + os.sep))]
    elsewhere = [frame for frame in frames if _is_of_users(frame[0])]
    place = ""
    if at_home or elsewhere:
        file, line = (at_home or elsewhere)[-1]
        known = file == own and what.endswith(str(home))
        place = f", line {line}" if known else f", {placed(file, line)}"
    elif any(file.startswith(_OURS) for file, _ in frames):
        return None
    return f"{what}{place}: {said(error)}"


def placed(file: str, line: int) -> str:
    """A place in a file, which is named as one would name it here."""
    short = os.path.relpath(file)
    return f"{file if short.startswith(os.pardir) else short}, line {line}"


def said(error: BaseException) -> str:
    """Kind and text of an error in one line."""
    text = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def home_of(thing: object) -> str | None:
    """The file in which a function, a class or an object's class is defined; None where that is no file."""
    module = sys.modules.get(getattr(thing, "__module__", None) or type(thing).__module__)
    return getattr(module, "__file__", None)


def package_of(module: str) -> str | None:
    """The folder of a module's package, or the file of a single module; finding it imports nothing."""
    spec = find_spec(module.partition(".")[0])
    if spec is None:
        return None
    return next(iter(spec.submodule_search_locations or ()), spec.origin)


def _frames(error: BaseException, trace: TracebackType | None) -> list[tuple[str, int]]:
    """Files and lines, the innermost last; a file with an error of syntax ran up to that."""
    found = []
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        found.append((os.path.realpath(file) if Path(file).exists() else file, trace.tb_lineno))
        trace = trace.tb_next
    if isinstance(error, SyntaxError) and error.filename is not None and Path(error.filename).exists():
        found.append((os.path.realpath(error.filename), error.lineno or 1))
    return found


def _is_of_users(file: str) -> bool:
    return not file.startswith((*_OURS, *_LIBRARIES, "<frozen "))
