"""Checkpoints: official files in every form, ours, and what is wrong with a file said in one line."""

from __future__ import annotations

import argparse
import math
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from models import AFUNet, AFUNetConfig
from tests.golden_figures import BUFFERS, MANIFEST, golden_case, golden_state_dict
from utils.checkpoint import (
    load_model,
    load_weights,
    main,
    model_content,
    read_checkpoint,
    save_checkpoint,
    to_official,
)
from utils.files import InputError


def official_content(prefix: str = "module.") -> dict:
    """A file as the authors' train script writes it, buffers and unused layer included."""
    state = golden_state_dict() | {k: torch.zeros(s) for k, s in MANIFEST.items() if BUFFERS.search(k)}
    state = {prefix + key: value for key, value in state.items()}
    return {"epoch": 3, "state_dict": state, "optimizer": {"param_groups": []}, "lr_scheduler": {"last_epoch": 3}}


@pytest.mark.parametrize("form", ["module.", "no prefix", "bare"])
def test_official_files_load_and_give_the_golden_output(tmp_path: Path, form: str) -> None:
    content = official_content("module." if form == "module." else "")
    torch.save(content["state_dict"] if form == "bare" else content, tmp_path / "Kalantari.pth")
    model = load_model(tmp_path / "Kalantari.pth")
    assert not model.training
    x, wanted = golden_case("square")
    with torch.inference_mode():
        assert (model(x) - wanted).abs().max() < 2e-5


@pytest.mark.parametrize("stages", [1, 2, 6])
def test_the_number_of_stages_is_read_off_the_file(tmp_path: Path, stages: int) -> None:
    torch.save(golden_state_dict(stages), tmp_path / "a.pth")
    assert load_model(tmp_path / "a.pth").config == AFUNetConfig(stages=stages)


def test_to_official_gives_every_name_and_shape_and_comes_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = AFUNet()
    official = to_official(model)
    assert {key: list(value.shape) for key, value in official.items()} == MANIFEST
    torch.save({"state_dict": official}, tmp_path / "a.pth")
    back = load_model(tmp_path / "a.pth").state_dict()
    assert all(torch.equal(back[key], value) for key, value in model.state_dict().items())


def test_official_buffers_hold_what_the_released_network_computes() -> None:
    official = to_official(AFUNet())
    index = official["SFM.0.residual_group.blocks.1.attn.relative_position_index"]
    assert index[0, 0] == 7 * 15 + 7 and index[0, 63] == 0 and index[63, 0] == 224 and index[0, 1] == index[0, 0] - 1
    mask = official["SFM.0.residual_group.blocks.1.attn_mask"]
    assert set(mask.unique().tolist()) == {-100.0, 0.0}
    assert (mask[0] == 0).all()  # whole windows are free; the last row's and column's are cut
    assert mask[4, 0, 7] == -100 and mask[4, 0, 56] == 0 and mask[20, 0, 56] == -100 and mask[24, 0, 63] == -100


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: s.pop("module.conv1.0.weight"), "key conv1.0.weight is missing"),
        (lambda s: s.update({"module.extra": torch.zeros(1)}), "key extra is unknown"),
        (lambda s: s.update({"module.A1.2.fc1.weight": torch.zeros(3, 3)}), r"A1.2.fc1.weight has the shape \(3, 3\)"),
        (
            lambda s: s.update({"module.f_12.0.attn.q.weight": torch.zeros(24, 24)}),
            "f_12.0.attn.q.weight has the shape",
        ),
        (lambda s: s.clear(), "holds no weights"),
    ],
)
def test_wrong_keys_are_named(tmp_path: Path, damage, message: str) -> None:
    content = official_content()
    damage(content["state_dict"])
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(InputError, match=message) as error:
        load_model(tmp_path / "a.pth")
    assert "\n" not in str(error.value) and "a.pth" in str(error.value)


def test_files_that_are_no_checkpoints_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("not a checkpoint")
    torch.save({"state_dict": {"conv.weight": torch.zeros(1)}}, tmp_path / "other.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save(official_content(), tmp_path / "cut.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "cut.pth").read_bytes()[:100_000])
    for name in ("missing.pth", "text.pth", "other.pth", "list.pth", "cut.pth", "."):
        with pytest.raises(InputError, match=name) as error:
            load_model(tmp_path / name)
        assert "\n" not in str(error.value)


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    """Or changes nothing: some bytes of a zip file are never read."""
    wanted = model_content(AFUNet(AFUNetConfig(stages=1)))
    save_checkpoint(tmp_path / "a.pth", wanted)
    whole = (tmp_path / "a.pth").read_bytes()
    rng = np.random.default_rng(0)
    found = 0
    for place in rng.integers(0, len(whole), 100).tolist():
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        (tmp_path / "a.pth").write_bytes(damaged)
        try:
            content = read_checkpoint(tmp_path / "a.pth")
        except InputError as error:
            found += 1
            assert "a.pth" in str(error) and "damaged" in str(error)
        else:
            assert all(torch.equal(content["state_dict"][key], value) for key, value in wanted["state_dict"].items())
    assert found > 60


def test_a_checkpoint_that_would_grow_in_memory_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.zeros(10_000_000)}}, tmp_path / "whole.pth")
    with zipfile.ZipFile(tmp_path / "whole.pth") as whole, zipfile.ZipFile(tmp_path / "packed.pth", "w", 8) as packed:
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
    assert (tmp_path / "packed.pth").stat().st_size < 100_000
    with pytest.raises(InputError, match="packed otherwise than"):
        read_checkpoint(tmp_path / "packed.pth")


def stage_keys(*numbers: str) -> dict[str, torch.Tensor]:
    return {f"mlps_end.{number}.fc1.weight": torch.zeros(1) for number in numbers}


def ours(config: dict, **state: torch.Tensor) -> dict:
    return {"config": config, "state_dict": {"skip.weight": torch.zeros(1), **state}}


FULL = model_content(AFUNet(AFUNetConfig(stages=1)))


def with_weight(change) -> dict:
    return {**FULL, "state_dict": {**FULL["state_dict"], "skip.weight": change(FULL["state_dict"]["skip.weight"])}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (ours({"stages": 10**9}), "no network of AFUNet has its configuration"),
        (ours({"stages": math.nan}), "its configuration"),
        (ours({"stages": True}), "no network of AFUNet has its configuration"),
        (ours({"drop_path": "0.1"}), "its configuration"),
        (ours({"drop_path": math.nan}), "no network of AFUNet has its configuration"),
        (ours({"without": 3}), "its configuration is not one of this version"),
        (ours({"order": ["af"]}), "its configuration is not one of this version"),
        (ours({"stages": 10**500}), "no network of AFUNet has its configuration"),
        (ours({"drop_path": torch.zeros(2)}), "no network of AFUNet has its configuration"),
        (ours({"stages": torch.zeros(2)}), "its configuration is not one of this version"),
        (ours({"layers": 3}), "its configuration is not one of this version"),
        (stage_keys("0", "99999"), "no network of AFUNet has its configuration"),
        (stage_keys("9" * 5000), "not an AFUNet checkpoint"),
        ({1: torch.zeros(1)}, "holds no weights"),
        (with_weight(lambda w: w.to_sparse()), "skip.weight holds a sparse_coo tensor of float32"),
        (with_weight(lambda w: w.to("meta")), r"skip.weight holds no numbers \(a meta tensor\)"),
        (with_weight(lambda w: w.to(torch.int64)), "skip.weight holds a tensor of int64"),
        (with_weight(lambda w: w.to(torch.complex64)), "skip.weight holds a tensor of complex64"),
    ],
)
def test_hostile_checkpoints_are_one_line_within_a_second(tmp_path: Path, content: dict, message: str) -> None:
    torch.save(content, tmp_path / "a.pth")
    began = time.process_time()
    with pytest.raises(InputError, match=message) as error:
        load_model(tmp_path / "a.pth")
    assert time.process_time() - began < 1
    assert len(str(error.value)) < 500


OFFICIAL = to_official(AFUNet(AFUNetConfig(stages=1)))


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in OFFICIAL.items()}


@pytest.mark.parametrize(
    "content",
    [
        {"params": OFFICIAL},
        {"model": prefixed("module.")},
        {"model_state_dict": OFFICIAL},
        {"state_dict": prefixed("_orig_mod.")},
        {"state_dict": prefixed("module._orig_mod.")},
        {"state_dict": prefixed("model."), "pytorch-lightning_version": "2.4"},
        {"state_dict": OFFICIAL, "config": {"lr": 1}},
        {"state_dict": OFFICIAL, "best_psnr": np.float64(41.0)},
        {"state_dict": OFFICIAL, "args": argparse.Namespace(lr=1e-4)},
        {**FULL, "state_dict": {key: value.half() for key, value in FULL["state_dict"].items()}},
    ],
    ids=["params", "model", "model_state_dict", "compiled", "both", "lightning", "config", "numpy", "args", "half"],
)
def test_weights_as_other_codes_keep_them_load(tmp_path: Path, content: dict) -> None:
    torch.save(content, tmp_path / "a.pth")
    assert load_model(tmp_path / "a.pth").config == AFUNetConfig(stages=1)


def test_strangers_are_named(tmp_path: Path) -> None:
    torch.save(torch.nn.DataParallel(AFUNet(AFUNetConfig(stages=1))), tmp_path / "whole.pth")
    torch.save({"state_dict": OFFICIAL, "path": Path("a")}, tmp_path / "objects.pth")
    (tmp_path / "pointer.pth").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n")
    wanted = {
        "whole": r"whole pickled model \(.*\), not its weights; save model.state_dict\(\)",
        "objects": r"objects beside weights \(pathlib",
        "pointer": "a pointer of Git LFS",
    }
    for name, message in wanted.items():
        with pytest.raises(InputError, match=message):
            load_model(tmp_path / f"{name}.pth")


class Payload:
    """What a hostile checkpoint would hold: unpickling it calls a function."""

    def __reduce__(self):
        return (Path.touch, (Path("hacked"),))


def test_reading_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Payload()}, tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"a\.pth"):
        read_checkpoint(tmp_path / "a.pth")
    assert not (tmp_path / "hacked").exists()


def test_ours_remember_their_configuration(tmp_path: Path) -> None:
    model = AFUNet(AFUNetConfig(stages=2, without=("dcm", "sam"), order="fa"))
    save_checkpoint(tmp_path / "a.pth", model_content(model))
    loaded = load_model(tmp_path / "a.pth")
    assert loaded.config == model.config
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), model.parameters(), strict=True))
    with pytest.raises(InputError, match="ablation"):
        to_official(loaded)


def test_load_weights_wants_the_same_network(tmp_path: Path) -> None:
    torch.save(golden_state_dict(2), tmp_path / "a.pth")
    model = AFUNet(AFUNetConfig(stages=2))
    load_weights(model, tmp_path / "a.pth")
    assert torch.equal(model.skip.weight, golden_state_dict(2)["conv_skip.weight"])
    with pytest.raises(InputError, match="same options"):
        load_weights(AFUNet(AFUNetConfig(stages=3)), tmp_path / "a.pth")


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.pth", {"epoch": 1})
    with pytest.raises(Exception, match="pickle"):
        save_checkpoint(tmp_path / "a.pth", {"epoch": lambda: 2})
    assert read_checkpoint(tmp_path / "a.pth") == {"epoch": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["a.pth"]


def test_the_command_writes_the_authors_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_checkpoint(tmp_path / "ours.pth", model_content(AFUNet()))
    assert main(["to-official", str(tmp_path / "ours.pth"), str(tmp_path / "theirs.pth")]) == 0
    state = read_checkpoint(tmp_path / "theirs.pth")["state_dict"]
    assert {key.removeprefix("module."): list(value.shape) for key, value in state.items()} == MANIFEST
    assert "534 keys" in capsys.readouterr().out


def test_the_command_leaves_out_the_state_of_the_training(tmp_path: Path) -> None:
    model = AFUNet(AFUNetConfig(stages=1, without=("cfm",)))
    trained = {**model_content(model), "epoch": 3, "recipe": {"lr": 0.1}, "optimizer": {"state": torch.ones(9)}}
    save_checkpoint(tmp_path / "last.pth", trained)
    assert main(["weights", str(tmp_path / "last.pth"), str(tmp_path / "small.pth")]) == 0
    content = read_checkpoint(tmp_path / "small.pth")
    assert content.keys() == {"state_dict", "config", "epoch", "recipe"}
    assert load_model(tmp_path / "small.pth").config == model.config


def test_the_command_says_where_it_cannot_write(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.pth", model_content(AFUNet(AFUNetConfig(stages=1))))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"b\.pth: cannot be written .*another place"):
        main(["weights", str(tmp_path / "a.pth"), str(tmp_path / "file" / "b.pth")])


def test_the_command_makes_official_weights_ours(tmp_path: Path) -> None:
    torch.save({"state_dict": golden_state_dict(1), "epoch": 7}, tmp_path / "theirs.pth")
    assert main(["weights", str(tmp_path / "theirs.pth"), str(tmp_path / "ours.pth")]) == 0
    content = read_checkpoint(tmp_path / "ours.pth")
    assert content.keys() == {"state_dict", "config"} and "skip.weight" in content["state_dict"]
