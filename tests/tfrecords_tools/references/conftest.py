"""A stack with a known label map, DICOM images of it, and a Dice of label maps."""

import dataclasses
import random
from pathlib import Path

import numpy as np
import pytest

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.geometry import affine_from_positions
from tfrecords_tools.labels import Tissue
from tfrecords_tools.references.config import ReferenceConfig
from tfrecords_tools.references.matching import index, read_reference
from tfrecords_tools.stack import Stack

SAMPLES = Path(__file__).parents[4] / "shared" / "data" / "dicom" / "segmentations"

SHAPE = (6, 60, 72)
CENTRE = np.array([28.0, 36.0])
ENDO, EPI = 9.3, 15.3
STUDY, FRAME = "2.25.111111", "2.25.222222"


def oblique_affine():
    """Rows, columns and normal of no axis; 1.5 mm pixels, 10 mm steps."""
    row = np.array([0.6, 0.0, -0.8])
    column = np.array([0.48, 0.8, 0.36])
    normal = np.cross(row, column)
    position = np.array([-70.0, -55.5, 120.25])
    return affine_from_positions(position, row, column, (1.5, 1.5), 10.0 * normal)


def known_label_map():
    """Rings on slices 0 to 4; scar on 1 to 3, MVO on 2; nothing on slice 5."""
    row, column = np.indices(SHAPE[1:]) - CENTRE[:, None, None]
    radius, angle = np.hypot(row, column), np.arctan2(row, column)
    label_map = np.zeros(SHAPE, np.uint8)
    label_map[:5, radius <= EPI] = Tissue.HEALTHY_MYOCARDIUM
    label_map[:5, radius <= ENDO] = Tissue.BLOOD_POOL
    wall = (radius > ENDO) & (radius <= EPI)
    label_map[1:4, wall & (np.abs(angle) < 0.8)] = Tissue.SCAR
    label_map[2, wall & (np.abs(angle) < 0.3) & (radius < 12.5)] = Tissue.MVO
    return label_map


def _stack(label_map, affine):
    random = np.random.default_rng(0)
    signal = np.array([400, 500, 100, 600, 90], np.float32)[label_map]
    pixels = np.rint(signal + random.normal(0, 5, label_map.shape)).astype(np.float32)
    count = len(label_map)
    return Stack(
        pixels=pixels,
        affine=affine,
        frames=tuple((f"2.25.9000{i}", 1) for i in range(count)),
        frame_of_reference_uid=FRAME,
        study_uid=STUDY,
        instance_numbers=tuple(range(1, count + 1)),
    )


@pytest.fixture(scope="session")
def known():
    return known_label_map()


@pytest.fixture(scope="session")
def stack(known):
    return _stack(known, oblique_affine())


@pytest.fixture(scope="session")
def phantom():
    """A stack of the phantom with scar, as (stack, label map)."""
    from tfrecords_tools.sources import phantom

    studies = phantom.studies(phantom.PhantomConfig(patients=6))
    study = next(s for s in studies if (s.label_map == Tissue.SCAR).sum() > 200)
    stack = dataclasses.replace(
        _stack(study.label_map, study.affine), pixels=study.pixels
    )
    return stack, study.label_map


@pytest.fixture(scope="session")
def other(stack):
    """The same place, another study."""
    return dataclasses.replace(
        stack,
        frames=tuple((f"2.25.8000{i}", 1) for i in range(len(stack.frames))),
        frame_of_reference_uid="2.25.333333",
        study_uid="2.25.444444",
    )


@pytest.fixture(scope="session")
def dice():
    """Dice of a tissue in two label maps; 1 if neither has it."""

    def dice(first, second, tissue):
        a, b = first == tissue, second == tissue
        total = a.sum() + b.sum()
        return 2 * (a & b).sum() / total if total else 1.0

    return dice


@pytest.fixture(scope="session")
def read():
    """The reference of a stack in a folder; settings by name."""

    def read(stack, folder, **settings):
        return read_reference(stack, index(folder), ReferenceConfig(**settings))

    return read


@pytest.fixture(scope="session")
def images():
    """Classic MR datasets of a stack, as pydicom writes them."""
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset

    def images(stack):
        made = []
        for i, pixels in enumerate(stack.pixels):
            image = Dataset()
            image.file_meta = FileMetaDataset()
            image.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
            image.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
            image.file_meta.MediaStorageSOPInstanceUID = stack.frames[i][0]
            image.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
            image.SOPInstanceUID = stack.frames[i][0]
            image.StudyInstanceUID = stack.study_uid
            image.SeriesInstanceUID = stack.study_uid + ".1"
            image.FrameOfReferenceUID = stack.frame_of_reference_uid
            image.Modality = "MR"
            image.PatientID = image.PatientName = "Planted^Name"
            image.PatientBirthDate = image.PatientSex = image.AccessionNumber = ""
            image.StudyDate = image.StudyTime = image.StudyID = ""
            image.SeriesNumber, image.InstanceNumber = 1, i + 1
            image.ReferringPhysicianName = ""
            row, column, step = stack.affine[:3, :3].T
            spacing = [float(np.linalg.norm(v)) for v in (row, column)]
            cosines = [*(column / spacing[1]), *(row / spacing[0])]
            image.PixelSpacing = spacing
            image.ImageOrientationPatient = [round(float(v), 12) for v in cosines]
            position = stack.affine[:3, 3] + i * step
            image.ImagePositionPatient = [round(float(v), 9) for v in position]
            image.SliceThickness = 8
            image.Rows, image.Columns = pixels.shape
            image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
            image.BitsAllocated = image.BitsStored = 16
            image.HighBit, image.PixelRepresentation = 15, 1
            image.PixelData = pixels.astype("<i2").tobytes()
            made.append(image)
        return made

    return images


@pytest.fixture(scope="session")
def samples():
    if not SAMPLES.is_dir():
        pytest.skip(f"no samples in {SAMPLES}")
    return SAMPLES


def mutated(content, chance):
    """Bits flipped, bytes replaced, deleted or doubled, the end cut off."""
    data = bytearray(content)
    for _ in range(chance.choice([1, 2, 5, 20])):
        at, size = chance.randrange(len(data)), chance.choice([1, 2, 4, 50])
        change = chance.randrange(5)
        if change == 0:
            data[at] ^= 1 << chance.randrange(8)
        elif change == 1:
            data[at : at + size] = chance.choice([b"\xff", b"\0", b"-", b"9"]) * size
        elif change == 2:
            data[at:at] = data[at : at + size]
        elif change == 3:
            del data[max(at, 8) : at + size]
        else:
            del data[max(at, 8) :]
    return bytes(data)


@pytest.fixture
def fuzz(stack, read):
    """Reads a file with damage of no plan; only our errors may come out of it."""

    def fuzz(path, rounds=60):
        content, chance, refusals = path.read_bytes(), random.Random(0), []
        for _ in range(rounds):
            path.write_bytes(mutated(content, chance))
            try:
                found = read(stack, path.parent, scar_rule="nsd")
            except RefusedError as error:
                refusals.append(str(error))
            else:
                assert found is None or found.label_map.shape == stack.pixels.shape
        assert len(refusals) > rounds / 4
        assert not [line for line in refusals if "2.25." in line or "Planted" in line]

    return fuzz
