"""The loss terms against the released code's figures, and VGG-19's weights found, refused and kept frozen."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torch import Tensor

from tests import golden_figures
from utils.files import InputError
from utils.training.losses import FFTLoss, TrainingLoss, VGGLoss, training_loss, vgg19_trunk, vgg19_weights

GOLDEN = golden_figures.GOLDEN / "metrics"


def figures(name: str) -> dict[str, float]:
    return json.loads((GOLDEN / name).read_text())


@pytest.fixture(scope="module")
def pair() -> tuple[Tensor, Tensor]:
    with np.load(GOLDEN / "loss_pair.npz") as file:
        return torch.from_numpy(file["pred"]), torch.from_numpy(file["label"])


def rule(key: str, shape: torch.Size) -> Tensor:
    """The golden weights: a function of torchvision's key."""
    n = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(tuple(shape))
    scale = 0.1 if key.endswith("bias") else np.sqrt(2 / np.prod(shape[1:]))
    return torch.from_numpy((n * scale).astype(np.float32))


@pytest.fixture(scope="module")
def vgg_weights() -> dict[str, Tensor]:
    trunk = torch.nn.ModuleDict({"features": vgg19_trunk(30)})
    return {key: rule(key, value.shape) for key, value in trunk.state_dict().items()}


@pytest.fixture(scope="module")
def vgg(vgg_weights: dict[str, Tensor]) -> VGGLoss:
    return VGGLoss(vgg_weights)


def test_released_loss(pair: tuple[Tensor, Tensor]) -> None:
    wanted, terms = figures("loss.json"), training_loss("fft")(*pair)
    assert float(terms["l1_mu"]) == pytest.approx(wanted["l1_mu"], rel=1e-6)
    assert 0.005 * float(terms["perceptual"]) == pytest.approx(wanted["fft_weighted_0_005"], rel=1e-6)
    assert float(terms["total"]) == pytest.approx(wanted["total"], rel=1e-6)


def test_a_linear_term_is_added_where_asked_for(pair: tuple[Tensor, Tensor]) -> None:
    plain, weighed = training_loss("fft")(*pair), training_loss("fft", linear=0.25)(*pair)
    difference = (pair[0].double() - pair[1].double()).abs().mean()
    assert plain.keys() == {"l1_mu", "perceptual", "total"}
    assert float(weighed["linear"]) == pytest.approx(float(difference), rel=1e-5)
    assert float(weighed["total"] - plain["total"]) == pytest.approx(0.25 * float(difference), rel=1e-4)


def test_vgg_terms(vgg: VGGLoss, pair: tuple[Tensor, Tensor]) -> None:
    wanted = figures("vgg_loss.json")
    tone = [torch.log1p(5000 * image) / np.log(5001) for image in pair]
    terms = vgg.terms(*tone)
    for name, term in zip(("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"), terms, strict=True):
        assert float(term) == pytest.approx(wanted[name], rel=1e-6), name
    assert float(TrainingLoss(vgg)(*pair)["perceptual"]) == pytest.approx(wanted["sum"], rel=1e-6)


def test_trunk_has_vgg19s_layers() -> None:
    convolutions = [(i, layer) for i, layer in enumerate(vgg19_trunk()) if isinstance(layer, torch.nn.Conv2d)]
    assert [index for index, _ in convolutions] == [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34]
    assert sum(p.numel() for _, layer in convolutions for p in layer.parameters()) == 20_024_384  # of torchvision's


def test_vgg_is_frozen_and_lets_gradients_through(vgg: VGGLoss) -> None:
    image = torch.rand(1, 3, 32, 32, requires_grad=True)
    TrainingLoss(vgg).train()(image, torch.rand(1, 3, 32, 32))["total"].backward()
    assert image.grad is not None and float(image.grad.abs().max()) > 0
    assert all(p.grad is None and not p.requires_grad for p in vgg.parameters())
    assert not any(module.training for module in vgg.modules())
    assert len(vgg.features) == 30


def test_the_loss_is_zero_only_for_equal_images(pair: tuple[Tensor, Tensor]) -> None:
    loss = TrainingLoss(FFTLoss())
    assert float(loss(pair[0], pair[0])["total"]) == 0
    assert float(loss(pair[0], pair[0] + 0.01)["total"]) > 0.001


def test_autocast_does_not_coarsen_the_released_loss(pair: tuple[Tensor, Tensor]) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total = training_loss("fft")(*pair)["total"]
    assert float(total) == pytest.approx(figures("loss.json")["total"], rel=1e-6)


@pytest.mark.parametrize("prefix", ["features.", ""])
def test_vgg_weights_from_a_file(prefix: str, vgg_weights: dict[str, Tensor], tmp_path: Path) -> None:
    content = {prefix + key.removeprefix("features."): value for key, value in vgg_weights.items()}
    torch.save(content | {"classifier.0.bias": torch.zeros(1)}, tmp_path / "vgg.pth")
    loaded = VGGLoss(vgg19_weights(tmp_path / "vgg.pth")).features.state_dict()
    assert torch.equal(loaded["28.weight"], vgg_weights["features.28.weight"])


def test_bad_vgg_files_are_named(tmp_path: Path) -> None:
    damaged, other = tmp_path / "damaged.pth", tmp_path / "other.pth"
    damaged.write_bytes(b"PK\x03\x04 cut off")
    torch.save({"features.0.weight": torch.zeros(1)}, other)
    with pytest.raises(InputError, match="no such file"):
        training_loss("vgg", tmp_path / "none.pth")
    with pytest.raises(InputError, match=r"damaged\.pth: not a readable"):
        training_loss("vgg", damaged)
    with pytest.raises(InputError, match="not the weights of torchvision's vgg19"):
        training_loss("vgg", other)


def test_a_damaged_file_in_the_cache_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    for content in (b"PK\x03\x04 cut off", b"<html>"):
        (tmp_path / "checkpoints" / "vgg19-dcbb9e9d.pth").write_bytes(content)
        with pytest.raises(InputError, match=r"vgg19-dcbb9e9d\.pth: damaged; delete it"):
            training_loss("vgg")


def test_without_network_both_ways_out_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("no route")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    training_loss("fft")  # asks for no weights
    with pytest.raises(InputError) as error:
        training_loss("vgg")
    assert "--vgg_weights FILE" in str(error.value) and "--recipe released" in str(error.value)
