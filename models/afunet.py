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
from torch.utils.checkpoint import checkpoint

from models import kernels
from models.layers import MLP, Conv3x3, DropPath, Linear, WindowCrossAttention, WindowSelfAttention, depthwise
from models.windows import WINDOW, layout, to_map, to_tokens

C = 24  # channels per frame
SAM_HEADS, SFM_HEADS, CFM_HEADS = 2, 4, 2
SFM_BLOCKS = 5
PARTS = ("sam", "cfm", "dcm")


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
        if unknown := set(self.without) - set(PARTS):
            raise ValueError(f"without takes {PARTS}, not {sorted(unknown)}")
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
        self.checkpointing = checkpointing
        self.sfem = SFEM()
        self.stages = nn.ModuleList(AFM(self.config, t) for t in range(self.config.stages))
        self.skip = Conv3x3(C, C)
        self.out = Conv3x3(C, 3)
        self.apply(init_weights)

    def forward(self, x: Tensor) -> Tensor:
        H, W = x.shape[-2:]
        if min(H, W) < WINDOW:
            raise ValueError(f"{H}x{W} pixels are fewer than a window of {WINDOW}x{WINDOW}")
        y = F.pad(x, (0, -W % WINDOW, 0, -H % WINDOW), mode="reflect").permute(0, 2, 3, 1).contiguous()
        f2, a1, y2, a3 = self.sfem(y)
        f_x = y2
        for stage in self.stages:
            f_x, a1, a3 = stage(f_x, a1, a3, y2, self.checkpointing and self.training)
        features = f_x + self.skip(f2)
        with torch.autocast(x.device.type, enabled=False):  # a logit rounded to bfloat16 would limit PSNR-mu to 62 dB
            hdr = torch.sigmoid(self.out(features.to(self.out.weight.dtype)))
        return hdr.permute(0, 3, 1, 2)[..., :H, :W]

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

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, H, W, 18) -> the reference's features before the norm, and all three frames' after it."""
        y1, y2, y3 = y.split(6, dim=-1)
        f2 = self.conv2(y2)
        f = torch.cat([self.conv1(y1), f2, self.conv3(y3)], dim=-1)
        return f2, *self.norm(f).split(C, dim=-1)


class AFM(nn.Module):
    """Alignment-fusion module: one iteration of the unfolded optimisation, with weights of its own."""

    def __init__(self, config: AFUNetConfig, t: int) -> None:
        super().__init__()
        self.align_first = config.order == "af"
        aligns = "sam" not in config.without and (self.align_first or t < config.stages - 1)
        sam_rate = config.drop_path * t / SFM_BLOCKS
        self.sam1 = SAM(sam_rate) if aligns else None
        self.sam3 = SAM(sam_rate) if aligns else None
        rates = torch.linspace(0, config.drop_path, config.stages * SFM_BLOCKS).tolist()
        self.sfm = SFM(rates[t * SFM_BLOCKS : (t + 1) * SFM_BLOCKS])
        self.cfm_u = CFM() if "cfm" not in config.without else None
        self.cfm_v = CFM() if "cfm" not in config.without else None
        self.dcm = DCM() if "dcm" not in config.without else None
        self.mlp = MLP(3 * C if self.dcm else 2 * C, 2 * C, C)

    def forward(
        self, f_x: Tensor, f_a1: Tensor, f_a3: Tensor, y2: Tensor, recompute: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x^(t-1), a1, a3 and the reference's features y2 -> x^t, a1, a3. All (B, H, W, 24)."""
        if self.align_first:
            f_a1, f_a3 = self.align(f_x, f_a1, f_a3, recompute)
        f_x = self.fuse(f_x, f_a1, f_a3, y2, recompute)
        if not self.align_first:
            f_a1, f_a3 = self.align(f_x, f_a1, f_a3, recompute)
        return f_x, f_a1, f_a3

    def align(self, f_x: Tensor, f_a1: Tensor, f_a3: Tensor, recompute: bool) -> tuple[Tensor, Tensor]:
        """Feature alignment: a_s <- G(a_s) for both sides."""
        if self.sam1 is None or self.sam3 is None:
            return f_a1, f_a3
        return run(self.sam1, f_x, f_a1, recompute=recompute), run(self.sam3, f_x, f_a3, recompute=recompute)

    def fuse(self, f_x: Tensor, f_a1: Tensor, f_a3: Tensor, y2: Tensor, recompute: bool) -> Tensor:
        """Feature fusion: u, v = prox(x), then the update."""
        f_us, f_r, f_vs = self.sfm(f_a1, f_x, f_a3, recompute)
        f_u = self.cfm_u(f_x, f_us) if self.cfm_u else f_us
        f_v = self.cfm_v(f_x, f_vs) if self.cfm_v else f_vs
        return self.update(y2, f_u, f_r, f_v)

    def update(self, y2: Tensor, f_u: Tensor, f_r: Tensor, f_v: Tensor) -> Tensor:
        """x^t from u and v, by way of data consistency with the reference."""
        f_xp = [self.dcm(y2, f_u, f_v)] if self.dcm else []
        return self.mlp(torch.cat([f_u, *f_xp, f_v], dim=-1)) + f_r


class SAM(nn.Module):
    """Spatial alignment: a side frame's features, sought out by window cross-attention in the degraded current ones."""

    def __init__(self, drop_path: float) -> None:
        super().__init__()
        self.degradation = MLP(C, 2 * C, C)
        self.attn = WindowCrossAttention(C, SAM_HEADS)
        self.drop_path = DropPath(drop_path)
        self.conv = depthwise(C)

    def forward(self, f_x: Tensor, f_a: Tensor) -> Tensor:
        h, d = self.attended(f_x, f_a)
        return h + self.conv(h) + d

    def attended(self, f_x: Tensor, f_a: Tensor) -> tuple[Tensor, Tensor]:
        """The degraded features with what the side frame found in them, and without."""
        B, H, W, _ = f_x.shape
        windows = layout(B, H, W, f_x.device)
        d = self.degradation(f_x)
        found = self.attn(to_tokens(f_a, windows), to_tokens(d + f_a, windows), windows)
        return d + self.drop_path(to_map(found, windows, d.shape)), d


class SFM(nn.Module):
    """Spatial fusion: five Swin blocks and a convolution over the three frames' features together."""

    def __init__(self, drop_path: list[float]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(SwinBlock(3 * C, i % 2 == 1, rate) for i, rate in enumerate(drop_path))
        self.conv = Conv3x3(3 * C, 3 * C)

    def forward(
        self, f_a1: Tensor, f_x: Tensor, f_a3: Tensor, recompute: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        z = y = torch.cat([f_a1, f_x, f_a3], dim=-1)
        for block in self.blocks:
            y = run(block, y, recompute=recompute)
        u, r, v = (self.conv(y) + z).split(C, dim=-1)
        return u, r, v


class SwinBlock(nn.Module):
    """Pre-norm window self-attention and MLP, both residual (Swin Transformer, figure 3b)."""

    fused = True  # where that helps: see AFUNet.use_kernels

    def __init__(self, dim: int, shifted: bool, drop_path: float) -> None:
        super().__init__()
        self.shifted = shifted
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowSelfAttention(dim, SFM_HEADS)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MLP(dim, 2 * dim, dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        return kernels.swin_block(self, x) if kernels.serve(self, x) else self.plain(x)

    def plain(self, x: Tensor) -> Tensor:
        """The block in plain torch."""
        B, H, W, _ = x.shape
        windows = layout(B, H, W, x.device, self.shifted, self.shifted)
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
        h = self.mixed(f_x, f_w, self.mixing(*self.sums(f_x, f_w)))
        return h + self.conv(h) + f_x

    @staticmethod
    def mixed(f_x: Tensor, f_w: Tensor, mix: Tensor) -> Tensor:
        """Attention's output and its residual: mix (x + w) + x."""
        return torch.einsum("bhwc,bdc->bhwd", f_x + f_w, mix.to(f_x.dtype)) + f_x

    def sums(self, f_x: Tensor, f_w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Over the pixels, in float32 at least: q k^T (B, heads, 12, 12), |q|^2 and |k|^2 (B, heads, 12)."""
        q, k = self._heads(self.q(f_w)), self._heads(self.k(f_x + f_w))
        with torch.autocast(q.device.type, enabled=False):
            return q.transpose(-1, -2) @ k, q.square().sum(-2), k.square().sum(-2)

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

    def forward(self, y2: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return self.b_inv(self.d2_t(y2) + self.beta1 * u + self.beta3 * v)


def run(block: nn.Module, *maps: Tensor, recompute: bool) -> Tensor:
    """Call a block, keeping nothing for the backward pass but its inputs where ``recompute`` is set."""
    return checkpoint(block, *maps, use_reentrant=False) if recompute else block(*maps)


def init_weights(module: nn.Module) -> None:
    """Normal with std 0.02 cut at +-2 for linear and convolution weights and bias tables, 0 for biases."""
    if isinstance(module, (nn.Linear, nn.Conv2d)):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, (WindowSelfAttention, WindowCrossAttention)):
        nn.init.trunc_normal_(module.bias_table, std=0.02)
