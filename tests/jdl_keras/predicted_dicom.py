"""Studies as DICOM with a prediction of each: what SEG and SR are written from."""

import copy
import dataclasses
import sys
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "tfrecords_tools"))
import dicom_writing

from jdl_keras.inference.study_prediction import (
    Concern,
    Interval,
    Provenance,
    StudyPrediction,
    Verdict,
)
from tfrecords_tools.dicom.config import DicomConfig
from tfrecords_tools.dicom.stacks import read_stack
from tfrecords_tools.labels import MYOCARDIUM, SCAR, region_mask
from tfrecords_tools.references.config import ReferenceConfig
from tfrecords_tools.sources import dicom
from tfrecords_tools.sources.phantom import PhantomConfig, studies

WHO = Provenance("1.2.3", "jdl", "small", ("ab" * 32,), ("cd" * 32,))
INTERVAL = Interval(3.5, 9.25, 90.0, "≥ 90 % of validation patients, 8 rotations")
REVIEW = Verdict(
    (Concern("RING", "The ring is broken.", (2, 3)), Concern("SPREAD", "They differ."))
)
IDENTITY = {
    "PatientName": "Müller^Jürgen",
    "PatientBirthDate": "19500403",
    "PatientSex": "M",
    "AccessionNumber": "A4711",
    "StudyID": "S77",
    "StudyDate": "20240521",
    "StudyTime": "101112",
    "ReferringPhysicianName": "House^G",
    "SpecificCharacterSet": "ISO_IR 100",
}
PLANTED = {
    "PatientComments": "PLANTEDa",
    "OtherPatientIDs": "PLANTEDb",
    "InstitutionName": "PLANTEDc",
    "StationName": "PLANTEDd",
    "OperatorsName": "PLANTEDe",
    "PatientAddress": "PLANTEDf",
    "StudyDescription": "PLANTEDg",
    "ProtocolName": "PLANTEDh",
    "AdditionalPatientHistory": "PLANTEDi",
}
"""Not needed to file an object, so not to be found in it."""

WRITERS = {"classic": dicom_writing.classic, "enhanced": dicom_writing.enhanced}
SLOPE, INTERCEPT = 0.37, -310.0

_TIMES = ("InstanceCreationDate", "InstanceCreationTime", "ContentDate", "ContentTime")


@dataclasses.dataclass
class Case:
    """A study read from files in no order, and what was predicted in it."""

    images: list
    slices: tuple
    prediction: StudyPrediction

    @property
    def segments(self):
        masks = self.prediction.masks
        return {1: masks["myocardium"] | masks["scar"], 2: masks["scar"]}

    @property
    def stack(self):
        return read_stack(self.slices)[0]

    def place(self, group):
        """The slice that a frame of a SEG says it was derived from."""
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        name = (source.ReferencedSOPInstanceUID, source.get("ReferencedFrameNumber", 1))
        return self.stack.frames.index(name)


def small_case(folder, kind="classic", change=None, masks=None, slices=5):
    """Noise with random masks, all slices different, so that no flip is hidden."""
    stored = dicom_writing.small_stack(slices)
    return _case(stored, dicom_writing.short_axis_affine(), folder, kind, change, masks)


def phantom_case(folder, kind="classic"):
    """A heart of the phantom with scar."""
    made = studies(PhantomConfig(patients=6))
    truth = next(study for study in made if region_mask(study.label_map, SCAR).any())
    masks = {
        "myocardium": region_mask(truth.label_map, MYOCARDIUM),
        "scar": region_mask(truth.label_map, SCAR),
    }
    stored = np.rint((truth.pixels - INTERCEPT) / SLOPE).astype(np.int16)
    return _case(stored, truth.affine, folder, kind, None, masks)


def _case(stored, affine, folder, kind, change, masks):
    tags = dicom_writing.PSIR | IDENTITY | PLANTED
    images = WRITERS[kind](stored, affine, rescale=(SLOPE, INTERCEPT), **tags)
    images = (change(images) or images) if change else images
    dicom_writing.save_all(images, folder)
    source = dicom.source(folder, DicomConfig(), b"key", unlabelled=True, workers=1)
    (item,) = source.items
    study = dicom.read(item, ReferenceConfig())
    prediction = predict(study, masks or random_masks(study.pixels.shape))
    return Case(images, item.slices, prediction)


def predict(study, masks):
    maps = {task: mask.astype(np.float32) for task, mask in masks.items()}
    return StudyPrediction(study, maps, masks, (masks,))


def random_masks(shape):
    """Some scar lies outside the myocardium, as networks have it."""
    random = np.random.default_rng(5)
    return {
        "myocardium": random.random(shape) < 0.5,
        "scar": random.random(shape) < 0.2,
    }


def series_a_slice(images):
    """Each slice in a series of its own, as breath-holds are sometimes stored."""
    for number, image in enumerate(images):
        image.SeriesInstanceUID += f".{number}"
        image.SeriesNumber += number


def file_a_frame(images):
    """An enhanced image as one file a frame, all groups with the frame."""
    (whole,), made = images, []
    shared = whole.SharedFunctionalGroupsSequence[0]
    size = whole.Rows * whole.Columns * 2
    for index, group in enumerate(whole.PerFrameFunctionalGroupsSequence):
        one = copy.deepcopy(whole)
        group.PlaneOrientationSequence = shared.PlaneOrientationSequence
        group.PixelMeasuresSequence = shared.PixelMeasuresSequence
        one.SharedFunctionalGroupsSequence = [dicom_writing.Dataset()]
        one.PerFrameFunctionalGroupsSequence = [group]
        one.NumberOfFrames, one.InstanceNumber = 1, index + 1
        one.SOPInstanceUID = f"{whole.SOPInstanceUID}.{index + 1}"
        one.PixelData = whole.PixelData[index * size : (index + 1) * size]
        made.append(one)
    return made


def without_times(dataset):
    """A written object less when it was written."""
    for keyword in _TIMES:
        delattr(dataset, keyword)
    for equipment in dataset.ContributingEquipmentSequence:
        del equipment.ContributionDateTime
    return dataset
