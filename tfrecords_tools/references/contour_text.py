"""Contours as text, named as those of the Sunnybrook data: one x y a line.

`IM-0001-0048-icontour-manual.txt` is the inner contour (endocardium) on instance 48,
`ocontour` the outer one (epicardium); papillary muscles (`p1contour`) stay in the blood
pool. Coordinates are pixels, 0 at the first one's centre. Source: Radau et al., MIDAS
Journal 2009.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.files import read_bounded
from tfrecords_tools.references import polygons
from tfrecords_tools.references.config import ReferenceConfig, Structure
from tfrecords_tools.references.painting import paint_contours
from tfrecords_tools.references.reference_file import ReferenceFile
from tfrecords_tools.stack import Reference, Stack

NAME = re.compile(
    r"IM-\d{1,6}-(\d{1,6})-([iop]\d?)contour-\w{1,20}\.txt", re.IGNORECASE
)

_MAX_BYTES = 2**20
_STRUCTURES = {"i": Structure.BLOOD_POOL, "o": Structure.EPICARDIUM}


def instance_numbers(file: ReferenceFile) -> frozenset[int]:
    """The InstanceNumbers that the names of the files state."""
    return frozenset(number for number, *_ in _parts(file.files))


def read_text(file: ReferenceFile, stack: Stack, config: ReferenceConfig) -> Reference:
    """The reference in a folder of contours; of myocardium only.

    Raises:
        RefusedError: `CONTOUR`, `TOO_LARGE`, `GEOMETRY_MISMATCH` or `LABELS`.
    """
    del config  # neither names nor values stand in these files
    numbers = stack.instance_numbers
    if len(set(numbers)) < len(stack.pixels):
        reason = (
            "such contours name only the number of an instance, and the images have no "
            "number each; save the contours as DICOM SEG, RTSTRUCT or NIfTI"
        )
        raise RefusedError(file.path, "CONTOUR", reason)
    shape = stack.pixels.shape
    masks: dict[Structure, np.ndarray] = {}
    for number, kind, path in _parts(file.files):
        if number not in numbers:
            reason = "a contour on an instance that the images do not have"
            raise RefusedError(path, "GEOMETRY_MISMATCH", reason)
        if kind in _STRUCTURES:
            points = _points(path)
            polygons.check(path, points, shape[1:], dense=True)
            mask = masks.setdefault(_STRUCTURES[kind], np.zeros(shape, bool))
            index = numbers.index(number)
            if mask[index].any():
                reason = "two contours of one kind on one instance"
                raise RefusedError(path, "CONTOUR", reason)
            mask[index] = polygons.fill(path, [points], shape[1:])
    if not masks:
        raise RefusedError(file.path, "CONTOUR", "no inner or outer contour")
    return paint_contours(file.path, masks)


def _parts(files: Iterable[Path]) -> list[tuple[int, str, Path]]:
    """Instance number, kind of contour and path of each file."""
    matches = [(path, NAME.fullmatch(path.name)) for path in files]
    return [(int(m[1]), m[2].lower(), path) for path, m in matches if m]


def _points(path: Path) -> np.ndarray:
    """(N, 2) of (row, column)."""
    content = read_bounded(path, _MAX_BYTES)
    try:
        rows = [line.split() for line in content.decode("ascii").splitlines()]
        values = np.array([[float(y), float(x)] for x, y in filter(None, rows)])
    except ValueError:
        reason = "expected two numbers a line"
        raise RefusedError(path, "CONTOUR", reason) from None
    return values.reshape(-1, 2)
