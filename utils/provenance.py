"""Where a figure comes from: file hashes, versions, the revision of this code."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from utils.files import InputError

if TYPE_CHECKING:
    import torch

VERSION = "0.2.0"  # of this code, as in CHANGELOG.md; recorded in metrics.json and in checkpoints
PACKAGES = ("torch", "numpy", "pytorch-msssim", "opencv-python-headless", "pyrtools")
REPOSITORY = Path(__file__).parent.parent


def sha256(path: str | Path) -> str:
    """The file's SHA-256 in hexadecimal. Raises InputError where it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give an existing checkpoint") from None


def versions() -> dict[str, str]:
    """This code, Python and the packages that figures depend on; packages that are not installed are left out."""
    found = {"afunet": VERSION, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def git_revision() -> str | None:
    """The commit this code is at, with ``-dirty`` where files differ from it; None outside a git checkout."""
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def device_name(device: torch.device) -> str:
    """``cpu``, or the GPU's name."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
