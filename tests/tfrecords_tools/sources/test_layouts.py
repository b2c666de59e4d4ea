"""Public layouts: names, label numbers and tasks of each, in files made by hand."""

import nibabel
import numpy as np
import pytest

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.pseudonyms import PUBLIC_KEY, pseudonym
from tfrecords_tools.sources.layouts import source

# Tissues: 1 blood pool, 2 healthy myocardium, 3 scar.
AFFINE = np.diag([-1.25, -1.25, 10.0, 1.0])
BOTH = {"myocardium", "scar"}


def write(path, row):
    """A volume (6, 5, 3) whose rows along x are all `row`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.broadcast_to(np.array(row, np.int16)[:, None, None], (6, 5, 3))
    nibabel.save(nibabel.Nifti1Image(voxels.copy(), AFFINE), path)


IMAGE = [3, 1, 4, 1, 5, 9]
LAYOUTS = {
    "myops": {
        "images": ["train25/myops_training_101_DE.nii.gz"],
        "others": ["train25/myops_training_101_C0.nii.gz"],
        "unlabelled": ["test20/myops_test_201_DE.nii.gz"],
        "references": ["train25_myops_gd/myops_training_101_gd.nii.gz"],
        "values": [0, 500, 200, 1220, 2221, 600],
        "tissues": [0, 1, 2, 2, 3, 0],
        "tasks": BOTH,
    },
    "mscmr": {
        "images": ["lge/patient1_LGE.nii.gz"],
        "others": ["lge/patient1_C0.nii.gz"],
        "unlabelled": ["lge/patient2_LGE.nii.gz"],
        "references": ["manual/patient1_LGE_manual.nii.gz"],
        "values": [0, 500, 200, 200, 600, 0],
        "tissues": [0, 1, 2, 2, 0, 0],
        "tasks": {"myocardium"},
    },
    "acdc": {
        "images": [f"training/patient001/patient001_frame{n}.nii.gz" for n in (1, 12)],
        "others": ["training/patient001/patient001_4d.nii.gz"],
        "unlabelled": ["testing/patient101/patient101_frame01.nii.gz"],
        "references": [
            f"training/patient001/patient001_frame{n}_gt.nii.gz" for n in (1, 12)
        ],
        "values": [0, 3, 2, 2, 1, 0],
        "tissues": [0, 1, 2, 2, 0, 0],
        "tasks": {"myocardium"},
    },
}


@pytest.fixture(params=LAYOUTS)
def layout(request, tmp_path):
    files = LAYOUTS[request.param]
    for name in files["images"] + files["others"] + files["unlabelled"]:
        write(tmp_path / name, IMAGE)
    for name in files["references"]:
        write(tmp_path / name, files["values"])
    return request.param, tmp_path, files


def test_labels_become_tissues(layout):
    name, folder, files = layout
    found = source(name, folder)
    assert (found.name, found.private) == (name, False)
    assert len(found.items) == len(files["images"])
    for item in found.items:
        study = found.read(item)
        assert study.label_map[0, 0].tolist() == files["tissues"]
        assert study.pixels[2, 4].tolist() == IMAGE
        assert set(study.labelled) == {frozenset(files["tasks"])}
        assert (*study.spacing_mm, study.slice_spacing_mm) == (1.25, 1.25, 10)


def test_what_has_no_reference_is_counted(layout):
    name, folder, _ = layout
    reasons = [
        (entry.reason[:12], entry.count) for entry in source(name, folder).left_out
    ]
    assert reasons == [("no reference", 1), ("matches no p", 1)]


def test_unlabelled_studies_are_taken_if_asked(layout):
    name, folder, files = layout
    found = source(name, folder, unlabelled=True)
    studies = [found.read(item) for item in found.items]
    plain = [study for study in studies if study.labelled[0] == frozenset()]
    assert len(plain) == 1
    assert len(studies) == len(files["images"]) + 1


def test_frames_of_a_patient_stay_together(tmp_path):
    for name in LAYOUTS["acdc"]["images"]:
        write(tmp_path / name, IMAGE)
    items = source("acdc", tmp_path, unlabelled=True).items
    assert {item.patient_key for item in items} == {pseudonym("patient001", PUBLIC_KEY)}
    assert len({item.key for item in items}) == 2


def test_layout_is_told_by_names(layout, tmp_path_factory):
    name, folder, _ = layout
    assert [other for other in LAYOUTS if finds(other, folder)] == [name]
    empty = tmp_path_factory.mktemp("other")
    assert not any(finds(other, empty) for other in LAYOUTS)


def finds(name, folder):
    try:
        source(name, folder)
    except RefusedError:
        return False
    return True


def test_number_of_another_set_is_refused(layout):
    name, folder, files = layout
    write(folder / files["references"][0], [0, 1, 2, 3, 4, 777])
    found = source(name, folder)
    with pytest.raises(RefusedError, match="LABELS: values without a tissue: .*777"):
        list(map(found.read, found.items))
