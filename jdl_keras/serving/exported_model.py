"""An exported model as what predicts studies, without the run that it came from."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from jdl_keras.inference.predictor import Pass
from jdl_keras.inference.study_predictor import NO_MYOCARDIUM, Member
from jdl_keras.serving.model_card import read_card, verify
from jdl_keras.serving.signatures import REACH
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.study import Study


@dataclasses.dataclass(frozen=True)
class ExportedModel:
    """The functions of a version, verified and loaded.

    Attributes:
        model: what TensorFlow loaded.
    """

    model: tf.Module

    def passes(self, study: Study, rotations_degrees: Sequence[float]) -> list[Pass]:
        """What is seen with the grid turned by each of these rotations, (S, H, W)."""
        inputs = {
            "images": tf.constant(study.pixels[None]),
            "spacing_mm": tf.constant([study.spacing_mm], tf.float32),
        }
        return [self._pass(inputs, degrees) for degrees in rotations_degrees]

    def _pass(self, inputs: dict[str, tf.Tensor], degrees: float) -> Pass:
        turn = tf.constant([degrees], tf.float32)
        found = self.model.signatures["study_pass"](**inputs, rotation_degrees=turn)
        maps: dict[str, np.ndarray] = {n: one.numpy()[0] for n, one in found.items()}
        return maps, maps.pop(REACH)


def member_of_export(version: Path) -> Member:
    """A version of an exported model as what predicts.

    Loading it runs what it holds: its files are checked against its card first, which
    finds damage, not malice.

    Raises:
        RefusedError: if it is not what was exported, or cannot predict by itself.
    """
    card = read_card(version)
    verify(version, card)
    if card.method == "direct":
        raise RefusedError(version, "CONFIG", NO_MYOCARDIUM)
    return Member(
        see=ExportedModel(tf.saved_model.load(str(version))).passes,
        rotations=card.rotations,
        rule=card.mask_rule,
        method=card.method,
        preset=card.preset,
        weights_sha256=card.weights_sha256,
        record_set_sha256=card.record_set_sha256,
        calibration=card.calibration,
        export=card.version,
    )
