"""The masks of a prediction as a DICOM Segmentation on its source images (PS3.3 A.51).

Codes (PS3.16): the categories are of CID 7150, "Left Ventricle Myocardium" of CID 12305
and the algorithm's family of CID 7162; "Scar" is SNOMED CT's morphologic abnormality.

Each segment has a frame for every slice, empty ones too: so scar that was looked for
and not found is told from scar that nobody looked for, and a normal heart gives a valid
file (PS3.3 C.7.6.6 asks for at least one frame).
"""

from collections.abc import Sequence
from pathlib import Path

import highdicom as hd
import numpy as np
from pydicom import Dataset
from pydicom.sr.codedict import codes

from jdl_keras.inference.source_images import (
    MANUFACTURER,
    RESEARCH_USE,
    SourceImage,
    content_uid,
    frame_of_reference_uid,
    parameters,
    quiet,
    save,
    software,
    source_images,
)
from jdl_keras.inference.study_prediction import Provenance, StudyPrediction
from tfrecords_tools.dicom.frames import CLASSIC

MYOCARDIUM, SCAR = 1, 2
"""Numbers of the segments."""

SERIES_NUMBER = 9001

WALL_CODE = codes.SCT.LeftVentricleMyocardium
SCAR_CODE = hd.sr.CodedConcept("12402003", "SCT", "Scar")
ANATOMY = codes.SCT.AnatomicalStructure
ABNORMALITY = codes.SCT.MorphologicallyAbnormalStructure

_COLOURS = {MYOCARDIUM: (216, 101, 79), SCAR: (255, 230, 60)}
"""8-bit RGB."""


def write_seg(
    path: Path,
    prediction: StudyPrediction,
    slices: Sequence[tuple[Path, int]],
    provenance: Provenance,
) -> None:
    """Writes the masks as a SEG; the same input gives the same UIDs and pixels.

    Args:
        path: of the file; only its owner can read it.
        prediction: of the study.
        slices: file and number of each frame that the study was read from.
        provenance: who made the prediction.

    Raises:
        RefusedError: what `source_images` refuses.
    """
    images = source_images(slices, prediction)
    with quiet():
        seg = segmentation(prediction, images, provenance)
    save(seg, path)


def segments(prediction: StudyPrediction) -> np.ndarray:
    """(S, H, W, 2) of the whole wall, scar included, and of the scar."""
    scar = prediction.masks["scar"]
    return np.stack([prediction.masks["myocardium"] | scar, scar], axis=-1)


def segmentation(
    prediction: StudyPrediction, images: Sequence[SourceImage], provenance: Provenance
) -> hd.seg.Segmentation:
    """The SEG; call it inside `quiet`.

    Args:
        prediction: of the study.
        images: of its slices, base to apex.
        provenance: who made the prediction.
    """
    masks = segments(prediction)
    reference = seg_reference(prediction, images, provenance)
    seg = hd.seg.Segmentation(
        source_images=_stand_ins(prediction, images),
        pixel_array=masks,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=_descriptions(provenance),
        series_instance_uid=reference.SeriesInstanceUID,
        series_number=SERIES_NUMBER,
        series_description="LGE myocardium and scar",
        sop_instance_uid=reference.SOPInstanceUID,
        instance_number=1,
        content_label="LGE_SCAR",
        content_description=RESEARCH_USE,
        omit_empty_frames=False,
        # Whatever the source has: names are decoded when they are read.
        specific_character_set="ISO_IR 192",
        **software(provenance),
    )
    _refer_to(seg, images)
    _settle_dimensions(seg, content_uid("dimensions", images, masks, provenance))
    return seg


def seg_reference(
    prediction: StudyPrediction, images: Sequence[SourceImage], provenance: Provenance
) -> Dataset:
    """The UIDs of the SEG of a prediction, for who refers to it."""
    masks, reference = segments(prediction), Dataset()
    reference.SOPClassUID = hd.UID("1.2.840.10008.5.1.4.1.1.66.4")
    reference.SOPInstanceUID = content_uid("seg", images, masks, provenance)
    reference.SeriesInstanceUID = content_uid("seg series", images, masks, provenance)
    reference.StudyInstanceUID = images[0].frame.study_uid
    return reference


def _descriptions(provenance: Provenance) -> list[hd.seg.SegmentDescription]:
    algorithm = hd.AlgorithmIdentificationSequence(
        name=MANUFACTURER,
        family=codes.cid7162.ArtificialIntelligence,
        version=provenance.version,
        source=MANUFACTURER,
        parameters=parameters(provenance),
    )
    rows = (
        (MYOCARDIUM, "Myocardium", ANATOMY, WALL_CODE, None),
        (SCAR, "Scar", ABNORMALITY, SCAR_CODE, [WALL_CODE]),
    )
    return [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=label,
            segmented_property_category=category,
            segmented_property_type=kind,
            anatomic_regions=regions,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            display_color=hd.color.CIELabColor.from_rgb(*_COLOURS[number]),
        )
        for number, label, category, kind, regions in rows
    ]


def _stand_ins(
    prediction: StudyPrediction, images: Sequence[SourceImage]
) -> list[Dataset]:
    """One classic image a slice, named by its index: highdicom knows its geometry.

    It takes either classic images of one series or one enhanced image; a stack may also
    come from several of each. `_refer_to` puts the real names in their place.
    """
    shared = frame_of_reference_uid(images)
    made = []
    for index, image in enumerate(images):
        one, frame = Dataset(), image.frame
        one.update(images[0].identity)
        one.update(images[0].compression)
        one.SOPClassUID, one.SOPInstanceUID = CLASSIC, str(index)
        one.StudyInstanceUID, one.SeriesInstanceUID = frame.study_uid, "1"
        one.Modality, one.FrameOfReferenceUID = "MR", shared
        one.Rows, one.Columns = frame.rows, frame.columns
        one.ImagePositionPatient = [*(frame.position_mm or ())]
        one.ImageOrientationPatient = [*(images[0].frame.orientation or ())]
        one.PixelSpacing = [*(images[0].frame.spacing_mm or ())]
        step_mm = round(prediction.study.slice_spacing_mm, 6)
        one.SliceThickness = images[0].thickness_mm or step_mm
        one.SpacingBetweenSlices = step_mm
        made.append(one)
    return made


def _refer_to(seg: hd.seg.Segmentation, images: Sequence[SourceImage]) -> None:
    """Puts the names of the images where those of the stand-ins are."""
    files = {image.frame.sop_uid: image for image in images}
    seg.SourceImageSequence = [_instance(image) for image in files.values()]
    seg.ReferencedSeriesSequence = []
    for series in dict.fromkeys(image.frame.series_uid for image in files.values()):
        item = Dataset()
        item.SeriesInstanceUID = series
        item.ReferencedInstanceSequence = [
            _instance(image)
            for image in files.values()
            if image.frame.series_uid == series
        ]
        seg.ReferencedSeriesSequence.append(item)
    sources = [
        group.DerivationImageSequence[0].SourceImageSequence[0]
        for group in seg.PerFrameFunctionalGroupsSequence
    ]
    # All indices before any name: frames of one slice share an item.
    indices = [int(source.ReferencedSOPInstanceUID) for source in sources]
    for source, index in zip(sources, indices, strict=True):
        image = images[index]
        source.update(_instance(image))
        if image.frame_number:
            source.ReferencedFrameNumber = image.frame_number


def _instance(image: SourceImage) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = image.sop_class_uid
    item.ReferencedSOPInstanceUID = image.frame.sop_uid
    return item


def _settle_dimensions(seg: hd.seg.Segmentation, uid: str) -> None:
    """Highdicom draws this UID by chance."""
    for item in (*seg.DimensionOrganizationSequence, *seg.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid
