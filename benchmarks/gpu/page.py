"""One page and one JSON file out of the parts' files. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.record import UNFINISHED, read, write
from benchmarks.gpu.targets import CARD, TARGETS, Results, Target
from benchmarks.profiles import profile_table
from utils.files import atomic_path

NOT_MEASURED = "not measured yet"
Content = Mapping[str, Any]


def write_page(out: Path, parts: Sequence[str]) -> Path:
    """Write ``gpu.md`` and ``gpu.json`` below ``out``; returns the page's path."""
    found = {name: content for name in parts if (content := read(out / f"{name}.json"))}
    write(out / "gpu.json", {"targets": judged(found), "parts": found})
    page = out / "gpu.md"
    with atomic_path(page) as temporary:
        temporary.write_text(text(found) + "\n", encoding="utf-8")
    return page


def results(found: Mapping[str, Content]) -> Results:
    """Part -> step -> result, of the steps that went well."""
    return {
        part: {name: step["result"] for name, step in content["steps"].items() if "result" in step}
        for part, content in found.items()
    }


def text(found: Mapping[str, Content]) -> str:
    """The whole page, in Markdown."""
    have = results(found)
    sections = [
        ["# AFUNet on a GPU", *warning(found)],
        ["## Machine", *machine(found)],
        ["## Targets", *targets_table(found)],
        ["## What falls short", *shortcomings(found)],
        ["## Kernels", *kernels(have.get("kernels", {}))],
        ["## Inference", *inference(have.get("inference", {}))],
        ["## Training", *training(have.get("training", {}))],
        ["## Accuracy", *accuracy(have.get("accuracy", {}))],
        ["## Weights", *weights(have.get("weights", {}))],
        ["## Failed, and left for another call", *left_out(found)],
    ]
    return "\n\n".join("\n\n".join(section) for section in sections)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def rounded(value: Any, digits: int = 3) -> str:
    """A number with some significant digits; a dash for None."""
    if value is None:
        return "-"
    return f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:.0f}"


# Machine and targets


def judgeable(found: Mapping[str, Content]) -> bool:
    """Whether the figures are of the real sizes on the card that the targets are for."""
    facts = [content["facts"] for content in found.values()]
    return bool(facts) and all(CARD in fact["card"] and not fact["tiny"] for fact in facts)


def warning(found: Mapping[str, Content]) -> list[str]:
    if any(content["facts"]["tiny"] for content in found.values()):
        return ["**A try in tiny form: small sizes, few steps. The figures below say nothing about speed.**"]
    return []


def machine(found: Mapping[str, Content]) -> list[str]:
    """The facts of the first part; they are the same in all of them."""
    facts: Content = next((content["facts"] for content in found.values()), {})
    return [table(["", ""], [(name, value) for name, value in facts.items() if value is not None])]


def verdict(target: Target, figure: float | None, judge: bool) -> str:
    if figure is None:
        return NOT_MEASURED
    return ("reached" if target.met(figure) else "falls short") if judge else f"not judged: not an {CARD} at full size"


def judged(found: Mapping[str, Content]) -> list[dict[str, Any]]:
    """Every target with the figure beside it."""
    rows = []
    for target in TARGETS:
        measured = target.measured(results(found))
        figure, where = measured or (None, "")
        rows.append(
            {
                "target": target.name,
                "goal": target.goal,
                "measured": figure,
                "by": where,
                "verdict": verdict(target, figure, judgeable(found)),
            }
        )
    return rows


def targets_table(found: Mapping[str, Content]) -> list[str]:
    units = {target.name: target.unit for target in TARGETS}
    rows = [
        (
            row["target"],
            row["goal"],
            NOT_MEASURED if row["measured"] is None else f"{rounded(row['measured'])}{units[row['target']]}",
            row["by"],
            row["verdict"],
        )
        for row in judged(found)
    ]
    return [table(["target", f"goal on an {CARD}", "measured", "by", ""], rows)]


def shortcomings(found: Mapping[str, Content]) -> list[str]:
    """For every target that is missed: what to look at, the profile, and what padding does."""
    have = results(found)
    lines = []
    for target in TARGETS:
        measured = target.measured(have)
        if measured is None or target.met(measured[0]):
            continue
        part, step = target.profile or ("", "")
        figure = f"{rounded(measured[0])}{target.unit}"
        lines.append(f"**{target.name}: {figure}, {target.goal}.** Next: {target.next_step}.")
        lines += profile(have.get(part, {}).get(step), step)
    padding = {name: step for name, step in have.get("inference", {}).items() if name.startswith("padding")}
    return [*(lines or ["Nothing that was measured."]), *channels_last(padding)]


def profile(found: Mapping[str, Any] | None, name: str) -> list[str]:
    if not found:
        return []
    return [f"{name}, {rounded(found['total_ms'])} ms in all:", profile_table(found)]


def channels_last(steps: Mapping[str, Any]) -> list[str]:
    """Whether reflection padding leaves the format that the maps have."""
    lines = []
    for name, step in steps.items():
        fate = "stays" if step["stays channels-last"] else "leaves"
        times = ", ".join(f"{what} {rounded(ms)} ms" for what, ms in step["ms"].items())
        lines.append(f"* {name}: a map that is padded by reflection **{fate} channels-last** ({times})")
    return ["\n".join(lines)] if lines else []


# The parts


def kernels(steps: Mapping[str, Any]) -> list[str]:
    if not steps:
        return [NOT_MEASURED]
    lines = []
    if tests := steps.get("tests"):
        lines.append(f"Tests: {tests['passed']} passed, {tests['skipped']} skipped, {len(tests['failed'])} failed.")
        lines += [f"* {name}: {message}" for name, message in tests["failed"].items()]
    rows = [
        (
            name.removeprefix("block, "),
            *(rounded(step["ms"][way]) for way in ("plain", "kernels")),
            rounded(step["times_faster"]),
            *(f"{step['errors'][way]:.1e}" for way in ("plain", "kernels")),
        )
        for name, step in steps.items()
        if name.startswith("block")
    ]
    head = ["one Swin block", "plain, ms", "kernels, ms", "times faster", "error, plain", "error, kernels"]
    lines.append(table(head, rows))
    for name, step in steps.items():
        if name.startswith("network"):
            taken = "takes the kernels" if step["kernels taken"] else "does NOT take the kernels"
            lines.append(f"* {name}: {taken}{''.join(f'; {each}' for each in step['warnings'])}")
    return lines


def inference(steps: Mapping[str, Any]) -> list[str]:
    rows = [
        (
            *name.split(", ", 1),
            rounded(1000 * step["seconds"]),
            rounded(step["times_faster"]),
            rounded(step["memory"] / 1e6 if step["memory"] is not None else None),
            f"{step['error']:.1e}" if step["error"] is not None else "-",
        )
        for name, step in steps.items()
        if "seconds" in step
    ]
    head = ["size", "way", "ms", "times the oracle's speed", "peak memory, MB", "error"]
    return [table(head, rows)] if rows else [NOT_MEASURED]


def training(steps: Mapping[str, Any]) -> list[str]:
    measured = {name: step for name, step in steps.items() if "images_per_s" in step}
    oracle = measured.get("plain, masks kept")
    rows = [
        (
            name,
            rounded(step["images_per_s"]),
            rounded(step["images_per_s"] / oracle["images_per_s"]) if oracle else "-",
            f"{step['waiting']:.1%}",
            rounded(step["memory_MiB"]),
        )
        for name, step in measured.items()
    ]
    head = ["way", "images/s", "times the oracle's speed", "waiting for data", "peak memory, MiB"]
    return [table(head, rows)] if rows else [NOT_MEASURED]


def accuracy(steps: Mapping[str, Any]) -> list[str]:
    lines = []
    if shipped := steps.get("shipped weights"):
        scenes = list(next(iter(shipped["PSNR-mu"].values())))
        rows = [
            (way, *(f"{figures[scene]:.4f}" for scene in scenes), f"{shipped['largest change'][way]:+.4f}")
            for way, figures in shipped["PSNR-mu"].items()
        ]
        lines.append(table(["shipped weights, PSNR-mu", *scenes, "largest change, dB"], rows))
    if vdp := steps.get("HDR-VDP-2 of them"):
        rows = [(way, *(f"{q:.3f}" for q in figures.values())) for way, figures in vdp["HDR-VDP-2"].items()]
        lines.append(table(["HDR-VDP-2", *next(iter(vdp["HDR-VDP-2"].values()))], rows))
    if timed := steps.get("HDR-VDP-2, time"):
        times = ", ".join(f"{device} {each['Q, median']:.3f} s" for device, each in timed["seconds"].items())
        lines.append(f"HDR-VDP-2 takes {times}; Q differs by {timed['Q differs by']:.1e} between devices.")
    if both := steps.get("bf16 against float32"):
        lines += loss_table(both)
    return lines or [NOT_MEASURED]


def loss_table(both: Mapping[str, Any]) -> list[str]:
    """The loss of the two precisions, round by round."""
    losses = both["loss by round"]
    rounds = range(1, 1 + max(map(len, losses.values())))
    rows = [(name, *(f"{loss:.5f}" for loss in values)) for name, values in losses.items()]
    steps = ", ".join(f"{name} {count}" for name, count in both["steps"].items())
    reached = ", ".join(f"{name} {value:.3f} dB" for name, value in both["PSNR-mu"].items())
    return [
        table(["loss by round", *rounds], rows),
        f"Steps: {steps}. PSNR-mu on the scenes of this training: {reached or 'not there yet'}.",
    ]


def weights(steps: Mapping[str, Any]) -> list[str]:
    lines = []
    if trained := steps.get("training"):
        lines.append(f"Trained for {trained['epochs']} epoch(s), ended by {trained['ended by']}.")
    shown = {name: steps[name] for name in ("before", "after") if name in steps}
    if shown:
        sets = list(next(iter(shown.values())))
        rows = [
            (name, *(f"{figures[each]['PSNR-mu']:.2f} / {figures[each]['PSNR-l']:.2f}" for each in sets))
            for name, figures in shown.items()
        ]
        lines.append(table(["PSNR-mu / PSNR-l", *sets], rows))
    return lines or [NOT_MEASURED]


def left_out(found: Mapping[str, Content]) -> list[str]:
    lines = []
    for part, content in found.items():
        lines += [f"* {part}, {name}: {step['error']}" for name, step in content["steps"].items() if "error" in step]
        unfinished = [name for name, step in content["steps"].items() if (step.get("result") or {}).get(UNFINISHED)]
        waiting = [*unfinished, *filter(None, [content.get("left")])]
        lines += [f"* {part}, left for another call: {name}" for name in dict.fromkeys(waiting)]
    return ["\n".join(lines) or "Nothing."]
