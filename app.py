"""Your own photographs in a browser: drop a bracket on a page, get an HDR image.

python app.py

It runs on this machine and answers to it only (127.0.0.1); nothing is sent anywhere. Needs requirements-app.txt.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from utils.choices import Gamut, Mode, Operator
from utils.cli import existing_file, pick_device, positive, positive_number, run, threads, whole
from utils.files import InputError, user_path
from utils.photographs.settings import FORMATS, Settings
from utils.shipped import SHIPPED, is_shipped
from utils.threads import set_threads

if TYPE_CHECKING:
    from utils.photographs.web import Service

HOUR = 3600  # seconds
DEFAULTS = Settings()
NEEDED = "app.py needs the package gradio: pip install -r requirements-app.txt"
TITLE = "AFUNet: photographs of different exposure, one HDR image"
INTRODUCTION = (
    "Drop the photographs of one scene, three or more, taken at different exposures. People may move, and the camera "
    "may be held in the hand. Everything stays on the computer that runs this page, and is removed after an hour."
)
CSS = ".gradio-container { max-width: 1180px !important; margin: auto; }"
FONTS = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}  # none is fetched


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    if importlib.util.find_spec("gradio") is None:
        raise InputError(NEEDED)
    existing_file(args.pretrained_model, "--pretrained_model", "give a checkpoint, or leave it out")

    from utils.checkpoint import load_model
    from utils.photographs.web import Limits, Service, Shelf

    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that the folder below goes too
    shelf = Shelf(HOUR)
    try:
        device = pick_device(args.device)
        set_threads(args.threads, device)
        model = load_model(args.pretrained_model, device)
        model.use_kernels(args.kernels)
        limits = Limits(args.max_photographs, args.max_megapixels, args.max_megabytes)
        shelf.sweep_often()
        serve(page(Service(model, args.pretrained_model, limits, shelf), args.queue), args)
    finally:
        shelf.close()
    return 0


def serve(blocks: Any, args: argparse.Namespace, **how: Any) -> Any:
    """Start answering; returns when stopped. ``how`` goes to Gradio's launch."""
    gr = importlib.import_module("gradio")
    return blocks.launch(
        server_name=args.host,
        server_port=args.port,
        share=args.share,
        theme=gr.themes.Default(primary_hue="blue", neutral_hue="slate", **FONTS),
        css=CSS,
        max_file_size=int(args.max_megabytes * 1e6),
        footer_links=[],
        ssr_mode=False,
        show_error=False,
        **how,
    )


def gradio(folder: Path) -> Any:
    """The package, told beforehand to call nobody, and to keep its files in a folder."""
    os.environ.update(GRADIO_ANALYTICS_ENABLED="False", HF_HUB_OFFLINE="1", GRADIO_TEMP_DIR=str(folder))
    return importlib.import_module("gradio")


def page(service: Service, queue: int) -> Any:
    """The page: photographs and settings on the left, the result on the right."""
    gr = gradio(service.shelf.root / "page")
    with gr.Blocks(title="AFUNet", analytics_enabled=False, delete_cache=(HOUR // 6, HOUR)) as blocks:
        gr.Markdown(f"# {TITLE}\n{INTRODUCTION}")
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                uploads = gr.File(file_count="multiple", label="Photographs, or a zip", height=230, elem_id="uploads")
                found = gr.Textbox(label="What was found", lines=4, interactive=False, elem_id="found")
                with gr.Group(visible=False, elem_id="exposures") as asked:
                    kind = gr.Radio(["EV", "seconds"], value="EV", label="Exposures in")
                    typed = gr.Textbox(label="Exposures, in the order above", placeholder="0 2 4, or 1/100 1/25 1/6")
                controls = settings_controls(gr, service.weights)
                button = gr.Button("Merge", variant="primary", elem_id="merge")
            with gr.Column(scale=3, min_width=320):
                slider = gr.ImageSlider(label="Reference | result", interactive=False, elem_id="result", max_height=560)
                files = gr.File(label="Downloads", interactive=False, file_count="multiple", elem_id="files")
                told = gr.Textbox(label="What was done", lines=4, interactive=False, elem_id="told")
                with gr.Accordion("The picture that explains the result", open=False):
                    explained = gr.Image(show_label=False, interactive=False, type="filepath")
        uploads.change(partial(look_at, gr, service), uploads, [found, asked], api_visibility="private")
        button.click(
            merger(gr, service, list(controls)),
            [uploads, kind, typed, *controls.values()],
            [slider, files, told, explained],
            show_progress_on=slider,
            api_visibility="private",
        )
    return blocks.queue(max_size=queue, default_concurrency_limit=1)


def settings_controls(gr: Any, weights: Path) -> dict[str, Any]:
    """A control for each setting, at predict.py's default."""
    with gr.Accordion("Settings", open=False):
        return {
            "format": gr.Dropdown(list(FORMATS), value=list(DEFAULTS.format), multiselect=True, label="HDR files"),
            "half": gr.Checkbox(DEFAULTS.half, label="16-bit EXR, half the size"),
            "preview": gr.Dropdown(["jpg", "png"], value=DEFAULTS.preview, label="Picture to look at"),
            "tonemap": gr.Dropdown(list(get_args(Operator)), value=DEFAULTS.tonemap, label="Tone mapping of it"),
            "gamut": gr.Dropdown(list(get_args(Gamut)), value=DEFAULTS.gamut, label="Primaries of the result"),
            "every_frame": gr.Checkbox(DEFAULTS.every_frame, label="Use all frames, not three"),
            "fill_jpeg": gr.Checkbox(not is_shipped(weights), label="Mend rims of highlights in JPEG files"),
            "scale": gr.Number(0, precision=0, minimum=0, label="Look for large motion at 1/N of the size (0: chosen)"),
            "align": gr.Dropdown(list(get_args(Mode)), value=DEFAULTS.align, label="Hand-held camera"),
            "gamma": gr.Textbox(
                str(DEFAULTS.gamma or ""), label="Tone curve in place of the files'", placeholder="srgb, linear, 2.2"
            ),
            "reference": gr.Number(0, precision=0, minimum=0, label="Reference, counted from the darkest (0: chosen)"),
        }


def look_at(gr: Any, service: Service, uploads: list[str] | None) -> tuple[str, Any]:
    """What was dropped, and a field for exposures where they are not known."""
    if not uploads:
        return "", gr.update(visible=False)
    try:
        lines, known = service.look_at(uploads)
    except InputError as error:
        return f"{error}", gr.update(visible=False)
    return "\n".join(lines), gr.update(visible=not known)


def merger(gr: Any, service: Service, names: list[str]) -> Callable[..., tuple[Any, ...]]:
    """What the button does: the bracket merged by the settings of these names."""
    shown = gr.Progress()

    def merge(
        uploads: list[str] | None, kind: str, typed: str | None, *values: Any, progress: Any = shown
    ) -> tuple[Any, ...]:
        from utils.photographs.web import typed_exposures

        def listener(done: int, whole: int) -> None:
            progress((done, whole), desc="merging", unit="steps")

        try:
            if not uploads:
                raise InputError("drop some photographs first")
            settings = Settings(**chosen(dict(zip(names, values, strict=True))), **typed_exposures(typed or "", kind))
            progress(0.0, desc="reading")
            answer = service.merge(uploads, settings, listener)
        except InputError as error:
            raise gr.Error(str(error), duration=None, print_exception=False) from None
        return answer.pictures, list(map(str, answer.files)), "\n".join(answer.lines), str(answer.explained)

    return merge


def chosen(values: dict[str, Any]) -> dict[str, Any]:
    """The controls' values as settings. Raises InputError."""
    gamma, reference = str(values["gamma"] or "").strip().lower(), values["reference"]
    if gamma not in ("", "srgb", "linear"):
        gamma = positive_gamma(gamma)
    if not values["format"]:
        raise InputError("choose at least one kind of HDR file, in the settings")
    changed = {"gamma": gamma or DEFAULTS.gamma, "reference": int(reference) if reference else None}
    changed["scale"] = int(values["scale"]) if values["scale"] else None
    return {**values, **changed, "format": tuple(values["format"])}


def positive_gamma(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"tone curve {text[:20]!r}: write srgb, linear, or an exponent such as 2.2") from None


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Merge your own bracketed photographs in a browser.")
    add = parser.add_argument
    add(
        "--pretrained_model",
        type=user_path,
        default=SHIPPED,
        help="checkpoint, official or ours (default: shipped)",
    )
    add("--device", choices=["auto", "cpu", "cuda"], default="auto")
    add("--threads", type=threads, help="threads on a CPU (default: as many as the cores given, if that is fastest)")
    add("--kernels", action=argparse.BooleanOptionalAction, default=True, help="fused kernels on GPUs that take them")
    add("--host", default="127.0.0.1", help="0.0.0.0 answers to the whole network, without a password")
    add("--port", type=whole(1, 65535), default=7860)
    add("--share", action="store_true", help="a public address through Gradio's servers: photographs pass through them")
    add("--max_photographs", type=positive, default=9, help="of a bracket")
    add("--max_megapixels", type=positive_number, default=64.0, help="of a photograph")
    add("--max_megabytes", type=positive_number, default=600.0, help="of all files of a bracket together")
    add("--queue", type=positive, default=8, help="brackets that may wait; one is merged at a time")
    return parser.parse_args(argv)


if __name__ == "__main__":
    run(main)
