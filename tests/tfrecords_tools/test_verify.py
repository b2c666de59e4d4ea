"""Verify finds what the shards' checksums cannot say."""

import dataclasses

import pytest

from tfrecords_tools import files, verify
from tfrecords_tools.manifest import load_manifest, write_manifest


def rewrite(folder, change):
    manifest = load_manifest(folder)
    write_manifest(dataclasses.replace(manifest, **change(manifest)), folder)


def test_good_set(records, capsys):
    assert verify.main([str(records)]) == 0
    # 8 patients x 3 slices = 24; 2 shards a split = 6
    assert capsys.readouterr().out.startswith("ok: 8 patients, 24 slices, 6 shards, ")


def test_every_damaged_shard_is_named(records, capsys):
    paths = sorted(records.glob("*.tfrecord"))
    paths[0].unlink()
    paths[1].write_bytes(b"")
    assert verify.main([str(records)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert [line.split(": ")[1] for line in lines] == ["MISSING_SHARD", "EMPTY_SHARD"]


def test_no_record_set(tmp_path, capsys):
    assert verify.main([str(tmp_path)]) == 2
    assert "NOT_A_RECORD_SET" in capsys.readouterr().err


def test_same_image_under_two_patients(tmp_path, build, make_study, capsys):
    twin = make_study(5, pixels=make_study(2).pixels)
    studies = [make_study(n) for n in range(5)] + [twin, make_study(6), make_study(7)]
    build(tmp_path / "out", studies)
    assert verify.main([str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3  # one for each of its three slices
    assert all("DUP_PIXELS" in line for line in lines)
    assert all("patient-02" in line and "patient-05" in line for line in lines)


def test_same_image_twice_of_one_patient_is_no_fault(tmp_path, build, make_study):
    repeated = make_study(5, pixels=make_study(2).pixels, patient="patient-02")
    build(tmp_path / "out", [*(make_study(n) for n in range(5)), repeated])
    assert verify.main([str(tmp_path / "out")]) == 0


def test_records_in_another_split_than_listed(records, capsys):
    def exchange(manifest):
        """Says that two patients are each where the other one is."""
        train = next(p for p in manifest.patients if p.split == "train" and p.has_scar)
        test = next(p for p in manifest.patients if p.split == "test" and p.has_scar)
        other = {train.patient_key: "test", test.patient_key: "train"}
        moved = [
            dataclasses.replace(p, split=other.get(p.patient_key, p.split))
            for p in manifest.patients
        ]
        return {"patients": moved}

    rewrite(records, exchange)
    assert verify.main([str(records)]) == 2
    assert capsys.readouterr().err.count("SPLIT_LEAK") == 2


@pytest.mark.parametrize("change", ["labelled", "has_scar"])
def test_counts_that_are_not_those_of_the_records(records, capsys, change):
    def edit(manifest):
        first, second, *rest = manifest.patients
        if change == "labelled":
            wrong = dataclasses.replace(first, labelled={"myocardium": 3, "scar": 2})
            return {"patients": [wrong, second, *rest]}
        wrong = dataclasses.replace(first, has_scar=not first.has_scar)
        totals = {split: dict(total) for split, total in manifest.totals.items()}
        totals[first.split]["with_scar"] += 1 if wrong.has_scar else -1
        return {"patients": [wrong, second, *rest], "totals": totals}

    rewrite(records, edit)
    assert verify.main([str(records)]) == 2
    assert "patient-00: COUNTS" in capsys.readouterr().err


def test_record_that_is_no_slice(records, capsys):
    from tfrecords_tools import shards

    def edit(manifest):
        first, *rest = manifest.shards
        path = records / first.name
        shards.write_records(path, [b"not a slice"] * first.records)
        size, digest = path.stat().st_size, files.sha256(path)
        return {
            "shards": [dataclasses.replace(first, bytes=size, sha256=digest), *rest]
        }

    rewrite(records, edit)
    assert verify.main([str(records)]) == 2
    assert "CORRUPT: not a slice" in capsys.readouterr().err
