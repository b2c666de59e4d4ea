"""Checks on the labels of a study: what a second reader would ask about.

A finding is no proof of a fault. The limits are wide enough that the 80 training cases
of EMIDEC, drawn with care, give none; how they were set stands beside each of them.
"""

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from tfrecords_tools import geometry
from tfrecords_tools.findings import CODES, SERIOUS, Finding
from tfrecords_tools.label_shapes import (
    SliceShape,
    convex_hull,
    distance_mm,
    gap,
    pieces,
    shape_of,
)
from tfrecords_tools.labels import (
    MYOCARDIAL_DENSITY_G_PER_ML,
    MYOCARDIUM,
    SCAR,
    region_mask,
)
from tfrecords_tools.slice_checks import check_slice
from tfrecords_tools.study import Study

OPEN_RING_DEGREES = 10
"""Gaps from here on are reported; thin walls on a pixel grid have cracks below it."""

SHIFT_MM = 10.0
"""Deviation of a slice's centre that is reported; at most 6.4 mm in EMIDEC."""

SCAR_BEYOND_MM = 8.0
"""Reach of scar beyond the rest of its slice and its neighbours; at most 5.6 mm in
EMIDEC."""

LEAST_SLICES_OF_A_LINE = 3
"""So many other centres are needed to say where one belongs."""

MASS_G = (20.0, 450.0)
"""Plausible mass of the left ventricle, from a small child to the heaviest heart: only
a wrong spacing or a wrong structure lies outside."""

SCAR_SHARE_PERCENT = 60.0
"""Share of the wall that is scar; at most 52 % in EMIDEC."""


def check_labels(study: Study) -> list[Finding]:
    """Everything that is odd about the labels of a study, by slice and code.

    Only slices with a reference of the myocardium are judged. What a reference does not
    speak of is no finding: a label map without blood pool is one of the wall only.
    """
    known = ["myocardium" in tasks for tasks in study.labelled]
    if not any(known):
        return []
    shapes = [
        shape_of(slice_) if is_known else None
        for slice_, is_known in zip(study.slices(), known, strict=True)
    ]
    if not any(shapes):
        text = "No pixel is labelled."
        return [Finding("EMPTY", None, 0.0, "pixels", text)]
    shifted = [*_shifted(shapes)]
    straight = {*range(len(shapes))} - {finding.index for finding in shifted}
    found = [
        *shifted,
        *_amounts(study, all(known)),
        *_jumps(shapes, known),
        *_open_rings(shapes),
        *_far_scar(shapes, straight),
    ]
    has_blood = any(shape.blood.any() for shape in shapes if shape)
    for slice_, shape in zip(study.slices(), shapes, strict=True):
        if shape:
            found.extend(check_slice(slice_, shape, has_blood))
    order = [*CODES]
    return sorted(found, key=lambda f: (f.place_in_stack, order.index(f.code)))


def warnings_for(study: Study) -> tuple[str, ...]:
    """The serious findings as warnings of a study, one line each."""
    serious = (f for f in check_labels(study) if f.code in SERIOUS)
    return tuple(f"{f.code} {f.where}: {f.text}" for f in serious)


def _amounts(study: Study, is_complete: bool) -> Iterator[Finding]:
    wall = int(region_mask(study.label_map, MYOCARDIUM).sum())
    scar = int(region_mask(study.label_map, SCAR).sum())
    ml = geometry.voxel_volume_ml(study.spacing_mm, study.slice_spacing_mm)
    mass_g = wall * ml * MYOCARDIAL_DENSITY_G_PER_ML
    if is_complete and not MASS_G[0] <= mass_g <= MASS_G[1]:
        text = f"The wall weighs {mass_g:.3g} g, not {MASS_G[0]:g} to {MASS_G[1]:g} g."
        yield Finding("MASS", None, mass_g, "g", text)
    percent = 100 * scar / max(wall, 1)
    if percent > SCAR_SHARE_PERCENT:
        text = f"{percent:.0f} % of the wall is scar."
        yield Finding("SCAR_SHARE", None, percent, "%", text)


def _jumps(
    shapes: Sequence[SliceShape | None], known: Sequence[bool]
) -> Iterator[Finding]:
    """Slices with and without label that alternate, where both are known."""
    drawn = [index for index, shape in enumerate(shapes) if shape]
    for index in range(drawn[0] + 1, drawn[-1]):
        if known[index] and index not in drawn:
            text = "No label here, but towards the base and towards the apex."
            yield Finding("MISSING_SLICE", index, 0.0, "pixels", text)
    for index in drawn:
        beside = {index - 1, index + 1} & set(range(len(shapes)))
        is_alone = all(known[place] and not shapes[place] for place in beside)
        if is_alone and len(beside) == 2:
            text = "Labelled, but neither neighbour is."
            yield Finding("LONE_SLICE", index, 1.0, "slice", text)


def _open_rings(shapes: Sequence[SliceShape | None]) -> Iterator[Finding]:
    """Open rings between closed ones: at the base and the apex they are anatomy."""
    gaps = {i: gap(shape) for i, shape in enumerate(shapes) if shape}
    closed = [i for i, (degrees, _) in gaps.items() if degrees < OPEN_RING_DEGREES]
    for index, (degrees, place) in gaps.items():
        if index not in closed and closed and closed[0] < index < closed[-1]:
            text = f"The wall is open over {degrees} degrees."
            yield Finding("OPEN_RING", index, float(degrees), "degrees", text, place)


def _shifted(shapes: Sequence[SliceShape | None]) -> Iterator[Finding]:
    """Centres off the line through the others, the worst first, then without it."""
    drawn = {index: shape for index, shape in enumerate(shapes) if shape}
    centres = {index: shape.centre_mm for index, shape in drawn.items()}
    left = [*drawn]
    while len(left) > LEAST_SLICES_OF_A_LINE:
        offsets = [_offset_mm(centres, left, index) for index in left]
        lengths = np.linalg.norm(offsets, axis=1)
        worst = int(lengths.argmax())
        if lengths[worst] <= SHIFT_MM:
            return
        index = left.pop(worst)
        text = f"Its centre is {lengths[worst]:.0f} mm off the line of the others."
        place = _moved(drawn[index], -offsets[worst])
        yield Finding("SHIFTED", index, float(lengths[worst]), "mm", text, place)


def _offset_mm(
    centres: dict[int, np.ndarray], used: Sequence[int], index: int
) -> np.ndarray:
    """The centre (2,) of a slice less where a line through the others puts it.

    The line of Theil and Sen: the median of the slopes of all pairs, and the median of
    what is left; a minority of wrong centres does not turn it.
    """
    places = np.array([place for place in used if place != index])
    points = np.array([centres[place] for place in places])
    one, other = np.triu_indices(len(places), 1)
    slopes = (points[other] - points[one]) / (places[other] - places[one])[:, None]
    slope = np.median(slopes, axis=0)
    start = np.median(points - places[:, None] * slope, axis=0)
    return centres[index] - (start + index * slope)


def _moved(shape: SliceShape, by_mm: np.ndarray) -> np.ndarray:
    """The hull (H, W) moved in its plane, cut where it leaves the image."""
    steps = np.rint(by_mm / shape.spacing_mm).astype(int)
    places = np.argwhere(shape.hull) + steps
    inside = ((places >= 0) & (places < shape.hull.shape)).all(axis=1)
    moved = np.zeros_like(shape.hull)
    moved[tuple(places[inside].T)] = True
    return moved


def _far_scar(
    shapes: Sequence[SliceShape | None], judged: Collection[int]
) -> Iterator[Finding]:
    """Scar that hangs on the wall but reaches beyond where a wall could be."""
    for index, shape in enumerate(shapes):
        beside = [*shapes[max(index - 1, 0) : index], *shapes[index + 1 : index + 2]]
        neighbours = [neighbour.hull for neighbour in beside if neighbour]
        if not shape or index not in judged or not neighbours or not shape.scar.any():
            continue
        main = pieces(shape.wall)[0]
        rest = (main | shape.blood) & ~shape.scar
        inside = np.any([*neighbours, convex_hull(rest)], axis=0)
        beyond_mm = distance_mm(inside, shape.spacing_mm)
        place = shape.scar & main & (beyond_mm > SCAR_BEYOND_MM)
        if place.any():
            far = float(beyond_mm[place].max())
            text = f"Scar reaches {far:.0f} mm out of the heart."
            yield Finding("SCAR_OUTSIDE", index, far, "mm", text, place)
