"""`inception`: features of the 2015 FID network, from a file of published weights that the user provides.

Two files hold these weights. The state dict is what pytorch-fid and torch-fidelity load; the TorchScript file is what
NVIDIA's projects and clean-fid load, with its own program of the network. Either serves, under any resize rule.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from limner.cache import cache_folder
from limner.errors import CheckpointError
from limner.metrics.extractors.base import Extractor, Features
from limner.metrics.extractors.batches import features_in_pieces, find_device, full_float32, place
from limner.metrics.extractors.fid_network import FEATURES, SIDE, FIDNetwork
from limner.metrics.extractors.resize import bytes_to_pixels, find_rule, floats_to_pixels
from limner.metrics.extractors.weights import KnownFile, find_file, load_state, load_torchscript, read_known
from limner.types import Images

KNOWN_FILES: dict[str, KnownFile] = {
    "state dict": KnownFile(
        "pt_inception-2015-12-05-6726825d.pth",
        95_628_359,
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        "state dict",
    ),
    "TorchScript": KnownFile(
        "inception-2015-12-05.pt",
        95_607_719,
        "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
        "TorchScript",
    ),
}


def inception_folder() -> Path:
    """Where weights are looked for when no file is named."""
    return cache_folder() / "extractors"


class InceptionExtractor(Extractor):
    """2048 features (the means over the last map) and 1008 logits without the bias of the last layer.

    The Inception score of its authors leaves that bias out, and so do torch-fidelity ("logits_unbiased") and NVIDIA's
    projects (no_output_bias); `logits` gives them with it.

    Raises:
        LimnerError: no file of weights, or an unknown resize rule.
        CheckpointError: the file is not one of the two, byte for byte.
    """

    name = "inception"
    width = FEATURES
    logits_rule = "without bias"

    def __init__(self, weights: Path | None = None, resize: str | None = None, device: str = "cpu") -> None:
        self.rule = find_rule(resize or "clean")
        self.resize = self.rule.name
        path = find_file(weights, inception_folder(), KNOWN_FILES)
        content, file = read_known(path, KNOWN_FILES)
        self.sha256 = file.sha256
        self.device = find_device(device)
        load = _load_torchscript if file.kind == "TorchScript" else _load_state_dict
        self._network, self._weight, self._bias = load(content, path, self.device)

    def of_bytes(self, images: UInt8[Tensor, "n r r 3"]) -> Features:
        return features_in_pieces(images, self._of_some_bytes, self._logits)

    def of_floats(self, images: Images) -> Float[Tensor, "n d"]:
        with full_float32():
            return self._of_pixels(floats_to_pixels(images.to(self.device)))

    def logits(self, features: Float[Tensor, "n 2048"], *, bias: bool) -> Float[Tensor, "n 1008"]:
        """Class logits of features, with the last layer's bias or without, on the CPU."""
        return features @ self._weight.T + (self._bias if bias else 0)

    def _logits(self, features: Tensor) -> Tensor:
        return self.logits(features, bias=False)

    def _of_some_bytes(self, images: Tensor) -> Tensor:
        return self._of_pixels(bytes_to_pixels(images, self.device))

    def _of_pixels(self, pixels: Tensor) -> Tensor:
        inputs = self.rule.to_inception_range(self.rule.resize(pixels, SIDE))
        return self._network(inputs.contiguous(memory_format=torch.channels_last))


Loaded = tuple[Callable[[Tensor], Tensor], Tensor, Tensor]
"""the network from input to features, on its device; weight [1008, 2048] and bias [1008] of the classes, on the CPU"""


def _load_state_dict(content: bytes, path: Path, device: torch.device) -> Loaded:
    network = FIDNetwork().eval().requires_grad_(False)
    load_state(network, content, path)
    weight, bias = network.fc.weight.clone(), network.fc.bias.clone()
    place(network, device)
    return network, weight, bias


def _load_torchscript(content: bytes, path: Path, device: torch.device) -> Loaded:
    """The file's own program from its `layers` on, which begin after its resize and scaling, as clean-fid runs it."""
    module = load_torchscript(content, path, device)
    state = module.state_dict()
    if not hasattr(module, "layers") or "output.weight" not in state or "output.bias" not in state:
        raise CheckpointError(f"{path}: no `layers` and `output` in it; not NVIDIA's {KNOWN_FILES['TorchScript'].name}")

    def network(inputs: Tensor) -> Tensor:
        return module.layers(inputs).reshape(len(inputs), FEATURES)

    return network, state["output.weight"].cpu().float(), state["output.bias"].cpu().float()
