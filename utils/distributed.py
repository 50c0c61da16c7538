"""Several processes working as one: under torchrun they form a group, alone every function here does nothing."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from utils.files import InputError, reason

Item = TypeVar("Item")

TIMEOUT = timedelta(hours=2)  # one process may still be decoding a data set while the others wait


@contextmanager
def processes(device: torch.device) -> Iterator[tuple[int, int]]:
    """(rank, number of processes): joins the group under torchrun (NCCL on GPUs, gloo on CPUs), (0, 1) otherwise.

    The block must leave nothing behind that holds the group, as a DistributedDataParallel does: gloo's threads would
    outlive the interpreter, which aborts the process.
    """
    if "WORLD_SIZE" not in os.environ:
        yield 0, 1
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    try:
        yield dist.get_rank(), dist.get_world_size()
        _wait_for_all()  # the first process keeps the group's store: nobody leaves before all are done
    finally:
        gc.collect()  # DistributedDataParallel refers to itself
        dist.destroy_process_group()


def _wait_for_all() -> None:
    try:
        dist.barrier()
    except RuntimeError as error:
        raise InputError(f"a process of the group is gone ({reason(error)[:200]}); see what it said") from None


def own_gpu(device: torch.device) -> torch.device:
    """This process's GPU, where torchrun started one process for each; any other device as it is."""
    if device.type != "cuda" or device.index is not None:
        return device
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())


@contextmanager
def first_goes_ahead() -> Iterator[None]:
    """The block runs in the first process, and only then in the others: for downloads that they share."""
    rank, _ = rank_and_world()
    if rank > 0:
        dist.barrier()
    yield
    if rank == 0 and in_a_group():
        dist.barrier()


def in_a_group() -> bool:
    return dist.is_available() and dist.is_initialized()


def rank_and_world() -> tuple[int, int]:
    """(rank, number of processes)."""
    return (dist.get_rank(), dist.get_world_size()) if in_a_group() else (0, 1)


def same_everywhere(number: float) -> bool:
    """Whether all processes have the same number."""
    if not in_a_group():
        return True
    numbers: list[float] = [0.0] * dist.get_world_size()
    dist.all_gather_object(numbers, number)
    return len(set(numbers)) == 1


def total(values: Tensor) -> Tensor:
    """The sum over all processes, the same on each; NaN and infinity of any process reach all."""
    if in_a_group():
        dist.all_reduce(values)
    return values


def gather(items: list[Item]) -> list[Item]:
    """The items of all processes, in the order of their ranks; the same on each."""
    if not in_a_group():
        return items
    shares: list[list[Item]] = [[]] * dist.get_world_size()
    dist.all_gather_object(shares, items)
    return [item for share in shares for item in share]


def gather_what_is_left(items: list[Item]) -> list[Item]:
    """As :func:`gather`; this process's own items where another one is gone."""
    try:
        return gather(items)
    except RuntimeError:
        return items
