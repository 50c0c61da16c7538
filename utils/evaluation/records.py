"""What a run of test.py leaves: per scene the HDR image and a picture, and how the figures were made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from utils.evaluation.evaluator import Evaluation, Outcome, Reconstruction, Scene
from utils.evaluation.pictures import write_scene_picture
from utils.hdrvdp2 import Protocol
from utils.images import write_exr, write_hdr
from utils.inference import RAN
from utils.provenance import device_name, git_revision, sha256, versions
from utils.shipped import SHIPPED, SHIPPED_FACTS

COMMON_PPD = 20.0  # published figures are computed at 23.8 to 26.8 pixels per degree


def save_scene(folder: Path, kind: str, weights: str, made: Reconstruction, metrics: dict[str, float]) -> None:
    """Write the HDR image, as .hdr, .exr or both, and the picture to look at."""
    name, hdr = made.scene.name, made.prediction.permute(1, 2, 0).float().cpu().numpy()
    if kind in ("hdr", "both"):
        write_hdr(folder / f"{name}.hdr", hdr)
    if kind in ("exr", "both"):
        write_exr(folder / f"{name}.exr", hdr)
    picture = folder / f"{name}.png"
    write_scene_picture(
        picture, made.frames, made.ev, hdr, made.label, heading=f"Scene {name}", weights=weights, metrics=metrics
    )


def save_nothing(made: Reconstruction, metrics: dict[str, float]) -> None:
    """In place of :func:`save_scene`, where only the tables are asked for."""


def by_scene(scenes: Sequence[Scene], outcomes: list[Outcome]) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """Metrics and failures by scene name, in the order of ``scenes`` whichever process ran them."""
    found = {outcome.scene: outcome for outcome in outcomes}
    ordered = [found[scene.name] for scene in scenes]
    return {o.scene: o.metrics for o in ordered if not o.failure}, {o.scene: o.failure for o in ordered if o.failure}


def how_it_was_made(weights: Path | None, evaluation: Evaluation, outcomes: list[Outcome]) -> dict[str, Any]:
    """How the figures were made, for metrics.json."""
    return {
        "checkpoint": None if weights is None else {"path": str(weights), "sha256": sha256(weights)},
        "padding": {"mode": "reflect, bottom and right", "multiple": evaluation.patch_size},
        "inference": sorted({outcome.ran for outcome in outcomes if outcome.ran}),
        "hdr_vdp_2": evaluation.vdp.describe() if evaluation.vdp else None,
        "hdr_vdp_2_pixels_per_degree": sorted({outcome.ppd for outcome in outcomes if outcome.ppd}),
        "device": device_name(evaluation.device),
        "versions": versions(),
        "git_revision": git_revision(),
    }


def notes(weights: Path | None, vdp: Protocol | None, outcomes: list[Outcome]) -> list[str]:
    """Lines under the table."""
    lines = [str(vdp) if vdp else "HDR-VDP-2 was left out (--vdp none)."]
    ppd = min((outcome.ppd for outcome in outcomes if outcome.ppd), default=COMMON_PPD)
    if ppd < COMMON_PPD:
        lines.append(
            f"HDR-VDP-2 was computed at {ppd:.1f} pixels per degree, because these images are small: it is high "
            "whatever they show, and says nothing beside published figures (24 to 27 pixels per degree)."
        )
    lines += [f"Inference: {RAN[ran]}." for ran in sorted({outcome.ran for outcome in outcomes if outcome.ran})]
    if weights == SHIPPED:
        lines.append(f"The shipped weights were trained on made scenes only ({SHIPPED_FACTS}): not the paper's result.")
    if weights is None:
        lines.append("The weights are UNTRAINED (no --pretrained_model): these figures say nothing about AFUNet.")
    return lines
