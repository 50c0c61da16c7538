"""Golden figures: where they lie, and the network they were measured with.

Its weights are a function of the official key alone, so no weight file is needed.
"""

from __future__ import annotations

import json
import re
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models import AFUNet
from utils.checkpoint import model_of

GOLDEN = Path(__file__).parent / "golden"
MANIFEST: dict[str, list[int]] = json.loads((GOLDEN / "state_dict_manifest.json").read_text())
BUFFERS = re.compile(r"relative_position_index$|attn_mask$")


def golden_tensor(key: str, shape: tuple[int, ...]) -> Tensor:
    """The float32 weight of one official key."""
    n = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)
    fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 1
    if key.startswith(("beta1.", "beta2.")):
        value = 0.5 + 0.1 * n
    elif key.endswith(".temperature"):
        value = 1 + 0.1 * n
    elif key.endswith("relative_position_bias_table"):
        value = 0.5 * n
    elif re.search(r"\.norm[12]?\.weight$", key):
        value = 1 + 0.1 * n
    elif key.endswith(".bias"):
        value = 0.1 * n
    else:
        value = (0.2 if key == "out.0.weight" else 0.7) * n / np.sqrt(fan_in)
    return torch.from_numpy(np.asarray(value, dtype=np.float32))


def official_keys(stages: int) -> dict[str, list[int]]:
    """Official keys and shapes for a number of stages: stage 0's, repeated."""
    stage = re.compile(r"^(A1|A3|A2_T|inv|a_12|a_32|SFM|f_12|f_32|beta1|beta2|mlps_end)\.0(?=\.|$)")
    keys: dict[str, list[int]] = {}
    for key, shape in MANIFEST.items():
        if stage.match(key):
            keys |= {stage.sub(rf"\g<1>.{t}", key): shape for t in range(stages)}
        elif not re.match(stage.pattern.replace(r"\.0", r"\.[1-9]"), key):
            keys[key] = shape
    return keys


def golden_state_dict(stages: int = 4) -> dict[str, Tensor]:
    """Every weight of the official network by its official key, without buffers."""
    keys = official_keys(stages)
    return {key: golden_tensor(key, tuple(shape)) for key, shape in keys.items() if not BUFFERS.search(key)}


def golden_model(stages: int = 4) -> AFUNet:
    """The network with the golden weights, in eval mode."""
    return model_of(golden_state_dict(stages), "golden").eval()


def golden_case(name: str) -> tuple[Tensor, Tensor]:
    """Input, float32, and the official network's output, computed in float64."""
    data = np.load(GOLDEN / "forward.npz")
    return torch.from_numpy(data[f"{name}_input"]), torch.from_numpy(data[f"{name}_output"])
