"""Networks: functional Keras models that run on every backend."""

from jdl_keras.models.pretrained import load_npz
from jdl_keras.models.transunet import build_transunet

__all__ = ["build_transunet", "load_npz"]
