"""The benchmarks' table says what was measured."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import all as benchmark
from benchmarks import inference, large_motion
from benchmarks.inference import table
from benchmarks.profiles import profile_table, profiled
from models import AFUNet, AFUNetConfig
from tests.handheld import draw_scene
from utils.checkpoint import save_checkpoint
from utils.files import InputError
from utils.images import write_hdr


def measured(size: str) -> dict:
    rows = {
        benchmark.PLAIN: {"seconds": 20.0, "bytes": 2e9, "error": 1e-6},
        benchmark.WHOLE: {"seconds": 5.0, "bytes": 1e9, "error": 2e-6},
        benchmark.STRIPS: {"seconds": 4.0, "bytes": 2e8, "error": 3e-6},
        benchmark.HALF: {"seconds": 8.0, "bytes": 1e8, "error": float("nan")},
    }
    return {"size": size, "runs": 1, "floor_seconds": 1.0, "variants": rows}


def test_ratios_are_to_the_plain_network_of_the_same_run() -> None:
    row = benchmark.inference_row("16x16", measured("16x16"))
    assert "| 16x16 | 20.0 s (1.0x), 2,000 MB (1.0x) | 5.0 s (4.0x), 1,000 MB (2.0x) " in row
    assert "| 4.0 s (5.0x), 200 MB (10.0x) | 8.0 s (2.5x), 100 MB (20.0x) | 25% |" in row
    assert "| streaming | 4.000 | 5.00 | 25% | 200 | 10.0 | 3.0e-06 |" in table(measured("16x16"))


def test_no_memory_beyond_the_model_has_no_ratio() -> None:
    figures = measured("16x16")
    figures["variants"][benchmark.WHOLE]["bytes"] = 0
    assert "| 5.0 s (4.0x), 0 MB |" in benchmark.inference_row("16x16", figures)


def test_training_is_compared_round_by_round() -> None:
    line = benchmark.training_line({"AFUNet": [3.0, 1.0, 2.0], benchmark.PLAIN: [2.0, 1.0, 1.0]})
    assert (
        line == "Training step, 2 x 128x128: AFUNet 2.00 images/s (1.50x), plain, masks rebuilt 1.00 images/s (1.00x)"
    )


def test_the_machine_is_named() -> None:
    facts = benchmark.machine()
    assert facts["processor"] and facts["torch"] and facts["cores"] >= 1


def test_a_profile_names_what_takes_longest() -> None:
    a = torch.rand(512, 512)
    found = profiled(lambda: (a @ a, a + 1), torch.device("cpu"))
    assert found["operations"][0]["name"] == "aten::mm" and found["operations"][0]["calls"] == 1
    assert profile_table(found).splitlines()[2].startswith("| `aten::mm` | ")


def test_inference_is_profiled_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--device", "cpu", "--sizes", "16x16", "--profile", "--variants", benchmark.STRIPS]
    assert inference.main(options) == 0
    out = capsys.readouterr().out
    assert f"{benchmark.STRIPS}, 16x16, " in out and out.count("| `") == 12


def test_large_motion_is_that_of_the_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_hdr(tmp_path / "drawn.hdr", draw_scene(64, 128))
    torch.manual_seed(0)
    model = AFUNet(AFUNetConfig(stages=1))
    save_checkpoint(tmp_path / "tiny.pth", {"state_dict": model.state_dict(), "config": asdict(model.config)})
    options = ["--hdri", str(tmp_path), "--pretrained_model", str(tmp_path / "tiny.pth"), "--width", "192"]
    large_motion.main([*options, "--scenes", "drawn", "--window", "64", "--scale", "2"])
    still, alone, taken_out = capsys.readouterr().out.splitlines()[2:]
    assert "| same frames |" in still
    assert "| scale 1 |" in alone and "| 0.0%, 0.0% |" in alone
    assert "| scale auto |" in taken_out and "| 0.0%, 0.0% |" not in taken_out
    with pytest.raises(InputError, match=r"no other\.hdr or other\.exr"):
        large_motion.main([*options, "--scenes", "other"])


def test_people_walk_as_far_as_the_table_says() -> None:
    light = np.full((200, 300, 3), 0.1, np.float32)
    places = [large_motion.place_of(3, step, light.shape[:2])[0] for step in (-1, 0, 1)]
    assert places == [292, 252, 212]  # 400 pixels of 3000
    view, where = large_motion.with_people(light, 0, True)
    assert 0.03 < where.mean() < 0.15
    assert np.array_equal(view[~where], light[~where]) and (view[where] != 0.1).mean() > 0.9
    assert not large_motion.with_people(light, 0, False)[1].any()
