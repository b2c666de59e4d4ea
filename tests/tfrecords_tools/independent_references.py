"""Writes references with independent tools, and cvi42 workspaces by hand.

Heavy libraries are imported where they are needed: not every test needs them.
"""

import nibabel
import nrrd
import numpy as np

from tfrecords_tools.geometry import RAS_TO_LPS
from tfrecords_tools.labels import Tissue

LABELS = ("LV blood pool", "Myocardium", "Scar", "MVO")


def description(number, label, code=None):
    import highdicom as hd
    from pydicom.sr.codedict import codes

    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=codes.SCT.Tissue,
        segmented_property_type=code or codes.SCT.Tissue,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
    )


def write_seg(path, sources, pixels, labels=LABELS, kind="BINARY", **options):
    """With highdicom."""
    import highdicom as hd

    segments = [
        one if isinstance(one, hd.seg.SegmentDescription) else description(number, one)
        for number, one in enumerate(labels, 1)
    ]
    seg = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=pixels,
        segmentation_type=kind,
        segment_descriptions=segments,
        series_instance_uid="2.25.5",
        series_number=2,
        sop_instance_uid="2.25.6",
        instance_number=1,
        manufacturer="x",
        manufacturer_model_name="x",
        software_versions="1",
        device_serial_number="1",
        **options,
    )
    seg.save_as(path)
    return seg


def layers(known):
    """(S, H, W, 4): pool, whole wall, whole scar, MVO, so that they overlap."""
    return np.stack([known == 1, known >= 2, known >= 3, known == 4], axis=-1)


REGIONS = {
    "LV blood pool": [Tissue.BLOOD_POOL],
    "Myocardium": [Tissue.HEALTHY_MYOCARDIUM, Tissue.SCAR, Tissue.MVO],
    "Scar": [Tissue.SCAR, Tissue.MVO],
    "MVO": [Tissue.MVO],
}


def write_rtstruct(folder, sources, label_map, names=REGIONS):
    """With rt-utils, which has its own idea of contours: around pixel centres."""
    from rt_utils import RTStructBuilder

    series = folder.parent / f"{folder.name}-series"
    series.mkdir()
    for number, source in enumerate(sources):
        source.save_as(series / f"{number}.dcm", enforce_file_format=True)
    builder = RTStructBuilder.create_new(dicom_series_path=str(series))
    # rt-utils sorts slices along the normal, columns cross rows, as it sees them.
    normal = np.cross(*np.reshape(sources[0].ImageOrientationPatient, (2, 3)))
    order = np.argsort([normal @ s.ImagePositionPatient for s in sources])
    for name, region in names.items():
        mask = np.isin(label_map, region)[order].transpose(1, 2, 0)
        builder.add_roi(mask=mask, name=name)
    path = folder / "rt.dcm"
    builder.save(str(path))
    return path


def reordered(label_map, affine, order, flips):
    """A label map (S, H, W) as a volume of other axes, and its affine to LPS."""
    volume = label_map.transpose(1, 2, 0).transpose(order)
    affine = affine.copy()
    affine[:3, :3] = affine[:3, list(order)]
    for axis in range(3):
        if flips[axis]:
            affine[:3, 3] += (volume.shape[axis] - 1) * affine[:3, axis]
            affine[:3, axis] *= -1
            volume = np.flip(volume, axis)
    return np.ascontiguousarray(volume), affine


def write_nifti(path, volume, affine_lps, **changes):
    image = nibabel.Nifti1Image(volume, RAS_TO_LPS @ affine_lps)
    for name, value in changes.items():
        image.header[name] = value
    nibabel.save(image, path)


def write_nrrd(path, volume, affine, header=None, **options):
    fields = {
        "space": "left-posterior-superior",
        "space directions": affine[:3, :3].T,
        "space origin": affine[:3, 3],
    }
    nrrd.write(str(path), volume, fields | (header or {}), **options)


SEGMENTS = {"Blood pool": 7, "LV_myocardium": 3, "Infarct": 2, "No-reflow": 9}


def segments(names=SEGMENTS):
    header = {}
    for number, (name, value) in enumerate(names.items()):
        header |= {
            f"Segment{number}_ID": f"Segment_{number}",
            f"Segment{number}_Name": name,
            f"Segment{number}_LabelValue": str(value),
            f"Segment{number}_Layer": "0",
        }
    return header


def numbered(known):
    values = np.array([0, 7, 3, 2, 9], np.uint8)
    return values[known].transpose(2, 1, 0)


ENDO, EPI, REMOTE, ENHANCED, EXCLUDED, NO_REFLOW = (
    "saendocardialContour",
    "saepicardialContour",
    "saReferenceMyoContour",
    "saEnhancementReferenceMyoContour",
    "excludeEnhancementAreaContour",
    "noReflowAreaContour",
)


HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<Workspace:Workspace
  xmlns:Workspace="http://www.circlecvi.com/cvi42/Workspace/"
  xmlns:Hash="http://www.circlecvi.com/cvi42/Workspace/Hash/"
  xmlns:List="http://www.circlecvi.com/cvi42/Workspace/List/"
  xmlns:Point="http://www.circlecvi.com/cvi42/Workspace/Point/">
"""


def item(key, inner, count=True):
    attribute = f' Hash:count="{inner.count("<Hash:item")}"' if count else ""
    return f'<Hash:item Hash:key="{key}"{attribute}>{inner}</Hash:item>\n'


def contour(name, points, resolution=4):
    """Points (row, column) in pixels, stored on a finer grid, x first."""
    scale = resolution or 1
    listed = "".join(
        f"<List:item><Point:x>{column * scale:.6g}</Point:x>"
        f"<Point:y>{row * scale:.6g}</Point:y></List:item>\n"
        for row, column in points
    )
    inner = item("Points", listed, False) + item("LineType", "1", False)
    if resolution:
        inner += item("SubpixelResolution", str(resolution), False)
    return item(name, inner)


def workspace(path, drawn, study="2.25.111111"):
    """`drawn`: (SOPInstanceUID, list of contours as text)."""
    states = "".join(
        item(uid, item("Contours", "".join(contours))) for uid, contours in drawn
    )
    text = item("StudyUid", study, False)
    text += item("PatientName", "Planted^Name", False)
    text += item(
        "StudyMapStates", f"<List:item>{item('ImageStates', states)}</List:item>"
    )
    path.write_text(f"{HEAD}{text}</Workspace:Workspace>", encoding="utf-8")


def outline(mask):
    """Points (row, column) around the largest region of a mask, at its half level."""
    from skimage.measure import find_contours

    return max(find_contours(mask.astype(float), 0.5), key=len)[:-1]
