"""The network against golden figures of the authors' implementation and against the plain reference."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.plain_afunet import PlainAFUNet, kept_mask, position_index
from models import AFUNet, AFUNetConfig
from models.afunet import _gram
from tests.golden_figures import GOLDEN, golden_case, golden_model, golden_tensor
from utils.checkpoint import official_of

CASES = {"square": 4, "batch": 4, "odd": 4, "stages2": 2, "stages6": 6}
VARIANTS = [
    AFUNetConfig(stages=2, without=("sam",)),
    AFUNetConfig(stages=2, without=("cfm",)),
    AFUNetConfig(stages=2, without=("dcm",)),
    AFUNetConfig(stages=1, without=("sam", "cfm", "dcm")),
    AFUNetConfig(stages=2, order="fa"),
    AFUNetConfig(stages=2, order="fa", without=("cfm",)),
]


def variant_model(config: AFUNetConfig) -> AFUNet:
    """A model of any configuration with weights by the golden rule."""
    model = AFUNet(config).eval()
    for key, value in model.state_dict().items():
        value.copy_(golden_tensor(official_of(key), tuple(value.shape)))
    return model


@pytest.mark.parametrize("case", CASES)
def test_forward_agrees_with_the_authors(case: str) -> None:
    model = golden_model(CASES[case])
    x, wanted = golden_case(case)
    with torch.inference_mode():
        assert (model(x).double() - wanted).abs().max() < 2e-5
        assert (model.double()(x.double()) - wanted).abs().max() < 1e-9


def test_intermediates_agree_with_the_authors() -> None:
    wanted = json.loads((GOLDEN / "intermediates.json").read_text())
    model = golden_model().double()
    for case, figures in wanted.items():
        seen = intermediates(model, golden_case(case)[0].double())
        assert seen.keys() == figures.keys()
        for name, figure in figures.items():
            value = seen[name]
            found = [value.mean(), value.std(), *value[0, 0, 0, :4]]
            meant = [figure["mean"], figure["std"], *figure["first"]]
            assert [float(f) for f in found] == pytest.approx(meant, abs=1e-8), f"{case} {name}"


def intermediates(model: AFUNet, x: Tensor) -> dict[str, Tensor]:
    """The maps that the golden file knows, caught where the modules make them."""
    seen: dict[str, Tensor] = {}

    def catch(name: str, minus: int | None = None):
        def hook(module, inputs, output):
            output = torch.cat(output, dim=-1) if isinstance(output, tuple) else output
            seen[name] = output if minus is None else output - inputs[minus]

        return hook

    for t, stage in enumerate(model.stages):
        stage.sam1.register_forward_hook(catch(f"stage{t}.sam_under"))
        stage.sam3.register_forward_hook(catch(f"stage{t}.sam_over"))
        stage.sfm.register_forward_hook(catch(f"stage{t}.sfm"))
        stage.cfm_u.register_forward_hook(catch(f"stage{t}.cfm_under", minus=0))
        stage.cfm_v.register_forward_hook(catch(f"stage{t}.cfm_over", minus=0))
        stage.dcm.register_forward_hook(catch(f"stage{t}.dcm"))
        stage.register_forward_hook(lambda m, i, output, t=t: seen.update({f"stage{t}.stage": output[0]}))
    with torch.inference_mode():
        model(x)
    return seen


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_agree_with_the_authors(checkpointing: bool) -> None:
    wanted = json.loads((GOLDEN / "gradients.json").read_text())
    model = golden_model().double()
    if checkpointing:  # recomputation happens in training only; without stochastic depth the figures are the same
        model = AFUNet(AFUNetConfig(drop_path=0.0), checkpointing=True).double().train()
        model.load_state_dict(golden_model().state_dict())
    weights = torch.from_numpy(np.random.RandomState(99).standard_normal((1, 3, 64, 64)))
    (model(golden_case("square")[0].double()) * weights).sum().backward()
    found = {official_of(key): value.grad for key, value in model.named_parameters()}
    assert found.keys() == wanted.keys()
    for key, figure in wanted.items():
        scale = figure["norm"]
        assert float(found[key].norm()) == pytest.approx(scale, rel=1e-7), key
        assert float(found[key].sum()) == pytest.approx(figure["sum"], abs=1e-7 * max(scale, abs(figure["sum"]))), key


@pytest.mark.parametrize("size", [(8, 8), (8, 16), (9, 15), (13, 40), (40, 40), (40, 41), (77, 24)])
def test_every_size_agrees_with_the_plain_reference(size: tuple[int, int]) -> None:
    model = golden_model(2).double()
    x = torch.rand(2, 18, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert (model(x) - PlainAFUNet(model)(x)).abs().max() < 1e-9


@pytest.mark.parametrize("config", VARIANTS, ids=str)
def test_variants_agree_with_the_plain_reference(config: AFUNetConfig) -> None:
    model = variant_model(config).double()
    x = torch.rand(1, 18, 21, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        assert (model(x) - PlainAFUNet(model)(x)).abs().max() < 1e-9


@pytest.mark.parametrize("config", [AFUNetConfig(), *VARIANTS], ids=str)
def test_every_parameter_of_every_variant_gets_a_gradient(config: AFUNetConfig) -> None:
    model = variant_model(config).train()
    model(torch.rand(1, 18, 16, 16)).sum().backward()
    idle = [key for key, value in model.named_parameters() if value.grad is None]
    assert not idle


def test_reference_agrees_with_the_authors() -> None:
    x, wanted = golden_case("batch")
    reference = PlainAFUNet(golden_model().double(), masks="rebuilt")
    with torch.inference_mode():
        assert (reference(x.double()) - wanted).abs().max() < 1e-9


def test_what_the_reference_keeps_in_inference_serves_a_training_too() -> None:
    position_index.cache_clear()
    kept_mask.cache_clear()
    reference, x = PlainAFUNet(golden_model(1)), torch.rand(1, 18, 16, 16)
    with torch.inference_mode():
        reference(x)
    reference(x).sum().backward()
    assert kept_mask.cache_info().hits and position_index.cache_info().hits


def test_a_sum_over_pixels_may_be_made_in_parts() -> None:
    """As on a GPU."""
    q, k = torch.randn(2, 3, 2, 60, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert (_gram(q, k, 5) - q.transpose(-1, -2) @ k).abs().max() < 1e-13


def test_wrong_configurations_are_refused() -> None:
    for wrong in ({"stages": 0}, {"without": ("sfm",)}, {"order": "fusion"}):
        with pytest.raises(ValueError):
            AFUNetConfig(**wrong)


def test_the_parameter_count_is_the_published_one() -> None:
    unused = 48  # patch_embed_div3.norm, which the released network never calls
    assert sum(p.numel() for p in AFUNet().parameters()) + unused == 1_162_035


def test_stochastic_depth_has_the_published_rates() -> None:
    model = AFUNet()
    found = [block.drop_path.rate for stage in model.stages for block in stage.sfm.blocks]
    assert found == pytest.approx([0.1 * i / 19 for i in range(20)])
    assert [stage.sam1.drop_path.rate for stage in model.stages] == pytest.approx([0.1 * t / 5 for t in range(4)])


def test_stochastic_depth_drops_whole_samples_and_keeps_the_mean() -> None:
    drop = AFUNet().stages[3].sfm.blocks[4].drop_path.train()
    torch.manual_seed(0)
    out = drop(torch.ones(4000, 2, 3))
    assert out.unique().tolist() == pytest.approx([0.0, 1 / 0.9])
    assert (out == out[:, :1, :1]).all()
    assert out.mean() == pytest.approx(1.0, abs=0.02)


def test_under_autocast_the_last_layer_is_not_rounded() -> None:
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert golden_model(1)(torch.rand(1, 18, 16, 16)).dtype == torch.float32


def test_too_small_an_image_is_refused() -> None:
    with pytest.raises(ValueError, match="7x16 pixels are fewer than a window"):
        AFUNet(AFUNetConfig(stages=1))(torch.rand(1, 18, 7, 16))


def test_a_part_left_out_twice_is_left_out_once() -> None:
    assert AFUNetConfig(without=("sam", "sam")) == AFUNetConfig(without=("sam",))


def test_half_precision_stays_finite_on_bright_maps() -> None:
    model = golden_model(2)
    x = torch.rand(1, 18, 64, 64) * torch.tensor([4.0, 1.0]).repeat_interleave(3).repeat(3)[:, None, None]
    with torch.inference_mode():
        wanted = model(x)
        for dtype, tolerance in ((torch.bfloat16, 0.1), (torch.float16, 0.02)):
            with torch.autocast("cpu", dtype):
                found = model(x)
            assert found.isfinite().all()
            assert (found.float() - wanted).abs().max() < tolerance


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiles_into_one_graph(dynamic: bool) -> None:
    model = golden_model(1)
    compiled = torch.compile(model, fullgraph=True, dynamic=dynamic, backend="eager")
    for size in ((24, 32), (40, 51)) if dynamic else ((24, 32),):
        x = torch.rand(1, 18, *size)
        with torch.inference_mode():
            assert (compiled(x) - model(x)).abs().max() < 1e-5
