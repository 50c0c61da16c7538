"""The command-line options by which the scripts choose a data set."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from datasets.scenes import LAYOUTS, SAMPLES, Layout
from utils.files import InputError, user_path

DATA = Path("data")
PATH_FLAGS = {  # each is a field of Layout
    "train_path": "folder of the training scenes",
    "test_path": "folder of the test scenes",
    "ldr_prefix": "how the frames' names begin",
    "ldr_folder_name": "sub-folder of a scene that holds its frames",
    "exposure_file_name": "file of exposures in a scene",
    "label_file_name": "ground truth in a scene",
}


def add_dataset_options(parser: argparse._ActionsContainer) -> None:
    """``--dataset``, ``--dataset_dir`` and the released code's flags for other file names."""
    add = parser.add_argument
    add("--dataset", choices=sorted(LAYOUTS), help="layout of the data set (default: the sample scenes)")
    add("--dataset_dir", type=user_path, help=f"folder that holds Kal, Tel, Hu ... or one of these (default: {DATA})")
    for name, text in PATH_FLAGS.items():
        add(f"--{name}", help=f"{text} (default: the data set's)")


def choose_dataset(args: argparse.Namespace) -> tuple[str, Layout, Path]:
    """The data set's name, its layout with the path flags applied, and its folder; the sample scenes without options.

    Raises InputError for a folder without a name.
    """
    if args.dataset is None and args.dataset_dir is not None:
        raise InputError(f"--dataset_dir {args.dataset_dir}: also name its layout, --dataset {'|'.join(LAYOUTS)}")
    name = args.dataset or "samples"
    overrides = {flag: value for flag in PATH_FLAGS if (value := getattr(args, flag)) is not None}
    root = args.dataset_dir or (SAMPLES if name == "samples" else DATA)
    return name, dataclasses.replace(LAYOUTS[name], **overrides), root
