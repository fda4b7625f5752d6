"""Bundles: what is written is what is read, and what cannot be run is refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from agents.policies.bundle import CARD, SHIPPED, WEIGHTS, Bundle, BundleError, load_bundle, shipped_bundles
from tyche_env.network import FEATURES, INPUTS, SIZE


def test_a_bundle_comes_back_as_it_was(bundle: Bundle, saved: Path) -> None:
    found = load_bundle(saved)
    assert isinstance(found, Bundle)
    np.testing.assert_array_equal(found.network, bundle.network)
    assert found.recipe == bundle.recipe
    assert found.settings == {"displace_percent": 65}
    assert found.manifest == {"seed": 1}
    assert found.hash() == bundle.hash()
    assert json.loads((saved / CARD).read_text())["features"] == list(FEATURES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format must be 1"),
        ({"features": ["age"]}, "train it again"),
        ({"form": "picture"}, "json: form must be row-network, gated-network or policy"),
        ({"form": "policy"}, "needs a recipe of kind algorithm, got hazard"),
        ({"settings": {"seed": 3}}, "settings may hold whole numbers for displace_percent"),
        ({"recipe": {"kind": "magic"}}, "recipe"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(saved: Path, tmp_path: Path, change: Any, message: str) -> None:
    folder = Path(shutil.copytree(saved, tmp_path / "other"))
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps(card | change))
    with pytest.raises(BundleError, match=message):
        load_bundle(folder)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(saved: Path, tmp_path: Path, value: float) -> None:
    folder = Path(shutil.copytree(saved, tmp_path / "other"))
    tensors = {"network": np.full(SIZE, value, np.float32), "mean": np.zeros(INPUTS), "deviation": np.ones(INPUTS)}
    save_file({name: np.asarray(tensor, np.float32) for name, tensor in tensors.items()}, folder / WEIGHTS)
    with pytest.raises(BundleError, match=f"network must be {SIZE} finite numbers"):
        load_bundle(folder)


def test_what_is_no_bundle_is_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"bundle\.json cannot be read"):
        load_bundle(tmp_path)
    folder = Path(shutil.copytree(saved, tmp_path / "other"))
    (folder / WEIGHTS).write_bytes(b"cos\nsystem\n(S'true'\ntR.")  # a pickle is read as anything but a pickle
    with pytest.raises(BundleError):
        load_bundle(folder)


@pytest.mark.parametrize("name", shipped_bundles())
def test_what_is_shipped_can_be_loaded_and_is_small(name: str) -> None:
    bundle = load_bundle(SHIPPED / name)
    assert bundle.manifest["data"].startswith("Azure Functions 2019, CC-BY")
    assert sum(path.stat().st_size for path in (SHIPPED / name).iterdir()) < 500_000
