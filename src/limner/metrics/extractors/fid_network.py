"""The network of the Fréchet Inception distance: Inception v3 as TensorFlow's archive of 2015-12-05 has it.

Szegedy et al. 2016 (arXiv:1512.00567), in the variant that Heusel et al. 2017 (arXiv:1706.08500) took features of. It
differs from the network known under the same name in four ways, each of which changes every FID: average pools leave
the padding out of the mean; the last block has a max pool where the one before has an average pool; there are 1008
classes; there is no auxiliary classifier. Names of parameters are those of the published PyTorch state dict.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

FEATURES = 2048
CLASSES = 1008
SIDE = 299
"""pixels of the input's side"""


class Convolution(nn.Module):
    """Convolution without bias, batch normalization, ReLU."""

    def __init__(
        self,
        channels: int,
        width: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(width, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class Block(nn.Module):
    """Branches side by side, their channels joined. A subclass says what the branches are."""

    def chain(self, x: Tensor, *names: str) -> Tensor:
        for name in names:
            x = getattr(self, name)(x)
        return x


class BlockA(Block):
    """35² → 35²: 224 + `pooled` channels."""

    def __init__(self, channels: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = Convolution(channels, 64, 1)
        self.branch5x5_1 = Convolution(channels, 48, 1)
        self.branch5x5_2 = Convolution(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = Convolution(channels, 64, 1)
        self.branch3x3dbl_2 = Convolution(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Convolution(96, 96, 3, padding=1)
        self.branch_pool = Convolution(channels, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        five = self.chain(x, "branch5x5_1", "branch5x5_2")
        three = self.chain(x, "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3")
        return torch.cat([self.branch1x1(x), five, three, self.branch_pool(average_pool(x))], 1)


class BlockB(Block):
    """35² → 17², 288 → 768 channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch3x3 = Convolution(channels, 384, 3, stride=2)
        self.branch3x3dbl_1 = Convolution(channels, 64, 1)
        self.branch3x3dbl_2 = Convolution(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Convolution(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        three = self.chain(x, "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3")
        return torch.cat([self.branch3x3(x), three, F.max_pool2d(x, 3, 2)], 1)


class BlockC(Block):
    """17² → 17², 768 channels; `width` of them between the long kernels."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.branch1x1 = Convolution(channels, 192, 1)
        self.branch7x7_1 = Convolution(channels, width, 1)
        self.branch7x7_2 = Convolution(width, width, (1, 7), padding=(0, 3))
        self.branch7x7_3 = Convolution(width, 192, (7, 1), padding=(3, 0))
        self.branch7x7dbl_1 = Convolution(channels, width, 1)
        self.branch7x7dbl_2 = Convolution(width, width, (7, 1), padding=(3, 0))
        self.branch7x7dbl_3 = Convolution(width, width, (1, 7), padding=(0, 3))
        self.branch7x7dbl_4 = Convolution(width, width, (7, 1), padding=(3, 0))
        self.branch7x7dbl_5 = Convolution(width, 192, (1, 7), padding=(0, 3))
        self.branch_pool = Convolution(channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        once = self.chain(x, *(f"branch7x7_{k}" for k in (1, 2, 3)))
        twice = self.chain(x, *(f"branch7x7dbl_{k}" for k in (1, 2, 3, 4, 5)))
        return torch.cat([self.branch1x1(x), once, twice, self.branch_pool(average_pool(x))], 1)


class BlockD(Block):
    """17² → 8², 768 → 1280 channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch3x3_1 = Convolution(channels, 192, 1)
        self.branch3x3_2 = Convolution(192, 320, 3, stride=2)
        self.branch7x7x3_1 = Convolution(channels, 192, 1)
        self.branch7x7x3_2 = Convolution(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = Convolution(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = Convolution(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        three = self.chain(x, "branch3x3_1", "branch3x3_2")
        seven = self.chain(x, *(f"branch7x7x3_{k}" for k in (1, 2, 3, 4)))
        return torch.cat([three, seven, F.max_pool2d(x, 3, 2)], 1)


class BlockE(Block):
    """8² → 8², 2048 channels. `last`: the block whose pool takes the maximum."""

    def __init__(self, channels: int, last: bool) -> None:
        super().__init__()
        self.last = last
        self.branch1x1 = Convolution(channels, 320, 1)
        self.branch3x3_1 = Convolution(channels, 384, 1)
        self.branch3x3_2a = Convolution(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = Convolution(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = Convolution(channels, 448, 1)
        self.branch3x3dbl_2 = Convolution(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = Convolution(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = Convolution(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = Convolution(channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        once = self.branch3x3_1(x)
        twice = self.chain(x, "branch3x3dbl_1", "branch3x3dbl_2")
        forks = [self.branch3x3_2a(once), self.branch3x3_2b(once)]
        forks += [self.branch3x3dbl_3a(twice), self.branch3x3dbl_3b(twice)]
        pooled = F.max_pool2d(x, 3, 1, 1) if self.last else average_pool(x)
        return torch.cat([self.branch1x1(x), *forks, self.branch_pool(pooled)], 1)


def average_pool(x: Tensor) -> Tensor:
    """Mean of the 3×3 neighbours that are in the image: zeros of the padding are not counted, as in TensorFlow."""
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


class FIDNetwork(nn.Module):
    """[n, 3, 299, 299] in about [-1, 1] → [n, 2048], the means over the last map ("pool3"); in eval mode only."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Convolution(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Convolution(32, 32, 3)
        self.Conv2d_2b_3x3 = Convolution(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = Convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = Convolution(80, 192, 3)
        self.Mixed_5b = BlockA(192, 32)
        self.Mixed_5c = BlockA(256, 64)
        self.Mixed_5d = BlockA(288, 64)
        self.Mixed_6a = BlockB(288)
        self.Mixed_6b = BlockC(768, 128)
        self.Mixed_6c = BlockC(768, 160)
        self.Mixed_6d = BlockC(768, 160)
        self.Mixed_6e = BlockC(768, 192)
        self.Mixed_7a = BlockD(768)
        self.Mixed_7b = BlockE(1280, last=False)
        self.Mixed_7c = BlockE(2048, last=True)
        self.fc = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Float[Tensor, "n 3 299 299"]) -> Float[Tensor, "n 2048"]:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = F.max_pool2d(x, 3, 2)
        x = F.max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)), 3, 2)
        for block in self.blocks():
            x = block(x)
        return x.mean((2, 3))

    def blocks(self) -> Sequence[nn.Module]:
        """The mixed blocks, in order."""
        return [block for block in self.children() if isinstance(block, Block)]
