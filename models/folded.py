"""A Swin block for inference: weights are folded once, and what remains takes as few passes as torch has.

It stands in for ``SwinBlock.plain`` on tokens that are cut into windows already.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.cpu import FastLinear
from models.kernels import Block
from models.layers import biased_attention


class FoldedBlock:
    """A Swin block for inference, on tokens; the scales of LayerNorm and attention are folded into the weights."""

    def __init__(self, block: Block) -> None:
        attn = block.attn
        dim = attn.proj.in_features
        self.attn, self.dim, self.shifted = attn, dim, block.shifted
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


def _fold(norm: torch.nn.LayerNorm, linear: torch.nn.Linear) -> tuple[Tensor, Tensor]:
    """Weight and bias of linear(norm(x)) when applied to x normalised without scale and shift."""
    return linear.weight * norm.weight, linear.bias + linear.weight @ norm.bias
