"""The fused kernels against plain torch, on a GPU where there is one and in Triton's interpreter elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from models import AFUNet, kernels
from models.afunet import SwinBlock
from models.streaming import reconstruct
from tests.golden_figures import golden_model

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SIZES = [(8, 8), (16, 24), (24, 40)]
SHARED_MEMORY = 99 * 1024  # of a block on the GPUs that have the least, compute capabilities 8.6, 8.9 and 12.0
needs_triton = pytest.mark.skipif(kernels.triton is None, reason="Triton is not installed")


def golden_block(shifted: bool, dtype: torch.dtype = torch.float32) -> SwinBlock:
    block = golden_model(1).stages[0].sfm.blocks[int(shifted)]
    assert isinstance(block, SwinBlock) and block.shifted == shifted
    return block.to(DEVICE, dtype)


def random_map(*size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*size, 72, generator=torch.Generator().manual_seed(5)).to(DEVICE, dtype)


def relative_error(found: Tensor, x: Tensor, shifted: bool) -> float:
    """Largest difference from plain torch in float64, relative to the largest value."""
    wanted = golden_block(shifted, torch.float64).plain(x.double())
    assert found.shape == wanted.shape
    return float((found - wanted).abs().max() / wanted.abs().max())


@needs_triton
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("size", SIZES)
@torch.inference_mode()
def test_a_block_agrees_with_plain_torch(size: tuple[int, int], shifted: bool) -> None:
    x = random_map(2, *size)
    assert relative_error(kernels.swin_block(golden_block(shifted), x), x, shifted) < 2e-5


@needs_triton
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 3e-3), (torch.bfloat16, 3e-2)])
@torch.inference_mode()
def test_half_precision_is_close(dtype: torch.dtype, tolerance: float, shifted: bool) -> None:
    if dtype == torch.bfloat16 and DEVICE.type == "cpu":
        pytest.skip("Triton's interpreter multiplies the bits of bfloat16 numbers")
    x = random_map(1, 16, 24, dtype=dtype)
    found = kernels.swin_block(golden_block(shifted, dtype), x)
    assert found.dtype == dtype
    assert relative_error(found, x, shifted) < tolerance


@needs_triton
@torch.inference_mode()
def test_maps_and_products_may_differ_in_precision() -> None:
    x, block = random_map(1, 16, 16), golden_block(True)
    with torch.autocast(DEVICE.type, torch.float16):
        found = kernels.swin_block(block, x)
    assert found.dtype == torch.float32
    assert 1e-5 < relative_error(found, x, True) < 3e-3
    for dtype in (torch.float16, torch.bfloat16):
        stored = kernels.swin_block(block, x.to(dtype))
        assert stored.dtype == dtype
        wanted = kernels.swin_block(block, x.to(dtype).float())
        assert (stored - wanted).abs().max() <= torch.finfo(dtype).eps * wanted.abs().max()


@needs_triton
@torch.inference_mode()
def test_a_block_may_work_in_place_and_reads_any_strides() -> None:
    block, x = golden_block(True), random_map(1, 16, 24)
    wanted = kernels.swin_block(block, x)
    assert torch.equal(kernels.swin_block(block, x.transpose(1, 2).contiguous().transpose(1, 2)), wanted)
    assert kernels.swin_block(block, x, out=x) is x
    assert torch.equal(x, wanted)


@needs_triton
def test_the_network_and_its_strips_run_on_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    model = golden_model(1).to(DEVICE)
    x = torch.rand(1, 18, 16, 21, generator=torch.Generator().manual_seed(6)).to(DEVICE)
    launched = count_blocks(monkeypatch)
    monkeypatch.setattr(kernels, "may_fuse", lambda block, x: block.fused)
    found = {}
    for on in (False, True):
        model.use_kernels(on)
        with torch.inference_mode():
            found[on] = [model(x), reconstruct(model, x, strip_rows=8)]
        assert len(launched) == (10 if on else 0)
    for plain, fused in zip(found[False], found[True], strict=True):
        assert 0 < (plain - fused).abs().max() < 2e-5


def count_blocks(monkeypatch: pytest.MonkeyPatch) -> list[SwinBlock]:
    """Every block that the kernels compute from now on."""
    launched: list[SwinBlock] = []
    original = kernels.swin_block

    def counted(block: SwinBlock, x: Tensor, out: Tensor | None = None) -> Tensor:
        launched.append(block)
        return original(block, x, out)

    monkeypatch.setattr(kernels, "swin_block", counted)
    return launched


# When they run


@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A map that says it is on a GPU where the kernels work."""
    monkeypatch.setattr(kernels, "suits", lambda device: True)
    monkeypatch.setattr(kernels, "trial_passed", lambda block, x: True)
    return SimpleNamespace(is_cuda=True, dtype=torch.float32, device="cuda")


def served(model: AFUNet, x: SimpleNamespace, grad: bool = False) -> bool:
    with torch.set_grad_enabled(grad):
        answers = {kernels.may_fuse(block, x) for stage in model.stages for block in stage.sfm.blocks}
    assert len(answers) == 1
    return answers.pop()


def test_kernels_serve_inference_on_a_gpu_unless_switched_off(on_a_gpu: SimpleNamespace) -> None:
    model = golden_model(2)
    assert served(model, on_a_gpu)
    assert not served(model, on_a_gpu, grad=True)
    assert not served(model.train(), on_a_gpu)
    model.eval().use_kernels(False)
    assert not served(model, on_a_gpu)
    model.use_kernels(True)
    assert served(model.half(), on_a_gpu)
    assert not served(model.double(), on_a_gpu)


@torch.inference_mode()
def test_kernels_never_run_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    launched = count_blocks(monkeypatch)
    monkeypatch.setattr(kernels, "TRIED", {})
    model, x = golden_model(1), torch.rand(1, 18, 16, 16)
    model(x), reconstruct(model, x)
    assert not launched and not kernels.TRIED  # nor tried


def test_kernels_need_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "triton", None)
    assert not kernels.suits.__wrapped__(torch.device("cuda"))


@needs_triton
@torch.inference_mode()
def test_kernels_that_fail_their_trial_are_left_out_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(kernels, "TRIED", {})
    block, x = golden_block(True), random_map(1, 8, 8)
    assert kernels.trial_passed(block, x) and kernels.trial_passed(block, x.half()) and not recwarn
    for broken in (lambda block, x: x, lambda block, x: x * torch.nan, lambda block, x: 1 / 0):
        kernels.TRIED.clear()
        monkeypatch.setattr(kernels, "swin_block", broken)
        with pytest.warns(UserWarning, match="plain torch does the work"):
            assert not kernels.trial_passed(block, x)
        assert not kernels.trial_passed(block, x)  # no second trial
    assert len(kernels.TRIED) == 1


# The compiler


@needs_triton
@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_build_for_gpus(capability: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.kernel_builds", str(capability)],
        env=os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[1],
    )
    assert done.returncode == 0, done.stderr
    built = [line.split() for line in done.stdout.splitlines()]
    assert [name for name, _ in built] == ["attention_kernel", "mlp_kernel"] * 3
    assert all(0 < int(shared) < SHARED_MEMORY for _, shared in built), built
