"""Everything around the network: files, exposures, checkpoints, losses, metrics, the training engine, reports."""

import os

# OpenCV reads it when it is imported, so it is set before any module of this package can.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # what is wrong with a file is said by InputError
