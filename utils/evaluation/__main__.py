"""python -m utils.evaluation PREDICTION LABEL: every metric of one image file against another, with its protocol."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from utils import cli
from utils.evaluation.options import add_metric_options, choose_scoring
from utils.evaluation.predictions import misshapen
from utils.files import InputError, user_path
from utils.images import check_finite, read_linear

if TYPE_CHECKING:
    import numpy as np

    from utils.evaluation.scoring import Scoring


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m utils.evaluation", description=__doc__)
    parser.add_argument("prediction", type=user_path, help="the image to judge: .hdr, .exr, .npy or TIFF, linear")
    parser.add_argument("label", type=user_path, help="the ground truth")
    parser.add_argument("--scale_to_label", action="store_true", help="fit one factor to the label first")
    parser.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
    add_metric_options(parser, ["paper", "pu21"])
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = arguments(argv)
    prediction, label = (check_finite(read_linear(path), path) for path in (args.prediction, args.label))
    if prediction.shape != label.shape:
        sizes = [(image.shape[0], image.shape[1]) for image in (prediction, label)]
        raise InputError(f"{args.prediction}: {misshapen(*sizes)}")
    device = cli.pick_device(args.device)
    import torch

    from utils.evaluation.scale import fit_scale, remark
    from utils.evaluation.tables import rounded

    factor = fit_scale(prediction, label) if args.scale_to_label else 1.0
    scoring = choose_scoring(args)
    pair = [torch.from_numpy(image).permute(2, 0, 1).to(device) for image in (prediction * factor, label)]
    for name, figure in scoring.score(*pair).metrics.items():
        print(f"{name:9} {rounded(name, figure):>8}")
    if args.scale_to_label:
        print(f"The prediction was multiplied by {factor:.6g}, the factor that fits the label best (least squares).")
    elif words := remark(prediction, label):
        print(f"note: {words}; --scale_to_label fits a factor")
    print("\n".join(protocols(scoring, label)))


def protocols(scoring: Scoring, label: np.ndarray) -> list[str]:
    """How the figures were computed, and why one is missing."""
    lines = [str(scoring.vdp)] if scoring.vdp else []
    if scoring.vdp and scoring.vdp.says_nothing(width=label.shape[1], height=label.shape[0]):
        ppd = scoring.ppd(width=label.shape[1], height=label.shape[0])
        lines.append(f"HDR-VDP-2 was left out: {ppd:.1f} pixels per degree are too few; --vdp_ppd sets another number")
    return [*lines, *([str(scoring.pu)] if scoring.pu else [])]


if __name__ == "__main__":
    cli.run(main)
