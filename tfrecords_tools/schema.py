"""One record: a `tf.train.Example` that holds one slice on its native grid.

`encode` writes it, `parse` reads it inside a TensorFlow graph, `decode` reads it in
NumPy. Arrays are raw little-endian bytes in row-major order: they read fastest.
"""

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.labels import TASKS
from tfrecords_tools.study import Slice

PIXELS_DTYPE, LABEL_MAP_DTYPE, AFFINE_DTYPE = "<f4", "|u1", "<f8"

FEATURES: dict[str, tf.io.FixedLenFeature] = {
    "pixels": tf.io.FixedLenFeature([], tf.string),
    "label_map": tf.io.FixedLenFeature([], tf.string),
    "shape": tf.io.FixedLenFeature([2], tf.int64),
    "affine": tf.io.FixedLenFeature([], tf.string),
    "spacing_mm": tf.io.FixedLenFeature([2], tf.float32),
    "slice_spacing_mm": tf.io.FixedLenFeature([], tf.float32),
    "slice_index": tf.io.FixedLenFeature([], tf.int64),
    "slice_count": tf.io.FixedLenFeature([], tf.int64),
    "labelled": tf.io.FixedLenFeature([len(TASKS)], tf.int64),
    "patient_key": tf.io.FixedLenFeature([], tf.string),
    "study_key": tf.io.FixedLenFeature([], tf.string),
    "source": tf.io.FixedLenFeature([], tf.string),
}
"""What a record holds. `labelled` has one 0 or 1 a task, in the order of `TASKS`."""


def encode(slice_: Slice) -> bytes:
    """The serialized record of a slice; the same slice gives the same bytes."""
    values: dict[str, bytes | list[int] | list[float]] = {
        "pixels": slice_.pixels.astype(PIXELS_DTYPE).tobytes(),
        "label_map": slice_.label_map.astype(LABEL_MAP_DTYPE).tobytes(),
        "shape": list(slice_.pixels.shape),
        "affine": slice_.affine.astype(AFFINE_DTYPE).tobytes(),
        "spacing_mm": list(slice_.spacing_mm),
        "slice_spacing_mm": [slice_.slice_spacing_mm],
        "slice_index": [slice_.index],
        "slice_count": [slice_.slice_count],
        "labelled": [int(task in slice_.labelled) for task in TASKS],
        "patient_key": slice_.patient_key.encode(),
        "study_key": slice_.study_key.encode(),
        "source": slice_.source.encode(),
    }
    feature = {name: _feature(value) for name, value in values.items()}
    example = tf.train.Example(features=tf.train.Features(feature=feature))
    return example.SerializeToString(deterministic=True)


def _feature(value: bytes | list[int] | list[float]) -> tf.train.Feature:
    if isinstance(value, bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    if isinstance(value[0], int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=value))
    return tf.train.Feature(float_list=tf.train.FloatList(value=value))


def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    """One record as tensors; runs inside a graph.

    Args:
        serialized: () string, one record.

    Returns:
        pixels (H, W) float32, label_map (H, W) uint8, affine (4, 4) float64,
        spacing_mm (2,) and slice_spacing_mm () float32, slice_index and
        slice_count () int64, labelled (tasks,) bool in the order of `TASKS`,
        patient_key, study_key and source () string.
    """
    record = tf.io.parse_single_example(serialized, FEATURES)
    shape = record.pop("shape")
    pixels = tf.io.decode_raw(record["pixels"], tf.float32)
    label_map = tf.io.decode_raw(record["label_map"], tf.uint8)
    affine = tf.io.decode_raw(record["affine"], tf.float64)
    record["pixels"] = tf.ensure_shape(tf.reshape(pixels, shape), [None, None])
    record["label_map"] = tf.ensure_shape(tf.reshape(label_map, shape), [None, None])
    record["affine"] = tf.reshape(affine, [4, 4])
    record["labelled"] = tf.cast(record["labelled"], tf.bool)
    return record


def parse_patient_key(serialized: tf.Tensor) -> tf.Tensor:
    """The patient key () string of one record; runs inside a graph."""
    feature = {"patient_key": FEATURES["patient_key"]}
    return tf.io.parse_single_example(serialized, feature)["patient_key"]


def decode(serialized: bytes) -> Slice:
    """One record as a `Slice`, without TensorFlow's graph.

    Raises:
        RefusedError: if the bytes are not a record of this schema.
    """
    try:
        return _decode(tf.train.Example.FromString(serialized).features.feature)
    except (DecodeError, ValueError, IndexError) as error:
        raise RefusedError("record", "CORRUPT", f"not a slice: {error}") from None


def _decode(feature: "dict[str, tf.train.Feature]") -> Slice:
    def array(name: str, dtype: str, shape: list[int]) -> np.ndarray:
        values = np.frombuffer(feature[name].bytes_list.value[0], dtype)
        return values.reshape(shape)

    def text(name: str) -> str:
        return feature[name].bytes_list.value[0].decode()

    shape = list(feature["shape"].int64_list.value)
    flags = feature["labelled"].int64_list.value
    return Slice(
        patient_key=text("patient_key"),
        study_key=text("study_key"),
        source=text("source"),
        pixels=array("pixels", PIXELS_DTYPE, shape),
        label_map=array("label_map", LABEL_MAP_DTYPE, shape),
        labelled=frozenset(
            task for task, flag in zip(TASKS, flags, strict=True) if flag
        ),
        index=feature["slice_index"].int64_list.value[0],
        slice_count=feature["slice_count"].int64_list.value[0],
        affine=array("affine", AFFINE_DTYPE, [4, 4]),
    )
