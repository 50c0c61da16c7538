"""The benchmarks' table says what was measured."""

from __future__ import annotations

import pytest
import torch

from benchmarks import all as benchmark
from benchmarks import inference
from benchmarks.inference import table
from benchmarks.profiles import profile_table, profiled


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
