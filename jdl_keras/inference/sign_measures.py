"""The measures behind the signs: numbers of a slice, a pair of slices or a study."""

from itertools import pairwise

import numpy as np

from jdl_keras.inference.seen import LEAST_PIXELS, Seen
from jdl_keras.quantification.burden import burden
from tfrecords_tools.label_shapes import SliceShape, distance_mm, enclosed_holes

BAND_MM = 5.0
"""Half width of the band about the outline of the wall, in which doubt is counted."""

Values = dict[int, float]
"""A number for each slice that has one; a study's number stands at `OF_STUDY`."""

OF_STUDY = -1


# Amounts


def scar_share(seen: Seen) -> float:
    """Scar burden in percent."""
    return burden(seen.prediction.wall).burden_percent or 0.0


def loose_scar(seen: Seen) -> float:
    """Volume in ml of scar that is not in the mask of the myocardium."""
    masks = seen.prediction.masks
    outside = np.count_nonzero(masks["scar"] & ~masks["myocardium"])
    return outside * seen.prediction.wall.voxel_ml


def wall_mass(seen: Seen) -> float:
    """Natural logarithm of the wall's mass in g."""
    return float(np.log(burden(seen.prediction.wall).myocardium_g))


def wall_thickness(seen: Seen, _: int, shape: SliceShape) -> float | None:
    """Logarithm of the thickness in mm of a ring with the slice's wall and hull."""
    hull, wall = (
        np.count_nonzero(m) * shape.pixel_mm2 for m in (shape.hull, shape.wall)
    )
    inner = max(hull - wall, 0.0)
    return float(np.log((np.sqrt(hull / np.pi) - np.sqrt(inner / np.pi)) or 1.0))


# Passes


def pass_disagreement(seen: Seen, index: int, _: SliceShape) -> float | None:
    """1 - mean Dice of the wall by each pass and the wall by their mean."""
    mask = seen.prediction.masks["myocardium"][index]
    passes = [one["myocardium"][index] for one in seen.prediction.passes]
    if len(passes) < 2 or not mask.any():
        return None
    return 1 - float(np.mean([_dice(mask, one) for one in passes]))


def burden_spread(seen: Seen) -> float | None:
    """Standard deviation of the scar burden over the passes, in points."""
    found = seen.prediction.pass_burdens_percent
    return float(np.std(found, ddof=1)) if len(found) > 1 else None


def doubt(seen: Seen, index: int, shape: SliceShape) -> float:
    """Mean entropy in bits of the wall's map in the band about its outline.

    1 bit, all doubt, where the window about the heart does not show it.
    """
    wall = shape.wall[seen.window]
    if not wall.any() or wall.all():
        return 1.0
    outside, inside = (distance_mm(m, shape.spacing_mm) for m in (wall, ~wall))
    band = (outside <= BAND_MM) & (inside <= BAND_MM)
    probabilities = seen.prediction.maps["myocardium"][index][seen.window][band]
    p = np.clip(probabilities.astype(np.float64), 1e-6, 1 - 1e-6)
    return float(np.mean(-p * np.log2(p) - (1 - p) * np.log2(1 - p)))


# Images


def noise(seen: Seen, index: int, _: SliceShape) -> float:
    """Logarithm of the noise in a slice's window over its range.

    The median of the absolute second mixed differences, which are blind to edges along
    rows and columns; after Immerkaer 1996, doi:10.1006/cviu.1996.0060.
    """
    image, empty = seen.images[index], seen.empty[index]
    second = image[2:] - 2 * image[1:-1] + image[:-2]
    mixed = second[:, 2:] - 2 * second[:, 1:-1] + second[:, :-2]
    kept = np.abs(mixed[~empty[1:-1, 1:-1]])
    level = np.median(kept) / (6 * 0.6745) if kept.size else 0.0
    return float(np.log(max(level / seen.range_of(index), 1e-4)))


def contrast(seen: Seen, index: int, shape: SliceShape) -> float | None:
    """Cavity against wall without scar, in deviations within them; logarithm.

    The cavity is what the wall encloses; none where the ring is open.
    """
    image = seen.prediction.study.pixels[index]
    cavity, remote = enclosed_holes(shape.wall), shape.wall & ~shape.scar
    if min(np.count_nonzero(cavity), np.count_nonzero(remote)) < LEAST_PIXELS:
        return None
    one, other = image[cavity], image[remote]
    spread = np.sqrt((_deviation(one) ** 2 + _deviation(other) ** 2) / 2)
    difference = abs(np.median(one) - np.median(other))
    return float(np.log(max(difference, 1e-6) / max(spread, 1e-6)))


def cut_off(seen: Seen, index: int, _: SliceShape) -> float:
    """Share of the window that the image does not fill."""
    filled = np.count_nonzero(~seen.empty[index])
    return 1 - filled / seen.window_pixels


# Stack


def elongation(seen: Seen) -> float | None:
    """Logarithm of the ventricle's length over its widest diameter.

    The length is that of the half ellipsoid which is as wide in the first slice as in
    the widest and has narrowed to what the last slice shows; so it hardly depends on
    how near to the apex the last slice happens to lie.
    """
    narrowed = last_diameter(seen)
    if narrowed >= 1:
        return None
    covered_mm = (len(seen.shapes) - 0.5) * seen.prediction.study.slice_spacing_mm
    length_mm = covered_mm / np.sqrt(1 - narrowed**2)
    return float(np.log(length_mm / max(map(_diameter_mm, seen.shapes.values()))))


def coverage(seen: Seen) -> float:
    """Logarithm of the length of the wall along the stack over its widest diameter."""
    length_mm = len(seen.shapes) * seen.prediction.study.slice_spacing_mm
    return float(np.log(length_mm / max(map(_diameter_mm, seen.shapes.values()))))


def last_diameter(seen: Seen) -> float:
    """Diameter of the heart in its last slice over the widest."""
    found = [_diameter_mm(seen.shapes[i]) for i in sorted(seen.shapes)]
    return found[-1] / max(found)


def _image_change(seen: Seen) -> Values:
    """How little a slice's window is like the one before; logarithm of 1 - r.

    r is Pearson's correlation of the two windows.
    """
    found = {}
    for i, j in pairwise(range(len(seen.images))):
        kept = ~(seen.empty[i] | seen.empty[j])
        one, other = seen.images[i][kept], seen.images[j][kept]
        if len(one) < LEAST_PIXELS or not np.ptp(one) or not np.ptp(other):
            continue
        r = np.corrcoef(one, other)[0, 1]
        found[j] = float(np.log(max(1 - r, 1e-4)))
    return found


def image_jump(seen: Seen) -> Values:
    """How much more a slice's window changes from the one before than others do.

    The change is the logarithm of 1 - r, less its median over the stack.
    """
    found = _image_change(seen)
    if len(found) < 3:
        return {}
    usual = float(np.median([*found.values()]))
    return {i: value - usual for i, value in found.items()}


def oval(seen: Seen, _: int, shape: SliceShape) -> float:
    """Long over short axis of the hull, from its second moments; logarithm."""
    places = np.argwhere(shape.hull) * shape.spacing_mm
    if len(places) < LEAST_PIXELS:
        return 0.0
    low, high = np.linalg.eigvalsh(np.cov(places.T))
    return float(np.log(high / max(low, 1e-6)) / 2)


def _dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / max(one.sum() + other.sum(), 1))


def _deviation(values: np.ndarray) -> float:
    """Standard deviation as a median sees it."""
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def _diameter_mm(shape: SliceShape) -> float:
    """Of the circle with the hull's area."""
    return float(2 * np.sqrt(np.count_nonzero(shape.hull) * shape.pixel_mm2 / np.pi))
