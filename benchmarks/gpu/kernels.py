"""The part "kernels": the tests on the real card, then error and time of a Swin block in every precision."""

from __future__ import annotations

import contextlib
import copy
import io
import warnings
import xml.etree.ElementTree as ElementTree
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.record import Record
from benchmarks.inference import Variant, times, with_autocast, with_tf32
from benchmarks.profiles import profiled
from models import AFUNet, AFUNetConfig, kernels
from models.afunet import SwinBlock
from utils.provenance import REPOSITORY

TESTS = REPOSITORY / "tests" / "test_kernels.py"
CHANNELS = 72
PRECISIONS = ("float32", "tf32", "fp16", "bf16")


def run(bench: Bench, record: Record) -> None:
    record.step("tests", partial(run_tests, bench), needs=20)
    for precision in PRECISIONS if bench.on_gpu else PRECISIONS[:3]:  # Triton's interpreter has no bfloat16
        for shifted in (False, True):
            name = f"block, {precision}{', shifted' if shifted else ''}"
            record.step(name, partial(measure_block, bench, precision, shifted))
        if bench.on_gpu:
            record.step(f"network, {precision}", partial(trial, bench, precision))


def run_tests(bench: Bench) -> dict[str, Any]:
    """tests/test_kernels.py in this process, so with Triton's compiler on a GPU; the tests that fail, with their ends.

    In tiny form two tests of it, one of which runs both kernels.
    """
    import pytest

    results = bench.work / "kernel_tests.xml"
    results.parent.mkdir(parents=True, exist_ok=True)
    chosen = ["-k", "size0-False or kernels_need_triton"] if bench.tiny else []
    command = [str(TESTS), f"--rootdir={REPOSITORY}", "-p", "no:cacheprovider", f"--junit-xml={results}", *chosen]
    with contextlib.redirect_stdout(io.StringIO()):
        code = pytest.main(command)
    if not results.exists():
        raise RuntimeError(f"pytest ended with {code!r} and no results")
    return read_results(results)


def read_results(path: Path) -> dict[str, Any]:
    """What a JUnit file says: how many tests passed, were skipped and failed, and the ends of those that failed."""
    cases = list(ElementTree.parse(path).getroot().iter("testcase"))
    failures = {}
    for case in cases:
        for outcome in (*case.findall("failure"), *case.findall("error")):
            failures[case.get("name", "?")] = " ".join(f"{outcome.get('message') or outcome.text}".split())[:300]
    skipped = sum(case.find("skipped") is not None for case in cases)
    return {"passed": len(cases) - skipped - len(failures), "skipped": skipped, "failed": failures}


def measure_block(bench: Bench, precision: str, shifted: bool) -> dict[str, Any]:
    """Largest error relative to the largest value, milliseconds, and time by kernel; plain torch beside them."""
    block = swin_block(bench, shifted)
    x = some_map(bench, (8, 8) if bench.tiny else (64, 96))
    ways = {name: in_precision(way, precision) for name, way in both_ways(block).items()}
    with torch.inference_mode():
        wanted = copy.deepcopy(block).double().plain(x.double())
        largest = wanted.abs().max()
        errors = {name: float((way(x) - wanted).abs().max() / largest) for name, way in ways.items()}
        x = some_map(bench, (8, 8) if bench.tiny else (1024, 1536))
        seconds = times(ways, x, 1 if bench.tiny else 20)
        parts = profiled(partial(ways["kernels"], x), bench.device)["kernels"] if bench.on_gpu else []
    return {
        "errors": errors,
        "ms": {name: 1000 * value for name, value in seconds.items()},
        "times_faster": seconds["plain"] / seconds["kernels"],
        "parts": parts,
    }


def swin_block(bench: Bench, shifted: bool) -> SwinBlock:
    torch.manual_seed(0)
    model = AFUNet(AFUNetConfig(stages=1)).to(bench.device).eval()
    return [block for block in model.modules() if isinstance(block, SwinBlock)][int(shifted)]


def some_map(bench: Bench, size: tuple[int, int]) -> Tensor:
    generator = torch.Generator(bench.device).manual_seed(5)
    return torch.randn(1, *size, CHANNELS, generator=generator, device=bench.device)


def both_ways(block: SwinBlock) -> dict[str, Variant]:
    return {"plain": block.plain, "kernels": partial(kernels.swin_block, block)}


def in_precision(way: Variant, precision: str) -> Variant:
    if precision == "tf32":
        return with_tf32(way)
    dtypes = {"fp16": torch.float16, "bf16": torch.bfloat16}
    return with_autocast(way, dtypes[precision]) if precision in dtypes else way


def trial(bench: Bench, precision: str) -> dict[str, Any]:
    """Whether the network takes the kernels by itself in this precision, and the warning where it does not."""
    block = swin_block(bench, True)
    asked = in_precision(lambda x: kernels.may_fuse(block, x), precision)
    with warnings.catch_warnings(record=True) as caught, torch.inference_mode():
        warnings.simplefilter("always")
        kernels.TRIED.clear()
        taken = asked(some_map(bench, (16, 16)))
    return {"kernels taken": bool(taken), "warnings": [str(warning.message)[:400] for warning in caught]}
