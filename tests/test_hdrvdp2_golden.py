"""HDR-VDP-2 against figures of the released version 2.2.2: every case, every stage."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests import golden_figures
from utils.hdrvdp2 import contrast, display, hdrvdp2, metric, numerics, pathway, pixels_per_degree, pooling, pyramid

GOLDEN = golden_figures.GOLDEN / "hdrvdp2"
IMAGES = dict(np.load(GOLDEN / "images.npz"))
CASES = {case["id"]: case for case in json.loads((GOLDEN / "golden.json").read_text())["cases"]}
SOURCES = ("test", "reference")

Case = dict[str, Any]


@pytest.fixture(params=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def image(case: Case, source: str) -> Tensor:
    x = torch.from_numpy(IMAGES[case[source]]).double() * case["scale"]
    return x if x.ndim == 2 else x.permute(2, 0, 1)


def close(ours: Tensor, theirs: Case, tolerance: float = 1e-9) -> None:
    """Compare an array with its statistics, relative to the largest value in it."""
    ours = ours.double()
    h, w = ours.shape
    found = {
        "mean": ours.mean(),
        "l2": ours.square().sum().sqrt(),
        "min": ours.min(),
        "max": ours.max(),
        "first": ours[0, 0],
        "centre": ours[h // 2, w // 2],
        "last": ours[-1, -1],
    }
    scale = max(abs(theirs["min"]), abs(theirs["max"]), 1e-12)
    for name, value in found.items():
        of = max(theirs["l2"], 1e-12) if name == "l2" else scale
        assert float(value) == pytest.approx(theirs[name], rel=tolerance, abs=tolerance * of), name


@dataclass
class Stages:
    """The metric run stage by stage."""

    surround: Tensor
    mask: Tensor
    matrix: Tensor
    retinal: dict[str, Tensor]
    receptors: dict[str, Tensor]
    transduced: dict[str, tuple[Tensor, Tensor, Tensor]]
    achromatic: Tensor
    luminance: Tensor
    bands: pyramid.Bands
    base: Tensor
    frequencies: list[float]


@lru_cache(maxsize=1)
def stages_of(name: str) -> Stages:
    case = CASES[name]
    options = case["options"]
    light = {}
    for source in SOURCES:
        x = image(case, source)
        light[source] = display.to_light(x if x.ndim == 3 else x[None], case["color_encoding"])
    channels, height, width = light["test"].shape
    around = display.surround(light["reference"], options.get("surround_l", 1e-5))
    matrix = pathway.emission_matrix(channels, options.get("rgb_display"))
    transfer = pathway.optical_transfer((height, width), case["ppd"])
    retinal = {s: pathway.retinal_image(light[s], around, transfer) for s in SOURCES}
    receptors = {s: pathway.spectral_response(retinal[s], matrix) for s in SOURCES}
    transduced = {s: pathway.photoreceptor_response(receptors[s], *pathway.transducers()) for s in SOURCES}
    achromatic = torch.stack([pathway.achromatic_response(*transduced[s]) for s in SOURCES])
    luminance = torch.stack([pathway.adapting_luminance(receptors[s]) for s in SOURCES])
    bands = pyramid.decompose(achromatic)
    frequencies = pyramid.band_frequencies(len(bands) - 2, case["ppd"])
    base = bands[-1][0]
    bands[-1] = [metric.weighted_base_band(base, luminance, frequencies[-1])]
    mask = contrast.difference_mask(light["test"], light["reference"])
    return Stages(around, mask, matrix, retinal, receptors, transduced, achromatic, luminance, bands, base, frequencies)


@pytest.fixture
def stages(case: Case) -> Stages:
    return stages_of(case["id"])


# Results


def test_result(case: Case) -> None:
    ours = hdrvdp2(
        image(case, "test"),
        image(case, "reference"),
        case["color_encoding"],
        case["ppd"],
        maps=True,
        **case["options"],
    )
    assert ours.P_det is not None and ours.C_max is not None and ours.C_map is not None and ours.P_map is not None
    assert pytest.approx(case["Q"], rel=1e-8) == ours.Q
    assert ours.P_det == pytest.approx(case["P_det"], abs=1e-6)
    assert ours.C_max == pytest.approx(case["C_max"], rel=1e-6, abs=1e-6)
    if case["C_max"] > 1e-6:
        assert ours.C_max == pytest.approx(case["C_max"], rel=1e-6)
        close(ours.C_map, case["stages"]["C_map"], 1e-6)
        close(ours.P_map, case["stages"]["P_map"], 1e-6)


def test_q_alone_is_the_same(case: Case) -> None:
    arguments = (image(case, "test"), image(case, "reference"), case["color_encoding"], case["ppd"])
    alone = hdrvdp2(*arguments, **case["options"])
    assert pytest.approx(case["Q"], rel=1e-8) == alone.Q
    assert alone.P_map is None and alone.C_max is None


def test_float32(case: Case) -> None:
    arguments = (image(case, "test"), image(case, "reference"), case["color_encoding"], case["ppd"])
    ours = hdrvdp2(*arguments, dtype=torch.float32, **case["options"])
    assert pytest.approx(case["Q"], rel=1e-5) == ours.Q


# Stages


def test_optical_and_retinal_pathway(case: Case, stages: Stages) -> None:
    golden = case["stages"]
    assert stages.matrix.tolist() == [pytest.approx(row, rel=1e-13) for row in golden["emission_to_LMSR_matrix"]]
    assert stages.surround.tolist() == pytest.approx(np.ravel(golden["surround"]).tolist(), rel=1e-12)
    assert int(stages.mask.sum()) == golden["diff_mask_count"]
    for i, source in enumerate(SOURCES):
        of = golden[source]
        for channel, theirs in zip(stages.retinal[source], of["L_O"], strict=True):
            close(channel, theirs)
        for receptor, theirs in zip(stages.receptors[source], of["R_LMS_rod"], strict=True):
            close(receptor, theirs)
        for response, theirs in zip(stages.transduced[source], of["P_L_M_rod"], strict=True):
            close(response, theirs)
        close(stages.achromatic[i], of["P"])
        assert float(stages.luminance[i].mean()) == pytest.approx(of["L_mean"], rel=1e-10)
    close(stages.luminance.mean(dim=0), golden["L_adapt"])


def test_multi_scale_decomposition(case: Case, stages: Stages) -> None:
    golden = case["stages"]
    assert stages.frequencies == pytest.approx(golden["band_freq"], rel=1e-12)
    assert [len(band) for band in stages.bands] == golden["orientations"]
    flat = [orientation for band in stages.bands for orientation in band]
    assert [list(pair.shape[-2:]) for pair in flat] == golden["band_sizes"]
    for i, source in enumerate(SOURCES):
        for pair, theirs in zip(flat, golden[source]["bands"], strict=True):
            close(pair[i], theirs)


def test_base_band(case: Case, stages: Stages) -> None:
    golden = case["stages"]
    size = (stages.base.shape[-2], stages.base.shape[-1])
    assert float(stages.base[1].mean()) == pytest.approx(golden["base_band_pad"], rel=1e-9, abs=1e-9)
    for i, source in enumerate(SOURCES):
        quarter = contrast.base_band_filter(size, stages.frequencies[-1], float(stages.luminance[i].mean()))
        close(whole(quarter), golden[source]["base_csf_filter"])
        close(stages.base[i], golden[source]["base_before_csf"])


def whole(quarter: Tensor) -> Tensor:
    """A filter on a whole FFT grid from its frequencies 0 to Nyquist."""
    rows = torch.cat([quarter, quarter[1:-1].flip(0)])
    return torch.cat([rows, rows[:, 1:-1].flip(1)], dim=1)


def test_contrast_masking_and_quality(case: Case, stages: Stages) -> None:
    golden = case["stages"]
    tables = [contrast.sensitivity_table(f).square().sum().sqrt() for f in stages.frequencies]
    assert [float(t) for t in tables] == pytest.approx(golden["csf_table_l2"], rel=1e-11)

    masking = [[contrast.mutual_masking(pair) for pair in band] for band in stages.bands]
    log_luminance = stages.luminance.mean(dim=0).log10()
    differences = metric.normalised_differences(stages.bands, stages.luminance, stages.frequencies)
    for row, (b, d0) in zip(golden["per_band"], differences, strict=True):
        o, n, size = row["orient"], 2.0 ** row["band"], d0.shape
        last = b == len(masking) - 1
        s = contrast.sensitivity(numerics.resize(log_luminance, size), stages.frequencies[b])
        gain = contrast.masking_gain(torch.ones_like(s) if last else s, n)
        xo, xn = contrast.across_orientations(masking[b], o), contrast.across_bands(masking, b, o)
        difference = stages.bands[b][o][0] - stages.bands[b][o][1]
        mask = numerics.resize(stages.mask, size)
        error = pooling.pooled_error(d0, mask)
        l2s = {
            "diff_l2": difference,
            "ex_l2": contrast.excitation(difference, n),
            "self_l2": masking[b][o],
            "xo_l2": xo,
            "xn_l2": xn,
            "N_mask_l2": contrast.masking_noise(masking[b][o], xo, xn, gain, n),
            "D0_l2": d0,
            "Dp_l2": d0 * mask,
        }
        found = {name: x.square().sum().sqrt() for name, x in l2s.items()} | {
            "csf_mean": s.mean(),
            "maskb_sum": mask.sum(),
            "e": error,
            "w": pooling.quality_weight(stages.frequencies[b]),
            "dQ": pooling.quality_loss(error, stages.frequencies[b]),
        }
        assert (row["band"], row["rows"], row["cols"]) == (b, *size)
        for name, value in found.items():
            assert float(value) == pytest.approx(row[name], rel=1e-8, abs=1e-11), (name, b, o)


def test_visibility(case: Case, stages: Stages) -> None:
    golden = case["stages"]
    visible: pyramid.Bands = [[] for _ in stages.bands]
    for b, d0 in metric.normalised_differences(stages.bands, stages.luminance, stages.frequencies):
        visible[b].append(contrast.psychometric(d0, 2.0**b)[None])
    flat = [orientation[0] for band in visible for orientation in band]
    for d, theirs in zip(flat, golden["D_bands"], strict=True):
        close(d, theirs, 1e-8)
    close(pyramid.reconstruct(visible)[0].abs(), golden["S_before_pooling"], 1e-8)


def test_whole_arrays_of_case_03() -> None:
    arrays, stages = np.load(GOLDEN / "stages_03.npz"), stages_of("03")
    visible = list(metric.normalised_differences(stages.bands, stages.luminance, stages.frequencies))
    ours = {
        "L_adapt": stages.luminance.mean(dim=0),
        "P_test": stages.achromatic[0],
        "P_ref": stages.achromatic[1],
        "BB_ref": stages.base[1],
        "diff_mask": stages.mask,
        **{f"band_ref_{b}_{o}": pair[1] for b in (3, 4) for o, pair in enumerate(stages.bands[b])},
    }
    for b in (2, 3, 4):
        of_band = [d0 for band, d0 in visible if band == b]
        ours |= {f"D_{b}_{o}": contrast.psychometric(d0, 2.0**b) for o, d0 in enumerate(of_band)}
    bands: pyramid.Bands = [[] for _ in stages.bands]
    for b, d0 in visible:
        bands[b].append(contrast.psychometric(d0, 2.0**b)[None])
    ours["S_raw"] = pyramid.reconstruct(bands)[0].abs()
    quarter = contrast.base_band_filter((12, 16), stages.frequencies[-1], float(stages.luminance[1].mean()))
    ours["csf_bb_ref"] = whole(quarter)
    assert set(ours) == set(arrays.files)
    for name, x in ours.items():
        scale = float(np.abs(arrays[name]).max())
        np.testing.assert_allclose(x.numpy(), arrays[name], rtol=2e-7, atol=2e-7 * scale, err_msg=name)


# Single functions


@pytest.fixture(scope="module")
def unit() -> dict[str, np.ndarray]:
    return dict(np.load(GOLDEN / "unit.npz"))


def test_pixels_per_degree(unit: dict[str, np.ndarray]) -> None:
    for (inches, width, height, metres), theirs in zip(unit["ppd_args"], unit["ppd_value"], strict=True):
        assert pixels_per_degree(inches, (width, height), metres) == pytest.approx(theirs, rel=1e-12)


def test_mtf(unit: dict[str, np.ndarray]) -> None:
    np.testing.assert_allclose(pathway.MTF_A, unit["mtf_a"].ravel(), rtol=1e-13)
    ours = pathway.optical_mtf(torch.from_numpy(unit["mtf_rho"]))
    np.testing.assert_allclose(ours.numpy(), unit["mtf_value"], rtol=1e-12)


def test_sensitivities(unit: dict[str, np.ndarray]) -> None:
    np.testing.assert_allclose(pathway.joint_sensitivity(unit["sens_la"]), unit["joint_sens"], rtol=1e-12)
    np.testing.assert_allclose(pathway.rod_sensitivity(unit["sens_la"]), unit["rod_sens"], rtol=1e-12)


def test_transducers(unit: dict[str, np.ndarray]) -> None:
    for name, table in zip(("cone", "rod"), pathway.transducers(), strict=True):
        np.testing.assert_allclose(table.numpy(), unit[f"jnd_{name}_lut"], rtol=1e-11)
        at = torch.from_numpy(np.log10(unit["jnd_la"]))
        ours = numerics.lookup(table, *pathway.LOG_RANGE, at)
        np.testing.assert_allclose(ours.numpy(), unit[f"jnd_{name}_at_la"], rtol=1e-11, atol=1e-12)


def test_lookup_holds_the_ends() -> None:
    table = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    x = torch.tensor([-9.0, 0.0, 0.25, 1.0, 1.5, 2.0, 9.0])
    assert numerics.lookup(table, 0.0, 2.0, x).tolist() == [1.0, 1.0, 1.25, 2.0, 3.0, 4.0, 4.0]


def test_ncsf(unit: dict[str, np.ndarray]) -> None:
    for luminance, theirs in zip(unit["ncsf_la"], unit["ncsf"].T, strict=True):
        ours = contrast.ncsf(torch.from_numpy(unit["ncsf_rho"]), float(luminance))
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-11, atol=1e-15)


def test_frequency_grid(unit: dict[str, np.ndarray]) -> None:
    ours = numerics.frequency_grid((10, 16), 30.0)
    np.testing.assert_allclose(ours.numpy(), unit["freq_grid_10x16_ppd30"][:6, :9], rtol=1e-13)


def test_resize(unit: dict[str, np.ndarray]) -> None:
    x = torch.from_numpy(unit["imresize_in"])
    for size in ((5, 3), (17, 10)):
        theirs = unit[f"imresize_to_{size[0]}x{size[1]}"]
        np.testing.assert_allclose(numerics.resize(x, size).numpy(), theirs, rtol=1e-12, atol=1e-13)
    assert numerics.resize(x, (9, 5)) is x


def test_filter_padded(unit: dict[str, np.ndarray]) -> None:
    x = torch.from_numpy(unit["fftconv_in"])
    ours = numerics.filter_padded(x, pathway.optical_transfer((9, 5), 30.0), 0.25)
    np.testing.assert_allclose(ours.numpy(), unit["fftconv_out_mtf_ppd30_pad0.25"], rtol=1e-12)


def test_pyramid(unit: dict[str, np.ndarray]) -> None:
    bands = pyramid.decompose(torch.from_numpy(unit["pyr_in"])[None])
    flat = [orientation for band in bands for orientation in band]
    assert len(flat) == sum(name.startswith("pyr_band_") for name in unit)
    for i, band in enumerate(flat):
        np.testing.assert_allclose(band[0].numpy(), unit[f"pyr_band_{i:02d}"], rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(pyramid.reconstruct(bands)[0].numpy(), unit["pyr_recon"], rtol=1e-11, atol=1e-13)
