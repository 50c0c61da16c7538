"""The padding of the test protocol, and the choice between the ways to run the network."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models import AFUNet, AFUNetConfig
from utils import inference
from utils.files import InputError
from utils.inference import RAN, pad_to_multiple, predict
from utils.memory import bytes_needed

CPU = torch.device("cpu")


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 128), (40, 129), (72, 100)])
def test_padding_reflects_as_numpy_does_however_often(size: tuple[int, int]) -> None:
    x = torch.rand(2, *size)
    h, w = size
    wanted = np.pad(x.numpy(), ((0, 0), (0, -h % 128), (0, -w % 128)), mode="reflect")
    np.testing.assert_array_equal(pad_to_multiple(x, 128).numpy(), wanted)


def test_a_whole_multiple_is_left_alone() -> None:
    x = torch.rand(1, 18, 16, 8)
    assert torch.equal(pad_to_multiple(x, 8), x)
    assert torch.equal(pad_to_multiple(x, 1), x)


class Recorder(nn.Module):
    """Returns the first three channels and remembers the sizes it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(tuple(x.shape[-2:]))
        return x[:, :3]


def test_predict_pads_runs_and_crops() -> None:
    model, x = Recorder(), torch.rand(1, 18, 20, 33)
    y, ran = predict(model, x, patch_size=16, way="whole")
    assert model.sizes == [(32, 48)] and ran == "whole"
    assert torch.equal(y, x[:, :3])


def test_strips_give_the_numbers_of_the_whole_image() -> None:
    torch.manual_seed(0)
    model = AFUNet(AFUNetConfig(stages=1)).eval()
    x = torch.rand(1, 18, 30, 45)
    whole, _ = predict(model, x, 16, "whole")
    strips, ran = predict(model, x, 16, "strips")
    assert ran == "strips"
    torch.testing.assert_close(strips, whole, atol=2e-5, rtol=0)


def test_auto_is_strips_on_a_cpu_and_whole_on_a_gpu() -> None:
    assert inference.choose_way(CPU) == "strips"
    assert inference.choose_way(torch.device("cuda")) == "whole"
    assert inference.choose_way(CPU, "whole") == "whole"


class OutOfMemory(Recorder):
    def forward(self, x: Tensor) -> Tensor:
        raise torch.cuda.OutOfMemoryError("too large")


def test_running_out_of_gpu_memory_falls_back_to_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "choose_way", lambda device, way: "whole")
    monkeypatch.setattr(inference, "reconstruct_in_strips", lambda model, x, **_: x[:, :3])
    x = torch.rand(1, 18, 8, 8)
    y, ran = predict(OutOfMemory(), x, 8, "auto")
    assert ran == "strips" and torch.equal(y, x[:, :3])
    with pytest.raises(InputError, match="out of GPU memory; pass --inference strips"):
        predict(OutOfMemory(), x, 8, "whole")


def test_strips_begin_when_the_failed_call_has_let_its_memory_go(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[Tensor]] = []

    class Full(Recorder):
        def forward(self, x: Tensor) -> Tensor:
            feature = x * 2
            made.append(weakref.ref(feature))
            raise torch.cuda.OutOfMemoryError("too large")

    def strips(model: object, x: Tensor, **_: object) -> Tensor:
        assert made and made[0]() is None
        return x[:, :3]

    monkeypatch.setattr(inference, "choose_way", lambda device, way: "whole")
    monkeypatch.setattr(inference, "reconstruct_in_strips", strips)
    assert predict(Full(), torch.rand(1, 18, 8, 8), 8, "auto")[1] == "strips"


def test_an_output_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(InputError, match="not finite"):
        predict(Recorder(), torch.full((1, 18, 8, 8), torch.nan), 8, "whole")


def test_little_memory_means_half_storage_in_the_test_protocol_too(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model, x = AFUNet(AFUNetConfig(stages=1)).eval(), torch.rand(1, 18, 24, 40)
    exact, _ = predict(model, x, 8)
    monkeypatch.setattr("utils.memory.available_bytes", lambda device: bytes_needed(24 * 40, torch.float16))
    lines: list[str] = []
    y, ran = predict(model, x, 8, say=lines.append)
    assert ran == "strips, half storage" and ran in RAN and "half precision" in lines[0]
    assert 0 < (y - exact).abs().max() < 2e-3
