"""Files of random weights: where they lie, how they are made once, and the three ways to load one.

Styles: ``std`` builds the network and copies the file into it (what the papers' functions do; twice the memory at
the peak); ``fast`` builds it without memory and adopts the file's tensors; ``mmap`` adopts tensors that are mapped
from the file, so that pages come in at the first inference.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor, nn

Style = Literal["std", "fast", "mmap"]
VARIABLE = "TYCHE_WEIGHTS"
_SUFFIX: dict[Style, str] = {"std": ".pt", "fast": ".pt", "mmap": ".safetensors"}


def weights_folder() -> Path:
    """The folder that TYCHE_WEIGHTS names, or ``tyche/weights`` in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get(VARIABLE) or cache / "tyche" / "weights")


def make_weights(name: str, folder: Path) -> tuple[Path, ...]:
    """Write a network's random weights in both formats, unless they are there; the seed follows from the name.

    So that activations neither vanish nor explode, and the answer depends on the image, batch normalisation takes its
    statistics from four images, and convolutions without it keep the variance.

    Returns:
        The files.
    """
    paths = tuple(folder / f"{name}{suffix}" for suffix in sorted(set(_SUFFIX.values())))
    if all(path.is_file() for path in paths):
        return paths
    import numpy as np
    import torch
    from safetensors.torch import save_file

    from real_backend.functions import payloads
    from real_backend.functions.architectures import build

    torch.manual_seed(zlib.crc32(name.encode()))
    model = build(name)
    normalised = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    if normalised:
        images = torch.from_numpy(np.stack([payloads.image({"seed": seed}, 224) for seed in range(4)]))
        for module in normalised:
            module.momentum = 1.0
        with torch.no_grad():
            model.train()(images.permute(0, 3, 1, 2).float().div(127.5).sub(1))
    else:
        for layer in model.modules():
            if isinstance(layer, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    folder.mkdir(parents=True, exist_ok=True)
    tensors = _tensors(model)
    for path in paths:
        # Renamed when it is whole: a broken-off run leaves no broken file.
        part = path.with_suffix(path.suffix + ".part")
        if path.suffix == ".pt":
            torch.save(tensors, part)
        else:
            save_file(tensors, part)
        part.replace(path)
    return paths


def load_network(name: str, style: Style) -> Any:
    """Load a network from its file.

    Raises:
        FileNotFoundError: the weights have not been made; says how.
        Exception: whatever torch or safetensors raise for a file that is broken.
    """
    path = weights_folder() / f"{name}{_SUFFIX[style]}"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing; make it: python -m real_backend.functions make --out {path.parent} {name}"
        )
    import torch
    from safetensors.torch import load_file

    from real_backend.functions.architectures import build

    if style == "std":
        model = build(name)
        _adopt(model, torch.load(path, weights_only=True), assign=False)
        return model
    with torch.device("meta"):
        model = build(name)
    _adopt(model, load_file(path) if style == "mmap" else torch.load(path, weights_only=True), assign=True)
    return model


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and all buffers; also those that a state dict leaves out, which a network without memory lacks."""
    return {**dict(model.named_buffers()), **model.state_dict()}


def _adopt(model: nn.Module, tensors: dict[str, Tensor], assign: bool) -> None:
    wanted = model.state_dict().keys()
    model.load_state_dict({key: tensors[key] for key in wanted}, assign=assign)
    if assign:
        for key in dict(model.named_buffers()).keys() - wanted:
            owner, _, leaf = key.rpartition(".")
            setattr(model.get_submodule(owner), leaf, tensors[key])
