"""The README's picture: its layout, and that its tone mapping shows dark and bright parts at once."""

from __future__ import annotations

import numpy as np

from benchmarks.readme_picture import GAP, LINE, SMALL, attractive, before_and_after


def test_frames_and_results_lie_side_by_side() -> None:
    frames = np.stack([np.full((40, 60, 3), value, np.uint16) for value in (0, 30000, 65535)])
    red, blue = (np.full((40, 60, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 0, 255)))
    page = before_and_after(frames, red, blue)
    small = round(SMALL * 40 / 60)
    assert page.shape[0] == LINE + 3 * small + 2 * GAP
    middle = LINE + small // 2
    levels = [page[middle + i * (small + GAP), SMALL // 2, 0] for i in range(3)]
    assert levels == [0, 117, 255]
    assert page[middle, SMALL + 2 * GAP].tolist() == [255, 0, 0]
    assert page[middle, -1].tolist() == [0, 0, 255]
    assert (page[:LINE] < 128).any(axis=(0, 2))[:SMALL].any()  # a title


def test_five_stops_of_light_stay_apart() -> None:
    steps = np.repeat(2.0 ** -np.arange(6.0), 16)
    hdr = np.broadcast_to(steps[None, :, None], (96, 96, 3)).astype(np.float32)
    row = attractive(hdr, np.array([0.0, 3.0, 6.0]))[48, 8::16, 0].astype(int)
    assert (np.diff(row) < -5).all()
