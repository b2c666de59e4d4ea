"""Writes stacks as DICOM files, classic and enhanced, as scanners do, and worse.

Tests get this module as the fixture `dicom_writing`.
"""

import hashlib

import numpy as np
from pydicom import Dataset, uid
from pydicom.dataset import FileMetaDataset

LGE = {
    "ScanningSequence": ["GR", "IR"],
    "InversionTime": "310",
    "CardiacNumberOfImages": "1",
    "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"],
    "SeriesDescription": "LGE_sa",
}
PSIR = LGE | {
    "ImageType": ["DERIVED", "PRIMARY", "R", "PSIR"],
    "SeriesDescription": "LGE_sa_PSIR",
}
CINE = {
    "ScanningSequence": "GR",
    "CardiacNumberOfImages": "25",
    "ImageType": ["ORIGINAL", "PRIMARY", "M", "RETRO"],
    "SeriesDescription": "cine_sa",
}
SCOUT = {
    "ScanningSequence": "GR",
    "ImageType": ["ORIGINAL", "PRIMARY", "M", "LOCALIZER"],
    "SeriesDescription": "localizer",
}


def new_uid(*what):
    """The UID of these words; the same words give the same."""
    digest = hashlib.sha256(repr(what).encode()).hexdigest()
    return f"2.25.{int(digest[:28], 16)}"


def short_axis_affine(spacing_mm=(1.4, 1.4), step_mm=10.0, origin=(-60.0, -80.0, 90.0)):
    """Oblique; the slices run from base to apex: left, anterior, inferior."""
    normal = np.array([0.62, -0.55, -0.56]) / np.linalg.norm([0.62, -0.55, -0.56])
    column = np.cross(normal, [0.1, 0.2, 1.0])
    column /= np.linalg.norm(column)
    return affine_of(
        np.cross(normal, column), column, spacing_mm, step_mm * normal, origin
    )


def affine_of(row, column, spacing_mm, step, origin):
    """(4, 4) of the directions in which row and column index grow."""
    affine = np.eye(4)
    affine[:3, 0] = np.multiply(row, spacing_mm[0])
    affine[:3, 1] = np.multiply(column, spacing_mm[1])
    affine[:3, 2], affine[:3, 3] = step, origin
    return affine


def quantised(pixels, slope=1.0, intercept=0.0):
    """Whole numbers (int16) whose rescale is nearest to the pixels."""
    return np.rint((np.asarray(pixels, np.float64) - intercept) / slope).astype(
        np.int16
    )


def _number(value):
    return f"{value:.12f}"[:16]


def place(dataset, affine, index):
    """Puts slice `index` of a stack with `affine` in the patient."""
    spacing = np.linalg.norm(affine[:3, :2], axis=0)
    cosines = [*(affine[:3, 1] / spacing[1]), *(affine[:3, 0] / spacing[0])]
    dataset.ImageOrientationPatient = [_number(v) for v in cosines]
    dataset.ImagePositionPatient = [
        _number(v) for v in affine[:3, 3] + index * affine[:3, 2]
    ]
    dataset.PixelSpacing = [_number(v) for v in spacing]


def base(sop_class, names, tags):
    """What every file of a series has. `names`: patient, study and series."""
    dataset = Dataset()
    dataset.SOPClassUID = sop_class
    dataset.PatientID, dataset.PatientName = names[0], f"Name^{names[0]}"
    dataset.Modality = "MR"
    dataset.StudyInstanceUID = new_uid("study", *names[:2])
    dataset.SeriesInstanceUID = new_uid("series", *names)
    dataset.FrameOfReferenceUID = new_uid("frame of reference", *names[:2])
    dataset.SeriesNumber = 1 + sum(map(ord, names[2]))
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    return dataset


def set_pixels(dataset, stored):
    """Whole numbers (H, W) or (S, H, W), signed or not as their type is."""
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    dataset.BitsAllocated = 8 * stored.dtype.itemsize
    dataset.BitsStored, dataset.HighBit = (
        dataset.BitsAllocated,
        dataset.BitsAllocated - 1,
    )
    content = stored.astype(stored.dtype.newbyteorder("<")).tobytes()
    dataset.PixelData = content + bytes(len(content) % 2)


def classic(stored, affine, names=("P1", "S1", "lge"), rescale=None, **tags):
    """One data set a slice of `stored` (S, H, W)."""
    made = []
    for index, picture in enumerate(stored):
        dataset = base(uid.MRImageStorage, names, tags)
        dataset.SOPInstanceUID = new_uid("image", *names, index)
        dataset.InstanceNumber = index + 1
        dataset.SliceThickness = "6"
        place(dataset, affine, index)
        if rescale:
            dataset.RescaleSlope, dataset.RescaleIntercept = map(_number, rescale)
        set_pixels(dataset, picture)
        made.append(dataset)
    return made


def enhanced(stored, affine, names=("P1", "S1", "lge"), rescale=None, **tags):
    """One data set of all slices; `rescale`: one pair, or one a frame."""
    dataset = base(uid.EnhancedMRImageStorage, names, tags)
    dataset.SOPInstanceUID = new_uid("enhanced", *names)
    dataset.InstanceNumber = 1
    set_pixels(dataset, stored)
    dataset.NumberOfFrames = len(stored)
    placed = [Dataset() for _ in stored]
    for index, one in enumerate(placed):
        place(one, affine, index)
    shared = Dataset()
    shared.PlaneOrientationSequence = [_only(placed[0], "ImageOrientationPatient")]
    shared.PixelMeasuresSequence = [_only(placed[0], "PixelSpacing")]
    dataset.SharedFunctionalGroupsSequence = [shared]
    pairs = rescale if np.ndim(rescale) == 2 else [rescale or (1, 0)] * len(stored)
    dataset.PerFrameFunctionalGroupsSequence = [
        _frame(one, pair) for one, pair in zip(placed, pairs, strict=True)
    ]
    return [dataset]


def _only(dataset, keyword):
    item = Dataset()
    setattr(item, keyword, dataset[keyword].value)
    return item


def _frame(placed, rescale):
    group, values = Dataset(), Dataset()
    group.PlanePositionSequence = [_only(placed, "ImagePositionPatient")]
    values.RescaleSlope, values.RescaleIntercept = map(_number, rescale)
    values.RescaleType = "US"
    group.PixelValueTransformationSequence = [values]
    return group


def save(dataset, path, syntax=uid.ExplicitVRLittleEndian):
    """Writes one file; compressed data sets keep the syntax that they have."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = syntax
    if dataset.file_meta.TransferSyntaxUID == uid.ExplicitVRBigEndian:
        dataset.PixelData = _swapped(dataset)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(path, enforce_file_format=True, overwrite=True)
    return path


def _swapped(dataset):
    if dataset.BitsAllocated == 8:
        return dataset.PixelData
    return np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()


def save_all(datasets, folder, seed=0, **options):
    """Writes files whose names say nothing of their order."""
    random = np.random.default_rng((seed, len(datasets)))
    names = [f"IM{n:06}" for n in random.permutation(900_000)[: len(datasets)]]
    return [
        save(dataset, folder / name, **options)
        for dataset, name in zip(datasets, names, strict=True)
    ]


def small_stack(slices=5, rows=20, columns=24, seed=0):
    """Whole numbers (S, H, W) int16 from 0 to 4000, all slices different."""
    random = np.random.default_rng(seed)
    return random.integers(0, 4001, (slices, rows, columns)).astype(np.int16)


def clinical_study(stored, affine, folder, names=("P1", "S1"), psir=None):
    """LGE (magnitude, and PSIR if given) among cine, long-axis LGE and a scout."""
    series = classic(stored, affine, (*names, "mag"), **LGE | _called("LGE_sa_MAG"))
    if psir is not None:
        series += classic(psir, affine, (*names, "psir"), **PSIR)
    for phase in range(3):
        trigger = {"TriggerTime": str(30 * phase)}
        files = classic(stored[:, ::2, ::2], affine, (*names, "cine"), **CINE | trigger)
        for dataset in files:
            dataset.SOPInstanceUID += f".{phase}"
        series += files
    across = affine[:, [2, 1, 0, 3]].copy()
    across[:3, 0] *= 0.14
    across[:3, 2] *= 10
    series += classic(stored[:3], across, (*names, "la"), **LGE | _called("LGE_4ch"))
    series += scout(stored[0], (*names, "scout"))
    return save_all(series, folder)


def _called(description):
    return {"SeriesDescription": description}


def scout(picture, names):
    """Axial, coronal and sagittal pictures in one series."""
    x, y, z = 1.5 * np.eye(3)
    made = []
    for number, axes in enumerate([(y, x, z), (-z, x, y), (-z, y, x)]):
        affine = np.eye(4)
        affine[:3, :3] = np.stack(axes, axis=1)
        (dataset,) = classic(picture[None], affine, names, **SCOUT)
        dataset.SOPInstanceUID += f".{number}"
        made.append(dataset)
    return made
