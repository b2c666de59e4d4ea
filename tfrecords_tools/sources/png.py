"""Slices as pairs of PNG files, with a table that says how far pixels lie apart."""

import csv
import dataclasses
import math
from functools import partial
from pathlib import Path

import numpy as np

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.files import read_bounded
from tfrecords_tools.nifti_files import MAX_VOXELS
from tfrecords_tools.png_files import read_grey
from tfrecords_tools.sources.config import PngConfig
from tfrecords_tools.sources.labelled import tissues
from tfrecords_tools.sources.pairing import (
    Files,
    Name,
    PairedStudy,
    check_inside,
    find_pairs,
)
from tfrecords_tools.sources.source import Source
from tfrecords_tools.sources.volume_study import make_study
from tfrecords_tools.study import Study

SOURCE = "png"

SPACINGS = ("spacing_mm_rows", "spacing_mm_columns", "slice_spacing_mm")
MAX_TABLE_BYTES = 2**24


def source(folder: Path, config: PngConfig, key: bytes) -> Source:
    """The studies that the patterns of `config` find under `folder`.

    Raises:
        RefusedError: `NO_STUDIES`, or if the table is none.
    """
    pairs, left_out = find_pairs(
        folder, config.images, config.reference_patterns, key, config.unlabelled
    )
    table = _read_table(folder / config.spacing_table)
    items = [
        dataclasses.replace(study, values=tuple(table.get(name, ())))
        for name, study in pairs.items()
    ]
    return Source(
        name=SOURCE,
        items=items,
        read=partial(read, folder=folder, config=config),
        settings=config.settings(),
        left_out=left_out,
        private=True,
    )


def read(item: PairedStudy, folder: Path, config: PngConfig) -> Study:
    """Reads one study.

    Args:
        item: the files, and its rows of the table.
        folder: the input, which links must not leave.
        config: how they are understood.

    Raises:
        RefusedError: of the file at fault.
    """
    check_inside(folder, item.files)
    spacing_mm = _spacing_mm(item)
    pixels = _stacked(item.images, None)
    arrays = (_stacked(files, pixels.shape) for files in item.references)
    paths = [files[0][1] for files in item.references]
    labels, warnings = tissues(config, paths, arrays, pixels.shape)
    affine = np.diag([*spacing_mm, 1.0])
    return make_study(item, SOURCE, config, pixels, labels, affine, warnings)


def _read_table(path: Path) -> dict[Name, list[tuple[str, ...]]]:
    """The spacings of each study as the table writes them, one tuple a row."""
    if not path.is_file():
        raise RefusedError(path, "NOT_A_FILE", "no spacing table; see --spacing_table")
    content = read_bounded(path, MAX_TABLE_BYTES)
    try:
        lines = content.decode("utf-8-sig").splitlines()
        rows = list(csv.DictReader(lines, strict=True))
    except (UnicodeDecodeError, csv.Error):
        raise RefusedError(path, "CORRUPT", "no CSV text in UTF-8") from None
    if not rows or not {"study", *SPACINGS} <= rows[0].keys():
        needed = ", ".join(("study", *SPACINGS))
        raise RefusedError(path, "BAD_HEADER", f"expected rows and columns {needed}")
    table: dict[Name, list[tuple[str, ...]]] = {}
    for row in rows:
        values = tuple(row[name] or "" for name in SPACINGS)
        name = row.get("patient") or "", row["study"]
        table.setdefault(name, []).append(values)
    return table


def _spacing_mm(item: PairedStudy) -> list[float]:
    path = item.images[0][1]
    if len(item.values) != 1:
        reason = f"expected 1 row of the spacing table, got {len(item.values)}"
        raise RefusedError(path, "BAD_GEOMETRY", reason)
    try:
        spacing_mm = [float(value) for value in item.values[0]]
    except ValueError:
        spacing_mm = [math.nan]
    if not all(0 < value < math.inf for value in spacing_mm):
        reason = "the spacing table has no positive numbers for it"
        raise RefusedError(path, "BAD_GEOMETRY", reason)
    return spacing_mm


def _stacked(files: Files, shape: tuple[int, ...] | None) -> np.ndarray:
    """The slices (S, H, W) of files whose numbers have no gap, all of one shape."""
    for (number, _), (following, path) in zip(files, files[1:], strict=False):
        if following == number:
            raise RefusedError(path, "DUP_POSITION", f"slice {number} is there twice")
        if following != number + 1:
            reason = f"no slice between {number} and {following}"
            raise RefusedError(path, "GAP", reason)
    slices: list[np.ndarray] = []
    for _, path in files:
        slices.append(read_grey(path))
        expected = shape[1:] if shape else slices[0].shape
        if slices[-1].shape != expected:
            reason = f"{slices[-1].shape} against {expected} of the other slices"
            raise RefusedError(path, "SHAPE_MISMATCH", reason)
        if len(files) * slices[0].size > MAX_VOXELS:
            raise RefusedError(path, "TOO_LARGE", f"over {MAX_VOXELS} pixels in all")
    return np.stack(slices)
