"""From native slices to samples on the grid, on any backend and in graph.

A sample is a dict: `image` (H, W, 1) in [0, 1], one mask (H, W, 1) of 0 and 1 for each
task, `labelled`, a dict of 1 or 0 for each task, and `patient`, its index in
`StudySet.patients(split)`.
"""

import numpy as np
from keras import KerasTensor, ops

from jdl_keras.preprocessing import (
    Grid,
    intensity_range,
    sample,
    scale_intensities,
)
from tfrecords_tools.labels import TASKS, Tissue


def region_masks(label_map: KerasTensor) -> dict[str, KerasTensor]:
    """For each task 1.0 where a label map of `Tissue`, of any shape, is in its region.

    Comparisons of bytes: a look-up of every pixel in a table takes three times as long.
    """
    inside = {
        tissue: ops.cast(ops.equal(label_map, int(tissue)), "uint8")
        for tissue in Tissue
    }
    return {
        task: ops.cast(sum(inside[t] for t in sorted(region)), "float32")
        for task, region in TASKS.items()
    }


def limits_on_grid(
    pixels: KerasTensor, transform: KerasTensor, grid: Grid
) -> KerasTensor:
    """The intensities (B, 2) that become 0 and 1, of slices as they lie on the grid.

    Args:
        pixels: (B, H, W) finite intensities as acquired.
        transform: (B, 3, 3) from the grid to native pixels.
        grid: the networks' grid.
    """
    on_grid = sample(pixels[..., None], transform, grid.size, "BILINEAR", "NEAREST")
    return intensity_range(on_grid[..., 0], grid.percentiles)


def resampled(
    pixels: KerasTensor,
    label_maps: KerasTensor,
    transform: KerasTensor,
    limits: KerasTensor,
    grid: Grid,
) -> dict[str, KerasTensor]:
    """Image and masks (B, rows, columns, 1) of slices, sampled together and once.

    Args:
        pixels: (B, H, W) finite intensities as acquired.
        label_maps: (B, H, W) uint8.
        transform: (B, 3, 3) from the grid to native pixels.
        limits: (B, 2) of `limits_on_grid`.
        grid: the networks' grid.
    """
    image = sample(pixels[..., None], transform, grid.size, "BILINEAR", "NEAREST")
    label_map = sample(
        label_maps[..., None], transform, grid.size, "NEAREST", "CONSTANT"
    )
    return {"image": scale_intensities(image, limits), **region_masks(label_map)}


def millimetres_to_grid(grid: Grid) -> np.ndarray:
    """(3, 3) from (x, y, 1) in millimetres around the grid's centre to its pixels."""
    return np.array(
        [
            [1 / grid.spacing_mm[1], 0, (grid.size[1] - 1) / 2],
            [0, 1 / grid.spacing_mm[0], (grid.size[0] - 1) / 2],
            [0, 0, 1],
        ]
    )
