"""python -m utils.hdrvdp2 TEST REFERENCE: the HDR-VDP-2 quality of one image file against another."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import utils.interrupts  # noqa: F401  (first, so that Ctrl-C is one line)
from utils import cli
from utils.files import InputError, atomic_path, user_path, writable_file
from utils.hdrvdp2.protocols import PROTOCOLS
from utils.hdrvdp2.settings import LOWEST_PPD, PEAK_RANGE, PPD_RANGE, RGB_ENCODINGS
from utils.images import check_finite, read_linear

if TYPE_CHECKING:
    from utils.hdrvdp2.metric import Result


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m utils.hdrvdp2", description=__doc__)
    parser.add_argument("test", type=user_path, help="the image to judge: .hdr, .exr, .npy or TIFF")
    parser.add_argument("reference", type=user_path, help="what it should look like")
    parser.add_argument(
        "--preset", choices=list(PROTOCOLS), default="safnet", help="whose setting (default: %(default)s)"
    )
    parser.add_argument("--encoding", choices=RGB_ENCODINGS, help="what the values mean, in place of the preset's")
    parser.add_argument(
        "--ppd", type=cli.within(*PPD_RANGE), help="pixels per degree, in place of the preset's display"
    )
    parser.add_argument(
        "--peak", type=cli.within(*PEAK_RANGE), help="multiply both images by this, in place of the preset's 1"
    )
    parser.add_argument("--rgbe", action="store_true", help="round both images as a .hdr file does (for .exr files)")
    parser.add_argument("--map", type=user_path, help="also write where a difference is seen, as a picture (.png)")
    parser.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
    return parser.parse_args()


def write_map(path: Path, result: Result, title: str) -> None:
    """The probability of detection per pixel as a picture with a colour bar."""
    from matplotlib.figure import Figure

    assert result.P_map is not None and result.P_det is not None
    height, width = result.P_map.shape
    shape = min(max(height / width, 0.4), 2.5)  # of the picture; the map keeps its own within it
    figure = Figure(figsize=(8.0, 8.0 * shape), dpi=150)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0), xticks=[], yticks=[])
    shown = axes.imshow(result.P_map.cpu().numpy(), vmin=0.0, vmax=1.0, cmap="inferno")
    axes.set_title(f"{title}\nQ = {result.Q:.4f}, P_det = {result.P_det:.4f}")
    bar = axes.inset_axes((1.02, 0.0, 0.03, 1.0))
    figure.colorbar(shown, cax=bar, label="probability of seeing a difference")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, bbox_inches="tight", pad_inches=0.1)


def main() -> None:
    args = arguments()
    if args.map is not None and args.map.suffix.lower() != ".png":
        raise InputError(f"--map {args.map}: give a name that ends in .png")
    if args.map is not None:
        writable_file(args.map, "--map")
    protocol = PROTOCOLS[args.preset].changed(encoding=args.encoding, ppd=args.ppd, peak=args.peak, rgbe=args.rgbe)
    device = cli.pick_device(args.device)
    import torch

    files = {path: check_finite(read_linear(path), path) for path in (args.test, args.reference)}
    images = [torch.from_numpy(files[path]).permute(2, 0, 1).to(device) for path in (args.test, args.reference)]
    try:
        result = protocol.compare(*images, maps=args.map is not None)
    except InputError as error:
        raise InputError(f"{args.test} against {args.reference}: {error}") from None
    print(protocol)
    height, width = images[1].shape[1:]
    print(f"pixels per degree: {protocol.pixels_per_degree(width, height):.4f}")
    if protocol.says_nothing(width, height):
        print(f"note: below {LOWEST_PPD:g} pixels per degree Q is high whatever the images show; --ppd sets another")
    print(f"Q = {result.Q:.6f}")
    if args.map is not None:
        print(f"P_det = {result.P_det:.6f}, C_max = {result.C_max:.6g}")
        write_map(args.map, result, f"{args.test.name} against {args.reference.name}")
        print(f"map: {args.map}")


if __name__ == "__main__":
    cli.run(main)
