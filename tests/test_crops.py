"""Training data: the cache, and samples that depend on nothing but seed, epoch and index."""

from __future__ import annotations

import multiprocessing
import os
import resource
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets import cache
from datasets import crops as crops_module
from datasets.cache import Reader
from datasets.crops import Augmentation, EpochBatches, TrainingBatches, TrainingCrops
from datasets.scenes import Sample, Scene, split_validation
from tests.random_scenes import random_scene
from utils.exposure import to_linear
from utils.files import InputError
from utils.images import ldr_to_float

CPU = torch.device("cpu")
P = 16


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Scene]:
    root = tmp_path_factory.mktemp("scenes")
    return [random_scene(root / name, seed=i) for i, name in enumerate("abc")]


def crops(readers: list[Reader], repeat: int = 4, seed: int = 443) -> TrainingCrops:
    return TrainingCrops(readers, P, crops_module.paper_augmentation, repeat, seed)


@pytest.mark.parametrize("choice", cache.CACHE_CHOICES)
def test_every_cache_choice_gives_what_the_files_hold(choice: str, scenes: list[Scene], tmp_path: Path) -> None:
    for scene, read in zip(scenes, cache.readers(scenes, choice, tmp_path / "cache"), strict=True):
        for ours, theirs in zip(read(), scene.read(), strict=True):
            assert ours.dtype == theirs.dtype and np.array_equal(ours, theirs)
    assert len(list(tmp_path.rglob("*.npy"))) == (3 if choice == "disk" else 0)


def test_the_cache_is_built_once_and_never_goes_stale(tmp_path: Path) -> None:
    scene = random_scene(tmp_path / "a")
    (first,) = cache.build_cache([scene], tmp_path / "cache")
    stamp = first.stat().st_mtime_ns
    assert cache.build_cache([scene], tmp_path / "cache") == [first] and first.stat().st_mtime_ns == stamp
    random_scene(tmp_path / "a", seed=7)
    (second,) = cache.build_cache([scene], tmp_path / "cache")
    assert second != first
    assert np.array_equal(cache.open_cached(second)[2], scene.read()[2])
    os.utime(scene.exposure_path, ns=(0, 0))  # as another file of the same size would look
    assert cache.cache_path(scene, tmp_path / "cache") != second


def test_a_damaged_cache_file_is_made_anew(scenes: list[Scene], tmp_path: Path) -> None:
    path = cache.build_cache(scenes[:1], tmp_path)[0]
    path.write_bytes(path.read_bytes()[:1000])
    assert cache.build_cache(scenes[:1], tmp_path) == [path]
    assert np.array_equal(cache.open_cached(path)[0], scenes[0].read()[0])


def test_a_flipped_bit_in_a_cache_file_is_found(scenes: list[Scene], tmp_path: Path) -> None:
    path = cache.build_cache(scenes[:1], tmp_path)[0]
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in [0, len(whole) - 1, *rng.integers(0, len(whole), 30).tolist()]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        assert cache.build_cache(scenes[:1], tmp_path) == [path]
        assert path.read_bytes() == whole, place


def test_leftovers_of_killed_builds_are_removed(scenes: list[Scene], tmp_path: Path) -> None:
    for name in (".old.1-0.tmp.npy", ".under way.2-0.tmp.npy"):
        (tmp_path / name).touch()
    os.utime(tmp_path / ".old.1-0.tmp.npy", (0, 0))
    cache.build_cache(scenes[:1], tmp_path)
    assert [path.name for path in tmp_path.glob(".*")] == [".under way.2-0.tmp.npy"]


def test_two_processes_may_build_the_cache_at_once(scenes: list[Scene], tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    builders = [
        context.Process(target=cache.build_cache, args=(scenes, tmp_path), kwargs={"progress": False}) for _ in "12"
    ]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join(20)
        assert builder.exitcode == 0
    assert sorted(tmp_path.iterdir()) == sorted(cache.cache_path(scene, tmp_path) for scene in scenes)
    for scene in scenes:
        assert np.array_equal(cache.open_cached(cache.cache_path(scene, tmp_path))[0], scene.read()[0])


def test_a_scene_that_fails_ends_the_building(tmp_path: Path) -> None:
    scenes = [random_scene(tmp_path / name, seed=i) for i, name in enumerate("abcd")]
    scenes[1].label_path.write_bytes(b"#?RADIANCE\n")
    with pytest.raises(InputError, match=r"HDRImg\.hdr: not a readable image"):
        cache.build_cache(scenes, tmp_path / "cache")
    assert all(path.suffix == ".npy" for path in (tmp_path / "cache").iterdir())  # nothing half-written


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    scene = random_scene(tmp_path / "a")
    scene.label_path.unlink()
    with pytest.raises(InputError, match=r"HDRImg\.hdr: no label"):
        cache.build_cache([scene], tmp_path / "cache")


def test_a_cache_that_cannot_be_written_names_the_ways_out(scenes: list[Scene], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"--cache_dir.*--cache_choice none"):
        cache.build_cache(scenes, tmp_path / "file" / "cache")


def test_reading_crops_does_not_gather_the_cache_in_memory(tmp_path: Path) -> None:
    frames, label = np.ones((3, 1000, 1500, 3), np.uint16), np.ones((1000, 1500, 3), np.float32)
    cache._write_cached(tmp_path / "big.npy", Sample(frames, np.zeros(3, np.float32), label))
    size = frames.nbytes + label.nbytes
    del frames, label
    readers: list[Reader] = [partial(cache.open_cached, tmp_path / "big.npy")]
    dataset = TrainingCrops(readers, 128, crops_module.paper_augmentation, 150, 1)
    before = resident()
    for index in range(len(dataset)):  # cover the image more than once
        dataset[1, index]
    assert resident() - before < size / 4


def resident() -> int:
    """Bytes of this process in memory, mapped files included."""
    with Path("/proc/self/statm").open() as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def test_a_crop_is_a_window_of_the_scene_frames_and_label_alike(scenes: list[Scene]) -> None:
    image = np.arange(30 * 41, dtype=np.float32).reshape(30, 41, 1).repeat(3, 2)
    frames = np.stack([image.astype(np.uint16) + i for i in range(3)])
    dataset = crops([lambda: Sample(frames, np.zeros(3, np.float32), image)], repeat=40)
    corners = set()
    for index in range(len(dataset)):
        sample = dataset[1, index]
        for i in range(3):
            assert np.array_equal(sample.frames[i], sample.label.astype(np.uint16) + i)
        top, left = divmod(int(sample.label.min()), 41)
        window = image[top : top + P, left : left + P]
        assert sorted(sample.label.ravel()) == sorted(window.ravel())
        corners.add((top, left))
    assert len(corners) > 30


@pytest.mark.parametrize(("name", "count"), [("paper", 8), ("released", 3)])
def test_augmentations_reach_all_they_should(name: str, count: int) -> None:
    image = np.arange(P * P).reshape(P, P, 1)
    rng = np.random.default_rng(0)
    seen = [crops_module.AUGMENTATIONS[name](rng)(image).tobytes() for _ in range(4000)]
    shares = sorted(seen.count(view) / len(seen) for view in set(seen))
    assert len(shares) == count
    wanted = [1 / 8] * 8 if name == "paper" else [1 / 4, 1 / 4, 1 / 2]
    assert shares == pytest.approx(wanted, abs=0.03)


def test_an_augmentation_is_a_turn_then_flips() -> None:
    image = np.array([[1, 2], [3, 4]])[..., None]
    assert Augmentation(1, False, False)(image)[..., 0].tolist() == [[2, 4], [1, 3]]
    assert Augmentation(0, True, False)(image)[..., 0].tolist() == [[3, 4], [1, 2]]
    assert Augmentation(0, False, True)(image)[..., 0].tolist() == [[2, 1], [4, 3]]


def test_samples_depend_on_seed_epoch_and_index_only(scenes: list[Scene]) -> None:
    readers = cache.readers(scenes, "memory", "")
    one, other = crops(readers), crops(readers)
    list(map(other.__getitem__, [(2, 5), (9, 1)]))  # what was drawn before has no influence
    assert np.array_equal(one[1, 3].label, other[1, 3].label)
    assert not np.array_equal(one[1, 3].label, one[2, 3].label)
    assert not np.array_equal(one[1, 3].label, one[1, 6].label)
    assert not np.array_equal(one[1, 3].label, crops(readers, seed=1)[1, 3].label)


def test_an_epoch_visits_every_scene_equally_often() -> None:
    batches = EpochBatches(12, 4, seed=1)
    keys = [key for batch in batches for key in batch]
    assert len(batches) == 3 and sorted(index for _, index in keys) == list(range(12))
    batches.go_to(2, 0)
    later = [key for batch in batches for key in batch]
    assert {epoch for epoch, _ in later} == {2} and [i for _, i in later] != [i for _, i in keys]


def test_processes_share_the_samples_of_a_step_without_repeats() -> None:
    alone = list(EpochBatches(27, 6, seed=1))
    ranks = [list(EpochBatches(27, 3, seed=1, rank=rank, world=2)) for rank in range(2)]
    assert alone == [first + second for first, second in zip(*ranks, strict=True)]
    accumulated = list(EpochBatches(27, 3, seed=1, accumulate=2))
    assert alone == [a + b for a, b in zip(accumulated[::2], accumulated[1::2], strict=True)]
    assert len(alone) == 4  # 27 = 4 x 6 + 3 left out


def test_an_epoch_goes_on_where_it_was_left() -> None:
    batches = EpochBatches(40, 4, seed=1, rank=1, world=2)
    whole = list(batches)
    batches.go_to(1, 16)
    assert list(batches) == whole[2:] and len(batches) == 3


def test_an_epoch_too_short_for_a_step_is_refused() -> None:
    with pytest.raises(InputError, match="--repeat"):
        EpochBatches(5, 6, seed=1)


def test_an_epoch_begun_with_other_steps_ends_on_a_whole_one() -> None:
    ranks = [EpochBatches(12, 2, seed=1, rank=rank, world=2) for rank in range(2)]
    for share in ranks:
        share.go_to(1, 6)  # where a run with steps of two was stopped
    assert [[len(batch) for batch in share] for share in ranks] == [[2], [2]]
    assert [len(share) for share in ranks] == [1, 1]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_hold_the_networks_input(workers: int, scenes: list[Scene], tmp_path: Path) -> None:
    dataset = crops(cache.readers(scenes, "disk", tmp_path))
    share = EpochBatches(len(dataset), 5, seed=443)
    found = list(TrainingBatches(dataset, share, CPU, workers)(3, 5))
    share.go_to(3, 5)
    assert len(found) == 1
    for keys, (x, label) in zip(share, found, strict=True):
        assert x.shape == (5, 18, P, P) and label.shape == (5, 3, P, P)
        for key, ours, truth in zip(keys, x, label, strict=True):
            sample = dataset[key]
            ldr = ldr_to_float(sample.frames)
            linear = to_linear(ldr, sample.ev[:, None, None, None])
            wanted = np.concatenate([linear, ldr], axis=-1).transpose(0, 3, 1, 2).reshape(18, P, P)
            np.testing.assert_allclose(ours.numpy(), wanted, atol=1e-7)
            assert np.array_equal(truth.numpy(), sample.label.transpose(2, 0, 1))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_scene_smaller_than_the_crop_gets_one_clear_line(workers: int, scenes: list[Scene]) -> None:
    dataset = TrainingCrops(cache.readers(scenes, "none", ""), 64, crops_module.paper_augmentation, 1, 1)
    with pytest.raises(InputError) as error:
        list(TrainingBatches(dataset, EpochBatches(3, 1, seed=1), CPU, workers)(1))
    assert str(error.value) == "a training scene is 41x30, smaller than --train_patch_size 64"


def test_of_several_windows_the_one_with_most_clipped_pixels_is_taken(scenes: list[Scene]) -> None:
    frames, ev, label = (np.array(part) for part in scenes[0].read())
    frames[1] = np.minimum(frames[1], 60_000)
    frames[1, :12, :12] = 64_000  # as JPEG leaves a clipped place
    readers: list[Reader] = [lambda: Sample(frames, ev, label)]

    def shares(draws: int) -> list[float]:
        dataset = TrainingCrops(readers, P, crops_module.paper_augmentation, 200, 1, draws)
        return [float((dataset[1, index].frames[1].min(axis=-1) == 64_000).mean()) for index in range(200)]

    any_window, chosen = shares(1), shares(8)
    assert np.mean(chosen) > 2 * np.mean(any_window)
    assert shares(8) == chosen  # a function of the key alone
    assert len(set(chosen)) > 10  # not the same window every time


def test_whole_scenes_for_validation(scenes: list[Scene]) -> None:
    x, label = crops_module.whole_scene(scenes[0].read, CPU)
    assert x.shape == (1, 18, 30, 41) and label.shape == (3, 30, 41)
    assert np.array_equal(label.permute(1, 2, 0).numpy(), scenes[0].read()[2])


def test_held_out_scenes(scenes: list[Scene]) -> None:
    many = [Scene(str(i), (), Path(), Path()) for i in range(74)]
    kept, held = split_validation(many, 0.05, seed=443)
    assert len(held) == 4 and sorted(kept + held, key=many.index) == many
    assert split_validation(many, 0.05, seed=443) == (kept, held)
    assert split_validation(many, 0.05, seed=1)[1] != held
    assert len(split_validation(scenes, 0.05, seed=1)[1]) == 1
    assert split_validation(scenes, 0, seed=1) == (scenes, [])
    with pytest.raises(InputError, match="--validate_on test"):
        split_validation(scenes[:1], 0.05, seed=1)
