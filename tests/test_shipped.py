"""The weights that come with the code: they load, are small, and do what their README says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.crops import whole_scene
from datasets.scenes import LAYOUTS, find_scenes
from datasets.synthesis.development import through_jpeg
from utils.baselines import reference_only
from utils.checkpoint import load_model, read_checkpoint
from utils.evaluation.metrics import METRICS
from utils.exposure import network_input
from utils.images import float_to_ldr, ldr_to_float, to_8_bit
from utils.inference import predict
from utils.shipped import SHIPPED, SHIPPED_PHOTOGRAPHS


@pytest.mark.parametrize("path", [SHIPPED, SHIPPED_PHOTOGRAPHS], ids=lambda path: path.stem)
def test_a_file_holds_weights_and_how_they_were_made(path: Path) -> None:
    assert path.stat().st_size < 6_000_000
    content = read_checkpoint(path)
    assert content.keys() - {"version"} == {"state_dict", "config", "recipe", "epoch"}
    assert not [name for name, value in content["recipe"].items() if str(value).startswith("/")]  # of one machine


def test_each_file_is_the_default_where_it_is_better() -> None:
    """JPEG of quality 92, as cameras write it, for the weights of predict.py; the frames as they are for test.py's."""
    scene = next(scene for scene in find_scenes(LAYOUTS["samples"], None, "test") if scene.name == "forest_0016")
    frames, ev, label = scene.read()
    rows, columns = slice(0, 128), slice(0, 192)  # with sky that is clipped in the reference
    plain, truth = frames[:, rows, columns], torch.from_numpy(label[rows, columns]).permute(2, 0, 1)
    levels = [through_jpeg(to_8_bit(ldr_to_float(frame)), 92, subsampled=True) for frame in plain]
    stored = np.stack([float_to_ldr(level.astype(np.float32) / 255) for level in levels])
    models = [load_model(path) for path in (SHIPPED, SHIPPED_PHOTOGRAPHS)]
    for given, best in ((stored, 1), (plain, 0)):
        x = network_input(given, ev)[None]
        scores = [METRICS["PSNR-mu"](predict(model, x)[0][0], truth) for model in models]
        print(scores)
        assert scores[best] > scores[1 - best], (scores, best)


@pytest.mark.parametrize(("name", "gain"), [("courtyard_0033", 10.0), ("forest_0016", 10.0), ("interior_0023", 3.0)])
def test_a_sample_scene_comes_out_better_than_its_reference_frame(name: str, gain: float) -> None:
    scene = next(scene for scene in find_scenes(LAYOUTS["samples"], None, "test") if scene.name == name)
    frames, ev, _ = scene.read()
    x, truth = whole_scene(scene.read, torch.device("cpu"))
    alone = torch.from_numpy(reference_only(frames, ev)).permute(2, 0, 1)
    ours = predict(load_model(SHIPPED), x)[0][0]
    assert METRICS["PSNR-mu"](ours, truth) > METRICS["PSNR-mu"](alone, truth) + gain
