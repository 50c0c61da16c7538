"""HDR-VDP-2 beyond the golden figures: bad input, defined values, protocols, the command."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from utils import cli
from utils.exr import write_exr
from utils.files import InputError
from utils.hdrvdp2 import PROTOCOLS, Display, Protocol, display, hdrvdp2, pathway, pixels_per_degree, pyramid
from utils.hdrvdp2 import __main__ as command
from utils.hdrvdp2.settings import ENCODINGS
from utils.images import read_hdr, rgbe_round, write_hdr


def noisy_pair(*shape: int) -> tuple[Tensor, Tensor]:
    """A random test and reference in (0, 1), float64."""
    generator = torch.Generator().manual_seed(1)
    reference = 0.1 + 0.8 * torch.rand(*shape, generator=generator, dtype=torch.float64)
    return reference * (1.0 + 0.1 * torch.rand(*shape, generator=generator, dtype=torch.float64)), reference


# Bad input


def test_shapes_that_differ() -> None:
    with pytest.raises(InputError, match=r"\(3, 32, 40\) and reference \(3, 32, 41\)"):
        hdrvdp2(torch.ones(3, 32, 40), torch.ones(3, 32, 41), "sRGB-display", 30.0)


@pytest.mark.parametrize("shape", [(32,), (1, 3, 32, 32)])
def test_shapes_that_are_no_image(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="is no image"):
        hdrvdp2(torch.ones(shape), torch.ones(shape), "luminance", 30.0)


@pytest.mark.parametrize(
    ("channels", "encoding"), [(2, "sRGB-display"), (2, "luminance"), (1, "rgb-bt.709"), (3, "luma-display")]
)
def test_channels_the_encoding_does_not_take(channels: int, encoding: str) -> None:
    image = torch.ones(channels, 32, 32)
    with pytest.raises(InputError, match=rf"{channels} channel\(s\) where {encoding} takes"):
        hdrvdp2(image, image, encoding, 30.0)


def test_unknown_encoding() -> None:
    image = torch.ones(3, 32, 32)
    with pytest.raises(InputError, match="'sRGB' is unknown; choose one of luminance, luma-display, sRGB-display"):
        hdrvdp2(image, image, "sRGB", 30.0)


@pytest.mark.parametrize("which", ["test", "reference"])
def test_infinite_pixels(which: str) -> None:
    images = {"test": torch.ones(32, 32), "reference": torch.ones(32, 32)}
    images[which][3, 4], images[which][5, 6] = float("inf"), float("nan")
    with pytest.raises(InputError, match=f"the {which} image has infinite pixels"):
        hdrvdp2(**images, color_encoding="luminance", pixels_per_degree=30.0)


@pytest.mark.parametrize("size", [(14, 60), (60, 14), (1, 1)])
def test_image_smaller_than_the_filters(size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="fewer than the pyramid's filters: 15x15 at least"):
        hdrvdp2(torch.ones(size), torch.ones(size), "luminance", 30.0)


@pytest.mark.parametrize("ppd", [0.0, -3.0, float("nan"), float("inf")])
def test_pixels_per_degree_must_be_positive(ppd: float) -> None:
    with pytest.raises(InputError, match="pixels per degree"):
        hdrvdp2(torch.ones(32, 32), torch.ones(32, 32), "luminance", ppd)


def test_display_that_cannot_be() -> None:
    with pytest.raises(InputError, match="all must be above 0"):
        pixels_per_degree(24, (0, 1000), 0.5)


@pytest.mark.parametrize(("channels", "name"), [(3, "oled"), (3, "d65"), (1, "oled")])
def test_unknown_display(channels: int, name: str) -> None:
    image = torch.ones(channels, 32, 32)
    with pytest.raises(InputError, match="choose one of ccfl-lcd, crt, led-lcd"):
        hdrvdp2(image, image, "luminance" if channels == 1 else "XYZ", 30.0, rgb_display=name)


def test_surround_of_another_number_of_channels() -> None:
    image = torch.ones(3, 32, 32)
    with pytest.raises(InputError, match=r"2 values for 3 channel\(s\)"):
        hdrvdp2(image, image, "rgb-bt.709", 30.0, surround_l=[1.0, 2.0])


@pytest.mark.parametrize("value", [-1.0, float("nan")])
def test_no_geometric_mean(value: float) -> None:
    image = torch.ones(3, 32, 32)
    image[1, 2, 3] = value
    with pytest.raises(InputError, match="no geometric mean"):
        hdrvdp2(image, image, "rgb-bt.709", 30.0, surround_l=-1)


# Defined values


def test_nan_is_dark_and_no_difference() -> None:
    test, reference = noisy_pair(40, 40)
    dark = test.clone()
    test[20, 20], dark[20, 20] = float("nan"), pathway.NAN_LIGHT
    ours, counted = (hdrvdp2(x, reference, "luminance", 30.0, maps=True) for x in (test, dark))
    assert ours.P_map is not None and counted.P_map is not None
    assert torch.equal(ours.P_map, counted.P_map)  # seen alike
    assert counted.Q < ours.Q < 100.0  # but left out of Q


def test_nan_everywhere() -> None:
    nothing = torch.full((3, 32, 32), float("nan"))
    assert hdrvdp2(nothing, nothing, "sRGB-display", 30.0).Q == 100.0


@pytest.mark.parametrize("value", [0.0, 1e-4, 0.5, 1.0, 2.0])
def test_constant_images(value: float) -> None:
    image = torch.full((3, 32, 48), value)
    same = hdrvdp2(image, image, "sRGB-display", 30.0, maps=True)
    assert same.Q == 100.0 and same.P_det == pytest.approx(0.0, abs=1e-12)
    other = hdrvdp2(image + 0.5, image, "sRGB-display", 30.0, maps=True)
    assert other.Q < 100.0 and other.P_det is not None and 0.0 <= other.P_det <= 1.0


@pytest.mark.parametrize("encoding", list(ENCODINGS))
def test_identical_images(encoding: str) -> None:
    _, image = noisy_pair(ENCODINGS[encoding], 33, 50)
    assert hdrvdp2(image, image.clone(), encoding, 30.0).Q == 100.0


@pytest.mark.parametrize("size", [(15, 15), (16, 40), (17, 17)])
def test_smallest_images(size: tuple[int, int]) -> None:
    test, reference = noisy_pair(*size)
    ours = hdrvdp2(test * 100, reference * 100, "luminance", 30.0, maps=True)
    assert 0.0 < ours.Q < 100.0 and ours.P_det is not None and 0.0 < ours.P_det <= 1.0


def test_more_noise_is_worse() -> None:
    test, reference = noisy_pair(3, 48, 64)
    qualities = [
        hdrvdp2(reference + k * (test - reference), reference, "sRGB-display", 30.0).Q for k in (0.1, 0.3, 1.0)
    ]
    assert qualities == sorted(qualities, reverse=True)


def test_forms_of_input() -> None:
    test, reference = noisy_pair(40, 40)
    q = hdrvdp2(test, reference, "luma-display", 30.0).Q
    assert q == hdrvdp2(test[None], reference[None], "LUMA-Display", 30.0).Q
    strided = hdrvdp2(test.t().contiguous().t(), reference, "luma-display", 30.0).Q
    assert strided == pytest.approx(q, rel=1e-12)
    integers = (test * 50).int()
    q = hdrvdp2(integers.double(), reference * 50, "luminance", 30.0).Q
    assert q == hdrvdp2(integers, reference * 50, "luminance", 30.0).Q


def test_input_is_left_alone() -> None:
    for encoding, channels in ENCODINGS.items():
        test, reference = noisy_pair(channels, 32, 32)
        kept = test.clone(), reference.clone()
        hdrvdp2(test, reference, encoding, 30.0, maps=True)
        assert torch.equal(test, kept[0]) and torch.equal(reference, kept[1])


def test_encodings() -> None:
    values = torch.tensor([-0.1, 0.0, 0.04, 0.5, 1.0, 2.0], dtype=torch.float64).expand(3, 1, 6)
    srgb = display.to_light(values, "srgb-DISPLAY")[0, 0]
    expected = [-0.1 / 12.92, 0.0, 0.04 / 12.92, *(((v + 0.055) / 1.055) ** 2.4 for v in (0.5, 1.0, 2.0))]
    assert srgb.tolist() == pytest.approx([99 * v + 1 for v in expected], rel=1e-13)
    luma = display.to_light(values[:1, :, 1:], "luma-display")[0, 0]
    assert luma.tolist() == pytest.approx([99 * v**2.2 + 1 for v in (0.0, 0.04, 0.5, 1.0, 2.0)], rel=1e-13)


def test_one_channel_on_a_named_display() -> None:
    three, one = pathway.emission_matrix(3, "crt"), pathway.emission_matrix(1, "crt")
    assert torch.equal(one, three.sum(dim=0, keepdim=True))


def test_options_change_the_result() -> None:
    test, reference = (x * 50 for x in noisy_pair(3, 40, 40))
    plain = hdrvdp2(test, reference, "rgb-bt.709", 30.0).Q
    assert plain < hdrvdp2(test, reference, "rgb-bt.709", 30.0, peak_sensitivity=2.0).Q
    assert plain != hdrvdp2(test, reference, "rgb-bt.709", 30.0, rod_sensitivity=0.5).Q
    each = hdrvdp2(test, reference, "rgb-bt.709", 30.0, surround_l=[7.0, 7.0, 7.0]).Q
    assert each == hdrvdp2(test, reference, "rgb-bt.709", 30.0, surround_l=7.0).Q != plain


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_on_a_gpu() -> None:
    test, reference = noisy_pair(3, 65, 49)
    cpu = hdrvdp2(test, reference, "sRGB-display", 30.0, maps=True)
    gpu = hdrvdp2(test.cuda(), reference.cuda(), "sRGB-display", 30.0, maps=True)
    assert pytest.approx(cpu.Q, rel=1e-8) == gpu.Q
    assert gpu.C_max == pytest.approx(cpu.C_max, rel=1e-6)


# The pyramid against correlation written out


def correlate(image: np.ndarray, taps: np.ndarray) -> np.ndarray:
    margin = taps.shape[0] // 2
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(image, margin, mode="reflect"), taps.shape)
    return np.einsum("hwyx,yx->hw", windows, taps)


@pytest.mark.parametrize("size", [(15, 15), (16, 33), (17, 34), (35, 150), (64, 51)])
def test_pyramid_is_plain_correlation(size: tuple[int, int]) -> None:
    pair = torch.stack(noisy_pair(*size)) - 0.5
    bands, taps = pyramid.decompose(pair), pyramid.filters()
    for i, image in enumerate(pair.numpy()):
        low = correlate(image, taps.low0.numpy())
        expected = [[correlate(image, taps.high0.numpy())]]
        for _ in range(pyramid.height(size)):
            expected.append([correlate(low, band) for band in taps.bands.numpy()])
            low = correlate(low, taps.low.numpy())[::2, ::2]
        expected.append([low])
        assert [len(band) for band in bands] == [len(band) for band in expected]
        for ours, theirs in zip(bands, expected, strict=True):
            for x, y in zip(ours, theirs, strict=True):
                np.testing.assert_allclose(x[i].numpy(), y, rtol=0, atol=1e-14)


def test_low_pass_filters_are_symmetric() -> None:
    """One spectrum serves a whole level only because of this."""
    for taps in (pyramid.filters().low0, pyramid.filters().low):
        assert torch.equal(taps, taps.flip(0)) and torch.equal(taps, taps.flip(1))


# Protocols


def test_protocols_call_the_metric_as_published() -> None:
    test, reference = noisy_pair(3, 40, 60)
    own = {name: protocol.score(test, reference) for name, protocol in PROTOCOLS.items()}
    ppd = pixels_per_degree(28, (60, 40), 0.55)
    assert own["safnet"] == hdrvdp2(test, reference, "sRGB-display", ppd).Q
    assert own["sctnet"] == hdrvdp2(test, reference, "sRGB-display", 23.787357547725867).Q
    ppd = pixels_per_degree(24, (60, 40), 0.5)
    assert own["selfhdr"] == hdrvdp2(reference, test, "sRGB-display", ppd).Q
    assert own["deephdrvideo"] == hdrvdp2(test, reference, "sRGB-display", ppd).Q


def test_pixels_per_degree_of_the_presets() -> None:
    expected = {"safnet": 25.3423652, "sctnet": 23.7873575, "selfhdr": 26.7626965, "deephdrvideo": 26.7626965}
    assert {name: p.pixels_per_degree(1500, 1000) for name, p in PROTOCOLS.items()} == pytest.approx(expected, rel=1e-8)
    assert PROTOCOLS["sctnet"].pixels_per_degree(300, 200) == pytest.approx(23.7873575, rel=1e-8)
    assert PROTOCOLS["safnet"].pixels_per_degree(300, 200) < 10.0


def test_custom_protocol() -> None:
    test, reference = noisy_pair(3, 40, 60)
    custom = Protocol("lab", "rgb-bt.709", viewing=30.0, peak=1000.0)
    assert custom.score(test, reference) == hdrvdp2(test * 1000, reference * 1000, "rgb-bt.709", 30.0).Q
    swapped = replace(custom, swapped=True).score(test, reference)
    assert swapped == hdrvdp2(reference * 1000, test * 1000, "rgb-bt.709", 30.0).Q
    with pytest.raises(InputError, match="peak -1"):
        replace(custom, peak=-1.0)


def test_rounding_through_rgbe() -> None:
    _, label = noisy_pair(3, 40, 60)
    protocol = replace(PROTOCOLS["sctnet"], rgbe=True)
    rounded = torch.from_numpy(rgbe_round(label.permute(1, 2, 0).float().numpy())).permute(2, 0, 1)
    assert protocol.score(label, rounded) == 100.0
    assert PROTOCOLS["sctnet"].score(label, rounded) < 99.9


def test_description_is_json_and_complete() -> None:
    for name, protocol in PROTOCOLS.items():
        facts = json.loads(json.dumps(protocol.describe()))
        assert facts["protocol"] == name and facts["version"] == "2.2.2"
        assert set(facts) == {
            "protocol", "version", "color_encoding", "pixels_per_degree", "peak", "order", "rgbe", "source"
        }  # fmt: skip
        assert name in str(protocol) and "sRGB-display" in str(protocol)
    assert PROTOCOLS["selfhdr"].describe()["order"] == "label, prediction"
    assert PROTOCOLS["sctnet"].describe()["pixels_per_degree"] == "30 inch, 1500 x 1000 pixels, seen from 0.55 m"
    assert Protocol("own", viewing=12.5).describe()["pixels_per_degree"] == 12.5
    assert str(Display(24, 0.5)) == "24 inch, image size, seen from 0.5 m"


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("which", ["prediction", "label"])
def test_a_protocol_refuses_what_is_no_number(which: str, value: float) -> None:
    images = {"prediction": torch.rand(3, 32, 32), "label": torch.rand(3, 32, 32)}
    images[which][0, 3, 4] = value
    with pytest.raises(InputError, match=f"the {which} holds NaN or infinite values"):
        PROTOCOLS["sctnet"].score(**images)


def test_small_images_say_nothing_unless_pixels_per_degree_are_chosen() -> None:
    assert PROTOCOLS["safnet"].says_nothing(width=384, height=256)
    assert not PROTOCOLS["safnet"].says_nothing(width=1500, height=1000)
    assert not PROTOCOLS["sctnet"].says_nothing(width=384, height=256)  # its display is 1500x1000 whatever the image
    assert not PROTOCOLS["safnet"].changed(ppd=5.0).says_nothing(width=384, height=256)


# The command


def run_command(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["hdrvdp2", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.run(command.main)
    return 0 if stop.value.code is None else int(stop.value.code)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "test.hdr", tmp_path / "reference.exr"
    for path, image, write in zip(paths, noisy_pair(3, 40, 60), (write_hdr, write_exr), strict=True):
        write(path, image.permute(1, 2, 0).numpy())
    return paths


def test_command(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(monkeypatch, *files, "--preset", "sctnet", "--map", tmp_path / "map.png") == 0
    printed = capsys.readouterr().out
    images = [torch.from_numpy(read_hdr(path)).permute(2, 0, 1) for path in files]
    assert f"Q = {PROTOCOLS['sctnet'].score(*images):.6f}" in printed
    assert "sctnet" in printed and "pixels per degree: 23.7874" in printed and "P_det = " in printed
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


def test_command_with_own_setting(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ("--encoding", "rgb-bt.709", "--ppd", "30", "--peak", "1000", "--rgbe")
    assert run_command(monkeypatch, *files, *own) == 0
    images = [torch.from_numpy(read_hdr(path)).permute(2, 0, 1) for path in files]
    expected = Protocol("own", "rgb-bt.709", 30.0, 1000.0, rgbe=True).score(*images)
    printed = capsys.readouterr().out
    assert f"Q = {expected:.6f}" in printed and "safnet, changed" in printed and "rounded to RGBE" in printed


def test_a_changed_protocol_no_longer_cites_the_published_one() -> None:
    published = PROTOCOLS["sctnet"]
    assert published.changed() is published
    assert published.changed(peak=1.0, encoding="sRGB-display") is published  # nothing differs
    changed = published.changed(ppd=50.0)
    assert changed.describe()["protocol"] == "sctnet, changed" and changed.describe()["pixels_per_degree"] == 50.0
    assert changed.describe()["source"] == "custom, after sctnet"
    assert changed.color_encoding == published.color_encoding and changed.swapped == published.swapped
    for wrong in ({"ppd": 0.0}, {"peak": float("nan")}):
        with pytest.raises(InputError):
            published.changed(**wrong)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("place", [0, 1])
def test_command_names_the_file_that_holds_no_numbers(
    place: int, value: float, files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = read_hdr(files[0])
    image[3:5, 4] = value
    bad, pair = tmp_path / "bad.exr", list(files)
    write_exr(bad, image)
    pair[place] = bad
    monkeypatch.setattr(sys, "argv", ["hdrvdp2", *map(str, pair)])
    with pytest.raises(
        InputError, match=r"bad\.exr: 2 of 2400 pixels are NaN or infinite, the first in row 3, column 4"
    ):
        command.main()


def test_command_notes_that_small_images_score_high(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(monkeypatch, *files) == 0
    assert "note: below 20 pixels per degree Q is high" in capsys.readouterr().out
    assert run_command(monkeypatch, *files, "--ppd", "10") == 0
    assert "note" not in capsys.readouterr().out


def test_command_with_bad_input(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = tmp_path / "small.hdr"
    write_hdr(small, np.ones((10, 10, 3)))
    cases = [
        ((files[0], tmp_path / "none.hdr"), "none.hdr: cannot be read"),
        ((files[0], small), "small.hdr: test (3, 40, 60) and reference (3, 10, 10) differ"),
        ((small, small), "10x10 pixels are fewer than the pyramid's filters"),
        ((*files, "--map", tmp_path / "map.txt"), "give a name that ends in .png"),
    ]
    before = sorted(tmp_path.iterdir())
    for arguments, message in cases:
        assert run_command(monkeypatch, *arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before
    for option, limits in (("--ppd", "1 to 10000"), ("--peak", "1e-06 to 1e+10")):
        assert run_command(monkeypatch, *files, option, "0") == 2
        assert f"argument {option}: '0' is not a number from {limits}" in capsys.readouterr().err
