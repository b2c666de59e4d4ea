"""Public data sets of NIfTI files that differ in names and label numbers only.

`myops`  MyoPS 2020, 45 patients after infarction: LGE, T2 and cine on one grid. LGE is
    read (`_DE`). Oedema counts as healthy myocardium, for the scar task asks for what
    LGE enhances; the right ventricle is background. The test cases have no reference.
    Source: zmiclab.github.io/zxh/0/myops20.
`mscmr`  MS-CMRSeg 2019, 45 patients, LGE. The wall is labelled, not its scar.
    Source: zmiclab.github.io/zxh/0/mscmrseg19.
`acdc`   ACDC 2017, 150 patients, cine at end of diastole and of systole. The wall is
    labelled. Source: Bernard et al., IEEE TMI 2018, 37(11):2514-2525.

The order of slices is told by the files where their directions are oblique.
"""

import dataclasses
from pathlib import Path

from tfrecords_tools.labels import Tissue
from tfrecords_tools.pseudonyms import PUBLIC_KEY
from tfrecords_tools.sources.config import NiftiConfig
from tfrecords_tools.sources.nifti import paired_source
from tfrecords_tools.sources.source import Source

LAYOUTS = {
    "myops": NiftiConfig(
        images="**/myops_{study}_DE.nii.gz",
        references="**/myops_{study}_gd.nii.gz",
        labels={
            200: Tissue.HEALTHY_MYOCARDIUM,
            500: Tissue.BLOOD_POOL,
            600: Tissue.BACKGROUND,
            1220: Tissue.HEALTHY_MYOCARDIUM,
            2221: Tissue.SCAR,
        },
    ),
    "mscmr": NiftiConfig(
        images="**/{study}_LGE.nii.gz",
        references="**/{study}_LGE_manual.nii.gz",
        labels={
            200: Tissue.HEALTHY_MYOCARDIUM,
            500: Tissue.BLOOD_POOL,
            600: Tissue.BACKGROUND,
        },
    ),
    "acdc": NiftiConfig(
        images="**/{patient}/{patient}_frame{study}.nii.gz",
        references="**/{patient}/{patient}_frame{study}_gt.nii.gz",
        labels={
            1: Tissue.BACKGROUND,
            2: Tissue.HEALTHY_MYOCARDIUM,
            3: Tissue.BLOOD_POOL,
        },
    ),
}


def source(
    name: str, folder: Path, unlabelled: bool = False, key: bytes = PUBLIC_KEY
) -> Source:
    """The studies of one of `LAYOUTS`.

    Args:
        name: of the data set.
        folder: that holds its files, at any depth.
        unlabelled: also take studies without references.
        key: of the pseudonyms: another one where names may be those of patients.

    Raises:
        RefusedError: `NO_STUDIES`.
    """
    config = dataclasses.replace(LAYOUTS[name], unlabelled=unlabelled)
    return paired_source(name, folder, config, key, private=key != PUBLIC_KEY)
