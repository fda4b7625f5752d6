"""Functions that run a torch network: images and tokens through random weights, and what moves them to a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from real_backend.functions import payloads
from real_backend.functions.protocol import Resources
from real_backend.functions.weights import Style, load_network


@dataclass(frozen=True, slots=True)
class TorchFunction:
    """What all torch functions share: one thread, and the moves between memories.

    Attributes:
        resources: see the protocol.
        library: see the protocol.
    """

    resources: Resources
    library: str = "torch"

    def libraries(self) -> None:
        """Import torch, and the networks, which import nothing else."""
        import torch

        import real_backend.functions.architectures  # noqa: F401

        torch.set_num_threads(1)

    def to_gpu(self, model: Any) -> Any:
        """Move the network; the first move of a process makes the CUDA context."""
        import torch

        model = model.to("cuda")
        torch.cuda.synchronize()
        return model

    def to_cpu(self, model: Any) -> Any:
        """Move the network back and give torch's cache of GPU memory back to the device."""
        import torch

        model = model.to("cpu")
        torch.cuda.empty_cache()
        return model


@dataclass(frozen=True, slots=True)
class ImageNetwork(TorchFunction):
    """An image classifier with random weights: ``{"seed": n}`` or ``{"rgb": base64}`` to the largest logit.

    Attributes:
        network: its name in :mod:`real_backend.functions.architectures`.
        style: how it loads.
        size: edge of its images.
    """

    network: str = "resnet18"
    style: Style = "std"
    size: int = 224

    def load(self) -> Any:
        """Load its weights file."""
        return load_network(self.network, self.style)

    def infer(self, model: Any, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Classify one image."""
        import torch

        image = payloads.image(payload, self.size)
        x = torch.from_numpy(image).permute(2, 0, 1)[None].to(device_of(model)).float().div(127.5).sub(1)
        with torch.inference_mode():
            return summary(model(x)[0])


@dataclass(frozen=True, slots=True)
class TokenNetwork(TorchFunction):
    """BERT with random weights: ``{"seed": n, "length": n}`` or ``{"tokens": [...]}`` to the pooled output.

    Attributes:
        network: its name in :mod:`real_backend.functions.architectures`.
        style: how it loads.
        vocabulary: how many tokens it knows.
    """

    library: str = "torch+transformers"
    network: str = "bert_base"
    style: Style = "std"
    vocabulary: int = 30522

    def libraries(self) -> None:
        """Import torch and the part of transformers that BERT needs."""
        TorchFunction.libraries(self)
        from transformers import BertConfig, BertModel  # noqa: F401

    def load(self) -> Any:
        """Load its weights file."""
        return load_network(self.network, self.style)

    def infer(self, model: Any, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Encode one sequence of tokens."""
        import torch

        tokens = torch.from_numpy(payloads.tokens(payload, self.vocabulary))[None].to(device_of(model))
        with torch.inference_mode():
            return summary(model(input_ids=tokens).pooler_output[0])


def device_of(model: Any) -> Any:
    """The device that a network's parameters are on."""
    return next(model.parameters()).device


def summary(output: Any) -> dict[str, Any]:
    """What a vector can be checked by: where its largest element is, that element, and the spread."""
    output = output.float().cpu()
    return {
        "argmax": int(output.argmax()),
        "max": round(float(output.max()), 5),
        "std": round(float(output.std()), 5),
    }
