"""The part "inference": time, memory and error of every way to run the network on a whole image.

1024x1536 is what a test image of 1000x1500 is padded to. Each way takes turns with the plain network that keeps its
masks, the oracle, so ratios hold where the card's clock drifts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.record import Record, reason
from benchmarks.inference import Variant, in_float64, own_peak, times, variants
from benchmarks.profiles import profiled
from models import AFUNet, AFUNetConfig
from models.afunet import C

ORACLE, RELEASED = "plain, masks kept", "plain, masks rebuilt"
SIZES = {"1024x1536": (1024, 1536), "4000x6000": (4000, 6000)}
TINY_SIZES = {"1024x1536": (24, 32), "4000x6000": (32, 48)}
SMALL, LARGE = SIZES
RUNS = {SMALL: 5, LARGE: 1}
COMPILING = 90.0  # seconds that have to be left before something is compiled
AT_LARGE = (  # the plain network would need 170 GB
    *("streaming", "streaming, kernels", "streaming, half storage", "streaming, half storage, kernels"),
    *("kernels, fp16", "kernels, tf32", "kernels", "model(x), fp16"),
)
TO_PROFILE = ("kernels, fp16", "kernels, tf32", "model(x)")


class Image:
    """An input of one size, and what is worked out of it when it is first asked for."""

    def __init__(self, bench: Bench, model: AFUNet, name: str) -> None:
        self.name, self.model = name, model
        size = (TINY_SIZES if bench.tiny else SIZES)[name]
        self.runs = 1 if bench.tiny else RUNS[name]
        self.make: Callable[[], Tensor] = partial(torch.rand, 1, 18, *size, device=bench.device)
        self._x: Tensor | None = None
        self._exact: Tensor | None = None
        self.no_exact = ""

    @property
    def x(self) -> Tensor:
        if self._x is None:
            torch.manual_seed(0)
            self._x = self.make()
        return self._x

    def error(self, variant: Variant) -> float | None:
        """The largest difference from the network in float64; None where that did not run (``no_exact`` says why)."""
        if self._exact is None and not self.no_exact:
            try:
                self._exact = in_float64(self.model, self.x).float()
            except RuntimeError as error:  # out of memory, mostly
                self.no_exact = reason(error)
        return None if self._exact is None else float((variant(self.x) - self._exact).abs().max())


def run(bench: Bench, record: Record) -> None:
    torch.manual_seed(0)
    model = AFUNet(AFUNetConfig(stages=1 if bench.tiny else 4)).to(bench.device).eval()
    with torch.inference_mode():
        ways = variants(model, bench.device)
        small = Image(bench, model, SMALL)
        first = [ORACLE, *(name for name in ways if name not in (ORACLE, RELEASED) and "compiled" not in name)]
        for name in (*first, RELEASED):
            one_way(bench, record, small, ways, name)
        for name in TO_PROFILE:
            if name in ways:
                record.step(f"profile, {name}", partial(profiled, partial(ways[name], small.x), bench.device))
        for dtype in (torch.float32, torch.float16):
            record.step(f"padding, {dtype}".replace("torch.", ""), partial(padding, bench, dtype))
        large = Image(bench, model, LARGE)
        for name in ways:
            if name in AT_LARGE:
                one_way(bench, record, large, ways, name)
        del large
        for name in ways:
            if "compiled" in name:
                one_way(bench, record, small, ways, name, needs=COMPILING)


def one_way(
    bench: Bench, record: Record, image: Image, ways: dict[str, Variant], name: str, needs: float = 0.0
) -> None:
    """Measure one way on one image, beside the oracle where that ran at this size."""
    done = record.content["steps"].get(f"{image.name}, {ORACLE}", {})
    chosen = {ORACLE: ways[ORACLE]} if "result" in done else {}
    chosen[name] = ways[name]
    record.step(f"{image.name}, {name}", partial(measure, bench, image, chosen, name), needs)


def measure(bench: Bench, image: Image, chosen: dict[str, Variant], name: str) -> dict[str, Any]:
    """Median seconds, times the oracle's speed in the same turns, bytes beyond model and input, and error."""
    variant, x = chosen[name], image.x
    memory = own_peak(variant, x) if bench.on_gpu else None
    seconds = times(chosen, x, 1 if name == RELEASED else image.runs)
    error = None if name == RELEASED else image.error(variant)  # the oracle's; a call takes many seconds
    return {
        "seconds": seconds[name],
        "times_faster": seconds[ORACLE] / seconds[name] if ORACLE in seconds else None,
        "memory": memory,
        "error": error,
        **({"no error": image.no_exact} if image.no_exact else {}),
    }


def padding(bench: Bench, dtype: torch.dtype) -> dict[str, Any]:
    """Whether a channels-last map leaves reflection padding as such, and what padding and convolution cost.

    A convolution whose input has lost the format has to bring it back, a copy of the whole map.
    """
    size = next(iter((TINY_SIZES if bench.tiny else SIZES).values()))
    convolution = torch.nn.Conv2d(C, C, 3).to(bench.device, dtype)
    x = torch.rand(1, *size, C, device=bench.device, dtype=dtype).permute(0, 3, 1, 2)
    padded = reflected(x)
    seconds = times({"reflection": reflected, "zeros": zeros}, x, 1 if bench.tiny else 20)
    seconds |= times({"convolution of it": convolution}, padded, 1 if bench.tiny else 20)
    return {
        "input is channels-last": x.is_contiguous(memory_format=torch.channels_last),
        "stays channels-last": padded.is_contiguous(memory_format=torch.channels_last),
        "convolution gives channels-last": convolution(padded).is_contiguous(memory_format=torch.channels_last),
        "ms": {name: 1000 * value for name, value in seconds.items()},
    }


def reflected(x: Tensor) -> Tensor:
    return F.pad(x, (1, 1, 1, 1), mode="reflect")


def zeros(x: Tensor) -> Tensor:
    return F.pad(x, (1, 1, 1, 1))
