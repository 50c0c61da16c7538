"""AFUNet written the plain way, step by step after the description of the released network, from official weights.

An independent check of ``models`` (it shares no line with it) and the baseline of the benchmarks: explicit softmax,
full masks, rolls and permutes, maps (B, C, H, W) outside the windows. It costs about what the released code costs.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from models import AFUNet
from utils.checkpoint import official_of

State = dict[str, Tensor]


class PlainAFUNet(torch.nn.Module):
    """The plain network with the weights of a model; they are shared, so gradients arrive in the model's parameters.

    ``masks`` is "rebuilt" (on the CPU in every block, shifted or not, as released) or "kept" (on the device). No
    stochastic depth.
    """

    def __init__(self, model: AFUNet, masks: str = "kept") -> None:
        super().__init__()
        self.config = model.config
        self.masks = masks
        self.model = model

    def forward(self, x: Tensor, seen: State | None = None) -> Tensor:
        """(B, 18, H, W) -> (B, 3, H, W); ``seen`` collects the intermediate maps by their golden names."""
        w: State = {official_of(key): value for key, value in self.model.named_parameters()}
        H, W = x.shape[-2:]
        x = F.pad(x, (0, (8 - W % 8) % 8, 0, (8 - H % 8) % 8), mode="reflect")
        f1, f2, f3 = (conv(x[:, 6 * i : 6 * i + 6], w, f"conv{i + 1}.0") for i in range(3))
        normed = norm(torch.cat([f1, f2, f3], dim=1).permute(0, 2, 3, 1), w, "patch_embed.norm").permute(0, 3, 1, 2)
        a1, r0, a3 = normed.chunk(3, dim=1)
        now = r0
        for t in range(self.config.stages):
            now, a1, a3 = self.stage(now, a1, a3, r0, w, t, {} if seen is None else seen)
        out = torch.sigmoid(conv(now + conv(f2, w, "conv_skip"), w, "out.0"))
        return out[:, :, :H, :W]

    def stage(
        self, x: Tensor, a1: Tensor, a3: Tensor, r0: Tensor, w: State, t: int, seen: State
    ) -> tuple[Tensor, Tensor, Tensor]:
        without, order = self.config.without, self.config.order
        has_sam = "sam" not in without
        if has_sam and order == "af":
            a1, a3 = self.sam(x, a1, w, f"A1.{t}", f"a_12.{t}"), self.sam(x, a3, w, f"A3.{t}", f"a_32.{t}")
            seen[f"stage{t}.sam_under"], seen[f"stage{t}.sam_over"] = a1, a3
        z = self.sfm(torch.cat([a1, x, a3], dim=1), w, f"SFM.{t}")
        seen[f"stage{t}.sfm"] = z
        u, r, v = z.chunk(3, dim=1)
        if "cfm" not in without:
            hu, hv = cfm(x, u, w, f"f_12.{t}"), cfm(x, v, w, f"f_32.{t}")
            seen[f"stage{t}.cfm_under"], seen[f"stage{t}.cfm_over"] = hu, hv
            u, v = hu + x, hv + x
        fused = [u, v]
        if "dcm" not in without:
            degraded = mlp(r0, w, f"A2_T.{t}")
            p = mlp(degraded + w[f"beta1.{t}"] * u + w[f"beta2.{t}"] * v, w, f"inv.{t}")
            seen[f"stage{t}.dcm"] = p
            fused = [u, p, v]
        x = mlp(torch.cat(fused, dim=1), w, f"mlps_end.{t}") + r
        seen[f"stage{t}.stage"] = x
        if has_sam and order == "fa" and t < self.config.stages - 1:
            a1, a3 = self.sam(x, a1, w, f"A1.{t}", f"a_12.{t}"), self.sam(x, a3, w, f"A3.{t}", f"a_32.{t}")
        return x, a1, a3

    def sam(self, x: Tensor, a: Tensor, w: State, degradation: str, name: str) -> Tensor:
        """Window cross-attention without norm or shift; the residual path is the degraded x."""
        d = mlp(x, w, degradation)
        block = f"{name}.residual_group.blocks.0"
        query, context = partition(a.permute(0, 2, 3, 1)), partition((d + a).permute(0, 2, 3, 1))
        q = linear(query, w, f"{block}.attn.q")
        k, v = linear(context, w, f"{block}.attn.kv").chunk(2, dim=-1)
        mask = self.mask(a.shape[2], a.shape[3], 0, a) if self.masks == "rebuilt" else None
        attended = attention(q, k, v, w, f"{block}.attn", 2, mask)
        h = d + reverse(attended, a.shape).permute(0, 3, 1, 2)
        h = h + conv(h, w, f"{block}.mlp", groups=24)
        return h + d

    def sfm(self, z: Tensor, w: State, name: str) -> Tensor:
        y = z.permute(0, 2, 3, 1)
        for i in range(5):
            y = self.swin_block(y, w, f"{name}.residual_group.blocks.{i}", 4 if i % 2 else 0)
        return conv(y.permute(0, 3, 1, 2), w, f"{name}.conv") + z

    def swin_block(self, x: Tensor, w: State, name: str, shift: int) -> Tensor:
        B, H, W, C = x.shape
        h = norm(x, w, f"{name}.norm1")
        h = torch.roll(h, shifts=(-shift, -shift), dims=(1, 2)) if shift else h
        windows = partition(h)
        q, k, v = linear(windows, w, f"{name}.attn.qkv").chunk(3, dim=-1)
        mask = self.mask(H, W, shift, x) if shift or self.masks == "rebuilt" else None
        h = reverse(attention(q, k, v, w, f"{name}.attn", 4, mask), (B, C, H, W))
        h = torch.roll(h, shifts=(shift, shift), dims=(1, 2)) if shift else h
        x = x + h
        h = linear(norm(x, w, f"{name}.norm2"), w, f"{name}.mlp.fc1")
        return x + linear(F.gelu(h), w, f"{name}.mlp.fc2")

    def mask(self, H: int, W: int, shift: int, like: Tensor) -> Tensor:
        if self.masks == "rebuilt":
            return shift_mask(H, W, shift).to(like)
        return kept_mask(H, W, shift, like.device, like.dtype)


@lru_cache(maxsize=2)
@torch.inference_mode(False)  # what is kept has to serve a training too
def kept_mask(H: int, W: int, shift: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """``shift_mask`` where the network computes: copying it there for every block would be most of a GPU's time."""
    return shift_mask(H, W, shift).to(device, dtype)


def shift_mask(H: int, W: int, shift: int) -> Tensor:
    """(windows, 64, 64): -100 between pixels that only the roll has brought together."""
    regions = torch.zeros(1, H, W, 1)
    number = 0
    for rows in (slice(0, -8), slice(-8, -shift or 0), slice(-shift, None)):
        for columns in (slice(0, -8), slice(-8, -shift or 0), slice(-shift, None)):
            regions[:, rows, columns] = number
            number += 1
    windows = partition(regions).squeeze(-1)
    difference = windows.unsqueeze(1) - windows.unsqueeze(2)
    return difference.masked_fill(difference != 0, -100.0).masked_fill(difference == 0, 0.0)


def cfm(x: Tensor, side: Tensor, w: State, name: str) -> Tensor:
    """Channel attention over the whole image, up to the last residual."""
    B, C, H, W = x.shape
    s = x + side
    q = F.conv2d(side, w[f"{name}.attn.q.weight"][:, :, None, None]).view(B, 2, C // 2, H * W)
    k = F.conv2d(s, w[f"{name}.attn.k.weight"][:, :, None, None]).view(B, 2, C // 2, H * W)
    v = F.conv2d(s, w[f"{name}.attn.v.weight"][:, :, None, None]).view(B, 2, C // 2, H * W)
    q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    logits = q @ k.transpose(-2, -1) * w[f"{name}.attn.temperature"].view(1, 2, 1, 1)
    attended = (logits.softmax(dim=-1) @ v).view(B, C, H, W)
    h = x + F.conv2d(attended, w[f"{name}.attn.project_out.weight"][:, :, None, None])
    return h + conv(h, w, f"{name}.conv", groups=C)


def attention(q: Tensor, k: Tensor, v: Tensor, w: State, name: str, heads: int, mask: Tensor | None) -> Tensor:
    """(windows, 64, C) each -> (windows, 64, C)."""
    n, N, C = q.shape
    q, k, v = (t.reshape(n, N, heads, C // heads).permute(0, 2, 1, 3) for t in (q, k, v))
    q = q * (C // heads) ** -0.5
    logits = q @ k.transpose(-2, -1)
    table = w[f"{name}.relative_position_bias_table"]
    logits = logits + table[position_index().view(-1)].view(N, N, heads).permute(2, 0, 1).contiguous().unsqueeze(0)
    if mask is not None:
        logits = logits.view(n // len(mask), len(mask), heads, N, N) + mask.unsqueeze(1).unsqueeze(0)
        logits = logits.view(n, heads, N, N)
    out = (logits.softmax(dim=-1) @ v).transpose(1, 2).reshape(n, N, C)
    return linear(out, w, f"{name}.proj")


@lru_cache(maxsize=1)
@torch.inference_mode(False)
def position_index() -> Tensor:
    """(64, 64): row of the bias table for each pair of pixels of a window."""
    y, x = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    y, x = y.flatten(), x.flatten()
    return (y[:, None] - y[None, :] + 7) * 15 + (x[:, None] - x[None, :] + 7)


def partition(x: Tensor) -> Tensor:
    """(B, H, W, C) -> (windows, 64, C)."""
    B, H, W, C = x.shape
    return x.reshape(B, H // 8, 8, W // 8, 8, C).permute(0, 1, 3, 2, 4, 5).reshape(-1, 64, C)


def reverse(windows: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(windows, 64, C) -> (B, H, W, C), given the shape (B, C, H, W)."""
    B, C, H, W = shape
    return windows.view(B, H // 8, W // 8, 8, 8, C).permute(0, 1, 3, 2, 4, 5).reshape(B, H, W, C)


def conv(x: Tensor, w: State, name: str, groups: int = 1) -> Tensor:
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), w[f"{name}.weight"], w[f"{name}.bias"], groups=groups)


def linear(x: Tensor, w: State, name: str) -> Tensor:
    return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])


def norm(x: Tensor, w: State, name: str) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])


def mlp(x: Tensor, w: State, name: str) -> Tensor:
    h = linear(F.gelu(linear(x.permute(0, 2, 3, 1), w, f"{name}.fc1")), w, f"{name}.fc2")
    return h.permute(0, 3, 1, 2)
