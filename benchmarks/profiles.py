"""Where the time of a call goes: its longest operations and GPU kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

TOP = 12


def profiled(call: Callable[[], object], device: torch.device) -> dict[str, Any]:
    """One call, after another that warms up: ``operations`` and (on a GPU) ``kernels``, each (name, ms, calls, share).

    Shares are of the device's busy time ``total_ms``; an operation's time is that of the kernels it launches itself.
    """
    on_gpu = device.type == "cuda"
    call()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as found:
        call()
        if on_gpu:
            torch.cuda.synchronize()
    events = [event for event in found.key_averages() if not getattr(event, "is_user_annotation", False)]
    kernels = [row(event, True) for event in events if event.device_type == DeviceType.CUDA]
    operations = [row(event, on_gpu) for event in events if event.device_type == DeviceType.CPU]
    total = sum(ms for _, ms, _ in kernels or operations)
    return {"total_ms": total, "operations": top(operations, total), "kernels": top(kernels, total)}


def row(event: Any, on_gpu: bool) -> tuple[str, float, int]:
    """Name, milliseconds of its own, calls."""
    microseconds = event.self_device_time_total if on_gpu else event.self_cpu_time_total
    return event.key[:90], microseconds / 1000, event.count


def top(rows: list[tuple[str, float, int]], total: float) -> list[dict[str, Any]]:
    longest = sorted(rows, key=lambda each: -each[1])[:TOP]
    return [
        {"name": name, "ms": round(ms, 3), "calls": calls, "share": round(ms / total, 4) if total else 0.0}
        for name, ms, calls in longest
        if ms > 0
    ]


def profile_table(found: Mapping[str, Any]) -> str:
    """The longest kernels, or operations where there are none, as Markdown."""
    rows = found["kernels"] or found["operations"]
    lines = [f"| `{row['name']}` | {row['ms']:.4g} | {row['calls']} | {row['share']:.1%} |" for row in rows]
    return "\n".join(["| longest | ms | calls | share |", "|---|---|---|---|", *lines])
