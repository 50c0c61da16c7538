"""One thread per test process: pytest-xdist already runs one process per core. GPU kernels run without a GPU too."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read once, when torch is imported

import torch

os.environ.setdefault("TRITON_INTERPRET", str(int(not torch.cuda.is_available())))  # read once, with models.kernels

from tests.browser import browser, watched, watched_in_hdr  # noqa: F401  for all tests of pages
