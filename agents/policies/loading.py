"""Policies by their names, from Python files, from folders of trained agents, and from installed extensions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from agents.policies.builtin import POLICIES
from agents.policies.forecasts import forecaster
from agents.policies.policy import KernelPolicy, Policy, PolicyError, Predictor, PredictorPolicy
from agents.policies.predictors import TABLES
from traces.errors import did_you_mean
from tyche_env import extensions
from tyche_env.rules import RowKernel
from tyche_env.world import Kernel

BOUND = "bound"
"""Name of the lower bound in evaluations; it is no policy (``agents.evidence.bound``)."""


def load(source: str | Path) -> Policy:
    """A policy by its name, from a Python file, or from the folder of a trained agent.

    Args:
        source: a name of :data:`POLICIES`, of an agent that comes with the package, of an installed extension
            (entry-point groups ``tyche_env.policies`` and ``tyche_env.predictors``), or a predictor of
            ``agents.policies.predictors.TABLES``; or the path of a Python file that defines one of: an object
            ``policy``, a function ``make_policy()``, a class ``Policy`` that can be built without arguments; or the
            folder of a model bundle (``agents.policies.bundle``).

    Raises:
        PolicyError: there is no such policy, or the file does not define one.
        BundleError: the folder's bundle cannot be read.
    """
    text = str(source)
    if text in POLICIES:
        return POLICIES[text]
    path = Path(source)
    if path.suffix == ".py":
        return wrap(_from_file(path), path.stem)
    from agents.policies.bundle import CARD, SHIPPED, shipped_bundles

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
    hint = did_you_mean(text, names())
    raise PolicyError(f"policy {text}: there is no such policy; {hint} (your own is a file, my_policy.py)")


def names() -> tuple[str, ...]:
    """Every name that :func:`load` knows, those of installed extensions included."""
    from agents.policies.bundle import shipped_bundles

    return (*POLICIES, *shipped_bundles(), *TABLES, *extensions.names("predictor"), *extensions.names("policy"))


def wrap(predictor: object, name: str) -> Policy:
    """Give a row kernel, or any object with ``predict``, a name, so that it can be evaluated.

    Raises:
        PolicyError: it is neither.
    """
    if isinstance(predictor, KernelPolicy):
        return replace(predictor, name=name)
    if isinstance(predictor, RowKernel):
        return KernelPolicy(name, Kernel.OWN, False, "a row kernel of your own", rule=predictor)
    if not isinstance(predictor, Predictor):
        raise PolicyError(f"policy {name}: {type(predictor).__name__} has no method predict(observation, ...)")
    return PredictorPolicy(name, predictor)


def _made(name: str, found: Any) -> object:
    """What an entry point names, made if it is a class or a function."""
    if isinstance(found, RowKernel) or (hasattr(found, "predict") and not isinstance(found, type)):
        return found
    if not callable(found):
        return found
    try:
        return found()
    except Exception as error:
        raise PolicyError(f"policy {name}: {type(error).__name__}: {error}") from error


def _from_file(path: Path) -> object:
    try:
        module = extensions.import_file(path, "policy")
    except extensions.ExtensionError as error:
        raise PolicyError(str(error)) from error
    for name in ("policy", "make_policy", "Policy"):
        if hasattr(module, name):
            found: object = getattr(module, name)
            if name == "policy":
                return found
            try:
                return cast("Callable[[], object]", found)()
            except Exception as error:
                raise PolicyError(f"policy {path}: {extensions.describe(error, path)}") from error
    raise PolicyError(f"policy {path}: defines neither an object `policy`, nor `make_policy()`, nor a class `Policy`")
