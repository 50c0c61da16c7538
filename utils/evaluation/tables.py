"""Tables of figures, as JSON, CSV and Markdown, beside the published rows."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from utils.evaluation.published import PUBLISHED
from utils.files import atomic_path

VDP = "HDR-VDP-2"
DECIMALS = {
    "PSNR-mu": 2,
    "PSNR-l": 2,
    "SSIM-mu": 4,
    "SSIM-l": 4,
    VDP: 2,
}  # the order and rounding of the paper's tables

Metrics = Mapping[str, float]


@dataclass
class Results:
    """The figures of a run.

    Attributes:
        dataset: key of ``LAYOUTS``.
        row: the run's name in the table, e.g. the checkpoint's file name.
        scenes: metrics by scene, in scene order.
        failures: the one-line reason by scene.
        protocol: how the figures were made; anything JSON can hold.
        notes: lines under the table.
    """

    dataset: str
    row: str
    scenes: dict[str, dict[str, float]]
    failures: dict[str, str] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def average(self) -> dict[str, float]:
        """Mean of each metric over the scenes; {} without scenes."""
        columns = next(iter(self.scenes.values()), {})
        return {key: math.fsum(row[key] for row in self.scenes.values()) / len(self.scenes) for key in columns}


def write_tables(folder: Path, results: Results) -> None:
    """Write metrics.json, metrics.csv and metrics.md into ``folder``."""
    _write_text(folder / "metrics.json", to_json(results))
    _write_text(folder / "metrics.csv", to_csv(results))
    _write_text(folder / "metrics.md", to_markdown(results))


def to_json(results: Results) -> str:
    """All figures unrounded; an infinite PSNR (two equal images) becomes null, since JSON has no infinity."""
    data = {
        "scenes": {name: _finite(row) for name, row in results.scenes.items()},
        "average": _finite(results.average),
        "failed": results.failures,
        "protocol": results.protocol,
    }
    return json.dumps(data, indent=2, allow_nan=False) + "\n"


def to_csv(results: Results) -> str:
    """One line per scene and the average, unrounded."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["scene", *results.average])
    for name, row in {**results.scenes, "average": results.average}.items():
        writer.writerow([name, *row.values()])
    return text.getvalue()


def to_markdown(results: Results) -> str:
    """The run's row under the paper's rows for this data set, then every scene."""
    published = PUBLISHED.get(results.dataset, {})
    rows = {"AFUNet, published" if name == "AFUNet" else name: list(row) for name, row in published.items()}
    rows[f"**AFUNet, {results.row}**"] = [results.average.get(column, math.nan) for column in DECIMALS]
    scenes = {name: [row.get(column, math.nan) for column in DECIMALS] for name, row in results.scenes.items()}
    parts = [
        f"# AFUNet on {results.dataset}: mean over {len(results.scenes)} scene(s)",
        markdown_table("method", rows),
    ]
    parts += results.notes
    if published:
        parts.append("Published rows: Table 1 of the AFUNet paper (ICCV 2025).")
    parts += ["## Scenes", markdown_table("scene", scenes)]
    parts += [f"Failed: {message}" for message in results.failures.values()]
    return "\n\n".join(parts) + "\n"


def summary(results: Results) -> str:
    """What a terminal shows at the end: the average, the paper's row where there is one, notes and failures."""
    failed = [f"{len(results.failures)} scene(s) FAILED and are left out."] if results.failures else []
    rows = {f"AFUNet, {results.row}": [results.average.get(column, math.nan) for column in DECIMALS]}
    if published := PUBLISHED.get(results.dataset):
        rows["AFUNet, published"] = list(published["AFUNet"])
    return "\n".join([markdown_table(f"mean over {len(results.scenes)} scene(s)", rows), *failed, *results.notes])


def format_row(metrics: Metrics) -> str:
    """The metrics in one line, rounded as the paper does: ``PSNR-mu 44.91  PSNR-l 42.59 ...``."""
    return "  ".join(f"{key} {rounded(key, metrics[key])}" for key in DECIMALS if key in metrics)


def markdown_table(corner: str, rows: Mapping[str, Sequence[float]]) -> str:
    """Rows of figures by name, in the order and rounding of the paper's tables; NaN is shown as a dash."""
    lines = [f"| {corner} | {' | '.join(DECIMALS)} |", "|---" * (len(DECIMALS) + 1) + "|"]
    for name, row in rows.items():
        cells = [rounded(key, value) for key, value in zip(DECIMALS, row, strict=True)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def rounded(key: str, value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.{DECIMALS[key]}f}"


def _finite(row: Metrics) -> dict[str, float | None]:
    return {key: value if math.isfinite(value) else None for key, value in row.items()}


def _write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
