"""Build the fused kernels for a GPU that isn't here: ``python -m tests.kernel_builds 90`` (its compute capability).

Prints the bytes of shared memory that each kernel takes. Triton's interpreter, which the other tests run under, lets
through much that its compiler refuses.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from models import kernels
from models.afunet import AFUNet


class NoDriver:
    """What Triton's compiler asks a GPU's driver."""

    def __init__(self, capability: int) -> None:
        self.target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


class Built:
    """Stands for a kernel; a launch only compiles it."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        return lambda *args, **options: self.report(self.kernel.warmup(*args, grid=grid, **options))

    def report(self, built: Any) -> None:
        print(self.kernel.fn.__name__, built.metadata.shared)


def main(capability: str) -> None:
    driver.set_active(NoDriver(int(capability)))
    kernels.attention_kernel, kernels.mlp_kernel = Built(kernels.attention_kernel), Built(kernels.mlp_kernel)
    block = AFUNet().stages[0].sfm.blocks[1]
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        kernels.swin_block(block.to(dtype), torch.zeros(1, 16, 32, 72, dtype=dtype))


if __name__ == "__main__":
    main(*sys.argv[1:])
