"""A build ends whole or not at all, and always in the same bytes."""

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from tfrecords_tools import build as command
from tfrecords_tools import files, verify
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.labels import Tissue
from tfrecords_tools.record_set import open_record_set
from tfrecords_tools.sources import table
from tfrecords_tools.sources.source import LeftOut
from tfrecords_tools.splits import SPLITS

INPUT = str(Path(__file__).parent)
"""A folder that is there; the sources that are offered do not look into it."""


def content(folder):
    """The files of a set; not the stage, where a failed build leaves its studies."""
    paths = (path for path in sorted(folder.iterdir()) if path.is_file())
    return {path.name: path.read_bytes() for path in paths}


def waiting(folder):
    return sorted(path.name for path in folder.glob(".tmp-build/studies-*/*"))


class Killed(BaseException):
    """Stands for SIGKILL: from then on the process does nothing any more."""


class Faults:
    """Counts the durable steps; step `at` fails, and if `lasting` all after it."""

    def __init__(self, monkeypatch, error, lasting):
        self.at, self.steps, self.error, self.lasting = 0, 0, error, lasting
        monkeypatch.setattr(os, "fsync", lambda _: None)  # hundreds of builds follow
        steps = [(os, "replace"), (files, "sync"), (Path, "unlink"), (Path, "mkdir")]
        # Only a kill stops the removal of a folder; its errors are ignored.
        for owner, name in steps + [(shutil, "rmtree")] * lasting:
            monkeypatch.setattr(owner, name, self._guarded(getattr(owner, name)))

    def _guarded(self, real):
        def step(*args, **kwargs):
            self.steps += 1
            due = self.steps >= self.at if self.lasting else self.steps == self.at
            if self.at and due:
                raise self.error
            return real(*args, **kwargs)

        return step

    def start(self, at):
        self.at, self.steps = at, 0


def test_same_studies_in_any_order_give_the_same_bytes(
    records, tmp_path, build, make_study
):
    build(tmp_path / "reversed", map(make_study, reversed(range(8))))
    assert content(tmp_path / "reversed") == content(records)


def test_shards_never_outnumber_studies(tmp_path, build):
    manifest = build(tmp_path / "out", shards=3)
    names = [shard.name for shard in manifest.shards]
    # train has 4 studies: 3 shards; validation and test have 2 each: 2 shards
    assert names == [
        *(f"train-0000{n}-of-00003.tfrecord" for n in range(3)),
        *(f"validation-0000{n}-of-00002.tfrecord" for n in range(2)),
        *(f"test-0000{n}-of-00002.tfrecord" for n in range(2)),
    ]
    assert all(shard.records for shard in manifest.shards)


def test_studies_of_a_patient_stay_together(tmp_path, build, make_study):
    studies = [make_study(n, patient=f"patient-{n % 4}") for n in range(8)]
    manifest = build(tmp_path / "out", studies)
    assert [patient.studies for patient in manifest.patients] == [2, 2, 2, 2]
    assert [patient.slices for patient in manifest.patients] == [6, 6, 6, 6]
    record_set = open_record_set(tmp_path / "out")
    found = [s.study_key for split in SPLITS for s in record_set.studies(split)]
    assert sorted(found) == [f"study-{n:02}" for n in range(8)]


def test_refused_study_costs_only_itself(tmp_path, build, make_study, capsys):
    fault = RefusedError("Case_X", "TRUNCATED", "the file ends early")
    good = [make_study(n) for n in range(4)]
    manifest = build(tmp_path / "with", [good[0], fault, *good[1:]])
    build(tmp_path / "without", good)
    assert capsys.readouterr().err == "ERROR Case_X: TRUNCATED: the file ends early\n"
    assert [entry.code for entry in manifest.skipped] == ["TRUNCATED"]
    with_fault, without = content(tmp_path / "with"), content(tmp_path / "without")
    with_fault.pop("manifest.json"), without.pop("manifest.json")
    assert with_fault == without


def test_study_that_comes_twice_is_refused_once(tmp_path, build, make_study):
    manifest = build(tmp_path / "out", [make_study(n) for n in (0, 1, 2, 3, 1)])
    assert [entry.code for entry in manifest.skipped] == ["DUP_STUDY"]
    assert len(manifest.patients) == 4


def test_refusal_is_one_line_that_steers_no_terminal():
    error = RefusedError("a\n\x1b[2Jb\udcff", "GAP", "reason\r")
    assert str(error) == "ERROR a??[2Jb?: GAP: reason?"


def test_warnings_are_printed_and_kept(tmp_path, build, make_study, capsys):
    studies = [make_study(n, warnings=("GAP",) if n == 2 else ()) for n in range(4)]
    manifest = build(tmp_path / "out", studies)
    assert capsys.readouterr().err == "WARNING study-02: GAP\n"
    assert [patient.warnings for patient in manifest.patients] == [[], [], ["GAP"], []]


NOTHING = (frozenset(),) * 3


def unlabelled(make_study, numbers):
    empty = np.zeros((3, 12, 10), np.uint8)
    return [make_study(n, labelled=NOTHING, label_map=empty) for n in numbers]


def test_patients_without_reference_are_tested_and_move_nobody(
    records, tmp_path, build, make_study
):
    studies = [*map(make_study, range(8)), *unlabelled(make_study, range(8, 11))]
    manifest = build(tmp_path / "out", studies, unlabelled=True)
    split_of = {patient.patient_key: patient.split for patient in manifest.patients}
    assert [split_of.pop(f"patient-{n:02}") for n in (8, 9, 10)] == ["test"] * 3
    assert split_of == open_record_set(records).assignment
    # 2 patients of 3 slices with reference, and 3 of 3 without
    expected = {"patients": 5, "studies": 5, "slices": 15, "with_scar": 1}
    assert manifest.totals["test"] == expected
    record_set = open_record_set(tmp_path / "out")
    assert len(list(record_set.studies("test"))) == 5
    assert not any(verify.all_faults(tmp_path / "out", manifest))


def test_set_of_unlabelled_studies_is_all_for_prediction(tmp_path, build, make_study):
    studies = unlabelled(make_study, range(3))
    manifest = build(tmp_path / "out", studies, unlabelled=True)
    assert [manifest.totals[s]["patients"] for s in SPLITS] == [0, 0, 3]
    record_set = open_record_set(tmp_path / "out")
    assert not record_set.can_measure("test")


def test_unlabelled_study_stays_with_its_patient(tmp_path, build, make_study):
    studies = [make_study(n) for n in range(4)]
    studies += unlabelled(make_study, [9])
    studies[-1] = dataclasses.replace(studies[-1], patient_key="patient-01")
    manifest = build(tmp_path / "out", studies, unlabelled=True)
    (patient,) = [p for p in manifest.patients if p.patient_key == "patient-01"]
    assert (patient.studies, patient.labelled["scar"]) == (2, 3)
    assert len(manifest.patients) == 4


def test_unlabelled_studies_are_left_out_unless_wanted(tmp_path, build, make_study):
    studies = [*map(make_study, range(4)), *unlabelled(make_study, [9])]
    manifest = build(tmp_path / "out", studies)
    (entry,) = manifest.left_out
    assert (entry.what, entry.count) == ("study-09", 1)
    assert "--unlabelled" in entry.reason
    assert len(manifest.patients) == 4
    assert not manifest.skipped
    with pytest.raises(RefusedError, match="NO_STUDIES.*--unlabelled"):
        build(tmp_path / "none", unlabelled(make_study, [9]))


def test_settings_that_no_manifest_can_hold_are_no_build(tmp_path, build):
    with pytest.raises(ValueError, match="settings"):
        build(tmp_path / "out", settings={"labels": [1, 2]})
    assert not (tmp_path / "out").exists()


def test_nothing_to_import_is_refused(tmp_path, build):
    with pytest.raises(RefusedError, match="NO_STUDIES"):
        build(tmp_path / "out", [RefusedError("a", "CORRUPT", "b")])
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_never_reach_a_record(make_study, value):
    pixels = make_study(0).pixels.copy()
    pixels[1, 2, 3] = value
    with pytest.raises(RefusedError, match="NOT_FINITE"):
        make_study(0, pixels=pixels)


def test_record_set_is_replaced_only_on_request(records, build, make_study):
    before = content(records)
    with pytest.raises(RefusedError, match="EXISTS.*--overwrite"):
        build(records)
    assert content(records) == before
    (records / "notes.txt").write_text("mine")
    build(records, map(make_study, range(4)), overwrite=True, shards=1)
    assert set(content(records)) == {
        "manifest.json",
        "notes.txt",
        *(f"{split}-00000-of-00001.tfrecord" for split in SPLITS),
    }
    open_record_set(records)


def test_every_failing_step_leaves_the_earlier_set(
    records, tmp_path, build, make_study, monkeypatch
):
    build(tmp_path / "new", map(make_study, range(4)))
    before, after = content(records), content(tmp_path / "new")
    faults = Faults(monkeypatch, OSError(28, "No space left on device"), lasting=False)
    for at in range(1, 1000):
        faults.start(at)
        try:
            build(records, map(make_study, range(4)), overwrite=True)
            break
        except OSError:
            faults.start(0)
            assert content(records) == before
    # 4 studies, 3 shards and the manifest in 3 steps each, and a move for each file
    assert at > 4 * 3 + 3 * 3 + 3 + 4
    assert content(records) == after


@pytest.mark.slow
@pytest.mark.parametrize("replacing", [False, True])
def test_kill_at_every_step_then_rerun_gives_the_same_bytes(
    records, tmp_path, build, make_study, monkeypatch, replacing
):
    build(tmp_path / "new", map(make_study, range(4)))
    before, after, out = content(records), content(tmp_path / "new"), tmp_path / "out"
    faults = Faults(monkeypatch, Killed(), lasting=True)
    for at in range(1, 1000):
        faults.start(0)
        shutil.rmtree(out, ignore_errors=True)
        if replacing:
            shutil.copytree(records, out)
        faults.start(at)
        try:
            build(out, map(make_study, range(4)), overwrite=replacing)
            break
        except Killed:
            faults.start(0)
            # No manifest, or a whole set: the one before or the new one.
            left = content_of_set(out)
            assert left in (None, after) or (replacing and left == before)
            build(out, map(make_study, range(4)), overwrite=left is not None)
        assert content(out) == after
    assert at > 4 * 3 + 3 * 3 + 3 + 4
    faults.start(0)


def content_of_set(folder):
    if not (folder / "manifest.json").exists():
        return None
    open_record_set(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_two_builds_of_one_folder(tmp_path, build, make_study, source_of):
    def read(item):
        with pytest.raises(BlockingIOError, match="another process"):
            build(tmp_path / "out")
        return item.outcome

    build(
        tmp_path / "out", source_of(map(make_study, range(4)), settings={}, read=read)
    )
    open_record_set(tmp_path / "out")


def offer(monkeypatch, source):
    """Lets the command `emidec` build another source."""
    command_of = dataclasses.replace(table.SOURCES["emidec"], open=lambda *_: source)
    monkeypatch.setitem(table.SOURCES, "emidec", command_of)


def test_command_imports_what_it_can(
    tmp_path, make_study, source_of, monkeypatch, capsys
):
    fault = RefusedError("Case_P002", "CORRUPT", "gzip")
    studies = [make_study(0), fault, make_study(1), make_study(2)]
    offer(monkeypatch, source_of(studies, name="emidec", settings={}))
    out = str(tmp_path / "out")
    arguments = ["emidec", INPUT, out, "--fractions.train", "1"]
    arguments += ["--fractions.validation", "1", "--fractions.test", "1"]
    arguments += ["--workers", "1"]
    assert command.main(arguments) == 2
    captured = capsys.readouterr()
    (error,) = (x for x in captured.err.splitlines() if x.startswith("ERROR"))
    assert error == "ERROR Case_P002: CORRUPT: gzip"
    assert captured.out.splitlines()[-1] == "imported 3, skipped 1"
    assert open_record_set(tmp_path / "out").manifest.source == "emidec"


def test_command_tells_what_it_found(
    tmp_path, make_study, source_of, monkeypatch, capsys
):
    source = source_of(map(make_study, range(4)), settings={})
    kinds = ["PSIR", "PSIR", "[magnitude]", ""]
    items = [
        dataclasses.replace(item, description=kind)
        for item, kind in zip(source.items, kinds, strict=True)
    ]
    left_out = [LeftOut("a", "cine", 3), LeftOut("b", "scout"), LeftOut("c", "cine")]
    offer(monkeypatch, dataclasses.replace(source, items=items, left_out=left_out))
    command.main(["emidec", INPUT, str(tmp_path / "out"), "--workers", "1"])
    words = [line.split() for line in capsys.readouterr().out.splitlines()]
    rows = [[word for word in line if word.strip("│")] for line in words]
    assert ["PSIR", "2"] in rows
    assert ["[magnitude]", "1"] in rows
    assert ["cine", "4"] in rows
    assert ["scout", "1"] in rows
    manifest = open_record_set(tmp_path / "out").manifest
    assert manifest.taken == {"PSIR": 2, "[magnitude]": 1}
    assert manifest.left_out == left_out


def test_environment_fault_is_one_line_and_exit_3(
    tmp_path, make_study, source_of, monkeypatch, capsys
):
    def full(*_):
        raise OSError(28, "No space left on device", "records")

    offer(monkeypatch, source_of([make_study(0)], settings={}))
    monkeypatch.setattr(os, "replace", full)
    assert command.main(["emidec", INPUT, str(tmp_path / "out")]) == 3
    error = capsys.readouterr().err
    assert error == "ERROR records: ENVIRONMENT: No space left on device\n"
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.slow
def test_command_builds_the_phantom(tmp_path, capsys):
    arguments = ["phantom", str(tmp_path / "out"), "--patients", "4", "--shards", "1"]
    arguments += ["--workers", "1"]
    assert command.main(arguments) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "imported 4, skipped 0"
    manifest = open_record_set(tmp_path / "out").manifest
    assert manifest.settings["patients"] == 4
    assert command.main(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert command.main([*arguments, "--overwrite", "--split_seed", "1"]) == 0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["phantom", "out", "--patients", "many"], "patients: CONFIG"),
        (["phantom", "out", "--fractions.train", "0.6"], "fractions: CONFIG"),
        (["phantom", "out", "--shards", "0"], "shards: CONFIG"),
        (["phantom", "out", "--workers", "-1"], "workers: CONFIG"),
        (["phantom", "out", "--engine", "cloud"], "engine: CONFIG"),
        (["phantom", "out", "--colour", "red"], "--colour"),
        (["phantom"], "out"),
        (["mri", "out"], "phantom"),
        ([], "source"),
        (["emidec", "/absent", "out"], "/absent: NO_STUDIES"),
    ],
)
def test_wrong_command_lines_get_one_line(
    tmp_path, monkeypatch, capsys, arguments, named
):
    monkeypatch.chdir(tmp_path)
    assert command.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("ERROR ")
    assert error.count("\n") == 1
    assert named in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("fractions: 3\n", "fractions: CONFIG: expected settings by name, got 3"),
        ("fractions:\n  train: x\n", "train"),
        ("patients: 5\npatients: 6\n", "patients: CONFIG: stands twice"),
        ("fractions: {test: 1, test: 0}\n", "test: CONFIG: stands twice"),
    ],
)
def test_wrong_settings_files_get_one_line(tmp_path, capsys, text, named):
    settings = tmp_path / "settings.yaml"
    settings.write_text(text)
    out = tmp_path / "out"
    assert command.main(["phantom", str(out), "--config", str(settings)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("ERROR ")
    assert error.count("\n") == 1
    assert named in error
    assert not out.exists()


def test_command_checks_labels_and_mends_what_it_is_told_to(
    tmp_path, make_study, source_of, monkeypatch, capsys
):
    studies = [make_study(n) for n in range(3)]
    # 1 pixel of 1.5 x 1.25 mm apart from the ring, an island below 20 mm2, and no cause
    # for a warning; that these hearts weigh a gram is one.
    studies[0].label_map[1, 10, 1] = Tissue.HEALTHY_MYOCARDIUM
    counts = ("--fractions.train", "1", "--fractions.validation", "1")
    for fix, told in (("[]", "MASS study: "), ("[islands]", "FIXED slice 2: ")):
        offer(monkeypatch, source_of(studies, name="emidec", settings={}))
        out = tmp_path / fix
        command_line = ["emidec", INPUT, str(out), *counts, "--fix", fix]
        command_line += ["--fractions.test", "1", "--workers", "1"]
        assert command.main(command_line) == 0
        assert f"WARNING study-00: {told}" in capsys.readouterr().err
        left = {
            study.study_key: study.label_map[1, 10, 1]
            for split in SPLITS
            for study in open_record_set(out).studies(split)
        }
        assert left["study-00"] == (fix == "[]") * Tissue.HEALTHY_MYOCARDIUM


def test_unknown_fix_is_refused_before_anything_is_read(tmp_path, capsys):
    command_line = ["emidec", INPUT, str(tmp_path / "out"), "--fix", "[all]"]
    assert command.main(command_line) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ERROR fix: CONFIG: ")
    assert "islands" in line
