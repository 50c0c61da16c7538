"""Your own photographs: a bracket in, an HDR image out.

python predict.py a.jpg b.jpg c.jpg
python predict.py folder_of_brackets --compare

Exposures come from EXIF, from --ev or --times, or from an exposure.txt beside the files; the order doesn't matter.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields
from typing import get_args

import utils.interrupts  # noqa: F401  (first, so that Ctrl-C is one line)
from utils.choices import Gamut, Mode, Operator, Way
from utils.cli import checked, existing_file, pick_device, positive, run, threads
from utils.files import InputError, existing_paths, user_path, writable_folder
from utils.photographs.settings import FORMATS, PREVIEWS, Settings
from utils.shipped import SHIPPED, SHIPPED_FACTS, is_shipped
from utils.threads import set_threads

NO_WEIGHTS = (
    "give the authors' checkpoint (Kalantari.pth, linked from https://github.com/eezkni/AFUNet) or your own from "
    "train.py; without this option the weights in pretrain_model/ are taken, which come with the code"
)
DEFAULTS = Settings()


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    settings = Settings(**{field.name: getattr(args, field.name) for field in fields(Settings)})
    check(args, settings)

    from utils.checkpoint import load_model  # torch comes in when the command line is known to be sound
    from utils.distributed import own_gpu, processes
    from utils.photographs.merging import Job, merge_all, say
    from utils.photographs.results import check_formats
    from utils.photographs.search import find_brackets

    check_formats(settings.format)
    exposures = settings.ev or settings.times
    found, lines = find_brackets(args.photographs, count=len(exposures) if exposures else None)
    if is_shipped(args.pretrained_model):
        lines.append(f"using the shipped weights, which were trained on made scenes only ({SHIPPED_FACTS})")
    device = own_gpu(pick_device(args.device))
    set_threads(args.threads, device)
    with processes(device) as (rank, _):
        say(*(lines if rank == 0 else ()))
        model = load_model(args.pretrained_model, device)
        model.use_kernels(args.kernels)
        return 2 if merge_all(Job(settings, model, args.pretrained_model), found) else 0


def check(args: argparse.Namespace, settings: Settings) -> None:
    """What can be known to fail before anything is read. Raises InputError."""
    existing_paths(args.photographs)
    existing_file(args.pretrained_model, "--pretrained_model", NO_WEIGHTS)
    writable_folder(settings.save_dir, "--save_dir")
    exposures = settings.ev or settings.times
    if exposures and len(exposures) < 3:
        option = "--ev" if settings.ev else "--times"
        raise InputError(f"{option}: {len(exposures)} exposures; give at least three, one per photograph")


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Reconstruct HDR images from your own bracketed photographs.")
    add = parser.add_argument
    add("photographs", nargs="+", help="files of one bracket (JPEG, PNG, TIFF, HEIC, RAW), or folders, or patterns")
    add(
        "--pretrained_model",
        type=user_path,
        default=SHIPPED,
        help="checkpoint, official or ours (default: shipped)",
    )
    add("--save_dir", type=user_path, default=DEFAULTS.save_dir)
    add("--overwrite", action="store_true", help="make results again that are there already")
    exposures = parser.add_mutually_exclusive_group()
    exposures.add_argument("--ev", nargs="+", type=exponent, help="exposures to base 2, one per file: --ev 0 2 4")
    exposures.add_argument("--times", nargs="+", type=seconds_of, help="exposure times: --times 1/100 1/25 1/6")
    add("--gamma", type=curve, default=DEFAULTS.gamma, help="tone curve in place of the files': srgb, linear, or 2.2")
    add("--gamut", choices=get_args(Gamut), default=DEFAULTS.gamut, help="primaries of the result")
    add("--align", choices=get_args(Mode), default=DEFAULTS.align, help="registration of a hand-held camera")
    add("--every_frame", action=argparse.BooleanOptionalAction, default=DEFAULTS.every_frame, help="use all, not three")
    add(
        "--fill_jpeg",
        action=argparse.BooleanOptionalAction,
        help="mend rims of highlights in JPEGs (default: for weights other than the shipped ones)",
    )
    add("--reference", type=positive, help="the frame to align with, counted from 1 for the darkest")
    add("--scale", type=scale, help="look for large motion at 1/N of the size; 1: don't (default: auto, by the size)")
    add("--format", nargs="+", choices=FORMATS, default=DEFAULTS.format, help="kinds of HDR image, several at once")
    add("--half", action="store_true", help="16-bit EXR, half the size")
    add("--preview", choices=PREVIEWS, default=DEFAULTS.preview)
    add("--tonemap", choices=get_args(Operator), default=DEFAULTS.tonemap, help="of the preview")
    add("--compare", action="store_true", help="also write the picture that explains the result")
    add("--inference", choices=get_args(Way), default=DEFAULTS.inference, help="strips: bounded memory, same numbers")
    add("--device", choices=["auto", "cpu", "cuda"], default="auto")
    add("--threads", type=threads, help="threads on a CPU (default: as many as the cores given, if that is fastest)")
    add("--kernels", action=argparse.BooleanOptionalAction, default=True, help="fused kernels on GPUs that take them")
    args = parser.parse_args(argv)
    args.format = tuple(dict.fromkeys(args.format))
    if args.half and "exr" not in args.format:
        parser.error(f"--half is for EXR files; --format {' '.join(args.format)} writes none")
    return args


def to_curve(text: str) -> str | float:
    return text if text in ("srgb", "linear") else float(text)


curve = checked(to_curve, lambda c: isinstance(c, str) or 0.1 <= c <= 10.0, "srgb, linear, or an exponent such as 2.2")
scale = checked(
    lambda text: None if text == "auto" else int(text),
    lambda times: times is None or 1 <= times <= 1000,
    "auto, 1, or a larger whole number up to 1000",
)
exponent = checked(float, lambda ev: -100 <= ev <= 100, "an exposure to base 2 (photographs come before --ev)")


def to_seconds(text: str) -> float:
    """``1/100`` or ``0.01``; not by Fraction, which takes forever over 1e999999999."""
    above, _, below = text.partition("/")
    return float(above) / float(below or 1)


seconds_of = checked(
    to_seconds,
    lambda seconds: 1e-9 <= seconds <= 1e9,
    "a time in seconds such as 1/100 or 0.01 (photographs come before --times)",
)


if __name__ == "__main__":
    run(main)
