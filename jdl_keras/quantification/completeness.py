"""Which slices show a full ring of wall, and whether base and apex are on the stack."""

import dataclasses

import numpy as np

from jdl_keras.quantification.masks import WallMasks
from tfrecords_tools.label_checks import OPEN_RING_DEGREES
from tfrecords_tools.label_shapes import SliceShape, gap

RING_RULE = (
    f"a full ring is wall around a cavity with no gap of {OPEN_RING_DEGREES} degrees "
    "or more, seen from the slice's centre"
)


@dataclasses.dataclass(frozen=True)
class Completeness:
    """How much of the ventricle the masks cover.

    Attributes:
        kinds: of each slice, base first: `full ring`, `open ring`, `no cavity` (wall
            all over, as at the apex) or `no wall`.
        gaps_degrees: widest gap of each slice's wall; None without wall.
        warnings: what is missing, one line each.
    """

    kinds: tuple[str, ...]
    gaps_degrees: tuple[int | None, ...]
    warnings: tuple[str, ...]

    @property
    def full_rings(self) -> tuple[int, ...]:
        """Indices of the slices with a full ring."""
        return tuple(i for i, kind in enumerate(self.kinds) if kind == "full ring")


def completeness(masks: WallMasks) -> Completeness:
    """Looks at every slice by `RING_RULE`."""
    gaps = tuple(_gap_degrees(shape) for shape in masks.shapes)
    pairs = zip(masks.shapes, gaps, strict=True)
    kinds = tuple(_kind(shape, degrees) for shape, degrees in pairs)
    return Completeness(kinds, gaps, tuple(_missing(kinds)))


def _gap_degrees(shape: SliceShape | None) -> int | None:
    return None if shape is None or not shape.wall.any() else gap(shape)[0]


def _kind(shape: SliceShape | None, gap_degrees: int | None) -> str:
    if shape is None or gap_degrees is None:
        return "no wall"
    if gap_degrees >= OPEN_RING_DEGREES:
        return "open ring"
    row, column = np.rint(shape.centre).astype(int)
    return "no cavity" if shape.wall[row, column] else "full ring"


def _missing(kinds: tuple[str, ...]) -> list[str]:
    rings = [i for i, kind in enumerate(kinds) if kind == "full ring"]
    if not rings:
        return ["INCOMPLETE: no slice has a full ring of wall"]
    told = []
    if rings[0] == 0:
        told.append(
            "INCOMPLETE: the first slice has a full ring: wall may be missing "
            "at the base"
        )
    if rings[-1] == len(kinds) - 1:
        told.append(
            "INCOMPLETE: the last slice still has a cavity: the apex is missing"
        )
    between = [i for i in range(rings[0], rings[-1]) if kinds[i] != "full ring"]
    if between:
        numbers = ", ".join(str(i) for i in between)
        told.append(f"INCOMPLETE: no full ring in slice {numbers}, between rings")
    return told
