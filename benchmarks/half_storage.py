"""What half-precision storage costs in accuracy: ``python -m benchmarks.half_storage CHECKPOINT ...``.

Prints, for every sample scene and checkpoint, the PSNR-mu between the results of float32 and float16 storage. Without a
checkpoint it takes the weights of the golden figures.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from datasets.brackets import whole_scene
from datasets.scenes import LAYOUTS, find_scenes
from models import AFUNet
from models.streaming import reconstruct
from tests.golden_weights import golden_state_dict
from utils.checkpoint import load_model, model_of
from utils.cli import run
from utils.metrics import METRICS


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.half_storage", description=__doc__.split("\n\n")[0])
    parser.add_argument("checkpoints", nargs="*", type=Path)
    paths = parser.parse_args(argv).checkpoints
    models: dict[str, AFUNet] = {str(path): load_model(path) for path in paths}
    if not models:
        models["golden weights"] = model_of(golden_state_dict(), "golden weights").eval()
    for scene in find_scenes(LAYOUTS["samples"], None, "test"):
        x, _ = whole_scene(scene.read, torch.device("cpu"))
        for name, model in models.items():
            exact, half = torch.as_tensor(reconstruct(model, x)), reconstruct(model, x, storage=torch.float16)
            print(f"{scene.name}  {name}  {METRICS['PSNR-mu'](torch.as_tensor(half)[0], exact[0]):.1f} dB")
    return 0


if __name__ == "__main__":
    run(main)
