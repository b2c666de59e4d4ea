"""Settings of measuring masks."""

import dataclasses
from typing import Literal

from tfrecords_tools.labels import Tissue

SliceOrder = Literal["auto", "base_first", "apex_first"]
RemoteRule = Literal["auto", "beyond_scar", "darkest_sector"]


@dataclasses.dataclass(frozen=True)
class QuantifyConfig:
    """How masks are understood and measured.

    Attributes:
        labels: value of a label map to tissue; 0 is background unless named. Without
            SCAR nobody looked for scar.
        slice_order: which slice comes first in the file; `auto` goes by the directions
            in the file and else assumes the base, with a warning.
        spacing: voxel sizes must agree, or which of the two headers is right.
        orientation: sform and qform must agree, or which of them is right.
        slice_axis: the axis of the array that counts slices.
        fill_holes: count wall that scar encloses as MVO, and so as scar.
        remote_rule: how remote wall is found where no mask of it is given.
        fwhm_base: what the height of the brightest scar is measured from; zero is for
            magnitude images only.
        insertions_mm: anterior insertion of the RV as x, y, z in LPS, one point or
            several at different heights.
        insertion_voxels: the same as indices of the file's array, counted from 0.
    """

    labels: dict[int, Tissue] = dataclasses.field(
        default_factory=lambda: {int(tissue): tissue for tissue in Tissue}
    )
    slice_order: SliceOrder = "auto"
    spacing: Literal["agree", "pixdim", "affine"] = "agree"
    orientation: Literal["agree", "sform", "qform"] = "agree"
    slice_axis: Literal[1, 2, 3] = 3
    fill_holes: bool = False
    remote_rule: RemoteRule = "auto"
    fwhm_base: Literal["remote", "minimum", "zero"] = "remote"
    insertions_mm: list[tuple[float, float, float]] = dataclasses.field(
        default_factory=list
    )
    insertion_voxels: list[tuple[float, float, float]] = dataclasses.field(
        default_factory=list
    )
