"""How many threads compute on a CPU: as many as the process may use cores, or fewer where more would lose.

A container may show more cores than its quota gives. Every operation then waits for the thread that is held back: with
1.2 cores of 2, two threads were six times slower than one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

CGROUPS, OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
TRIAL = 0.05  # seconds of a trial
ROUNDS = 3  # trials of each number of threads, which take turns
WORTHWHILE = 1.15  # times as fast that fewer threads have to be


def set_threads(asked: int | None, device: torch.device) -> None:
    """Give torch the threads that were asked for, or those that serve best; a line says where fewer are taken."""
    import torch

    if asked is not None:
        torch.set_num_threads(asked)
        return
    most = min(torch.get_num_threads(), usable_cores())  # OMP_NUM_THREADS may ask for fewer
    best = fastest(most, rate) if device.type == "cpu" else most
    torch.set_num_threads(best)
    if best < most:
        print(f"note: {best} of {most} threads, which was faster in a trial; --threads {most} takes all", flush=True)


def usable_cores(cgroups: Path = CGROUPS, own: Path = OWN_CGROUP) -> int:
    """Cores that the process may run on and, of a container with a quota, no more than that pays for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, *(int(quota) for quota in quotas(cgroups, own)), cores))


def quotas(cgroups: Path, own: Path) -> list[float]:
    """The limits, in cores, of the process's control group and of those it lies in (versions 2 and 1)."""
    found = []
    for file in [folder / "cpu.max" for folder in _folders(cgroups, own)]:
        quota, _, period = _text(file).partition(" ")
        found += [int(quota) / int(period)] if quota.isdigit() and period.isdigit() else []
    quota, period = (_text(cgroups / "cpu" / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    return found + ([int(quota) / int(period)] if quota.isdigit() and period.isdigit() else [])


def _folders(cgroups: Path, own: Path) -> list[Path]:
    path = next((line[3:] for line in _text(own).splitlines() if line.startswith("0::")), "/")
    parts = [part for part in path.split("/") if part not in ("", "..")]
    return [cgroups.joinpath(*parts[:n]) for n in range(len(parts) + 1)]


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def fastest(most: int, rate_of: Callable[[int], float]) -> int:
    """The number of threads, of ``most`` and its halves, with the highest rate; ``most`` unless fewer clearly win."""
    choices = [most]
    while choices[-1] > 1:
        choices.append(choices[-1] // 2)
    if len(choices) == 1:
        return most
    rates = dict.fromkeys(choices, 0.0)
    for _ in range(ROUNDS):
        for threads in choices:
            rates[threads] = max(rates[threads], rate_of(threads))
    best = max(choices, key=rates.__getitem__)
    return best if rates[best] > WORTHWHILE * rates[most] else most


def rate(threads: int) -> float:
    """Small operations per second, of the kind and the size that the network has most of."""
    import torch

    torch.set_num_threads(threads)
    x, weight = torch.ones(4096, 72), torch.ones(144, 72)
    torch.nn.functional.gelu(x @ weight.t())  # the first call starts the threads
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < TRIAL:
        torch.nn.functional.gelu(x @ weight.t())
        done += 1
    return done / (time.perf_counter() - began)
