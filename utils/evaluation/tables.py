"""Tables of figures, as JSON, CSV and Markdown, beside the published rows."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from utils.evaluation.differences import Difference, differences
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
PU_DECIMALS = {"PU-PSNR": 2, "PU-PSNRY": 2, "PU-SSIM": 4}
ALL_DECIMALS = DECIMALS | PU_DECIMALS

Metrics = Mapping[str, float]


@dataclass
class Row:
    """The figures of one method.

    Attributes:
        name: in the table, e.g. "AFUNet, Kalantari.pth".
        scenes: metrics by scene, in scene order.
        failures: the one-line reason by scene.
    """

    name: str
    scenes: dict[str, dict[str, float]]
    failures: dict[str, str] = field(default_factory=dict)

    def average(self, scenes: Sequence[str]) -> dict[str, float]:
        """Mean of each metric over the scenes named; {} without scenes. NaN where a scene has none."""
        rows = [self.scenes[scene] for scene in scenes]
        return {key: math.fsum(row[key] for row in rows) / len(rows) for key in (rows[0] if rows else {})}


@dataclass
class Results:
    """The figures of a run.

    Attributes:
        dataset: key of ``LAYOUTS``.
        rows: one per method.
        protocol: how the figures were made; anything JSON can hold.
        notes: lines under the table.
    """

    dataset: str
    rows: list[Row]
    protocol: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def failures(self) -> list[str]:
        """All reasons, each once."""
        return list(dict.fromkeys(reason for row in self.rows for reason in row.failures.values()))

    @property
    def common(self) -> list[str]:
        """The scenes that every method has figures of: means over others would not compare."""
        first, *others = self.rows
        return [scene for scene in first.scenes if all(scene in row.scenes for row in others)]

    @property
    def averages(self) -> dict[str, dict[str, float]]:
        """Mean of each metric over the common scenes, by method."""
        return {row.name: row.average(self.common) for row in self.rows}

    @property
    def metrics(self) -> list[str]:
        """All that was computed, in the order of the tables."""
        computed = {key for row in self.rows for figures in row.scenes.values() for key in figures}
        return [key for key in ALL_DECIMALS if key in computed]

    @property
    def columns(self) -> list[str]:
        """What the tables show: the paper's columns, those of PU21, or both, as they were computed."""
        computed = set(self.metrics)
        groups = [group for group in (DECIMALS, PU_DECIMALS) if computed & group.keys()]
        return [key for group in groups or [DECIMALS] for key in group]

    @cached_property
    def differences(self) -> list[Difference]:
        """Between any two methods, over the common scenes."""
        return differences({row.name: [row.scenes[scene] for scene in self.common] for row in self.rows})


def write_tables(folder: Path, results: Results) -> None:
    """Write metrics.json, metrics.csv and metrics.md into ``folder``."""
    _write_text(folder / "metrics.json", to_json(results))
    _write_text(folder / "metrics.csv", to_csv(results))
    _write_text(folder / "metrics.md", to_markdown(results))


def to_json(results: Results) -> str:
    """All figures unrounded. What is not finite becomes null, since JSON has neither: the PSNR of two equal images, and
    HDR-VDP-2 that was left out. With several methods, "methods" holds for each what one alone has at the top."""
    methods = {row.name: _row_to_json(row, results.common) for row in results.rows}
    data: dict[str, Any] = {"methods": methods} if len(methods) > 1 else dict(methods[results.rows[0].name])
    if len(methods) > 1:
        data |= {"scenes_in_averages": results.common, "differences": [one.to_json() for one in results.differences]}
    return json.dumps(data | {"protocol": results.protocol}, indent=2, allow_nan=False) + "\n"


def _row_to_json(row: Row, common: Sequence[str]) -> dict[str, Any]:
    return {
        "scenes": {name: _finite(figures) for name, figures in row.scenes.items()},
        "average": _finite(row.average(common)),
        "failed": row.failures,
    }


def to_csv(results: Results) -> str:
    """One line per scene and the average, unrounded; with several methods, the method comes first in each line."""
    several = len(results.rows) > 1
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*(["method"] if several else []), "scene", *results.metrics])
    for row in results.rows:
        for scene, figures in {**row.scenes, "average": results.averages[row.name]}.items():
            cells = ["" if math.isnan(value) else value for value in figures.values()]
            writer.writerow([*([row.name] if several else []), scene, *cells])
    return text.getvalue()


def to_markdown(results: Results) -> str:
    """The run's rows under the paper's rows for this data set, what their differences mean, then every scene."""
    rows = method_rows(results)
    bold = {f"**{name}**" if name in results.averages else name: row for name, row in rows.items()}
    parts = [
        f"# {table_title(results)}: mean over {len(results.common)} scene(s)",
        markdown_table("method", bold, results.columns),
        *all_notes(results),
    ]
    parts += _differences_part(results)
    parts += ["## Scenes", markdown_table("scene", scene_rows(results), results.columns)]
    parts += [f"Failed: {message}" for message in results.failures]
    return "\n\n".join(parts) + "\n"


def table_title(results: Results) -> str:
    """``AFUNet on kalantari``."""
    several, name = len(results.rows) > 1, results.rows[0].name
    title = "Methods" if several else "AFUNet" if name.startswith("AFUNet") else "A method"
    return f"{title} on {results.dataset}"


def method_rows(results: Results) -> dict[str, list[float]]:
    """The paper's rows for this data set, then the run's, by name."""
    rows = {_published_name(name, results): _padded(row, results.columns) for name, row in _published(results).items()}
    return rows | {name: _cells(average, results.columns) for name, average in results.averages.items()}


def all_notes(results: Results) -> list[str]:
    """The lines under the table, the source of published rows included."""
    source = ["Published rows: Table 1 of the AFUNet paper (ICCV 2025)."] if _published(results) else []
    return [*results.notes, *source]


def _published(results: Results) -> Mapping[str, Sequence[float]]:
    return PUBLISHED.get(results.dataset, {}) if VDP in results.columns else {}


def summary(results: Results) -> str:
    """What a terminal shows at the end: the averages, the paper's rows of the same names, notes and failures."""
    failures = len({scene for row in results.rows for scene in row.failures})
    failed = [f"{failures} scene(s) FAILED and are left out."] if failures else []
    rows = {name: _cells(average, results.columns) for name, average in results.averages.items()}
    for name, figures in PUBLISHED.get(results.dataset, {}).items():
        if VDP in results.columns and _is_own(name, results):
            rows[f"{name}, published"] = _padded(figures, results.columns)
    table = markdown_table(f"mean over {len(results.common)} scene(s)", rows, results.columns)
    different = [f"\n{one}" for one in _differences_part(results)[1:]]
    return "\n".join([table, *failed, *results.notes, *different])


def format_row(metrics: Metrics) -> str:
    """The metrics in one line, rounded as the paper does: ``PSNR-mu 44.91  PSNR-l 42.59 ...``."""
    return "  ".join(f"{key} {rounded(key, metrics[key])}" for key in ALL_DECIMALS if key in metrics)


def markdown_table(
    corner: str, rows: Mapping[str, Sequence[float | str]], columns: Sequence[str] = tuple(DECIMALS)
) -> str:
    """Rows of figures by name, by default in the order and rounding of the paper's tables; NaN is shown as a dash."""
    lines = [f"| {corner} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, row in rows.items():
        cells = [rounded(key, value) for key, value in zip(columns, row, strict=True)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def rounded(key: str, value: float | str) -> str:
    """A figure as the tables print it; words as they are."""
    if isinstance(value, str):
        return value
    return "-" if math.isnan(value) else f"{value:.{ALL_DECIMALS[key]}f}"


def _cells(metrics: Metrics, columns: Sequence[str]) -> list[float]:
    return [metrics.get(column, math.nan) for column in columns]


def _padded(published: Sequence[float], columns: Sequence[str]) -> list[float]:
    """A published row, which has no PU21 figures."""
    return _cells(dict(zip(DECIMALS, published, strict=True)), columns)


def _is_own(name: str, results: Results) -> bool:
    """Whether a method of the run bears the name of a published row."""
    return name in {row.name.split(",")[0] for row in results.rows}


def _published_name(name: str, results: Results) -> str:
    return f"{name}, published" if name == "AFUNet" or _is_own(name, results) else name


def scene_rows(results: Results) -> dict[str, list[float]]:
    """Every scene with every method, scene by scene."""
    several = len(results.rows) > 1
    scenes = dict.fromkeys(scene for row in results.rows for scene in row.scenes)
    return {
        f"{scene}, {row.name}" if several else scene: _cells(row.scenes[scene], results.columns)
        for scene in scenes
        for row in results.rows
        if scene in row.scenes
    }


def _differences_part(results: Results) -> list[str]:
    """Heading, table and what it means; [] with one method."""
    if len(results.rows) < 2:
        return []
    found = results.differences
    rows = {one.title: one.cells(results.columns, ALL_DECIMALS) for one in found}
    notes = list(dict.fromkeys(one.note for one in found))
    return ["## Which differences mean something", markdown_table("difference", rows, results.columns), *notes]


def _finite(row: Metrics) -> dict[str, float | None]:
    return {key: value if math.isfinite(value) else None for key, value in row.items()}


def _write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
