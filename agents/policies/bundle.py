"""Model bundles: a folder with the weights (safetensors) and all that explains them (JSON); loading runs no pickle.

Of a row network, with a gate or without, ``weights.safetensors`` holds ``network``, its flat float32 weights with the
features' scaling folded in, and that scaling (``mean``, ``deviation``); of any other policy its tensors.
``bundle.json`` holds the list of features, the controller's settings, the recipe and the manifest of the training.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.policies.gate import GATED_SIZE
from agents.policies.recipe import AlgorithmRecipe, Recipe, RecipeError, as_recipe
from tyche_env.errors import UserError
from tyche_env.network import FEATURES, INPUTS, SIZE

FORMAT = 1
ROW_NETWORK, GATED_NETWORK, POLICY = "row-network", "gated-network", "policy"
"""The forms: what the compiled kernel runs, what runs as a rule of the compiled core, and what torch runs."""
WEIGHTS, CARD = "weights.safetensors", "bundle.json"
SETTINGS = ("displace_percent",)
"""Settings of the controller that a bundle may change."""
SHIPPED = Path(__file__).with_name("bundles")


class BundleError(UserError):
    """A bundle that cannot be read; the message names the file and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A trained agent.

    Attributes:
        network: (SIZE,) float32 weights, scaling folded in; with a gate (GATED_SIZE,).
        mean: (INPUTS,) float32 mean of each feature in training.
        deviation: (INPUTS,) float32 its standard deviation.
        settings: what it changes in the controller.
        recipe: what it was trained by.
        manifest: versions, seeds, rows, CPU seconds, validation results, source of the data.
    """

    network: NDArray[np.float32]
    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]
    settings: Mapping[str, int]
    recipe: Recipe
    manifest: Mapping[str, Any]

    @property
    def form(self) -> str:
        """A row network, or one with a gate (``agents.policies.gate``)."""
        return GATED_NETWORK if len(self.network) == GATED_SIZE else ROW_NETWORK

    def hash(self) -> str:
        """Sixteen hexadecimal digits over what decides its actions."""
        digest = hashlib.sha256(self.network.tobytes())
        digest.update(json.dumps(dict(self.settings), sort_keys=True).encode())
        return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class PolicyBundle:
    """A trained policy of stable-baselines3.

    Attributes:
        tensors: by their names in the policy.
        recipe: what it was trained by; it decides the policy's form.
        manifest: as of a row network.
    """

    tensors: Mapping[str, NDArray[Any]]
    recipe: AlgorithmRecipe
    manifest: Mapping[str, Any]

    def hash(self) -> str:
        """Sixteen hexadecimal digits over what decides its actions."""
        digest = hashlib.sha256(json.dumps(self.recipe.model_dump(mode="json"), sort_keys=True).encode())
        for name in sorted(self.tensors):
            digest.update(name.encode() + np.ascontiguousarray(self.tensors[name]).tobytes())
        return digest.hexdigest()[:16]


def shipped_bundles() -> tuple[str, ...]:
    """Names of the bundles that come with the package."""
    return tuple(sorted(path.parent.name for path in SHIPPED.glob(f"*/{CARD}")))


def save_bundle(bundle: Bundle | PolicyBundle, folder: Path) -> None:
    """Write a bundle; the folder is made if it is not there."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, NDArray[Any]]
    if isinstance(bundle, Bundle):
        named = {"network": bundle.network, "mean": bundle.mean, "deviation": bundle.deviation}
        tensors = {name: np.ascontiguousarray(tensor, np.float32) for name, tensor in named.items()}
    else:
        tensors = {name: np.ascontiguousarray(tensor) for name, tensor in bundle.tensors.items()}
    save_file(tensors, folder / WEIGHTS)
    card = {
        "format": FORMAT,
        "form": bundle.form if isinstance(bundle, Bundle) else POLICY,
        "features": list(FEATURES),
        "settings": dict(bundle.settings) if isinstance(bundle, Bundle) else {},
        "recipe": bundle.recipe.model_dump(mode="json"),
        "manifest": dict(bundle.manifest),
    }
    (folder / CARD).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


def load_bundle(folder: Path) -> Bundle | PolicyBundle:
    """Read a bundle and check that this version can run it.

    Raises:
        BundleError: names the file and what is wrong.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS)
    except OSError as error:
        raise BundleError(f"bundle {folder}: {error.filename or WEIGHTS} cannot be read ({error.strerror})") from None
    except (ValueError, SafetensorError) as error:
        raise BundleError(f"bundle {folder}: {' '.join(str(error).split())}") from None
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise BundleError(f"{folder / CARD}: format must be {FORMAT}")
    try:
        recipe = as_recipe(card.get("recipe"), f"{folder / CARD}, recipe")
    except RecipeError as error:
        raise BundleError(str(error)) from None
    if card.get("features") != list(FEATURES):
        raise BundleError(f"{folder / CARD}: features are not those of this version, train it again")
    if card.get("form") == POLICY:
        if not isinstance(recipe, AlgorithmRecipe):
            raise BundleError(f"{folder / CARD}: form {POLICY} needs a recipe of kind algorithm, got {recipe.kind}")
        for name, tensor in tensors.items():
            if not np.isfinite(tensor).all():
                raise BundleError(f"{folder / WEIGHTS}: {name} must be finite numbers")
        return PolicyBundle(tensors, recipe, card.get("manifest", {}))
    if card.get("form") not in (ROW_NETWORK, GATED_NETWORK):
        raise BundleError(f"{folder / CARD}: form must be {ROW_NETWORK}, {GATED_NETWORK} or {POLICY}")
    weights = GATED_SIZE if card["form"] == GATED_NETWORK else SIZE
    for name, size in (("network", weights), ("mean", INPUTS), ("deviation", INPUTS)):
        if name not in tensors or tensors[name].shape != (size,) or not np.isfinite(tensors[name]).all():
            raise BundleError(f"{folder / WEIGHTS}: {name} must be {size} finite numbers")
    settings = card.get("settings")
    if not isinstance(settings, dict) or not all(k in SETTINGS and isinstance(v, int) for k, v in settings.items()):
        raise BundleError(f"{folder / CARD}: settings may hold whole numbers for {', '.join(SETTINGS)}")
    return Bundle(
        network=tensors["network"],
        mean=tensors["mean"],
        deviation=tensors["deviation"],
        settings=settings,
        recipe=recipe,
        manifest=card.get("manifest", {}),
    )
