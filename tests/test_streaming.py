"""Strip by strip gives what the whole image gives: every size, strip, variant and kind of input."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.plain_afunet import PlainAFUNet
from models import AFUNet, AFUNetConfig, layers, streaming
from models.layers import biased_attention, padded_attention
from models.streaming import reconstruct, with_halo
from tests.golden_figures import golden_case, golden_model
from tests.test_afunet import CASES, VARIANTS, variant_model


def random_input(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(*shape, dtype=dtype, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("case", CASES)
def test_forward_agrees_with_the_authors(case: str) -> None:
    model = golden_model(CASES[case])
    x, wanted = golden_case(case)
    assert (reconstruct(model, x, strip_rows=16).double() - wanted).abs().max() < 2e-5
    assert (reconstruct(model.double(), x.double(), strip_rows=16) - wanted).abs().max() < 1e-9


SIZES = [(8, 8), (8, 23), (9, 9), (11, 64), (17, 30), (40, 40), (63, 50)]


@pytest.mark.parametrize("strip_rows", [8, 24, None])
@pytest.mark.parametrize("size", SIZES)
def test_every_size_and_strip_agrees_with_the_plain_reference(size: tuple[int, int], strip_rows: int | None) -> None:
    model = golden_model(2).double()
    x = random_input(1, 18, *size)
    with torch.inference_mode():
        wanted = PlainAFUNet(model)(x)
    assert (reconstruct(model, x, strip_rows=strip_rows) - wanted).abs().max() < 1e-9


def test_a_large_odd_image_agrees_in_both_precisions() -> None:
    model = golden_model(1)
    x = random_input(1, 18, 300, 500, dtype=torch.float32)
    with torch.inference_mode():
        exact = PlainAFUNet(model.double())(x.double())
        assert (model(x.double()) - exact).abs().max() < 1e-9
        assert (reconstruct(model, x.double()) - exact).abs().max() < 1e-9
        model = model.float()
        rounding = (PlainAFUNet(model)(x) - exact).abs().max()
        for found in (model(x), reconstruct(model, x)):
            assert (found - exact).abs().max() < max(2e-5, 3 * rounding)


@pytest.mark.parametrize("config", [*VARIANTS, AFUNetConfig(stages=6)], ids=str)
def test_variants_agree_with_the_plain_reference(config: AFUNetConfig) -> None:
    model = variant_model(config).double()
    x = random_input(1, 18, 29, 44)
    with torch.inference_mode():
        assert (reconstruct(model, x, strip_rows=8) - PlainAFUNet(model)(x)).abs().max() < 1e-9


@pytest.mark.parametrize("config", [AFUNetConfig(stages=2), AFUNetConfig(stages=2, order="fa")], ids=str)
def test_under_autocast_strips_give_what_the_whole_image_gives(config: AFUNetConfig) -> None:
    """Products round to bfloat16 in both, so that sums in another order are all that differs."""
    model = variant_model(config)
    x = random_input(1, 18, 29, 44, dtype=torch.float32)
    with torch.inference_mode():
        exact = model(x)
        with torch.autocast("cpu", torch.bfloat16):
            wanted, found = model(x), torch.as_tensor(reconstruct(model, x, strip_rows=8))
    rounding = (wanted - exact).abs()
    assert 0 < rounding.mean() < 0.02
    assert (found - wanted).abs().mean() < 0.2 * rounding.mean()


def test_under_autocast_the_last_layer_of_strips_is_not_rounded() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        found = torch.as_tensor(reconstruct(golden_model(1), random_input(1, 18, 16, 16, dtype=torch.float32)))
    assert found.dtype == torch.float32
    assert not torch.equal(found, found.bfloat16().float())
    logits = torch.logit(found.double())
    assert (logits - logits.float().bfloat16().double()).abs().max() > 1e-4


def test_a_batch_is_its_images() -> None:
    model = golden_model(1).double()
    x = random_input(3, 18, 20, 33)
    assert torch.equal(reconstruct(model, x), torch.cat([reconstruct(model, x[b : b + 1]) for b in range(3)]))


def test_a_batch_holds_one_images_maps_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    alive: weakref.WeakSet[streaming._Image] = weakref.WeakSet()
    most: list[int] = []
    begin = streaming._Image.__init__

    def counted(image: streaming._Image, *args: object) -> None:
        alive.add(image)
        most.append(len(alive))
        begin(image, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(streaming._Image, "__init__", counted)
    reconstruct(golden_model(1), random_input(3, 18, 16, 16, dtype=torch.float32))
    assert most == [1, 1, 1]


@pytest.mark.parametrize("windows", [5, 2])
def test_attention_as_on_a_gpu_is_the_same(windows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With channels added, and with no more windows at a time than CUDA takes."""
    monkeypatch.setattr(layers, "MOST_WINDOWS", windows)
    q, k, v = (random_input(5, 4, 64, 18) for _ in range(3))
    bias = random_input(1, 4, 64, 64)
    assert (padded_attention(q, k, v, bias) - biased_attention(q, k, v, bias)).abs().max() < 1e-14


def test_rows_may_come_from_a_memory_map_or_a_function_and_go_to_one(tmp_path) -> None:
    model = golden_model(1)
    x = random_input(1, 18, 37, 45, dtype=torch.float32)
    wanted = reconstruct(model, x, strip_rows=8)
    stored = np.memmap(tmp_path / "x", np.float32, "w+", shape=tuple(x.shape))
    stored[:] = x.numpy()
    assert torch.equal(reconstruct(model, stored, strip_rows=8), wanted)
    out = np.memmap(tmp_path / "y", np.float32, "w+", shape=(1, 3, 37, 45))
    assert reconstruct(model, lambda a, b: x[:, :, a:b], size=(37, 45), out=out, strip_rows=8) is out
    assert np.array_equal(out, wanted.numpy())


def test_half_precision_storage_is_close() -> None:
    model = golden_model(2)
    x = random_input(1, 18, 64, 64, dtype=torch.float32)
    difference = (reconstruct(model, x, storage=torch.float16) - reconstruct(model, x)).abs().max()
    assert 0 < difference < 5e-3


def test_progress_ends_at_its_total() -> None:
    seen: list[tuple[int, int]] = []
    reconstruct(golden_model(2), random_input(2, 18, 24, 16, dtype=torch.float32), progress=lambda *s: seen.append(s))
    assert seen == sorted(seen) and seen[-1][0] == seen[-1][1] and len({total for _, total in seen}) == 1


def test_wrong_calls_are_refused() -> None:
    x = random_input(1, 18, 16, 16, dtype=torch.float32)
    with pytest.raises(ValueError, match="eval"):
        reconstruct(AFUNet().train(), x)
    with pytest.raises(ValueError, match="size"):
        reconstruct(golden_model(1), lambda a, b: x[:, :, a:b])
    with pytest.raises(ValueError, match="fewer"):
        reconstruct(golden_model(1), x[..., :7])


@pytest.mark.parametrize("strips", [[5], [2, 2, 2], [3, 4]])
def test_a_halo_is_the_neighbouring_rows(strips: list[int]) -> None:
    image = random_input(1, sum(strips), 3, 2)
    padded = torch.cat([image[:, 1:2], image, image[:, -2:-1]], dim=1)
    rows = []
    for where, block in with_halo(image.split(strips, dim=1)):
        assert torch.equal(block, padded[:, where.start : where.stop + 2])
        rows += range(where.start, where.stop)
    assert rows == list(range(sum(strips)))
