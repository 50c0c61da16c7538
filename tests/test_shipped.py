"""The weights that come with the code: they load, are small, and do what their README says."""

from __future__ import annotations

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
from utils.shipped import SHIPPED


def test_the_file_holds_weights_and_how_they_were_made() -> None:
    assert SHIPPED.stat().st_size < 6_000_000
    content = read_checkpoint(SHIPPED)
    assert content.keys() - {"version"} == {"state_dict", "config", "recipe", "epoch"}
    assert not [name for name, value in content["recipe"].items() if str(value).startswith("/")]  # of one machine


def test_jpeg_costs_little() -> None:
    """Quality 92, as cameras write it, beside the frames as they are; weights that have seen no JPEG lose 8 dB here."""
    scene = next(scene for scene in find_scenes(LAYOUTS["samples"], None, "test") if scene.name == "forest_0016")
    frames, ev, label = scene.read()
    rows, columns = slice(0, 128), slice(0, 192)  # with sky that is clipped in the reference
    plain, truth = frames[:, rows, columns], torch.from_numpy(label[rows, columns]).permute(2, 0, 1)
    levels = [through_jpeg(to_8_bit(ldr_to_float(frame)), 92, subsampled=True) for frame in plain]
    stored = np.stack([float_to_ldr(level.astype(np.float32) / 255) for level in levels])
    model = load_model(SHIPPED)
    as_it_is, as_jpeg = (predict(model, network_input(given, ev)[None])[0][0] for given in (plain, stored))
    psnr = METRICS["PSNR-mu"]
    assert psnr(as_jpeg, truth) > psnr(as_it_is, truth) - 3.0, (psnr(as_jpeg, truth), psnr(as_it_is, truth))


@pytest.mark.parametrize(("name", "gain"), [("courtyard_0033", 10.0), ("forest_0016", 10.0), ("interior_0023", 3.0)])
def test_a_sample_scene_comes_out_better_than_its_reference_frame(name: str, gain: float) -> None:
    scene = next(scene for scene in find_scenes(LAYOUTS["samples"], None, "test") if scene.name == name)
    frames, ev, _ = scene.read()
    x, truth = whole_scene(scene.read, torch.device("cpu"))
    alone = torch.from_numpy(reference_only(frames, ev)).permute(2, 0, 1)
    ours = predict(load_model(SHIPPED), x)[0][0]
    assert METRICS["PSNR-mu"](ours, truth) > METRICS["PSNR-mu"](alone, truth) + gain
