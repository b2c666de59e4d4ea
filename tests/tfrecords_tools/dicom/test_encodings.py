"""The same picture in every encoding is the same tensor."""

import numpy as np
import pytest
from pydicom import dcmread, uid
from pydicom.encaps import encapsulate, generate_frames

from tfrecords_tools.dicom import pixels
from tfrecords_tools.dicom.scan import read_one
from tfrecords_tools.dicom.stacks import read_stack
from tfrecords_tools.errors import RefusedError

SLICES, ROWS, COLUMNS = 3, 39, 43  # odd, so that 8-bit pictures need padding


@pytest.fixture(scope="module")
def picture():
    """Whole numbers from 0 to 4000, as 12 bits hold them."""
    random = np.random.default_rng(7)
    smooth = np.linspace(0, 3900, COLUMNS)[None, None] * np.ones((SLICES, ROWS, 1))
    return np.rint(smooth + random.uniform(0, 100, smooth.shape)).astype(np.int16)


def plain(writing, picture, **tags):
    return writing.classic(picture, writing.short_axis_affine(), **tags)


def in_syntax(syntax):
    def write(writing, picture, folder):
        writing.save_all(plain(writing, picture), folder, syntax=syntax)

    return write


def compressed(syntax):
    def write(writing, picture, folder):
        for number, dataset in enumerate(plain(writing, picture.astype(np.uint16))):
            dataset.BitsStored, dataset.HighBit = 12, 11
            writing.save(dataset, folder / "scratch")
            dataset = dcmread(folder / "scratch")
            dataset.compress(syntax, generate_instance_uid=False)
            writing.save(dataset, folder / str(number))
        (folder / "scratch").unlink()

    return write


def jpeg_lossless(writing, picture, folder):
    """The codestream comes from GDCM, for pydicom cannot write it."""
    SimpleITK = pytest.importorskip("SimpleITK")
    folder.mkdir()
    for number, dataset in enumerate(plain(writing, picture.astype(np.uint16))):
        image = SimpleITK.GetImageFromArray(picture[number].astype(np.uint16))
        other = folder / "scratch.dcm"
        SimpleITK.WriteImage(image, other, True, compressor="JPEG")
        made = dcmread(other)
        assert made.file_meta.TransferSyntaxUID == uid.JPEGLosslessSV1
        dataset.PixelData = encapsulate([*generate_frames(made.PixelData)])
        dataset["PixelData"].is_undefined_length = True
        dataset["PixelData"].VR = "OB"
        writing.save(dataset, folder / str(number), uid.JPEGLosslessSV1)
        other.unlink()


def signed(writing, picture, folder):
    writing.save_all(plain(writing, picture - 2000, rescale=(1, 2000)), folder)


def slope(writing, picture, folder):
    writing.save_all(plain(writing, 2 * picture, rescale=(0.5, 0)), folder)


def turned_round(writing, picture, folder):
    stored = (4095 - picture).astype(np.uint16)
    datasets = plain(writing, stored, PhotometricInterpretation="MONOCHROME1")
    for dataset in datasets:
        dataset.BitsStored, dataset.HighBit = 12, 11
    writing.save_all(datasets, folder)


def turned_round_and_signed(writing, picture, folder):
    tags = {"PhotometricInterpretation": "MONOCHROME1", "rescale": (1, 2000)}
    # A signed value v of b bits turned round is -1 - v.
    writing.save_all(plain(writing, -1 - (picture - 2000), **tags), folder)


def twelve_bits_with_overlay(writing, picture, folder):
    """Old scanners kept an overlay in the bits that pixels leave."""
    datasets = plain(writing, (picture | 0x5000).astype(np.uint16))
    for dataset in datasets:
        dataset.BitsStored, dataset.HighBit = 12, 11
    writing.save_all(datasets, folder)


def twelve_bits_signed(writing, picture, folder):
    stored = (picture - 2000) & 0x0FFF  # the sign is bit 11, above it nothing
    datasets = plain(writing, stored.astype(np.int16), rescale=(1, 2000))
    for dataset in datasets:
        dataset.BitsStored, dataset.HighBit = 12, 11
    writing.save_all(datasets, folder)


def multi_frame(writing, picture, folder):
    affine = writing.short_axis_affine()
    writing.save_all(writing.enhanced(picture, affine), folder)


def rescale_of_each_frame(writing, picture, folder):
    pairs = [(1, 0), (0.5, -10), (2, 0)]
    stored = [(p - b) / a for p, (a, b) in zip(picture, pairs, strict=True)]
    assert (np.rint(stored[0]) == stored[0]).all()
    stored[2] = np.floor(stored[2])  # odd numbers are put right below
    files = writing.enhanced(
        np.array(stored).astype(np.int16), writing.short_axis_affine(), rescale=pairs
    )
    writing.save_all(files, folder)


def multi_frame_rle(writing, picture, folder):
    (dataset,) = writing.enhanced(picture, writing.short_axis_affine())
    writing.save(dataset, folder / "scratch")
    dataset = dcmread(folder / "scratch")
    dataset.compress(uid.RLELossless, generate_instance_uid=False)
    writing.save(dataset, folder / "image")
    (folder / "scratch").unlink()


ENCODINGS = {
    "implicit": in_syntax(uid.ImplicitVRLittleEndian),
    "explicit": in_syntax(uid.ExplicitVRLittleEndian),
    "big endian": in_syntax(uid.ExplicitVRBigEndian),
    "deflated": in_syntax(uid.DeflatedExplicitVRLittleEndian),
    "RLE": compressed(uid.RLELossless),
    "JPEG 2000": compressed(uid.JPEG2000Lossless),
    "JPEG-LS": compressed(uid.JPEGLSLossless),
    "JPEG lossless": jpeg_lossless,
    "signed": signed,
    "slope": slope,
    "MONOCHROME1": turned_round,
    "MONOCHROME1 signed": turned_round_and_signed,
    "12 bits with overlay": twelve_bits_with_overlay,
    "12 bits signed": twelve_bits_signed,
    "multi-frame": multi_frame,
    "multi-frame RLE": multi_frame_rle,
    "rescale of each frame": rescale_of_each_frame,
}


def read_folder(folder):
    slices = []
    for path in sorted(folder.iterdir()):
        header = read_one(path)
        assert header.fault is None
        slices += [(path, frame.number) for frame in header.frames]
    return read_stack(slices)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_same_tensor(encoding, picture, dicom_writing, tmp_path):
    expected = picture.astype(np.float32)
    if encoding == "rescale of each frame":
        expected[2] = 2 * (picture[2] // 2)  # a slope of 2 has even numbers only
    ENCODINGS[encoding](dicom_writing, picture, tmp_path / "files")
    stack, warnings = read_folder(tmp_path / "files")
    assert stack.pixels.dtype == np.float32
    np.testing.assert_array_equal(stack.pixels, expected)
    affine = dicom_writing.short_axis_affine()
    np.testing.assert_allclose(stack.affine, affine, atol=1e-9)  # 12 written digits
    assert warnings == ()


def test_eight_bits_of_odd_length(dicom_writing, tmp_path, picture):
    stored = (picture // 16).astype(np.uint8)
    dicom_writing.save_all(plain(dicom_writing, stored), tmp_path / "files")
    np.testing.assert_array_equal(read_folder(tmp_path / "files")[0].pixels, stored)


def test_without_the_decoder_the_way_out_is_said(
    dicom_writing, tmp_path, picture, monkeypatch
):
    compressed(uid.JPEG2000Lossless)(dicom_writing, picture, tmp_path / "files")
    monkeypatch.setattr(pixels.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RefusedError, match=r"UNSUPPORTED_TS.*jdl-keras\[dicom\]"):
        read_folder(tmp_path / "files")


def test_lossy_compression_is_told(dicom_writing, tmp_path, picture):
    files = plain(dicom_writing, picture, LossyImageCompression="01")
    dicom_writing.save_all(files, tmp_path / "files")
    (warning,) = read_folder(tmp_path / "files")[1]
    assert warning.startswith("DECODE: lossy")
