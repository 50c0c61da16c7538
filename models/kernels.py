"""Swin blocks as two fused GPU kernels (Triton), for inference: attention and MLP, each with its norm and residual.

In plain torch a block reads and writes the map some thirty times; here each half of it reads the map once and writes
it once. A program holds one window (or as many pixels, for the MLP) on chip. Cutting the map into windows and shifting
them is index arithmetic, so both kernels may work in place. Products take operands of the weights' precision and are
summed in float32, as are norms, softmax and residuals.

Blocks of a Triton program have powers of two for sizes, 16 at least: 72 channels are held as 64 + 16 and a head's 18 as
32, and what is beyond the channels is zero. ``may_fuse`` says when the kernels stand in for plain torch, which remains
the reference.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from models.layers import MLP, WindowSelfAttention
from models.windows import SHIFT, WINDOW

try:
    import triton
    import triton.language as tl
except ImportError:  # no build for this system
    triton = None

Function = TypeVar("Function", bound=Callable[..., Any])

DTYPES = {torch.float32, torch.float16, torch.bfloat16}
LOW, HIGH = 64, 16  # how channels are held: the first 64, then the rest with room to spare
HIGH_HALF = 32  # instead, for attention in half precision: with 16 it reads where it should not on Hopper (Triton 3.6)
HEAD = 32  # how the channels of a head are held
HIDDEN = 32  # hidden channels of the MLP at a time
TRIED: dict[tuple[Any, ...], bool] = {}  # what ``trial_passed`` found


class Block(Protocol):
    """What the kernels need of a Swin block."""

    norm1: nn.LayerNorm
    attn: WindowSelfAttention
    norm2: nn.LayerNorm
    mlp: MLP
    shifted: bool
    fused: bool
    training: bool

    def plain(self, x: Tensor) -> Tensor:
        """The block in plain torch."""


def may_fuse(block: Block, x: Tensor) -> bool:
    """Whether ``swin_block`` should compute this block: inference on a GPU that can, and nobody switched it off."""
    if torch.compiler.is_compiling() or torch.is_grad_enabled() or block.training or not block.fused:
        return False
    dtypes = {x.dtype, block.attn.proj.weight.dtype}
    return x.is_cuda and dtypes <= DTYPES and suits(x.device) and trial_passed(block, x)


@lru_cache
def suits(device: torch.device) -> bool:
    """Whether Triton is here, and the GPU from NVIDIA and new enough (Ampere) to multiply in TF32 and bfloat16."""
    return bool(triton and torch.version.cuda) and torch.cuda.get_device_capability(device) >= (8, 0)


def trial_passed(block: Block, x: Tensor) -> bool:
    """Whether the kernels build and agree with plain torch in the precisions of this call, tried once for each."""
    key = (x.device, block.shifted, x.dtype, _dtype(x, block.attn.proj.weight), _precision())
    if key not in TRIED:
        TRIED[key] = _try(block, x.new_ones(1, 2 * WINDOW, 2 * WINDOW, x.shape[-1]))
    return TRIED[key]


def _try(block: Block, ones: Tensor) -> bool:
    x = ones.float().cumsum(1).cumsum(2).cumsum(3).sin().to(ones.dtype)
    try:
        wanted, found = block.plain(x.to(block.attn.proj.weight.dtype)), swin_block(block, x)
        rounding = 2 * torch.finfo(x.dtype).eps * float(wanted.abs().max())
        if agree(found - x, wanted - x, _tolerance(x, block.attn.proj.weight), rounding):
            return True
        reason = "they disagree with plain torch"
    except torch.cuda.OutOfMemoryError:  # says nothing about the kernels
        raise
    except Exception as error:  # whatever a compiler, a driver or their absence may raise; Triton needs a C compiler
        reason = f"{type(error).__name__}: {error}"
    warnings.warn(f"the fused kernels don't work here, so plain torch does the work: {reason}", stacklevel=2)
    return False


def agree(found: Tensor, wanted: Tensor, tolerance: float, rounding: float) -> bool:
    """Whether the figures differ by no more than a share of the largest, and the rounding of the map."""
    return bool((found - wanted).abs().max() <= tolerance * wanted.abs().max() + rounding)


def _tolerance(x: Tensor, weight: Tensor) -> float:
    """What the precision of the products explains, with room to spare."""
    if _dtype(x, weight) != torch.float32:
        return 0.1
    return 0.02 if _precision() == "tf32" else 1e-4


def swin_block(block: Block, x: Tensor, out: Tensor | None = None) -> Tensor:
    """What ``block(x)`` gives in eval mode, for a map (B, H, W, C); ``out`` may be x itself and is made if missing."""
    x = x.contiguous()
    out = torch.empty_like(x) if out is None else out
    with torch.cuda.device_of(x):
        _attention(block.norm1, block.attn, x, out, block.shifted)
        _mlp(block.norm2, block.mlp, out, out)
    return out


def _attention(norm: nn.LayerNorm, attn: WindowSelfAttention, x: Tensor, out: Tensor, shifted: bool) -> None:
    B, H, W, C = x.shape
    dtype = _dtype(x, attn.proj.weight)
    windows = B * (H // WINDOW) * (W // WINDOW)
    attention_kernel[(windows,)](
        x,
        out,
        norm.weight,
        norm.bias,
        attn.qkv.weight.to(dtype),
        attn.qkv.bias,
        attn.bias_table,
        attn.proj.weight.to(dtype),
        attn.proj.bias,
        H,
        W,
        norm.eps,
        **_channels(C, HIGH if dtype == torch.float32 else HIGH_HALF),
        HEADS=attn.heads,
        HEAD=HEAD,
        WINDOW=WINDOW,
        SHIFT=SHIFT if shifted else 0,
        PRECISION=_precision(),
        num_warps=4,
        num_stages=1,
    )


def _mlp(norm: nn.LayerNorm, mlp: MLP, x: Tensor, out: Tensor) -> None:
    pixels, C = x.numel() // x.shape[-1], x.shape[-1]
    dtype = _dtype(x, mlp.fc1.weight)
    tokens = 128 if pixels % 128 == 0 else WINDOW**2  # whole windows, so no program has pixels to spare
    mlp_kernel[(pixels // tokens,)](
        x,
        out,
        norm.weight,
        norm.bias,
        mlp.fc1.weight.to(dtype),
        mlp.fc1.bias,
        mlp.fc2.weight.to(dtype),
        mlp.fc2.bias,
        norm.eps,
        **_channels(C),
        TOKENS=tokens,
        FEATURES=mlp.fc1.out_features,
        HIDDEN=HIDDEN,
        PRECISION=_precision(),
        num_warps=tokens // 16,
        num_stages=1,
    )


def _channels(C: int, high: int = HIGH) -> dict[str, int]:
    return {"C": C, "LOW": LOW, "HIGH": high}


def _dtype(x: Tensor, weight: Tensor) -> torch.dtype:
    """What products take: autocast's choice, or the weights' own precision."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def _precision() -> str:
    """How float32 products are made: of 10-bit mantissas where torch may do so too, else of three such products."""
    return "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "tf32x3"


def kernel(function: Function) -> Any:
    """``triton.jit``, one build for all sizes of map. Without Triton the functions below are never called."""
    return triton.jit(function, do_not_specialize=("H", "W")) if triton else function


@kernel
def attention_kernel(
    x: tl.tensor,
    out: tl.tensor,
    norm_weight: tl.tensor,
    norm_bias: tl.tensor,
    qkv_weight: tl.tensor,
    qkv_bias: tl.tensor,
    bias_table: tl.tensor,
    proj_weight: tl.tensor,
    proj_bias: tl.tensor,
    H: int,
    W: int,
    eps: float,
    C: tl.constexpr,
    LOW: tl.constexpr,
    HIGH: tl.constexpr,
    HEADS: tl.constexpr,
    HEAD: tl.constexpr,
    WINDOW: tl.constexpr,
    SHIFT: tl.constexpr,
    PRECISION: tl.constexpr,
) -> None:
    """x + proj(attention(norm(x))) for one window of the maps (B, H, W, C). The weights are those of the layers."""
    dtype: tl.constexpr = qkv_weight.dtype.element_ty
    D: tl.constexpr = C // HEADS
    OFFSETS: tl.constexpr = 2 * WINDOW - 1

    # The window's N = 64 tokens: where they lie in the map, which is rolled by SHIFT
    window, across, down = tl.program_id(0), W // WINDOW, H // WINDOW
    n = tl.arange(0, WINDOW * WINDOW)
    dy, dx = n // WINDOW, n % WINDOW
    row = (window // across % down * WINDOW + dy + SHIFT) % H
    column = (window % across * WINDOW + dx + SHIFT) % W
    pixel = (window // (across * down) * H + row) * W + column

    # LayerNorm
    x_low, x_high = load_pixels(x, pixel, C, LOW, HIGH)
    low, high = normalise(x_low, x_high, norm_weight, norm_bias, eps, C, LOW, HIGH)
    low, high = low.to(dtype), high.to(dtype)

    # The roll brings opposite edges of the map into one window: its pieces don't see each other
    piece = tl.where(row < SHIFT, 2, 0) + tl.where(column < SHIFT, 1, 0)
    together = piece[:, None] == piece[None, :]

    # Rows of the bias table: a query's less a key's for their relative position
    key = (dy * OFFSETS + dx) * HEADS
    query = key + (WINDOW - 1) * (OFFSETS + 1) * HEADS

    # The residual and the projection's bias, to which every head adds its share
    bias_low, bias_high = load_vector(proj_bias, C, LOW, HIGH)
    x_low, x_high = x_low + bias_low, x_high + bias_high
    d = tl.arange(0, HEAD)
    for head in range(HEADS):
        rows, biases = qkv_weight + head * D * C, qkv_bias + head * D
        q = linear(low, high, rows, biases, d, d < D, C, LOW, HIGH, PRECISION) * (D**-0.5)
        k = linear(low, high, rows + C * C, biases + C, d, d < D, C, LOW, HIGH, PRECISION).to(dtype)
        v = linear(low, high, rows + 2 * C * C, biases + 2 * C, d, d < D, C, LOW, HIGH, PRECISION).to(dtype)

        # softmax(q k^T / sqrt(d) + bias) v
        logits = tl.dot(q.to(dtype), tl.trans(k), input_precision=PRECISION)
        logits += tl.load(bias_table + ((query + head)[:, None] - key[None, :]))
        logits = tl.where(together, logits, float("-inf"))
        weights = tl.exp(logits - tl.max(logits, 1)[:, None])
        found = tl.dot(weights.to(dtype), v, input_precision=PRECISION) / tl.sum(weights, 1)[:, None]

        # Output projection: W concat(found_h) = sum over heads of W_h found_h
        columns = proj_weight + head * D
        x_low, x_high = add_linear(x_low, x_high, found.to(dtype), columns, d, d < D, C, C, LOW, HIGH, PRECISION)
    store_pixels(out, pixel, x_low, x_high, C, LOW, HIGH)


@kernel
def mlp_kernel(
    x: tl.tensor,
    out: tl.tensor,
    norm_weight: tl.tensor,
    norm_bias: tl.tensor,
    weight1: tl.tensor,
    bias1: tl.tensor,
    weight2: tl.tensor,
    bias2: tl.tensor,
    eps: float,
    C: tl.constexpr,
    LOW: tl.constexpr,
    HIGH: tl.constexpr,
    TOKENS: tl.constexpr,
    FEATURES: tl.constexpr,
    HIDDEN: tl.constexpr,
    PRECISION: tl.constexpr,
) -> None:
    """x + W2 gelu(W1 norm(x) + b1) + b2 for TOKENS pixels of the maps (..., C)."""
    dtype: tl.constexpr = weight1.dtype.element_ty

    # LayerNorm
    pixel = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)
    x_low, x_high = load_pixels(x, pixel, C, LOW, HIGH)
    low, high = normalise(x_low, x_high, norm_weight, norm_bias, eps, C, LOW, HIGH)
    low, high = low.to(dtype), high.to(dtype)

    # The residual and the second bias, to which every run of hidden channels adds its share
    bias_low, bias_high = load_vector(bias2, C, LOW, HIGH)
    x_low, x_high = x_low + bias_low, x_high + bias_high
    feature = tl.arange(0, HIDDEN)
    for first in range(0, FEATURES, HIDDEN):
        valid = feature < FEATURES - first
        h = linear(low, high, weight1 + first * C, bias1 + first, feature, valid, C, LOW, HIGH, PRECISION)
        h = (0.5 * h * (1.0 + tl.erf(h * 0.7071067811865476))).to(dtype)  # GELU
        columns = weight2 + first
        x_low, x_high = add_linear(x_low, x_high, h, columns, feature, valid, FEATURES, C, LOW, HIGH, PRECISION)
    store_pixels(out, pixel, x_low, x_high, C, LOW, HIGH)


@kernel
def load_pixels(x: tl.tensor, pixel: tl.tensor, C: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr) -> Any:
    """Channels of N pixels in float32: (N, LOW) and, zero beyond the last one, (N, HIGH)."""
    low, high = tl.arange(0, LOW)[None, :], LOW + tl.arange(0, HIGH)[None, :]
    at = x + pixel.to(tl.int64)[:, None] * C  # large images have more than 2^31 numbers
    return tl.load(at + low).to(tl.float32), tl.load(at + high, mask=high < C, other=0.0).to(tl.float32)


@kernel
def store_pixels(
    out: tl.tensor,
    pixel: tl.tensor,
    x_low: tl.tensor,
    x_high: tl.tensor,
    C: tl.constexpr,
    LOW: tl.constexpr,
    HIGH: tl.constexpr,
) -> None:
    """Inverse of ``load_pixels``, rounded to the map's precision."""
    low, high = tl.arange(0, LOW)[None, :], LOW + tl.arange(0, HIGH)[None, :]
    at = out + pixel.to(tl.int64)[:, None] * C
    tl.store(at + low, x_low.to(out.dtype.element_ty))
    tl.store(at + high, x_high.to(out.dtype.element_ty), mask=high < C)


@kernel
def load_vector(vector: tl.tensor, C: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr) -> Any:
    """A number per channel, in float32: (1, LOW) and (1, HIGH)."""
    low, high = tl.arange(0, LOW)[None, :], LOW + tl.arange(0, HIGH)[None, :]
    return tl.load(vector + low).to(tl.float32), tl.load(vector + high, mask=high < C, other=0.0).to(tl.float32)


@kernel
def normalise(
    x_low: tl.tensor,
    x_high: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    eps: float,
    C: tl.constexpr,
    LOW: tl.constexpr,
    HIGH: tl.constexpr,
) -> Any:
    """LayerNorm over the channels, which leaves zeros beyond the last one."""
    mean = ((tl.sum(x_low, 1) + tl.sum(x_high, 1)) / C)[:, None]
    x_low, x_high = x_low - mean, tl.where(LOW + tl.arange(0, HIGH)[None, :] < C, x_high - mean, 0.0)
    variance = (tl.sum(x_low * x_low, 1) + tl.sum(x_high * x_high, 1)) / C
    scale = tl.rsqrt(variance + eps)[:, None]
    weight_low, weight_high = load_vector(weight, C, LOW, HIGH)
    bias_low, bias_high = load_vector(bias, C, LOW, HIGH)
    return x_low * scale * weight_low + bias_low, x_high * scale * weight_high + bias_high


@kernel
def linear(
    low: tl.tensor,
    high: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    row: tl.tensor,
    valid: tl.tensor,
    C: tl.constexpr,
    LOW: tl.constexpr,
    HIGH: tl.constexpr,
    PRECISION: tl.constexpr,
) -> Any:
    """Rows of a layer (features, C) applied to (N, C): (N, rows) in float32, zero where a row is not valid."""
    c_low, c_high = tl.arange(0, LOW)[:, None], LOW + tl.arange(0, HIGH)[:, None]
    at = weight + row[None, :] * C
    weight_low = tl.load(at + c_low, mask=valid[None, :], other=0.0)
    weight_high = tl.load(at + c_high, mask=valid[None, :] & (c_high < C), other=0.0)
    y = tl.dot(low, weight_low, input_precision=PRECISION)
    y = tl.dot(high, weight_high, acc=y, input_precision=PRECISION)
    return y + tl.load(bias + row, mask=valid, other=0.0).to(tl.float32)[None, :]


@kernel
def add_linear(
    x_low: tl.tensor,
    x_high: tl.tensor,
    h: tl.tensor,
    weight: tl.tensor,
    column: tl.tensor,
    valid: tl.tensor,
    STRIDE: tl.constexpr,
    C: tl.constexpr,
    LOW: tl.constexpr,
    HIGH: tl.constexpr,
    PRECISION: tl.constexpr,
) -> Any:
    """Adds to (N, C) what columns of a weight (C, STRIDE) make of h (N, columns)."""
    c_low, c_high = tl.arange(0, LOW)[None, :], LOW + tl.arange(0, HIGH)[None, :]
    at = weight + column[:, None]
    weight_low = tl.load(at + c_low * STRIDE, mask=valid[:, None], other=0.0)
    weight_high = tl.load(at + c_high * STRIDE, mask=valid[:, None] & (c_high < C), other=0.0)
    x_low = tl.dot(h, weight_low, acc=x_low, input_precision=PRECISION)
    return x_low, tl.dot(h, weight_high, acc=x_high, input_precision=PRECISION)
