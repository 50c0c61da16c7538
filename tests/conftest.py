"""One thread per test process: pytest-xdist already runs one process per core."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read once, when torch is imported
