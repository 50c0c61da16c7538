"""What a run of test.py leaves: per scene HDR images and pictures, and how the figures were made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.evaluation.evaluator import Evaluation, Outcome, Scored
from utils.evaluation.methods import FIT, Files, Network, Scene, network_of
from utils.evaluation.pictures import Shown, write_methods_picture, write_scene_picture
from utils.evaluation.scoring import Scoring
from utils.evaluation.tables import Row
from utils.exr import write_exr
from utils.hdrvdp2.settings import LOWEST_PPD
from utils.images import write_hdr
from utils.inference import RAN
from utils.provenance import device_name, git_revision, versions
from utils.shipped import SHIPPED_FACTS, is_shipped

Save = Callable[[Sequence[Scored]], None]


@dataclass(frozen=True)
class Saver:
    """Writes what was made of a scene into a folder: the network's HDR image, as .hdr, .exr or both, with its picture,
    and one picture of all methods where a method's images are files or ``seen`` maps were asked for."""

    folder: Path
    kind: str
    scoring: Scoring

    def __call__(self, scored: Sequence[Scored]) -> None:
        for one in scored:
            if isinstance(one.method, Network):
                self._save_network(one, one.method)
        if any(isinstance(one.method, Files) or one.figures.seen is not None for one in scored):
            self._save_methods(scored)

    def _save_network(self, one: Scored, network: Network) -> None:
        made, name, hdr = one.made, one.made.scene.name, one.made.hdr
        if self.kind in ("hdr", "both"):
            write_hdr(self.folder / f"{name}.hdr", hdr)
        if self.kind in ("exr", "both"):
            write_exr(self.folder / f"{name}.exr", hdr)
        given = (made.reading.frames, made.reading.ev, hdr, made.reading.label)
        texts = {"heading": f"Scene {name}", "weights": network.title}
        write_scene_picture(self.folder / f"{name}.png", *given, **texts, metrics=one.figures.metrics)

    def _save_methods(self, scored: Sequence[Scored]) -> None:
        made = scored[0].made
        shown = [Shown(one.method.name, one.made.hdr, one.figures) for one in scored]
        vdp = self.scoring.vdp.name if self.scoring.vdp else ""
        write_methods_picture(
            self.folder / f"{made.scene.name}_methods.png", made.scene.name, made.reading.label, shown, vdp
        )


def together(*saves: Save) -> Save:
    """All of them, one after the other."""

    def save_all(scored: Sequence[Scored]) -> None:
        for save in saves:
            save(scored)

    return save_all


def save_nothing(scored: Sequence[Scored]) -> None:
    """In place of :class:`Saver`, where only the tables are asked for."""


def table_rows(evaluation: Evaluation, scenes: Sequence[Scene], outcomes: Sequence[Outcome]) -> list[Row]:
    """Metrics and failures of each method, in the order of ``scenes`` whichever process ran them."""
    found = {(outcome.method, outcome.scene): outcome for outcome in outcomes}
    rows = []
    for method in evaluation.methods:
        ordered = [found[method.name, scene.name] for scene in scenes if (method.name, scene.name) in found]
        metrics = {one.scene: one.metrics for one in ordered if not one.failure}
        rows.append(Row(method.name, metrics, {one.scene: one.failure for one in ordered if one.failure}))
    return rows


def left_undone(scenes: Sequence[Scene], outcomes: Sequence[Outcome]) -> list[str]:
    """The scenes that have no outcome: the run was stopped, or has lost a process."""
    done = {outcome.scene for outcome in outcomes}
    return [scene.name for scene in scenes if scene.name not in done]


def how_it_was_made(evaluation: Evaluation, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """How the figures were made, for metrics.json."""
    network, files = network_of(evaluation.methods), files_of(evaluation)
    inference = sorted({outcome.ran for outcome in outcomes if outcome.ran})
    return {
        **(network.describe({}) | {"inference": inference} if network else {}),
        **({"predictions": {one.name: one.describe(_sources(one, outcomes)) for one in files}} if files else {}),
        **evaluation.scoring.describe(),
        "hdr_vdp_2_pixels_per_degree": sorted({outcome.ppd for outcome in outcomes if outcome.ppd}),
        "device": device_name(evaluation.device),
        "versions": versions(),
        "git_revision": git_revision(),
    }


def notes(evaluation: Evaluation, scenes: Sequence[Scene], outcomes: Sequence[Outcome]) -> list[str]:
    """Lines under the table: the protocol of every metric, and what has to be known of the methods."""
    lines = _metric_notes(evaluation.scoring, outcomes)
    for one in files_of(evaluation):
        lines += one.predictions.extra_lines()
        lines += [f"{one.name}: images were matched with the scenes in natural order."] * one.predictions.in_order
        lines += [f"{one.name}: scaled to the label, {FIT} (--scale_to_label)."] * one.scale_to_label
    lines += _remarks(outcomes)
    failed = {outcome.scene for outcome in outcomes if outcome.failure}
    if failed and len(evaluation.methods) > 1:
        left_out = ", ".join(scene.name for scene in scenes if scene.name in failed)
        lines.append(f"Means and differences are over the scenes that every method has; left out: {left_out}.")
    return lines + _network_notes(network_of(evaluation.methods), outcomes)


def files_of(evaluation: Evaluation) -> list[Files]:
    return [method for method in evaluation.methods if isinstance(method, Files)]


def remark_line(outcome: Outcome) -> str:
    """What a line says of an image that is near the label only after a change; "" for all others."""
    words = outcome.source.get("remark", "")
    return f"{outcome.method}, scene {outcome.scene}: {words}" if words else ""


def _sources(method: Files, outcomes: Sequence[Outcome]) -> dict[str, dict[str, Any]]:
    return {one.scene: one.source for one in outcomes if one.method == method.name and one.source}


def _metric_notes(scoring: Scoring, outcomes: Sequence[Outcome]) -> list[str]:
    lines = [str(scoring.vdp) if scoring.vdp else "HDR-VDP-2 was left out (--vdp none)."] if scoring.paper else []
    lowest = min((outcome.ppd for outcome in outcomes if outcome.ppd), default=LOWEST_PPD)
    if lowest < LOWEST_PPD and scoring.vdp:
        why = "it is high whatever they show, and says nothing beside published figures (24 to 27 pixels per degree)."
        lines.append(
            f"HDR-VDP-2 was left out: at {lowest:.1f} pixels per degree, which follow from the size of these small "
            f"images, {why} --vdp_ppd sets another."
            if isinstance(scoring.vdp.describe()["pixels_per_degree"], str)
            else f"HDR-VDP-2 was computed at {lowest:.1f} pixels per degree, as asked for: {why}"
        )
    return [*lines, *([str(scoring.pu)] if scoring.pu else [])]


def _remarks(outcomes: Sequence[Outcome]) -> list[str]:
    """A line for each method with images in another scale, which tells of the first."""
    told: dict[str, list[str]] = {}
    for outcome in outcomes:
        if line := remark_line(outcome):
            told.setdefault(outcome.method, []).append(line)
    lines = [found[0] + (f" ({len(found)} images are like that)" if found[1:] else "") for found in told.values()]
    advice = "The figures are of the values as they are; --scale_to_label fits one factor per image."
    return [*lines, advice] if lines else []


def _network_notes(network: Network | None, outcomes: Sequence[Outcome]) -> list[str]:
    lines = [f"Inference: {RAN[ran]}." for ran in sorted({outcome.ran for outcome in outcomes if outcome.ran})]
    if network and network.weights and is_shipped(network.weights):
        lines.append(f"The shipped weights were trained on made scenes only ({SHIPPED_FACTS}): not the paper's result.")
    if network and network.weights is None:
        lines.append("The weights are UNTRAINED (no --pretrained_model): these figures say nothing about AFUNet.")
    return lines
