"""A manifest that is not exactly what was written is not read."""

import dataclasses
import json

import pytest

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.manifest import load_manifest, write_manifest


def change(folder, edit):
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def test_write_then_load(records, tmp_path):
    manifest = load_manifest(records)
    write_manifest(manifest, tmp_path)
    assert load_manifest(tmp_path) == manifest
    text = (tmp_path / "manifest.json").read_bytes()
    assert text == (records / "manifest.json").read_bytes()


def test_content(records):
    manifest = load_manifest(records)
    assert manifest.source == "handmade"
    assert manifest.settings["split_seed"] == 0
    assert manifest.settings["train"] == 0.5
    assert len(manifest.patients) == 8
    # 8 x 0.5 = 4 patients of 3 slices; half of the studies (odd numbers) have scar
    assert manifest.totals["train"] == {
        "patients": 4,
        "studies": 4,
        "slices": 12,
        "with_scar": 2,
    }
    first = manifest.patients[0]
    assert first.patient_key == "patient-00"
    assert first.labelled == {"myocardium": 3, "scar": 3}
    assert not first.has_scar


def test_set_of_a_version_without_the_optional_fields_is_read(records):
    change(records, lambda m: [m.pop(name) for name in ("taken", "left_out")])
    manifest = load_manifest(records)
    assert (manifest.taken, manifest.left_out) == ({}, [])


def test_entries_left_out_have_a_count_unless_it_is_one(records):
    entry = {"what": "cine", "reason": "no LGE"}
    change(records, lambda m: m["left_out"].extend([entry, entry | {"count": 3}]))
    assert [one.count for one in load_manifest(records).left_out] == [1, 3]


FAULTS = {
    "no version": (lambda m: m.pop("schema_version"), "VERSION"),
    "next version": (lambda m: m.update(schema_version=2), "VERSION"),
    "list for counts": (lambda m: m.update(taken=[]), "MANIFEST"),
    "no reason": (lambda m: m["left_out"].append({"what": "a"}), "MANIFEST"),
    "more than left out": (
        lambda m: m["left_out"].append({"what": "a", "reason": "b", "path": "c"}),
        "MANIFEST",
    ),
    "unknown key": (lambda m: m.update(colour="red"), "MANIFEST"),
    "missing key": (lambda m: m.pop("source"), "MANIFEST"),
    "text for a number": (lambda m: m["shards"][0].update(bytes="9"), "MANIFEST"),
    "true for a number": (lambda m: m["shards"][0].update(records=True), "MANIFEST"),
    "list for a table": (lambda m: m.update(settings=[]), "MANIFEST"),
    "unknown split": (lambda m: m["patients"][0].update(split="dev"), "MANIFEST"),
    "unknown task": (lambda m: m["patients"][0].update(labelled={}), "MANIFEST"),
    "path as a name": (lambda m: m["shards"][0].update(name="../x"), "MANIFEST"),
    "shard twice": (lambda m: m["shards"].append(m["shards"][0]), "MANIFEST"),
    "patient twice": (lambda m: m["patients"].append(m["patients"][0]), "MANIFEST"),
    "totals": (lambda m: m["totals"]["test"].update(slices=7), "MANIFEST"),
    "shard not listed": (lambda m: m["shards"].pop(), "MANIFEST"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_refused(records, fault):
    edit, code = FAULTS[fault]
    change(records, edit)
    with pytest.raises(RefusedError) as refused:
        load_manifest(records)
    assert refused.value.code == code


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "[" * 100_000, "\xff"])
def test_other_files_are_refused(tmp_path, text):
    (tmp_path / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(RefusedError, match="VERSION|MANIFEST"):
        load_manifest(tmp_path)


def test_patient_in_two_splits(records, tmp_path):
    manifest = load_manifest(records)
    patient = next(p for p in manifest.patients if p.split == "test")
    leaked = dataclasses.replace(
        patient, split="train", studies=0, slices=0, has_scar=False
    )
    totals = {split: dict(total) for split, total in manifest.totals.items()}
    totals["train"]["patients"] += 1
    patients = [*manifest.patients, leaked]
    manifest = dataclasses.replace(manifest, patients=patients, totals=totals)
    write_manifest(manifest, tmp_path)
    with pytest.raises(
        RefusedError, match=f"SPLIT_LEAK: patient {patient.patient_key}"
    ):
        load_manifest(tmp_path)
