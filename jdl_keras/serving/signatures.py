"""The functions of a served model: TensorFlow operations and weights, nothing else.

| signature | inputs | outputs |
| --- | --- | --- |
| `serving_default` | images (B, H, W), spacing_mm (B, 2) | maps (B, H, W) |
| `serialized_examples` | examples (B,): records, see `schema` | maps (B, H, W) |
| `study` | images (B, S, H, W), spacing_mm (B, 2) | maps (B, S, H, W) |
| `study_pass` | the same, and rotation_degrees (B,) | maps and reach (B, S, H, W) |

Maps are foreground probabilities by task. The first two find the heart in each slice by
itself; B slices may be of B patients. The others take B whole studies whose slices
agree on where the heart is, as `evaluate` and `predict` do. All but `study_pass`
average over the rotations of the run; it sees one of them. Every input has a row for
each of B, so that a server may join calls into one.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import keras
import tensorflow as tf

from jdl_keras.inference.predictor import (
    LARGEST_BATCH,
    Maps,
    equal_rotations,
    predict_rotated,
)
from jdl_keras.models.localiser import (
    Localiser,
    heat_maps,
    native_centres,
    study_heat_map,
)
from jdl_keras.preprocessing import Grid, image_centre
from jdl_keras.serving.checks import (
    checked_images,
    checked_records,
    checked_rotation,
    checked_spacing,
)
from tfrecords_tools.schema import FEATURES

REACH = "reach"
"""Output of `study_pass`: how much of a pixel the turned grid reaches, 0 to 1."""

IMAGES = tf.TensorSpec([None, None, None], tf.float32, "images")
STUDIES = tf.TensorSpec([None, None, None, None], tf.float32, "images")
SPACING = tf.TensorSpec([None, 2], tf.float32, "spacing_mm")
CENTRE = tf.TensorSpec([None, 2], tf.float32, "centre")
ROTATION = tf.TensorSpec([None], tf.float32, "rotation_degrees")
EXAMPLES = tf.TensorSpec([None], tf.string, "examples")

Signatures = Mapping[str, tf.types.experimental.ConcreteFunction]


def input_specs(
    signature: tf.types.experimental.ConcreteFunction,
) -> dict[str, tf.TensorSpec]:
    """What a signature takes, by name."""
    specs = tf.nest.flatten(signature.structured_input_signature)
    return {spec.name: spec for spec in specs}


class ServedFunctions:
    """What a served model computes.

    Args:
        network: from (B, rows, columns, 1) to probability maps by task.
        grid: the grid that the network was trained on.
        localiser: finds its centre; None for the middle of the image.
        rotations: equally spaced rotations of the grid whose maps are averaged.
    """

    def __init__(
        self,
        network: keras.Model,
        grid: Grid,
        localiser: Localiser | None,
        rotations: int,
    ):
        self._rotations, self._tasks = rotations, [*network.output]
        self._localiser = localiser
        # Functions of their own: traced once for all signatures.
        see = partial(_see, network, grid)
        self._see = _function(see, [IMAGES, SPACING, CENTRE, ROTATION])
        if localiser is not None:
            heat = partial(heat_maps, localiser.network, localiser.grid)
            self._heat = _function(heat, [IMAGES, SPACING])

    def signatures(self) -> Signatures:
        """All of them, by name."""
        specs = {
            "serving_default": (self.of_slices, [IMAGES, SPACING]),
            "serialized_examples": (self.of_records, [EXAMPLES]),
            "study": (self.of_studies, [STUDIES, SPACING]),
            "study_pass": (self.one_pass, [STUDIES, SPACING, ROTATION]),
        }
        return {
            name: _function(function, spec).get_concrete_function()
            for name, (function, spec) in specs.items()
        }

    def of_slices(self, images: tf.Tensor, spacing_mm: tf.Tensor) -> Maps:
        """Maps (B, H, W) of slices, each by itself."""
        images = checked_images(images, "BHW")
        spacing_mm = checked_spacing(spacing_mm, tf.shape(images)[0])
        return _in_parts(self._slices, self._tasks, images, spacing_mm)

    def of_records(self, examples: tf.Tensor) -> Maps:
        """Maps (B, H, W) of records of one size, each slice by itself."""
        wanted = {name: FEATURES[name] for name in ("pixels", "shape", "spacing_mm")}
        records = tf.io.parse_example(examples, wanted)
        pixels = records["pixels"]
        lengths = tf.strings.length(pixels)
        size = checked_records(examples, records["shape"], lengths)
        with tf.control_dependencies([size]):
            values = tf.io.decode_raw(pixels, tf.float32)
        images = tf.reshape(values, tf.concat([[-1], size], axis=0))
        return self.of_slices(images, records["spacing_mm"])

    def of_studies(self, images: tf.Tensor, spacing_mm: tf.Tensor) -> Maps:
        """Maps (B, S, H, W) of studies of S slices."""
        images = checked_images(images, "BSHW")
        spacing_mm = checked_spacing(spacing_mm, tf.shape(images)[0])
        return self._by_study(self._averaged, self._tasks, images, spacing_mm)

    def one_pass(
        self,
        images: tf.Tensor,
        spacing_mm: tf.Tensor,
        rotation_degrees: tf.Tensor,
    ) -> Maps:
        """Maps of studies with the grid turned, and what the grid reaches."""
        images = checked_images(images, "BSHW")
        spacing_mm = checked_spacing(spacing_mm, tf.shape(images)[0])
        rotation = checked_rotation(rotation_degrees, tf.shape(images)[0])
        rotation = tf.repeat(rotation, tf.shape(images)[1])
        names = [*self._tasks, REACH]
        return self._by_study(self._see, names, images, spacing_mm, rotation)

    def _slices(self, images: tf.Tensor, spacing_mm: tf.Tensor) -> Maps:
        centres = self._centres(images, spacing_mm, 1)
        return self._averaged(images, spacing_mm, centres)

    def _by_study(
        self,
        function: Callable[..., Maps],
        names: Sequence[str],
        images: tf.Tensor,
        spacing_mm: tf.Tensor,
        *others: tf.Tensor,
    ) -> Maps:
        """Maps (B, S, H, W) by a function of slices; `others` have a row a slice."""
        shape = tf.shape(images)
        slices = tf.reshape(images, tf.concat([[-1], shape[2:]], axis=0))
        spacings = tf.repeat(spacing_mm, shape[1], axis=0)
        centres = self._centres(slices, spacings, shape[1])
        maps = _in_parts(function, names, slices, spacings, centres, *others)
        return {name: tf.reshape(values, shape) for name, values in maps.items()}

    def _centres(
        self, slices: tf.Tensor, spacings: tf.Tensor, count: tf.Tensor | int
    ) -> tf.Tensor:
        """(N, 2) on which `count` slices in a row, those of a study, agree."""
        if self._localiser is None:
            return image_centre(slices)
        grid = self._localiser.grid
        heat = self._heat(slices, spacings)  # (N, h, w, 1)
        heat = tf.reshape(heat, tf.stack([-1, count, *grid.size, 1]))
        heat = tf.reshape(study_heat_map(heat), [-1, *grid.size, 1])
        middle = image_centre(slices)[::count]
        centres = native_centres(heat, grid, spacings[::count], middle)
        return tf.repeat(centres, count, axis=0)

    def _averaged(self, *inputs: tf.Tensor) -> Maps:
        """As `inference.predictor.averaged`, with the network once in the graph."""
        degrees = tf.constant(equal_rotations(self._rotations), tf.float32)
        nothing = tf.zeros_like(inputs[0])

        def turned(index: tf.Tensor | int) -> Maps:
            return self._see(*inputs, tf.repeat(degrees[index], tf.shape(nothing)[0]))

        def add(index: tf.Tensor, sums: Maps, first: tf.Tensor) -> tuple:
            found = turned(index)
            first = tf.where(index == 0, found[REACH], first)
            return index + 1, {name: sums[name] + found[name] for name in sums}, first

        if self._rotations == 1:
            found = turned(0)
            return {task: found[task] for task in self._tasks}
        _, sums, reach = tf.while_loop(
            lambda index, *_: index < self._rotations,
            add,
            (0, dict.fromkeys([*self._tasks, REACH], nothing), nothing),
            parallel_iterations=1,
        )
        return {
            task: tf.math.divide_no_nan(sums[task], sums[REACH]) * reach
            for task in self._tasks
        }


def _function(
    function: Callable[..., object], spec: Sequence[tf.TensorSpec]
) -> tf.types.experimental.PolymorphicFunction:
    # The Python code is written for graphs: nothing has to be rewritten.
    return tf.function(function, input_signature=spec, autograph=False)


def _see(network: keras.Model, grid: Grid, *inputs: tf.Tensor) -> Maps:
    maps, reach = predict_rotated(network, grid, *inputs)
    return {**maps, REACH: reach}


def _in_parts(
    function: Callable[..., Maps], names: Sequence[str], *inputs: tf.Tensor
) -> Maps:
    """`function` of slices, of so many at a time that any number fits in memory.

    Args:
        function: from tensors with a row a slice to the named maps (B, H, W).
        names: of its maps.
        inputs: tensors with a row a slice, images first.
    """
    parts = -(-tf.shape(inputs[0])[0] // LARGEST_BATCH)
    arrays = {
        name: tf.TensorArray(tf.float32, parts, infer_shape=False) for name in names
    }

    def add(index: tf.Tensor, arrays: Mapping[str, tf.TensorArray]) -> tuple:
        start = index * LARGEST_BATCH
        found = function(*(one[start : start + LARGEST_BATCH] for one in inputs))
        return index + 1, {
            name: arrays[name].write(index, found[name]) for name in names
        }

    _, arrays = tf.while_loop(
        lambda index, _: index < parts, add, (0, arrays), parallel_iterations=1
    )
    maps = {name: array.concat() for name, array in arrays.items()}
    return {name: tf.ensure_shape(m, [None, None, None]) for name, m in maps.items()}
