"""The shipped functions, by the names that the profile catalogue ``measured`` gives them.

``resnet18`` loads in the style ``std``; ``resnet18-fast`` and ``resnet18-mmap`` are the same network in the others.
Memory was measured on x86-64 Linux with torch 2.13 (CPU) and rounded up; ``gpu_mb`` is weights, about 400 MB of
context and room for activations, assumed until measured on a GPU.
"""

from __future__ import annotations

from dataclasses import replace

from real_backend.functions.networks import ImageNetwork, TokenNetwork
from real_backend.functions.pretrained import CrepePitch, Magika, MiniLm, OpenNsfw, SileroVad
from real_backend.functions.protocol import Function, Resources
from real_backend.functions.weights import Style

_RANDOM: dict[str, ImageNetwork | TokenNetwork] = {
    "alexnet": ImageNetwork(Resources(520, 780, 700), network="alexnet"),
    "bert_base": TokenNetwork(Resources(860, 1320, 900)),
    "googlenet": ImageNetwork(Resources(310, 340, 480), network="googlenet"),
    "inception_v3": ImageNetwork(Resources(390, 500, 560), network="inception_v3", size=299),
    "resnet18": ImageNetwork(Resources(330, 390, 500), network="resnet18"),
    "resnet50": ImageNetwork(Resources(390, 500, 560), network="resnet50"),
    "resnet152": ImageNetwork(Resources(530, 790, 700), network="resnet152"),
    "vgg19": ImageNetwork(Resources(850, 1440, 1050), network="vgg19"),
}
_STYLES: tuple[Style, ...] = ("fast", "mmap")
_SLACK_MB = 30


def _in_style(function: ImageNetwork | TokenNetwork, style: Style) -> Function:
    """The same network in a style that has its weights in memory but once."""
    needs = function.resources
    return replace(function, style=style, resources=replace(needs, peak_mb=needs.hold_mb + _SLACK_MB))


RANDOM_WEIGHTS = tuple(_RANDOM)
"""The networks whose weights ``python -m real_backend.functions make`` makes."""

FUNCTIONS: dict[str, Function] = {
    "crepe_full": CrepePitch(Resources(400, 500, 550)),
    "gt_minilm_torch": MiniLm(Resources(520, 620, 550)),
    "magika": Magika(Resources(90, 110)),
    "opennsfw": OpenNsfw(Resources(140, 180)),
    "silero_onnx": SileroVad(Resources(80, 100)),
    **_RANDOM,
    **{f"{name}-{style}": _in_style(f, style) for name, f in _RANDOM.items() for style in _STYLES},
}
"""All shipped functions."""
