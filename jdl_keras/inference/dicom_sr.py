"""What was measured in a prediction as a DICOM measurement report (PS3.16 TID 1500).

Two groups of TID 1411 measure the segments of the prediction's SEG, a third one of
TID 1501 says whether a person should look first. Names and units are standard codes
where there is one; the others are of the scheme `SCHEME`, whose meanings say the rule.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from highdicom import coding_schemes, sr
from pydicom import Dataset
from pydicom.sr.codedict import codes

from jdl_keras.inference.dicom_seg import (
    ABNORMALITY,
    ANATOMY,
    MYOCARDIUM,
    SCAR,
    SCAR_CODE,
    WALL_CODE,
    seg_reference,
    segments,
)
from jdl_keras.inference.source_images import (
    MANUFACTURER,
    RESEARCH_USE,
    SourceImage,
    derived_uid,
    parameters,
    quiet,
    save,
    serial_number,
    software,
    source_images,
)
from jdl_keras.inference.study_prediction import (
    Concern,
    Interval,
    Provenance,
    StudyPrediction,
    Verdict,
)
from jdl_keras.quantification.masks import HOLE_RULE
from jdl_keras.quantification.measurement import Measurements
from tfrecords_tools.labels import MYOCARDIAL_DENSITY_G_PER_ML

SERIES_NUMBER = 9002

SCHEME = "99JDLKERAS"
"""Private coding schemes start with 99 (PS3.16 8.2); values have up to 16 letters."""


def _code(value: str, meaning: str) -> sr.CodedConcept:
    return sr.CodedConcept(value, SCHEME, meaning)


BURDEN = _code("SCAR_BURDEN", "Scar burden, share of the myocardium")
BURDEN_RULE = _code("VOLUME_RATIO", "100 x scar volume / myocardial volume")
LOW = _code("SCAR_BURDEN_LOW", "Scar burden, lower limit")
HIGH = _code("SCAR_BURDEN_HIGH", "Scar burden, upper limit")
COVERAGE = _code("COVERAGE", "Patients whose scar burden is within limits")
MASS_RULE = _code("VOLUME_DENSITY", f"volume x {MYOCARDIAL_DENSITY_G_PER_ML} g/ml")
GATE = _code("QUALITY_GATE", "Automatic quality gate")
VERDICTS = {
    "PASS": _code("PASS", "PASS: no reason for review was found"),
    "REVIEW": _code("REVIEW", "REVIEW: a person should look first"),
}
VOLUME_RULE = codes.DCM.SumOfSegmentedVoxelMethodForVolume  # CID 7474

_MILLILITRE = sr.CodedConcept("ml", "UCUM", "milliliter")
_GRAM = sr.CodedConcept("g", "UCUM", "gram")

_DECIMALS = 2
"""Of a millilitre, gram or percent; pixels and readers differ by more."""


def write_sr(
    path: Path,
    prediction: StudyPrediction,
    slices: Sequence[tuple[Path, int]],
    measurements: Measurements,
    interval: Interval | None,
    verdict: Verdict,
    provenance: Provenance,
) -> None:
    """Writes the report; the same input gives the same UIDs and content.

    It refers to the SEG that `dicom_seg.write_seg` makes of the same prediction.

    Args:
        path: of the file; only its owner can read it.
        prediction: of the study.
        slices: file and number of each frame that the study was read from.
        measurements: of `prediction.wall`.
        interval: of the scar burden, if there is one.
        verdict: whether a person should look first.
        provenance: who made the prediction.

    Raises:
        RefusedError: what `source_images` refuses.
        ValueError: if other masks were measured than those of the prediction.
    """
    _check_measured(prediction, measurements)
    images = source_images(slices, prediction)
    with quiet():
        seg = seg_reference(prediction, images, provenance)
        report = sr.MeasurementReport(
            observation_context=_observer(provenance),
            procedure_reported=codes.SCT.CardiacMRI,
            imaging_measurements=[
                _wall_group(seg, images, measurements, provenance),
                _scar_group(seg, images, measurements, interval, provenance),
                _gate_group(seg, images, measurements, verdict, provenance),
            ],
        )
        document = _document(report, seg, images, provenance)
    save(document, path)


def _check_measured(prediction: StudyPrediction, measurements: Measurements) -> None:
    wall, scar = np.moveaxis(segments(prediction), -1, 0)
    found = measurements.masks
    # Filled holes are wall already; they are told in the report.
    scar = scar | found.mvo if measurements.holes_filled else scar
    if not (
        np.array_equal(wall, found.myocardium) and np.array_equal(scar, found.scar)
    ):
        raise ValueError("the measurements are not of this prediction's masks")


def _document(
    report: sr.MeasurementReport,
    seg: Dataset,
    images: Sequence[SourceImage],
    provenance: Provenance,
) -> sr.ComprehensiveSR:
    content = report[0].to_json()
    return sr.ComprehensiveSR(
        evidence=[*_evidence(images), seg],
        content=report,
        series_instance_uid=derived_uid("sr series", seg.SOPInstanceUID, content),
        series_number=SERIES_NUMBER,
        series_description="LGE scar measurements",
        sop_instance_uid=derived_uid("sr", seg.SOPInstanceUID, content),
        instance_number=1,
        is_complete=True,
        coding_schemes=[
            coding_schemes.CodingSchemeIdentificationItem(
                SCHEME, name="jdl_keras", responsible_organization="jdl_keras"
            )
        ],
        specific_character_set="ISO_IR 192",
        **software(provenance),
    )


def _evidence(images: Sequence[SourceImage]) -> list[Dataset]:
    """One data set a file, with what a report takes over from it."""
    files = dict[str, Dataset]()
    for image in images:
        one = files.setdefault(image.frame.sop_uid, Dataset())
        one.update(images[0].identity)
        one.SOPClassUID, one.SOPInstanceUID = image.sop_class_uid, image.frame.sop_uid
        one.StudyInstanceUID = image.frame.study_uid
        one.SeriesInstanceUID = image.frame.series_uid
    return [*files.values()]


def _observer(provenance: Provenance) -> sr.ObservationContext:
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=derived_uid("device", repr(provenance)),
        name=MANUFACTURER,
        manufacturer_name=MANUFACTURER,
        model_name=f"{provenance.method} {provenance.preset}",
        serial_number=serial_number(provenance),
    )
    return sr.ObservationContext(
        observer_device_context=sr.ObserverContext(
            observer_type=codes.DCM.Device, observer_identifying_attributes=device
        )
    )


def _wall_group(
    seg: Dataset,
    images: Sequence[SourceImage],
    measurements: Measurements,
    provenance: Provenance,
) -> sr.VolumetricROIMeasurementsAndQualitativeEvaluations:
    found = measurements.burden
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(seg, "Myocardium"),
        referenced_segment=_segment(seg, images, MYOCARDIUM),
        finding_category=ANATOMY,
        finding_type=WALL_CODE,
        algorithm_id=_algorithm(provenance),
        measurements=_volume_and_mass(found.myocardium_ml, found.myocardium_g),
    )


def _scar_group(
    seg: Dataset,
    images: Sequence[SourceImage],
    measurements: Measurements,
    interval: Interval | None,
    provenance: Provenance,
) -> sr.VolumetricROIMeasurementsAndQualitativeEvaluations:
    found = measurements.burden
    rows = [
        *_volume_and_mass(found.scar_ml, found.scar_g),
        *_percent(BURDEN, found.burden_percent, BURDEN_RULE),
    ]
    texts = [f"Holes in the scar: {HOLE_RULE}"] if measurements.holes_filled else []
    if interval:
        rows += _percent(LOW, interval.low_percent)
        rows += _percent(HIGH, interval.high_percent)
        rows += _percent(COVERAGE, interval.coverage_percent)
        texts.append(f"Limits of the scar burden: {interval.rule}")
    group = sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(seg, "Scar"),
        referenced_segment=_segment(seg, images, SCAR),
        finding_category=ABNORMALITY,
        finding_type=SCAR_CODE,
        finding_sites=[sr.FindingSite(WALL_CODE)],
        algorithm_id=_algorithm(provenance),
        measurements=rows,
    )
    return _with_comments(group, texts)


def _gate_group(
    seg: Dataset,
    images: Sequence[SourceImage],
    measurements: Measurements,
    verdict: Verdict,
    provenance: Provenance,
) -> sr.MeasurementsAndQualitativeEvaluations:
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(seg, "Quality"),
        algorithm_id=_algorithm(provenance),
        qualitative_evaluations=[
            sr.QualitativeEvaluation(GATE, VERDICTS[verdict.name])
        ],
        source_images=[
            sr.SourceImageForMeasurementGroup(
                image.sop_class_uid, image.frame.sop_uid, _frame_numbers(image)
            )
            for image in images
        ],
    )
    reasons = [_sentence(concern) for concern in verdict.concerns]
    return _with_comments(group, [RESEARCH_USE, *reasons, *measurements.warnings])


def _sentence(concern: Concern) -> str:
    numbers = ", ".join(str(index) for index in concern.slices)
    where = f" (slice {numbers}; 0 is the base)" if concern.slices else ""
    return f"{concern.code}: {concern.text}{where}"


_Group = TypeVar("_Group", bound=sr.ContentSequence)


def _with_comments(group: _Group, texts: Sequence[str]) -> _Group:
    # Text is not among the arguments of highdicom's groups; the templates allow it.
    group[0].ContentSequence.extend(
        sr.TextContentItem(codes.DCM.Comment, text, sr.RelationshipTypeValues.CONTAINS)
        for text in texts
    )
    return group


def _volume_and_mass(ml: float | None, grams: float | None) -> list[sr.Measurement]:
    rows = (
        (codes.SCT.Volume, ml, _MILLILITRE, VOLUME_RULE),
        (codes.SCT.MassQuantity, grams, _GRAM, MASS_RULE),
    )
    return [
        sr.Measurement(name, round(value, _DECIMALS), unit, method=method)
        for name, value, unit, method in rows
        if value is not None
    ]


def _percent(
    name: sr.CodedConcept, value: float | None, method: sr.CodedConcept | None = None
) -> list[sr.Measurement]:
    if value is None:
        return []
    rounded, unit = round(float(value), _DECIMALS), codes.UCUM.Percent
    return [sr.Measurement(name, rounded, unit, method=method)]


def _tracking(seg: Dataset, name: str) -> sr.TrackingIdentifier:
    return sr.TrackingIdentifier(
        derived_uid("tracking", seg.SOPInstanceUID, name), name
    )


def _algorithm(provenance: Provenance) -> sr.AlgorithmIdentification:
    told = parameters(provenance).items()
    return sr.AlgorithmIdentification(
        name=MANUFACTURER,
        version=provenance.version,
        parameters=[f"{name}={value}" for name, value in told],
    )


def _segment(
    seg: Dataset, images: Sequence[SourceImage], number: int
) -> sr.ReferencedSegment:
    return sr.ReferencedSegment(
        sop_class_uid=seg.SOPClassUID,
        sop_instance_uid=seg.SOPInstanceUID,
        segment_number=number,
        source_images=[
            sr.SourceImageForSegmentation(
                image.sop_class_uid, image.frame.sop_uid, _frame_numbers(image)
            )
            for image in images
        ],
    )


def _frame_numbers(image: SourceImage) -> list[int] | None:
    return [image.frame_number] if image.frame_number else None
