"""The training loss: L1 after the mu-law + 0.005 x a perceptual term, VGG-19 (the paper) or FFT (the released code)."""

from __future__ import annotations

import http.client
import pickle
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.exposure import tonemap
from utils.files import InputError

DAMAGE = (EOFError, ValueError, pickle.UnpicklingError)  # what torch.load raises for a file of something else

PERCEPTUAL_WEIGHT = 0.005
VGG_ADDRESS = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"  # torchvision's; its name ends in its hash
VGG_WIDTHS = (64, 64, 0, 128, 128, 0, *[256] * 4, 0, *[512] * 4, 0, *[512] * 4, 0)  # 16 convolutions; 0 is max pooling
VGG_TAPS = (1, 6, 11, 20, 29)  # relu1_1, relu2_1, relu3_1, relu4_1, relu5_1 in torchvision's numbering
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
DOWNLOAD_TIMEOUT = 30.0  # seconds without an answer


class FFTLoss(nn.Module):
    """As released: mean absolute difference of the real and imaginary parts of the unnormalised 2-D real FFT.

    Real and imaginary parts are stacked, so the mean is half of L1(re) + L1(im). Both arguments: (B, 3, H, W), float32.
    """

    def forward(self, prediction: Tensor, label: Tensor) -> Tensor:
        return F.l1_loss(self._spectrum(prediction), self._spectrum(label))

    @staticmethod
    def _spectrum(image: Tensor) -> Tensor:
        return torch.view_as_real(torch.fft.rfft2(image))  # (B, 3, H, W // 2 + 1, 2)


class VGGLoss(nn.Module):
    """Sum over relu1_1 ... relu5_1 of the mean absolute difference of VGG-19 features.

    Both arguments: (B, 3, H, W) in [0, 1]; they are normalised with ImageNet's mean and deviation. The trunk (Simonyan
    and Zisserman, ICLR 2015) is frozen and goes no deeper than its last tap. Parameter names are torchvision's,
    ``features.N.weight`` and ``features.N.bias``.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, weights: dict[str, Tensor]) -> None:
        """``weights``: a state dict of torchvision's vgg19, or of its ``features`` alone. Raises InputError."""
        super().__init__()
        self.features = vgg19_trunk(depth=VGG_TAPS[-1] + 1)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)
        load_trunk(self.features, weights)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> VGGLoss:
        return super().train(False)  # frozen, whatever a caller asks for

    def forward(self, prediction: Tensor, label: Tensor) -> Tensor:
        return torch.stack(self.terms(prediction, label)).sum()

    def terms(self, prediction: Tensor, label: Tensor) -> list[Tensor]:
        """The five differences, shallow to deep."""
        with torch.no_grad():
            wanted = self.taps(label)
        return [
            F.l1_loss(ours.float(), theirs.float()) for ours, theirs in zip(self.taps(prediction), wanted, strict=True)
        ]

    def taps(self, image: Tensor) -> list[Tensor]:
        """Features after the ReLU: (B, 64, H, W), (B, 128, H/2, W/2), ... (B, 512, H/16, W/16)."""
        x, found = (image - self.mean) / self.std, []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in VGG_TAPS:
                found.append(x)
        return found


class TrainingLoss(nn.Module):
    """mean |T(prediction) - T(label)| + 0.005 x perceptual(T(prediction), T(label)), T the mu-law.

    ``linear`` x mean |prediction - label| may be added; neither the paper nor the released code has it. T is steep in
    the dark and flat near 1, where the reference is clipped: from a tenth up to 1 its slope falls from 1.2 to 0.12, and
    hue hardly shows. A linear term weighs the bright places as much as the dark ones.

    ``forward`` takes two (B, 3, H, W) tensors of linear radiance and returns the terms ``l1_mu`` and ``perceptual``
    (and ``linear`` where it counts), unweighted, and their weighted sum ``total``. T and the FFT are computed in
    float32 under autocast too.
    """

    def __init__(self, perceptual: nn.Module, weight: float = PERCEPTUAL_WEIGHT, linear: float = 0.0) -> None:
        super().__init__()
        self.perceptual = perceptual
        self.weight, self.linear = weight, linear

    def forward(self, prediction: Tensor, label: Tensor) -> dict[str, Tensor]:
        tone, wanted = tonemap(prediction.float()), tonemap(label.float())
        l1_mu, perceptual = F.l1_loss(tone, wanted), self.perceptual(tone, wanted)
        total = l1_mu + self.weight * perceptual
        if not self.linear:
            return {"l1_mu": l1_mu, "perceptual": perceptual, "total": total}
        linear = F.l1_loss(prediction.float(), label.float())
        return {"l1_mu": l1_mu, "perceptual": perceptual, "linear": linear, "total": total + self.linear * linear}


def training_loss(perceptual: str, vgg_weights: str | Path | None = None, linear: float = 0.0) -> TrainingLoss:
    """The loss with perceptual term ``vgg`` or ``fft``; VGG weights are looked for only where they are used.

    ``linear`` is the weight of the linear term.

    Raises InputError when they are neither in ``vgg_weights`` nor in torch's cache nor to be downloaded.
    """
    term = FFTLoss() if perceptual == "fft" else VGGLoss(vgg19_weights(vgg_weights))
    return TrainingLoss(term, linear=linear)


def vgg19_trunk(depth: int = 37) -> nn.Sequential:
    """The first ``depth`` of VGG-19's 37 feature layers: 3x3 convolutions padded with zeros, ReLU, 2x2 max pooling."""
    layers: list[nn.Module] = []
    channels = 3
    for width in VGG_WIDTHS:
        if width:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        else:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers[:depth])


def load_trunk(trunk: nn.Sequential, weights: dict[str, Tensor]) -> None:
    """Fill the trunk from keys ``features.N.*`` or ``N.*``; further keys are ignored. Raises InputError."""
    try:
        bare = {key.removeprefix("features."): value for key, value in weights.items()}
        trunk.load_state_dict({key: bare[key] for key in trunk.state_dict()})
    except (AttributeError, KeyError, RuntimeError):
        raise InputError("--vgg_weights: not the weights of torchvision's vgg19 (features.0.weight ...)") from None


def vgg19_weights(path: str | Path | None = None) -> dict[str, Tensor]:
    """VGG-19's ImageNet weights from a file, or from torchvision's public address, checked and cached by torch.hub.

    Raises InputError: unreadable file, or neither a file nor a network.
    """
    if path is None:
        return _download()
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        problem = "no such file"
    except (OSError, RuntimeError, *DAMAGE):
        problem = "not a readable weight file"
    raise InputError(f"{path}: {problem}; --vgg_weights wants torchvision's {Path(VGG_ADDRESS).name}")


def _download() -> dict[str, Tensor]:
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(VGG_ADDRESS).name
    try:
        with _timeout(DOWNLOAD_TIMEOUT):
            load = torch.hub.load_state_dict_from_url
            return load(VGG_ADDRESS, map_location="cpu", check_hash=True, weights_only=True)
    except (OSError, RuntimeError, http.client.HTTPException, *DAMAGE) as error:
        if cached.exists():
            raise InputError(f"{cached}: damaged; delete it, and it is fetched anew") from None
        raise InputError(
            f"the VGG-19 loss needs {VGG_ADDRESS}, which cannot be fetched ({error}); fetch it elsewhere and give "
            "--vgg_weights FILE, or train without it: --recipe released (FFT loss)"
        ) from None


@contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)  # torch.hub sets none, and would wait for ever behind a silent firewall
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
