"""Identifiers in a DICOM file: every text that is not known to be harmless.

An allow-list: an element nobody thought of counts as an identifier. What cannot be
parsed gives the texts of its first bytes.
"""

import io
import logging
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
from pydicom.datadict import private_dictionaries
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.multival import MultiValue
from pydicom.uid import DeflatedExplicitVRLittleEndian

from tfrecords_tools.privacy.identifiers import Identifier, texts_in

HARMLESS = {
    *("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "SequenceName"),
    *("ImplementationVersionName", "ImplementationClassUID", "PulseSequenceName"),
    *("ReceiveCoilName", "TransmitCoilName", "ImagedNucleus", "ResonantNucleus"),
    *("RescaleType", "LUTExplanation", "WindowCenterWidthExplanation"),
    *("CodeValue", "CodeMeaning", "CodingSchemeDesignator", "CodingSchemeVersion"),
    *("CodingSchemeName", "ContextIdentifier", "DimensionDescriptionLabel"),
}
"""Elements that tell of the scanner or of a code table, not of a patient."""

WELL_KNOWN_UIDS = "1.2.840.10008."

NAMES, DATES, TIMES = {"PN"}, {"DA", "DT"}, {"TM"}
TEXTS = {"AE", "LO", "LT", "SH", "ST", "UC", "UI", "UR", "UT"} | NAMES | DATES | TIMES
PRIVATE_TEXTS = TEXTS | {"CS", "IS", "AS"}
BINARY = {"OB", "OW", "UN", "OB or OW"}

PIXELS = 0x7FE0
"""Group of the pixel data."""

HEAD_BYTES = 64 * 2**10
LARGEST_ELEMENT_BYTES = 16 * 2**20
LARGEST_DATASET_BYTES = 256 * 2**20

DEEPEST_SEQUENCE = 32


def is_dicom(head: bytes) -> bool:
    """Whether a file begins as DICOM does, with or without its preamble."""
    return head[128:132] == b"DICM" or head[:2] in (b"\x02\0", b"\x08\0")


def dicom_identifiers(path: Path) -> Iterator[Identifier]:
    """The identifiers of one file; pydicom's words about it are dropped."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if head[128:132] == b"DICM":
        yield from (Identifier("preamble", text) for text in texts_in(head[:128], 5))
    try:
        with _silent():
            found = [*_of_dataset(_dataset(path), 0)]
    except Exception:  # of any kind: pydicom promises none for damaged files
        found = [Identifier("unparsed header", text) for text in texts_in(head[128:])]
    yield from found


@contextmanager
def _silent() -> Iterator[None]:
    logger = logging.getLogger("pydicom")
    was_disabled, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = was_disabled


def _dataset(path: Path) -> Dataset:
    """All elements, meta information first; large values stay in the file."""
    with path.open("rb") as file:
        if file.read(132)[128:] != b"DICM":
            return pydicom.dcmread(path, defer_size=LARGEST_ELEMENT_BYTES, force=True)
        meta = pydicom.filereader.read_file_meta_info(path)
        if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
            dataset: Dataset = pydicom.dcmread(path, defer_size=LARGEST_ELEMENT_BYTES)
        else:
            file.seek(132 + 12 + meta.FileMetaInformationGroupLength)
            inflate = zlib.decompressobj(-zlib.MAX_WBITS)
            plain = inflate.decompress(file.read(), LARGEST_DATASET_BYTES)
            dataset = read_dataset(io.BytesIO(plain), False, True)
    dataset.update(meta)
    return dataset


def _of_dataset(dataset: Dataset, depth: int) -> Iterator[Identifier]:
    if depth > DEEPEST_SEQUENCE:
        raise ValueError("sequences are nested too deeply")
    for tag in [*dataset.keys()]:
        if tag.group == PIXELS or _is_large(dataset, tag):
            continue
        element = dataset[tag]
        if element.VR == "SQ":
            for item in element.value:
                yield from _of_dataset(item, depth + 1)
        elif element.keyword not in HARMLESS and element.value:
            is_private = tag.is_private
            kind = f"private {tag}" if is_private else element.keyword or element.name
            several = isinstance(element.value, MultiValue)
            values = element.value if several else [element.value]
            for value in values:
                yield from _of_value(kind, element.VR, value, is_private)


def _is_large(dataset: Dataset, tag: pydicom.tag.BaseTag) -> bool:
    length = getattr(dataset.get_item(tag), "length", 0)
    return LARGEST_ELEMENT_BYTES < length < 0xFFFFFFFF


def _of_value(
    kind: str, vr: str, value: object, is_private: bool
) -> Iterator[Identifier]:
    if vr in BINARY and isinstance(value, bytes):
        yield from (Identifier(kind, text) for text in _binary_texts(value))
        return
    text = str(value).strip(" \0")
    if vr not in (PRIVATE_TEXTS if is_private else TEXTS):
        return
    if vr == "UI" and text.startswith(WELL_KNOWN_UIDS):
        return
    if is_private and text in private_dictionaries:  # the maker's name for the block
        return
    form = "name" if vr in NAMES else "time" if vr in TIMES | DATES else "text"
    yield Identifier(kind, text, form)
    if vr in DATES:
        yield Identifier(kind, text[:8], "date")
    elif vr in TIMES:
        yield Identifier(kind, text[:6])


def _binary_texts(value: bytes) -> list[str]:
    """All of a value that is one text, else the texts that stand in it."""
    plain = value.strip(b" \0")
    if plain.isascii() and plain.decode("ascii").isprintable():
        return [plain.decode("ascii")]
    return texts_in(value)
