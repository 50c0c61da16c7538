"""What half-precision storage costs in accuracy: ``python -m benchmarks.half_storage CHECKPOINT ...``.

Prints, for every sample scene and checkpoint, the PSNR-mu between the results of float32 and float16 storage. Without a
checkpoint it takes the shipped weights.
"""

from __future__ import annotations

import argparse

import torch

from datasets.crops import whole_scene
from datasets.scenes import LAYOUTS, find_scenes
from models import AFUNet
from models.streaming import reconstruct
from utils.checkpoint import load_model
from utils.cli import run
from utils.evaluation.metrics import METRICS
from utils.files import user_path
from utils.shipped import SHIPPED


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.half_storage", description=__doc__.split("\n\n")[0])
    parser.add_argument("checkpoints", nargs="*", type=user_path, default=[SHIPPED])
    models: dict[str, AFUNet] = {path.name: load_model(path) for path in parser.parse_args(argv).checkpoints}
    for scene in find_scenes(LAYOUTS["samples"], None, "test"):
        x, _ = whole_scene(scene.read, torch.device("cpu"))
        for name, model in models.items():
            exact, half = torch.as_tensor(reconstruct(model, x)), reconstruct(model, x, storage=torch.float16)
            print(f"{scene.name}  {name}  {METRICS['PSNR-mu'](torch.as_tensor(half)[0], exact[0]):.1f} dB")
    return 0


if __name__ == "__main__":
    run(main)
