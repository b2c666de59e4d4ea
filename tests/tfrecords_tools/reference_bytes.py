"""Contents of small reference files by hand, so that anything in them can be wrong."""

import gzip
import io

import nibabel
import numpy as np
from pydicom import Dataset, uid
from pydicom.dataset import FileMetaDataset

from tfrecords_tools.geometry import RAS_TO_LPS
from tfrecords_tools.labels import Tissue

SHAPE = (4, 40, 44)
RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"


def label_map():
    """The same ring on each slice, with scar to its right."""
    row, column = np.indices(SHAPE[1:]) - np.array([20, 22])[:, None, None]
    radius = np.hypot(row, column)
    labels = np.zeros(SHAPE, np.uint8)
    labels[:, radius < 12] = Tissue.HEALTHY_MYOCARDIUM
    labels[:, radius < 7] = Tissue.BLOOD_POOL
    labels[:, (radius >= 7) & (radius < 12) & (column > abs(row))] = Tissue.SCAR
    return labels


def circle(radius, centre=(20.0, 22.0), steps=60):
    angles = np.arange(steps) * 2 * np.pi / steps
    return np.stack([np.sin(angles), np.cos(angles)], axis=1) * radius + centre


# Writers: content of a file of each format, for images at an affine


def nifti(affine, labels=None, zoom=1.0, **header):
    labels = label_map() if labels is None else labels
    to_ras = RAS_TO_LPS @ affine[:, [1, 0, 2, 3]]
    content = nibabel.Nifti1Image(labels.swapaxes(0, -1), to_ras).to_bytes()
    changed = nibabel.Nifti1Header(content[:348])
    changed["pixdim"][1:4] *= zoom
    for name, value in header.items():
        changed[name] = value
    return changed.binaryblock + content[348:]


def zipped(affine, **changes):
    return gzip.compress(nifti(affine, **changes), mtime=0)


def nrrd(affine, labels=None, data=None, **fields):
    labels = label_map() if labels is None else labels
    vectors = [
        f"({','.join(f'{v:.12g}' for v in affine[:3, i])})" for i in (1, 0, 2, 3)
    ]
    lines = {
        "type": "uchar",
        "dimension": "3",
        "space": "left-posterior-superior",
        "sizes": " ".join(map(str, labels.shape[::-1])),
        "space directions": " ".join(vectors[:3]),
        "encoding": "raw",
        "space origin": vectors[3],
    }
    lines |= {name.replace("_", " "): value for name, value in fields.items()}
    head = "NRRD0004\n" + "".join(f"{k}: {v}\n" for k, v in lines.items())
    return head.encode() + b"\n" + (labels.tobytes() if data is None else data)


def points_mm(affine, points, index):
    places = np.stack([*points.T, np.full(len(points), index), np.ones(len(points))])
    return (affine @ places)[:3].T


def contour(points, uid_of_image, kind="CLOSED_PLANAR"):
    item, image = Dataset(), Dataset()
    item.ContourGeometricType = kind
    item.add_new("ContourData", "LO", [f"{value:.9g}" for value in np.ravel(points)])
    image.ReferencedSOPClassUID = uid.MRImageStorage
    image.ReferencedSOPInstanceUID = uid_of_image
    item.ContourImageSequence = [image]
    return item


def rtstruct(images, affine, change=None, names=("Epi", "Endo"), uids=None, **options):
    """Two circles a slice; `change` is done to the points (N, 3) of the first one."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = RTSTRUCT, "2.25.77"
    dataset.StudyInstanceUID = images[0].StudyInstanceUID if not uids else "2.25.78"
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    for number, (name, radius) in enumerate(zip(names, (12, 7), strict=True)):
        roi, drawn = Dataset(), Dataset()
        roi.ROINumber = drawn.ReferencedROINumber = number
        roi.ROIName = name
        roi.ReferencedFrameOfReferenceUID = images[0].FrameOfReferenceUID
        points = [points_mm(affine, circle(radius), i) for i in range(len(images))]
        if change and not number:
            points[0] = change(points[0])
        image_uids = uids or [image.SOPInstanceUID for image in images]
        drawn.ContourSequence = [
            contour(p, u, **options) for p, u in zip(points, image_uids, strict=True)
        ]
        dataset.StructureSetROISequence.append(roi)
        dataset.ROIContourSequence.append(drawn)
    return dicom_bytes(dataset)


def dicom_bytes(dataset):
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def seg(images, affine, change=lambda dataset: None):
    """A binary segmentation of the wall, a frame a slice; by hand."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = uid.SegmentationStorage, "2.25.79"
    dataset.StudyInstanceUID = images[0].StudyInstanceUID
    dataset.FrameOfReferenceUID = images[0].FrameOfReferenceUID
    dataset.SegmentationType, dataset.NumberOfFrames = "BINARY", len(images)
    dataset.Rows, dataset.Columns = images[0].Rows, images[0].Columns
    dataset.BitsAllocated = dataset.BitsStored = dataset.SamplesPerPixel = 1
    dataset.HighBit = dataset.PixelRepresentation = 0
    dataset.PhotometricInterpretation = "MONOCHROME2"
    segment = Dataset()
    segment.SegmentNumber, segment.SegmentLabel = 1, "Myocardium"
    dataset.SegmentSequence = [segment]
    shared = Dataset()
    shared.PixelMeasuresSequence = [only(images[0], "PixelSpacing")]
    shared.PlaneOrientationSequence = [only(images[0], "ImageOrientationPatient")]
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = [frame(image) for image in images]
    wall = label_map() >= Tissue.HEALTHY_MYOCARDIUM
    dataset.PixelData = np.packbits(wall, axis=None, bitorder="little").tobytes()
    dataset["PixelData"].VR = "OB"
    change(dataset)
    return dicom_bytes(dataset)


def only(dataset, keyword):
    item = Dataset()
    setattr(item, keyword, dataset[keyword].value)
    return item


def frame(image):
    group, segment = Dataset(), Dataset()
    derivation, source = Dataset(), Dataset()
    group.PlanePositionSequence = [only(image, "ImagePositionPatient")]
    segment.ReferencedSegmentNumber = 1
    group.SegmentIdentificationSequence = [segment]
    source.ReferencedSOPClassUID = uid.MRImageStorage
    source.ReferencedSOPInstanceUID = image.SOPInstanceUID
    derivation.SourceImageSequence = [source]
    group.DerivationImageSequence = [derivation]
    return group


def cvi42(images, points=None, resolution=4, head="", study=None):
    """Two circles a slice; `points` in place of the first one's."""

    def item(key, inner):
        return f'<Hash:item Hash:key="{key}">{inner}</Hash:item>'

    def drawn(name, points):
        listed = "".join(
            f"<List:item><Point:x>{4 * x}</Point:x>"
            f"<Point:y>{4 * y}</Point:y></List:item>"
            for y, x in points
        )
        inner = item("Points", listed) + item("SubpixelResolution", resolution)
        return item(name, inner)

    states = ""
    for number, image in enumerate(images):
        outer = points if points is not None and not number else circle(12)
        both = drawn("saepicardialContour", outer)
        both += drawn("saendocardialContour", circle(7))
        one = study or image.SOPInstanceUID
        states += item(one + f".{number}" * bool(study), item("Contours", both))
    urn = " ".join(f'xmlns:{n}="urn:{n}"' for n in ("Hash", "List", "Point"))
    text = f"{head}<W {urn}>{item('ImageStates', states)}</W>"
    return text.encode()


def text_contours(points):
    return "".join(f"{x} {y}\n" for y, x in points).encode()
