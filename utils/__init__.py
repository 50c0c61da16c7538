"""Everything around the network: files, exposures, checkpoints, losses, metrics, the training engine, reports."""

import os

# OpenCV reads both when it is imported, so they are set before any module of this package can.
os.environ.setdefault("OPENCV_IO_ENABLE_OPENEXR", "1")
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # what is wrong with a file is said by InputError
