"""Checkpoints: ours, the authors' (read and written through one table of names), and files that are whole or absent.

python -m utils.checkpoint to-official runs/kalantari/ckpt/best.pth afunet.pth    # for the authors' code
python -m utils.checkpoint weights runs/kalantari/ckpt/best.pth afunet.pth        # without the training state
"""

from __future__ import annotations

import argparse
import re
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models import AFUNet, AFUNetConfig
from models.windows import SHIFT, WINDOW, relative_position
from utils.cli import run
from utils.files import ELSEWHERE, InputError, atomic_path, reason, regular_file, user_path

State = dict[str, Tensor]

LARGEST = 2 * 10**9  # bytes of a file; one of ours with eight stages and all of its training has 0.1e9
MOST_STAGES = 64
HARMLESS = [  # what other codes keep beside weights; none of it runs code when it is loaded
    argparse.Namespace,
    np.dtype,
    *(
        (type(np.float64(0)).__reduce__(np.float64(0))[0], f"numpy.{core}.multiarray.scalar")
        for core in ("core", "_core")
    ),
    *(getattr(np.dtypes, name) for name in np.dtypes.__all__ if name.startswith(("Float", "Int", "UInt", "Bool"))),
]
POINTER = b"version https://git-lfs"  # how a file begins that Git LFS has not fetched
WEIGHTS = ("state_dict", "model_state_dict", "model", "params_ema", "params")  # where codes keep them, by preference
PREFIXES = re.compile(r"^((module|_orig_mod|model)\.)+")  # of wrapped networks: DataParallel, torch.compile, Lightning

# Official name of a part -> ours; {t} is the stage. What follows is the same on both sides, the bias tables apart.
OFFICIAL_PARTS = {
    "conv1.0": "sfem.conv1",
    "conv2.0": "sfem.conv2",
    "conv3.0": "sfem.conv3",
    "patch_embed.norm": "sfem.norm",
    "A1.{t}": "stages.{t}.sam1.degradation",
    "A3.{t}": "stages.{t}.sam3.degradation",
    "a_12.{t}.residual_group.blocks.0.attn": "stages.{t}.sam1.attn",
    "a_32.{t}.residual_group.blocks.0.attn": "stages.{t}.sam3.attn",
    "a_12.{t}.residual_group.blocks.0.mlp": "stages.{t}.sam1.conv",
    "a_32.{t}.residual_group.blocks.0.mlp": "stages.{t}.sam3.conv",
    "SFM.{t}.residual_group.blocks": "stages.{t}.sfm.blocks",
    "SFM.{t}.conv": "stages.{t}.sfm.conv",
    "f_12.{t}.attn": "stages.{t}.cfm_u",
    "f_32.{t}.attn": "stages.{t}.cfm_v",
    "f_12.{t}.attn.project_out": "stages.{t}.cfm_u.proj",
    "f_32.{t}.attn.project_out": "stages.{t}.cfm_v.proj",
    "f_12.{t}.conv": "stages.{t}.cfm_u.conv",
    "f_32.{t}.conv": "stages.{t}.cfm_v.conv",
    "A2_T.{t}": "stages.{t}.dcm.d2_t",
    "inv.{t}": "stages.{t}.dcm.b_inv",
    "beta1.{t}": "stages.{t}.dcm.beta1",
    "beta2.{t}": "stages.{t}.dcm.beta3",
    "mlps_end.{t}": "stages.{t}.mlp",
    "conv_skip": "skip",
    "out.0": "out",
}
BIAS_TABLE = ".relative_position_bias_table"  # ours: .bias_table
OFFICIAL_KEY = "mlps_end.0.fc1.weight"  # every official network has it, and none of ours
UNUSED = "patch_embed_div3.norm"  # a LayerNorm(24) that the released network builds and never calls
BUFFER_SIZE = 40  # the image side for which the released network keeps its shift masks
BUFFERS = re.compile(r"\.(relative_position_index|attn_mask)$")


def load_model(path: str | Path, device: str | torch.device = "cpu") -> AFUNet:
    """The network of a checkpoint file, ours or official, in eval mode.

    Official files are ``{"state_dict": ...}`` or a bare state dict, with or without the prefix ``module.``; the number
    of stages is read off the keys. Raises InputError naming the first key that is missing, unknown or misshapen.
    """
    return model_of(read_checkpoint(path), str(path)).to(device).eval()


def load_weights(model: AFUNet, path: str | Path) -> None:
    """Put the weights of a checkpoint file into a model of the same configuration (fine-tuning). Raises InputError."""
    loaded = model_of(read_checkpoint(path), str(path))
    ours, theirs = loaded.config, model.config
    if (ours.stages, ours.without, ours.order) != (theirs.stages, theirs.without, theirs.order):
        raise InputError(f"{path}: holds {ours}, but the network asked for is {theirs}; give the same options")
    model.load_state_dict(loaded.state_dict())


def model_of(content: Mapping[str, Any], name: str) -> AFUNet:
    """The network of a checkpoint's content; ``name`` is the file the messages speak of. Raises InputError."""
    state = _weights(content, name)
    if isinstance(content.get("config"), Mapping) and OFFICIAL_KEY not in state:
        return _fill(AFUNet(_config(content["config"], name)), state, name, ours_to_ours)
    stages = {found[1] for key in state if (found := re.match(r"mlps_end\.(\d{1,9})\.", key))}
    if not stages:
        raise InputError(f"{name}: not an AFUNet checkpoint (it has no key {OFFICIAL_KEY})")
    known = {key: value for key, value in state.items() if not _left_out(key)}
    return _fill(AFUNet(_config({"stages": max(map(int, stages)) + 1}, name)), known, name, official_of)


def _weights(content: Mapping[str, Any], name: str) -> State:
    """The weights in a checkpoint's content, under the names they have in the network alone. Raises InputError."""
    found = next((content[key] for key in WEIGHTS if isinstance(content.get(key), Mapping)), content)
    if not found or not all(isinstance(v, Tensor) and isinstance(k, str) for k, v in found.items()):
        raise InputError(f"{name}: holds no weights; a checkpoint of AFUNet is meant")
    return {PREFIXES.sub("", key): value for key, value in found.items()}


def to_official(model: AFUNet) -> State:
    """The model's weights under all the names of the official network, its buffers and unused layer included.

    534 keys for four stages, without the prefix ``module.``; the authors' network loads them with strict=True. Raises
    InputError for a variant that the official network cannot be.
    """
    if model.config.without or model.config.order != "af":
        raise InputError(f"{model.config} is an ablation; only the full network has an official form")
    state = {official_of(key): _official_shape(key, value) for key, value in model.state_dict().items()}
    state |= {f"{UNUSED}.weight": torch.ones(24), f"{UNUSED}.bias": torch.zeros(24)}
    for key in [key for key in state if key.endswith(BIAS_TABLE)]:
        block = key.rpartition(".attn.")[0]
        index = relative_position(WINDOW, WINDOW, torch.device("cpu"))
        state[f"{block}.attn.relative_position_index"] = index.view(WINDOW**2, WINDOW**2).clone()
        if re.search(r"SFM\.\d+\.residual_group\.blocks\.[13]$", block):
            state[f"{block}.attn_mask"] = shift_mask(BUFFER_SIZE)
    return state


def official_of(key: str) -> str:
    """Our name of a weight -> the official one."""
    part, t = _split(key, OFFICIAL_PARTS.values())
    official = next(official for official, ours in OFFICIAL_PARTS.items() if ours == part)
    rest = key[len(part.format(t=t)) :]
    return official.format(t=t) + re.sub(r"\.bias_table$", BIAS_TABLE, rest)


def ours_to_ours(key: str) -> str:
    return key


def shift_mask(size: int) -> Tensor:
    """The released network's mask for shifted windows of a square image: (windows, 64, 64), -100 between regions."""
    line = torch.zeros(size)
    line[size - WINDOW : size - SHIFT] = 1
    line[size - SHIFT :] = 2
    regions = (3 * line[:, None] + line[None, :]).view(size // WINDOW, WINDOW, size // WINDOW, WINDOW)
    regions = regions.transpose(1, 2).reshape(-1, WINDOW**2)
    return (regions[:, :, None] != regions[:, None, :]) * -100.0


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint file, on the CPU; nothing in it can run code.

    Raises InputError, for a file as well that a flipped bit has changed: torch itself does not look at the checksums.
    """
    path = regular_file(path, "give a checkpoint (.pth)")
    try:
        check_whole(path)
        with torch.serialization.safe_globals(HARMLESS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({reason(error)}); give a checkpoint (.pth)") from None
    except Exception:  # torch raises many kinds for damaged files
        raise InputError(f"{path}: {_what_it_is(path)}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}; a checkpoint of AFUNet is meant")
    return content


def check_whole(path: Path) -> None:
    """Raise InputError where a checksum in a checkpoint file does not fit, or it would grow in memory.

    Files of torch's old form (before 1.6) have no checksums and pass.
    """
    size = path.stat().st_size
    if size > LARGEST:
        raise InputError(f"{path}: {size / 1e9:.1f} GB, more than any checkpoint of AFUNet; give another")
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        if any(part.compress_type for part in parts) or sum(part.file_size for part in parts) > size:
            raise InputError(f"{path}: damaged, or packed otherwise than by torch.save; fetch it again or give another")
        damaged = archive.testzip()
    if damaged:
        raise InputError(f"{path}: damaged (the checksum of {damaged} does not fit); fetch it again or give another")


def _what_it_is(path: Path) -> str:
    """Why a file that torch cannot load is none of ours."""
    with suppress(Exception), path.open("rb") as file:
        if file.read(len(POINTER)) == POINTER:
            return "a pointer of Git LFS, not the checkpoint itself; fetch it with git lfs pull"
    with suppress(Exception):
        foreign = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        if any(re.search(r"\bnn\.|\bmodels?\.", name) for name in foreign):
            return f"holds a whole pickled model ({foreign[0]}), not its weights; save model.state_dict() instead"
        if foreign:
            return f"holds objects beside weights ({foreign[0]}); save the weights alone, model.state_dict()"
    return "damaged, or not a checkpoint of weights; fetch it again or give another"


def save_checkpoint(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint beside its place, flush it to disk, and rename: a crash leaves the old file or the new one.

    Raises InputError where the disk takes no file.
    """
    try:
        with atomic_path(path) as temporary:
            torch.save(dict(content), temporary)
    except RuntimeError:  # what torch's writer makes of most errors of the disk
        raise InputError(f"{path}: cannot be written (the disk may be full, or read-only); {ELSEWHERE}") from None


def model_content(model: AFUNet) -> dict[str, Any]:
    """What identifies a model in a checkpoint of ours: its weights and its configuration."""
    return {"state_dict": model.state_dict(), "config": asdict(model.config)}


def weights_only(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A checkpoint's content without the state of its training: weights, configuration, and how they were made."""
    facts = {key: content[key] for key in ("version", "recipe", "epoch") if key in content and "config" in content}
    return {**model_content(model_of(content, name)), **facts}


def _config(values: Mapping[str, Any], name: str) -> AFUNetConfig:
    """The architecture a file asks for, where it is one and can be built. Raises InputError."""
    try:
        config = AFUNetConfig(**values)
        numbers = type(config.stages) is int and type(config.drop_path) in (int, float)
        texts = isinstance(config.order, str) and all(isinstance(part, str) for part in config.without)
        sound = numbers and texts and config.stages <= MOST_STAGES and 0 <= config.drop_path < 1
        said = str(config)[:200]
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: tensors in place of numbers
        raise InputError(f"{name}: its configuration is not one of this version ({reason(error)[:200]})") from None
    if not sound:
        raise InputError(f"{name}: no network of AFUNet has its configuration ({said})")
    return config


def _fill(model: AFUNet, state: Mapping[str, Tensor], name: str, name_of: Any) -> AFUNet:
    """Copy ``state`` into the model. ``name_of`` turns our keys into the file's, which are what errors name."""
    wanted = {name_of(key): (key, value) for key, value in model.state_dict().items()}
    if missing := sorted(wanted.keys() - state.keys()):
        raise InputError(f"{name}: key {missing[0]} is missing{_and_more(missing)}")
    if unknown := sorted(state.keys() - wanted.keys()):
        raise InputError(f"{name}: key {unknown[0][:80]} is unknown to AFUNet{_and_more(unknown)}")
    filled = {}
    for file_key, (key, value) in wanted.items():
        meant = _official_shape(key, value).shape if name_of is official_of else value.shape
        if state[file_key].shape != meant:
            found = tuple(state[file_key].shape)
            raise InputError(f"{name}: key {file_key} has the shape {found}, not {tuple(meant)}")
        if not is_plain(state[file_key]):
            raise InputError(
                f"{name}: key {file_key} holds {_kind(state[file_key])}; save plain floating-point weights"
            )
        filled[key] = state[file_key].reshape(value.shape)
    model.load_state_dict(filled)
    return model


def is_plain(value: Tensor) -> bool:
    """Whether a tensor holds floating-point numbers, each at its place in memory."""
    plain = value.layout == torch.strided and not (value.is_meta or value.is_quantized or value.is_nested)
    return plain and value.is_floating_point()


def _kind(value: Tensor) -> str:
    if value.is_meta:
        return "no numbers (a meta tensor)"
    return f"a {value.layout} tensor of {value.dtype}".replace("torch.", "").replace("strided ", "")


def _and_more(keys: list[str]) -> str:
    return f" (and {len(keys) - 1} more)" if len(keys) > 1 else ""


def _split(key: str, parts: Any) -> tuple[str, str]:
    """The longest of ``parts`` that a key lies in, and the stage in it."""
    t = found[1] if (found := re.match(r"stages\.(\d+)\.", key)) else ""
    fitting = [part for part in parts if (key + ".").startswith(part.format(t=t) + ".")]
    return max(fitting, key=len), t


def _official_shape(key: str, value: Tensor) -> Tensor:
    """CFM's linear layers are 1x1 convolutions there, its temperatures (heads, 1, 1)."""
    return value[..., None, None] if re.search(r"cfm_[uv]\.(temperature|[qkv]\.|proj\.)", key) else value


def _left_out(key: str) -> bool:
    """Official keys that carry nothing: buffers that can be recomputed, and the unused layer."""
    return bool(BUFFERS.search(key)) or key.startswith(UNUSED + ".")


COMMANDS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "to-official": lambda source: {
        "state_dict": {f"module.{key}": value for key, value in to_official(load_model(source)).items()}
    },
    "weights": lambda source: weights_only(read_checkpoint(source), str(source)),
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m utils.checkpoint", description="Convert checkpoints.")
    parser.add_argument(
        "command",
        choices=list(COMMANDS),
        help="to-official: write the authors' form; weights: leave out the optimiser and the state of the training",
    )
    parser.add_argument("source", type=user_path, help="a checkpoint, ours or official")
    parser.add_argument("target", type=user_path, help="the file to write")
    args = parser.parse_args(argv)
    content = COMMANDS[args.command](args.source)
    save_checkpoint(args.target, content)
    print(f"{args.target}: {len(content['state_dict'])} keys")
    return 0


if __name__ == "__main__":
    run(main)
