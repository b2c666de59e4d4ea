"""Who a report is about, for those who asked to see it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tfrecords_tools.dicom.files import read_header

SHOWN = {
    "PatientName": "patient",
    "PatientID": "patient ID",
    "PatientBirthDate": "born",
    "StudyDate": "study date",
    "AccessionNumber": "accession number",
}
"""DICOM keyword to what it is called."""


def patient_identifiers(slices: Sequence[tuple[Path, int]]) -> Mapping[str, str]:
    """What the headers say of the patient; empty values are left out.

    Args:
        slices: files of one study.

    Raises:
        RefusedError: if the first file cannot be read.
    """
    dataset = read_header(slices[0][0], [*SHOWN])
    found = {name: str(dataset.get(keyword, "")) for keyword, name in SHOWN.items()}
    return {name: text for name, text in found.items() if text}
