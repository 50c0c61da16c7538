"""The whole-image result in bounded memory: the same network, strip of rows by strip of rows.

Cutting an image into tiles would change the result, because channel attention (CFM) looks at the whole image. But
nothing needs the whole image at once. Window attention and MLPs read and write the same pixels, so they run in place;
a 3x3 convolution needs one more row on each side; and channel attention needs sums over the pixels, then one 24x24
matrix. What stays in memory is 144 numbers per pixel: the three frames' features and the map of SFM; the shallow
features are computed again where they are needed. On a CPU the pieces fit its cache, which makes this the fastest way
to run there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models import kernels
from models.afunet import AFM, CFM, SAM, SFM_BLOCKS, AFUNet, C, SwinBlock
from models.layers import WindowSelfAttention, biased_attention
from models.windows import SHIFT, WINDOW, layout

Rows = Callable[[int, int], Tensor]
Sums = tuple[Tensor, Tensor, Tensor]

A1, X, A3 = slice(0, C), slice(C, 2 * C), slice(2 * C, 3 * C)  # where z keeps the three frames' features
CPU_TOKENS = 4096  # pixels whose attention fits a core's cache
CPU_PIXELS = 1 << 14  # pixels of a strip on a CPU
CUDA_BYTES = 4096  # memory a pixel of a strip takes while it is worked on


@torch.inference_mode()
def reconstruct(
    model: AFUNet,
    x: Tensor | np.ndarray | Rows,
    *,
    size: tuple[int, int] | None = None,
    out: Tensor | np.ndarray | None = None,
    strip_rows: int | None = None,
    storage: torch.dtype | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor | np.ndarray:
    """What ``model(x)`` gives in eval mode, strip by strip.

    Args:
        model: the network, on the device and in the dtype it is to compute in.
        x: network input (B, 18, H, W), a tensor or a numpy array (a memory map, say), on any device; or a function of
            the first and last row that returns (1, 18, last - first, W), called stages + 2 times for every row.
        size: (H, W), needed with a function.
        out: where to write the result, (B, 3, H, W); a memory map serves. Made where it is missing.
        strip_rows: rows of a strip, rounded to a multiple of 8; chosen from the cache (CPU) or the free memory (CUDA).
        storage: dtype of the maps kept between sweeps; torch.float16 halves the memory and changes the result a little
            (78 to 81 dB PSNR-mu on the sample scenes, benchmarks/half_storage.py).
        progress: called with (done, total) after every strip of the longest sweeps.

    Returns:
        (B, 3, H, W) in (0, 1): ``out``, or a tensor on the model's device.

    Raises:
        ValueError: the model is in training mode, the size is missing or too small.
    """
    if model.training:
        raise ValueError("reconstruct is for inference; call model.eval() first")
    weight = model.skip.weight
    if callable(x) and size is None:
        raise ValueError("with a function for x, give size=(H, W)")
    B, (H, W) = (1, size) if callable(x) and size else (x.shape[0], x.shape[-2:])  # type: ignore[union-attr]
    if min(H, W) < WINDOW:
        raise ValueError(f"{H}x{W} pixels are fewer than a window of {WINDOW}x{WINDOW}")
    if out is None:
        out = torch.empty(B, 3, H, W, device=weight.device, dtype=weight.dtype)
    for b in range(B):
        rows = _padded_rows(x if callable(x) else _rows_of(x, b), H, W, weight)
        # No name for the image, so that its maps are gone before the next one's are made
        _write_all(out, b, _Image(model, rows, H, W, strip_rows, storage or weight.dtype, _Progress(progress, b, B)))
    return out


def free_gpu_bytes(device: torch.device) -> int:
    """What torch can still give out of a GPU's memory: what is free there, and what it keeps for its next tensors."""
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


class _Progress:
    """Counts the strips of all images' sweeps over SFM, where the time goes."""

    def __init__(self, report: Callable[[int, int], None] | None, b: int, B: int) -> None:
        self.report, self.b, self.B = report, b, B
        self.rows = 0

    def add(self, rows: int, total: int) -> None:
        self.rows += rows
        if self.report:
            self.report(self.b * total + self.rows, self.B * total)


class _Image:
    """One image's maps, and the sweeps over them. Every sweep reads and writes a strip of rows at a time."""

    def __init__(
        self,
        model: AFUNet,
        rows: Rows,
        H: int,
        W: int,
        strip_rows: int | None,
        storage: torch.dtype,
        progress: _Progress,
    ) -> None:
        weight = model.skip.weight
        self.model, self.rows, self.progress = model, rows, progress
        self.device, self.dtype = weight.device, weight.dtype
        self.H, self.W = H + -H % WINDOW, W + -W % WINDOW
        self.z = self._map(3 * C, storage)  # a1, x, a3
        self.y = self._map(3 * C, storage)  # SFM's map; after it u, r, v
        self.strip = self._strip_rows(strip_rows)

    def run(self) -> Iterator[tuple[slice, Tensor]]:
        """The whole network; yields the rows of the result, in order, as they come."""
        self.extract()
        for stage in self.model.stages:
            assert isinstance(stage, AFM)
            if stage.align_first:
                self.align(stage)
            self.fuse(stage)
            if not stage.align_first:
                self.align(stage)
        yield from self.finish()

    def extract(self) -> None:
        for where, f in self.shallow():
            self.z[where] = f[0]

    def shallow(self) -> Iterator[tuple[slice, Tensor]]:
        """SFEM: the three frames' shallow features, side by side."""
        sfem = self.model.sfem
        convs = (sfem.conv1, sfem.conv2, sfem.conv3)
        for where, y in with_halo(self.input()):
            f = [conv(part, halo=True) for conv, part in zip(convs, y.split(6, dim=-1), strict=True)]
            yield where, sfem.norm(torch.cat(f, dim=-1))

    def align(self, stage: AFM) -> None:
        for sam, side in ((stage.sam1, A1), (stage.sam3, A3)):
            if sam is not None:
                for where, hd in with_halo(self.attended(sam, side)):
                    h, d = hd.split(C, dim=-1)
                    self.z[where][..., side] = (h[:, 1:-1] + sam.conv(h, halo=True) + d[:, 1:-1])[0]

    def attended(self, sam: SAM, side: slice) -> Iterator[Tensor]:
        for where in self.strips():
            z = self.read(self.z, where)
            yield torch.cat(sam.attended(z[..., X].contiguous(), z[..., side].contiguous()), dim=-1)

    def fuse(self, stage: AFM) -> None:
        """SFM, then CFM, DCM and the update."""
        self.y.copy_(self.z)
        for block in stage.sfm.blocks:
            assert isinstance(block, SwinBlock)
            self.swin(block)
        sums = self.convolve(stage)
        cfms = [cfm for cfm in (stage.cfm_u, stage.cfm_v) if cfm]
        mixes = [cfm.mixing(*total).to(self.dtype) for cfm, total in zip(cfms, sums, strict=True)]
        for (where, h), (_, f) in zip(with_halo(self.mixed(mixes)), self.shallow(), strict=True):
            x, y2 = self.read(self.z, where)[..., X], f[..., X]
            u, r, v = self.read(self.y, where).split(C, dim=-1)
            if cfms:
                u, v = (
                    h[:, 1:-1] + cfm.conv(h, halo=True) + x for h, cfm in zip(h.split(C, dim=-1), cfms, strict=True)
                )
            self.z[where][..., X] = stage.update(y2, u, r, v)[0]

    def swin(self, block: SwinBlock) -> None:
        """One Swin block, in place, a few windows at a time. A vertical shift is a shift of the strips."""
        if kernels.serve(block, self.y):
            kernels.swin_block(block, self.y[None], out=self.y[None])
            self.progress.add(self.H, self.H * SFM_BLOCKS * len(self.model.stages))
            return
        folded = FoldedBlock(block)
        step = CPU_TOKENS if self.device.type == "cpu" else self.strip * self.W
        for where in self.strips(SHIFT if block.shifted else 0):
            pixels = self.y[where].flatten(0, 1)
            windows = layout(1, where.stop - where.start, self.W, self.device, False, block.shifted)
            parts = windows.order.split([group.tokens for group in windows.groups])
            for part, (_, height, width) in zip(parts, windows.groups, strict=True):
                for order in part.split(step):
                    tokens = pixels.index_select(0, order).to(self.dtype)
                    pixels.index_copy_(0, order, folded(tokens, height, width).to(pixels.dtype))
            self.progress.add(where.stop - where.start, self.H * SFM_BLOCKS * len(self.model.stages))

    def convolve(self, stage: AFM) -> list[Sums]:
        """SFM's convolution and residual; y becomes u, r, v. Returns the sums that both channel attentions need."""
        cfms = [(cfm, part) for cfm, part in ((stage.cfm_u, A1), (stage.cfm_v, A3)) if cfm]
        totals: list[Sums] = []
        for where, y in with_halo(self.read(self.y, where) for where in self.strips()):
            z = self.read(self.z, where)
            urv = stage.sfm.conv(y, halo=True) + z
            self.y[where] = urv[0]
            sums = [cfm.sums(z[..., X], urv[..., part]) for cfm, part in cfms]
            totals = [_add(a, b) for a, b in zip(totals, sums, strict=True)] if totals else [_double(s) for s in sums]
        return totals

    def mixed(self, mixes: list[Tensor]) -> Iterator[Tensor]:
        """Both channel attentions' outputs, side by side; nothing but the rows themselves where there is no CFM."""
        for where in self.strips():
            x = self.read(self.z, where)[..., X]
            urv = self.read(self.y, where)
            sides = [CFM.mixed(x, urv[..., part], mix) for part, mix in zip((A1, A3), mixes, strict=False)]
            yield torch.cat(sides, dim=-1) if sides else x

    def finish(self) -> Iterator[tuple[slice, Tensor]]:
        """The reconstruction, from x and the reference's features before the norm, which are computed again."""
        model = self.model
        f2 = (model.sfem.conv2(y[..., 6:12], halo=True) for _, y in with_halo(self.input()))
        skipped = (model.skip(f, halo=True) + self.read(self.z, where)[..., X] for where, f in with_halo(f2))
        for where, f in with_halo(skipped):
            yield where, torch.sigmoid(model.out(f, halo=True))

    def input(self) -> Iterator[Tensor]:
        """The network's input, strip by strip, channels-last."""
        for where in self.strips():
            yield self.rows(where.start, where.stop).permute(0, 2, 3, 1).contiguous()

    def read(self, image: Tensor, where: slice) -> Tensor:
        """Rows of a map, as a batch of one, in the dtype of the computation."""
        return image[where][None].to(self.dtype)

    def strips(self, shift: int = 0) -> Iterator[slice]:
        """The image's rows, strip by strip; with a shift the first and the last strip are half windows."""
        edges = [*range(shift, self.H - shift, self.strip), self.H - shift]
        edges = [0, *edges, self.H] if shift else edges
        return (slice(a, b) for a, b in pairwise(edges) if a < b)

    def _map(self, channels: int, storage: torch.dtype) -> Tensor:
        return torch.empty(self.H, self.W, channels, device=self.device, dtype=storage)

    def _strip_rows(self, asked: int | None) -> int:
        if asked is None and self.device.type == "cuda":
            asked = free_gpu_bytes(self.device) // (2 * CUDA_BYTES * self.W)
        rows = CPU_PIXELS // self.W if asked is None else asked
        return max(WINDOW, rows // WINDOW * WINDOW)


class FoldedBlock:
    """A Swin block for inference, on tokens; the scales of LayerNorm and attention are folded into the weights."""

    def __init__(self, block: SwinBlock) -> None:
        attn = block.attn
        assert isinstance(attn, WindowSelfAttention)
        dim = attn.proj.in_features
        self.attn, self.dim = attn, dim
        scale = torch.ones(3 * dim).to(attn.qkv.weight)
        scale[:dim] = (dim // attn.heads) ** -0.5
        weight, bias = _fold(block.norm1, attn.qkv)
        self.qkv = FastLinear(weight * scale[:, None], bias * scale)
        self.proj = FastLinear(attn.proj.weight, attn.proj.bias)
        self.fc1 = FastLinear(*_fold(block.norm2, block.mlp.fc1))
        self.fc2 = FastLinear(block.mlp.fc2.weight, block.mlp.fc2.bias)
        self.bias: dict[tuple[int, int], Tensor] = {}

    def __call__(self, x: Tensor, height: int, width: int) -> Tensor:
        """(tokens, 72) of windows of one shape -> (tokens, 72)."""
        x = self.proj.plus(self.attend(F.layer_norm(x, (self.dim,)), height, width), x)
        return self.fc2.plus(self.fc1.gelu(F.layer_norm(x, (self.dim,))), x)

    def attend(self, x: Tensor, height: int, width: int) -> Tensor:
        if (height, width) not in self.bias:
            self.bias[height, width] = self.attn.bias(height, width)
        qkv = self.qkv(x).view(-1, height * width, 3, self.attn.heads, self.dim // self.attn.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        out = biased_attention(q, k, v, self.bias[height, width], scale=1.0)
        return out.transpose(1, 2).reshape(-1, self.dim)


class FastLinear:
    """A linear layer, with a GELU or a residual where they follow, by the CPU's fused kernels where torch has them."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.weight, self.bias = weight, bias
        self.fused = weight.device.type == "cpu" and weight.dtype == torch.float32 and _has_fused_linear()

    def __call__(self, x: Tensor) -> Tensor:
        if self.fused:
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return F.linear(x, self.weight, self.bias)

    def gelu(self, x: Tensor) -> Tensor:
        if self.fused:
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "gelu", [], "none")
        return F.gelu(self(x))

    def plus(self, x: Tensor, residual: Tensor) -> Tensor:
        if self.fused:
            return torch.ops.mkldnn._linear_pointwise.binary(x, residual, self.weight, self.bias, "add")
        return self(x).add_(residual)


def _has_fused_linear() -> bool:
    """The kernels are torch's own but private (its compiler calls them), so nothing here depends on them."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _fold(norm: torch.nn.LayerNorm, linear: torch.nn.Linear) -> tuple[Tensor, Tensor]:
    """Weight and bias of linear(norm(x)) when applied to x normalised without scale and shift."""
    return linear.weight * norm.weight, linear.bias + linear.weight @ norm.bias


def with_halo(strips: Iterable[Tensor]) -> Iterator[tuple[slice, Tensor]]:
    """Add to each strip the rows above and below it, reflected at the image's edges.

    Takes consecutive strips (1, h, W, C), each of two rows or more; yields which rows it can serve and (1, rows + 2, W,
    C). It lags one row behind, and holds copies, so the maps the strips came from may be overwritten up to there.
    """
    start, held = 0, None
    for strip in strips:
        held = torch.cat([strip[:, 1:2] if held is None else held[:, -2:], strip], dim=1)
        stop = start + held.shape[1] - 2
        yield slice(start, stop), held
        start = stop
    assert held is not None
    yield slice(start, start + 1), torch.cat([held[:, -2:], held[:, -2:-1]], dim=1)


def _write_all(out: Tensor | np.ndarray, b: int, image: _Image) -> None:
    H, W = out.shape[-2:]
    for where, strip in image.run():
        last = min(where.stop, H)
        if where.start < last:
            _write(out, b, slice(where.start, last), strip.permute(0, 3, 1, 2)[0, :, : last - where.start, :W])


def _write(out: Tensor | np.ndarray, b: int, where: slice, strip: Tensor) -> None:
    if isinstance(out, Tensor):
        out[b, :, where] = strip
    else:
        out[b, :, where] = strip.cpu().numpy()


def _rows_of(x: Tensor | np.ndarray, b: int) -> Rows:
    if isinstance(x, Tensor):
        return lambda first, last: x[b : b + 1, :, first:last]
    return lambda first, last: torch.from_numpy(np.ascontiguousarray(x[b : b + 1, :, first:last]))


def _padded_rows(rows: Rows, H: int, W: int, like: Tensor) -> Rows:
    """Rows on the model's device, and the padding to whole windows: reflection at the bottom and the right."""

    def padded(first: int, last: int) -> Tensor:
        strip = rows(first, min(last, H)).to(like)
        if last > H:
            mirror = rows(2 * H - 1 - last, H - 1).to(like).flip(2)
            strip = torch.cat([strip, mirror], dim=2)
        return F.pad(strip, (0, -W % WINDOW, 0, 0), mode="reflect") if W % WINDOW else strip

    return padded


def _double(sums: Sums) -> Sums:
    a, b, c = sums
    return a.double(), b.double(), c.double()


def _add(total: Sums, sums: Sums) -> Sums:
    return total[0] + sums[0], total[1] + sums[1], total[2] + sums[2]
