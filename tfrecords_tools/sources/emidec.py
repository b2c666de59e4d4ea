"""The EMIDEC data set: 100 LGE examinations with reference contours (emidec.com).

Layout: `Case_X/Images/Case_X.nii.gz` and `Case_X/Contours/Case_X.nii.gz`, arrays of
(x, y, slice). Source: Lalande et al., Data 2020, 5(4):89.

Two traps. The affine is diag(-1, -1, 1), so the voxel size stands only in `pixdim`.
And the slices run from the apex to the base: over the 80 cases of the training set the
blood pool grows along the slice index in every one.
"""

import re
from functools import partial
from pathlib import Path

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.pseudonyms import PUBLIC_KEY, pseudonym
from tfrecords_tools.sources import nifti
from tfrecords_tools.sources.config import NiftiConfig
from tfrecords_tools.sources.pairing import PairedStudy
from tfrecords_tools.sources.source import Source

SOURCE = "emidec"

CONFIG = NiftiConfig(
    images="{study}/Images/{study}.nii.gz",
    references="{study}/Contours/{study}.nii.gz",
    slice_order="apex_first",
    spacing="pixdim",
)
"""The numbers of the labels are those of `Tissue`."""


def case_names(folder: Path) -> list[str]:
    """The cases in a folder, sorted.

    Raises:
        RefusedError: if the folder holds none.
    """
    found = folder.glob("Case_*") if folder.is_dir() else ()
    names = sorted(p.name for p in found if re.fullmatch(r"Case_[NP]?\d+", p.name))
    if not names:
        reason = "no Case_X folders here; give the folder that holds them"
        raise RefusedError(folder, "NO_STUDIES", reason)
    return names


def source(folder: Path) -> Source:
    """The cases of the data set; one without its files is refused when it is read.

    Raises:
        RefusedError: `NO_STUDIES`.
    """
    return Source(
        name=SOURCE,
        items=[_case(folder, name) for name in case_names(folder)],
        read=partial(nifti.read, name=SOURCE, folder=folder, config=CONFIG),
        settings={},
    )


def _case(folder: Path, name: str) -> PairedStudy:
    image, contours = (
        folder / name / part / f"{name}.nii.gz" for part in ("Images", "Contours")
    )
    key = pseudonym(name, PUBLIC_KEY)
    return PairedStudy(key, key, ((0, image),), (((0, contours),),))
