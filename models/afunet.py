"""AFUNet: alternating alignment and fusion, unrolled.

"Cross-Iterative Alignment-Fusion Synergy for HDR Reconstruction via Deep Unfolding Paradigm", ICCV 2025. The classes
carry the names of the paper's boxes and are written from the whole to its parts. Frames are under-exposed (1),
reference (2) and over-exposed (3); feature maps are channels-last (B, H, W, C) with C = 24 channels per frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import bands, kernels
from models.bands import in_bands, in_bands_with_halo
from models.cpu import Linear
from models.layers import (
    MLP,
    Conv3x3,
    DropPath,
    WindowCrossAttention,
    WindowSelfAttention,
    depthwise,
    recomputable,
    without_halo,
)
from models.windows import WINDOW, layout, to_map, to_tokens

C = 24  # channels per frame
SAM_HEADS, SFM_HEADS, CFM_HEADS = 2, 4, 2
SFM_BLOCKS = 5
OPTIONAL = ("sam", "cfm", "dcm")


@dataclass(frozen=True)
class AFUNetConfig:
    """The architecture. The default is the official network, key for key.

    Attributes:
        stages: number T of alignment-fusion modules, 1 or more (paper: 4).
        without: parts left out, of "sam", "cfm" and "dcm" (table "Ablation study"). Without SAM the side features stay
            those of the shallow extraction; without CFM the fused features of SFM are used as they are; without DCM the
            update MLP sees [U, V] alone, 48-48-24.
        order: "af" aligns, then fuses (paper); "fa" fuses, then aligns with the updated features for the next stage,
            so that the last stage has nothing left to align and holds no SAM.
        drop_path: stochastic depth at the deepest block, in training only.
    """

    stages: int = 4
    without: tuple[str, ...] = ()
    order: str = "af"
    drop_path: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "without", tuple(sorted(set(self.without))))
        if self.stages < 1:
            raise ValueError(f"stages must be 1 or more, not {self.stages}")
        if unknown := set(self.without) - set(OPTIONAL):
            raise ValueError(f"without takes {OPTIONAL}, not {sorted(unknown)}")
        if self.order not in ("af", "fa"):
            raise ValueError(f"order must be 'af' or 'fa', not {self.order!r}")


class AFUNet(nn.Module):
    """Three LDR frames in, one HDR image out.

    Input (B, 18, H, W), H and W at least 8: per frame three channels of linear radiance, then three of LDR, by rising
    exposure. Output (B, 3, H, W) in (0, 1): linear HDR, aligned with frame 2.

    ``checkpointing`` recomputes attention blocks in the backward pass instead of keeping what they computed.
    """

    def __init__(self, config: AFUNetConfig | None = None, *, checkpointing: bool = False) -> None:
        super().__init__()
        self.config = config or AFUNetConfig()
        module = AFM if self.config.order == "af" else FAM
        self.sfem = SFEM()
        self.stages = nn.ModuleList(module(self.config, t) for t in range(self.config.stages))
        self.skip = Conv3x3(C, C)
        self.out = Conv3x3(C, 3)
        self.apply(init_weights)
        for block in self.modules():
            if isinstance(block, (SAM, SwinBlock)):
                block.recompute = checkpointing

    def forward(self, x: Tensor) -> Tensor:
        H, W = x.shape[-2:]
        if min(H, W) < WINDOW:
            raise ValueError(f"{H}x{W} pixels are fewer than a window of {WINDOW}x{WINDOW}")
        x = F.pad(x, (0, -W % WINDOW, 0, -H % WINDOW), mode="reflect").permute(0, 2, 3, 1).contiguous()
        frame2, f_a1, y2, f_a3 = self.sfem(x)
        f_x = y2
        for stage in self.stages:
            f_x, f_a1, f_a3 = stage(f_x, f_a1, f_a3, y2)
        hdr = self.output(self.skipped(frame2, f_x))
        return hdr.permute(0, 3, 1, 2)[..., :H, :W]

    @in_bands_with_halo
    def skipped(self, frame2: Tensor, f_x: Tensor, halo: bool = False) -> Tensor:
        """The last stage's features with the reference's own, (B, H, W, 24). With ``halo`` frame2 brings its halo."""
        return f_x + self.skip(frame2, halo)

    @in_bands_with_halo
    def output(self, features: Tensor, halo: bool = False) -> Tensor:
        """Features -> linear HDR in (0, 1), (B, H, W, 3). With ``halo`` they bring their halo."""
        with torch.autocast(features.device.type, enabled=False):  # a logit in bfloat16 would limit PSNR-mu to 62 dB
            return torch.sigmoid(self.out(features.to(self.out.weight.dtype), halo))

    def use_kernels(self, on: bool) -> None:
        """Whether inference on a GPU may run Swin blocks as fused kernels (it may, unless told otherwise)."""
        for module in self.modules():
            if isinstance(module, SwinBlock):
                module.fused = on


class SFEM(nn.Module):
    """Shallow feature extraction: one convolution per frame, then one LayerNorm over all three frames' channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = Conv3x3(6, C)
        self.conv2 = Conv3x3(6, C)
        self.conv3 = Conv3x3(6, C)
        self.norm = nn.LayerNorm(3 * C)

    @in_bands_with_halo
    def forward(self, x: Tensor, halo: bool = False) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, H, W, 18) -> the reference's features before the norm, and all three frames' after it.

        With ``halo`` x brings the rows above and below along: (B, H+2, W, 18).
        """
        frame2 = self.reference(x, halo)
        frames = torch.cat([self.conv1(x[..., :6], halo), frame2, self.conv3(x[..., 12:], halo)], dim=-1)
        f_a1, y2, f_a3 = self.norm(frames).split(C, dim=-1)
        return frame2, f_a1.contiguous(), y2.contiguous(), f_a3.contiguous()

    def reference(self, x: Tensor, halo: bool = False) -> Tensor:
        """The reference's features before the norm alone."""
        return self.conv2(x[..., 6:12], halo)


class AFM(nn.Module):
    """Alignment-fusion module: one iteration of the unfolded optimisation, with weights of its own."""

    def __init__(self, config: AFUNetConfig, t: int) -> None:
        super().__init__()
        sam_rate = config.drop_path * t / SFM_BLOCKS
        sfm_rates = torch.linspace(0, config.drop_path, config.stages * SFM_BLOCKS).tolist()
        has_sam = "sam" not in config.without and (config.order == "af" or t < config.stages - 1)
        has_cfm, has_dcm = "cfm" not in config.without, "dcm" not in config.without
        self.sam1 = SAM(sam_rate) if has_sam else Unchanged()
        self.sam3 = SAM(sam_rate) if has_sam else Unchanged()
        self.sfm = SFM(sfm_rates[t * SFM_BLOCKS : (t + 1) * SFM_BLOCKS])
        self.cfm_u = CFM() if has_cfm else Unchanged()
        self.cfm_v = CFM() if has_cfm else Unchanged()
        self.dcm = DCM() if has_dcm else Nothing()
        self.mlp = MLP(3 * C if has_dcm else 2 * C, 2 * C, C)

    def forward(self, f_x: Tensor, f_a1: Tensor, f_a3: Tensor, y2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x^(t-1), a1, a3 and the reference's features y2 -> x^t, a1, a3. All (B, H, W, 24)."""
        # Feature alignment: a_s <- G(a_s)
        f_a1 = self.sam1(f_x, f_a1)
        f_a3 = self.sam3(f_x, f_a3)

        # Feature fusion: u, v = prox(x)
        f_us, f_r, f_vs = self.sfm(f_a1, f_x, f_a3)
        f_u = self.cfm_u(f_x, f_us)
        f_v = self.cfm_v(f_x, f_vs)
        f_xp = self.dcm(y2, f_u, f_v)
        f_x = self.update(f_u, f_xp, f_v, f_r)
        return f_x, f_a1, f_a3

    @in_bands
    def update(self, f_u: Tensor, f_xp: Tensor, f_v: Tensor, f_r: Tensor) -> Tensor:
        """x^t = MLP([u, x', v]) + r."""
        return self.mlp(torch.cat([f_u, f_xp, f_v], dim=-1)) + f_r


class FAM(AFM):
    """The other order (table "Ablation study"): fusion, whose result then aligns the sides for the next stage."""

    def forward(self, f_x: Tensor, f_a1: Tensor, f_a3: Tensor, y2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        f_us, f_r, f_vs = self.sfm(f_a1, f_x, f_a3)
        f_u = self.cfm_u(f_x, f_us)
        f_v = self.cfm_v(f_x, f_vs)
        f_xp = self.dcm(y2, f_u, f_v)
        f_x = self.update(f_u, f_xp, f_v, f_r)
        return f_x, self.sam1(f_x, f_a1), self.sam3(f_x, f_a3)


class Unchanged(nn.Module):
    """In the place of a SAM or a CFM that is left out: the features that it would align or fuse, as they are."""

    def forward(self, f_x: Tensor, f: Tensor) -> Tensor:
        return f


class Nothing(nn.Module):
    """In the place of a DCM that is left out: a map of no channels."""

    def forward(self, y2: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return u[..., :0]


class SAM(nn.Module):
    """Spatial alignment: a side frame's features, sought out by window cross-attention in the degraded current ones."""

    recompute = False  # see AFUNet

    def __init__(self, drop_path: float) -> None:
        super().__init__()
        self.degradation = MLP(C, 2 * C, C)
        self.attn = WindowCrossAttention(C, SAM_HEADS)
        self.drop_path = DropPath(drop_path)
        self.conv = depthwise(C)

    @recomputable
    def forward(self, f_x: Tensor, f_a: Tensor) -> Tensor:
        return self.finish(*self.attend(f_x, f_a))

    @in_bands
    def attend(self, f_x: Tensor, f_a: Tensor) -> tuple[Tensor, Tensor]:
        """The degraded features with what the side frame found in them, h, and without, d."""
        B, H, W, _ = f_x.shape
        windows = layout(B, H, W, f_x.device)
        d = self.degradation(f_x)
        found = self.attn(to_tokens(f_a, windows), to_tokens(d + f_a, windows), windows)
        return d + self.drop_path(to_map(found, windows, d.shape)), d

    @in_bands_with_halo
    def finish(self, h: Tensor, d: Tensor, halo: bool = False) -> Tensor:
        """h + conv(h) + d. With ``halo`` h brings the rows above and below along, d does not."""
        return without_halo(h, halo) + self.conv(h, halo) + d


class SFM(nn.Module):
    """Spatial fusion: five Swin blocks and a convolution over the three frames' features together."""

    def __init__(self, drop_path: list[float]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(SwinBlock(3 * C, i % 2 == 1, rate) for i, rate in enumerate(drop_path))
        self.conv = Conv3x3(3 * C, 3 * C)

    def forward(self, f_a1: Tensor, f_x: Tensor, f_a3: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        frames = z = torch.cat([f_a1, f_x, f_a3], dim=-1)
        for block in self.blocks:
            z = block(z)
        u, r, v = self.finish(z, frames).split(C, dim=-1)
        return u, r, v

    @in_bands_with_halo
    def finish(self, z: Tensor, frames: Tensor, halo: bool = False) -> Tensor:
        """u, r and v side by side: conv(z) + frames. With ``halo`` z brings the rows above and below along."""
        return self.conv(z, halo) + frames


class SwinBlock(nn.Module):
    """Pre-norm window self-attention and MLP, both residual (Swin Transformer, figure 3b)."""

    fused = True  # where that helps: see AFUNet.use_kernels
    recompute = False  # see AFUNet

    def __init__(self, dim: int, shifted: bool, drop_path: float) -> None:
        super().__init__()
        self.shifted = shifted
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowSelfAttention(dim, SFM_HEADS)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MLP(dim, 2 * dim, dim)
        self.drop_path = DropPath(drop_path)

    @recomputable
    def forward(self, x: Tensor) -> Tensor:
        if kernels.may_fuse(self, x):
            return kernels.swin_block(self, x)
        if bands.pay(x):
            return bands.gather(x, lambda b, rows: self.plain(x[b : b + 1, rows], shift_rows=False), self.shifted)
        return self.plain(x)

    def plain(self, x: Tensor, shift_rows: bool = True) -> Tensor:
        """The block in plain torch. Without ``shift_rows`` a shifted block shifts columns alone, as strips need it."""
        B, H, W, _ = x.shape
        windows = layout(B, H, W, x.device, self.shifted and shift_rows, self.shifted)
        attended = self.attn(to_tokens(self.norm1(x), windows), windows)
        x = x + self.drop_path(to_map(attended, windows, x.shape))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class CFM(nn.Module):
    """Channel fusion: attention between channels over the whole image.

    The attention matrix of a head is 12x12, whatever the image's size, and the values are linear in the input: for one
    image the whole attention is one 24x24 matrix that mixes every pixel's channels. So keys and queries are only summed
    over, and nothing else of the image's size is made.
    """

    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(CFM_HEADS))
        self.q = Linear(C, C, bias=False)
        self.k = Linear(C, C, bias=False)
        self.v = Linear(C, C, bias=False)
        self.proj = Linear(C, C, bias=False)
        self.conv = depthwise(C)

    def forward(self, f_x: Tensor, f_w: Tensor) -> Tensor:
        return self.finish(self.mixed(f_x, f_w, self.mixing(*self.sums(f_x, f_w))), f_x)

    @staticmethod
    def mixed(f_x: Tensor, f_w: Tensor, mix: Tensor) -> Tensor:
        """Attention's output and its residual: h = mix (x + w) + x."""
        return torch.einsum("bhwc,bdc->bhwd", f_x + f_w, mix.to(f_x.dtype)) + f_x

    @in_bands_with_halo
    def finish(self, h: Tensor, f_x: Tensor, halo: bool = False) -> Tensor:
        """h + conv(h) + x. With ``halo`` h brings the rows above and below along, x does not."""
        return without_halo(h, halo) + self.conv(h, halo) + f_x

    def sums(self, f_x: Tensor, f_w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Over the pixels, in float32 at least: q k^T (B, heads, 12, 12), |q|^2 and |k|^2 (B, heads, 12)."""
        q, k = self._heads(self.q(f_w)), self._heads(self.k(f_x + f_w))
        parts = f_x.shape[1] if f_x.is_cuda else 1  # cuBLAS sums one product of so few rows on a few processors only
        with torch.autocast(q.device.type, enabled=False):
            return _gram(q, k, parts), q.square().sum(-2), k.square().sum(-2)

    def mixing(self, qk: Tensor, qq: Tensor, kk: Tensor) -> Tensor:
        """The matrix (B, 24, 24) that attention applies to the channels of x + w, from the sums over the pixels."""
        with torch.autocast(qk.device.type, enabled=False):
            norms = _norm(qq)[..., :, None] * _norm(kk)[..., None, :]
            attention = torch.softmax(qk / norms * self.temperature[:, None, None].to(qk), dim=-1)
            v = self.v.weight.view(CFM_HEADS, -1, C).to(qk)
            proj = self.proj.weight.to(qk)
            return proj @ (attention @ v).flatten(1, 2)

    @staticmethod
    def _heads(t: Tensor) -> Tensor:
        """(B, H, W, 24) -> (B, heads, H*W, 12), half precision widened to float32."""
        t = t.float() if t.dtype in (torch.float16, torch.bfloat16) else t
        return t.flatten(1, 2).unflatten(-1, (CFM_HEADS, -1)).transpose(1, 2)


def _gram(q: Tensor, k: Tensor, parts: int) -> Tensor:
    """q^T k of (B, heads, N, 12), as a sum of ``parts`` products."""
    q, k = (t.unflatten(-2, (parts, -1)) for t in (q, k))
    return (q.transpose(-1, -2) @ k).sum(-3)


def _norm(square: Tensor) -> Tensor:
    """Length from its square, at least 1e-12 as in ``torch.nn.functional.normalize``."""
    return square.clamp_min(1e-24).sqrt()


class DCM(nn.Module):
    """Data consistency: x = B^-1(D2^T y2 + beta1 u + beta3 v) of the paper."""

    def __init__(self) -> None:
        super().__init__()
        self.d2_t = MLP(C, 2 * C, C)
        self.b_inv = MLP(C, 2 * C, C)
        self.beta1 = nn.Parameter(torch.tensor(0.5))
        self.beta3 = nn.Parameter(torch.tensor(0.5))

    @in_bands
    def forward(self, y2: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return self.b_inv(self.d2_t(y2) + self.beta1 * u + self.beta3 * v)


def init_weights(module: nn.Module) -> None:
    """Normal with std 0.02 cut at +-2 for linear and convolution weights and bias tables, 0 for biases."""
    if isinstance(module, (nn.Linear, nn.Conv2d)):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, (WindowSelfAttention, WindowCrossAttention)):
        nn.init.trunc_normal_(module.bias_table, std=0.02)
