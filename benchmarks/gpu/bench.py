"""What every part of the examination works with: the device, the form, and where things go."""

from __future__ import annotations

import gc
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from utils.provenance import device_name, git_revision, versions


@dataclass(frozen=True)
class Bench:
    """What a part is given.

    Attributes:
        device: what is examined.
        tiny: small sizes and few steps, for a try on a CPU.
        work: the folder for what is large: scenes, decoded scenes, the training run.
        out: the folder of the results.
        hdri: folders of panoramas, for the part that trains.
        init, resume: where that training begins, see train.py.
        scenes: how many scenes it is given.
    """

    device: torch.device
    tiny: bool
    work: Path
    out: Path
    hdri: tuple[Path, ...] = ()
    init: Path | None = None
    resume: str | None = None
    scenes: int = 0

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def healthy(self) -> bool:
        """Whether the device still answers, after an error. What the failed step held is given back first."""
        if not self.on_gpu:
            return True
        gc.collect()
        try:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
        except RuntimeError:  # an error inside a kernel is the process's last
            return False
        return True


def facts(device: torch.device, tiny: bool) -> dict[str, Any]:
    """The machine and the versions that the figures belong to."""
    found: dict[str, Any] = {
        "card": device_name(device),
        "tiny": tiny,
        **versions(),
        "torch": torch.__version__,
        "triton": triton_version(),
        "system": platform.platform(),
        "CPU cores": os.cpu_count(),
        "revision": git_revision(),
    }
    if device.type == "cuda":
        about = torch.cuda.get_device_properties(device)
        found |= {
            "driver": driver(),
            "CUDA": torch.version.cuda,
            "cuDNN": torch.backends.cudnn.version(),
            "capability": f"{about.major}.{about.minor}",
            "GPU memory, GiB": round(about.total_memory / 2**30, 1),
            "multiprocessors": about.multi_processor_count,
        }
    return found


def triton_version() -> str | None:
    try:
        import triton
    except ImportError:
        return None
    return triton.__version__


def driver() -> str | None:
    """The driver's version, where nvidia-smi tells."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, IndexError, subprocess.CalledProcessError):
        return None
