"""Policies by their names, from Python files, folders of trained agents, installed extensions, or from objects."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from agents.policies.builtin import POLICIES
from agents.policies.forecasts import forecaster
from agents.policies.policy import KernelPolicy, Policy, PolicyError, PredictorPolicy
from agents.policies.predictors import TABLES
from traces.blame import blaming, home_of
from traces.errors import did_you_mean
from tyche_env import extensions
from tyche_env.rules import RowKernel
from tyche_env.world import Kernel

BOUND = "bound"
"""Name of the lower bound in evaluations; it is no policy (``agents.evidence.bound``)."""


def load(source: str | Path | object) -> Policy:
    """A policy by its name, from a Python file, from the folder of a trained agent, or from an object.

    Args:
        source: a name of :data:`POLICIES`, of an agent that comes with the package, of an installed extension
            (entry-point groups ``tyche_env.policies`` and ``tyche_env.predictors``), or a predictor of
            ``agents.policies.predictors.TABLES``; or the path of a Python file that defines one of: an object
            ``policy``, a function ``make_policy()``, a class ``Policy`` that can be built without arguments; or the
            folder of a model bundle (``agents.policies.bundle``).  Or what such a file may define: an object with
            ``predict``, such as a model of stable-baselines3, a row kernel, a class or a function that makes one; it is
            called by the name of its class.  A policy of ours is returned as it is.

    Raises:
        PolicyError: there is no such policy, the file does not define one, or the object is none.
        BundleError: the folder's bundle cannot be read.
        UserCodeError: the file, class or function fails.
    """
    if not isinstance(source, str | Path):
        return _from_object(source)
    text = str(source)
    if text in POLICIES:
        return POLICIES[text]
    path = Path(source)
    if path.suffix == ".py":
        return wrap(_from_file(path), path.stem, text)
    from agents.policies.bundle import CARD, SHIPPED, WEIGHTS, shipped_bundles

    if text in shipped_bundles() or (path / CARD).is_file():
        from agents.policies.trained import load_learned

        return load_learned(SHIPPED / text if text in shipped_bundles() else path, text)
    if text == BOUND:
        raise PolicyError("policy bound: is a lower bound, not a policy; only `tyche evaluate` knows it")
    if text in TABLES:
        return forecaster(text, TABLES[text])
    if text in extensions.names("predictor"):
        return forecaster(text, extensions.find("predictor", text))
    if text in extensions.names("policy"):
        return wrap(_made(text, extensions.find("policy", text)), text)
    if path.is_dir():
        raise PolicyError(
            f"policy {text}: the folder holds no agent; one is made of {CARD} and {WEIGHTS}, as tyche train leaves "
            "them in OUT/best and OUT/seed-N"
        )
    hint = did_you_mean(text, names())
    raise PolicyError(f"policy {text}: there is no such policy; {hint} (your own is a file, my_policy.py)")


def names() -> tuple[str, ...]:
    """Every name that :func:`load` knows, those of installed extensions included."""
    from agents.policies.bundle import shipped_bundles

    return (*POLICIES, *shipped_bundles(), *TABLES, *extensions.names("predictor"), *extensions.names("policy"))


def name_of(source: object) -> str:
    """What a policy is called in tables: of a Python file without folder and ending, of an object as its class."""
    if isinstance(source, str | Path):
        text = str(source)
        return Path(text).stem if text.endswith(".py") else text
    if isinstance(source, KernelPolicy | PredictorPolicy):
        return source.name
    name = str(getattr(source, "__name__", type(source).__name__))
    return name if name.isidentifier() else "policy"  # a lambda has none


def wrap(predictor: object, name: str, file: str | None = None) -> Policy:
    """Give a row kernel, or any object with ``predict``, a name, so that it can be evaluated.

    Args:
        predictor: the object; a policy of ours gets the name.
        name: as it appears in tables.
        file: the Python file that it stands in, for messages.

    Raises:
        PolicyError: it is neither, or its ``predict`` cannot be called.
    """
    if isinstance(predictor, KernelPolicy | PredictorPolicy):
        return replace(predictor, name=name)
    if isinstance(predictor, RowKernel):
        return KernelPolicy(name, Kernel.OWN, False, "a row kernel of your own", rule=predictor)
    return PredictorPolicy(name, predictor, file=file)


def _from_object(source: object) -> Policy:
    if isinstance(source, KernelPolicy | PredictorPolicy):
        return source
    name = name_of(source)
    return wrap(_made(name, source), name)


def _made(name: str, found: object) -> object:
    """What an object or an entry point stands for: made, if it is a class or a function."""
    if isinstance(found, RowKernel) or (hasattr(found, "predict") and not isinstance(found, type)):
        return found
    if not callable(found):
        return found
    with blaming(f"policy {name}", home_of(found)):
        return found()


def _from_file(path: Path) -> object:
    try:
        module = extensions.import_file(path, "policy")
    except extensions.ExtensionError as error:
        raise PolicyError(str(error)) from error
    for name in ("policy", "make_policy", "Policy"):
        if hasattr(module, name):
            found: Any = getattr(module, name)
            if name == "policy":
                return found
            with blaming(f"policy {path}", path):
                return found()
    raise PolicyError(f"policy {path}: defines neither an object `policy`, nor `make_policy()`, nor a class `Policy`")
