"""SEG and SR through a real PACS: Debian's Orthanc, which answers this machine only."""

import json
import shutil
import socket
import subprocess
import time
import urllib.request

import numpy as np
import pydicom
import pytest
from predicted_dicom import INTERVAL, REVIEW, WHO, phantom_case

from jdl_keras.inference.dicom_seg import write_seg
from jdl_keras.inference.dicom_sr import write_sr
from jdl_keras.quantification.measurement import measure

pytestmark = pytest.mark.slow


class Pacs:
    """Orthanc by its REST interface."""

    def __init__(self, port):
        self.address = f"http://127.0.0.1:{port}"
        # No proxy of the environment: nothing leaves this machine.
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, path, content=None):
        request = urllib.request.Request(self.address + path, content)
        with self.opener.open(request, timeout=30) as answer:
            return answer.read()

    def json(self, path, content=None):
        return json.loads(self.get(path, content))

    def store(self, path):
        return self.json("/instances", path.read_bytes())


def free_ports(count):
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in taken]
    for one in taken:
        one.close()
    return ports


@pytest.fixture(scope="module")
def pacs(tmp_path_factory):
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
    if not program:
        pytest.skip("no Orthanc; run: apt-get install orthanc")
    folder = tmp_path_factory.mktemp("orthanc")
    http, dicom = free_ports(2)
    settings = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [],
        "HttpPort": http,
        "DicomPort": dicom,
        # Old versions listen on every address, and refuse others by the next line.
        "HttpBindAddresses": ["127.0.0.1"],
        "RemoteAccessAllowed": False,
        "DicomServerEnabled": False,
        "AuthenticationEnabled": False,
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [program, str(folder / "orthanc.json")], stdout=log, stderr=log
        )
        try:
            yield started(Pacs(http), process, folder / "log")
        finally:
            process.terminate()
            process.wait(timeout=60)


def started(pacs, process, log):
    for _ in range(300):
        if process.poll() is not None:
            pytest.fail(f"Orthanc ended: {log.read_text()[-2000:]}")
        try:
            pacs.get("/system")
        except OSError:
            time.sleep(0.2)
        else:
            return pacs
    pytest.fail("Orthanc did not answer within a minute")


@pytest.fixture(scope="module", params=["classic", "enhanced"])
def study(request, pacs, tmp_path_factory):
    """A study and what was made of it, stored: file to what Orthanc calls it."""
    folder = tmp_path_factory.mktemp(request.param)
    case = phantom_case(folder / "images", request.param)
    for image in pacs.json("/patients"):  # the same patient, stored another way
        pacs.opener.open(
            urllib.request.Request(f"{pacs.address}/patients/{image}", method="DELETE")
        ).close()
    write_seg(folder / "seg.dcm", case.prediction, case.slices, WHO)
    report = (measure(case.prediction.wall), INTERVAL, REVIEW, WHO)
    write_sr(folder / "sr.dcm", case.prediction, case.slices, *report)
    images = sorted((folder / "images").iterdir())
    made = [folder / "seg.dcm", folder / "sr.dcm"]
    stored = {path: pacs.store(path) for path in (*images, *made)}
    return case, folder, stored


def test_everything_is_stored_in_one_study(study, pacs):
    case, _, stored = study
    assert {one["Status"] for one in stored.values()} == {"Success"}
    assert len({one["ParentPatient"] for one in stored.values()}) == 1
    (parent,) = {one["ParentStudy"] for one in stored.values()}
    (name,) = pacs.json("/studies")
    assert name == parent
    found = pacs.json(f"/studies/{name}")
    assert found["MainDicomTags"]["StudyInstanceUID"] == case.images[0].StudyInstanceUID
    series = [pacs.json(f"/series/{one}") for one in found["Series"]]
    kinds = sorted(one["MainDicomTags"]["Modality"] for one in series)
    assert kinds == ["MR", "SEG", "SR"]
    count = {s["MainDicomTags"]["Modality"]: len(s["Instances"]) for s in series}
    assert count == {"MR": len(case.images), "SEG": 1, "SR": 1}


def test_files_come_back_bit_by_bit(study, pacs):
    _, _, stored = study
    for path, one in stored.items():
        assert pacs.get(f"/instances/{one['ID']}/file") == path.read_bytes()


def test_what_comes_back_holds_the_masks(study, pacs, tmp_path):
    case, folder, stored = study
    name = stored[folder / "seg.dcm"]["ID"]
    (tmp_path / "seg.dcm").write_bytes(pacs.get(f"/instances/{name}/file"))
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    groups = seg.PerFrameFunctionalGroupsSequence
    assert len(groups) == 2 * len(case.stack.pixels)
    for group, pixels in zip(groups, seg.pixel_array, strict=True):
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        assert np.array_equal(pixels > 0, case.segments[number][case.place(group)])


def test_orthanc_itself_reads_them(study, pacs):
    """Parsed by another implementation: the same names and numbers."""
    case, folder, stored = study
    seg = pacs.json(f"/instances/{stored[folder / 'seg.dcm']['ID']}/simplified-tags")
    assert seg["PatientName"] == "Müller^Jürgen"
    assert [one["SegmentLabel"] for one in seg["SegmentSequence"]] == [
        *("Myocardium", "Scar")
    ]
    assert int(seg["NumberOfFrames"]) == 2 * len(case.stack.pixels)
    sr = pacs.json(f"/instances/{stored[folder / 'sr.dcm']['ID']}/simplified-tags")
    burden = measure(case.prediction.wall).burden.burden_percent
    assert f"{burden:.2f}" in json.dumps(sr)


def test_storing_the_same_result_again_makes_no_second_one(study, pacs, tmp_path):
    case, _, stored = study
    write_seg(tmp_path / "again.dcm", case.prediction, case.slices, WHO)
    assert pacs.store(tmp_path / "again.dcm")["Status"] == "AlreadyStored"
