"""What a served model refuses, in its graph: servers answer INVALID_ARGUMENT.

Every message is `input: CODE: reason`, the codes being those of the importers.
"""

from collections.abc import Iterable

import tensorflow as tf

from tfrecords_tools.geometry import PIXEL_SPACING_MM

MOST_PIXELS = 2**25
"""Of one call: 128 slices of 512 x 512. Memory is bounded by it, whatever is sent."""


def checked_images(images: tf.Tensor, letters: str) -> tf.Tensor:
    """The same images, once they are found to be such.

    Args:
        images: float32.
        letters: of its axes, such as `BHW`; rows and columns are the last two.
    """
    images = _as_sent(images)
    shape = tf.shape(images)
    expected = f"expected ({', '.join(letters)}), got shape"
    images = _after(
        images,
        _require(
            tf.equal(tf.size(shape), len(letters)),
            f"images: SHAPE_MISMATCH: {expected}",
            shape,
        ),
    )
    images = tf.ensure_shape(images, [None] * len(letters))
    pixels = tf.reduce_prod(tf.cast(shape, tf.int64))
    images = _after(
        images,
        _require(pixels > 0, "images: EMPTY: no pixel in shape", shape),
        _require(
            pixels <= MOST_PIXELS,
            f"images: TOO_LARGE: more than {MOST_PIXELS} pixels in one call: shape",
            shape,
        ),
    )
    return _after(images, *_content(images))


def _content(images: tf.Tensor) -> Iterable[tf.Operation]:
    """Slices are counted from 0 over the whole call."""
    size = tf.shape(images)[-2:]
    slices = tf.reshape(images, tf.concat([[-1], size], axis=0))
    odd = ~tf.reduce_all(tf.math.is_finite(slices), axis=[1, 2])
    yield _require(
        ~tf.reduce_any(odd), "images: NOT_FINITE: NaN or infinity in slice", _first(odd)
    )
    lowest, highest = (f(slices, axis=[1, 2]) for f in (tf.reduce_min, tf.reduce_max))
    constant = tf.equal(lowest, highest)
    yield _require(
        ~tf.reduce_any(constant),
        "images: CONSTANT: one value only in slice",
        _first(constant),
    )


def checked_spacing(spacing_mm: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """The same spacings (B, 2), once they are found to be such, `count` being B."""
    smallest, largest = PIXEL_SPACING_MM
    spacing_mm = _as_sent(spacing_mm)
    shape = tf.shape(spacing_mm)
    # Ranges of the shape: a single axis may not be there.
    as_expected = tf.equal(tf.size(shape), 2) & tf.reduce_all(
        tf.equal(shape[:1], count) & tf.equal(shape[-1:], 2)
    )
    spacing_mm = _after(
        spacing_mm,
        _require(
            as_expected,
            "spacing_mm: SHAPE_MISMATCH: expected 2 numbers for each of",
            *(count, "in images, got shape", shape),
        ),
    )
    spacing_mm = tf.ensure_shape(spacing_mm, [None, 2])
    # A NaN is not in the range either.
    sane = (spacing_mm >= smallest) & (spacing_mm <= largest)
    return _after(
        spacing_mm,
        _require(
            tf.reduce_all(sane),
            f"spacing_mm: BAD_GEOMETRY: not in {smallest:g}-{largest:g} mm:",
            spacing_mm,
        ),
    )


def checked_rotation(rotation_degrees: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """The same rotations (B,), once they are found to be such, `count` being B."""
    rotation_degrees = _as_sent(rotation_degrees)
    shape = tf.shape(rotation_degrees)
    rotation_degrees = _after(
        rotation_degrees,
        _require(
            tf.equal(tf.size(rotation_degrees), count) & tf.equal(tf.size(shape), 1),
            "rotation_degrees: SHAPE_MISMATCH: expected one number for each of",
            *(count, "in images, got shape", shape),
        ),
    )
    finite = tf.reduce_all(tf.math.is_finite(rotation_degrees))
    message = "rotation_degrees: NOT_FINITE: NaN or infinity"
    return _after(rotation_degrees, _require(finite, message))


def checked_records(
    examples: tf.Tensor, sizes: tf.Tensor, lengths: tf.Tensor
) -> tf.Tensor:
    """The one size (2,) of records.

    Args:
        examples: (B,) serialized records.
        sizes: (B, 2) int64 rows and columns that each record states.
        lengths: (B,) bytes of its pixels.
    """
    count = tf.raw_ops.Size(input=examples)
    sizes = _after(sizes, _require(count > 0, "examples: EMPTY: no record in the call"))
    sizes = _after(
        sizes,
        _require(
            tf.reduce_all((sizes > 0) & (sizes <= MOST_PIXELS)),
            "examples: BAD_HEADER: rows and columns of the records:",
            sizes,
        ),
    )
    size = sizes[0]
    return _after(
        size,
        _require(
            tf.reduce_all(tf.equal(sizes, size)),
            "examples: SHAPE_MISMATCH: one call takes records of one size, got",
            sizes,
        ),
        _require(
            tf.reduce_all(tf.equal(tf.cast(lengths, tf.int64), 4 * size[0] * size[1])),
            "examples: PIXEL_LENGTH: pixels must be float32 of the stated size",
            *(size, "; bytes:", lengths),
        ),
    )


def _as_sent(tensor: tf.Tensor) -> tf.Tensor:
    """The tensor, with nothing known of its shape.

    A server does not compare it with the signature, and TensorFlow folds away what the
    signature promises: the shape itself, and `tf.rank` even of this tensor.
    """
    return tf.raw_ops.PlaceholderWithDefault(input=tensor, shape=tf.TensorShape(None))


def _require(holds: tf.Tensor, message: str, *seen: tf.Tensor | str) -> tf.Operation:
    return tf.debugging.Assert(holds, [message, *seen], summarize=8)


def _after(tensor: tf.Tensor, *assertions: tf.Operation) -> tf.Tensor:
    """The tensor, for operations that may only run when all of this holds."""
    with tf.control_dependencies(assertions):
        return tf.identity(tensor)


def _first(flags: tf.Tensor) -> tf.Tensor:
    """Index of the first true one."""
    return tf.argmax(tf.cast(flags, tf.int32))
