"""The command-line options by which metrics and their protocols are chosen. Without torch."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from utils.cli import within
from utils.evaluation.pu21 import DEFAULT_PEAK, PU21
from utils.files import InputError
from utils.hdrvdp2 import PROTOCOLS, Protocol
from utils.hdrvdp2.settings import PEAK_RANGE, PPD_RANGE, RGB_ENCODINGS

if TYPE_CHECKING:
    from utils.evaluation.scoring import Scoring


def add_metric_options(parser: argparse.ArgumentParser, metrics: list[str]) -> None:
    """``--metrics``, by default ``metrics``, ``--pu_peak``, and how HDR-VDP-2 is called."""
    group = parser.add_argument_group("metrics")
    add = group.add_argument
    add("--metrics", nargs="+", choices=["paper", "pu21"], default=metrics, help="default: " + " ".join(metrics))
    add("--pu_peak", type=within(*PEAK_RANGE), default=DEFAULT_PEAK, help="PU21: cd/m2 of the value 1 (%(default)g)")
    vdp = parser.add_argument_group("HDR-VDP-2")
    vdp.add_argument("--vdp", choices=[*PROTOCOLS, "none"], default="safnet", help="whose way of calling it")
    vdp.add_argument("--vdp_encoding", choices=RGB_ENCODINGS, help="what the values mean to the metric")
    vdp.add_argument("--vdp_ppd", type=within(*PPD_RANGE), help="pixels per degree")
    vdp.add_argument("--vdp_peak", type=within(*PEAK_RANGE), help="both images are multiplied by it")
    vdp.add_argument("--vdp_rgbe", action="store_true", help="round both images as a .hdr file does, first")


def choose_vdp(args: argparse.Namespace) -> Protocol | None:
    """A named protocol, changed by the single flags; None without HDR-VDP-2, which is one of the paper's metrics."""
    if args.vdp == "none" or "paper" not in args.metrics:
        return None
    return PROTOCOLS[args.vdp].changed(
        encoding=args.vdp_encoding, ppd=args.vdp_ppd, peak=args.vdp_peak, rgbe=args.vdp_rgbe
    )


def choose_scoring(args: argparse.Namespace, *, maps: bool = False) -> Scoring:
    """The metrics that the options name. Raises InputError for ``maps`` without the metric that makes them."""
    from utils.evaluation.scoring import Scoring

    vdp = choose_vdp(args)
    if maps and vdp is None:
        raise InputError("--vdp_map: there is no map without HDR-VDP-2; choose --vdp and --metrics paper")
    pu = PU21(args.pu_peak) if "pu21" in args.metrics else None
    return Scoring("paper" in args.metrics, vdp, pu, maps)
