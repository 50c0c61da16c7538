"""The weights that come with the code: they load, are small, and do what their README says."""

from __future__ import annotations

import pytest
import torch

from datasets.crops import whole_scene
from datasets.scenes import LAYOUTS, find_scenes
from utils.baselines import reference_only
from utils.checkpoint import load_model, read_checkpoint
from utils.evaluation.metrics import METRICS
from utils.inference import predict
from utils.shipped import SHIPPED


def test_the_file_holds_weights_and_how_they_were_made() -> None:
    assert SHIPPED.stat().st_size < 6_000_000
    assert read_checkpoint(SHIPPED).keys() == {"state_dict", "config", "recipe", "epoch"}


@pytest.mark.parametrize(("name", "gain"), [("courtyard_0033", 10.0), ("forest_0016", 10.0), ("interior_0023", 3.0)])
def test_a_sample_scene_comes_out_better_than_its_reference_frame(name: str, gain: float) -> None:
    scene = next(scene for scene in find_scenes(LAYOUTS["samples"], None, "test") if scene.name == name)
    frames, ev, _ = scene.read()
    x, truth = whole_scene(scene.read, torch.device("cpu"))
    alone = torch.from_numpy(reference_only(frames, ev)).permute(2, 0, 1)
    ours = predict(load_model(SHIPPED), x)[0][0]
    assert METRICS["PSNR-mu"](ours, truth) > METRICS["PSNR-mu"](alone, truth) + gain
