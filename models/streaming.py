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

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models import kernels
from models.afunet import AFM, CFM, FAM, SAM, SFM_BLOCKS, AFUNet, C, SwinBlock
from models.bands import PIXELS, cut
from models.windows import WINDOW

Rows = Callable[[int, int], Tensor]
Sums = tuple[Tensor, Tensor, Tensor]

# Where maps of 72 channels keep what belongs to the three frames: a1, x, a3, and u, r, v
UNDER, REFERENCE, OVER = slice(0, C), slice(C, 2 * C), slice(2 * C, 3 * C)
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
    for b in range(B):
        rows = _padded_rows(x if callable(x) else _rows_of(x, b), H, W, weight)
        # No name for the image, so that its maps are gone before the next one's are made
        for where, strip in _Image(model, rows, H, W, strip_rows, storage, _Progress(progress, b, B)).run():
            if out is None:  # only now, when the largest maps are gone
                out = torch.empty(B, 3, H, W, device=weight.device, dtype=weight.dtype)
            _write(out, b, where, strip)
    assert out is not None
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
    """One image's maps, and the sweeps over them. Every sweep reads and writes a strip of rows at a time.

    The modules of the network own the arithmetic; here is only which rows they get, and when.
    """

    def __init__(
        self,
        model: AFUNet,
        rows: Rows,
        H: int,
        W: int,
        strip_rows: int | None,
        storage: torch.dtype | None,
        progress: _Progress,
    ) -> None:
        features = model.sfem(model.skip.weight.new_zeros(1, 2, 2, 18))[1]
        self.model, self.rows, self.progress = model, rows, progress
        self.device, self.dtype = features.device, features.dtype  # autocast may have chosen another than the weights'
        self.H, self.W = H + -H % WINDOW, W + -W % WINDOW
        self.frames = self._map(3 * C, storage or self.dtype)  # a1, x, a3
        self.z = self._map(3 * C, storage or self.dtype)  # SFM's map; after it u, r, v
        self.strip = self._strip_rows(strip_rows)

    def run(self) -> Iterator[tuple[slice, Tensor]]:
        """The whole network; yields the rows of the result, in order, as they come."""
        self.extract()
        for stage in self.model.stages:
            assert isinstance(stage, AFM)
            if isinstance(stage, FAM):
                self.fuse(stage)
                self.align(stage)
            else:
                self.align(stage)
                self.fuse(stage)
        del self.z
        yield from self.finish()

    def extract(self) -> None:
        for where, x in with_halo(self.input()):
            self.frames[where] = torch.cat(self.model.sfem(x, halo=True)[1:], dim=-1)[0]

    def align(self, stage: AFM) -> None:
        for sam, side in ((stage.sam1, UNDER), (stage.sam3, OVER)):
            if isinstance(sam, SAM):
                for where, hd in with_halo(self.attended(sam, side)):
                    h, d = hd.split(C, dim=-1)
                    self.frames[where][..., side] = sam.finish(h, d[:, 1:-1], halo=True)[0]

    def attended(self, sam: SAM, side: slice) -> Iterator[Tensor]:
        for where in self.strips():
            frames = self.read(self.frames, where)
            f_x, f_a = frames[..., REFERENCE].contiguous(), frames[..., side].contiguous()
            yield torch.cat(sam.attend(f_x, f_a), dim=-1)

    def fuse(self, stage: AFM) -> None:
        """SFM, then CFM, DCM and the update."""
        self.z.copy_(self.frames)
        for block in stage.sfm.blocks:
            assert isinstance(block, SwinBlock)
            self.attend(block)
        mixes = self.convolve(stage)
        for (where, h), (_, x) in zip(with_halo(self.mixed(mixes)), with_halo(self.input()), strict=True):
            f_x = self.read(self.frames, where)[..., REFERENCE]
            f_u, f_r, f_v = self.read(self.z, where).split(C, dim=-1)
            if isinstance(stage.cfm_u, CFM) and isinstance(stage.cfm_v, CFM):
                h_u, h_v = h.split(C, dim=-1)
                f_u, f_v = stage.cfm_u.finish(h_u, f_x, halo=True), stage.cfm_v.finish(h_v, f_x, halo=True)
            _, _, y2, _ = self.model.sfem(x, halo=True)
            self.frames[where][..., REFERENCE] = stage.update(f_u, stage.dcm(y2, f_u, f_v), f_v, f_r)[0]

    def attend(self, block: SwinBlock) -> None:
        """One Swin block, in place. A vertical shift is a shift of the strips."""
        total = self.H * SFM_BLOCKS * len(self.model.stages)
        if kernels.may_fuse(block, self.z):
            kernels.swin_block(block, self.z[None], out=self.z[None])
            self.progress.add(self.H, total)
            return
        for where in self.strips(block.shifted):
            self.z[where] = block.plain(self.read(self.z, where), shift_rows=False)[0]
            self.progress.add(where.stop - where.start, total)

    def convolve(self, stage: AFM) -> list[Tensor]:
        """SFM's end; z becomes u, r, v. Returns the matrices of the channel attentions, if there are any."""
        sides = ((stage.cfm_u, UNDER), (stage.cfm_v, OVER))
        cfms = [(cfm, side) for cfm, side in sides if isinstance(cfm, CFM)]
        totals: list[Sums] = []
        for where, z in with_halo(self.read(self.z, where) for where in self.strips()):
            frames = self.read(self.frames, where)
            urv = stage.sfm.finish(z, frames, halo=True)
            self.z[where] = urv[0]
            sums = [cfm.sums(frames[..., REFERENCE], urv[..., side]) for cfm, side in cfms]
            totals = [_add(a, b) for a, b in zip(totals, sums, strict=True)] if totals else [_double(s) for s in sums]
        return [cfm.mixing(*total).to(self.dtype) for (cfm, _), total in zip(cfms, totals, strict=True)]

    def mixed(self, mixes: list[Tensor]) -> Iterator[Tensor]:
        """Both channel attentions' outputs, side by side; nothing but the rows themselves where there is no CFM."""
        for where in self.strips():
            f_x = self.read(self.frames, where)[..., REFERENCE]
            urv = self.read(self.z, where)
            sides = [CFM.mixed(f_x, urv[..., side], mix) for side, mix in zip((UNDER, OVER), mixes, strict=False)]
            yield torch.cat(sides, dim=-1) if sides else f_x

    def finish(self) -> Iterator[tuple[slice, Tensor]]:
        """The reconstruction, from x and the reference's features before the norm, which are computed again."""
        frame2 = (self.model.sfem.reference(x, halo=True) for _, x in with_halo(self.input()))
        skipped = (
            self.model.skipped(f, self.read(self.frames, where)[..., REFERENCE], halo=True)
            for where, f in with_halo(frame2)
        )
        for where, f in with_halo(skipped):
            yield where, self.model.output(f, halo=True)

    def input(self) -> Iterator[Tensor]:
        """The network's input, strip by strip, channels-last."""
        for where in self.strips():
            yield self.rows(where.start, where.stop).permute(0, 2, 3, 1).contiguous()

    def read(self, image: Tensor, where: slice) -> Tensor:
        """Rows of a map, as a batch of one, in the dtype of the computation."""
        return image[where][None].to(self.dtype)

    def strips(self, shifted: bool = False) -> Iterator[slice]:
        """The image's rows, strip by strip."""
        return cut(self.H, self.strip, shifted)

    def _map(self, channels: int, storage: torch.dtype) -> Tensor:
        return torch.empty(self.H, self.W, channels, device=self.device, dtype=storage)

    def _strip_rows(self, asked: int | None) -> int:
        if asked is None and self.device.type == "cuda":
            asked = free_gpu_bytes(self.device) // (2 * CUDA_BYTES * self.W)
        rows = PIXELS // self.W if asked is None else asked
        return max(WINDOW, rows // WINDOW * WINDOW)


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


def _write(out: Tensor | np.ndarray, b: int, where: slice, strip: Tensor) -> None:
    """Rows (1, rows, W, 3) of the result, without what was padded to whole windows."""
    H, W = out.shape[-2:]
    rows = slice(where.start, min(where.stop, H))
    if rows.start < rows.stop:
        strip = strip.permute(0, 3, 1, 2)[0, :, : rows.stop - rows.start, :W]
        if isinstance(out, Tensor):
            out[b, :, rows] = strip
        else:
            out[b, :, rows] = strip.cpu().numpy()


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
